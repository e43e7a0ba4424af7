//! An id of one kind is never an id of another, even when both have the same number.

use http::StatusCode;
use serde_json::json;

use crate::support::{World, related};

#[tokio::test]
async fn a_path_with_an_id_of_another_kind_is_404_and_touches_nothing() {
    let world = World::new().await;
    let datasource = world.datasource().await;
    let source = json!({"datasource": related("datasources", &datasource)});
    let dashboard = world.made("/dashboards", json!({"name": "Sales"}), json!({})).await;
    let in_both = json!({"datasource": related("datasources", &datasource),
        "dashboard": related("dashboards", &dashboard)});
    let report = world.made("/reports", json!({"name": "All", "query": "SELECT 1"}), in_both).await;
    let values = json!({"name": "Region", "variable_name": "region", "values": ["North"]});
    let filter = world.made("/filters", values, json!({})).await;
    let snippet = world.made("/sql_snippets", json!({"name": "rows", "sql": "SELECT 1"}), source).await;
    let things = [
        ("/datasources", &datasource),
        ("/dashboards", &dashboard),
        ("/reports", &report),
        ("/filters", &filter),
        ("/sql_snippets", &snippet),
    ];
    for (path, own) in things {
        for (other, id) in things {
            if other == path {
                continue;
            }
            let path = format!("{path}/{id}");
            for method in ["GET", "PATCH", "DELETE"] {
                let body = json!({"data": {"attributes": {"name": "taken over"}}});
                let answer = world.ask(method, &path).json(&body).send().await;
                assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path} with an id of {other}");
            }
        }
        assert_eq!(world.get(&format!("{path}/{own}")).await.status, StatusCode::OK, "{path}");
    }
}
