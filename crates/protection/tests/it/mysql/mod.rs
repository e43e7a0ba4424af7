//! MariaDB databases through backup and restore. SQL says whether the new database is the old one.

mod refused;
mod whole;
mod zoo;

use std::sync::atomic::{AtomicU64, Ordering};

use landreeve_core::datasource::DatabaseType;
use landreeve_core::{RunState, Secret};
use landreeve_estate::ops::datasources::datasource_create;
use landreeve_estate::ops::{Datasource, DatasourceDetails, runs};
use landreeve_protection::backing_up::NewBackup;
use landreeve_protection::backups::Backup;
use landreeve_protection::restoring::{NewRestore, restore_start};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row};
use tokio::process::Command;
use url::Url;

use crate::support::{World, to};

pub const DEFAULTS: NewBackup = NewBackup { repository: None, keep: None };

#[expect(
    clippy::disallowed_methods,
    reason = "the test runner passes the servers' addresses in the environment"
)]
fn server(variable: &str) -> Url {
    let url = std::env::var(variable);
    Url::parse(&url.unwrap_or_else(|_| panic!("{variable} is not set: run `cargo xtask test`"))).unwrap()
}

/// A database on the test server.
pub struct Database {
    pub name: String,
    url: Url,
}

/// A name that no other test uses.
pub fn unused() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("lr_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Database {
    /// Of these statements each is sent on its own: `;;` separates them.
    pub async fn new(sql: &str) -> Database {
        let name = unused();
        let database = Database::named(&name);
        let mut conn = Database::named("").connect().await;
        conn.query_drop(format!("DROP DATABASE IF EXISTS `{name}`")).await.unwrap();
        conn.query_drop(format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4")).await.unwrap();
        conn.disconnect().await.unwrap();
        database.run(sql).await;
        database
    }

    pub fn named(name: &str) -> Database {
        Database::on("LANDREEVE_TEST_MARIADB", name)
    }

    /// On the server of this variable.
    pub fn on(variable: &str, name: &str) -> Database {
        Database { name: name.to_owned(), url: server(variable) }
    }

    pub async fn connect(&self) -> Conn {
        let options = OptsBuilder::default()
            .ip_or_hostname(self.url.host_str().unwrap())
            .tcp_port(self.url.port().unwrap())
            .user(Some(self.url.username()))
            .pass(self.url.password())
            .prefer_socket(false)
            .db_name(Some(&self.name).filter(|name| !name.is_empty()));
        Conn::new(options).await.unwrap()
    }

    pub async fn run(&self, sql: &str) {
        let mut conn = self.connect().await;
        for statement in sql.split(";;").map(str::trim).filter(|statement| !statement.is_empty()) {
            let done = conn.query_drop(statement).await;
            done.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        conn.disconnect().await.unwrap();
    }

    pub async fn drop(self) {
        let name = self.name.replace('`', "``");
        Database { name: String::new(), url: self.url }
            .run(&format!("DROP DATABASE IF EXISTS `{name}`"))
            .await;
    }

    pub fn details(&self) -> DatasourceDetails {
        DatasourceDetails {
            name: unused(),
            database_type: DatabaseType::MariaDb,
            host: self.url.host_str().map(str::to_owned),
            port: self.url.port(),
            username: Some(self.url.username().to_owned()),
            password: self.url.password().map(Secret::new),
            database: Some(self.name.clone()),
            nightly_schema: false,
            ..DatasourceDetails::default()
        }
    }

    /// The first column of a result.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let mut conn = self.connect().await;
        let rows: Vec<Row> = conn.query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        conn.disconnect().await.unwrap();
        rows.into_iter()
            .map(|mut row| row.take::<Option<String>, _>(0).unwrap().unwrap_or_default())
            .collect()
    }

    /// Every definition, as the server's own program writes it.
    pub async fn definitions(&self) -> String {
        let mut command = Command::new("mariadb-dump");
        command
            .args(["--no-defaults", "--no-data", "--routines", "--events", "--triggers", "--skip-comments"])
            .arg(format!("--host={}", self.url.host_str().unwrap()))
            .arg(format!("--port={}", self.url.port().unwrap()))
            .arg(format!("--user={}", self.url.username()))
            .env("MYSQL_PWD", self.url.password().unwrap())
            .arg(&self.name);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).replace(&format!("`{}`", self.name), "`DATABASE`")
    }

    /// Every bit of every row, as the server shows it.
    pub async fn rows(&self) -> Vec<String> {
        let of_tables = "SELECT CONCAT(TABLE_NAME, '\\n', TABLE_TYPE) FROM information_schema.TABLES \
                         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE <> 'VIEW' ORDER BY 1";
        let mut found = Vec::new();
        for listed in self.texts(of_tables).await {
            let (table, table_type) = listed.split_once('\n').unwrap();
            let of_columns = format!(
                "SELECT CONCAT(DATA_TYPE, ' ', COLUMN_NAME) FROM information_schema.COLUMNS \
                 WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{}' ORDER BY ORDINAL_POSITION",
                table.replace('\'', "''")
            );
            let mut cells = Vec::new();
            for column in self.texts(&of_columns).await {
                let (data_type, name) = column.split_once(' ').unwrap();
                let name = format!("`{}`", name.replace('`', "``"));
                cells.push(format!("IFNULL(HEX(CAST({name} AS BINARY)), 'NULL')"));
                if ["float", "double", "bit", "enum", "set", "year"].contains(&data_type) {
                    cells.push(format!("IFNULL(CAST({name} + 0e0 AS CHAR), 'NULL')"));
                    // The sign of zero.
                    cells.push(format!("IFNULL(ATAN2({name} + 0e0, -1), 'NULL')"));
                }
            }
            let versioned = table_type == "SYSTEM VERSIONED";
            if versioned && !cells.iter().any(|cell| cell.contains("`rs`")) {
                cells.extend(["row_start".to_owned(), "row_end".to_owned()]);
            }
            let history = if versioned { " FOR SYSTEM_TIME ALL" } else { "" };
            let shown = table.replace('`', "``");
            let sql =
                format!("SELECT CONCAT_WS(' ', {}) FROM `{shown}`{history} ORDER BY 1", cells.join(", "));
            found.extend(self.texts(&sql).await.into_iter().map(|row| format!("{table}: {row}")));
        }
        found
    }
}

pub async fn declared(world: &World, details: DatasourceDetails) -> Datasource {
    datasource_create(&world.kit.estate, &world.ctx, details, Vec::new()).await.unwrap()
}

/// Restores into a new database, and compares it with the backup.
pub async fn restored(world: &World, backup: &Backup, new: NewRestore) {
    let run = restore_start(&world.plane, &world.ctx, NewRestore { compare: true, ..new }).await.unwrap();
    assert_eq!(world.ended(run).await, (RunState::Succeeded, String::new()), "{}", backup.uuid);
}

/// A database through backup and restore.
pub async fn copied(world: &World, database: &Database) -> (Backup, Database) {
    let source = declared(world, database.details()).await;
    let backup = world.back_up(&source, DEFAULTS).await;
    let new = Database::named(&unused());
    restored(world, &backup, to(&backup, new.name.clone())).await;
    (backup, new)
}

/// What a run has said.
pub async fn log(world: &World, run: uuid::Uuid) -> Vec<String> {
    let run = runs::RunRef::Uuid(run);
    let (lines, _) = runs::run_log(&world.kit.estate, &world.ctx, run, &[], 0).await.unwrap();
    lines.into_iter().map(|line| line.text).collect()
}
