//! The metadata store: one code path over SQLite and PostgreSQL.
//!
//! Reads use a connection from a pool. Writes are closures over a transaction: one writer collects the waiting
//! closures, commits once and then answers all of them (group commit). Each runs in a savepoint; on PostgreSQL only if
//! running them without did not succeed. A closure may wait only for its own statements. Does not belong here: the meaning
//! of any table.

mod address;
mod append;
mod check;
mod conn;
mod copy;
mod dialect;
mod direct;
mod epoch;
mod exists;
mod file;
mod group;
mod ids;
mod link;
pub mod list;
mod mark;
mod migrate;
mod notices;
mod pool;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use landreeve_core::ids::BoxFuture;
use landreeve_core::{Error, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _, SqliteConnection, SqlitePool};

pub use append::Append;
pub use conn::{Arg, Conn, Row, TypedId, is_taken, store_error, taken};
pub use dialect::Dialect;
pub(crate) use dialect::store_now;
pub use exists::exists;
pub use file::SameFile;
pub use ids::{StoreIds, next_in};
pub use list::{Listing, Where};
pub use migrate::{MigrationSet, Migrations};
pub use notices::{Notice, Notices};
pub(crate) use writer::Sharing;
pub use writer::Tx;

use crate::store::epoch::EpochReader;
use crate::store::link::Connector;
use crate::store::pool::Pool;
use crate::store::writer::{CLOSING, Writer};

/// Builds a `Vec<Arg>`: `args![id, name]`.
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

/// Where the metadata is. The address of a PostgreSQL contains its password, so it is not printed.
#[derive(Clone)]
pub enum Location {
    /// A file, created if it does not exist.
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
    Sqlite(Sqlite),
    Postgres(Box<Postgres>),
}

struct Sqlite {
    readers: SqlitePool,
    file: SameFile,
}

struct Postgres {
    /// For rare and slow work: migrations, copies, checks.
    options: PgConnectOptions,
    connector: Connector,
    readers: Pool,
    scans: Pool,
    epochs: EpochReader,
    limit: Duration,
}

/// Settings of a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Time limit of a statement on PostgreSQL. Scans have their query's limit instead; migrations, copies and checks
    /// have none.
    pub statement_limit: Duration,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions { statement_limit: Duration::from_secs(15) }
    }
}

impl Sqlite {
    fn options(&self) -> SqliteConnectOptions {
        self.readers.connect_options().as_ref().clone()
    }

    async fn connect(&self, options: &SqliteConnectOptions) -> Result<SqliteConnection> {
        self.file.check()?;
        options.connect().await.map_err(store_error)
    }
}

fn closed() -> Error {
    Error::unavailable("store", "the metadata store is closed: the server is stopping")
}

const READERS: u32 = 4;
/// Maximum number of concurrent short and long reads on PostgreSQL.
const POSTGRES_READERS: usize = 16;
const SCANS: usize = 32;
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of prepared statements cached per connection to SQLite.
const STATEMENTS: usize = 256;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

impl Store {
    /// Opens the store and migrates it to this program's schema.
    pub async fn open(location: &Location, migrations: &Migrations) -> Result<Store> {
        Store::open_with(location, migrations, &StoreOptions::default()).await
    }

