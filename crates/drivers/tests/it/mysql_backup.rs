//! Snapshots of MariaDB while others change the database, and tables that are filled: all rows or none.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use futures_util::{StreamExt, TryStreamExt, stream};
use landreeve_core::load::{Loader, Rows};
use landreeve_core::snapshot::{RowOrder, Snapshot, SnapshotOptions, Tools};
use landreeve_core::source::{CancellationToken, ConnectSpec, Drivers, SourceError, SourceErrorKind, Target};
use mysql_async::prelude::Queryable;
use tempfile::TempDir;

use crate::support::{Live, mariadb, mariadb_admin};

const SERVER: &str = "LANDREEVE_TEST_MARIADB";

/// A database on the test server, and the driver.
struct Site {
    live: Live,
    name: String,
    admin: mysql_async::Conn,
    folder: TempDir,
}

impl Site {
    async fn new(name: &str, statements: &[&str]) -> Site {
        let name = format!("lr_backup_{name}_{}", std::process::id());
        let admin = mariadb_admin(SERVER).await;
        let mut live = mariadb();
        if let Target::Network { database, .. } = &mut live.spec.target {
            database.clone_from(&name);
        }
        let mut site =
            Site { live, name: name.clone(), admin, folder: tempfile::tempdir().expect("a folder") };
        site.run(&format!("DROP DATABASE IF EXISTS {name}")).await;
        site.run(&format!("CREATE DATABASE {name}")).await;
        site.run(&format!("USE {name}")).await;
        for sql in statements {
            site.run(sql).await;
        }
        site
    }

