//! A driver for each kind of user database behind core's `Driver` port: connect, test, introspect, read as Arrow
//! streams, cancel. And the encoders for storing and returning results.
//!
//! Belongs here: everything that depends on a database client or an Arrow file format. Does not belong here: the
//! metadata store, HTTP, settings, the wall clock, permissions. Callers have already checked that the user may read and
//! that the address is allowed.

mod aside;
mod encode;
mod errors;
mod feed;
mod files;
mod gate;
mod mysql;
mod net;
mod pool;
mod postgres;
pub mod sample;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use landreeve_core::datasource::DatabaseType;
use landreeve_core::load::Loader;
use landreeve_core::snapshot::Snapshots;
use landreeve_core::source::{Driver, Drivers};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::encode::Codec;
pub use crate::net::RootsError;
pub use files::TextReader;

/// Settings that a library reads only from the environment, for the program to set before it starts a thread. The client
/// for MySQL keeps 128 buffers for the whole process, by default of up to 4 MiB each: half a gigabyte after wide rows.
pub const LIBRARY_SETTINGS: &str = "MYSQL_ASYNC_BUFFER_POOL_CAP=64\nMYSQL_ASYNC_BUFFER_SIZE_CAP=65536\n";

/// Configurable options that all drivers share.
#[derive(Debug, Clone)]
pub struct DriverOptions {
    /// PEM certificates trusted in addition to the built-in roots (the contents of `[sources] ca_file`).
    pub ca_pem: Option<Vec<u8>>,
    /// The name of our sessions in the database's list of connections.
    pub application_name: String,
    /// A connection that has been idle for this long is closed.
    pub idle_timeout: Duration,
    pub bounds: Bounds,
}

/// What a statement in a database may return: a larger value or row is an error, before memory is allocated for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub max_value_bytes: usize,
    pub max_row_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { max_value_bytes: 64 * 1024 * 1024, max_row_bytes: 128 * 1024 * 1024 }
    }
}

impl Bounds {
    /// The largest amount of memory that a statement uses at one time: a row as received and as stored in a batch, the
    /// batch before it, and the same compressed.
    pub const fn statement_bytes(self, batch_bytes: usize) -> usize {
        (self.max_row_bytes + batch_bytes).saturating_mul(3)
    }
}

impl Default for DriverOptions {
    fn default() -> DriverOptions {
        DriverOptions {
            ca_pem: None,
            application_name: "landreeve".to_owned(),
            idle_timeout: Duration::from_secs(300),
            bounds: Bounds::default(),
        }
    }
}

/// Counts every task the drivers spawn; they end when `closing` is cancelled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Owner {
    pub tasks: TaskTracker,
    pub closing: CancellationToken,
}

/// All drivers.
pub struct DriverSet {
    postgres: Arc<postgres::Postgres>,
    mysql: Arc<mysql::MySql>,
    sqlite: Arc<sqlite::Sqlite>,

    owner: Owner,
}

impl DriverSet {
    pub fn new(options: DriverOptions) -> Result<DriverSet, RootsError> {
        let owner = Owner::default();
        // The MySQL client builds its TLS configuration from the process's default provider; a second call fails and
        // changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = net::Tls::new(options.ca_pem.as_deref())?;
        Ok(DriverSet {
            postgres: Arc::new(postgres::Postgres::new(&options, tls.clone(), owner.clone())),
            mysql: Arc::new(mysql::MySql::new(&options, tls, owner.clone())),
            sqlite: Arc::new(sqlite::Sqlite::new(options.bounds, owner.clone())),

            owner,
        })
    }

    /// Cancels every running statement, closes the pools and waits for the last task.
    pub async fn close(&self) {
        self.owner.closing.cancel();
        self.owner.tasks.close();
        self.owner.tasks.wait().await;
    }
}

impl Drivers for DriverSet {
    fn driver(&self, database_type: DatabaseType) -> Option<Arc<dyn Driver>> {
        match database_type {
            DatabaseType::Postgres | DatabaseType::Redshift | DatabaseType::CrateDb => {
                Some(self.postgres.clone())
            }

            DatabaseType::MySql | DatabaseType::MariaDb => Some(self.mysql.clone()),
            DatabaseType::Sqlite => Some(self.sqlite.clone()),
            _ => None,
        }
    }

    fn snapshots(&self, database_type: DatabaseType) -> Option<Arc<dyn Snapshots>> {
        match database_type {
            DatabaseType::Sqlite => Some(self.sqlite.clone()),
            DatabaseType::Postgres => Some(self.postgres.clone()),
            DatabaseType::MySql | DatabaseType::MariaDb => Some(self.mysql.clone()),
            _ => None,
        }
    }

    fn loader(&self, database_type: DatabaseType) -> Option<Arc<dyn Loader>> {
        match database_type {
            DatabaseType::Postgres => Some(self.postgres.clone()),
            DatabaseType::MySql | DatabaseType::MariaDb => Some(self.mysql.clone()),
            _ => None,
        }
    }
}
