//! The gate and the scanner against live servers: where strings and comments end, and whether a statement that passes
//! the gate can write. Each test queries the server directly, without the gate and read-only transactions, as a user
//! with write access.

use landreeve_core::datasource::SqlDialect;
use landreeve_core::sql::{Kind, Scanner, rules};
use mysql_async::prelude::Queryable as _;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::check;

mod names;

#[expect(
    clippy::disallowed_methods,
    reason = "the test runner passes the servers' addresses in the environment"
)]
fn address(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run `cargo xtask test`"))
}

/// A server that is queried directly.
enum Server {
    Postgres(tokio_postgres::Client),
    MariaDb(Box<mysql_async::Conn>),
    Sqlite(rusqlite::Connection),
}

/// The first row as strings; `None` for an error.
type Answer = Option<Vec<Option<String>>>;

impl Server {
    async fn open(dialect: SqlDialect) -> Server {
        match dialect {
            SqlDialect::Postgres | SqlDialect::Redshift => {
                let url = address("LANDREEVE_TEST_POSTGRES");
                let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("a server");
                // It ends with the client.
                tokio::spawn(connection);
                // As in PostgreSQL 8.0, from which Redshift is derived.
                if dialect == SqlDialect::Redshift {
                    let set = "SET standard_conforming_strings = off; SET escape_string_warning = off";
                    client.batch_execute(set).await.expect("is set");
                }
                Server::Postgres(client)
            }
            SqlDialect::MySql => {
                let url = address("LANDREEVE_TEST_MARIADB");
                let options = mysql_async::Opts::from_url(&url).expect("a URL");
                let options = mysql_async::OptsBuilder::from_opts(options).prefer_socket(false);
                let conn = mysql_async::Conn::new(options).await.expect("a server");
                Server::MariaDb(Box::new(conn))
            }
            _ => Server::Sqlite(rusqlite::Connection::open_in_memory().expect("memory")),
        }
    }

    async fn ask(&mut self, sql: &str) -> Answer {
        match self {
            Server::Postgres(client) => {
                let messages = client.simple_query(sql).await.ok()?;
                let row = messages.iter().find_map(|message| match message {
                    SimpleQueryMessage::Row(row) => Some(row),
                    _ => None,
                });
                Some(row.map_or_else(Vec::new, |row| {
                    (0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()
                }))
            }
            Server::MariaDb(conn) => {
                let row: Option<mysql_async::Row> = conn.query_first(sql).await.ok()?;
                let values = row.map(mysql_async::Row::unwrap).unwrap_or_default();
                let text = |value| mysql_async::from_value::<Option<Vec<u8>>>(value);
                let text = |value| text(value).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                Some(values.into_iter().map(text).collect())
            }
            Server::Sqlite(conn) => {
                let mut statement = conn.prepare(sql).ok()?;
                let columns = statement.column_count();
                let mut rows = statement.query([]).ok()?;
                let Some(row) = rows.next().ok()? else { return Some(Vec::new()) };
                let text = |at| match row.get_ref(at).ok()? {
                    rusqlite::types::ValueRef::Null => None,
                    rusqlite::types::ValueRef::Integer(value) => Some(value.to_string()),
                    rusqlite::types::ValueRef::Real(value) => Some(value.to_string()),
                    rusqlite::types::ValueRef::Text(bytes) | rusqlite::types::ValueRef::Blob(bytes) => {
                        Some(String::from_utf8_lossy(bytes).into_owned())
                    }
                };
                Some((0..columns).map(text).collect())
            }
        }
    }
}

/// The value of a string token of the dialect.
fn value(token: &str, dialect: SqlDialect) -> String {
    if let Some(rest) = token.strip_prefix('$') {
        let tag = rest.find('$').expect("a tag") + 2;
        return token[tag..token.len() - tag].to_owned();
    }
    let escapes = token.starts_with(['e', 'E']);
    let backslash = escapes || matches!(dialect, SqlDialect::MySql | SqlDialect::Redshift);
    let body = token.trim_start_matches(['e', 'E']);
    let quote = body.chars().next().expect("a quote");
    let mut value = String::new();
    let mut chars = body.chars().peekable();
    let mut inside = false;
    while let Some(char) = chars.next() {
        match char {
            _ if !inside => {
                if char == '-' && chars.peek() == Some(&'-') {
                    // A comment between the parts of a continued string.
                    while chars.next_if(|char| *char != '\n').is_some() {}
                }
                inside = char == quote;
            }
            '\\' if backslash => value.push(chars.next().expect("an escaped character")),
            char if char == quote && chars.next_if_eq(&quote).is_some() => value.push(char),
            char if char == quote => inside = false,
            char => value.push(char),
        }
    }
    value
}

fn texts() -> impl Strategy<Value = Vec<&'static str>> {
    let piece = prop::sample::select(vec![
        "'", "'", "'", "''", "\\", "\\'", "\"", "\"", "--", "-- ", "/*", "*/", "#", "\n", "\n", "$$", "$a$",
        "E'", ";", "a", " ", "`", "[", "]", "é", ",", ", ", "', '", "',\n'", "/* ' */", "-- '\n", "# '\n",
    ]);
    prop::collection::vec(piece, 1..12)
}

