//! Generated statements through the drivers, as a user with every privilege. The server itself says which of them write:
//! each is first sent as it is, while another session holds every row. None of those that the gate lets through writes
//! or locks, and the gate rejects none that only reads.

mod grammar;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use landreeve_core::Secret;
use landreeve_core::source::{CancellationToken, Query, SourceError, SourceErrorKind, Target};
use mysql_async::prelude::Queryable as _;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::support::{GeneralLog, Live, mariadb, mariadb_admin, postgres, postgres_client, read};
use grammar::{Grammar, MARIADB, POSTGRES};

const SERVER: &str = "LANDREEVE_TEST_MARIADB";
const STATEMENTS: usize = 4_000;

struct Statement {
    sql: String,
    /// A part that writes was put in; it may be in a comment.
    has_writer: bool,
}

struct Generator {
    grammar: Grammar,
    runner: TestRunner,
    folder: PathBuf,
    next_file: usize,
}

impl Generator {
    fn new(grammar: Grammar, folder: PathBuf) -> Generator {
        Generator { grammar, runner: TestRunner::deterministic(), folder, next_file: 0 }
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        prop::sample::select(from.to_vec()).new_tree(&mut self.runner).expect("a choice").current()
    }

    fn below(&mut self, end: u32) -> u32 {
        (0..end).new_tree(&mut self.runner).expect("a number").current()
    }

    /// Often nothing, so that tokens touch.
    fn blank(&mut self) -> &'static str {
        match self.below(10) {
            0..3 => "",
            3..6 => " ",
            _ => self.pick(self.grammar.blanks),
        }
    }

    fn expressions(&mut self) -> String {
        let mut list = self.pick(self.grammar.expressions).to_owned();
        for _ in 0..self.below(3) {
            list.push_str(self.blank());
            list.push_str(self.pick(self.grammar.operators));
            list.push_str(self.blank());
            list.push_str(self.pick(self.grammar.expressions));
        }
        if self.below(3) == 0 {
            list.push_str(self.blank());
            list.push_str(self.pick(&["as", "as ", ""]));
            list.push_str(self.blank());
            list.push_str(self.pick(self.grammar.names));
        }
        list
    }

    fn statement(&mut self) -> Statement {
        let mut shape = self.pick(self.grammar.shapes).to_owned();
        let writer = if self.below(2) == 0 { self.pick(self.grammar.writers) } else { "" };
        let has_writer = shape.contains("WRITER") && !writer.is_empty() || shape.contains("DML");
        shape = shape.replace("WRITER", writer).replace("DML", self.pick(self.grammar.changes));
        shape = shape.replace("ORDER", self.pick(self.grammar.orders));
        while shape.contains("NAME") {
            shape = shape.replacen("NAME", self.pick(self.grammar.names), 1);
        }
        while shape.contains('%') {
            shape = shape.replacen('%', &format!("{}LIST{}", self.blank(), self.blank()), 1);
            shape = shape.replacen("LIST", &self.expressions().replace('%', ""), 1);
        }
        self.next_file += 1;
        let file = self.folder.join(self.next_file.to_string());
        let mut sql = String::new();
        for char in shape.replace("FILE", &file.display().to_string()).chars() {
            match char {
                '~' if self.below(4) > 0 => sql.push(' '),
                '~' => sql.push_str(self.blank()),
                char => sql.push(char),
            }
        }
        Statement { sql, has_writer }
    }

    /// The files that statements have written; it removes them.
    fn files(&self) -> usize {
        let written = std::fs::read_dir(&self.folder).expect("a folder").flatten();
        written.map(|file| std::fs::remove_file(file.path()).expect("removes")).count()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Fails,
    Reads,
    Writes,
}

/// What the statement does, without the gate and outside a read-only transaction.
async fn judge(server: &mut mysql_async::Conn, generator: &Generator, sql: &str) -> Verdict {
    let verdict = match server.query_drop(sql).await {
        // 1205: another session holds the rows that it would change or lock.
        Err(mysql_async::Error::Server(error)) if error.code == 1205 => Verdict::Writes,
        Err(mysql_async::Error::Server(_)) => Verdict::Fails,
        Err(error) => panic!("{sql:?}: {error}"),
        Ok(()) => Verdict::Reads,
    };
    let mut wrote = generator.files() > 0;
    if sql.contains("probe") {
        let probe: Option<Option<String>> = server.query_first("SELECT @probe").await.expect("a variable");
        wrote |= probe.flatten().as_deref() != Some("clean");
        server.query_drop("SET @probe = 'clean'").await.expect("is set");
    }
    if wrote { Verdict::Writes } else { verdict }
}

