//! Compares PostgreSQL with SQLite as the metadata store: whole executions and recorded deployments over HTTP, measured
//! alternately, and the run engine on each: short runs while long ones execute, and lists of a million runs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::delivery;
use super::load::{self, CONNECTIONS, Wrk};
use super::{Bench, Sizes};
use crate::measure::http::Client;
use crate::measure::report::{Report, median};
use crate::measure::server::{Access, Server};

/// Minimum rate with PostgreSQL, relative to SQLite.
const EXECUTIONS: f64 = 0.6;
const DEPLOYMENTS: f64 = 0.5;
/// Limits for a short run while long ones execute: relative to its time alone, or in milliseconds if that is longer.
const BESIDE: f64 = 1.5;
const BESIDE_MILLISECONDS: f64 = 5.0;
/// Limits in milliseconds for a page of runs, without and with the total.
const PAGE: f64 = 20.0;
const TOTAL: f64 = 250.0;

pub fn measure(bench: &mut Bench, sizes: &Sizes, report: &mut Report) -> Result<()> {
    over_http(bench, sizes, report)?;
    engine(bench, sizes, report)
}

struct Side {
    server: Server,
    executions: Vec<f64>,
    deployments: Vec<f64>,
    access: Access,
    key: String,
}

impl Side {
    fn new(bench: &mut Bench, name: &str, database: Option<String>) -> Result<Side> {
        let mut server = Server::new(&bench.programs, &bench.directory, name, database);
        server.start(&mut bench.databases)?;
        let access = bench.postgres.access(&server)?;
        let key = delivery::key(&server)?;
        Ok(Side { server, executions: Vec::new(), deployments: Vec::new(), access, key })
    }
}

fn over_http(bench: &mut Bench, sizes: &Sizes, report: &mut Report) -> Result<()> {
    bench.postgres.create_database("stores")?;
    let database = Some(bench.postgres.url("stores"));
    let mut sides =
        [Side::new(bench, "stores-sqlite", None)?, Side::new(bench, "stores-postgres", database)?];
    let wrk = Wrk::find();
    report.note("load of both stores", load::name(wrk.as_ref()));
    let script = Script { wrk, file: bench.directory.join("stores.lua") };
    for round in 0..sizes.read_pairs {
        for side in &mut sides {
            let path = format!("/cluvio/datasources/{}/executions?wait=60", side.access.datasource);
            let rate =
                script.run(side, &path, &side.access.authorization, r#"{"sql_query":"SELECT 1"}"#, sizes)?;
            side.executions.push(rate);
            let body = delivery::body(&format!("round-{round}-NUMBER"));
            let rate = script.run(side, "/dx/api/deployments.create", &side.key, &body, sizes)?;
            side.deployments.push(rate);
        }
    }
    let [sqlite, postgres] = &mut sides;
    sqlite.server.stop()?;
    postgres.server.stop()?;
    let mut judge = |what: &str, ours: &[f64], theirs: &[f64], limit: f64| {
        let (ours, theirs) = (median(ours), median(theirs));
        report.judge(
            format!("{what}, {CONNECTIONS} connections: metadata in PostgreSQL compared with SQLite"),
            format!("{:.2} ({ours:.0}/s / {theirs:.0}/s)", ours / theirs),
            format!("at least {limit}"),
            ours / theirs >= limit,
        );
    };
    judge("executions of `SELECT 1`, waiting for each", &postgres.executions, &sqlite.executions, EXECUTIONS);
    judge("deployments.create", &postgres.deployments, &sqlite.deployments, DEPLOYMENTS);
    Ok(())
}

/// Posts one body; `NUMBER` in it is replaced by a different number in each request.
struct Script {
    wrk: Option<Wrk>,
    file: PathBuf,
}

const SCRIPT: &str = r#"
local number = 0
function request()
  number = number + 1
  local headers = { ["Authorization"] = "AUTHORIZATION", ["Content-Type"] = "application/json" }
  local body = 'BODY'
  return wrk.format("POST", "PATH", headers, (body:gsub("NUMBER", tostring(number))))
end
"#;

impl Script {
    /// Requests per second.
    fn run(&self, side: &Side, path: &str, authorization: &str, body: &str, sizes: &Sizes) -> Result<f64> {
        let (address, begun) = (side.server.address()?, Instant::now());
        let requests = match &self.wrk {
            Some(wrk) => {
                let text = SCRIPT
                    .replace("AUTHORIZATION", authorization)
                    .replace("PATH", path)
                    .replace("BODY", body);
                std::fs::write(&self.file, text)?;
                wrk.script(&self.file, &format!("{address}/"), &[], sizes.read_time)?.requests
            }
            None => by_threads(address, path, authorization, body, sizes.read_time)?,
        };
        Ok(requests / begun.elapsed().as_secs_f64())
    }
}

/// The same load with our own clients.
fn by_threads(address: &str, path: &str, authorization: &str, body: &str, time: Duration) -> Result<f64> {
    let (number, begun) = (AtomicUsize::new(0), Instant::now());
    let one = || -> Result<u32> {
        let mut client = Client::connect(address, authorization)?;
        let mut count = 0;
        while begun.elapsed() < time {
            let next = number.fetch_add(1, Ordering::Relaxed).to_string();
            client.post(path, &body.replace("NUMBER", &next))?.expect(200)?;
            count += 1;
        }
        Ok(count)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(one)).collect();
        let mut total = 0.0;
        for thread in threads {
            total += f64::from(thread.join().ok().context("a client stopped early")??);
        }
        Ok(total)
    })
}

fn engine(bench: &mut Bench, sizes: &Sizes, report: &mut Report) -> Result<()> {
    for database in ["engine", "lists"] {
        bench.postgres.create_database(database)?;
    }
    let place = |store: &str, name: &str| match store {
        "SQLite" => bench.directory.join(name).to_string_lossy().into_owned(),
        _ => bench.postgres.url(name),
    };
    for store in ["SQLite", "PostgreSQL"] {
        let seconds = sizes.read_time.as_secs().max(1).to_string();
        let figures = bench.programs.figures("load", &[&place(store, "engine"), &seconds])?;
        let beside = figures.iter().find(|(name, _)| name == "beside long runs").context("no latency")?;
        let [alone, busy] = beside.1[..] else { anyhow::bail!("two latencies were expected: {beside:?}") };
        let limit = (alone * BESIDE).max(BESIDE_MILLISECONDS);
        report.judge(
            format!("metadata in {store}: a short run while every long worker is busy, median"),
            format!("{busy:.2} ms (alone {alone:.2} ms)"),
            format!("at most {limit:.1} ms"),
            busy <= limit,
        );
        let runs = sizes.deployments.to_string();
        let figures = bench.programs.figures("run_lists", &[&place(store, "lists"), &runs])?;
        let worst = |at: usize| {
            let worst = figures.iter().max_by(|a, b| a.1[at].total_cmp(&b.1[at]));
            worst.map(|(name, figures)| (name.clone(), figures[at])).context("no lists")
        };
        for (at, what, limit) in [(0, "the newest 50", PAGE), (1, "the same with the total", TOTAL)] {
            let (name, time) = worst(at)?;
            report.judge(
                format!(
                    "metadata in {store}: {what} of {runs} runs, the slowest of {} filters",
                    figures.len()
                ),
                format!("{time:.2} ms ({name})"),
                format!("at most {limit} ms"),
                time <= limit,
            );
        }
    }
    Ok(())
}
