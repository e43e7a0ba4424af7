//! Generated statements through the driver, as a user with every privilege. MariaDB itself says which of them write:
//! each is first sent as it is, while another session holds the rows of every table. None of those that the gate lets
//! through writes or locks, and the gate rejects none that only reads.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use landreeve_core::source::{CancellationToken, Query, SourceError, SourceErrorKind, Target};
use mysql_async::prelude::Queryable as _;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::support::{GeneralLog, Live, mariadb, mariadb_admin, read};

const SERVER: &str = "LANDREEVE_TEST_MARIADB";
const STATEMENTS: usize = 4_000;

/// Between tokens that need a separator, and between those that do not.
const BLANKS: [&str; 20] = [
    " ",
    "\n",
    "\t",
    "\r",
    "\u{b}",
    "\u{c}",
    "  ",
    "/**/",
    "/*/**/",
    "/* ' */",
    "/* into outfile 'x' */",
    "/*+ x */",
    "-- '\n",
    "--\n",
    "--\u{1}'\n",
    "--\t\"\n",
    "--\u{7f}`\n",
    "--\u{1f}into @probe\n",
    "#'\n",
    "# into outfile 'x' --\n",
];

const EXPRESSIONS: [&str; 72] = [
    "1",
    "1.",
    ".5",
    "1e0",
    "1e+2",
    "1.5e-3",
    "0.0e1",
    "0x1f",
    "0b01",
    "x'41'",
    "b'1'",
    "007",
    "'a'",
    "'a\\''",
    "'it''s'",
    "'\\\\'",
    "' into outfile '",
    "\"b\\\"\"",
    "\"'\"",
    "\"\"\"\"",
    "N'n'",
    "_utf8'u'",
    "_utf8mb4 'u'",
    "\\N",
    "null",
    "@a",
    "@as",
    "@a.",
    "@a.b",
    "@$x",
    "@'q r'",
    "@\"into\"",
    "@`q`",
    "@into",
    "@@version",
    "@@global.sql_mode",
    "@@session.autocommit",
    "a",
    "5x",
    "1into",
    "2e",
    "`into`",
    "`as`",
    "`é`",
    "é",
    "$b",
    "t.a",
    "t.`a`",
    "`t`.a",
    "t.as",
    "t.into",
    "`t`.`into`",
    "`t`.into",
    "t.5x",
    "t.1into",
    "t.2e",
    "t.outfile",
    "t.share",
    "share",
    "t.é",
    "t.$b",
    "{d '2024-01-01'}",
    "insert('abc',1,1,'x')",
    "replace('a','b','c')",
    "substring('abc' from 1 for share)",
    "substring((select 'abc') from 1 for share)",
    "(select 1)",
    "(select max(a) from gate_rows)",
    "exists(select * from gate_rows)",
    "current_date",
    "1.e",
    "2 1.e-",
];

const OPERATORS: [&str; 14] =
    ["+", "-", "--", "*", "/", "=", "<", "||", " and ", " or ", " div ", " is not ", ",", "+-"];

const NAMES: [&str; 22] = [
    "x",
    "merge",
    "`into`",
    "`as`",
    "'into'",
    "\"into outfile\"",
    "é",
    "`--`",
    "`/*`",
    "`#`",
    "$",
    "a$",
    "5x",
    "1e1x",
    "outfile",
    "dumpfile",
    "share",
    "lock",
    "cycle",
    "window",
    "value",
    "`a b`",
];

/// They write to a file, to a variable, to a table, or take locks.
const WRITERS: [&str; 14] = [
    "into~outfile~'FILE'",
    "into~dumpfile~'FILE'",
    "into~outfile~'FILE'~fields~terminated~by~','",
    "into~@probe",
    "into~@`probe`",
    "into@probe",
    "for~update",
    "for~update~skip~locked",
    "for~update~nowait",
    "lock~in~share~mode",
    "/*!into~outfile~'FILE'*/",
    "/*!50000into~dumpfile~'FILE'*/",
    "/*M!100000~into~outfile~'FILE'*/",
    "/*!99999~into~outfile~'FILE'*/",
];

/// Whole statements, which have no place for a list of expressions.
const SHAPES: [&str; 21] = [
    "select~%~from~gate_names~t",
    "select~%~from~gate_names~t~WRITER",
    "select~%~WRITER~from~gate_names~t",
    "select%from~gate_names~t~where~%~is~not~null~or~1~WRITER",
    "select~distinct~%~from~gate_names~t~order~by~1~limit~1~WRITER",
    "(select~%~from~gate_names~t)WRITER",
    "((select~1~as~NAME))~limit~1~WRITER",
    "with~NAME~as~(select~1~as~NAME)~select~%~from~gate_names~t~WRITER",
    "with~NAME(NAME)~as~(select~1)~select~count(*)~from~gate_rows~WRITER",
    "with~x~as~(select~%~from~gate_names~t~WRITER)~select~*~from~x",
    "select~*~from~(select~a~from~gate_rows~WRITER)~NAME",
    "select~(select~a~from~gate_names~WRITER),~%~from~gate_names~t",
    "values~(1),(2)~WRITER",
    "select~1~as~a~union~select~2~WRITER",
    "show~columns~from~gate_names~where~exists~(select~*~from~gate_rows~WRITER)",
    "show~columns~from~gate_names~where~exists~(select~%)~or~Field~=~'select'",
    "explain~select~*~from~gate_keys~where~id~=~1~WRITER",
    "explain~format=json~select~%~from~gate_names~t",
    "describe~gate_rows",
    "with~recursive~x~as~(select~1~as~a~union~select~a~from~x)~cycle~a~restrict~select~*~from~x~WRITER",
    "with~x~as~(select~1)~DML",
];

const CHANGES: [&str; 5] = [
    "delete~from~gate_rows",
    "update~gate_rows~set~a~=~7",
    "insert~into~gate_rows~select~%~from~gate_names~t",
    "replace~into~gate_rows~values~(1)",
    "select~%~from~gate_names~t",
];

struct Statement {
    sql: String,
    /// A part that writes was put in; it may be in a comment.
    has_writer: bool,
}

struct Generator {
    runner: TestRunner,
    folder: PathBuf,
    next_file: usize,
}

impl Generator {
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
            _ => self.pick(&BLANKS),
        }
    }

    fn expressions(&mut self) -> String {
        let mut list = self.pick(&EXPRESSIONS).to_owned();
        for _ in 0..self.below(3) {
            list.push_str(self.blank());
            list.push_str(self.pick(&OPERATORS));
            list.push_str(self.blank());
            list.push_str(self.pick(&EXPRESSIONS));
        }
        if self.below(3) == 0 {
            list.push_str(self.blank());
            list.push_str(self.pick(&["as", "as ", ""]));
            list.push_str(self.blank());
            list.push_str(self.pick(&NAMES));
        }
        list
    }

    fn statement(&mut self) -> Statement {
        let mut shape = self.pick(&SHAPES).replace("DML", self.pick(&CHANGES));
        let writer = if self.below(2) == 0 { self.pick(&WRITERS) } else { "" };
        let has_writer =
            shape.contains("WRITER") && !writer.is_empty() || shape.starts_with("with~x~as~(select~1)~");
        shape = shape.replace("WRITER", writer);
        while shape.contains("NAME") {
            shape = shape.replacen("NAME", self.pick(&NAMES), 1);
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
    let mut generator =
        Generator { runner: TestRunner::deterministic(), folder: folder.path().to_owned(), next_file: 0 };
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
