//! Every route against callers without permission, derived from the OpenAPI document, which contains every route.

use axum::Router;
use http::StatusCode;

use crate::support::{Answer, Ask, World, related};
use serde_json::{Value, json};

struct Route {
    method: String,
    path: String,
}

async fn routes(router: &Router) -> Vec<Route> {
    let document = Ask::of(router, "GET", "/openapi.json").send().await.json;
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            if ["get", "put", "post", "patch", "delete"].contains(&method.as_str()) {
                found.push(Route { method: method.to_uppercase(), path: path.clone() });
            }
        }
    }
    found
}

/// Every route in a router is in the document.
#[test]
fn every_route_is_registered_with_its_description() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(!text.contains(".route("), "{}: use `routes!`", path.display());
            files += 1;
        }
    }
    assert!(files > 10);
}

/// One resource of each kind, by the paths that contain its id.
pub async fn things(world: &World) -> Vec<(&'static str, String)> {
    let datasource = world.datasource().await;
    let agent = world.made("/datasource_agents", json!({"name": "a"}), json!({})).await;
    let dashboard = world.made("/dashboards", json!({"name": "d"}), json!({})).await;
    let relationships = json!({"datasource": related("datasources", &datasource)});
    let report = world.made("/reports", json!({"name": "r", "query": "select 1"}), relationships).await;
    let filter = world.made("/filters", json!({"name": "f", "variable_name": "f"}), json!({})).await;
    let snippet = world.made("/sql_snippets", json!({"name": "s", "sql": "1"}), json!({})).await;
    let (execution, _) = world.ran(&datasource, "select 1").await;
    vec![
        ("{execution_id}", execution),
        ("/datasources/{id}", datasource),
        ("/datasource_agents/{id}", agent),
        ("/dashboards/{id}", dashboard),
        ("/reports/{id}", report),
        ("/filters/{id}", filter),
        ("/sql_snippets/{id}", snippet),
    ]
}

pub fn filled(path: &str, things: &[(&str, String)]) -> String {
    things.iter().fold(path.to_owned(), |path, (place, id)| {
        let (before, name) = place.rsplit_once('/').unwrap_or(("", place));
        let with = if before.is_empty() { id.clone() } else { format!("{before}/{id}") };
        let place = if before.is_empty() { name.to_owned() } else { (*place).to_owned() };
        path.replace(&place, &with)
    })
}

fn minimal(method: &str) -> Option<Value> {
    (method != "GET" && method != "DELETE").then(|| json!({}))
}

async fn ask(router: &Router, route: &Route, path: &str, authorization: Option<&str>) -> Answer {
    let ask = Ask::of(router, &route.method, path).auth(authorization);
    match minimal(&route.method) {
        Some(body) => ask.json(&body).send().await,
        None => ask.send().await,
    }
}

#[tokio::test]
async fn every_route_needs_a_key_with_its_permission() {
    let world = World::new().await;
    let things = things(&world).await;
    let powerless = format!("Api {}", world.key_with(&[]).await);
    let disabled = format!("Api {}", world.disabled_key().await);
    let data_scheme = format!("Data {}", world.key);
    let bearer = format!("Bearer {}", world.key);
    let mut seen = 0;
    for route in routes(&world.api).await {
        let path = filled(&route.path, &things);
        assert!(!path.contains('{'), "add the ids in {path} to `things`");
        let name = format!("{} {path}", route.method);
        let strangers = [
            None,
            Some(data_scheme.as_str()),
            Some(&bearer),
            Some("Api unknown"),
            Some("Api"),
            Some(&disabled),
        ];
        for authorization in strangers {
            let answer = ask(&world.api, &route, &path, authorization).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name} {authorization:?}");
            assert_eq!(answer.header("www-authenticate"), "Api", "{name}");
            assert_eq!(answer.pointers(), [""], "{name}");
        }
        let answer = ask(&world.api, &route, &path, Some(&powerless)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{name}: {}", answer.text);
        assert_eq!(answer.pointers(), [""], "{name}");
        seen += 1;
    }
    assert!(seen >= 40, "only {seen} routes");
    // None of that changed anything.
    assert_eq!(world.get("/datasources").await.json["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn data_needs_its_token() {
    let world = World::new().await;
    let datasource = world.datasource().await;
    let mut keys = Vec::new();
    for _ in 0..2 {
        let (id, _) = world.ran(&datasource, "select 1").await;
        let access = world.get(&format!("/executions/{id}/data")).await.json;
        keys.push((
            access["data_key"].as_str().unwrap().to_owned(),
            access["data_access_token"].as_str().unwrap().to_owned(),
        ));
    }
    let (key, token) = &keys[0];
    let api_scheme = format!("Api {}", world.key);
    let own = format!("Data {token}");
    let foreign = format!("Data {}", keys[1].1);
    let mut seen = 0;
    for route in routes(&world.data).await {
        let path = route.path.replace("{key}", key);
        for authorization in [None, Some(api_scheme.as_str()), Some("Data nonsense"), Some("Data a.b.c")] {
            let answer = ask(&world.data, &route, &path, authorization).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path} {authorization:?}");
            assert_eq!(answer.header("www-authenticate"), "Data");
            answer.pointers();
        }
        let answer = ask(&world.data, &route, &path, Some(&foreign)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        answer.pointers();
        assert_eq!(ask(&world.data, &route, &path, Some(&own)).await.status, StatusCode::OK, "{path}");
        seen += 1;
    }
    assert_eq!(seen, 4);
    world.clock.seconds(301);
    let late = world.fetch(&format!("/data/{key}"), token).send().await;
    assert_eq!(late.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn unknown_paths_methods_and_ids_get_the_dialects_errors() {
    let world = World::new().await;
    let things = things(&world).await;
    let unknown: Vec<(&str, String)> = things
        .iter()
        .map(|(place, id)| {
            let other =
                if id.len() == 14 { "0000-0000-0000" } else { "00000000-0000-4000-8000-000000000000" };
            (*place, other.to_owned())
        })
        .collect();
    for route in routes(&world.api).await {
        if !route.path.contains('{') {
            continue;
        }
        for ids in [&unknown, &unknown.iter().map(|(place, _)| (*place, "x".to_owned())).collect()] {
            let path = filled(&route.path, ids);
            let answer = match (route.method.as_str(), route.path.as_str()) {
                ("POST", "/datasources/{id}/executions") => {
                    world.post(&path, json!({"sql_query": "select 1"})).await
                }
                ("PUT" | "PATCH", _) => {
                    let body = json!({"data": {"attributes": {}}});
                    world.ask(&route.method, &path).json(&body).send().await
                }
                _ => ask(&world.api, &route, &path, Some(&format!("Api {}", world.key))).await,
            };
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{} {path}: {}", route.method, answer.text);
            answer.pointers();
        }
    }
    let answer = world.get("/nothing/here").await;
    assert_eq!((answer.status, answer.first_code()), (StatusCode::NOT_FOUND, "route_not_found"));
    let answer = world.ask("DELETE", "/datasources").send().await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
}
