//! One connection to either database, with plain arguments and rows. It has only the column types that rule 8 of the
//! design allows.

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use landreeve_core::error::codes;
use landreeve_core::{Error, ErrorKind, Fault, Result, clock, ids};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Row as _, Sqlite, SqliteConnection};

use super::dialect::Dialect;
use super::direct::{self, Direct};
use super::link::{self, Link};
use super::pool::Pooled;
use crate::secrets::Sealed;

/// A bound value. NULL has a type too, because PostgreSQL requires it.
#[derive(Debug, Clone)]
pub enum Arg {
    Int(Option<i64>),
    Float(Option<f64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    /// Only for a column named `…_sealed`: `check` verifies the statement.
    Sealed(Vec<u8>),
}

macro_rules! arg_from {
    ($($from:ty => |$value:ident| $arg:expr;)*) => {
        $(impl From<$from> for Arg {
            fn from($value: $from) -> Arg { $arg }
        })*
    };
}

arg_from! {
    i64 => |value| Arg::Int(Some(value));
    u32 => |value| Arg::Int(Some(i64::from(value)));
    Option<i64> => |value| Arg::Int(value);
    bool => |value| Arg::Int(Some(i64::from(value)));
    Option<bool> => |value| Arg::Int(value.map(i64::from));
    f64 => |value| Arg::Float(Some(value));
    &str => |value| Arg::Text(Some(value.to_owned()));
    &String => |value| Arg::Text(Some(value.clone()));
    String => |value| Arg::Text(Some(value));
    Option<String> => |value| Arg::Text(value);
    Option<&str> => |value| Arg::Text(value.map(str::to_owned));
    Vec<u8> => |value| Arg::Bytes(Some(value));
    Option<Vec<u8>> => |value| Arg::Bytes(value);
    Sealed => |value| Arg::Sealed(value.into_bytes());
    Timestamp => |value| Arg::Int(Some(value.as_microsecond()));
    Option<Timestamp> => |value| Arg::Int(value.map(Timestamp::as_microsecond));
    uuid::Uuid => |value| Arg::Text(Some(value.to_string()));
}

/// An id that can be bound to a statement. Planes declare theirs with `ids!`.
pub trait TypedId: Send + 'static {
    fn number(self) -> i64;
}

impl<I: TypedId> From<I> for Arg {
    fn from(id: I) -> Arg {
        Arg::Int(Some(id.number()))
    }
}

impl<I: TypedId> From<Option<I>> for Arg {
    fn from(id: Option<I>) -> Arg {
        Arg::Int(id.map(TypedId::number))
    }
}

macro_rules! shared_ids {
    ($($id:ident),* $(,)?) => {
        $(impl TypedId for ids::$id {
            fn number(self) -> i64 {
                self.0
            }
        })*
    };
}

shared_ids!(
    UserId,
    GroupId,
    OuId,
    RoleId,
    GrantId,
    KeyId,
    SessionId,
    DatasourceId,
    AgentId,
    RunId,
    AuditId,
    EventId,
    ScheduleId,
);

pub struct Conn(Inner);

enum Inner {
    /// The writer's connection to SQLite.
    Direct(Direct),
    /// The writer's connection to PostgreSQL.
    Link(Box<Link>),
    Sqlite(SqliteConnection),
    SqlitePooled(PoolConnection<Sqlite>),
    Pooled(Box<Pooled>),
}

/// A row; columns are read by position, in the order of the SELECT.
pub enum Row {
    Direct(direct::Values),
    Sqlite(SqliteRow),
    Postgres(tokio_postgres::Row),
    /// A row of a copy, which uses sqlx.
    Copied(PgRow),
}

impl Conn {
    pub(super) fn direct(conn: Direct) -> Conn {
        Conn(Inner::Direct(conn))
    }

    pub(super) fn of_link(link: Link) -> Conn {
        Conn(Inner::Link(Box::new(link)))
    }

    pub(super) fn sqlite(conn: SqliteConnection) -> Conn {
        Conn(Inner::Sqlite(conn))
    }

    pub(super) fn sqlite_pooled(conn: PoolConnection<Sqlite>) -> Conn {
        Conn(Inner::SqlitePooled(conn))
    }

