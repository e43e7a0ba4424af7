//! What users are allowed to do, as roles and units, for dialects that show users this way.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use landreeve_core::ids::{RoleId, UserId};
use landreeve_core::{Action, Noun, OpCtx, Permission, Result};
use uuid::Uuid;

use super::{ous, users};
use crate::Estate;
use crate::identity::{Subject, grants};

/// A role, and the units in which a user has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    pub role: Uuid,
    pub units: Vec<Uuid>,
}

/// How many users have each role, in units that the caller sees. Roles that users have through a group do not count.
pub async fn role_counts(estate: &Estate, ctx: &OpCtx) -> Result<HashMap<RoleId, u64>> {
    estate.require_some(ctx, Noun::USER, Action::VIEW).await?;
    let below = ctx.authority().ou_path();
    grants::user_counts(&mut estate.store().read().await?, below).await
}

/// What each of these users is allowed to do. `None` for a caller who can only see their own record, without its roles.
/// Leaves out grants in units that the caller cannot see.
pub async fn access_of(
    estate: &Estate,
    ctx: &OpCtx,
    asked: &[UserId],
) -> Result<Option<BTreeMap<UserId, Vec<Access>>>> {
    if !ctx.authority().allows_some(Permission::new(Noun::USER, Action::VIEW)) {
        return Ok(None);
    }
    let mut held = Vec::with_capacity(asked.len());
    let mut named = BTreeSet::new();
    for user in asked {
        let assignments = users::assignments(estate, ctx, Subject::User(*user)).await?;
        named.extend(assignments.iter().filter_map(|held| held.ou));
        held.push((*user, assignments));
    }
    let units = ous::ou_uuids(estate, ctx, &named).await?;
    let roles = users::role_list(estate, ctx).await?.into_iter().map(|role| (role.id, role.uuid));
    let roles: HashMap<RoleId, Uuid> = roles.collect();
    let mut all = BTreeMap::new();
    for (user, assignments) in held {
        let mut found: Vec<Access> = Vec::new();
        for held in assignments {
            let role = held.role.and_then(|role| roles.get(&role));
            let unit = held.ou.and_then(|unit| units.get(&unit));
            let (Some(role), Some(unit)) = (role, unit) else { continue };
            match found.iter_mut().find(|access| access.role == *role) {
                Some(access) => access.units.push(*unit),
                None => found.push(Access { role: *role, units: vec![*unit] }),
            }
        }
        all.insert(user, found);
    }
    Ok(Some(all))
}
