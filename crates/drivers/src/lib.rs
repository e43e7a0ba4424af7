//! One user database each behind core's `Driver` port: connect, test, introspect, read to Arrow streams, cancel; and
//! the encoders in which results are kept and leave.
//!
//! What belongs here is everything that names a database client or an Arrow file format. What must not enter: the
//! metadata store, HTTP, settings, the clock of day, permissions; whoever calls has decided that the caller may read
//! and that the address may be reached.

mod encode;
mod errors;
mod feed;
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
use landreeve_core::source::{Driver, Drivers};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::encode::Codec;
pub use crate::net::RootsError;

/// What the drivers share and a configuration may change.
#[derive(Debug, Clone)]
pub struct DriverOptions {
    /// Certificates in PEM that are trusted beside the built-in roots (`[sources] ca_file`), already read.
    pub ca_pem: Option<Vec<u8>>,
    /// How the sessions call themselves in the database's list of connections.
    pub application_name: String,
    /// A connection nobody used for so long is closed.
    pub idle_timeout: Duration,
}

impl Default for DriverOptions {
    fn default() -> DriverOptions {
        DriverOptions {
            ca_pem: None,
            application_name: "landreeve".to_owned(),
            idle_timeout: Duration::from_secs(300),
        }
    }
}

/// Every task the drivers spawn is counted here and ends when `closing` is cancelled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Owner {
    pub tasks: TaskTracker,
    pub closing: CancellationToken,
}

/// All drivers.
pub struct DriverSet {
    postgres: Arc<dyn Driver>,
    mysql: Arc<dyn Driver>,
    sqlite: Arc<dyn Driver>,

    owner: Owner,
}

impl DriverSet {
    pub fn new(options: DriverOptions) -> Result<DriverSet, RootsError> {
        let owner = Owner::default();
        // The MySQL client builds its own TLS configuration from the process's default provider; a second call is
        // refused and changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = net::Tls::new(options.ca_pem.as_deref())?;
        Ok(DriverSet {
            postgres: Arc::new(postgres::Postgres::new(&options, tls.clone(), owner.clone())),
            mysql: Arc::new(mysql::MySql::new(&options, tls, owner.clone())),
            sqlite: Arc::new(sqlite::Sqlite::new(owner.clone())),

            owner,
        })
    }

    /// Cancels every statement that still runs, closes the pools and waits for the last task.
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
}
