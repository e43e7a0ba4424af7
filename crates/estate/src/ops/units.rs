//! Organizational units for administrators: list, show, create, change and delete, with what belongs to them.

use std::sync::Arc;

use landreeve_core::error::{Faults, codes};
use landreeve_core::ids::{AuditId, GrantId, OuId, RoleId, UserId};
use landreeve_core::{Action, Error, Input, Noun, OpCtx, Page, PageOf, Permission, Result};
use uuid::Uuid;

use super::{datasources, ous, runs, users};
use crate::Estate;
use crate::audit::{self, Act};
use crate::estate::OwnedAct;
use crate::identity::grants::{self, Assignment, NewGrant, Role, Subject};
use crate::identity::{Ou, Visibility, ous as rows, units};
use crate::runs::{NewRun, Run};
use crate::store::{next_in, taken};
use crate::units::{
    self as changing, Immediate, Move, ORGANIZATIONAL_UNIT_UPDATE, Rehearsal, StoredUnitChange,
};

pub use crate::identity::units::{Unit, UnitFilter};

const VIEW: Permission = Permission::new(Noun::OU, Action::VIEW);

#[derive(Debug, Clone, Default)]
pub struct NewUnit {
    /// Default: the caller's unit.
    pub parent: Option<Uuid>,
    pub name: String,
    pub description: String,
    /// Datasources that move there.
    pub datasources: Vec<Uuid>,
    pub users: Vec<UnitUser>,
}

/// A user of a unit. Without a role, to add: the first role that the user has; to remove: every role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitUser {
    pub user: i64,
    pub role: Option<Uuid>,
}

#[derive(Debug, Clone, Default)]
pub struct UnitChange {
    pub name: Option<String>,
    pub description: Option<String>,
    /// Datasources that move there, and those that move to the parent.
    pub add: Vec<Uuid>,
    pub remove: Vec<Uuid>,
    pub add_users: Vec<UnitUser>,
    pub remove_users: Vec<UnitUser>,
}

pub async fn unit_page(estate: &Estate, ctx: &OpCtx, asked: &UnitFilter, page: Page) -> Result<PageOf<Unit>> {
    estate.require_some(ctx, Noun::OU, Action::VIEW).await?;
    units::page(&mut estate.store().read().await?, &Visibility::of(ctx, VIEW), asked, page).await
}

pub async fn unit_get(estate: &Estate, ctx: &OpCtx, uuid: Uuid) -> Result<Unit> {
    let ou = allowed(estate, ctx, uuid, Action::VIEW).await?;
    shown(estate, ou.id).await
}

async fn shown(estate: &Estate, id: OuId) -> Result<Unit> {
    let found = units::get(&mut estate.store().read().await?, id).await?;
    found.ok_or_else(|| Error::not_found("organizational unit"))
}

async fn allowed(estate: &Estate, ctx: &OpCtx, uuid: Uuid, action: Action) -> Result<Ou> {
    let ou = ous::ou_get(estate, ctx, uuid).await?;
    estate.require(ctx, Noun::OU, action, &ou.path, ou.id.0).await?;
    Ok(ou)
}

/// Creates a unit. A run moves its datasources, if there are any.
pub async fn unit_create(
    estate: &Estate,
    ctx: &OpCtx,
    new: impl Into<Input<NewUnit>>,
) -> Result<(Unit, Option<Run>)> {
    estate.require_some(ctx, Noun::OU, Action::MANAGE).await?;
    let new = new.into();
    let mut faults = Faults::default();
    let named = match new.value().parent {
        Some(uuid) => ous::ou_get(estate, ctx, uuid).await.ok(),
        None => Some(ous::ou_current(estate, ctx).await?),
    };
    let Some(parent) = named else {
        faults.push("parent", codes::UNKNOWN, "is not the id of an organizational unit");
        return new.settled(faults).and_then(|_| Err(Error::not_found("organizational unit")));
    };
    estate.require(ctx, Noun::OU, Action::MANAGE, &parent.path, parent.id.0).await?;
    faults.take(rows::check_name(&new.value().name));
    let id = estate.next::<OuId>(OuId::KIND).await?;
    let now = estate.now();
    let ou = Ou {
        id,
        uuid: estate.uuid(),
        parent: Some(parent.id),
        path: format!("{}{id}/", parent.path),
        name: new.value().name.clone(),
        description: new.value().description.clone(),
        created_at: now,
        updated_at: now,
    };
    let mut moves = Moves { estate, ctx, unit: &ou, parent: Some(&parent), all: Vec::new() };
    moves.add("datasources", &new.value().datasources, &mut faults).await?;
    let moves = moves.all;
    // What the caller holds in the parent is held in the new unit.
    let mut roles = Roles::load(estate, ctx, parent.id).await?;
    roles.add("users", &new.value().users, &mut faults).await?;
    new.settled(faults)?;
    let change = Immediate { create: Some(ou.clone()), ..roles.change(id).await? };
    let run = start(estate, ctx, ("created", ou.name.clone()), change, moves).await?;
    Ok((shown(estate, id).await?, run))
}

