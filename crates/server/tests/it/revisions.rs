//! Revisions through the program: from a file and from a server, listed, read over HTTP, deleted.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{PASSWORD, Server};

async fn send(server: &Server, method: Method, path: &str, body: Option<&Value>) -> (u16, String) {
    let request = reqwest::Client::new()
        .request(method, format!("{}/solution-manager{path}", server.address))
        .basic_auth("admin", Some(PASSWORD));
    let request = match body {
        Some(body) => request.header("Content-Type", "application/json").body(body.to_string()),
        None => request,
    };
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Creates something and returns its id.
async fn created(server: &Server, path: &str, body: Value) -> i64 {
    let (status, text) = send(server, Method::POST, path, Some(&body)).await;
    assert_eq!(status, 201, "{path}: {text}");
    serde_json::from_str::<Value>(&text).unwrap()["id"].as_i64().unwrap()
}

fn file(server: &Server, name: &str, text: &str) -> String {
    let path = server.data_dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The id in `created the revision 7 (name)`.
fn id(said: &str) -> &str {
    let rest = said.strip_prefix("created the revision ").unwrap_or_else(|| panic!("{said}"));
    rest.split_once(' ').unwrap().0
}

const SCRIPT: &str = "CREATE OR REPLACE DATABASE sales 'Orders';\nCONNECT DATABASE sales;\n\
    CREATE OR REPLACE INTERFACE VIEW orders (id:long, total:double);\n\
    CREATE OR REPLACE VIEW big AS SELECT id FROM orders WHERE total > 1000;\n";

#[tokio::test]
async fn revisions_come_from_files_and_servers() {
    let server = Server::start();
    let environment = created(&server, "/environments", json!({ "name": "development" })).await;
    let cluster = json!({ "name": "cluster", "environmentId": environment, "enabled": true });
    let cluster = created(&server, "/clusters", cluster).await;
    let node = json!({
        "name": "dev-1", "typeNode": "VDP", "urlIP": "embedded", "urlPort": 9999, "clusterId": cluster, "enabled": true,
    });
    let node = created(&server, "/servers", node).await;
    let script = file(&server, "sales.vql", SCRIPT);
    server.say(&["vql", "run", &script, "--node", "dev-1"]);

    let marked = file(&server, "marked.vql", &format!("\u{feff}{SCRIPT}"));
    let values = file(&server, "dev.properties", "a.USERNAME = u\n");
    let uploaded = server.say(&[
        "revision",
        "create",
        "From a file",
        "--vql",
        &marked,
        "--properties",
        &values,
        "--description",
        "first",
    ]);
    let whole = server.say(&["revision", "create", "Everything", "--from", "dev-1", "--database", "sales"]);
    let number = node.to_string();
    let dropped = server.say(&[
        "revision",
        "create",
        "Gone",
        "--from",
        &number,
        "--database",
        "sales",
        "--element",
        "big",
        "--drop",
    ]);
    for (made, text) in [
        (&uploaded, SCRIPT.to_owned()),
        (&dropped, "CONNECT DATABASE sales;\nDROP VIEW IF EXISTS big CASCADE;\nCLOSE;\n".to_owned()),
        (
            &whole,
            format!(
                "ENTER SINGLE USER MODE;\n{}EXIT SINGLE USER MODE;\n",
                "CREATE OR REPLACE DATABASE sales 'Orders';\nCONNECT DATABASE sales;\n\
                 CREATE OR REPLACE INTERFACE VIEW orders (\n        id:long,\n        total:double\n    );\n\
                 CREATE OR REPLACE VIEW big\n    AS SELECT id FROM orders WHERE total > 1000;\nCLOSE;\n"
            ),
        ),
    ] {
        let (status, found) = send(&server, Method::GET, &format!("/revisions/{}/vql", id(made)), None).await;
        assert_eq!((status, found), (200, text), "{made}");
    }

    let listed: Value = serde_json::from_str(&server.say(&["revision", "list", "--format", "json"])).unwrap();
    let shown = |row: &Value| {
        ["name", "type", "created_by", "deployed_on", "description"].map(|name| row[name].clone())
    };
    let rows: Vec<_> = listed.as_array().unwrap().iter().map(shown).collect();
    let expected = [
        json!(["Gone", "delete", "operator", "", ""]),
        json!(["Everything", "insert", "operator", "", ""]),
        json!(["From a file", "vql", "operator", "", "first"]),
    ];
    assert_eq!(json!(rows), json!(expected));

    assert_eq!(
        server.say(&["revision", "delete", id(&dropped)]),
        format!("deleted the revision {}", id(&dropped))
    );
    server.say(&["revision", "create", "Soon gone", "--vql", &script]);
    assert_eq!(server.say(&["revision", "delete", "Soon gone"]), "deleted the revision Soon gone");
    for (arguments, message) in [
        (vec!["delete", id(&dropped)], "there is no such revision"),
        (vec!["delete", "Soon gone"], "there is no revision \"Soon gone\""),
        (vec!["create", "x", "--vql", "/none.vql"], "could not open /none.vql"),
        (vec!["create", "x", "--vql", &values, "--properties", "/none"], "could not open /none"),
        (vec!["create", "x", "--from", "none", "--database", "sales"], "there is no such server"),
        (
            vec!["create", "x", "--from", "dev-1", "--database", "none"],
            "is not a database of the server dev-1",
        ),
        (vec!["create", "", "--vql", &script], "name must not be empty"),
        (vec!["create", "x"], "--vql"),
        (vec!["create", "x", "--from", "dev-1"], "--database"),
        (
            vec!["create", "x", "--vql", &script, "--from", "dev-1", "--database", "sales"],
            "cannot be used with",
        ),
    ] {
        let arguments: Vec<&str> = ["revision"].into_iter().chain(arguments).collect();
        let ended = server.cli(&arguments);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success() && said.contains(message), "{arguments:?}: {said}");
    }
}
