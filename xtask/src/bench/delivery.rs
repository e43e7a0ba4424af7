//! The delivery plane: durable recording against a bare loop that writes the same rows, the metrics of a quarter out of
//! two years, and attribution in a repository in which much waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::http::Client;
use super::process;
use super::report::{Report, median, percentile, spread};
use super::server::Server;
use super::{Bench, Sizes};

const CONNECTIONS: usize = 16;
/// Of the rate of the bare loop.
const SHARE: f64 = 0.5;
const SLOWEST: f64 = 50.0;
const COMMITS: f64 = 6.0;
/// One quarter of the made history, by service: what the command line asks, in one statement.
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

fn key(server: &Server) -> Result<String> {
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
    // A service must be there for the bare loop's rows.
    post(server.address()?, &authorization, "first")?;
    let (mut ours, mut bares, mut latencies, mut commits) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let number = AtomicUsize::new(0);
    for _ in 0..sizes.read_pairs {
        server.stop()?;
        let mut each =
            bench.programs.milliseconds("history", &["bare", &place, &sizes.bare_rows.to_string()])?;
        bares.push(16_000.0 * each.len() as f64 / each.iter().sum::<f64>());
        commits.append(&mut each);
        // Its rows must not be there when it runs again.
        server.launch()?;
        let (rate, mut times) = load(server.address()?, &authorization, sizes.read_time, &number)?;
        ours.push(rate);
        latencies.append(&mut times);
    }
    server.stop()?;
    let (rate, bare) = (median(&ours), median(&bares));
    report.judge(
        format!("deployments.create, durable, {CONNECTIONS} connections, metadata in SQLite"),
        format!("{:.2} of a bare loop of 16 to a commit ({rate:.0}/s / {bare:.0}/s)", rate / bare),
        format!("at least {SHARE}"),
        rate / bare >= SHARE,
    );
    let (slow, commit) = (percentile(&latencies, 99.0), median(&commits));
    let limit = SLOWEST.max(COMMITS * commit);
    report.judge(
        "deployments.create: p99",
        format!("{slow:.2} ms (median {:.2} ms; a bare commit of 16: {commit:.2} ms)", median(&latencies)),
        format!("at most {limit:.1} ms"),
        slow <= limit,
    );
    Ok(())
}

fn body(reference: &str) -> String {
    format!(
        r#"{{"reference_id":"{reference}","deployed_at":1780272000,"service":"checkout","commit_sha":"4f2c9be01d7a6f3b8e5c2d9a0b1c2d3e4f5a6b7c"}}"#
    )
}

fn post(address: &str, authorization: &str, reference: &str) -> Result<()> {
    let mut client = Client::connect(address, authorization)?;
    client.post("/dx/api/deployments.create", &body(reference))?.expect(200).map(drop)
}

/// Requests per second, and what each took in milliseconds.
fn load(address: &str, authorization: &str, time: Duration, number: &AtomicUsize) -> Result<(f64, Vec<f64>)> {
    let begun = Instant::now();
    let one = || -> Result<Vec<f64>> {
        let mut client = Client::connect(address, authorization)?;
        let mut times = Vec::new();
        while begun.elapsed() < time {
            let reference = format!("load-{}", number.fetch_add(1, Ordering::Relaxed));
            let sent = Instant::now();
            client.post("/dx/api/deployments.create", &body(&reference))?.expect(200)?;
            times.push(sent.elapsed().as_secs_f64() * 1_000.0);
        }
        Ok(times)
    };
    let times = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(one)).collect();
        let joined = threads.into_iter().map(|thread| thread.join().ok().context("a client broke off")?);
        joined.collect::<Result<Vec<_>>>()
    })?;
    let times = times.concat();
    Ok((times.len() as f64 / begun.elapsed().as_secs_f64(), times))
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
            _ => bail!("the query run ended otherwise: {}", shown.body),
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
        format!("recording and attributing a deployment of ten changes among {waiting} that wait"),
        spread(&each),
        "at most 50 ms",
        percentile(&each, 99.0) <= 50.0,
    );
    report.note(format!("one that brings all of the {waiting}"), format!("{all:.0} ms"));
    Ok(())
}
