//! What every live test needs: the servers' addresses, a driver, and a query's rows as JSON.

use std::collections::BTreeMap;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::{Field, SchemaRef};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::tz::TimeZone;
use landreeve_core::Secret;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::ids::DatasourceId;
use landreeve_core::schema::{logical_type, native_type};
use landreeve_core::source::{
    CancellationToken, ConnectSpec, Driver, Drivers, EncodeOptions, Permit, Query, QueryStream, ResultCodec,
    ResultFormat, SourceError, Target, TlsMode,
};
use landreeve_drivers::{Codec, DriverOptions, DriverSet};
use serde_json::{Value, json};

/// Each test has its own datasources, so that pools are not shared by accident.
static NEXT: AtomicI64 = AtomicI64::new(1);

#[expect(
    clippy::disallowed_methods,
    reason = "the test runner passes the servers' addresses in the environment"
)]
pub fn address(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run `cargo xtask test`"))
}

pub struct Live {
    pub set: DriverSet,
    pub spec: ConnectSpec,
}

pub fn postgres() -> Live {
    server("LANDREEVE_TEST_POSTGRES", DatabaseType::Postgres)
}

pub fn mariadb() -> Live {
    server("LANDREEVE_TEST_MARIADB", DatabaseType::MariaDb)
}

pub fn mariadb_without_zones() -> Live {
    server("LANDREEVE_TEST_MARIADB_NO_ZONES", DatabaseType::MariaDb)
}

/// `scheme://user:password@host:port/database`
fn server(variable: &str, database_type: DatabaseType) -> Live {
    let url = address(variable);
    let rest = url.split_once("://").expect("a URL").1;
    let (account, place) = rest.rsplit_once('@').expect("an account");
    let (username, password) = account.split_once(':').unwrap_or((account, ""));
    let (place, database) = place.split_once('/').unwrap_or((place, ""));
    let (host, port) = place.rsplit_once(':').expect("a port");
    let target = Target::Network {
        host: host.to_owned(),
        port: port.parse().expect("a number"),
        addresses: place.to_socket_addrs().expect("an address").collect(),
        username: username.to_owned(),
        password: Secret::new(password),
        database: database.to_owned(),
    };
    live(database_type, target)
}

pub fn sqlite(path: &Path) -> Live {
    live(DatabaseType::Sqlite, Target::File(path.canonicalize().expect("a path")))
}

fn live(database_type: DatabaseType, target: Target) -> Live {
    let spec = ConnectSpec {
        datasource: DatasourceId(NEXT.fetch_add(1, Ordering::Relaxed)),
        version: 1,
        database_type,
        target,
        tls: TlsMode::Prefer,
        time_zone: TimeZone::get("Europe/Berlin").expect("known"),
        max_connections: 2,
        permit: Permit::default(),
        connect_timeout: Duration::from_secs(10),
    };
    Live { set: DriverSet::new(DriverOptions::default()).expect("drivers"), spec }
}

pub fn read(sql: &str) -> Query {
    Query {
        sql: sql.to_owned(),
        time_limit: Duration::from_secs(120),
        batch_rows: 8192,
        batch_bytes: 1 << 20,
        decimals: Vec::new(),
    }
}

/// A permit, and what says that its last copy was dropped.
pub fn watched() -> (Permit, CancellationToken) {
    let given_back = CancellationToken::new();
    (Permit::new(given_back.clone().drop_guard()), given_back)
}

impl Live {
    pub fn driver(&self) -> Arc<dyn Driver> {
        self.set.driver(self.spec.database_type).expect("a driver")
    }

    pub async fn stream(&self, sql: &str) -> Result<QueryStream, SourceError> {
        self.driver().query(&self.spec, read(sql), CancellationToken::new()).await
    }

    pub async fn batches(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), SourceError> {
        let (permit, given_back) = watched();
        let read = async {
            let spec = ConnectSpec { permit, ..self.spec.clone() };
            let stream = self.driver().query(&spec, read(sql), CancellationToken::new()).await?;
            let schema = stream.schema.clone();
            Ok((schema, stream.batches.try_collect().await?))
        };
        let read = read.await;
        // So that the next statement finds the connection in the pool.
        given_back.cancelled().await;
        read
    }

    /// The rows as a JSON client sees them, and their columns.
    pub async fn json(&self, sql: &str) -> Result<Value, SourceError> {
        let (schema, batches) = self.batches(sql).await?;
        let mut writer = Codec.writer(&schema).expect("opens");
        let mut kept = Vec::new();
        for batch in &batches {
            kept.push(Ok(writer.write(batch).expect("writes")));
        }
        kept.push(Ok(writer.finish().expect("ends")));
        let options = EncodeOptions {
            format: ResultFormat::Json,
            envelope: None,
            time_zone: self.spec.time_zone.clone(),
            row_count: Some(batches.iter().map(|batch| batch.num_rows() as u64).sum()),
            most_rows: None,
            csv_separator: b',',
            integers_as_strings: false,
        };
        let mut out = Vec::new();
        let mut chunks = Codec.encode(Box::pin(stream::iter(kept)), options);
        while let Some(chunk) = chunks.next().await {
            out.extend(chunk.expect("encodes"));
        }
        let rows: Value = serde_json::from_slice(&out).expect("JSON");
        let column = |field: &Arc<Field>| json!({ "name": field.name(), "type": logical_type(field).as_str(), "native_type": native_type(field) });
        let columns: Vec<Value> = schema.fields().iter().map(column).collect();
        Ok(json!({ "columns": columns, "rows": rows }))
    }

