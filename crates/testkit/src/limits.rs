//! What a face's document states about its input, compared with what the server refuses.
//!
//! Every limit in the document is tried: a value just beyond it must be refused with the name of its field, and a value
//! at the limit must not be refused for that field.

use std::collections::BTreeSet;

use axum::Router;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::skeleton::{Credential, Dialect};
use crate::{Answer, Ask, everything};

/// What differs from dialect to dialect.
pub trait Limited {
    fn router(&self) -> &Router;

    /// Where the document is; its paths are below the same folder.
    fn base(&self) -> &'static str;

    /// A request that is accepted, by a caller with every permission.
    fn valid(&self, method: &str, path: &str) -> impl Future<Output = Ask>;

    /// The fields that a refusal names, with dots between their parts.
    fn named(&self, answer: &Answer) -> Vec<String>;

    /// Fields whose values also depend on others, so that a value within its limits can still be refused.
    fn dependent(&self) -> &'static [&'static str] {
        &[]
    }
}

/// A dialect, and a caller who is allowed to do everything.
struct Admin<'a, D>(&'a D, Credential);

impl<D: Dialect> Limited for Admin<'_, D> {
    fn router(&self) -> &Router {
        self.0.router()
    }

    fn base(&self) -> &'static str {
        D::BASE
    }

    async fn valid(&self, method: &str, path: &str) -> Ask {
        self.1.on(self.0.ask(method, path).await)
    }

    fn named(&self, answer: &Answer) -> Vec<String> {
        self.0.named(answer)
    }

    fn dependent(&self) -> &'static [&'static str] {
        D::DEPENDENT
    }
}

/// For faces that share the skeleton. Returns the number of limits tried.
pub async fn the_document_states_what_is_accepted<D: Dialect>(dialect: &D) -> usize {
    let credential = dialect.caller(&everything()).await;
    stated_limits_are_enforced(&Admin(dialect, credential)).await
}

