//! What a list shows of a noun: what is in or below the caller's unit, limited to the caller's grants.

use landreeve_core::{Authority, OpCtx, Permission, Scope};

use super::grants;

/// For a query over rows that have a unit at `path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visibility {
    /// Only this subtree.
    pub path: String,
    /// Also only these paths (`,/1/7/,/1/9/,`), except for the ids; `None` means the whole subtree.
    pub roots: Option<String>,
    /// The ids of rows that are visible individually (`,7,9,`).
    pub ids: String,
}

impl Visibility {
    pub fn of(ctx: &OpCtx, permission: Permission) -> Visibility {
        Visibility::of_authority(ctx.authority(), permission)
    }

    fn of_authority(authority: &Authority, permission: Permission) -> Visibility {
        let (mut roots, mut ids) = (String::from(","), String::from(","));
        for grant in authority.grants().iter().filter(|grant| grants::matches(grant, permission)) {
            match &grant.scope {
                Scope::Subtree(root) => roots.push_str(&format!("{root},")),
                Scope::Resources(named) => named.iter().for_each(|id| ids.push_str(&format!("{id},"))),
            }
        }
        let all = authority.allows_here(permission);
        Visibility { path: authority.ou_path().to_owned(), roots: (!all).then_some(roots), ids }
    }
}
