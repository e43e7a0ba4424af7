//! What differs between two versions of a node.

use std::collections::BTreeSet;

use super::{Catalog, Key, Object, describe};
use crate::vql::print::Style;

/// One object that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub key: Key,
    pub kind: ChangeKind,
    /// Its statement in each version; passwords are not in it.
    pub before: Option<String>,
    pub after: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Create,
    Replace,
    Drop,
    /// It is as before, but something that it needs is not.
    Invalidate,
}

impl ChangeKind {
    const ALL: [ChangeKind; 4] =
        [ChangeKind::Create, ChangeKind::Replace, ChangeKind::Drop, ChangeKind::Invalidate];

    pub fn parse(text: &str) -> Option<ChangeKind> {
        ChangeKind::ALL.into_iter().find(|known| known.as_str() == text)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            ChangeKind::Create => "create",
            ChangeKind::Replace => "replace",
            ChangeKind::Drop => "drop",
            ChangeKind::Invalidate => "invalidate",
        }
    }
}

/// The objects that differ, in the order of their keys.
pub fn changes(before: &Catalog, after: &Catalog, invalid: &BTreeSet<&Key>) -> Vec<Change> {
    let keys: BTreeSet<&Key> = before.iter().chain(after.iter()).map(|(key, _)| key).collect();
    let text = |catalog: &Catalog, key: &Key| {
        let object: Option<&std::sync::Arc<Object>> = catalog.get(key);
        object.map(|object| describe::statement(key, object, Style { replace: true, ..Style::default() }))
    };
    let mut found = Vec::new();
    for key in keys {
        let (was, is) = (text(before, key), text(after, key));
        let connections =
            [before, after].map(|catalog| catalog.get(key).and_then(|object| object.connection));
        let kind = match (&was, &is) {
            (None, _) => ChangeKind::Create,
            (_, None) => ChangeKind::Drop,
            (Some(was), Some(is)) if was != is || connections[0] != connections[1] => ChangeKind::Replace,
            _ if invalid.contains(key) => ChangeKind::Invalidate,
            _ => continue,
        };
        found.push(Change { key: key.clone(), kind, before: was, after: is });
    }
    found
}