/// Changes a unit. A run moves the datasources, if there are any to move.
pub async fn unit_update(
    estate: &Estate,
    ctx: &OpCtx,
    uuid: Uuid,
    change: impl Into<Input<UnitChange>>,
) -> Result<(Unit, Option<Run>)> {
    let ou = allowed(estate, ctx, uuid, Action::MANAGE).await?;
    let change = change.into();
    let mut faults = Faults::default();
    if let Some(name) = &change.value().name {
        faults.take(rows::check_name(name));
    }
    let parent = match ou.parent {
        Some(parent) => rows::get(&mut estate.store().read().await?, parent).await?,
        None => None,
    };
    let mut moves = Moves { estate, ctx, unit: &ou, parent: parent.as_ref(), all: Vec::new() };
    moves.remove("remove", &change.value().remove, &mut faults).await?;
    moves.add("add", &change.value().add, &mut faults).await?;
    let moves = moves.all;
    let mut roles = Roles::load(estate, ctx, ou.id).await?;
    roles.remove("remove_users", &change.value().remove_users, &mut faults).await?;
    roles.add("add_users", &change.value().add_users, &mut faults).await?;
    let change = change.settled(faults)?;
    let immediate = roles.change(ou.id).await?;
    let immediate = Immediate { name: change.name, description: change.description, ..immediate };
    let run = start(estate, ctx, ("updated", ou.name), immediate, moves).await?;
    Ok((shown(estate, ou.id).await?, run))
}

/// Starts to delete a unit, which must be empty.
pub async fn unit_delete(estate: &Estate, ctx: &OpCtx, uuid: Uuid) -> Result<Run> {
    let (unit, parent) = deletable(estate, ctx, uuid).await?;
    let (id, to) = (unit.id.0, parent.id);
    changing::rehearse(estate, Rehearsal::Delete(unit, parent)).await?;
    let input = StoredUnitChange::Delete { version: 1, unit: id }.as_json()?;
    let new = NewRun { noun: Some((Noun::OU, id)), ..NewRun::new(&ORGANIZATIONAL_UNIT_UPDATE, to, input) };
    runs::submit(estate, ctx, new).await
}

/// Deletes a unit, which must be empty, without a run.
pub async fn unit_delete_now(estate: &Estate, ctx: &OpCtx, uuid: Uuid) -> Result<()> {
    let (unit, parent) = deletable(estate, ctx, uuid).await?;
    changing::remove(estate, ctx, unit, parent).await
}

/// The unit, and the one above it, in which the caller must be allowed to manage units.
async fn deletable(estate: &Estate, ctx: &OpCtx, uuid: Uuid) -> Result<(Ou, Ou)> {
    let unit = allowed(estate, ctx, uuid, Action::MANAGE).await?;
    let parent = changing::above(&mut estate.store().read().await?, &unit).await?;
    estate.require(ctx, Noun::OU, Action::MANAGE, &parent.path, parent.id.0).await?;
    Ok((unit, parent))
}

