//! Reading the audit trail, and recording the denied requests that were only counted.

use landreeve_core::ids::AuditId;
use landreeve_core::{OpCtx, Page, PageOf, Permission, Result};

use crate::Estate;
use crate::audit::{self, AuditEvent, AuditFilter, AuditRecord};
use crate::identity::Visibility;

pub async fn audit_list(estate: &Estate, ctx: &OpCtx, page: Page) -> Result<PageOf<AuditEvent>> {
    let (noun, action) = audit::READ;
    estate.require_some(ctx, noun, action).await?;
    let visibility = Visibility::of(ctx, Permission::new(noun, action));
    audit::list(&mut estate.store().read().await?, &visibility, page).await
}

/// A numbered page of what the filter selects, newest first.
pub async fn audit_select(
    estate: &Estate,
    ctx: &OpCtx,
    asked: &AuditFilter,
    page: Page,
) -> Result<PageOf<AuditRecord>> {
    let (noun, action) = audit::READ;
    estate.require_some(ctx, noun, action).await?;
    let visibility = Visibility::of(ctx, Permission::new(noun, action));
    audit::select(&mut estate.store().read().await?, &visibility, asked, page).await
}

/// Turns counts into events: requests without a valid credential, one per address and reason, and repeated denials of
/// known callers. The server calls this once a minute, and with `all` when it stops.
pub async fn write_counted(estate: &Estate, all: bool) -> Result<()> {
    let now = estate.now();
    let counts = estate.authentication().strangers().take();
    let refusals = estate.authentication().refusals().take(now, all);
    if counts.is_empty() && refusals.is_empty() {
        return Ok(());
    }
    let mut ids = Vec::with_capacity(counts.len() + refusals.len());
    for _ in 0..counts.len() + refusals.len() {
        ids.push(estate.next::<AuditId>(AuditId::KIND).await?);
    }
    let of_refusals = ids.split_off(counts.len());
    let write = estate.store().write(move |tx| {
        Box::pin(async move {
            for (id, (ctx, act)) in of_refusals.into_iter().zip(&refusals) {
                audit::record(tx, id, now, ctx, act.as_act()).await?;
            }
            audit::record_strangers(tx, &ids, now, &counts).await
        })
    });
    write.await
}
