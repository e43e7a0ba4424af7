//! Lists of any length: complete, in bounded memory, and never silently truncated. On both metadata stores.

use std::collections::BTreeSet;

use axum::body::Body;
use futures_util::StreamExt as _;
use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http::{Request, StatusCode};
use landreeve_estate::args;
use landreeve_testkit::{PAGE_ROWS, Site};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::support::World;

macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(&super::World::at(super::Site::sqlite()).await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let world = super::World::at(super::Site::postgres().await).await;
                super::$name(&world).await;
                world.site.remove().await;
            })*
        }
    };
}

on_both_stores![
    long_lists_are_streamed_in_bounded_memory,
    a_list_that_fails_later_breaks_the_connection,
    a_list_that_fails_immediately_is_an_error,
    short_lists_have_a_length,
    includes_only_related_resources,
];

/// Creates a dashboard and copies it. Returns the number of dashboards.
async fn dashboards(world: &World, copies: i64) -> i64 {
    world.made("/dashboards", json!({"name": "Orders"}), json!({})).await;
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
               INSERT INTO dashboards (id, ou_id, name, body, creator_id, created_at, updated_at) \
               SELECT d.id + n.i, d.ou_id, d.name, d.body, d.creator_id, d.created_at, d.updated_at \
               FROM n CROSS JOIN dashboards d";
    let written =
        world.estate.store().write(move |tx| Box::pin(async move { tx.exec(sql, args![copies]).await }));
    assert_eq!(written.await.unwrap().cast_signed(), copies);
    copies + 1
}

async fn ask(world: &World, path: &str) -> axum::response::Response {
    let request = Request::get(path).header(AUTHORIZATION, format!("Api {}", world.key));
    world.api.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn long_lists_are_streamed_in_bounded_memory(world: &World) {
    let count = dashboards(world, 20_000).await;
    let response = ask(world, "/dashboards").await;
    assert_eq!((response.status(), response.headers().get(CONTENT_LENGTH)), (StatusCode::OK, None));
    let (mut whole, mut largest, mut pieces) = (Vec::new(), 0, 0);
    let mut body = response.into_body().into_data_stream();
    while let Some(piece) = body.next().await {
        let piece = piece.unwrap();
        (largest, pieces) = (largest.max(piece.len()), pieces + 1);
        whole.extend_from_slice(&piece);
    }
    // Only one page is in memory at a time.
    let each = whole.len() / usize::try_from(count).unwrap();
    assert!(largest <= (each + 16) * PAGE_ROWS, "{largest} bytes in one piece");
    assert!(pieces > usize::try_from(count).unwrap() / PAGE_ROWS, "only {pieces} pieces");
    let document: Value = serde_json::from_slice(&whole).unwrap();
    let ids: Vec<&str> =
        document["data"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(i64::try_from(ids.len()).unwrap(), count);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "an item was listed twice");
}

async fn a_list_that_fails_later_breaks_the_connection(world: &World) {
    dashboards(world, 1_000).await;
    let mut body = ask(world, "/dashboards").await.into_body().into_data_stream();
    body.next().await.unwrap().unwrap();
    world.estate.store().close().await;
    let rest: Vec<_> = body.collect().await;
    assert!(rest.last().unwrap().is_err(), "it ended as if it were complete");
}

async fn a_list_that_fails_immediately_is_an_error(world: &World) {
    let key = world.key_with(&["View Filters"]).await;
    for path in ["/dashboards", "/reports", "/sql_snippets", "/datasources", "/datasource_agents"] {
        assert_eq!(world.ask("GET", path).key(&key).send().await.status, 403, "{path}");
    }
    assert_eq!(world.get("/filters?include=reports").await.status, 400);
    // The caller is cached, so that only the list fails.
    assert_eq!(world.get("/filters").await.status, 200);
    world.estate.store().close().await;
    assert_eq!(world.get("/filters").await.status, 503);
}

async fn short_lists_have_a_length(world: &World) {
    dashboards(world, 3).await;
    let response = ask(world, "/dashboards").await;
    assert!(http_body::Body::size_hint(response.body()).exact().is_some());
    let empty = world.get("/filters").await;
    assert_eq!(empty.text, r#"{"data":[]}"#);
}

async fn includes_only_related_resources(world: &World) {
    let agent = |name| json!({"data": {"attributes": {"name": name, "enabled": true}}});
    let used = world.post("/datasource_agents", agent("used")).await.json["data"]["id"].clone();
    world.post("/datasource_agents", agent("alone")).await;
    let link = json!([{"type": "datasource_agents", "id": used}]);
    for (name, agents) in [("with", link), ("without", json!([]))] {
        let attributes = json!({"name": name, "database_type": "postgres", "host": "db"});
        world.made("/datasources", attributes, json!({"agents": {"data": agents}})).await;
    }
    let names = |answer: &Value, part: &str| -> Vec<String> {
        let all = answer[part].as_array().unwrap();
        all.iter().map(|it| it["attributes"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let listed = world.get("/datasources?include=agents").await.json;
    assert_eq!(
        (names(&listed, "data"), names(&listed, "included")),
        (texts(&["with", "without"]), texts(&["used"]))
    );
    let listed = world.get("/datasource_agents?include=datasources").await.json;
    assert_eq!(
        (names(&listed, "data"), names(&listed, "included")),
        (texts(&["used", "alone"]), texts(&["with"]))
    );
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}
