//! Reads a backup: to see that it is intact, or into a new database.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use landreeve_core::datasource::DatabaseType;
use landreeve_core::error::Faults;
use landreeve_core::ids::BoxFuture;
use landreeve_core::vault::{Repository as Opened, SnapshotId, VaultError, VaultErrorKind, VaultResult};
use landreeve_core::{Action, Category, Error, ErrorKind, Input, OpCtx, Result};
use landreeve_estate::args;
use landreeve_estate::ops::{DatasourceDetails, datasources, runs};
use landreeve_estate::runs::log::Level;
use landreeve_estate::runs::{Done, Executor, Failure, Job, KindSpec, NewRun, Outcome, Run};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::at_work::{AtWork, Use};
use crate::backups::{self, Backup, backup_get};
use crate::manifest::{self, Manifest, ManifestFile};
use crate::nouns::{BACKUP, RESTORE};
use crate::plane::{POOL, Protection};
use crate::stored::{StoredRestore, StoredUse};

const DAY: Duration = Duration::from_secs(86_400);

pub const VERIFY: KindSpec = KindSpec {
    pool: POOL,
    time_limit: Some(Duration::from_secs(20 * 3_600)),
    keep_record: DAY.saturating_mul(90),
    ..KindSpec::new("backup_verify", Category::Backup)
};

/// What a killed server has begun is finished by the next one.
pub const RESTORE_RUN: KindSpec = KindSpec {
    pool: POOL,
    cleans_up: true,
    time_limit: Some(Duration::from_secs(20 * 3_600)),
    keep_record: DAY.saturating_mul(90),
    ..KindSpec::new("restore", Category::Restore)
};

/// Read at a time.
const CHUNK: usize = 4 * 1024 * 1024;
/// Characters of a datasource's name.
const MAX_NAME: usize = 255;

/// What a caller states about a restore.
#[derive(Debug, Clone)]
pub struct NewRestore {
    pub backup: Uuid,
    /// The new database: for SQLite the path of a new file.
    pub database: String,
    /// Of the datasource that it becomes. `None`: the asset's, with the backup's date.
    pub name: Option<String>,
    /// Reads what was written once more and compares it with the backup.
    pub compare: bool,
}

/// What a restore will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub backup: Backup,
    pub file: PathBuf,
    pub name: String,
    pub compare: bool,
}

/// Checks everything about a restore that can be known before it begins.
pub async fn restore_plan(
    plane: &Protection,
    ctx: &OpCtx,
    new: impl Into<Input<NewRestore>>,
) -> Result<Plan> {
    let (estate, new) = (plane.estate(), new.into());
    let backup = backup_get(plane, ctx, new.value().backup).await?;
    may_restore(plane, ctx, &backup).await?;
    backup.check_usable(estate.now())?;
    if DatabaseType::stored(&backup.asset.database_type) != DatabaseType::Sqlite {
        let message = format!("backups of {} cannot be restored yet", backup.asset.database_type);
        return Err(Error::conflict("no_restore", message));
    }
    let file = estate.outbound().new_sqlite_file(&new.value().database, ctx.authority().is_operator());
    let mut found = Faults::default();
    let length = new.value().name.as_ref().map_or(1, |name| name.trim().chars().count());
    if !(1..=MAX_NAME).contains(&length) {
        found.push("name", "length", format!("must have 1 to {MAX_NAME} characters"));
    }
    if let Err(error) = &file {
        error.faults.iter().for_each(|fault| found.add(fault.clone()));
    }
    let new = new.settled(found)?;
    let default = || format!("{} {}", backup.asset.name, backup.started_at.strftime("%Y-%m-%d %H:%M"));
    let name = new.name.unwrap_or_else(default);
    Ok(Plan { file: file?, backup, name, compare: new.compare })
}

async fn may_restore(plane: &Protection, ctx: &OpCtx, backup: &Backup) -> Result<()> {
    plane.estate().require(ctx, RESTORE, Action::USE, &backup.ou_path, backups::granted(backup)).await
}

/// Starts to restore a backup.
pub async fn restore_start(
    plane: &Protection,
    ctx: &OpCtx,
    new: impl Into<Input<NewRestore>>,
) -> Result<Run> {
    let Plan { backup, file, name, compare } = restore_plan(plane, ctx, new).await?;
    let by_operator = ctx.authority().is_operator();
    let input = StoredUse::new(backup.uuid, Some(StoredRestore { name, file, by_operator, compare }));
    let new = NewRun {
        noun: Some((RESTORE, backup.id.0)),
        ..NewRun::new(&RESTORE_RUN, backup.ou, input.as_json()?)
    };
    runs::submit(plane.estate(), ctx, new).await
}

