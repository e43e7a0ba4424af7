//! Groups of users. The built-in group `everyone` contains all users without a row for each.

use jiff::Timestamp;
use landreeve_core::Result;
use landreeve_core::ids::{GroupId, UserId};

use crate::args;
use crate::store::{Conn, Row, Tx};

/// The built-in group that contains every user.
pub const EVERYONE: GroupId = GroupId(1);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub id: GroupId,
    pub name: String,
    pub description: String,
    pub builtin: Option<String>,
    pub members: Vec<UserId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

pub async fn list(conn: &mut Conn) -> Result<Vec<Group>> {
    let rows = conn
        .all("SELECT id, name, description, builtin, created_at, updated_at FROM groups ORDER BY id", args![])
        .await?;
    let members = conn.all("SELECT group_id, user_id FROM group_members ORDER BY user_id", args![]).await?;
    rows.iter().map(|row| from_row(row, &members)).collect()
}

fn from_row(row: &Row, members: &[Row]) -> Result<Group> {
    let id: GroupId = row.id(0)?;
    let mut group = Group {
        id,
        name: row.text(1)?,
        description: row.text(2)?,
        builtin: row.text_opt(3)?,
        members: Vec::new(),
        created_at: row.time(4)?,
        updated_at: row.time(5)?,
    };
    for member in members {
        if member.int(0)? == id.0 {
            group.members.push(member.id(1)?);
        }
    }
    Ok(group)
}

pub async fn insert(tx: &mut Tx, group: &Group) -> Result<()> {
    tx.exec(
        "INSERT INTO groups (id, name, description, builtin, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)",
        args![group.id, &group.name, &group.description, group.builtin.clone(), group.created_at],
    )
    .await?;
    for member in &group.members {
        add_member(tx, group.id, *member).await?;
    }
    Ok(())
}

pub async fn add_member(tx: &mut Tx, group: GroupId, user: UserId) -> Result<()> {
    tx.exec(
        "INSERT INTO group_members (group_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        args![group, user],
    )
    .await
    .map(drop)
}

pub async fn remove_member(tx: &mut Tx, group: GroupId, user: UserId) -> Result<()> {
    tx.exec("DELETE FROM group_members WHERE group_id = $1 AND user_id = $2", args![group, user])
        .await
        .map(drop)
}

pub async fn delete(tx: &mut Tx, group: GroupId) -> Result<()> {
    tx.exec("DELETE FROM grants WHERE subject_kind = 'group' AND subject_id = $1", args![group]).await?;
    tx.exec("DELETE FROM groups WHERE id = $1", args![group]).await.map(drop)
}

/// The groups of a user, including `everyone`.
pub async fn of_user(conn: &mut Conn, user: UserId) -> Result<Vec<GroupId>> {
    let rows = conn.all("SELECT group_id FROM group_members WHERE user_id = $1", args![user]).await?;
    let mut groups = rows.iter().map(|row| row.id(0)).collect::<Result<Vec<_>>>()?;
    groups.push(EVERYONE);
    Ok(groups)
}