/// The strings, if the scanner sees a comma-separated list of them; `None` if it sees anything else.
fn listed(sql: &str, dialect: SqlDialect) -> Option<Vec<String>> {
    let mut values = Vec::new();
    let mut text_is_next = true;
    for token in Scanner::new(sql, rules(dialect)).filter(|token| !token.kind.is_blank() || !token.closed) {
        let text = &sql[token.start..token.end];
        match token.kind {
            Kind::Text if text_is_next && token.closed => values.push(value(text, dialect)),
            Kind::Symbol if !text_is_next && text == "," => {}
            _ => return None,
        }
        text_is_next = !text_is_next;
    }
    (!text_is_next).then_some(values)
}

/// Generated strings: where the scanner sees a list of literals, the server returns those values; where it sees
/// something unclosed, the server returns an error.
async fn literals_end_where_the_server_says(dialect: SqlDialect) {
    let mut server = Server::open(dialect).await;
    let mut runner = TestRunner::deterministic();
    let (mut lists, mut open) = (0, 0);
    for _ in 0..3_000 {
        let pieces = texts().new_tree(&mut runner).expect("texts").current();
        let sql = format!("'{}", pieces.concat());
        for tail in ["", "'", "\"", "\n", "*/", "$$"] {
            let sql = format!("{sql}{tail}");
            let is_open = Scanner::new(&sql, rules(dialect))
                .any(|token| !token.closed && token.kind != Kind::BlockComment);
            if let Some(values) = listed(&sql, dialect) {
                let answer = server.ask(&format!("SELECT {sql}")).await;
                let expected = values.into_iter().map(Some).collect();
                assert_eq!(answer, Some(expected), "{dialect:?}: {sql:?}");
                lists += 1;
            } else if is_open && !sql.contains(';') {
                let answer = server.ask(&format!("SELECT {sql}")).await;
                assert_eq!(answer, None, "{dialect:?}: {sql:?} is open");
                open += 1;
            }
        }
    }
    assert!(lists > 300 && open > 300, "{lists} lists and {open} open strings are too few");
}

#[tokio::test]
async fn literals_end_where_postgresql_says() {
    literals_end_where_the_server_says(SqlDialect::Postgres).await;
}

#[tokio::test]
async fn literals_with_escapes_end_where_postgresql_says() {
    literals_end_where_the_server_says(SqlDialect::Redshift).await;
}

#[tokio::test]
async fn literals_end_where_mariadb_says() {
    literals_end_where_the_server_says(SqlDialect::MySql).await;
}

#[tokio::test]
async fn literals_end_where_sqlite_says() {
    literals_end_where_the_server_says(SqlDialect::Sqlite).await;
}

fn comments() -> impl Strategy<Value = Vec<&'static str>> {
    let piece = prop::sample::select(vec![
        "/*", "*/", "/", "*", "--", "-", "#", "\n", "\r", "\t", " ", "+ 1", "+ 2", "'", "\u{1}", "\u{7f}",
        "\u{a0}", "é",
    ]);
    prop::collection::vec(piece, 1..10)
}

