//! A database as it was at one moment: a session exports a snapshot and keeps its tables from being changed, `pg_dump`
//! writes the definitions as of that snapshot, and further sessions read the rows.
//!
//! Here alone the server's own limits do not count: a backup that was cut off would be none.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_schema::Schema;
use landreeve_core::ids::BoxFuture;
use landreeve_core::schema::ColumnInfo;
use landreeve_core::snapshot::{
    Contents, RowOrder, Snapshot, SnapshotFile, SnapshotOptions, SnapshotTable, TableRows,
};
use landreeve_core::source::{
    CancellationToken, ConnectSpec, Query, QueryStream, SourceError, SourceErrorKind,
};
use tokio_postgres::Row;

use super::connect::{Connector, Session, query_error};
use super::decode;
use super::introspect::{get, rows};
use super::query::stream_rows;
use super::relay::Relay;
use super::tools;
use crate::feed::{self, Feed, Watch};
use crate::{Bounds, errors};

/// What the definitions are called in a backup.
const FILE: &str = "definitions.pgdump";
/// Tables that are locked with one statement.
const LOCKED_TOGETHER: usize = 100;
/// Arguments of a program are limited to two megabytes.
const MAX_TABLES: usize = 15_000;

/// In every session of a backup: no limit of the server counts, and values that are text look the same everywhere.
pub(super) const SETTINGS: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
                                   SET row_security = off; SET lc_monetary = 'C'; SET search_path = pg_catalog; \
                                   SET bytea_output = hex; SET quote_all_identifiers = off; SET TIME ZONE 'UTC'; \
                                   SELECT pg_catalog.set_config('transaction_timeout', '0', false) \
                                   FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout'";
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// How often tables may come and go while they are locked.
const ATTEMPTS: u32 = 5;

/// Tables with rows of their own, except those of extensions, which know what of them is the user's: `pg_dump` reads them.
const TABLES: &str = "
    SELECT c.oid::int8, n.nspname::text, c.relname::text,
           (SELECT pg_catalog.array_agg(a.attname::text ORDER BY k.ord)
              FROM pg_catalog.pg_index i
             CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, ord)
              JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
             WHERE i.indrelid = c.oid AND i.indisprimary AND k.ord <= i.indnkeyatts),
           root.nspname::text, root.relname::text, coalesce(root.by_hash, false)
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN LATERAL (
            SELECT m.nspname, r.relname, EXISTS (
                   SELECT 1 FROM pg_catalog.pg_partition_ancestors(c.oid) AS a
                     JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = a.relid WHERE p.partstrat = 'h') AS by_hash
              FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace m ON m.oid = r.relnamespace
             WHERE r.oid = pg_catalog.pg_partition_root(c.oid)
           ) AS root ON c.relispartition
     WHERE c.relkind = 'r' AND c.relpersistence <> 't'
       AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_t%'
       AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
                       AND d.objid = c.oid AND d.deptype = 'e')
     ORDER BY 2, 3";

/// Columns that have values of their own.
const COLUMNS: &str = "
    SELECT c.oid::int8, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
           (row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum))::int8
      FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
       AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_t%'
     ORDER BY 1, 5";

/// What a new database must have in common. Not every version has all of it.
const DATABASE: &str = "
    SELECT pg_catalog.pg_encoding_to_char(d.encoding)::text, d.datcollate::text, d.datctype::text,
           j ->> 'datlocprovider', coalesce(j ->> 'datlocale', j ->> 'daticulocale'), j ->> 'daticurules'
      FROM pg_catalog.pg_database d CROSS JOIN LATERAL pg_catalog.to_jsonb(d) AS j
     WHERE d.datname = pg_catalog.current_database()";

/// The names of these, as a backup has them.
const DATABASE_NAMES: [&str; 6] =
    ["encoding", "lc_collate", "lc_ctype", "locale_provider", "locale", "icu_rules"];

pub(super) struct Taken {
    connector: Connector,
    spec: ConnectSpec,
    bounds: Bounds,
    /// Keeps the snapshot.
    session: Session,
    /// Readers that have finished a table, inside the snapshot.
    idle: Idle,
    readers: usize,
    row_order: RowOrder,
    exported: String,
    contents: Contents,
    cancel: CancellationToken,
}

