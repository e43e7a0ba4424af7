//! Request bodies: JSON:API documents and plain objects, parsed with all their faults, and the mapping from the plane's
//! field names to JSON pointers.
//!
//! A document's faults are combined with those that the plane finds in what could be read, so that a client learns of
//! all of them together.

use std::cell::OnceCell;
use std::collections::HashMap;

use landreeve_core::error::Faults;
use landreeve_core::{Error, Fault, Given, Input, Result};
use landreeve_http::body::{Field, Fields, NullIs, Rules, Unknown, json_object, read_object};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

/// Attributes and relationships: an unknown name would have no effect, so it is a fault.
const STRICT: Rules = Rules { null: NullIs::Clear, unknown: Unknown::Report };
/// Around them: `links`, `meta`, `jsonapi` and anything else that JSON:API allows.
const AROUND: Rules = Rules { null: NullIs::Absent, unknown: Unknown::Ignore };
/// Plain JSON bodies.
const PLAIN: Rules = Rules { null: NullIs::Absent, unknown: Unknown::Report };
/// Plain bodies in which null clears.
const PLAIN_CHANGE: Rules = Rules { null: NullIs::Clear, unknown: Unknown::Report };

/// Whether the pointer is the other one or below it.
fn within(pointer: &str, other: &str) -> bool {
    pointer.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A character that no database can store in text.
fn nuls(value: &Value, path: &mut String, faults: &mut Vec<Fault>) {
    let mut member = |name: &str, value: &Value| {
        let length = path.len();
        path.push_str(&pointer_step(name));
        nuls(value, path, faults);
        path.truncate(length);
    };
    match value {
        Value::String(text) if text.contains('\0') => {
            faults.push(Fault::new(path.clone(), "format", "must not contain U+0000"));
        }
        Value::Array(items) => items.iter().enumerate().for_each(|(at, item)| member(&at.to_string(), item)),
        Value::Object(members) => members.iter().for_each(|(name, value)| member(name, value)),
        _ => {}
    }
}

fn pointer_step(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// The object in a body, with its first faults.
fn object(body: &[u8]) -> Result<(Map<String, Value>, Vec<Fault>)> {
    let whole = Value::Object(json_object(body)?);
    let mut faults = Vec::new();
    nuls(&whole, &mut String::new(), &mut faults);
    match whole {
        Value::Object(object) => Ok((object, faults)),
        _ => Err(Error::internal("an object that is not one")),
    }
}

fn collect<T>(
    object: &Map<String, Value>,
    at: &str,
    rules: Rules,
    faults: &mut Vec<Fault>,
    read: impl FnOnce(&Fields<'_>) -> T,
) -> Result<T> {
    let mut slot = None;
    if let Err(error) = read_object(object, at, rules, |fields| slot = Some(read(fields))) {
        faults.extend(error.faults.into_iter().map(|fault| Fault { field: pointer(&fault.field), ..fault }));
    }
    slot.ok_or_else(|| Error::internal("a body that was not read"))
}

/// Turns `data.attributes.name` into `/data/attributes/name`.
fn pointer(dotted: &str) -> String {
    if dotted.is_empty() {
        return String::new();
    }
    format!("/{}", dotted.replace('~', "~0").replace('/', "~1").replace('.', "/"))
}

/// A JSON:API document about one resource. `id` is the one in the path; `None` if the resource is being created.
pub fn document<A, R>(
    body: &[u8],
    kind: &str,
    id: Option<&str>,
    attributes: impl FnOnce(&Fields<'_>) -> A,
    relationships: impl FnOnce(&Fields<'_>) -> R,
) -> Result<Input<(A, R)>> {
    let (top, mut faults) = object(body)?;
    let none = Map::new();
    let stated = collect(&top, "", AROUND, &mut faults, |top| {
        top.required("data", |data| {
            data.object(|data| {
                data.optional("attributes", |field| field.object(|_| ()));
                data.optional("relationships", |field| field.object(|_| ()));
                let text = |name| data.optional(name, |field| field.text(0..=255)).value();
                Some((text("type"), text("id")))
            })
        })
    })?;
    if let Some((stated_kind, stated_id)) = stated {
        identity("type", stated_kind.as_deref(), Some(kind))?;
        identity("id", stated_id.as_deref(), id)?;
    }
    let part = |name: &str| top.get("data").and_then(|data| data.get(name)).and_then(Value::as_object);
    let attributes =
        collect(part("attributes").unwrap_or(&none), "data.attributes", STRICT, &mut faults, attributes)?;
    let relationships = collect(
        part("relationships").unwrap_or(&none),
        "data.relationships",
        STRICT,
        &mut faults,
        relationships,
    )?;
    // Without an object every required member is missing; reporting each would hide the actual reason.
    for frame in ["/data", "/data/attributes", "/data/relationships"] {
        if faults.iter().any(|fault| fault.field == frame) {
            faults.retain(|fault| fault.field == frame || !within(&fault.field, frame));
        }
    }
    Ok(input((attributes, relationships), faults))
}

fn input<T>(value: T, found: Vec<Fault>) -> Input<T> {
    let mut faults = Faults::default();
    found.into_iter().for_each(|fault| faults.add(fault));
    Input::new(value, faults)
}

/// JSON:API: a document about a resource other than that of the path is a conflict.
fn identity(name: &'static str, stated: Option<&str>, expected: Option<&str>) -> Result<()> {
    let (Some(stated), true) = (stated, stated != expected) else { return Ok(()) };
    let message = match expected {
        Some(expected) => format!("must be {expected:?}, not {stated:?}"),
        None => "is assigned by the server; leave it out".to_owned(),
    };
    let faults = vec![Fault::new(format!("/data/{name}"), "mismatch", message.clone())];
    Err(Error { faults, ..Error::conflict("mismatch", format!("{name} {message}")) })
}

/// A plain JSON body. If `optional`, an empty body is an empty object.
pub fn plain<T>(body: &[u8], optional: bool, read: impl FnOnce(&Fields<'_>) -> T) -> Result<Input<T>> {
    plain_with(body, optional, PLAIN, read)
}

/// A plain JSON body in which null clears.
pub fn plain_change<T>(body: &[u8], read: impl FnOnce(&Fields<'_>) -> T) -> Result<Input<T>> {
    plain_with(body, false, PLAIN_CHANGE, read)
}

fn plain_with<T>(
    body: &[u8],
    optional: bool,
    rules: Rules,
    read: impl FnOnce(&Fields<'_>) -> T,
) -> Result<Input<T>> {
    let empty = optional && body.trim_ascii().is_empty();
    let (object, mut faults) = if empty { (Map::new(), Vec::new()) } else { object(body)? };
    let value = collect(&object, "", rules, &mut faults, read)?;
    Ok(input(value, faults))
}

/// A relationship to one resource: absent, cleared, or its id. `decode` checks whether the text can be an id.
pub fn to_one<T>(
    fields: &Fields<'_>,
    name: &str,
    kind: &'static str,
    decode: impl Fn(&str) -> Option<T>,
) -> Given<T> {
    let given = fields.optional(name, |field| {
        field.object(|relationship| {
            relationship.ignore(&["links", "meta"]);
            if relationship.raw("data").is_none() {
                relationship.fault("data", "required", "is required; use null for none");
            }
            relationship.optional("data", |data| linked(data, kind, &decode))
        })
    });
    match given {
        Given::Absent => Given::Absent,
        Given::Null => Given::Null,
        Given::Value(inner) => inner,
    }
}

/// A relationship to several resources. Null means an empty list.
pub fn to_many<T>(
    fields: &Fields<'_>,
    name: &str,
    kind: &'static str,
    decode: impl Fn(&str) -> Option<T>,
) -> Given<Vec<T>> {
    const MAX_ITEMS: usize = 1_000;
    let given = fields.optional(name, |field| {
        field.object(|relationship| {
            relationship.ignore(&["links", "meta"]);
            relationship.required("data", |data| data.list(MAX_ITEMS, |item| linked(item, kind, &decode)))
        })
    });
    match given {
        Given::Null => Given::Value(Vec::new()),
        other => other,
    }
}

fn linked<T>(field: Field<'_>, kind: &'static str, decode: impl Fn(&str) -> Option<T>) -> Option<T> {
    field
        .object(|link| {
            link.ignore(&["meta"]);
            link.optional("type", |field| field.choice(&[(kind, ())]));
            link.required_or("id", None, |field| {
                let Some(text) = field.value().as_str() else { return field.text(0..=0).map(|_| None) };
                match decode(text) {
                    Some(id) => Some(Some(id)),
                    None => field.fault("unknown", format!("is not an id of {kind}")),
                }
            })
        })
        .flatten()
}

/// The plane's field names that are relationships in a document; all others are attributes.
pub struct Names(pub &'static [&'static str]);

impl Names {
    /// Turns the plane's field names (`layout.0.width`, `agents.0`) into pointers.
    pub fn point(&self, error: Error) -> Error {
        let faults =
            error.faults.into_iter().map(|fault| Fault { field: self.pointer(&fault.field), ..fault });
        Error { faults: faults.collect(), ..error }
    }

    pub fn pointer(&self, field: &str) -> String {
        if field.is_empty() || field.starts_with(['/', '?']) {
            return field.to_owned();
        }
        let (first, rest) = field.split_once('.').map_or((field, None), |(first, rest)| (first, Some(rest)));
        match rest {
            _ if !self.0.contains(&first) => format!("/data/attributes{}", pointer(field)),
            None => format!("/data/relationships/{first}"),
            Some(rest) => format!("/data/relationships/{first}/data{}", pointer(rest)),
        }
    }
}

type Step<D> = Box<dyn FnOnce(&mut D) + Send>;

/// Changes to a value; absent members are not changed.
pub struct Patch<D>(Vec<Step<D>>);

impl<D> std::fmt::Debug for Patch<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Patch({} changes)", self.0.len())
    }
}

impl<D: 'static> Patch<D> {
    pub fn new() -> Patch<D> {
        Patch(Vec::new())
    }

    /// `apply` gets the value, or `None` to clear it.
    pub fn take<T: Send + 'static>(&mut self, given: Given<T>, apply: fn(&mut D, Option<T>)) {
        if let Some(value) = given.change() {
            self.0.push(Box::new(move |target| apply(target, value)));
        }
    }

    pub fn and(mut self, other: Patch<D>) -> Patch<D> {
        self.0.extend(other.0);
        self
    }

    /// Converts the patch to a change of an existing resource.
    pub fn change(read: Input<Patch<D>>) -> Input<impl FnOnce(&mut D)> {
        read.map(|patch, _| move |target: &mut D| patch.apply(target))
    }

    /// Applies the patch to the defaults, to create a resource.
    pub fn create(read: Input<Patch<D>>) -> Input<D>
    where
        D: Default,
    {
        read.map(|patch, _| {
            let mut new = D::default();
            patch.apply(&mut new);
            new
        })
    }

    pub fn apply(self, target: &mut D) {
        for step in self.0 {
            step(target);
        }
    }
}

/// The numbers in a body with all their digits, where a double would lose some.
pub struct Digits<'a> {
    body: &'a [u8],
    tree: OnceCell<Tree>,
}

#[derive(Debug, Default)]
enum Tree {
    Object(HashMap<String, Tree>),
    List(Vec<Tree>),
    Number(String),
    #[default]
    Other,
}

/// Deeper than any number that is looked up.
const DEPTH: usize = 10;

impl<'a> Digits<'a> {
    pub fn of(body: &'a [u8]) -> Digits<'a> {
        Digits { body, tree: OnceCell::new() }
    }

    /// The digits of the number at a dotted path.
    pub fn at(&self, path: &str, number: &Number) -> String {
        if !number.is_f64() {
            return number.to_string();
        }
        let mut tree = self.tree.get_or_init(|| {
            serde_json::from_slice::<&RawValue>(self.body)
                .map(|raw| Tree::read(raw, DEPTH))
                .unwrap_or_default()
        });
        for step in path.split('.') {
            let next = match tree {
                Tree::Object(members) => members.get(step),
                Tree::List(items) => step.parse::<usize>().ok().and_then(|at| items.get(at)),
                Tree::Number(_) | Tree::Other => None,
            };
            let Some(next) = next else { return number.to_string() };
            tree = next;
        }
        match tree {
            Tree::Number(text) => text.clone(),
            _ => number.to_string(),
        }
    }
}

impl Tree {
    fn read(raw: &RawValue, depth: usize) -> Tree {
        let text = raw.get();
        let Some(depth) = depth.checked_sub(1) else { return Tree::Other };
        match text.as_bytes().first() {
            Some(b'{') => {
                let members = serde_json::from_str::<HashMap<String, &RawValue>>(text).unwrap_or_default();
                Tree::Object(members.into_iter().map(|(name, raw)| (name, Tree::read(raw, depth))).collect())
            }
            Some(b'[') => {
                let items = serde_json::from_str::<Vec<&RawValue>>(text).unwrap_or_default();
                Tree::List(items.into_iter().map(|raw| Tree::read(raw, depth)).collect())
            }
            Some(b'-' | b'0'..=b'9') => Tree::Number(text.to_owned()),
            _ => Tree::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_become_pointers() {
        let names = Names(&["agents"]);
        assert_eq!(names.pointer("layout.0.width"), "/data/attributes/layout/0/width");
        assert_eq!(names.pointer("agents.1"), "/data/relationships/agents/data/1");
        assert_eq!(names.pointer("agents"), "/data/relationships/agents");
        assert_eq!(names.pointer(""), "");
    }

    #[test]
    fn digits_are_kept_where_a_double_would_lose_them() {
        let body = br#"{"a":[{"b":0.12345678901234567890},1,123456789012345678901234567890]}"#;
        let value: Value = serde_json::from_slice(body).unwrap();
        let digits = Digits::of(body);
        let number = |pointer: &str| value.pointer(pointer).and_then(Value::as_number).unwrap().clone();
        assert_eq!(digits.at("a.0.b", &number("/a/0/b")), "0.12345678901234567890");
        assert_eq!(digits.at("a.1", &number("/a/1")), "1");
        assert_eq!(digits.at("a.2", &number("/a/2")), "123456789012345678901234567890");
    }

    #[test]
    fn a_document_reports_all_its_faults() {
        let body = br#"{"data":{"type":7,"attributes":{"name":1,"odd":2},"relationships":{"x":{"data":{"id":"?"}}}}}"#;
        let read = document(
            body,
            "things",
            None,
            |fields| fields.required("name", |field| field.text(1..=9)),
            |fields| to_one(fields, "x", "others", |text| text.parse::<i64>().ok()),
        );
        let faults = read.unwrap().valid().map(|_| ()).unwrap_err().faults;
        let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        let expected =
            ["/data/type", "/data/attributes/name", "/data/attributes/odd", "/data/relationships/x/data/id"];
        assert_eq!(fields, expected);
    }

    #[test]
    fn another_type_or_id_is_a_conflict() {
        let read = |body: &str, id| document(body.as_bytes(), "things", id, |_| (), |_| ()).map(|_| ());
        assert!(read(r#"{"data":{"type":"things","id":"a"}}"#, Some("a")).is_ok());
        for (body, id) in [(r#"{"data":{"type":"x"}}"#, None), (r#"{"data":{"id":"b"}}"#, Some("a"))] {
            assert_eq!(read(body, id).unwrap_err().kind, landreeve_core::ErrorKind::Conflict);
        }
        assert_eq!(read("{}", None).map(|_| ()).ok(), Some(()));
    }
}