/// Makes the immediate changes, and submits the run for the others in the same transaction.
async fn start(
    estate: &Estate,
    ctx: &OpCtx,
    (action, name): (&'static str, String),
    change: Immediate,
    moves: Vec<Move>,
) -> Result<Option<Run>> {
    let (unit, now) = (change.unit, change.now);
    if moves.is_empty() {
        let act = OwnedAct::new(action, Noun::OU, unit.0, name);
        let work =
            estate.change(ctx, act, move |tx| Box::pin(async move { changing::apply(tx, change).await }));
        return work.await.map(|()| None).map_err(|error| taken(error, "name"));
    }
    let rehearsal = Rehearsal::Change(change.clone(), moves.clone());
    changing::rehearse(estate, rehearsal).await.map_err(|error| taken(error, "name"))?;
    let moves = moves.iter().map(|change| (change.datasource.0, change.to.0)).collect();
    let input = StoredUnitChange::Move { version: 1, unit: unit.0, moves }.as_json()?;
    let here = ctx.authority().ou();
    let new =
        NewRun { noun: Some((Noun::OU, unit.0)), ..NewRun::new(&ORGANIZATIONAL_UNIT_UPDATE, here, input) };
    let caller = ctx.clone();
    let rows: runs::WithRun = Arc::new(move |tx, _| {
        let (change, caller, name) = (change.clone(), caller.clone(), name.clone());
        Box::pin(async move {
            changing::apply(tx, change).await?;
            let event = AuditId(next_in(tx, AuditId::KIND).await?);
            let act = Act { action, noun: Noun::OU, noun_id: Some(unit.0), detail: &name };
            audit::record(tx, event, now, &caller, act).await
        })
    });
    let run = runs::submit_with(estate, ctx, new, rows).await;
    run.map(Some).map_err(|error| taken(error, "name"))
}

/// Collects the datasources that a request moves. The caller must manage datasources in both units.
struct Moves<'a> {
    estate: &'a Estate,
    ctx: &'a OpCtx,
    unit: &'a Ou,
    parent: Option<&'a Ou>,
    all: Vec<Move>,
}

impl Moves<'_> {
    async fn add(&mut self, at: &str, uuids: &[Uuid], faults: &mut Faults) -> Result<()> {
        for (index, uuid) in uuids.iter().enumerate() {
            let field = format!("{at}.{index}");
            let Some(datasource) = self.visible(field, *uuid, faults).await? else { continue };
            // In a new unit, callers have the permissions that they have in its parent.
            if datasource.ou != self.unit.id {
                self.note(&datasource, self.unit).await?;
            }
        }
        Ok(())
    }

    async fn remove(&mut self, at: &str, uuids: &[Uuid], faults: &mut Faults) -> Result<()> {
        for (index, uuid) in uuids.iter().enumerate() {
            let field = format!("{at}.{index}");
            let Some(datasource) = self.visible(field.clone(), *uuid, faults).await? else { continue };
            match self.parent {
                _ if datasource.ou != self.unit.id => {
                    faults.push(field, "not_here", "is not in this organizational unit");
                }
                None => {
                    faults.push(field, "root", "is in the global unit, which has no parent to move it to")
                }
                Some(parent) => self.note(&datasource, parent).await?,
            }
        }
        Ok(())
    }

    async fn visible(
        &self,
        field: String,
        uuid: Uuid,
        faults: &mut Faults,
    ) -> Result<Option<Arc<super::Datasource>>> {
        let id = changing::datasource(&mut self.estate.store().read().await?, uuid).await?;
        if let Some(id) = id {
            let found = datasources::load(self.estate, id).await?;
            let view = Permission::new(Noun::DATASOURCE, Action::VIEW);
            if self.ctx.authority().allows(view, &found.ou_path, id.0) {
                return Ok(Some(found));
            }
        }
        faults.push(field, codes::UNKNOWN, "is not the id of an environment");
        Ok(None)
    }

    async fn note(&mut self, datasource: &super::Datasource, to: &Ou) -> Result<()> {
        let (noun, id) = (Noun::DATASOURCE, datasource.id);
        self.estate.require(self.ctx, noun, Action::MANAGE, &datasource.ou_path, id.0).await?;
        self.estate.require(self.ctx, noun, Action::MANAGE, &to.path, 0).await?;
        if !self.all.iter().any(|known| known.datasource == id) {
            self.all.push(Move { datasource: id, to: to.id });
        }
        Ok(())
    }
}

/// Collects the roles in a unit that a request grants and revokes.
struct Roles<'a> {
    estate: &'a Estate,
    ctx: &'a OpCtx,
    /// The unit whose permissions the caller must hold.
    held_in: OuId,
    known: Vec<Role>,
    add: Vec<(UserId, RoleId)>,
    remove: Vec<(UserId, RoleId)>,
}

