//! Migrates a store to this program's schema: forward only, under a lock, copying SQLite first, and rejecting a store
//! that is newer than the program with both versions named. A migration never changes once it has run somewhere: each
//! store has the checksums of those that it ran.

use std::path::Path;

use landreeve_core::{Error, Result};
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};

use super::store_error;
use crate::plane::Plane;

/// The migrations of one component: `estate`, or a plane.
#[derive(Debug, Clone, Copy)]
pub struct MigrationSet {
    pub component: &'static str,
    /// In order; the number of a migration is its position, starting at 1.
    pub sqlite: &'static [&'static str],
    pub postgres: &'static [&'static str],
}

/// All components of this program, `estate` first.
#[derive(Debug, Clone)]
pub struct Migrations(Vec<MigrationSet>);

const ESTATE: MigrationSet = MigrationSet {
    component: "estate",
    sqlite: &[
        include_str!("../../migrations/sqlite/0001_foundation.sql"),
        include_str!("../../migrations/sqlite/0002_families.sql"),
        include_str!("../../migrations/sqlite/0003_pools.sql"),
        include_str!("../../migrations/sqlite/0004_schedules.sql"),
        include_str!("../../migrations/sqlite/0005_row_versions.sql"),
        include_str!("../../migrations/sqlite/0006_run_indexes.sql"),
        include_str!("../../migrations/sqlite/0007_turns.sql"),
        include_str!("../../migrations/sqlite/0008_cleanup.sql"),
        include_str!("../../migrations/sqlite/0009_datasource_uuids.sql"),
        include_str!("../../migrations/sqlite/0010_administration.sql"),
    ],
    postgres: &[
        include_str!("../../migrations/postgres/0001_foundation.sql"),
        include_str!("../../migrations/postgres/0002_families.sql"),
        include_str!("../../migrations/postgres/0003_pools.sql"),
        include_str!("../../migrations/postgres/0004_schedules.sql"),
        include_str!("../../migrations/postgres/0005_row_versions.sql"),
        include_str!("../../migrations/postgres/0006_run_indexes.sql"),
        include_str!("../../migrations/postgres/0007_turns.sql"),
        include_str!("../../migrations/postgres/0008_cleanup.sql"),
        include_str!("../../migrations/postgres/0009_datasource_uuids.sql"),
        include_str!("../../migrations/postgres/0010_administration.sql"),
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
const CHECKSUMS: &str = "CREATE TABLE IF NOT EXISTS migration_checksums \
                         (component TEXT NOT NULL, number BIGINT NOT NULL, sha256 TEXT NOT NULL, \
                         PRIMARY KEY (component, number))";
const READ_CHECKSUMS: &str = "SELECT component, number, sha256 FROM migration_checksums";
const NOTE: &str = "INSERT INTO migration_checksums (component, number, sha256) VALUES ($1, $2, $3)";

/// What has to run, and what ran before checksums were recorded.
#[derive(Default)]
struct Todo {
    run: Vec<Step>,
    note: Vec<Step>,
}

#[derive(Clone, Copy)]
struct Step {
    component: &'static str,
    number: i64,
    text: &'static str,
}

impl Step {
    fn checksum(self) -> String {
        Sha256::digest(self.text).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What a store has applied.
struct Applied {
    versions: Vec<(String, i64)>,
    checksums: Vec<(String, i64, String)>,
}

fn pending(
    migrations: &Migrations,
    applied: &Applied,
    texts: impl Fn(&MigrationSet) -> &'static [&'static str],
) -> Result<Todo> {
    let mut todo = Todo::default();
    let too_new = |component: &str, version: i64, known: &str| {
        let message = format!(
            "the metadata store is newer than this program: its {component} schema is version {version}, this program \
             ({}) knows {known}; start the newer program",
            env!("CARGO_PKG_VERSION"),
        );
        Error::new(landreeve_core::ErrorKind::PreconditionFailed, "store_too_new", message)
    };
    for (component, version) in &applied.versions {
        if !migrations.0.iter().any(|set| set.component == component) {
            return Err(too_new(component, *version, "no such schema"));
        }
    }
    for set in &migrations.0 {
        let texts = texts(set);
        let newest = texts.len() as i64;
        let version = applied
            .versions
            .iter()
            .find(|(name, _)| name == set.component)
            .map_or(0, |(_, version)| *version);
        if version > newest {
            return Err(too_new(set.component, version, &format!("version {newest}")));
        }
        for (index, text) in texts.iter().enumerate() {
            let step = Step { component: set.component, number: index as i64 + 1, text };
            if step.number > version {
                todo.run.push(step);
                continue;
            }
            let noted = applied
                .checksums
                .iter()
                .find(|(component, number, _)| component == step.component && *number == step.number);
            match noted {
                None => todo.note.push(step),
                Some((_, _, checksum)) if *checksum == step.checksum() => {}
                Some(_) => return Err(changed(step)),
            }
        }
    }
    Ok(todo)
}

fn changed(step: Step) -> Error {
    let message = format!(
        "migration {} of {} differs from the one that this store ran: its text has changed; start a program whose \
         migrations match those of the store",
        step.number, step.component,
    );
    Error::new(landreeve_core::ErrorKind::PreconditionFailed, "migration_changed", message)
}

macro_rules! applied {
    ($conn:expr) => {{
        let versions = sqlx::query_as(READ).fetch_all(&mut *$conn).await.map_err(store_error)?;
        let checksums = sqlx::query_as(READ_CHECKSUMS).fetch_all(&mut *$conn).await.map_err(store_error)?;
        Applied { versions, checksums }
    }};
}

/// Records what ran.
macro_rules! note {
    ($conn:expr, $step:expr) => {{
        let noted = sqlx::query(NOTE).bind($step.component).bind($step.number).bind($step.checksum());
        noted.execute(&mut *$conn).await.map_err(store_error)?;
    }};
}

pub(super) async fn sqlite(
    options: &SqliteConnectOptions,
    path: &Path,
    migrations: &Migrations,
) -> Result<()> {
    let mut conn = options.connect().await.map_err(store_error)?;
    conn.execute("BEGIN IMMEDIATE").await.map_err(store_error)?;
    conn.execute(TABLE).await.map_err(store_error)?;
    conn.execute(CHECKSUMS).await.map_err(store_error)?;
    let applied = applied!(&mut conn);
    let todo = pending(migrations, &applied, |set| set.sqlite)?;
    if !todo.run.is_empty() && !applied.versions.is_empty() {
        // VACUUM INTO cannot run inside the transaction; the lock on the data directory keeps other servers out.
        conn.execute("COMMIT").await.map_err(store_error)?;
        let copy = path.with_extension(format!("before-{}.db", env!("CARGO_PKG_VERSION")));
        // A copy interrupted by a crash has another name, and an older copy is of an older state.
        let partial = copy.with_extension("partial");
        let failed = |error| {
            Error::unavailable("store", format!("cannot create the copy {}: {error}", copy.display()))
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
    for step in todo.note {
        note!(&mut conn, step);
    }
    for step in todo.run {
        conn.execute(step.text).await.map_err(store_error)?;
        let marked = sqlx::query(MARK).bind(step.component).bind(step.number).execute(&mut conn).await;
        marked.map_err(store_error)?;
        note!(&mut conn, step);
    }
    conn.execute("COMMIT").await.map_err(store_error)?;
    conn.close().await.map_err(store_error)
}

pub(super) async fn postgres(conn: &mut PgConnection, migrations: &Migrations) -> Result<()> {
    let mut tx = conn.begin().await.map_err(store_error)?;
    lock(&mut tx).await?;
    apply(&mut tx, migrations).await?;
    tx.commit().await.map_err(store_error)
}

/// Only one program at a time changes the schema; locked until the transaction ends.
pub(super) async fn lock(tx: &mut PgConnection) -> Result<()> {
    // Any constant will do; it only has to be the same on every node.
    tx.execute("SELECT pg_advisory_xact_lock(6021023)").await.map(drop).map_err(store_error)
}

/// Migrates the database to this program's schema inside the caller's transaction.
pub(super) async fn apply(tx: &mut PgConnection, migrations: &Migrations) -> Result<()> {
    tx.execute(TABLE).await.map_err(store_error)?;
    tx.execute(CHECKSUMS).await.map_err(store_error)?;
    let applied = applied!(tx);
    let todo = pending(migrations, &applied, |set| set.postgres)?;
    for step in todo.note {
        note!(tx, step);
    }
    for step in todo.run {
        tx.execute(sqlx::raw_sql(AssertSqlSafe(step.text))).await.map_err(store_error)?;
        let marked = sqlx::query(MARK).bind(step.component).bind(step.number).execute(&mut *tx).await;
        marked.map_err(store_error)?;
        note!(tx, step);
    }
    Ok(())
}