/// Generated comments: a sum stays the same without what the scanner sees as comments.
async fn comments_end_where_the_server_says(dialect: SqlDialect) {
    let mut server = Server::open(dialect).await;
    let mut runner = TestRunner::deterministic();
    let mut sums = 0;
    for _ in 0..4_000 {
        let pieces = comments().new_tree(&mut runner).expect("comments").current();
        let sql = format!("SELECT 1 {}\n+ 4", pieces.concat());
        let mut bare = String::new();
        let mut closed = true;
        for token in Scanner::new(&sql, rules(dialect)) {
            closed &= token.closed;
            let comment = matches!(token.kind, Kind::LineComment | Kind::BlockComment);
            bare.push_str(if comment { " " } else { &sql[token.start..token.end] });
        }
        // In MySQL, whitespace instead of a comment could start another.
        if !closed || (dialect == SqlDialect::MySql && bare.contains("-- ")) {
            continue;
        }
        let (whole, bare) = (server.ask(&sql).await, server.ask(&bare).await);
        assert_eq!(whole, bare, "{dialect:?}: {sql:?}");
        sums += usize::from(whole.is_some());
    }
    assert!(sums > 300, "{sums} sums are too few");
}

#[tokio::test]
async fn comments_end_where_postgresql_says() {
    comments_end_where_the_server_says(SqlDialect::Postgres).await;
}

#[tokio::test]
async fn comments_end_where_mariadb_says() {
    comments_end_where_the_server_says(SqlDialect::MySql).await;
}

#[tokio::test]
async fn comments_end_where_sqlite_says() {
    comments_end_where_the_server_says(SqlDialect::Sqlite).await;
}

/// `--` before every ASCII character.
#[tokio::test]
async fn dashes_are_a_comment_where_the_server_says() {
    for dialect in [SqlDialect::Postgres, SqlDialect::MySql, SqlDialect::Sqlite] {
        let mut server = Server::open(dialect).await;
        for byte in 1..0x80_u8 {
            let sql = format!("SELECT 5--{}1, 2\n", char::from(byte));
            let comment = Scanner::new(&sql, rules(dialect))
                .any(|token| token.kind == Kind::LineComment && sql[token.start..].starts_with("--"));
            let answer = server.ask(&sql).await;
            // A line break ends the comment.
            if byte != b'\n' && byte != b'\r' {
                assert_eq!(answer == Some(vec![Some("5".to_owned())]), comment, "{dialect:?}: {sql:?}");
            }
        }
    }
}

/// Replaces `~` with token separators and `%` with a name.
fn separated(template: &str, runner: &mut TestRunner, dialect: SqlDialect, names: &[&'static str]) -> String {
    let mut blanks =
        vec!["", " ", "\n", "\t", "\u{c}", "/**/", " /* ' */ ", "-- '\n", "--\u{1}'\n", "--\u{7f}'\n"];
    blanks.extend(match dialect {
        SqlDialect::MySql => ["\u{b}", "#'\n", "/*/**/"],
        SqlDialect::Sqlite => ["/*/**/", "--\r'\n", "\r"],
        _ => ["\u{b}", "/* /* */ */", "--\r"],
    });
    let mut sql = String::new();
    for char in template.chars() {
        match char {
            '~' => sql
                .push_str(prop::sample::select(blanks.clone()).new_tree(runner).expect("a blank").current()),
            '%' => {
                sql.push_str(prop::sample::select(names.to_vec()).new_tree(runner).expect("a name").current())
            }
            char => sql.push(char),
        }
    }
    sql
}

/// The answers that change when a statement writes: a table's rows, objects that it creates.
async fn traces(server: &mut Server, probes: &[&str]) -> Vec<Answer> {
    let mut found = Vec::new();
    for probe in probes {
        found.push(server.ask(probe).await);
    }
    found
}

struct Case<'a> {
    dialect: SqlDialect,
    templates: &'a [&'a str],
    names: &'a [&'static str],
    before: &'a [&'a str],
    probes: &'a [&'a str],
    after: &'a [&'a str],
    rounds: usize,
}

