//! What users are allowed to do, in this dialect's form: pairs of a role and units.

use std::collections::HashMap;

use landreeve_core::ids::{OuId, RoleId, UserId};
use landreeve_core::{Action, Noun, OpCtx, Permission, Result};
use landreeve_estate::ops::{Estate, Subject, ous, users};
use uuid::Uuid;

/// Roles and units by the ids that grants refer to.
pub struct Directory {
    roles: HashMap<RoleId, Uuid>,
    units: HashMap<OuId, Uuid>,
}

/// A role, and the units in which a user has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    pub role: Uuid,
    pub units: Vec<Uuid>,
}

impl Directory {
    /// `None` for a caller who can only see their own record, without its roles.
    pub async fn open(estate: &Estate, ctx: &OpCtx) -> Result<Option<Directory>> {
        if !ctx.authority().allows_some(Permission::new(Noun::USER, Action::VIEW)) {
            return Ok(None);
        }
        let roles = users::role_list(estate, ctx).await?.into_iter().map(|role| (role.id, role.uuid));
        let units = ous::ou_list(estate, ctx).await?.into_iter().map(|unit| (unit.id, unit.uuid));
        Ok(Some(Directory { roles: roles.collect(), units: units.collect() }))
    }

    /// Leaves out grants in units that the caller cannot see.
    pub async fn of(&self, estate: &Estate, ctx: &OpCtx, user: UserId) -> Result<Vec<Access>> {
        let mut found: Vec<Access> = Vec::new();
        for held in users::assignments(estate, ctx, Subject::User(user)).await? {
            let role = held.role.and_then(|role| self.roles.get(&role));
            let unit = held.ou.and_then(|unit| self.units.get(&unit));
            let (Some(role), Some(unit)) = (role, unit) else { continue };
            match found.iter_mut().find(|access| access.role == *role) {
                Some(access) => access.units.push(*unit),
                None => found.push(Access { role: *role, units: vec![*unit] }),
            }
        }
        Ok(found)
    }
}
