//! The OpenAPI documents and their pages, without a login.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::json;

use crate::support::{Ask, World};

#[tokio::test]
async fn both_servers_describe_themselves() {
    let world = World::new().await;
    for (router, scheme) in [(&world.api, "ApiKey"), (&world.data, "DataToken")] {
        let page = Ask::of(router, "GET", "/docs").send().await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.header("content-type").starts_with("text/html"));
        let document = Ask::of(router, "GET", "/openapi.json").send().await.json;
        assert_eq!(document["info"]["version"], "2024-06-01");
        assert!(document["components"]["securitySchemes"][scheme].is_object());
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path}"));
                assert!(ids.insert(id.to_owned()), "{id} twice");
                assert!(operation["responses"]["401"].is_object(), "{method} {path}");
            }
        }
        let text = document.to_string();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "no schema {name}");
        }
    }
}

/// The server requires what a schema requires for a new resource.
#[tokio::test]
async fn required_members_are_those_that_the_server_requires() {
    let world = World::new().await;
    let document = Ask::of(&world.api, "GET", "/openapi.json").send().await.json;
    for (path, item) in document["paths"].as_object().unwrap() {
        let content = &item["post"]["requestBody"]["content"]["application/vnd.api+json"]["schema"]["$ref"];
        let Some(name) = content.as_str().and_then(|reference| reference.rsplit('/').next()) else {
            continue;
        };
        let data = &document["components"]["schemas"][name]["properties"]["data"];
        assert!(data["properties"].get("id").is_none(), "{name} has an id");
        let attributes = &data["properties"]["attributes"];
        let wanted: Vec<String> = attributes["required"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|name| format!("/data/attributes/{}", name.as_str().unwrap()))
            .collect();
        let answer = world.post(path, json!({"data": {"attributes": {}}})).await;
        if wanted.is_empty() {
            assert_eq!(answer.status, StatusCode::CREATED, "{path}: {}", answer.text);
            continue;
        }
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}: {}", answer.text);
        // What else is missing depends on what was sent.
        let refused = answer.pointers();
        assert!(wanted.iter().all(|pointer| refused.contains(pointer)), "{path}: {refused:?}");
        for read_only in ["created_at", "updated_at"] {
            assert!(attributes["properties"].get(read_only).is_none(), "{name}.{read_only}");
        }
    }
}