/// Generated statements, some of which write: those that pass the gate leave no trace, and those that the gate rejects
/// either leave a trace or fail on the server.
async fn what_passes_never_writes(server: &mut Server, case: Case<'_>) {
    let mut runner = TestRunner::deterministic();
    let (mut wrote, mut read) = (0, 0);
    for _ in 0..case.rounds {
        for template in case.templates {
            let sql = separated(template, &mut runner, case.dialect, case.names);
            for statement in case.before {
                server.ask(statement).await.unwrap_or_else(|| panic!("{statement} failed"));
            }
            let clean = traces(server, case.probes).await;
            let answer = server.ask(&sql).await;
            // A failed statement wrote nothing; in PostgreSQL its transaction has also ended.
            let writes = answer.is_some() && traces(server, case.probes).await != clean;
            let passes = check(&sql, case.dialect);
            match (&passes, writes) {
                (Ok(_), true) => panic!("{:?} passes and writes: {sql:?}", case.dialect),
                (Err(error), false) if answer.is_some() => {
                    panic!("{:?} is rejected but only reads: {sql:?}: {error}", case.dialect)
                }
                (_, true) => wrote += 1,
                (Ok(_), false) if answer.is_some() => read += 1,
                _ => {}
            }
            for statement in case.after {
                server.ask(statement).await;
            }
        }
    }
    assert!(wrote > 200 && read > 200, "{wrote} writers and {read} readers are too few");
}

#[tokio::test]
async fn what_passes_never_writes_on_postgresql() {
    const TEMPLATES: [&str; 47] = [
        "explain~(analyze~off,~costs~off)~delete~from~gate_rows",
        "explain~(analyze~false,~analyze)~delete~from~gate_rows",
        "explain~(analyze~0,~buffers~0)~update~gate_rows~set~a~=~7",
        "with~recursive(a)~as~(select~1)~select~*~from~recursive,~gate_rows",
        "with~recursive(a)~as~(delete~from~gate_rows~returning~a)~select~*~from~recursive",
        "with~U&\"d\\0061t\"~as~(select~1~as~%)~select~*~from~dat",
        "with~u&\"d!0061t\"~uescape~'!'~(b)~as~(delete~from~gate_rows~returning~a)~select~b~from~dat",
        "with~U&\"x\"~uescape~'!'~as~(select~1)~delete~from~gate_rows",
        "select~xmlelement(name~into,~xmlattributes(a~as~into))~from~gate_rows",
        "select~xmlelement(name~into),~a~as~name~into~gate_made~from~gate_rows",
        "select~(with~x~as~(select~1),~y~as~(select~*~from~gate_rows)~select~max(a)~from~y)~as~%",
        "with~x~as~(with~y~as~(update~gate_rows~set~a~=~7~returning~a)~select~1)~select~1",
        "select~count(*)~from~gate_rows~where~a~in~(with~%~as~(table~gate_rows)~select~1)",
        "select~1~into~gate_made",
        "select~1~as~into~from~gate_rows",
        "select~1~as~as~into~gate_made",
        "select~1~as~%~into~gate_made",
        "select~1~as~%,~2~%",
        "select~1.~into~gate_made",
        "select~.5~into~gate_made",
        "select~1e0~into~gate_made",
        "select~gate_rows.a~into~gate_made~from~gate_rows",
        "select~(gate_rows).a~as~%~from~gate_rows",
        "select~'a'~into~gate_made",
        "select~E'\\''~into~gate_made~--'",
        "select~$$'$$~into~gate_made",
        "(select~1~into~gate_made)",
        "select~*~into~temp~gate_made~from~gate_rows",
        "with~%~as~(select~1~as~%)~select~*~from~gate_rows",
        "with~x~as~(delete~from~gate_rows~returning~a)~select~*~from~x",
        "with~x~as~materialized~(select~1)~delete~from~gate_rows",
        "with~x~as~(select~1),~y(b)~as~not~materialized~(update~gate_rows~set~a~=~7~returning~a)~table~y",
        "with~x~as~(select~1)~insert~into~gate_rows~select~9",
        "with~x~as~(merge~into~gate_rows~using~(select~1)~s~on~true~when~matched~then~delete)~select~1",
        "with~recursive~x(a)~as~(select~1)~select~*~from~x",
        "with~recursive~x(a)~as~(select~1~union~all~select~a~+~1~from~x~where~a~<~3)~search~depth~first~by~a~set~%~select~a~from~x",
        "with~recursive~x(a)~as~(select~1~union~all~select~a~from~x)~cycle~a~set~%~using~p~select~a~from~x",
        "with~recursive~x(a)~as~(select~1~union~all~select~a~from~x)~cycle~a~set~%~using~p~delete~from~gate_rows",
        "with~recursive~x(a)~as~(select~1~union~all~select~a~from~x)~cycle~a~set~q~to~'y'~default~'n'~using~%,~z~as~(delete~from~gate_rows~returning~a)~select~1",
        "with~recursive~x(a)~as~(select~1~union~all~select~a~+~1~from~x~where~a~<~3)~search~breadth~first~by~a~set~%~update~gate_rows~set~a~=~8",
        "select~(merge)~+~1,~(insert)~from~(select~1~as~merge,~2~as~insert)~delete",
        "explain~delete~from~gate_rows",
        "explain~(costs~off,~analyze)~delete~from~gate_rows",
        "explain~analyze~verbose~delete~from~gate_rows",
        "explain~(\"analyze\")~insert~into~gate_rows~values~(5)",
        "explain~(costs~off)~select~1~as~%",
        "((~with~%~as~(values~(1))~(select~*~from~gate_rows)~))",
    ];
    let names =
        ["a", "merge", "\"into\"", "delete", "update", "insert", "x", "materialized", "cycle", "search", "é"];
    let case = Case {
        dialect: SqlDialect::Postgres,
        templates: &TEMPLATES,
        names: &names,
        before: &["BEGIN; CREATE TEMP TABLE gate_rows AS SELECT 1 AS a UNION ALL SELECT 2; SAVEPOINT s"],
        probes: &[
            "SELECT count(*), sum(a) FROM gate_rows",
            "SELECT count(*) FROM pg_class WHERE relname LIKE '%gate_made'",
        ],
        after: &["ROLLBACK"],
        rounds: 50,
    };
    what_passes_never_writes(&mut Server::open(SqlDialect::Postgres).await, case).await;
}

