//! Groups of users. The built-in group `everyone` contains all users without a row for each.

use jiff::Timestamp;
use landreeve_core::ids::{GroupId, UserId};
use landreeve_core::{Part, Result};

use crate::args;
use crate::store::{Conn, Listing, Row, Tx, Where};

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

/// Limits a list of groups.
#[derive(Debug, Clone, Default)]
pub struct GroupFilter {
    pub ids: Option<Vec<GroupId>>,
    pub name: Option<String>,
    /// Only groups that this user is a member of.
    pub member: Option<UserId>,
}

const LISTING: Listing = Listing {
    columns: "g.id, g.name, g.description, g.builtin, g.created_at, g.updated_at",
    from: "groups g",
    order: "g.id",
    size: Some("8 * (SELECT count(*) FROM group_members m WHERE m.group_id = g.id)"),
};

pub async fn list(
    conn: &mut Conn,
    asked: &GroupFilter,
    after: Option<GroupId>,
) -> Result<Part<Group, GroupId>> {
    let mut wanted = Where::new(conn.dialect());
    if let Some(ids) = &asked.ids {
        wanted.and_ids("g.id", ids.iter().map(|id| id.0));
    }
    if let Some(name) = &asked.name {
        wanted.and_value("g.name = $$", name);
    }
    if let Some(user) = asked.member {
        wanted.and_value(
            "EXISTS (SELECT 1 FROM group_members x WHERE x.group_id = g.id AND x.user_id = $$)",
            user,
        );
    }
    if let Some(after) = after {
        wanted.and_after("g.id", args![after]);
    }
    let mut part = wanted.page(conn, &LISTING, from_row, |group| group.id).await?;
    let mut members = Where::new(conn.dialect());
    members.and_ids("group_id", part.items.iter().map(|group| group.id.0));
    let (condition, values) = members.into_parts();
    let sql = format!("SELECT group_id, user_id FROM group_members WHERE {condition} ORDER BY user_id");
    for member in conn.select(sql, values).await? {
        let id: GroupId = member.id(0)?;
        if let Some(group) = part.items.iter_mut().find(|group| group.id == id) {
            group.members.push(member.id(1)?);
        }
    }
    Ok(part)
}

pub async fn get(conn: &mut Conn, id: GroupId) -> Result<Option<Group>> {
    let asked = GroupFilter { ids: Some(vec![id]), ..GroupFilter::default() };
    Ok(list(conn, &asked, None).await?.items.into_iter().next())
}

fn from_row(row: &Row) -> Result<Group> {
    Ok(Group {
        id: row.id(0)?,
        name: row.text(1)?,
        description: row.text(2)?,
        builtin: row.text_opt(3)?,
        members: Vec::new(),
        created_at: row.time(4)?,
        updated_at: row.time(5)?,
    })
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
