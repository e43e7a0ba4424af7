//! The sealing key: changing it re-seals everything in one transaction.

use landreeve_core::{Action, Noun, OpCtx, Result};

use crate::Estate;
use crate::estate::OwnedAct;
use crate::inventory::datasources;
use crate::secrets::SealKey;
use crate::tokens;
use crate::{args, bootstrap};

/// Re-seals every secret under `new`, which must be on disk already: a crash right after the commit needs it.
/// The signing keys of data tokens are renewed too; the old ones verify until their last token has expired.
pub async fn rotate(estate: &Estate, ctx: &OpCtx, new: SealKey) -> Result<u64> {
    estate.require_here(ctx, Noun::Setting, Action::Manage).await?;
    let (old, next, random) = (estate.seal_key(), new.clone(), std::sync::Arc::clone(estate.random()));
    let act = OwnedAct { action: "rotated", noun: Noun::Setting, noun_id: None, detail: new.fingerprint() };
    let count = estate
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                bootstrap::still_sealed_with(tx, &old.fingerprint()).await?;
                // First, so that what is being sealed with the old key waits, and then finds the new one.
                bootstrap::set_fact(tx, "seal_fingerprint", next.fingerprint()).await?;
                let reseal = |context: &str, plain: &[u8]| next.seal(&*random, context, plain);
                let mut count = datasources::reseal_all(tx, &old, reseal).await?;
                for row in tx.all("SELECT kid, secret_sealed FROM signing_keys", args![]).await? {
                    let kid = row.text(0)?;
                    let context = format!("signing_key:{kid}");
                    let plain = old.open(&context, &row.bytes(1)?)?;
                    let sealed = next.seal(&*random, &context, &plain)?;
                    tx.exec("UPDATE signing_keys SET secret_sealed = $2 WHERE kid = $1", args![kid, sealed])
                        .await?;
                    count += 1;
                }
                tx.bump_epoch().await?;
                Ok(count)
            })
        })
        .await?;
    estate.set_seal_key(new);
    // Everything is sealed anew by now; an old signing key that goes on for a while is no reason to say otherwise.
    if let Err(error) = tokens::rotate(estate, "data", estate.now()).await {
        tracing::warn!(%error, "the key that signs data tokens was not renewed");
    }
    Ok(count)
}
