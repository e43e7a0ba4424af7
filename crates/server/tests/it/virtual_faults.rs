//! Virtual databases over sources that have few connections, fail, stop responding or change, and scripts whose process
//! is killed while it applies them.

use std::process::Stdio;
use std::time::{Duration, Instant};

use landreeve_testkit::Relay;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Server, command, pause, postgres, postgres_database};

/// A PostgreSQL database with a table, reached through a relay; a server with it as the datasource `ERP` and a virtual
/// database over it.
struct World {
    server: Server,
    relay: Relay,
    url: String,
    client: Client,
    /// The virtual datasource.
    source: String,
    /// The datasource below it.
    erp: String,
}

const SCRIPT: &str = "CREATE DATABASE d; CONNECT DATABASE d;
    CREATE DATASOURCE JDBC ds DATABASEURI = 'jdbc:landreeve:ERP';
    CREATE WRAPPER JDBC w DATASOURCENAME = ds RELATIONNAME = 'orders'
      OUTPUTSCHEMA (id = 'id' : 'java.lang.Long', t = 't' : 'java.lang.String');
    CREATE TABLE orders (id:long, t:text) ADD SEARCHMETHOD w (OUTPUTLIST (id, t) WRAPPER (jdbc w));
    CREATE WRAPPER JDBC slow_w DATASOURCENAME = ds SQLSENTENCE = 'select i as id, pg_sleep(0.01)::text as t from generate_series(1, 1000000) i'
      OUTPUTSCHEMA (id = 'id' : 'java.lang.Long', t = 't' : 'java.lang.String');
    CREATE TABLE slow (id:long, t:text) ADD SEARCHMETHOD slow_w (OUTPUTLIST (id, t) WRAPPER (jdbc slow_w));
    CREATE VIEW pairs AS SELECT a.id AS id, b.t AS t FROM orders a INNER JOIN orders b ON a.id = b.id;";

impl World {
    async fn new(settings: &str) -> World {
        let (erp, at) = postgres_database().await;
        let rows = "create table orders (id bigint primary key, t text); \
                    insert into orders select i, repeat(md5(i::text), 20) from generate_series(1, 20000) i";
        postgres(&at.url, rows).await;
        let relay = Relay::to(&at.url).await;
        let config = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(config.path(), settings).unwrap();
        let server = Server::start_with(&["--config", config.path().to_str().unwrap()]);
        server.wait_for_sample();
        let client = server.client(&server.key());
        let through = relay.url(&at.url);
        let (host, port) =
            through.rsplit_once('@').unwrap().1.split_once('/').unwrap().0.split_once(':').unwrap();
        let port: u16 = port.parse().unwrap();
        let erp = client
            .datasource(json!({"name": "ERP", "database_type": "postgres", "host": host,
                "port": port, "username": at.user, "password": at.password, "database": erp}))
            .await;
        apply(&server, SCRIPT);
        let virtual_one = json!({"name": "V", "database_type": "virtual", "database": "d"});
        let source = client.datasource(virtual_one).await;
        World { server, relay, url: at.url, client, source, erp }
    }

    async fn change(&self, attributes: Value) {
        let body = json!({"data": {"attributes": attributes}});
        let path = format!("/cluvio/datasources/{}", self.erp);
        self.client.send(Method::PATCH, &path, Some(&body)).await.expect(200);
    }

    /// The message of a statement that must fail.
    async fn failure(&self, sql: &str) -> String {
        let execution = self.client.execute(&self.source, &json!({ "sql_query": sql })).await;
        let attributes = &execution["data"]["attributes"];
        assert_eq!(attributes["execution_status"], "failed", "{sql}: {execution}");
        attributes["error_message"].as_str().unwrap().to_owned()
    }

    /// Starts a statement; returns its path.
    async fn start(&self, sql: &str) -> String {
        let path = format!("/cluvio/datasources/{}/executions", self.source);
        let execution = self.client.post(&path, &json!({ "sql_query": sql })).await.expect(200);
        format!("/cluvio/executions/{}", execution["data"]["id"].as_str().unwrap())
    }

