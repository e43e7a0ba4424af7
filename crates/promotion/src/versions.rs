//! The versions of a node: reading one, adding one, going back to one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use landreeve_core::ids::{DatasourceId, RunId};
use landreeve_core::{Action, Error, OpCtx, Result};
use landreeve_estate::args;
use landreeve_estate::ops::{self, OwnedAct};
use landreeve_estate::secrets::Sealed;
use landreeve_estate::store::{Arg, Conn, Row, Store, Tx};
use sha2::{Digest as _, Sha256};

use crate::catalog::{Catalog, describe};
use crate::ids::VirtualNodeId;
use crate::nodes::{self, LOCAL, Node};
use crate::nouns::VIRTUAL_NODE;
use crate::plane::{DATABASE_TYPE, Promotion};
use crate::stored::{StoredDatasource, StoredObject};

/// How many versions are kept, besides the current one.
const KEPT: i64 = 20;

/// One version of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub number: i64,
    pub content_hash: String,
    pub objects: i64,
    pub applied_by: String,
    pub applied_at: Timestamp,
    /// Whether queries read it.
    pub current: bool,
}

/// The catalogs that were read last. A version never changes.
#[derive(Default)]
pub struct Memory(Mutex<Vec<(Place, Arc<Catalog>)>>);

/// A node and one of its versions.
type Place = (VirtualNodeId, i64);

/// How many are kept.
const REMEMBERED: usize = 8;

impl Memory {
    fn get(&self, key: Place) -> Option<Arc<Catalog>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.iter().position(|(found, _)| *found == key)?;
        // The one that was used last is kept longest.
        let found = known.remove(at);
        let catalog = Arc::clone(&found.1);
        known.push(found);
        Some(catalog)
    }

    fn put(&self, key: Place, catalog: &Arc<Catalog>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(found, _)| *found != key);
        if known.len() >= REMEMBERED {
            known.remove(0);
        }
        known.push((key, Arc::clone(catalog)));
    }
}

/// The objects of a node in the version that it has here.
pub async fn catalog_of(plane: &Promotion, node: &Node) -> Result<Arc<Catalog>> {
    match node.id {
        Some(id) if node.version > 0 => load(plane, id, node.version).await,
        _ => Ok(Arc::default()),
    }
}

async fn load(plane: &Promotion, node: VirtualNodeId, number: i64) -> Result<Arc<Catalog>> {
    if let Some(known) = plane.memory().get((node, number)) {
        return Ok(known);
    }
    let rows = read(plane.estate().store(), node, number).await?;
    // Thousands of statements are parsed.
    let catalog = tokio::task::spawn_blocking(move || catalog(&rows)).await.map_err(Error::internal)??;
    let catalog = Arc::new(catalog);
    plane.memory().put((node, number), &catalog);
    Ok(catalog)
}

async fn read(store: &Store, node: VirtualNodeId, number: i64) -> Result<Vec<Row>> {
    let sql = "SELECT t.body FROM virtual_objects o JOIN virtual_texts t ON t.hash = o.hash \
               WHERE o.node_id = $1 AND o.number = $2 ORDER BY o.position";
    store.scan().await?.all(sql, args![node, number]).await
}

fn catalog(rows: &[Row]) -> Result<Catalog> {
    let mut catalog = Catalog::default();
    for row in rows {
        let (key, object) = row.json::<StoredObject>(0)?.into_object()?;
        catalog.insert(key, object);
    }
    Ok(catalog)
}

/// Keeps a version that was just added, because it will be read next.
pub(crate) fn remember(plane: &Promotion, node: &Node, number: i64, catalog: Catalog) {
    if let Some(id) = node.id {
        plane.memory().put((id, number), &Arc::new(catalog));
    }
}

/// The versions of a node, newest first.
pub async fn history(plane: &Promotion, ctx: &OpCtx, name: &str) -> Result<Vec<Version>> {
    plane.estate().require_here(ctx, VIRTUAL_NODE, Action::VIEW).await?;
    let node = nodes::of_caller(plane, ctx, name).await?;
    let Some(id) = node.id else { return Ok(Vec::new()) };
    let sql = "SELECT number, content_hash, objects, applied_by, applied_at FROM virtual_versions WHERE node_id = $1 \
               ORDER BY number DESC LIMIT 1000";
    let rows = plane.estate().store().read().await?.all(sql, args![id]).await?;
    let version = |row: &Row| {
        let number = row.int(0)?;
        Ok(Version {
            number,
            content_hash: row.text(1)?,
            objects: row.int(2)?,
            applied_by: row.text(3)?,
            applied_at: row.time(4)?,
            current: number == node.version,
        })
    };
    rows.iter().map(version).collect()
}