type Idle = Arc<Mutex<Vec<Session>>>;

pub(super) async fn take(
    connector: Connector,
    spec: ConnectSpec,
    options: SnapshotOptions,
    cancel: CancellationToken,
    watch: &Watch,
) -> Result<Taken, SourceError> {
    let bounds = Bounds {
        max_value_bytes: options.max_value_bytes,
        max_row_bytes: options.max_value_bytes.saturating_mul(2),
    };
    let connector = Connector { bounds, ..connector };
    let pg_dump = &options.tools.pg_dump;
    let version = tools::version(pg_dump, "pg_dump", watch).await?;
    let session = watch.or_stop(connector.connect(&spec)).await?;
    tools::check_version("pg_dump", &version, &session.version)?;
    let prepared = watch.or_stop(prepare(&session, &options)).await;
    let (exported, tables, settings) = prepared?;
    let mut contents = Contents {
        server_version: session.version.clone(),
        settings,
        tools: BTreeMap::from([("pg_dump".to_owned(), version)]),
        tables,
        ..Contents::default()
    };
    let path = options.scratch.join(FILE);
    let arguments = dump_arguments(&exported, &contents.tables, &options, &path);
    let name = exported_name(&exported);
    let relay = Relay::open(&connector, &spec, &name, &options.scratch).await?;
    tools::run((pg_dump, "pg_dump"), arguments, (&relay, &spec), &options.scratch, watch).await?;
    contents.files.push(SnapshotFile { name: FILE.to_owned(), path });
    let (idle, readers, row_order) = (Idle::default(), options.readers, options.row_order);
    Ok(Taken { connector, spec, bounds, session, idle, readers, row_order, exported, contents, cancel })
}

/// A short name that no other backup has: of the server's process and of ours.
fn exported_name(exported: &str) -> String {
    let letters = exported.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    format!("{}-{letters}", std::process::id())
}

type Prepared = (String, Vec<SnapshotTable>, BTreeMap<String, String>);

/// Locks the tables, and exports a snapshot after that: what rewrote a table before cannot be between the two.
async fn prepare(session: &Session, options: &SnapshotOptions) -> Result<Prepared, SourceError> {
    let wait = options.lock_timeout.as_millis().clamp(1, i32::MAX as u128);
    let settings = format!("{SETTINGS}; SET lock_timeout = {wait}");
    execute(session, &settings).await?;
    for _ in 0..ATTEMPTS {
        if let Some(prepared) = attempt(session).await? {
            return Ok(prepared);
        }
        execute(session, "ROLLBACK").await?;
    }
    Err(SourceError::new(
        SourceErrorKind::Query,
        "tables are created and dropped all the time; try again when that has ended",
    ))
}

async fn execute(session: &Session, sql: &str) -> Result<(), SourceError> {
    session.client.batch_execute(sql).await.map_err(|error| query_error(&error, 0))
}

/// `None`: the tables are not those that were locked.
async fn attempt(session: &Session) -> Result<Option<Prepared>, SourceError> {
    let known = tables(session).await?;
    execute(session, BEGIN).await?;
    // No statement before this one takes the transaction's snapshot.
    match lock(session, &known).await {
        Ok(()) => {}
        Err(error) if GONE.contains(&error.code.as_deref().unwrap_or_default()) => return Ok(None),
        Err(error) => return Err(error),
    }
    let exported = single(session, "SELECT pg_catalog.pg_export_snapshot()::text").await?;
    let tables = tables(session).await?;
    if tables != known {
        return Ok(None);
    }
    let database = single(session, DATABASE).await?;
    let mut settings = BTreeMap::new();
    for (at, name) in DATABASE_NAMES.into_iter().enumerate() {
        let value: Option<String> = get(&database, at)?;
        settings.extend(value.map(|value| (name.to_owned(), value)));
    }
    Ok(Some((get(&exported, 0)?, tables, settings)))
}

/// A table or its schema was dropped meanwhile.
const GONE: [&str; 2] = ["42P01", "3F000"];