/// Returns the number of limits tried, and panics with all those that the server does not enforce.
pub async fn stated_limits_are_enforced<L: Limited>(face: &L) -> usize {
    let document = Ask::get(format!("{}/openapi.json", face.base())).send(face.router()).await.json();
    let (mut tried, mut wrong) = (0, Vec::new());
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let cases = cases(&document, path, operation);
            if cases.is_empty() {
                continue;
            }
            tried += cases.len();
            let ask = face.valid(&method.to_uppercase(), path).await;
            for case in cases {
                let place = format!("{} {path}: {} {}", method.to_uppercase(), case.place.field(), case.what);
                let answer = case.apply(ask.clone(), path).send(face.router()).await;
                let named = face.named(&answer);
                let about = answer.body.chars().take(300).collect::<String>();
                let about = format!("{place}: {} {named:?} {about}", answer.status);
                if let Some(problem) = case.problem(&answer, &named, face.dependent()) {
                    wrong.push(format!("{problem}: {about}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
    tried
}

/// One part of a path into a body.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Member(String),
    /// The first item of a list.
    Item,
}

#[derive(Debug, Clone)]
enum Place {
    Body(Vec<Step>),
    Query(String),
    Path(String),
}

impl Place {
    fn field(&self) -> String {
        match self {
            Place::Body(steps) => {
                let name = |step: &Step| match step {
                    Step::Member(name) => name.clone(),
                    Step::Item => "0".to_owned(),
                };
                steps.iter().map(name).collect::<Vec<_>>().join(".")
            }
            Place::Query(name) | Place::Path(name) => name.clone(),
        }
    }
}

#[derive(Debug, Clone)]
enum Expect {
    Refused,
    /// Refused, and the words that the refusal lists are these.
    RefusedWith(BTreeSet<String>),
    NotRefused,
}

#[derive(Debug, Clone)]
struct Case {
    what: String,
    place: Place,
    /// `None`: left out.
    value: Option<Value>,
    /// What is missing on the way to the place, from the outside in.
    parents: Vec<Value>,
    expect: Expect,
}

impl Case {
    fn apply(&self, mut ask: Ask, template: &str) -> Ask {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match &self.place {
            Place::Body(steps) => {
                let mut body = serde_json::from_slice(&ask.body).unwrap_or_else(|_| json!({}));
                put(&mut body, steps, &self.parents, self.value.clone());
                ask.body = body.to_string().into_bytes();
            }
            Place::Query(name) => {
                if let Ok(Value::Object(mut body)) = serde_json::from_slice(&ask.body)
                    && body.remove(name).is_some()
                {
                    ask.body = Value::Object(body).to_string().into_bytes();
                }
                if let Some(value) = &self.value {
                    let value = text(value);
                    let value = utf8_percent_encode(&value, NON_ALPHANUMERIC);
                    let mark = if ask.path.contains('?') { '&' } else { '?' };
                    ask.path = format!("{}{mark}{name}={value}", ask.path);
                }
            }
            Place::Path(name) => {
                let at = template.split('/').rev().position(|part| part == format!("{{{name}}}")).unwrap();
                let value = self.value.as_ref().map(text).unwrap_or_default();
                let mut parts: Vec<&str> = ask.path.split('/').collect();
                let at = parts.len() - 1 - at;
                let value = utf8_percent_encode(&value, NON_ALPHANUMERIC).to_string();
                parts[at] = &value;
                ask.path = parts.join("/");
            }
        }
        ask
    }

    fn problem(&self, answer: &Answer, named: &[String], dependent: &[&str]) -> Option<&'static str> {
        let field = self.place.field();
        let refused = (400..500).contains(&answer.status);
        // An object can answer for its members: a service is refused as a whole.
        // Without an object, each member that it must have is missing.
        let missing = |name: &str| self.value.is_none() && within(name, &field);
        let names =
            |name: &String| *name == field || (!name.is_empty() && within(&field, name)) || missing(name);
        match &self.expect {
            Expect::NotRefused if answer.status >= 500 => Some("fails"),
            Expect::NotRefused if dependent.contains(&general(&field).as_str()) => None,
            // A conflict is with another thing: its name is taken.
            Expect::NotRefused => (answer.status != 409 && named.contains(&field)).then_some("is refused"),
            _ if !refused => Some("is accepted"),
            // What a path names is not found; there is no field to name.
            _ if matches!(self.place, Place::Path(_)) => None,
            _ if !named.iter().any(names) => Some("is refused without its name"),
            Expect::RefusedWith(words) => {
                let listed = listed(&answer.body);
                (!listed.is_empty() && listed != *words).then_some("lists other words")
            }
            Expect::Refused => None,
        }
    }
}

fn within(field: &str, outer: &str) -> bool {
    field.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'))
}

/// Without the positions in lists.
fn general(field: &str) -> String {
    field.split('.').filter(|part| *part != "0").collect::<Vec<_>>().join(".")
}

/// The words after `must be one of`.
fn listed(body: &str) -> BTreeSet<String> {
    let Some((_, rest)) = body.split_once("must be one of ") else { return BTreeSet::new() };
    let end = rest.find(['"', ';', '.', '\\']).unwrap_or(rest.len());
    rest[..end].split(", ").map(str::to_owned).collect()
}

fn put(target: &mut Value, steps: &[Step], parents: &[Value], value: Option<Value>) {
    let Some((step, rest)) = steps.split_first() else {
        *target = value.unwrap_or(Value::Null);
        return;
    };
    if let (Step::Member(name), [], None) = (step, rest, &value) {
        target.as_object_mut().unwrap().remove(name);
        return;
    }
    let (missing, parents) =
        parents.split_first().map_or((Value::Null, parents), |(one, all)| (one.clone(), all));
    let next = match step {
        Step::Member(name) => {
            if !target.is_object() {
                *target = json!({});
            }
            target.as_object_mut().unwrap().entry(name).or_insert(missing)
        }
        Step::Item => {
            if !target.is_array() {
                *target = json!([]);
            }
            let list = target.as_array_mut().unwrap();
            if list.is_empty() {
                list.push(missing);
            }
            &mut list[0]
        }
    };
    put(next, rest, parents, value);
}

fn cases(document: &Value, path: &str, operation: &Value) -> Vec<Case> {
    let mut walk = Walk { document, cases: Vec::new(), steps: Vec::new(), parents: Vec::new() };
    let content = operation["requestBody"]["content"].as_object();
    let json = content.into_iter().flatten().find(|(media_type, _)| media_type.contains("json"));
    if let Some((_, content)) = json {
        walk.schema(&content["schema"], false);
    }
    let mut cases = walk.cases;
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap().to_owned();
        let place = match parameter["in"].as_str() {
            Some("query") => Place::Query(name.clone()),
            Some("path") if path.contains(&format!("{{{name}}}")) => Place::Path(name.clone()),
            _ => continue,
        };
        let mut walk = Walk { document, cases: Vec::new(), steps: Vec::new(), parents: Vec::new() };
        walk.schema(&parameter["schema"], false);
        let is_path = matches!(place, Place::Path(_));
        // Every value in an address is a text, and what a path names need not exist.
        walk.cases.retain(|case| {
            let text = case.value.as_ref().is_some_and(|value| !value.is_object() && !value.is_array());
            text && !(is_path && matches!(case.expect, Expect::NotRefused))
        });
        if ["integer", "number", "boolean"].iter().any(|name| types(&parameter["schema"]).contains(name)) {
            walk.over("is a word", json!("word"));
        }
        if parameter["required"] == true && !is_path {
            walk.push("is missing", None, Expect::Refused);
        }
        cases.extend(walk.cases.into_iter().map(|case| Case { place: place.clone(), ..case }));
    }
    cases
}

struct Walk<'a> {
    document: &'a Value,
    cases: Vec<Case>,
    steps: Vec<Step>,
    parents: Vec<Value>,
}

