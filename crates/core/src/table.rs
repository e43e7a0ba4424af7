//! The ports between tables that a plane offers to SQL and the engine that answers it. Neither knows the other.

use std::pin::Pin;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures_core::Stream;

use crate::ids::BoxFuture;
use crate::source::{CancellationToken, Query, QueryStream, SourceError};

pub type BatchStream = Pin<Box<dyn Stream<Item = Result<RecordBatch, SourceError>> + Send>>;

/// One table of a plane, with whatever its reader may see already bound.
///
/// Instants are `Timestamp(Microsecond, "UTC")`, lists are `List`, everything else is a plain Arrow type.
pub trait Table: Send + Sync + 'static {
    fn schema(&self) -> SchemaRef;

    /// Whether `scan` applies this condition exactly. The engine applies the others itself.
    fn applies(&self, condition: &Condition) -> bool;

    /// The rows that hold every condition, with the asked columns in the asked order. Dropping the stream ends the
    /// reading.
    fn scan(&self, scan: Scan) -> BatchStream;
}

/// What the engine wants of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    /// By their places in the schema.
    pub columns: Vec<usize>,
    /// Those for which `Table::applies` said yes.
    pub conditions: Vec<Condition>,
    /// At least as many rows as this are wanted at most, when there are no other conditions.
    pub limit: Option<u64>,
    pub batch_rows: usize,
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

/// Everything that a statement may name, bound to one reader.
#[derive(Clone, Default)]
pub struct Tables {
    pub tables: Vec<(&'static str, Arc<dyn Table>)>,
    /// Name and SELECT; a view may name tables and the views before it.
    pub views: Vec<(&'static str, &'static str)>,
}

/// A plane that has tables.
pub trait Catalog: Send + Sync + 'static {
    /// The tables as a reader sees them who may read these subtrees of units, given as paths (`/1/7/`).
    fn tables(&self, subtrees: &[String]) -> Tables;
}

/// A statement with its variables and bounds.
#[derive(Debug, Clone)]
pub struct EngineQuery {
    pub query: Query,
    pub variables: Vec<(String, Variable)>,
    /// More rows than this are an error that says so. `None`: no bound.
    pub max_rows: Option<u64>,
}

/// Answers SQL over tables of ours: one SELECT, PostgreSQL's flavour, bounded in memory and time.
pub trait SqlEngine: Send + Sync + 'static {
    /// Says what is wrong with a statement without running it.
    fn check<'a>(
        &'a self,
        tables: &'a Tables,
        query: &'a EngineQuery,
    ) -> BoxFuture<'a, Result<(), SourceError>>;

    fn query(
        &self,
        tables: Tables,
        query: EngineQuery,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<QueryStream, SourceError>>;
}
