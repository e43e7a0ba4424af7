//! The PostgreSQL of the benchmark: durable, with a table of rows that hardly compress.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::databases::Databases;
use crate::measure::server::{Access, Server};

pub struct Postgres {
    psql: PathBuf,
    pub password: String,
    pub port: u16,
}

impl Postgres {
    /// Makes the server durable again; the tests run it without durability.
    pub fn prepare(databases: &Databases) -> Result<Self> {
        let address = databases.address("LANDREEVE_TEST_POSTGRES")?;
        let psql = databases.export("LANDREEVE_TEST_PSQL")?.into();
        let postgres = Self { psql, password: address.password, port: address.port };
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            postgres.run("postgres", &format!("ALTER SYSTEM SET {setting} = on"))?;
        }
        postgres.run("postgres", "SELECT pg_reload_conf()")?;
        postgres.await_durability()?;
        Ok(postgres)
    }

    fn await_durability(&self) -> Result<()> {
        for _ in 0..100 {
            if self.run("postgres", "SHOW fsync")? == "on"
                && self.run("postgres", "SHOW synchronous_commit")? == "on"
            {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        anyhow::bail!("PostgreSQL did not become durable")
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// Creates a key for the Cluvio API and a datasource on this server.
    pub fn access(&self, server: &Server) -> Result<Access> {
        let attributes = format!(
            r#""name":"Bench","database_type":"postgres","host":"127.0.0.1","port":{},"username":"postgres","password":"{}","database":"postgres","data_time_zone":"UTC","update_schema_nightly":false"#,
            self.port, self.password
        );
        server.datasource(&server.cluvio_key("bench")?, &attributes)
    }

    pub fn create_database(&self, name: &str) -> Result<()> {
        self.run("postgres", &format!("CREATE DATABASE {name}")).map(drop)
    }

    /// Runs a statement; returns the output of `psql`, without headings.
    pub fn run(&self, database: &str, sql: &str) -> Result<String> {
        let output = self.psql(database, sql).output().context("psql")?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "psql: {sql}: {err}");
        Ok(out.trim().to_owned())
    }

    /// Seconds that `psql` takes to copy a query's rows out as CSV, which is discarded.
    pub fn time_copy(&self, query: &str) -> Result<f64> {
        let mut copy = self.psql("postgres", &format!("COPY ({query}) TO STDOUT (FORMAT csv)"));
        copy.stdout(Stdio::null());
        let begun = Instant::now();
        ensure!(copy.status().context("psql")?.success(), "psql COPY failed");
        Ok(begun.elapsed().as_secs_f64())
    }

    fn psql(&self, database: &str, sql: &str) -> Command {
        let mut psql = Command::new(&self.psql);
        let port = self.port.to_string();
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "postgres",
        ]);
        psql.args(["-d", database, "-c", sql]).env("PGPASSWORD", &self.password).env("PGTZ", "UTC");
        psql.stdin(Stdio::null());
        psql
    }

    /// int8, text of 15 to 25 characters (mostly random base64), float8 with all its digits, timestamptz with
    /// microseconds, bool.
    pub fn make_table(&self, name: &str, rows: u64) -> Result<()> {
        self.run(
            "postgres",
            &format!(
                "CREATE TABLE {name} AS SELECT i::int8 AS id, \
                 left(encode(sha256(int8send(i::int8)), 'base64'), 15 + i % 11) AS name, \
                 sin(i) * 1e6 AS value, timestamptz '2020-01-01' + i * interval '1.000137 seconds' AS at, \
                 i % 3 = 0 AS flag FROM generate_series(1, {rows}) AS i"
            ),
        )?;
        // So that neither side pays for the first read of the rows.
        self.run("postgres", &format!("VACUUM (FREEZE, ANALYZE) {name}"))?;
        self.run("postgres", "CHECKPOINT").map(drop)
    }
}
