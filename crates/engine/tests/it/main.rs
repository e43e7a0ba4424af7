//! The engine over tables in memory.

#![expect(clippy::unwrap_used, reason = "tests")]

mod admission;
mod bounds;
mod catalogs;
mod support;
mod vql;
mod vql_cases;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use landreeve_core::schema::{LogicalType, logical_type};
use landreeve_core::source::{CancellationToken, SourceErrorKind};
use landreeve_core::table::{
    Applies, Comparison, Condition, Scalar, Table, TableName, Tables, Test, Value, Variable,
};
use proptest::prelude::*;
use support::{Bench, Endless, Fact, Facts, Waiting, texts};

/// 2026-01-15 12:00 UTC.
const NOON: i64 = 1_768_478_400_000_000;

fn some_facts() -> Vec<Fact> {
    let fact = |id, name: Option<&str>, hours: i64, score, flag| Fact {
        id,
        name: name.map(str::to_owned),
        at: NOON + hours * 3_600_000_000,
        score,
        flag,
    };
    vec![
        fact(1, Some("a"), 0, Some(1.0), Some(true)),
        fact(2, Some("b"), 1, Some(2.0), Some(false)),
        fact(3, None, 13, Some(4.0), None),
        fact(4, Some("a"), 24, None, Some(true)),
    ]
}

fn tables(table: impl Table) -> Tables {
    let view = |name: &str, sql: &str| (TableName::new("public", name), support::view("public", sql));
    Tables {
        tables: vec![(TableName::new("public", "facts"), Arc::new(table))],
        views: vec![
            view("named", "SELECT id, name, at FROM facts WHERE name IS NOT NULL"),
            view("daily", "SELECT date_trunc('day', at) AS day, count(*) AS facts FROM named GROUP BY 1"),
        ],
    }
}

fn only(name: &str, table: impl Table) -> Tables {
    Tables { tables: vec![(TableName::new("public", name), Arc::new(table))], views: Vec::new() }
}

fn bench() -> Bench {
    Bench::new(tables(Facts::new(some_facts(), Applies::Exact)))
}

