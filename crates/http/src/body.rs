//! Reads JSON bodies and reports every fault with its field; a derived deserializer would stop at the first.
//!
//! Members of a dialect, and rules that a plane checks again, do not belong here.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use landreeve_core::error::Faults;
use landreeve_core::{Error, ErrorKind, Fault, Given, Input, Result};
use serde_json::{Map, Value};

use crate::failure::code;

/// How to read a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    pub null: NullIs,
    pub unknown: Unknown,
}

/// What an explicit `null` of an optional member means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NullIs {
    /// As if the member were absent.
    Absent,
    /// Clear the value.
    Clear,
}

/// How unknown members are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    Report,
    Ignore,
}

/// Parses a body that must be a JSON object. A byte order mark is accepted; nesting beyond 128 levels is not.
pub fn json_object(bytes: &[u8]) -> Result<Map<String, Value>> {
    match json(bytes, "object")? {
        Value::Object(object) => Ok(object),
        other => Err(unexpected(&other, "object")),
    }
}

/// The same for a body that must be a JSON array.
pub fn json_array(bytes: &[u8]) -> Result<Vec<Value>> {
    match json(bytes, "array")? {
        Value::Array(items) => Ok(items),
        other => Err(unexpected(&other, "array")),
    }
}

fn json(bytes: &[u8], wanted: &str) -> Result<Value> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.trim_ascii().is_empty() {
        return Err(not_json(format!("the request body is empty; a JSON {wanted} is expected")));
    }
    // The library's message ends with line and column, and never contains a value.
    serde_json::from_slice(bytes)
        .map_err(|error| not_json(format!("the request body is not valid JSON: {error}")))
}

fn unexpected(found: &Value, wanted: &str) -> Error {
    not_json(format!("the request body must be a JSON {wanted}, not {}", type_name(found)))
}

fn not_json(message: String) -> Error {
    let faults = vec![Fault::new("", code::INVALID_JSON, message.clone())];
    Error { faults, ..Error::new(ErrorKind::Invalid, code::INVALID_JSON, message) }
}

/// Reads an object with `read`, and fails with all the faults found. The value that `read` returns is discarded then.
/// `at` is the prefix of field names; empty for the object itself.
pub fn read_object<T>(
    object: &Map<String, Value>,
    at: &str,
    rules: Rules,
    read: impl FnOnce(&Fields<'_>) -> T,
) -> Result<T> {
    let report = Report { rules, faults: RefCell::default() };
    let value = read_fields(object, at.to_owned(), &report, read);
    report.faults.into_inner().finish()?;
    Ok(value)
}

/// Reads an object like `read_object`, for a use case that checks permissions first and reports its own faults together
/// with these.
pub fn read_input<T>(
    object: &Map<String, Value>,
    rules: Rules,
    read: impl FnOnce(&Fields<'_>) -> T,
) -> Input<T> {
    let report = Report { rules, faults: RefCell::default() };
    let value = read_fields(object, String::new(), &report, read);
    Input::new(value, report.faults.into_inner())
}

/// Some clients leave out the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

struct Report {
    rules: Rules,
    faults: RefCell<Faults>,
}

fn read_fields<'a, T>(
    object: &'a Map<String, Value>,
    path: String,
    report: &'a Report,
    read: impl FnOnce(&Fields<'a>) -> T,
) -> T {
    let fields = Fields { object, path, report, read: RefCell::default() };
    let value = read(&fields);
    if report.rules.unknown == Unknown::Report {
        let known = fields.read.borrow();
        for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
            let fault = Fault::new(fields.path_of(name), "unknown", "is not a member of this object");
            report.faults.borrow_mut().add(fault);
        }
    }
    value
}

/// The members of one object.
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
    report: &'a Report,
    read: RefCell<Vec<&'a str>>,
}

