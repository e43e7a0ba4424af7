//! Every sample of the source document: the request is accepted, the response has these members in this order.
//!
//! Placeholders that no datasource could have (port 0, ids of nothing) are replaced with real values.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{Answer, World, related};

const JSON_API: &str = "application/vnd.api+json";
const JSON: &str = "application/json";

/// Whether `found` has the members of `sample`, in its order, wherever both have any. Empty lists and null are ignored.
fn same_shape(at: &str, found: &Value, sample: &Value) {
    match (found, sample) {
        (Value::Object(found), Value::Object(sample)) => {
            let keys = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(found), keys(sample), "{at}");
            for (name, value) in sample {
                same_shape(&format!("{at}/{name}"), &found[name], value);
            }
        }
        (Value::Array(found), Value::Array(sample)) => {
            if let (Some(found), Some(sample)) = (found.first(), sample.first()) {
                same_shape(&format!("{at}/0"), found, sample);
            }
        }
        (Value::Null, _) => {}
        (found, sample) => assert_eq!(
            std::mem::discriminant(found),
            std::mem::discriminant(sample),
            "{at}: {found} for {sample}"
        ),
    }
}

fn check(answer: &Answer, status: StatusCode, media_type: &str, sample: &Value) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.header("content-type"), media_type);
    same_shape("", &answer.json, sample);
}

fn writable(agent: &str) -> Value {
    json!({"data": {
        "attributes": {
            "name": "string", "database_type": "postgres", "connection_mode": "direct", "host": "string",
            "port": 5432, "username": "string", "password": "string", "database": "string",
            "ssh_tunnel_host": "string", "ssh_tunnel_port": 22, "ssh_tunnel_user": "string",
            "data_time_zone": "Europe/Berlin", "require_ssl": true, "verify_ssl": false, "enabled": true,
            "max_concurrent_executions": 20, "update_schema_nightly": true, "update_schema_row_counts": true,
            "athena_region": "string", "athena_workgroup": "string", "databricks_http_path": "string",
            "snowflake_identifier": "string", "snowflake_region": "string", "snowflake_warehouse": "string",
            "bigquery_service_key": "string"},
        "relationships": {"agents": {"data": [{"id": agent, "type": "datasource_agents"}]}}}})
}

fn datasource_sample() -> Value {
    json!({
        "id": "string", "type": "datasources",
        "attributes": {
            "name": "string", "database_type": "postgres", "connection_mode": "direct", "host": "string", "port": 0,
            "username": "string", "password": "string", "database": "string", "ssh_tunnel_host": "string",
            "ssh_tunnel_port": 0, "ssh_tunnel_user": "string", "data_time_zone": "Europe/Berlin",
            "require_ssl": true, "verify_ssl": true, "enabled": true, "created_at": "2019-08-24T14:15:22Z",
            "updated_at": "2019-08-24T14:15:22Z", "schema_updated_at": "2019-08-24T14:15:22Z",
            "total_row_count": 0, "total_row_count_exact": true, "default_schema_name": "string",
            "max_concurrent_executions": 20, "server_version": "string", "update_schema_nightly": true,
            "update_schema_row_counts": true, "athena_region": "string", "athena_workgroup": "string",
            "databricks_http_path": "string", "snowflake_identifier": "string", "snowflake_region": "string",
            "snowflake_warehouse": "string", "bigquery_service_key": "string"},
        "relationships": {"agents": {"data": [{"id": "lZ21oPaLUNWJbEifEhiFTaPIWlqaaZL3jxMA7L3h5Qg", "type": "datasource_agents"}]}}})
}

fn agent_sample(secret: bool) -> Value {
    let mut sample = json!({
        "id": "string", "type": "datasource_agents",
        "attributes": {"agent_id": "string", "name": "string", "version": "string", "address": "string",
            "connected": false, "active_queries": 0, "enabled": true, "created_at": "2019-08-24T14:15:22Z",
            "updated_at": "2019-08-24T14:15:22Z"},
        "relationships": {"datasources": {"data": [{"id": "8qxn-y9ex-65vd", "type": "datasources"}]}}});
    if secret {
        sample["attributes"]["secret_key"] = json!("string");
    }
    sample
}

