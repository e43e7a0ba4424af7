//! Grants: the only permission table. A subject has a role or a single permission, in a subtree or for one resource.

use std::collections::HashMap;

use jiff::Timestamp;
use landreeve_core::ids::{GrantId, GroupId, KeyId, OuId, RoleId, UserId};
use landreeve_core::{Authority, Grant, Permission, Result, Scope};
use uuid::Uuid;

use crate::args;
use crate::store::{Conn, Row, Tx};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    User(UserId),
    Group(GroupId),
    Key(KeyId),
}

impl Subject {
    pub fn kind(self) -> &'static str {
        match self {
            Subject::User(_) => "user",
            Subject::Group(_) => "group",
            Subject::Key(_) => "key",
        }
    }

    pub fn id(self) -> i64 {
        match self {
            Subject::User(id) => id.0,
            Subject::Group(id) => id.0,
            Subject::Key(id) => id.0,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantTarget {
    Subtree(OuId),
    Resource(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewGrant {
    Role(RoleId, OuId),
    Permission(Permission, GrantTarget),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    pub id: RoleId,
    pub uuid: Uuid,
    pub name: String,
    pub description: String,
    pub permissions: Vec<Permission>,
}

/// A grant in a listing: where it applies, by role or permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub id: GrantId,
    pub subject_kind: String,
    pub subject_id: i64,
    pub role: Option<RoleId>,
    pub permission: Option<String>,
    pub ou: Option<OuId>,
    pub resource: Option<i64>,
}

pub async fn insert(
    tx: &mut Tx,
    id: GrantId,
    subject: Subject,
    grant: &NewGrant,
    now: Timestamp,
) -> Result<()> {
    let (role, permission, ou, resource) = match grant {
        NewGrant::Role(role, ou) => (Some(*role), None, Some(*ou), None),
        NewGrant::Permission(permission, GrantTarget::Subtree(ou)) => {
            (None, Some(permission.as_text()), Some(*ou), None)
        }
        NewGrant::Permission(permission, GrantTarget::Resource(resource)) => {
            (None, Some(permission.as_text()), None, Some(*resource))
        }
    };
    tx.exec(
        "INSERT INTO grants (id, subject_kind, subject_id, role_id, permission, ou_id, resource_id, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        args![id, subject.kind(), subject.id(), role, permission, ou, resource, now],
    )
    .await
    .map(drop)
}

pub async fn delete_of(tx: &mut Tx, subject: Subject) -> Result<()> {
    tx.exec(
        "DELETE FROM grants WHERE subject_kind = $1 AND subject_id = $2",
        args![subject.kind(), subject.id()],
    )
    .await
    .map(drop)
}

/// Deletes the grants of a role in exactly this unit. `false` if there are none.
pub async fn revoke_role(tx: &mut Tx, subject: Subject, role: RoleId, ou: OuId) -> Result<bool> {
    let gone = tx
        .exec(
            "DELETE FROM grants WHERE subject_kind = $1 AND subject_id = $2 AND role_id = $3 AND ou_id = $4",
            args![subject.kind(), subject.id(), role, ou],
        )
        .await?;
    Ok(gone > 0)
}

/// What a subject has been granted, with roles expanded, and the unit of each grant (for the default unit).
pub async fn of(conn: &mut Conn, subject: Subject) -> Result<Vec<(Grant, Option<OuId>)>> {
    Ok(dated(conn, subject).await?.into_iter().map(|(_, grant, ou)| (grant, ou)).collect())
}

/// The same, each with the time at which it was granted, the oldest first.
async fn dated(conn: &mut Conn, subject: Subject) -> Result<Vec<(Timestamp, Grant, Option<OuId>)>> {
    let rows = conn
        .all(
            "SELECT g.created_at, COALESCE(g.permission, p.permission), o.path, g.resource_id, g.ou_id \
             FROM grants g LEFT JOIN role_permissions p ON p.role_id = g.role_id \
             LEFT JOIN ous o ON o.id = g.ou_id \
             WHERE g.subject_kind = $1 AND g.subject_id = $2 ORDER BY g.created_at, g.id",
            args![subject.kind(), subject.id()],
        )
        .await?;
    let mut grants = Vec::with_capacity(rows.len());
    for row in &rows {
        // A role without permissions has a row without one.
        let Some(text) = row.text_opt(1)? else { continue };
        // A permission with names that no plane of this program registers grants nothing.
        let Some(permission) = Permission::stored(&text) else { continue };
        let scope = match (row.text_opt(2)?, row.int_opt(3)?) {
            (_, Some(resource)) => Scope::Resources(vec![resource]),
            (Some(path), None) => Scope::Subtree(path),
            (None, None) => continue,
        };
        grants.push((row.time(0)?, Grant { permission, scope }, row.id_opt(4)?));
    }
    Ok(grants)
}

/// What a user has been granted, directly and through groups, the oldest first: a later grant does not change the default
/// unit.
pub async fn of_user(
    conn: &mut Conn,
    user: UserId,
    groups: &[GroupId],
) -> Result<Vec<(Grant, Option<OuId>)>> {
    let mut held = dated(conn, Subject::User(user)).await?;
    for group in groups {
        held.extend(dated(conn, Subject::Group(*group)).await?);
    }
    held.sort_by_key(|(granted, ..)| *granted);
    Ok(held.into_iter().map(|(_, grant, ou)| (grant, ou)).collect())
}

/// Whether the authority includes all of these grants, regardless of its current unit.
pub fn covers(authority: &Authority, given: &[Grant]) -> bool {
    let whole = Authority::new(authority.grants().to_vec(), OuId::ROOT, "/1/");
    authority.is_operator()
        || given.iter().all(|grant| match &grant.scope {
            // 0 is not the id of any resource, so a grant on named resources does not cover a subtree.
            Scope::Subtree(path) => whole.allows(grant.permission, path, 0),
            Scope::Resources(ids) => ids.iter().all(|id| whole.allows(grant.permission, "/1/", *id)),
        })
}

pub async fn assignments(conn: &mut Conn, subject: Subject) -> Result<Vec<Assignment>> {
    let rows = conn
        .all(
            "SELECT id, subject_kind, subject_id, role_id, permission, ou_id, resource_id FROM grants \
             WHERE subject_kind = $1 AND subject_id = $2 ORDER BY id",
            args![subject.kind(), subject.id()],
        )
        .await?;
    rows.iter().map(assignment).collect()
}

fn assignment(row: &Row) -> Result<Assignment> {
    Ok(Assignment {
        id: row.id(0)?,
        subject_kind: row.text(1)?,
        subject_id: row.int(2)?,
        role: row.id_opt(3)?,
        permission: row.text_opt(4)?,
        ou: row.id_opt(5)?,
        resource: row.int_opt(6)?,
    })
}

/// How many users have each role in a unit at or below this path.
pub async fn user_counts(conn: &mut Conn, below: &str) -> Result<HashMap<RoleId, u64>> {
    let rows = conn
        .all(
            "SELECT g.role_id, count(DISTINCT g.subject_id) FROM grants g JOIN ous o ON o.id = g.ou_id \
             WHERE g.subject_kind = 'user' AND g.role_id IS NOT NULL AND substr(o.path, 1, length($1)) = $1 \
             GROUP BY g.role_id",
            args![below],
        )
        .await?;
    rows.iter().map(|row| Ok((row.id(0)?, row.int(1)?.unsigned_abs()))).collect()
}

pub async fn roles(conn: &mut Conn) -> Result<Vec<Role>> {
    let rows = conn.all("SELECT id, uuid, name, description FROM roles ORDER BY id", args![]).await?;
    let permissions =
        conn.all("SELECT role_id, permission FROM role_permissions ORDER BY permission", args![]).await?;
    let mut roles = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: RoleId = row.id(0)?;
        let mut held = Vec::new();
        for permission in &permissions {
            if permission.int(0)? == id.0 {
                held.extend(Permission::stored(&permission.text(1)?));
            }
        }
        held.sort_unstable();
        roles.push(Role {
            id,
            uuid: row.uuid(1)?,
            name: row.text(2)?,
            description: row.text(3)?,
            permissions: held,
        });
    }
    Ok(roles)
}

pub async fn insert_role(tx: &mut Tx, role: &Role) -> Result<()> {
    tx.exec(
        "INSERT INTO roles (id, uuid, name, description) VALUES ($1, $2, $3, $4)",
        args![role.id, role.uuid, &role.name, &role.description],
    )
    .await?;
    insert_permissions(tx, role).await
}

/// Replaces name, description and permissions.
pub async fn update_role(tx: &mut Tx, role: &Role) -> Result<()> {
    tx.exec(
        "UPDATE roles SET name = $2, description = $3 WHERE id = $1",
        args![role.id, &role.name, &role.description],
    )
    .await?;
    tx.exec("DELETE FROM role_permissions WHERE role_id = $1", args![role.id]).await?;
    insert_permissions(tx, role).await
}

async fn insert_permissions(tx: &mut Tx, role: &Role) -> Result<()> {
    for permission in &role.permissions {
        tx.exec(
            "INSERT INTO role_permissions (role_id, permission) VALUES ($1, $2)",
            args![role.id, permission.as_text()],
        )
        .await?;
    }
    Ok(())
}
