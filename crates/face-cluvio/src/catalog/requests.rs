//! Request schemas for the document. The resources in responses have members that a client cannot set, and require
//! everything that a response always has; this derives the two request schemas from them: to create and to update.

use landreeve_core::datasource::DatabaseType;
use serde_json::{Map, Value, json};

use crate::media::JSON_API;

/// What a new resource requires: attributes, and relationships.
const NEW: [(&str, &[&str], &[&str]); 6] = [
    ("Dashboard", &["name"], &[]),
    ("Datasource", &["database_type", "name"], &[]),
    ("DatasourceAgent", &["name"], &[]),
    ("Filter", &["name", "variable_name"], &[]),
    ("Report", &["name"], &["datasource"]),
    ("SqlSnippet", &["name"], &[]),
];

/// What other objects in requests require.
const REQUIRED: [(&str, &[&str]); 3] = [
    ("FilterInput", &["variable_name"]),
    ("LayoutItem", &["type", "row", "column", "width", "height"]),
    ("RunExecution", &["sql_query"]),
];

/// The bodies that are not documents about a resource.
const PLAIN: [&str; 3] = ["OrganizationUpdate", "Parameters", "RunExecution"];

/// The types of the resources that relationships lead to.
const RELATED: [(&str, &str); 3] =
    [("agents", "datasource_agents"), ("dashboard", "dashboards"), ("datasource", "datasources")];

/// Resources in one relationship.
const MAX_RELATED: usize = 1_000;

const SCHEMAS: &str = "#/components/schemas/";

/// Gives each request of a resource a separate schema. `types` are those that a datasource can have.
pub fn separate(document: &mut Value, types: &[DatabaseType]) {
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
            let mut body = body(&schemas, name, create);
            let attributes = &mut body["properties"]["data"]["properties"]["attributes"]["properties"];
            if let Some(member) = attributes.get_mut("database_type") {
                member["enum"] = types.iter().map(|known| known.as_str()).collect();
            }
            made.insert(request.clone(), body);
            *target = format!("{SCHEMAS}{request}").into();
        }
    }
    for name in PLAIN {
        made.insert(name.to_owned(), settable(&schemas, &schemas[name], Some(name)));
    }
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.extend(made);
    }
}

fn resource(reference: &str) -> Option<&'static str> {
    let name = reference.strip_prefix(SCHEMAS)?.strip_prefix("Document_")?;
    NEW.into_iter().map(|(known, ..)| known).find(|known| *known == name)
}

fn body(schemas: &Value, name: &str, create: bool) -> Value {
    let kind = &schemas[name]["properties"]["type"]["example"];
    let part = |part: &str| settable(schemas, &schemas[name]["properties"][part], None);
    let mut members = Map::new();
    members.insert("type".to_owned(), json!({ "type": "string", "enum": [kind], "example": kind }));
    if !create {
        let id = json!({ "type": "string", "description": "The id in the path." });
        members.insert("id".to_owned(), id);
    }
    members.insert("attributes".to_owned(), part("attributes"));
    let related = part("relationships");
    if related["properties"].as_object().is_some_and(|members| !members.is_empty()) {
        members.insert("relationships".to_owned(), related);
    }
    let mut required = Vec::new();
    let new = NEW.into_iter().find(|(known, ..)| create && *known == name);
    for (part, names) in
        new.into_iter().flat_map(|(_, own, others)| [("attributes", own), ("relationships", others)])
    {
        if !names.is_empty() {
            members[part]["required"] = json!(names);
            required.push(part);
        }
    }
    let mut data = json!({ "type": "object", "properties": members });
    if !required.is_empty() {
        data["required"] = json!(required);
    }
    json!({ "type": "object", "required": ["data"], "properties": { "data": data } })
}

/// The schema with only what a client can set, none of it required except by `REQUIRED`. `name` is that of the component,
/// if the schema is one.
fn settable(schemas: &Value, schema: &Value, name: Option<&str>) -> Value {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix(SCHEMAS)) {
        let mut whole = settable(schemas, &schemas[name], Some(name));
        // What is said about the member goes before what is said about its type.
        for (keyword, value) in
            schema.as_object().into_iter().flatten().filter(|(keyword, _)| *keyword != "$ref")
        {
            whole[keyword] = value.clone();
        }
        return whole;
    }
    let mut schema = schema.clone();
    let Some(object) = schema.as_object_mut() else { return schema };
    object.remove("required");
    if let Some((_, names)) = REQUIRED.into_iter().find(|(known, _)| Some(*known) == name) {
        object.insert("required".to_owned(), json!(names));
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.retain(|_, property| property["readOnly"] != true);
        for (name, property) in properties {
            *property = match RELATED.into_iter().find(|(known, _)| known == name) {
                Some((_, kind)) => relationship(property, kind),
                None => settable(schemas, property, None),
            };
        }
    }
    for keyword in ["items", "oneOf", "anyOf", "allOf"] {
        match object.get_mut(keyword) {
            Some(Value::Array(all)) => all.iter_mut().for_each(|one| *one = settable(schemas, one, None)),
            Some(one) => *one = settable(schemas, one, None),
            None => {}
        }
    }
    schema
}

fn relationship(answered: &Value, kind: &str) -> Value {
    let members = json!({ "type": { "type": "string", "enum": [kind] }, "id": { "type": "string" } });
    let link = json!({ "type": "object", "required": ["id"], "properties": members });
    let data = if answered["$ref"].as_str().is_some_and(|reference| reference.ends_with("/ToMany")) {
        json!({ "type": "array", "maxItems": MAX_RELATED, "items": link })
    } else {
        json!({ "oneOf": [{ "type": "null" }, link] })
    };
    let mut made = json!({ "type": "object", "required": ["data"], "properties": { "data": data } });
    if let Some(description) = answered.get("description") {
        made["description"] = description.clone();
    }
    made
}
