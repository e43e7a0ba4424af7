//! Deployments by the command line: executed by a running server, and by the command itself without one.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{PASSWORD, Server, pause, reply};

fn json_of(server: &Server, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--format", "json"]).collect();
    serde_json::from_str(&server.say(&arguments)).unwrap()
}

fn utf8(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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

    let done = server.cli(&["promotion", "start", "Production", "Sales 1", "--description", "weekly"]);
    let (out, said) = (utf8(&done.stdout), utf8(&done.stderr));
    assert!(
        said.starts_with(
            "prod-1: Revision Sales 1 VQL deployment: OK\n - Executed 3 of 3 VQL commands\nprod-2: "
        ),
        "{said}"
    );
    assert!(out.starts_with("the deployment ") && out.ends_with(" succeeded\n"), "{out}");
    let listed = json_of(&server, &["promotion", "list"]);
    assert_eq!(
        ["environment", "state", "by", "revisions", "description"].map(|name| listed[0][name].clone()),
        ["Production", "OK", "operator", "Sales 1", "weekly"].map(|text| json!(text))
    );
    let id = listed[0]["id"].to_string();
    let shown = json_of(&server, &["promotion", "show", &id]);
    assert_eq!((&shown["state"], shown["tasks"].as_array().unwrap().len()), (&json!("OK"), 2));
    assert_eq!(json_of(&server, &["drift", "Production"])["servers"][0]["state"], "IN_SYNC");
    server.say(&["drift", "Production", "--exit-code"]);

    fails(&server, &["promotion", "start", "Production", "Sales 2"], "the property limits.BIG has no value");
    server.say(&["property", "set", "Production", "limits.BIG", "1000"]);
    let blocker =
        file(&server, "blocker.vql", "CONNECT DATABASE sales; CREATE VIEW big AS SELECT id FROM orders");
    server.say(&["vql", "run", &blocker, "--node", "prod-2"]);
    assert_eq!(json_of(&server, &["drift", "Production"])["servers"][1]["state"], "DRIFTED");
    let said = server.say(&["drift", "Production"]);
    let changes = "prod-2, from what was deployed to what is there:\n  create view sales.big\n    + CREATE OR REPLACE VIEW big";
    assert!(said.contains(changes), "{said}");
    fails(&server, &["drift", "Production", "--exit-code"], "not every server is in sync");
    let arguments = ["promotion", "start", "Production", "Sales 2"];
    fails(&server, &arguments, "could not be applied to the server prod-2; rolled back: prod-1");
    let listed = json_of(&server, &["promotion", "list"]);
    assert_eq!(listed[0]["state"], "ERROR");
    // With JSON, only the document is on standard output.
    let failed = server.cli(&[&arguments[..], &["--format", "json"]].concat());
    let document: Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!((failed.status.code(), &document["state"]), (Some(1), &json!("ERROR")));
    assert!(utf8(&failed.stderr).contains("prod-1: Rollback of prod-1: OK"), "{}", utf8(&failed.stderr));
    let refused =
        server.cli(&["promotion", "start", "Production", "Sales 1", "--description", &"x".repeat(4_001)]);
    assert_eq!(utf8(&refused.stderr), "landreeve: description must have at most 4000 characters\n");
    for (arguments, part) in [
        (vec!["promotion", "start", "None", "Sales 1"], "there is no such environment"),
        (vec!["promotion", "start", "Production", "None"], "there is no revision \"None\""),
        (vec!["promotion", "start", "Production", "999999"], "there is no such revision"),
        (vec!["promotion", "show", "999999"], "there is no such deployment"),
        (vec!["promotion", "cancel", "999999"], "there is no such deployment"),
        (vec!["promotion", "approve", "999999"], "there is no such deployment"),
        (vec!["promotion", "cancel", &id], "has already ended: OK"),
        (vec!["drift", "None"], "there is no such environment"),
    ] {
        fails(&server, &arguments, part);
    }
    // A number that is a name and an id is neither.
    let revision = json_of(&server, &["revision", "list"])[0]["id"].to_string();
    server.say(&["revision", "create", &revision, "--vql", &script]);
    let environment = json_of(&server, &["env", "list"])[0]["id"].to_string();
    server.say(&["env", "create", &environment]);
    for (arguments, part) in [
        (vec!["revision", "delete", &revision], "is the id of a revision and the name of another one"),
        (vec!["promotion", "start", "Production", &revision], "is the id of a revision and the name"),
        (vec!["drift", &environment], "is the name of one environment and the id of another"),
    ] {
        fails(&server, &arguments, part);
    }
    // A name that two revisions have is none of them.
    server.say(&["revision", "create", "Sales 1", "--vql", &script]);
    for arguments in [
        vec!["promotion", "start", "Production", "Sales 1"],
        vec!["promotion", "start", "Production", "Sales 1", "--dry-run"],
        vec!["revision", "delete", "Sales 1"],
    ] {
        fails(&server, &arguments, "2 revisions are named \"Sales 1\"; use an id: ");
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
    let done = server.cli(&["promotion", "start", "Production", "Sales 1"]);
    assert!(done.status.success(), "{done:?}");
    assert!(utf8(&done.stderr).contains("prod-1: Revision Sales 1 VQL deployment: OK"), "{done:?}");
    let history = json_of(&server, &["vql", "history", "--node", "prod-1"]);
    assert_eq!(history[0]["version"], 1, "{history}");
}

/// An environment whose first server is taken out of service only once something is written to the pipe.
struct Blocked {
    server: Server,
    pipe: PathBuf,
}

impl Blocked {
    async fn new() -> Blocked {
        let server = Server::start();
        server.say(&["env", "create", "Production"]);
        server.say(&["cluster", "create", "main", "--env", "Production"]);
        server.say(&["server", "create", "prod-1", "--env", "Production", "--cluster", "main"]);
        let script = file(&server, "sales.vql", SCRIPT);
        server.say(&["revision", "create", "Sales 1", "--vql", &script]);
        let (scripts, pipe) = (server.data_dir.join("scripts"), server.data_dir.join("pipe"));
        std::fs::create_dir_all(&scripts).unwrap();
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for (name, script) in [("out", "#!/bin/sh\nread line < \"$1\"\n"), ("back", "#!/bin/sh\n")] {
            std::fs::write(scripts.join(name), script).unwrap();
            std::fs::set_permissions(scripts.join(name), Permissions::from_mode(0o755)).unwrap();
        }
        std::fs::set_permissions(&scripts, Permissions::from_mode(0o755)).unwrap();
        let configuration = json!({
            "deploymentType": "NO_DOWNTIME",
            "scripts": {
                "disableServer": { "file": "out", "arguments": [{ "literal": pipe.to_str().unwrap() }] },
                "enableServer": { "file": "back" }
            }
        });
        configure(&server, &configuration).await;
        Blocked { server, pipe }
    }

    /// Starts a deployment by a command, and waits until its script runs; returns its id.
    fn deploying(&self) -> (Child, String) {
        let mut command =
            crate::support::command(&self.server.data_dir, &["promotion", "start", "Production", "Sales 1"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
        for _ in 0..600 {
            let listed = json_of(&self.server, &["promotion", "list"]);
            let newest = &listed[0];
            if newest["state"] == "IN_PROGRESS" {
                let id = newest["id"].to_string();
                let shown = json_of(&self.server, &["promotion", "show", &id]);
                if shown["tasks"][0]["state"] == "IN_PROGRESS" {
                    return (command, id);
                }
            }
            pause(Duration::from_millis(20));
        }
        command.kill().unwrap();
        command.wait().unwrap();
        panic!("the deployment does not start");
    }

    /// Waits until the run is being cancelled, lets the script end, and returns the state of the deployment at its end.
    fn cancelled(&self, id: &str) -> String {
        let state = |wanted: &dyn Fn(&str) -> bool| {
            for _ in 0..600 {
                let run = json_of(&self.server, &["run", "show", id]);
                let state = run[0]["state"].as_str().unwrap().to_owned();
                if wanted(&state) {
                    return state;
                }
                pause(Duration::from_millis(20));
            }
            panic!("the run {id} does not change");
        };
        state(&|state| state == "cancelling");
        std::fs::write(&self.pipe, "go on\n").unwrap();
        assert_eq!(state(&|state| state != "cancelling"), "cancelled");
        let shown = json_of(&self.server, &["promotion", "show", id]);
        assert_eq!(shown["tasks"][2]["state"], "OK", "it is in service again: {shown}");
        shown["state"].as_str().unwrap().to_owned()
    }
}

async fn configure(server: &Server, configuration: &Value) {
    let environments = json_of(server, &["env", "list"]);
    let path = format!("/solution-manager/environments/{}/deploymentConfiguration", environments[0]["id"]);
    let request = reqwest::Client::new()
        .put(format!("{}{path}", server.address))
        .basic_auth("admin", Some(PASSWORD))
        .header("Content-Type", "application/json")
        .body(configuration.to_string());
    reply(request).await.expect(200);
}

/// Whatever ends the command, its deployment ends too.
#[tokio::test]
async fn a_command_that_is_interrupted_or_killed_cancels_its_deployment() {
    let blocked = Blocked::new().await;
    for signal in ["-INT", "-TERM", "-HUP", "-KILL"] {
        let (mut command, id) = blocked.deploying();
        Command::new("kill").arg(signal).arg(command.id().to_string()).status().unwrap();
        assert_eq!(blocked.cancelled(&id), "CANCELED", "{signal}");
        let ended = command.wait().unwrap();
        assert_eq!(ended.code(), if signal == "-KILL" { None } else { Some(1) }, "{signal}");
        assert_eq!(json_of(&blocked.server, &["vql", "history", "--node", "prod-1"]), json!([]), "{signal}");
    }
}

#[tokio::test]
async fn a_command_that_deploys_itself_cancels_when_it_is_interrupted() {
    let mut blocked = Blocked::new().await;
    blocked.server.signal("-TERM");
    blocked.server.wait();
    let (mut command, id) = blocked.deploying();
    Command::new("kill").arg("-TERM").arg(command.id().to_string()).status().unwrap();
    assert_eq!(blocked.cancelled(&id), "CANCELED");
    assert_eq!(command.wait().unwrap().code(), Some(1));
}

/// The command does not wait for days, and its end does not cancel what waits for another person.
#[tokio::test]
async fn a_deployment_that_needs_an_approval_outlives_its_command() {
    let server = Server::start();
    server.say(&["env", "create", "Production"]);
    server.say(&["cluster", "create", "main", "--env", "Production"]);
    server.say(&["server", "create", "prod-1", "--env", "Production", "--cluster", "main"]);
    let script = file(&server, "sales.vql", SCRIPT);
    server.say(&["revision", "create", "Sales 1", "--vql", &script]);
    configure(&server, &json!({ "approvalsRequired": 1 })).await;
    let done = server.cli(&["promotion", "start", "Production", "Sales 1"]);
    assert!(
        done.status.success() && utf8(&done.stderr).contains("until another person approves it"),
        "{done:?}"
    );
    let id = json_of(&server, &["promotion", "list"])[0]["id"].to_string();
    fails(&server, &["promotion", "approve", &id], "another person has to approve it");
    let path = format!("{}/solution-manager/deployments/{id}/approve", server.address);
    reply(reqwest::Client::new().post(path).basic_auth("admin", Some(PASSWORD))).await.expect(200);
    for _ in 0..600 {
        let shown = json_of(&server, &["promotion", "show", &id]);
        if shown["state"] == "OK" {
            return;
        }
        pause(Duration::from_millis(20));
    }
    panic!("the deployment was not executed");
}
