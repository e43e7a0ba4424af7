//! Backs the estate itself up: its metadata, blobs and files, but not its key, without which the passwords in it cannot be
//! read. A restore writes the folder that `landreeve estate restore` takes.

use std::path::{Path, PathBuf};
use std::{fs, io};

use landreeve_core::ids::{BoxFuture, OuId};
use landreeve_core::snapshot::SnapshotFile;
use landreeve_core::vault::{VaultError, VaultErrorKind, VaultResult};
use landreeve_core::{Action, Category, Error, Input, Noun, OpCtx, Result};
use landreeve_estate::blobs::Blobs;
use landreeve_estate::ops::{backup, runs};
use landreeve_estate::program::Scratch;
use landreeve_estate::runs::log::Level;
use landreeve_estate::runs::{Done, Executor, Failure, Job, KindSpec, Lane, NewRun, Outcome, Run};
use uuid::Uuid;

use crate::at_work::{AtWork, Use};
use crate::backing_up::{self, BACK_UP, NewBackup, Times};
use crate::backups::Backup;
use crate::manifest::{Manifest, ManifestAsset};
use crate::plane::Protection;
use crate::repositories;
use crate::restoring::copy;
use crate::stored::{StoredEstate, StoredRestore};

pub const ESTATE_BACK_UP: KindSpec = KindSpec {
    pool: BACK_UP.pool,
    time_limit: BACK_UP.time_limit,
    retry: BACK_UP.retry,
    keep_record: BACK_UP.keep_record,
    ..KindSpec::new("estate_backup", Category::Backup)
};

/// What an asset is called that is an estate.
pub const ESTATE: &str = "estate";
const LANE: &str = "backup:estate";
/// What is in it, as `landreeve estate backup` has it.
const STORE: &str = "estate.db";
const BLOBS: &str = "blobs";
const FILES: &str = "files";

/// Starts to back this estate up.
pub async fn estate_backup_start(
    plane: &Protection,
    ctx: &OpCtx,
    new: impl Into<Input<NewBackup>>,
) -> Result<Run> {
    let estate = plane.estate();
    estate.require(ctx, Noun::SETTING, Action::MANAGE, "/1/", 0).await?;
    let (repository, keep) = backing_up::wanted(plane, new.into(), None).await?;
    if backing_up::is_taken(&mut estate.store().read().await?, LANE).await? {
        return Err(Error::conflict("busy", "another backup of the estate is under way"));
    }
    let input = StoredEstate::new(repository, keep).as_json()?;
    let lane = Some(Lane { name: LANE.to_owned(), limit: 1 });
    runs::submit(estate, ctx, NewRun { lane, ..NewRun::new(&ESTATE_BACK_UP, OuId::ROOT, input) }).await
}

/// Executes backups of the estate.
pub struct BackingUpEstate(pub Protection);

impl Executor for BackingUpEstate {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let (plane, input) = (&self.0, StoredEstate::parse(&job.run.input)?);
            let repository = match input.repository() {
                Some(id) => id,
                None => repositories::default(plane, job.ctx()).await?.id,
            };
            let work = AtWork::on(plane, repository).await?;
            let times = backing_up::times(plane, input.keep()?, None).await?;
            work.during(job, Use::Add, async || back_up(&work, job, times).await).await
        })
    }
}

async fn back_up(work: &AtWork, job: &Job, times: Times) -> Outcome {
    if job.is_cleanup() && backing_up::adopt(work, job).await? {
        return Ok(Done::default());
    }
    let (plane, estate) = (&work.plane, work.plane.estate());
    let scratch = Scratch::new(&plane.options().scratch_dir, job.run.uuid)?;
    let folder = scratch.path();
    job.report(0, "copying the estate");
    // The store first: a blob that it names and that is gone by the time we copy was past its retention.
    backup::store_copy(estate, job.ctx(), &folder.join(STORE)).await?;
    let blobs = Blobs::local(&folder.join(BLOBS))?;
    backup::blobs_copy(estate, job.ctx(), &blobs).await?;
    let (from, to) = (plane.options().files_dir.clone(), folder.clone());
    let files = job.blocking(move |_| {
        copy_files(&from, &to.join(FILES))?;
        files_in(&to)
    });
    let files = files.await?.map_err(Error::internal)?;
    let asset = ManifestAsset {
        uuid: estate.store_id(),
        name: ESTATE.to_owned(),
        database_type: ESTATE.to_owned(),
        address: String::new(),
        unit: Uuid::nil(),
    };
    let manifest = Manifest::new(asset, job.run.uuid, times);
    backing_up::save(work, (job, scratch.path()), manifest, async |stager, manifest| {
        stager.stage_files(manifest, files).await
    })
    .await
}

