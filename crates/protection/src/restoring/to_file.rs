//! Restores a backup of one file to a new file.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use landreeve_core::datasource::DatabaseType;
use landreeve_core::vault::{Repository as Opened, SnapshotId, VaultError, VaultErrorKind, VaultResult};
use landreeve_core::{Error, ErrorKind, Result};
use landreeve_estate::ops::DatasourceDetails;
use landreeve_estate::runs::{Failure, Job, Outcome};
use uuid::Uuid;

use super::{compared, copy, declare};
use crate::at_work::AtWork;
use crate::backups::Backup;
use crate::manifest::{self, Manifest, ManifestFile};
use crate::stored::StoredRestore;

pub(super) async fn restore(
    work: &AtWork,
    job: &Job,
    backup: &Backup,
    restore: &StoredRestore,
    (target, by_operator): (PathBuf, bool),
) -> Outcome {
    let estate = work.plane.estate();
    let partial = partial(&target, job.run.uuid)?;
    if job.is_cleanup() {
        remove(&partial)?;
        if job.run.cancel_requested {
            return Err(Failure::cancelled());
        }
    }
    let snapshot = backup.snapshot.clone();
    let name = target.to_string_lossy().into_owned();
    // What an attempt before this one has finished is not written again.
    let finished = job.is_cleanup() && is_whole(work, job, &snapshot, &target).await?;
    if !finished {
        // The folder may have changed since the restore was asked for.
        estate.outbound().new_sqlite_file(&name, by_operator)?;
        job.report(0, "reading the backup");
        let written = work.open(job, {
            let (partial, target) = (partial.clone(), target.clone());
            move |opened| write(opened, &snapshot, &partial, &target)
        });
        if let Err(failure) = written.await {
            remove(&partial)?;
            return Err(failure);
        }
    }
    if restore.compare && !is_whole(work, job, &backup.snapshot, &target).await? {
        let message = format!("{name} was written, but reading it back gives something else than the backup");
        return Err(Failure::new(ErrorKind::Unavailable, "different", message));
    }
    if restore.compare {
        let count = |count: i64| count.unsigned_abs();
        compared(job, count(backup.tables), backup.rows.map(count)).await;
    }
    let details = DatasourceDetails {
        name: restore.name.clone(),
        database_type: DatabaseType::Sqlite,
        database: Some(name.clone()),
        operator_file: by_operator,
        ..DatasourceDetails::default()
    };
    declare(work, job, (backup.ou, &backup.ou_path), details, &name).await
}

/// Where a file is written until it is complete.
fn partial(target: &Path, run: Uuid) -> Result<PathBuf> {
    let name = target.file_name().ok_or_else(|| Error::internal("a restore to a folder"))?;
    Ok(target.with_file_name(format!(".{}.{run}.partial", name.to_string_lossy())))
}

fn remove(partial: &Path) -> Result<()> {
    match fs::remove_file(partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let message = format!("could not delete {}: {error}", partial.display());
            Err(Error::unavailable("left", message))
        }
        _ => Ok(()),
    }
}

/// Whether a file has exactly what the backup has.
async fn is_whole(
    work: &AtWork,
    job: &Job,
    snapshot: &SnapshotId,
    target: &Path,
) -> std::result::Result<bool, Failure> {
    let (snapshot, target, stop) = (snapshot.clone(), target.to_owned(), job.token());
    work.open(job, move |opened| {
        let wanted = only_file(&Manifest::read(opened, &snapshot)?)?;
        let Ok(file) = File::open(&target) else { return Ok(false) };
        let read = manifest::sha256(file, || !stop.is_cancelled());
        Ok(read.is_ok_and(|read| read == (wanted.sha256, wanted.bytes)))
    })
    .await
}

/// The database of a backup that is one file.
pub(crate) fn only_file(manifest: &Manifest) -> VaultResult<ManifestFile> {
    match manifest.files.as_slice() {
        [file] => Ok(file.clone()),
        files => {
            let message = format!("the backup has {} files instead of one database", files.len());
            Err(VaultError::new(VaultErrorKind::Damaged, message))
        }
    }
}

/// Everything is read and checked before the file has its name.
fn write(opened: &dyn Opened, snapshot: &SnapshotId, partial: &Path, target: &Path) -> VaultResult<()> {
    let failed = |error: io::Error| {
        let message = format!("could not write {}: {error}", target.display());
        VaultError::new(VaultErrorKind::Unavailable, message)
    };
    let manifest = Manifest::read(opened, snapshot)?;
    let wanted = only_file(&manifest)?;
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(partial).map_err(failed)?;
    copy(opened, snapshot, &wanted, &mut file)?;
    file.sync_all().map_err(failed)?;
    // Unlike renaming, this never replaces a file.
    fs::hard_link(partial, target).map_err(failed)?;
    fs::remove_file(partial).map_err(failed)?;
    target.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all()).map_err(failed)
}
