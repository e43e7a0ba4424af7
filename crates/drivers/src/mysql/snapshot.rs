//! A database as it was at one moment: one session begins a transaction with a consistent snapshot, and reads the tables
//! in it one after the other. Between two tables it gives up its locks, so that a backup of hours does not hold up those
//! who change a table. Definitions are read before and after the rows: if they differ, there is no backup.
//!
//! The server's own limits do not count here: a backup that was cut off would be useless.

use std::sync::{Arc, Mutex, PoisonError};

use landreeve_core::ids::BoxFuture;
use landreeve_core::snapshot::{self, Snapshot, SnapshotFile, SnapshotOptions, TableRows};
use landreeve_core::source::{
    CancellationToken, ConnectSpec, Query, QueryStream, SourceError, SourceErrorKind, Target,
};
use mysql_async::prelude::Queryable;
use mysql_async::{Params, Row};

use super::connect::{Connector, Session, query_error};
use super::contents::{self, Column, Contents, Table};
use super::decode::Columns;
use super::definitions::Definitions;
use super::query::stream;
use super::text::{identifier, literal, members};
use super::{MySql, SNAPSHOT_LIMIT};
use crate::feed::{self, Feed, Watch};
use crate::{Bounds, Owner, errors};

/// What the definitions are called in a backup.
const FILE: &str = "definitions.json";
/// In a session of a backup or a restore. Definitions are written for these modes, and dates are taken as they are.
pub(super) const SETTINGS: [&str; 4] = [
    "SET NAMES utf8mb4",
    "SET SESSION sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION,STRICT_ALL_TABLES'",
    "SET SESSION time_zone = '+00:00'",
    "SET SESSION sql_quote_show_create = 1",
];
/// The same, on servers that know these variables. A reader may wait for a long time for what takes its rows.
const LIMITS: [&str; 11] = [
    "max_statement_time = 0",
    "max_execution_time = 0",
    "idle_transaction_timeout = 0",
    "idle_readonly_transaction_timeout = 0",
    "wait_timeout = 31536000",
    "net_write_timeout = 31536000",
    "net_read_timeout = 31536000",
    "sql_select_limit = 18446744073709551615",
    "sql_big_selects = 1",
    "TRANSACTION READ WRITE",
    "innodb_lock_wait_timeout = 31536000",
];
const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
/// Definitions that differ, in an error.
const MAX_NAMED: usize = 5;
/// Character sets of which every text comes back as it was, through Unicode. Of the others, some letters do not.
const EXACT: [&str; 18] = [
    "utf8mb4", "utf8mb3", "utf8", "cp850", "cp852", "cp866", "keybcs2", "koi8r", "koi8u", "latin1", "latin2",
    "latin5", "latin7", "macce", "macroman", "utf16", "utf16le", "utf32",
];

impl Session {
    /// Ends all limits of the server for this session.
    pub(super) async fn unlimited(&mut self) -> Result<(), SourceError> {
        for sql in SETTINGS {
            self.run(sql).await?;
        }
        for setting in LIMITS {
            self.try_run(&format!("SET SESSION {setting}")).await?;
        }
        Ok(())
    }

    /// A statement that not every server understands.
    pub(super) async fn try_run(&mut self, sql: &str) -> Result<(), SourceError> {
        match self.conn.query_drop(sql).await {
            Ok(()) | Err(mysql_async::Error::Server(_)) => Ok(()),
            Err(error) => Err(query_error(&error)),
        }
    }
}

pub(super) struct Taken {
    connector: Connector,
    spec: ConnectSpec,
    owner: Owner,
    /// Between two tables.
    idle: Idle,
    before: Contents,
    contents: snapshot::Contents,
    cancel: CancellationToken,
}

type Idle = Arc<Mutex<Option<Session>>>;

/// The session that is between two tables.
fn resume(idle: &Idle) -> Result<Session, SourceError> {
    let session = idle.lock().unwrap_or_else(PoisonError::into_inner).take();
    session.ok_or_else(|| errors::lost("the session of the snapshot has ended"))
}

/// Begins a session with these bounds in which no limit of the server counts.
pub(super) async fn connect(connector: &Connector, spec: &ConnectSpec) -> Result<Session, SourceError> {
    let mut session = connector.connect(spec).await?;
    session.unlimited().await?;
    Ok(session)
}

