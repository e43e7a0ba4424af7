//! Brings a store to the schema of this program: forward only, under a lock, SQLite copied first, and a store that is
//! newer than the program refused with both versions named.

use std::path::Path;

use landreeve_core::{Error, Result};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, PgPool};

use super::store_error;
use crate::plane::Plane;

/// The migrations of one component: `estate`, or a plane.
#[derive(Debug, Clone, Copy)]
pub struct MigrationSet {
    pub component: &'static str,
    /// In order; the number of a migration is its place, from 1.
    pub sqlite: &'static [&'static str],
    pub postgres: &'static [&'static str],
}

/// All components that this program has, `estate` first.
#[derive(Debug, Clone)]
pub struct Migrations(Vec<MigrationSet>);

const ESTATE: MigrationSet = MigrationSet {
    component: "estate",
    sqlite: &[
        include_str!("../../migrations/sqlite/0001_foundation.sql"),
        include_str!("../../migrations/sqlite/0002_families.sql"),
        include_str!("../../migrations/sqlite/0003_pools.sql"),
        include_str!("../../migrations/sqlite/0004_schedules.sql"),
    ],
    postgres: &[
        include_str!("../../migrations/postgres/0001_foundation.sql"),
        include_str!("../../migrations/postgres/0002_families.sql"),
        include_str!("../../migrations/postgres/0003_pools.sql"),
        include_str!("../../migrations/postgres/0004_schedules.sql"),
    ],
};

impl Migrations {
    /// The estate's own, then those of the planes. A plane without tables has none.
    pub fn of(planes: &[Plane]) -> Migrations {
        let sets = planes.iter().map(|plane| plane.migrations).filter(|set| !set.sqlite.is_empty());
        Migrations::with(&sets.collect::<Vec<_>>())
    }

    pub fn with(sets: &[MigrationSet]) -> Migrations {
        Migrations(std::iter::once(ESTATE).chain(sets.iter().copied()).collect())
    }
}

const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS migrations (component TEXT PRIMARY KEY, version BIGINT NOT NULL)";
const READ: &str = "SELECT component, version FROM migrations";
const MARK: &str = "INSERT INTO migrations (component, version) VALUES ($1, $2) \
                    ON CONFLICT (component) DO UPDATE SET version = excluded.version";

/// What is to be run: (component, number, text).
type Pending = Vec<(&'static str, i64, &'static str)>;

fn pending(
    migrations: &Migrations,
    applied: &[(String, i64)],
    texts: impl Fn(&MigrationSet) -> &'static [&'static str],
) -> Result<Pending> {
    let mut pending = Vec::new();
    let too_new = |component: &str, version: i64, known: &str| {
        let message = format!(
            "the metadata store is newer than this program: its {component} schema is version {version}, this program \
             ({}) knows {known}. Start the newer program.",
            env!("CARGO_PKG_VERSION"),
        );
        Error::new(landreeve_core::ErrorKind::PreconditionFailed, "store_too_new", message)
    };
    for (component, version) in applied {
        if !migrations.0.iter().any(|set| set.component == component) {
            return Err(too_new(component, *version, "no such schema"));
        }
    }
    for set in &migrations.0 {
        let texts = texts(set);
        let newest = texts.len() as i64;
        let version =
            applied.iter().find(|(name, _)| name == set.component).map_or(0, |(_, version)| *version);
        if version > newest {
            return Err(too_new(set.component, version, &format!("version {newest}")));
        }
        let from = usize::try_from(version).unwrap_or(0);
        let rest = texts.iter().enumerate().skip(from);
        pending.extend(rest.map(|(index, text)| (set.component, index as i64 + 1, *text)));
    }
    Ok(pending)
}

fn applied<R: sqlx::Row>(rows: &[R]) -> Result<Vec<(String, i64)>>
where
    usize: sqlx::ColumnIndex<R>,
    for<'r> String: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    for<'r> i64: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, sqlx::Error>>()
        .map_err(store_error)
}

pub(super) async fn sqlite(
    options: &SqliteConnectOptions,
    path: &Path,
    migrations: &Migrations,
) -> Result<()> {
    let mut conn = options.connect().await.map_err(store_error)?;
    conn.execute("BEGIN IMMEDIATE").await.map_err(store_error)?;
    conn.execute(TABLE).await.map_err(store_error)?;
    let have = applied(&sqlx::query(READ).fetch_all(&mut conn).await.map_err(store_error)?)?;
    let todo = pending(migrations, &have, |set| set.sqlite)?;
    if !todo.is_empty() && !have.is_empty() {
        // VACUUM INTO cannot run inside the transaction; the lock on the data directory keeps other servers away.
        conn.execute("COMMIT").await.map_err(store_error)?;
        let copy = path.with_extension(format!("before-{}.db", env!("CARGO_PKG_VERSION")));
        // A copy that a crash cut off has another name, and an older one is of an older state.
        let partial = copy.with_extension("partial");
        let failed = |error| {
            Error::unavailable("store", format!("the copy {} cannot be made: {error}", copy.display()))
        };
        if partial.exists() {
            std::fs::remove_file(&partial).map_err(failed)?;
        }
        sqlx::query("VACUUM INTO $1")
            .bind(partial.to_string_lossy().into_owned())
            .execute(&mut conn)
            .await
            .map_err(store_error)?;
        std::fs::File::open(&partial).and_then(|file| file.sync_all()).map_err(failed)?;
        std::fs::rename(&partial, &copy).map_err(failed)?;
        tracing::info!(copy = %copy.display(), "copied the metadata store before changing its schema");
        conn.execute("BEGIN IMMEDIATE").await.map_err(store_error)?;
    }
    for (component, number, text) in todo {
        conn.execute(text).await.map_err(store_error)?;
        sqlx::query(MARK).bind(component).bind(number).execute(&mut conn).await.map_err(store_error)?;
    }
    conn.execute("COMMIT").await.map_err(store_error)?;
    conn.close().await.map_err(store_error)
}

pub(super) async fn postgres(pool: &PgPool, migrations: &Migrations) -> Result<()> {
    let mut tx = pool.begin().await.map_err(store_error)?;
    lock(&mut tx).await?;
    apply(&mut tx, migrations).await?;
    tx.commit().await.map_err(store_error)
}

/// One program at a time changes the schema; held until the transaction ends.
pub(super) async fn lock(tx: &mut PgConnection) -> Result<()> {
    // Any constant will do; it only has to be the same on every node.
    tx.execute("SELECT pg_advisory_xact_lock(6021023)").await.map(drop).map_err(store_error)
}

/// Brings the database to this program's schema inside the caller's transaction.
pub(super) async fn apply(tx: &mut PgConnection, migrations: &Migrations) -> Result<()> {
    tx.execute(TABLE).await.map_err(store_error)?;
    let have = applied(&sqlx::query(READ).fetch_all(&mut *tx).await.map_err(store_error)?)?;
    for (component, number, text) in pending(migrations, &have, |set| set.postgres)? {
        tx.execute(sqlx::raw_sql(AssertSqlSafe(text))).await.map_err(store_error)?;
        sqlx::query(MARK).bind(component).bind(number).execute(&mut *tx).await.map_err(store_error)?;
    }
    Ok(())
}
