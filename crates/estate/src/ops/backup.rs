//! A consistent copy of the estate, made while it is in use, and the way back. A backup has one form, whichever store it
//! came from: the metadata as one SQLite file, the blobs as a folder.

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

/// Copies every blob. The store is copied first: it names blobs, and one that is gone by now was past its retention.
pub async fn blobs_copy(estate: &Estate, ctx: &OpCtx, target: &Blobs) -> Result<u64> {
    estate.require_here(ctx, Noun::SETTING, Action::MANAGE).await?;
    estate.blobs().copy_all(target).await
}

/// Fills an empty PostgreSQL database from the file that `store_copy` wrote. There is no estate yet whose authority
/// could be asked: whoever can read the backup and write the database may do it. `source` is brought to this program's
/// schema on the way.
pub async fn store_restore(source: &Path, migrations: &Migrations, url: &str) -> Result<()> {
    Store::restore_postgres(source, migrations, url).await
}

/// What is damaged in the store, nothing when it is whole.
pub async fn store_check(estate: &Estate, ctx: &OpCtx) -> Result<Vec<String>> {
    estate.require_here(ctx, Noun::SETTING, Action::MANAGE).await?;
    estate.store().check(CancellationToken::new()).await
}

/// The same for the file of a backup, for whoever can read it.
pub async fn file_check(path: &Path) -> Result<Vec<String>> {
    Store::check_file(path).await
}
