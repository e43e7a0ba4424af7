//! Arguments in this dialect: JSON, a form and the query are merged, whatever the content type.

use std::collections::HashSet;

use axum::extract::{FromRequest, Request};
use jiff::Timestamp;
use landreeve_core::error::Faults;
use landreeve_core::{Fault, Given, Input, Result};
use landreeve_delivery::{Metadata, ServiceName};
use landreeve_http::Failure;
use landreeve_http::body::json_object;
use landreeve_http::extract::{Body, Query};
use landreeve_http::negotiate::{content_type, is_json};
use serde_json::{Map, Value};

use crate::wire::time;

/// By name, with surrounding spaces removed. The body takes precedence over the query, the last duplicate over others.
#[derive(Debug, Clone, Default)]
pub struct Arguments {
    given: Map<String, Value>,
    /// Names of values that are not text; the reader reports them with the other faults.
    faults: Faults,
}

impl<S: Send + Sync> FromRequest<S> for Arguments {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Arguments, Failure> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let declared = content_type(request.headers()).is_some_and(|essence| is_json(&essence));
        let Body(body) = Body::from_request(request, state).await?;
        Ok(Arguments::merge(&query, &body, declared)?)
    }
}

impl Arguments {
    fn merge(query: &str, body: &[u8], declared_json: bool) -> Result<Arguments> {
        let mut merged = Arguments::default();
        merged.add_pairs(&Query::parse(query));
        let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
        if text.starts_with(b"{") || text.starts_with(b"[") || (declared_json && !text.is_empty()) {
            for (name, value) in json_object(body)? {
                merged.given.insert(name.trim().to_owned(), value);
            }
        } else {
            merged.add_pairs(&Query::form(text));
        }
        Ok(merged)
    }

    /// A later value replaces an earlier one; a list is replaced as a whole.
    fn add_pairs(&mut self, query: &Query) {
        for name in query.garbled().map(str::trim) {
            let name = name.strip_suffix("[]").unwrap_or(name);
            if !self.faults.covers(name) {
                self.faults.push(name, "character", "must be UTF-8 text");
            }
        }
        let mut begun = HashSet::new();
        for (name, value) in query.pairs() {
            let (name, value) = (name.trim(), Value::String(value.to_owned()));
            // Lists in the form notation: `name[]=a&name[]=b`.
            let Some(list) = name.strip_suffix("[]") else {
                self.given.insert(name.to_owned(), value);
                continue;
            };
            if begun.insert(list.to_owned()) {
                self.given.insert(list.to_owned(), Value::Array(Vec::new()));
            }
            match self.given.entry(list).or_insert_with(|| Value::Array(Vec::new())) {
                Value::Array(all) => all.push(value),
                other => *other = Value::Array(vec![value]),
            }
        }
    }

    /// Reads a method's arguments. The plane (`Reader::asked`) or `Reader::finish` reports all faults together.
    pub fn reader(&self) -> Reader<'_> {
        Reader { object: &self.given, place: String::new(), faults: self.faults.clone() }
    }

    /// The argument of a method with only one.
    pub fn only(&self, name: &str) -> Result<String> {
        let mut reader = self.reader();
        let text = reader.required_text(name);
        reader.finish()?;
        Ok(text)
    }

    /// Every argument by name, for methods whose argument names are up to the user.
    pub fn all(&self) -> &Map<String, Value> {
        &self.given
    }
}

/// Reads an object member by member and collects faults. The value returned for a faulty member or list item is a
/// placeholder and is never used, because `finish` and the plane then fail.
pub struct Reader<'a> {
    object: &'a Map<String, Value>,
    /// Prefix for member names (`services.0.`).
    place: String,
    faults: Faults,
}

