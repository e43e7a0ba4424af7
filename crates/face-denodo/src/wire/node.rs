//! Nodes on the wire: what servers of this program that deploy to one another say. Both sides use these types.

use std::collections::BTreeMap;

use landreeve_core::{Input, Result};
use landreeve_http::body::{Field, Fields};
use landreeve_promotion::access::{
    Application, ChangeKind, Listed, MAX_KEY, NodeChange, NodeDone, NodeReport, NodeRequest, NodeRollback,
    NodeState, NodeWork, ScriptDone,
};
use landreeve_promotion::apply::Script;
use landreeve_promotion::deployments::MAX_REVISIONS;
use landreeve_promotion::revisions::{MAX_ELEMENTS, ReplaceMode, RevisionType};
use landreeve_promotion::selection::{Description, Selection};
use landreeve_promotion::vql::place::Place;
use landreeve_promotion::vql::properties::Properties;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::input;
use super::revisions::{self, kind, mode};

/// What queries on a node read.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeBody {
    name: String,
    /// 0: nothing was applied yet.
    version: i64,
    /// SHA-256 of the objects.
    content_hash: String,
    /// Of the version `since`; absent if that is not kept any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since_hash: Option<String>,
    /// What differs from the version `since`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<Change>>,
}

impl NodeBody {
    pub fn new(report: NodeReport) -> NodeBody {
        let (since_hash, changes) = report.since.unzip();
        NodeBody {
            name: report.name,
            version: report.state.version,
            content_hash: report.state.content_hash,
            since_hash,
            changes: changes.map(|changes| changes.into_iter().map(Change::new).collect()),
        }
    }

    /// `None` if it is not understood.
    pub fn read(self) -> Option<NodeReport> {
        let since = match (self.since_hash, self.changes) {
            (Some(hash), Some(changes)) => Some((hash, read_changes(changes)?)),
            _ => None,
        };
        let state = NodeState { version: self.version, content_hash: self.content_hash };
        Some(NodeReport { name: self.name, state, since })
    }
}

/// An object that differs.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Change {
    kind: String,
    name: String,
    #[schema(pattern = "^(create|replace|drop|invalidate)$")]
    change: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

impl Change {
    pub fn new(change: NodeChange) -> Change {
        Change {
            kind: change.kind,
            name: change.name,
            change: change.change.as_str().to_owned(),
            before: change.before,
            after: change.after,
        }
    }

    fn read(self) -> Option<NodeChange> {
        let change = ChangeKind::parse(&self.change)?;
        let Change { kind, name, before, after, .. } = self;
        Some(NodeChange { kind, name, change, before, after })
    }
}

fn read_changes(changes: Vec<Change>) -> Option<Vec<NodeChange>> {
    changes.into_iter().map(Change::read).collect()
}

/// What scripts did, or would do.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DoneBody {
    from_version: i64,
    from_hash: String,
    /// The same as before if nothing was applied.
    version: i64,
    content_hash: String,
    /// What became of each script. Empty if they were applied before under the same key.
    scripts: Vec<NodeScript>,
    /// Views that no longer plan.
    invalid: Vec<InvalidView>,
    /// Why nothing is applied although every statement succeeded.
    refused: Vec<InvalidView>,
    /// Of a plan.
    changes: Vec<Change>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct NodeScript {
    /// How many it has.
    statements: usize,
    failed: usize,
    /// Those that failed or were stored without effect; at most 500 of all scripts.
    listed: Vec<NodeStatement>,
    /// How many of these are left out.
    omitted: usize,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct NodeStatement {
    line: u32,
    column: u32,
    failed: bool,
    /// As written, at most 1,000 characters.
    text: String,
    message: String,
}

/// A view that no longer plans.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct InvalidView {
    name: String,
    message: String,
}

impl InvalidView {
    pub fn new((name, message): (String, String)) -> InvalidView {
        InvalidView { name, message }
    }
}

