//! What a caller is allowed to do. Every use case checks this value.

use crate::ids::OuId;
use crate::names::registered_name;

registered_name! {
    /// What a permission is about. The nouns shared by all planes are here; each plane registers its own.
    Noun
}

impl Noun {
    pub const USER: Noun = Noun::new("user");
    pub const GROUP: Noun = Noun::new("group");
    pub const OU: Noun = Noun::new("ou");
    pub const ROLE: Noun = Noun::new("role");
    pub const KEY: Noun = Noun::new("key");
    pub const SETTING: Noun = Noun::new("setting");
    pub const AUDIT: Noun = Noun::new("audit");
    pub const RUN: Noun = Noun::new("run");
    pub const DATASOURCE: Noun = Noun::new("datasource");
}

registered_name! {
    /// What a permission allows on a noun. A plane can add actions for its nouns.
    Action
}

impl Action {
    /// See that it exists and read it, without its secrets.
    pub const VIEW: Action = Action::new("view");
    /// Use it: query a datasource, start a run.
    pub const USE: Action = Action::new("use");
    /// Create, change and delete it, and see its secrets where a dialect shows them.
    pub const MANAGE: Action = Action::new("manage");

    /// The actions that every noun has.
    pub const SHARED: [Action; 3] = [Action::VIEW, Action::USE, Action::MANAGE];

    /// `MANAGE` includes every other action; any other action includes only itself. A key that runs queries does not
    /// need to see how the database is reached.
    fn covers(self, asked: Action) -> bool {
        self == Action::MANAGE || self == asked
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Permission {
    pub noun: Noun,
    pub action: Action,
}

impl Permission {
    pub const fn new(noun: Noun, action: Action) -> Permission {
        Permission { noun, action }
    }

    /// `datasource:manage`, as it is stored.
    pub fn as_text(self) -> String {
        format!("{}:{}", self.noun.as_str(), self.action.as_str())
    }

    /// A permission as read from a row. One whose names no plane registers grants nothing.
    pub fn stored(text: &str) -> Option<Permission> {
        let (noun, action) = text.split_once(':')?;
        Some(Permission { noun: Noun::stored(noun), action: Action::stored(action) })
    }
}

/// Where a grant applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// In this organizational unit and everything below it, given as the path of its ids (`/1/7/`).
    Subtree(String),
    /// Only for these resources of the permission's noun.
    Resources(Vec<i64>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub permission: Permission,
    pub scope: Scope,
}

/// Where a caller has one permission, within the unit that the caller works in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Granted {
    /// As paths. No subtree contains another.
    pub subtrees: Vec<String>,
    /// Ids of resources that are granted individually, in any unit.
    pub ids: Vec<i64>,
}

/// Everything granted to a caller, and the organizational unit the caller works in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    grants: Vec<Grant>,
    ou: OuId,
    /// The path of that unit: the caller reads what is in or below it, and writes into it.
    ou_path: String,
    /// The machine's operator, who can read the data directory anyway.
    all: bool,
}

impl Authority {
    pub fn new(grants: Vec<Grant>, ou: OuId, ou_path: impl Into<String>) -> Authority {
        Authority { grants, ou, ou_path: ou_path.into(), all: false }
    }

    /// The command line on the machine, and the server's own background work.
    pub fn operator() -> Authority {
        Authority { grants: Vec::new(), ou: OuId::ROOT, ou_path: "/1/".to_owned(), all: true }
    }

    /// The server's background work in one unit.
    pub fn operator_in(ou: OuId, ou_path: impl Into<String>) -> Authority {
        Authority { grants: Vec::new(), ou, ou_path: ou_path.into(), all: true }
    }

    /// The same, but nothing is granted outside of this subtree. Resources that are granted individually stay.
    #[must_use]
    pub fn within(self, path: &str) -> Authority {
        let inside = |grant: Grant| match &grant.scope {
            Scope::Subtree(root) if path.starts_with(root.as_str()) => {
                Some(Grant { scope: Scope::Subtree(path.to_owned()), ..grant })
            }
            Scope::Subtree(root) => root.starts_with(path).then_some(grant),
            Scope::Resources(_) => Some(grant),
        };
        Authority { grants: self.grants.into_iter().filter_map(inside).collect(), ..self }
    }

    pub fn ou(&self) -> OuId {
        self.ou
    }

    pub fn ou_path(&self) -> &str {
        &self.ou_path
    }

    /// Whether the caller may do this to the resource `id`, which is in the unit at `path`.
    pub fn allows(&self, permission: Permission, path: &str, id: i64) -> bool {
        path.starts_with(&self.ou_path)
            && (self.all
                || self.matching(permission).any(|grant| match &grant.scope {
                    Scope::Subtree(root) => path.starts_with(root.as_str()),
                    Scope::Resources(ids) => ids.contains(&id),
                }))
    }

    /// Whether the caller may do this in their own unit, to resources that may not exist yet.
    pub fn allows_here(&self, permission: Permission) -> bool {
        self.all
            || self.matching(permission).any(|grant| match &grant.scope {
                Scope::Subtree(root) => self.ou_path.starts_with(root.as_str()),
                Scope::Resources(_) => false,
            })
    }

