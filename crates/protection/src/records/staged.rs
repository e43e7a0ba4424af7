//! A table of a backup that is a SQLite file: the file is copied out of the repository once, checked, and read with SQLite.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Schema, SchemaRef};
use futures_util::{StreamExt as _, stream};
use jiff::tz::TimeZone;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::ids::DatasourceId;
use landreeve_core::source::{
    CancellationToken, ConnectSpec, Driver, Permit, Query, RecordBatch, SourceError, SourceErrorKind, Target,
    TlsMode,
};
use landreeve_core::table::{Applies, BatchStream, Comparison, Condition, Scan, Table, Test, Value};
use landreeve_core::vault::{VaultError, VaultErrorKind, VaultResult};
use landreeve_estate::program::Scratch;
use landreeve_estate::results::{BATCH_BYTES, BATCH_ROWS};
use uuid::Uuid;

use super::opened::OpenBackup;
use crate::manifest::ManifestTable;
use crate::plane::Protection;
use crate::restoring::{copy, only_file};

/// Reading the columns of a table.
const DESCRIBE: Duration = Duration::from_secs(30);
/// The statement around it has a limit of its own.
const SCAN: Duration = Duration::from_secs(7 * 86_400);

/// The file of a backup, once it is needed. It is deleted with this.
#[derive(Default)]
pub(crate) struct Staged {
    file: OnceLock<(Scratch, PathBuf)>,
    /// Held by the one that copies it.
    copying: Mutex<()>,
}

impl Staged {
    /// Where the file is. Others wait for the one that copies it, also if the statement that wanted it is gone.
    fn path(&self, root: &std::path::Path, unique: Uuid, opened: &OpenBackup) -> VaultResult<PathBuf> {
        let _copying = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, path)) = self.file.get() {
            return Ok(path.clone());
        }
        let unable = |why: String| {
            VaultError::new(
                VaultErrorKind::Unavailable,
                format!("could not copy the file of the backup: {why}"),
            )
        };
        let scratch = Scratch::new(root, unique).map_err(|error| unable(error.message))?;
        // Without symbolic links in it.
        let folder = scratch.path().canonicalize().map_err(|error| unable(error.to_string()))?;
        let path = folder.join("database.sqlite");
        let mut out = std::fs::File::create_new(&path).map_err(|error| unable(error.to_string()))?;
        copy(&*opened.repository, &opened.snapshot, &only_file(&opened.manifest)?, &mut out)?;
        let _ = self.file.set((scratch, path.clone()));
        Ok(path)
    }
}

/// The rows of one table.
#[derive(Clone)]
pub(super) struct StagedRows {
    driver: Arc<dyn Driver>,
    spec: ConnectSpec,
    table: ManifestTable,
    schema: SchemaRef,
    /// The file is needed for as long as it is read.
    opened: Arc<OpenBackup>,
}

impl StagedRows {
    pub async fn open(
        plane: &Protection,
        opened: Arc<OpenBackup>,
        position: usize,
    ) -> Result<StagedRows, SourceError> {
        let lost = |message: String| SourceError::new(SourceErrorKind::Lost, message);
        let table = opened.manifest.tables.get(position).cloned();
        let table = table.ok_or_else(|| lost("a table of the backup is missing".to_owned()))?;
        let (root, unique) = (plane.options().scratch_dir.clone(), plane.estate().uuid());
        let backup = Arc::clone(&opened);
        // Few files are copied at a time.
        let copying = plane.staging().acquire().await.map_err(|error| lost(error.to_string()))?;
        let path = plane.blocking(move |_| backup.staged.path(&root, unique, &backup)).await;
        drop(copying);
        let path = path.map_err(|error| lost(error.message))?.map_err(|error| lost(error.message))?;
        let driver = plane.estate().driver(DatabaseType::Sqlite).map_err(|error| lost(error.message))?;
        let schema = Arc::new(Schema::empty());
        let mut rows = StagedRows { driver, spec: spec(path), table, schema, opened };
        rows.schema = rows.described().await?;
        Ok(rows)
    }

    /// The columns, with the types of the first rows where none was declared.
    async fn described(&self) -> Result<SchemaRef, SourceError> {
        let all: Vec<usize> = (0..self.table.columns.len()).collect();
        let query = query(format!("{} LIMIT 1", self.select(&all)), DESCRIBE, BATCH_ROWS);
        let cancel = CancellationToken::new();
        let _guard = cancel.clone().drop_guard();
        Ok(self.driver.query(&self.spec, query, cancel).await?.schema)
    }

    /// What was not declared may be of any type: as text all of it can be read.
    fn select(&self, columns: &[usize]) -> String {
        let column = |position: &usize| {
            let column = self.table.columns.get(*position)?;
            let name = identifier(&column.name);
            Some(if has_type(&column.data_type) { name } else { format!("CAST({name} AS TEXT) AS {name}") })
        };
        let mut wanted: Vec<String> = columns.iter().filter_map(column).collect();
        if wanted.is_empty() {
            wanted.push("1".to_owned());
        }
        format!("SELECT {} FROM {}", wanted.join(", "), identifier(&self.table.name))
    }

