//! Makes databases and fills them, for restores.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use landreeve_core::ids::BoxFuture;
use landreeve_core::load::{Definitions as Given, Loader, Rows, Stage};
use landreeve_core::source::{CancellationToken, ConnectSpec, SourceError, SourceErrorKind, Target};
use mysql_async::prelude::Queryable;
use mysql_async::{Params, Statement, Value};

use super::connect::{Connector, Session, query_error};
use super::definitions::{Definitions, Kind, Object};
use super::snapshot::{SETTINGS, connect};
use super::text::{identifier, literal, members, without_definer};
use super::values::Values;
use super::{MySql, SNAPSHOT_LIMIT};
use crate::feed::{self, Watch};
use crate::{Bounds, errors};

/// Bytes of rows in a statement.
const CHUNK: usize = 1024 * 1024;
/// Rows in a statement, and a power of two.
const MAX_ROWS: usize = 256;
const MAX_PARAMETERS: usize = 65_535;
/// A larger statement is sent in parts by the client, one for each value.
const MAX_PACKET: usize = 16 * 1024 * 1024 - 1;
/// What a row takes in a packet besides its values.
const ROW_HEAD: usize = 1024;
/// As strict as the others, but an error value of an ENUM goes in.
const LENIENT: &str =
    "SET SESSION sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION'";

/// Everything that a user may have made in a database.
const MADE: &str = "
    SELECT (SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND BINARY TABLE_SCHEMA = ?)
         + (SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = ? AND BINARY ROUTINE_SCHEMA = ?)
         + (SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = ? AND BINARY EVENT_SCHEMA = ?)";

impl Loader for MySql {
    fn create<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        name: &'a str,
        settings: &'a BTreeMap<String, String>,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<(), SourceError>> {
        let (name, settings) = (name.to_owned(), settings.clone());
        // The one that was backed up may be gone.
        let mut spec = spec.clone();
        if let Target::Network { database, .. } = &mut spec.target {
            database.clear();
        }
        self.in_session(&spec, cancel, move |session| {
            Box::pin(async move { create(session, &name, &settings).await })
        })
    }

    fn define<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        definitions: &'a Given,
        stage: Stage,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Vec<String>, SourceError>> {
        let definitions = definitions.clone();
        self.in_session(spec, cancel, move |session| {
            Box::pin(async move { define(session, &definitions, stage).await })
        })
    }

    fn load<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        (_, table): (&'a str, &'a str),
        columns: &'a [String],
        rows: Rows,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<u64, SourceError>> {
        let (connector, spec) = (self.loading(), spec.clone());
        let (table, columns) = (table.to_owned(), columns.to_vec());
        Box::pin(feed::run(&self.owner, cancel, SNAPSHOT_LIMIT, move |watch| async move {
            let loaded = load(&connector, &spec, (&table, &columns), rows, &watch).await;
            loaded.map_err(|error| SourceError {
                message: format!("table {}: {}", identifier(&table), error.message),
                ..error
            })
        }))
    }
}

impl MySql {
    /// Its own bounds: what is in a backup goes back.
    fn loading(&self) -> Connector {
        let bounds = Bounds { max_value_bytes: usize::MAX, max_row_bytes: usize::MAX };
        Connector { bounds, ..self.connector.clone() }
    }

    /// Does something in a session that is closed after that.
    fn in_session<'a, T: Send + 'static>(
        &'a self,
        spec: &ConnectSpec,
        cancel: CancellationToken,
        work: impl for<'s> FnOnce(&'s mut Session) -> BoxFuture<'s, Result<T, SourceError>> + Send + 'static,
    ) -> BoxFuture<'a, Result<T, SourceError>> {
        let (connector, spec) = (self.loading(), spec.clone());
        Box::pin(feed::run(&self.owner, cancel, SNAPSHOT_LIMIT, move |watch| async move {
            let mut session = watch.or_stop(connect(&connector, &spec)).await?;
            let done = tokio::select! {
                biased;
                stop = watch.stopped() => Err(stop.error()),
                done = work(&mut session) => done,
            };
            match done {
                Ok(done) => {
                    session.close().await;
                    Ok(done)
                }
                Err(error) => {
                    connector.kill(&spec, session).await;
                    Err(error)
                }
            }
        }))
    }
}

