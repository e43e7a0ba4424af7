//! Statements over virtual databases have the same answers whether conditions are sent to the sources or applied here:
//! random statements over the same odd rows in PostgreSQL, MariaDB (whose collation finds more) and SQLite.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use landreeve_core::datasource::SqlDialect;
use landreeve_core::sql::{Kind, Scanner, rules};
use serde_json::{Value, json};

use crate::support::{self, Address, Client, Server, mariadb_database, postgres, postgres_database};

/// How many statements each run compares.
const STATEMENTS: usize = 250;

/// Random numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

/// The columns of each table, with their types in VQL and in PostgreSQL, MariaDB and SQLite.
const COLUMNS: [(&str, &str, [&str; 3]); 11] = [
    ("id", "long", ["bigint primary key", "bigint primary key", "integer primary key"]),
    ("n", "long", ["bigint", "bigint", "integer"]),
    ("t", "text", ["text", "varchar(20)", "text"]),
    ("f", "double", ["double precision", "double", "real"]),
    ("d", "decimal", ["numeric(8,2)", "decimal(8,2)", "numeric"]),
    ("c", "text", ["char(5)", "char(5)", "char(5)"]),
    ("b", "boolean", ["boolean", "boolean", "boolean"]),
    ("day", "localdate", ["date", "date", "date"]),
    ("moment", "timestamp", ["timestamp", "datetime(6)", "datetime"]),
    ("u", "text", ["uuid", "char(36)", "text"]),
    ("x", "int", ["numeric(6,0)", "smallint unsigned", "int"]),
];

/// Rows, each value as VQL writes it.
const ROWS: [[&str; 11]; 12] = [
    [
        "1",
        "10",
        "'AB'",
        "0.0",
        "1.50",
        "'ab'",
        "TRUE",
        "'2024-02-29'",
        "'2024-02-29 12:00:00'",
        UUIDS[0],
        "1",
    ],
    [
        "2",
        "NULL",
        "'ab'",
        "-0.0",
        "0.00",
        "'AB'",
        "FALSE",
        "'1999-12-31'",
        "'1999-12-31 23:59:59.999999'",
        UUIDS[1],
        "0",
    ],
    [
        "3",
        "-7",
        "'ab '",
        "1.5",
        "-1.25",
        "''",
        "NULL",
        "'1970-01-01'",
        "'1970-01-01 00:00:00'",
        UUIDS[2],
        "65535",
    ],
    ["4", "10", "'a\\b'", "NULL", "99.99", "NULL", "TRUE", "NULL", "NULL", "NULL", "NULL"],
    [
        "5",
        "2147483648",
        "'it''s'",
        "2.5",
        "NULL",
        "'it''s'",
        "FALSE",
        "'2024-03-01'",
        "'2024-03-01 00:00:00.000001'",
        UUIDS[0],
        "7",
    ],
    [
        "6",
        "-9223372036854775807",
        "''",
        "1000000",
        "10.00",
        "'a'",
        "TRUE",
        "'2024-02-28'",
        "'2024-02-28 01:02:03'",
        UUIDS[3],
        "7",
    ],
    [
        "7",
        "0",
        "NULL",
        "-3.25",
        "1.50",
        "'a'",
        "NULL",
        "'1000-01-01'",
        "'1000-01-01 00:00:00'",
        UUIDS[1],
        "3",
    ],
    [
        "8",
        "3",
        "'ÄB'",
        "0.1",
        "7.77",
        "'ÄB'",
        "FALSE",
        "'9999-12-31'",
        "'9999-12-31 23:59:59'",
        UUIDS[2],
        "4",
    ],
    [
        "9",
        "3",
        "'a%_'",
        "1.5",
        "7.77",
        "'a%_'",
        "TRUE",
        "'2024-02-29'",
        "'2024-02-29 00:00:00'",
        UUIDS[3],
        "5",
    ],
    [
        "10",
        "5",
        "' ab'",
        "NULL",
        "0.01",
        "' ab'",
        "TRUE",
        "'2024-02-29'",
        "'2024-02-29 12:00:00'",
        "NULL",
        "1",
    ],
    [
        "11",
        "NULL",
        "'ab'",
        "4.0",
        "1.50",
        "'ab'",
        "FALSE",
        "'1999-12-31'",
        "'2000-01-01 00:00:00'",
        UUIDS[0],
        "1",
    ],
    ["12", "1", "'\\'", "0.5", "5.00", "'\\'", "NULL", "NULL", "NULL", UUIDS[1], "0"],
];

