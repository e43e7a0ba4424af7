//! The encryption key: changing it encrypts everything again in one transaction.

use landreeve_core::{Action, Noun, OpCtx, Random, Result, clock};

use crate::Estate;
use crate::estate::OwnedAct;
use crate::runs::recover;
use crate::secrets::{SealKey, SealedColumn};
use crate::store::Tx;
use crate::tokens;
use crate::{args, bootstrap};

/// In microseconds.
const MINUTE: i64 = 60_000_000;

/// Encrypts every secret again with `new`, which must already be on disk: a crash right after the commit needs it.
/// Also renews the signing keys for data tokens; the old ones verify until their last token has expired.
pub async fn rotate(estate: &Estate, ctx: &OpCtx, new: SealKey) -> Result<u64> {
    estate.require_here(ctx, Noun::SETTING, Action::MANAGE).await?;
    let (old, next, random) = (estate.seal_key(), new.clone(), std::sync::Arc::clone(estate.random()));
    let columns = estate.registry().sealed().to_vec();
    let act = OwnedAct { action: "rotated", noun: Noun::SETTING, noun_id: None, detail: new.fingerprint() };
    let count = estate
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                bootstrap::still_sealed_with(tx, &old.fingerprint()).await?;
                // First, so that concurrent writes with the old key wait and then find the new one.
                bootstrap::set_fact(tx, "seal_fingerprint", next.fingerprint()).await?;
                let mut count = 0;
                for column in columns {
                    count += reseal(tx, &column, &old, &next, &*random).await?;
                }
                tx.bump_epoch().await?;
                Ok(count)
            })
        })
        .await?;
    estate.set_seal_key(new);
    // Everything has been encrypted again; a signing key that was not renewed does not make the change fail.
    for purpose in [tokens::DATA, tokens::LINK] {
        if let Err(error) = tokens::rotate(estate, purpose, estate.now()).await {
            tracing::warn!(%error, purpose, "could not renew a key that signs tokens");
        }
    }
    Ok(count)
}

/// Fails if the key has been changed since a plane encrypted what this transaction is about to store.
pub async fn still_sealed_with(tx: &mut Tx, fingerprint: &str) -> Result<()> {
    bootstrap::still_sealed_with(tx, fingerprint).await
}

/// The nodes, other than those of this home, that have been seen within the last minute: they use the old key.
pub async fn nodes_running(estate: &Estate, ctx: &OpCtx, home: &str) -> Result<Vec<String>> {
    estate.require_here(ctx, Noun::SETTING, Action::MANAGE).await?;
    let since = clock::from_micros(estate.now().as_microsecond() - MINUTE);
    recover::other_nodes(&mut estate.store().read().await?, home, since).await
}

/// Encrypts every value of one column with the new key.
async fn reseal(
    tx: &mut Tx,
    column: &SealedColumn,
    old: &SealKey,
    new: &SealKey,
    random: &dyn Random,
) -> Result<u64> {
    let rows = tx.all(column.select, args![]).await?;
    for row in &rows {
        let key = row.text(0)?;
        let context = format!("{}:{key}", column.context);
        let plain = old.open(&context, &row.bytes(1)?)?;
        tx.exec(column.update, args![key, new.seal(random, &context, &plain)?]).await?;
    }
    Ok(rows.len() as u64)
}
