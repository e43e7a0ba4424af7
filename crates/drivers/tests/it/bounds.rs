//! A value or a row that is too large is an error that says so, and the next statement works.

use landreeve_core::source::SourceErrorKind;
use landreeve_drivers::{Bounds, DriverOptions, DriverSet};

use crate::support::{Live, mariadb, postgres, sqlite};

const BOUNDS: Bounds = Bounds { max_value_bytes: 100_000, max_row_bytes: 150_000 };

fn bounded(live: Live) -> Live {
    let options = DriverOptions { bounds: BOUNDS, ..DriverOptions::default() };
    Live { set: DriverSet::new(options).expect("drivers"), ..live }
}

/// Statements, and parts of their errors; none: they are allowed.
type Case = (&'static str, Option<[&'static str; 2]>);

const POSTGRES: [Case; 9] = [
    ("select repeat('x', 100000) as a", None),
    ("select repeat('x', 100001) as a", Some(["\"a\"", "100001 bytes"])),
    // The whole row is larger than allowed, so it is not read.
    ("select 1 as n, null as z, repeat('x', 900000000) as big", Some(["\"big\"", "900000000 bytes"])),
    ("select repeat('x', 90000) as a, repeat('y', 90000) as b", Some(["a row has", "max_row_bytes"])),
    ("select repeat('x', 100001)::bytea as b", Some(["\"b\"", "100001 bytes"])),
    ("select array_fill(1234567, array[30000]) as l", Some(["\"l\"", "240001 bytes"])),
    ("select to_jsonb(repeat('x', 200000)) as j", Some(["\"j\"", "20000"])),
    ("select i, repeat('x', i * 1000) as t from generate_series(1, 200) i", Some(["\"t\"", "101000 bytes"])),
    ("select repeat('x', 99999) as a from generate_series(1, 50)", None),
];

const MARIADB: [Case; 5] = [
    ("select repeat('x', 100000) as a", None),
    ("select repeat('x', 100001) as a", Some(["\"a\"", "100001 bytes"])),
    ("select repeat('x', 9000000) as a", Some(["a row has more than 150000 bytes", "150000"])),
    (
        "select repeat('x', 90000) as a, repeat('y', 90000) as b",
        Some(["a row has more than 150000 bytes", "150000"]),
    ),
    ("select repeat('x', 99999) as a union all select repeat('y', 99999)", None),
];

const SQLITE: [Case; 6] = [
    ("select hex(zeroblob(49999)) as a", None),
    ("select hex(zeroblob(50001)) as a", Some(["100000 bytes", "max_value_bytes"])),
    ("select zeroblob(900000000) as a", Some(["100000 bytes", "max_value_bytes"])),
    (
        // The limit of a value is less in a statement with many of them.
        "select replace(hex(zeroblob(400)), '0', hex(zeroblob(400))) as a",
        Some(["75000 bytes", "max_value_bytes"]),
    ),
    ("select zeroblob(90000) as a, zeroblob(90000) as b", Some(["a row", "max_row_bytes"])),
    (
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 50) select zeroblob(60000) from n",
        None,
    ),
];

async fn check(live: Live, cases: &[Case]) {
    let live = bounded(live);
    for (sql, expected) in cases {
        let outcome = live.batches(sql).await;
        match (outcome, expected) {
            (Ok(_), None) => {}
            (Err(error), Some(parts)) => {
                assert_eq!(error.kind, SourceErrorKind::Query, "{sql}: {error}");
                // SQLite refuses a value itself.
                let codes = ["too_large", "SQLITE_TOOBIG"];
                assert!(codes.contains(&error.code.as_deref().unwrap_or("")), "{sql}: {:?}", error.code);
                for part in parts {
                    assert!(error.message.contains(part), "{sql}: {error}");
                }
            }
            (Ok(_), Some(_)) => panic!("{sql} was allowed"),
            (Err(error), None) => panic!("{sql}: {error}"),
        }
        assert_eq!(live.one("select 1").await, "1", "after {sql}");
    }
    live.set.close().await;
}

#[tokio::test]
async fn values_and_rows_are_bounded_on_postgresql() {
    check(postgres(), &POSTGRES).await;
}

#[tokio::test]
async fn values_and_rows_are_bounded_on_mariadb() {
    check(mariadb(), &MARIADB).await;
}

#[tokio::test]
async fn values_and_rows_are_bounded_on_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("b.db");
    rusqlite::Connection::open(&path).expect("opens").execute_batch("create table t (v)").expect("creates");
    check(sqlite(&path), &SQLITE).await;
}
