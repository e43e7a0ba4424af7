//! Hostile arguments for every function that a statement can call, and for the operators.

use std::time::Duration;

use landreeve_core::source::{CancellationToken, SourceError};
use tokio::time::Instant;

use crate::bench;
use crate::support::Bench;

/// What a statement may need besides its memory: the largest value a few times, and what the engine needs anyway.
const BESIDES_MIB: u64 = 64;
/// `memory_bytes` of the bench.
const MEMORY_MIB: u64 = 16;
/// A cancelled statement ends within a second. Without optimisation everything takes several times as long.
const CANCELLED: Duration = Duration::from_secs(3);

/// One row with a text of the maximum size, a list of many texts, and a large number; and many rows of a kilobyte.
const ONE: &str =
    "(select repeat('ab', 524288) t, string_to_array(repeat('ab,', 10000), ',') l, 1000000000 n)";
const MANY: &str = "(select repeat('ab', 512) || value t, string_to_array(repeat('ab,', 100), ',') l, 1000 + value n \
    from generate_series(1, 5000))";

/// Calls for functions that take neither texts, numbers nor lists of texts, or need a certain value.
const CALLS: &[&str] = &[
    "array_add(array[n, n], array[n, n])",
    "array_avg(array[n, n])",
    "array_distance(array[1.0], array[2.0])",
    "array_max(array[t, t])",
    "array_normalize(array[n, n])",
    "array_product(array[n, n])",
    "array_scale(array[n, n], 2)",
    "array_subtract(array[n, n], array[n, n])",
    "array_sum(array[n, n])",
    "array_replace(l, t, t)",
    "array_replace_all(l, t, t)",
    "array_replace_n(l, t, t, n)",
    "array_remove_n(l, t, n)",
    "array_slice(l, 1, n)",
    "lpad(t, n, t)",
    "rpad(t, 1000000, 'äö')",
    "replace(t, t, t)",
    "split_part(t, 'a', n)",
    "substr_index(t, 'a', n)",
    "overlay(t placing t from 1)",
    "concat_ws(t, t, t, t, t, t, t, t)",
    "nvl2(t, t, t)",
    "arrow_cast(t, 'LargeUtf8')",
    "arrow_try_cast(t, 'Utf8View')",
    "arrow_cast(l, 'ListView(Utf8)')",
    "at_time_zone(timestamp '2026-01-01', 'Europe/Berlin')",
    "cosine_distance(array[1.0], array[2.0])",
    "date_bin(interval '1 day', timestamp '2026-01-01')",
    "date_part('year', timestamp '2026-01-01')",
    "date_trunc('day', timestamp '2026-01-01')",
    "date_trunc_in('hour', timestamptz '2026-01-01', 'UTC')",
    "decode(repeat('ab', 1000), 'hex')",
    "encode(t, 'hex')",
    "from_unixtime(n)",
    "get_field(named_struct('a', t), 'a')",
    "inner_product(array[1.0], array[2.0])",
    "json_as_text(t, 'a')",
    "json_get_array('[' || t || ']')",
    "make_date(2026, 1, 1)",
    "make_time(1, 1, 1)",
    "map(array[t], array[t])",
    "map_entries(map(array[t], array[t]))",
    "map_extract(map(array['a'], array[t]), 'a')",
    "map_keys(map(array[t], array[t]))",
    "map_values(map(array['a'], array[t]))",
    "named_struct('a', t, 'b', l)",
    "regexp_replace(t, '', t, 'g')",
    "regexp_replace(t, '(a)(b)', '\\1\\2\\1\\2\\1\\2', 'g')",
    "regexp_replace(t, 'a', repeat('c', 1000), 'g')",
    "regexp_like(t, '(((a{0,100}){0,100}){0,100})c')",
    "regexp_match(t, repeat('(a)?(b)?', 500))",
    "regexp_count(t, 'a|b')",
    "regexp_instr(t, 'c')",
    "replace(t, '', t)",
    "replace(t, 'a', t)",
    "to_char(timestamp '2026-01-01', repeat('%c', 10000))",
    "to_date('2026-01-01')",
    "to_local_time(timestamp '2026-01-01')",
    "to_time('10:00:00')",
    "to_timestamp('2026-01-01')",
    "to_unixtime('2026-01-01')",
    "translate(t, 'ab', 'äö')",
    "t || t || t || t",
    "t ~ (repeat('a?', 1000) || repeat('a', 1000))",
    "t ~* repeat('(a|b)*', 1000)",
    "t similar to repeat('a?', 5000)",
    "t like repeat('%a', 100000)",
    "t ilike repeat('%A_', 100000)",
    "l::text",
    "array[l, l, l, l]::text",
    "strpos(t, repeat('ab', 262144) || 'c')",
    "concat(t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t)",
    "array_to_string(l, t)",
    "string_to_array(t, null)",
    "string_to_array(t, '')",
    "string_agg(t, t)",
    "array_agg(t)",
    "array_agg(l)",
    "array_agg(distinct t || n)",
    "string_agg(distinct t || n, ',')",
    "string_agg(t, t) over (order by n)",
    "array_agg(t) over (order by n)",
    "count(distinct t || n)",
    "min(t || n)",
    "median(n)",
];