impl<'a> Roles<'a> {
    async fn load(estate: &'a Estate, ctx: &'a OpCtx, held_in: OuId) -> Result<Roles<'a>> {
        let known = grants::roles(&mut estate.store().read().await?).await?;
        Ok(Roles { estate, ctx, held_in, known, add: Vec::new(), remove: Vec::new() })
    }

    /// The user's grants, and the role that the request names.
    async fn look_up(
        &self,
        at: &str,
        asked: &UnitUser,
        faults: &mut Faults,
    ) -> Result<Option<(UserId, Vec<Assignment>, Option<RoleId>)>> {
        let mut conn = self.estate.store().read().await?;
        let id = UserId(asked.user);
        if crate::identity::users::get(&mut conn, id).await?.is_none() {
            faults.push(format!("{at}.user"), codes::UNKNOWN, "is not the id of a user");
            return Ok(None);
        }
        let role = asked.role.map(|uuid| self.known.iter().find(|role| role.uuid == uuid));
        if role == Some(None) {
            faults.push(format!("{at}.role"), codes::UNKNOWN, "is not the id of a role");
            return Ok(None);
        }
        let held = grants::assignments(&mut conn, Subject::User(id)).await?;
        Ok(Some((id, held, role.flatten().map(|role| role.id))))
    }

    async fn add(&mut self, at: &str, users: &[UnitUser], faults: &mut Faults) -> Result<()> {
        for (index, asked) in users.iter().enumerate() {
            let at = format!("{at}.{index}");
            let Some((id, held, role)) = self.look_up(&at, asked, faults).await? else { continue };
            match role.or(self.first_seen(&held).await?) {
                Some(role) => self.add.push((id, role)),
                None => {
                    let message = "is required, because the user has no role";
                    faults.push(format!("{at}.role"), codes::REQUIRED, message);
                }
            }
        }
        Ok(())
    }

    /// The first role of a user in a unit where the caller may see users.
    async fn first_seen(&self, held: &[Assignment]) -> Result<Option<RoleId>> {
        let view = Permission::new(Noun::USER, Action::VIEW);
        let mut conn = self.estate.store().read().await?;
        for held in held {
            let (Some(role), Some(unit)) = (held.role, held.ou) else { continue };
            let unit = rows::get(&mut conn, unit).await?;
            if unit.is_some_and(|unit| self.ctx.authority().allows(view, &unit.path, 0)) {
                return Ok(Some(role));
            }
        }
        Ok(None)
    }

    async fn remove(&mut self, at: &str, users: &[UnitUser], faults: &mut Faults) -> Result<()> {
        for (index, asked) in users.iter().enumerate() {
            let at = format!("{at}.{index}");
            let Some((id, held, role)) = self.look_up(&at, asked, faults).await? else { continue };
            let here = held.iter().filter(|held| held.ou == Some(self.held_in)).filter_map(|held| held.role);
            let wanted = here.filter(|held| role.is_none_or(|role| role == *held));
            self.remove.extend(wanted.map(|role| (id, role)));
        }
        Ok(())
    }

    /// The change, if the caller may make it.
    async fn change(self, unit: OuId) -> Result<Immediate> {
        let (estate, ctx) = (self.estate, self.ctx);
        let all = || self.add.iter().chain(&self.remove);
        if all().next().is_some() {
            estate.require_some(ctx, Noun::ROLE, Action::MANAGE).await?;
            if all().any(|(user, _)| ctx.actor().user() == Some(*user)) {
                let message = "you cannot change your own roles; ask another administrator";
                return Err(Error::conflict("own_roles", message));
            }
            let given: Vec<_> = all().map(|(_, role)| NewGrant::Role(*role, self.held_in)).collect();
            users::require_covers(estate, ctx, &given).await?;
        }
        let mut granted = Vec::with_capacity(self.add.len());
        for (user, role) in self.add {
            granted.push((estate.next::<GrantId>(GrantId::KIND).await?, user, role));
        }
        Ok(Immediate {
            unit,
            create: None,
            name: None,
            description: None,
            grants: granted,
            revokes: self.remove,
            now: estate.now(),
        })
    }
}