    pub async fn open_with(
        location: &Location,
        migrations: &Migrations,
        options: &StoreOptions,
    ) -> Result<Store> {
        match location {
            Location::Sqlite(path) => Store::open_sqlite(path, migrations).await,
            Location::Postgres(url) => Store::open_postgres(url, migrations, options).await,
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
        let file = SameFile::at(path).map_err(|error| Error::unavailable("store", error.to_string()))?;
        // The pool opens all its connections now and keeps them, because it cannot check whether the file is the same.
        let readers = SqlitePoolOptions::new()
            .min_connections(READERS)
            .max_connections(READERS)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_with(options.create_if_missing(false).pragma("query_only", "ON"))
            .await
            .map_err(store_error)?;
        Ok(Store::assemble(
            Pools::Sqlite(Sqlite { readers, file }),
            writer,
            Notices::new(String::new()),
            migrations,
        ))
    }

    async fn open_postgres(url: &str, migrations: &Migrations, options: &StoreOptions) -> Result<Store> {
        let address = address::parse(url)?;
        let connector = address::connector(&address)?;
        let mut conn = connect(&address).await?;
        migrate::postgres(&mut conn, migrations).await?;
        let instance =
            sqlx::query("SELECT md5(random()::text || clock_timestamp()::text || pg_backend_pid()::text)");
        let instance =
            instance.fetch_one(&mut conn).await.and_then(|row| row.try_get(0)).map_err(store_error)?;
        conn.close().await.map_err(store_error)?;
        let limit = options.statement_limit;
        let notices = Notices::new(instance);
        let writer = Writer::postgres(&connector, Some(limit));
        let pools = Postgres {
            options: address,
            readers: Pool::new(connector.clone(), POSTGRES_READERS, Some(limit)),
            scans: Pool::new(connector.clone(), SCANS, None),
            epochs: EpochReader::start(connector.clone(), Some(limit), notices.clone()),
            connector,
            limit,
        };
        Ok(Store::assemble(Pools::Postgres(Box::new(pools)), writer, notices, migrations))
    }

    fn assemble(pools: Pools, writer: Writer, notices: Notices, migrations: &Migrations) -> Store {
        Store { inner: Arc::new(Inner { pools, writer, notices, migrations: migrations.clone() }) }
    }

    pub fn dialect(&self) -> Dialect {
        match self.inner.pools {
            Pools::Sqlite(_) => Dialect::Sqlite,
            Pools::Postgres(_) => Dialect::Postgres,
        }
    }

    /// The epoch of identity, grants and datasources: at least as new as every change acknowledged before the call.
    ///
    /// On SQLite this process is the only server, and the command line notifies it of changes before it answers; on
    /// PostgreSQL other nodes write too, so the store is queried, unless that has just been done (see `epoch.rs`).
    pub async fn epoch(&self) -> Result<i64> {
        mark::outside("the epoch")?;
        match &self.inner.pools {
            Pools::Sqlite(_) => Ok(self.notices().epoch()),
            Pools::Postgres(postgres) => postgres.epochs.epoch().await,
        }
    }

    /// The epoch that this process has seen. On PostgreSQL, changes from other nodes are included once `listen` runs.
    pub fn notices(&self) -> &Notices {
        &self.inner.notices
    }

    /// A connection for reading.
    pub async fn read(&self) -> Result<Conn> {
        mark::outside("a connection for reading")?;
        match &self.inner.pools {
            Pools::Sqlite(sqlite) => {
                Ok(Conn::sqlite_pooled(sqlite.readers.acquire().await.map_err(store_error)?))
            }
            Pools::Postgres(postgres) => Ok(Conn::pooled(postgres.readers.acquire().await?)),
        }
    }

    /// A connection for a long read, which does not delay short reads.
    pub async fn scan(&self) -> Result<Conn> {
        mark::outside("a connection for scanning")?;
        match &self.inner.pools {
            Pools::Sqlite(sqlite) => Ok(Conn::sqlite(sqlite.connect(&sqlite.options()).await?)),
            Pools::Postgres(postgres) => Ok(Conn::pooled(postgres.scans.acquire().await?)),
        }
    }

    /// Runs the closure in a transaction and returns when it is durable. An error rolls back what the closure did and
    /// nothing else. Dropping the returned future does not undo the write.
    ///
    /// The closure may wait only for its own statements; if it uses the store otherwise, or waits for anything else, it
    /// fails. It may run more than once, but only one run is committed.
    pub async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        self.write_as(std::any::type_name::<F>(), Sharing::All, work).await
    }

