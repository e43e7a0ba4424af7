//! Executions from a client's point of view; also reports and options of drop-downs, which run statements.

use http::StatusCode;
use serde_json::json;

use crate::support::{LIMITS, World, related};

#[tokio::test]
async fn a_failure_has_the_message_of_the_database() {
    let world = World::new().await;
    let datasource = world.datasource().await;
    let (id, attributes) = world.ran(&datasource, "select * from broken").await;
    assert_eq!(attributes["execution_status"], "failed");
    assert_eq!(attributes["error_message"], "relation \"broken\" does not exist");
    assert_eq!((&attributes["error_code"], &attributes["error_position"]), (&json!("42P01"), &json!(15)));
    assert_eq!(attributes["result_rows"], json!(null));
    let data = world.get(&format!("/executions/{id}/data")).await;
    assert_eq!((data.status, data.text.as_str()), (StatusCode::NO_CONTENT, ""));
}

#[tokio::test]
async fn cancel_and_poll() {
    let world = World::new().await;
    let datasource = world.datasource().await;
    let path = format!("/datasources/{datasource}/executions");
    for below in [path.clone(), "/executions".to_owned()] {
        let run = world.post(&path, json!({"sql_query": "select slow"})).await;
        let id = run.json["data"]["id"].as_str().unwrap();
        let status = run.attribute("execution_status").as_str().unwrap();
        assert!(["queued", "starting", "running"].contains(&status));
        assert_eq!(world.get(&format!("{below}/{id}/data")).await.status, StatusCode::NO_CONTENT);
        let cancelled = world.ask("POST", &format!("{below}/{id}/cancel")).send().await;
        assert_eq!(cancelled.status, StatusCode::OK, "{}", cancelled.text);
        let ended = world.get(&format!("{below}/{id}?wait=30")).await;
        assert_eq!(ended.attribute("execution_status"), "cancelled", "{}", ended.text);
        let again = world.ask("POST", &format!("{below}/{id}/cancel")).send().await;
        assert_eq!(again.status, StatusCode::CONFLICT);
        again.pointers();
    }
}

/// One runs, and the others wait for its place in the lane.
#[tokio::test]
async fn disabling_or_deleting_a_datasource_ends_its_statements() {
    let world = World::new().await;
    for delete in [false, true] {
        let datasource = world.datasource().await;
        let path = format!("/datasources/{datasource}");
        world.patch(&path, json!({"data": {"attributes": {"max_concurrent_executions": 1}}})).await;
        let mut ids = Vec::new();
        for _ in 0..3 {
            let run = world.post(&format!("{path}/executions"), json!({"sql_query": "select slow"})).await;
            ids.push(run.json["data"]["id"].as_str().unwrap().to_owned());
        }
        let ended = if delete {
            world.ask("DELETE", &path).send().await
        } else {
            world.patch(&path, json!({"data": {"attributes": {"enabled": false}}})).await
        };
        assert!(ended.status.is_success(), "{}", ended.text);
        for id in ids {
            let ended = world.get(&format!("/executions/{id}?wait=30")).await;
            assert_eq!(ended.attribute("execution_status"), "cancelled", "{}", ended.text);
            let why = if delete { "its datasource was deleted" } else { "its datasource was disabled" };
            assert_eq!(ended.attribute("error_message"), why, "{}", ended.text);
        }
    }
}

