//! The walk-through of docs/virtual-databases.md: PostgreSQL, MariaDB and a file in one statement, through the command line
//! and over HTTP, with a kill in between.

use serde_json::{Value, json};

use crate::support::{Address, Server, address, postgres, postgres_database};

const DOCUMENT: &str = include_str!("../../../../docs/virtual-databases.md");

/// The script of the page.
fn script() -> String {
    let (_, rest) = DOCUMENT.split_once("```sql\n").unwrap();
    let (script, _) = rest.split_once("```").unwrap();
    // The database that the tests may use on MariaDB has no tables of its own.
    let customers = "SQLSENTENCE='select 1 as id, ''Ada'' as name, ''DE'' as country union all \
        select 2, ''Ben'', ''US'' union all select 3, ''Cleo'', ''GB'''";
    script.replace("RELATIONNAME='customers'", customers)
}

const PROPERTIES: &str = "databases.sales.datasources.df.ds_rates.ROUTE.LOCAL.PATH=rates.csv\n";

fn add(server: &Server, name: &str, kind: &str, at: &Address, database: &str) {
    let port = at.port.to_string();
    let arguments = [
        "datasource",
        "add",
        name,
        "--type",
        kind,
        "--host",
        &at.host,
        "--port",
        &port,
        "--username",
        &at.user,
        "--database",
        database,
        "--password-stdin",
    ];
    let added = server.cli_with_input(&arguments, &format!("{}\n", at.password));
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
}

