//! Small reads: one datasource with a key, compared with axum alone returning the same bytes, alternately.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::load::{self, CONNECTIONS, Wrk};
use super::{Bench, Sizes};
use crate::measure::http::Client;
use crate::measure::process;
use crate::measure::report::{Report, median};
use crate::measure::server::{Listening, Server};

/// Of the requests that bare axum answers.
const SHARE: f64 = 0.5;
/// A dashboard may take so many times what a datasource takes.
const DASHBOARD: f64 = 1.5;

pub fn measure(bench: &mut Bench, sizes: &Sizes, report: &mut Report) -> Result<()> {
    bench.postgres.create_database("reads")?;
    let wrk = Wrk::find();
    report.note("load of the reads", load::name(wrk.as_ref()));
    for (store, database) in [("SQLite", None), ("PostgreSQL", Some(bench.postgres.url("reads")))] {
        let name = format!("reads-{store}");
        let mut server = Server::new(&bench.programs, &bench.directory, &name, database);
        server.start(&mut bench.databases)?;
        let access = bench.postgres.access(&server)?;
        let path = format!("/cluvio/datasources/{}", access.datasource);
        let reply = settled(&mut access.client(&server)?, &path)?;
        let bare = Listening::bare(&bench.programs, &bench.directory, &reply)?;
        let dashboard = dashboard(&mut access.client(&server)?)?;
        let load = |path| Load { wrk: wrk.as_ref(), path, authorization: &access.authorization };
        let (mut floor, mut own, mut dashboards) =
            (Figures::default(), Figures::default(), Figures::default());
        for _ in 0..sizes.read_pairs {
            floor.add(load(&path).run(&bare.address, bare.pid(), sizes.read_time)?);
            own.add(load(&path).run(server.address()?, server.pid()?, sizes.read_time)?);
            dashboards.add(load(&dashboard).run(server.address()?, server.pid()?, sizes.read_time)?);
        }
        server.stop()?;
        let (ours, bares) = (median(&own.rates), median(&floor.rates));
        report.judge(
            format!("metadata in {store}: GET of a datasource, {CONNECTIONS} connections"),
            format!("{:.0} % of bare axum ({ours:.0}/s / {bares:.0}/s)", 100.0 * ours / bares),
            format!("at least {:.0} %", 100.0 * SHARE),
            ours / bares >= SHARE,
        );
        let one = median(&dashboards.rates);
        report.judge(
            format!("metadata in {store}: time of a GET of a dashboard against a datasource's"),
            format!("{:.2} ({one:.0}/s / {ours:.0}/s)", ours / one),
            format!("at most {DASHBOARD}"),
            ours / one <= DASHBOARD,
        );
        let (ours, bares) = (median(&own.per_cpu), median(&floor.per_cpu));
        report.note(
            format!("metadata in {store}: the same per server CPU-second"),
            format!("{:.0} % ({ours:.0} / {bares:.0})", 100.0 * ours / bares),
        );
    }
    Ok(())
}

/// Fetches the datasource once its schema has been read, because that changes the response.
fn settled(client: &mut Client, path: &str) -> Result<crate::measure::http::Reply> {
    for _ in 0..200 {
        let reply = client.get(path)?.expect(200)?;
        if reply.field("schema_updated_at")? != "null" {
            return Ok(reply);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("the datasource's schema was not read within 10 s")
}

/// The path of a new dashboard.
fn dashboard(client: &mut Client) -> Result<String> {
    let made =
        client.post("/cluvio/dashboards", r#"{"data":{"attributes":{"name":"Bench"}}}"#)?.expect(201)?;
    Ok(format!("/cluvio/dashboards/{}", made.field("id")?))
}

#[derive(Default)]
struct Figures {
    rates: Vec<f64>,
    per_cpu: Vec<f64>,
}

impl Figures {
    fn add(&mut self, (rate, per_cpu): (f64, f64)) {
        self.rates.push(rate);
        self.per_cpu.push(per_cpu);
    }
}

struct Load<'a> {
    wrk: Option<&'a Wrk>,
    path: &'a str,
    authorization: &'a str,
}

impl Load<'_> {
    /// Requests per second, and per CPU-second of the server process.
    fn run(&self, address: &str, pid: u32, time: Duration) -> Result<(f64, f64)> {
        let (cpu, begun) = (process::cpu_seconds(pid)?, Instant::now());
        let requests = match self.wrk {
            Some(wrk) => wrk.get(&format!("{address}{}", self.path), self.authorization, time)?.requests,
            None => self.by_threads(address, time)?,
        };
        let wall = begun.elapsed().as_secs_f64();
        Ok((requests / wall, requests / (process::cpu_seconds(pid)? - cpu)))
    }

    fn by_threads(&self, address: &str, time: Duration) -> Result<f64> {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let one = || -> Result<u32> {
                let mut client = Client::connect(address, self.authorization)?;
                let mut count = 0;
                while !over.load(Ordering::Relaxed) {
                    client.get(self.path)?.expect(200)?;
                    count += 1;
                }
                Ok(count)
            };
            let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(one)).collect();
            std::thread::sleep(time);
            over.store(true, Ordering::Relaxed);
            let mut total = 0.0;
            for thread in threads {
                let count = thread.join().ok().context("a client panicked")??;
                total += f64::from(count);
            }
            Ok(total)
        })
    }
}