    /// Whether the caller may do this to what belongs to the whole estate, whichever unit they work in.
    pub fn allows_everywhere(&self, permission: Permission) -> bool {
        self.all
            || self
                .matching(permission)
                .any(|grant| matches!(&grant.scope, Scope::Subtree(root) if root == "/1/"))
    }

    /// Whether the caller may do this to anything at all. Lists check this, then filter.
    pub fn allows_some(&self, permission: Permission) -> bool {
        self.all || self.matching(permission).next().is_some()
    }

    /// Where, in the caller's unit or below it, the caller may do this: whole subtrees, and resources by id.
    pub fn granted(&self, permission: Permission) -> Granted {
        if self.allows_here(permission) {
            return Granted { subtrees: vec![self.ou_path.clone()], ids: Vec::new() };
        }
        let mut granted = Granted::default();
        for grant in self.matching(permission) {
            match &grant.scope {
                Scope::Subtree(root) if root.starts_with(&self.ou_path) => {
                    granted.subtrees.push(root.clone())
                }
                Scope::Subtree(_) => {}
                Scope::Resources(ids) => granted.ids.extend(ids),
            }
        }
        granted.ids.sort_unstable();
        granted.ids.dedup();
        granted.subtrees.sort();
        granted.subtrees.dedup();
        // In sorted order, a subtree comes directly before everything inside it.
        let mut outer: Vec<String> = Vec::new();
        for root in granted.subtrees {
            if !outer.last().is_some_and(|last| root.starts_with(last.as_str())) {
                outer.push(root);
            }
        }
        Granted { subtrees: outer, ids: granted.ids }
    }

    /// The subtrees, as paths, in which the caller may do this to the resource `id` of a kind that exists in every
    /// unit: what the caller sees through a built-in source. No subtree contains another.
    pub fn reach(&self, permission: Permission, id: i64) -> Vec<String> {
        let granted = self.granted(permission);
        if granted.ids.contains(&id) { vec![self.ou_path.clone()] } else { granted.subtrees }
    }

    pub fn is_operator(&self) -> bool {
        self.all
    }

    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    fn matching(&self, permission: Permission) -> impl Iterator<Item = &Grant> {
        self.grants.iter().filter(move |grant| {
            grant.permission.noun == permission.noun && grant.permission.action.covers(permission.action)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_granted_outside_of_a_subtree() {
        let grant = |scope| Grant { permission: Permission::new(Noun::DATASOURCE, Action::VIEW), scope };
        let subtree = |path: &str| Scope::Subtree(path.to_owned());
        for (held, left) in [
            (subtree("/1/"), Some(subtree("/1/7/"))),
            (subtree("/1/7/"), Some(subtree("/1/7/"))),
            (subtree("/1/7/9/"), Some(subtree("/1/7/9/"))),
            (subtree("/1/8/"), None),
            (subtree("/1/77/"), None),
            (Scope::Resources(vec![3]), Some(Scope::Resources(vec![3]))),
        ] {
            let authority = Authority::new(vec![grant(held.clone())], OuId(7), "/1/7/").within("/1/7/");
            let expected: Vec<Grant> = left.into_iter().map(grant).collect();
            assert_eq!(authority.grants(), expected, "{held:?}");
        }
    }

    const VIEW: Permission = Permission::new(Noun::DATASOURCE, Action::VIEW);
    const MANAGE: Permission = Permission::new(Noun::DATASOURCE, Action::MANAGE);

    fn authority(scope: Scope, permission: Permission, path: &str) -> Authority {
        Authority::new(vec![Grant { permission, scope }], OuId(2), path)
    }

    #[test]
    fn a_subtree_covers_only_its_descendants() {
        let caller = authority(Scope::Subtree("/1/2/".into()), MANAGE, "/1/2/");
        assert!(caller.allows(VIEW, "/1/2/", 9) && caller.allows(MANAGE, "/1/2/5/", 9));
        assert!(!caller.allows(VIEW, "/1/", 9) && !caller.allows(VIEW, "/1/20/", 9));
    }

    #[test]
    fn named_resources_grant_nothing_else() {
        let caller = authority(Scope::Resources(vec![4]), VIEW, "/1/");
        assert!(caller.allows(VIEW, "/1/", 4) && !caller.allows(VIEW, "/1/", 5));
        assert!(!caller.allows(MANAGE, "/1/", 4) && !caller.allows_here(VIEW) && caller.allows_some(VIEW));
    }

    #[test]
    fn permissions_round_trip_through_text() {
        for noun in [Noun::USER, Noun::RUN, Noun::new("a_noun_of_a_plane")] {
            for action in Action::SHARED.into_iter().chain([Action::new("approve")]) {
                let permission = Permission::new(noun, action);
                assert_eq!(Permission::stored(&permission.as_text()), Some(permission));
            }
        }
        assert_eq!(Permission::stored("datasource"), None);
    }

    #[test]
    fn only_manage_covers_the_action_of_a_plane() {
        const APPROVE: Action = Action::new("approve");
        let approve = Permission::new(Noun::RUN, APPROVE);
        for (held, allowed) in
            [(Action::MANAGE, true), (APPROVE, true), (Action::USE, false), (Action::VIEW, false)]
        {
            let caller = authority(Scope::Subtree("/1/".into()), Permission::new(Noun::RUN, held), "/1/");
            assert_eq!(caller.allows_here(approve), allowed, "{held}");
        }
    }
}