#[tokio::test]
async fn datasources_and_agents() {
    let world = World::new().await;
    let body = json!({"data": {"attributes": {"name": "string", "enabled": true}}});
    let made = world.post("/datasource_agents", body.clone()).await;
    check(&made, StatusCode::CREATED, JSON_API, &json!({"data": agent_sample(true)}));
    let agent = made.json["data"]["id"].as_str().unwrap().to_owned();
    assert_eq!(agent.len(), 43);
    assert_eq!(made.attribute("agent_id"), agent.as_str());
    assert_eq!(made.attribute("secret_key").as_str().unwrap().len(), 43);
    let made = world.post("/datasources", writable(&agent)).await;
    check(&made, StatusCode::CREATED, JSON_API, &json!({"data": datasource_sample()}));
    let id = made.json["data"]["id"].as_str().unwrap().to_owned();
    assert_eq!(made.attribute("created_at"), "2026-01-15T12:00:00Z");
    // What was written is read back.
    for (name, value) in writable(&agent)["data"]["attributes"].as_object().unwrap() {
        assert_eq!(made.attribute(name), value, "{name}");
    }
    let list = world.get("/datasources?include=agents").await;
    let sample = json!({"data": [datasource_sample()], "included": [agent_sample(false)]});
    check(&list, StatusCode::OK, JSON_API, &sample);
    assert_eq!(list.json["included"].as_array().unwrap().len(), 1);
    let one = world.get(&format!("/datasources/{id}?include=agents")).await;
    check(
        &one,
        StatusCode::OK,
        JSON_API,
        &json!({"data": datasource_sample(), "included": [agent_sample(false)]}),
    );
    for method in ["PUT", "PATCH"] {
        let updated = world.ask(method, &format!("/datasources/{id}")).json(&writable(&agent)).send().await;
        check(&updated, StatusCode::OK, JSON_API, &json!({"data": datasource_sample()}));
        let updated = world.ask(method, &format!("/datasource_agents/{agent}")).json(&body).send().await;
        check(&updated, StatusCode::OK, JSON_API, &json!({"data": agent_sample(false)}));
    }
    let list = world.get("/datasource_agents?include=datasources").await;
    let sample = json!({"data": [agent_sample(false)], "included": [datasource_sample()]});
    check(&list, StatusCode::OK, JSON_API, &sample);
    let one = world.get(&format!("/datasource_agents/{agent}?include=datasources")).await;
    check(
        &one,
        StatusCode::OK,
        JSON_API,
        &json!({"data": agent_sample(false), "included": [datasource_sample()]}),
    );
    assert_eq!(one.json["included"][0]["relationships"]["agents"]["data"][0]["id"], agent.as_str());
    assert!(world.get("/datasources").await.json.get("included").is_none());
}

#[tokio::test]
async fn test_refresh_and_schema() {
    let world = World::new().await;
    let id = world.datasource().await;
    let tested = world.ask("POST", &format!("/datasources/{id}/test")).send().await;
    check(&tested, StatusCode::OK, JSON, &json!({"status": "ok", "error_message": "string"}));
    assert_eq!(tested.json["status"], "ok");
    let refreshed = world.ask("POST", &format!("/datasources/{id}/refresh")).send().await;
    check(&refreshed, StatusCode::OK, JSON, &json!({"execution_id": "02ca5b65-a269-4c45-8d4a-0c74ff3ae670"}));
    let execution = refreshed.json["execution_id"].as_str().unwrap();
    let ended = world.get(&format!("/datasources/{id}/executions/{execution}?wait=30")).await;
    assert_eq!(ended.attribute("execution_type"), "schema_update");
    assert_eq!(ended.attribute("execution_status"), "completed");
    assert_eq!(world.get(&format!("/executions/{execution}/data")).await.status, StatusCode::NO_CONTENT);
    let schema = world.get(&format!("/datasources/{id}/schema?name=main")).await;
    check(&schema, StatusCode::OK, JSON, &json!({"data_key": "string", "data_access_token": "string"}));
    let seen = world.get(&format!("/datasources/{id}")).await;
    assert_eq!(seen.attribute("total_row_count"), 3);
    assert_eq!(seen.attribute("default_schema_name"), "main");
    let attributes = json!({"name": "M", "database_type": "mysql", "host": "localhost"});
    let mysql = world.made("/datasources", attributes, json!({})).await;
    let tested = world.ask("POST", &format!("/datasources/{mysql}/test")).send().await;
    assert_eq!(tested.json, json!({"status": "error", "error_message": "connection refused"}));
}

