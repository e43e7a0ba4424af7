//! Nodes and their versions, as rows.

use jiff::Timestamp;
use landreeve_core::hashid::HashIds;
use landreeve_core::ids::OuId;
use landreeve_core::{Action, Error, OpCtx, Part, Permission, Result};
use landreeve_estate::args;
use landreeve_estate::identity::{Place, Visibility};
use landreeve_estate::ops::{self, OwnedAct};
use landreeve_estate::store::{Conn, Listing, Row, Tx, Where, next_in, taken};

use crate::ids::VirtualNodeId;
use crate::nouns::VIRTUAL_NODE;
use crate::plane::{DATABASE_TYPE, Promotion};

/// The node that every unit has without it being made.
pub const LOCAL: &str = "local";
/// A node with virtual databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `None` for `local` until something is applied to it.
    pub id: Option<VirtualNodeId>,
    pub ou: OuId,
    pub name: String,
    /// What queries read; 0: empty.
    pub version: i64,
    pub created_at: Option<Timestamp>,
}

const COLUMNS: &str = "n.id, n.ou_id, n.name, n.version, n.created_at";

const LISTING: Listing = Listing {
    columns: COLUMNS,
    from: "virtual_nodes n JOIN ous o ON o.id = n.ou_id",
    order: "n.name, n.id",
    size: None,
};

fn from_row(row: &Row) -> Result<Node> {
    Ok(Node {
        id: Some(row.id(0)?),
        ou: row.id(1)?,
        name: row.text(2)?,
        version: row.int(3)?,
        created_at: Some(row.time(4)?),
    })
}

/// A name that a node can have.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let valid = !name.is_empty()
        && name.len() <= 100
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte));
    if valid {
        return Ok(());
    }
    Err(Error::fault("name", "format", "must have 1 to 100 lower-case letters, digits, and any of _ - ."))
}

pub async fn node_create(plane: &Promotion, ctx: &OpCtx, name: &str) -> Result<Node> {
    let estate = plane.estate();
    estate.require_here(ctx, VIRTUAL_NODE, Action::MANAGE).await?;
    check_name(name)?;
    if name == LOCAL {
        return Err(Error::conflict("builtin", "every unit has the node local without it being made"));
    }
    let (id, ou, now) =
        (estate.next::<VirtualNodeId>(VirtualNodeId::KIND).await?, ctx.authority().ou(), estate.now());
    let copy = name.to_owned();
    estate
        .change(ctx, OwnedAct::new("created", VIRTUAL_NODE, id.0, name), move |tx| {
            Box::pin(async move { insert(tx, id, ou, &copy, now).await })
        })
        .await
        .map_err(|error| taken(error, "name"))?;
    Ok(Node { id: Some(id), ou, name: name.to_owned(), version: 0, created_at: Some(now) })
}

pub(crate) async fn insert(
    tx: &mut Tx,
    id: VirtualNodeId,
    ou: OuId,
    name: &str,
    now: Timestamp,
) -> Result<()> {
    tx.exec(
        "INSERT INTO virtual_nodes (id, ou_id, name, version, last_version, created_at) VALUES ($1, $2, $3, 0, 0, $4)",
        args![id, ou, name, now],
    )
    .await
    .map(drop)
}

/// The page of nodes after this key, in the caller's subtree.
pub async fn node_list(
    plane: &Promotion,
    ctx: &OpCtx,
    after: Option<(String, VirtualNodeId)>,
) -> Result<Part<Node, (String, VirtualNodeId)>> {
    plane.estate().require_some(ctx, VIRTUAL_NODE, Action::VIEW).await?;
    let mut conn = plane.estate().store().read().await?;
    let mut filter = Where::new(conn.dialect());
    Visibility::of(ctx, Permission::new(VIRTUAL_NODE, Action::VIEW))
        .narrow(&mut filter, &Place::named("n.ou_id", "n.id IN ($$)"))?;
    if let Some((name, id)) = after {
        filter.and_after("n.name, n.id", args![name, id]);
    }
    let key = |node: &Node| (node.name.clone(), node.id.unwrap_or(VirtualNodeId(0)));
    filter.page(&mut conn, &LISTING, from_row, key).await
}

