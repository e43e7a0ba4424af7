//! The metadata store: one code path over SQLite and PostgreSQL.
//!
//! Reads take a connection from a pool. Writes are closures over a transaction: on SQLite one writer gathers the
//! closures that wait, runs each in a savepoint, commits once and then answers all (group commit); on PostgreSQL
//! each has a transaction of its own. What must not enter: the meaning of any table.

mod conn;
mod copy;
mod dialect;
mod direct;
mod epoch;
mod ids;
mod migrate;
mod notices;
mod writer;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use landreeve_core::ids::BoxFuture;
use landreeve_core::{Error, Result};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Executor as _, PgConnection, PgPool, Row as _, SqlitePool};

pub use conn::{Arg, Conn, Row, TypedId, is_taken, store_error, taken};
pub use dialect::Dialect;
pub(crate) use dialect::store_now;
pub use ids::{StoreIds, next_in};
pub use migrate::{MigrationSet, Migrations};
pub use notices::{Notice, Notices};
pub use writer::Tx;

use crate::store::epoch::EpochReader;
use crate::store::writer::Writer;

/// Gives `Vec<Arg>`: `args![id, name]`.
#[macro_export]
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::store::Arg::from($value)),*] };
}

/// Declares the typed ids of a plane: `ids! { DashboardId = "dashboard"; }`.
#[macro_export]
macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)*) => {
        landreeve_core::typed_ids! { $($(#[$doc])* $name = $kind;)* }
        $(
            impl $crate::store::TypedId for $name {
                fn number(self) -> i64 {
                    self.0
                }
            }
        )*
    };
}

/// Where the metadata lives. The address of a PostgreSQL has its password in it, so it is not printed.
#[derive(Clone)]
pub enum Location {
    /// A file, made when it is not there.
    Sqlite(PathBuf),
    /// `postgres://…`
    Postgres(String),
}

impl Location {
    /// A `postgres://` address, or else the path of a SQLite file (with or without `sqlite://`).
    pub fn parse(text: &str) -> Location {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Location::Postgres(text.to_owned());
        }
        Location::Sqlite(PathBuf::from(text.strip_prefix("sqlite://").unwrap_or(text)))
    }
}

#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    pools: Pools,
    writer: Writer,
    notices: Notices,
    migrations: Migrations,
}

enum Pools {
    Sqlite(SqlitePool),
    Postgres { pool: PgPool, scans: PgPool, epochs: EpochReader },
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn not_an_address(error: sqlx::Error) -> Error {
    Error::fault("database", "format", format!("is not a PostgreSQL address: {error}"))
}

/// Compiling a statement of ours takes longer than it saves.
async fn without_jit(conn: &mut PgConnection) -> sqlx::Result<()> {
    conn.execute("SET jit = off").await.map(drop)
}

const READERS: u32 = 4;
/// How many long reads at once PostgreSQL is asked for.
const SCANS: u32 = 32;
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Prepared statements that a connection to SQLite keeps.
const STATEMENTS: usize = 256;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

impl Store {
    /// Opens the store and brings it to the schema of this program.
    pub async fn open(location: &Location, migrations: &Migrations) -> Result<Store> {
        match location {
            Location::Sqlite(path) => Store::open_sqlite(path, migrations).await,
            Location::Postgres(url) => Store::open_postgres(url, migrations).await,
        }
    }

    async fn open_sqlite(path: &Path, migrations: &Migrations) -> Result<Store> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(STATEMENTS);
        migrate::sqlite(&options, path, migrations).await?;
        let writer = Writer::sqlite(path)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_with(options.pragma("query_only", "ON"))
            .await
            .map_err(store_error)?;
        Ok(Store::assemble(Pools::Sqlite(readers), writer, Notices::new(String::new()), migrations))
    }

