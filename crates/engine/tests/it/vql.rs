//! The SQL of virtual databases.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use landreeve_core::ids::BoxFuture;
use landreeve_core::source::{SourceError, SourceErrorKind};
use landreeve_core::table::{
    Applies, BatchStream, Catalog, Condition, Flavour, Listed, Reader, Scan, SqlEngine as _, Table,
    TableName, Tables, View,
};
use proptest::prelude::*;

use crate::support::{Bench, texts, view};

/// A catalog of virtual databases; unqualified names of a statement are in `sales`.
pub struct Virtual(pub Tables);

impl Catalog for Virtual {
    fn default_schema<'a>(&'a self, _: &'a Reader) -> &'a str {
        "sales"
    }

    fn flavour(&self) -> Flavour {
        Flavour::Vql
    }

    fn resolve<'a>(
        &'a self,
        reader: &'a Reader,
        names: &'a [TableName],
    ) -> BoxFuture<'a, Result<Tables, SourceError>> {
        self.0.resolve(reader, names)
    }

    fn list<'a>(&'a self, reader: &'a Reader) -> BoxFuture<'a, Result<Vec<Listed>, SourceError>> {
        self.0.list(reader)
    }
}

/// A table in memory.
pub struct Memory(pub RecordBatch);

impl Table for Memory {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn applies(&self, _: &Condition) -> Applies {
        Applies::No
    }

    fn scan(&self, scan: Scan) -> BatchStream {
        let batch = self.0.project(&scan.columns).unwrap();
        Box::pin(futures_util::stream::once(async move { Ok(batch) }))
    }
}

pub fn table(columns: Vec<(&str, ArrayRef)>) -> Arc<dyn Table> {
    let fields: Vec<_> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    Arc::new(Memory(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()))
}

/// 2024-02-29 13:14:15.678901
const LEAP: i64 = 1_709_212_455_678_901;
/// 2024-01-31
const JANUARY: i32 = 19_753;

fn one() -> Arc<dyn Table> {
    table(vec![
        ("i", Arc::new(Int32Array::from(vec![7]))),
        ("imax", Arc::new(Int32Array::from(vec![i32::MAX]))),
        ("s", Arc::new(Int16Array::from(vec![30_000]))),
        ("l", Arc::new(Int64Array::from(vec![i64::MAX]))),
        ("lmin", Arc::new(Int64Array::from(vec![i64::MIN]))),
        ("z", Arc::new(Int64Array::from(vec![0]))),
        ("f", Arc::new(Float64Array::from(vec![2.5]))),
        ("g", Arc::new(Float32Array::from(vec![0.5]))),
        ("zf", Arc::new(Float64Array::from(vec![-0.0]))),
        ("n", Arc::new(Decimal128Array::from(vec![12_345]).with_precision_and_scale(10, 3).unwrap())),
        (
            "big",
            Arc::new(
                Decimal128Array::from(vec![10_i128.pow(38) - 1]).with_precision_and_scale(38, 0).unwrap(),
            ),
        ),
        ("t", Arc::new(StringArray::from(vec!["  42abc"]))),
        ("w", Arc::new(StringArray::from(vec!["a%b_c\\d$e"]))),
        ("u", Arc::new(StringArray::from(vec!["Äöü"]))),
        ("tn", Arc::new(StringArray::from(vec![None::<&str>]))),
        ("ln", Arc::new(Int64Array::from(vec![None::<i64>]))),
        ("d", Arc::new(Date32Array::from(vec![JANUARY]))),
        ("ts", Arc::new(TimestampMicrosecondArray::from(vec![LEAP]))),
        ("tz", Arc::new(TimestampMicrosecondArray::from(vec![LEAP]).with_timezone("UTC"))),
        ("b", Arc::new(BooleanArray::from(vec![true]))),
    ])
}

fn many() -> Arc<dyn Table> {
    table(vec![
        ("k", Arc::new(StringArray::from(vec![Some("a"), Some("a"), Some("b"), None]))),
        ("v", Arc::new(Int64Array::from(vec![Some(1), Some(3), None, Some(5)]))),
        ("x", Arc::new(Int32Array::from(vec![i32::MAX, i32::MAX, 1, 1]))),
        ("h", Arc::new(Int64Array::from(vec![i64::MAX, i64::MAX, -1, -1]))),
        ("m", Arc::new(Decimal128Array::from(vec![150, 250, 1, 2]).with_precision_and_scale(5, 2).unwrap())),
        (
            "huge",
            Arc::new(
                Decimal128Array::from(vec![9 * 10_i128.pow(37); 4]).with_precision_and_scale(38, 0).unwrap(),
            ),
        ),
    ])
}

fn name(name: &str) -> TableName {
    TableName::new("sales", name)
}

fn tables(views: Vec<(TableName, View)>) -> Virtual {
    Virtual(Tables { tables: vec![(name("one"), one()), (name("many"), many())], views })
}

fn bench() -> Bench {
    Bench::new(tables(Vec::new()))
}

/// What a statement returns, as text, or its error.
async fn answer(bench: &Bench, sql: &str) -> Result<Vec<String>, SourceError> {
    bench.ask(sql, &[]).await.map(|batches| batches.iter().flat_map(texts).collect())
}

