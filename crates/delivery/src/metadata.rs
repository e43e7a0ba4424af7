//! Metadata of deployments and incidents: a JSON object, stored as received and as flat keys for SQL.

use landreeve_core::Result;
use landreeve_core::error::Faults;
use serde_json::{Map, Value};

/// The member's name in every request that has one.
const FIELD: &str = "metadata";
const MAX_KEYS: usize = 1_000;
const DEEPEST: usize = 16;
const MAX_KEY_CHARS: usize = 255;

/// An object whose keys consist of letters, digits, dashes and underscores.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// All invalid keys are reported together.
    pub fn new(value: Value) -> Result<Metadata> {
        let mut faults = Faults::default();
        let metadata = Metadata::read(value, &mut faults);
        faults.finish()?;
        Ok(metadata)
    }

    /// The same, adding to the faults of a whole request; if there are any, the returned value is never used.
    pub fn read(value: Value, faults: &mut Faults) -> Metadata {
        let Value::Object(object) = value else {
            faults.push(FIELD, "type", "must be an object");
            return Metadata::default();
        };
        let before = faults.len();
        check(FIELD, &object, 1, faults);
        let metadata = Metadata(object);
        if faults.len() == before && metadata.flat().len() > MAX_KEYS {
            faults.push(FIELD, "range", format!("must have at most {MAX_KEYS} keys"));
        }
        metadata
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    /// Metadata as stored.
    pub fn kept(text: &str) -> Option<Metadata> {
        match serde_json::from_str(text) {
            Ok(Value::Object(object)) => Some(Metadata(object)),
            _ => None,
        }
    }

    pub fn value(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// Nested keys joined with dots; lists as JSON.
    pub fn flat(&self) -> Vec<(String, Option<String>)> {
        let mut flat = Vec::new();
        flatten("", &self.0, &mut flat);
        flat
    }
}

fn check(path: &str, object: &Map<String, Value>, depth: usize, faults: &mut Faults) {
    if depth > DEEPEST {
        faults.push(path, "range", format!("must be nested at most {DEEPEST} deep"));
        return;
    }
    for (key, value) in object {
        let place = format!("{path}.{key}");
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if key.is_empty() || key.len() > MAX_KEY_CHARS || !key.chars().all(plain) {
            let message = "is not a valid key: use at most 255 letters, digits, dashes and underscores";
            faults.push(&place, "key", message);
        }
        if let Value::Object(inner) = value {
            check(&place, inner, depth + 1, faults);
        }
    }
}

fn flatten(prefix: &str, object: &Map<String, Value>, flat: &mut Vec<(String, Option<String>)>) {
    for (key, value) in object {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Object(inner) => flatten(&key, inner, flat),
            Value::Null => flat.push((key, None)),
            Value::String(text) => flat.push((key, Some(text.clone()))),
            other => flat.push((key, Some(other.to_string()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nested_keys_are_flattened() {
        let metadata = Metadata::new(json!({"a": {"b-c": 1, "d": [1, "x"]}, "e_1": null, "f": "g"})).unwrap();
        let flat: Vec<_> = metadata.flat();
        let expected = [("a.b-c", Some("1")), ("a.d", Some("[1,\"x\"]")), ("e_1", None), ("f", Some("g"))];
        assert_eq!(flat, expected.map(|(key, value)| (key.to_owned(), value.map(str::to_owned))));
    }

    #[test]
    fn every_invalid_key_is_reported() {
        let error = Metadata::new(json!({"a.b": 1, "c": {"d e": 2}, "": 3})).unwrap_err();
        let fields: Vec<_> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["metadata.a.b", "metadata.c.d e", "metadata."]);
        for wrong in [json!([]), json!("x"), json!(1), json!(null)] {
            assert_eq!(Metadata::new(wrong).unwrap_err().faults[0].field, "metadata");
        }
        let deep = (0..20).fold(json!({}), |inner, _| json!({ "a": inner }));
        assert!(Metadata::new(deep).is_err());
    }
}