/// A folder with everything in it that is a file or a folder. One that is missing is empty.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    fs::create_dir(to)?;
    for entry in entries {
        let entry = entry?;
        let (kind, next) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_files(&entry.path(), &next)?;
        } else if kind.is_file() {
            match fs::copy(entry.path(), &next) {
                // Removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => drop(other?),
            }
        }
    }
    Ok(())
}

/// All files below a folder, in the order of their paths.
fn files_in(folder: &Path) -> io::Result<Vec<SnapshotFile>> {
    let (mut found, mut next) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(current) = next.pop() {
        for entry in fs::read_dir(current)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => next.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    // By their parts, as a repository has them.
    found.sort();
    let file = |path: PathBuf| {
        let name = path.strip_prefix(folder).map_err(io::Error::other)?;
        let name =
            name.to_str().ok_or_else(|| io::Error::other(format!("{} is not UTF-8", name.display())))?;
        Ok(SnapshotFile { name: name.to_owned(), path: path.clone() })
    };
    found.into_iter().map(file).collect()
}

/// Writes a backup of an estate to a new folder.
pub(crate) async fn restore(
    work: &AtWork,
    job: &Job,
    backup: &Backup,
    restore: &StoredRestore,
    folder: PathBuf,
) -> Outcome {
    let partial = folder.with_file_name(format!(".{}.{}.partial", restore.name, job.run.uuid));
    remove(&partial)?;
    if job.is_cleanup() && job.run.cancel_requested {
        return Err(Failure::cancelled());
    }
    let shown = folder.display().to_string();
    // Another one may have been made since.
    work.plane.estate().outbound().new_folder(&shown)?;
    job.report(0, "reading the backup");
    let (snapshot, to) = (backup.snapshot.clone(), partial.clone());
    let written = work.open(job, move |opened| {
        let manifest = Manifest::read(opened, &snapshot)?;
        for file in &manifest.files {
            let path = to.join(checked(&file.name)?);
            path.parent().map_or(Ok(()), fs::create_dir_all).map_err(|error| unwritable(&path, &error))?;
            let mut out = fs::File::create_new(&path).map_err(|error| unwritable(&path, &error))?;
            copy(opened, &snapshot, file, &mut out)?;
            out.sync_all().map_err(|error| unwritable(&path, &error))?;
        }
        Ok(())
    });
    let finished = async {
        written.await?;
        backup::manifest_write(&partial).await?;
        // It has its name when it is complete. A folder that is not empty is not replaced.
        fs::rename(&partial, &folder).map_err(|error| Failure::from(unwritable(&folder, &error).into_error()))
    };
    if let Err(failure) = finished.await {
        remove(&partial)?;
        return Err(failure);
    }
    let text = format!(
        "restored to {shown}; `landreeve estate restore {shown}` makes an estate of it, which needs the key of the one that was backed up"
    );
    job.log(Level::Info, text).await;
    Ok(Done::default())
}

/// The name of a file, which cannot be one outside of the folder.
fn checked(name: &str) -> VaultResult<&Path> {
    let path = Path::new(name);
    if path.components().all(|part| matches!(part, std::path::Component::Normal(_))) {
        return Ok(path);
    }
    Err(VaultError::new(VaultErrorKind::Damaged, format!("the backup has a file with the name {name:?}")))
}

fn unwritable(path: &Path, error: &io::Error) -> VaultError {
    VaultError::new(VaultErrorKind::Unavailable, format!("could not write {}: {error}", path.display()))
}

fn remove(partial: &Path) -> Result<()> {
    match fs::remove_dir_all(partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::unavailable("left", format!("could not delete {}: {error}", partial.display())))
        }
        _ => Ok(()),
    }
}

/// Only the operator sees backups of the estate, as a condition of a list.
pub(crate) fn hidden(ctx: &OpCtx) -> Option<&'static str> {
    let others = "b.asset_id NOT IN (SELECT e.id FROM assets e WHERE e.database_type = 'estate')";
    (!ctx.authority().is_operator()).then_some(others)
}