async fn create(
    session: &mut Session,
    name: &str,
    settings: &BTreeMap<String, String>,
) -> Result<(), SourceError> {
    let failed = |error: mysql_async::Error| query_error(&error);
    let conn = &mut session.conn;
    let known =
        "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ? AND BINARY SCHEMA_NAME = ?";
    let known: Option<u64> = conn.exec_first(known, (name, name)).await.map_err(failed)?;
    let values = [("character_set", "CHARACTER SET"), ("collation", "COLLATE"), ("comment", "COMMENT")];
    let values = values.into_iter().filter_map(|(setting, word)| {
        let value = settings.get(setting)?;
        Some(format!(" {word} {}", literal(value)))
    });
    let values = values.collect::<String>();
    if known.unwrap_or(0) == 0 {
        return session.run(&format!("CREATE DATABASE {}{values}", identifier(name))).await;
    }
    let made: Option<u64> =
        conn.exec_first(MADE, (name, name, name, name, name, name)).await.map_err(failed)?;
    if made != Some(0) {
        let message = format!("the database {name} is not empty; restore into a new one");
        return Err(SourceError { code: Some("not_empty".to_owned()), ..errors::unsupported(message) });
    }
    session.run(&format!("ALTER DATABASE {}{values}", identifier(name))).await
}

async fn define(session: &mut Session, given: &Given, stage: Stage) -> Result<Vec<String>, SourceError> {
    let mut definitions = Definitions::read(&given.file).await?;
    if let Some(only) = &given.only {
        definitions.objects = definitions.chosen(only)?;
    }
    session.run("SET SESSION foreign_key_checks = 0, unique_checks = 0").await?;
    for setting in [
        "explicit_defaults_for_timestamp = 1",
        "sql_require_primary_key = 0",
        "sql_generate_invisible_primary_key = 0",
    ] {
        session.try_run(&format!("SET SESSION {setting}")).await?;
    }
    let before = stage == Stage::BeforeRows;
    let mut definer = Definer { owners: given.owners, collation: None };
    let wanted = definitions.objects.into_iter().filter(|object| object.kind.before_rows() == before);
    // Views are created from others, in any order; what they call is created before.
    let (views, others): (Vec<Object>, Vec<Object>) = wanted.partition(|object| object.kind == Kind::View);
    let (first, last): (Vec<Object>, Vec<Object>) =
        others.into_iter().partition(|object| object.kind < Kind::View);
    for object in &first {
        definer.create(session, object).await?;
    }
    create_views(session, &mut definer, views).await?;
    for object in &last {
        definer.create(session, object).await?;
    }
    definer.end(session).await?;
    Ok(Vec::new())
}

/// Creates those that can be created, until there are none: one may need another.
async fn create_views(
    session: &mut Session,
    definer: &mut Definer,
    mut views: Vec<Object>,
) -> Result<(), SourceError> {
    loop {
        let mut left = Vec::new();
        let count = views.len();
        for view in views {
            match definer.create(session, &view).await {
                Ok(()) => {}
                Err(error) if error.kind == SourceErrorKind::Query => left.push((view, error)),
                Err(error) => return Err(error),
            }
        }
        if left.is_empty() || left.len() == count {
            // Those could not be used where they were backed up: the backup said so.
            let failed = left.into_iter().find(|(view, _)| !view.unusable);
            return failed.map_or(Ok(()), |(_, error)| Err(error));
        }
        views = left.into_iter().map(|(view, _)| view).collect();
    }
}

struct Definer {
    owners: bool,
    /// The default collation of the database, if it was changed for an object.
    collation: Option<(String, String)>,
}

