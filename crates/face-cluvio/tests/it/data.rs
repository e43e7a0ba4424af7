//! The data server: forms, encodings, caches, schemas.

use http::StatusCode;
use serde_json::json;

use crate::support::World;

async fn access(world: &World, path: &str) -> (String, String) {
    let access = world.get(path).await.json;
    let text = |name: &str| access[name].as_str().unwrap_or_else(|| panic!("{access}")).to_owned();
    (text("data_key"), text("data_access_token"))
}

#[tokio::test]
async fn rows_have_the_format_of_accept() {
    let world = World::new().await;
    let datasource = world.datasource().await;
    let (id, _) = world.ran(&datasource, "select 1").await;
    let (key, token) = access(&world, &format!("/executions/{id}/data")).await;
    let forms = [
        ("", "application/json", "Json"),
        ("*/*", "application/json", "Json"),
        ("text/csv", "text/csv; charset=utf-8", "Csv"),
        ("application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.stream", "ArrowStream"),
        ("application/vnd.apache.parquet", "application/vnd.apache.parquet", "Parquet"),
    ];
    for path in
        [format!("/data/{key}"), format!("/{key}"), format!("/executions/{key}"), format!("/schema/{key}")]
    {
        for (accept, media_type, word) in forms {
            let answer = world.fetch(&path, &token).accept(accept).send().await;
            assert_eq!(answer.status, StatusCode::OK, "{path} {accept}: {}", answer.text);
            assert_eq!(answer.header("content-type"), media_type);
            assert_eq!(answer.text, format!("{word} 2 false UTC ,"));
            assert_eq!(answer.header("last-modified"), "Thu, 15 Jan 2026 12:00:00 GMT");
            assert_eq!(answer.header("vary"), "Accept");
            let tag = answer.header("etag").to_owned();
            let again = world.fetch(&path, &token).accept(accept).header("if-none-match", &tag).send().await;
            assert_eq!((again.status, again.text.as_str()), (StatusCode::NOT_MODIFIED, ""));
        }
    }
    let path = format!("/data/{key}?integers=string");
    assert_eq!(world.fetch(&path, &token).send().await.text, "Json 2 true UTC ,");
    let path = format!("/data/{key}?integers=roman");
    let answer = world.fetch(&path, &token).send().await;
    assert_eq!(
        (answer.status, answer.pointers()),
        (StatusCode::UNPROCESSABLE_ENTITY, vec!["integers".to_owned()])
    );
    let answer = world.fetch(&format!("/data/{key}"), &token).accept("text/html").send().await;
    assert_eq!(answer.status, StatusCode::NOT_ACCEPTABLE);
}

#[tokio::test]
async fn a_head_request_has_the_headers_and_no_body() {
    let world = World::new().await;
    let datasource = world.datasource().await;
    let (id, _) = world.ran(&datasource, "select 1").await;
    let (key, token) = access(&world, &format!("/executions/{id}/data")).await;
    let auth = format!("Data {token}");
    let answer =
        crate::support::Ask::of(&world.data, "HEAD", &format!("/data/{key}")).auth(Some(&auth)).send().await;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, ""));
    assert!(!answer.header("etag").is_empty());
}

#[tokio::test]
async fn data_is_gone_after_a_day() {
    let world = World::new().await;
    let datasource = world.datasource().await;
    let (id, _) = world.ran(&datasource, "select 1").await;
    world.clock.seconds(86_390);
    let (key, token) = access(&world, &format!("/executions/{id}/data")).await;
    assert_eq!(world.fetch(&format!("/data/{key}"), &token).send().await.status, StatusCode::OK);
    world.clock.seconds(20);
    let answer = world.fetch(&format!("/data/{key}"), &token).send().await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    answer.pointers();
    for path in [format!("/executions/{id}"), format!("/executions/{id}/data")] {
        assert_eq!(world.get(&path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn schemas_can_be_read_whole_or_singly() {
    let world = World::new().await;
    let id = world.datasource().await;
    let (key, token) = access(&world, &format!("/datasources/{id}/schema")).await;
    assert_eq!(world.fetch(&format!("/schema/{key}"), &token).send().await.status, StatusCode::NOT_FOUND);
    let refreshed = world.ask("POST", &format!("/datasources/{id}/refresh")).send().await;
    let execution = refreshed.json["execution_id"].as_str().unwrap().to_owned();
    world.get(&format!("/executions/{execution}?wait=30")).await;
    let main = json!({"name": "main", "default": true, "tables": [{"name": "orders", "kind": "table", "row_count": 3,
        "row_count_exact": true, "columns": [{"name": "id", "type": "bigint", "nullable": false, "position": 1}]}]});
    let whole = world.fetch(&format!("/schema/{key}"), &token).send().await;
    let other = json!({"name": "other", "default": false, "tables": []});
    assert_eq!(whole.text, json!({"schemas": [main, other]}).to_string());
    let (key, token) = access(&world, &format!("/datasources/{id}/schema?name=main")).await;
    assert_eq!(world.fetch(&format!("/data/{key}"), &token).send().await.text, main.to_string());
    let answer = world.fetch(&format!("/data/{key}"), &token).accept("text/csv").send().await;
    assert_eq!(answer.status, StatusCode::NOT_ACCEPTABLE);
    let (key, token) = access(&world, &format!("/datasources/{id}/schema?name=none")).await;
    assert_eq!(world.fetch(&format!("/schema/{key}"), &token).send().await.status, StatusCode::NOT_FOUND);
}