/// Statements that repeat rows.
const STATEMENTS: &[&str] = &[
    "select x.l from (select string_to_array(repeat('ab,', 100000), ',') l) x, generate_series(1, 1000000)",
    "select x.t || '' from (select repeat('ab', 524288) t) x, generate_series(1, 1000000)",
    "select length(x.t || g.value) from (select repeat('ab', 524288) t) x, generate_series(1, 100000) g",
    "select unnest(l), t || '' from (select string_to_array(repeat('ab,', 100000), ',') l, repeat('ab', 524288) t)",
    "select unnest(l), t from (select string_to_array(repeat('ab,', 100000), ',') l, t from \
     (select repeat('ab', 524288) || '' t))",
    "select a.l, b.l from (select string_to_array(repeat('ab,', 100000), ',') l, value from generate_series(1, 10)) a \
     join (select string_to_array(repeat('ab,', 100000), ',') l, value from generate_series(1, 10)) b on a.value % 2 = b.value % 2",
    "with recursive r as (select repeat('ab', 1000) t union all select t || t from r) select length(t) from r",
    "select replace(repeat('x', 1048576), 'x', repeat('y', 1000))",
    "select t from (select repeat('ab', 524288) || value t from generate_series(1, 1000)) order by t",
    "select t, count(*) from (select repeat('ab', 262144) || value t from generate_series(1, 1000)) group by t",
];

/// The most memory that this process has had since the last call, in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let peak: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    peak / 1_024
}

/// Runs a statement; its rows are dropped as they come.
async fn run(bench: &Bench, sql: &str, cancel: CancellationToken) -> Result<usize, SourceError> {
    bench.count_until(sql, cancel).await
}

/// Runs statements and compares the memory they need with what they may need.
async fn stay_within(statements: impl Iterator<Item = String>) -> Vec<String> {
    let mut bench = bench();
    bench.limit = Duration::from_secs(5);
    let _ = run(&bench, "select upper('warm')", CancellationToken::new()).await;
    peak_mib();
    let (mut ran, before) = (Vec::new(), peak_mib());
    for sql in statements {
        let answer = run(&bench, &sql, CancellationToken::new()).await;
        let peak = peak_mib();
        let allowed = before + MEMORY_MIB + BESIDES_MIB;
        assert!(peak <= allowed, "{sql}: {peak} MiB, {before} MiB before: {answer:?}");
        match answer {
            Err(error)
                if matches!(error.code.as_deref(), Some("invalid" | "execution" | "not_supported")) => {}
            _ => ran.push(sql),
        }
    }
    ran
}

/// Calls of a function with every combination of up to two arguments.
fn calls(name: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut calls = vec![format!("{name}()")];
    for _ in 0..2 {
        all = all.iter().flat_map(|args| ["t", "n", "l"].map(|arg| format!("{args}{arg}, "))).collect();
        calls.extend(all.iter().map(|args| format!("{name}({})", args.trim_end_matches(", "))));
    }
    calls
}

fn of(call: &str) -> [String; 2] {
    [ONE, MANY].map(|rows| format!("select {call} from {rows}"))
}

async fn walk(part: usize) {
    let names: Vec<&str> = landreeve_engine::function_names().skip(part).step_by(4).collect();
    let statements = names.iter().flat_map(|name| calls(name)).flat_map(|call| {
        // Two arguments for many rows add nothing that one does not show, and take most of the time.
        let [one, many] = of(&call);
        [Some(one), (!call.contains(", ")).then_some(many)].into_iter().flatten()
    });
    let ran = stay_within(statements).await;
    let called = |name: &&str| {
        let call = format!("{name}(");
        ran.iter().any(|sql| sql.contains(&call)) || CALLS.iter().any(|known| known.contains(&call))
    };
    // These become calls of others, or need a row of a file.
    let not_called = [
        "cast_to_type",
        "file_row_index",
        "json_union_to_text",
        "list_to_text",
        "string_concat",
        "text_like",
        "try_cast_to_type",
    ];
    let missing: Vec<_> =
        names.into_iter().filter(|name| !called(name) && !not_called.contains(name)).collect();
    assert!(missing.is_empty(), "no call of these functions ran: {missing:?}");
}

#[tokio::test]
async fn functions_stay_within_their_memory() {
    walk(0).await;
}

#[tokio::test]
async fn functions_stay_within_their_memory_2() {
    walk(1).await;
}