/// Without PRAGMA, which only the authorizer checks.
#[tokio::test]
async fn what_passes_never_writes_on_sqlite() {
    const TEMPLATES: [&str; 20] = [
        "with~x~as~(select~1)~delete~from~gate_rows",
        "with~%~as~(select~1~as~%)~select~*~from~gate_rows",
        "with~%~as~(select~1~as~%)~delete~from~gate_rows",
        "with~[select]~as~(select~1)~update~gate_rows~set~a~=~7",
        "with~x~as~(select~1),~y(b)~as~not~materialized~(select~2)~insert~into~gate_rows~select~*~from~y",
        "with~x~as~materialized~(select~1)~replace~into~gate_rows~select~9",
        "with~x~as~(values~(1),~(2))~delete~from~gate_rows~returning~a",
        "with~recursive~x(a)~as~(select~1~union~all~select~a~+~1~from~x~where~a~<~3)~select~*~from~x",
        "with~recursive~x(a)~as~(select~1~union~all~select~a~+~1~from~x~where~a~<~3)~update~gate_rows~set~a~=~8",
        "with~x~as~(with~y~as~(select~1)~select~*~from~y)~insert~into~gate_rows~select~*~from~x",
        "select~1~as~%,~2~%",
        "select~(replace('a',~'b',~'c')),~`a`,~[a],~\"a\"~from~gate_rows",
        "select~(%)~from~(select~1~as~%)~x",
        "select~*~from~(with~%~as~(select~1)~select~*~from~gate_rows)",
        "values~(1),~(2)",
        "explain~delete~from~gate_rows",
        "explain~query~plan~delete~from~gate_rows",
        "create~table~gate_made~as~select~1",
        "delete~from~gate_rows",
        "select~'into~x'~/*~into~*/~from~gate_rows~--~into",
    ];
    let case = Case {
        dialect: SqlDialect::Sqlite,
        templates: &TEMPLATES,
        names: &[
            "a",
            "replace",
            "\"into\"",
            "[delete]",
            "`insert`",
            "with",
            "x",
            "cycle",
            "é",
            "materialized",
        ],
        before: &[
            "DROP TABLE IF EXISTS gate_rows",
            "DROP TABLE IF EXISTS gate_made",
            "CREATE TABLE gate_rows AS SELECT 1 AS a UNION ALL SELECT 2",
        ],
        probes: &["SELECT count(*), sum(a) FROM gate_rows", "SELECT count(*) FROM sqlite_schema"],
        after: &[],
        rounds: 50,
    };
    what_passes_never_writes(&mut Server::open(SqlDialect::Sqlite).await, case).await;
}