impl DoneBody {
    pub fn new(done: NodeDone) -> DoneBody {
        DoneBody {
            from_version: done.before.version,
            from_hash: done.before.content_hash,
            version: done.after.version,
            content_hash: done.after.content_hash,
            scripts: done.scripts.into_iter().map(NodeScript::new).collect(),
            invalid: done.invalid.into_iter().map(InvalidView::new).collect(),
            refused: done.refused.into_iter().map(InvalidView::new).collect(),
            changes: done.changes.into_iter().map(Change::new).collect(),
        }
    }

    /// `None` if it is not understood.
    pub fn read(self) -> Option<NodeDone> {
        let named = |invalid: InvalidView| (invalid.name, invalid.message);
        Some(NodeDone {
            before: NodeState { version: self.from_version, content_hash: self.from_hash },
            after: NodeState { version: self.version, content_hash: self.content_hash },
            scripts: self.scripts.into_iter().map(NodeScript::read).collect(),
            invalid: self.invalid.into_iter().map(named).collect(),
            refused: self.refused.into_iter().map(named).collect(),
            changes: read_changes(self.changes)?,
        })
    }
}

impl NodeScript {
    fn new(done: ScriptDone) -> NodeScript {
        let listed = |listed: Listed| NodeStatement {
            line: listed.place.line,
            column: listed.place.column,
            failed: listed.failed,
            text: listed.text,
            message: listed.message,
        };
        NodeScript {
            statements: done.statements,
            failed: done.failed,
            listed: done.listed.into_iter().map(listed).collect(),
            omitted: done.omitted,
        }
    }

    fn read(self) -> ScriptDone {
        let listed = |listed: NodeStatement| Listed {
            place: Place { line: listed.line, column: listed.column },
            failed: listed.failed,
            text: listed.text,
            message: listed.message,
        };
        ScriptDone {
            statements: self.statements,
            failed: self.failed,
            listed: self.listed.into_iter().map(listed).collect(),
            omitted: self.omitted,
        }
    }
}

/// What was applied under a key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationBody {
    key: String,
    applied: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from_version: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<i64>,
    /// Empty if that version is not kept any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_hash: Option<String>,
}

impl ApplicationBody {
    pub fn new(key: String, found: Option<Application>) -> ApplicationBody {
        ApplicationBody {
            key,
            applied: found.is_some(),
            from_version: found.as_ref().map(|found| found.from),
            version: found.as_ref().map(|found| found.to.version),
            content_hash: found.map(|found| found.to.content_hash),
        }
    }

    /// `None` if it is not understood.
    pub fn read(self) -> Option<Option<Application>> {
        if !self.applied {
            return Some(None);
        }
        let to = NodeState { version: self.version?, content_hash: self.content_hash? };
        Some(Some(Application { from: self.from_version?, to }))
    }
}

/// A script, and the values of its properties where it comes from.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DescriptionBody {
    vql: String,
    /// Without passwords.
    properties: BTreeMap<String, String>,
}

impl DescriptionBody {
    pub fn new(found: Description) -> DescriptionBody {
        DescriptionBody { vql: found.vql, properties: found.properties }
    }

    pub fn read(self) -> Description {
        Description { vql: self.vql, properties: self.properties }
    }
}

/// Scripts that are executed as one.
#[derive(Serialize, ToSchema)]
pub struct PlanArguments {
    #[schema(min_items = 1, max_items = 100)]
    scripts: Vec<NodeScriptArguments>,
    /// The values of the properties in the scripts.
    properties: BTreeMap<String, String>,
}

#[derive(Serialize, ToSchema)]
struct NodeScriptArguments {
    /// For messages.
    name: String,
    text: String,
}

