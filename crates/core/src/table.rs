//! The ports between the tables that a plane offers to SQL and the engine that runs it. Neither knows the other.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures_core::Stream;

use crate::OpCtx;
use crate::ids::{BoxFuture, DatasourceId, OuId};
use crate::schema::TableKind;
use crate::source::{CancellationToken, Connections, Permit, Permits, Query, QueryStream, SourceError};

pub type BatchStream = Pin<Box<dyn Stream<Item = Result<RecordBatch, SourceError>> + Send>>;

/// A table of a plane, already restricted to what its reader may see.
///
/// Instants are `Timestamp(Microsecond, "UTC")`, lists are `List`, everything else is a plain Arrow type.
pub trait Table: Send + Sync + 'static {
    fn schema(&self) -> SchemaRef;

    /// How `scan` applies this condition. The engine applies whatever the table does not apply exactly.
    fn applies(&self, condition: &Condition) -> Applies;

    /// Whether it applies conditions that are joined by AND, OR and NOT. Each of them is asked for with `applies`; with NOT, or
    /// if all are to be exact, each must be exact.
    fn nests(&self) -> bool {
        false
    }

    /// How many parts the rows of this scan come in; the engine reads them in parallel. At least one.
    fn partitions(&self, _: &Scan) -> usize {
        1
    }

    /// What a scan sends to a source, for EXPLAIN; `None` if nothing leaves this server.
    fn sent(&self, _: &Scan) -> Option<Sent> {
        None
    }

    /// The datasource to which each part of a scan has a connection, and how many it may have; `None` if it needs none.
    fn connections(&self) -> Option<(DatasourceId, usize)> {
        None
    }

    /// How many rows it has, if that is known, even roughly.
    fn row_count(&self) -> Option<u64> {
        None
    }

    /// The rows of one part that satisfy every condition, with the requested columns in the requested order. Cancelling
    /// the scan's token or dropping the stream stops the read.
    fn scan(&self, scan: Scan) -> BatchStream;
}

/// A statement that a scan sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// As users know the source.
    pub datasource: String,
    pub sql: String,
}

/// Which rows remain when a table applies a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// Only those for which it is true: the engine does not check again.
    Exact,
    /// Those and perhaps others: the engine applies it again. A scan with such a condition has no limit.
    Superset,
    /// The condition is not applied and not part of the scan.
    No,
}

/// What the engine wants from a table.
#[derive(Debug, Clone)]
pub struct Scan {
    /// By position in the schema.
    pub columns: Vec<usize>,
    /// The conditions that the table applies exactly or as a superset.
    pub conditions: Vec<Condition>,
    /// More conditions, only for a table that nests them.
    pub filters: Vec<Filter>,
    /// The most rows wanted from each part. Only set when every condition of the statement is applied exactly.
    pub limit: Option<u64>,
    pub batch_rows: usize,
    /// Which part of the rows, starting at 0.
    pub partition: usize,
    /// For its connection.
    pub permit: Permit,
    /// Cancelled when the rows are no longer needed.
    pub cancel: CancellationToken,
}

/// One condition on one column.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub column: usize,
    pub test: Test,
}

/// Conditions that are joined, with SQL's three-valued logic.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    One(Condition),
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Box<Filter>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    Compare(Comparison, Value),
    OneOf(Vec<Value>),
    IsNull,
    IsNotNull,
}