const UUIDS: [&str; 4] = [
    "'00000000-0000-0000-0000-000000000000'",
    "'67e55044-10b1-426f-9247-bb680e5fe0c8'",
    "'67e55044-10b1-426f-9247-bb680e5fe0c9'",
    "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
];

const SOURCES: [&str; 3] = ["postgres", "mariadb", "sqlite"];

/// The statements that create and fill the table on the source at this place of `SOURCES`.
fn table(source: usize, relation: &str) -> [String; 2] {
    let columns: Vec<String> =
        COLUMNS.iter().map(|(name, _, types)| format!("{name} {}", types[source])).collect();
    let rows = ROWS.iter().map(|row| {
        let cells = row.iter().map(|cell| match SOURCES[source] {
            "mariadb" => cell.replace('\\', "\\\\"),
            _ => (*cell).to_owned(),
        });
        format!("({})", cells.collect::<Vec<_>>().join(", "))
    });
    let rows = rows.collect::<Vec<_>>().join(", ");
    [
        format!("create table {relation} ({})", columns.join(", ")),
        format!("insert into {relation} values {rows}"),
    ]
}

fn script(relation: &str) -> String {
    let mut script = String::from("CREATE OR REPLACE DATABASE d; CONNECT DATABASE d;\n");
    let class = |vql: &str| match vql {
        "decimal" => "'java.math.BigDecimal' (sourcetypesize='8', sourcetypedecimals='2')",
        "long" => "'java.lang.Long'",
        "int" => "'java.lang.Integer'",
        "double" => "'java.lang.Double'",
        "boolean" => "'java.lang.Boolean'",
        "localdate" => "'java.time.LocalDate'",
        "timestamp" => "'java.time.LocalDateTime'",
        _ => "'java.lang.String'",
    };
    let of = |write: &dyn Fn(&str, &str) -> String| {
        COLUMNS.iter().map(|(name, vql, _)| write(name, vql)).collect::<Vec<_>>().join(", ")
    };
    let outputs = of(&|name, vql| format!("{name} = '{name}' : {}", class(vql)));
    let columns = of(&|name, vql| format!("{name}:{vql}"));
    let names = of(&|name, _| name.to_owned());
    for source in SOURCES {
        let _ = write!(
            script,
            "CREATE OR REPLACE DATASOURCE JDBC ds_{source} DATABASEURI = 'jdbc:landreeve:{source}';
             CREATE OR REPLACE WRAPPER JDBC w_{source} DATASOURCENAME = ds_{source} RELATIONNAME = '{relation}'
               OUTPUTSCHEMA ({outputs});
             CREATE OR REPLACE TABLE {source} ({columns})
               ADD SEARCHMETHOD w_{source} (OUTPUTLIST ({names}) WRAPPER (jdbc w_{source}));\n"
        );
    }
    script
        + "CREATE OR REPLACE VIEW v AS SELECT {names}, n + 1 AS m FROM mariadb WHERE id > 1;"
            .replace("{names}", &names)
            .as_str()
}