pub(super) async fn take(
    connector: Connector,
    owner: Owner,
    spec: ConnectSpec,
    options: SnapshotOptions,
    cancel: CancellationToken,
    watch: &Watch,
) -> Result<Taken, SourceError> {
    if matches!(&spec.target, Target::Network { database, .. } if database.is_empty()) {
        return Err(errors::unsupported("the datasource has no database; name the one to be backed up"));
    }
    let bounds = Bounds {
        max_value_bytes: options.max_value_bytes,
        max_row_bytes: options.max_value_bytes.saturating_mul(2),
    };
    let connector = Connector { bounds, ..connector };
    // A TIMESTAMP in a repeated hour is one moment in this zone only.
    let spec = ConnectSpec { time_zone: jiff::tz::TimeZone::UTC, ..spec };
    let mut session = watch.or_stop(connect(&connector, &spec)).await?;
    let prepared = tokio::select! {
        biased;
        stop = watch.stopped() => Err(stop.error()),
        prepared = prepare(&mut session, &options) => prepared,
    };
    let before = match prepared {
        Ok(before) => before,
        Err(error) => {
            connector.kill(&spec, session).await;
            return Err(error);
        }
    };
    let path = options.scratch.join(FILE);
    let version = session.version.clone();
    let definitions = Definitions::new(before.database.clone(), version.clone(), before.objects.clone());
    definitions.write(path.clone()).await?;
    let contents = snapshot::Contents {
        server_version: version,
        settings: before.settings.clone(),
        tables: before.tables.iter().map(|table| table.info.clone()).collect(),
        files: vec![SnapshotFile { name: FILE.to_owned(), path }],
        warnings: before.warnings.clone(),
        ..snapshot::Contents::default()
    };
    let idle = Arc::new(Mutex::new(Some(session)));
    Ok(Taken { connector, spec, owner, idle, before, contents, cancel })
}

/// Reads the definitions and begins the transaction. They are read again when it has ended, and not in it: the server
/// counts showing a view that takes the next value of a sequence as writing.
async fn prepare(session: &mut Session, options: &SnapshotOptions) -> Result<Contents, SourceError> {
    let wait = options.lock_timeout.as_secs().max(1);
    session.run(&format!("SET SESSION lock_wait_timeout = {wait}")).await?;
    session.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
    let mut contents = contents::read(session).await?;
    session.run(BEGIN).await?;
    session.run("SAVEPOINT landreeve").await?;
    // Rows that are in the snapshot may have values that sequences gave out just now.
    contents::read_states(session, &mut contents).await?;
    session.run("ROLLBACK TO SAVEPOINT landreeve").await?;
    Ok(contents)
}

impl Snapshot for Taken {
    fn contents(&self) -> &snapshot::Contents {
        &self.contents
    }

    fn rows<'a>(
        &'a self,
        table: usize,
        batch_rows: usize,
        batch_bytes: usize,
    ) -> BoxFuture<'a, Result<QueryStream, SourceError>> {
        Box::pin(async move {
            let table = self.before.tables.get(table).ok_or_else(errors::no_answer)?.clone();
            let (feed, watch, outlet) = feed::open(&self.owner, self.cancel.clone(), SNAPSHOT_LIMIT)?;
            let query = Query {
                sql: String::new(),
                time_limit: SNAPSHOT_LIMIT,
                batch_rows,
                batch_bytes,
                decimals: Vec::new(),
            };
            let (connector, spec) = (self.connector.clone(), self.spec.clone());
            let reader = Reader { connector, spec, idle: Arc::clone(&self.idle), table };
            self.owner.tasks.spawn(reader.run(query, feed, watch));
            outlet.stream().await
        })
    }

    fn end(self: Box<Self>) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let Taken { connector, spec, owner, idle, before, cancel, .. } = *self;
            feed::run(&owner, cancel, SNAPSHOT_LIMIT, move |watch| async move {
                let mut session = resume(&idle)?;
                let read = async {
                    session.run("COMMIT").await?;
                    contents::read(&mut session).await
                };
                let read = tokio::select! {
                    biased;
                    stop = watch.stopped() => Err(stop.error()),
                    read = read => read,
                };
                match read {
                    Ok(after) => {
                        session.close().await;
                        unchanged(&before, &after)
                    }
                    Err(error) => {
                        connector.kill(&spec, session).await;
                        Err(error)
                    }
                }
            })
            .await
        })
    }
}

fn unchanged(before: &Contents, after: &Contents) -> Result<(), SourceError> {
    let mut found = before.differences(after);
    if found.is_empty() {
        return Ok(());
    }
    let more = found.len().saturating_sub(MAX_NAMED);
    found.truncate(MAX_NAMED);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    Err(changed(format!("{}{more}", found.join(", "))))
}

fn changed(what: String) -> SourceError {
    SourceError {
        code: Some("definitions_changed".to_owned()),
        ..SourceError::new(
            SourceErrorKind::Query,
            format!(
                "definitions were changed during the backup: {what}; back up again when they are not changed"
            ),
        )
    }
}