impl Test {
    /// Whether it may be true of a value that is not below the one and not above the other.
    pub fn may_hold(&self, least: &Value, greatest: &Value) -> bool {
        let may_equal = |value: &Value| {
            let (from_least, from_greatest) = (value.order(least), value.order(greatest));
            from_least != Some(Ordering::Less) && from_greatest != Some(Ordering::Greater)
        };
        let excluded = |bound: &Value, value: &Value, orders: &[Ordering]| {
            bound.order(value).is_some_and(|order| orders.contains(&order))
        };
        match self {
            Test::Compare(Comparison::Equal, value) => may_equal(value),
            Test::OneOf(values) => values.iter().any(may_equal),
            Test::Compare(Comparison::Less, value) => {
                !excluded(least, value, &[Ordering::Equal, Ordering::Greater])
            }
            Test::Compare(Comparison::LessOrEqual, value) => !excluded(least, value, &[Ordering::Greater]),
            Test::Compare(Comparison::Greater, value) => {
                !excluded(greatest, value, &[Ordering::Equal, Ordering::Less])
            }
            Test::Compare(Comparison::GreaterOrEqual, value) => !excluded(greatest, value, &[Ordering::Less]),
            Test::Compare(Comparison::NotEqual, _) | Test::IsNull | Test::IsNotNull => true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A value of a condition. Instants, and dates with a time of day and no zone, are microseconds since 1970; dates are days.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    /// `unscaled` divided by ten to the power of `scale`.
    Decimal {
        unscaled: i128,
        scale: i8,
    },
    Text(String),
    Date(i32),
    DateTime(i64),
    Instant(i64),
}

impl Value {
    /// The order of two values of one type; floating-point numbers have none here.
    pub fn order(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Value::Boolean(one), Value::Boolean(other)) => Some(one.cmp(other)),
            (Value::Integer(one), Value::Integer(other)) => Some(one.cmp(other)),
            (Value::Text(one), Value::Text(other)) => Some(one.cmp(other)),
            (Value::Date(one), Value::Date(other)) => Some(one.cmp(other)),
            (Value::DateTime(one), Value::DateTime(other)) | (Value::Instant(one), Value::Instant(other)) => {
                Some(one.cmp(other))
            }
            _ => None,
        }
    }
}

/// A value of a variable. Instants are microseconds since 1970.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Instant(i64),
}

/// The value of a variable in a statement (`$name`).
#[derive(Debug, Clone, PartialEq)]
pub enum Variable {
    Null,
    One(Scalar),
    /// For `IN ($name)`.
    Many(Vec<Scalar>),
}

/// The name of a table or view.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    pub schema: String,
    pub name: String,
}

impl TableName {
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> TableName {
        TableName { schema: schema.into(), name: name.into() }
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// The tables and views behind names, bound to one reader.
#[derive(Clone, Default)]
pub struct Tables {
    pub tables: Vec<(TableName, Arc<dyn Table>)>,
    /// Views can refer to tables and views of the same catalog, but not to themselves.
    pub views: Vec<(TableName, View)>,
}

/// The SQL in which a catalog's statements and views are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flavour {
    #[default]
    Postgres,
    /// The SQL of virtual databases.
    Vql,
}

/// A view: its SELECT, the schema of the unqualified names in it, and the columns it was stored with.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    pub sql: String,
    pub schema: String,
    /// The view returns these columns with these types. `None`: whatever its SELECT returns.
    pub columns: Option<SchemaRef>,
}

/// Who reads, and from which database of a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reader {
    /// The subtrees of units the reader may read, as paths (`/1/7/`).
    pub subtrees: Vec<String>,
    /// The unit of the datasource.
    pub unit: Option<OuId>,
    /// The host of the datasource, if that means something to the catalog.
    pub host: Option<String>,
    /// If the catalog has several.
    pub database: Option<String>,
}

/// A source of tables: a plane, or what it derives from other sources. It may query a store or a server.
pub trait Catalog: Send + Sync + 'static {
    /// The schema of unqualified names.
    fn default_schema<'a>(&'a self, reader: &'a Reader) -> &'a str;

    /// The SQL of its views and of the statements that read from it.
    fn flavour(&self) -> Flavour {
        Flavour::Postgres
    }

    /// The tables and views behind these names; names this reader is not allowed to read are left out. In VQL they come with
    /// everything below them, because the views of a statement are of one version.
    fn resolve<'a>(
        &'a self,
        reader: &'a Reader,
        names: &'a [TableName],
    ) -> BoxFuture<'a, Result<Tables, SourceError>>;

    /// Every name this reader may read.
    fn list<'a>(&'a self, reader: &'a Reader) -> BoxFuture<'a, Result<Vec<Listed>, SourceError>>;

    /// Checks that the caller may make a database of this catalog a datasource, whose users read what it contains.
    fn may_declare<'a>(
        &'a self,
        _: &'a OpCtx,
        _database: Option<&'a str>,
    ) -> BoxFuture<'a, crate::Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Waits until all of these connections are free, and takes them together.
    fn admit(&self, _: BTreeMap<DatasourceId, Connections>) -> BoxFuture<'_, Result<Permits, SourceError>> {
        Box::pin(std::future::ready(Ok(Permits::new())))
    }
}

/// A table or view in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: TableName,
    pub kind: TableKind,
    /// If they are known without planning anything.
    pub columns: Option<SchemaRef>,
}

impl Listed {
    pub fn new(name: TableName, kind: TableKind) -> Listed {
        Listed { name, kind, columns: None }
    }
}

