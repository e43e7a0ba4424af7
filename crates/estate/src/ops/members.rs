//! Users with their roles in units, as dialects create and change them: all changes of a request in one transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use landreeve_core::error::{Faults, codes};
use landreeve_core::ids::{OuId, RoleId, UserId};
use landreeve_core::{Action, Error, Fault, Input, Noun, OpCtx, Result};
use uuid::Uuid;

use super::access::Access;
use super::users::{self, NewUser};
use crate::Estate;
use crate::builtin::{ADMINISTRATOR, UNIT_ADMINISTRATOR};
use crate::estate::OwnedAct;
use crate::identity::grants::{self, Assignment, NewGrant, Role, Subject};
use crate::identity::{Ou, User, UserChange, Visibility, ous};

/// A user who signs in with an email address.
#[derive(Debug, Clone)]
pub struct NewMember {
    pub email: String,
    pub full_name: String,
    pub access: NewAccess,
}

#[derive(Debug, Clone)]
pub enum NewAccess {
    Each(Vec<Access>),
    /// One role in all units. Default: the caller's unit, and the role that administers it.
    One {
        role: Option<Uuid>,
        units: Vec<Uuid>,
    },
}

#[derive(Debug, Clone, Default)]
pub struct MemberChange {
    pub user: UserChange,
    pub roles: RoleChange,
}

#[derive(Debug, Clone)]
pub enum RoleChange {
    Each {
        add: Vec<Access>,
        remove: Vec<Access>,
    },
    /// For dialects in which a user has one role in all units.
    One {
        role: Option<Uuid>,
        add: Vec<Uuid>,
        remove: Vec<Uuid>,
    },
}

impl Default for RoleChange {
    fn default() -> RoleChange {
        RoleChange::Each { add: Vec::new(), remove: Vec::new() }
    }
}

impl RoleChange {
    fn is_empty(&self) -> bool {
        match self {
            RoleChange::Each { add, remove } => add.is_empty() && remove.is_empty(),
            RoleChange::One { role, add, remove } => role.is_none() && add.is_empty() && remove.is_empty(),
        }
    }

    fn units(&self) -> Vec<Uuid> {
        match self {
            RoleChange::Each { add, remove } => units_of(add).chain(units_of(remove)).collect(),
            RoleChange::One { add, remove, .. } => add.iter().chain(remove).copied().collect(),
        }
    }
}

fn units_of(access: &[Access]) -> impl Iterator<Item = Uuid> + '_ {
    access.iter().flat_map(|access| access.units.iter().copied())
}

/// A role in a unit.
type Held = (RoleId, OuId);

/// Creates a user without a password. The name is the email address.
pub async fn member_create(estate: &Estate, ctx: &OpCtx, new: impl Into<Input<NewMember>>) -> Result<User> {
    estate.require_some(ctx, Noun::USER, Action::MANAGE).await?;
    let new = new.into();
    let mut faults = Faults::default();
    let held = match &new.value().access {
        NewAccess::Each(access) => {
            let known = Known::load(estate, ctx, units_of(access)).await?;
            known.each("access", access, &mut faults)
        }
        NewAccess::One { role, units } => {
            let known = Known::load(estate, ctx, units.iter().copied()).await?;
            let mut units = known.many("units", units, &mut faults);
            if units.is_empty() {
                units.insert(ctx.authority().ou());
            }
            let role = match role {
                Some(role) => known.role("role", *role, &mut faults),
                None => Some(default_role(&known, ctx, &units)),
            };
            role.map(|role| units.into_iter().map(|unit| (role, unit)).collect()).unwrap_or_default()
        }
    };
    let new = new.settled(faults)?;
    let user = NewUser {
        name: new.email.clone(),
        email: new.email,
        full_name: new.full_name,
        password: None,
        grants: given(&held),
    };
    users::user_create(estate, ctx, user).await.map_err(|error| match error.code {
        codes::TAKEN => users::email_taken(),
        _ => error,
    })
}

fn given(held: &BTreeSet<Held>) -> Vec<NewGrant> {
    held.iter().map(|(role, unit)| NewGrant::Role(*role, *unit)).collect()
}