/// A datasource that a script declares, to be stored with the version.
#[derive(Clone)]
pub struct Declared {
    pub id: DatasourceId,
    pub config: StoredDatasource,
    pub sealed: Option<Sealed>,
}

/// A version to be added. Everything in it has been computed before the transaction begins.
#[derive(Clone)]
pub struct NewVersion {
    /// Each object's hash and text.
    texts: Arc<Vec<(String, String)>>,
    connections: Arc<BTreeSet<DatasourceId>>,
    declared: Arc<Vec<Declared>>,
    content_hash: String,
    fingerprint: String,
    /// Recorded with the version, so that a repeated request finds it.
    key: Option<String>,
    fence: Option<Fence>,
}

/// The attempt of a run that adds a version. An attempt that was given up must not add one any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    pub run: RunId,
    pub attempt: i64,
}

impl Fence {
    /// Fails if another attempt has taken over, or the run has ended.
    pub(crate) async fn check(self, tx: &mut Tx) -> Result<()> {
        let sql = tx.dialect().pick(
            "SELECT 1 FROM runs WHERE id = $1 AND attempt = $2 AND state IN ('starting', 'running', 'cancelling')",
            "SELECT 1 FROM runs WHERE id = $1 AND attempt = $2 AND state IN ('starting', 'running', 'cancelling') \
             FOR SHARE",
        );
        match tx.opt(sql, args![self.run, self.attempt]).await? {
            Some(_) => Ok(()),
            None => Err(Error::conflict("taken_over", "another server has taken over this run")),
        }
    }
}

impl NewVersion {
    /// Takes long for thousands of objects.
    pub fn of(catalog: &Catalog, declared: Vec<Declared>, fingerprint: String) -> Result<NewVersion> {
        let text = |(key, object): (&crate::catalog::Key, &Arc<crate::catalog::Object>)| {
            let stored = StoredObject::of(key, object)?;
            let text = serde_json::to_string(&stored).map_err(Error::internal)?;
            // Better refused now than unreadable later.
            stored.into_object()?;
            Ok((hex::encode(Sha256::digest(&text)), text))
        };
        Ok(NewVersion {
            texts: Arc::new(catalog.iter().map(text).collect::<Result<_>>()?),
            connections: Arc::new(catalog.connections()),
            declared: Arc::new(declared),
            content_hash: describe::content_hash(catalog),
            fingerprint,
            key: None,
            fence: None,
        })
    }

    /// The same version, recorded under a key and added only by an attempt that has not been given up.
    #[must_use]
    pub fn once(self, key: Option<String>, fence: Option<Fence>) -> NewVersion {
        NewVersion { key, fence, ..self }
    }
}

/// Adds a version and makes it the one that queries read, if the node still has the version that was read; `None` if it
/// has another by now.
pub async fn add(
    plane: &Promotion,
    ctx: &OpCtx,
    node: &Node,
    new: NewVersion,
) -> Result<Option<(Node, i64)>> {
    let estate = plane.estate();
    let fresh = match node.id {
        Some(id) => id,
        None => estate.next::<VirtualNodeId>(VirtualNodeId::KIND).await?,
    };
    let (now, by, read) = (estate.now(), ctx.actor().name().to_owned(), node.clone());
    let added = estate
        .change_told(ctx, move |tx| {
            Box::pin(async move {
                ops::secrets::still_sealed_with(tx, &new.fingerprint).await?;
                if let Some(fence) = new.fence {
                    fence.check(tx).await?;
                }
                let id = match read.id {
                    Some(id) => id,
                    None => made(tx, &read, fresh, now).await?,
                };
                let moved = tx
                    .opt(
                        "UPDATE virtual_nodes SET version = last_version + 1, last_version = last_version + 1, \
                         row_version = row_version + 1 WHERE id = $1 AND version = $2 RETURNING version",
                        args![id, read.version],
                    )
                    .await?;
                let Some(row) = moved else { return Ok((None, None)) };
                let number = row.int(0)?;
                insert(tx, id, number, &new, &by, now).await?;
                if let Some(key) = &new.key
                    && !record(tx, id, key, (read.version, number), now).await?
                {
                    return Err(given_up());
                }
                forget(tx, id, read.version, number).await?;
                tell(tx, &read, now).await?;
                let act = OwnedAct::new("applied", VIRTUAL_NODE, id.0, format!("{} version {number}", read.name));
                Ok((Some((id, number)), Some(act)))
            })
        })
        .await?;
    Ok(added.map(|(id, number)| (Node { id: Some(id), ..node.clone() }, number)))
}

