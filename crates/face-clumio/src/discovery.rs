//! `GET /`: every operation with its URL, built from the table of routes.

use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value};

use crate::caller::Caller;
use crate::version::{ALL, Resource};
use crate::wire::error::ErrorBody;
use crate::wire::link::Base;
use crate::{ROUTES, Route};

/// List all operations, by resource and version
#[utoipa::path(
    get,
    path = "/",
    tag = "discovery",
    responses(
        (status = 200, body = Object, content_type = "application/api.clumio.*=v1+json", example = json!({
            "tasks": {
                "supported_versions": ["v1"],
                "v1": { "list-tasks": { "href": "/tasks", "type": "get", "templated": false } }
            }
        })),
        (status = 401, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 359, "error_message": "The authentication token is missing" }]
        })),
    )
)]
pub async fn discover(_: Caller, base: Base) -> Response {
    let mut body = Map::new();
    for resource in ALL {
        body.insert(resource.name.to_owned(), describe(&base, resource));
    }
    let media_type = "application/api.clumio.*=v1+json";
    ([(CONTENT_TYPE, media_type)], Value::Object(body).to_string()).into_response()
}

fn describe(base: &Base, resource: &Resource) -> Value {
    let mut described = Map::new();
    let versions = resource.versions.iter().map(|version| Value::String(format!("v{version}"))).collect();
    described.insert("supported_versions".to_owned(), versions);
    for version in resource.versions.iter().rev() {
        described.insert(format!("v{version}"), operations(base, resource));
    }
    Value::Object(described)
}

fn operations(base: &Base, resource: &Resource) -> Value {
    let own = |path: &str| resource_of(path) == resource.name;
    let operations = ROUTES.iter().filter(|(_, path, _)| own(path));
    operations.map(|route| (operation(resource, route), base.link(route.0, route.1).to_value())).collect()
}

/// The resource that a path belongs to: its first part, or its first two.
fn resource_of(path: &str) -> &str {
    match path {
        "/policies/assignments" => "policy-assignments",
        path if path.starts_with("/policies/definitions") => "policy-definitions",
        path => path.split('/').nth(1).unwrap_or_default(),
    }
}

/// `list-users`, `read-user`, `update-user`, …
fn operation(resource: &Resource, (method, path, _): &Route) -> String {
    if resource.name == "policy-assignments" {
        return "set-policy-assignments".to_owned();
    }
    let one = resource.name.trim_end_matches('s');
    match (*method, path.contains('{')) {
        ("GET", false) => format!("list-{}", resource.name),
        ("GET", true) => format!("read-{one}"),
        ("POST", _) => format!("create-{one}"),
        ("DELETE", _) => format!("delete-{one}"),
        (_, _) => format!("update-{one}"),
    }
}
