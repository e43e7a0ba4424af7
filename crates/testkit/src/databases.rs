//! Users' databases: what tests put into them, and what is in them afterwards.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

async fn sqlite(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    SqliteConnection::connect_with(&options).await.unwrap()
}

/// Runs statements on a SQLite file, which is made if it is missing.
pub async fn sqlite_execute(path: &Path, sql: &str) {
    let mut conn = sqlite(path).await;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}

/// The number that a query returns from a SQLite file.
pub async fn sqlite_number(path: &Path, sql: &str) -> i64 {
    let mut conn = sqlite(path).await;
    let found = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    found
}

/// Runs statements on a PostgreSQL database.
pub async fn postgres_execute(url: &str, sql: &str) {
    let mut conn = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}

/// Runs statements on the MariaDB server of the tests. Returns what they print, without names of columns.
pub async fn mariadb_execute(sql: &str) -> String {
    let url = url::Url::parse(&mariadb_url()).unwrap();
    let output = tokio::process::Command::new("mariadb")
        .args(["--no-defaults", "--skip-column-names", "--batch"])
        .arg(format!("--host={}", url.host_str().unwrap()))
        .arg(format!("--port={}", url.port().unwrap()))
        .arg(format!("--user={}", url.username()))
        .arg(format!("--execute={sql}"))
        .env("MYSQL_PWD", url.password().unwrap())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The address of the MariaDB server of the tests.
#[expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "the test runner passes the databases' addresses in the environment"
)]
pub fn mariadb_url() -> String {
    std::env::var("LANDREEVE_TEST_MARIADB")
        .expect("LANDREEVE_TEST_MARIADB is not set: run `cargo xtask test`")
}
