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
use crate::vql_cases::{CALLERS, EXPRESSIONS, REFUSED};

/// A catalog of virtual databases; unqualified names of a statement are in `sales`.
pub struct Virtual(pub Tables);

impl Catalog for Virtual {
    fn default_schema<'a>(&'a self, _: &'a Reader) -> &'a str {
        "sales"
    }

    fn flavour(&self) -> Flavour {
        Flavour::Vql
    }

    /// Everything there is, which may be more than what is below these names.
    fn resolve<'a>(
        &'a self,
        _: &'a Reader,
        _: &'a [TableName],
    ) -> BoxFuture<'a, Result<Tables, SourceError>> {
        let all = Tables { tables: self.0.tables.clone(), views: self.0.views.clone() };
        Box::pin(std::future::ready(Ok(all)))
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
    let error = answer(&bench, "select total from other.near").await.unwrap_err();
    assert!(error.message.contains("in another database"), "{error}");
    // A table of the statement that a view before it reads too.
    let both = "select s.total, m.v from shown s, many m where m.v = 5";
    assert_eq!(answer(&bench, both).await.unwrap(), ["4|5"]);
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

/// A table that says how many rows it has.
struct Counted(Arc<dyn Table>, Option<u64>);

impl Table for Counted {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn applies(&self, condition: &Condition) -> Applies {
        self.0.applies(condition)
    }

    fn row_count(&self) -> Option<u64> {
        self.1
    }

    fn scan(&self, scan: Scan) -> BatchStream {
        self.0.scan(scan)
    }
}

/// A join keeps its smaller side in memory, whichever is written first. The plan shows that side first.
#[tokio::test]
async fn the_smaller_side_of_a_join_is_kept() {
    for (large, small, expected) in [
        (Some(1_000_000), Some(100_000), ["s", "l"]),
        (Some(1_000_000), Some(10), ["s", "l"]),
        (Some(10), Some(1_000), ["l", "s"]),
        (Some(1_000), None, ["l", "s"]),
    ] {
        let side = |column: &str, count| {
            let rows: ArrayRef = Arc::new(Int64Array::from(vec![1]));
            (name(column), Arc::new(Counted(table(vec![(column, rows)]), count)) as Arc<dyn Table>)
        };
        let tables = vec![side("l", large), side("s", small)];
        let bench = Bench::new(Virtual(Tables { tables, views: Vec::new() }));
        let explained = answer(&bench, "EXPLAIN SELECT l.l FROM l INNER JOIN s ON l.l = s.s").await.unwrap();
        let scans: Vec<&String> =
            explained.iter().filter(|line| line.contains("StreamingTableExec")).collect();
        let columns = expected.map(|column| format!("projection=[{column}]"));
        assert!(
            scans.len() == 2 && scans.iter().zip(&columns).all(|(line, column)| line.contains(column)),
            "{large:?} and {small:?}: {explained:#?}"
        );
        assert_eq!(answer(&bench, "SELECT l.l FROM l INNER JOIN s ON l.l = s.s").await.unwrap(), ["1"]);
    }
}

/// The planner collects the conditions of all views at the table.
#[tokio::test]
async fn conditions_of_many_views_are_refused_before_they_overflow_the_stack() {
    let conditions: Vec<String> = (0..250).map(|number| format!("i <> {}", number + 100)).collect();
    let filter = conditions.join(" and ");
    let bench = Bench::new(chain(40, |before| format!("select i from {before} where {filter}")));
    let error = answer(&bench, "select * from v39").await.unwrap_err();
    assert!(error.message.contains("more than 8000 parts together"), "{error:?}");
    assert_eq!(answer(&bench, "select * from v6").await.unwrap(), ["7"]);
}

/// A float is compared with a number with a point as a float, however large or small it is, as in PostgreSQL.
#[tokio::test]
async fn floats_and_decimals_are_compared_as_floats() {
    let rows = vec![2e15, 0.5, 1e-18, f64::NAN, 0.300_000_000_000_000_04, f64::INFINITY];
    let floats = table(vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5, 6]))),
        ("f", Arc::new(Float64Array::from(rows))),
        ("r", Arc::new(Float32Array::from(vec![2e7, 0.5, 1e-9, 0.0, 0.3, 1.0]))),
    ]);
    let bench = Bench::new(Virtual(Tables { tables: vec![(name("t"), floats)], views: Vec::new() }));
    for (condition, expected) in [
        ("f > 0.25 and id <> 4", "1,2,5,6"),
        ("id in (2, 3) and f > 0.0", "2,3"),
        ("f = 0.3", ""),
        ("f between 0.1 and 0.9", "2,5"),
        ("f in (0.5, 0.1, 0.2, 0.3, 0.4)", "2"),
        ("f * 2 > 1.5 and id <> 4", "1,6"),
        ("case when f > 0.5 then f else 0.5 end = 2e15", "1"),
        ("coalesce(f, 0.0) = 0.5", "2"),
        ("nullif(f, 0.5) is null", "2"),
        ("case f when 0.5 then 1 else 0 end = 1", "2"),
        ("r > 0.25", "1,2,5,6"),
        ("0.4 < r", "1,2,6"),
    ] {
        let sql = format!("select id from t where {condition} order by id");
        let found = answer(&bench, &sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(found.join(","), expected, "{sql}");
    }
    assert_eq!(answer(&bench, "select max(f) > 0.1 from t where id < 4").await.unwrap(), ["true"]);
}

