//! Adds to many operations what would be tedious to write on each: the errors that they can return, and examples with
//! ids from the running estate.

use std::collections::btree_map::Entry;

use serde_json::Value;
use utoipa::openapi::link::LinkBuilder;
use utoipa::openapi::path::{HttpMethod, Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, ResponseBuilder};

/// Which operations can return an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// All operations.
    Always,
    /// Operations that authenticate the caller.
    Caller,
    /// Operations with an id in the path.
    Named,
    /// Operations with input: a query or a body.
    Input,
    /// Operations with a request body.
    Body,
    /// Operations that change something.
    Change,
    /// Operations with a response body.
    Answer,
}

/// An error status of a dialect, and what it means there.
#[derive(Debug, Clone, Copy)]
pub struct Refusal(pub u16, pub When, pub &'static str);

/// Adds the errors of a dialect to its operations. `schema` is the component that describes the body of all of them. If
/// an operation already describes a status, its description stays.
pub fn refuse(document: &mut OpenApi, media_type: &str, schema: &str, refusals: &[Refusal]) {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            for Refusal(status, when, meaning) in refusals {
                if !applies(*when, &method, path, operation) {
                    continue;
                }
                let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name(schema))));
                let response =
                    ResponseBuilder::new().description(*meaning).content(media_type, content).build();
                match operation.responses.responses.entry(status.to_string()) {
                    Entry::Vacant(vacant) => drop(vacant.insert(RefOr::T(response))),
                    Entry::Occupied(mut own) => {
                        if let RefOr::T(own) = own.get_mut()
                            && own.description.is_empty()
                        {
                            (*meaning).clone_into(&mut own.description);
                        }
                    }
                }
            }
        }
    }
}

/// Adds to what the JSON body of a POST requires, where methods share a schema but not what they require. The schema must
/// be inline.
pub fn require(document: &mut Value, path: &str, names: &[&str]) {
    let schema = &mut document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"];
    if !schema["required"].is_array() {
        schema["required"] = Value::Array(Vec::new());
    }
    if let Some(required) = schema["required"].as_array_mut() {
        required.extend(names.iter().map(|name| Value::from(*name)));
    }
}

fn own<T>(found: &RefOr<T>) -> Option<&T> {
    match found {
        RefOr::T(own) => Some(own),
        RefOr::Ref(_) => None,
    }
}

fn applies(when: When, method: &HttpMethod, path: &str, operation: &Operation) -> bool {
    let has = |place: &ParameterIn| {
        let parameters = operation.parameters.iter().flatten();
        parameters.filter_map(own).any(|parameter| parameter.parameter_in == *place)
    };
    match when {
        When::Always => true,
        When::Caller => !is_open(operation),
        When::Named => path.contains('{'),
        When::Input => operation.request_body.is_some() || has(&ParameterIn::Query),
        When::Body => operation.request_body.is_some(),
        When::Answer => operation.responses.responses.iter().any(|(status, answer)| {
            status.starts_with('2') && matches!(answer, RefOr::T(answer) if !answer.content.is_empty())
        }),
        When::Change => !matches!(method, HttpMethod::Get | HttpMethod::Head),
    }
}

/// Whether the operation is marked as needing no credential.
fn is_open(operation: &Operation) -> bool {
    let empty =
        |requirement| serde_json::to_value(requirement).is_ok_and(|value| value == serde_json::json!({}));
    operation.security.as_ref().is_some_and(|all| all.iter().all(empty))
}

/// Sets the example of a path parameter to an existing id, in the operations that `concerned` selects.
pub fn example(
    document: &mut OpenApi,
    parameter: &str,
    value: &str,
    concerned: impl Fn(&HttpMethod, &str) -> bool,
) {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            if !concerned(&method, path) {
                continue;
            }
            for found in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(found) = found
                    && found.name == parameter
                    && found.parameter_in == ParameterIn::Path
                {
                    let filled = ParameterBuilder::from(found.clone()).example(Some(value.into()));
                    *found = filled.build();
                }
            }
        }
    }
}

/// Replaces a placeholder in the examples of request bodies with an existing id.
pub fn fill(document: &mut OpenApi, placeholder: &str, value: &str) {
    let bodies = document.paths.paths.values_mut().flat_map(operations);
    for body in bodies.filter_map(|(_, operation)| operation.request_body.as_mut()) {
        let RefOr::T(body) = body else { continue };
        for content in body.content.values_mut() {
            let RefOr::T(content) = content else { continue };
            content.example.iter_mut().for_each(|example| replace(example, placeholder, value));
            for named in content.examples.values_mut() {
                if let RefOr::T(named) = named {
                    named.value.iter_mut().for_each(|example| replace(example, placeholder, value));
                }
            }
        }
    }
}

fn replace(example: &mut Value, placeholder: &str, value: &str) {
    match example {
        Value::String(text) if text == placeholder => value.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, placeholder, value)),
        Value::Object(members) => members.values_mut().for_each(|item| replace(item, placeholder, value)),
        _ => {}
    }
}

