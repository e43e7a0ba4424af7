//! Small executions: how soon a run starts, and how long `SELECT 1` takes from the request to the data.

use std::time::{Instant, SystemTime};

use anyhow::{Context as _, Result};

use super::{Bench, Sizes};
use crate::measure::report::{Report, median, spread};
use crate::measure::server::{Access, Server};

const FIRST_STEP: f64 = 5.0;
const COMMITS: f64 = 3.0;
const ALLOWANCE: f64 = 4.0;
/// Warm-up that is not measured: opens connections, prepares statements.
const WARM_UP: usize = 20;

/// Microseconds since 1970 on the database server's clock, which is this machine's, when it executes the query.
const CLOCK: &str = "SELECT (extract(epoch from clock_timestamp()) * 1000000)::int8 AS micros";

pub fn measure(bench: &mut Bench, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let source = bench.postgres.url("postgres");
    let count = sizes.executions.to_string();
    let trips = bench.programs.milliseconds("speed", &[&source, "round-trips", &count])?;
    report.note("driver's round trip, `SELECT 1` on PostgreSQL", spread(&trips));
    bench.postgres.create_database("commits")?;
    bench.postgres.create_database("latency")?;
    let file = bench.directory.join("commits.db").display().to_string();
    let stores = [
        ("SQLite", None, file),
        ("PostgreSQL", Some(bench.postgres.url("latency")), bench.postgres.url("commits")),
    ];
    for (store, database, commits) in stores {
        let half = (sizes.executions / 2).to_string();
        let mut commit = bench.programs.milliseconds("commit", &[&commits, &half])?;
        let name = format!("latency-{store}");
        let mut server = Server::new(&bench.programs, &bench.directory, &name, database);
        server.start(&mut bench.databases)?;
        let access = bench.postgres.access(&server)?;
        let starts = starts(&server, &access, sizes.executions)?;
        let whole = whole(&server, &access, sizes.executions)?;
        server.stop()?;
        // Before and after, so that a change in disk speed affects both sides.
        commit.extend(bench.programs.milliseconds("commit", &[&commits, &half])?);
        tell(store, &starts, &whole, (&commit, median(&trips)), report);
    }
    Ok(())
}

/// Milliseconds from the acknowledgement (the client has read the response to its POST) to the moment at which the
/// source executes the statement. Negative: the source started before the client had its response.
struct Starts {
    after_answer: Vec<f64>,
    after_request: Vec<f64>,
}

fn starts(server: &Server, access: &Access, count: usize) -> Result<Starts> {
    let mut client = access.client(server)?;
    let mut starts = Starts { after_answer: Vec::new(), after_request: Vec::new() };
    for done in 0..WARM_UP + count {
        let sent = now()?;
        let shown = access.submit(&mut client, CLOCK, false)?;
        let answered = now()?;
        let id = access.complete(&mut client, shown)?;
        let data = access.data(&mut client, &id)?;
        let (_, rest) = data.body.split_once("\"rows\":[[").context("no row")?;
        let worked: f64 = rest.split(']').next().unwrap_or_default().trim_matches('"').parse()?;
        if done >= WARM_UP {
            starts.after_answer.push((worked - answered) / 1000.0);
            starts.after_request.push((worked - sent) / 1000.0);
        }
    }
    Ok(starts)
}

/// Microseconds since 1970.
fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_micros() as f64)
}

/// Milliseconds of `SELECT 1`: in total, and until the response to the POST (which waits for the end).
struct Whole {
    all: Vec<f64>,
    post: Vec<f64>,
}

fn whole(server: &Server, access: &Access, count: usize) -> Result<Whole> {
    let mut client = access.client(server)?;
    let mut whole = Whole { all: Vec::new(), post: Vec::new() };
    for done in 0..WARM_UP + count {
        let begun = Instant::now();
        let shown = access.submit(&mut client, "SELECT 1", true)?;
        let id = access.complete(&mut client, shown)?;
        let post = begun.elapsed();
        access.data(&mut client, &id)?;
        if done >= WARM_UP {
            whole.all.push(begun.elapsed().as_secs_f64() * 1000.0);
            whole.post.push(post.as_secs_f64() * 1000.0);
        }
    }
    Ok(whole)
}

fn tell(store: &str, starts: &Starts, whole: &Whole, floor: (&[f64], f64), report: &mut Report) {
    let (commit, trip) = floor;
    let first = median(&starts.after_answer);
    report.judge(
        format!("metadata in {store}: acknowledgement to first step"),
        spread(&starts.after_answer),
        format!("median at most {FIRST_STEP} ms"),
        first <= FIRST_STEP,
    );
    report.note(format!("metadata in {store}: sent to first step"), spread(&starts.after_request));
    report.note(format!("metadata in {store}: durable commit of one row"), spread(commit));
    let (all, most) = (median(&whole.all), COMMITS * median(commit) + ALLOWANCE + trip);
    report.judge(
        format!("metadata in {store}: `SELECT 1`: POST, wait, data"),
        spread(&whole.all),
        format!("median at most {most:.2} ms (3 commits + 4 ms + round trip)"),
        all <= most,
    );
    report.note(format!("metadata in {store}: of which POST with wait"), spread(&whole.post));
}
