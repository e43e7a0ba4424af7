//! Two server processes: one deploys to a node of the other, over TLS.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{PASSWORD, Reply, Server, pause, postgres_database, reply, said};

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../http/tests/fixtures").join(name);
    path.display().to_string()
}

/// A server with this configuration.
fn server(folder: &Path, name: &str, text: &str) -> Server {
    let file = folder.join(format!("{name}.toml"));
    std::fs::write(&file, text).unwrap();
    Server::start_with(&["--config", file.to_str().unwrap()])
}

fn port(server: &Server) -> &str {
    server.address.rsplit(':').next().unwrap()
}

/// An environment with the server `Prod 1`, which is the other process, and a revision.
fn with_environment(here: &Server, there: &Server, host: &str) {
    here.say(&["env", "create", "Production"]);
    here.say(&["cluster", "create", "main", "--env", "Production"]);
    let far = [
        "server",
        "create",
        "Prod 1",
        "--env",
        "Production",
        "--cluster",
        "main",
        "--host",
        host,
        "--port",
        port(there),
        "--username",
        "promoter",
        "--password-stdin",
    ];
    said(&here.cli_with_input(&far, &format!("{PASSWORD}\n")));
    let script = here.data_dir.join("r.vql");
    std::fs::write(&script, "CREATE DATABASE sales 'Orders';\n").unwrap();
    here.say(&["revision", "create", "Sales", "--vql", script.to_str().unwrap()]);
}

async fn get(here: &Server, path: &str) -> Value {
    let request = reqwest::Client::new().get(format!("{}/solution-manager{path}", here.address));
    reply(request.basic_auth("admin", Some(PASSWORD))).await.expect(200)
}

async fn post(here: &Server, path: &str, body: &Value) -> Reply {
    let request = reqwest::Client::new().post(format!("{}/solution-manager{path}", here.address));
    let request = request.basic_auth("admin", Some(PASSWORD)).header("content-type", "application/json");
    reply(request.body(body.to_string())).await
}

/// The ids of the revision and the environment.
async fn ids(here: &Server) -> (i64, i64) {
    let revisions = get(here, "/revisions").await;
    let environments = get(here, "/environments").await;
    (revisions["revisions"][0]["id"].as_i64().unwrap(), environments[0]["id"].as_i64().unwrap())
}

async fn started(here: &Server) -> Value {
    let (revision, environment) = ids(here).await;
    let body = json!({ "revisionIds": [revision], "environmentId": environment });
    post(here, "/deployments", &body).await.expect(200)["deploymentId"].clone()
}

async fn deployed(here: &Server) -> Value {
    let id = started(here).await;
    ended(here, &id).await
}

/// The progress of a deployment at its end.
async fn ended(here: &Server, id: &Value) -> Value {
    for _ in 0..1_200 {
        let found = get(here, &format!("/deployments/{id}/progress")).await;
        if found["state"] != "IN_PROGRESS" {
            return found;
        }
        pause(Duration::from_millis(50));
    }
    panic!("the deployment does not end");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_deploys_to_another_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("[tls]\ncertificate = {:?}\nkey = {:?}\n", fixture("one.pem"), fixture("one.key"));
    let mut there = server(folder.path(), "there", &text);
    there.say(&["vql", "node", "create", "prod-1"]);
    let role = "solution_manager_promotion_admin";
    let create = ["user", "create", "promoter", "--role", role, "--password-stdin"];
    said(&there.cli_with_input(&create, &format!("{PASSWORD}\n")));
    let text = format!("[promotion]\nca_file = {:?}\n", fixture("one.pem"));
    let here = server(folder.path(), "here", &text);
    with_environment(&here, &there, "127.0.0.1");

    let (revision, environment) = ids(&here).await;
    let body = json!({ "revisionIds": [revision], "environmentId": environment, "dryRun": true });
    let plan = post(&here, "/deployments", &body).await.expect(200)["plan"][0].clone();
    assert_eq!((&plan["server"], &plan["changes"][0]["name"]), (&json!("Prod 1"), &json!("sales")), "{plan}");
    let ended = deployed(&here).await;
    assert_eq!(ended["state"], "OK", "{ended}");
    let text = there.say(&["vql", "desc", "--node", "prod-1"]);
    assert!(text.contains("DATABASE sales"), "{text}");
    let drift = get(&here, &format!("/environments/{environment}/drift")).await;
    assert_eq!(drift["servers"][0]["state"], "IN_SYNC", "{drift}");

    // The same certificate is not trusted without the setting.
    let other = Server::start();
    with_environment(&other, &there, "127.0.0.1");
    let ended = deployed(&other).await;
    let message = ended["message"].as_str().unwrap();
    assert!(message.starts_with("the server Prod 1 cannot be reached: TLS with 127.0.0.1:"), "{ended}");
    assert_eq!(ended["state"], "ERROR");

    there.kill();
    let ended = deployed(&here).await;
    let message = ended["message"].as_str().unwrap();
    assert!(
        message.starts_with("the server Prod 1 cannot be reached: cannot connect to 127.0.0.1:"),
        "{ended}"
    );
    let drift = get(&here, &format!("/environments/{environment}/drift")).await;
    assert_eq!(drift["servers"][0]["state"], "UNREACHABLE", "{drift}");
}

/// The other process is killed while it applies: before anything is committed, because a lock keeps it from that, and at a
/// few moments around its commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_while_it_applies_has_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (_, address) = postgres_database().await;
    let mut there = Server::start_with(&["--store", &address.url]);
    there.say(&["vql", "node", "create", "prod-1"]);
    let role = "solution_manager_promotion_admin";
    let create = ["user", "create", "promoter", "--role", role, "--password-stdin"];
    said(&there.cli_with_input(&create, &format!("{PASSWORD}\n")));
    let here = server(folder.path(), "here", "");
    with_environment(&here, &there, "http://127.0.0.1");
    let (client, connection) = tokio_postgres::connect(&address.url, tokio_postgres::NoTls).await.unwrap();
    let driving = tokio::spawn(connection);
    let locked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    for delay in [None, Some(0), Some(5), Some(20), Some(60)] {
        client.batch_execute("BEGIN; LOCK TABLE virtual_versions IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let id = started(&here).await;
        while client.query_one(locked, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            pause(Duration::from_millis(10));
        }
        if let Some(delay) = delay {
            client.batch_execute("ROLLBACK").await.unwrap();
            pause(Duration::from_millis(delay));
        }
        there.kill();
        let _ = client.batch_execute("ROLLBACK").await;
        pause(Duration::from_millis(200));
        there.restart_there();
        let found = ended(&here, &id).await;
        let text = there.say(&["vql", "desc", "--node", "prod-1"]);
        let applied = text.contains("DATABASE sales");
        match found["state"].as_str().unwrap() {
            "OK" => assert!(applied, "{delay:?}: {found:#}"),
            _ => assert!(!applied, "{delay:?}: {found:#}"),
        }
        if applied {
            let drop = there.data_dir.join("drop.vql");
            std::fs::write(&drop, "DROP DATABASE sales;\n").unwrap();
            there.say(&["vql", "run", drop.to_str().unwrap(), "--node", "prod-1"]);
        }
    }
    let found = deployed(&here).await;
    assert_eq!(found["state"], "OK", "{found}");
    driving.abort();
}