/// The row of `local`, which is made when something is applied to it for the first time.
async fn made(tx: &mut Tx, node: &Node, fresh: VirtualNodeId, now: Timestamp) -> Result<VirtualNodeId> {
    tx.exec(
        "INSERT INTO virtual_nodes (id, ou_id, name, version, last_version, created_at) VALUES ($1, $2, $3, 0, 0, $4) \
         ON CONFLICT (ou_id, name) DO NOTHING",
        args![fresh, node.ou, &node.name, now],
    )
    .await?;
    let row = tx
        .one("SELECT id FROM virtual_nodes WHERE ou_id = $1 AND name = $2", args![node.ou, &node.name])
        .await?;
    row.id(0)
}

async fn insert(
    tx: &mut Tx,
    node: VirtualNodeId,
    number: i64,
    new: &NewVersion,
    by: &str,
    now: Timestamp,
) -> Result<()> {
    let objects = i64::try_from(new.texts.len()).unwrap_or(i64::MAX);
    tx.exec(
        "INSERT INTO virtual_versions (node_id, number, content_hash, objects, applied_by, applied_at) \
         VALUES ($1, $2, $3, $4, $5, $6)",
        args![node, number, &new.content_hash, objects, by, now],
    )
    .await?;
    for (position, (hash, text)) in (0_i64..).zip(new.texts.iter()) {
        tx.exec_later(
            "INSERT INTO virtual_texts (hash, body) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING",
            args![hash, text],
        )
        .await?;
        tx.exec_later(
            "INSERT INTO virtual_objects (node_id, number, position, hash) VALUES ($1, $2, $3, $4)",
            args![node, number, position, hash],
        )
        .await?;
    }
    for declared in new.declared.iter() {
        let config = serde_json::to_string(&declared.config).map_err(Error::internal)?;
        let password = declared.sealed.clone().map_or(Arg::Bytes(None), Arg::from);
        tx.exec(
            "INSERT INTO virtual_datasources (id, node_id, config, password_sealed, created_at) \
             VALUES ($1, $2, $3, $4, $5)",
            args![declared.id, node, config, password, now],
        )
        .await?;
    }
    for id in new.connections.iter() {
        tx.exec(
            "INSERT INTO virtual_version_datasources (node_id, number, datasource_id) VALUES ($1, $2, $3)",
            args![node, number, *id],
        )
        .await?;
    }
    Ok(())
}

/// Deletes versions that are too old, and what only they named. The one before is kept whatever its age, so that it is
/// possible to go back to it.
async fn forget(tx: &mut Tx, node: VirtualNodeId, before: i64, current: i64) -> Result<()> {
    tx.exec(
        "DELETE FROM virtual_versions WHERE node_id = $1 AND number NOT IN ($2, $4) AND number <= (SELECT max(number) FROM \
         virtual_versions WHERE node_id = $1) - $3",
        args![node, current, KEPT, before],
    )
    .await?;
    tx.exec(
        "DELETE FROM virtual_datasources WHERE node_id = $1 AND NOT EXISTS (SELECT 1 FROM virtual_version_datasources v \
         WHERE v.node_id = $1 AND v.datasource_id = virtual_datasources.id)",
        args![node],
    )
    .await?;
    forget_texts(tx).await
}

/// Deletes texts that no version has.
pub(crate) async fn forget_texts(tx: &mut Tx) -> Result<()> {
    tx.exec(
        "DELETE FROM virtual_texts WHERE NOT EXISTS (SELECT 1 FROM virtual_objects o WHERE o.hash = virtual_texts.hash)",
        args![],
    )
    .await
    .map(drop)
}

/// Tells everybody that the schemas of the datasources on this node are to be read again.
async fn tell(tx: &mut Tx, node: &Node, now: Timestamp) -> Result<()> {
    let users = ops::datasources::of_catalog(tx, node.ou, DATABASE_TYPE).await?;
    let users = users.into_iter().filter(|user| user.host.as_deref().unwrap_or(LOCAL) == node.name);
    ops::datasources::reconnected(tx, node.ou, users.map(|user| user.id), now).await
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// The version before, and after.
    Applied { from: i64, to: i64 },
    /// Nothing was applied under it, and nothing will be.
    Withdrawn,
}

/// Both versions of a key that was withdrawn.
const WITHDRAWN: i64 = -1;

impl Known {
    fn from_row(row: &Row) -> Result<Known> {
        let (from, to) = (row.int(0)?, row.int(1)?);
        Ok(if to == WITHDRAWN { Known::Withdrawn } else { Known::Applied { from, to } })
    }
}

/// The error for scripts whose key was withdrawn before they were applied.
pub(crate) fn given_up() -> Error {
    Error::conflict("withdrawn", "the request was given up before it was executed; nothing was applied")
}

const APPLICATION: &str =
    "SELECT from_version, version FROM virtual_applications WHERE node_id = $1 AND key = $2";

/// What was applied to a node under a key.
pub(crate) async fn application(conn: &mut Conn, node: VirtualNodeId, key: &str) -> Result<Option<Known>> {
    conn.opt(APPLICATION, args![node, key]).await?.as_ref().map(Known::from_row).transpose()
}