/// A node of a unit. `local` is there even if nothing was applied to it.
pub(crate) async fn find(conn: &mut Conn, ou: OuId, name: &str) -> Result<Option<Node>> {
    let sql = "SELECT n.id, n.ou_id, n.name, n.version, n.created_at FROM virtual_nodes n WHERE n.ou_id = $1 AND n.name = $2";
    let found = conn.opt(sql, args![ou, name]).await?.as_ref().map(from_row).transpose()?;
    let local = || Node { id: None, ou, name: LOCAL.to_owned(), version: 0, created_at: None };
    Ok(found.or_else(|| (name == LOCAL).then(local)))
}

/// A node of the caller's unit.
pub(crate) async fn of_caller(plane: &Promotion, ctx: &OpCtx, name: &str) -> Result<Node> {
    let mut conn = plane.estate().store().read().await?;
    find(&mut conn, ctx.authority().ou(), name).await?.ok_or_else(|| Error::not_found("virtual node"))
}

/// Deletes a node with all its versions, unless a datasource or a server of an environment names it.
pub async fn node_delete(plane: &Promotion, ctx: &OpCtx, name: &str) -> Result<()> {
    let estate = plane.estate();
    estate.require_here(ctx, VIRTUAL_NODE, Action::MANAGE).await?;
    let node = of_caller(plane, ctx, name).await?;
    let id =
        node.id.ok_or_else(|| Error::conflict("builtin", "nothing was applied to the node local yet"))?;
    let (ou, wanted, ids) = (node.ou, name.to_owned(), estate.hash_ids().clone());
    estate
        .change(ctx, OwnedAct::new("deleted", VIRTUAL_NODE, id.0, name), move |tx| {
            Box::pin(async move {
                not_named(tx, &ids, ou, &wanted).await?;
                let sql = "SELECT name FROM promotion_servers WHERE node_id = $1 ORDER BY id LIMIT 1";
                if let Some(server) = tx.opt(sql, args![id]).await? {
                    let message =
                        format!("the node is the server {}; delete that one first", server.text(0)?);
                    return Err(Error::conflict("in_use", message));
                }
                tx.exec("DELETE FROM virtual_nodes WHERE id = $1", args![id]).await?;
                crate::versions::forget_texts(tx).await
            })
        })
        .await
}

/// Fails if a datasource of the unit names this node.
async fn not_named(tx: &mut Tx, ids: &HashIds, ou: OuId, name: &str) -> Result<()> {
    let users = ops::datasources::of_catalog(tx, ou, DATABASE_TYPE).await?;
    let named = |host: Option<&str>| host.filter(|host| !host.is_empty()).unwrap_or(LOCAL) == name;
    let Some(user) = users.iter().find(|user| named(user.host.as_deref())) else { return Ok(()) };
    let message = format!(
        "the datasource {} ({}) names the node {name}; delete it first",
        user.name,
        ids.encode_grouped(user.id)
    );
    Err(Error::conflict("in_use", message))
}

/// Deletes nodes that were made with servers which are deleted now.
pub(crate) async fn delete_made(tx: &mut Tx, ids: &HashIds, ou: OuId, made: &[VirtualNodeId]) -> Result<()> {
    for node in made {
        let row = tx.opt("SELECT name FROM virtual_nodes WHERE id = $1", args![*node]).await?;
        let Some(row) = row else { continue };
        not_named(tx, ids, ou, &row.text(0)?).await?;
        tx.exec("DELETE FROM virtual_nodes WHERE id = $1", args![*node]).await?;
    }
    if made.is_empty() { Ok(()) } else { crate::versions::forget_texts(tx).await }
}

/// The node of the unit with this name, which is made if it does not exist, and whether it was made. A node is that of
/// one server: what is deployed to a server must not change another.
pub(crate) async fn find_or_make(
    tx: &mut Tx,
    ou: OuId,
    name: &str,
    now: Timestamp,
) -> Result<(VirtualNodeId, bool)> {
    let sql = "SELECT id FROM virtual_nodes WHERE ou_id = $1 AND name = $2";
    if let Some(row) = tx.opt(sql, args![ou, name]).await? {
        let node: VirtualNodeId = row.id(0)?;
        let sql = "SELECT name FROM promotion_servers WHERE node_id = $1";
        if let Some(server) = tx.opt(sql, args![node]).await? {
            let message = format!("the virtual node {name} is that of the server {}", server.text(0)?);
            return Err(Error::conflict("in_use", message));
        }
        return Ok((node, false));
    }
    let id = VirtualNodeId(next_in(tx, VirtualNodeId::KIND).await?);
    insert(tx, id, ou, name, now).await?;
    // Every unit has the node local; it does not go away with a server.
    Ok((id, name != LOCAL))
}