async fn run(live: &Live, sql: &str) -> Result<(), SourceError> {
    let query = Query { time_limit: Duration::from_secs(20), ..read(sql) };
    let stream = live.driver().query(&live.spec, query, CancellationToken::new()).await?;
    stream.batches.try_collect::<Vec<_>>().await.map(|_| ())
}

/// Tables whose rows another session holds for as long as the connection lives.
async fn held_tables(database: &str) -> mysql_async::Conn {
    let mut holder = mariadb_admin(SERVER).await;
    for sql in [
        &format!("CREATE OR REPLACE DATABASE {database}"),
        &format!("USE {database}"),
        "CREATE TABLE gate_rows (a INT)",
        "INSERT INTO gate_rows VALUES (1), (2)",
        "CREATE TABLE gate_keys (id INT PRIMARY KEY)",
        "INSERT INTO gate_keys VALUES (1)",
        "CREATE TABLE gate_names (`as` INT, `into` INT, `outfile` INT, 5x INT, 1into INT, 2e INT, share INT, é INT, $b INT,
           a INT)",
        "INSERT INTO gate_names VALUES (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)",
        "START TRANSACTION",
        "SELECT * FROM gate_rows FOR UPDATE",
        "SELECT * FROM gate_keys FOR UPDATE",
        "SELECT * FROM gate_names FOR UPDATE",
    ] {
        holder.query_drop(sql).await.expect(sql);
    }
    holder
}

#[tokio::test]
async fn what_passes_the_gate_never_writes_on_mariadb() {
    let database = format!("lr_gate_{}", std::process::id());
    let holder = held_tables(&database).await;
    let folder = tempfile::tempdir().expect("a folder");
    // The server writes its files as another user.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).expect("is shared");
    let mut generator = Generator::new(MARIADB, folder.path().to_owned());
    let mut server = mariadb_admin(SERVER).await;
    for sql in
        [&format!("USE {database}"), "SET SESSION innodb_lock_wait_timeout = 0", "SET @probe = 'clean'"]
    {
        server.query_drop(sql).await.expect(sql);
    }
    let mut live = mariadb();
    if let Target::Network { database: target, .. } = &mut live.spec.target {
        target.clone_from(&database);
    }
    let log = GeneralLog::start(SERVER).await;

    let (mut wrote, mut read, mut sent) = (0, 0, BTreeSet::new());
    for _ in 0..STATEMENTS {
        let Statement { sql, has_writer } = generator.statement();
        let verdict = judge(&mut server, &generator, &sql).await;
        if verdict == Verdict::Fails {
            continue;
        }
        let answer = run(&live, &sql).await;
        assert_eq!(generator.files(), 0, "writes a file through the driver: {sql:?}");
        let refusal = match &answer {
            Err(error) if error.kind == SourceErrorKind::NotReadOnly => Some(error),
            _ => None,
        };
        match (verdict, refusal) {
            (Verdict::Writes, None) => panic!("passes and writes: {sql:?}: {answer:?}"),
            (Verdict::Writes, Some(_)) => wrote += 1,
            // A comment that another version runs, a lock on nothing, the file of a plan; and a subquery of SHOW that
            // MariaDB does not need to run.
            (_, Some(error)) => {
                let parts: &[&str] = match has_writer {
                    true => &["run by the database", "locks rows", "INTO", "a subquery in SHOW"],
                    false => &["a subquery in SHOW"],
                };
                let is_known = parts.iter().any(|part| error.message.contains(part));
                assert!(is_known, "is refused but only reads: {sql:?}: {error}");
            }
            (_, None) => {
                assert!(answer.is_ok(), "{sql:?}: {answer:?}");
                // The server's log has no whitespace at the end.
                sent.insert(sql.trim_end().to_owned());
                read += 1;
            }
        }
    }
    assert!(wrote > 300 && read > 300, "{wrote} writers and {read} readers are too few");
    live.set.close().await;
    let sessions = log.sessions(&database).await;
    assert!(!sessions.is_empty());
    let mut executed = 0;
    for session in sessions.values().filter(|session| session.0.iter().any(|(kind, _)| kind == "Prepare")) {
        session.assert_isolated();
        for (_, text) in session.0.iter().filter(|(kind, _)| kind == "Execute") {
            assert!(sent.contains(text.trim_end()), "was not sent: {text:?}");
            executed += 1;
        }
    }
    assert_eq!(executed, read);
    log.stop().await;
    let rows: Option<(i64, i64)> =
        server.query_first("SELECT COUNT(*), SUM(a) FROM gate_rows").await.expect("rows");
    assert_eq!(rows, Some((2, 3)));
    server.disconnect().await.expect("leaves");
    holder.disconnect().await.expect("leaves");
    let mut admin = mariadb_admin(SERVER).await;
    admin.query_drop(format!("DROP DATABASE {database}")).await.expect("drops");
}

