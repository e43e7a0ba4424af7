//! Completes an OpenAPI document with what utoipa leaves to each annotation: a description of every response and
//! operation, the list of tags, unique operation ids, and lists of words, which annotations write as the pattern
//! `^(a|b)$`. It also removes unused components.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::{Map, Value, json};

const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

pub fn complete(document: &mut Value) {
    let mut tags = BTreeSet::new();
    let items = document.get_mut("paths").and_then(Value::as_object_mut);
    for item in items.into_iter().flat_map(|items| items.values_mut()) {
        let Some(item) = item.as_object_mut() else { continue };
        distinguish(item);
        for method in METHODS {
            if let Some(Value::Object(operation)) = item.get_mut(method) {
                describe(operation);
                let names = operation.get("tags").and_then(Value::as_array).into_iter().flatten();
                tags.extend(names.filter_map(Value::as_str).map(str::to_owned));
            }
        }
    }
    if !tags.is_empty() {
        document["tags"] = tags.iter().map(|name| json!({ "name": name })).collect();
    }
    list_words(document);
    drop_unused(document);
}

/// Makes `enum` of patterns that are lists of words: an attribute of a member can only have a pattern.
fn list_words(value: &mut Value) {
    match value {
        Value::Object(members) => {
            let words = members.get("pattern").and_then(Value::as_str).and_then(words);
            if let Some(mut words) = words {
                let types = members.get("type").and_then(Value::as_array);
                if types.is_some_and(|types| types.iter().any(|name| name == "null")) {
                    words.push(Value::Null);
                }
                members.remove("pattern");
                members.insert("enum".to_owned(), Value::Array(words));
            }
            members.values_mut().for_each(list_words);
        }
        Value::Array(items) => items.iter_mut().for_each(list_words),
        _ => {}
    }
}

fn words(pattern: &str) -> Option<Vec<Value>> {
    let list = pattern.strip_prefix("^(")?.strip_suffix(")$")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '|';
    list.chars().all(plain).then(|| list.split('|').map(Value::from).collect())
}

/// Renames operations if one handler serves two methods of a path, because their ids would be the same.
fn distinguish(item: &mut Map<String, Value>) {
    let mut taken = BTreeSet::new();
    for method in METHODS {
        let Some(id) = item.get_mut(method).and_then(|operation| operation.get_mut("operationId")) else {
            continue;
        };
        let Value::String(text) = id else { continue };
        if !taken.insert(text.clone()) {
            let (first, rest) = method.split_at(1);
            *id = format!("{text}By{}{rest}", first.to_uppercase()).into();
        }
    }
}

fn describe(operation: &mut Map<String, Value>) {
    if let (None, Some(summary)) = (operation.get("description"), operation.get("summary").cloned()) {
        operation.insert("description".to_owned(), summary);
    }
    let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
    for (status, response) in responses.into_iter().flatten() {
        let Some(response) = response.as_object_mut() else { continue };
        let described =
            response.get("description").and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        if !described && !response.contains_key("$ref") {
            response.insert("description".to_owned(), meaning(status).into());
        }
    }
}

fn meaning(status: &str) -> String {
    match status {
        "200" => "The request succeeded.".to_owned(),
        "201" => "Created.".to_owned(),
        "202" => "Accepted; the work continues in the background.".to_owned(),
        "204" => "The request succeeded; there is no body.".to_owned(),
        other => {
            let known = other.parse::<StatusCode>().ok().and_then(|status| status.canonical_reason());
            format!("{}.", known.unwrap_or(other))
        }
    }
}

/// Removes schemas that nothing refers to, and those referred to only by them.
fn drop_unused(document: &mut Value) {
    loop {
        let mut used = BTreeSet::new();
        references(document, &mut used);
        let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut) else {
            return;
        };
        let before = schemas.len();
        schemas.retain(|name, _| used.contains(&format!("#/components/schemas/{name}")));
        if schemas.len() == before {
            return;
        }
    }
}

fn references(value: &Value, used: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(target)) = members.get("$ref") {
                used.insert(target.clone());
            }
            members.values().for_each(|value| references(value, used));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, used)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_in_missing_parts() {
        let mut document = json!({
            "paths": { "/things": {
                "get": { "operationId": "things", "summary": "List things", "tags": ["things"],
                    "responses": { "200": { "content": {} }, "404": {}, "409": { "description": "its own words" } } },
                "post": { "operationId": "things", "description": "own", "responses": {
                    "201": { "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Thing" } } } } } }
            } },
            "components": { "schemas": {
                "Thing": { "properties": {
                    "part": { "$ref": "#/components/schemas/Part" },
                    "kind": { "type": ["string", "null"], "pattern": "^(new|in_use)$" },
                    "name": { "type": "string", "pattern": "^([a-z]+)$" }
                } },
                "Part": {}, "Unused": { "$ref": "#/components/schemas/OnlyThere" }, "OnlyThere": {}
            } }
        });
        complete(&mut document);
        let operations = &document["paths"]["/things"];
        assert_eq!(operations["get"]["operationId"], "things");
        assert_eq!(operations["post"]["operationId"], "thingsByPost");
        assert_eq!(operations["get"]["description"], "List things");
        assert_eq!(operations["post"]["description"], "own");
        let responses = &operations["get"]["responses"];
        assert_eq!(responses["200"]["description"], "The request succeeded.");
        assert_eq!(responses["404"]["description"], "Not Found.");
        assert_eq!(responses["409"]["description"], "its own words");
        assert_eq!(document["tags"], json!([{ "name": "things" }]));
        let schemas: Vec<_> = document["components"]["schemas"].as_object().unwrap().keys().collect();
        assert_eq!(schemas, ["Thing", "Part"]);
        let members = &document["components"]["schemas"]["Thing"]["properties"];
        assert_eq!(members["kind"], json!({ "type": ["string", "null"], "enum": ["new", "in_use", null] }));
        assert_eq!(members["name"]["pattern"], "^([a-z]+)$");
    }
}
