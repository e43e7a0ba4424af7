//! Lists of runs among a million: the newest 50 for each single filter, with and without the total. Prints for each filter
//! `NAME: MILLISECONDS MILLISECONDS TOTAL`: the medians without and with the total.
//!
//! `cargo run --release --package landreeve-estate --example run_lists -- PLACE [RUNS]`, where PLACE is an empty folder
//! or the address of an empty PostgreSQL database.
#![expect(clippy::print_stdout, reason = "a measurement reports on standard output")]
#![expect(clippy::expect_used, reason = "a measurement may stop at the first error")]

mod support;

use std::time::Duration;

use landreeve_core::ids::{OuId, RunId};
use landreeve_core::{Page, RunKind, RunState, clock};
use landreeve_estate::ops::runs::{run_list, run_list_after};
use landreeve_estate::ops::{FamilyFilter, Range, RunFilter, sign_in};
use landreeve_estate::{Estate, args};
use tokio::time::Instant;

/// Runs of several kinds, states, submitters, nouns and units, ten seconds apart. None is executed.
macro_rules! fill {
    ($uuid:literal, $numbers:literal) => {
        concat!(
            "INSERT INTO runs (id, uuid, kind, state, ou_id, noun, noun_id, input, progress, progress_note, actor_kind, \
             actor_id, actor_name, parent_id, attempt, max_attempts, submitted_at, updated_at, started_at, finished_at, \
             keep_record, keep_data, pool, submitter, counted, occupies) \
             SELECT n + 1000, ",
            $uuid,
            ", CASE n % 4 WHEN 0 THEN 'probe' WHEN 1 THEN 'purge' ELSE 'query' END, \
             CASE n % 10 WHEN 0 THEN 'failed' WHEN 1 THEN 'cancelled' ELSE 'succeeded' END, \
             CASE WHEN n % 5 = 0 THEN 9 ELSE 1 END, CASE WHEN n % 2 = 0 THEN 'datasource' END, \
             CASE WHEN n % 2 = 0 THEN n % 100 END, '{}', 100, '', 'key', n % 50, 'key', \
             CASE WHEN n % 20 = 0 THEN 1000 + n - 1 END, 1, 1, n * 10000000, n * 10000000, n * 10000000, \
             n * 10000000 + 5000000, 1, 1, 'short', 'key:' || (n % 50), 1, 0 FROM ",
            $numbers
        )
    };
}

async fn fill(estate: &Estate, runs: i64) {
    let dialect = estate.store().dialect();
    let sql = dialect.pick(
        fill!(
            "printf('00000000-0000-4000-8000-%012x', n)",
            "(WITH RECURSIVE s (n) AS (SELECT $1 UNION ALL SELECT n + 1 FROM s WHERE n < $2) SELECT n FROM s) numbers"
        ),
        fill!(
            "'00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0')",
            "generate_series($1::bigint, $2::bigint) numbers (n)"
        ),
    );
    let unit = "INSERT INTO ous (id, uuid, parent_id, path, name, description, created_at, updated_at) \
                VALUES (9, '00000000-0000-0000-0000-000000000009', 1, '/1/9/', 'unit', '', 0, 0)";
    let write = |sql: &'static str, bound: Vec<landreeve_estate::store::Arg>| {
        let store = estate.store().clone();
        async move { store.write(move |tx| Box::pin(async move { tx.exec(sql, bound).await })).await }
    };
    write(unit, args![]).await.expect("a unit");
    let step = 50_000;
    let mut from = 1;
    while from <= runs {
        let to = (from + step - 1).min(runs);
        write(sql, args![from, to]).await.expect("runs");
        from = to + 1;
    }
    write("ANALYZE runs", args![]).await.expect("statistics");
}

fn filters(runs: i64) -> Vec<(&'static str, RunFilter)> {
    let none = RunFilter::default;
    let at = |share: i64| clock::from_micros(runs * share / 100 * 10_000_000);
    vec![
        ("none", none()),
        ("kind", RunFilter { kinds: vec![RunKind::new("query")], ..none() }),
        ("kind, nothing", RunFilter { kinds: vec![RunKind::new("backup")], ..none() }),
        ("state", RunFilter { states: vec![RunState::Succeeded], ..none() }),
        ("state, nothing", RunFilter { states: vec![RunState::Lost], ..none() }),
        ("top level", RunFilter { family: Some(FamilyFilter::TopLevel), ..none() }),
        ("parent", RunFilter { family: Some(FamilyFilter::ChildrenOf(RunId(2_019))), ..none() }),
        ("parent, nothing", RunFilter { family: Some(FamilyFilter::ChildrenOf(RunId(7))), ..none() }),
        ("submitter", RunFilter { submitter: Some("key:7".to_owned()), ..none() }),
        ("submitter, nothing", RunFilter { submitter: Some("user:7".to_owned()), ..none() }),
        ("noun", RunFilter { noun: Some(("datasource".to_owned(), Some(8))), ..none() }),
        ("noun, nothing", RunFilter { noun: Some(("dashboard".to_owned(), Some(8))), ..none() }),
        ("unit", RunFilter { ou: Some(OuId(9)), ..none() }),
        ("unit, nothing", RunFilter { ou: Some(OuId(999)), ..none() }),
        ("submitted", RunFilter { submitted: Range::new(Some(at(20)), Some(at(60))), ..none() }),
        ("submitted, nothing", RunFilter { submitted: Range::new(Some(at(200)), None), ..none() }),
        ("ended", RunFilter { finished: Range::new(Some(at(20)), Some(at(60))), ..none() }),
        ("ended, nothing", RunFilter { finished: Range::new(None, Some(at(0))), ..none() }),
    ]
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1_000.0
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let place = arguments.next().expect("a folder, or the address of an empty PostgreSQL database");
    let runs: i64 = arguments.next().map_or(1_000_000, |text| text.parse().expect("a number"));
    let estate = support::open(&place, Vec::new(), Duration::from_secs(600)).await;
    fill(&estate, runs).await;
    let ctx = sign_in::operator(&estate);
    for (name, filter) in filters(runs) {
        let (mut pages, mut totals, mut total) = (Vec::new(), Vec::new(), 0);
        for _ in 0..11 {
            let began = Instant::now();
            run_list_after(&estate, &ctx, &filter, None, 50).await.expect("a page");
            pages.push(began.elapsed());
            let began = Instant::now();
            total = run_list(&estate, &ctx, &filter, Page::first(50)).await.expect("a page").total;
            totals.push(began.elapsed());
        }
        println!("{name}: {:.2} {:.2} {total}", median(pages), median(totals));
    }
}
