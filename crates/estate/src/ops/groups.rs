//! Groups of users.

use landreeve_core::error::Faults;
use landreeve_core::ids::{GroupId, UserId};
use landreeve_core::{Action, Error, Noun, OpCtx, Part, Permission, Result, page};

use crate::Estate;
use crate::estate::OwnedAct;
use crate::identity::grants::{self, NewGrant, Subject};
use crate::identity::groups::{self, GroupFilter};
use crate::identity::{Group, users};
use crate::ops::users::{numbered, require_covers, require_covers_group};
use crate::store::taken;

/// The page of groups after this id. Groups belong to the whole estate.
pub async fn group_list(
    estate: &Estate,
    ctx: &OpCtx,
    asked: &GroupFilter,
    after: Option<GroupId>,
) -> Result<Part<Group, GroupId>> {
    estate.require_some(ctx, Noun::GROUP, Action::VIEW).await?;
    groups::list(&mut estate.store().read().await?, asked, after).await
}

/// The groups that a user is a member of, or none if the caller cannot see groups.
pub async fn groups_of(estate: &Estate, ctx: &OpCtx, user: UserId) -> Result<Vec<Group>> {
    if !ctx.authority().allows_some(Permission::new(Noun::GROUP, Action::VIEW)) {
        return Ok(Vec::new());
    }
    let asked = GroupFilter { member: Some(user), ..GroupFilter::default() };
    page::collect(|after| group_list(estate, ctx, &asked, after)).await
}

pub async fn group_get(estate: &Estate, ctx: &OpCtx, id: GroupId) -> Result<Group> {
    estate.require_some(ctx, Noun::GROUP, Action::VIEW).await?;
    let found = groups::get(&mut estate.store().read().await?, id).await?;
    found.ok_or_else(|| Error::not_found("group"))
}

pub async fn group_create(
    estate: &Estate,
    ctx: &OpCtx,
    name: String,
    description: String,
    given: Vec<NewGrant>,
) -> Result<Group> {
    estate.require_some(ctx, Noun::GROUP, Action::MANAGE).await?;
    let mut faults = Faults::default();
    if name.trim().is_empty() || name.chars().count() > 128 {
        faults.push("name", "length", "must have 1 to 128 characters");
    }
    faults.finish()?;
    require_covers(estate, ctx, &given).await?;
    let (id, now) = (estate.next::<GroupId>(GroupId::KIND).await?, estate.now());
    let group = Group {
        id,
        name: name.clone(),
        description,
        builtin: None,
        members: Vec::new(),
        created_at: now,
        updated_at: now,
    };
    let (copy, given) = (group.clone(), numbered(estate, given).await?);
    estate
        .change(ctx, OwnedAct::new("created", Noun::GROUP, id.0, name), move |tx| {
            Box::pin(async move {
                groups::insert(tx, &copy).await?;
                for (grant_id, grant) in &given {
                    grants::insert(tx, *grant_id, Subject::Group(id), grant, now).await?;
                }
                tx.bump_epoch().await
            })
        })
        .await
        .map_err(|error| taken(error, "name"))?;
    Ok(group)
}

/// Adds a user to a group, or removes one.
pub async fn member_set(
    estate: &Estate,
    ctx: &OpCtx,
    group: GroupId,
    user: UserId,
    member: bool,
) -> Result<()> {
    estate.require_some(ctx, Noun::GROUP, Action::MANAGE).await?;
    require_covers_group(estate, ctx, group).await?;
    let verb = if member { "added user" } else { "removed user" };
    estate
        .change(ctx, OwnedAct::new("updated", Noun::GROUP, group.0, format!("{verb} {user}")), move |tx| {
            Box::pin(async move {
                let found = groups::get(tx, group).await?;
                let found = found.ok_or_else(|| Error::not_found("group"))?;
                if found.builtin.is_some() {
                    return Err(Error::conflict(
                        "builtin",
                        "this group contains every user and cannot be changed",
                    ));
                }
                users::get(tx, user).await?.ok_or_else(|| Error::not_found("user"))?;
                if member {
                    groups::add_member(tx, group, user).await?;
                } else {
                    groups::remove_member(tx, group, user).await?;
                }
                tx.bump_epoch().await
            })
        })
        .await
}

pub async fn group_delete(estate: &Estate, ctx: &OpCtx, id: GroupId) -> Result<()> {
    estate.require_some(ctx, Noun::GROUP, Action::MANAGE).await?;
    require_covers_group(estate, ctx, id).await?;
    estate
        .change(ctx, OwnedAct::new("deleted", Noun::GROUP, id.0, ""), move |tx| {
            Box::pin(async move {
                let found = groups::get(tx, id).await?;
                if found.ok_or_else(|| Error::not_found("group"))?.builtin.is_some() {
                    return Err(Error::conflict("builtin", "a built-in group cannot be deleted"));
                }
                groups::delete(tx, id).await?;
                tx.bump_epoch().await
            })
        })
        .await
}
