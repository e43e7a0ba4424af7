//! Users: people (and service accounts with a password).

use jiff::Timestamp;
use landreeve_core::ids::UserId;
use landreeve_core::{Fault, Page, PageOf, Result};
use uuid::Uuid;

use crate::args;
use crate::store::{Conn, Listing, Row, Tx, Where};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    /// The unique name for signing in.
    pub name: String,
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    pub enabled: bool,
    /// The first sign-in confirms an invited user.
    pub confirmed: bool,
    pub inviter: Option<UserId>,
    pub last_activity_at: Option<Timestamp>,
    pub password_changed_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub row_version: i64,
}

impl User {
    pub fn full_name(&self) -> String {
        [self.first_name.as_str(), self.last_name.as_str()]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// What a sign-in needs in addition to the user.
#[derive(Debug, Clone)]
pub struct SignInRow {
    pub user: User,
    pub password_hash: Option<String>,
    pub locked_until: Option<Timestamp>,
}

/// `None` keeps a field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserChange {
    pub full_name: Option<String>,
    pub email: Option<String>,
    pub enabled: Option<bool>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, email, first_name, last_name, enabled, confirmed, inviter_id, last_activity_at, \
             password_changed_at, created_at, updated_at, password_hash, locked_until, row_version FROM users ",
            $rest
        )
    };
}

fn from_row(row: &Row) -> Result<User> {
    Ok(User {
        id: row.id(0)?,
        name: row.text(1)?,
        email: row.text(2)?,
        first_name: row.text(3)?,
        last_name: row.text(4)?,
        enabled: row.flag(5)?,
        confirmed: row.flag(6)?,
        inviter: row.id_opt(7)?,
        last_activity_at: row.time_opt(8)?,
        password_changed_at: row.time_opt(9)?,
        created_at: row.time(10)?,
        updated_at: row.time(11)?,
        row_version: row.int(14)?,
    })
}

pub async fn get(conn: &mut Conn, id: UserId) -> Result<Option<User>> {
    conn.opt(select!("WHERE id = $1"), args![id]).await?.as_ref().map(from_row).transpose()
}

pub async fn for_sign_in(conn: &mut Conn, name: &str) -> Result<Option<SignInRow>> {
    let Some(row) = conn.opt(select!("WHERE name = $1"), args![name]).await? else { return Ok(None) };
    Ok(Some(SignInRow {
        user: from_row(&row)?,
        password_hash: row.text_opt(12)?,
        locked_until: row.time_opt(13)?,
    }))
}

/// Limits a list of users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserFilter {
    /// Part of the full name. Case matters.
    pub name: Option<String>,
    /// They have this role in a unit that the caller sees.
    pub role: Option<Uuid>,
    /// They have a role in this unit.
    pub unit: Option<Uuid>,
    /// It selects nothing, whatever else it says.
    pub nothing: bool,
}

const LISTING: Listing = Listing {
    columns: "u.id, u.name, u.email, u.first_name, u.last_name, u.enabled, u.confirmed, u.inviter_id, u.last_activity_at, \
              u.password_changed_at, u.created_at, u.updated_at, u.password_hash, u.locked_until, u.row_version",
    from: "users u",
    order: "u.id",
    size: None,
};

/// A numbered page. `below`: the path of the unit in which the caller works, whose roles the filter is about.
pub async fn list(conn: &mut Conn, asked: &UserFilter, below: &str, page: Page) -> Result<PageOf<User>> {
    let mut wanted = Where::new(conn.dialect());
    if asked.nothing {
        wanted.and("1 = 0");
    }
    if let Some(name) = &asked.name {
        wanted.and_contains("trim(u.first_name || ' ' || u.last_name)", name);
    }
    if asked.role.is_some() || asked.unit.is_some() {
        let mut held =
            "SELECT 1 FROM grants g JOIN roles r ON r.id = g.role_id JOIN ous o ON o.id = g.ou_id \
                        WHERE g.subject_kind = 'user' AND g.subject_id = u.id"
                .to_owned();
        let below = wanted.bind(below);
        held.push_str(&format!(" AND substr(o.path, 1, length({below})) = {below}"));
        for (column, uuid) in [("r.uuid", asked.role), ("o.uuid", asked.unit)] {
            if let Some(uuid) = uuid {
                let place = wanted.bind(uuid.to_string());
                held.push_str(&format!(" AND {column} = {place}"));
            }
        }
        wanted.and(&format!("EXISTS ({held})"));
    }
    wanted.numbered(conn, &LISTING, page, from_row).await
}