/// Administrators of everything create more of them; everyone else those of units.
fn default_role(known: &Known, ctx: &OpCtx, units: &BTreeSet<OuId>) -> RoleId {
    let everything = known.roles.iter().find(|role| role.id == ADMINISTRATOR);
    let covered = everything.is_some_and(|role| {
        role.permissions.iter().all(|permission| ctx.authority().allows_everywhere(*permission))
    });
    let only_root = units.iter().all(|unit| *unit == OuId::ROOT);
    if covered && only_root { ADMINISTRATOR } else { UNIT_ADMINISTRATOR }
}

/// Changes a user and their roles in the units that the caller sees, all or nothing.
pub async fn member_update(
    estate: &Estate,
    ctx: &OpCtx,
    id: UserId,
    change: impl Into<Input<MemberChange>>,
) -> Result<User> {
    let change = change.into();
    if change.value().roles.is_empty() {
        return users::user_update(estate, ctx, id, change.valid()?.user).await;
    }
    estate.require_some(ctx, Noun::USER, Action::MANAGE).await?;
    estate.require_some(ctx, Noun::ROLE, Action::MANAGE).await?;
    users::user_get(estate, ctx, id).await?;
    let plan = plan(estate, ctx, id, change).await?;
    if ctx.actor().user() == Some(id) {
        let message = "you cannot change your own roles; ask another administrator";
        return Err(Error::conflict("own_roles", message));
    }
    users::require_covers_user(estate, ctx, id).await?;
    users::require_covers(estate, ctx, &given(&plan.add)).await?;
    users::require_covers(estate, ctx, &given(&plan.remove)).await?;
    carry_out(estate, ctx, id, plan).await
}

/// What a change of roles comes to.
#[derive(Clone)]
struct Plan {
    user: UserChange,
    detail: String,
    /// The user's grants when the change was planned.
    before: Vec<Assignment>,
    add: BTreeSet<Held>,
    remove: BTreeSet<Held>,
}

async fn plan(estate: &Estate, ctx: &OpCtx, id: UserId, change: Input<MemberChange>) -> Result<Plan> {
    let known = Known::load(estate, ctx, change.value().roles.units().into_iter()).await?;
    let mut conn = estate.store().read().await?;
    let before = grants::assignments(&mut conn, Subject::User(id)).await?;
    let named = before.iter().filter_map(|held| held.ou).collect();
    let visible = ous::uuids(&mut conn, &Visibility::below(ctx), &named).await?;
    drop(conn);
    // In the order in which they were granted.
    let held = before.iter().filter_map(|held| Some((held.role?, held.ou?)));
    let held: Vec<Held> = held.filter(|(_, unit)| visible.contains_key(unit)).collect();
    let mut faults = Faults::default();
    let after = match &change.value().roles {
        RoleChange::Each { add, remove } => {
            let remove = known.each("remove", remove, &mut faults);
            let add = known.each("add", add, &mut faults);
            held.iter().copied().filter(|held| !remove.contains(held)).chain(add).collect()
        }
        RoleChange::One { role, add, remove } => {
            let remove = known.many("remove", remove, &mut faults);
            let add = known.many("add", add, &mut faults);
            let wanted = role.and_then(|role| known.role("role", role, &mut faults));
            let kept = held.iter().copied().filter(|(_, unit)| !remove.contains(unit));
            let kept: Vec<Held> = kept.map(|(role, unit)| (wanted.unwrap_or(role), unit)).collect();
            match wanted.or_else(|| held.first().map(|(role, _)| *role)) {
                None if role.is_none() && !add.is_empty() => {
                    faults.push("role", codes::REQUIRED, "is required, because the user has no role");
                }
                Some(_) if role.is_some() && kept.is_empty() && add.is_empty() => {
                    let message = "needs a unit to add, because the user would have the role nowhere";
                    faults.push("role", "no_unit", message);
                }
                _ => {}
            }
            let role = wanted.or_else(|| held.first().map(|(role, _)| *role));
            let added = role.into_iter().flat_map(|role| add.iter().map(move |unit| (role, *unit)));
            kept.into_iter().chain(added).collect::<BTreeSet<_>>()
        }
    };
    let change = change.settled(faults)?;
    let held: BTreeSet<Held> = held.into_iter().collect();
    let (add, remove) = (&after - &held, &held - &after);
    let detail = known.describe(&change.user, &add, &remove);
    Ok(Plan { user: change.user, detail, before, add, remove })
}