impl Definer {
    async fn create(&mut self, session: &mut Session, object: &Object) -> Result<(), SourceError> {
        let sql = object.sql()?;
        let sql = if self.owners { sql } else { without_definer(&sql) };
        let created = async {
            if let Some(wanted) = &object.session {
                self.set(session, wanted).await?;
            }
            session.conn.query_drop(sql).await.map_err(|error| query_error(&error))?;
            if object.session.is_some() {
                for sql in SETTINGS {
                    session.run(sql).await?;
                }
            }
            match &object.state {
                Some(state) => session.run(state).await,
                None => Ok(()),
            }
        };
        let created: Result<(), SourceError> = created.await;
        if created.is_err() {
            // For the next one.
            for sql in SETTINGS {
                session.try_run(sql).await?;
            }
        }
        created.map_err(|error| SourceError {
            message: format!("{}: {}", object.shown(), error.message),
            ..error
        })
    }

    /// As it was in the session that created the object.
    async fn set(
        &mut self,
        session: &mut Session,
        wanted: &super::definitions::Session,
    ) -> Result<(), SourceError> {
        if let Some(collation) = &wanted.database_collation {
            self.collate(session, collation).await?;
        }
        if let Some(zone) = &wanted.time_zone {
            session.run(&format!("SET SESSION time_zone = {}", literal(zone))).await?;
        }
        if let Some(mode) = &wanted.sql_mode {
            session.run(&format!("SET SESSION sql_mode = {}", literal(mode))).await?;
        }
        let sql = format!(
            "SET SESSION character_set_client = {}, collation_connection = {}",
            literal(&wanted.character_set_client),
            literal(&wanted.collation_connection)
        );
        session.run(&sql).await
    }

    /// Parameters and variables of routines have the default collation of the database, which may have been another one.
    async fn collate(&mut self, session: &mut Session, wanted: &str) -> Result<(), SourceError> {
        let now: Option<(String, String)> = session
            .conn
            .query_first("SELECT @@collation_database, DATABASE()")
            .await
            .map_err(|error| query_error(&error))?;
        let Some((now, database)) = now.filter(|(now, _)| now != wanted) else { return Ok(()) };
        let database = identifier(&database);
        session.run(&format!("ALTER DATABASE {database} COLLATE {}", literal(wanted))).await?;
        self.collation.get_or_insert((database, now));
        Ok(())
    }

    async fn end(self, session: &mut Session) -> Result<(), SourceError> {
        let Some((database, collation)) = self.collation else { return Ok(()) };
        session.run(&format!("ALTER DATABASE {database} COLLATE {}", literal(&collation))).await
    }
}

/// What is known of the table that is filled.
struct Known {
    columns: BTreeMap<String, KnownColumn>,
    is_transactional: bool,
    max_packet: usize,
}

struct KnownColumn {
    character_set: Option<String>,
    is_enum: bool,
    /// The empty text is a member of its ENUM.
    has_empty: bool,
}

impl KnownColumn {
    /// Whether this is the error value of an ENUM: number 0, with an empty text.
    fn is_error(&self, value: &Value) -> bool {
        self.is_enum
            && match value {
                Value::Bytes(text) => text.is_empty() && !self.has_empty,
                other => matches!(other, Value::Int(0) | Value::UInt(0)),
            }
    }
}

async fn load(
    connector: &Connector,
    spec: &ConnectSpec,
    (table, columns): (&str, &[String]),
    rows: Rows,
    watch: &Watch,
) -> Result<u64, SourceError> {
    let mut session = watch.or_stop(connect(connector, spec)).await?;
    let mut is_transactional = true;
    let done = tokio::select! {
        biased;
        stop = watch.stopped() => Err(stop.error()),
        done = fill(&mut session, (table, columns), rows, &mut is_transactional) => done,
    };
    match done {
        Ok(count) => {
            session.close().await;
            Ok(count)
        }
        Err(error) => {
            connector.kill(spec, session).await;
            if !is_transactional {
                empty(connector, spec, table).await;
            }
            Err(error)
        }
    }
}

/// Deletes what a table without transactions has received, as far as the server can be reached.
async fn empty(connector: &Connector, spec: &ConnectSpec, table: &str) {
    let emptied = async {
        let mut session = connector.connect(spec).await?;
        session.run(&format!("TRUNCATE TABLE {}", identifier(table))).await?;
        session.close().await;
        Ok::<(), SourceError>(())
    };
    match tokio::time::timeout(spec.connect_timeout * 2, emptied).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(table, %error, "could not empty a table that was filled in part"),
        Err(_) => tracing::warn!(table, "could not empty a table that was filled in part in time"),
    }
}