#[tokio::test]
async fn an_execution_is_found_only_under_its_datasource() {
    let world = World::new().await;
    let (one, two) = (world.datasource().await, world.datasource().await);
    let (id, _) = world.ran(&one, "select 1").await;
    for path in ["", "/data"] {
        assert_eq!(
            world.get(&format!("/datasources/{one}/executions/{id}{path}")).await.status,
            StatusCode::OK
        );
        let other = world.get(&format!("/datasources/{two}/executions/{id}{path}")).await;
        assert_eq!(other.status, StatusCode::NOT_FOUND);
    }
    let shouted = id.to_uppercase();
    assert_eq!(world.get(&format!("/executions/{shouted}")).await.status, StatusCode::OK);
    let bare = id.replace('-', "");
    assert_eq!(world.get(&format!("/executions/{bare}")).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn numbers_keep_their_digits() {
    let world = World::new().await;
    let manual = r#"{"data":{"attributes":{"name":"f","variable_name":"f","value_type":"number",
        "values":[0.12345678901234567890,9007199254740993,1.50]}}}"#;
    let made = world.ask("POST", "/filters").body("application/json", manual).send().await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let id = made.json["data"]["id"].as_str().unwrap().to_owned();
    assert!(made.text.contains("[0.12345678901234567890,9007199254740993,1.50]"), "{}", made.text);
    let got = world.get(&format!("/filters/{id}")).await;
    // The store returns what a double cannot hold as text, with all its digits.
    assert!(got.text.contains("[\"0.12345678901234567890\",9007199254740993,\"1.50\"]"), "{}", got.text);
    let datasource = world.datasource().await;
    let run = r#"{"sql_query":"select 1 where {x=f}","parameters":{"filters":[{"variable_name":"f",
        "selected_values":[0.12345678901234567890]}]}}"#;
    let path = format!("/datasources/{datasource}/executions");
    let answer = world.ask("POST", &path).body("application/json", run).send().await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let other = run.replace("567890]", "567891]");
    let answer = world.ask("POST", &path).body("application/json", &other).send().await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.text);
}

