//! The delivery plane: durable recording against a bare loop that writes the same rows, the metrics of one quarter of
//! two years, and attribution in a repository with many waiting changes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::load::{self, Answered, CONNECTIONS, Wrk};
use super::{Bench, Sizes};
use crate::measure::http::Client;
use crate::measure::process;
use crate::measure::report::{Report, median, percentile, spread};
use crate::measure::server::Server;

/// Share of the bare loop's rate.
const SHARE: f64 = 0.5;
const SLOWEST: f64 = 50.0;
const COMMITS: f64 = 6.0;
/// The metrics of one quarter of the generated history by service, in one statement.
const QUARTER: &str = "with d as (select service, count(*) as n, count(*) filter (where failed) as failed \
     from dora_deployments where environment = 'production' and success and deployed_at >= '2026-01-01T00:00:00Z' \
     and deployed_at < '2026-04-01T00:00:00Z' group by service), \
     c as (select service, count(*) as n, percentile_cont(0.5) within group (order by lead_time_seconds) as lead \
     from dora_changes where environment = 'production' and deployed_at >= '2026-01-01T00:00:00Z' \
     and deployed_at < '2026-04-01T00:00:00Z' group by service), \
     i as (select service, count(*) as n, percentile_cont(0.5) within group (order by recovery_seconds) as recovery, \
     avg(resolution_seconds) as resolution from dora_incidents where started_at >= '2026-01-01T00:00:00Z' \
     and started_at < '2026-04-01T00:00:00Z' group by service) \
     select d.service, d.n, d.failed, c.n, c.lead, i.n, i.recovery, i.resolution \
     from d left join c on c.service = d.service left join i on i.service = d.service order by d.service";

pub fn measure(bench: &mut Bench, sizes: &Sizes, report: &mut Report) -> Result<()> {
    recording(bench, sizes, report)?;
    for (store, database, limit) in [("SQLite", None, 2.0), ("PostgreSQL", Some("delivery"), 1.0)] {
        if let Some(name) = database {
            bench.postgres.create_database(name)?;
        }
        quarter(bench, sizes, report, store, database, limit)?;
    }
    attribution(bench, sizes, report)
}

pub fn key(server: &Server) -> Result<String> {
    let scopes = ["--scope", "datacloud:write", "--scope", "datacloud:query"];
    let mut arguments = vec!["key", "create", "--api", "dx", "--name", "bench"];
    arguments.extend(scopes);
    Ok(format!("Bearer {}", server.command(&arguments)?))
}

fn recording(bench: &mut Bench, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut server = Server::new(&bench.programs, &bench.directory, "recording", None);
    server.start(&mut bench.databases)?;
    let authorization = key(&server)?;
    let place = server.store_file();
    // The bare loop's rows need an existing service.
    post(server.address()?, &authorization, "first")?;
    let wrk = Wrk::find();
    report.note("load of the recordings", load::name(wrk.as_ref()));
    let load = Load { wrk, script: bench.directory.join("record.lua"), number: AtomicUsize::new(0) };
    let (mut ours, mut bares, mut medians, mut slowest, mut commits) =
        (vec![], vec![], vec![], 0.0_f64, vec![]);
    for _ in 0..sizes.read_pairs {
        server.stop()?;
        let mut each =
            bench.programs.milliseconds("history", &["bare", &place, &sizes.bare_rows.to_string()])?;
        bares.push(16_000.0 * each.len() as f64 / each.iter().sum::<f64>());
        commits.append(&mut each);
        // Its rows must be gone before it runs again.
        server.launch()?;
        let begun = Instant::now();
        let answered = load.run(server.address()?, &authorization, sizes.read_time)?;
        ours.push(answered.requests / begun.elapsed().as_secs_f64());
        medians.push(answered.median);
        slowest = slowest.max(answered.p99);
    }
    server.stop()?;
    let (rate, bare) = (median(&ours), median(&bares));
    report.judge(
        format!("deployments.create, durable, {CONNECTIONS} connections, metadata in SQLite"),
        format!("{:.2} of a bare loop with 16 per commit ({rate:.0}/s / {bare:.0}/s)", rate / bare),
        format!("at least {SHARE}"),
        rate / bare >= SHARE,
    );
    let commit = median(&commits);
    let limit = SLOWEST.max(COMMITS * commit);
    report.judge(
        "deployments.create: p99, the worst of the loads",
        format!("{slowest:.2} ms (median {:.2} ms; a bare commit of 16: {commit:.2} ms)", median(&medians)),
        format!("at most {limit:.1} ms"),
        slowest <= limit,
    );
    Ok(())
}

pub fn body(reference: &str) -> String {
    format!(
        r#"{{"reference_id":"{reference}","deployed_at":1780272000,"service":"checkout","commit_sha":"4f2c9be01d7a6f3b8e5c2d9a0b1c2d3e4f5a6b7c"}}"#
    )
}

fn post(address: &str, authorization: &str, reference: &str) -> Result<()> {
    let mut client = Client::connect(address, authorization)?;
    client.post("/dx/api/deployments.create", &body(reference))?.expect(200).map(drop)
}

