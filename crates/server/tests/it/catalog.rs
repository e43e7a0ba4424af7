//! The API references as served: operations list their errors, and examples run unchanged.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Reply, Server, reply};

async fn document(server: &Server, path: &str) -> Value {
    reply(reqwest::Client::new().get(format!("{}{path}", server.address))).await.expect(200)
}

/// Every operation with its path and method.
fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, item)| {
        item.as_object()
            .unwrap()
            .iter()
            .map(|(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

fn operation<'a>(document: &'a Value, id: &str) -> (&'a str, &'a str, &'a Value) {
    operations(document).find(|(_, _, found)| found["operationId"] == id).unwrap_or_else(|| panic!("no {id}"))
}

#[tokio::test]
async fn operations_list_the_errors_they_can_return() {
    let server = Server::start();
    for (path, input, named) in [
        ("/cluvio/openapi.json", "422", "404"),
        ("/cluvio-data/openapi.json", "422", "404"),
        ("/solution-manager/openapi.json", "400", "404"),
        ("/clover/api/rest/v1/openapi.json", "400", "404"),
        ("/clumio/openapi.json", "400", "404"),
    ] {
        let document = document(&server, path).await;
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for (at, method, operation) in operations(&document) {
            let place = format!("{path}: {method} {at}");
            let responses = operation["responses"].as_object().unwrap();
            if operation.get("security") == Some(&json!([{}])) {
                continue;
            }
            let asked = operation["parameters"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one["in"] == "query"));
            let body = operation.get("requestBody").is_some();
            let wanted = [
                ("401", true),
                ("403", true),
                ("503", true),
                (named, at.contains('{')),
                (input, asked || body),
                ("413", body && path.starts_with("/cluvio")),
                ("415", body && path.starts_with("/cluvio")),
            ];
            for (status, _) in wanted.iter().filter(|(_, wanted)| *wanted) {
                assert!(responses.contains_key(*status), "{place}: no {status}");
            }
            for (status, response) in responses.iter().filter(|(status, _)| status.starts_with(['4', '5'])) {
                let content = response["content"].as_object().and_then(|content| content.values().next());
                let schema = content.and_then(|content| content["schema"]["$ref"].as_str());
                let name = schema.and_then(|schema| schema.rsplit('/').next());
                assert!(name.is_some_and(|name| schemas.contains_key(name)), "{place}: {status} has no body");
            }
        }
    }
}

/// Sends a request for an operation, with the documented example of each parameter and this body.
async fn send(client: &Client, prefix: &str, found: (&str, &str, &Value), body: Option<&Value>) -> Reply {
    let (path, method, operation) = found;
    let mut path = path.to_owned();
    for parameter in
        operation["parameters"].as_array().into_iter().flatten().filter(|one| one["in"] == "path")
    {
        let name = parameter["name"].as_str().unwrap();
        let example = parameter["example"].as_str().unwrap_or_else(|| panic!("{path}: no example of {name}"));
        path = path.replace(&format!("{{{name}}}"), example);
    }
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
    client.send(method, &format!("{prefix}{path}"), body).await
}

/// The examples of a request body: a single one, or several by name.
fn bodies(operation: &Value) -> Vec<Value> {
    let Some(content) = operation["requestBody"]["content"].as_object() else { return Vec::new() };
    let content = content.values().next().unwrap();
    match content["examples"].as_object() {
        Some(named) => named.values().map(|example| example["value"].clone()).collect(),
        None => vec![content["example"].clone()],
    }
}

#[tokio::test]
async fn documented_examples_run() {
    let server = Server::start();
    server.wait_for_sample();
    let client = server.client(&server.key());
    let document = document(&server, "/cluvio/openapi.json").await;
    for (id, status) in [
        ("listDatasources", 200),
        ("getDatasource", 200),
        ("testDatasourceConnection", 200),
        ("refreshDatasource", 200),
        ("getDatasourceSchema", 200),
    ] {
        send(&client, "/cluvio", operation(&document, id), None).await.expect(status);
    }
    for (id, status) in [("createDatasource", 201), ("createReport", 201), ("runExecution", 200)] {
        let found = operation(&document, id);
        let bodies = bodies(found.2);
        assert!(!bodies.is_empty(), "{id} has no example");
        for body in bodies {
            send(&client, "/cluvio", found, Some(&body)).await.expect(status);
        }
    }
    // Linked operations take the execution's id from the response.
    let (path, _, run) = operation(&document, "runExecution");
    let sample = run["parameters"][0]["example"].as_str().unwrap();
    for body in bodies(run) {
        let path = format!("/cluvio{}?wait=30", path.replace("{id}", sample));
        let answer = client.post(&path, &body).await.expect(200);
        assert_eq!(answer["data"]["attributes"]["execution_status"], "completed", "{answer}");
        let links = run["responses"]["200"]["links"].as_object().unwrap();
        for (id, status) in [("getExecution", 200), ("getExecutionData", 200), ("cancelExecution", 409)] {
            let source = links[id]["parameters"]["execution_id"].as_str().unwrap();
            let value = answer.pointer(source.strip_prefix("$response.body#").unwrap()).unwrap();
            let (path, method, _) = operation(&document, id);
            let path = format!("/cluvio{}", path.replace("{execution_id}", value.as_str().unwrap()));
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            client.send(method, &path, None).await.expect(status);
        }
    }
}

#[tokio::test]
async fn documented_user_examples_run() {
    let server = Server::start();
    let token = server.say(&["key", "create", "--api", "clumio", "--user", "admin"]);
    let document = document(&server, "/clumio/openapi.json").await;
    for id in ["read-user", "update-user"] {
        let (path, method, operation) = operation(&document, id);
        let example = operation["parameters"][0]["example"].as_str().unwrap();
        let url = format!("{}/clumio{}", server.address, path.replace("{user_id}", example));
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let request = reqwest::Client::new().request(method, url).bearer_auth(&token);
        let request = match bodies(operation).first() {
            Some(body) => request.header("Content-Type", "application/json").body(body.to_string()),
            None => request,
        };
        let user = reply(request).await.expect(200);
        assert_eq!(user["id"], "1", "{user}");
        // With the main listener's prefix, so that a client can follow it.
        assert_eq!(user["_links"]["_self"]["href"], "/clumio/users/1", "{user}");
    }
}
