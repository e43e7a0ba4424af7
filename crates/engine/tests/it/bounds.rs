//! Hostile arguments for every function that a statement can call, and for the operators.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Date32Array, Int64Array, StringArray};
use landreeve_core::source::{CancellationToken, SourceError};
use landreeve_core::table::{TableName, Tables};
use tokio::time::Instant;

use crate::bench;
use crate::support::Bench;
use crate::vql::{Virtual, table};

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
    stay_within_on(bench(), statements).await
}

async fn stay_within_on(mut bench: Bench, statements: impl Iterator<Item = String>) -> Vec<String> {
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

/// Calls of a function with every combination of up to two of these arguments.
fn calls(name: &str, arguments: [&str; 3]) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut calls = vec![format!("{name}()")];
    for _ in 0..2 {
        all = all.iter().flat_map(|args| arguments.map(|arg| format!("{args}{arg}, "))).collect();
        calls.extend(all.iter().map(|args| format!("{name}({})", args.trim_end_matches(", "))));
    }
    calls
}

fn of(call: &str) -> [String; 2] {
    [ONE, MANY].map(|rows| format!("select {call} from {rows}"))
}

async fn walk(part: usize) {
    let names: Vec<&str> = landreeve_engine::function_names().skip(part).step_by(4).collect();
    let statements = names.iter().flat_map(|name| calls(name, ["t", "n", "l"])).flat_map(|call| {
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
        "narrow_cast",
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

/// The same rows as [`ONE`] and [`MANY`] for VQL, which cannot make them.
fn virtual_bench() -> Bench {
    let texts = |texts: Vec<String>| Arc::new(StringArray::from(texts));
    let one = table(vec![
        ("t", texts(vec!["ab".repeat(524_288)])),
        ("n", Arc::new(Int64Array::from(vec![1_000_000_000]))),
        ("d", Arc::new(Date32Array::from(vec![20_000]))),
    ]);
    let many = table(vec![
        ("t", texts((0..5_000).map(|at| format!("{}{at}", "ab".repeat(512))).collect())),
        ("n", Arc::new((0..5_000).map(|at| Some(1_000 + at)).collect::<Int64Array>())),
        ("d", Arc::new((0..5_000).map(Some).collect::<Date32Array>())),
    ]);
    let name = |name: &str| TableName::new("sales", name);
    Bench::new(Virtual(Tables { tables: vec![(name("one"), one), (name("many"), many)], views: Vec::new() }))
}

/// Calls in VQL for functions that need certain values, and what operators and syntax become.
const VIRTUAL_CALLS: &[&str] = &[
    "date_trunc('month', d)",
    "date_trunc_in('hour', d, 'UTC')",
    "formatdate('yyyy-MM-dd HH:mm:ss.SSS a Z', d)",
    "formatdate(t, d)",
    "to_localdate('yyyy', '2024')",
    "to_localdate(t, t)",
    "to_timestamp('yyyy', '2024')",
    "to_timestamp('yyyy', t)",
    "addday(d, 1)",
    "addmonth(d, 1)",
    "addyear(d, 1)",
    "round(n, n)",
    "power(n, 2)",
    "exp(1)",
    "replace(t, 'a', t)",
    "replace(t, '', t)",
    "concat(t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t, t)",
    "t || t || n",
    "n + n * n - n / n",
    "- n",
    "substr(t, 1, n)",
    "substring(t, 0, n)",
    "substring(t from 5 for 1000000)",
    "position(t in t)",
    "trim(both 'ab' from t)",
    "cast(t as int)",
    "cast(t as double)",
    "cast(t as float)",
    "cast(t as decimal(10, 2))",
    "cast(t as varchar(1000000))",
    "ceil(n) + floor(n)",
    "extract(year from d)",
    "t like concat('%', t)",
    "t like concat(t, t) escape 'a'",
    "t = n",
    "n in (t, t)",
    "group_concat(t)",
    "group_concat(t, '-')",
    "group_concat(distinct t || n)",
    "group_concat(t) over (order by n)",
    "sum(distinct n)",
    "sum(n) over (order by n)",
    "row_number() over (order by t)",
    "rank() over (order by t)",
    "lag(t) over (order by n)",
    "lead(t, 1, 'x') over (order by n)",
    "count(distinct t || n)",
    "min(t || n)",
    "case t when n then t else t || t end",
];

fn in_vql(call: &str) -> [String; 2] {
    ["one", "many"].map(|rows| format!("select {call} from {rows}"))
}

#[tokio::test]
async fn vql_functions_stay_within_their_memory() {
    let names: Vec<&str> = landreeve_engine::vql_function_names().collect();
    let calls = names.iter().flat_map(|name| calls(name, ["t", "n", "d"]));
    let calls: Vec<String> = calls.chain(VIRTUAL_CALLS.iter().map(|call| (*call).to_owned())).collect();
    let ran = stay_within_on(virtual_bench(), calls.iter().flat_map(|call| in_vql(call))).await;
    let missing: Vec<_> =
        VIRTUAL_CALLS.iter().filter(|call| !ran.iter().any(|sql| sql.contains(**call))).collect();
    // These fail on such texts.
    let failing = ["formatdate(t, d)", "to_localdate(t, t)", "to_timestamp('yyyy', t)"];
    let missing: Vec<_> = missing.into_iter().filter(|call| !failing.contains(call)).collect();
    assert!(missing.is_empty(), "these calls did not run: {missing:#?}");
    let called = |name: &&str| {
        let call = format!("{name}(");
        ran.iter().any(|sql| sql.contains(&call))
    };
    let missing: Vec<_> = names.into_iter().filter(|name| !called(name)).collect();
    assert!(missing.is_empty(), "no call of these functions ran: {missing:?}");
}

#[tokio::test]
async fn vql_can_be_cancelled() {
    let bench = virtual_bench();
    for sql in VIRTUAL_CALLS.iter().flat_map(|call| in_vql(call)) {
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

/// A value of such a type has the size that the type says: a statement of a line allocated 128 TB and ended the server.
#[tokio::test]
async fn types_with_a_size_are_refused() {
    let bench = bench();
    for sql in [
        "select try_cast(make_array(v) as bigint[2147483647]) is null from generate_series(1, 8000) g(v)",
        "select cast(null as bigint[2147483647]) is null",
        "select array[1]::int[1000000]",
        "select coalesce(cast(null as bigint[2147483647]), null)",
        "select arrow_try_cast(make_array(v), 'FixedSizeList(2147483647, Int64)') is null from generate_series(1, 8) g(v)",
        "select arrow_cast(null, 'FixedSizeList(2147483647, Int64)')",
        "select arrow_cast('a', 'FixedSizeBinary(2147483647)')",
        "select cast(make_array(make_array(1)) as bigint[][2147483647])",
    ] {
        bench.ask(sql, &[]).await.expect_err(sql);
    }
    assert_eq!(bench.rows("select cast(array[1, 2] as bigint[])::text").await, ["[1, 2]"]);
}

/// An expression in which the planner writes an argument twice, nested `depth` times.
fn nested(form: &str, depth: usize) -> String {
    (0..depth).fold("v".to_owned(), |inner, level| form.replace('X', &inner).replace('#', &level.to_string()))
}

/// What is twice in an expression at each of its levels would take hours to plan, and nothing could end it.
#[tokio::test]
async fn expressions_that_grow_while_they_are_planned_are_refused() {
    let bench = bench();
    let begun = std::time::Instant::now();
    for form in [
        "coalesce(X, v + #)",
        "coalesce(v + #, X, 1)",
        "nvl(X, v + #)",
        "nvl2(X, 1, v + #)",
        "case when X between 0 and # then 1 else 2 end",
        "case X when # then 1 when v then 3 else 2 end",
        "case when X in (1, 2, #) then 1 else 2 end",
        "greatest(coalesce(X, 1), #)",
        "coalesce(case when X between 0 and # then 1 else 2 end, 1)",
    ] {
        for depth in [14, 22, 40] {
            let sql = format!("select {} from generate_series(1, 3) g(v)", nested(form, depth));
            let error = bench.ask(&sql, &[]).await.expect_err(form);
            assert_eq!(error.code.as_deref(), Some("too_deep"), "{form}: {error:?}");
        }
        let sql = format!("select {} from generate_series(1, 3) g(v)", nested(form, 3));
        bench.ask(&sql, &[]).await.unwrap_or_else(|error| panic!("{error:?}: {sql}"));
    }
    for level in [
        "select coalesce(v, 1) as v from (X) t",
        "select v + v as v from (X) t",
        "select v * v + 1 as v from (X) t",
    ] {
        let inner = (0..24).fold("select v from generate_series(1, 3) g(v)".to_owned(), |inner, _| {
            level.replace('X', &inner)
        });
        let error = bench.ask(&format!("select v from ({inner}) t where v > 1"), &[]).await.expect_err(level);
        assert_eq!(error.code.as_deref(), Some("too_deep"), "{level}: {error:?}");
    }
    // What the parser tries in several ways.
    for (open, inner, close) in [
        ("(", "select 1 as v", ")"),
        ("(", "v", ")"),
        ("f(", "1", ")"),
        ("array[", "1", "]"),
        ("-(", "1", ")"),
    ] {
        for depth in [20, 30, 45, 60, 100] {
            let text = format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
            for sql in [format!("select * from {text} t"), format!("select {text}"), text.clone()] {
                let _ = bench.ask(&sql, &[]).await;
            }
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}