fn condition(dice: &mut Dice, table: &str, depth: usize) -> String {
    if depth > 0 && dice.below(3) == 0 {
        let (one, two) = (condition(dice, table, depth - 1), condition(dice, table, depth - 1));
        return match dice.below(3) {
            0 => format!("({one} AND {two})"),
            1 => format!("({one} OR {two})"),
            _ => format!("NOT ({one})"),
        };
    }
    let compare = ["=", "<>", "<", "<=", ">", ">="];
    let numbers = ["0", "1", "3", "5", "10", "-7", "2147483648", "-9223372036854775807"];
    let texts =
        ["'AB'", "'ab'", "'ab '", "'a\\b'", "'it''s'", "''", "'\\'", "'ÄB'", "'äb'", "'a%_'", "' ab'"];
    let mut four = |of: &[&str]| (0..4).map(|_| dice.one(of).to_owned()).collect::<Vec<_>>().join(", ");
    let (some_numbers, some_texts) = (four(&numbers), four(&texts));
    match dice.below(14) {
        0 | 1 => {
            format!("{table}.{} {} {}", dice.one(&["id", "n", "x"]), dice.one(&compare), dice.one(&numbers))
        }
        2 => format!("{table}.{} {} {}", dice.one(&["t", "c"]), dice.one(&compare), dice.one(&texts)),
        3 => format!("{table}.{} = {}", dice.one(&["t", "c"]), dice.one(&texts)),
        4 => format!("{table}.{} IN ({some_texts})", dice.one(&["t", "c"])),
        5 => format!("{table}.{} IN ({some_numbers})", dice.one(&["n", "x", "d"])),
        6 => {
            let (name, ..) = COLUMNS[dice.below(COLUMNS.len())];
            format!("{table}.{name} IS {}NULL", dice.one(&["", "NOT "]))
        }
        7 => format!("{table}.f {} {}", dice.one(&compare), dice.one(&["0.0", "-0.0", "1.5", "0.1"])),
        8 => format!("{table}.b = {}", dice.one(&["TRUE", "FALSE"])),
        9 => {
            let days = ["2024-02-29", "1999-12-31", "1000-01-01", "9999-12-31", "1970-01-01"];
            format!("{table}.day {} DATE '{}'", dice.one(&compare), dice.one(&days))
        }
        10 => {
            let moments = [
                "2024-02-29 12:00:00",
                "1999-12-31 23:59:59.999999",
                "1970-01-01 00:00:00",
                "2024-03-01 00:00:00.000001",
            ];
            format!("{table}.moment {} TIMESTAMP '{}'", dice.one(&compare), dice.one(&moments))
        }
        11 => format!("{table}.u {} {}", dice.one(&compare), dice.one(&UUIDS)),
        12 => format!("{table}.u IN ({}, {}, 'x')", dice.one(&UUIDS), dice.one(&UUIDS)),
        _ => format!("{table}.d {} {}", dice.one(&compare), dice.one(&["1.50", "0", "7.77", "10", "1.505"])),
    }
}

fn statement(dice: &mut Dice) -> String {
    let all = ["postgres", "mariadb", "sqlite", "v"];
    let (one, two) = (dice.one(&all), dice.one(&all));
    let filter = condition(dice, "a", 2);
    match dice.below(5) {
        0 => format!(
            "SELECT a.id, a.n, a.t, a.f, a.d, a.c, a.b, a.day, a.moment, a.u, a.x FROM {one} a WHERE {filter} ORDER BY a.id"
        ),
        1 => format!("SELECT a.id, a.t FROM {one} a WHERE {filter} ORDER BY a.id LIMIT 3"),
        2 => format!("SELECT COUNT(*) AS c, SUM(a.id) AS s, MIN(a.d) AS l FROM {one} a WHERE {filter}"),
        3 => {
            let other = condition(dice, "b", 1);
            format!(
                "SELECT a.id, b.id AS other, b.t FROM {one} a INNER JOIN {two} b ON a.t = b.t WHERE {filter} AND {other} ORDER BY a.id, b.id"
            )
        }
        _ => format!(
            "SELECT a.id, b.d FROM {one} a LEFT JOIN {two} b ON a.id = b.id AND {} WHERE {filter} ORDER BY a.id, b.id",
            condition(dice, "b", 1)
        ),
    }
}

/// The databases with the table on the three sources.
struct Databases {
    /// What the table is called.
    relation: String,
    postgres: (String, Address),
    mariadb: (String, Address),
    _directory: tempfile::TempDir,
    sqlite: std::path::PathBuf,
}

impl Databases {
    async fn create() -> Databases {
        let (postgres, mariadb) = (postgres_database().await, mariadb_database().await);
        let relation = format!("odd_{}", mariadb.0);
        support::postgres(&postgres.1.url, &table(0, &relation).join(";")).await;
        let [create, fill] = table(1, &relation);
        let used = format!("use {}", mariadb.0);
        support::mariadb(&mariadb.1.url, &[&used, &create, &fill]).await;
        let directory = tempfile::tempdir().unwrap();
        let sqlite = directory.path().join("odd.db");
        rusqlite::Connection::open(&sqlite).unwrap().execute_batch(&table(2, &relation).join(";")).unwrap();
        Databases { relation, postgres, mariadb, _directory: directory, sqlite }
    }
}