/// As a superuser. A statement that writes is given a transaction id; one that changes or locks rows waits for the lock
/// of the other session.
async fn judge_on_postgresql(server: &tokio_postgres::Client, sql: &str) -> Verdict {
    server.batch_execute("BEGIN").await.expect("begins");
    let verdict = match server.simple_query(sql).await {
        Err(error) => match error.code().map(tokio_postgres::error::SqlState::code) {
            Some("55P03") => Verdict::Writes,
            Some(_) => Verdict::Fails,
            None => panic!("{sql:?}: {error}"),
        },
        Ok(_) => {
            let written = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL";
            let row = server.query_one(written, &[]).await.expect("an answer");
            if row.get(0) { Verdict::Writes } else { Verdict::Reads }
        }
    };
    server.batch_execute("ROLLBACK").await.expect("ends");
    verdict
}

#[tokio::test]
async fn what_passes_the_gate_never_writes_on_postgresql() {
    let holder = postgres_client().await;
    let tables = "DROP SCHEMA IF EXISTS lr_gate CASCADE; CREATE SCHEMA lr_gate; SET search_path = lr_gate;
         DROP ROLE IF EXISTS lr_gate; CREATE ROLE lr_gate SUPERUSER LOGIN PASSWORD 'lr';
         ALTER ROLE lr_gate SET search_path = lr_gate;
         CREATE TABLE gate_rows AS SELECT 1 AS a UNION ALL SELECT 2;
         CREATE TABLE gate_names AS SELECT 1 AS \"into\", 2 AS merge, 3 AS delete, 4 AS é, 5 AS a, 6 AS \"as\",
           7 AS \"select\"";
    holder.batch_execute(tables).await.expect("tables");
    let hold = "BEGIN; SELECT * FROM gate_rows FOR UPDATE; SELECT * FROM gate_names FOR UPDATE";
    holder.batch_execute(hold).await.expect("locks");
    let server = postgres_client().await;
    server.batch_execute("SET search_path = lr_gate; SET lock_timeout = 1").await.expect("is set");
    let folder = tempfile::tempdir().expect("a folder");
    let mut generator = Generator::new(POSTGRES, folder.path().to_owned());
    let mut live = postgres();
    if let Target::Network { username, password, .. } = &mut live.spec.target {
        "lr_gate".clone_into(username);
        *password = Secret::new("lr");
    }

    let (mut wrote, mut read) = (0, 0);
    for _ in 0..STATEMENTS {
        let Statement { sql, .. } = generator.statement();
        let verdict = judge_on_postgresql(&server, &sql).await;
        if verdict == Verdict::Fails {
            continue;
        }
        let answer = run(&live, &sql).await;
        let refused = matches!(&answer, Err(error) if error.kind == SourceErrorKind::NotReadOnly);
        match (verdict, refused) {
            (Verdict::Writes, false) => panic!("passes and writes: {sql:?}: {answer:?}"),
            (Verdict::Writes, true) => wrote += 1,
            (_, true) => panic!("is refused but only reads: {sql:?}: {answer:?}"),
            (_, false) => {
                assert!(answer.is_ok(), "{sql:?}: {answer:?}");
                read += 1;
            }
        }
    }
    assert!(wrote > 300 && read > 300, "{wrote} writers and {read} readers are too few");
    live.set.close().await;
    drop(holder);
    let left =
        "SELECT (SELECT sum(a) FROM lr_gate.gate_rows), count(*) FROM pg_class WHERE relname = 'gate_made'";
    let row = server.query_one(left, &[]).await.expect("rows");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (3, 0));
    server
        .batch_execute("SET lock_timeout = 0; DROP SCHEMA lr_gate CASCADE; DROP ROLE lr_gate")
        .await
        .expect("drops");
}