/// Starts to read a whole backup, to see that it is intact.
pub async fn backup_verify(plane: &Protection, ctx: &OpCtx, uuid: Uuid) -> Result<Run> {
    let backup = backup_get(plane, ctx, uuid).await?;
    backups::require(plane, ctx, &backup, Action::USE).await?;
    backup.check_usable(plane.estate().now())?;
    let input = StoredUse::new(backup.uuid, None).as_json()?;
    let new = NewRun { noun: Some((BACKUP, backup.id.0)), ..NewRun::new(&VERIFY, backup.ou, input) };
    runs::submit(plane.estate(), ctx, new).await
}

/// The backup of a run, and its repository.
async fn begun(plane: &Protection, job: &Job) -> Result<(AtWork, Backup, Option<StoredRestore>)> {
    let StoredUse { backup: uuid, restore, .. } = StoredUse::parse(&job.run.input)?;
    let backup = backups::find(&mut plane.estate().store().read().await?, uuid).await?;
    let backup = backup.ok_or_else(|| Error::not_found("backup"))?;
    backup.check_usable(plane.estate().now())?;
    Ok((AtWork::on(plane, backup.repository).await?, backup, restore))
}

/// Verifies backups.
pub struct Verifying(pub Protection);

impl Executor for Verifying {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let (work, backup, _) = begun(&self.0, job).await?;
            backups::require(&self.0, job.ctx(), &backup, Action::USE).await?;
            let snapshot = backup.snapshot.clone();
            work.during(job, Use::Read, async || {
                work.open(job, move |opened| {
                    let manifest = Manifest::read(opened, &snapshot)?;
                    manifest.files.iter().try_for_each(|file| copy(opened, &snapshot, file, &mut io::sink()))
                })
                .await
            })
            .await?;
            let (id, now) = (backup.id, self.0.estate().now());
            let sql = "UPDATE backups SET verified_at = $2, row_version = row_version + 1 WHERE id = $1";
            work.write(sql, args![id, now]).await?;
            Ok(Done::default())
        })
    }
}

/// Restores backups.
pub struct Restoring(pub Protection);

impl Executor for Restoring {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let (work, backup, restore) = begun(&self.0, job).await?;
            may_restore(&self.0, job.ctx(), &backup).await?;
            let restore = restore.ok_or_else(|| Error::internal("a restore without a target"))?;
            work.during(job, Use::Read, async || restore_file(&work, job, &backup, restore).await).await
        })
    }
}

async fn restore_file(work: &AtWork, job: &Job, backup: &Backup, restore: StoredRestore) -> Outcome {
    let estate = work.plane.estate();
    let partial = partial(&restore.file, job.run.uuid)?;
    if job.is_cleanup() {
        remove(&partial)?;
        if job.run.cancel_requested {
            return Err(Failure::cancelled());
        }
    }
    let (snapshot, target, by_operator) =
        (backup.snapshot.clone(), restore.file.clone(), restore.by_operator);
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
        let rows = backup.rows.map_or_else(String::new, |rows| format!(" with {rows} rows"));
        job.log(Level::Info, format!("compared: {} tables{rows} are equal", backup.tables)).await;
    }
    let details = DatasourceDetails {
        name: restore.name,
        database_type: DatabaseType::Sqlite,
        database: Some(name.clone()),
        operator_file: by_operator,
        ..DatasourceDetails::default()
    };
    let unit = (backup.ou, backup.ou_path.as_str());
    let made = datasources::datasource_made(estate, job.ctx(), unit, details).await.map_err(|error| {
        let mut failure = Failure::from(error);
        let why = &failure.error.message;
        failure.error.message = format!("{name} was restored, but is not a datasource yet: {why}");
        failure
    })?;
    let id = estate.hash_ids().encode_grouped(made.id);
    job.log(Level::Info, format!("restored to {name}, which is the datasource {id}")).await;
    Ok(Done::default())
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
fn only_file(manifest: &Manifest) -> VaultResult<ManifestFile> {
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

/// Copies a file of a backup, and compares it with what the manifest says of it.
fn copy(
    opened: &dyn Opened,
    snapshot: &SnapshotId,
    wanted: &ManifestFile,
    out: &mut dyn Write,
) -> VaultResult<()> {
    let path = manifest::data_path(&wanted.name);
    let stored = opened.file(snapshot, &path)?;
    let mut digest = Sha256::new();
    let mut position = 0;
    loop {
        let chunk = stored.read_at(position, CHUNK)?;
        if chunk.is_empty() {
            break;
        }
        digest.update(&chunk);
        position += chunk.len() as u64;
        out.write_all(&chunk).map_err(|error| {
            VaultError::new(VaultErrorKind::Unavailable, format!("could not write what was read: {error}"))
        })?;
    }
    if position != wanted.bytes || manifest::hex(&digest.finalize()) != wanted.sha256 {
        let message = format!("{path} is not what was backed up");
        return Err(VaultError::new(VaultErrorKind::Damaged, message));
    }
    Ok(())
}