/// Records the versions of a key. `false` if something is recorded already.
async fn record(
    tx: &mut Tx,
    node: VirtualNodeId,
    key: &str,
    (from, to): (i64, i64),
    now: Timestamp,
) -> Result<bool> {
    let added = tx
        .exec(
            "INSERT INTO virtual_applications (node_id, key, from_version, version, applied_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (node_id, key) DO NOTHING",
            args![node, key, from, to, now],
        )
        .await?;
    Ok(added > 0)
}

/// Makes sure that nothing is applied under a key any more, and returns what was applied before. A request that is still
/// executed fails when it stores its version.
pub(crate) async fn withdraw(
    plane: &Promotion,
    ctx: &OpCtx,
    node: &Node,
    key: String,
    fence: Option<Fence>,
) -> Result<Known> {
    let estate = plane.estate();
    let fresh = match node.id {
        Some(id) => id,
        None => estate.next::<VirtualNodeId>(VirtualNodeId::KIND).await?,
    };
    let (now, read) = (estate.now(), node.clone());
    estate
        .change_told(ctx, move |tx| {
            Box::pin(async move {
                if let Some(fence) = fence {
                    fence.check(tx).await?;
                }
                let id = match read.id {
                    Some(id) => id,
                    None => made(tx, &read, fresh, now).await?,
                };
                if record(tx, id, &key, (WITHDRAWN, WITHDRAWN), now).await? {
                    let detail = format!("{} request {key}", read.name);
                    let act = OwnedAct::new("withdrawn", VIRTUAL_NODE, id.0, detail);
                    return Ok((Known::Withdrawn, Some(act)));
                }
                let row = tx.one(APPLICATION, args![id, &key]).await?;
                Ok((Known::from_row(&row)?, None))
            })
        })
        .await
}

/// A node by its id, in any unit.
pub(crate) async fn node_of(conn: &mut Conn, id: VirtualNodeId) -> Result<Option<Node>> {
    let sql = "SELECT n.ou_id, n.name, n.version, n.created_at FROM virtual_nodes n WHERE n.id = $1";
    let Some(row) = conn.opt(sql, args![id]).await? else { return Ok(None) };
    Ok(Some(Node {
        id: Some(id),
        ou: row.id(0)?,
        name: row.text(1)?,
        version: row.int(2)?,
        created_at: Some(row.time(3)?),
    }))
}

/// The hash of a version's objects; `None` if it is not kept any more.
pub(crate) async fn hash_of(conn: &mut Conn, node: VirtualNodeId, number: i64) -> Result<Option<String>> {
    if number == 0 {
        return Ok(Some(describe::content_hash(&Catalog::default())));
    }
    let sql = "SELECT content_hash FROM virtual_versions WHERE node_id = $1 AND number = $2";
    conn.opt(sql, args![node, number]).await?.map(|row| row.text(0)).transpose()
}

/// Makes an earlier version the one that queries read.
pub async fn rollback(plane: &Promotion, ctx: &OpCtx, name: &str, number: i64) -> Result<Node> {
    plane.estate().require_here(ctx, VIRTUAL_NODE, Action::MANAGE).await?;
    let node = nodes::of_caller(plane, ctx, name).await?;
    if number == 0 {
        return Err(Error::not_found("version"));
    }
    revert(plane, ctx, &node, number, None).await
}

/// The same for a caller who was authorised otherwise, if the node still has the version that was read; 0 makes it empty.
pub(crate) async fn revert(
    plane: &Promotion,
    ctx: &OpCtx,
    node: &Node,
    number: i64,
    fence: Option<Fence>,
) -> Result<Node> {
    let estate = plane.estate();
    let id = node.id.ok_or_else(|| Error::not_found("version"))?;
    let (read, now) = (node.clone(), estate.now());
    let act = OwnedAct::new("rolled_back", VIRTUAL_NODE, id.0, format!("{} to version {number}", node.name));
    estate
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                if let Some(fence) = fence {
                    fence.check(tx).await?;
                }
                let known = "SELECT 1 FROM virtual_versions WHERE node_id = $1 AND number = $2";
                if number != 0 && tx.opt(known, args![id, number]).await?.is_none() {
                    return Err(Error::not_found("version"));
                }
                let moved = tx
                    .exec(
                        "UPDATE virtual_nodes SET version = $2, row_version = row_version + 1 WHERE id = $1 AND version = $3",
                        args![id, number, read.version],
                    )
                    .await?;
                if moved == 0 {
                    return Err(Error::conflict("conflict", "the node was changed meanwhile; try again"));
                }
                tell(tx, &read, now).await
            })
        })
        .await?;
    Ok(Node { version: number, ..node.clone() })
}
