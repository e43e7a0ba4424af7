//! Organizational units: one tree, whose root is the nil UUID.

use jiff::Timestamp;
use landreeve_core::ids::OuId;
use landreeve_core::{Fault, Result};
use uuid::Uuid;

use crate::args;
use crate::store::{Conn, Row, Tx};

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

fn from_row(row: &Row) -> Result<Ou> {
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

/// A unit and everything below it, parents first.
pub async fn subtree(conn: &mut Conn, path: &str) -> Result<Vec<Ou>> {
    let rows =
        conn.all(select!("WHERE path >= $1 AND path < $2 ORDER BY path"), args![path, below(path)]).await?;
    rows.iter().map(from_row).collect()
}

/// The upper bound of the paths below `path`: `/` is followed by `0`.
pub fn below(path: &str) -> String {
    format!("{}0", path.trim_end_matches('/'))
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
    if (1..=129).contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Fault::new("name", "length", "must have 1 to 129 characters"))
}