async fn known(session: &mut Session, table: &str) -> Result<Known, SourceError> {
    let failed = |error: mysql_async::Error| query_error(&error);
    let conn = &mut session.conn;
    let sql = "SELECT COLUMN_NAME, CHARACTER_SET_NAME, CAST(COLUMN_TYPE AS CHAR), DATA_TYPE FROM information_schema.COLUMNS \
               WHERE TABLE_SCHEMA = DATABASE() AND BINARY TABLE_SCHEMA = DATABASE() \
               AND TABLE_NAME = ? AND BINARY TABLE_NAME = ?";
    let found: Vec<(String, Option<String>, String, String)> =
        conn.exec(sql, (table, table)).await.map_err(failed)?;
    let columns = found.into_iter().map(|(name, set, column_type, data_type)| {
        let has_empty = members(&column_type).iter().any(String::is_empty);
        (name, KnownColumn { character_set: set, is_enum: data_type == "enum", has_empty })
    });
    let columns = columns.collect();
    let sql = "SELECT COUNT(*) FROM information_schema.TABLES t JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE \
               WHERE t.TABLE_SCHEMA = DATABASE() AND BINARY t.TABLE_SCHEMA = DATABASE() \
               AND t.TABLE_NAME = ? AND BINARY t.TABLE_NAME = ? AND e.TRANSACTIONS = 'YES'";
    let transactional: Option<u64> = conn.exec_first(sql, (table, table)).await.map_err(failed)?;
    let max_packet: Option<usize> =
        conn.query_first("SELECT @@GLOBAL.max_allowed_packet").await.map_err(failed)?;
    Ok(Known {
        columns,
        is_transactional: transactional.unwrap_or(0) > 0,
        max_packet: max_packet.unwrap_or(CHUNK),
    })
}

async fn fill(
    session: &mut Session,
    (table, columns): (&str, &[String]),
    mut rows: Rows,
    is_transactional: &mut bool,
) -> Result<u64, SourceError> {
    let known = known(session, table).await?;
    *is_transactional = known.is_transactional;
    session.run("SET SESSION foreign_key_checks = 0, unique_checks = 0").await?;
    session.try_run("SET SESSION check_constraint_checks = 0").await?;
    // The history of a table, if that is what it has.
    session.try_run("SET SESSION system_versioning_insert_history = 1").await?;
    session.run("START TRANSACTION").await?;
    let names: Vec<String> = columns.iter().map(|column| identifier(column)).collect();
    let head = format!("INSERT INTO {} ({}) VALUES ", identifier(table), names.join(", "));
    let mut writer =
        Writer { session, known: &known, columns, head, group: String::new(), prepared: BTreeMap::new() };
    let mut count = 0;
    while let Some(batch) = rows.try_next().await? {
        writer.write(&batch).await?;
        count += batch.num_rows() as u64;
    }
    session.run("COMMIT").await?;
    Ok(count)
}

/// Writes rows with prepared statements for 1, 2, 4 … rows.
struct Writer<'a> {
    session: &'a mut Session,
    known: &'a Known,
    columns: &'a [String],
    /// Up to the first row.
    head: String,
    /// The placeholders of a row.
    group: String,
    prepared: BTreeMap<usize, Statement>,
}

/// Rows that are written together.
#[derive(Default)]
struct Pending {
    values: Vec<Value>,
    rows: usize,
    bytes: usize,
}