impl PlanArguments {
    pub fn new(work: NodeWork) -> PlanArguments {
        let script = |script: Script| NodeScriptArguments { name: script.name, text: script.text };
        let scripts = work.scripts.into_iter().map(script).collect();
        PlanArguments { scripts, properties: work.properties }
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplyArguments {
    #[schema(min_items = 1, max_items = 100)]
    scripts: Vec<NodeScriptArguments>,
    /// The values of the properties in the scripts.
    properties: BTreeMap<String, String>,
    /// The `contentHash` that the node must have.
    expected_hash: String,
    /// The scripts are applied only once under it: a repeated request is answered, not executed.
    #[schema(min_length = 1, max_length = 200)]
    key: String,
}

impl ApplyArguments {
    pub fn new(work: NodeWork, expected_hash: String, key: String) -> ApplyArguments {
        let PlanArguments { scripts, properties } = PlanArguments::new(work);
        ApplyArguments { scripts, properties, expected_hash, key }
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackArguments {
    /// The version that queries read afterwards; 0 makes the node empty.
    #[schema(minimum = 0)]
    to: i64,
    /// The `contentHash` that the node must have.
    expected_hash: String,
}

impl RollbackArguments {
    pub fn new(to: i64, expected_hash: String) -> RollbackArguments {
        RollbackArguments { to, expected_hash }
    }
}

/// Elements of a database.
#[derive(Serialize, ToSchema)]
pub struct DescriptionArguments {
    #[schema(min_length = 1, example = "sales")]
    database: String,
    /// Whether the script creates the elements or drops them.
    #[serde(rename = "type")]
    #[schema(pattern = "^(INSERT|DELETE)$", example = "INSERT")]
    kind: &'static str,
    /// Names of views, datasources and wrappers, and paths of folders [default: everything in the database].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 10000, example = json!(["orders"]))]
    elements: Option<Vec<String>>,
    #[schema(
        pattern = "^(DO_NOT_REPLACE_EXISTING|REPLACE_EXISTING|DROP_ELEMENTS_BEFORE)$",
        example = "REPLACE_EXISTING"
    )]
    replace: &'static str,
}

impl DescriptionArguments {
    pub fn new(selection: Selection) -> DescriptionArguments {
        DescriptionArguments {
            database: selection.database,
            kind: kind(selection.kind),
            elements: selection.elements,
            replace: mode(selection.replace),
        }
    }
}

fn text(field: Field<'_>) -> Option<String> {
    field.text(0..=usize::MAX)
}

fn script(body: &Fields<'_>) -> Script {
    Script { name: body.required("name", text), text: body.required("text", text) }
}

fn work(body: &Fields<'_>) -> NodeWork {
    NodeWork {
        scripts: body.required("scripts", |f| f.list(MAX_REVISIONS, |item| item.object(script))),
        properties: properties(body),
    }
}

fn properties(body: &Fields<'_>) -> Properties {
    let mut found = Properties::new();
    match body.required("properties", Field::any) {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(text) => drop(found.insert(name, text)),
                    _ => body.fault(&format!("properties.{name}"), "type", "must be a string"),
                }
            }
        }
        // It is missing, which is a fault already.
        Value::Null => {}
        _ => body.fault("properties", "type", "must be an object"),
    }
    found
}

pub fn read_plan(body: &[u8]) -> Result<Input<NodeWork>> {
    input::read(body, input::camel, work)
}

pub fn read_apply(body: &[u8]) -> Result<Input<NodeRequest>> {
    input::read(body, input::camel, |body| NodeRequest {
        work: work(body),
        expected_hash: body.required("expectedHash", text),
        key: body.required("key", |f| f.text(1..=MAX_KEY)),
    })
}

pub fn read_rollback(body: &[u8]) -> Result<Input<NodeRollback>> {
    input::read(body, input::camel, |body| NodeRollback {
        to: body.required("to", |f| f.int(0..=i64::MAX)),
        expected_hash: body.required("expectedHash", text),
    })
}