impl<'a> Walk<'a> {
    fn push(&mut self, what: &str, value: Option<Value>, expect: Expect) {
        let place = Place::Body(self.steps.clone());
        self.cases.push(Case { what: what.to_owned(), place, value, parents: self.parents.clone(), expect });
    }

    fn over(&mut self, what: &str, value: Value) {
        self.push(what, Some(value), Expect::Refused);
    }

    fn at(&mut self, what: &str, value: Value) {
        self.push(what, Some(value), Expect::NotRefused);
    }

    fn below(&mut self, step: Step, schema: &'a Value) {
        self.steps.push(step);
        self.parents.push(self.sample(schema));
        self.schema(schema, false);
        self.steps.pop();
        self.parents.pop();
    }

    fn follow(&self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(target) => {
                let found = self.document.pointer(target.trim_start_matches('#'));
                self.follow(found.unwrap_or_else(|| panic!("no {target}")))
            }
            None => schema,
        }
    }

    /// `choice`: one of several schemas, so that a value of another type can be right.
    fn schema(&mut self, schema: &'a Value, choice: bool) {
        let schema = self.follow(schema);
        for keyword in ["oneOf", "anyOf"] {
            for one in schema[keyword].as_array().into_iter().flatten() {
                self.schema(one, true);
            }
        }
        let types = types(schema);
        let other = if types.contains(&"object") { json!(7) } else { json!({ "no": "such" }) };
        if !choice && !self.steps.is_empty() && !types.is_empty() {
            self.over("of another type", other);
        }
        if let Some(words) = schema["enum"].as_array() {
            let texts = words.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            self.push("is not in the list", Some(json!("no such word")), Expect::RefusedWith(texts));
            for word in words.iter().filter(|word| !word.is_null()) {
                self.at(&format!("is {word}"), word.clone());
            }
        } else if types.contains(&"string") {
            self.text(schema);
        }
        if types.contains(&"integer") && schema["enum"].is_null() {
            self.integer(schema);
        }
        self.list(schema);
        self.members(schema);
    }

    fn text(&mut self, schema: &Value) {
        let restricted = !schema["pattern"].is_null()
            || matches!(schema["format"].as_str(), Some("date" | "date-time" | "email" | "uuid"));
        if restricted {
            self.over("is not in the format", json!("?! ~"));
        }
        if let Some(most) = length(schema, "maxLength") {
            self.over("is too long", json!(filled(schema, most + 1)));
            self.at("is as long as possible", json!(filled(schema, most)));
        }
        if let Some(least) = length(schema, "minLength").filter(|least| *least > 0) {
            self.over("is too short", json!(filled(schema, least - 1)));
            self.at("is as short as possible", json!(filled(schema, least)));
        }
    }

    fn integer(&mut self, schema: &Value) {
        let bound = |name: &str| {
            let bound = &schema[name];
            bound.as_i64().or_else(|| bound.as_f64().map(|bound| bound as i64))
        };
        if let Some(most) = bound("maximum") {
            self.over("is too large", json!(most.unsigned_abs() + 1));
            self.at("is as large as possible", json!(most));
        } else if schema["format"] == "int64" {
            self.over("has no room", json!(9_223_372_036_854_775_808_u64));
        }
        if let Some(least) = bound("minimum") {
            self.over("is too small", json!(least - 1));
            self.at("is as small as possible", json!(least));
        }
    }

    fn list(&mut self, schema: &'a Value) {
        let Some(items) = schema.get("items").filter(|items| items.is_object()) else { return };
        let many = |walk: &Walk<'_>, count: usize| Value::Array(vec![walk.sample(items); count]);
        if let Some(most) = length(schema, "maxItems") {
            let value = many(self, most + 1);
            self.over("has too many items", value);
            let value = many(self, most);
            self.at("has as many items as possible", value);
        }
        if let Some(least) = length(schema, "minItems").filter(|least| *least > 0) {
            let value = many(self, least - 1);
            self.over("has too few items", value);
        }
        self.below(Step::Item, items);
    }

    fn members(&mut self, schema: &'a Value) {
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            if member["readOnly"] != true {
                self.below(Step::Member(name.clone()), member);
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.steps.push(Step::Member(name.to_owned()));
            self.push("is missing", None, Expect::Refused);
            self.steps.pop();
        }
    }

    /// A value within the limits.
    fn sample(&self, schema: &'a Value) -> Value {
        let schema = self.follow(schema);
        if let Some(example) = schema.get("example") {
            return example.clone();
        }
        if let Some(example) = schema["examples"].get(0) {
            return example.clone();
        }
        if let Some(word) = schema["enum"].get(0) {
            return word.clone();
        }
        for keyword in ["oneOf", "anyOf"] {
            let choices = schema[keyword].as_array().into_iter().flatten();
            if let Some(one) = choices.into_iter().find(|one| one["type"] != "null") {
                return self.sample(one);
            }
        }
        match types(schema).first() {
            Some(&"integer" | &"number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
            Some(&"boolean") => json!(true),
            Some(&"array") => {
                let least = length(schema, "minItems").unwrap_or(0);
                Value::Array(vec![self.sample(&schema["items"]); least])
            }
            Some(&"object") => {
                let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let member = |name: &str| (name.to_owned(), self.sample(&schema["properties"][name]));
                Value::Object(required.map(member).collect::<Map<_, _>>())
            }
            Some(&"string") => json!(filled(schema, length(schema, "minLength").unwrap_or(0).max(1))),
            _ => json!("a"),
        }
    }
}

fn types(schema: &Value) -> Vec<&str> {
    let several = schema["type"].as_array().into_iter().flatten();
    let all = several.chain(schema["type"].is_string().then_some(&schema["type"])).filter_map(Value::as_str);
    all.filter(|name| *name != "null").collect()
}

fn length(schema: &Value, keyword: &str) -> Option<usize> {
    schema[keyword].as_u64().and_then(|length| usize::try_from(length).ok())
}

/// A text of this length, in the format if there is one.
fn filled(schema: &Value, length: usize) -> String {
    if schema["format"] == "email" {
        const HOST: &str = "@example.com";
        return "a".repeat(length.saturating_sub(HOST.len())) + HOST;
    }
    "a".repeat(length)
}