#[tokio::test]
async fn executions() {
    let world = World::new().await;
    let id = world.datasource().await;
    let body = json!({"sql_query": "select 'string'", "r_query": "", "parameters": {
        "timerange": "1712233090~1712237090", "aggregation": "second", "tz": "Europe/Berlin",
        "filters": [{"variable_name": "string", "selected_values": [0]}]}});
    let path = format!("/datasources/{id}/executions");
    let run = world.ask("POST", &path).body(JSON, &body.to_string()).accept(JSON_API).send().await;
    // The last two are extensions.
    let sample = json!({"data": {"id": "string", "type": "executions", "attributes": {
        "execution_id": "string", "execution_type": "sql_query", "execution_status": "starting",
        "result_columns": 0, "result_rows": 0, "result_size": 0, "created_at": "2019-08-24T14:15:22Z",
        "updated_at": "2019-08-24T14:15:22Z", "started_at": "2019-08-24T14:15:22Z",
        "completed_at": "2019-08-24T14:15:22Z", "error_message": "string", "error_code": "string"}}});
    check(&run, StatusCode::OK, JSON_API, &sample);
    let execution = run.json["data"]["id"].as_str().unwrap().to_owned();
    assert_eq!(run.attribute("execution_id"), execution.as_str());
    for path in [format!("{path}/{execution}"), format!("/executions/{execution}")] {
        let got = world.get(&format!("{path}?wait=30")).await;
        check(&got, StatusCode::OK, JSON_API, &sample);
        assert_eq!(got.attribute("execution_status"), "completed");
        assert_eq!((got.attribute("result_columns"), got.attribute("result_rows")), (&json!(1), &json!(2)));
        let data = world.get(&format!("{path}/data")).await;
        let sample = json!({"data_key": "string", "data_access_token": "string", "data_timestamp": 0});
        check(&data, StatusCode::OK, JSON, &sample);
        assert_eq!(data.json["data_timestamp"], 1_768_478_400);
    }
}

fn dashboard_sample() -> Value {
    let many = |kind: &str| json!({"data": [{"id": "qw1x-7w2l-7rd5", "type": kind}]});
    let mut attributes = dashboard_request()["data"]["attributes"].clone();
    let ordered = [
        "name",
        "description",
        "time_zone_config",
        "automatic_update_enabled",
        "thumbnail_enabled",
        "thumbnail_created_at",
        "prewarm",
        "published",
        "data_refresh_rate",
        "data_refresh_anchor_time",
        "is_locked",
        "default_parameters",
        "default_page_width",
        "layout",
        "floating_enabled",
        "color_scheme",
        "filters_configuration",
        "created_at",
        "updated_at",
    ];
    let mut all = serde_json::Map::new();
    for name in ordered {
        let value = match name {
            "thumbnail_created_at" | "created_at" | "updated_at" => json!("2019-08-24T14:15:22Z"),
            "published" | "floating_enabled" => json!(true),
            _ => attributes[name].take(),
        };
        all.insert(name.to_owned(), value);
    }
    json!({"id": "string", "type": "dashboards", "attributes": all, "relationships": {
        "reports": many("reports"), "filters": many("filters"), "sql_snippets": many("sql_snippets"),
        "dashboard_groups": many("dashboard_groups"),
        "dashboard_sharing_links": {"data": [{"id": "8qxn-y9ex-65vd", "type": "dashboard_sharing_links"}]},
        "user": {"data": {"id": "wej2-lzpx-84k3", "type": "users"}}, "user_groups": many("user_groups")}})
}

