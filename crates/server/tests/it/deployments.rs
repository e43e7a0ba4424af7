//! Deployments by the command line: executed by a running server, and by the command itself without one.

use serde_json::{Value, json};

use crate::support::Server;

fn json_of(server: &Server, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--format", "json"]).collect();
    serde_json::from_str(&server.say(&arguments)).unwrap()
}

fn file(server: &Server, name: &str, text: &str) -> String {
    let path = server.data_dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[track_caller]
fn fails(server: &Server, arguments: &[&str], part: &str) {
    let ended = server.cli(arguments);
    let (out, said) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {out}\n{said}");
    assert!(said.contains(part) || out.contains(part), "{arguments:?}: {out}\n{said}");
}

const SCRIPT: &str = "CREATE OR REPLACE DATABASE sales 'Orders';\nCONNECT DATABASE sales;\n\
    CREATE OR REPLACE INTERFACE VIEW orders (id:long, total:double);\n";

#[tokio::test]
async fn revisions_are_deployed_by_commands() {
    let server = Server::start();
    server.say(&["env", "create", "Production"]);
    server.say(&["cluster", "create", "main", "--env", "Production"]);
    for name in ["prod-1", "prod-2"] {
        server.say(&["server", "create", name, "--env", "Production", "--cluster", "main"]);
    }
    let script = file(&server, "sales.vql", SCRIPT);
    server.say(&["revision", "create", "Sales 1", "--vql", &script]);
    let text = format!("{SCRIPT}CREATE VIEW big AS SELECT id FROM orders WHERE total > ${{limits.BIG}};\n");
    let script = file(&server, "more.vql", &text);
    server.say(&["revision", "create", "Sales 2", "--vql", &script]);

    let said = server.say(&["promotion", "start", "Production", "Sales 1", "--dry-run"]);
    for part in ["prod-1: 2 objects would change", "create database sales", "nothing was deployed (dry run)"]
    {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(json_of(&server, &["promotion", "list"]), json!([]));
    let drift = json_of(&server, &["drift", "Production"]);
    assert_eq!(drift["servers"][1]["state"], "NEVER_DEPLOYED", "{drift}");

    let said = server.say(&["promotion", "start", "Production", "Sales 1", "--description", "weekly"]);
    assert!(
        said.contains("prod-1: Revision Sales 1 VQL deployment: OK\n - Executed 3 of 3 VQL commands"),
        "{said}"
    );
    assert!(said.contains("prod-2: ") && said.contains(" succeeded"), "{said}");
    let listed = json_of(&server, &["promotion", "list"]);
    assert_eq!(
        ["environment", "state", "by", "revisions", "description"].map(|name| listed[0][name].clone()),
        ["Production", "OK", "operator", "Sales 1", "weekly"].map(|text| json!(text))
    );
    let id = listed[0]["id"].to_string();
    let shown = json_of(&server, &["promotion", "show", &id]);
    assert_eq!((&shown["state"], shown["tasks"].as_array().unwrap().len()), (&json!("OK"), 2));
    assert_eq!(json_of(&server, &["drift", "Production"])["servers"][0]["state"], "IN_SYNC");

    fails(&server, &["promotion", "start", "Production", "Sales 2"], "the property limits.BIG has no value");
    server.say(&["property", "set", "Production", "limits.BIG", "1000"]);
    let blocker =
        file(&server, "blocker.vql", "CONNECT DATABASE sales; CREATE VIEW big AS SELECT id FROM orders");
    server.say(&["vql", "run", &blocker, "--node", "prod-2"]);
    assert_eq!(json_of(&server, &["drift", "Production"])["servers"][1]["state"], "DRIFTED");
    let arguments = ["promotion", "start", "Production", "Sales 2"];
    fails(&server, &arguments, "could not be applied to the server prod-2; rolled back: prod-1");
    let listed = json_of(&server, &["promotion", "list"]);
    assert_eq!(listed[0]["state"], "ERROR");
    for (arguments, part) in [
        (vec!["promotion", "start", "None", "Sales 1"], "there is no such environment"),
        (vec!["promotion", "start", "Production", "None"], "there is no revision \"None\""),
        (vec!["promotion", "show", "999999"], "there is no such deployment"),
        (vec!["promotion", "cancel", "999999"], "there is no such deployment"),
        (vec!["promotion", "approve", "999999"], "there is no such deployment"),
        (vec!["promotion", "cancel", &id], "has already ended"),
        (vec!["drift", "None"], "there is no such environment"),
    ] {
        fails(&server, &arguments, part);
    }
}

/// The data directory of a server that has stopped.
#[tokio::test]
async fn a_command_deploys_without_a_server() {
    let mut server = Server::start();
    server.say(&["env", "create", "Production"]);
    server.say(&["cluster", "create", "main", "--env", "Production"]);
    server.say(&["server", "create", "prod-1", "--env", "Production", "--cluster", "main"]);
    let script = file(&server, "sales.vql", SCRIPT);
    server.say(&["revision", "create", "Sales 1", "--vql", &script]);
    server.signal("-TERM");
    server.wait();
    let said = server.say(&["promotion", "start", "Production", "Sales 1"]);
    assert!(said.contains("prod-1: Revision Sales 1 VQL deployment: OK"), "{said}");
    let history = json_of(&server, &["vql", "history", "--node", "prod-1"]);
    assert_eq!(history[0]["version"], 1, "{history}");
}