async fn single(session: &Session, sql: &str) -> Result<Row, SourceError> {
    let row = rows(session, sql).await?.into_iter().next();
    row.ok_or_else(|| errors::lost("the catalog returned nothing"))
}

async fn tables(session: &Session) -> Result<Vec<SnapshotTable>, SourceError> {
    let mut columns: BTreeMap<i64, Vec<ColumnInfo>> = BTreeMap::new();
    for row in rows(session, COLUMNS).await? {
        let position: i64 = get(&row, 4)?;
        columns.entry(get(&row, 0)?).or_default().push(ColumnInfo {
            name: get(&row, 1)?,
            data_type: get(&row, 2)?,
            nullable: get(&row, 3)?,
            position: u32::try_from(position).unwrap_or(0),
        });
    }
    let mut found = Vec::new();
    for row in rows(session, TABLES).await? {
        let oid: i64 = get(&row, 0)?;
        // A table without columns has rows as well, which `pg_dump` counts.
        let Some(columns) = columns.remove(&oid) else { continue };
        let key: Option<Vec<String>> = get(&row, 3)?;
        let (schema, root): (Option<String>, Option<String>) = (get(&row, 4)?, get(&row, 5)?);
        let partition_of = schema.zip(root);
        let by_hash: bool = get(&row, 6)?;
        found.push(SnapshotTable {
            // Where a row belongs may be computed differently on another server.
            through: partition_of.clone().filter(|_| by_hash),
            partition_of,
            schema: get(&row, 1)?,
            name: get(&row, 2)?,
            definition: None,
            columns,
            rows: TableRows::Readable(key.unwrap_or_default()),
        });
    }
    if found.len() > MAX_TABLES {
        let message =
            format!("the database has {} tables; at most {MAX_TABLES} can be backed up", found.len());
        return Err(errors::unsupported(message));
    }
    Ok(found)
}

/// From now on none of them can be dropped or changed in its form.
async fn lock(session: &Session, tables: &[SnapshotTable]) -> Result<(), SourceError> {
    for some in tables.chunks(LOCKED_TOGETHER) {
        let names: Vec<String> = some.iter().map(|table| format!("ONLY {}", quoted(table))).collect();
        let sql = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
        session.client.batch_execute(&sql).await.map_err(|error| {
            let mut error = query_error(&error, 0);
            if error.code.as_deref() == Some("55P03") {
                error.message = format!("a table is locked by another session: {}", error.message);
            }
            error
        })?;
    }
    Ok(())
}

/// An identifier, quoted.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quoted(table: &SnapshotTable) -> String {
    format!("{}.{}", identifier(&table.schema), identifier(&table.name))
}

fn dump_arguments(
    exported: &str,
    tables: &[SnapshotTable],
    options: &SnapshotOptions,
    path: &std::path::Path,
) -> Vec<OsString> {
    let wait = options.lock_timeout.as_millis().max(1);
    let mut arguments: Vec<OsString> = ["--format=custom", "--compress=0", "--no-password", "--no-sync"]
        .into_iter()
        .map(OsString::from)
        .collect();
    arguments.push(format!("--snapshot={exported}").into());
    arguments.push(format!("--lock-wait-timeout={wait}").into());
    for table in tables {
        arguments.push(format!("--exclude-table-data={}", quoted(table)).into());
    }
    arguments.push("--file".into());
    arguments.push(path.into());
    arguments
}

impl Snapshot for Taken {
    fn contents(&self) -> &Contents {
        &self.contents
    }

    fn readers(&self) -> usize {
        self.readers.max(1)
    }

    fn rows<'a>(
        &'a self,
        table: usize,
        batch_rows: usize,
        batch_bytes: usize,
    ) -> BoxFuture<'a, Result<QueryStream, SourceError>> {
        Box::pin(async move {
            let owner = &self.connector.owner;
            let table = self.contents.tables.get(table).ok_or_else(errors::no_answer)?.clone();
            let (feed, watch, outlet) = feed::open(owner, self.cancel.clone(), super::SNAPSHOT_LIMIT)?;
            let query = Query {
                sql: String::new(),
                time_limit: super::SNAPSHOT_LIMIT,
                batch_rows,
                batch_bytes,
                decimals: Vec::new(),
            };
            let reader = Reader {
                connector: self.connector.clone(),
                spec: self.spec.clone(),
                bounds: self.bounds,
                exported: self.exported.clone(),
                row_order: self.row_order,
                idle: Arc::clone(&self.idle),
                table,
            };
            owner.tasks.spawn(reader.run(query, feed, watch));
            outlet.stream().await
        })
    }

    fn end(self: Box<Self>) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            // If the session was lost, so was what kept the tables as they were.
            execute(&self.session, "COMMIT").await
        })
    }
}