#[tokio::test]
async fn accepts_postgresql_syntax() {
    let bench = bench();
    let cases = [
        ("select count(*), count(*) filter (where flag) from facts", vec!["4|2"]),
        ("select percentile_cont(0.5) within group (order by score) from facts", vec!["2.0"]),
        ("select date_trunc('day', at)::date::text from facts where id = 3", vec!["2026-01-16"]),
        (
            "select id from facts where at >= '2026-01-15T13:00:00Z'::timestamptz order by id",
            vec!["2", "3", "4"],
        ),
        ("select id from facts where at < timestamptz '2026-01-15 12:30:00+00' order by id", vec!["1"]),
        (
            "select id from facts where at >= timestamptz '2026-01-16' - interval '1 hour' order by id desc",
            vec!["4", "3"],
        ),
        ("select extract(epoch from (max(at) - min(at)))::bigint from facts", vec!["86400"]),
        ("select max(at) - min(at) from facts", vec!["PT24H"]),
        ("select interval '1 month 2 days'", vec!["P1M2D"]),
        ("select coalesce(name, '-') || '!' from facts order by id limit 2 offset 1", vec!["b!", "-!"]),
        ("select string_agg(name, ',' order by name) from facts", vec!["a,a,b"]),
        ("select name, rank() over (order by id) from facts where name ilike 'B'", vec!["b|1"]),
        ("select array_agg(id order by id) from facts", vec!["[1,2,3,4]"]),
        ("select day::date::text as d, facts from daily order by day", vec!["2026-01-15|2", "2026-01-16|1"]),
        ("with x as (select 1 as a) select a from x union all select 2 order by a", vec!["1", "2"]),
        ("select ('{\"a\": {\"b\": 7}}'::text)->'a'->>'b'", vec!["7"]),
        ("select id from public.facts where name is distinct from 'a' order by 1", vec!["2", "3"]),
        (
            "select date_trunc('hour', at at time zone 'Europe/Berlin')::text from facts where id = 1",
            vec!["2026-01-15T13:00:00"],
        ),
        (
            "select (timestamp '2026-07-01 12:00:00' at time zone 'Europe/Berlin')::text",
            vec!["2026-07-01T10:00:00Z"],
        ),
        (
            "select date_trunc_in('hour', at, 'Asia/Kolkata')::text from facts where id = 1",
            vec!["2026-01-15T11:30:00Z"],
        ),
        (
            "select date_trunc('day', at at time zone 'America/New_York')::date::text from facts where id = 1",
            vec!["2026-01-15"],
        ),
        ("select value from generate_series(1, 3)", vec!["1", "2", "3"]),
        ("select round(avg(score)::numeric, 2)::text from facts", vec!["2.33"]),
    ];
    for (sql, expected) in cases {
        assert_eq!(bench.rows(sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn columns_have_types() {
    let bench = bench();
    let sql = "select id, name, at, score, flag, at::date d, max(at) over () - at w, array_agg(id) over () l from facts limit 1";
    let batches = bench.ask(sql, &[]).await.unwrap();
    let found: Vec<_> = batches[0].schema().fields().iter().map(|field| logical_type(field)).collect();
    use LogicalType::{Boolean, Date, Instant, Integer, Interval, Json, Number, Text};
    assert_eq!(found, [Integer, Text, Instant, Number, Boolean, Date, Interval, Json]);
}

#[tokio::test]
async fn conditions_and_limits_are_pushed_down() {
    let facts = Facts::new(some_facts(), Applies::Exact);
    let asked = Arc::clone(&facts.asked);
    let bench = Bench::new(tables(facts));
    let sql =
        "select id from facts where at >= '2026-01-15T13:00:00Z' and name = 'a' and id in (3, 4) and flag";
    assert_eq!(bench.rows(sql).await, ["4"]);
    let scan = asked.lock().unwrap().pop().unwrap();
    assert_eq!(scan.columns, [0]);
    let condition = |column, test| Condition { column, test };
    let compare = |comparison, value| Test::Compare(comparison, value);
    for wanted in [
        condition(2, compare(Comparison::GreaterOrEqual, Value::Instant(NOON + 3_600_000_000))),
        condition(1, compare(Comparison::Equal, Value::Text("a".to_owned()))),
        condition(4, compare(Comparison::Equal, Value::Boolean(true))),
    ] {
        assert!(scan.conditions.contains(&wanted), "{wanted:?} is not among {:?}", scan.conditions);
    }
    assert_eq!(bench.rows("select id from facts limit 2").await.len(), 2);
    assert_eq!(asked.lock().unwrap().pop().unwrap().limit, Some(2));
    // Also through a view.
    assert_eq!(bench.rows("select id from named where id = 4").await, ["4"]);
    assert_eq!(asked.lock().unwrap().pop().unwrap().conditions.len(), 2);
}

#[tokio::test]
async fn rejects_names_outside_the_catalog() {
    let bench = bench();
    for sql in [
        "select * from '/etc/passwd'",
        "select * from \"/etc/passwd\"",
        "select * from sqlite_master",
        "select * from estate.public.users",
        "select * from metadata.users",
        "select * from information_schema.tables",
        "select * from pg_catalog.pg_tables",
        "select pg_read_file('/etc/passwd')",
        "select * from read_csv('/etc/passwd')",
        "select * from read_parquet('http://127.0.0.1/x')",
        "select load_extension('x')",
        "select * from secret_view",
    ] {
        let error = bench.ask(sql, &[]).await.unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Query, "{sql}: {error:?}");
        assert!(!error.message.contains("root:"), "{sql}");
    }
}

#[tokio::test]
async fn errors_are_short_and_specific() {
    let bench = bench();
    let code = async |sql: &str| bench.ask(sql, &[]).await.unwrap_err();
    assert_eq!(code("select 1 fro m x y").await.code.unwrap(), "syntax_error");
    let error = code("select nme from facts").await;
    assert!(error.message.contains("nme") && error.message.len() < 600, "{}", error.message);
    assert_eq!(code("delete from facts").await.kind, SourceErrorKind::NotReadOnly);
    assert_eq!(code("select 1/0").await.kind, SourceErrorKind::Query);
}

#[tokio::test]
async fn memory_time_and_rows_are_bounded() {
    let mut bench = Bench::new(only("endless", Endless));
    let error = bench.ask("select count(distinct id) from endless", &[]).await.unwrap_err();
    assert_eq!(error.code.as_deref(), Some("out_of_memory"), "{error:?}");
    bench.limit = Duration::from_millis(300);
    let error = bench.ask("select sum(id) from endless", &[]).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::TimedOut);
    let busy = "select sum(a.value % 7) from generate_series(1, 10000) a, generate_series(1, 1000000000) b";
    let error = bench.ask(busy, &[]).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::TimedOut, "{error:?}");
    let selective = "select count(*) from generate_series(1, 10000) a, generate_series(1, 1000000000) b where a.value * b.value = -1";
    let error = bench.ask(selective, &[]).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::TimedOut, "{error:?}");
    bench.limit = Duration::from_secs(20);
    bench.max_rows = Some(5_000);
    let error = bench.ask("select id from endless", &[]).await.unwrap_err();
    assert_eq!(error.code.as_deref(), Some("too_many_rows"));
    let rows: usize = bench
        .ask("select id from endless limit 5000", &[])
        .await
        .unwrap()
        .iter()
        .map(|batch| batch.num_rows())
        .sum();
    assert_eq!(rows, 5_000);
}

