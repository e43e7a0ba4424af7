//! Request schemas for the document. The resources in responses have members that a client cannot set, and require
//! everything that a response always has; this derives the two request schemas from them: to create and to update.

use serde_json::{Map, Value, json};

use crate::media::JSON_API;

/// What a new resource requires; the test of the same name checks this against the server.
const REQUIRED: [(&str, &[&str]); 6] = [
    ("Dashboard", &["name"]),
    ("Datasource", &["database_type", "name"]),
    ("DatasourceAgent", &["name"]),
    ("Filter", &["name", "variable_name"]),
    ("Report", &["name"]),
    ("SqlSnippet", &["name"]),
];

const SCHEMAS: &str = "#/components/schemas/";

/// Gives each request of a resource a separate schema.
pub fn separate(document: &mut Value) {
    let schemas = document["components"]["schemas"].clone();
    let mut made = Map::new();
    let items = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for item in items.filter_map(Value::as_object_mut) {
        for (method, operation) in item.iter_mut() {
            let content = operation.get_mut("requestBody").and_then(|body| body["content"].get_mut(JSON_API));
            let Some(target) = content.and_then(|content| content["schema"].get_mut("$ref")) else {
                continue;
            };
            let Some(name) = target.as_str().and_then(resource) else { continue };
            let create = method == "post";
            let request = format!("{name}{}", if create { "Create" } else { "Update" });
            made.insert(request.clone(), body(&schemas, name, create));
            *target = format!("{SCHEMAS}{request}").into();
        }
    }
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.extend(made);
    }
}

fn resource(reference: &str) -> Option<&'static str> {
    let name = reference.strip_prefix(SCHEMAS)?.strip_prefix("Document_")?;
    REQUIRED.into_iter().map(|(known, _)| known).find(|known| *known == name)
}

fn body(schemas: &Value, name: &str, create: bool) -> Value {
    let answered = follow(schemas, &schemas[name]);
    let kind = &answered["properties"]["type"]["example"];
    let mut members = Map::new();
    members.insert("type".to_owned(), json!({ "type": "string", "enum": [kind], "example": kind }));
    if !create {
        let id = json!({ "type": "string", "description": "The id in the path." });
        members.insert("id".to_owned(), id);
    }
    let mut attributes = settable(schemas, &answered["properties"]["attributes"]);
    let required = REQUIRED.into_iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, names)| names);
    let needs = create && !required.is_empty();
    if needs {
        attributes["required"] = json!(required);
    }
    members.insert("attributes".to_owned(), attributes);
    let relationships = settable(schemas, &answered["properties"]["relationships"]);
    if relationships["properties"].as_object().is_some_and(|members| !members.is_empty()) {
        members.insert("relationships".to_owned(), relationships);
    }
    let mut data = json!({ "type": "object", "properties": members });
    if needs {
        data["required"] = json!(["attributes"]);
    }
    json!({ "type": "object", "required": ["data"], "properties": { "data": data } })
}

/// The members of an object that a client can set, none of them required.
fn settable(schemas: &Value, schema: &Value) -> Value {
    let mut schema = follow(schemas, schema).clone();
    if let Some(object) = schema.as_object_mut() {
        object.remove("required");
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.retain(|_, property| property["readOnly"] != true);
    }
    schema
}

fn follow<'a>(schemas: &'a Value, schema: &'a Value) -> &'a Value {
    let name = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix(SCHEMAS));
    name.map_or(schema, |name| &schemas[name])
}