/// An expression over `one`, and its value or a part of the error (after `!`).
const EXPRESSIONS: &[(&str, &str)] = &[
    // SUBSTRING's comma form starts at 0 and ends before the last position; SUBSTR starts at 1 and has a length.
    ("substring('abcdef', 1, 3)", "bc"),
    ("substring('abcdef', 0, 3)", "abc"),
    ("substring('abcdef', 2)", "cdef"),
    ("substring('abcdef', 4, 100)", "ef"),
    ("substring('abcdef', 9, 12)", ""),
    ("substring(u, 1, 2)", "ö"),
    ("substring('abcdef' from 2 for 3)", "bcd"),
    ("substring('abcdef' from 5)", "ef"),
    ("substr('abcdef', 1, 3)", "abc"),
    ("substr('abcdef', 2)", "bcdef"),
    ("substr('abcdef', 5, 100)", "ef"),
    ("substr('abcdef', 10, 2)", ""),
    ("substr('abcdef', 0, 2)", "a"),
    ("substr('abcdef', 2, -1)", ""),
    ("substr(u, 2, 1)", "ö"),
    ("substr(tn, 1, 2)", "NULL"),
    ("substr('abc', ln, 2)", "NULL"),
    // Positions
    ("instr('abc', 'b')", "1"),
    ("instr('abc', 'x')", "-1"),
    ("instr(u, 'ü')", "2"),
    ("instr('abc', '')", "0"),
    ("instr(tn, 'a')", "NULL"),
    ("position('b' in 'abc')", "2"),
    ("position('x' in 'abc')", "0"),
    ("position('ü' in u)", "3"),
    // Integers truncate, and dividing by zero is NULL.
    ("7 / 2", "3"),
    ("-7 / 2", "-3"),
    ("i / 2", "3"),
    ("i / 0", "NULL"),
    ("7 / z", "NULL"),
    ("f / 0", "NULL"),
    ("f / zf", "NULL"),
    ("1e0 / zf", "NULL"),
    ("n / 0", "NULL"),
    ("n / 0.0", "NULL"),
    ("mod(7, 3)", "1"),
    ("mod(-7, 3)", "-1"),
    ("mod(7, 0)", "NULL"),
    ("mod(n, z)", "NULL"),
    ("mod(f, 2)", "0.5"),
    ("f / 2", "1.25"),
    ("i / f", "2.8"),
    ("1 / ln", "NULL"),
    // Integers do not wrap.
    ("l + 1", "!overflow"),
    ("lmin - 1", "!overflow"),
    ("l * 2", "!overflow"),
    ("imax + i", "!overflow"),
    ("imax + 1", "2147483648"),
    ("s + s", "60000"),
    ("lmin / -1", "!overflow"),
    ("-lmin", "!overflow"),
    ("abs(lmin)", "!overflow"),
    ("abs(-5)", "5"),
    ("-i", "-7"),
    ("- -5", "5"),
    ("+i", "7"),
    ("9223372036854775807 + 1", "!overflow"),
    ("-9223372036854775808", "-9223372036854775808"),
    ("big + 1", "!overflow"),
    ("big * 10", "!"),
    ("i + ln", "NULL"),
    ("1 + 1.5", "2.5"),
    ("0.1 + 0.2", "0.3"),
    ("1e0 + 1", "2.0"),
    ("'1' + 1", "!needs numbers, not text"),
    // CAST of texts to numbers is lenient.
    ("cast('12' as int)", "12"),
    ("cast(' 12 ' as integer)", "12"),
    ("cast('12.9' as int)", "12"),
    ("cast('-12.9' as long)", "-12"),
    ("cast(t as int)", "42"),
    ("cast('abc' as int)", "NULL"),
    ("cast('' as bigint)", "NULL"),
    ("cast('99999999999' as int)", "!"),
    ("cast('99999999999' as long)", "99999999999"),
    ("cast('99999999999999999999' as long)", "!"),
    ("cast(t as double)", "42.0"),
    ("cast('1.5e2xyz' as double)", "150.0"),
    ("cast('x' as double)", "NULL"),
    ("cast('1e999' as double)", "!out of range"),
    ("cast('1e39' as float)", "!out of range"),
    ("cast('12.345abc' as decimal(5,2))", "12.35"),
    ("cast('x' as decimal)", "NULL"),
    ("cast('123456' as decimal(5,2))", "!"),
    ("cast(12.9 as int)", "12"),
    ("cast(-12.9 as int)", "-12"),
    ("cast(2.9e0 as int)", "2"),
    ("cast(l as int)", "!"),
    ("cast(tn as int)", "NULL"),
    ("cast(i as text)", "7"),
    ("cast('abcdef' as varchar(3))", "abc"),
    ("cast('abc' as varchar)", "abc"),
    ("cast(u as varchar(2))", "Äö"),
    ("cast('true' as boolean)", "true"),
    ("cast('2024-02-29' as date)", "2024-02-29"),
    ("cast('2024-02-29' as localdate)", "2024-02-29"),
    ("cast('2024-02-30' as localdate)", "!"),
    ("cast('13:14:15' as time)", "13:14:15"),
    ("cast('2024-02-29 10:00:00' as timestamp)", "2024-02-29T10:00:00"),
    ("cast('2024-02-29 10:00:00+02:00' as timestamptz)", "2024-02-29T08:00:00Z"),
    ("cast(d as timestamp)", "2024-01-31T00:00:00"),
    ("cast(ts as date)", "2024-02-29"),
    ("cast(n as numeric(10,1))", "12.3"),
    // LIKE's escape character
    ("'a%b' like 'a$%b'", "true"),
    ("'axb' like 'a$%b'", "false"),
    ("'a$b' like 'a$$b'", "true"),
    ("'a\\b' like 'a\\b'", "true"),
    ("'a\\%' like 'a\\%'", "true"),
    ("'a\\xyz' like 'a\\%'", "true"),
    ("'a%b' like 'a\\%b'", "false"),
    ("'a%b' like 'a!%b' escape '!'", "true"),
    ("'a$b' like 'a$b' escape '!'", "true"),
    ("'ab' not like 'a$_'", "true"),
    ("'a_' like 'a$_'", "true"),
    ("w like 'a$%b$_c\\d$$e'", "true"),
    ("w like concat('a$%', '%')", "true"),
    ("w like w", "false"),
    ("tn like 'a'", "NULL"),
    // A text is compared with a number as text.
    ("'10' < 9", "true"),
    ("'7' = i", "true"),
    ("'7.0' = i", "false"),
    ("t = 42", "false"),
    ("i in ('7', '8')", "true"),
    ("'7.0' in (7, 8)", "false"),
    ("i between '6' and '70'", "true"),
    ("case '7.0' when 7 then 'n' else 't' end", "t"),
    // Numbers
    ("round(2.5)", "3"),
    ("round(-2.5)", "-3"),
    ("round(f)", "3.0"),
    ("round(1.245, 2)", "1.25"),
    ("round(n, 1)", "12.3"),
    ("round(n, i)", "12.345"),
    ("round(1250, -2)", "1300"),
    ("round(i)", "7"),
    ("round(l, -1)", "!overflow"),
    ("trunc(2.9)", "2"),
    ("trunc(-2.9)", "-2"),
    ("trunc(n, 2)", "12.34"),
    ("trunc(1299, -2)", "1200"),
    ("trunc(2.99e0, 1)", "2.9"),
    ("ceil(1.2)", "2"),
    ("ceil(-1.2)", "-1"),
    ("floor(1.8)", "1"),
    ("floor(-1.2)", "-2"),
    ("floor(f)", "2.0"),
    ("ceil(i)", "7"),
    ("sign(-3)", "-1"),
    ("sign(n)", "1"),
    ("sign(zf)", "0"),
    ("power(2, 10)", "1024.0"),
    ("power(-1, 0.5)", "NULL"),
    ("power(0, -1)", "NULL"),
    ("power(10, 400)", "!out of range"),
    ("sqrt(16)", "4.0"),
    ("sqrt(-1)", "NULL"),
    ("log(1000)", "3.0"),
    ("log(8, 2)", "3.0"),
    ("log(0)", "NULL"),
    ("log(-1, 2)", "NULL"),
    ("log(8, 1)", "NULL"),
    ("ln(1)", "0.0"),
    ("ln(0)", "NULL"),
    ("exp(0)", "1.0"),
    ("exp(1000)", "!out of range"),
    ("abs(n)", "12.345"),
    ("abs(-2.5e0)", "2.5"),
    // Texts
    ("upper(u) || lower(u)", "ÄÖÜäöü"),
    ("len(u)", "3"),
    ("len('')", "0"),
    ("'a' || tn", "NULL"),
    ("'a' || 1", "a1"),
    ("1 || 2", "12"),
    ("concat('a', tn)", "NULL"),
    ("concat('a', 1, 'b', d)", "a1b2024-01-31"),
    ("concat('a')", "a"),
    ("trim('  a ') || '|'", "a|"),
    ("trim(leading 'x' from 'xxa')", "a"),
    ("trim(both 'x' from 'xax')", "a"),
    ("ltrim('  a ') || '|'", "a |"),
    ("rtrim(' a  ') || '|'", " a|"),
    ("replace('aXbX', 'X', '-')", "a-b-"),
    ("coalesce(tn, 'x')", "x"),
    ("nvl(tn, 'y')", "y"),
    ("nullif('a', 'a')", "NULL"),
    ("nullif('1', 1)", "NULL"),
    ("nullif('1.0', 1)", "1.0"),
    ("coalesce(tn, i)", "7"),
    ("upper(d)", "2024-01-31"),
    ("len(i)", "1"),
    ("trim(i)", "7"),
    ("replace(12345, 3, 'x')", "12x45"),
    ("position('2' in 12345)", "2"),
    ("instr(12345, 2)", "1"),
    ("substr(12345, 2, 2)", "23"),
    ("nullif(i, 8)", "7"),
    // Dates
    ("addday(d, 1)", "2024-02-01"),
    ("addday(d, -31)", "2023-12-31"),
    ("addmonth(d, 1)", "2024-02-29"),
    ("addmonth(d, 13)", "2025-02-28"),
    ("addyear(cast('2024-02-29' as date), 1)", "2025-02-28"),
    ("addmonth(ts, 12)", "2025-02-28T13:14:15.678901"),
    ("addmonth(tz, 1)", "2024-03-29T13:14:15.678901Z"),
    ("addyear(d, 100000)", "!out of range"),
    ("addday(d, ln)", "NULL"),
    ("getyear(d)", "2024"),
    ("getmonth(ts)", "2"),
    ("getday(tz)", "29"),
    ("gethour(ts)", "13"),
    ("getminute(ts)", "14"),
    ("getsecond(ts)", "15"),
    ("extract(year from d)", "2024"),
    ("extract(quarter from d)", "1"),
    ("extract(hour from ts)", "13"),
    ("getdaysbetween(d, cast('2024-02-29' as date))", "29"),
    ("getdaysbetween(cast('2024-02-29' as date), d)", "-29"),
    ("getdaysbetween(d, ts)", "29"),
    ("getdaysbetween(ts, d)", "-29"),
    ("formatdate('yyyy/MM/dd', d)", "2024/01/31"),
    ("formatdate('dd MMM yyyy HH:mm:ss.SSS', ts)", "29 Feb 2024 13:14:15.678"),
    ("formatdate('h:mm a', ts)", "1:14 PM"),
    ("formatdate('yyyy-MM-dd''T''HH:mmZ', tz)", "2024-02-29T13:14+0000"),
    ("formatdate('ww', d)", "!the letter w"),
    ("to_localdate('dd/MM/yyyy', '29/02/2024')", "2024-02-29"),
    ("to_localdate('dd/MM/yyyy', '30/02/2024')", "!does not match the pattern"),
    ("to_localdate('yyyy', tn)", "NULL"),
    ("to_timestamp('yyyy-MM-dd HH:mm:ss', '2024-02-29 01:02:03')", "2024-02-29T01:02:03"),
    ("to_timestamp('yyyyMMdd', 'x')", "!does not match the pattern"),
    ("now() = current_timestamp", "true"),
    ("current_date = cast(now() as date)", "true"),
    ("formatdate('yyyy', now()) >= '2024'", "true"),
    // Expressions
    ("case when i > 5 then 'big' else 'small' end", "big"),
    ("(select max(v) from many)", "5"),
    ("i is not null and tn is null", "true"),
    ("not b or i in (1, 7)", "true"),
    ("\"i\" + `i`", "14"),
    ("1 # a comment\n", "1"),
];

