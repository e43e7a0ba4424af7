//! Backups that are open: reading a repository's index takes longer than most reads.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::vault::{Address, Repository, SnapshotId, StoredFile, VaultResult};
use landreeve_core::{Error, Result};
use uuid::Uuid;

use super::staged::Staged;
use crate::backups::Backup;
use crate::manifest::{self, Manifest, ManifestTable};
use crate::plane::Protection;
use crate::repositories;

/// How many are kept open, and for how long. A prune deletes data 23 hours after it was last needed, so what was opened so
/// shortly before can be read.
const KEPT: usize = 4;
const KEPT_FOR: Duration = Duration::from_secs(600);

/// A backup, to be read from.
pub(crate) struct OpenBackup {
    pub repository: Box<dyn Repository>,
    pub manifest: Manifest,
    pub snapshot: SnapshotId,
    /// If it is one file.
    pub staged: Staged,
}

impl OpenBackup {
    /// Whether it is one file, which SQLite reads.
    pub fn is_sqlite(&self) -> bool {
        DatabaseType::stored(&self.manifest.asset.database_type) == DatabaseType::Sqlite
    }

    /// Whether the rows of a table can be read without a restore.
    pub fn can_read(&self, table: &ManifestTable) -> bool {
        table.parts.is_some() || self.is_sqlite()
    }

    /// A file that the manifest names.
    pub fn file(&self, name: &str) -> VaultResult<Arc<dyn StoredFile>> {
        self.repository.file(&self.snapshot, &manifest::data_path(name)).map(Arc::from)
    }
}

struct Kept {
    backup: Uuid,
    /// Where its repository was then. It may have been moved since, also by another process.
    address: Address,
    since: Timestamp,
    opened: Arc<OpenBackup>,
}

#[derive(Default)]
pub(crate) struct OpenBackups(Mutex<Vec<Kept>>);

impl OpenBackups {
    fn find(&self, backup: Uuid, address: &Address, now: Timestamp) -> Option<Arc<OpenBackup>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|kept| now.duration_since(kept.since).unsigned_abs() < KEPT_FOR);
        let mut kept = kept.iter();
        kept.find(|kept| kept.backup == backup && kept.address == *address)
            .map(|kept| Arc::clone(&kept.opened))
    }

    fn keep(&self, backup: Uuid, address: Address, since: Timestamp, opened: &Arc<OpenBackup>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|kept| kept.backup != backup);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push(Kept { backup, address, since, opened: Arc::clone(opened) });
    }
}

pub(crate) async fn open(plane: &Protection, backup: &Backup) -> Result<Arc<OpenBackup>> {
    let now = plane.estate().now();
    let repository = repositories::find(&mut plane.estate().store().read().await?, backup.repository).await?;
    let repository = repository.ok_or_else(|| Error::not_found("repository"))?;
    if let Some(opened) = plane.open_backups().find(backup.uuid, &repository.address, now) {
        return Ok(opened);
    }
    let spec = repositories::spec(plane, &repository).await?;
    let snapshot = backup.snapshot.clone();
    let opened = plane
        .blocking(move |vault| {
            let repository = vault.open(&spec, Default::default())?;
            let manifest = Manifest::read(&*repository, &snapshot)?;
            VaultResult::Ok(Arc::new(OpenBackup {
                repository,
                manifest,
                snapshot,
                staged: Staged::default(),
            }))
        })
        .await?
        .map_err(landreeve_core::vault::VaultError::into_error)?;
    plane.open_backups().keep(backup.uuid, repository.address, now, &opened);
    Ok(opened)
}