/// A server with the three sources and the script; its client and the virtual datasource.
async fn prepared(databases: &Databases, settings: &str) -> (Server, Client, String) {
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), format!("[engine]\n{settings}\n")).unwrap();
    let server = Server::start_with(&["--config", config.path().to_str().unwrap()]);
    server.wait_for_sample();
    let add = |name: &str, at: Option<&Address>, database: &str| {
        let port = at.map_or(1, |at| at.port).to_string();
        let mut arguments = vec!["datasource", "add", name, "--type", name, "--database", database];
        let password = at.map_or("x", |at| at.password.as_str());
        if let Some(at) = at {
            let of = ["--host", &at.host, "--port", &port, "--username", &at.user, "--password-stdin"];
            arguments.extend(of);
        }
        let added = server.cli_with_input(&arguments, &format!("{password}\n"));
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    };
    let copy = server.data_dir.join("files/odd.db");
    std::fs::copy(&databases.sqlite, &copy).unwrap();
    add("postgres", Some(&databases.postgres.1), &databases.postgres.0);
    add("mariadb", Some(&databases.mariadb.1), &databases.mariadb.0);
    add("sqlite", None, copy.to_str().unwrap());
    let path = server.data_dir.join("s.vql");
    std::fs::write(&path, script(&databases.relation)).unwrap();
    let applied = server.say(&["vql", "run", path.to_str().unwrap()]);
    assert!(applied.contains("read version 1 now"), "{applied}");
    let client = server.client(&server.key());
    let source = client.datasource(json!({"name": "V", "database_type": "virtual", "database": "d"})).await;
    (server, client, source)
}