    async fn ended(&self, execution: &str) -> Value {
        self.client.get(&format!("{execution}?wait=60")).await.expect(200)["data"]["attributes"].clone()
    }

    /// How many statements with `generate_series` the source executes.
    async fn running(&self) -> i64 {
        let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.unwrap();
        let driving = tokio::spawn(connection);
        let sql = "select count(*) from pg_stat_activity where datname = current_database() \
                   and state <> 'idle' and query like '%generate_series%' and pid <> pg_backend_pid()";
        let count = client.query_one(sql, &[]).await.unwrap().get(0);
        drop(client);
        driving.await.unwrap().unwrap();
        count
    }

    async fn wait_until_running(&self, expected: bool) {
        for _ in 0..400 {
            if (self.running().await > 0) == expected {
                return;
            }
            pause(Duration::from_millis(25));
        }
        panic!("the source's statement is still {}", if expected { "absent" } else { "running" });
    }
}

fn apply(server: &Server, script: &str) {
    let path = server.data_dir.join("s.vql");
    std::fs::write(&path, script).unwrap();
    server.say(&["vql", "run", path.to_str().unwrap()]);
}

/// With one connection, a self-join still ends, and so do statements that start together with others and with executions
/// on the datasource itself.
#[tokio::test(flavor = "multi_thread")]
async fn one_connection_is_enough() {
    let world = World::new("").await;
    world.change(json!({"max_concurrent_executions": 1})).await;
    let joined = "SELECT COUNT(*) AS c FROM pairs a INNER JOIN pairs b ON a.id = b.id";
    let direct = "select count(*) from orders a join orders b on a.id = b.id";
    let all = (0..8).map(|number| {
        let (datasource, sql) = if number % 2 == 0 { (&world.source, joined) } else { (&world.erp, direct) };
        let client = &world.client;
        async move { client.query(datasource, sql).await["rows"].clone() }
    });
    let together = futures_util::future::join_all(all);
    let answers = tokio::time::timeout(Duration::from_secs(60), together).await.expect("they end");
    assert!(answers.iter().all(|rows| *rows == json!([[20_000]])), "{answers:?}");
    let rows = world.client.query(&world.source, "SELECT t FROM pairs WHERE id = 7").await["rows"].clone();
    assert_eq!(rows[0][0].as_str().unwrap().len(), 640);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_the_datasource_and_the_view() {
    let world = World::new("[analytics]\nquery_seconds = 4\n").await;
    let names = |message: &str, view: &str| {
        assert!(message.contains("datasource ERP, view d."), "{message}");
        assert!(message.contains(view), "{message}");
    };
    // A connection that breaks while rows arrive.
    let execution = world.start("SELECT id FROM slow").await;
    world.wait_until_running(true).await;
    postgres(
        &world.url,
        "select pg_terminate_backend(pid) from pg_stat_activity where query like '%generate_series%' \
         and datname = current_database() and pid <> pg_backend_pid()",
    )
    .await;
    let ended = world.ended(&execution).await;
    names(ended["error_message"].as_str().unwrap(), "view d.slow");
    // A source that is too slow.
    let asked = Instant::now();
    let ended = world.ended(&world.start("SELECT MAX(id) AS m FROM slow").await).await;
    assert_eq!(ended["execution_status"], "timed_out", "{ended}");
    assert!(asked.elapsed() < Duration::from_secs(15), "{ended}");
    world.wait_until_running(false).await;
    // A cancel reaches the source.
    let execution = world.start("SELECT MAX(id) AS m FROM slow").await;
    world.wait_until_running(true).await;
    world.client.post(&format!("{execution}/cancel"), &json!({})).await.expect(200);
    assert_eq!(world.ended(&execution).await["execution_status"], "cancelled");
    world.wait_until_running(false).await;
    // A source that is down.
    world.relay.refuse();
    names(&world.failure("SELECT COUNT(*) AS c FROM orders").await, "view d.orders");
    // One that does not respond.
    world.relay.pass();
    assert_eq!(
        world.client.query(&world.source, "SELECT MAX(id) AS m FROM orders").await["rows"],
        json!([[20_000]])
    );
    world.relay.hold();
    let asked = Instant::now();
    let ended = world.ended(&world.start("SELECT COUNT(*) AS c FROM orders").await).await;
    assert_eq!(ended["execution_status"], "timed_out", "{ended}");
    assert!(asked.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_datasource_below_is_renamed_disabled_and_deleted() {
    let world = World::new("").await;
    let count = "SELECT COUNT(*) AS c FROM orders";
    world.change(json!({"name": "Other name"})).await;
    assert_eq!(world.client.query(&world.source, count).await["rows"], json!([[20_000]]));
    world.change(json!({"enabled": false})).await;
    let message = world.failure(count).await;
    assert!(message.contains("view d.orders: its datasource Other name is disabled"), "{message}");
    world.change(json!({"enabled": true})).await;
    assert_eq!(world.client.query(&world.source, count).await["rows"], json!([[20_000]]));
    world.client.delete(&format!("/cluvio/datasources/{}", world.erp)).await;
    let message = world.failure(count).await;
    assert!(message.contains("view d.orders: its datasource was deleted"), "{message}");
    // What does not read it still works, and so does applying.
    apply(&world.server, "CONNECT DATABASE d; CREATE VIEW one AS SELECT id FROM orders;");
}

/// A script of so many views, each with this constant.
fn views(count: usize, constant: usize) -> String {
    let mut script = String::from("CREATE OR REPLACE DATABASE k; CONNECT DATABASE k;\n");
    for number in 0..count {
        let from = if number == 0 { "dual()".to_owned() } else { format!("v{}", number - 1) };
        let from = if number % 20 == 0 { "dual()".to_owned() } else { from };
        let column = if from == "dual()" { format!("{constant} AS x") } else { "x".to_owned() };
        script.push_str(&format!("CREATE OR REPLACE VIEW v{number} AS SELECT {column} FROM {from};\n"));
    }
    script
}

/// Whatever moment the process is killed at, queries read the old version or the new one, as a whole.
async fn killed_while_applying(server: &Server) {
    let write = |name: &str, text: String| {
        let path = server.data_dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let scripts = [write("one.vql", views(200, 1)), write("two.vql", views(200, 2))];
    let mut known = Vec::new();
    let mut takes = Duration::ZERO;
    for script in &scripts {
        let begun = Instant::now();
        server.say(&["vql", "run", script]);
        takes = begun.elapsed();
        known.push(server.say(&["vql", "desc", "k"]));
    }
    assert_ne!(known[0], known[1]);
    let mut seen = [0, 0];
    // On a busy machine applying takes longer than it did at first, so later kills come later.
    for turn in 1..=90_u32 {
        if turn > 30 && seen.iter().all(|seen| *seen > 0) {
            break;
        }
        let mut applying = command(&server.data_dir, &["vql", "run", &scripts[turn as usize % 2]])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        pause(takes * turn / 20);
        applying.kill().unwrap();
        applying.wait().unwrap();
        let found = server.say(&["vql", "desc", "k"]);
        let which = known.iter().position(|known| *known == found);
        seen[which.unwrap_or_else(|| panic!("neither version: {found}"))] += 1;
    }
    assert!(seen.iter().all(|seen| *seen > 0), "{seen:?}");
    // The history has no version that cannot be read.
    let history: Value = serde_json::from_str(&server.say(&["vql", "history", "--format", "json"])).unwrap();
    let versions = history.as_array().unwrap();
    for version in versions.iter().take(3) {
        server.say(&["vql", "rollback", &version["version"].to_string()]);
        assert!(known.contains(&server.say(&["vql", "desc", "k"])));
    }
}

#[tokio::test]
async fn killed_while_applying_with_sqlite() {
    killed_while_applying(&Server::start()).await;
}

#[tokio::test]
async fn killed_while_applying_with_postgres() {
    let (_, address) = postgres_database().await;
    killed_while_applying(&Server::start_with(&["--store", &address.url])).await;
}