/// Links an operation to those that follow it: the value at `pointer` in its response is their parameter.
pub fn follow(document: &mut OpenApi, operation_id: &str, parameter: &str, pointer: &str, next: &[&str]) {
    let items = document.paths.paths.values_mut();
    let found = items.flat_map(operations).map(|(_, operation)| operation);
    for operation in found.filter(|known| known.operation_id.as_deref() == Some(operation_id)) {
        let Some(RefOr::T(answer)) = operation.responses.responses.get_mut("200") else { continue };
        for id in next {
            let value = format!("$response.body#{pointer}");
            let link = LinkBuilder::new().operation_id(*id).parameter(parameter, value).build();
            answer.links.insert((*id).to_owned(), RefOr::T(link));
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    let all = [
        (HttpMethod::Get, &mut item.get),
        (HttpMethod::Put, &mut item.put),
        (HttpMethod::Post, &mut item.post),
        (HttpMethod::Patch, &mut item.patch),
        (HttpMethod::Delete, &mut item.delete),
    ];
    all.into_iter().filter_map(|(method, found)| found.as_mut().map(|operation| (method, operation)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> OpenApi {
        serde_json::from_value(json!({
            "openapi": "3.1.0", "info": { "title": "t", "version": "1" },
            "paths": {
                "/open": { "get": { "security": [{}], "responses": {} } },
                "/things": {
                    "get": { "responses": {}, "parameters": [{ "name": "limit", "in": "query", "required": false }] },
                    "post": { "operationId": "make",
                        "requestBody": { "content": { "application/json": { "example": { "of": ["its-id"] } } } },
                        "responses": { "200": { "description": "made", "content": { "text/plain": {} } }, "409": { "description": "its own words" } } }
                },
                "/things/{id}": {
                    "get": { "responses": {}, "parameters": [{ "name": "id", "in": "path", "required": true }] },
                    "delete": { "responses": {}, "parameters": [{ "name": "id", "in": "path", "required": true }] }
                }
            }
        }))
        .unwrap()
    }

    fn written(document: &OpenApi) -> Value {
        serde_json::to_value(document).unwrap()
    }

    #[test]
    fn operations_list_the_errors_they_can_return() {
        const ALL: [Refusal; 7] = [
            Refusal(406, When::Answer, "form"),
            Refusal(503, When::Always, "down"),
            Refusal(401, When::Caller, "who"),
            Refusal(404, When::Named, "no"),
            Refusal(422, When::Input, "wrong"),
            Refusal(413, When::Body, "long"),
            Refusal(409, When::Change, "clash"),
        ];
        let mut document = document();
        refuse(&mut document, "application/json", "Problem", &ALL);
        let paths = &written(&document)["paths"];
        let statuses = |path: &str, method: &str| {
            let found = paths[path][method]["responses"].as_object().unwrap();
            found.keys().cloned().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(statuses("/open", "get"), "503");
        assert_eq!(statuses("/things", "get"), "401 422 503");
        assert_eq!(statuses("/things", "post"), "200 401 406 409 413 422 503");
        assert_eq!(statuses("/things/{id}", "get"), "401 404 503");
        assert_eq!(statuses("/things/{id}", "delete"), "401 404 409 503");
        let clash = &paths["/things"]["post"]["responses"]["409"];
        assert_eq!(clash["description"], "its own words");
        let body = &paths["/things/{id}"]["get"]["responses"]["404"]["content"]["application/json"]["schema"];
        assert_eq!(body["$ref"], "#/components/schemas/Problem");
    }

    #[test]
    fn a_method_requires_more_than_its_schema() {
        let mut document = written(&document());
        require(&mut document, "/things", &["name"]);
        require(&mut document, "/things", &["kind"]);
        let content = &document["paths"]["/things"]["post"]["requestBody"]["content"];
        assert_eq!(content["application/json"]["schema"]["required"], json!(["name", "kind"]));
    }

    #[test]
    fn fills_in_examples_and_links() {
        let mut document = document();
        example(&mut document, "id", "a-1", |method, _| *method != HttpMethod::Delete);
        fill(&mut document, "its-id", "a-1");
        follow(&mut document, "make", "id", "/data/id", &["show"]);
        let paths = &written(&document)["paths"];
        assert_eq!(paths["/things/{id}"]["get"]["parameters"][0]["example"], "a-1");
        assert!(paths["/things/{id}"]["delete"]["parameters"][0].get("example").is_none());
        let body = &paths["/things"]["post"]["requestBody"]["content"]["application/json"]["example"];
        assert_eq!(*body, json!({ "of": ["a-1"] }));
        let link = &paths["/things"]["post"]["responses"]["200"]["links"]["show"];
        assert_eq!(
            *link,
            json!({ "operationId": "show", "parameters": { "id": "$response.body#/data/id" } })
        );
    }
}
