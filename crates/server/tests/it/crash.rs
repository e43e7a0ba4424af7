//! SIGKILL during work: acknowledged writes survive, and nothing is silently lost.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::life::SLOW;
use crate::support::{Server, postgres_database};

/// Runs each case with the metadata in SQLite and in PostgreSQL.
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&mut super::Server::start()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                let (_, address) = super::postgres_database().await;
                super::$name(&mut super::Server::start_with(&["--store", &address.url])).await;
            })*
        }
    };
}

on_both_stores![
    acknowledged_writes_survive,
    interrupted_executions_fail_with_a_reason_and_queued_ones_continue,
    events_are_delivered_after_a_crash,
];

async fn sample(client: &crate::support::Client) -> String {
    let all = client.get("/cluvio/datasources").await.expect(200);
    all["data"][0]["id"].as_str().unwrap().to_owned()
}

/// Writes from several connections until the server dies; returns the names that were acknowledged.
async fn write_until_killed(server: &mut Server, key: &str) -> HashSet<String> {
    let acknowledged = Arc::new(Mutex::new(HashSet::new()));
    let mut writers = Vec::new();
    for writer in 0..8 {
        let (client, acknowledged) = (server.client(key), Arc::clone(&acknowledged));
        writers.push(tokio::spawn(async move {
            for number in 0..10_000 {
                let name = format!("w{writer}n{number}");
                let body = json!({ "data": { "attributes": { "name": name, "sql": "1" } } });
                let request = reqwest::Client::new()
                    .post(format!("{}/cluvio/sql_snippets", client.address))
                    .header("Authorization", format!("Api {}", client.key()))
                    .header("Content-Type", "application/json")
                    .body(body.to_string());
                match request.send().await {
                    Ok(response) if response.status() == 201 => {
                        acknowledged.lock().unwrap().insert(name);
                    }
                    Ok(response) => panic!("{}", response.status()),
                    Err(_) => return,
                }
            }
        }));
    }
    // By then, group commits are in progress.
    while acknowledged.lock().unwrap().len() < 200 {
        tokio::task::yield_now().await;
    }
    server.kill();
    for writer in writers {
        writer.await.unwrap();
    }
    let acknowledged = acknowledged.lock().unwrap();
    acknowledged.clone()
}

async fn acknowledged_writes_survive(server: &mut Server) {
    let key = server.key();
    let acknowledged = write_until_killed(server, &key).await;
    server.restart();
    let found = server.client(&key).get("/cluvio/sql_snippets").await.expect(200);
    let names: HashSet<String> = found["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|snippet| snippet["attributes"]["name"].as_str().unwrap().to_owned())
        .collect();
    let lost: Vec<_> = acknowledged.difference(&names).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

async fn interrupted_executions_fail_with_a_reason_and_queued_ones_continue(server: &mut Server) {
    server.wait_for_sample();
    let key = server.key();
    let client = server.client(&key);
    let source = json!({
        "name": "narrow", "database_type": "sqlite", "database": "narrow.db", "max_concurrent_executions": 1,
        "data_time_zone": "UTC", "update_schema_nightly": false,
    });
    std::fs::copy(server.data_dir.join("sample/tpch.db"), server.data_dir.join("files/narrow.db")).unwrap();
    let narrow = client.datasource(source).await;
    let start = |sql: &str| json!({ "sql_query": sql });
    let path = format!("/cluvio/datasources/{narrow}/executions");
    let slow = client.post(&path, &start(SLOW)).await.expect(200);
    let queued = client.post(&path, &start("select 1 as one")).await.expect(200);
    assert_eq!(queued["data"]["attributes"]["execution_status"], "queued");
    let done = client.execute(&sample(&client).await, &start("select 2 as two")).await;
    server.kill();
    server.restart();

    let client = server.client(&key);
    let show = |execution: &Value| {
        format!("/cluvio/executions/{}?wait=30", execution["data"]["id"].as_str().unwrap())
    };
    let lost = client.get(&show(&slow)).await.expect(200);
    let attributes = &lost["data"]["attributes"];
    assert_eq!(attributes["execution_status"], "failed");
    assert!(attributes["error_message"].as_str().unwrap().contains("stopped before it finished"), "{lost}");
    let went_on = client.get(&show(&queued)).await.expect(200);
    assert_eq!(went_on["data"]["attributes"]["execution_status"], "completed", "{went_on}");
    let kept = client.get(&show(&done)).await.expect(200);
    assert_eq!(kept["data"]["attributes"]["execution_status"], "completed");
    let id = done["data"]["id"].as_str().unwrap();
    let grant = client.get(&format!("/cluvio/executions/{id}/data")).await.expect(200);
    let (key, token) = (grant["data_key"].as_str().unwrap(), grant["data_access_token"].as_str().unwrap());
    let rows = client.data(key, token, "application/json").await.expect(200);
    assert_eq!(rows["rows"], json!([[2]]), "the result from before the crash is available");
}

/// The schema of every acknowledged datasource is read eventually: its creation event is delivered even though the
/// server died between the change and the delivery.
async fn events_are_delivered_after_a_crash(server: &mut Server) {
    server.wait_for_sample();
    std::fs::copy(server.data_dir.join("sample/tpch.db"), server.data_dir.join("files/one.db")).unwrap();
    let key = server.key();
    let client = server.client(&key);
    let mut ids = Vec::new();
    for number in 0..10 {
        let source = json!({
            "name": format!("s{number}"), "database_type": "sqlite", "database": "one.db",
            "data_time_zone": "UTC", "update_schema_nightly": false,
        });
        ids.push(client.datasource(source).await);
    }
    // The last responses have just arrived, so not all their events can have been handled.
    server.kill();
    server.restart();
    let client = server.client(&key);
    for id in ids {
        let mut read = Value::Null;
        for _ in 0..400 {
            let found = client.get(&format!("/cluvio/datasources/{id}")).await.expect(200);
            read = found["data"]["attributes"]["schema_updated_at"].clone();
            if !read.is_null() {
                break;
            }
            crate::support::pause(std::time::Duration::from_millis(50));
        }
        assert!(!read.is_null(), "the schema of {id} was never read");
    }
}