    /// The first row.
    pub async fn row(&self, sql: &str) -> Vec<Value> {
        let json = self.json(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        json["rows"][0].as_array().unwrap_or_else(|| panic!("{sql}: no row")).clone()
    }

    /// The only value as text.
    pub async fn one(&self, sql: &str) -> String {
        match self.row(sql).await.into_iter().next().expect("a column") {
            Value::String(text) => text,
            other => other.to_string(),
        }
    }

    pub async fn error(&self, sql: &str) -> SourceError {
        match self.batches(sql).await {
            Ok(_) => panic!("{sql} was allowed"),
            Err(error) => error,
        }
    }
}

/// Runs a statement that writes, which the drivers never do.
pub async fn postgres_admin(sql: &str) {
    let client = postgres_client().await;
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

pub async fn postgres_client() -> tokio_postgres::Client {
    let url = address("LANDREEVE_TEST_POSTGRES");
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connects");
    tokio::spawn(connection);
    client
}

pub async fn mariadb_admin(variable: &str) -> mysql_async::Conn {
    let options = mysql_async::Opts::from_url(&address(variable)).expect("a URL");
    let options = mysql_async::OptsBuilder::from_opts(options).prefer_socket(false);
    let mut conn = mysql_async::Conn::new(options).await.expect("connects");
    mysql_async::prelude::Queryable::query_drop(&mut conn, "create database if not exists test")
        .await
        .expect("creates");
    conn
}

/// Repeats the check until it succeeds; the test fails after ten seconds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    for _ in 0..500 {
        if ask().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // tidy: allow sleep: a database sends no notification
    }
    panic!("timed out waiting for: {what}");
}

/// The statements that a MariaDB server receives while this is on.
pub struct GeneralLog(&'static str);

/// What a session sent, in order: the kind of command and its text.
#[derive(Debug, Default)]
pub struct Commands(pub Vec<(String, String)>);

impl GeneralLog {
    pub async fn start(variable: &'static str) -> GeneralLog {
        let mut admin = mariadb_admin(variable).await;
        for sql in ["SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = 1"] {
            mysql_async::prelude::Queryable::query_drop(&mut admin, sql).await.expect(sql);
        }
        GeneralLog(variable)
    }

    /// The sessions that were opened for a database.
    pub async fn sessions(&self, database: &str) -> BTreeMap<u64, Commands> {
        let mut admin = mariadb_admin(self.0).await;
        let rows: Vec<(u64, String, String)> = mysql_async::prelude::Queryable::query(
            &mut admin,
            "SELECT thread_id, command_type, CONVERT(argument USING utf8mb4) FROM mysql.general_log",
        )
        .await
        .expect("a log");
        let mut sessions: BTreeMap<u64, Commands> = BTreeMap::new();
        let opens = format!(" on {database} ");
        for (thread, kind, text) in rows {
            if kind == "Connect" && text.contains(&opens) {
                sessions.insert(thread, Commands::default());
            } else if let Some(session) = sessions.get_mut(&thread) {
                session.0.push((kind, text));
            }
        }
        sessions
    }

    pub async fn stop(self) {
        let mut admin = mariadb_admin(self.0).await;
        let stop = "SET GLOBAL general_log = 0";
        mysql_async::prelude::Queryable::query_drop(&mut admin, stop).await.expect(stop);
    }
}

impl Commands {
    /// Every statement that names a table, and every prepared one, is in a read-only transaction whose isolation was set
    /// just before. Every session began such a transaction.
    pub fn assert_isolated(&self) {
        let (mut is_set, mut open, mut began) = (false, false, false);
        for (kind, text) in &self.0 {
            let texts = if kind == "Query" { text.split("; ").collect() } else { vec![text.as_str()] };
            for text in texts {
                match (kind.as_str(), text) {
                    ("Query", "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ") => is_set = true,
                    ("Query", "START TRANSACTION READ ONLY") => {
                        assert!(is_set, "the isolation is not set: {self:?}");
                        (open, began) = (true, true);
                    }
                    ("Query", "ROLLBACK") => (is_set, open) = (false, false),
                    ("Query", text) => assert!(open || !text.contains("FROM"), "{text}: {self:?}"),
                    ("Prepare" | "Execute", text) => assert!(open, "{text}: {self:?}"),
                    _ => {}
                }
            }
        }
        assert!(began, "no transaction: {self:?}");
    }
}
