//! Organizational units: the part of the tree that a caller sees.

use std::collections::{BTreeMap, BTreeSet};

use landreeve_core::ids::OuId;
use landreeve_core::{Action, Error, Noun, OpCtx, Part, Result};
use uuid::Uuid;

use crate::Estate;
use crate::estate::OwnedAct;
use crate::identity::{Ou, Visibility, ous};
use crate::store::taken;
use crate::units;

/// The page after this path of the caller's unit and everything below it, parents first.
pub async fn ou_list(estate: &Estate, ctx: &OpCtx, after: Option<String>) -> Result<Part<Ou, String>> {
    ous::list(&mut estate.store().read().await?, &Visibility::below(ctx), after).await
}

/// The UUIDs of these units; only of those that the caller can see.
pub async fn ou_uuids(estate: &Estate, ctx: &OpCtx, ids: &BTreeSet<OuId>) -> Result<BTreeMap<OuId, Uuid>> {
    ous::uuids(&mut estate.store().read().await?, &Visibility::below(ctx), ids).await
}

pub async fn ou_get(estate: &Estate, ctx: &OpCtx, uuid: Uuid) -> Result<Ou> {
    let found = ous::by_uuid(&mut estate.store().read().await?, uuid).await?;
    found
        .filter(|ou| ou.path.starts_with(ctx.authority().ou_path()))
        .ok_or_else(|| Error::not_found("organizational unit"))
}

/// The unit that the caller works in.
pub async fn ou_current(estate: &Estate, ctx: &OpCtx) -> Result<Ou> {
    let found = ous::get(&mut estate.store().read().await?, ctx.authority().ou()).await?;
    found.ok_or_else(|| Error::not_found("organizational unit"))
}

/// Creates a unit below `parent`, or below the caller's unit.
pub async fn ou_create(
    estate: &Estate,
    ctx: &OpCtx,
    parent: Option<Uuid>,
    name: String,
    description: String,
) -> Result<Ou> {
    let parent = match parent {
        Some(uuid) => ou_get(estate, ctx, uuid).await?,
        None => ou_current(estate, ctx).await?,
    };
    estate.require(ctx, Noun::OU, Action::MANAGE, &parent.path, parent.id.0).await?;
    ous::check_name(&name).map_err(|fault| Error::invalid(vec![fault]))?;
    let (id, now) = (estate.next::<OuId>(OuId::KIND).await?, estate.now());
    let ou = Ou {
        id,
        uuid: estate.uuid(),
        parent: Some(parent.id),
        path: format!("{}{id}/", parent.path),
        name: name.clone(),
        description,
        created_at: now,
        updated_at: now,
    };
    let copy = ou.clone();
    estate
        .change(ctx, OwnedAct::new("created", Noun::OU, id.0, name), move |tx| {
            Box::pin(async move {
                units::create(tx, &copy).await?;
                tx.bump_epoch().await
            })
        })
        .await
        .map_err(|error| taken(error, "name"))?;
    Ok(ou)
}
