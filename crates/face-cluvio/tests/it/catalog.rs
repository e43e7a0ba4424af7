//! The OpenAPI documents and their pages, without a login.

use std::collections::BTreeSet;

use http::StatusCode;

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