/// The rows of a statement, or its error.
async fn answer(client: &Client, source: &str, sql: &str) -> Value {
    let execution = client.execute(source, &json!({ "sql_query": sql })).await;
    let attributes = &execution["data"]["attributes"];
    if attributes["execution_status"] != "completed" {
        return attributes["error_message"].clone();
    }
    let id = execution["data"]["id"].as_str().unwrap();
    let grant = client.get(&format!("/cluvio/executions/{id}/data")).await.expect(200);
    let (key, token) = (grant["data_key"].as_str().unwrap(), grant["data_access_token"].as_str().unwrap());
    client.data(key, token, "application/json").await.expect(200)["rows"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_with_and_without_pushdown() {
    let databases = Databases::create().await;
    let ((_with, on, sent), (_without, off, local)) =
        tokio::join!(prepared(&databases, ""), prepared(&databases, "pushdown = false"));
    let mut dice = Dice(7);
    let mut found = 0;
    for _ in 0..STATEMENTS {
        let sql = statement(&mut dice);
        let (one, two) = tokio::join!(answer(&on, &sent, &sql), answer(&off, &local, &sql));
        assert_eq!(one, two, "{sql}");
        assert!(one.is_array(), "{sql}: {one}");
        found += one.as_array().map_or(0, Vec::len);
    }
    assert!(found > STATEMENTS, "{found} rows");
}

/// What is sent for a condition on a table, after WHERE; `None` if nothing is.
async fn sent(client: &Client, source: &str, table: &str, condition: &str) -> Option<String> {
    let sql = format!("EXPLAIN SELECT COUNT(*) AS c FROM {table} WHERE {condition}");
    let rows = answer(client, source, &sql).await;
    let statement = rows[0][1].as_str().unwrap_or_else(|| panic!("{sql}: {rows}"));
    statement.split_once(" WHERE ").map(|(_, sent)| sent.to_owned())
}

/// What each source is sent, for one condition on each kind of column.
#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_sent_where_they_mean_the_same() {
    let databases = Databases::create().await;
    let (_server, client, source) = prepared(&databases, "").await;
    for (condition, postgres, mariadb, sqlite) in [
        ("n > 3", true, true, true),
        ("NOT (n > 3 OR n IS NULL)", true, true, true),
        ("x IN (1, 2)", true, true, true),
        ("d >= 1.5", true, true, false),
        ("d IS NULL", true, true, true),
        ("f = 1.5", false, false, false),
        ("t = 'ab'", true, true, true),
        ("t <> 'ab'", false, false, false),
        ("t = 'ab '", false, false, false),
        ("t LIKE 'a%'", false, false, false),
        ("c = 'ab'", true, true, true),
        ("b = TRUE", true, false, false),
        ("day < DATE '2024-02-29'", true, true, false),
        ("moment < TIMESTAMP '2024-02-29 12:00:00'", true, true, false),
        ("u = '67e55044-10b1-426f-9247-bb680e5fe0c8'", true, true, true),
        ("u > '67e55044-10b1-426f-9247-bb680e5fe0c8'", true, false, false),
        ("u = 'x'", false, true, true),
    ] {
        for (table, expected) in SOURCES.into_iter().zip([postgres, mariadb, sqlite]) {
            let found = sent(&client, &source, table, condition).await;
            assert_eq!(found.is_some(), expected, "{table}: {condition}: {found:?}");
        }
    }
}

/// The statements on the table that PostgreSQL logged.
async fn logged_by_postgres(databases: &Databases) -> BTreeSet<String> {
    let url = &databases.postgres.1.url;
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let driving = tokio::spawn(connection);
    let read = "select pg_read_file(current_setting('data_directory') || '/../log')";
    let log: String = client.query_one(read, &[]).await.unwrap().get(0);
    drop(client);
    driving.await.unwrap().unwrap();
    let from = format!("FROM \"{}\"", databases.relation);
    let executed = log.split("execute ").skip(1).filter_map(|rest| rest.split_once(": "));
    let lines = executed.filter_map(|(_, rest)| rest.lines().next());
    lines.filter(|sql| sql.contains(&from)).map(str::to_owned).collect()
}

/// The same for MariaDB.
async fn logged_by_mariadb(databases: &Databases) -> BTreeSet<String> {
    let options = mysql_async::Opts::from_url(&databases.mariadb.1.url).unwrap();
    let options = mysql_async::OptsBuilder::from_opts(options).prefer_socket(false);
    let mut conn = mysql_async::Conn::new(options).await.unwrap();
    let sql = format!(
        "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log WHERE command_type = 'Execute' \
         AND argument LIKE '%FROM `{}`%'",
        databases.relation
    );
    let found: Vec<String> = mysql_async::prelude::Queryable::query(&mut conn, sql).await.unwrap();
    conn.disconnect().await.unwrap();
    found.into_iter().collect()
}

/// What is sent has only these words besides names, values and comparisons.
const WORDS: [&str; 14] = [
    "SELECT",
    "FROM",
    "WHERE",
    "AND",
    "OR",
    "NOT",
    "IN",
    "IS",
    "NULL",
    "LIMIT",
    "DATE",
    "TIMESTAMP",
    "TRUE",
    "FALSE",
];

#[tokio::test(flavor = "multi_thread")]
async fn sources_receive_what_explain_shows_and_nothing_else() {
    let databases = Databases::create().await;
    let logging = format!("ALTER DATABASE {} SET log_statement = 'all'", databases.postgres.0);
    postgres(&databases.postgres.1.url, &logging).await;
    let mariadb = &databases.mariadb.1.url;
    support::mariadb(mariadb, &["SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = 1"]).await;
    let (_server, client, source) = prepared(&databases, "").await;
    let mut dice = Dice(11);
    let mut shown = [BTreeSet::new(), BTreeSet::new()];
    for _ in 0..120 {
        let table = dice.one(&["postgres", "mariadb", "v"]);
        let sql = format!("SELECT a.id, a.t FROM {table} a WHERE {}", condition(&mut dice, "a", 2));
        let explained = answer(&client, &source, &format!("EXPLAIN {sql}")).await;
        let rows = explained.as_array().unwrap_or_else(|| panic!("{sql}: {explained}"));
        for (name, shown) in ["postgres", "mariadb"].into_iter().zip(&mut shown) {
            let sent = rows.iter().filter(|row| row[0] == name).map(|row| row[1].as_str().unwrap());
            shown.extend(sent.map(str::to_owned));
        }
        assert!(answer(&client, &source, &sql).await.is_array(), "{sql}");
    }
    let logged = [logged_by_postgres(&databases).await, logged_by_mariadb(&databases).await];
    support::mariadb(mariadb, &["SET GLOBAL general_log = 0"]).await;
    for ((mut logged, shown), dialect) in
        logged.into_iter().zip(shown).zip([SqlDialect::Postgres, SqlDialect::MySql])
    {
        // How the source is asked what its columns are.
        logged.retain(|sql| !sql.ends_with("LIMIT 0"));
        assert_eq!(logged, shown);
        assert!(logged.iter().filter(|sql| sql.contains(" WHERE ")).count() > 8, "{logged:?}");
        for sql in &logged {
            let words = Scanner::new(sql, rules(dialect)).filter(|token| token.kind == Kind::Word);
            for word in words.map(|token| &sql[token.start..token.end]) {
                assert!(WORDS.contains(&word), "{word} in {sql}");
            }
        }
    }
}