    fn condition(&self, condition: &Condition) -> Option<String> {
        let column = self.table.columns.get(condition.column)?;
        // Of others the database compares something else than what is shown.
        if !has_affinity(&column.data_type) {
            return None;
        }
        let field = self.schema.fields().get(condition.column)?;
        let one = |value: &Value| literal(field.data_type(), value);
        let name = identifier(&column.name);
        Some(match &condition.test {
            Test::Compare(Comparison::Equal, value) => format!("{name} = {}", one(value)?),
            Test::OneOf(values) => {
                let values: Vec<String> = values.iter().map(one).collect::<Option<_>>()?;
                format!("{name} IN ({})", values.join(", "))
            }
            // The order of texts may be another one.
            Test::Compare(comparison, value @ Value::Integer(_)) => {
                let sign = match comparison {
                    Comparison::Less => "<",
                    Comparison::LessOrEqual => "<=",
                    Comparison::Greater => ">",
                    Comparison::GreaterOrEqual => ">=",
                    Comparison::Equal | Comparison::NotEqual => return None,
                };
                format!("{name} {sign} {}", one(value)?)
            }
            _ => return None,
        })
    }

    fn statement(&self, scan: &Scan) -> String {
        let mut sql = self.select(&scan.columns);
        let conditions: Vec<String> =
            scan.conditions.iter().filter_map(|condition| self.condition(condition)).collect();
        if !conditions.is_empty() {
            sql.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
        }
        if let Some(limit) = scan.limit {
            sql.push_str(&format!(" LIMIT {limit}"));
        }
        sql
    }
}

/// Whether a column has one type, by what was declared.
fn has_type(declared: &str) -> bool {
    const WORDS: [&str; 16] = [
        "BOOL",
        "BOOLEAN",
        "DATE",
        "DATETIME",
        "TIMESTAMP",
        "TIME",
        "JSON",
        "UUID",
        "NUMERIC",
        "DECIMAL",
        "NUMBER",
        "MONEY",
        "BLOB",
        "BINARY",
        "VARBINARY",
        "BYTEA",
    ];
    let upper = declared.to_ascii_uppercase();
    let word = upper.split(['(', ' ']).next().unwrap_or_default();
    WORDS.contains(&word)
        || has_affinity(declared)
        || ["REAL", "FLOA", "DOUB"].iter().any(|part| upper.contains(part))
}

/// Whether SQLite stores its values as integers or as text wherever it can.
fn has_affinity(declared: &str) -> bool {
    let upper = declared.to_ascii_uppercase();
    ["INT", "CHAR", "CLOB", "TEXT"].iter().any(|part| upper.contains(part))
}

fn spec(path: PathBuf) -> ConnectSpec {
    ConnectSpec {
        // Of no datasource.
        datasource: DatasourceId(0),
        version: 0,
        database_type: DatabaseType::Sqlite,
        target: Target::File(path),
        tls: TlsMode::Prefer,
        time_zone: TimeZone::UTC,
        max_connections: 1,
        permit: Permit::default(),
        connect_timeout: DESCRIBE,
    }
}

fn query(sql: String, time_limit: Duration, batch_rows: usize) -> Query {
    Query { sql, time_limit, batch_rows, batch_bytes: BATCH_BYTES, decimals: Vec::new() }
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A value that SQLite compares as SQL does.
fn literal(column: &DataType, value: &Value) -> Option<String> {
    match (column, value) {
        (DataType::Int64, Value::Integer(value)) => Some(value.to_string()),
        (DataType::Utf8, Value::Text(text)) if !text.contains('\0') => {
            Some(format!("'{}'", text.replace('\'', "''")))
        }
        _ => None,
    }
}

/// The batch in the types that the table has.
fn shown(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, SourceError> {
    let failed =
        |error: arrow_schema::ArrowError| SourceError::new(SourceErrorKind::Query, error.to_string());
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let arrays = batch.columns().iter().zip(schema.fields());
    let arrays = arrays.map(|(array, field)| cast_with_options(array, field.data_type(), &options));
    let arrays = arrays.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let rows = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &rows).map_err(failed)
}

impl Table for StagedRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn applies(&self, condition: &Condition) -> Applies {
        if self.condition(condition).is_some() { Applies::Superset } else { Applies::No }
    }

    fn row_count(&self) -> Option<u64> {
        self.table.rows
    }

    fn scan(&self, scan: Scan) -> BatchStream {
        let schema = match self.schema.project(&scan.columns) {
            Ok(schema) => Arc::new(schema),
            Err(error) => {
                let error = SourceError::new(SourceErrorKind::Query, error.to_string());
                return Box::pin(stream::once(async { Err(error) }));
            }
        };
        let query = query(self.statement(&scan), SCAN, scan.batch_rows);
        let table = self.clone();
        let opening = async move {
            let opened = table.driver.query(&table.spec, query, scan.cancel).await;
            let batches: BatchStream = match opened {
                Err(error) => Box::pin(stream::once(async { Err(error) })),
                Ok(rows) => Box::pin(rows.batches.map(move |batch| {
                    let _file = &table.opened;
                    shown(&batch?, &schema)
                })),
            };
            batches
        };
        Box::pin(stream::once(opening).flatten())
    }
}
