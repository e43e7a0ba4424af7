//! A consistent copy of the estate while it is in use, and its restore. A backup has the same form for either store:
//! the metadata as one SQLite file, the blobs as a folder.

use std::path::Path;

use landreeve_core::{Action, Noun, OpCtx, Result};
use tokio_util::sync::CancellationToken;

use crate::Estate;
use crate::blobs::Blobs;
use crate::estate::OwnedAct;

pub use crate::manifest::{
    check as manifest_check, check_blobs as manifest_check_blobs, write as manifest_write,
};
use crate::store::{Migrations, Store};

/// Copies the whole store into a new SQLite file.
pub async fn store_copy(estate: &Estate, ctx: &OpCtx, target: &Path) -> Result<()> {
    estate.require_here(ctx, Noun::SETTING, Action::MANAGE).await?;
    estate.store().copy(target).await?;
    let detail = target.display().to_string();
    let act = OwnedAct { action: "backed_up", noun: Noun::SETTING, noun_id: None, detail };
    estate.change(ctx, act, |_| Box::pin(async { Ok(()) })).await
}

/// Copies every blob. The store is copied first: a blob it refers to that is already gone was past its retention.
pub async fn blobs_copy(estate: &Estate, ctx: &OpCtx, target: &Blobs) -> Result<u64> {
    estate.require_here(ctx, Noun::SETTING, Action::MANAGE).await?;
    estate.blobs().copy_all(target).await
}

/// Fills an empty PostgreSQL database from the file that `store_copy` wrote. There is no estate to check a permission
/// against: anyone who can read the backup and write the database can do this. Migrates `source` to this program's
/// schema.
pub async fn store_restore(source: &Path, migrations: &Migrations, url: &str) -> Result<()> {
    Store::restore_postgres(source, migrations, url).await
}

/// The problems found in the store; empty if there are none.
pub async fn store_check(estate: &Estate, ctx: &OpCtx) -> Result<Vec<String>> {
    estate.require_here(ctx, Noun::SETTING, Action::MANAGE).await?;
    estate.store().check(CancellationToken::new()).await
}

/// The same for the file of a backup, for anyone who can read it.
pub async fn file_check(path: &Path) -> Result<Vec<String>> {
    Store::check_file(path).await
}
