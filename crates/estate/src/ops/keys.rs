//! API keys: create, list, disable, delete. The secret is shown once, at creation.

use landreeve_core::ids::{KeyId, OuId, UserId};
use landreeve_core::{Action, Error, Noun, OpCtx, Part, Permission, Result, Secret};
use uuid::Uuid;

use crate::Estate;
use crate::estate::OwnedAct;
use crate::identity::grants::{self, NewGrant, Subject};
use crate::identity::{Api, Key, Visibility, keys, ous, users};
use crate::ops::ous::{ou_current, ou_get};
use crate::ops::users::{numbered, require_covers, require_covers_user};
use crate::secrets::{new_secret, secret_hash};

#[derive(Debug, Clone)]
pub struct NewKey {
    pub api: Api,
    pub name: String,
    /// The unit in which the key reads and writes; `None` means the caller's.
    pub ou: Option<Uuid>,
    /// Acts as this user, with the user's permissions.
    pub user: Option<UserId>,
    pub grants: Vec<NewKeyGrant>,
    /// The dialect's names for those grants, for listings.
    pub labels: Vec<String>,
}

/// A permission in the key's unit, or for named resources of its noun.
#[derive(Debug, Clone)]
pub struct NewKeyGrant {
    pub permission: Permission,
    pub resources: Vec<i64>,
}

pub async fn key_create(estate: &Estate, ctx: &OpCtx, new: NewKey) -> Result<(Key, Secret)> {
    estate.require_here(ctx, Noun::KEY, Action::MANAGE).await?;
    if new.name.trim().is_empty() || new.name.chars().count() > 255 {
        return Err(Error::fault("name", "length", "must have 1 to 255 characters"));
    }
    let ou = match new.ou {
        Some(uuid) => ou_get(estate, ctx, uuid).await?,
        None => ou_current(estate, ctx).await?,
    };
    if let Some(user) = new.user {
        let found = users::get(&mut estate.store().read().await?, user).await?;
        found.ok_or_else(|| Error::not_found("user"))?;
        require_covers_user(estate, ctx, user).await?;
    }
    // With a permission in the unit, the caller can grant it for any named resource: the key is limited to the unit.
    let asked = new.grants.iter().filter(|grant| !ctx.authority().allows(grant.permission, &ou.path, 0));
    let asked: Vec<NewKeyGrant> = asked.cloned().collect();
    require_covers(estate, ctx, &spread(&asked, ou.id)).await?;
    let (id, now) = (estate.next::<KeyId>(KeyId::KIND).await?, estate.now());
    let secret = match (new.api, new.user) {
        (Api::Protection, Some(user)) => crate::tokens::issue_user(estate, id.0, user.0).await?,
        _ => new_secret(&**estate.random(), new.api.prefix()),
    };
    let key = Key {
        id,
        api: new.api,
        name: new.name.clone(),
        hint: secret.chars().take(8).collect(),
        labels: new.labels,
        ou: ou.id,
        user: new.user,
        enabled: true,
        created_at: now,
    };
    let grants = numbered(estate, spread(&new.grants, ou.id)).await?;
    let (copy, hash) = (key.clone(), secret_hash(&secret));
    estate
        .change(ctx, OwnedAct::new("created", Noun::KEY, id.0, new.name), move |tx| {
            Box::pin(async move {
                keys::insert(tx, &copy, hash).await?;
                for (grant_id, grant) in &grants {
                    grants::insert(tx, *grant_id, Subject::Key(id), grant, now).await?;
                }
                tx.bump_epoch().await
            })
        })
        .await?;
    Ok((key, Secret::new(secret)))
}

fn spread(grants: &[NewKeyGrant], ou: OuId) -> Vec<NewGrant> {
    use crate::identity::GrantTarget;
    let mut spread = Vec::new();
    for grant in grants {
        if grant.resources.is_empty() {
            spread.push(NewGrant::Permission(grant.permission, GrantTarget::Subtree(ou)));
        }
        for resource in &grant.resources {
            spread.push(NewGrant::Permission(grant.permission, GrantTarget::Resource(*resource)));
        }
    }
    spread
}

/// The page of keys after this id, limited to those with this name if given.
pub async fn key_list(
    estate: &Estate,
    ctx: &OpCtx,
    name: Option<&str>,
    after: Option<KeyId>,
) -> Result<Part<Key, KeyId>> {
    estate.require_some(ctx, Noun::KEY, Action::VIEW).await?;
    let visibility = Visibility::of(ctx, Permission::new(Noun::KEY, Action::VIEW));
    keys::list(&mut estate.store().read().await?, &visibility, name, after).await
}

/// A key that the caller can manage; one in an invisible unit is not found.
async fn require_manage(estate: &Estate, ctx: &OpCtx, id: KeyId) -> Result<()> {
    let mut conn = estate.store().read().await?;
    let key = keys::get(&mut conn, id).await?.ok_or_else(|| Error::not_found("key"))?;
    let unit = ous::get(&mut conn, key.ou).await?.ok_or_else(|| Error::internal("a key without a unit"))?;
    drop(conn);
    estate.require(ctx, Noun::KEY, Action::MANAGE, &unit.path, id.0).await
}

/// The key that the caller used.
pub async fn key_own(estate: &Estate, ctx: &OpCtx) -> Result<Option<Key>> {
    let landreeve_core::Actor::Key { id, .. } = ctx.actor() else { return Ok(None) };
    keys::get(&mut estate.store().read().await?, *id).await
}

pub async fn key_set_enabled(estate: &Estate, ctx: &OpCtx, id: KeyId, enabled: bool) -> Result<()> {
    require_manage(estate, ctx, id).await?;
    let detail = if enabled { "enabled" } else { "disabled" };
    estate
        .change(ctx, OwnedAct::new("updated", Noun::KEY, id.0, detail), move |tx| {
            Box::pin(async move {
                keys::get(tx, id).await?.ok_or_else(|| Error::not_found("key"))?;
                keys::set_enabled(tx, id, enabled).await?;
                tx.bump_epoch().await
            })
        })
        .await
}

pub async fn key_delete(estate: &Estate, ctx: &OpCtx, id: KeyId) -> Result<()> {
    require_manage(estate, ctx, id).await?;
    estate
        .change(ctx, OwnedAct::new("deleted", Noun::KEY, id.0, ""), move |tx| {
            Box::pin(async move {
                keys::get(tx, id).await?.ok_or_else(|| Error::not_found("key"))?;
                keys::delete(tx, id).await?;
                tx.bump_epoch().await
            })
        })
        .await
}
