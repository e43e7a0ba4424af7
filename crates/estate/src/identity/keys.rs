//! API keys. The secret is 256 random bits with a prefix per API; only its SHA-256 is stored.

use jiff::Timestamp;
use landreeve_core::ids::{KeyId, OuId, UserId};
use landreeve_core::{Part, Result};

use super::{Place, Visibility};
use crate::args;
use crate::store::{Conn, Listing, Row, Tx, Where};

/// Which API a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Api {
    Analytics,
    Delivery,
    Protection,
}

impl Api {
    pub const ALL: [Api; 3] = [Api::Analytics, Api::Delivery, Api::Protection];

    pub const fn as_str(self) -> &'static str {
        match self {
            Api::Analytics => "cluvio",
            Api::Delivery => "dx",
            Api::Protection => "clumio",
        }
    }

    pub fn parse(text: &str) -> Option<Api> {
        Api::ALL.into_iter().find(|api| api.as_str() == text)
    }

    pub const fn prefix(self) -> &'static str {
        match self {
            Api::Analytics => "lrc_",
            Api::Delivery => "lrd_",
            Api::Protection => "lrp_",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub id: KeyId,
    pub api: Api,
    pub name: String,
    pub hint: String,
    /// The dialect's names for the key's grants, for listings: one per line.
    pub labels: Vec<String>,
    pub ou: OuId,
    /// Set for a key that acts as a user.
    pub user: Option<UserId>,
    pub enabled: bool,
    pub created_at: Timestamp,
}

macro_rules! columns {
    () => {
        "id, api, name, hint, labels, ou_id, user_id, enabled, created_at"
    };
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), " FROM keys ", $rest)
    };
}

const LISTING: Listing =
    Listing { columns: columns!(), from: "keys", order: "keys.id", size: Some("length(labels)") };

fn from_row(row: &Row) -> Result<Key> {
    Ok(Key {
        id: row.id(0)?,
        api: row.word(1, Api::parse)?,
        name: row.text(2)?,
        hint: row.text(3)?,
        labels: row.text(4)?.lines().map(str::to_owned).collect(),
        ou: row.id(5)?,
        user: row.id_opt(6)?,
        enabled: row.flag(7)?,
        created_at: row.time(8)?,
    })
}

/// The page of visible keys after this id.
pub async fn list(
    conn: &mut Conn,
    visibility: &Visibility,
    name: Option<&str>,
    after: Option<KeyId>,
) -> Result<Part<Key, KeyId>> {
    let mut wanted = Where::new(conn.dialect());
    visibility.narrow(&mut wanted, &Place::named("keys.ou_id", "keys.id IN ($$)"))?;
    if let Some(name) = name {
        wanted.and_value("keys.name = $$", name);
    }
    if let Some(after) = after {
        wanted.and_after("keys.id", args![after]);
    }
    wanted.page(conn, &LISTING, from_row, |key| key.id).await
}

pub async fn get(conn: &mut Conn, id: KeyId) -> Result<Option<Key>> {
    conn.opt(select!("WHERE id = $1"), args![id]).await?.as_ref().map(from_row).transpose()
}

pub async fn by_secret_hash(conn: &mut Conn, hash: &str) -> Result<Option<Key>> {
    conn.opt(select!("WHERE secret_hash = $1"), args![hash]).await?.as_ref().map(from_row).transpose()
}

pub async fn insert(tx: &mut Tx, key: &Key, secret_hash: String) -> Result<()> {
    tx.exec(
        "INSERT INTO keys (id, api, name, secret_hash, hint, labels, ou_id, user_id, enabled, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        args![
            key.id,
            key.api.as_str(),
            &key.name,
            secret_hash,
            &key.hint,
            key.labels.join("\n"),
            key.ou,
            key.user,
            key.enabled,
            key.created_at,
        ],
    )
    .await
    .map(drop)
}

pub async fn set_enabled(tx: &mut Tx, id: KeyId, enabled: bool) -> Result<()> {
    tx.exec("UPDATE keys SET enabled = $2 WHERE id = $1", args![id, enabled]).await.map(drop)
}

pub async fn delete(tx: &mut Tx, id: KeyId) -> Result<()> {
    tx.exec("DELETE FROM grants WHERE subject_kind = 'key' AND subject_id = $1", args![id]).await?;
    tx.exec("DELETE FROM keys WHERE id = $1", args![id]).await.map(drop)
}