/// Reads one table.
struct Reader {
    connector: Connector,
    spec: ConnectSpec,
    idle: Idle,
    table: Table,
}

impl Reader {
    async fn run(self, query: Query, mut feed: Feed, watch: Watch) {
        let mut session = match resume(&self.idle) {
            Ok(session) => session,
            Err(error) => return feed.fail(error),
        };
        let done = tokio::select! {
            biased;
            stop = watch.stopped() => Err(stop.error()),
            done = self.read(&mut session, &query, &mut feed) => done,
        };
        match done {
            Ok(()) => {
                // Before the end is told, so that the next table finds it.
                *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
                feed.end();
            }
            Err(error) => {
                self.connector.kill(&self.spec, session).await;
                let error = match errors::is_row_too_large(&error) {
                    true => watch.or_stop(self.longest(error)).await.unwrap_or_else(|error| error),
                    false => error,
                };
                feed.fail(self.named(error));
            }
        }
    }

    async fn read(&self, session: &mut Session, query: &Query, feed: &mut Feed) -> Result<(), SourceError> {
        let as_text = self.as_text(session).await?;
        let sql = self.statement(&as_text);
        let bounds = self.connector.bounds;
        let prepared = session.conn.prep(sql).await.map_err(|error| query_error(&error))?;
        let statement = prepared.clone();
        let rows =
            session.conn.exec_iter(&statement, Params::Empty).await.map_err(|error| query_error(&error))?;
        let columns = Columns::new(rows.columns_ref(), jiff::tz::TimeZone::UTC, bounds)?.for_backup();
        stream(rows, columns, query, bounds, feed).await?;
        session.conn.close(prepared).await.map_err(|error| query_error(&error))?;
        session.run("ROLLBACK TO SAVEPOINT landreeve").await
    }

    fn statement(&self, as_text: &[Option<&str>]) -> String {
        let wanted = self.table.columns.iter().zip(as_text).map(|(column, cast)| {
            let name = identifier(&column.name);
            match cast {
                Some(cast) => format!("CAST(t.{name} AS {cast}) AS {name}"),
                None => format!("t.{name}"),
            }
        });
        let mut wanted = wanted.collect::<Vec<_>>().join(", ");
        if wanted.is_empty() {
            // Every column is generated: there are rows nevertheless.
            wanted.push('1');
        }
        let mut sql = format!("SELECT {wanted} FROM {}", self.place());
        if let TableRows::Readable(key) = &self.table.info.rows
            && self.table.has_key
        {
            // The order in which the rows are stored: without the hint, the server may want to sort them.
            let key: Vec<String> = key.iter().map(|column| format!("t.{}", identifier(column))).collect();
            sql.push_str(&format!(" FORCE INDEX (PRIMARY) ORDER BY {}", key.join(", ")));
        }
        sql
    }

    fn place(&self) -> String {
        let history = if self.table.history { " FOR SYSTEM_TIME ALL" } else { "" };
        format!("{}{history} AS t", identifier(&self.table.info.name))
    }

