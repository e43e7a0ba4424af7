//! The walk-through of docs/promotion.md: its files, its commands and what they print are taken from the page. And the same
//! way on live databases, with other credentials in each environment.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{
    Address, PASSWORD, PROGRAM, Server, mariadb, mariadb_database, postgres, postgres_database,
};

const DOCUMENT: &str = include_str!("../../../../docs/promotion.md");

/// What the page says about a block of code.
#[derive(Debug, PartialEq, Eq)]
enum Block<'a> {
    /// A file to be saved.
    File(&'a str, &'a str),
    /// Commands that print nothing.
    Silent(&'a str),
    /// A command, and what it prints.
    Shown(&'a str, Vec<&'a str>),
}

/// The sections of the page, by their headings.
fn section(heading: &str) -> &'static str {
    let (_, rest) = DOCUMENT.split_once(&format!("\n## {heading}\n")).unwrap();
    rest.split("\n## ").next().unwrap()
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    let mut parts = text.split("\n```");
    let mut before = parts.next().unwrap();
    while let Some(block) = parts.next() {
        let (language, code) = block.split_once('\n').unwrap();
        match language {
            "sql" => {
                let name = before.rsplit_once("Save this as `").unwrap().1.split('`').next().unwrap();
                found.push(Block::File(name, code));
            }
            "sh" => found.push(Block::Silent(code)),
            "console" => found.extend(shown(code)),
            // What the reader starts or looks up.
            "" => {}
            other => panic!("a block of {other}"),
        }
        before = parts.next().unwrap_or_default();
    }
    found
}

fn shown(code: &str) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    for line in code.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            found.push(Block::Shown(command, Vec::new()));
        } else if let Some(Block::Shown(_, printed)) = found.last_mut() {
            printed.push(line);
        } else {
            panic!("{line} is the output of no command");
        }
    }
    found
}

/// What stands before ids, which differ from run to run.
const BEFORE_IDS: [&str; 3] = ["the id ", "the revision ", "the deployment "];

/// A line without ids, and without the width of columns.
fn redacted(line: &str) -> String {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_id = |parts: &[&str]| {
        parts.len() == 3
            && parts.iter().all(|part| part.len() == 4 && part.chars().all(|c| c.is_ascii_alphanumeric()))
    };
    if is_id(&line.split('-').collect::<Vec<_>>()) {
        return "ID".to_owned();
    }
    let mut line = line;
    for before in BEFORE_IDS {
        let mut parts = line.split(before);
        let mut next = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
            next.push_str(before);
            next.push_str(if rest.len() < part.len() { "N" } else { "" });
            next.push_str(rest);
        }
        line = next;
    }
    line
}

/// Runs all commands in one shell, and compares what each prints with the page.
fn walk(server: &Server, folder: &Path, text: &str) {
    const MARK: &str = "-- the command has ended --";
    let blocks = blocks(text);
    let (mut script, mut expected) = (String::from("exec 2>&1\n"), Vec::new());
    for block in &blocks {
        let (command, printed) = match block {
            Block::File(name, code) => {
                std::fs::write(folder.join(name), code).unwrap();
                continue;
            }
            Block::Silent(command) => (*command, Vec::new()),
            Block::Shown(command, printed) => (*command, printed.clone()),
        };
        writeln!(
            script,
            "{}\nprintf '\\n%s\\n' '{MARK}'",
            command.replace("http://127.0.0.1:8700", &server.address)
        )
        .unwrap();
        expected.push((command, printed));
    }
    let programs = folder.join("bin");
    std::fs::create_dir_all(&programs).unwrap();
    std::os::unix::fs::symlink(PROGRAM, programs.join("landreeve")).unwrap();
    let path = format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", programs.display());
    std::fs::write(folder.join("walk.sh"), script).unwrap();
    let mut shell = Command::new("bash");
    shell.arg("walk.sh").current_dir(folder).env("PATH", path).env("PASSWORD", PASSWORD);
    let output = String::from_utf8(shell.output().unwrap().stdout).unwrap();
    let printed: Vec<&str> = output.split(MARK).collect();
    assert_eq!(printed.len(), expected.len() + 1, "{output}");
    for ((command, expected), printed) in expected.iter().zip(printed) {
        let lines = printed.lines().map(redacted).filter(|line| !line.is_empty());
        let expected = expected.iter().map(|line| redacted(line)).filter(|line| !line.is_empty());
        assert_eq!(
            lines.collect::<Vec<_>>(),
            expected.collect::<Vec<_>>(),
            "{command}\nprinted {printed}\n{output}"
        );
    }
}