impl Writer<'_> {
    async fn write(&mut self, batch: &arrow_array::RecordBatch) -> Result<(), SourceError> {
        let columns = self.columns.iter().zip(batch.columns());
        let mut values =
            columns.map(|(name, column)| Values::new(column, name)).collect::<Result<Vec<_>, _>>()?;
        self.set_group(&mut values).await?;
        let most = MAX_PARAMETERS.checked_div(values.len()).unwrap_or(MAX_ROWS).clamp(1, MAX_ROWS);
        let most_bytes = CHUNK.min(self.known.max_packet / 2);
        let mut pending = Pending::default();
        for row in 0..batch.num_rows() {
            let cells = values.iter().map(|column| column.get(row)).collect::<Result<Vec<_>, _>>()?;
            let bytes = self.size(&cells)?;
            let errors = self.error_values(&cells);
            if pending.rows == most || pending.bytes + bytes > most_bytes || errors > 0 {
                self.flush(&mut pending).await?;
            }
            if errors > 0 {
                self.write_leniently(cells, errors).await?;
                continue;
            }
            pending.values.extend(cells);
            pending.rows += 1;
            pending.bytes += bytes;
        }
        self.flush(&mut pending).await
    }

    /// Bytes that are a text in the table are in its character set, and sent as digits: a parameter is checked to be a text in
    /// that of the session.
    async fn set_group(&mut self, values: &mut [Values<'_>]) -> Result<(), SourceError> {
        let places = self.columns.iter().zip(values).map(|(name, values)| {
            match self.known.columns.get(name).and_then(|known| known.character_set.as_ref()) {
                Some(set) if values.as_digits() => format!("CONVERT(UNHEX(?) USING {set})"),
                _ => "?".to_owned(),
            }
        });
        let group = format!("({})", places.collect::<Vec<_>>().join(", "));
        if group != self.group {
            self.group = group;
            for statement in std::mem::take(&mut self.prepared).into_values() {
                self.session.conn.close(statement).await.map_err(|error| query_error(&error))?;
            }
        }
        Ok(())
    }

    /// The size of a row in a packet, which the server must accept.
    fn size(&self, cells: &[Value]) -> Result<usize, SourceError> {
        let lengths =
            || cells.iter().map(|cell| if let Value::Bytes(bytes) = cell { bytes.len() } else { 0 });
        let bytes = lengths().sum::<usize>() + 12 * cells.len();
        let sent = if bytes + ROW_HEAD > MAX_PACKET { lengths().max().unwrap_or(0) } else { bytes };
        if sent + ROW_HEAD > self.known.max_packet {
            return Err(errors::unsupported(format!(
                "a row has {sent} bytes, more than the server accepts at a time; raise its max_allowed_packet ({})",
                self.known.max_packet
            )));
        }
        Ok(bytes)
    }

    /// How many values of a row are the error value of an ENUM.
    fn error_values(&self, cells: &[Value]) -> u16 {
        let known = self
            .columns
            .iter()
            .zip(cells)
            .filter_map(|(name, cell)| Some((self.known.columns.get(name)?, cell)));
        known.filter(|(column, cell)| column.is_error(cell)).count().try_into().unwrap_or(u16::MAX)
    }

    /// The server warns of each such value, and of nothing else.
    async fn write_leniently(&mut self, cells: Vec<Value>, errors: u16) -> Result<(), SourceError> {
        self.session.run(LENIENT).await?;
        self.execute(1, cells).await?;
        let warnings = self.session.conn.get_warnings();
        if warnings != errors {
            return Err(errors::unsupported("a row has values that the table does not take"));
        }
        for sql in SETTINGS {
            self.session.run(sql).await?;
        }
        Ok(())
    }

    async fn flush(&mut self, pending: &mut Pending) -> Result<(), SourceError> {
        let Pending { mut values, mut rows, .. } = std::mem::take(pending);
        while rows > 0 {
            let count = 1 << rows.ilog2();
            let rest = values.split_off(count * (values.len() / rows));
            self.execute(count, std::mem::replace(&mut values, rest)).await?;
            rows -= count;
        }
        Ok(())
    }

    async fn execute(&mut self, rows: usize, values: Vec<Value>) -> Result<(), SourceError> {
        let failed = |error: mysql_async::Error| query_error(&error);
        let statement = match self.prepared.get(&rows) {
            Some(statement) => statement.clone(),
            None => {
                let sql = format!("{}{}", self.head, vec![self.group.as_str(); rows].join(", "));
                let statement = self.session.conn.prep(sql).await.map_err(failed)?;
                self.prepared.insert(rows, statement.clone());
                statement
            }
        };
        let params = if values.is_empty() { Params::Empty } else { Params::Positional(values) };
        self.session.conn.exec_drop(&statement, params).await.map_err(failed)
    }
}