#[tokio::test]
async fn what_passes_never_writes_on_mariadb() {
    const TEMPLATES: [&str; 36] = [
        "select~1~into~@probe",
        "select~@a~into~@probe",
        "select~@as~into~@probe",
        "select~@a.~into~@probe",
        "select~@'a'~into~@probe",
        "select~1e0into~@probe",
        "select~1e0~into~@probe",
        "select~1.into~@probe",
        "select~.5into~@probe",
        "select~0x1f~into~@probe",
        "select~\\N~into~@probe",
        "select~\\Ninto~@probe",
        "select~'\\''~into~@probe~-- '",
        "select~\"'\"~into~@probe",
        "select~t.a~into~@probe~from~gate_rows~t~limit~1",
        "select~t.as~into~@probe~from~gate_names~t",
        "select~t.into~from~gate_names~t",
        "select~t.as~from~gate_names~t",
        "select~`t`.into,~t.`into`~from~gate_names~t",
        "select~1into,~t.5x~from~gate_names~t",
        "select~@@version~into~@probe",
        "select~a~from~gate_rows~limit~1~into~@probe",
        "(select~1~into~@probe)",
        "values~(1)~into~@probe",
        "select~1~as~%,~2~%",
        "with~%~as~(select~1~as~%)~select~*~from~gate_rows",
        "with~%~as~(select~1~as~%)~select~1~into~@probe",
        "with~x~as~(select~1)~delete~from~gate_rows",
        "with~x~as~(select~1)~update~gate_rows~set~a~=~7",
        "with~recursive~x~as~(select~1~as~a~union~select~a~from~x)~cycle~a~restrict~select~*~from~x",
        "with~recursive~x~as~(select~1~as~a~union~select~a~from~x)~cycle~a~restrict~delete~from~gate_rows",
        "select~insert('abc',~1,~1,~'x'),~replace('a',~'b',~'c')~as~%",
        "select~substring('abc'~from~1~for~share)~from~gate_names",
        "explain~delete~from~gate_rows",
        "show~tables~like~'%'",
        "select~5--1~+~1",
    ];
    let names = ["a", "merge", "`into`", "outfile", "x", "share", "cycle", "é", "1into", "$b"];
    let mut server = Server::open(SqlDialect::MySql).await;
    let database = format!("gate_{}", std::process::id());
    for statement in [
        &format!("CREATE DATABASE {database}"),
        &format!("USE {database}"),
        "CREATE TABLE gate_rows (a INT)",
        "CREATE TABLE gate_names (`as` INT, `into` INT, 5x INT, share INT)",
        "INSERT INTO gate_names VALUES (1, 2, 3, 4)",
    ] {
        server.ask(statement).await.unwrap_or_else(|| panic!("{statement} failed"));
    }
    let case = Case {
        dialect: SqlDialect::MySql,
        templates: &TEMPLATES,
        names: &names,
        before: &["DELETE FROM gate_rows", "INSERT INTO gate_rows VALUES (1), (2)", "SET @probe = 'clean'"],
        probes: &["SELECT COUNT(*), SUM(a) FROM gate_rows", "SELECT @probe"],
        after: &[],
        rounds: 30,
    };
    what_passes_never_writes(&mut server, case).await;
    server.ask(&format!("DROP DATABASE {database}")).await;
}
