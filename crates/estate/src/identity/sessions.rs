//! Sessions, created by signing in with a password. They end after 30 minutes without a request.

use jiff::Timestamp;
use landreeve_core::Result;
use landreeve_core::ids::{SessionId, UserId};

use crate::args;
use crate::store::{Conn, Tx};

/// Microseconds without a request after which a session ends.
pub const IDLE: i64 = 30 * 60 * 1_000_000;
/// How far `seen_at` may lag behind the last request, so that not every request writes the session.
pub const TOUCH: i64 = 60 * 1_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub user: UserId,
    pub seen_at: Timestamp,
}

pub async fn insert(
    tx: &mut Tx,
    id: SessionId,
    secret_hash: String,
    user: UserId,
    face: &'static str,
    now: Timestamp,
) -> Result<()> {
    tx.exec(
        "INSERT INTO sessions (id, secret_hash, user_id, face, created_at, seen_at) VALUES ($1, $2, $3, $4, $5, $5)",
        args![id, secret_hash, user, face, now],
    )
    .await
    .map(drop)
}

pub async fn find(
    conn: &mut Conn,
    secret_hash: &str,
    face: &'static str,
    now: Timestamp,
) -> Result<Option<Session>> {
    let row = conn
        .opt(
            "SELECT id, user_id, seen_at FROM sessions WHERE secret_hash = $1 AND face = $2 AND seen_at > $3",
            args![secret_hash, face, now.as_microsecond() - IDLE],
        )
        .await?;
    row.map(|row| Ok(Session { id: row.id(0)?, user: row.id(1)?, seen_at: row.time(2)? })).transpose()
}

pub async fn touch(tx: &mut Tx, id: SessionId, now: Timestamp) -> Result<()> {
    tx.exec("UPDATE sessions SET seen_at = $2 WHERE id = $1", args![id, now]).await.map(drop)
}

pub async fn delete(tx: &mut Tx, secret_hash: &str, user: UserId) -> Result<u64> {
    tx.exec("DELETE FROM sessions WHERE secret_hash = $1 AND user_id = $2", args![secret_hash, user]).await
}

pub async fn delete_of(tx: &mut Tx, user: UserId) -> Result<u64> {
    tx.exec("DELETE FROM sessions WHERE user_id = $1", args![user]).await
}

pub async fn purge(tx: &mut Tx, now: Timestamp) -> Result<u64> {
    tx.exec("DELETE FROM sessions WHERE seen_at <= $1", args![now.as_microsecond() - IDLE]).await
}