#[tokio::test]
async fn expressions_mean_what_they_mean_in_vql() {
    let bench = bench();
    let mut wrong = Vec::new();
    for (expression, expected) in EXPRESSIONS {
        let found = match answer(&bench, &format!("select {expression} from one")).await {
            Ok(rows) => rows.join(";"),
            Err(error) if expected.starts_with('!') && error.message.contains(&expected[1..]) => {
                (*expected).to_owned()
            }
            Err(error) => format!("error: {} {:?}", error.message, error.kind),
        };
        if found != *expected {
            wrong.push(format!("{expression}: {found}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn queries_are_vql() {
    let bench = bench();
    for (sql, expected) in [
        ("select k, sum(v) from many group by k order by k nulls last", "a|4;b|NULL;NULL|5"),
        ("select count(*), count(v), count(distinct k) from many", "4|3|2"),
        ("select avg(v), min(v), max(v) from many", "3.0|1|5"),
        ("select stdev(v), var(v) from many where k = 'a'", "1.4142135623730951|2.0"),
        ("select stdev(v) from many where v = 1", "NULL"),
        ("select sum(x) from many", "4294967296"),
        ("select sum(m), sum(distinct m) from many", "4.03|4.03"),
        ("select sum(distinct x) from many", "2147483648"),
        ("select sum(v) from many where v > 100", "NULL"),
        ("select group_concat(v) from many where k = 'a'", "1,3"),
        ("select group_concat(distinct k, '-') from many where k = 'a'", "a"),
        ("select group_concat(k) from many where k is null", "NULL"),
        ("select k, sum(v) over (partition by k order by v) from many where k = 'a' order by v", "a|1;a|4"),
        (
            "select sum(v) over (order by v rows between 1 preceding and current row) from many where v is not null order by v",
            "1;4;8",
        ),
        (
            "select row_number() over (order by v), rank() over (order by v) from many where v < 4 order by v",
            "1|1;2|2",
        ),
        (
            "select lag(v) over (order by v), lead(v, 1, 0) over (order by v) from many where v < 4 order by v",
            "NULL|3;1|0",
        ),
        ("select k from many minus select 'a' from one order by k nulls last", "b;NULL"),
        ("select k from many intersect select 'a' from one", "a"),
        ("select v from many union all select 9 from one order by v limit 2 offset 1", "3;5"),
        ("select v from many where v is not null order by v offset 1 rows fetch first 1 rows only", "3"),
        ("select distinct k from many where k is not null order by k", "a;b"),
        ("with a as (select v from many where v > 1), b as (select v from a) select sum(v) from b", "8"),
        ("select a.v from many a inner nested ordered join many b on a.v = b.v order by a.v", "1;3;5"),
        ("select count(*) from many a left outer hash reverseorder join one b on a.v = b.i", "4"),
        ("select count(*) from many a full merge join many b using (v)", "5"),
        ("select count(*) from many a cross join many b context ('x' = 'y') trace", "16"),
        ("select count(*) from (select * from many) x, one", "4"),
        ("select 1 + 1 from dual()", "2"),
        ("select max from (select max(v), max(h) from many) x", "5"),
        ("select m.v from sales.many m where exists (select 1 from one where i = m.v + 4)", "3"),
        ("select k from many group by k having count(*) > 1", "a"),
        ("select count(*) from one a join (select '7' as x from one) b on a.i = b.x", "1"),
        ("select count(*) from one a join (select '7.0' as x from one) b on a.i = b.x", "0"),
        ("select i from one where '7' in (select i from one)", "7"),
        ("select i from one where '7.0' in (select i from one)", ""),
        ("select i from one where i in (select '7' from one)", "7"),
        ("select i from one where i not in (select '7' from one)", ""),
        ("select i from one where exists (select * from many where v = 3)", "7"),
    ] {
        let found = answer(&bench, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert_eq!(found.join(";"), expected, "{sql}");
    }
    for (sql, expected) in [
        ("select sum(h) from many where v is not null", "overflow in SUM"),
        ("select sum(huge) from many", "overflow in SUM"),
        ("select sum(h) over () from many where h > 0", "overflow in SUM"),
        ("select k, sum(h) from many where k = 'a' group by k", "overflow in SUM"),
    ] {
        let error = answer(&bench, sql).await.unwrap_err();
        assert!(error.message.contains(expected), "{sql}: {error:?}");
    }
    // A sum that is out of range only on the way is not an error.
    assert_eq!(answer(&bench, "select sum(h) - sum(h) from many where h < 0").await.unwrap(), ["0"]);
}

/// What a caller writes beyond views, because the parameter language does.
const CALLERS: &[(&str, &str)] = &[
    ("date_trunc('month', ts)", "2024-02-01T00:00:00"),
    ("date_trunc('day', tz at time zone 'Europe/Berlin')::date", "2024-02-29"),
    ("DATE_TRUNC_IN('hour', (tz)::timestamptz, 'Asia/Kolkata')", "2024-02-29T12:30:00Z"),
    ("(ts)::timestamp", "2024-02-29T13:14:15.678901"),
    ("NULL::date", "NULL"),
    ("(date_trunc('week', ts + INTERVAL '1 day') - INTERVAL '1 day')::date", "2024-02-25"),
    ("ts >= TIMESTAMP '2024-02-29 00:00:00'", "true"),
    ("d = DATE '2024-01-31'", "true"),
    ("tz < TIMESTAMPTZ '2024-02-29 13:14:16+00:00'", "true"),
];

#[tokio::test]
async fn callers_can_use_the_parameter_language() {
    let bench = bench();
    let mut planner = bench.engine.view_planner();
    for (expression, expected) in CALLERS {
        let sql = format!("select {expression} from one");
        let found = answer(&bench, &sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert_eq!(found, [*expected], "{sql}");
        let error = planner.names(&sql, "sales").unwrap_err();
        assert!(error.message.contains("in a view is not available"), "{sql}: {error:?}");
        assert!(error.position.is_some(), "{sql}: {error:?}");
    }
}

/// A view that is refused, what the error names, and its position.
const REFUSED: &[(&str, &str, u32)] = &[
    ("select to_hex(i) from one", "to_hex", 8),
    ("select i, regexp_like(t, 'a') from one", "regexp_like", 11),
    ("select vql_add(1, 2) from one", "vql_add", 8),
    ("select string_agg(t, ',') from one", "string_agg", 8),
    ("select median(i) from one", "median", 8),
    ("select random() from one", "random", 8),
    ("select flatten(t) from one", "flatten", 8),
    ("select nest(t) from one", "nest", 8),
    ("select arrow_typeof(i) from one", "arrow_typeof", 8),
    ("select date_trunc('day', d) from one", "date_trunc", 8),
    ("select sales.upper(t) from one", "upper", 8),
    ("select current_time from one", "current_time", 8),
    ("select current_user from one where é = a.b.c.d", "the name a.b.c.d", 40),
    ("select i % 2 from one", "unexpected character", 10),
    ("select i | 2 from one", "unexpected character", 10),
    ("select a[1] from one", "unexpected character", 9),
    ("select i ^ 2 from one", "unexpected character", 10),
    ("select t ~ 'a' from one", "unexpected character", 10),
    ("select try_cast(t as int) from one", "TRY_CAST", 17),
    ("select cast(t as json) from one", "the type JSON", 13),
    ("select cast(t as decimal(50,2)) from one", "the type", 13),
    ("select i::text from one", "::", 8),
    ("select t ilike 'a' from one", "ILIKE", 8),
    ("select t similar to 'a' from one", "SIMILAR TO", 8),
    ("select t like 'a' escape 'xy' from one", "ESCAPE", 26),
    ("select count(*) filter (where b) from one", "expected the end", 24),
    ("select row_number() from one", "row_number needs OVER", 8),
    ("select upper(t) over () from one", "upper cannot have OVER", 8),
    ("select lag(i) ignore nulls over (order by i) from one", "option of NULLs", 8),
    ("select sum(i) over w from one window w as (order by i)", "WINDOW", 1),
    ("select count() from one", "count takes 1", 8),
    ("select upper() from one", "upper takes 1", 8),
    ("select upper(*) from one", "an argument of this form", 8),
    ("select upper(distinct t) from one", "DISTINCT", 8),
    ("select * from one natural join many", "NATURAL", 32),
    ("select * from one join many", "a join needs ON or USING", 24),
    ("select * from one, lateral (select 1) x", "LATERAL", 29),
    ("select * from generate_series(1, 2)", "generate_series", 15),
    ("select * from one tablesample (10 percent)", "", 0),
    ("select * from unnest(1)", "unnest", 15),
    ("select * from a.b.c", "a.b.c", 15),
    ("select distinct on (i) i from one", "DISTINCT ON", 1),
    ("select i from one except select v from many", "MINUS", 26),
    ("select i from one intersect all select v from many", "INTERSECT ALL", 33),
    ("select i from one group by rollup (i)", "rollup", 28),
    ("select i from one group by all", "GROUP BY ALL", 1),
    ("select i from one qualify i = 1", "", 0),
    ("select i from one limit i", "whole number", 25),
    ("select i from one limit 1 fetch first 1 rows only", "either LIMIT or FETCH", 1),
    ("select i from one fetch first 1 rows with ties", "WITH TIES", 1),
    ("with recursive r as (select 1 as a union all select a from r) select a from r", "RECURSIVE", 1),
    ("values (1)", "VALUES", 8),
    ("select $1 from one", "$1", 8),
    ("select @x from one", "unexpected character", 8),
    ("select interval '1 day' from one", "INTERVAL", 17),
    ("select date '2024-01-01' from one", "a typed literal", 13),
    ("select (1, 2) from one", "(1, 2)", 9),
    ("select i 'x' from one", "a name is written", 8),
    ("select group_concat(t, t) from one", "needs a constant here", 24),
    ("select lag(i, i) over (order by i) from one", "needs a constant here", 15),
    ("select i, exists (select 1 from many) from one", "in WHERE, HAVING and ON only", 19),
    ("select case when i in (select v from many) then 1 end from one", "in WHERE, HAVING and ON only", 18),
    ("select i from one for update", "FOR UPDATE", 0),
    ("select i fro m one x y", "Exception parsing query near 'm'", 14),
    ("select", "near 'end of text'", 7),
    ("select 'a", "it is not closed", 8),
    ("select 1; select 2", "exactly one", 9),
    ("select any_value(i) from one", "any_value", 8),
    ("select i into x from one", "SELECT INTO", 0),
    ("insert into one values (1)", "only SELECT", 0),
    ("drop view one", "only SELECT", 0),
    ("explain select 1", "EXPLAIN", 0),
];

#[tokio::test]
async fn views_are_refused_by_name_and_position() {
    let bench = bench();
    let mut planner = bench.engine.view_planner();
    let mut wrong = Vec::new();
    for (sql, what, position) in REFUSED {
        match planner.names(sql, "sales") {
            Ok(names) => wrong.push(format!("{sql}: {names:?}")),
            Err(error) => {
                let same = *position == 0 || error.position == Some(*position);
                if !error.message.to_lowercase().contains(&what.to_lowercase()) || !same {
                    wrong.push(format!("{sql}: {} at {:?}, not {position}", error.message, error.position));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for sql in ["delete from one", "create table x as select 1", "set x = 1"] {
        assert_eq!(answer(&bench, sql).await.unwrap_err().kind, SourceErrorKind::NotReadOnly, "{sql}");
    }
}

fn columns(table: &Arc<dyn Table>, called: &str) -> (TableName, SchemaRef) {
    (name(called), table.schema())
}

#[tokio::test]
async fn stars_are_spelled_out() {
    let bench = bench();
    let mut planner = bench.engine.view_planner();
    let small = |called: &str, names: &[&str]| {
        let fields: Vec<_> = names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
        (TableName::new("sales", called), Arc::new(Schema::new(fields)) as SchemaRef)
    };
    let mut known = vec![small("a", &["id", "x"]), small("b", &["id", "Y y"]), small("q\"", &["z"])];
    known.push((
        TableName::new("other", "a"),
        Arc::new(Schema::new(vec![Field::new("o", DataType::Utf8, true)])),
    ));
    for (sql, expected) in [
        ("select * from a", "select \"a\".\"id\", \"a\".\"x\" from a"),
        ("select /* é */ * from a # end", "select /* é */ \"a\".\"id\", \"a\".\"x\" from a # end"),
        ("select t.*, 1 from a t", "select \"t\".\"id\", \"t\".\"x\", 1 from a t"),
        ("select b . * from a, b", "select \"b\".\"id\", \"b\".\"Y y\" from a, b"),
        ("select other.a.* from other.a", "select \"other\".\"a\".\"o\" from other.a"),
        (
            "select * from a join b using (id)",
            "select \"a\".\"id\", \"a\".\"x\", \"b\".\"Y y\" from a join b using (id)",
        ),
        ("select x from (select * from a) s", "select x from (select \"a\".\"id\", \"a\".\"x\" from a) s"),
        (
            "with c as (select * from a), d as (select * from c) select * from d",
            "with c as (select \"a\".\"id\", \"a\".\"x\" from a), d as (select \"c\".\"id\", \"c\".\"x\" from c) \
             select \"d\".\"id\", \"d\".\"x\" from d",
        ),
        (
            "select x from a where exists (select * from b join b c on c.id = a.id)",
            "select x from a where exists (select \"b\".\"id\", \"b\".\"Y y\", \"c\".\"id\", \"c\".\"Y y\" from b \
             join b c on c.id = a.id)",
        ),
        ("select * from \"q\"\"\"", "select \"q\"\"\".\"z\" from \"q\"\"\""),
        ("select count(*) from a", "select count(*) from a"),
        (
            "select * from a nested join other.a o on true context('a'='b')",
            "select \"a\".\"id\", \"a\".\"x\", \"o\".\"o\" from a nested join other.a o on true context('a'='b')",
        ),
        (
            "select * from a union select * from a",
            "select \"a\".\"id\", \"a\".\"x\" from a union select \"a\".\"id\", \"a\".\"x\" from a",
        ),
        (
            "with c as (select * from b) select * from c where id in (with d as (select * from a) select id from d)",
            "with c as (select \"b\".\"id\", \"b\".\"Y y\" from b) select \"c\".\"id\", \"c\".\"Y y\" from c where id in \
             (with d as (select \"a\".\"id\", \"a\".\"x\" from a) select id from d)",
        ),
    ] {
        let planned = planner.plan(sql, "sales", &known).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert_eq!(planned.sql, expected, "{sql}");
        let again = planner.plan(&planned.sql, "sales", &known).unwrap();
        assert_eq!(again, planned, "{sql}");
    }
    let error = planner.plan("select * from a, b", "sales", &known).unwrap_err();
    assert!(error.message.contains("two columns named \"id\""), "{error:?}");
    let error = planner.plan("select nosuch from a", "sales", &known).unwrap_err();
    assert!(error.message.contains("nosuch") && error.position == Some(8), "{error:?}");
    let error = planner.plan("select * from nosuch", "sales", &known).unwrap_err();
    assert!(error.message.contains("View 'nosuch' not found"), "{error:?}");
    let error = planner.plan("select upper(x) + 1 from a", "sales", &known).unwrap_err();
    assert!(error.message.contains("needs numbers, not text"), "{error:?}");
}

#[tokio::test]
async fn names_are_listed_as_often_as_they_are_written() {
    let bench = bench();
    let mut planner = bench.engine.view_planner();
    let names = |names: &[(&str, &str)]| {
        names.iter().map(|(schema, name)| TableName::new(*schema, *name)).collect::<Vec<_>>()
    };
    for (sql, expected) in [
        (
            "select 1 from A join \"B\" on true join a on true",
            vec![("sales", "a"), ("sales", "B"), ("sales", "a")],
        ),
        ("select 1 from other.a where x in (select y from `C`)", vec![("other", "a"), ("sales", "C")]),
        ("with a as (select 1 from a) select 1 from a, b", vec![("sales", "a"), ("sales", "b")]),
        (
            "with a as (select 1 from x), b as (select 1 from a) select 1 from b join b c on true",
            vec![("sales", "x")],
        ),
        (
            "select 1 from (with a as (select 1 from y) select 1 from a) z, a",
            vec![("sales", "y"), ("sales", "a")],
        ),
        ("select 1 from dual()", vec![]),
        (
            "select 1 from a union select 1 from b minus select 1 from a",
            vec![("sales", "a"), ("sales", "b"), ("sales", "a")],
        ),
    ] {
        assert_eq!(planner.names(sql, "sales").unwrap(), names(&expected), "{sql}");
    }
}

#[tokio::test]
async fn planned_columns_have_stored_types() {
    let bench = bench();
    let mut planner = bench.engine.view_planner();
    let known = [columns(&one(), "one"), columns(&many(), "many")];
    let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    for (expression, expected) in [
        ("i", DataType::Int32),
        ("i + i", DataType::Int32),
        ("i + 1", DataType::Int64),
        ("count(*) over ()", DataType::Int64),
        ("row_number() over (order by i)", DataType::Int64),
        ("rank() over (order by i)", DataType::Int64),
        ("sum(i) over ()", DataType::Int64),
        ("avg(i) over ()", DataType::Float64),
        ("sum(n) over ()", DataType::Decimal128(20, 3)),
        ("upper(t)", DataType::Utf8),
        ("null", DataType::Utf8),
        ("case when b then 1 else l end", DataType::Int64),
        ("now()", micros(Some("UTC"))),
        ("cast(d as timestamp)", micros(None)),
        ("cast(ts as timestamptz)", micros(Some("UTC"))),
        ("cast('1' as time)", DataType::Time64(TimeUnit::Microsecond)),
        ("current_date", DataType::Date32),
        ("cast(t as decimal)", DataType::Decimal128(38, 10)),
        ("cast(t as long)", DataType::Int64),
        ("cast(t as float)", DataType::Float32),
        ("round(n, 1)", DataType::Decimal128(9, 1)),
        ("getyear(d)", DataType::Int64),
        ("1.50", DataType::Decimal128(3, 2)),
        ("1e1", DataType::Float64),
        ("b and true", DataType::Boolean),
        ("(select v from many)", DataType::Int64),
    ] {
        let sql = format!("select {expression} as c from one");
        let planned = planner.plan(&sql, "sales", &known).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert_eq!(planned.schema.field(0).data_type(), &expected, "{sql}");
    }
    let planned = planner.plan("select i as c from one union select l from one", "sales", &known).unwrap();
    assert_eq!(planned.schema.field(0).data_type(), &DataType::Int64);
}

#[tokio::test]
async fn views_return_their_stored_columns() {
    let fields = |fields: &[(&str, DataType)]| {
        let fields: Vec<_> =
            fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect();
        Some(Arc::new(Schema::new(fields)) as SchemaRef)
    };
    let stored = |schema: &str, sql: &str, columns| View { columns, ..view(schema, sql) };
    let views = vec![
        (
            name("base"),
            stored(
                "sales",
                "select i as a, t as b from one",
                fields(&[("b", DataType::Utf8), ("a", DataType::Int64)]),
            ),
        ),
        (name("above"), stored("sales", "select a, c from base", fields(&[("a", DataType::Int64)]))),
        (name("top"), stored("sales", "select a from above", fields(&[("a", DataType::Int64)]))),
        (
            name("lost"),
            stored(
                "sales",
                "select a from base",
                fields(&[("a", DataType::Int64), ("gone", DataType::Utf8)]),
            ),
        ),
        (name("broken"), stored("sales", "select to_hex(a) from base", None)),
        (name("dangling"), stored("sales", "select a from nowhere", None)),
        (name("dangling_too"), stored("sales", "select a from other.nowhere", None)),
        (
            TableName::new("other", "far"),
            stored("sales", "select k, sum(v) as total from many group by k", None),
        ),
        (TableName::new("other", "near"), stored("other", "select total from far where k = 'a'", None)),
        (name("shown"), stored("other", "select * from near", fields(&[("total", DataType::Utf8)]))),
        (name("endless"), stored("sales", "select * from endless", None)),
    ];
    let bench = Bench::new(tables(views));
    assert_eq!(answer(&bench, "select * from base").await.unwrap(), ["  42abc|7"]);
    assert_eq!(answer(&bench, "select * from shown").await.unwrap(), ["4"]);
    assert_eq!(answer(&bench, "select total from other.near").await.unwrap(), ["4"]);
    for (sql, expected) in [
        ("select * from above", &["sales.above", "c"] as &[&str]),
        ("select * from top", &["sales.above", "c"]),
        ("select * from lost", &["sales.lost", "\"gone\""]),
        ("select * from broken", &["sales.broken", "to_hex"]),
        ("select * from dangling", &["sales.dangling", "nowhere"]),
        ("select * from dangling_too", &["sales.dangling_too", "other.nowhere"]),
        ("select * from endless", &["sales.endless"]),
    ] {
        let error = answer(&bench, sql).await.unwrap_err();
        assert!(expected.iter().all(|part| error.message.contains(part)), "{sql}: {error:?}");
        assert_eq!(error.position, None, "{sql}");
    }
    let error = answer(&bench, "select a, nosuch from base").await.unwrap_err();
    assert_eq!(error.position, Some(11), "{error:?}");
}

fn chain(count: usize, sql: impl Fn(&str) -> String) -> Virtual {
    let views = (0..count).map(|at| {
        let before = if at == 0 { "one".to_owned() } else { format!("v{}", at - 1) };
        (name(&format!("v{at}")), view("sales", &sql(&before)))
    });
    tables(views.collect())
}

#[tokio::test]
async fn views_that_double_are_refused_quickly() {
    let bench =
        Bench::new(chain(40, |before| format!("select a.i from {before} a join {before} b on a.i = b.i")));
    let started = Instant::now();
    let error = answer(&bench, "select * from v39").await.unwrap_err();
    assert!(error.message.contains("more than 1000 tables"), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let sql = "with a as (select * from v8), b as (select * from a, a c) select count(*) from b, b c";
    let error = answer(&bench, sql).await.unwrap_err();
    assert!(error.message.contains("more than 1000 tables"), "{error:?}");
    assert_eq!(answer(&bench, "select * from v4").await.unwrap(), ["7"]);
}

#[tokio::test]
async fn views_nest_64_deep() {
    let bench = Bench::new(chain(65, |before| format!("select i from {before}")));
    assert_eq!(answer(&bench, "select i from v63").await.unwrap(), ["7"]);
    let error = answer(&bench, "select i from v64").await.unwrap_err();
    assert!(error.message.contains("more than 64 nested views"), "{error:?}");
}

#[tokio::test]
async fn queries_nest_64_deep() {
    let bench = bench();
    let mut planner = bench.engine.view_planner();
    let nested = |levels: usize| {
        (1..levels).fold("select i from one".to_owned(), |sql, _| format!("select i from ({sql}) x"))
    };
    let known = [columns(&one(), "one")];
    assert_eq!(planner.plan(&nested(64), "sales", &known).unwrap().schema.fields().len(), 1);
    let error = planner.plan(&nested(65), "sales", &known).unwrap_err();
    assert!(error.message.contains("more than 64 levels"), "{error:?}");
    for hostile in [
        nested(2_000),
        "select 1 from ((select 1 from ".repeat(60),
        "select 1 where 1 in ((select 1 where 1 in ".repeat(60),
        "select 1 from (((select 1 where ((".repeat(60),
        format!("select {}1{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("select {}1", "- ".repeat(20_000)),
        format!("select {}true", "not ".repeat(20_000)),
        format!("select 1{}", " + 1".repeat(29_000)),
        format!("select 1{}", " + 1".repeat(200_000)),
        format!("select i from one{}", " union select i from one".repeat(20_000)),
        format!("select i from one where i in ({}1)", "1,".repeat(100_000)),
        format!("select {}1{} from one", "case when b then ".repeat(5_000), " end".repeat(5_000)),
    ] {
        // A result or an error; either way it ends.
        let _ = planner.plan(&hostile, "sales", &known);
    }
    assert!(planner.plan("select i from one", "sales", &known).is_ok());
    let long = format!("select i from one where {}", vec!["i = 1"; 2_000].join(" or "));
    assert!(answer(&bench, &long).await.is_err());
}

fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "select ",
        "*",
        "a.*",
        " from ",
        "a",
        "b",
        " join ",
        " nested ",
        " parallel ",
        "4",
        " ordered ",
        " on ",
        "true",
        " using (id)",
        "(",
        ")",
        ",",
        " as ",
        "\"",
        "`",
        "'",
        "''",
        "x",
        "id",
        ".",
        " where ",
        " = ",
        "1",
        "--",
        "\n",
        "/*",
        "*/",
        "#",
        " context ",
        " trace",
        ";",
        " union ",
        " minus ",
        "with c as (",
        "é",
        "$",
        "||",
        "::",
        " like ",
        "over (",
        "sum(",
        "count(*)",
        " group by ",
        " order by ",
        " limit ",
        "cast(",
        " in (",
        "case when ",
        " then ",
        " end",
    ])
}

/// Numbers near the ends of their range.
fn long() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        -3..4_i64,
        (0..4_i64).prop_map(|n| i64::MAX - n),
        (0..4_i64).prop_map(|n| i64::MIN + n)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A result is exact, NULL for a zero divisor, or an error.
    #[test]
    fn integers_never_wrap(left in long(), right in long()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let one = table(vec![("a", Arc::new(Int64Array::from(vec![left]))), ("b", Arc::new(Int64Array::from(vec![right])))]);
        let bench = Bench::new(Virtual(Tables { tables: vec![(name("one"), one)], views: Vec::new() }));
        let (a, b) = (i128::from(left), i128::from(right));
        let zero = right == 0;
        for (expression, expected) in [
            ("a + b", Some(a + b)),
            ("a - b", Some(a - b)),
            ("a * b", Some(a * b)),
            ("-a", Some(-a)),
            ("abs(a)", Some(a.abs())),
            ("a / b", (!zero).then(|| a / b)),
            ("round(a, -2)", Some((a + a.signum() * 50) / 100 * 100)),
            ("sign(a)", Some(a.signum())),
        ] {
            let found = runtime.block_on(answer(&bench, &format!("select {expression} from one")));
            match expected {
                None => prop_assert_eq!(found.unwrap(), ["NULL"]),
                Some(value) if i64::try_from(value).is_ok() => {
                    prop_assert_eq!(found.unwrap(), [value.to_string()], "{}", expression);
                }
                Some(_) => prop_assert!(found.unwrap_err().message.contains("verflow"), "{}", expression),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_is_planned_or_refused(pieces in prop::collection::vec(piece(), 1..25)) {
        let bench = bench();
        let mut planner = bench.engine.view_planner();
        let known: Vec<_> = ["a", "b"].map(|called| {
            let fields = ["id", "x"].map(|column| Field::new(format!("{column}{}", if column == "id" { "" } else { called }), DataType::Int64, true));
            (name(called), Arc::new(Schema::new(fields.to_vec())) as SchemaRef)
        }).to_vec();
        let sql = pieces.concat();
        for sql in [sql.clone(), format!("select {sql} from a"), format!("select * from a join b on true where {sql}")] {
            let _ = planner.names(&sql, "sales");
            if let Ok(planned) = planner.plan(&sql, "sales", &known) {
                let again = planner.plan(&planned.sql, "sales", &known);
                prop_assert_eq!(again.unwrap(), planned, "{}", sql);
            }
        }
    }

    #[test]
    fn spelled_out_views_are_planned_as_before(
        first in prop::sample::select(vec!["*", "a.*", "b.*", "a.*, b.xb", "xa, b.*", "count(*)", "xa + xb"]),
        from in prop::sample::select(vec!["a join b on a.id = b.id", "a join b using (id)", "a, b", "(select * from a) a cross join b", "a left merge join b on true"]),
        tail in prop::sample::select(vec!["", " where xa > 1", " order by 1", " limit 3", " context ('a' = 'b')", " # end"]),
        inside in any::<bool>(),
    ) {
        let bench = bench();
        let mut planner = bench.engine.view_planner();
        let known: Vec<_> = [("a", "xa"), ("b", "xb")].map(|(called, column)| {
            let fields = ["id", column].map(|column| Field::new(column, DataType::Int64, true));
            (name(called), Arc::new(Schema::new(fields.to_vec())) as SchemaRef)
        }).to_vec();
        let sql = if inside { format!("with w as (select {first} from {from}) select * from w{tail}") } else { format!("select {first} from {from}{tail}") };
        if let Ok(planned) = planner.plan(&sql, "sales", &known) {
            let again = planner.plan(&planned.sql, "sales", &known);
            prop_assert_eq!(again.unwrap(), planned, "{}", sql);
        }
    }
}

/// Prints what planning 1,000 views takes, and what DataFusion's own parser and planner take for the same.
#[tokio::test]
#[ignore = "measures time"]
async fn planning_is_at_most_five_times_slower_than_datafusion() {
    use datafusion::prelude::SessionContext;

    let fields = [("id", DataType::Int64), ("name", DataType::Utf8), ("total", DataType::Float64)];
    let fields: Vec<_> = fields.map(|(name, kind)| Field::new(name, kind, true)).to_vec();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let sql = |at: usize| {
        format!(
            "select a.id as id, upper(a.name) as name, b.total as total from t{} a inner join t{} b on a.id = b.id \
             where b.total > {at} and a.name like 'x%'",
            at % 50,
            (at + 1) % 50
        )
    };
    let context = SessionContext::new();
    for at in 0..50 {
        let empty = datafusion::datasource::empty::EmptyTable::new(Arc::clone(&schema));
        context.register_table(format!("t{at}"), Arc::new(empty)).unwrap();
    }
    let bench = bench();
    let mut planner = bench.engine.view_planner();
    let known = |at: usize| (name(&format!("t{at}")), Arc::clone(&schema));
    for round in 0..3 {
        let started = Instant::now();
        for at in 0..1_000 {
            context.state().create_logical_plan(&sql(at)).await.unwrap();
        }
        let theirs = started.elapsed();
        let started = Instant::now();
        for at in 0..1_000 {
            planner.names(&sql(at), "sales").unwrap();
            planner.plan(&sql(at), "sales", &[known(at % 50), known((at + 1) % 50)]).unwrap();
        }
        let ours = started.elapsed();
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        println!("round {round}: DataFusion {theirs:?}, views {ours:?}, ratio {ratio:.2}");
        assert!(round == 0 || ratio < 5.0, "{ratio}");
    }
}