/// Reads one table.
struct Reader {
    connector: Connector,
    spec: ConnectSpec,
    bounds: Bounds,
    exported: String,
    row_order: RowOrder,
    idle: Idle,
    table: SnapshotTable,
}

impl Reader {
    async fn run(self, query: Query, mut feed: Feed, watch: Watch) {
        let begun = watch.or_stop(self.begin()).await;
        let session = match begun {
            Ok(session) => session,
            Err(error) => return feed.fail(error),
        };
        let done = tokio::select! {
            biased;
            stop = watch.stopped() => Err(stop.error()),
            done = self.read(&session, &query, &mut feed) => done,
        };
        match done {
            Ok(()) => {
                // Before the end is told, so that the next table finds it.
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
                feed.end();
            }
            Err(error) => {
                feed.fail(self.named(error));
                session.cancel().await;
                session.discard().await;
            }
        }
    }

    async fn begin(&self) -> Result<Session, SourceError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(session) = idle.filter(|session| !session.client.is_closed()) {
            return Ok(session);
        }
        let session = self.connector.connect(&self.spec).await?;
        let exported = self.exported.replace('\'', "''");
        let begin = format!("{BEGIN}; SET TRANSACTION SNAPSHOT '{exported}'; {SETTINGS}");
        session.client.batch_execute(&begin).await.map_err(|error| query_error(&error, 0))?;
        Ok(session)
    }

    async fn read(&self, session: &Session, query: &Query, feed: &mut Feed) -> Result<(), SourceError> {
        let (client, table) = (&session.client, quoted(&self.table));
        let names: Vec<String> = self.table.columns.iter().map(|column| identifier(&column.name)).collect();
        let plain = format!("SELECT {} FROM ONLY {table}", names.join(", "));
        let prepared = client.prepare(&plain).await.map_err(|error| query_error(&error, 0))?;
        let plan = decode::plan(prepared.columns(), &[]);
        let wanted = names.iter().zip(&plan.as_text).map(|(name, text)| match text {
            // What the type itself writes, whatever casts were defined for it. Null stays null.
            true => format!(
                "CASE WHEN {name} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', {name}) END AS {name}"
            ),
            false => name.clone(),
        });
        let wanted = wanted.collect::<Vec<_>>().join(", ");
        let mut sql = format!("SELECT {wanted} FROM ONLY {table} AS t");
        if let TableRows::Readable(key) = &self.table.rows
            && !key.is_empty()
            && self.row_order == RowOrder::Key
        {
            // Of the table, not of the result, where a column may be text.
            let key: Vec<String> = key.iter().map(|column| format!("t.{}", identifier(column))).collect();
            sql.push_str(" ORDER BY ");
            sql.push_str(&key.join(", "));
        }
        let read = client.prepare(&sql).await.map_err(|error| query_error(&error, 0))?;
        let schema = Arc::new(Schema::new(plan.fields.clone()));
        let streamed = async {
            let rows = client.query_raw(&read, std::iter::empty::<i32>()).await;
            let rows = rows.map_err(|error| query_error(&error, 0))?;
            stream_rows(rows, &plan, schema, query, self.bounds, feed, 0).await
        };
        let streamed = streamed.await.map(drop);
        streamed.map_err(|error| super::query::refused(session, &plan, self.bounds, true).unwrap_or(error))
    }

    /// The error with the table's name.
    fn named(&self, error: SourceError) -> SourceError {
        let message = format!("table {}.{}: {}", self.table.schema, self.table.name, error.message);
        SourceError { message, ..error }
    }
}