/// Rows of several selects have the floats that they were made of, in a view as in a statement.
#[tokio::test]
async fn rows_are_put_together_and_joined_as_values_are_compared() {
    let mixed = table(vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2]))),
        ("f", Arc::new(Float64Array::from(vec![1e300, 0.5]))),
        ("n", Arc::new(Decimal128Array::from(vec![50, 7]).with_precision_and_scale(12, 2).unwrap())),
        ("t", Arc::new(StringArray::from(vec!["01", "2"]))),
    ]);
    for (sql, expected) in [
        ("select f from t union all select n from t", "0.07;0.5;0.5;1e300"),
        ("select n from t union all select f from t", "0.07;0.5;0.5;1e300"),
        ("select n from t union select f from t", "0.07;0.5;1e300"),
        ("select n from t union all select 1.5 from one union all select f from t", "0.07;0.5;0.5;1.5;1e300"),
        ("select n + 1 as v from (select n from t union all select f from t) x", "1.07;1.5;1.5;1e300"),
        ("select n from (select n from t union all select f from t) x where n < 0.3", "0.07"),
        ("select n from t intersect select f from t", "0.50"),
        ("select f from t intersect select n from t", "0.5"),
        ("select n from t minus select f from t", "0.07"),
        ("select f from t where f in (select n from t union all select f from t where id = 1)", "0.5;1e300"),
        ("select id from t inner join (select n as f from t) x using (f)", "2"),
        ("select a.id from t a inner join (select id as t from t) b using (t)", "2"),
        ("select id from t union all select n from t", "0.07;0.50;1.00;2.00"),
    ] {
        let sorted = async |tables, sql: &str| {
            let bench = Bench::new(Virtual(tables));
            let mut found = answer(&bench, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            found.sort();
            found.join(";")
        };
        let tables = || vec![(name("t"), Arc::clone(&mixed)), (name("one"), one())];
        assert_eq!(sorted(Tables { tables: tables(), views: Vec::new() }, sql).await, expected, "{sql}");
        let mut planner = bench().engine.view_planner();
        let named: Vec<_> = tables().iter().map(|(name, table)| (name.clone(), table.schema())).collect();
        planner.names(sql, "sales").unwrap();
        let planned = planner.plan(sql, "sales", &named).unwrap();
        let view = View { sql: planned.sql, schema: "sales".to_owned(), columns: Some(planned.schema) };
        let tables = Tables { tables: tables(), views: vec![(name("v"), view)] };
        assert_eq!(sorted(tables, "select * from v").await, expected, "view: {sql}");
    }
}

/// Times are compared as microseconds, not as nanoseconds, which end in 2262.
#[tokio::test]
async fn times_of_any_year_are_compared() {
    let last: i64 = 253_402_300_799_999_999;
    let rows = table(vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2]))),
        ("ts", Arc::new(TimestampMicrosecondArray::from(vec![last, LEAP]))),
        ("tz", Arc::new(TimestampMicrosecondArray::from(vec![last, LEAP]).with_timezone("UTC"))),
        ("d", Arc::new(Date32Array::from(vec![2_932_896, JANUARY]))),
    ]);
    let bench = Bench::new(Virtual(Tables { tables: vec![(name("t"), rows)], views: Vec::new() }));
    for (condition, expected) in [
        ("ts = '9999-12-31 23:59:59.999999'", "1"),
        ("tz >= '9999-12-31 00:00:00+00'", "1"),
        ("ts < '3000-01-01 00:00:00'", "2"),
        ("ts > '0001-01-01 00:00:00'", "1,2"),
        ("ts > d", "1,2"),
        ("d < ts and d > '2024-01-01'", "1,2"),
        ("case when ts > '3000-01-01 00:00:00' then 1 else 0 end = 1", "1"),
        ("ts between '2024-01-01 00:00:00' and '9999-12-31 23:59:59'", "2"),
        ("d - d = 0 and d - CAST('2024-01-30' AS localdate) = 1", "2"),
    ] {
        let sql = format!("select id from t where {condition} order by id");
        let found = answer(&bench, &sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(found.join(","), expected, "{sql}");
    }
}

