//! Groups of users.

use landreeve_core::error::Faults;
use landreeve_core::ids::{GroupId, UserId};
use landreeve_core::{Action, Error, Noun, OpCtx, Result};

use crate::Estate;
use crate::estate::OwnedAct;
use crate::identity::grants::{self, NewGrant, Subject};
use crate::identity::{Group, groups, users};
use crate::ops::users::{numbered, require_covers, require_covers_group};
use crate::store::taken;

pub async fn group_list(estate: &Estate, ctx: &OpCtx) -> Result<Vec<Group>> {
    estate.require_some(ctx, Noun::GROUP, Action::VIEW).await?;
    groups::list(&mut estate.store().read().await?).await
}

pub async fn group_get(estate: &Estate, ctx: &OpCtx, id: GroupId) -> Result<Group> {
    let all = group_list(estate, ctx).await?;
    all.into_iter().find(|group| group.id == id).ok_or_else(|| Error::not_found("group"))
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
                let found = groups::list(tx).await?.into_iter().find(|known| known.id == group);
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
                let found = groups::list(tx).await?.into_iter().find(|known| known.id == id);
                if found.ok_or_else(|| Error::not_found("group"))?.builtin.is_some() {
                    return Err(Error::conflict("builtin", "a built-in group cannot be deleted"));
                }
                groups::delete(tx, id).await?;
                tx.bump_epoch().await
            })
        })
        .await
}
