//! Copies a whole store to a SQLite file, whichever database it is in, and back into either.
//!
//! The tables and columns are read from the SQLite side, whose schema comes from all planes' migrations; rule 8 of the
//! design gives PostgreSQL the same ones. Rows are copied one by one, so that no table has to fit into memory.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use futures_util::TryStreamExt as _;
use landreeve_core::{Error, Result};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _};

use super::conn::{Arg, Row, postgres_args, sqlite_args};
use super::{Migrations, migrate, store_error};

/// Valid only while a node lives: no node works on a copy.
const OF_NODES: [&str; 2] = ["nodes", "leases"];
/// Belongs to the database rather than its content: its migrations have their own text.
const OF_DATABASE: &str = "migration_checksums";

struct Table {
    name: String,
    columns: Vec<(String, Kind)>,
}

#[derive(Clone, Copy)]
enum Kind {
    Int,
    Float,
    Text,
    Bytes,
}

impl Table {
    fn names(&self) -> String {
        let quoted: Vec<String> = self.columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        quoted.join(", ")
    }

    fn select(&self) -> String {
        format!("SELECT {} FROM \"{}\"", self.names(), self.name)
    }

    fn delete(&self) -> String {
        format!("DELETE FROM \"{}\"", self.name)
    }

    fn insert(&self) -> String {
        let places: Vec<String> = (1..=self.columns.len()).map(|place| format!("${place}")).collect();
        format!("INSERT INTO \"{}\" ({}) VALUES ({})", self.name, self.names(), places.join(", "))
    }

