//! The ports between tables that a plane offers to SQL and the engine that answers it. Neither knows the other.

use std::pin::Pin;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures_core::Stream;

use crate::ids::BoxFuture;
use crate::schema::TableKind;
use crate::source::{CancellationToken, Query, QueryStream, SourceError};

pub type BatchStream = Pin<Box<dyn Stream<Item = Result<RecordBatch, SourceError>> + Send>>;

/// One table of a plane, with whatever its reader may see already bound.
///
/// Instants are `Timestamp(Microsecond, "UTC")`, lists are `List`, everything else is a plain Arrow type.
pub trait Table: Send + Sync + 'static {
    fn schema(&self) -> SchemaRef;

    /// What `scan` makes of this condition. The engine applies itself what the table does not apply exactly.
    fn applies(&self, condition: &Condition) -> Applies;

    /// In how many parts, which the engine reads side by side, the rows of this scan come. At least one.
    fn partitions(&self, _: &Scan) -> usize {
        1
    }

    /// The rows of one part that satisfy every condition, with the asked columns in the asked order. Cancelling the
    /// token of the scan and dropping the stream both end the reading.
    fn scan(&self, scan: Scan) -> BatchStream;
}

/// Which rows a condition leaves when a table applies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// Just those for which it is true: the engine does not look again.
    Exact,
    /// Those and perhaps others: the engine applies it once more. A scan with such a condition has no limit.
    Superset,
    /// It is not applied, and not part of the scan.
    No,
}

/// What the engine wants of a table.
#[derive(Debug, Clone)]
pub struct Scan {
    /// By their places in the schema.
    pub columns: Vec<usize>,
    /// Those which the table applies exactly or as a superset.
    pub conditions: Vec<Condition>,
    /// No more rows than these are wanted, of each part. Given only when every condition of the statement is applied
    /// exactly.
    pub limit: Option<u64>,
    pub batch_rows: usize,
    /// Which part of the rows, counted from 0.
    pub partition: usize,
    /// Cancelled when nobody waits for the rows any more.
    pub cancel: CancellationToken,
}

/// One condition on one column.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub column: usize,
    pub test: Test,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    Compare(Comparison, Scalar),
    OneOf(Vec<Scalar>),
    IsNull,
    IsNotNull,
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

/// A value in a condition or of a variable. Instants are microseconds since 1970.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Instant(i64),
}

/// What a variable of a statement (`$name`) stands for.
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

/// What names stand for, bound to one reader.
#[derive(Clone, Default)]
pub struct Tables {
    pub tables: Vec<(TableName, Arc<dyn Table>)>,
    /// Name and SELECT. Views may name tables and views of the same catalog, but not themselves.
    pub views: Vec<(TableName, String)>,
}

/// As whom, and in which database of a catalog, one reads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reader {
    /// The subtrees of units that may be read, given as paths (`/1/7/`).
    pub subtrees: Vec<String>,
    /// Where a catalog has several.
    pub database: Option<String>,
}

/// What has tables: a plane, or what it makes of other sources. It may ask a store or a server for what it is asked.
pub trait Catalog: Send + Sync + 'static {
    /// The schema of names that have none.
    fn default_schema<'a>(&'a self, reader: &'a Reader) -> &'a str;

    /// What those of these names stand for that this reader may read; the others are left out.
    fn resolve<'a>(
        &'a self,
        reader: &'a Reader,
        names: &'a [TableName],
    ) -> BoxFuture<'a, Result<Tables, SourceError>>;

    /// Every name that this reader may read.
    fn list<'a>(
        &'a self,
        reader: &'a Reader,
    ) -> BoxFuture<'a, Result<Vec<(TableName, TableKind)>, SourceError>>;
}

/// Tables that are known beforehand, the same for every reader.
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

    fn list<'a>(&'a self, _: &'a Reader) -> BoxFuture<'a, Result<Vec<(TableName, TableKind)>, SourceError>> {
        let tables = self.tables.iter().map(|(name, _)| (name.clone(), TableKind::Table));
        let views = self.views.iter().map(|(name, _)| (name.clone(), TableKind::View));
        Box::pin(std::future::ready(Ok(tables.chain(views).collect())))
    }
}

/// A catalog as one reader sees it: all that a statement can name.
#[derive(Clone)]
pub struct Readable {
    pub catalog: Arc<dyn Catalog>,
    pub reader: Reader,
}

/// A statement with its variables and bounds.
#[derive(Debug, Clone)]
pub struct EngineQuery {
    pub query: Query,
    pub variables: Vec<(String, Variable)>,
    /// More rows than this are an error that says so. `None`: no bound.
    pub max_rows: Option<u64>,
}

/// Answers SQL over the tables of a catalog: one SELECT, bounded in memory and time.
pub trait SqlEngine: Send + Sync + 'static {
    /// Says what is wrong with a statement without running it.
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
}