#[tokio::test]
async fn functions_stay_within_their_memory_3() {
    walk(2).await;
}

#[tokio::test]
async fn functions_stay_within_their_memory_4() {
    walk(3).await;
}

#[tokio::test]
async fn calls_and_operators_stay_within_their_memory() {
    let ran = stay_within(CALLS.iter().flat_map(|call| of(call))).await;
    let missing: Vec<_> = CALLS.iter().filter(|call| !ran.iter().any(|sql| sql.contains(**call))).collect();
    assert!(missing.is_empty(), "these calls did not run: {missing:#?}");
}

#[tokio::test]
async fn repeated_rows_stay_within_their_memory() {
    let ran = stay_within(STATEMENTS.iter().map(|sql| (*sql).to_owned())).await;
    assert_eq!(ran.len(), STATEMENTS.len());
}

/// A cancelled statement frees its place for the next one.
#[tokio::test]
async fn a_function_can_be_cancelled() {
    let bench = bench();
    let statements =
        CALLS.iter().flat_map(|call| of(call)).chain(STATEMENTS.iter().map(|sql| (*sql).to_owned()));
    for sql in statements {
        let cancel = CancellationToken::new();
        let mut running = std::pin::pin!(run(&bench, &sql, cancel.clone()));
        if tokio::time::timeout(Duration::from_millis(30), &mut running).await.is_err() {
            cancel.cancel();
            let _ = running.await;
        }
        let started = Instant::now();
        run(&bench, "select 1", CancellationToken::new()).await.unwrap();
        assert!(started.elapsed() < CANCELLED, "{sql} went on for {:?}", started.elapsed());
    }
}

/// What the bounds must not change.
#[tokio::test]
async fn ordinary_values_are_as_before() {
    let bench = bench();
    for (sql, expected) in [
        ("select 'a' || null", "NULL"),
        ("select 'a' || 1", "a1"),
        ("select array[1] || array[2]", "[1,2]"),
        ("select concat('a', null, 'b')", "ab"),
        ("select 'abc' ~ 'B', 'abc' ~* 'B', 'abc' !~ 'b', 'abc' !~* 'B'", "false|true|false|false"),
        ("select null ~ 'a' is null", "true"),
        ("select 'abc' similar to 'a.c'", "true"),
        (
            "select 'abc' like concat('%', 'b', '%'), 'abc' ilike concat('A', '%'), 'abc' not like concat('b', '%')",
            "true|true|true",
        ),
        ("select array[1, 2]::text", "[1, 2]"),
        ("select regexp_replace('aXbX', 'X', '-', 'g'), regexp_replace('aXbX', 'X', '-')", "a-b-|a-bX"),
        ("select lpad('a', 3, ''), lpad('a', 3), rpad('ä', 3, 'ö')", "a|  a|äöö"),
        ("select repeat('a', -1), repeat('ab', 2)", "|abab"),
        ("select replace('aaa', 'a', 'bb'), replace('ab', '', '-')", "bbbbbb|ab"),
        ("select coalesce(null, 'x'), nvl(null, 'y'), nullif('a', 'a') is null", "x|y|true"),
        (
            "select string_agg(name, ',' order by id), array_agg(distinct flag) is null from facts",
            "a,b,a|false",
        ),
        (
            "select strpos('äbc', 'c'), position('' in 'a'), strpos('a', 'b'), strpos(null, 'a') is null",
            "3|1|0|true",
        ),
        ("select lower(arrow_cast(null, 'Dictionary(Int32, Utf8)')) is null", "true"),
        ("select length(t) from (select repeat('ab', 5000) t)", "10000"),
        ("select now() is null, current_date is null", "false|false"),
        ("select length(string_agg(name, ',') over ()) from facts limit 1", "5"),
    ] {
        assert_eq!(bench.rows(sql).await, [expected], "{sql}");
    }
}

#[tokio::test]
async fn an_error_names_the_function_and_the_size() {
    let bench = bench();
    let error = |sql: &'static str| {
        let bench = &bench;
        async move { bench.ask(sql, &[]).await.unwrap_err() }
    };
    let found = error("select repeat('ab', 1000000)").await;
    assert_eq!(found.code.as_deref(), Some("too_large"));
    assert!(found.message.contains("repeat would return a value of 2000000 bytes"), "{found:?}");
    let found = error("select repeat('ab', 500000) || value from generate_series(1, 1000)").await;
    assert!(found.message.contains("more than is left of the statement's memory"), "{found:?}");
    let found = error("values (repeat('ab', 5000))").await;
    assert!(found.message.contains("use SELECT instead of VALUES"), "{found:?}");
    let found = error("select levenshtein('a', 'b')").await;
    assert!(found.message.contains("levenshtein"), "{found:?}");
}