#[tokio::test]
async fn a_cancelled_statement_ends() {
    let bench = Bench::new(only("endless", Endless));
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let asked = bench.ask_until("select sum(id) from endless", &[], cancel);
    let (answer, ()) = tokio::join!(asked, async move {
        tokio::task::yield_now().await;
        stop.cancel();
    });
    assert_eq!(answer.unwrap_err().kind, SourceErrorKind::Cancelled);
}

/// If a statement is cancelled or its reader stops, each part that was being read is notified.
#[tokio::test]
async fn a_table_is_notified_when_its_reader_is_gone() {
    let (begun, told) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let bench = Bench::new(only("waiting", Waiting { begun: Arc::clone(&begun), told: Arc::clone(&told) }));
    // A part may start after the row has arrived; what counts is that every part that started is notified in the end.
    let all_heard = async || {
        while told.load(Ordering::SeqCst) < begun.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(bench.rows("select id from waiting limit 1").await, ["1"]);
    all_heard().await;
    let before = begun.load(Ordering::SeqCst);
    assert!(before > 0);
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let answer = bench.ask_until("select sum(id) from waiting", &[], cancel);
    let (answer, ()) = tokio::join!(answer, async {
        while begun.load(Ordering::SeqCst) == before {
            tokio::task::yield_now().await;
        }
        stop.cancel();
        all_heard().await;
    });
    assert_eq!(answer.unwrap_err().kind, SourceErrorKind::Cancelled);
}

#[tokio::test]
async fn waiting_for_other_statements_counts_towards_the_time_limit() {
    let mut bench = Bench::new(only("endless", Endless));
    bench.limit = Duration::from_millis(300);
    let (first, second) = tokio::join!(
        bench.ask("select sum(id) from endless", &[]),
        bench.ask("select sum(id) from endless", &[])
    );
    for ended in [first, second] {
        assert_eq!(ended.unwrap_err().kind, SourceErrorKind::TimedOut);
    }
    assert_eq!(bench.rows("select 1").await, ["1"]);
}

/// The parameter language escapes strings for the engine this way: it only doubles quotes.
#[tokio::test]
async fn a_string_cannot_break_out_of_its_literal() {
    let bench = bench();
    for value in
        ["", "'", "\\", "\\'", "'\\", "' or 1=1 --", "\\' or 1=1 --", "$$", "*/", "$name", "a\nb", "ü'é"]
    {
        let sql = format!("select '{}' as v, length('{0}')", value.replace('\'', "''"));
        let rows = bench.rows(&sql).await;
        assert_eq!(rows, [format!("{value}|{}", value.chars().count())], "{sql}");
    }
}

#[tokio::test]
async fn a_long_chain_of_operators_does_not_crash() {
    let bench = bench();
    for (operator, times) in [("+", 4_900), ("or true", 2_400), ("||'a'", 4_900), ("+", 100_000)] {
        let (left, step) = match operator {
            "+" => ("1", "+1"),
            "||'a'" => ("'a'", "||'a'"),
            _ => ("true", " or true"),
        };
        // A result or an error; either way it ends.
        let _ = bench.ask(&format!("select {left}{}", step.repeat(times)), &[]).await;
    }
    assert_eq!(bench.rows("select 1").await, ["1"]);
}

#[tokio::test]
async fn variables_are_replaced_by_values() {
    let bench = bench();
    let one = |value: &str| Variable::One(Scalar::Text(value.to_owned()));
    let ids = Variable::Many(vec![Scalar::Integer(1), Scalar::Integer(3)]);
    let batches = bench
        .ask(
            "select id from facts where id in ($ids) and at >= $from order by id",
            &[("ids", ids), ("from", one("2026-01-15T12:30:00Z"))],
        )
        .await
        .unwrap();
    assert_eq!(batches.iter().flat_map(texts).collect::<Vec<_>>(), ["3"]);
}

fn fact() -> impl Strategy<Value = Fact> {
    let name = prop::option::of(prop::sample::select(vec!["a", "b", "B", ""]).prop_map(str::to_owned));
    let score = prop::option::of((-3_i32..3).prop_map(f64::from));
    (0..6_i64, name, 0..5_i64, score, prop::option::of(any::<bool>()))
        .prop_map(|(id, name, at, score, flag)| Fact { id, name, at: NOON + at * 1_000_000, score, flag })
}

fn condition() -> impl Strategy<Value = String> {
    let comparison = prop::sample::select(vec!["=", "<>", "<", "<=", ">", ">="]);
    prop_oneof![
        (comparison.clone(), 0..6_i64).prop_map(|(c, n)| format!("id {c} {n}")),
        (comparison.clone(), 0..6_i64).prop_map(|(c, n)| format!("{n} {c} id")),
        (prop::sample::select(vec!["=", "<>"]), prop::sample::select(vec!["a", "B", ""]))
            .prop_map(|(c, t)| format!("name {c} '{t}'")),
        (comparison.clone(), 0..5_i64).prop_map(|(c, s)| format!("at {c} '2026-01-15T12:00:0{s}Z'")),
        (comparison, -3..3_i64).prop_map(|(c, n)| format!("score {c} {n}.0")),
        prop::sample::select(vec![
            "flag",
            "not flag",
            "flag is null",
            "name is not null",
            "name in ('a', 'b', 'c', 'd')"
        ])
        .prop_map(str::to_owned),
        Just("id in (1, 2, 5)".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn results_do_not_depend_on_who_applies_the_conditions(
        facts in prop::collection::vec(fact(), 0..12),
        conditions in prop::collection::vec(condition(), 1..4),
        limit in 0..6_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let conditions = conditions.join(" and ");
        let statements = [
            format!("select id, name, at, score, flag from facts where {conditions} order by 1, 2, 3, 4, 5"),
            format!("select count(*) from (select id from facts where {conditions} limit {limit}) x"),
            format!("select count(*) from (select id from facts limit {limit}) x"),
        ];
        for sql in statements {
            let mut answers = Vec::new();
            for applies in [Applies::No, Applies::Exact, Applies::Superset] {
                for partitions in [1, 3] {
                    let table = Facts { partitions, ..Facts::new(facts.clone(), applies) };
                    answers.push(runtime.block_on(Bench::new(tables(table)).rows(&sql)));
                }
            }
            for answer in &answers {
                prop_assert_eq!(answer, &answers[0], "{}", &sql);
            }
        }
    }
}