/// What is cast to fewer digits is compared as it is then, not as the decimal that it was.
#[tokio::test]
async fn casts_that_lose_digits_are_compared_as_they_are_shown() {
    let bench = bench();
    for (condition, expected) in [
        ("cast(m as int) = 1", "1.50"),
        ("cast(m as int) > 0", "1.50;2.50"),
        ("cast(m as int) <= 0", "0.01;0.02"),
        ("cast(m as long) <> 1", "0.01;0.02;2.50"),
        ("cast(m as int) in (1, 2)", "1.50;2.50"),
        ("cast(m as int) between 1 and 1", "1.50"),
        ("m::int = 2", "2.50"),
        ("cast(m as decimal(5, 1)) = 2.5", "2.50"),
        ("cast(m as decimal(5, 1)) = 0", "0.01;0.02"),
        ("cast(m as decimal(8, 4)) = 1.5", "1.50"),
        ("cast(-m as int) = -1", "1.50"),
    ] {
        let mut rows = answer(&bench, &format!("select m from many where {condition}")).await.unwrap();
        rows.sort();
        assert_eq!(rows.join(";"), expected, "{condition}");
    }
}

/// The planner makes joins of queries in conditions, and joins know no NULL.
#[tokio::test]
async fn queries_in_conditions_are_right_or_refused() {
    let bench = bench();
    for (condition, expected) in [
        ("v in (select v from many where v < 4)", "2"),
        ("v in (select v from many where v < 4) or k = 'b'", "3"),
        ("v in (select v from many where v = 1) and k = 'a'", "1"),
        ("(v in (select v from many where v = 1) and k = 'a') or k = 'b'", "2"),
        ("v not in (select v from many where v = 1)", "2"),
        ("not (v in (select v from many where v = 1))", "2"),
        ("not (v not in (select v from many where v = 1))", "1"),
        ("v not in (select v from many)", "0"),
        ("exists (select 1 from many b where b.v > a.v) or k = 'b'", "3"),
        ("not exists (select 1 from many b where b.v > a.v)", "2"),
        ("exists (select count(*) from many b where b.v > 100)", "4"),
        ("(select count(*) from many b where b.k = a.k) = 2", "2"),
        ("v = (select max(b.v) from many b where b.k = a.k)", "1"),
        ("v in (select max(b.v) from many b group by b.k)", "2"),
    ] {
        let sql = format!("select count(*) from many a where {condition}");
        assert_eq!(answer(&bench, &sql).await.unwrap(), [expected], "{condition}");
    }
    for condition in [
        "v not in (select v from many where v = 1) or k = 'b'",
        "not (v in (select v from many where v = 1)) or k = 'b'",
        "(v in (select v from many)) is null",
        "(v in (select v from many)) = true",
        "case when v in (select v from many) then true else false end",
        "coalesce(v in (select v from many), true)",
        "not (v in (select v from many) and k = 'a')",
        "v not in (select b.v from many b where b.k = a.k)",
        "not (v in (select b.v from many b where b.k = a.k))",
        "exists (select count(*) from many b where b.k = a.k)",
        "not exists (select max(b.v) from many b where b.k = a.k having count(*) > 1)",
        "v in (select count(*) from many b where b.k = a.k)",
    ] {
        let error = answer(&bench, &format!("select k from many a where {condition}")).await.unwrap_err();
        assert_eq!(error.code.as_deref(), Some("not_supported"), "{condition}: {}", error.message);
    }
}

/// Nothing can interrupt planning, so that what takes long to plan is refused before.
#[tokio::test]
async fn statements_that_take_long_to_plan_are_refused() {
    let bench = bench();
    let names: Vec<String> = (0..201).map(|at| format!("w{at} as (select 1 as x)")).collect();
    let columns: Vec<String> = (0..5_001).map(|at| format!("1 as c{at}")).collect();
    for sql in [
        format!("select 1 as x{}", " union all select 1".repeat(1_000)),
        format!("select 1 as x{}", " union select l from one".repeat(1_000)),
        format!("select 1 as x{}", " minus select 2".repeat(70)),
        format!("select 1 as x{}", " intersect select 1".repeat(70)),
        format!("with {} select * from w200", names.join(", ")),
        format!("select {}", columns.join(", ")),
    ] {
        let error = answer(&bench, &sql).await.unwrap_err();
        let start: String = sql.chars().take(60).collect();
        assert_eq!(error.code.as_deref(), Some("too_long"), "{start}: {}", error.message);
    }
    for sql in [
        format!("select 1 as x{}", " union all select 1".repeat(300)),
        format!("select 1 as x{}", " minus select 2".repeat(20)),
    ] {
        assert!(answer(&bench, &sql).await.is_ok());
    }
}
