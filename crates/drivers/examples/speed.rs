//! Measures what a million rows cost in CPU time, step by step: `speed postgres://user:password@host:port/database
//! [ROWS]`. `speed postgres://… round-trips [COUNT]` prints the time of each `select 1` in microseconds, and
//! `speed URL read SQL` the time to read a statement's rows, of PostgreSQL or MariaDB.
#![expect(clippy::print_stdout, reason = "a tool that reports to its terminal")]
#![expect(clippy::expect_used, reason = "a tool that may stop at the first error")]

use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use jiff::tz::TimeZone;
use landreeve_core::Secret;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::ids::DatasourceId;
use landreeve_core::source::{
    CancellationToken, ConnectSpec, Drivers, EncodeOptions, Permit, Query, ResultCodec, ResultFormat, Target,
    TlsMode,
};
use landreeve_drivers::{Codec, DriverOptions, DriverSet};

/// CPU seconds of this process, and its peak memory in MiB.
fn used() -> (f64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().expect("ticks") + fields[12].parse::<u64>().expect("ticks");
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    let peak = peak.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
    (ticks as f64 / 100.0, peak / 1024)
}

fn report(what: &str, begun: (Instant, f64), bytes: usize) {
    let (cpu, peak) = used();
    let (wall, cpu) = (begun.0.elapsed().as_secs_f64(), cpu - begun.1);
    println!(
        "{what:<28} wall {wall:6.2} s   cpu {cpu:6.2} s   {:8.1} MB   peak {peak} MiB",
        bytes as f64 / 1e6
    );
}

fn begin() -> (Instant, f64) {
    (Instant::now(), used().0)
}

fn kind(url: &str) -> DatabaseType {
    if url.starts_with("mysql:") { DatabaseType::MariaDb } else { DatabaseType::Postgres }
}

fn spec(url: &str) -> ConnectSpec {
    let rest = url.split_once("://").expect("a URL").1;
    let (account, place) = rest.rsplit_once('@').expect("an account");
    let (username, password) = account.split_once(':').unwrap_or((account, ""));
    let (place, database) = place.split_once('/').unwrap_or((place, "postgres"));
    let (host, port) = place.rsplit_once(':').expect("a port");
    ConnectSpec {
        datasource: DatasourceId(1),
        version: 1,
        database_type: kind(url),
        target: Target::Network {
            host: host.to_owned(),
            port: port.parse().expect("a number"),
            addresses: place.to_socket_addrs().expect("an address").collect(),
            username: username.to_owned(),
            password: Secret::new(password),
            database: database.to_owned(),
        },
        tls: TlsMode::Prefer,
        time_zone: TimeZone::get("Europe/Berlin").expect("known"),
        max_connections: 2,
        permit: Permit::default(),
        connect_timeout: Duration::from_secs(10),
    }
}

/// Times `select 1` repeatedly, from the call to the driver to the end of its stream.
async fn round_trips(spec: &ConnectSpec, count: usize) {
    let set = DriverSet::new(DriverOptions::default()).expect("drivers");
    let driver = set.driver(DatabaseType::Postgres).expect("a driver");
    let query = Query {
        sql: "select 1".to_owned(),
        time_limit: Duration::from_secs(60),
        batch_rows: 8192,
        batch_bytes: 1 << 20,
        decimals: Vec::new(),
    };
    let warm_up = 20;
    for done in 0..warm_up + count {
        let begun = Instant::now();
        let mut stream = driver.query(spec, query.clone(), CancellationToken::new()).await.expect("runs");
        while let Some(batch) = stream.batches.next().await {
            batch.expect("a batch");
        }
        if done >= warm_up {
            println!("{}", begun.elapsed().as_micros());
        }
    }
    set.close().await;
}

/// Reads the rows of a statement once for the connection, and then for its time in microseconds.
async fn read(url: &str, sql: String) {
    let (set, spec) = (DriverSet::new(DriverOptions::default()).expect("drivers"), spec(url));
    let driver = set.driver(kind(url)).expect("a driver");
    for pass in 0..2 {
        let query = Query {
            sql: if pass == 0 { "select 1".to_owned() } else { sql.clone() },
            time_limit: Duration::from_secs(600),
            batch_rows: 8192,
            batch_bytes: 1 << 20,
            decimals: Vec::new(),
        };
        let begun = Instant::now();
        let mut stream = driver.query(&spec, query, CancellationToken::new()).await.expect("runs");
        while let Some(batch) = stream.batches.next().await {
            batch.expect("a batch");
        }
        if pass == 1 {
            println!("{}", begun.elapsed().as_micros());
        }
    }
    set.close().await;
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("the address of a PostgreSQL server");
    let rows = arguments.next().unwrap_or_else(|| "1000000".to_owned());
    if rows == "read" {
        return read(&url, arguments.next().expect("a statement")).await;
    }
    if rows == "round-trips" {
        let count = arguments.next().map_or(300, |text| text.parse().expect("a number"));
        return round_trips(&spec(&url), count).await;
    }
    let sql = format!(
        "select i::int8 as id, 'some text of row ' || i as label, i * 0.37::float8 as amount, \
         timestamptz '2020-01-01' + i * interval '97 seconds' as at, i % 3 = 0 as flag from generate_series(1, {rows}) i"
    );
    let (set, spec) = (DriverSet::new(DriverOptions::default()).expect("drivers"), spec(&url));
    let driver = set.driver(DatabaseType::Postgres).expect("a driver");
    let query = Query {
        sql: sql.clone(),
        time_limit: Duration::from_secs(600),
        batch_rows: 8192,
        batch_bytes: 1 << 20,
        decimals: Vec::new(),
    };

    let begun = Instant::now();
    let copy = format!("COPY ({sql}) TO STDOUT (FORMAT csv)");
    let status = std::process::Command::new("psql").args([&url, "-c", &copy, "-o", "/dev/null"]).status();
    println!("{:<28} wall {:6.2} s   {status:?}", "psql COPY csv", begun.elapsed().as_secs_f64());

    let begun = begin();
    let mut stream = driver.query(&spec, query.clone(), CancellationToken::new()).await.expect("runs");
    let mut count = 0;
    while let Some(batch) = stream.batches.next().await {
        count += batch.expect("a batch").num_rows();
    }
    report("decode, batches dropped", begun, 0);

    let begun = begin();
    let mut stream = driver.query(&spec, query, CancellationToken::new()).await.expect("runs");
    let mut writer = Codec.writer(&stream.schema).expect("opens");
    let mut kept = Vec::new();
    while let Some(batch) = stream.batches.next().await {
        kept.push(writer.write(&batch.expect("a batch")).expect("writes"));
    }
    kept.push(writer.finish().expect("ends"));
    report("decode and keep", begun, kept.iter().map(bytes::Bytes::len).sum());

    for format in [ResultFormat::Json, ResultFormat::Csv, ResultFormat::Parquet, ResultFormat::ArrowStream] {
        let options = EncodeOptions {
            format,
            envelope: None,
            time_zone: spec.time_zone.clone(),
            row_count: Some(count as u64),
            most_rows: None,
            csv_separator: b',',
            integers_as_strings: false,
        };
        let begun = begin();
        let pieces: Vec<_> = kept.iter().cloned().map(Ok).collect();
        let mut chunks = Codec.encode(Box::pin(stream::iter(pieces)), options);
        let mut bytes = 0;
        while let Some(chunk) = chunks.next().await {
            bytes += chunk.expect("encodes").len();
        }
        report(&format!("encode {format:?}"), begun, bytes);
    }
    set.close().await;
}