/// Whether a user has this address, in whatever case.
pub async fn has_email(conn: &mut Conn, email: &str) -> Result<bool> {
    let sql = "SELECT 1 FROM users WHERE lower(email) = lower($1) LIMIT 1";
    Ok(conn.opt(sql, args![email]).await?.is_some())
}

pub async fn insert(tx: &mut Tx, user: &User, password_hash: Option<String>) -> Result<()> {
    tx.exec(
        "INSERT INTO users (id, name, email, first_name, last_name, password_hash, enabled, confirmed, inviter_id, \
         failures, password_changed_at, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10, $11, $11)",
        args![
            user.id,
            &user.name,
            &user.email,
            &user.first_name,
            &user.last_name,
            password_hash,
            user.enabled,
            user.confirmed,
            user.inviter,
            user.password_changed_at,
            user.created_at,
        ],
    )
    .await
    .map(drop)
}

/// The first word is the first name, the rest the last name.
pub fn split_name(full: &str) -> (String, String) {
    let full = full.trim();
    let (first, last) = full.split_once(char::is_whitespace).unwrap_or((full, ""));
    (first.to_owned(), last.trim_start().to_owned())
}

/// Writes the user if it has not changed since it was read.
pub async fn update(tx: &mut Tx, user: &User, now: Timestamp) -> Result<()> {
    tx.update_row(
        "user",
        "UPDATE users SET email = $2, first_name = $3, last_name = $4, enabled = $5, confirmed = $6, \
         updated_at = $7, row_version = row_version + 1 WHERE id = $1 AND row_version = $8",
        args![
            user.id,
            &user.email,
            &user.first_name,
            &user.last_name,
            user.enabled,
            user.confirmed,
            now,
            user.row_version,
        ],
    )
    .await
}

pub async fn set_password(tx: &mut Tx, id: UserId, hash: String, now: Timestamp) -> Result<()> {
    tx.exec(
        "UPDATE users SET password_hash = $2, password_changed_at = $3, updated_at = $3, failures = 0, \
         first_failure_at = NULL, locked_until = NULL WHERE id = $1",
        args![id, hash, now],
    )
    .await
    .map(drop)
}

pub async fn delete(tx: &mut Tx, id: UserId) -> Result<()> {
    tx.exec("DELETE FROM grants WHERE subject_kind = 'user' AND subject_id = $1", args![id]).await?;
    tx.exec("DELETE FROM users WHERE id = $1", args![id]).await.map(drop)
}

/// Counts a wrong password; the fifth within the window locks the user.
pub async fn failed(tx: &mut Tx, id: UserId, now: Timestamp, policy: &LockPolicy) -> Result<()> {
    let row = tx.one("SELECT failures, first_failure_at FROM users WHERE id = $1", args![id]).await?;
    let (failures, first) = (row.int(0)?, row.int_opt(1)?);
    let fresh = first.is_none_or(|first| now.as_microsecond() - first > policy.window);
    let (failures, first) =
        if fresh { (1, now.as_microsecond()) } else { (failures + 1, first.unwrap_or(0)) };
    let locked = (failures >= policy.attempts).then(|| now.as_microsecond() + policy.lock);
    tx.exec(
        "UPDATE users SET failures = $2, first_failure_at = $3, locked_until = $4 WHERE id = $1",
        args![id, failures, first, locked],
    )
    .await
    .map(drop)
}

pub async fn signed_in(tx: &mut Tx, id: UserId, now: Timestamp) -> Result<()> {
    tx.exec(
        "UPDATE users SET failures = 0, first_failure_at = NULL, locked_until = NULL, confirmed = 1, \
         last_activity_at = $2 WHERE id = $1",
        args![id, now],
    )
    .await
    .map(drop)
}

/// For a user who signed in without a password: wrong passwords still count, and so does a lock after them.
pub async fn proven(tx: &mut Tx, id: UserId, now: Timestamp) -> Result<()> {
    tx.exec("UPDATE users SET confirmed = 1, last_activity_at = $2 WHERE id = $1", args![id, now])
        .await
        .map(drop)
}

/// When wrong passwords lock a user. Times in microseconds.
pub struct LockPolicy {
    pub attempts: i64,
    pub window: i64,
    pub lock: i64,
}

pub const LOCK: LockPolicy = LockPolicy { attempts: 5, window: 300_000_000, lock: 300_000_000 };

pub fn check_name(name: &str) -> Result<(), Fault> {
    let fine = !name.is_empty()
        && name.len() <= 128
        && name.chars().all(|c| !c.is_control() && !c.is_whitespace() && c != ':');
    if fine {
        return Ok(());
    }
    Err(Fault::new("name", "format", "must have 1 to 128 characters, without spaces or colons"))
}
