//! Base views as tables: each scan is one statement that the source runs, streamed.
//!
//! `kinds` decides which conditions are sent, `sql` writes the statement, `convert` turns what comes back into the view's
//! types. Does not belong here: which views there are.

pub mod convert;
pub mod kinds;
pub mod sql;

use std::sync::Arc;
use std::time::Duration;

use arrow_schema::{DataType, SchemaRef};
use futures_util::StreamExt as _;
use landreeve_core::datasource::SqlDialect;
use landreeve_core::ids::DatasourceId;
use landreeve_core::source::{
    CancellationToken, ConnectSpec, Driver, Permit, Query, QueryStream, SourceError, SourceErrorKind,
};
use landreeve_core::table::{Applies, BatchStream, Condition, Scan, Sent, Table};
use landreeve_estate::inventory::permits::ConnectionLimits;

use crate::scan::kinds::ColumnKind;
use crate::vql::ast::Relation;

/// A base view over a relation of a database.
pub struct BaseTable {
    /// With its database, for errors.
    pub view: String,
    /// How many there are, if that is known.
    pub rows: Option<u64>,
    pub schema: SchemaRef,
    /// The source's name of each column.
    pub columns: Vec<String>,
    /// What each column is in the source.
    pub kinds: Arc<[ColumnKind]>,
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

    /// The statement whose result describes every column.
    pub fn description(&self) -> String {
        let scan = Scan {
            columns: (0..self.columns.len()).collect(),
            conditions: Vec::new(),
            filters: Vec::new(),
            limit: Some(0),
            batch_rows: 1,
            partition: 0,
            permit: Permit::default(),
            cancel: CancellationToken::new(),
        };
        self.statement(&scan)
    }

    /// What the source says its columns are; `None` if it cannot, because one is missing.
    pub async fn described(
        &self,
        connections: &ConnectionLimits,
    ) -> Result<Option<Arc<[ColumnKind]>>, SourceError> {
        let place = self.place();
        let query = Query {
            sql: self.description(),
            time_limit: self.time_limit,
            batch_rows: 1,
            batch_bytes: BATCH_BYTES,
            decimals: Vec::new(),
        };
        let cancel = CancellationToken::new();
        let _guard = cancel.clone().drop_guard();
        let stream = connections.query(&*self.driver, self.spec.clone(), query, cancel).await;
        let mut stream = match stream {
            Ok(stream) => stream,
            // A statement may not need what is missing.
            Err(error) if error.kind == SourceErrorKind::Query => return Ok(None),
            Err(error) => return Err(place.of(error)),
        };
        let kinds = kinds::of(self.dialect, &stream.schema).into();
        // Read to its end, so that its connection can be used again.
        while let Some(batch) = stream.batches.next().await {
            batch.map_err(|error| place.of(error))?;
        }
        Ok(Some(kinds))
    }

    fn place(&self) -> Place {
        Place { view: self.view.clone(), datasource: self.datasource.clone() }
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
        let kind = self.kinds.get(condition.column).copied().unwrap_or(ColumnKind::Other);
        kinds::applies(self.dialect, kind, field.data_type(), &condition.test)
    }

    fn connections(&self) -> Option<(DatasourceId, usize)> {
        Some((self.spec.datasource, self.spec.max_connections))
    }

    fn row_count(&self) -> Option<u64> {
        self.rows
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
        let decimals = schema.fields().iter().map(|field| match field.data_type() {
            DataType::Decimal128(precision, scale) => Some((*precision, *scale)),
            _ => None,
        });
        let query = Query {
            sql,
            time_limit: self.time_limit,
            batch_rows: scan.batch_rows,
            batch_bytes: BATCH_BYTES,
            decimals: decimals.collect(),
        };
        let driver = Arc::clone(&self.driver);
        let spec = ConnectSpec { permit: scan.permit, ..self.spec.clone() };
        let place = self.place();
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
