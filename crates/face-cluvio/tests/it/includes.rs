//! Included resources, and who can see them.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{World, related};

fn kinds(answer: &Value) -> Vec<&str> {
    answer["included"].as_array().unwrap().iter().map(|one| one["type"].as_str().unwrap()).collect()
}

async fn dashboard(world: &World) -> String {
    let datasource = world.datasource().await;
    let dashboard = world.made("/dashboards", json!({"name": "d"}), json!({})).await;
    world.made("/filters", json!({"name": "f", "variable_name": "country"}), json!({})).await;
    world.made("/filters", json!({"name": "g", "variable_name": "unused"}), json!({})).await;
    world.made("/sql_snippets", json!({"name": "inner", "sql": "1"}), json!({})).await;
    world.made("/sql_snippets", json!({"name": "outer", "sql": "[inner] + 1"}), json!({})).await;
    let relationships = json!({"datasource": related("datasources", &datasource),
        "dashboard": related("dashboards", &dashboard)});
    let query = "select [outer] from t where {c=country}";
    world.made("/reports", json!({"name": "r", "query": query}), relationships).await;
    dashboard
}

#[tokio::test]
async fn related_objects_of_a_dashboard() {
    let mut world = World::new().await;
    world.key = world.key_of(world.administrator().await).await;
    let id = dashboard(&world).await;
    let all =
        "reports,filters,sql_snippets&include=dashboard_groups,dashboard_sharing_links,user,user_groups";
    let got = world.get(&format!("/dashboards/{id}?include={all}")).await;
    assert_eq!(got.status, StatusCode::OK, "{}", got.text);
    let expected = ["reports", "filters", "sql_snippets", "sql_snippets", "users", "user_groups"];
    assert_eq!(kinds(&got.json), expected);
    let report = &got.json["included"][0];
    assert_eq!(report["relationships"]["filters"]["data"].as_array().unwrap().len(), 1);
    assert_eq!(report["relationships"]["sql_snippets"]["data"].as_array().unwrap().len(), 2);
    let outer =
        got.json["included"].as_array().unwrap().iter().find(|one| one["attributes"]["name"] == "outer");
    assert_eq!(outer.unwrap()["relationships"]["sql_snippets"]["data"].as_array().unwrap().len(), 1);
    let some = world.get(&format!("/dashboards/{id}?include=dashboard_groups")).await;
    assert_eq!(some.json["included"], json!([]));
    assert!(world.get(&format!("/dashboards/{id}")).await.json.get("included").is_none());
}

#[tokio::test]
async fn each_included_kind_needs_its_permission() {
    let mut world = World::new().await;
    world.key = world.key_of(world.administrator().await).await;
    let id = dashboard(&world).await;
    let key = world.key_with(&["View Dashboards"]).await;
    for (include, status) in [
        ("reports", StatusCode::OK),
        ("dashboard_groups,dashboard_sharing_links", StatusCode::OK),
        ("filters", StatusCode::FORBIDDEN),
        ("sql_snippets", StatusCode::FORBIDDEN),
        ("user", StatusCode::FORBIDDEN),
        ("user_groups", StatusCode::FORBIDDEN),
    ] {
        let answer = world.ask("GET", &format!("/dashboards/{id}?include={include}")).key(&key).send().await;
        assert_eq!(answer.status, status, "{include}");
    }
}
