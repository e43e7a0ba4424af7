//! Environments, clusters and servers by the command line, seen by a running server.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{PASSWORD, Server};

fn json_of(server: &Server, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--format", "json"]).collect();
    serde_json::from_str(&server.say(&arguments)).unwrap()
}

#[track_caller]
fn fails(server: &Server, arguments: &[&str], code: i32, part: &str) {
    let ended = server.cli(arguments);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(code) && said.contains(part), "{arguments:?}: {said}");
}

async fn environments(server: &Server) -> Value {
    let request = reqwest::Client::new().get(format!("{}/solution-manager/environments", server.address));
    let answer = request.basic_auth("admin", Some(PASSWORD)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

#[tokio::test]
async fn environments_are_managed_by_commands() {
    let server = Server::start();
    let made = server.say(&["env", "create", "Dev", "--license-alias", "DEVELOPMENT", "--description", "d"]);
    assert!(made.starts_with("created the environment Dev with the id "), "{made}");
    server.say(&["env", "create", "Production"]);
    let listed = environments(&server).await;
    assert_eq!((&listed[0]["name"], &listed[0]["licenseAlias"]), (&json!("Dev"), &json!("DEVELOPMENT")));
    let listed = json_of(&server, &["env", "list"]);
    assert_eq!((&listed[0]["scenario"], &listed[0]["description"]), (&json!("development"), &json!("d")));
    assert_eq!((&listed[1]["scenario"], &listed[1]["license_alias"]), (&json!("production"), &json!(null)));
    fails(&server, &["env", "create", "Dev"], 1, "name is already taken");
    fails(&server, &["env", "create", "x", "--license-alias", "GOLD"], 1, "DEVELOPMENT, STAGING, PRODUCTION");
    fails(&server, &["env", "delete", "none"], 1, "there is no such environment");

    server.say(&["cluster", "create", "main", "--env", "Dev"]);
    server.say(&["cluster", "create", "second", "--env", "Dev", "--disabled"]);
    let listed = json_of(&server, &["cluster", "list", "--env", "Dev"]);
    assert_eq!(
        (&listed[1]["name"], &listed[1]["order"], &listed[1]["enabled"]),
        (&json!("second"), &json!(2), &json!(false))
    );
    server.say(&["server", "create", "dev", "--env", "Dev", "--cluster", "main"]);
    let remote = [
        "server",
        "create",
        "far",
        "--env",
        "Dev",
        "--cluster",
        "main",
        "--host",
        "vdp.example.com",
        "--port",
        "8443",
        "--username",
        "promoter",
        "--password-stdin",
    ];
    let added = server.cli_with_input(&remote, "generated-secret\n");
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let listed = json_of(&server, &["server", "list", "--env", "Dev"]);
    assert_eq!((&listed[0]["host"], &listed[0]["cluster"]), (&json!("embedded"), &json!("main")));
    assert_eq!((&listed[1]["port"], &listed[1]["username"]), (&json!(8_443), &json!("promoter")));
    assert!(!listed.to_string().contains("generated-secret"));
    assert_eq!(json_of(&server, &["vql", "node", "list"])[0]["name"], "dev");
    fails(
        &server,
        &["server", "create", "dev", "--env", "Dev", "--cluster", "main"],
        1,
        "name is already taken",
    );
    fails(
        &server,
        &["server", "create", "x", "--env", "Dev", "--cluster", "none"],
        1,
        "there is no such cluster",
    );
    fails(
        &server,
        &["server", "create", "x", "--env", "Dev", "--cluster", "main", "--host", "h"],
        2,
        "--port",
    );

    let unit = server.say(&["ou", "create", "Research"]);
    server.say(&["env", "create", "Dev", "--ou", &unit]);
    fails(
        &server,
        &["cluster", "delete", "main", "--env", "Dev", "--ou", &unit],
        1,
        "there is no such cluster",
    );
    assert_eq!(server.say(&["server", "delete", "dev"]), "deleted the server dev");
    assert_eq!(server.say(&["cluster", "delete", "main", "--env", "Dev"]), "deleted the cluster main");
    assert_eq!(server.say(&["env", "delete", "Dev"]), "deleted the environment Dev");
    assert_eq!(json_of(&server, &["env", "list", "--ou", &unit])[0]["name"], "Dev");
    assert_eq!(json_of(&server, &["vql", "node", "list"]), json!([]));
    let left: Vec<_> =
        environments(&server).await.as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(left, ["Production", "Dev"]);
    assert!(server.say(&["config", "default"]).contains("[promotion]"));
}
