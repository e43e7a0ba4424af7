//! Reading the audit trail, and writing down what strangers tried.

use landreeve_core::ids::AuditId;
use landreeve_core::{OpCtx, Page, PageOf, Permission, Result};

use crate::Estate;
use crate::audit::{self, AuditEvent};
use crate::identity::Sight;

pub async fn audit_list(estate: &Estate, ctx: &OpCtx, page: Page) -> Result<PageOf<AuditEvent>> {
    let (noun, action) = audit::READ;
    estate.require_some(ctx, noun, action).await?;
    let sight = Sight::of(ctx, Permission::new(noun, action));
    audit::list(&mut estate.store().read().await?, estate.store().dialect(), &sight, page).await
}

/// Turns the counted requests without a valid credential into events, one per address and reason. The server calls
/// this once a minute and when it stops.
pub async fn write_strangers(estate: &Estate) -> Result<()> {
    let counts = estate.doors().strangers().take();
    if counts.is_empty() {
        return Ok(());
    }
    let mut ids = Vec::with_capacity(counts.len());
    for _ in &counts {
        ids.push(estate.next::<AuditId>(AuditId::KIND).await?);
    }
    let now = estate.now();
    estate
        .store()
        .write(move |tx| Box::pin(async move { audit::record_strangers(tx, &ids, now, &counts).await }))
        .await
}
