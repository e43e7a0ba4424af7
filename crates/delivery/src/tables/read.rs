//! A table as the engine reads it: a scan becomes one statement on the store, and its rows become batches.

use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Float64Builder, Int64Builder, ListBuilder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use futures_util::TryStreamExt as _;
use landreeve_core::schema::{LogicalType, describe};
use landreeve_core::source::{SourceError, SourceErrorKind};
use landreeve_core::table::{Applies, BatchStream, Comparison, Condition, Scan, Table, Test, Value};
use landreeve_core::{Error, Result};
use landreeve_estate::identity::{Place, Visibility};
use landreeve_estate::store::{Arg, Row, Store, Where};

use super::define::{Column, Definition, Kind};
use crate::source_id;

pub struct StoreTable {
    store: Store,
    definition: &'static Definition,
    subtrees: Arc<[String]>,
}

impl StoreTable {
    pub fn new(store: Store, definition: &'static Definition, subtrees: Arc<[String]>) -> StoreTable {
        StoreTable { store, definition, subtrees }
    }

    /// The statement for a scan, with its values.
    fn statement(&self, scan: &Scan) -> Result<(String, Vec<Arg>)> {
        let columns = self.definition.columns;
        let float = self.store.dialect().pick("", "::float8");
        let expression = |at: &usize| {
            let column = &columns[*at];
            // PostgreSQL would divide to numeric.
            if column.kind == Kind::Float {
                format!("({}){float}", column.sql)
            } else {
                column.sql.to_owned()
            }
        };
        let mut selected: Vec<String> = scan.columns.iter().map(expression).collect();
        if selected.is_empty() {
            // Only the rows are counted.
            selected.push("1".to_owned());
        }
        let mut wanted = Where::new(self.store.dialect());
        Visibility::within(&self.subtrees).narrow(&mut wanted, &Place::of_unit(self.definition.ou))?;
        for condition in &scan.conditions {
            let text = condition_text(&columns[condition.column], &condition.test, &mut wanted);
            wanted.and(&text);
        }
        let (conditions, values) = wanted.into_parts();
        let mut sql =
            format!("SELECT {} FROM {} WHERE {conditions}", selected.join(", "), self.definition.from);
        if let Some(limit) = scan.limit {
            sql.push_str(&format!(" LIMIT {}", i64::try_from(limit).unwrap_or(i64::MAX)));
        }
        Ok((sql, values))
    }
}

impl Table for StoreTable {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.definition.columns.iter().map(field).collect::<Vec<_>>()))
    }

    /// Exact where both databases and the engine agree on the meaning: text is compared only for equality, because its
    /// order depends on the collation.
    fn applies(&self, condition: &Condition) -> Applies {
        let Some(column) = self.definition.columns.get(condition.column) else { return Applies::No };
        let fits = |value: &Value| {
            matches!(
                (column.kind, value),
                (Kind::Int, Value::Integer(_))
                    | (Kind::Instant, Value::Instant(_))
                    | (Kind::Bool, Value::Boolean(_))
            ) || matches!((column.kind, value), (Kind::Text, Value::Text(text)) if !text.contains('\0'))
        };
        let exact = match &condition.test {
            Test::IsNull | Test::IsNotNull => true,
            Test::OneOf(values) => values.len() <= 100 && values.iter().all(fits),
            Test::Compare(comparison, value) => {
                let equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
                fits(value) && (equality || matches!(column.kind, Kind::Int | Kind::Instant))
            }
        };
        if exact { Applies::Exact } else { Applies::No }
    }

    fn scan(&self, scan: Scan) -> BatchStream {
        let statement = self.statement(&scan);
        let store = self.store.clone();
        let columns = self.definition.columns;
        let schema = self.schema().project(&scan.columns).map(Arc::new);
        Box::pin(async_stream::try_stream! {
            let schema = schema.map_err(|error| failed(&Error::internal(error)))?;
            let (sql, values) = statement.map_err(|error| failed(&error))?;
            let mut conn = store.scan().await.map_err(|error| failed(&error))?;
            let mut rows = conn.rows(sql, values).map_err(|error| failed(&error))?;
            let mut building = Building::new(&scan, columns, Arc::clone(&schema));
            while let Some(row) = rows.try_next().await.map_err(|error| failed(&error))? {
                building.push(&row).map_err(|error| failed(&error))?;
                if building.rows >= scan.batch_rows {
                    yield building.finish()?;
                    if scan.cancel.is_cancelled() {
                        Err(SourceError::new(SourceErrorKind::Cancelled, "the statement was cancelled"))?;
                    }
                }
            }
            if building.rows > 0 {
                yield building.finish()?;
            }
        })
    }
}

fn failed(error: &Error) -> SourceError {
    if error.kind == landreeve_core::ErrorKind::Internal {
        tracing::error!(cause = %error, "could not read a table of delivery data");
        return SourceError::new(
            SourceErrorKind::Lost,
            "the data cannot be read; see the server log for the reason",
        );
    }
    SourceError::new(SourceErrorKind::Lost, error.message.clone())
}

fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Int => DataType::Int64,
        Kind::Float => DataType::Float64,
        Kind::Text | Kind::SourceId | Kind::Json => DataType::Utf8,
        Kind::Bool => DataType::Boolean,
        Kind::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Kind::Texts => DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
    }
}

fn field(column: &Column) -> Field {
    let (logical, native) = match column.kind {
        Kind::Int => (LogicalType::Integer, "bigint"),
        Kind::Float => (LogicalType::Number, "double precision"),
        Kind::Text | Kind::SourceId => (LogicalType::Text, "text"),
        Kind::Bool => (LogicalType::Boolean, "boolean"),
        Kind::Instant => (LogicalType::Instant, "timestamp with time zone"),
        Kind::Json | Kind::Texts => (LogicalType::Json, "json"),
    };
    describe(Field::new(column.name, data_type(column.kind), true), logical, native)
}

fn condition_text(column: &Column, test: &Test, wanted: &mut Where) -> String {
    let mut bind = |value: &Value| {
        wanted.bind(match value {
            Value::Boolean(value) => Arg::from(*value),
            Value::Integer(value) | Value::Instant(value) => Arg::from(*value),
            Value::Float(value) => Arg::from(*value),
            Value::Text(value) => Arg::from(value.as_str()),
            // `applies` accepts none of them, and NULL equals nothing.
            Value::Decimal { .. } | Value::Date(_) | Value::DateTime(_) => Arg::from(None::<i64>),
        })
    };
    let expression = column.sql;
    match test {
        Test::IsNull => format!("({expression}) IS NULL"),
        Test::IsNotNull => format!("({expression}) IS NOT NULL"),
        Test::OneOf(all) => {
            let places: Vec<String> = all.iter().map(bind).collect();
            format!("({expression}) IN ({})", places.join(", "))
        }
        Test::Compare(comparison, value) => {
            let operator = match comparison {
                Comparison::Equal => "=",
                Comparison::NotEqual => "<>",
                Comparison::Less => "<",
                Comparison::LessOrEqual => "<=",
                Comparison::Greater => ">",
                Comparison::GreaterOrEqual => ">=",
            };
            format!("({expression}) {operator} {}", bind(value))
        }
    }
}

/// The columns of a batch being built.
struct Building {
    schema: SchemaRef,
    columns: Vec<Builder>,
    rows: usize,
}

enum Builder {
    Int(Int64Builder),
    Float(Float64Builder),
    Text(StringBuilder),
    SourceId(StringBuilder),
    Bool(BooleanBuilder),
    Instant(TimestampMicrosecondBuilder),
    Texts(ListBuilder<StringBuilder>),
}

impl Building {
    fn new(scan: &Scan, columns: &'static [Column], schema: SchemaRef) -> Building {
        let builder = |at: &usize| match columns[*at].kind {
            Kind::Int => Builder::Int(Int64Builder::new()),
            Kind::Float => Builder::Float(Float64Builder::new()),
            Kind::Text | Kind::Json => Builder::Text(StringBuilder::new()),
            Kind::SourceId => Builder::SourceId(StringBuilder::new()),
            Kind::Bool => Builder::Bool(BooleanBuilder::new()),
            Kind::Instant => Builder::Instant(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            Kind::Texts => Builder::Texts(ListBuilder::new(StringBuilder::new())),
        };
        Building { schema, columns: scan.columns.iter().map(builder).collect(), rows: 0 }
    }

    fn push(&mut self, row: &Row) -> Result<()> {
        for (at, builder) in self.columns.iter_mut().enumerate() {
            match builder {
                Builder::Int(values) => values.append_option(row.int_opt(at)?),
                Builder::Float(values) => values.append_option(row.float_opt(at)?),
                Builder::Text(values) => values.append_option(row.str_opt(at)?),
                Builder::SourceId(values) => values.append_option(row.int_opt(at)?.map(source_id::encode)),
                Builder::Bool(values) => values.append_option(row.flag_opt(at)?),
                Builder::Instant(values) => values.append_option(row.int_opt(at)?),
                Builder::Texts(lists) => match row.str_opt(at)? {
                    None => lists.append_null(),
                    Some(json) => {
                        let all: Vec<String> = serde_json::from_str(json).map_err(Error::internal)?;
                        all.iter().for_each(|text| lists.values().append_value(text));
                        lists.append(true);
                    }
                },
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<RecordBatch, SourceError> {
        let arrays = self.columns.iter_mut().map(|builder| -> ArrayRef {
            match builder {
                Builder::Int(values) => Arc::new(values.finish()),
                Builder::Float(values) => Arc::new(values.finish()),
                Builder::Text(values) | Builder::SourceId(values) => Arc::new(values.finish()),
                Builder::Bool(values) => Arc::new(values.finish()),
                Builder::Instant(values) => Arc::new(values.finish()),
                Builder::Texts(lists) => Arc::new(lists.finish()),
            }
        });
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        self.rows = 0;
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays.collect(), &options)
            .map_err(|error| failed(&Error::internal(error)))
    }
}