    async fn run(&mut self, sql: &str) {
        self.admin.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn number(&mut self, sql: &str) -> i64 {
        self.admin.query_first(sql).await.expect(sql).expect("a row")
    }

    async fn take(&self, cancel: CancellationToken) -> Result<Box<dyn Snapshot>, SourceError> {
        let options = SnapshotOptions {
            readers: 1,
            row_order: RowOrder::Key,
            scratch: self.folder.path().to_owned(),
            lock_timeout: Duration::from_secs(1),
            max_value_bytes: 1_000_000,
            tools: Tools::default(),
        };
        let snapshots = self.live.set.snapshots(self.live.spec.database_type).expect("snapshots");
        snapshots.take(&self.live.spec, options, cancel).await
    }

    fn loader(&self) -> Arc<dyn Loader> {
        self.live.set.loader(self.live.spec.database_type).expect("a loader")
    }

    async fn load(
        &self,
        spec: &ConnectSpec,
        table: &str,
        columns: &[&str],
        rows: Rows,
    ) -> Result<u64, SourceError> {
        let columns: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
        self.loader().load(spec, ("", table), &columns, rows, CancellationToken::new()).await
    }

    async fn end(mut self) {
        let name = self.name.clone();
        self.run(&format!("DROP DATABASE {name}")).await;
        self.live.set.close().await;
    }
}

/// The rows of a table that is called so.
async fn rows(snapshot: &dyn Snapshot, table: &str) -> Result<usize, SourceError> {
    let position = snapshot.contents().tables.iter().position(|known| known.name == table).expect("a table");
    let stream = snapshot.rows(position, 1_000, 1 << 20).await?;
    let batches: Vec<RecordBatch> = stream.batches.try_collect().await?;
    Ok(batches.iter().map(RecordBatch::num_rows).sum())
}

const TABLES: [&str; 6] = [
    "CREATE TABLE a (id INT AUTO_INCREMENT PRIMARY KEY, v INT)",
    "CREATE TABLE b (id INT AUTO_INCREMENT PRIMARY KEY, v INT)",
    "CREATE TABLE c (id INT AUTO_INCREMENT PRIMARY KEY, v INT)",
    "INSERT INTO a SELECT seq, 0 FROM seq_1_to_5000",
    "INSERT INTO b SELECT seq, 0 FROM seq_1_to_5000",
    "CREATE VIEW v AS SELECT id FROM a",
];

#[tokio::test]
async fn rows_that_others_write_do_not_fail_a_backup() {
    let mut site = Site::new("rows", &TABLES).await;
    let snapshot = site.take(CancellationToken::new()).await.expect("a snapshot");
    for sql in ["INSERT INTO a (v) VALUES (1), (2)", "DELETE FROM b", "INSERT INTO c (v) VALUES (1)"] {
        site.run(sql).await;
    }
    for (table, count) in [("a", 5_000), ("b", 5_000), ("c", 0)] {
        assert_eq!(rows(&*snapshot, table).await.expect("rows"), count, "{table}");
    }
    snapshot.end().await.expect("of one moment");
    site.end().await;
}

/// Some changes are found when the table is read, the others at the end.
#[tokio::test]
async fn a_definition_that_was_changed_fails_the_backup() {
    for (at, change, named) in [
        (0, "ALTER TABLE b ADD w INT DEFAULT 5", "`b`"),
        (0, "ALTER TABLE b DROP v, ALGORITHM = COPY", "`b`"),
        (0, "TRUNCATE TABLE b", "`b`"),
        (0, "DROP TABLE b", "`b`"),
        (0, "RENAME TABLE b TO x, c TO b, x TO c", "`b` was replaced"),
        (0, "CREATE TABLE d (a INT)", "`d` is new"),
        (0, "CREATE OR REPLACE VIEW v AS SELECT 1 AS id", "view `v` was changed"),
        (0, "CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW SET @x = 1", "trigger `t` is new"),
        (0, "CREATE PROCEDURE p () SELECT 1", "procedure `p` is new"),
        (0, "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1", "event `e` is new"),
        (0, "CREATE SEQUENCE s", "sequence `s` is new"),
        // A table that was read already.
        (2, "ALTER TABLE b COMMENT = 'x'", "table `b` was changed"),
        (2, "DROP TABLE b", "table `b` is gone"),
    ] {
        let mut site = Site::new("ddl", &TABLES).await;
        // A table that is replaced within a second has the same age.
        let age = "SELECT TIMESTAMPDIFF(SECOND, MAX(CREATE_TIME), NOW()) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()";
        while site.number(age).await < 2 && change.starts_with("RENAME") {
            tokio::task::yield_now().await;
        }
        let snapshot = site.take(CancellationToken::new()).await.expect("a snapshot");
        let tables: Vec<String> = snapshot.contents().tables.iter().map(|table| table.name.clone()).collect();
        let read = async |tables: &[String]| {
            for table in tables {
                rows(&*snapshot, table).await?;
            }
            Ok::<(), SourceError>(())
        };
        let mut done = read(&tables[..at]).await;
        // It does not wait for the backup.
        site.run("SET SESSION lock_wait_timeout = 1").await;
        site.run(change).await;
        if done.is_ok() {
            done = read(&tables[at..]).await;
        }
        if done.is_ok() {
            done = snapshot.end().await;
        }
        let error = done.expect_err(change);
        assert_eq!(error.code.as_deref(), Some("definitions_changed"), "{change}: {error}");
        assert!(error.message.contains(named), "{change}: {error}");
        site.end().await;
    }
}

#[tokio::test]
async fn a_session_that_has_ended_fails_the_backup() {
    let mut site = Site::new("killed", &TABLES).await;
    let sessions = format!(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = '{}' AND ID <> CONNECTION_ID()",
        site.name
    );
    let snapshot = site.take(CancellationToken::new()).await.expect("a snapshot");
    rows(&*snapshot, "a").await.expect("rows");
    let id = site.number(&sessions).await;
    site.run(&format!("KILL {id}")).await;
    let error = rows(&*snapshot, "b").await.expect_err("it was killed");
    assert_eq!(error.kind, SourceErrorKind::Lost, "{error}");
    let error = rows(&*snapshot, "c").await.expect_err("it stays so");
    assert_eq!(error.kind, SourceErrorKind::Lost, "{error}");
    snapshot.end().await.expect_err("nothing kept it together");
    // Cancelled: before it begins, and in the middle.
    let cancel = CancellationToken::new();
    let snapshot = site.take(cancel.clone()).await.expect("a snapshot");
    cancel.cancel();
    let error = rows(&*snapshot, "a").await.expect_err("it was cancelled");
    assert_eq!(error.kind, SourceErrorKind::Cancelled, "{error}");
    drop(snapshot);
    let error = site.take(cancel).await.err().expect("it was cancelled");
    assert_eq!(error.kind, SourceErrorKind::Cancelled, "{error}");
    site.end().await;
}

#[tokio::test]
async fn a_table_that_is_locked_is_waited_for_and_named() {
    let mut site = Site::new("locked", &TABLES).await;
    let snapshot = site.take(CancellationToken::new()).await.expect("a snapshot");
    site.run("LOCK TABLES b WRITE").await;
    rows(&*snapshot, "a").await.expect("rows");
    let error = rows(&*snapshot, "b").await.expect_err("it is locked");
    assert!(error.message.starts_with("table `b` is locked by another session"), "{error}");
    site.run("UNLOCK TABLES").await;
    drop(snapshot);
    site.end().await;
}

fn batch(ids: &[Option<i64>], texts: &[&str]) -> RecordBatch {
    let columns: [(&str, ArrayRef); 2] = [
        ("id", Arc::new(Int64Array::from(ids.to_vec()))),
        ("t", Arc::new(StringArray::from(texts.to_vec()))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
        .expect("a batch")
}

fn given(batches: Vec<Result<RecordBatch, SourceError>>) -> Rows {
    Box::pin(stream::iter(batches)) as Pin<Box<_>>
}

fn many(from: i64, to: i64) -> RecordBatch {
    let ids: Vec<Option<i64>> = (from..to).map(Some).collect();
    batch(&ids, &vec!["x"; ids.len()])
}

#[tokio::test]
async fn all_rows_are_written_or_none() {
    let mut site = Site::new("load", &[]).await;
    let spec = site.live.spec.clone();
    for engine in ["InnoDB", "MyISAM", "Aria"] {
        let create = format!(
            "CREATE OR REPLACE TABLE t (id TINYINT UNSIGNED NOT NULL PRIMARY KEY, t VARCHAR(5) CHARACTER SET latin1) ENGINE = {engine}"
        );
        site.run(&create).await;
        let stopped = || SourceError::new(SourceErrorKind::Cancelled, "it was stopped");
        for (rows, part) in [
            (vec![Ok(many(0, 200)), Err(stopped())], "it was stopped"),
            (vec![Ok(many(0, 200)), Ok(many(199, 210))], "Duplicate entry '199'"),
            (vec![Ok(many(0, 200)), Ok(many(250, 300))], "Out of range value for column 'id'"),
            (vec![Ok(many(0, 200)), Ok(batch(&[None], &["x"]))], "Column 'id' cannot be null"),
            (vec![Ok(many(0, 200)), Ok(batch(&[Some(201)], &["123456"]))], "Data too long for column 't'"),
            (vec![Ok(many(0, 200)), Ok(batch(&[Some(201)], &["中"]))], "Incorrect string value"),
            (vec![Ok(many(0, 200)), Ok(batch(&[Some(201), Some(-1)], &["x", "x"]))], "Out of range value"),
        ] {
            let error = site.load(&spec, "t", &["id", "t"], given(rows)).await.expect_err(part);
            assert!(error.message.starts_with("table `t`: ") || error.kind == SourceErrorKind::Cancelled);
            assert!(error.message.contains(part), "{engine}: {error}");
            assert_eq!(site.number("SELECT COUNT(*) FROM t").await, 0, "{engine}: {part}");
        }
        // Cancelled while it waits for more rows.
        let cancel = CancellationToken::new();
        let columns = ["id".to_owned(), "t".to_owned()];
        let waiting = given(vec![Ok(many(0, 200))]).chain(stream::once(std::future::pending()));
        let loader = site.loader();
        let loading = loader.load(&spec, ("", "t"), &columns, Box::pin(waiting), cancel.clone());
        let filled = async {
            while engine != "InnoDB" && site.number("SELECT COUNT(*) FROM t").await == 0 {
                tokio::task::yield_now().await;
            }
            cancel.cancel();
        };
        let (loaded, ()) = tokio::join!(loading, filled);
        assert_eq!(loaded.expect_err("it was cancelled").kind, SourceErrorKind::Cancelled);
        assert_eq!(site.number("SELECT COUNT(*) FROM t").await, 0, "{engine}: cancelled");
        let loaded =
            site.load(&spec, "t", &["id", "t"], given(vec![Ok(many(0, 100)), Ok(many(100, 256))])).await;
        assert_eq!(loaded.expect("rows"), 256);
        assert_eq!(site.number("SELECT COUNT(*) FROM t WHERE t = 'x'").await, 256);
    }
    site.end().await;
}

/// Where the error value of an ENUM goes in, nothing else does that does not fit.
#[tokio::test]
async fn an_error_value_lets_no_other_in() {
    let mut site = Site::new("enum", &["CREATE TABLE t (id TINYINT PRIMARY KEY, t ENUM('x'))"]).await;
    let spec = site.live.spec.clone();
    let right = vec![Ok(batch(&[Some(1), Some(2), Some(3)], &["x", "", "x"]))];
    assert_eq!(site.load(&spec, "t", &["id", "t"], given(right)).await.expect("rows"), 3);
    assert_eq!(site.number("SELECT COUNT(*) FROM t WHERE t = 0 AND id = 2").await, 1);
    site.run("TRUNCATE TABLE t").await;
    for wrong in
        [batch(&[Some(1), Some(300)], &["x", ""]), batch(&[Some(1), Some(2), Some(3)], &["x", "", "y"])]
    {
        site.load(&spec, "t", &["id", "t"], given(vec![Ok(wrong)])).await.expect_err("it does not fit");
        assert_eq!(site.number("SELECT COUNT(*) FROM t").await, 0);
    }
    site.end().await;
}

/// Batches that do not fit one statement, and values larger than the client's packets.
#[tokio::test]
async fn rows_of_any_size_fit_what_the_server_accepts() {
    let mut site = Site::new("sizes", &["CREATE TABLE t (id INT PRIMARY KEY, t LONGTEXT)"]).await;
    let spec = site.live.spec.clone();
    let most = usize::try_from(site.number("SELECT @@max_allowed_packet").await).expect("a number");
    let texts: Vec<String> = (0..300).map(|at| "y".repeat(at * 100)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let ids: Vec<Option<i64>> = (0..300).map(Some).collect();
    let large = "z".repeat(most - 5_000);
    let rows = vec![Ok(batch(&ids, &texts)), Ok(batch(&[Some(1_000)], &[&large]))];
    assert_eq!(site.load(&spec, "t", &["id", "t"], given(rows)).await.expect("rows"), 301);
    let sum = "SELECT CAST(SUM(LENGTH(t)) AS SIGNED) FROM t";
    let wanted = (0..300).map(|at| at * 100).sum::<usize>() + large.len();
    assert_eq!(usize::try_from(site.number(sum).await).expect("a number"), wanted);
    site.run("TRUNCATE TABLE t").await;
    let larger = "z".repeat(most);
    let rows = vec![Ok(batch(&ids, &texts)), Ok(batch(&[Some(1_000)], &[&larger]))];
    let error = site.load(&spec, "t", &["id", "t"], given(rows)).await.expect_err("too large");
    assert!(error.message.contains("raise its max_allowed_packet"), "{error}");
    assert_eq!(site.number("SELECT COUNT(*) FROM t").await, 0);
    site.end().await;
}