    async fn open_postgres(url: &str, migrations: &Migrations) -> Result<Store> {
        let options = PgConnectOptions::from_str(url).map_err(not_an_address)?.application_name("landreeve");
        let pool = PgPoolOptions::new()
            .max_connections(16)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_with(options)
            .await
            .map_err(store_error)?;
        migrate::postgres(&pool, migrations).await?;
        let scans = PgPoolOptions::new()
            .max_connections(SCANS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .after_connect(|conn, _| Box::pin(without_jit(conn)))
            .connect_lazy_with(pool.connect_options().as_ref().clone());
        let instance =
            sqlx::query("SELECT md5(random()::text || clock_timestamp()::text || pg_backend_pid()::text)");
        let instance = instance.fetch_one(&pool).await.and_then(|row| row.try_get(0)).map_err(store_error)?;
        let notices = Notices::new(instance);
        let writer = Writer::postgres(pool.clone());
        let epochs = EpochReader::start(pool.clone());
        Ok(Store::assemble(Pools::Postgres { pool, scans, epochs }, writer, notices, migrations))
    }

    fn assemble(pools: Pools, writer: Writer, notices: Notices, migrations: &Migrations) -> Store {
        Store { inner: Arc::new(Inner { pools, writer, notices, migrations: migrations.clone() }) }
    }

    pub fn dialect(&self) -> Dialect {
        match self.inner.pools {
            Pools::Sqlite(_) => Dialect::Sqlite,
            Pools::Postgres { .. } => Dialect::Postgres,
        }
    }

    /// Where identity, grants and datasources stand, as of a moment after the call.
    ///
    /// On SQLite this process is the only server, and the command line tells it of its changes before it answers; on
    /// PostgreSQL other nodes write too, so the store is asked.
    pub async fn epoch(&self) -> Result<i64> {
        match &self.inner.pools {
            Pools::Sqlite(_) => Ok(self.notices().epoch()),
            Pools::Postgres { epochs, .. } => epochs.epoch().await,
        }
    }

    /// What this process has seen change. On PostgreSQL other nodes' changes arrive here too, once `listen` runs.
    pub fn notices(&self) -> &Notices {
        &self.inner.notices
    }

    /// A connection for reading.
    pub async fn read(&self) -> Result<Conn> {
        match &self.inner.pools {
            Pools::Sqlite(pool) => Ok(Conn::sqlite_pooled(pool.acquire().await.map_err(store_error)?)),
            Pools::Postgres { pool, .. } => Ok(Conn::postgres(pool.acquire().await.map_err(store_error)?)),
        }
    }

    /// A connection for a long read, which keeps no short one waiting.
    pub async fn scan(&self) -> Result<Conn> {
        match &self.inner.pools {
            Pools::Sqlite(pool) => {
                let options = pool.connect_options().as_ref().clone();
                Ok(Conn::sqlite(options.connect().await.map_err(store_error)?))
            }
            Pools::Postgres { scans, .. } => Ok(Conn::postgres(scans.acquire().await.map_err(store_error)?)),
        }
    }

    /// Runs the closure in a transaction and answers when it is durable. An error rolls back what the closure did
    /// and nothing else. Dropping the returned future does not undo the write.
    pub async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + 'static,
    {
        self.inner.writer.submit(self.inner.notices.clone(), work).await
    }

    /// Turns other nodes' notifications into local notices until the token is cancelled. Nothing to do on SQLite.
    pub async fn listen(&self, stop: tokio_util::sync::CancellationToken) {
        if let Pools::Postgres { pool, .. } = &self.inner.pools {
            notices::listen(pool, &self.inner.notices, stop).await;
        }
    }

    /// Copies the whole store into a new SQLite file, as it is at one moment, while it is in use.
    pub async fn copy(&self, target: &Path) -> Result<()> {
        let pool = match &self.inner.pools {
            Pools::Sqlite(pool) => pool,
            Pools::Postgres { pool, .. } => {
                return copy::from_postgres(pool, &self.inner.migrations, target).await;
            }
        };
        // The readers' connections may write nothing, not even a copy.
        let options = pool.connect_options().as_ref().clone().pragma("query_only", "OFF");
        let mut conn = Conn::sqlite(options.connect().await.map_err(store_error)?);
        conn.exec("VACUUM INTO $1", args![target.to_string_lossy().into_owned()]).await.map(drop)
    }

    /// Fills an empty PostgreSQL database with what `copy` wrote. The file is brought to this program's schema on the
    /// way.
    pub async fn restore_postgres(source: &Path, migrations: &Migrations, url: &str) -> Result<()> {
        copy::into_postgres(source, migrations, url).await
    }

    /// Waits for writes under way and closes every connection.
    pub async fn close(&self) {
        self.inner.writer.close().await;
        match &self.inner.pools {
            Pools::Sqlite(pool) => pool.close().await,
            Pools::Postgres { pool, scans, .. } => {
                scans.close().await;
                pool.close().await;
            }
        }
    }
}