    pub(super) fn pooled(conn: Pooled) -> Conn {
        Conn(Inner::Pooled(Box::new(conn)))
    }

    pub fn dialect(&self) -> Dialect {
        match &self.0 {
            Inner::Direct(_) | Inner::Sqlite(_) | Inner::SqlitePooled(_) => Dialect::Sqlite,
            Inner::Link(_) | Inner::Pooled(_) => Dialect::Postgres,
        }
    }

    /// The writer's connection to PostgreSQL.
    pub(super) fn link(&mut self) -> Option<&mut Link> {
        match &mut self.0 {
            Inner::Link(link) => Some(link),
            _ => None,
        }
    }

    /// Whether a statement of the writer has failed since the last call.
    pub(super) fn take_spoiled(&mut self) -> bool {
        match &mut self.0 {
            Inner::Direct(conn) => conn.take_spoiled(),
            Inner::Link(conn) => conn.take_spoiled(),
            _ => false,
        }
    }

    pub async fn all(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<Vec<Row>> {
        match &mut self.0 {
            Inner::Direct(conn) => conn.all(sql, &args),
            Inner::Link(conn) => conn.all(sql, args).await,
            Inner::Sqlite(conn) => sqlite_all(conn, sql, args).await,
            Inner::SqlitePooled(conn) => sqlite_all(conn, sql, args).await,
            Inner::Pooled(conn) => conn.link()?.all(sql, args).await,
        }
    }

    /// All rows. The statement is composed of our own text; values are bound.
    pub async fn select(&mut self, sql: String, args: Vec<Arg>) -> Result<Vec<Row>> {
        match &mut self.0 {
            Inner::Direct(conn) => conn.all(&sql, &args),
            Inner::Link(conn) => conn.select(sql, args).await,
            Inner::Sqlite(conn) => sqlite_rows(conn, sql, args)?.try_collect().await,
            Inner::SqlitePooled(conn) => sqlite_rows(conn, sql, args)?.try_collect().await,
            Inner::Pooled(conn) => conn.link()?.select(sql, args).await,
        }
    }

    /// Streams rows, outside of a write. The statement is composed of our own text; values are bound.
    pub fn rows(&mut self, sql: String, args: Vec<Arg>) -> Result<BoxStream<'_, Result<Row>>> {
        Ok(match &mut self.0 {
            Inner::Direct(conn) => {
                futures_util::stream::iter(conn.all(&sql, &args)?.into_iter().map(Ok)).boxed()
            }
            Inner::Link(conn) => conn.rows(sql, args),
            Inner::Sqlite(conn) => sqlite_rows(conn, sql, args)?,
            Inner::SqlitePooled(conn) => sqlite_rows(conn, sql, args)?,
            Inner::Pooled(conn) => conn.link()?.rows(sql, args),
        })
    }