/// Tables known in advance, the same for every reader.
impl Catalog for Tables {
    fn default_schema<'a>(&'a self, _: &'a Reader) -> &'a str {
        "public"
    }

    fn resolve<'a>(
        &'a self,
        _: &'a Reader,
        names: &'a [TableName],
    ) -> BoxFuture<'a, Result<Tables, SourceError>> {
        let tables = self.tables.iter().filter(|(name, _)| names.contains(name)).cloned().collect();
        let views = self.views.iter().filter(|(name, _)| names.contains(name)).cloned().collect();
        Box::pin(std::future::ready(Ok(Tables { tables, views })))
    }

    fn list<'a>(&'a self, _: &'a Reader) -> BoxFuture<'a, Result<Vec<Listed>, SourceError>> {
        let tables = self.tables.iter().map(|(name, _)| Listed::new(name.clone(), TableKind::Table));
        let views = self.views.iter().map(|(name, _)| Listed::new(name.clone(), TableKind::View));
        Box::pin(std::future::ready(Ok(tables.chain(views).collect())))
    }
}

/// A catalog as one reader sees it: everything a statement can refer to.
#[derive(Clone)]
pub struct Readable {
    pub catalog: Arc<dyn Catalog>,
    pub reader: Reader,
}

/// A statement with its variables and limits.
#[derive(Debug, Clone)]
pub struct EngineQuery {
    pub query: Query,
    pub variables: Vec<(String, Variable)>,
    /// More rows than this are an error. `None`: no limit.
    pub max_rows: Option<u64>,
}

/// Runs SQL over the tables of a catalog: one SELECT, bounded in memory and time.
pub trait SqlEngine: Send + Sync + 'static {
    /// Reports what is wrong with a statement without running it.
    fn check<'a>(
        &'a self,
        tables: &'a Readable,
        query: &'a EngineQuery,
    ) -> BoxFuture<'a, Result<(), SourceError>>;

    fn query(
        &self,
        tables: Readable,
        query: EngineQuery,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<QueryStream, SourceError>>;

    /// For views written in VQL.
    fn view_planner(&self) -> Box<dyn ViewPlanner>;
}

/// Plans the SELECTs of views against the columns of what they name, without reading anything. One planner serves a
/// whole script.
pub trait ViewPlanner: Send {
    /// Every table and view that a SELECT names, in order, as often as it names it. `schema` is that of unqualified
    /// names.
    fn names(&mut self, sql: &str, schema: &str) -> Result<Vec<TableName>, SourceError>;

    /// `columns`: of everything the SELECT names.
    fn plan(
        &mut self,
        sql: &str,
        schema: &str,
        columns: &[(TableName, SchemaRef)],
    ) -> Result<PlannedView, SourceError>;
}

/// What a view is stored as.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedView {
    /// The SELECT with every `*` replaced by the columns it means; otherwise the author's text.
    pub sql: String,
    pub schema: SchemaRef,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_leave_out_only_what_cannot_be() {
        use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        let tests = [Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual];
        for (least, greatest, wanted) in (0..4_i64)
            .flat_map(|least| (least..4).flat_map(move |greatest| (0..4).map(move |w| (least, greatest, w))))
        {
            for comparison in tests {
                let holds = (least..=greatest).any(|value| match comparison {
                    Equal => value == wanted,
                    NotEqual => true,
                    Less => value < wanted,
                    LessOrEqual => value <= wanted,
                    Greater => value > wanted,
                    GreaterOrEqual => value >= wanted,
                });
                let test = Test::Compare(comparison, Value::Integer(wanted));
                let may = test.may_hold(&Value::Integer(least), &Value::Integer(greatest));
                assert_eq!(may, holds, "{comparison:?} {wanted} in {least}..={greatest}");
            }
        }
        let text = |text: &str| Value::Text(text.to_owned());
        assert!(!Test::OneOf(vec![text("a"), text("d")]).may_hold(&text("b"), &text("c")));
        assert!(Test::OneOf(vec![text("a"), text("bb")]).may_hold(&text("b"), &text("c")));
        // Of another type nothing is known.
        for comparison in tests {
            let test = Test::Compare(comparison, Value::Integer(1));
            assert!(
                test.may_hold(&text("b"), &text("c"))
                    && test.may_hold(&Value::Float(2.0), &Value::Float(3.0))
            );
        }
        assert!(Test::IsNull.may_hold(&Value::Integer(1), &Value::Integer(2)));
    }
}
