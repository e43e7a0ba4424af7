//! Organizational units: one tree, whose root is the nil UUID.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use landreeve_core::ids::OuId;
use landreeve_core::{Fault, Part, Result};
use uuid::Uuid;

use super::{Place, Visibility};
use crate::args;
use crate::store::{Conn, Listing, Row, Tx, Where};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ou {
    pub id: OuId,
    pub uuid: Uuid,
    pub parent: Option<OuId>,
    /// The ids from the root to here: `/1/7/`. A subtree is a prefix.
    pub path: String,
    pub name: String,
    pub description: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, uuid, parent_id, path, name, description, created_at, updated_at FROM ous ",
            $rest
        )
    };
}

pub(super) fn from_row(row: &Row) -> Result<Ou> {
    Ok(Ou {
        id: row.id(0)?,
        uuid: row.uuid(1)?,
        parent: row.id_opt(2)?,
        path: row.text(3)?,
        name: row.text(4)?,
        description: row.text(5)?,
        created_at: row.time(6)?,
        updated_at: row.time(7)?,
    })
}

pub async fn get(conn: &mut Conn, id: OuId) -> Result<Option<Ou>> {
    conn.opt(select!("WHERE id = $1"), args![id]).await?.as_ref().map(from_row).transpose()
}

pub async fn by_uuid(conn: &mut Conn, uuid: Uuid) -> Result<Option<Ou>> {
    conn.opt(select!("WHERE uuid = $1"), args![uuid]).await?.as_ref().map(from_row).transpose()
}

const LISTING: Listing = Listing {
    columns: "o.id, o.uuid, o.parent_id, o.path, o.name, o.description, o.created_at, o.updated_at",
    from: "ous o",
    order: "o.path",
    size: None,
};

/// The page of visible units after this path, parents first.
pub async fn list(
    conn: &mut Conn,
    visibility: &Visibility,
    after: Option<String>,
) -> Result<Part<Ou, String>> {
    let mut wanted = Where::new(conn.dialect());
    visibility.narrow(&mut wanted, &Place::of_unit("o.id"))?;
    if let Some(path) = after {
        wanted.and_after("o.path", args![path]);
    }
    wanted.page(conn, &LISTING, from_row, |ou| ou.path.clone()).await
}

/// Those of these units that are visible.
pub async fn by_uuids(conn: &mut Conn, visibility: &Visibility, uuids: &BTreeSet<Uuid>) -> Result<Vec<Ou>> {
    let mut wanted = Where::new(conn.dialect());
    visibility.narrow(&mut wanted, &Place::of_unit("o.id"))?;
    let texts: Vec<String> = uuids.iter().map(Uuid::to_string).collect();
    wanted.and_texts("o.uuid", &texts)?;
    let (condition, values) = wanted.into_parts();
    let sql = format!("SELECT {} FROM {} WHERE {condition}", LISTING.columns, LISTING.from);
    conn.select(sql, values).await?.iter().map(from_row).collect()
}

/// The UUIDs of these units, by id; only of visible ones.
pub async fn uuids(
    conn: &mut Conn,
    visibility: &Visibility,
    ids: &BTreeSet<OuId>,
) -> Result<BTreeMap<OuId, Uuid>> {
    let mut wanted = Where::new(conn.dialect());
    visibility.narrow(&mut wanted, &Place::of_unit("o.id"))?;
    wanted.and_ids("o.id", ids.iter().map(|id| id.0));
    let (condition, values) = wanted.into_parts();
    let rows = conn.select(format!("SELECT o.id, o.uuid FROM ous o WHERE {condition}"), values).await?;
    rows.iter().map(|row| Ok((row.id(0)?, row.uuid(1)?))).collect()
}

/// The unit at this path and those below it, up to `limit`.
pub async fn ids_below(conn: &mut Conn, path: &str, limit: usize) -> Result<Vec<OuId>> {
    let rows = conn
        .all(
            "SELECT id FROM ous WHERE substr(path, 1, length($1)) = $1 ORDER BY id LIMIT $2",
            args![path, i64::try_from(limit).unwrap_or(i64::MAX)],
        )
        .await?;
    rows.iter().map(|row| row.id(0)).collect()
}

/// Whether there is a unit other than the root.
pub async fn are_many(conn: &mut Conn) -> Result<bool> {
    Ok(conn.all("SELECT 1 FROM ous LIMIT 2", args![]).await?.len() > 1)
}

pub async fn insert(tx: &mut Tx, ou: &Ou) -> Result<()> {
    tx.exec(
        "INSERT INTO ous (id, uuid, parent_id, path, name, description, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
        args![ou.id, ou.uuid, ou.parent, &ou.path, &ou.name, &ou.description, ou.created_at],
    )
    .await
    .map(drop)
}

pub fn check_name(name: &str) -> Result<(), Fault> {
    if (1..=129).contains(&name.chars().count())
        && !name.trim().is_empty()
        && !name.chars().any(char::is_control)
    {
        return Ok(());
    }
    Err(Fault::new("name", "length", "must have 1 to 129 characters"))
}
