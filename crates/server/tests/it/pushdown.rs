//! Statements over virtual databases have the same answers whether conditions are sent to the sources or applied here:
//! random statements over the same odd rows in PostgreSQL, MariaDB (whose collation finds more) and SQLite.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::support::{Address, Client, Server, address};

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

/// Rows: id, n, t, f, d. Texts as VQL writes them.
const ROWS: [[&str; 5]; 12] = [
    ["1", "10", "'AB'", "0.0", "1.50"],
    ["2", "NULL", "'ab'", "-0.0", "0.00"],
    ["3", "-7", "'ab '", "1.5", "-1.25"],
    ["4", "10", "'a\\b'", "NULL", "99.99"],
    ["5", "2147483648", "'it''s'", "2.5", "NULL"],
    ["6", "-9223372036854775807", "''", "1000000", "10.00"],
    ["7", "0", "NULL", "-3.25", "1.50"],
    ["8", "3", "'ÄB'", "0.1", "7.77"],
    ["9", "3", "'a%_'", "1.5", "7.77"],
    ["10", "5", "' ab'", "NULL", "0.01"],
    ["11", "NULL", "'ab'", "4.0", "1.50"],
    ["12", "1", "'\\'", "0.5", "5.00"],
];

/// The rows as a query in the source's dialect.
fn sentence(dialect: &str) -> String {
    let text = |text: &str| match dialect {
        "mariadb" => text.replace('\\', "\\\\"),
        _ => text.to_owned(),
    };
    let types = match dialect {
        "postgres" => ["bigint", "bigint", "text", "double precision", "numeric(8,2)"],
        "mariadb" => ["signed", "signed", "char(20)", "double", "decimal(8,2)"],
        _ => ["integer", "integer", "text", "real", "numeric"],
    };
    let names = ["id", "n", "t", "f", "d"];
    let rows = ROWS.iter().map(|row| {
        let cells = row.iter().zip(types).zip(names).map(|((cell, kind), name)| {
            let cell = if name == "t" { text(cell) } else { (*cell).to_owned() };
            format!("cast({cell} as {kind}) as {name}")
        });
        format!("select {}", cells.collect::<Vec<_>>().join(", "))
    });
    rows.collect::<Vec<_>>().join(" union all ")
}

const SOURCES: [&str; 3] = ["postgres", "mariadb", "sqlite"];

fn script() -> String {
    let mut script = String::from("CREATE OR REPLACE DATABASE d; CONNECT DATABASE d;\n");
    for source in SOURCES {
        let sentence = sentence(source).replace('\'', "''");
        let _ = write!(
            script,
            "CREATE OR REPLACE DATASOURCE JDBC ds_{source} DATABASEURI = 'jdbc:landreeve:{source}';
             CREATE OR REPLACE WRAPPER JDBC w_{source} DATASOURCENAME = ds_{source} SQLSENTENCE = '{sentence}'
               OUTPUTSCHEMA (id = 'id' : 'java.lang.Long', n = 'n' : 'java.lang.Long', t = 't' : 'java.lang.String',
                 f = 'f' : 'java.lang.Double', d = 'd' : 'java.math.BigDecimal' (sourcetypesize='8', sourcetypedecimals='2'));
             CREATE OR REPLACE TABLE {source} (id:long, n:long, t:text, f:double, d:decimal)
               ADD SEARCHMETHOD w_{source} (OUTPUTLIST (id, n, t, f, d) WRAPPER (jdbc w_{source}));\n"
        );
    }
    script + "CREATE OR REPLACE VIEW v AS SELECT id, n, t, f, d, n + 1 AS m FROM mariadb WHERE id > 1;"
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
    match dice.below(9) {
        0 | 1 => format!("{table}.{} {} {}", dice.one(&["id", "n"]), dice.one(&compare), dice.one(&numbers)),
        2 => format!("{table}.t {} {}", dice.one(&compare), dice.one(&texts)),
        3 => format!("{table}.t = {}", dice.one(&texts)),
        4 => format!(
            "{table}.t IN ({}, {}, {}, {})",
            dice.one(&texts),
            dice.one(&texts),
            dice.one(&texts),
            dice.one(&texts)
        ),
        5 => format!(
            "{table}.n IN ({}, {}, {}, {})",
            dice.one(&numbers),
            dice.one(&numbers),
            dice.one(&numbers),
            dice.one(&numbers)
        ),
        6 => format!("{table}.{} IS {}NULL", dice.one(&["n", "t", "f", "d"]), dice.one(&["", "NOT "])),
        7 => format!("{table}.f {} {}", dice.one(&compare), dice.one(&["0.0", "-0.0", "1.5", "0.1"])),
        _ => format!("{table}.d {} {}", dice.one(&compare), dice.one(&["1.50", "0", "7.77", "10"])),
    }
}

fn statement(dice: &mut Dice) -> String {
    let all = ["postgres", "mariadb", "sqlite", "v"];
    let (one, two) = (dice.one(&all), dice.one(&all));
    let filter = condition(dice, "a", 2);
    match dice.below(5) {
        0 => format!("SELECT a.id, a.n, a.t, a.f, a.d FROM {one} a WHERE {filter} ORDER BY a.id"),
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

/// A server with the three sources and the script; its client and the virtual datasource.
async fn prepared(pushdown: bool) -> (Server, Client, String) {
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), format!("[engine]\npushdown = {pushdown}\n")).unwrap();
    let server = Server::start_with(&["--config", config.path().to_str().unwrap()]);
    server.wait_for_sample();
    let add = |name: &str, at: Option<Address>, database: &str| {
        let port = at.as_ref().map_or(1, |at| at.port).to_string();
        let mut arguments = vec!["datasource", "add", name, "--type", name, "--database", database];
        let password = at.as_ref().map_or("x", |at| at.password.as_str());
        if let Some(at) = &at {
            arguments.extend([
                "--host",
                &at.host,
                "--port",
                &port,
                "--username",
                &at.user,
                "--password-stdin",
            ]);
        }
        let added = server.cli_with_input(&arguments, &format!("{password}\n"));
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    };
    let file = server.data_dir.join("sample/tpch.db");
    let copy = server.data_dir.join("files/s.db");
    std::fs::copy(file, &copy).unwrap();
    add("postgres", Some(address("LANDREEVE_TEST_POSTGRES")), "postgres");
    add("mariadb", Some(address("LANDREEVE_TEST_MARIADB")), "mysql");
    add("sqlite", None, copy.to_str().unwrap());
    let path = server.data_dir.join("s.vql");
    std::fs::write(&path, script()).unwrap();
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
    let ((_with, on, sent), (_without, off, local)) = tokio::join!(prepared(true), prepared(false));
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