    pub async fn opt(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<Option<Row>> {
        Ok(self.all(sql, args).await?.into_iter().next())
    }

    /// For queries that always return a row, such as counts.
    pub async fn one(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<Row> {
        self.opt(sql, args).await?.ok_or_else(|| Error::internal(format!("no row from: {sql}")))
    }

    /// Runs a statement and returns the number of changed rows.
    pub async fn exec(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<u64> {
        match &mut self.0 {
            Inner::Direct(conn) => conn.exec(sql, &args),
            Inner::Link(conn) => conn.exec(sql, args).await,
            Inner::Sqlite(conn) => sqlite_exec(conn, sql, args).await,
            Inner::SqlitePooled(conn) => sqlite_exec(conn, sql, args).await,
            Inner::Pooled(conn) => conn.link()?.exec(sql, args).await,
        }
    }

    /// Runs a statement that changes at most one row, and usually one; returns whether it did. In a write on PostgreSQL
    /// the closure continues with `true` before the result is known; if that was wrong, it is rolled back and run again
    /// with the right answer.
    pub async fn exec_one(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<bool> {
        match &mut self.0 {
            Inner::Link(conn) => conn.exec_one(sql, args).await,
            _ => Ok(self.exec(sql, args).await? > 0),
        }
    }

    /// Whether a query finds a row, as it usually does. In a write on PostgreSQL the closure continues as with `exec_one`.
    pub async fn holds(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<bool> {
        match &mut self.0 {
            Inner::Link(conn) => conn.exec_one(sql, args).await,
            _ => Ok(self.opt(sql, args).await?.is_some()),
        }
    }

    /// Runs a statement whose outcome the rest of the transaction does not need. On PostgreSQL it is sent with the next
    /// statement, and its error is reported by that one or at the end of the transaction.
    pub async fn exec_later(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<()> {
        match &mut self.0 {
            Inner::Link(conn) => conn.exec_later(sql, args).await,
            _ => self.exec(sql, args).await.map(drop),
        }
    }
}

async fn sqlite_all(conn: &mut SqliteConnection, sql: &'static str, args: Vec<Arg>) -> Result<Vec<Row>> {
    let rows = sqlx::query_with(sql, sqlite_args(sql, args)?).fetch_all(conn).await.map_err(store_error)?;
    Ok(rows.into_iter().map(Row::Sqlite).collect())
}

fn sqlite_rows(
    conn: &mut SqliteConnection,
    sql: String,
    args: Vec<Arg>,
) -> Result<BoxStream<'_, Result<Row>>> {
    let bound = sqlite_args(&sql, args)?;
    let rows = sqlx::query_with(AssertSqlSafe(sql), bound).fetch(conn);
    Ok(rows.map(|row| row.map(Row::Sqlite).map_err(store_error)).boxed())
}

async fn sqlite_exec(conn: &mut SqliteConnection, sql: &'static str, args: Vec<Arg>) -> Result<u64> {
    let done = sqlx::query_with(sql, sqlite_args(sql, args)?).execute(conn).await.map_err(store_error)?;
    Ok(done.rows_affected())
}

/// PostgreSQL cannot store the character U+0000, so SQLite does not either. A sealed value must be in a column that key
/// rotation knows.
pub(super) fn check(sql: &str, args: &[Arg]) -> Result<()> {
    if args.iter().any(|arg| matches!(arg, Arg::Sealed(_))) && !sql.contains("_sealed") {
        return Err(Error::internal(format!("a sealed value for a column not named `…_sealed`: {sql}")));
    }
    if args.iter().any(|arg| matches!(arg, Arg::Text(Some(text)) if text.contains('\0'))) {
        return Err(Error::fault("", "character", "text must not contain the character U+0000"));
    }
    Ok(())
}

macro_rules! bind_all {
    ($arguments:ty, $sql:expr, $args:expr) => {{
        check($sql, &$args)?;
        let mut bound = <$arguments>::default();
        for arg in $args {
            match arg {
                Arg::Int(value) => bound.add(value),
                Arg::Float(value) => bound.add(value),
                Arg::Text(value) => bound.add(value),
                Arg::Bytes(value) => bound.add(value),
                Arg::Sealed(value) => bound.add(value),
            }
            .map_err(Error::internal)?;
        }
        Ok(bound)
    }};
}

pub(super) fn sqlite_args(sql: &str, args: Vec<Arg>) -> Result<SqliteArguments> {
    bind_all!(SqliteArguments, sql, args)
}

pub(super) fn postgres_args(sql: &str, args: Vec<Arg>) -> Result<PgArguments> {
    bind_all!(PgArguments, sql, args)
}

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident / $optional:ident -> $type:ty, $postgres:ty, |$value:ident| $plain:expr;)*) => {
        $(
            $(#[$doc])*
            pub fn $name(&self, at: usize) -> Result<$type> {
                // SQLite's driver would read NULL as zero or empty.
                self.$optional(at)?.ok_or_else(|| Error::internal(format!("column {at} is NULL")))
            }

            pub fn $optional(&self, at: usize) -> Result<Option<$type>> {
                match self {
                    Row::Direct(values) => direct::get(values, at),
                    Row::Sqlite(row) => row.try_get_unchecked(at).map_err(store_error),
                    Row::Copied(row) => row.try_get_unchecked(at).map_err(store_error),
                    Row::Postgres(row) => {
                        let found: Option<$postgres> = row.try_get(at).map_err(unreadable)?;
                        Ok(found.map(|$value| $plain))
                    }
                }
            }
        )*
    };
}

/// The driver's error says what failed, its cause says why.
#[expect(clippy::needless_pass_by_value, reason = "used in map_err")]
fn unreadable(error: link::WireError) -> Error {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Error::internal(format!("{error}{cause}"))
}

impl Row {
    getters! {
        int / int_opt -> i64, link::Int, |value| value.0;
        float / float_opt -> f64, link::Float, |value| value.0;
        text / text_opt -> String, link::Text<'_>, |value| value.0.to_owned();
        bytes / bytes_opt -> Vec<u8>, Vec<u8>, |value| value;
    }

    /// Borrowed text.
    pub fn str_opt(&self, at: usize) -> Result<Option<&str>> {
        match self {
            Row::Direct(values) => direct::text(values, at),
            Row::Sqlite(row) => row.try_get_unchecked(at).map_err(store_error),
            Row::Copied(row) => row.try_get_unchecked(at).map_err(store_error),
            Row::Postgres(row) => {
                let found: Option<link::Text<'_>> = row.try_get(at).map_err(unreadable)?;
                Ok(found.map(|value| value.0))
            }
        }
    }

    pub fn flag(&self, at: usize) -> Result<bool> {
        Ok(self.int(at)? != 0)
    }

    pub fn flag_opt(&self, at: usize) -> Result<Option<bool>> {
        Ok(self.int_opt(at)?.map(|value| value != 0))
    }

    pub fn time(&self, at: usize) -> Result<Timestamp> {
        Ok(clock::from_micros(self.int(at)?))
    }

    pub fn time_opt(&self, at: usize) -> Result<Option<Timestamp>> {
        Ok(self.int_opt(at)?.map(clock::from_micros))
    }

    pub fn id<I: From<i64>>(&self, at: usize) -> Result<I> {
        Ok(I::from(self.int(at)?))
    }

    pub fn id_opt<I: From<i64>>(&self, at: usize) -> Result<Option<I>> {
        Ok(self.int_opt(at)?.map(I::from))
    }

    pub fn uuid(&self, at: usize) -> Result<uuid::Uuid> {
        self.text(at)?.parse().map_err(Error::internal)
    }

    /// One of our words, stored as text.
    pub fn word<T>(&self, at: usize, parse: impl FnOnce(&str) -> Option<T>) -> Result<T> {
        let text = self.text(at)?;
        parse(&text).ok_or_else(|| Error::internal(format!("the store contains an unknown word: {text}")))
    }

    /// JSON defined in a plane's `stored.rs`.
    pub fn json<T: serde::de::DeserializeOwned>(&self, at: usize) -> Result<T> {
        serde_json::from_str(&self.text(at)?).map_err(Error::internal)
    }
}

/// Translates the error of a statement for use cases.
pub fn store_error(error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            // PostgreSQL's codes have five characters, possibly all digits.
            if code.len() == 5 {
                return link::database_error(&code, database.message(), &error);
            }
            if database.is_foreign_key_violation() {
                return gone();
            }
            if database.is_unique_violation() {
                return already_there();
            }
            if code.parse().is_ok_and(direct::is_down) {
                return unavailable(database);
            }
            Error::internal(&error)
        }
        // Errors of the connection are caused by the environment, not by a bug of ours.
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::Configuration(_)
        | sqlx::Error::WorkerCrashed => {
            Error::unavailable("store", format!("the metadata store does not respond: {error}"))
        }
        _ => Error::internal(&error),
    }
}

pub(super) fn gone() -> Error {
    Error::conflict("gone", "something that the request refers to has just been deleted")
}

pub(super) fn already_there() -> Error {
    Error::conflict(codes::TAKEN, "something with this name or key already exists")
}

pub(super) fn unavailable(cause: impl std::fmt::Display) -> Error {
    Error::unavailable(codes::STORE, format!("the metadata store is unavailable: {cause}"))
}

/// Whether a unique name or key already exists.
pub fn is_taken(error: &Error) -> bool {
    error.kind == ErrorKind::Conflict && error.code == codes::TAKEN
}

/// A taken name is a fault of its field.
pub fn taken(error: Error, field: &'static str) -> Error {
    if is_taken(&error) {
        let fault = Fault::new(field, codes::TAKEN, "is already taken");
        return Error { faults: vec![fault], message: format!("{field} is already taken"), ..error };
    }
    error
}
