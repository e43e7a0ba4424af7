//! Compares a face's table of routes with its OpenAPI document, and lists all permissions except one.

use std::collections::BTreeSet;

use landreeve_core::{Action, Noun, Permission};
use landreeve_delivery::nouns;
use serde_json::Value;

/// Fails if the table and the document do not have the same operations. A row is method, path and the required access:
/// `open`, `credential`, or a permission (`run:view`).
#[track_caller]
pub fn compare(document: &Value, table: &[(&str, &str, &str)]) {
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("a path item").keys() {
            documented.insert((method.to_uppercase(), path.clone()));
        }
    }
    let listed: BTreeSet<(String, String)> =
        table.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(listed, documented, "left: the face's table of routes; right: its routes");
    assert_eq!(listed.len(), table.len(), "a route is listed twice in the table");
    for (method, path, needs) in table {
        let known = matches!(*needs, "open" | "credential") || parse(needs).is_some();
        assert!(known, "{method} {path}: {needs:?} is not a kind of access");
    }
}

/// Every noun that a dialect's routes require permissions on.
const NOUNS: [Noun; 29] = [
    Noun::USER,
    Noun::GROUP,
    Noun::OU,
    Noun::ROLE,
    Noun::KEY,
    Noun::SETTING,
    Noun::AUDIT,
    Noun::RUN,
    Noun::DATASOURCE,
    Noun::new("dashboard"),
    Noun::new("report"),
    Noun::new("filter"),
    Noun::new("snippet"),
    nouns::DELIVERY,
    nouns::PERSON,
    nouns::TEAM,
    nouns::FEED,
    Noun::new("virtual_node"),
    Noun::new("environment"),
    Noun::new("revision"),
    Noun::new("deploy_development"),
    Noun::new("deploy_staging"),
    Noun::new("deploy_production"),
    Noun::new("repository"),
    Noun::new("backup"),
    Noun::new("restore"),
    Noun::new("record"),
    Noun::new("policy"),
    Noun::new("alert"),
];

/// Parses a permission from a route table.
pub fn parse(text: &str) -> Option<Permission> {
    everything().into_iter().find(|permission| permission.as_text() == text)
}

pub fn everything() -> Vec<Permission> {
    NOUNS.into_iter().flat_map(|noun| Action::SHARED.map(|action| Permission::new(noun, action))).collect()
}

/// Every permission that does not include `permission`.
pub fn everything_but(permission: Permission) -> Vec<Permission> {
    let mut all = everything();
    all.retain(|held| {
        held.noun != permission.noun || (held.action != permission.action && held.action != Action::MANAGE)
    });
    all
}