fn write(server: &Server, name: &str, text: &str) -> String {
    let path = server.data_dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn names(rows: &Value) -> Vec<Value> {
    rows.as_array().unwrap().iter().map(|row| row[0].clone()).collect()
}

/// A server with two datasources and a file, to which the script was applied; its properties.
async fn prepared() -> (Server, String) {
    let (erp, at) = postgres_database().await;
    let orders = "create table orders (id bigint, customer_id int, total numeric(12,2), currency text); insert into orders \
        values (1, 1, 120.00, 'EUR'), (2, 2, 80.50, 'USD'), (3, 1, 1500.00, 'EUR'), (4, 3, 20.00, 'GBP')";
    postgres(&at.url, orders).await;
    let server = Server::start();
    server.wait_for_sample();
    add(&server, "ERP", "postgres", &at, &erp);
    add(&server, "CRM", "mariadb", &address("LANDREEVE_TEST_MARIADB"), "mysql");
    write(&server, "files/rates.csv", "currency,rate\nEUR,1\nUSD,0.9\nGBP,1.2\n");
    let (file, properties) =
        (write(&server, "sales.vql", &script()), write(&server, "test.properties", PROPERTIES));
    let missing = server.cli(&["vql", "run", &file]);
    assert!(!missing.status.success());
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(said.contains("missing properties: databases.sales.datasources.df"), "{said}");
    let applied = server.say(&["vql", "run", &file, "--properties", &properties]);
    assert!(applied.contains("Executed 17 of 17 VQL commands"), "{applied}");
    assert!(applied.contains("Queries on local read version 1 now"), "{applied}");
    (server, properties)
}

#[tokio::test]
async fn the_walk_through_works_as_printed() {
    let (mut server, properties) = prepared().await;
    server.say(&["datasource", "add", "Sales", "--type", "virtual", "--database", "sales"]);
    let totals = "select * from customer_totals order by name";
    let asked = ["query", "--datasource", "Sales", "--format", "csv", totals];
    assert_eq!(
        server.say(&asked).replace('\r', ""),
        "name,country,orders,euro\nAda,DE,2,1620.0\nBen,US,1,72.45\nCleo,GB,1,24.0"
    );

    // Over HTTP, after a kill.
    server.kill();
    server.restart();
    let client = server.client(&server.key());
    let source =
        client.datasource(json!({"name": "V", "database_type": "virtual", "database": "sales"})).await;
    let large = "select name, euro from large_customers order by name";
    assert_eq!(client.query(&source, large).await["rows"], json!([["Ada", 1620.0]]));

    let explained = client.query(&source, "explain select total from orders where id = 1 or id = 3").await;
    let sent = "SELECT \"id\", \"total\" FROM \"public\".\"orders\" WHERE (\"id\" = 1 OR \"id\" = 3)";
    let only = "SELECT \"total\" FROM \"public\".\"orders\" WHERE (\"id\" = 1 OR \"id\" = 3)";
    assert_eq!(explained["rows"][0][0], "ERP", "{explained}");
    assert!([sent, only].contains(&explained["rows"][0][1].as_str().unwrap()), "{explained}");
    let last = explained["rows"].as_array().unwrap().last().unwrap();
    assert!(last[0].is_null() && last[2].is_string(), "{explained}");

    let changed = write(&server, "changed.vql", &script().replace("euro > 100", "euro >= 50"));
    let difference = server.say(&["vql", "diff", &changed, "--properties", &properties, "--format", "json"]);
    let difference: Value = serde_json::from_str(&difference).unwrap();
    let changes = difference["changes"].as_array().unwrap();
    let kinds: Vec<_> = changes.iter().map(|change| (&change["name"], &change["change"])).collect();
    assert_eq!(kinds, [(&json!("sales.large_customers"), &json!("replace"))]);
    let applied = server.say(&["vql", "run", &changed, "--properties", &properties]);
    assert!(applied.contains("Queries on local read version 2 now"), "{applied}");
    assert_eq!(names(&client.query(&source, large).await["rows"]), [json!("Ada"), json!("Ben")]);
    assert_eq!(server.say(&["vql", "rollback", "1"]), "queries on local read version 1");
    assert_eq!(names(&client.query(&source, large).await["rows"]), [json!("Ada")]);
}

#[tokio::test]
async fn faults_say_what_is_wrong_and_where() {
    let (server, _) = prepared().await;
    let client = server.client(&server.key());
    let source =
        client.datasource(json!({"name": "V", "database_type": "virtual", "database": "sales"})).await;
    for (sql, part) in [
        ("select * from nothing", "nothing"),
        ("select * from other.orders", "other"),
        ("select repeat('a', 3) from orders", "repeat"),
        ("delete from orders", "only SELECT"),
        ("select o.missing from orders o", "missing"),
    ] {
        let execution = client.execute(&source, &json!({ "sql_query": sql })).await;
        let attributes = &execution["data"]["attributes"];
        assert_eq!(attributes["execution_status"], "failed", "{sql}: {execution}");
        assert!(attributes["error_message"].as_str().unwrap().contains(part), "{sql}: {execution}");
    }
    write(&server, "files/rates.csv", "currency,rate\nEUR,much\n");
    let execution = client.execute(&source, &json!({ "sql_query": "select * from large_customers" })).await;
    let message = execution["data"]["attributes"]["error_message"].as_str().unwrap();
    assert!(message.contains("file rates.csv: row 2: column rate"), "{message}");
    let broken = write(&server, "broken.vql", "CONNECT DATABASE sales;\nCREATE VIEW v AS SELECT a FROM b;");
    let output = server.cli(&["vql", "run", &broken, "--format", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let counts = [&report["executed"], &report["total"], &report["version"]];
    assert_eq!(counts, [&json!(1), &json!(2), &json!(1)]);
    assert_eq!(report["statements"][1]["message"], "View 'b' not found");
}

const LAYERS: &str = "CREATE DATABASE raw; CONNECT DATABASE raw;
CREATE DATASOURCE DF ds ROUTE LOCAL 'LocalConnection' 'rates.csv' COLUMNDELIMITER=',' ENDOFLINEDELIMITER='\\n' HEADER=TRUE;
CREATE WRAPPER DF w DATASOURCENAME=ds;
CREATE TABLE rates (currency:text, rate:double) ADD SEARCHMETHOD w (OUTPUTLIST (currency, rate) WRAPPER (df w));
CREATE VIEW strong AS SELECT currency, rate FROM rates WHERE rate >= 1; CLOSE;
CREATE DATABASE mart; CONNECT DATABASE mart;
CREATE VIEW totals AS SELECT currency, CAST(rate AS text) AS shown, COUNT(*) AS n FROM raw.strong GROUP BY currency, rate;
CREATE VIEW top AS SELECT t.currency, t.shown, t.n, s.rate FROM totals t INNER JOIN raw.rates s ON t.currency = s.currency;";

/// Views read those of other databases of their node, whatever they are called; statements do not.
#[tokio::test]
async fn views_reach_other_databases_and_statements_do_not() {
    let server = Server::start();
    server.wait_for_sample();
    write(&server, "files/rates.csv", "currency,rate\nEUR,1\nUSD,0.9\nGBP,1.2\n");
    server.say(&["vql", "run", &write(&server, "layers.vql", LAYERS)]);
    let client = server.client(&server.key());
    let source =
        client.datasource(json!({"name": "M", "database_type": "virtual", "database": "mart"})).await;
    let found = client.query(&source, "select currency, shown, n, rate from top order by currency").await;
    assert_eq!(found["rows"], json!([["EUR", "1.0", 1, 1.0], ["GBP", "1.2", 1, 1.2]]));
    for sql in [
        "select * from raw.strong",
        "select t.n from top t, raw.rates",
        "select n from top where n in (select 1 from raw.rates)",
    ] {
        let execution = client.execute(&source, &json!({ "sql_query": sql })).await;
        let message = execution["data"]["attributes"]["error_message"].as_str().unwrap();
        assert!(message.contains("is in another database"), "{sql}: {message}");
    }
    // The type of a column is that of its values, and the schema names it as VQL does.
    let casts = "select shown, cast(n as text) as n, cast(rate as int) as rate, cast(n as double) as d from top limit 1";
    let typed = server.say(&["query", "--datasource", "M", "--format", "json", casts]);
    let typed: Value = serde_json::from_str(&typed).unwrap();
    let types: Vec<_> =
        typed["columns"].as_array().unwrap().iter().map(|column| column["type"].clone()).collect();
    assert_eq!(types, ["text", "text", "integer", "number"], "{typed}");
    let grant = client.get(&format!("/cluvio/datasources/{source}/schema")).await.expect(200);
    let (key, token) = (grant["data_key"].as_str().unwrap(), grant["data_access_token"].as_str().unwrap());
    let schema = client.data(key, token, "application/json").await.json().to_string();
    for (column, data_type) in [("shown", "text"), ("n", "long"), ("rate", "double")] {
        let listed = [format!("\"name\":\"{column}\""), format!("\"{data_type}\"")];
        let part = schema.split_once(&listed[0]).map(|(_, rest)| rest.split('}').next().unwrap_or_default());
        assert!(part.is_some_and(|part| part.contains(&listed[1])), "{column}: {schema}");
    }
}
