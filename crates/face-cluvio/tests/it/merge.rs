//! Updates: omitted members are kept, null clears, and a resource can be sent back as it was read.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{World, related};

fn document(attributes: Value) -> Value {
    json!({"data": {"attributes": attributes}})
}

#[tokio::test]
async fn datasources() {
    let world = World::new().await;
    let agent = world.made("/datasource_agents", json!({"name": "a"}), json!({})).await;
    let linked = json!({"agents": {"data": [{"type": "datasource_agents", "id": agent}]}});
    let attributes = json!({"name": "Shop", "database_type": "postgresql", "host": "localhost", "port": 5432,
        "password": "pw", "data_time_zone": "Europe/Berlin", "max_concurrent_executions": 5, "require_ssl": true,
        "snowflake_region": "r"});
    let id = world.made("/datasources", attributes, linked).await;
    let path = format!("/datasources/{id}");
    let answer = world.patch(&path, document(json!({"name": "Store"}))).await;
    assert_eq!(answer.attribute("name"), "Store");
    assert_eq!((answer.attribute("password"), answer.attribute("port")), (&json!("pw"), &json!(5432)));
    assert_eq!(answer.attribute("database_type"), "postgres");
    assert_eq!(answer.json["data"]["relationships"]["agents"]["data"][0]["id"], agent.as_str());
    let cleared = json!({"password": null, "port": null, "data_time_zone": null, "max_concurrent_executions": null,
        "require_ssl": null, "snowflake_region": null});
    let body = json!({"data": {"attributes": cleared, "relationships": {"agents": {"data": []}}}});
    let answer = world.ask("PUT", &path).json(&body).send().await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    for name in ["password", "port", "data_time_zone", "snowflake_region"] {
        assert_eq!(answer.attribute(name), &Value::Null, "{name}");
    }
    assert_eq!(answer.attribute("max_concurrent_executions"), 20);
    assert_eq!(answer.attribute("require_ssl"), false);
    assert_eq!(answer.json["data"]["relationships"]["agents"]["data"], json!([]));
    assert_eq!(answer.attribute("host"), "localhost");
    let answer = world.patch(&path, document(json!({"name": null, "database_type": null}))).await;
    assert_eq!(answer.pointers(), ["/data/attributes/database_type", "/data/attributes/name"]);
    assert_eq!(world.ask("DELETE", &path).send().await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.get(&path).await.status, StatusCode::NOT_FOUND);
}

/// Every resource can be read and sent back unchanged, and is the same afterwards.
#[tokio::test]
async fn a_resource_can_be_sent_back_as_read() {
    let world = World::new().await;
    let datasource = world.datasource().await;
    let of = json!({"datasource": related("datasources", &datasource)});
    let agent = world.made("/datasource_agents", json!({"name": "a"}), json!({})).await;
    let dashboard = world.made("/dashboards", json!({"name": "d"}), json!({})).await;
    let report = world.made("/reports", json!({"name": "r", "query": "select 1"}), of.clone()).await;
    let manual = json!({"name": "f", "variable_name": "f", "values": ["a", "b"], "value_names": ["A", null]});
    let manual = world.made("/filters", manual, json!({})).await;
    let from_sql =
        json!({"name": "g", "variable_name": "g", "options_type": "static_sql", "query": "select 1"});
    let from_sql = world.made("/filters", from_sql, of.clone()).await;
    let range = json!({"name": "h", "variable_name": "h", "control_type": "date_range"});
    let range = world.made("/filters", range, json!({})).await;
    let snippet = world.made("/sql_snippets", json!({"name": "s", "sql": "1"}), of).await;
    for path in [
        format!("/datasources/{datasource}"),
        format!("/datasource_agents/{agent}"),
        format!("/dashboards/{dashboard}"),
        format!("/reports/{report}"),
        format!("/filters/{manual}"),
        format!("/filters/{from_sql}"),
        format!("/filters/{range}"),
        format!("/sql_snippets/{snippet}"),
    ] {
        let before = world.get(&path).await.json;
        for method in ["PUT", "PATCH"] {
            let answer = world.ask(method, &path).json(&before).send().await;
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
            assert_eq!(answer.json, before, "{path}");
        }
        assert_eq!(world.get(&path).await.json, before, "{path}");
    }
}

#[tokio::test]
async fn dashboards() {
    let world = World::new().await;
    let attributes = json!({"name": "d", "description": "x", "prewarm": true,
        "time_zone_config": {"type": "user_selectable", "allowed_time_zones": ["Europe/Berlin"]},
        "filters_configuration": {"apply_immediately": false, "aggregation_options": ["day"]},
        "default_parameters": {"timerange": "1~2"}});
    let id = world.made("/dashboards", attributes, json!({})).await;
    let path = format!("/dashboards/{id}");
    let part = json!({"time_zone_config": {"fixed_time_zone": "UTC"}, "filters_configuration": {"apply_immediately": true}});
    let answer = world.patch(&path, document(part)).await;
    let zone =
        json!({"type": "user_selectable", "fixed_time_zone": "UTC", "allowed_time_zones": ["Europe/Berlin"]});
    assert_eq!(answer.attribute("time_zone_config"), &zone);
    assert_eq!(answer.attribute("filters_configuration")["aggregation_options"], json!(["day"]));
    assert_eq!((answer.attribute("prewarm"), answer.attribute("description")), (&json!(true), &json!("x")));
    let clear = json!({"description": null, "prewarm": null, "time_zone_config": null, "filters_configuration": null,
        "default_parameters": null});
    let answer = world.patch(&path, document(clear)).await;
    let zone = json!({"type": "disabled", "fixed_time_zone": null, "allowed_time_zones": []});
    assert_eq!(answer.attribute("time_zone_config"), &zone);
    let inputs = json!({"timerange": null, "aggregation": null, "tz": null, "filters": []});
    assert_eq!(answer.attribute("default_parameters"), &inputs);
    assert_eq!((answer.attribute("prewarm"), answer.attribute("description")), (&json!(false), &Value::Null));
    assert_eq!(world.ask("DELETE", &path).send().await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn filters_keep_dependent_members_together() {
    let world = World::new().await;
    let datasource = world.datasource().await;
    let manual = json!({"name": "f", "variable_name": "f", "values": ["a"], "value_names": ["A"]});
    let id = world.made("/filters", manual, json!({})).await;
    let path = format!("/filters/{id}");
    let answer = world.patch(&path, document(json!({"name": "F"}))).await;
    assert_eq!(answer.attribute("values"), &json!(["a"]));
    let body = json!({"data": {"attributes": {"query": "select 1"},
        "relationships": {"datasource": related("datasources", &datasource)}}});
    let answer = world.patch(&path, body).await;
    assert_eq!(answer.attribute("options_type"), "dynamic_sql", "{}", answer.text);
    assert_eq!(answer.attribute("values"), &json!([]));
    let answer = world.patch(&path, document(json!({"options_type": "static_sql"}))).await;
    assert_eq!(
        (answer.attribute("options_type"), answer.attribute("query")),
        (&json!("static_sql"), &json!("select 1"))
    );
    let body = json!({"data": {"relationships": {"datasource": {"data": null}}}});
    assert_eq!(world.patch(&path, body).await.pointers(), ["/data/relationships/datasource"]);
    let answer = world.patch(&path, document(json!({"values": [1, 2]}))).await;
    assert_eq!(answer.attribute("options_type"), "manual");
    let answer = world.patch(&path, document(json!({"control_type": "date_range"}))).await;
    assert_eq!((answer.attribute("options_type"), answer.attribute("values")), (&Value::Null, &json!([])));
}
