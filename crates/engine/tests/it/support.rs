//! A table in memory that records its scans.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array as _, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use futures_util::StreamExt as _;
use landreeve_core::source::{CancellationToken, Query, QueryStream, SourceError};
use landreeve_core::table::{
    Applies, BatchStream, Catalog, Comparison, Condition, EngineQuery, Readable, Reader, Scan,
    SqlEngine as _, Table, Test, Value, Variable, View,
};
use landreeve_engine::{Engine, EngineOptions};

#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    pub id: i64,
    pub name: Option<String>,
    pub at: i64,
    pub score: Option<f64>,
    pub flag: Option<bool>,
}

/// The facts as a table that applies conditions exactly, as a superset, or not at all.
pub struct Facts {
    pub rows: Vec<Fact>,
    pub applies: Applies,
    pub partitions: usize,
    pub asked: Arc<Mutex<Vec<Scan>>>,
}

impl Facts {
    pub fn new(rows: Vec<Fact>, applies: Applies) -> Facts {
        Facts { rows, applies, partitions: 1, asked: Arc::default() }
    }

    fn columns(&self) -> Vec<ArrayRef> {
        let utc = |array: TimestampMicrosecondArray| array.with_timezone("UTC");
        vec![
            Arc::new(self.rows.iter().map(|row| Some(row.id)).collect::<Int64Array>()),
            Arc::new(self.rows.iter().map(|row| row.name.as_deref()).collect::<StringArray>()),
            Arc::new(utc(self.rows.iter().map(|row| Some(row.at)).collect())),
            Arc::new(self.rows.iter().map(|row| row.score).collect::<Float64Array>()),
            Arc::new(self.rows.iter().map(|row| row.flag).collect::<BooleanArray>()),
        ]
    }
}

fn holds(batch: &RecordBatch, row: usize, condition: &Condition) -> bool {
    let array = batch.column(condition.column);
    let value = if array.is_null(row) {
        None
    } else {
        Some(match array.data_type() {
            DataType::Int64 => Value::Integer(array.as_primitive::<Int64Type>().value(row)),
            DataType::Utf8 => Value::Text(array.as_string::<i32>().value(row).to_owned()),
            DataType::Timestamp(..) => {
                Value::Instant(array.as_primitive::<TimestampMicrosecondType>().value(row))
            }
            DataType::Float64 => Value::Float(array.as_primitive::<Float64Type>().value(row)),
            _ => Value::Boolean(array.as_boolean().value(row)),
        })
    };
    match (&condition.test, value) {
        (Test::IsNull, value) => value.is_none(),
        (Test::IsNotNull, value) => value.is_some(),
        (_, None) => false,
        (Test::OneOf(all), Some(value)) => all.contains(&value),
        (Test::Compare(comparison, wanted), Some(value)) => {
            let order = match (&value, wanted) {
                (Value::Integer(value), Value::Integer(wanted)) => value.partial_cmp(wanted),
                (Value::Instant(value), Value::Instant(wanted)) => value.partial_cmp(wanted),
                (Value::Float(value), Value::Float(wanted)) => value.partial_cmp(wanted),
                (Value::Text(value), Value::Text(wanted)) => value.partial_cmp(wanted),
                (Value::Boolean(value), Value::Boolean(wanted)) => value.partial_cmp(wanted),
                other => panic!("a condition across types: {other:?}"),
            };
            order.is_some_and(|order| match comparison {
                Comparison::Equal => order.is_eq(),
                Comparison::NotEqual => order.is_ne(),
                Comparison::Less => order.is_lt(),
                Comparison::LessOrEqual => order.is_le(),
                Comparison::Greater => order.is_gt(),
                Comparison::GreaterOrEqual => order.is_ge(),
            })
        }
    }
}

impl Table for Facts {
    fn schema(&self) -> SchemaRef {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("name", DataType::Utf8, true),
            Field::new("at", utc, true),
            Field::new("score", DataType::Float64, true),
            Field::new("flag", DataType::Boolean, true),
        ]))
    }

    fn applies(&self, _: &Condition) -> Applies {
        self.applies
    }

    fn partitions(&self, _: &Scan) -> usize {
        self.partitions
    }

    fn scan(&self, scan: Scan) -> BatchStream {
        self.asked.lock().unwrap().push(scan.clone());
        let inexact = self.applies == Applies::Superset && !scan.conditions.is_empty();
        assert!(!inexact || scan.limit.is_none(), "a limit on rows that the engine filters again");
        let whole = RecordBatch::try_new(self.schema(), self.columns()).unwrap();
        let kept: BooleanArray = (0..whole.num_rows())
            .map(|row| {
                // Every other row is returned whatever the conditions say.
                let comes = (inexact && row % 2 == 0)
                    || scan.conditions.iter().all(|condition| holds(&whole, row, condition));
                Some(row % self.partitions == scan.partition && comes)
            })
            .collect();
        let kept = arrow_select::filter::filter_record_batch(&whole, &kept).unwrap();
        let batch = kept.project(&scan.columns).unwrap();
        Box::pin(futures_util::stream::once(async move { Ok(batch) }))
    }
}