/// The script for `wrk`: it posts `body` with numbers that are unique in this run.
const SCRIPT: &str = r#"
local number = 0
function init(arguments)
  authorization, tag = arguments[1], arguments[2]
end
function request()
  number = number + 1
  local headers = { ["Authorization"] = authorization, ["Content-Type"] = "application/json" }
  local body = BODY
  return wrk.format("POST", "/dx/api/deployments.create", headers, (body:gsub("REFERENCE", tag .. "-" .. number)))
end
"#;

struct Load {
    wrk: Option<Wrk>,
    script: PathBuf,
    number: AtomicUsize,
}

impl Load {
    fn run(&self, address: &str, authorization: &str, time: Duration) -> Result<Answered> {
        let Some(wrk) = &self.wrk else { return self.by_threads(address, authorization, time) };
        let tag = format!("wrk-{}", self.number.fetch_add(1, Ordering::Relaxed));
        std::fs::write(&self.script, SCRIPT.replace("BODY", &format!("'{}'", body("REFERENCE"))))?;
        wrk.script(&self.script, &format!("{address}/"), &[authorization, &tag], time)
    }

    fn by_threads(&self, address: &str, authorization: &str, time: Duration) -> Result<Answered> {
        let begun = Instant::now();
        let one = || -> Result<Vec<f64>> {
            let mut client = Client::connect(address, authorization)?;
            let mut times = Vec::new();
            while begun.elapsed() < time {
                let reference = format!("load-{}", self.number.fetch_add(1, Ordering::Relaxed));
                let sent = Instant::now();
                client.post("/dx/api/deployments.create", &body(&reference))?.expect(200)?;
                times.push(sent.elapsed().as_secs_f64() * 1_000.0);
            }
            Ok(times)
        };
        let times = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(one)).collect();
            let joined = threads.into_iter().map(|thread| thread.join().ok().context("a client panicked")?);
            joined.collect::<Result<Vec<_>>>()
        })?;
        let times = times.concat();
        Ok(Answered { requests: times.len() as f64, median: median(&times), p99: percentile(&times, 99.0) })
    }
}

fn quarter(
    bench: &mut Bench,
    sizes: &Sizes,
    report: &mut Report,
    store: &str,
    database: Option<&str>,
    limit: f64,
) -> Result<()> {
    let url = database.map(|name| bench.postgres.url(name));
    let mut server = Server::new(&bench.programs, &bench.directory, &format!("quarter-{store}"), url.clone());
    // No rate limit, so that the end of a query is seen immediately.
    server.configure("[faces.dx]\npolls_per_run = 0\nrequests_per_minute = 0\n")?;
    server.start(&mut bench.databases)?;
    let authorization = key(&server)?;
    server.stop()?;
    let place = url.unwrap_or_else(|| server.store_file());
    bench.programs.milliseconds("history", &["fill", &place, &sizes.deployments.to_string()])?;
    server.launch()?;
    let mut client = Client::connect(server.address()?, &authorization)?;
    let mut times = Vec::new();
    for _ in 0..sizes.pairs {
        process::forget_peak(server.pid()?)?;
        times.push(ask(&mut client, QUARTER)?);
    }
    let peak = process::peak(server.pid()?)?;
    server.stop()?;
    let (took, made) = (median(&times), sizes.deployments);
    report.judge(
        format!("metadata in {store}: the metrics of a quarter by service, of {made} deployments and three times as many changes"),
        format!("{took:.2} s (slowest {:.2} s)", percentile(&times, 100.0)),
        format!("at most {limit} s"),
        took <= limit,
    );
    report.judge(
        format!("metadata in {store}: the server's peak memory meanwhile"),
        format!("{peak:.0} MiB"),
        "at most 500 MB",
        peak * 1.048_576 <= 500.0,
    );
    Ok(())
}

/// From the submission to the rows, in seconds.
fn ask(client: &mut Client, sql: &str) -> Result<f64> {
    let begun = Instant::now();
    let body = format!(r#"{{"sql":"{sql}"}}"#);
    let submitted = client.post("/dx/studio.queryRuns.execute", &body)?.expect(202)?;
    let id = submitted.field("id")?.to_owned();
    loop {
        let shown = client.get(&format!("/dx/studio.queryRuns.info?id={id}"))?.expect(200)?;
        match shown.field("status")? {
            "queued" | "running" => std::thread::sleep(Duration::from_millis(5)),
            "succeeded" => break,
            _ => bail!("the query run did not succeed: {}", shown.body),
        }
    }
    let rows = client.get(&format!("/dx/studio.queryRuns.results?id={id}"))?.expect(200)?;
    ensure!(rows.body.contains("service-40"), "a service is missing: {}", rows.body);
    Ok(begun.elapsed().as_secs_f64())
}

fn attribution(bench: &mut Bench, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let waiting = sizes.waiting.to_string();
    let mut each = bench.programs.milliseconds("history", &["attribute", &waiting, "100"])?;
    let all = each.pop().context("the last deployment")?;
    report.judge(
        format!("recording and attributing a deployment of ten changes among {waiting} waiting ones"),
        spread(&each),
        "at most 50 ms",
        percentile(&each, 99.0) <= 50.0,
    );
    report.note(format!("one that ships all of the {waiting}"), format!("{all:.0} ms"));
    Ok(())
}