pub fn read_description(body: &[u8]) -> Result<Input<Selection>> {
    const KINDS: [(&str, RevisionType); 2] =
        [("INSERT", RevisionType::Insert), ("DELETE", RevisionType::Delete)];
    let member = |field: &str| if field == "kind" { "type".to_owned() } else { input::camel(field) };
    input::read(body, member, |body| Selection {
        database: body.required("database", text),
        kind: body.required_or("type", RevisionType::Insert, |f| f.choice(&KINDS)),
        elements: body.optional("elements", |f| f.list(MAX_ELEMENTS, text)).value(),
        replace: body.required_or("replace", ReplaceMode::Replace, |f| f.choice(&revisions::MODES)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state(version: i64, hash: &str) -> NodeState {
        NodeState { version, content_hash: hash.to_owned() }
    }

    fn change() -> NodeChange {
        NodeChange {
            kind: "view".to_owned(),
            name: "d.v".to_owned(),
            change: ChangeKind::Replace,
            before: Some("a".to_owned()),
            after: None,
        }
    }

    #[test]
    fn what_one_side_writes_the_other_reads() {
        let done = NodeDone {
            before: state(3, "a"),
            after: state(4, "b"),
            scripts: vec![ScriptDone {
                statements: 9,
                failed: 1,
                listed: vec![Listed {
                    place: Place { line: 7, column: 2 },
                    failed: true,
                    text: "CREATE VIEW".to_owned(),
                    message: "no".to_owned(),
                }],
                omitted: 2,
            }],
            invalid: vec![("d.x".to_owned(), "gone".to_owned())],
            refused: vec![("d.y".to_owned(), "a circle".to_owned())],
            changes: vec![change()],
        };
        let text = serde_json::to_string(&DoneBody::new(done.clone())).unwrap();
        assert_eq!(serde_json::from_str::<DoneBody>(&text).unwrap().read(), Some(done));
        for since in [None, Some(("a".to_owned(), vec![change()]))] {
            let report = NodeReport { name: "n".to_owned(), state: state(4, "b"), since };
            let text = serde_json::to_string(&NodeBody::new(report.clone())).unwrap();
            assert_eq!(serde_json::from_str::<NodeBody>(&text).unwrap().read(), Some(report));
        }
        for found in [None, Some(Application { from: 1, to: state(2, "c") })] {
            let text = serde_json::to_string(&ApplicationBody::new("k".to_owned(), found.clone())).unwrap();
            assert_eq!(serde_json::from_str::<ApplicationBody>(&text).unwrap().read(), Some(found));
        }
        let odd = r#"{"kind":"view","name":"v","change":"explode"}"#;
        assert_eq!(serde_json::from_str::<Change>(odd).unwrap().read(), None);
    }

    #[test]
    fn requests_are_read_as_they_are_written() {
        let work = NodeWork {
            scripts: vec![Script { name: "r".to_owned(), text: "CREATE DATABASE \"d\";\n".to_owned() }],
            properties: Properties::from([("a.PASSWORD".to_owned(), "it's \\ \u{1}".to_owned())]),
        };
        let body = serde_json::to_vec(&ApplyArguments::new(work.clone(), "h".to_owned(), "k".to_owned()));
        let read = read_apply(&body.unwrap()).unwrap().valid().unwrap();
        let scripts: Vec<_> =
            read.work.scripts.iter().map(|script| (script.name.as_str(), script.text.as_str())).collect();
        assert_eq!(scripts, [("r", "CREATE DATABASE \"d\";\n")]);
        assert_eq!(read.work.properties, work.properties);
        assert_eq!((read.expected_hash.as_str(), read.key.as_str()), ("h", "k"));
        for replace in ReplaceMode::ALL {
            let selection = Selection {
                database: "d".to_owned(),
                kind: RevisionType::Delete,
                elements: Some(vec!["v".to_owned()]),
                replace,
            };
            let body = serde_json::to_vec(&DescriptionArguments::new(selection.clone())).unwrap();
            assert_eq!(read_description(&body).unwrap().valid().unwrap(), selection);
        }
        let body = serde_json::to_vec(&RollbackArguments::new(3, "h".to_owned())).unwrap();
        let expected = NodeRollback { to: 3, expected_hash: "h".to_owned() };
        assert_eq!(read_rollback(&body).unwrap().valid().unwrap(), expected);
    }

    #[test]
    fn every_fault_of_a_request_is_named() {
        for (body, fields) in [
            (json!({}), vec!["scripts", "properties"]),
            (
                json!({ "scripts": [{}], "properties": 7 }),
                vec!["scripts.0.name", "scripts.0.text", "properties"],
            ),
            (
                json!({ "scripts": [], "properties": { "a": 1, "b": "x", "c": null } }),
                vec!["properties.a", "properties.c"],
            ),
            (json!({ "scripts": {}, "properties": {}, "strict": true }), vec!["scripts", "strict"]),
        ] {
            let error = read_plan(body.to_string().as_bytes()).unwrap().valid().err().unwrap();
            let found: Vec<_> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
            assert_eq!(found, fields, "{body}");
        }
    }
}
