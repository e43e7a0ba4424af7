//! The initial content of a store: facts that never change, the root unit, the built-in group; and the built-in roles,
//! which every start updates.

use std::sync::Arc;

use jiff::Timestamp;
use landreeve_core::error::codes;
use landreeve_core::hashid::HashIds;
use landreeve_core::ids::{GrantId, OuId, RoleId};
use landreeve_core::{Clock, Error, ErrorKind, Permission, Random, Result, random};
use uuid::Uuid;

use crate::args;
use crate::builtin::ADMINISTRATOR;
use crate::identity::grants::{self, NewGrant, Role, Subject};
use crate::identity::groups::{self, EVERYONE, Group};
use crate::identity::ous::{self, Ou};
use crate::plane::RoleSpec;
use crate::secrets::SealKey;
use crate::store::{Conn, Store, Tx};

#[derive(Clone)]
pub struct Facts {
    pub store_id: Uuid,
    pub hash_ids: HashIds,
}

/// Reads the facts of a store, after writing them if it is new. Rejects a store that was encrypted with another key.
pub async fn facts(
    store: &Store,
    seal: &SealKey,
    clock: &dyn Clock,
    random: Arc<dyn Random>,
) -> Result<Facts> {
    let fingerprint = seal.fingerprint();
    let now = clock.now();
    let (store_id, key) = (random::uuid(&*random), {
        let mut key = [0_u8; 16];
        random.fill(&mut key);
        hex::encode(key)
    });
    let stored = {
        let fingerprint = fingerprint.clone();
        store
            .write(move |tx| {
                Box::pin(async move {
                    if fact(tx, "store_id").await?.is_none() {
                        fill(tx, store_id, &key, &fingerprint, now).await?;
                    }
                    Ok((
                        need(tx, "store_id").await?,
                        need(tx, "hash_id_key").await?,
                        need(tx, "seal_fingerprint").await?,
                    ))
                })
            })
            .await?
    };
    let (store_id, key, sealed_with) = stored;
    if sealed_with != fingerprint {
        return Err(Error::new(
            ErrorKind::PreconditionFailed,
            codes::WRONG_KEY,
            format!(
                "the secrets in this store are encrypted with another key (fingerprint {sealed_with}; the key file has \
                 {fingerprint}); point [secrets] key_file or LANDREEVE_KEY_FILE at the right key file"
            ),
        ));
    }
    let mut bytes = [0_u8; 16];
    hex::decode_to_slice(&key, &mut bytes)
        .map_err(|_| Error::internal("the stored hash-id key is damaged"))?;
    Ok(Facts { store_id: store_id.parse().map_err(Error::internal)?, hash_ids: HashIds::new(bytes) })
}

async fn fact(conn: &mut Conn, name: &'static str) -> Result<Option<String>> {
    conn.opt("SELECT value FROM facts WHERE name = $1", args![name]).await?.map(|row| row.text(0)).transpose()
}

async fn need(conn: &mut Conn, name: &'static str) -> Result<String> {
    fact(conn, name)
        .await?
        .ok_or_else(|| Error::internal(format!("the fact {name} is missing from the store")))
}

pub async fn set_fact(tx: &mut Tx, name: &'static str, value: String) -> Result<()> {
    tx.exec(
        "INSERT INTO facts (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        args![name, value],
    )
    .await
    .map(drop)
}

/// Fails if the key that encrypted a value has since been replaced by another request or node.
pub async fn still_sealed_with(tx: &mut Tx, fingerprint: &str) -> Result<()> {
    // The shared lock makes a rotation and this transaction wait for each other.
    let sql = tx.dialect().pick(
        "SELECT value FROM facts WHERE name = 'seal_fingerprint'",
        "SELECT value FROM facts WHERE name = 'seal_fingerprint' FOR SHARE",
    );
    if tx.one(sql, args![]).await?.text(0)? == fingerprint {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::PreconditionFailed,
        codes::WRONG_KEY,
        "the key for encrypting secrets has been changed; try again, or restart this server with the new key file",
    ))
}

async fn fill(tx: &mut Tx, store_id: Uuid, key: &str, fingerprint: &str, now: Timestamp) -> Result<()> {
    set_fact(tx, "store_id", store_id.to_string()).await?;
    set_fact(tx, "hash_id_key", key.to_owned()).await?;
    set_fact(tx, "seal_fingerprint", fingerprint.to_owned()).await?;
    let root = Ou {
        id: OuId::ROOT,
        uuid: Uuid::nil(),
        parent: None,
        path: "/1/".to_owned(),
        name: "Global".to_owned(),
        description: "Everything belongs to it.".to_owned(),
        created_at: now,
        updated_at: now,
    };
    ous::insert(tx, &root).await?;
    let everyone = Group {
        id: EVERYONE,
        name: "Everyone".to_owned(),
        description: "All users.".to_owned(),
        builtin: Some("everyone".to_owned()),
        members: Vec::new(),
        created_at: now,
        updated_at: now,
    };
    groups::insert(tx, &everyone).await?;
    Ok(())
}

/// Updates the built-in roles of all planes in the store, which may be older than some of them.
pub async fn reconcile_roles(store: &Store, roles: Vec<(RoleSpec, Vec<Permission>)>) -> Result<()> {
    store
        .write(move |tx| {
            Box::pin(async move {
                let known = grants::roles(tx).await?;
                let mut changed = false;
                for (spec, permissions) in roles {
                    changed |= reconcile_role(tx, &known, &spec, permissions).await?;
                }
                // For a new store nothing can be cached yet.
                if changed && !known.is_empty() {
                    tx.bump_epoch().await?;
                }
                Ok(())
            })
        })
        .await
}

/// Above the fixed ids of our own roles.
const FIRST_FREE_ROLE: i64 = 100;

async fn next_role(tx: &mut Tx) -> Result<RoleId> {
    let last = tx.one("SELECT COALESCE(max(id), 0) FROM roles", args![]).await?.int(0)?;
    Ok(RoleId((last + 1).max(FIRST_FREE_ROLE)))
}

async fn reconcile_role(
    tx: &mut Tx,
    known: &[Role],
    spec: &RoleSpec,
    mut permissions: Vec<Permission>,
) -> Result<bool> {
    permissions.sort_unstable();
    permissions.dedup();
    let stored = known.iter().find(|role| role.uuid == spec.uuid);
    let id = match (stored, spec.id) {
        (Some(role), _) => role.id,
        (None, Some(id)) => id,
        (None, None) => next_role(tx).await?,
    };
    let role = Role {
        id,
        uuid: spec.uuid,
        name: spec.name.to_owned(),
        description: spec.description.to_owned(),
        permissions,
    };
    match stored {
        Some(stored) if *stored == role => return Ok(false),
        Some(_) => grants::update_role(tx, &role).await?,
        None => grants::insert_role(tx, &role).await?,
    }
    Ok(true)
}

/// The administrator role at the root, for the first user.
pub async fn grant_everything(tx: &mut Tx, id: GrantId, subject: Subject, now: Timestamp) -> Result<()> {
    grants::insert(tx, id, subject, &NewGrant::Role(ADMINISTRATOR, OuId::ROOT), now).await
}
