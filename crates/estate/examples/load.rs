//! The store's throughput: `load FOLDER|postgres://… [SECONDS]` prints how many probes per second 32 clients submit,
//! execute and wait for, how many plain writes, and how often 16 clients authenticate.
#![expect(clippy::print_stdout, reason = "a tool that reports to its terminal")]
#![expect(clippy::expect_used, reason = "a tool that may stop at the first error")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use landreeve_core::datasource::DatabaseType;
use landreeve_core::source::{Driver, Drivers};
use landreeve_core::{OpKind, SystemClock};
use landreeve_estate::blobs::Blobs;
use landreeve_estate::ops::keys::{NewKey, key_create};
use landreeve_estate::ops::runs::{RunRef, probe_submit, run_wait};
use landreeve_estate::ops::{Api, Origin, sign_in};
use landreeve_estate::outbound::Outbound;
use landreeve_estate::random::OsRandom;
use landreeve_estate::runs::{Role, RunOptions};
use landreeve_estate::secrets::SealKey;
use landreeve_estate::store::{Location, StoreOptions};
use landreeve_estate::{Estate, EstateOptions, args};
use tokio::time::Instant;

struct NoDrivers;

impl Drivers for NoDrivers {
    fn driver(&self, _: DatabaseType) -> Option<Arc<dyn Driver>> {
        None
    }
}

async fn open(place: &str) -> Estate {
    let folder = std::env::temp_dir().join(format!("landreeve-load-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let location = match Location::parse(place) {
        Location::Sqlite(path) => {
            std::fs::create_dir_all(&path).expect("a folder");
            Location::Sqlite(path.join("estate.db"))
        }
        postgres => postgres,
    };
    let options = EstateOptions {
        location,
        planes: Vec::new(),
        seal: SealKey::generate(&OsRandom),
        clock: Arc::new(SystemClock),
        random: Arc::new(OsRandom),
        blobs: Blobs::local(&folder.join("blobs")).expect("a folder"),
        outbound: Outbound::new(Vec::new(), Vec::new(), folder, Vec::new()),
        drivers: Arc::new(NoDrivers),
        store: StoreOptions::default(),
        runs: RunOptions::default(),
        cores: 2,
    };
    Estate::open(options).await.expect("opens")
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
    let estate = open(&place).await;
    estate.start_runs(Role::Node { home: Some("load".to_owned()) }).await.expect("starts");
    let ctx = sign_in::operator(&estate);

    let (own, by) = (estate.clone(), ctx.clone());
    let probes = move |_| {
        let (estate, ctx) = (own.clone(), by.clone());
        async move {
            let run = probe_submit(&estate, &ctx, Duration::ZERO, false).await.expect("submits");
            let bound = Duration::from_secs(60);
            run_wait(&estate, &ctx, RunRef::Id(run.id), &[], bound).await.expect("ends");
        }
    };
    println!("executions   {:>9.0}/s", rate(32, time, probes).await);

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
    println!("writes       {:>9.0}/s", rate(32, time, writes).await);

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
    println!("callers      {:>9.0}/s", rate(16, time, callers).await);
    estate.runs().stop(Duration::ZERO).await;
    estate.store().close().await;
}