#[tokio::test]
async fn a_report_runs_with_its_dashboards_defaults() {
    let world = World::new().await;
    let datasource = world.datasource().await;
    let zone = json!({"type": "fixed", "fixed_time_zone": "Europe/Berlin"});
    let dashboard =
        world.made("/dashboards", json!({"name": "d", "time_zone_config": zone}), json!({})).await;
    let relationships = json!({"datasource": related("datasources", &datasource),
        "dashboard": related("dashboards", &dashboard)});
    let attributes = json!({"name": "r", "query": "select 1 where {d=timerange}", "chart_type": "table",
        "chart_configuration": {"b": [1, 2.5], "a": null}});
    let report = world.made("/reports", attributes.clone(), relationships).await;
    let got = world.get(&format!("/reports/{report}")).await;
    for (name, value) in attributes.as_object().unwrap() {
        assert_eq!(got.attribute(name), value, "{name}");
    }
    let path = format!("/reports/{report}/run?wait=30");
    for body in ["", "{}", r#"{"parameters":{"timerange":"1712233090~1712237090"}}"#] {
        let run = world.ask("POST", &path).body("", body).send().await;
        assert_eq!(run.status, StatusCode::OK, "{}", run.text);
        assert_eq!(run.attribute("execution_status"), "completed");
        let id = run.json["data"]["id"].as_str().unwrap();
        let access = world.get(&format!("/executions/{id}/data")).await.json;
        let data = format!("/data/{}", access["data_key"].as_str().unwrap());
        let answer = world.fetch(&data, access["data_access_token"].as_str().unwrap()).send().await;
        assert!(answer.text.contains("Europe/Berlin"), "{}", answer.text);
    }
    let wrong = world.post(&path, json!({"parameters": {"tz": "America/New_York"}})).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(wrong.pointers(), ["/parameters/tz"]);
    let listed = world.get(&format!("/reports?dashboard={dashboard}")).await;
    assert_eq!(listed.json["data"].as_array().unwrap().len(), 1);
    assert_eq!(
        world.ask("DELETE", &format!("/reports/{report}")).send().await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(world.get(&format!("/reports/{report}")).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn options_of_drop_downs() {
    let world = World::new().await;
    let datasource = world.datasource().await;
    let manual = json!({"name": "f", "variable_name": "f", "values": ["F", 2, true], "value_names": ["Finished", null, "Yes"]});
    let manual = world.made("/filters", manual, json!({})).await;
    let expected = json!({"values": ["F", 2, true], "value_names": ["Finished", "2", "Yes"]});
    let got = world.get(&format!("/filters/{manual}/options")).await;
    assert_eq!((got.json, got.headers["content-type"].to_str().unwrap()), (expected, "application/json"));
    for kind in ["static_sql", "dynamic_sql"] {
        let attributes =
            json!({"name": kind, "variable_name": kind, "options_type": kind, "query": "select n from t"});
        let relationships = json!({"datasource": related("datasources", &datasource)});
        let id = world.made("/filters", attributes, relationships).await;
        let got = world.post(&format!("/filters/{id}/options"), json!({"parameters": {}})).await;
        assert_eq!(got.json, json!({"values": [1, 2], "value_names": ["1", "2"]}), "{}", got.text);
    }
    let attributes =
        json!({"name": "x", "variable_name": "x", "options_type": "dynamic_sql", "query": "select broken"});
    let relationships = json!({"datasource": related("datasources", &datasource)});
    let id = world.made("/filters", attributes, relationships).await;
    let got = world.get(&format!("/filters/{id}/options")).await;
    assert_eq!((got.status, got.pointers()), (StatusCode::UNPROCESSABLE_ENTITY, vec![String::new()]));
    assert!(got.text.contains("relation \\\"broken\\\" does not exist"), "{}", got.text);
    let text = json!({"name": "t", "variable_name": "t", "control_type": "text_input"});
    let text = world.made("/filters", text, json!({})).await;
    assert_eq!(world.get(&format!("/filters/{text}/options")).await.status, StatusCode::CONFLICT);
}

/// They are not runs, but end like runs.
#[tokio::test]
async fn disabling_a_datasource_ends_statements_for_options() {
    let world = World::new().await;
    let datasource = world.datasource().await;
    let attributes =
        json!({"name": "s", "variable_name": "s", "options_type": "dynamic_sql", "query": "select slow"});
    let relationships = json!({"datasource": related("datasources", &datasource)});
    let id = world.made("/filters", attributes, relationships).await;
    let path = format!("/filters/{id}/options");
    let disable = async {
        while !LIMITS.lock().unwrap().iter().any(|(sql, _)| sql.contains("slow")) {
            tokio::task::yield_now().await;
        }
        let change = json!({"data": {"attributes": {"enabled": false}}});
        world.patch(&format!("/datasources/{datasource}"), change).await
    };
    let (options, disabled) = tokio::join!(world.get(&path), disable);
    assert_eq!(disabled.status, StatusCode::OK, "{}", disabled.text);
    assert_eq!(options.status, StatusCode::CONFLICT, "{}", options.text);
    assert!(options.text.contains("the datasource was disabled"), "{}", options.text);
}

/// Three drop-downs, each depending on the next: the time one takes is not available to the others.
#[tokio::test]
async fn options_that_depend_on_one_another_share_a_deadline() {
    let world = World::new().await;
    let datasource = world.datasource().await;
    let relationships = json!({"datasource": related("datasources", &datasource)});
    let mut last = String::new();
    for (name, query) in [
        ("c", "select n from chain"),
        ("b", "select n from chain where {n=c}"),
        ("a", "select n from chain where {n=b}"),
    ] {
        let attributes = json!({
            "name": name, "variable_name": name, "value_type": "integer", "options_type": "dynamic_sql", "query": query,
        });
        last = world.made("/filters", attributes, relationships.clone()).await;
    }
    let chosen = |name: &str| json!({"variable_name": name, "selected_values": [1]});
    let inputs = json!({"parameters": {"filters": [chosen("b"), chosen("c")]}});
    let got = world.post(&format!("/filters/{last}/options"), inputs).await;
    assert_eq!(got.json["values"], json!([1, 2]), "{}", got.text);
    let asked = LIMITS.lock().unwrap().clone();
    let limits: Vec<_> =
        asked.iter().filter(|(sql, _)| sql.contains("chain")).map(|(_, limit)| *limit).collect();
    assert_eq!(limits.len(), 3, "{asked:?}");
    assert!(limits[0] <= std::time::Duration::from_secs(15), "{limits:?}");
    assert!(
        limits.is_sorted_by(|one, next| one > next),
        "each has the time left by the ones before it: {limits:?}"
    );
}
