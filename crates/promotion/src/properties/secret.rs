//! How secret values are shown: as `lr1:` and a ciphertext, which is accepted again for the same name and environment.
//!
//! Does not belong here: the value that deployments use, which is sealed in its row like every other secret. The key of the
//! shown texts is the plane's own and stays the same when the estate's key is changed, so that texts in files and pipelines
//! remain valid.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use landreeve_core::{Error, Random, Result, Secret};
use landreeve_estate::secrets::SealKey;
use landreeve_estate::store::{Conn, Tx};
use landreeve_estate::{Estate, args};

use super::Parent;
use crate::ids::{ClusterId, EnvironmentId};

/// How every text begins.
pub(super) const PREFIX: &str = "lr1:";

/// The only row of `promotion_keys`.
const KEY: i64 = 1;
const KEY_CONTEXT: &str = "promotion_key:1";

const ENVIRONMENT: u8 = 1;
const CLUSTER: u8 = 2;

/// What a text contains.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    /// What it was encrypted for.
    pub parent: Parent,
    pub clear: Secret,
}

/// The key of the texts, if there is one yet.
pub(super) async fn key(estate: &Estate, conn: &mut Conn) -> Result<Option<SealKey>> {
    let row = conn.opt("SELECT key_sealed FROM promotion_keys WHERE id = $1", args![KEY]).await?;
    let Some(row) = row else { return Ok(None) };
    let bytes = estate.unseal(KEY_CONTEXT, &row.bytes(0)?)?;
    SealKey::from_bytes(&bytes).map(Some)
}

/// The key of the texts. The first use creates it.
pub(super) async fn key_in(estate: &Estate, tx: &mut Tx) -> Result<SealKey> {
    if let Some(known) = key(estate, tx).await? {
        return Ok(known);
    }
    let sealed = estate.seal(KEY_CONTEXT, SealKey::generate(&**estate.random()).as_bytes())?;
    tx.exec(
        "INSERT INTO promotion_keys (id, key_sealed) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
        args![KEY, sealed],
    )
    .await?;
    // Another node can have been first.
    key(estate, tx).await?.ok_or_else(|| Error::internal("the key of properties is missing from the store"))
}

/// The text for a value. It is another one each time, so it is made once and stored.
pub(super) fn text(
    key: &SealKey,
    random: &dyn Random,
    parent: Parent,
    name: &str,
    clear: &str,
) -> Result<String> {
    let (kind, id) = match parent {
        Parent::Environment(id) => (ENVIRONMENT, id.0),
        Parent::Cluster(id) => (CLUSTER, id.0),
    };
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(&key.encrypt(random, &context(parent, name), clear.as_bytes())?);
    Ok(format!("{PREFIX}{}", BASE64.encode(bytes)))
}

/// What a text contains. `None` if it is damaged, or was made for another name or by another store.
pub(super) fn open(key: &SealKey, name: &str, text: &str) -> Option<Opened> {
    let bytes = BASE64.decode(text.strip_prefix(PREFIX)?).ok()?;
    let (kind, rest) = bytes.split_first()?;
    let (id, sealed) = rest.split_first_chunk::<8>()?;
    let id = i64::from_be_bytes(*id);
    let parent = match *kind {
        ENVIRONMENT => Parent::Environment(EnvironmentId(id)),
        CLUSTER => Parent::Cluster(ClusterId(id)),
        _ => return None,
    };
    let clear = key.open(&context(parent, name), sealed).ok()?;
    let clear = Secret::new(std::str::from_utf8(&clear).ok()?);
    Some(Opened { parent, clear })
}

fn context(parent: Parent, name: &str) -> String {
    match parent {
        Parent::Environment(id) => format!("environment:{id}:{name}"),
        Parent::Cluster(id) => format!("cluster:{id}:{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landreeve_estate::random::OsRandom;

    #[test]
    fn a_text_opens_only_for_its_name_and_says_its_environment() {
        let key = SealKey::generate(&OsRandom);
        let parent = Parent::Environment(EnvironmentId(7));
        let shown = text(&key, &OsRandom, parent, "users.u.PASSWORD", "hunter2").unwrap();
        assert!(shown.starts_with("lr1:") && !shown.contains("hunter2"), "{shown}");
        let opened = open(&key, "users.u.PASSWORD", &shown).unwrap();
        assert_eq!((opened.parent, opened.clear.reveal()), (parent, "hunter2"));
        assert_ne!(shown, text(&key, &OsRandom, parent, "users.u.PASSWORD", "hunter2").unwrap());

        assert!(open(&key, "users.v.PASSWORD", &shown).is_none());
        assert!(open(&SealKey::generate(&OsRandom), "users.u.PASSWORD", &shown).is_none());
        for cut in 0..shown.len() {
            assert!(open(&key, "users.u.PASSWORD", &shown[..cut]).is_none(), "{cut}");
        }
        // The environment in it cannot be changed, nor anything else.
        let bytes = BASE64.decode(&shown["lr1:".len()..]).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let changed = format!("lr1:{}", BASE64.encode(changed));
            assert!(open(&key, "users.u.PASSWORD", &changed).is_none(), "{at}");
        }
    }

    #[test]
    fn the_text_of_a_cluster_is_not_that_of_an_environment() {
        let key = SealKey::generate(&OsRandom);
        let parent = Parent::Cluster(ClusterId(7));
        let shown = text(&key, &OsRandom, parent, "p.a.b.c.password", "x").unwrap();
        assert_eq!(open(&key, "p.a.b.c.password", &shown).unwrap().parent, parent);
    }
}