fn dashboard_request() -> Value {
    json!({"data": {"attributes": {
        "name": "string", "description": "string",
        "time_zone_config": {"type": "disabled", "fixed_time_zone": "Europe/Berlin", "allowed_time_zones": ["Europe/Berlin"]},
        "automatic_update_enabled": true, "thumbnail_enabled": true, "prewarm": false, "data_refresh_rate": 1440,
        "data_refresh_anchor_time": "15:42", "is_locked": false,
        "default_parameters": {"timerange": "1712233090~1712237090", "aggregation": "second", "tz": "Europe/Berlin",
            "filters": [{"variable_name": "string", "selected_values": [0]}]},
        "default_page_width": 1600,
        "layout": [{"type": "report", "id": "string", "row": 0, "column": 0, "width": 0, "height": 0}],
        "color_scheme": "scheme_1",
        "filters_configuration": {"apply_immediately": true, "aggregation_options": ["second"],
            "filter_sorting": ["string"], "hidden_parameters": ["string"]}}}})
}

#[tokio::test]
async fn dashboards() {
    let mut world = World::new().await;
    world.key = world.key_of(world.administrator().await).await;
    let made = world.post("/dashboards", dashboard_request()).await;
    check(&made, StatusCode::CREATED, JSON_API, &json!({"data": dashboard_sample()}));
    for (name, value) in dashboard_request()["data"]["attributes"].as_object().unwrap() {
        assert_eq!(made.attribute(name), value, "{name}");
    }
    let id = made.json["data"]["id"].as_str().unwrap().to_owned();
    let datasource = world.datasource().await;
    world.made("/filters", json!({"name": "f", "variable_name": "country"}), json!({})).await;
    world.made("/sql_snippets", json!({"name": "revenue", "sql": "sum(1)"}), json!({})).await;
    let relationships =
        json!({"datasource": related("datasources", &datasource), "dashboard": related("dashboards", &id)});
    let query = "select [revenue] from t where {c=country}";
    world.made("/reports", json!({"name": "r", "query": query}), relationships).await;
    let user = json!({"id": "zg6p-xee0-x9jy", "type": "users",
        "attributes": {"firstname": "string", "lastname": "string", "email": "user@example.com", "role": "viewer",
            "otp_app_enabled": false, "otp_phone_enabled": false, "created_at": "2019-08-24T14:15:22Z",
            "deactivated_at": "x", "invitation_created_at": "x", "invitation_accepted_at": "x"},
        "relationships": {"user_groups": {"data": [{"id": "qw1x-7w2l-7rd5", "type": "user_groups"}]},
            "invited_by_user": {"data": {"id": "wej2-lzpx-84k3", "type": "users"}}}});
    let got = world.get(&format!("/dashboards/{id}?include=user")).await;
    check(&got, StatusCode::OK, JSON_API, &json!({"data": dashboard_sample(), "included": [user]}));
    assert_eq!(got.json["included"][0]["attributes"]["role"], "admin");
    for name in ["reports", "filters", "sql_snippets", "user_groups"] {
        assert_eq!(got.json["data"]["relationships"][name]["data"].as_array().unwrap().len(), 1, "{name}");
    }
    let list = world.get("/dashboards").await;
    check(&list, StatusCode::OK, JSON_API, &json!({"data": [dashboard_sample()]}));
    for method in ["PUT", "PATCH"] {
        let answer = world.ask(method, &format!("/dashboards/{id}")).json(&dashboard_request()).send().await;
        check(&answer, StatusCode::OK, JSON_API, &json!({"data": dashboard_sample()}));
    }
}

#[test]
fn the_comparison_finds_differences() {
    let differs =
        std::panic::catch_unwind(|| same_shape("", &json!({"b": 1, "a": 1}), &json!({"a": 1, "b": 1})));
    assert!(differs.is_err());
}
