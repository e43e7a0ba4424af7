//! One empty metadata store and what all estates on it share: builds estates for all tests.
//!
//! The tests of `estate` include this file by its path, because a dependency on the testkit would add the SQL engine to
//! their build.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::source::{Driver, Drivers};
use landreeve_core::{Clock, clock};
use landreeve_estate::blobs::Blobs;
use landreeve_estate::outbound::Outbound;
use landreeve_estate::random::{OsRandom, SeededRandom};
use landreeve_estate::runs::RunOptions;
use landreeve_estate::secrets::SealKey;
use landreeve_estate::store::{Location, StoreOptions};
use landreeve_estate::{EstateOptions, Plane};
use sqlx::Connection as _;

/// 2026-01-15 12:00 UTC.
const START: i64 = 1_768_478_400_000_000;

pub struct MockClock(AtomicI64);

impl MockClock {
    /// A clock that is this far behind another one.
    pub fn behind(other: &MockClock, by: Duration) -> MockClock {
        let clock = MockClock(AtomicI64::new(other.0.load(Ordering::SeqCst)));
        clock.0.fetch_sub(i64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
        clock
    }

    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
    }

    pub fn seconds(&self, seconds: u64) {
        self.advance(Duration::from_secs(seconds));
    }

    pub fn set(&self, to: &str) {
        self.0.store(to.parse::<Timestamp>().unwrap().as_microsecond(), Ordering::SeqCst);
    }
}

impl Clock for MockClock {
    fn now(&self) -> Timestamp {
        clock::from_micros(self.0.load(Ordering::SeqCst))
    }
}

struct NoDrivers;

impl Drivers for NoDrivers {
    fn driver(&self, _: DatabaseType) -> Option<Arc<dyn Driver>> {
        None
    }
}

pub struct Site {
    pub dir: tempfile::TempDir,
    pub location: Location,
    pub clock: Arc<MockClock>,
    pub key: SealKey,
    /// The PostgreSQL database that was created for it.
    database: Option<String>,
    seeds: AtomicU64,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test runner passes the databases' addresses in the environment"
)]
pub fn postgres_url() -> String {
    std::env::var("LANDREEVE_TEST_POSTGRES")
        .expect("LANDREEVE_TEST_POSTGRES is not set: run `cargo xtask test`")
}

async fn admin(sql: String) {
    let mut conn = sqlx::PgConnection::connect(&postgres_url()).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}

impl Site {
    fn new(dir: tempfile::TempDir, location: Location, database: Option<String>) -> Site {
        std::fs::create_dir_all(dir.path().join("data/files")).unwrap();
        Site {
            dir,
            location,
            clock: Arc::new(MockClock(AtomicI64::new(START))),
            key: SealKey::generate(&SeededRandom::new(7)),
            database,
            seeds: AtomicU64::new(100),
        }
    }

    pub fn sqlite() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(dir.path().join("data/estate.db"));
        Site::new(dir, location, None)
    }

    /// The same on PostgreSQL, in a new database that `remove` drops.
    pub async fn postgres() -> Site {
        let name = format!("lr_{}", landreeve_core::random::uuid(&OsRandom).simple());
        admin(format!("CREATE DATABASE {name}")).await;
        let url = postgres_url();
        let (server, _) = url.rsplit_once('/').unwrap();
        Site::new(tempfile::tempdir().unwrap(), Location::Postgres(format!("{server}/{name}")), Some(name))
    }

    /// Lets the database refuse new connections. Does nothing on SQLite.
    pub async fn allow_connections(&self, allowed: bool) {
        if let Some(name) = &self.database {
            admin(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}")).await;
        }
    }

    pub async fn remove(&self) {
        if let Some(name) = &self.database {
            admin(format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }

    pub fn is_sqlite(&self) -> bool {
        self.database.is_none()
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn blobs(&self) -> PathBuf {
        self.dir.path().join("blobs")
    }

    /// An estate with these planes and no drivers. Each call uses a different seed.
    pub fn with_planes(&self, planes: Vec<Plane>) -> EstateOptions {
        EstateOptions {
            location: self.location.clone(),
            planes,
            seal: self.key.clone(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            random: Arc::new(SeededRandom::new(self.seeds.fetch_add(1, Ordering::SeqCst))),
            blobs: Blobs::local(&self.blobs()).unwrap(),
            outbound: Outbound::new(Vec::new(), vec![self.data().join("files")], self.data(), Vec::new()),
            drivers: Arc::new(NoDrivers),
            runs: RunOptions { short: 4, ..RunOptions::default() },
            cores: 2,
            store: StoreOptions::default(),
        }
    }
}