/// Endless rows.
pub struct Endless;

impl Table for Endless {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]))
    }

    fn applies(&self, _: &Condition) -> Applies {
        Applies::No
    }

    fn scan(&self, scan: Scan) -> BatchStream {
        let schema = Arc::new(self.schema().project(&scan.columns).unwrap());
        let batches = futures_util::stream::iter(0_i64..).map(move |batch| {
            let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(1_024));
            let ids: ArrayRef =
                Arc::new((batch * 1_024..(batch + 1) * 1_024).map(Some).collect::<Int64Array>());
            let columns = scan.columns.iter().map(|_| Arc::clone(&ids)).collect();
            Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options).unwrap())
        });
        Box::pin(batches)
    }
}

/// Returns one row, then waits until its reader is gone, and reports that.
pub struct Waiting {
    pub begun: Arc<AtomicUsize>,
    pub told: Arc<AtomicUsize>,
}

impl Table for Waiting {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]))
    }

    fn applies(&self, _: &Condition) -> Applies {
        Applies::No
    }

    fn partitions(&self, _: &Scan) -> usize {
        2
    }

    fn scan(&self, scan: Scan) -> BatchStream {
        let told = Arc::clone(&self.told);
        self.begun.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            scan.cancel.cancelled().await;
            told.fetch_add(1, Ordering::SeqCst);
        });
        let schema = Arc::new(self.schema().project(&scan.columns).unwrap());
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(1));
        let columns = scan.columns.iter().map(|_| Arc::clone(&ids)).collect();
        let one = RecordBatch::try_new_with_options(schema, columns, &options).unwrap();
        let first = futures_util::stream::once(async move { Ok(one) });
        Box::pin(first.chain(futures_util::stream::pending()))
    }
}

pub struct Bench {
    pub engine: Engine,
    pub tables: Readable,
    pub limit: Duration,
    pub max_rows: Option<u64>,
    _dir: tempfile::TempDir,
}

impl Bench {
    pub fn new(catalog: impl Catalog) -> Bench {
        let tables = Readable { catalog: Arc::new(catalog), reader: Reader::default() };
        let dir = tempfile::tempdir().unwrap();
        let options = EngineOptions {
            memory_bytes: 16 << 20,
            max_value_bytes: 1 << 20,
            spill_dir: dir.path().to_owned(),
            spill_bytes: 1 << 20,
            statements: 1,
            threads: 2,
        };
        let limit = Duration::from_secs(20);
        Bench { engine: Engine::new(options), tables, limit, max_rows: None, _dir: dir }
    }

    pub async fn ask(
        &self,
        sql: &str,
        variables: &[(&str, Variable)],
    ) -> Result<Vec<RecordBatch>, SourceError> {
        self.ask_until(sql, variables, CancellationToken::new()).await
    }

    pub async fn ask_until(
        &self,
        sql: &str,
        variables: &[(&str, Variable)],
        cancel: CancellationToken,
    ) -> Result<Vec<RecordBatch>, SourceError> {
        let mut stream = self.start(sql, variables, cancel).await?;
        let mut batches = Vec::new();
        while let Some(batch) = stream.batches.next().await {
            batches.push(batch?);
        }
        // The schema is valid even without rows.
        if batches.is_empty() {
            batches.push(RecordBatch::new_empty(stream.schema));
        }
        Ok(batches)
    }

    /// The number of rows, which are dropped as they come.
    pub async fn count_until(&self, sql: &str, cancel: CancellationToken) -> Result<usize, SourceError> {
        let mut stream = self.start(sql, &[], cancel).await?;
        let mut rows = 0;
        while let Some(batch) = stream.batches.next().await {
            rows += batch?.num_rows();
        }
        Ok(rows)
    }

    pub async fn start(
        &self,
        sql: &str,
        variables: &[(&str, Variable)],
        cancel: CancellationToken,
    ) -> Result<QueryStream, SourceError> {
        let query = EngineQuery {
            query: Query {
                sql: sql.to_owned(),
                time_limit: self.limit,
                batch_rows: 1_024,
                batch_bytes: 1 << 20,
                decimals: Vec::new(),
            },
            variables: variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            max_rows: self.max_rows,
        };
        self.engine.query(self.tables.clone(), query, cancel).await
    }

    /// Every row as text, with `|` between columns.
    pub async fn rows(&self, sql: &str) -> Vec<String> {
        let batches = self.ask(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        batches.iter().flat_map(texts).collect()
    }
}

/// A view whose unqualified names are in this schema.
pub fn view(schema: &str, sql: &str) -> View {
    View { sql: sql.to_owned(), schema: schema.to_owned(), columns: None }
}

pub fn texts(batch: &RecordBatch) -> Vec<String> {
    let options = arrow_cast::display::FormatOptions::default().with_null("NULL");
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| arrow_cast::display::ArrayFormatter::try_new(column, &options).unwrap())
        .collect();
    (0..batch.num_rows())
        .map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|"))
        .collect()
}
