//! `GET /`: every operation with its URL, built from the OpenAPI document.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value};
use utoipa::openapi::OpenApi;

use crate::caller::Caller;
use crate::version::{ALL, Resource};
use crate::wire::error::ErrorBody;
use crate::wire::link::Base;

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
pub async fn discover(_: Caller, State(operations): State<Operations>, base: Base) -> Response {
    let mut body = Map::new();
    for resource in ALL {
        body.insert(resource.name.to_owned(), describe(&base, resource, &operations));
    }
    let media_type = "application/api.clumio.*=v1+json";
    ([(CONTENT_TYPE, media_type)], Value::Object(body).to_string()).into_response()
}

/// Every operation of the face, as its document has it: the tag names the resource.
#[derive(Debug, Clone, Default)]
pub struct Operations(Arc<[Operation]>);

#[derive(Debug)]
struct Operation {
    resource: String,
    name: String,
    method: &'static str,
    path: String,
}

impl Operation {
    /// `None`: this version does not have it.
    fn name_in(&self, version: u32) -> Option<&str> {
        match ONLY.iter().find(|only| only.0 == self.name) {
            Some((_, only, name)) => (*only == version).then_some(name),
            None => Some(&self.name),
        }
    }
}

impl Operations {
    pub fn of(document: &OpenApi) -> Operations {
        let mut all = Vec::new();
        for (path, item) in &document.paths.paths {
            let methods = [
                ("get", &item.get),
                ("post", &item.post),
                ("put", &item.put),
                ("patch", &item.patch),
                ("delete", &item.delete),
            ];
            for (method, operation) in methods {
                let Some(operation) = operation else { continue };
                let tag = operation.tags.as_ref().and_then(|tags| tags.first());
                if let (Some(tag), Some(name)) = (tag, &operation.operation_id) {
                    let (resource, name, path) = (tag.clone(), name.clone(), path.clone());
                    all.push(Operation { resource, name, method, path });
                }
            }
        }
        Operations(all.into())
    }
}

/// Operations that only one version has, with the dialect's own name.
const ONLY: [(&str, u32, &str); 2] = [
    ("change-password", 2, "change-password"),
    // Two operations of a document cannot have the same name.
    ("change-password-v1", 1, "change-password"),
];

fn describe(base: &Base, resource: &Resource, operations: &Operations) -> Value {
    let mut described = Map::new();
    let versions = resource.versions.iter().map(|version| Value::String(format!("v{version}"))).collect();
    described.insert("supported_versions".to_owned(), versions);
    let own = operations.0.iter().filter(|operation| operation.resource == resource.name);
    let own: Vec<&Operation> = own.collect();
    for version in resource.versions.iter().rev() {
        let named = own.iter().filter_map(|operation| Some((operation.name_in(*version)?, *operation)));
        let links = named.map(|(name, operation)| {
            (name.to_owned(), base.link(operation.method, &operation.path).to_value())
        });
        described.insert(format!("v{version}"), Value::Object(links.collect()));
    }
    Value::Object(described)
}
