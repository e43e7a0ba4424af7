//! The dialect's scopes and what each opens here.

use landreeve_core::{Action, Noun, Permission};

/// What a key gets when no scope is named: the Data Cloud's methods and `auth.info`, which needs none.
pub const DEFAULT_SCOPES: [&str; 1] = ["datacloud:write"];

const fn may(noun: Noun, action: Action) -> Permission {
    Permission::new(noun, action)
}

/// Scope and permissions. A scope whose methods are not there yet opens nothing, and is kept with the key.
const SCOPES: [(&str, &[Permission]); 14] = [
    ("snapshots:read", &[may(Noun::Team, Action::View), may(Noun::Feed, Action::View)]),
    ("snapshots:admin", &[may(Noun::Team, Action::Manage)]),
    ("catalog:read", &[]),
    ("catalog:write:entities", &[]),
    ("scorecards:read", &[]),
    ("scorecards:write", &[]),
    ("users:read", &[may(Noun::Person, Action::View)]),
    ("users:write", &[may(Noun::Person, Action::Manage)]),
    ("workflows:read", &[]),
    ("workflowRuns:trigger", &[]),
    ("workflowRuns:writeEvents", &[]),
    (
        "datacloud:query",
        &[may(Noun::Run, Action::View), may(Noun::Run, Action::Use), may(Noun::Delivery, Action::View)],
    ),
    // Ours: the Data Cloud's methods, for keys that have other scopes too.
    ("datacloud:write", &[may(Noun::Delivery, Action::Use)]),
    // Ours: also other people's query runs.
    ("datacloud:manage", &[may(Noun::Run, Action::Manage)]),
];

/// The permissions of a scope; `None` when the dialect has no such scope.
pub fn parse_scope(scope: &str) -> Option<Vec<Permission>> {
    SCOPES.iter().find(|(name, _)| *name == scope.trim()).map(|(_, permissions)| permissions.to_vec())
}

/// Every scope, for help texts.
pub fn scopes() -> impl Iterator<Item = &'static str> {
    SCOPES.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_found_by_their_names() {
        for scope in scopes() {
            assert!(parse_scope(scope).is_some(), "{scope}");
        }
        assert_eq!(parse_scope("datacloud:query").unwrap().len(), 3);
        assert_eq!(parse_scope("datacloud"), None);
    }
}