    /// The type as which each column is read whose values do not all fit its own: dates that are not in the calendar, and
    /// letters that do not come back through Unicode.
    async fn as_text(&self, session: &mut Session) -> Result<Vec<Option<&'static str>>, SourceError> {
        let odds: Vec<Option<Odd>> = self.table.columns.iter().map(odd).collect();
        let conditions: Vec<String> =
            odds.iter().flatten().map(|odd| format!("MAX({})", odd.condition)).collect();
        if conditions.is_empty() {
            return Ok(vec![None; odds.len()]);
        }
        let sql = format!("SELECT {} FROM {}", conditions.join(", "), self.place());
        let row: Option<Row> = session.conn.query_first(sql).await.map_err(|error| query_error(&error))?;
        let mut at = 0;
        let mut casts = Vec::new();
        for (odd, column) in odds.into_iter().zip(&self.table.columns) {
            let Some(odd) = odd else {
                casts.push(None);
                continue;
            };
            let is_odd = row.as_ref().and_then(|row| row.get_opt::<Option<i64>, _>(at)?.ok()).flatten();
            at += 1;
            if is_odd.unwrap_or(0) == 0 {
                casts.push(None);
            } else if odd.read_as.is_some() {
                casts.push(odd.read_as);
            } else {
                return Err(errors::unsupported(format!(
                    "the column \"{}\" ({}) has values that the server's catalog cannot show, with characters beyond U+FFFF",
                    column.name, column.column_type
                )));
            }
        }
        Ok(casts)
    }

    /// The client gives a row up that is too long, whatever is in it. The table says which column it is.
    async fn longest(&self, error: SourceError) -> Result<SourceError, SourceError> {
        let mut session = connect(&self.connector, &self.spec).await?;
        let lengths = self.table.columns.iter().map(|column| {
            let name = identifier(&column.name);
            format!("MAX(LENGTH(t.{name}))")
        });
        let sql = format!("SELECT {} FROM {}", lengths.collect::<Vec<_>>().join(", "), self.place());
        let row: Option<Row> = session.conn.query_first(sql).await.map_err(|error| query_error(&error))?;
        session.close().await;
        let bounds = self.connector.bounds;
        let lengths = self.table.columns.iter().enumerate().filter_map(|(at, column)| {
            let length = row.as_ref()?.get_opt::<Option<u64>, _>(at)?.ok()??;
            Some((usize::try_from(length).unwrap_or(usize::MAX), column))
        });
        Ok(match lengths.max_by_key(|(length, _)| *length) {
            Some((length, column)) if length > bounds.max_value_bytes => {
                errors::value_too_large_for_backup(&column.name, length, bounds)
            }
            _ if errors::is_row_too_large(&error) => errors::row_too_large_for_backup(bounds),
            _ => error,
        })
    }

    /// The error with the table's name.
    fn named(&self, error: SourceError) -> SourceError {
        let table = identifier(&self.table.info.name);
        match error.code.as_deref() {
            // Its definition has changed, or it was dropped, since the transaction began.
            Some("1412" | "1146" | "1054") => changed(format!("table {table}: {}", error.message)),
            Some("1205") => SourceError {
                message: format!("table {table} is locked by another session: {}", error.message),
                ..error
            },
            _ => SourceError { message: format!("table {table}: {}", error.message), ..error },
        }
    }
}

/// Values that cannot be read as their type.
struct Odd {
    /// It is true of them.
    condition: String,
    /// The type that they are read as. `None`: they cannot be backed up.
    read_as: Option<&'static str>,
}

fn odd(column: &Column) -> Option<Odd> {
    let name = format!("t.{}", identifier(&column.name));
    let (condition, read_as) = match (column.data_type.as_str(), &column.character_set) {
        ("date" | "datetime", _) => {
            // Partly zero, or a day that its month does not have.
            let condition = format!("{name} <> 0 AND NOT (FROM_DAYS(TO_DAYS({name})) <=> DATE({name}))");
            (condition, Some("CHAR"))
        }
        // The catalog shows a character that it does not have as a question mark, in the definition too.
        (kind @ ("enum" | "set"), _) if column.column_type.contains('?') => {
            let members: Vec<String> =
                members(&column.column_type).iter().map(|text| literal(text)).collect();
            let function = if kind == "enum" { "ELT" } else { "MAKE_SET" };
            let shown = format!("{function}({name} | 0, {})", members.join(", "));
            let condition =
                format!("CAST(CONVERT({name} USING utf8mb4) AS BINARY) <> CAST({shown} AS BINARY)");
            (condition, None)
        }
        // With an empty member, two values have the same text. They are read as their numbers then.
        (kind @ ("enum" | "set"), _) if empty_member(column).is_some() => {
            let member = empty_member(column).unwrap_or_default();
            let condition = match kind {
                "enum" => format!("{name} = 0"),
                _ => format!("(({name} | 0) & (1 << {member})) <> 0"),
            };
            (condition, Some("UNSIGNED"))
        }
        (_, Some(set)) if !EXACT.contains(&set.as_str()) && is_word(set) => {
            let back = format!("CONVERT(CONVERT({name} USING utf8mb4) USING {set})");
            (format!("NOT (CAST({name} AS BINARY) <=> CAST({back} AS BINARY))"), Some("BINARY"))
        }
        _ => return None,
    };
    Some(Odd { condition, read_as })
}

/// Where the empty text is among the members of an ENUM or SET.
fn empty_member(column: &Column) -> Option<usize> {
    members(&column.column_type).iter().position(String::is_empty)
}

fn is_word(name: &str) -> bool {
    name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

impl snapshot::Snapshots for MySql {
    fn connections(&self, _: usize) -> usize {
        1
    }

    fn take<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        options: SnapshotOptions,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Box<dyn Snapshot>, SourceError>> {
        let (connector, spec, token) = (self.connector.clone(), spec.clone(), cancel.clone());
        let owner = self.owner.clone();
        Box::pin(feed::run(&self.owner, cancel, SNAPSHOT_LIMIT, move |watch| async move {
            let taken = take(connector, owner, spec, options, token, &watch).await?;
            Ok(Box::new(taken) as Box<dyn Snapshot>)
        }))
    }
}
