//! Kills the server under mixed load: no acknowledged write is lost, and every run ends. `cargo xtask faults` runs it
//! with many kills, the tests with ten on each store.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::{Client, Server, postgres_database};

/// Number of kills.
#[expect(clippy::disallowed_methods, reason = "the campaign is a longer run of the same test")]
fn kills() -> usize {
    std::env::var("LANDREEVE_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// What the server has acknowledged since the last kill.
#[derive(Default)]
struct Acknowledged {
    snippets: Mutex<Vec<String>>,
    executions: Mutex<Vec<String>>,
    answers: AtomicUsize,
}

/// Responses to wait for before a kill; by then group commits, executions and events are in progress.
const ANSWERS: usize = 60;

/// Creates snippets and runs queries until the server is gone.
async fn load(client: Arc<Client>, source: Arc<String>, worker: usize, done: Arc<Acknowledged>) {
    for number in 0_usize.. {
        let answer = if (worker + number).is_multiple_of(3) {
            let body = json!({ "sql_query": format!("select {number} as number") });
            client.try_post(&format!("/cluvio/datasources/{source}/executions"), &body).await
        } else {
            let name = format!("w{worker}n{number}");
            let body = json!({ "data": { "attributes": { "name": unique(&name), "sql": "1" } } });
            client.try_post("/cluvio/sql_snippets", &body).await
        };
        match answer {
            Some((200, body)) => done.executions.lock().unwrap().push(id(&body)),
            Some((201, body)) => done.snippets.lock().unwrap().push(id(&body)),
            // Too many waiting runs for this submitter.
            Some((429, _)) => {}
            Some((status, body)) => panic!("{status}: {body}"),
            None => return,
        }
        done.answers.fetch_add(1, Ordering::SeqCst);
    }
}

fn unique(name: &str) -> String {
    static ROUND: AtomicUsize = AtomicUsize::new(0);
    format!("s{}{name}", ROUND.fetch_add(1, Ordering::SeqCst))
}

fn id(body: &Value) -> String {
    body["data"]["id"].as_str().unwrap().to_owned()
}

async fn kills_lose_nothing(server: &mut Server) {
    server.wait_for_sample();
    let key = server.key();
    let all = server.client(&key).get("/cluvio/datasources").await.expect(200);
    let source = Arc::new(all["data"][0]["id"].as_str().unwrap().to_owned());
    let (mut snippets, mut executions) = (0, 0);
    for kill in 0..kills() {
        let done = Arc::new(Acknowledged::default());
        let client = Arc::new(server.client(&key));
        let workers: Vec<_> = (0..6)
            .map(|worker| {
                tokio::spawn(load(Arc::clone(&client), Arc::clone(&source), worker, Arc::clone(&done)))
            })
            .collect();
        while done.answers.load(Ordering::SeqCst) < ANSWERS {
            tokio::task::yield_now().await;
        }
        server.kill();
        for worker in workers {
            worker.await.unwrap();
        }
        server.restart();
        let client = server.client(&key);
        let created: Vec<String> = done.snippets.lock().unwrap().drain(..).collect();
        for id in created {
            client.get(&format!("/cluvio/sql_snippets/{id}")).await.expect(200);
            snippets += 1;
        }
        let accepted: Vec<String> = done.executions.lock().unwrap().drain(..).collect();
        for id in accepted {
            let found = client.get(&format!("/cluvio/executions/{id}?wait=30")).await.expect(200);
            let status = found["data"]["attributes"]["execution_status"].as_str().unwrap().to_owned();
            assert!(matches!(status.as_str(), "completed" | "failed"), "after kill {kill}: {found}");
            executions += 1;
        }
    }
    assert!(snippets > 0 && executions > 0, "{snippets} snippets and {executions} executions");
}

#[tokio::test]
async fn kills_lose_nothing_on_sqlite() {
    kills_lose_nothing(&mut Server::start()).await;
}

#[tokio::test]
async fn kills_lose_nothing_on_postgresql() {
    let (_, address) = postgres_database().await;
    kills_lose_nothing(&mut Server::start_with(&["--store", &address.url])).await;
}