    /// The same for writes that hold locks for a long time: on PostgreSQL they do not share a transaction or connection
    /// with short writes.
    pub async fn write_alone<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        self.write_as(std::any::type_name::<F>(), Sharing::Alone, work).await
    }

    /// The same for the end of a run, which never waits behind a submission.
    pub async fn write_end<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        self.write_as(std::any::type_name::<F>(), Sharing::Ends, work).await
    }

    /// The same for a wrapper around the closure with this name.
    pub(crate) async fn write_as<T, F>(&self, closure: &'static str, sharing: Sharing, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        self.inner.writer.submit(self.inner.notices.clone(), closure, sharing, work).await
    }

    /// Turns other nodes' notifications into local notices until the token is cancelled. Does nothing on SQLite.
    pub async fn listen(&self, stop: tokio_util::sync::CancellationToken) {
        if let Pools::Postgres(postgres) = &self.inner.pools {
            notices::listen(&postgres.connector, &self.inner.notices, postgres.limit, stop).await;
        }
    }

    /// Copies a snapshot of the whole store to a new SQLite file, while it is in use.
    pub async fn copy(&self, target: &Path) -> Result<()> {
        mark::outside("a copy of the store")?;
        let sqlite = match &self.inner.pools {
            Pools::Sqlite(sqlite) => sqlite,
            Pools::Postgres(postgres) => {
                let mut conn = connect(&postgres.options).await?;
                copy::from_postgres(&mut conn, &self.inner.migrations, target).await?;
                return conn.close().await.map_err(store_error);
            }
        };
        // The readers' connections are read-only, even for a copy.
        let options = sqlite.options().pragma("query_only", "OFF");
        let mut conn = Conn::sqlite(sqlite.connect(&options).await?);
        conn.exec("VACUUM INTO $1", args![target.to_string_lossy().into_owned()]).await.map(drop)
    }

    /// Fills an empty PostgreSQL database with what `copy` wrote. The file is migrated to this program's schema first.
    pub async fn restore_postgres(source: &Path, migrations: &Migrations, url: &str) -> Result<()> {
        copy::into_postgres(source, migrations, url).await
    }

    /// The problems found in the store; empty if there are none. Takes time in proportion to the store's size, unless
    /// it is cancelled.
    pub async fn check(&self, cancel: tokio_util::sync::CancellationToken) -> Result<Vec<String>> {
        mark::outside("a check of the store")?;
        match &self.inner.pools {
            Pools::Sqlite(sqlite) => {
                sqlite.file.check()?;
                let path = sqlite.readers.connect_options().get_filename().to_owned();
                check::sqlite(&path, cancel).await
            }
            Pools::Postgres(postgres) => {
                let mut conn = connect(&postgres.options).await?;
                check::postgres(&mut conn, cancel).await
            }
        }
    }

    /// The same for a SQLite file that is not in use by a server.
    pub async fn check_file(path: &Path) -> Result<Vec<String>> {
        check::sqlite(path, tokio_util::sync::CancellationToken::new()).await
    }

    /// Waits for pending writes and closes every connection.
    pub async fn close(&self) {
        self.inner.writer.close().await;
        match &self.inner.pools {
            Pools::Sqlite(sqlite) => {
                // Readers get only this much time to finish.
                let _ = tokio::time::timeout(CLOSING, sqlite.readers.close()).await;
            }
            Pools::Postgres(postgres) => {
                postgres.scans.close();
                postgres.readers.close();
            }
        }
    }
}

/// How long a server may take to start a session.
const CONNECT: Duration = Duration::from_secs(10);

async fn connect(options: &PgConnectOptions) -> Result<PgConnection> {
    match tokio::time::timeout(CONNECT, options.connect()).await {
        Ok(connected) => connected.map_err(store_error),
        Err(_) => Err(Error::unavailable("store", "the metadata store does not respond")),
    }
}
