//! Checks the store for damage. SQLite runs its quick check and foreign key check; PostgreSQL reports what it has found
//! itself and, if the extension `amcheck` is installed, checks its indexes.

use std::path::Path;

use landreeve_core::{Error, Result};
use rusqlite::{Connection, OpenFlags};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use tokio_util::sync::CancellationToken;

use super::store_error;

/// Maximum number of problems reported: one is enough to act.
const TOLD: usize = 20;

/// The problems of a SQLite file; empty if there are none.
pub async fn sqlite(path: &Path, cancel: CancellationToken) -> Result<Vec<String>> {
    let path = path.to_owned();
    let damaged =
        |error: &rusqlite::Error| Error::unavailable("store", format!("cannot check the store: {error}"));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(&path, flags).map_err(|error| damaged(&error))?;
    let interrupt = conn.get_interrupt_handle();
    let mut checking = tokio::task::spawn_blocking(move || quick_check(&conn));
    let checked = tokio::select! {
        checked = &mut checking => checked,
        () = cancel.cancelled() => {
            interrupt.interrupt();
            checking.await
        }
    };
    match checked.map_err(Error::internal)? {
        Ok(problems) => Ok(problems),
        // If the first page of a file is damaged, SQLite does not recognize it as a database.
        Err(error) if is_damage(&error) => Ok(vec![error.to_string()]),
        Err(error) => Err(damaged(&error)),
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
    )
}

fn quick_check(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = conn.prepare(&format!("PRAGMA quick_check({TOLD})"))?;
    let told = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut problems: Vec<String> = told.collect::<rusqlite::Result<_>>()?;
    problems.retain(|problem| problem != "ok");
    if problems.is_empty() {
        let mut statement = conn.prepare("PRAGMA foreign_key_check")?;
        let told = statement.query_map([], |row| {
            let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
            Ok(format!("a row of {table} refers to a missing row of {parent}"))
        })?;
        problems = told.take(TOLD).collect::<rusqlite::Result<_>>()?;
    }
    Ok(problems)
}

/// The problems of a PostgreSQL database, as far as it can report them.
pub async fn postgres(conn: &mut PgConnection, cancel: CancellationToken) -> Result<Vec<String>> {
    let checking = ask_postgres(conn);
    // The connection is closed with the check, which ends the statement.
    cancel
        .run_until_cancelled(checking)
        .await
        .unwrap_or_else(|| Err(Error::unavailable("store", "the check of the store was cancelled")))
}

async fn texts(conn: &mut PgConnection, sql: &'static str) -> Result<Vec<String>> {
    let rows = sqlx::query(sql).fetch_all(conn).await.map_err(store_error)?;
    rows.iter().map(|row| row.try_get(0).map_err(store_error)).collect()
}

async fn ask_postgres(conn: &mut PgConnection) -> Result<Vec<String>> {
    let mut problems = texts(
        conn,
        "SELECT checksum_failures || ' pages whose checksum was wrong, the last at ' || checksum_last_failure \
         FROM pg_stat_database WHERE datname = current_database() AND checksum_failures > 0 \
         UNION ALL SELECT 'the index ' || i.indexrelid::regclass || ' is not valid' FROM pg_index i \
         JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE NOT i.indisvalid AND n.nspname = current_schema() \
         UNION ALL SELECT 'the constraint ' || k.conname || ' is not valid' FROM pg_constraint k \
         JOIN pg_namespace n ON n.oid = k.connamespace WHERE NOT k.convalidated AND n.nspname = current_schema()",
    )
    .await?;
    let checks = texts(
        conn,
        "SELECT format('SELECT %I.bt_index_check(%L::regclass)', x.nspname, c.oid::regclass) \
         FROM pg_extension e JOIN pg_namespace x ON x.oid = e.extnamespace, pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am a ON a.oid = c.relam \
         WHERE e.extname = 'amcheck' AND c.relkind = 'i' AND a.amname = 'btree' AND n.nspname = current_schema()",
    )
    .await?;
    for check in checks {
        match sqlx::query(AssertSqlSafe(check)).execute(&mut *conn).await {
            Ok(_) => {}
            // Class XX is damage; without permission to call the function, there is nothing to learn.
            Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code.starts_with("XX")) => {
                problems.push(error.message().to_owned());
            }
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42501") => break,
            Err(error) => return Err(store_error(error)),
        }
    }
    problems.truncate(TOLD);
    Ok(problems)
}