impl Reader<'_> {
    pub fn finish(self) -> Result<()> {
        self.faults.finish()
    }

    /// The arguments for a plane that adds its own faults and reports all of them together.
    pub fn asked<T>(self, value: T) -> Input<T> {
        Input::new(value, self.faults)
    }

    pub fn faults(&mut self) -> &mut Faults {
        &mut self.faults
    }

    fn fault(&mut self, name: &str, code: &'static str, message: impl Into<String>) {
        self.faults.push(format!("{}{name}", self.place), code, message);
    }

    /// Reports a missing member, unless it exists and could not be read.
    pub fn require(&mut self, name: &str) {
        let field = format!("{}{name}", self.place);
        if !self.faults.covers(&field) {
            self.faults.add(Fault::required(field));
        }
    }

    /// A string, number or boolean as text: forms have only text.
    pub fn given_text(&mut self, name: &str) -> Given<String> {
        match self.object.get(name) {
            None => Given::Absent,
            Some(Value::Null) => Given::Null,
            Some(Value::String(text)) => Given::Value(text.trim().to_owned()),
            Some(Value::Number(number)) => Given::Value(number.to_string()),
            Some(_) => {
                self.fault(name, "type", "must be a string");
                Given::Absent
            }
        }
    }

    /// An empty string counts as missing.
    pub fn text(&mut self, name: &str) -> Option<String> {
        match self.given_text(name) {
            Given::Value(text) if !text.is_empty() => Some(text),
            Given::Absent | Given::Null | Given::Value(_) => None,
        }
    }

    pub fn required_text(&mut self, name: &str) -> String {
        let text = self.text(name);
        if text.is_none() {
            self.require(name);
        }
        text.unwrap_or_default()
    }

    pub fn int(&mut self, name: &str) -> Option<i64> {
        let found = match self.object.get(name) {
            None | Some(Value::Null) => return None,
            Some(Value::String(text)) if text.trim().is_empty() => return None,
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(Value::Number(number)) => number.as_i64(),
            Some(_) => None,
        };
        if found.is_none() {
            self.fault(name, "type", "must be a whole number");
        }
        found
    }

    pub fn required_int(&mut self, name: &str) -> i64 {
        let found = self.int(name);
        if found.is_none() {
            self.require(name);
        }
        found.unwrap_or_default()
    }

    pub fn bool(&mut self, name: &str) -> Option<bool> {
        match self.object.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::Bool(value)) => Some(*value),
            Some(Value::String(text)) => match text.trim().to_ascii_lowercase().as_str() {
                "" => None,
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => {
                    self.fault(name, "type", "must be true or false");
                    None
                }
            },
            Some(_) => {
                self.fault(name, "type", "must be true or false");
                None
            }
        }
    }

    /// A time in any format that clients send.
    pub fn given_instant(&mut self, name: &str) -> Given<Timestamp> {
        let parsed = match self.object.get(name) {
            None => return Given::Absent,
            Some(Value::Null) => return Given::Null,
            Some(Value::String(text)) if text.trim().is_empty() => return Given::Null,
            Some(Value::String(text)) => time::parse(text.trim()),
            Some(Value::Number(number)) => time::parse(&number.to_string()),
            Some(_) => None,
        };
        match parsed {
            Some(at) => Given::Value(at),
            None => {
                let message = "must be a time: seconds or milliseconds since 1970, or ISO 8601 such as \
                     2026-01-31T12:00:00Z";
                self.fault(name, "time", message);
                Given::Absent
            }
        }
    }

    pub fn instant(&mut self, name: &str) -> Option<Timestamp> {
        match self.given_instant(name) {
            Given::Value(at) => Some(at),
            Given::Absent | Given::Null => None,
        }
    }

    pub fn required_instant(&mut self, name: &str) -> Timestamp {
        let found = self.instant(name);
        if found.is_none() {
            self.require(name);
        }
        found.unwrap_or_default()
    }

    /// A value of any type; a string that contains a JSON object or list is parsed, because forms have only strings.
    pub fn value(&mut self, name: &str) -> Given<Value> {
        match self.object.get(name) {
            None => Given::Absent,
            Some(Value::Null) => Given::Null,
            Some(Value::String(text)) if text.trim_start().starts_with(['{', '[']) => {
                match serde_json::from_str(text) {
                    Ok(value) => Given::Value(value),
                    Err(_) => Given::Value(Value::String(text.clone())),
                }
            }
            Some(other) => Given::Value(other.clone()),
        }
    }

    /// A list; a single value is a list of one, but a string with commas is rejected.
    pub fn list(&mut self, name: &str) -> Given<Vec<Value>> {
        match self.value(name) {
            Given::Absent => Given::Absent,
            Given::Null => Given::Null,
            Given::Value(Value::Array(all)) => Given::Value(all),
            Given::Value(Value::String(text)) if text.trim().is_empty() => Given::Value(Vec::new()),
            Given::Value(Value::String(text)) => Given::Value(vec![Value::String(text)]),
            Given::Value(_) => {
                self.fault(name, "type", "must be a list");
                Given::Absent
            }
        }
    }

    /// A list of strings.
    pub fn texts(&mut self, name: &str) -> Option<Vec<String>> {
        let Given::Value(all) = self.list(name) else { return None };
        let mut texts = Vec::with_capacity(all.len());
        for (at, value) in all.iter().enumerate() {
            match value {
                Value::String(text) => texts.push(text.trim().to_owned()),
                Value::Number(number) => texts.push(number.to_string()),
                _ => {
                    self.fault(&format!("{name}.{at}"), "type", "must be a string");
                    texts.push(String::new());
                }
            }
        }
        Some(texts)
    }

    /// Strings in the query's notation: separated by commas, or a list.
    pub fn comma_list(&mut self, name: &str) -> Vec<String> {
        let texts = self.texts(name).unwrap_or_default();
        let parts = texts.iter().flat_map(|text| text.split(','));
        parts.map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// A list of objects, each read by `read`.
    pub fn objects<T>(&mut self, name: &str, mut read: impl FnMut(&mut Reader<'_>) -> T) -> Option<Vec<T>> {
        let Given::Value(all) = self.list(name) else { return None };
        let nothing = Map::new();
        let mut read_all = Vec::with_capacity(all.len());
        for (at, value) in all.iter().enumerate() {
            let place = format!("{}{name}.{at}", self.place);
            let mut found = Faults::default();
            if !value.is_object() {
                found.push(place.as_str(), "type", "must be an object");
            }
            let object = value.as_object().unwrap_or(&nothing);
            let mut reader = Reader { object, place: format!("{place}."), faults: Faults::default() };
            read_all.push(read(&mut reader));
            found.absorb(reader.faults);
            self.faults.absorb(found);
        }
        Some(read_all)
    }

    /// Metadata: an object with plain keys. PHP clients send an object without keys as an empty list.
    pub fn metadata(&mut self) -> Given<Metadata> {
        match self.value("metadata") {
            Given::Absent => Given::Absent,
            Given::Null => Given::Null,
            Given::Value(Value::String(text)) if text.trim().is_empty() => Given::Null,
            Given::Value(Value::Array(all)) if all.is_empty() => Given::Value(Metadata::default()),
            Given::Value(value) => Given::Value(Metadata::read(value, &mut self.faults)),
        }
    }

    /// A service: a string, or an object with `identifier`, `name` or both.
    pub fn service(&mut self, name: &str) -> Option<ServiceName> {
        match self.value(name) {
            Given::Absent | Given::Null => None,
            Given::Value(Value::String(text)) if text.trim().is_empty() => None,
            Given::Value(value) => self.service_of(name, &value),
        }
    }

    pub fn services(&mut self, name: &str) -> Given<Vec<ServiceName>> {
        match self.list(name) {
            Given::Absent => Given::Absent,
            Given::Null => Given::Null,
            Given::Value(all) => {
                let empty = || ServiceName { identifier: String::new(), name: None };
                let named = all
                    .iter()
                    .enumerate()
                    .map(|(at, value)| self.service_of(&format!("{name}.{at}"), value).unwrap_or_else(empty));
                Given::Value(named.collect())
            }
        }
    }

    fn service_of(&mut self, name: &str, value: &Value) -> Option<ServiceName> {
        let text = |value: Option<&Value>| match value {
            Some(Value::String(text)) if !text.trim().is_empty() => Some(text.trim().to_owned()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let found = match value {
            Value::Object(object)
                if object
                    .get("identifier")
                    .is_some_and(|given| !given.is_null() && text(Some(given)).is_none()) =>
            {
                None
            }
            Value::Object(object) => {
                let (identifier, name) = (text(object.get("identifier")), text(object.get("name")));
                identifier.or_else(|| name.clone()).map(|identifier| ServiceName { identifier, name })
            }
            other => text(Some(other)).map(|identifier| ServiceName { identifier, name: None }),
        };
        if found.is_none() {
            self.fault(name, "type", "must be a string, or an object with an identifier");
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(query: &str, body: &str, json: bool) -> Result<Arguments> {
        Arguments::merge(query, body.as_bytes(), json)
    }

    #[test]
    fn arguments_are_the_same_in_every_notation() {
        let id = |arguments: Result<Arguments>| arguments.unwrap().only("id").unwrap();
        assert_eq!(id(merged("id=a", "", true)), "a");
        assert_eq!(id(merged("%20id=a", "", false)), "a");
        assert_eq!(id(merged("id=b", "{\"id\": \"a\"}", false)), "a");
        assert_eq!(id(merged("id=b", " id = a ", false)), "a");
        assert_eq!(id(merged("", "\u{feff}{\" id \": 7}", true)), "7");
        assert_eq!(id(merged("id=b&id=a", "other=1", true).or(merged("id=a", "", false))), "a");
    }

    #[test]
    fn faults_name_their_argument() {
        assert_eq!(merged("", "{", false).unwrap_err().code, "invalid_json");
        assert_eq!(merged("", "[1]", false).unwrap_err().code, "invalid_json");
        assert_eq!(merged("", "id=1", true).unwrap_err().code, "invalid_json");
        let faults = |body| merged("", body, false).unwrap().only("id").unwrap_err().faults;
        for body in ["", "{\"id\": null}", "id=", "id=+"] {
            assert_eq!(faults(body), [Fault::required("id")], "{body}");
        }
        assert_eq!(faults("{\"id\": {}}")[0].code, "type");
    }
}