/// A server in a folder of its own, where its data directory has the usual name.
fn walked(heading: &str) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::on(folder.path().join("landreeve-data"), Vec::new());
    server.wait_for_sample();
    let text = format!("{}\n{}", section("Prepare"), section(heading));
    walk(&server, folder.path(), &text);
    blocks(&text).iter().filter(|block| matches!(block, Block::Shown(..))).count()
}

#[test]
fn the_walk_through_by_the_command_line_works_as_printed() {
    assert!(walked("By the command line") > 15);
}

#[test]
fn the_walk_through_by_curl_works_as_printed() {
    assert!(walked("By curl") > 10);
}

#[test]
fn a_page_is_read_as_its_reader_reads_it() {
    let page = "Save this as `a.vql`:\n\n```sql\nX;\n```\n\n```sh\nA=1\n```\n\n```\nskipped\n```\n\n```console\n$ one\n 1\n$ two\n```\n";
    assert_eq!(
        blocks(page),
        [
            Block::File("a.vql", "X;"),
            Block::Silent("A=1"),
            Block::Shown("one", vec![" 1"]),
            Block::Shown("two", Vec::new())
        ]
    );
    for (line, expected) in [
        (" created the server x with the  id 12", "created the server x with the id N"),
        ("8qxn-y9ex-65vd", "ID"),
        ("the deployment 7 ended; the deployment was", "the deployment N ended; the deployment was"),
        (" - Executed 10 of 10 VQL commands", "- Executed 10 of 10 VQL commands"),
    ] {
        assert_eq!(redacted(line), expected);
    }
}

/// The script of the page, with users and passwords.
const LIVE: &str = "CREATE OR REPLACE DATABASE sales; CONNECT DATABASE sales;
CREATE OR REPLACE DATASOURCE JDBC ds_erp DATABASEURI = '${databases.sales.datasources.jdbc.ds_erp.DATABASEURI}'
    USERNAME = '${databases.sales.datasources.jdbc.ds_erp.USERNAME}'
    USERPASSWORD = '${databases.sales.datasources.jdbc.ds_erp.USERPASSWORD}';
CREATE OR REPLACE DATASOURCE JDBC ds_crm DATABASEURI = '${databases.sales.datasources.jdbc.ds_crm.DATABASEURI}'
    USERNAME = '${databases.sales.datasources.jdbc.ds_crm.USERNAME}'
    USERPASSWORD = '${databases.sales.datasources.jdbc.ds_crm.USERPASSWORD}';
CREATE OR REPLACE WRAPPER JDBC w_orders DATASOURCENAME=ds_erp SCHEMANAME='public' RELATIONNAME='orders';
CREATE OR REPLACE TABLE orders (customer_id:long, total:double)
    ADD SEARCHMETHOD w_orders (OUTPUTLIST (customer_id, total) WRAPPER (jdbc w_orders));
CREATE OR REPLACE WRAPPER JDBC w_customers DATASOURCENAME=ds_crm RELATIONNAME='customers';
CREATE OR REPLACE TABLE customers (id:long, name:text)
    ADD SEARCHMETHOD w_customers (OUTPUTLIST (id, name) WRAPPER (jdbc w_customers));
CREATE OR REPLACE VIEW totals AS SELECT c.name, SUM(o.total) AS total
    FROM orders AS o INNER JOIN customers AS c ON o.customer_id = c.id GROUP BY c.name;
CLOSE;";

/// The databases of an environment, each with a user that no other environment has.
struct Databases {
    erp: String,
    crm: String,
    at: [Address; 2],
    user: String,
    password: String,
}

impl Databases {
    async fn new(environment: &str, total: f64) -> Databases {
        let ((erp, postgres_at), (crm, mariadb_at)) = (postgres_database().await, mariadb_database().await);
        // Users belong to the whole database server.
        let (user, password) = (format!("{environment}_{erp}"), format!("it's {environment}; \\ secret"));
        let quoted = password.replace('\'', "''");
        let sql = format!(
            "CREATE USER {user} PASSWORD '{quoted}'; CREATE TABLE orders (customer_id bigint, total float8); \
             INSERT INTO orders VALUES (1, {total}); GRANT SELECT ON orders TO {user}"
        );
        postgres(&postgres_at.url, &sql).await;
        let quoted = quoted.replace('\\', "\\\\");
        let statements = [
            format!("CREATE TABLE {crm}.customers (id bigint, name varchar(50))"),
            format!("INSERT INTO {crm}.customers VALUES (1, 'Ada ({environment})')"),
            format!("CREATE USER {user}@'%' IDENTIFIED BY '{quoted}'"),
            format!("GRANT SELECT ON {crm}.* TO {user}@'%'"),
        ];
        mariadb(&mariadb_at.url, &statements.each_ref().map(String::as_str)).await;
        Databases { erp, crm, at: [postgres_at, mariadb_at], user, password }
    }

