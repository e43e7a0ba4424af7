//! Base views as tables: each scan is one statement that the source runs, streamed.
//!
//! `sql` writes the statement, `convert` turns what comes back into the view's types. Does not belong here: which views
//! there are.

pub mod convert;
pub mod sql;

use std::sync::Arc;
use std::time::Duration;

use arrow_schema::{DataType, SchemaRef};
use futures_util::StreamExt as _;
use landreeve_core::datasource::SqlDialect;
use landreeve_core::source::{ConnectSpec, Driver, Query, QueryStream, SourceError, SourceErrorKind};
use landreeve_core::table::{Applies, BatchStream, Comparison, Condition, Scalar, Scan, Sent, Table, Test};

use crate::vql::ast::Relation;

/// A base view over a relation of a database.
pub struct BaseTable {
    /// With its database, for errors.
    pub view: String,
    pub schema: SchemaRef,
    /// The source's name of each column.
    pub columns: Vec<String>,
    pub relation: Relation,
    pub dialect: SqlDialect,
    pub driver: Arc<dyn Driver>,
    pub spec: ConnectSpec,
    /// As users know it.
    pub datasource: String,
    pub time_limit: Duration,
    pub pushdown: bool,
}

/// Maximum size of a batch.
const BATCH_BYTES: usize = 4 * 1_024 * 1_024;

impl BaseTable {
    /// A scan's statement.
    pub fn statement(&self, scan: &Scan) -> String {
        let name = |column: usize| self.columns.get(column).map(String::as_str).unwrap_or_default();
        let wanted = sql::Wanted {
            relation: &self.relation,
            columns: scan.columns.iter().map(|column| name(*column)).collect(),
            conditions: scan
                .conditions
                .iter()
                .map(|condition| (name(condition.column), &condition.test))
                .collect(),
            filters: &scan.filters,
            name: &name,
            limit: scan.limit,
        };
        sql::select(self.dialect, &wanted)
    }

    /// How the source applies a test of a column of this type.
    fn applies_to(&self, data_type: &DataType, test: &Test) -> Applies {
        let dynamic = self.dialect == SqlDialect::Sqlite;
        match (data_type, test) {
            (_, Test::IsNull | Test::IsNotNull) => Applies::Exact,
            (DataType::Int32 | DataType::Int64, Test::Compare(_, Scalar::Integer(_))) => Applies::Exact,
            (DataType::Int32 | DataType::Int64, Test::OneOf(values)) => {
                let whole = values.iter().all(|value| matches!(value, Scalar::Integer(_)));
                if whole { Applies::Exact } else { Applies::No }
            }
            // SQLite stores them in any form.
            (DataType::Boolean, Test::Compare(Comparison::Equal, Scalar::Boolean(_))) if !dynamic => {
                Applies::Exact
            }
            // A collation may find more than what is equal here, and never less.
            (DataType::Utf8, Test::Compare(Comparison::Equal, Scalar::Text(text))) => self.text([text]),
            (DataType::Utf8, Test::OneOf(values)) => {
                let texts: Option<Vec<&String>> = values
                    .iter()
                    .map(|value| if let Scalar::Text(text) = value { Some(text) } else { None })
                    .collect();
                texts.map_or(Applies::No, |texts| self.text(texts))
            }
            _ => Applies::No,
        }
    }

    fn text<'a>(&self, texts: impl IntoIterator<Item = &'a String>) -> Applies {
        // PostgreSQL's char(n) ignores trailing blanks only of the column, so a text with them is compared here.
        let odd = |text: &String| text.contains('\0') || text.ends_with(' ');
        if texts.into_iter().any(odd) { Applies::No } else { Applies::Superset }
    }
}

impl Table for BaseTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn nests(&self) -> bool {
        true
    }

    fn applies(&self, condition: &Condition) -> Applies {
        let field = self.schema.fields().get(condition.column);
        let (true, Some(field)) = (self.pushdown, field) else { return Applies::No };
        let column = self.columns.get(condition.column).map(String::as_str).unwrap_or_default();
        if sql::condition(self.dialect, column, &condition.test).is_none() {
            return Applies::No;
        }
        self.applies_to(field.data_type(), &condition.test)
    }

    fn sent(&self, scan: &Scan) -> Option<Sent> {
        let scan = Scan { limit: scan.limit.filter(|_| self.pushdown), ..scan.clone() };
        Some(Sent { datasource: self.datasource.clone(), sql: self.statement(&scan) })
    }

    fn scan(&self, scan: Scan) -> BatchStream {
        let sql = self.statement(&Scan { limit: scan.limit.filter(|_| self.pushdown), ..scan.clone() });
        let schema = match self.schema.project(&scan.columns) {
            Ok(schema) => Arc::new(schema),
            Err(error) => {
                let error = SourceError::new(SourceErrorKind::Query, error.to_string());
                return Box::pin(futures_util::stream::once(async { Err(error) }));
            }
        };
        let query =
            Query { sql, time_limit: self.time_limit, batch_rows: scan.batch_rows, batch_bytes: BATCH_BYTES };
        let (driver, spec) = (Arc::clone(&self.driver), self.spec.clone());
        let place = Place { view: self.view.clone(), datasource: self.datasource.clone() };
        let opening = async move {
            match driver.query(&spec, query, scan.cancel).await {
                Ok(stream) => rows(stream, schema, place),
                Err(error) => {
                    let error = place.of(error);
                    Box::pin(futures_util::stream::once(async { Err(error) })) as BatchStream
                }
            }
        };
        Box::pin(futures_util::stream::once(opening).flatten())
    }
}

/// Where an error of a source belongs.
#[derive(Clone)]
struct Place {
    view: String,
    datasource: String,
}

impl Place {
    fn of(&self, error: SourceError) -> SourceError {
        if error.kind == SourceErrorKind::Cancelled {
            return error;
        }
        let message = format!("datasource {}, view {}: {}", self.datasource, self.view, error.message);
        // A position in the statement that was sent means nothing to its author.
        SourceError { message, position: None, ..error }
    }
}

fn rows(stream: QueryStream, schema: SchemaRef, place: Place) -> BatchStream {
    let batches = stream.batches.map(move |batch| {
        let batch = batch.map_err(|error| place.of(error))?;
        convert::batch(&place.view, &batch, &schema)
    });
    Box::pin(batches)
}