async fn carry_out(estate: &Estate, ctx: &OpCtx, id: UserId, plan: Plan) -> Result<User> {
    let (new, now) = (users::numbered(estate, given(&plan.add)).await?, estate.now());
    let act = OwnedAct::new("updated", Noun::USER, id.0, plan.detail.clone());
    estate
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                // First, so that a concurrent change waits.
                tx.bump_epoch().await?;
                let subject = Subject::User(id);
                if grants::assignments(tx, subject).await? != plan.before {
                    let message = "the roles of the user were changed by another request; try again";
                    return Err(Error::conflict("changed", message));
                }
                for (role, unit) in &plan.remove {
                    grants::revoke_role(tx, subject, *role, *unit).await?;
                }
                for (grant_id, grant) in &new {
                    grants::insert(tx, *grant_id, subject, grant, now).await?;
                }
                let user = users::apply(tx, id, plan.user, now).await?;
                if plan.remove.contains(&(ADMINISTRATOR, OuId::ROOT)) {
                    users::keep_an_administrator(tx).await?;
                }
                Ok(user)
            })
        })
        .await
}

/// The roles, and the units that a request names, as far as the caller sees them.
struct Known {
    roles: Vec<Role>,
    units: HashMap<Uuid, Ou>,
}

/// Changes that an audit event names.
const MAX_NAMED: usize = 20;

impl Known {
    async fn load(estate: &Estate, ctx: &OpCtx, units: impl Iterator<Item = Uuid>) -> Result<Known> {
        let units: BTreeSet<Uuid> = units.collect();
        let mut conn = estate.store().read().await?;
        let roles = grants::roles(&mut conn).await?;
        let units = ous::by_uuids(&mut conn, &Visibility::below(ctx), &units).await?;
        Ok(Known { roles, units: units.into_iter().map(|unit| (unit.uuid, unit)).collect() })
    }

    fn role(&self, field: &str, uuid: Uuid, faults: &mut Faults) -> Option<RoleId> {
        let found = self.roles.iter().find(|role| role.uuid == uuid).map(|role| role.id);
        if found.is_none() {
            faults.add(Fault::new(field, codes::UNKNOWN, "is not the id of a role"));
        }
        found
    }

    fn unit(&self, field: String, uuid: Uuid, faults: &mut Faults) -> Option<OuId> {
        let found = self.units.get(&uuid).map(|unit| unit.id);
        if found.is_none() {
            faults.push(field, codes::UNKNOWN, "is not the id of an organizational unit");
        }
        found
    }

    fn many(&self, at: &str, units: &[Uuid], faults: &mut Faults) -> BTreeSet<OuId> {
        let units = units.iter().enumerate();
        units.filter_map(|(index, unit)| self.unit(format!("{at}.{index}"), *unit, faults)).collect()
    }

    fn each(&self, at: &str, access: &[Access], faults: &mut Faults) -> BTreeSet<Held> {
        let mut held = BTreeSet::new();
        for (index, access) in access.iter().enumerate() {
            let role = self.role(&format!("{at}.{index}.role"), access.role, faults);
            let units = self.many(&format!("{at}.{index}.units"), &access.units, faults);
            held.extend(role.into_iter().flat_map(|role| units.iter().map(move |unit| (role, *unit))));
        }
        held
    }

    fn describe(&self, user: &UserChange, add: &BTreeSet<Held>, remove: &BTreeSet<Held>) -> String {
        let names: BTreeMap<RoleId, &str> =
            self.roles.iter().map(|role| (role.id, role.name.as_str())).collect();
        let all = [("granted", add), ("revoked", remove)];
        let all = all.into_iter().flat_map(|(what, held)| held.iter().map(move |held| (what, held)));
        let named = all.take(MAX_NAMED).map(|(what, (role, unit))| {
            format!("{what} {} in unit {unit}", names.get(role).copied().unwrap_or_default())
        });
        let own = Some(users::describe(user)).filter(|own| !own.is_empty());
        own.into_iter().chain(named).collect::<Vec<_>>().join(", ")
    }
}
