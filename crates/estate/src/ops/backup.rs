//! A consistent copy of the metadata, made while it is in use.

use std::path::Path;

use landreeve_core::{Action, Noun, OpCtx, Result};

use crate::Estate;
use crate::estate::OwnedAct;

/// Copies the whole store into a new SQLite file. A store in PostgreSQL is backed up with that database's own tools.
pub async fn store_copy(estate: &Estate, ctx: &OpCtx, target: &Path) -> Result<()> {
    estate.require_here(ctx, Noun::Setting, Action::Manage).await?;
    estate.store().copy_sqlite(target).await?;
    let detail = target.display().to_string();
    let act = OwnedAct { action: "backed_up", noun: Noun::Setting, noun_id: None, detail };
    estate.change(ctx, act, |_| Box::pin(async { Ok(()) })).await
}
