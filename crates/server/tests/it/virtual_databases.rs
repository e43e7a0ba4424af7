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
