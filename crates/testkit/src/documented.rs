//! Checks every response that a test receives against the face's OpenAPI document.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use serde_json::Value;
use tower::ServiceExt as _;

/// Where faces serve their documents; paths in a document are relative to its folder.
const PLACES: [(&str, &str); 2] = [("", "/openapi.json"), ("/api/rest/v1", "/api/rest/v1/openapi.json")];
/// Statuses from the layers around the operations, which no operation lists.
const EVERYWHERE: [u16; 4] = [304, 405, 413, 500];

/// A router's response.
pub struct Received<'a> {
    pub method: &'a str,
    /// As requested, with the query.
    pub path: &'a str,
    pub status: u16,
    pub content_type: &'a str,
    pub body: &'a str,
}

struct Documented(Value);

static KNOWN: Mutex<Option<HashMap<u64, Arc<Documented>>>> = Mutex::new(None);

/// Panics if the router's document does not have this response for the operation.
pub async fn check(router: &Router, received: Received<'_>) {
    for (base, place) in PLACES {
        let Some(documented) = load(router, place).await else { continue };
        let path = received.path.split('?').next().unwrap_or_default();
        let Some(path) = path.strip_prefix(base) else { return };
        let path = if path.is_empty() { "/" } else { path };
        if let Some(operation) = documented.operation(received.method, path) {
            documented.hold(operation, &received);
        }
        return;
    }
}

async fn load(router: &Router, place: &str) -> Option<Arc<Documented>> {
    let request = Request::get(place).body(Body::empty()).ok()?;
    let Ok(response) = router.clone().oneshot(request).await;
    if response.status() != StatusCode::OK {
        return None;
    }
    let bytes = to_bytes(response.into_body(), 10_000_000).await.ok()?;
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_with(HashMap::new);
    let made = || Arc::new(Documented(serde_json::from_slice(&bytes).expect("the document is JSON")));
    Some(Arc::clone(known.entry(hasher.finish()).or_insert_with(made)))
}

impl Documented {
    fn operation(&self, method: &str, path: &str) -> Option<&Value> {
        let paths = self.0["paths"].as_object()?;
        let exact = paths.get_key_value(path);
        let (_, item) = exact.or_else(|| paths.iter().find(|(template, _)| fits(template, path)))?;
        item.get(method.to_ascii_lowercase())
    }

    fn hold(&self, operation: &Value, received: &Received<'_>) {
        let Received { method, path, status, body, .. } = received;
        let place = format!("{method} {path}: {status}");
        let Some(response) = operation["responses"].get(status.to_string()) else {
            assert!(EVERYWHERE.contains(status), "{place} is not in the document: {body}");
            return;
        };
        let media_type = received.content_type.split(';').next().unwrap_or_default().trim();
        let content = response["content"].as_object();
        let one = content.and_then(|all| all.get(media_type).or_else(|| all.values().next()));
        let Some(schema) = one.and_then(|content| content.get("schema")) else { return };
        if !received.content_type.contains("json") || body.is_empty() {
            return;
        }
        let value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{place}: {error}: {body}"));
        let mut faults = Vec::new();
        self.compare(schema, &value, "", &mut faults);
        assert!(faults.is_empty(), "{place} does not match the document: {faults:?}\n{body}");
    }

    /// Supports only the JSON Schema keywords that these documents use; any other is reported as a fault.
    fn compare(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let Some(keywords) = schema.as_object() else { return };
        let mut wrong = |what: String| faults.push(format!("{at}: {what}"));
        for (keyword, wanted) in keywords {
            match keyword.as_str() {
                "$ref" => {
                    let pointer = wanted.as_str().unwrap_or_default().trim_start_matches('#');
                    let target = self.0.pointer(pointer).unwrap_or_else(|| panic!("no {wanted}"));
                    self.compare(target, value, at, faults);
                    return;
                }
                "type" if !types(wanted).any(|name| is(name, value)) => {
                    wrong(format!("{value} is not of type {wanted}"))
                }
                "enum" if !wanted.as_array().is_some_and(|all| all.contains(value)) => {
                    wrong(format!("{value} is not one of {wanted}"));
                }
                "minimum" if value.as_f64() < wanted.as_f64() && value.is_number() => {
                    wrong(format!("{value} < {wanted}"))
                }
                "maximum" if value.as_f64() > wanted.as_f64() && value.is_number() => {
                    wrong(format!("{value} > {wanted}"))
                }
                "required" => {
                    let names = wanted.as_array().into_iter().flatten().filter_map(Value::as_str);
                    let missing = names.filter(|name| value.is_object() && value.get(name).is_none());
                    missing.for_each(|name| wrong(format!("{name} is missing")));
                }
                "type"
                | "enum"
                | "minimum"
                | "maximum"
                | "properties"
                | "items"
                | "oneOf"
                | "anyOf"
                | "allOf"
                | "description"
                | "example"
                | "examples"
                | "format"
                | "readOnly"
                | "title"
                | "default"
                | "additionalProperties"
                | "propertyNames"
                | "pattern"
                | "minLength"
                | "maxLength"
                | "minItems"
                | "maxItems" => {}
                other => wrong(format!("the document uses {other}, which this check does not support")),
            }
        }
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            if let Some(member) = value.get(name) {
                self.compare(schema, member, &format!("{at}/{name}"), faults);
            }
        }
        if let (Some(schema), Some(items)) = (schema.get("items"), value.as_array()) {
            for (index, item) in items.iter().enumerate() {
                self.compare(schema, item, &format!("{at}/{index}"), faults);
            }
        }
        for schema in schema["allOf"].as_array().into_iter().flatten() {
            self.compare(schema, value, at, faults);
        }
        for keyword in ["oneOf", "anyOf"] {
            let Some(choices) = schema[keyword].as_array() else { continue };
            let fits = |choice: &&Value| {
                let mut faults = Vec::new();
                self.compare(choice, value, at, &mut faults);
                faults.is_empty()
            };
            if choices.iter().find(fits).is_none() {
                faults.push(format!("{at}: {value} does not match any schema of {keyword}"));
            }
        }
    }
}

fn types(wanted: &Value) -> impl Iterator<Item = &str> {
    let several = wanted.as_array().into_iter().flatten();
    several.chain(wanted.is_string().then_some(wanted)).filter_map(Value::as_str)
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the document has the type {other}"),
    }
}

fn fits(template: &str, path: &str) -> bool {
    let (mut template, mut path) = (template.split('/'), path.split('/'));
    loop {
        match (template.next(), path.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given))
                if wanted == given || (wanted.starts_with('{') && !given.is_empty()) => {}
            _ => return false,
        }
    }
}
