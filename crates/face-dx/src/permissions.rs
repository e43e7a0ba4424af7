//! The dialect's scopes and the permissions that each grants.

use landreeve_core::{Action, Noun, Permission};
use landreeve_delivery::nouns;

/// The default scope of a key: the Data Cloud's methods. `auth.info` needs none.
pub const DEFAULT_SCOPES: [&str; 1] = ["datacloud:write"];

const fn may(noun: Noun, action: Action) -> Permission {
    Permission::new(noun, action)
}

/// Scopes and their permissions. A scope whose methods do not exist yet grants nothing, but is stored with the key.
const SCOPES: [(&str, &[Permission]); 14] = [
    ("snapshots:read", &[may(nouns::TEAM, Action::VIEW), may(nouns::FEED, Action::VIEW)]),
    ("snapshots:admin", &[may(nouns::TEAM, Action::MANAGE)]),
    ("catalog:read", &[]),
    ("catalog:write:entities", &[]),
    ("scorecards:read", &[]),
    ("scorecards:write", &[]),
    ("users:read", &[may(nouns::PERSON, Action::VIEW)]),
    ("users:write", &[may(nouns::PERSON, Action::MANAGE)]),
    ("workflows:read", &[]),
    ("workflowRuns:trigger", &[]),
    ("workflowRuns:writeEvents", &[]),
    (
        "datacloud:query",
        &[may(Noun::RUN, Action::VIEW), may(Noun::RUN, Action::USE), may(nouns::DELIVERY, Action::VIEW)],
    ),
    // Our extension: the Data Cloud's methods, for keys that have other scopes too.
    ("datacloud:write", &[may(nouns::DELIVERY, Action::USE)]),
    // Our extension: also other users' query runs.
    ("datacloud:manage", &[may(Noun::RUN, Action::MANAGE)]),
];

/// The permissions of a scope; `None` if the dialect does not have it.
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
    fn scopes_are_found_by_name() {
        for scope in scopes() {
            assert!(parse_scope(scope).is_some(), "{scope}");
        }
        assert_eq!(parse_scope("datacloud:query").unwrap().len(), 3);
        assert_eq!(parse_scope("datacloud"), None);
    }
}
