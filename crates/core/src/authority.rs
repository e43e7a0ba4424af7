//! What a caller may do: the value that every use case asks.

use crate::ids::OuId;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Noun {
    User,
    Group,
    Ou,
    Role,
    Key,
    Setting,
    Audit,
    Run,
    Datasource,
    Dashboard,
    Report,
    Filter,
    Snippet,
    /// Deployments, changes, incidents, pipeline runs, custom data. To use it is to record them.
    Delivery,
    Person,
    Team,
    /// A saved query over delivery data.
    Feed,
}

impl Noun {
    pub const ALL: [Noun; 17] = [
        Noun::User,
        Noun::Group,
        Noun::Ou,
        Noun::Role,
        Noun::Key,
        Noun::Setting,
        Noun::Audit,
        Noun::Run,
        Noun::Datasource,
        Noun::Dashboard,
        Noun::Report,
        Noun::Filter,
        Noun::Snippet,
        Noun::Delivery,
        Noun::Person,
        Noun::Team,
        Noun::Feed,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Noun::User => "user",
            Noun::Group => "group",
            Noun::Ou => "ou",
            Noun::Role => "role",
            Noun::Key => "key",
            Noun::Setting => "setting",
            Noun::Audit => "audit",
            Noun::Run => "run",
            Noun::Datasource => "datasource",
            Noun::Dashboard => "dashboard",
            Noun::Report => "report",
            Noun::Filter => "filter",
            Noun::Snippet => "snippet",
            Noun::Delivery => "delivery",
            Noun::Person => "person",
            Noun::Team => "team",
            Noun::Feed => "feed",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// See that it is there and what it says, without its secrets.
    View,
    /// Put it to work: query a datasource, start a run.
    Use,
    /// Create, change and delete it, and see its secrets where a dialect shows them.
    Manage,
}

impl Action {
    pub const ALL: [Action; 3] = [Action::View, Action::Use, Action::Manage];

    pub const fn as_str(self) -> &'static str {
        match self {
            Action::View => "view",
            Action::Use => "use",
            Action::Manage => "manage",
        }
    }

    /// Whoever may manage a thing may also use and view it. Using it shows nothing of it: a key that runs queries need
    /// not see how the database is reached.
    const fn covers(self, asked: Action) -> bool {
        match self {
            Action::Manage => true,
            Action::Use => matches!(asked, Action::Use),
            Action::View => matches!(asked, Action::View),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Permission {
    pub noun: Noun,
    pub action: Action,
}

impl Permission {
    pub const fn new(noun: Noun, action: Action) -> Permission {
        Permission { noun, action }
    }

    /// `datasource:manage`, as the store keeps it.
    pub fn as_text(self) -> String {
        format!("{}:{}", self.noun.as_str(), self.action.as_str())
    }

    pub fn parse(text: &str) -> Option<Permission> {
        let (noun, action) = text.split_once(':')?;
        Some(Permission {
            noun: Noun::ALL.into_iter().find(|known| known.as_str() == noun)?,
            action: Action::ALL.into_iter().find(|known| known.as_str() == action)?,
        })
    }
}

/// Where a grant holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// In this organizational unit and everything below it, given as the path of its ids (`/1/7/`).
    Subtree(String),
    /// For these resources of the permission's noun only.
    Resources(Vec<i64>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub permission: Permission,
    pub scope: Scope,
}

/// Everything granted to one caller, and the organizational unit the caller works in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    grants: Vec<Grant>,
    ou: OuId,
    /// The path of that unit: what is read lies in or below it, what is written goes into it.
    ou_path: String,
    /// The operator of the machine, who may read the data directory anyway.
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

    pub fn ou(&self) -> OuId {
        self.ou
    }

    pub fn ou_path(&self) -> &str {
        &self.ou_path
    }

    /// May the caller do this to the thing `id`, which lives in the unit at `path`?
    pub fn allows(&self, permission: Permission, path: &str, id: i64) -> bool {
        path.starts_with(&self.ou_path)
            && (self.all
                || self.matching(permission).any(|grant| match &grant.scope {
                    Scope::Subtree(root) => path.starts_with(root.as_str()),
                    Scope::Resources(ids) => ids.contains(&id),
                }))
    }

    /// May the caller do this in the caller's own unit, to things that need not exist yet?
    pub fn allows_here(&self, permission: Permission) -> bool {
        self.all
            || self.matching(permission).any(|grant| match &grant.scope {
                Scope::Subtree(root) => self.ou_path.starts_with(root.as_str()),
                Scope::Resources(_) => false,
            })
    }

    /// May the caller do this to what belongs to the estate as a whole, wherever the caller works just now?
    pub fn allows_everywhere(&self, permission: Permission) -> bool {
        self.all
            || self
                .matching(permission)
                .any(|grant| matches!(&grant.scope, Scope::Subtree(root) if root == "/1/"))
    }

    /// May the caller do this to anything at all? Lists ask this, then filter.
    pub fn allows_some(&self, permission: Permission) -> bool {
        self.all || self.matching(permission).next().is_some()
    }

    /// The subtrees, as paths, in which the caller may do this to the thing `id` of a kind that is in every unit: what
    /// the caller sees through a built-in source. None lies in another.
    pub fn reach(&self, permission: Permission, id: i64) -> Vec<String> {
        let whole = self.all
            || self.allows_here(permission)
            || self
                .matching(permission)
                .any(|grant| matches!(&grant.scope, Scope::Resources(ids) if ids.contains(&id)));
        if whole {
            return vec![self.ou_path.clone()];
        }
        let mut roots: Vec<String> = self
            .matching(permission)
            .filter_map(|grant| match &grant.scope {
                Scope::Subtree(root) if root.starts_with(&self.ou_path) => Some(root.clone()),
                _ => None,
            })
            .collect();
        roots.sort();
        roots.dedup();
        let outer = roots.clone();
        roots.retain(|root| !outer.iter().any(|other| other != root && root.starts_with(other.as_str())));
        roots
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

    const VIEW: Permission = Permission::new(Noun::Datasource, Action::View);
    const MANAGE: Permission = Permission::new(Noun::Datasource, Action::Manage);

    fn authority(scope: Scope, permission: Permission, path: &str) -> Authority {
        Authority::new(vec![Grant { permission, scope }], OuId(2), path)
    }

    #[test]
    fn a_subtree_covers_what_lies_below_and_nothing_beside() {
        let caller = authority(Scope::Subtree("/1/2/".into()), MANAGE, "/1/2/");
        assert!(caller.allows(VIEW, "/1/2/", 9) && caller.allows(MANAGE, "/1/2/5/", 9));
        assert!(!caller.allows(VIEW, "/1/", 9) && !caller.allows(VIEW, "/1/20/", 9));
    }

    #[test]
    fn named_resources_open_nothing_else() {
        let caller = authority(Scope::Resources(vec![4]), VIEW, "/1/");
        assert!(caller.allows(VIEW, "/1/", 4) && !caller.allows(VIEW, "/1/", 5));
        assert!(!caller.allows(MANAGE, "/1/", 4) && !caller.allows_here(VIEW) && caller.allows_some(VIEW));
    }

    #[test]
    fn permissions_have_a_text_and_it_comes_back() {
        for noun in Noun::ALL {
            for action in Action::ALL {
                let permission = Permission::new(noun, action);
                assert_eq!(Permission::parse(&permission.as_text()), Some(permission));
            }
        }
    }
}