    fn values(&self, row: &Row) -> Result<Vec<Arg>> {
        let value = |(at, (_, kind)): (usize, &(String, Kind))| {
            Ok(match kind {
                Kind::Int => Arg::Int(row.int_opt(at)?),
                Kind::Float => Arg::Float(row.float_opt(at)?),
                Kind::Text => Arg::Text(row.text_opt(at)?),
                Kind::Bytes => Arg::Bytes(row.bytes_opt(at)?),
            })
        };
        self.columns.iter().enumerate().map(value).collect()
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    // Rows are copied in the order of the table names; references are checked once all rows are there.
    SqliteConnectOptions::new().filename(path).create_if_missing(true).foreign_keys(false)
}

async fn tables(conn: &mut SqliteConnection) -> Result<Vec<Table>> {
    let sql = "SELECT m.name, c.name, c.type FROM sqlite_schema m, pragma_table_info(m.name) c \
               WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY m.name, c.cid";
    let mut found: Vec<Table> = Vec::new();
    for row in sqlx::query(sql).fetch_all(conn).await.map_err(store_error)? {
        let text = |at: usize| row.try_get::<String, _>(at).map_err(store_error);
        let (table, column) = (text(0)?, text(1)?);
        let kind = match text(2)?.as_str() {
            "BIGINT" => Kind::Int,
            "DOUBLE PRECISION" => Kind::Float,
            "TEXT" => Kind::Text,
            "BLOB" => Kind::Bytes,
            other => {
                return Err(Error::internal(format!(
                    "{table}.{column} is {other}, which is not a type of the store"
                )));
            }
        };
        match found.last_mut().filter(|last| last.name == table) {
            _ if table == OF_DATABASE => {}
            Some(last) => last.columns.push((column, kind)),
            None => found.push(Table { name: table, columns: vec![(column, kind)] }),
        }
    }
    Ok(found)
}

async fn run(conn: &mut SqliteConnection, sql: String) -> Result<()> {
    conn.execute(AssertSqlSafe(sql)).await.map(drop).map_err(store_error)
}

async fn run_postgres(conn: &mut PgConnection, sql: String) -> Result<()> {
    conn.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(drop).map_err(store_error)
}

/// A copy never overwrites a file, and only its owner can read it.
fn new_file(path: &Path) -> Result<()> {
    let made = File::options().write(true).create_new(true).mode(0o600).open(path);
    made.map(drop).map_err(|error| {
        Error::conflict("no_file", format!("cannot create the file {}: {error}", path.display()))
    })
}

/// Writes a snapshot of the PostgreSQL store to a new SQLite file.
pub(super) async fn from_postgres(
    conn: &mut PgConnection,
    migrations: &Migrations,
    target: &Path,
) -> Result<()> {
    new_file(target)?;
    let options = options(target);
    migrate::sqlite(&options, target, migrations).await?;
    let mut to = options.connect().await.map_err(store_error)?;
    let tables = tables(&mut to).await?;
    let mut from =
        conn.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(store_error)?;
    run(&mut to, "BEGIN IMMEDIATE".to_owned()).await?;
    for table in &tables {
        // Rows added by migrations come from the other store.
        run(&mut to, table.delete()).await?;
    }
    for table in tables.iter().filter(|table| !OF_NODES.contains(&table.name.as_str())) {
        let insert = table.insert();
        let mut rows = sqlx::query(AssertSqlSafe(table.select())).fetch(&mut *from);
        while let Some(row) = rows.try_next().await.map_err(store_error)? {
            let row: PgRow = row;
            let values = sqlite_args(&insert, table.values(&Row::Copied(row))?)?;
            let added = sqlx::query_with(AssertSqlSafe(insert.as_str()), values).execute(&mut to).await;
            added.map_err(store_error)?;
        }
    }
    from.rollback().await.map_err(store_error)?;
    let dangling =
        sqlx::query("PRAGMA foreign_key_check").fetch_optional(&mut to).await.map_err(store_error)?;
    if dangling.is_some() {
        return Err(Error::internal("the copy refers to missing rows"));
    }
    run(&mut to, "COMMIT".to_owned()).await?;
    to.close().await.map_err(store_error)
}

/// Fills an empty PostgreSQL database from the SQLite file of a backup, in one transaction. The file is migrated to
/// this program's schema first, so it must not be needed by anyone else.
pub(super) async fn into_postgres(source: &Path, migrations: &Migrations, url: &str) -> Result<()> {
    let options = options(source);
    migrate::sqlite(&options, source, migrations).await?;
    let mut from = options.connect().await.map_err(store_error)?;
    let tables = tables(&mut from).await?;
    let mut conn = super::connect(&super::address::parse(url)?).await?;
    let mut to = conn.begin().await.map_err(store_error)?;
    migrate::lock(&mut to).await?;
    refuse_if_used(&mut to).await?;
    migrate::apply(&mut to, migrations).await?;
    let checks = drop_checks(&mut to).await?;
    for table in &tables {
        run_postgres(&mut to, table.delete()).await?;
    }
    for table in tables.iter().filter(|table| !OF_NODES.contains(&table.name.as_str())) {
        let mut copied = 0_i64;
        let insert = table.insert();
        let mut rows = sqlx::query(AssertSqlSafe(table.select())).fetch(&mut from);
        while let Some(row) = rows.try_next().await.map_err(store_error)? {
            let row: SqliteRow = row;
            let values = postgres_args(&insert, table.values(&Row::Sqlite(row))?)?;
            let added = sqlx::query_with(AssertSqlSafe(insert.as_str()), values).execute(&mut *to).await;
            added.map_err(store_error)?;
            copied += 1;
        }
        drop(rows);
        let sql = format!("SELECT count(*) FROM \"{}\"", table.name);
        let there: i64 = sqlx::query(AssertSqlSafe(sql))
            .fetch_one(&mut *to)
            .await
            .and_then(|row| row.try_get(0))
            .map_err(store_error)?;
        if there != copied {
            let message = format!("{} has {there} rows instead of {copied}", table.name);
            return Err(Error::internal(message));
        }
    }
    for check in checks {
        run_postgres(&mut to, check).await?;
    }
    to.commit().await.map_err(store_error)?;
    conn.close().await.map_err(store_error)?;
    from.close().await.map_err(store_error)
}

async fn refuse_if_used(conn: &mut PgConnection) -> Result<()> {
    let sql = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')";
    let found: i64 =
        sqlx::query(sql).fetch_one(conn).await.and_then(|row| row.try_get(0)).map_err(store_error)?;
    if found > 0 {
        return Err(Error::conflict(
            "not_empty",
            format!("the database already has {found} tables; restore into an empty database"),
        ));
    }
    Ok(())
}

/// Drops the foreign keys and returns the statements that restore them: rows are copied in the order of the table
/// names, and a unit may have a smaller number than its parent.
async fn drop_checks(conn: &mut PgConnection) -> Result<Vec<String>> {
    let sql = "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', c.conrelid::regclass, c.conname), \
               format('ALTER TABLE %s ADD CONSTRAINT %I %s', c.conrelid::regclass, c.conname, \
               pg_get_constraintdef(c.oid)) FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace \
               WHERE c.contype = 'f' AND n.nspname = current_schema() ORDER BY c.oid";
    let mut back = Vec::new();
    for row in sqlx::query(sql).fetch_all(&mut *conn).await.map_err(store_error)? {
        run_postgres(conn, row.try_get(0).map_err(store_error)?).await?;
        back.push(row.try_get(1).map_err(store_error)?);
    }
    Ok(back)
}
