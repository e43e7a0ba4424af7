//! What the store and the run engine can do: `load FOLDER|postgres://… [SECONDS]` prints, as `NAME: FIGURE…`,
//! - `executions`: how many runs per second 32 clients submit, execute and wait for;
//! - `writes`: how many plain writes per second they commit;
//! - `callers`: how often per second 16 clients are authenticated;
//! - `beside long runs`: the median milliseconds of a short run, alone and while every long worker is busy.
#![expect(clippy::print_stdout, reason = "a tool that reports to its terminal")]
#![expect(clippy::expect_used, reason = "a tool that may stop at the first error")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use landreeve_core::ids::{BoxFuture, OuId};
use landreeve_core::{Category, OpCtx, OpKind};
use landreeve_estate::ops::keys::{NewKey, key_create};
use landreeve_estate::ops::runs::{RunRef, probe_submit, run_wait, submit};
use landreeve_estate::ops::{Api, Origin, sign_in};
use landreeve_estate::plane::{Plane, PlaneParts};
use landreeve_estate::runs::{
    Done, Executor, Failure, Job, KindSpec, NewRun, Outcome, PoolName, Role, RunOptions,
};
use landreeve_estate::store::StoreOptions;
use landreeve_estate::{Estate, args};
use tokio::time::Instant;

/// Occupies a long worker until it is cancelled.
const OCCUPY: KindSpec = KindSpec { pool: PoolName::LONG, ..KindSpec::new("occupy", Category::Job) };

struct Occupy;

impl Executor for Occupy {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            job.cancelled().await;
            Err::<Done, Failure>(Failure::cancelled())
        })
    }
}

fn plane() -> Plane {
    Plane {
        kinds: vec![OCCUPY],
        open: Box::new(|_| {
            let executors: Vec<(_, Arc<dyn Executor>)> = vec![(OCCUPY.kind, Arc::new(Occupy))];
            Ok(PlaneParts { executors, ..PlaneParts::default() })
        }),
        ..Plane::new("load")
    }
}

/// The median milliseconds of a run that does nothing, from its submission until its end is known.
async fn latency(estate: &Estate, ctx: &OpCtx) -> f64 {
    let mut times = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        probe(estate, ctx).await;
        times.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

async fn probe(estate: &Estate, ctx: &OpCtx) {
    let run = probe_submit(estate, ctx, Duration::ZERO, false).await.expect("submits");
    run_wait(estate, ctx, RunRef::Id(run.id), &[], Duration::from_secs(60)).await.expect("ends");
}

/// This many clients do the work for this long; returns the rate per second.
async fn rate<W: Future<Output = ()> + Send + 'static>(
    clients: usize,
    time: Duration,
    work: impl Fn(u64) -> W + Clone + Send + Sync + 'static,
) -> f64 {
    let (done, begun) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let clients = (0..clients).map(|_| {
        let (done, work) = (Arc::clone(&done), work.clone());
        tokio::spawn(async move {
            while begun.elapsed() < time {
                work(done.fetch_add(1, Ordering::Relaxed)).await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("a client");
    }
    done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let place = arguments.next().expect("a folder, or the address of an empty PostgreSQL database");
    let time = Duration::from_secs(arguments.next().map_or(5, |text| text.parse().expect("a number")));
    let limit = StoreOptions::default().statement_limit;
    let estate = support::open(&place, vec![plane()], limit).await;
    estate.start_runs(Role::Node { home: Some("load".to_owned()) }).await.expect("starts");
    let ctx = sign_in::operator(&estate);

    let (own, by) = (estate.clone(), ctx.clone());
    let probes = move |_| {
        let (estate, ctx) = (own.clone(), by.clone());
        async move { probe(&estate, &ctx).await }
    };
    println!("executions: {:.0}", rate(32, time, probes).await);

    let own = estate.clone();
    let writes = move |number| {
        let estate = own.clone();
        async move {
            let name = format!("load {number}");
            let written = estate.store().write(move |tx| {
                Box::pin(async move {
                    let sql =
                        "INSERT INTO facts (name, value) VALUES ($1, 'x') ON CONFLICT (name) DO NOTHING";
                    tx.exec(sql, args![name]).await.map(drop)
                })
            });
            written.await.expect("a write");
        }
    };
    println!("writes: {:.0}", rate(32, time, writes).await);

    let new = NewKey {
        api: Api::Analytics,
        name: "load".to_owned(),
        ou: None,
        user: None,
        grants: Vec::new(),
        labels: Vec::new(),
    };
    let (_, secret) = key_create(&estate, &ctx, new).await.expect("a key");
    let (own, secret) = (estate.clone(), secret.reveal().to_owned());
    let origin = Origin { request_id: estate.uuid(), address: None, kind: OpKind::Cluvio };
    let callers = move |_| {
        let (estate, secret) = (own.clone(), secret.clone());
        async move {
            sign_in::by_key(&estate, Api::Analytics, &secret, None, origin).await.expect("a caller");
        }
    };
    println!("callers: {:.0}", rate(16, time, callers).await);

    let alone = latency(&estate, &ctx).await;
    // One of them more than there are workers: another one waits.
    for _ in 0..=RunOptions::default().long {
        submit(&estate, &ctx, NewRun::new(&OCCUPY, OuId::ROOT, "{}")).await.expect("submits");
    }
    println!("beside long runs: {alone:.3} {:.3}", latency(&estate, &ctx).await);
    estate.runs().stop(Duration::ZERO).await;
    estate.store().close().await;
}