impl<'a> Fields<'a> {
    /// A required member. If it is missing or faulty, returns the default, which is discarded later.
    pub fn required<T: Default>(&self, name: &str, read: impl FnOnce(Field<'a>) -> Option<T>) -> T {
        self.required_or(name, T::default(), read)
    }

    /// Like `required`, for types without a default: pass any value as `stand_in`.
    pub fn required_or<T>(&self, name: &str, stand_in: T, read: impl FnOnce(Field<'a>) -> Option<T>) -> T {
        match self.member(name) {
            None | Some(Value::Null) => {
                self.fault(name, "required", "is required");
                stand_in
            }
            Some(value) => read(self.field(name, value)).unwrap_or(stand_in),
        }
    }

    pub fn optional<T>(&self, name: &str, read: impl FnOnce(Field<'a>) -> Option<T>) -> Given<T> {
        match (self.member(name), self.report.rules.null) {
            (None, _) | (Some(Value::Null), NullIs::Absent) => Given::Absent,
            (Some(Value::Null), NullIs::Clear) => Given::Null,
            (Some(value), _) => read(self.field(name, value)).map_or(Given::Absent, Given::Value),
        }
    }

    /// The raw member, including `null`.
    pub fn raw(&self, name: &str) -> Option<&'a Value> {
        self.member(name)
    }

    /// Accepts members that are documented but not read (such as read-only ones).
    pub fn ignore(&self, names: &[&str]) {
        for name in names {
            self.member(name);
        }
    }

    /// Reports a fault of a member.
    pub fn fault(&self, name: &str, code: &'static str, message: impl Into<String>) {
        self.report.faults.borrow_mut().push(self.path_of(name), code, message);
    }

    fn member(&self, name: &str) -> Option<&'a Value> {
        let (key, value) = self.object.get_key_value(name)?;
        self.read.borrow_mut().push(key);
        Some(value)
    }

    fn field(&self, name: &str, value: &'a Value) -> Field<'a> {
        Field { value, path: self.path_of(name), report: self.report }
    }

    fn path_of(&self, name: &str) -> String {
        join(&self.path, name)
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// One value, to be read as one type. If it has another type, each reader reports a fault and returns `None`.
pub struct Field<'a> {
    value: &'a Value,
    path: String,
    report: &'a Report,
}

impl<'a> Field<'a> {
    /// A string with a number of characters in this range.
    pub fn text(self, length: RangeInclusive<usize>) -> Option<String> {
        let Value::String(text) = self.value else { return self.wrong_type("a string") };
        let count = text.chars().count();
        if length.contains(&count) {
            return Some(text.clone());
        }
        let message = if count < *length.start() && *length.start() == 1 {
            "must not be empty".to_owned()
        } else if count < *length.start() {
            format!("must have at least {} characters", length.start())
        } else {
            format!("must have at most {} characters, has {count}", length.end())
        };
        self.fault("length", message)
    }

    /// A whole number; `5.0` is one.
    pub fn int(self, range: RangeInclusive<i64>) -> Option<i64> {
        let Value::Number(number) = self.value else { return self.wrong_type("a whole number") };
        // Beyond 2^53 a float is ambiguous.
        let whole = |float: &f64| float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0;
        let value = number.as_i64().or_else(|| number.as_f64().filter(whole).map(|float| float as i64));
        match value {
            Some(value) if range.contains(&value) => Some(value),
            None if number.as_f64().is_some_and(|float| float.fract() != 0.0) => {
                self.fault("type", "must be a whole number")
            }
            _ => self.fault("range", format!("must be between {} and {}", range.start(), range.end())),
        }
    }

    pub fn float(self, range: RangeInclusive<f64>) -> Option<f64> {
        let Value::Number(number) = self.value else { return self.wrong_type("a number") };
        match number.as_f64() {
            Some(value) if range.contains(&value) => Some(value),
            _ => self.fault("range", format!("must be between {} and {}", range.start(), range.end())),
        }
    }

    pub fn bool(self) -> Option<bool> {
        let Value::Bool(value) = self.value else { return self.wrong_type("true or false") };
        Some(*value)
    }

    /// One of several words, case-sensitive.
    pub fn choice<T: Clone>(self, choices: &[(&str, T)]) -> Option<T> {
        let Value::String(text) = self.value else { return self.wrong_type("a string") };
        if let Some((_, value)) = choices.iter().find(|(word, _)| word == text) {
            return Some(value.clone());
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.fault("enum", format!("must be one of {}", words.join(", ")))
    }

    pub fn object<T>(self, read: impl FnOnce(&Fields<'_>) -> T) -> Option<T> {
        let Value::Object(object) = self.value else { return self.wrong_type("an object") };
        Some(read_fields(object, self.path, self.report, read))
    }

    /// An array of at most `max` items. All items are read, even after a faulty one.
    pub fn list<T>(self, max: usize, mut read: impl FnMut(Field<'a>) -> Option<T>) -> Option<Vec<T>> {
        let Value::Array(items) = self.value else { return self.wrong_type("an array") };
        if items.len() > max {
            return self.fault("length", format!("must have at most {max} items, has {}", items.len()));
        }
        let mut values = Vec::with_capacity(items.len());
        for (index, value) in items.iter().enumerate() {
            let path = join(&self.path, &index.to_string());
            values.extend(read(Field { value, path, report: self.report }));
        }
        (values.len() == items.len()).then_some(values)
    }

    /// Bytes as base64. White space, such as the line breaks of MIME, does not count, and padding can be missing.
    pub fn base64(self) -> Option<Vec<u8>> {
        let Value::String(text) = self.value else { return self.wrong_type("a string") };
        let dense: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        match BASE64.decode(&dense) {
            Ok(bytes) => Some(bytes),
            Err(_) => self.fault("base64", "must be base64"),
        }
    }

    /// Any JSON value.
    pub fn any(self) -> Option<Value> {
        Some(self.value.clone())
    }

    /// For types with their own parser. The error message completes a sentence that starts with the field's name.
    pub fn parse<T>(self, parse: impl FnOnce(&str) -> std::result::Result<T, String>) -> Option<T> {
        let Value::String(text) = self.value else { return self.wrong_type("a string") };
        match parse(text) {
            Ok(value) => Some(value),
            Err(message) => self.fault("format", message),
        }
    }

    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// Reports a fault of this field.
    pub fn fault<T>(self, code: &'static str, message: impl Into<String>) -> Option<T> {
        self.report.faults.borrow_mut().push(self.path, code, message);
        None
    }

    fn wrong_type<T>(self, wanted: &str) -> Option<T> {
        let message = format!("must be {wanted}, not {}", type_name(self.value));
        self.fault("type", message)
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Rules = Rules { null: NullIs::Clear, unknown: Unknown::Report };

    fn faults<T>(
        json: &str,
        rules: Rules,
        read: impl FnOnce(&Fields<'_>) -> T,
    ) -> Vec<(String, &'static str)> {
        let object = json_object(json.as_bytes()).unwrap();
        let error = read_object(&object, "", rules, read).err().expect("must be refused");
        error.faults.into_iter().map(|fault| (fault.field, fault.code)).collect()
    }

    #[test]
    fn json_errors_say_where() {
        let error = json_object(b"{\"a\":\n  1,,}").unwrap_err();
        assert_eq!(error.code, "invalid_json");
        assert!(error.message.contains("line 2 column 5"), "{}", error.message);
        assert!(json_object(b"[]").unwrap_err().message.contains("not an array"));
        assert!(json_object(b" ").unwrap_err().message.contains("empty"));
        assert!(json_object(b"{\"a\": \"\xff\"}").is_err());
        assert!(json_object("{\"a\":".repeat(200).as_bytes()).unwrap_err().message.contains("recursion"));
        assert!(json_object(b"\xef\xbb\xbf{}").is_ok());
        assert!(json_array(b"{}").unwrap_err().message.contains("must be a JSON array, not an object"));
        assert_eq!(json_array(b"\xef\xbb\xbf[1]").unwrap(), [Value::from(1)]);
    }

    #[test]
    fn reports_every_fault_with_its_field() {
        let json = r#"{"name": "", "port": 70000, "mode": "x", "on": 1, "extra": 1,
            "layout": {"width": "wide", "y": null}, "tags": ["a", 2, ""], "ratio": 1.5}"#;
        let found = faults(json, STRICT, |body| {
            body.required("name", |f| f.text(1..=10));
            body.required("host", |f| f.text(1..=10));
            body.optional("port", |f| f.int(1..=65_535));
            body.required_or("mode", 0, |f| f.choice(&[("a", 1), ("b", 2)]));
            body.required("on", Field::bool);
            body.optional("layout", |f| {
                f.object(|layout| {
                    layout.required("width", |f| f.int(0..=10));
                    layout.required("y", |f| f.int(0..=10));
                })
            });
            body.optional("tags", |f| f.list(5, |item| item.text(1..=5)));
            body.optional("ratio", |f| f.int(0..=9));
        });
        let expected = [
            ("name", "length"),
            ("host", "required"),
            ("port", "range"),
            ("mode", "enum"),
            ("on", "type"),
            ("layout.width", "type"),
            ("layout.y", "required"),
            ("tags.1", "type"),
            ("tags.2", "length"),
            ("ratio", "type"),
            ("extra", "unknown"),
        ];
        assert_eq!(found, expected.map(|(field, code)| (field.to_owned(), code)));
    }

    #[test]
    fn reads_base64_as_clients_send_it() {
        for (text, expected) in [
            ("", Some("")),
            ("YWI=", Some("ab")),
            ("YWI", Some("ab")),
            ("YWJj\r\nZGVm\n", Some("abcdef")),
            (" Y W\tI = ", Some("ab")),
            ("YWI==", None),
            ("YWJ", None),
            ("Y", None),
            ("YW=I", None),
            ("YW-_", None),
            ("YWI\u{a0}", None),
            ("CREATE DATABASE d;", None),
        ] {
            let object = Map::from_iter([("a".to_owned(), Value::from(text))]);
            let read = read_object(&object, "", STRICT, |body| body.required("a", Field::base64));
            match (read, expected) {
                (Ok(bytes), Some(expected)) => assert_eq!(bytes, expected.as_bytes(), "{text:?}"),
                (Err(error), None) => assert_eq!(error.faults[0].code, "base64", "{text:?}"),
                (read, expected) => panic!("{text:?}: {read:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn input_carries_the_faults_along() {
        let object = json_object(br#"{"a": 1, "c": 2}"#).unwrap();
        let input = read_input(&object, STRICT, |body| {
            (body.required("a", |f| f.text(1..=9)), body.required("b", |f| f.int(0..=9)))
        });
        let error = input.checked(|_, faults| faults.push("d", "length", "is too long")).unwrap_err();
        let fields: Vec<_> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["a", "b", "c", "d"]);
    }

    #[test]
    fn null_follows_the_rules() {
        let object = json_object(br#"{"a": null, "b": 5.0}"#).unwrap();
        let read = |null| {
            let rules = Rules { null, unknown: Unknown::Ignore };
            read_object(&object, "", rules, |body| {
                let int = |name| body.optional(name, |f| f.int(i64::MIN..=i64::MAX)).change();
                (int("a"), int("b"), int("c"))
            })
        };
        assert_eq!(read(NullIs::Absent).unwrap(), (None, Some(Some(5)), None));
        assert_eq!(read(NullIs::Clear).unwrap(), (Some(None), Some(Some(5)), None));
    }

    #[test]
    fn field_names_have_the_callers_prefix() {
        let object = json_object(b"{}").unwrap();
        let error =
            read_object(&object, "data.attributes", STRICT, |body| body.required("name", |f| f.text(1..=10)))
                .unwrap_err();
        assert_eq!(error.faults, [Fault::required("data.attributes.name")]);
    }
}
