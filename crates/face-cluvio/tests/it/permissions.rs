//! Permissions, keys restricted to resources, and the credentials that they can see.

use http::StatusCode;
use serde_json::json;

use crate::support::World;

#[tokio::test]
async fn credentials_are_shown_to_keys_that_manage() {
    let world = World::new().await;
    let (one, two) = (world.datasource().await, world.datasource().await);
    let viewer = world.key_with(&["View Datasources"]).await;
    let seen = world.ask("GET", &format!("/datasources/{one}")).key(&viewer).send().await;
    let attributes = seen.json["data"]["attributes"].as_object().unwrap();
    assert!(!attributes.contains_key("password") && !attributes.contains_key("bigquery_service_key"));
    assert!(attributes.contains_key("host"));
    let mixed = world.key_with(&["View Datasources", &format!("Manage Datasources={one}")]).await;
    let list = world.ask("GET", "/datasources").key(&mixed).send().await.json;
    let shown: Vec<bool> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|datasource| datasource["attributes"].as_object().unwrap().contains_key("password"))
        .collect();
    assert_eq!(shown, [true, false]);
    let body = json!({"data": {"attributes": {"name": "x"}}});
    for (id, status) in [(&one, StatusCode::OK), (&two, StatusCode::FORBIDDEN)] {
        let answer = world.ask("PATCH", &format!("/datasources/{id}")).key(&mixed).json(&body).send().await;
        assert_eq!(answer.status, status);
    }
}

#[tokio::test]
async fn a_restricted_key_reaches_only_its_datasources() {
    let world = World::new().await;
    let (one, two) = (world.datasource().await, world.datasource().await);
    let viewer = world.key_with(&[&format!("View Datasources={one}")]).await;
    let list = world.ask("GET", "/datasources").key(&viewer).send().await.json;
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    let other = world.ask("GET", &format!("/datasources/{two}")).key(&viewer).send().await;
    assert_eq!(other.status, StatusCode::FORBIDDEN);
    let body = json!({"sql_query": "select 1"});
    let runs = |id: &str| format!("/datasources/{id}/executions");
    let answer = world.ask("POST", &runs(&one)).key(&viewer).json(&body).send().await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "viewing is not querying");
    for name in ["Manage Dashboards", "Manage Alerts", "Manage Datasources"] {
        let key = world.key_with(&[&format!("{name}={one}")]).await;
        for (id, status) in [(&one, StatusCode::OK), (&two, StatusCode::FORBIDDEN)] {
            let answer = world.ask("POST", &runs(id)).key(&key).json(&body).send().await;
            assert_eq!(answer.status, status, "{name}");
        }
    }
    let restricted = world.key_with(&[&format!("Manage Datasources={one}")]).await;
    let body =
        json!({"data": {"attributes": {"name": "x", "database_type": "sqlite", "database": "shop.db"}}});
    let answer = world.ask("POST", "/datasources").key(&restricted).json(&body).send().await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_execution_belongs_to_its_key() {
    let world = World::new().await;
    let id = world.datasource().await;
    let one = world.key_with(&["Manage Dashboards"]).await;
    let two = world.key_with(&["Manage Dashboards"]).await;
    let path = format!("/datasources/{id}/executions");
    let run = world.ask("POST", &path).key(&one).json(&json!({"sql_query": "select 1"})).send().await;
    let path = format!("/executions/{}", run.json["data"]["id"].as_str().unwrap());
    assert_eq!(world.ask("GET", &path).key(&one).send().await.status, StatusCode::OK);
    for path in [path.clone(), format!("{path}/data")] {
        assert_eq!(world.ask("GET", &path).key(&two).send().await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(world.get(&path).await.status, StatusCode::OK, "keys that manage datasources see all");
}

#[tokio::test]
async fn viewing_is_not_managing() {
    let world = World::new().await;
    let dashboard = world.made("/dashboards", json!({"name": "d"}), json!({})).await;
    let filter = world.made("/filters", json!({"name": "f", "variable_name": "f"}), json!({})).await;
    let snippet = world.made("/sql_snippets", json!({"name": "s", "sql": "1"}), json!({})).await;
    let viewer =
        world.key_with(&["View Dashboards", "View Filters", "View SQL Snippets", "View Organization"]).await;
    for path in [
        "/organization".to_owned(),
        format!("/dashboards/{dashboard}"),
        format!("/filters/{filter}"),
        format!("/sql_snippets/{snippet}"),
    ] {
        assert_eq!(world.ask("GET", &path).key(&viewer).send().await.status, StatusCode::OK, "{path}");
        let body = if path == "/organization" { json!({}) } else { json!({"data": {"attributes": {}}}) };
        let answer = world.ask("PATCH", &path).key(&viewer).json(&body).send().await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
    let restricted = world.key_with(&[&format!("View Dashboards={dashboard}")]).await;
    world.made("/dashboards", json!({"name": "other"}), json!({})).await;
    let list = world.ask("GET", "/dashboards").key(&restricted).send().await.json;
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_disabled_users_key_is_rejected() {
    let world = World::new().await;
    world.administrator().await;
    let user = world.user("ada").await;
    let key = world.key_of(user).await;
    assert_eq!(world.ask("GET", "/dashboards").key(&key).send().await.status, StatusCode::FORBIDDEN);
    let off = landreeve_estate::ops::UserChange { enabled: Some(false), ..Default::default() };
    landreeve_estate::ops::users::user_update(&world.estate, &world.operator, user, off).await.unwrap();
    assert_eq!(world.ask("GET", "/dashboards").key(&key).send().await.status, StatusCode::UNAUTHORIZED);
}