    /// The addresses and user names, for both datasources.
    fn properties(&self) -> Vec<(String, String)> {
        let [erp, crm] = &self.at;
        [
            ("ds_erp", format!("jdbc:postgresql://{}:{}/{}", erp.host, erp.port, self.erp)),
            ("ds_crm", format!("jdbc:mariadb://{}:{}/{}", crm.host, crm.port, self.crm)),
        ]
        .into_iter()
        .flat_map(|(source, uri)| {
            let name = |part: &str| format!("databases.sales.datasources.jdbc.{source}.{part}");
            [(name("DATABASEURI"), uri), (name("USERNAME"), self.user.clone())]
        })
        .collect()
    }
}

fn start(server: &Server, environment: &str) -> Value {
    let done = server.cli(&["promotion", "start", environment, "Sales", "--format", "json"]);
    assert!(done.status.success(), "{environment}: {}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

#[tokio::test]
async fn each_environment_has_its_own_databases_and_credentials() {
    let server = Server::start();
    server.wait_for_sample();
    let script = server.data_dir.join("live.vql");
    std::fs::write(&script, LIVE).unwrap();
    server.say(&["revision", "create", "Sales", "--vql", script.to_str().unwrap()]);
    let client = server.client(&server.key());
    let mut hashes = BTreeSet::new();
    for (environment, alias, total) in
        [("dev", "DEVELOPMENT", 1.5), ("test", "STAGING", 2.5), ("prod", "PRODUCTION", 3.5)]
    {
        let databases = Databases::new(environment, total).await;
        let node = format!("{environment}-1");
        server.say(&["env", "create", environment, "--license-alias", alias]);
        server.say(&["cluster", "create", "main", "--env", environment]);
        server.say(&["server", "create", &node, "--env", environment, "--cluster", "main"]);
        for (name, value) in databases.properties() {
            server.say(&["property", "set", environment, &name, &value]);
        }
        let missing = server.cli(&["promotion", "start", environment, "Sales"]);
        assert_eq!(missing.status.code(), Some(1), "the passwords are missing");
        for source in ["ds_erp", "ds_crm"] {
            let name = format!("databases.sales.datasources.jdbc.{source}.USERPASSWORD");
            let set = ["property", "set", environment, &name, "--value-stdin"];
            assert!(server.cli_with_input(&set, &format!("{}\n", databases.password)).status.success());
        }
        let document = start(&server, environment);
        assert_eq!(document["state"], "OK", "{document}");
        assert!(!document.to_string().contains("secret"), "{document}");
        let source = client
            .datasource(json!({
                "name": environment, "database_type": "virtual", "host": node, "database": "sales"
            }))
            .await;
        let found = client.query(&source, "select name, total from totals").await;
        assert_eq!(found["rows"], json!([[format!("Ada ({environment})"), total]]), "{found}");
        let drift = server.say(&["drift", environment, "--format", "json"]);
        let drift: Value = serde_json::from_str(&drift).unwrap();
        assert_eq!(drift["servers"][0]["state"], "IN_SYNC");
        hashes.insert(drift["servers"][0]["liveHash"].to_string());
        let listed = server.say(&["property", "list", environment]);
        assert!(!listed.contains(&databases.password) && listed.contains("lr1:"), "{listed}");
    }
    assert_eq!(hashes.len(), 3, "the addresses are a part of what is there");
    // Credentials of another environment are of no use there.
    let other = server.say(&["property", "list", "dev", "--format", "json"]);
    let other: Value = serde_json::from_str(&other).unwrap();
    let name = "databases.sales.datasources.jdbc.ds_erp.USERNAME";
    let user = other.as_array().unwrap().iter().find(|property| property["name"] == name).unwrap();
    server.say(&["property", "set", "test", name, user["value"].as_str().unwrap()]);
    start(&server, "test");
    let source = client
        .datasource(json!({
            "name": "wrong", "database_type": "virtual", "host": "test-1", "database": "sales"
        }))
        .await;
    let execution = client.execute(&source, &json!({ "sql_query": "select * from totals" })).await;
    assert_eq!(execution["data"]["attributes"]["execution_status"], "failed", "{execution}");
}
