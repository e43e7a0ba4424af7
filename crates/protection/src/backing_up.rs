//! Backs a database up: a snapshot of it is staged and saved in a repository, with a manifest that says what it is.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::ids::{BoxFuture, DatasourceId};
use landreeve_core::snapshot::{Snapshot, SnapshotOptions};
use landreeve_core::vault::{
    NewFile, NewFiles, Saved, SnapshotHead, VaultError, VaultErrorKind, VaultResult,
};
use landreeve_core::{Action, Category, Error, Input, OpCtx, Result};
use landreeve_estate::args;
use landreeve_estate::inventory::connect::{connect_spec, source_failure};
use landreeve_estate::ops::{Datasource, datasources, runs};
use landreeve_estate::program::Scratch;
use landreeve_estate::runs::log::Level;
use landreeve_estate::runs::{Done, Executor, Failure, Job, KindSpec, Lane, NewRun, Outcome, Retry, Run};

use crate::at_work::{AtWork, Use};
use crate::backups::{self, Found, Made};
use crate::keep::Keep;
use crate::manifest::{self, Manifest, ManifestAsset, ManifestFile, ManifestTable};
use crate::nouns::BACKUP;
use crate::plane::{POOL, Protection};
use crate::repositories;
use crate::stored::StoredBackUp;

const DAY: Duration = Duration::from_secs(86_400);

pub const BACK_UP: KindSpec = KindSpec {
    pool: POOL,
    // What a backup has saved so far must not be pruned: a prune deletes after 23 hours at the earliest.
    time_limit: Some(Duration::from_secs(20 * 3_600)),
    retry: Retry { attempts: 3, backoff: Duration::from_secs(60) },
    keep_record: DAY.saturating_mul(90),
    ..KindSpec::new("backup", Category::Backup)
};

/// How long a backup waits for one of its datasource's connections.
const CONNECTION_WAIT: Duration = Duration::from_secs(600);
/// Who made a snapshot, for restic.
const HOST: &str = "landreeve";

/// What a caller states about a backup.
#[derive(Debug, Clone)]
pub struct NewBackup {
    /// Name of the repository. `None`: `default`, which is made if there is none.
    pub repository: Option<String>,
    /// How long it is kept, as `Keep` reads it. `None`: a week.
    pub keep: Option<String>,
}

/// Starts to back a datasource up.
pub async fn backup_start(
    plane: &Protection,
    ctx: &OpCtx,
    datasource: DatasourceId,
    new: impl Into<Input<NewBackup>>,
) -> Result<Run> {
    let estate = plane.estate();
    let datasource = datasources::load(estate, datasource).await?;
    estate.require(ctx, BACKUP, Action::MANAGE, &datasource.ou_path, datasource.id.0).await?;
    check_supported(plane, &datasource)?;
    let input = checked(plane, new.into(), datasource.id).await?;
    let lane = Lane { name: format!("backup:{}", datasource.id.0), limit: 1 };
    check_idle(plane, &lane).await?;
    let new = NewRun {
        noun: Some((BACKUP, datasource.id.0)),
        lane: Some(lane),
        ..NewRun::new(&BACK_UP, datasource.ou, input.as_json()?)
    };
    runs::submit(estate, ctx, new).await
}

/// Why a datasource cannot be backed up.
fn check_supported(plane: &Protection, datasource: &Datasource) -> Result<()> {
    if datasource.builtin.is_some() {
        return Err(Error::conflict(
            "builtin",
            "the built-in source is made by the server; it needs no backup",
        ));
    }
    if !datasource.details.enabled {
        return Err(Error::conflict("disabled", "the datasource is disabled; enable it to back it up"));
    }
    plane.estate().snapshots(datasource.details.database_type).map(drop)
}

async fn checked(
    plane: &Protection,
    new: Input<NewBackup>,
    datasource: DatasourceId,
) -> Result<StoredBackUp> {
    let mut repository = None;
    if let Some(name) = &new.value().repository {
        let mut conn = plane.estate().store().read().await?;
        repository = Some((name.clone(), repositories::named(&mut conn, name).await?));
    }
    new.parsed(|new, faults| {
        let keep = new.keep.as_deref().map_or(Ok(Keep::WEEK), Keep::parse);
        let keep = keep.map_err(|message| faults.push("keep", "format", message)).unwrap_or(Keep::WEEK);
        let repository = match repository {
            Some((name, None)) => {
                faults.push("repository", "unknown", format!("there is no repository called {name}"));
                None
            }
            Some((name, Some(found))) if found.repository_id.is_none() => {
                faults.push("repository", "unfinished", format!("{name} was not made to its end"));
                None
            }
            Some((_, Some(found))) => Some(found.id),
            None => None,
        };
        StoredBackUp::new(datasource, repository, keep)
    })
}

async fn check_idle(plane: &Protection, lane: &Lane) -> Result<()> {
    let sql = "SELECT count(*) FROM runs WHERE lane = $1 \
               AND state IN ('held', 'queued', 'starting', 'running', 'cancelling')";
    let open = plane.estate().store().read().await?.one(sql, args![&lane.name]).await?.int(0)?;
    if open > 0 {
        return Err(Error::conflict("busy", "another backup of this datasource is under way"));
    }
    Ok(())
}

/// Executes backups.
pub struct BackingUp(pub Protection);

impl Executor for BackingUp {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let (plane, estate) = (&self.0, self.0.estate());
            let input = StoredBackUp::parse(&job.run.input)?;
            let datasource = datasources::load(estate, input.datasource()).await?;
            estate.require(job.ctx(), BACKUP, Action::MANAGE, &datasource.ou_path, datasource.id.0).await?;
            check_supported(plane, &datasource)?;
            let repository = match input.repository() {
                Some(id) => id,
                None => repositories::default(plane, job.ctx()).await?.id,
            };
            let work = AtWork::on(plane, repository).await?;
            let zone = TimeZone::get(&estate.settings().await?.time_zone).unwrap_or(TimeZone::UTC);
            let started = estate.now();
            let times = (started, input.keep()?.until(started, &zone)?);
            work.during(job, Use::Add, async || back_up(&work, job, &datasource, times).await).await
        })
    }
}

async fn back_up(
    work: &AtWork,
    job: &Job,
    datasource: &Datasource,
    times: (Timestamp, Timestamp),
) -> Outcome {
    if job.is_cleanup() && adopt(work, job).await? {
        return Ok(Done::default());
    }
    let plane = &work.plane;
    let scratch = Scratch::new(&plane.options().scratch_dir, job.run.uuid)?;
    job.report(0, "reading the database");
    let snapshot = snapshot(plane, job, datasource, scratch.path()).await?;
    let manifest = Manifest::new(asset(plane, datasource).await?, job.run.uuid, times);
    let staged = job.blocking(move |stop| stage(manifest, snapshot, &|| stop.is_cancelled())).await?;
    let (manifest, files) = staged.map_err(|error| Failure::from(error.into_error()))?;
    if job.token().is_cancelled() {
        return Err(Failure::cancelled());
    }
    job.report(50, "writing to the repository");
    let head = head(&manifest);
    let saved = work.open(job, move |opened| opened.save(&head, files)).await?;
    log(job, &manifest, &saved).await;
    let made = Made { finished_at: plane.estate().now(), bytes_added: saved.bytes_added };
    let found = Found { snapshot: saved.id, manifest, made: Some(made) };
    backups::enter(plane, work.repository.id, found).await?;
    Ok(Done::default())
}

/// Whether an attempt that was interrupted had saved the backup.
async fn adopt(work: &AtWork, job: &Job) -> std::result::Result<bool, Failure> {
    let label = job.run.uuid.to_string();
    let found = work
        .open(job, move |opened| {
            let of_run = opened.snapshots()?.into_iter().find(|snapshot| snapshot.head.label == label);
            of_run.map(|snapshot| Ok((Manifest::read(opened, &snapshot.id)?, snapshot.id))).transpose()
        })
        .await?;
    let Some((manifest, snapshot)) = found else { return Ok(false) };
    backups::enter(&work.plane, work.repository.id, Found { snapshot, manifest, made: None }).await?;
    Ok(true)
}

async fn snapshot(
    plane: &Protection,
    job: &Job,
    datasource: &Datasource,
    scratch: PathBuf,
) -> std::result::Result<Snapshot, Failure> {
    let estate = plane.estate();
    let failed = |error| source_failure(&error, BACK_UP.time_limit);
    let mut spec = connect_spec(estate.outbound(), datasource.endpoint(), &[]).await?;
    estate.connections().admit(&mut spec, CONNECTION_WAIT, &job.token()).await.map_err(failed)?;
    let snapshots = estate.snapshots(spec.database_type)?;
    snapshots.take(&spec, SnapshotOptions { scratch }, job.token()).await.map_err(failed)
}

async fn asset(plane: &Protection, datasource: &Datasource) -> Result<ManifestAsset> {
    let sql = "SELECT uuid FROM ous WHERE id = $1";
    let unit = plane.estate().store().read().await?.one(sql, args![datasource.ou]).await?.uuid(0)?;
    let details = &datasource.details;
    Ok(ManifestAsset {
        uuid: datasource.uuid,
        name: details.name.clone(),
        database_type: details.database_type.as_str().to_owned(),
        address: address(datasource),
        unit,
    })
}

/// `HOST:PORT/DATABASE`, or the path of a file.
fn address(datasource: &Datasource) -> String {
    let details = &datasource.details;
    let database = details.database.as_deref().unwrap_or_default();
    match details.database_type {
        DatabaseType::Sqlite => database.to_owned(),
        other => {
            let host = details.host.as_deref().unwrap_or_default();
            let port = details.port.or(other.default_port()).unwrap_or_default();
            format!("{host}:{port}/{database}")
        }
    }
}

fn unreadable(path: &std::path::Path, error: &std::io::Error) -> VaultError {
    let message = format!("could not read {}: {error}", path.display());
    VaultError::new(VaultErrorKind::Source, message)
}

/// The finished manifest, and the files to save in the order of their paths.
fn stage(
    mut manifest: Manifest,
    snapshot: Snapshot,
    stopped: &dyn Fn() -> bool,
) -> VaultResult<(Manifest, NewFiles)> {
    let mut files = snapshot.files;
    files.sort_by(|a, b| a.name.cmp(&b.name));
    for file in &files {
        let failed = |error: std::io::Error| unreadable(&file.path, &error);
        let content = File::open(&file.path).map_err(failed)?;
        let (sha256, bytes) = manifest::sha256(content, || !stopped()).map_err(failed)?;
        manifest.files.push(ManifestFile { name: file.name.clone(), bytes, sha256 });
    }
    manifest.server_version = snapshot.server_version;
    manifest.tools = snapshot.tools;
    manifest.tables = snapshot.tables.into_iter().map(ManifestTable::from).collect();
    let text =
        manifest.as_json().map_err(|error| VaultError::new(VaultErrorKind::Internal, error.message))?;
    let sizes: Vec<u64> = manifest.files.iter().map(|file| file.bytes).collect();
    let data = files.into_iter().zip(sizes).map(|(file, size)| {
        let content = File::open(&file.path).map_err(|error| unreadable(&file.path, &error))?;
        Ok(NewFile { path: manifest::data_path(&file.name), size, content: Box::new(content) })
    });
    let last = std::iter::once_with(move || {
        let (size, content) = (text.len() as u64, Box::new(std::io::Cursor::new(text)));
        Ok(NewFile { path: manifest::PATH.to_owned(), size, content })
    });
    Ok((manifest, Box::new(data.chain(last))))
}

fn head(manifest: &Manifest) -> SnapshotHead {
    SnapshotHead {
        time: manifest.started_at,
        host: HOST.to_owned(),
        label: manifest.backup.to_string(),
        tags: vec![manifest::TAG.to_owned(), format!("asset:{}", manifest.asset.uuid)],
    }
}

async fn log(job: &Job, manifest: &Manifest, saved: &Saved) {
    let text = format!(
        "{} tables, {} bytes read, {} bytes added; kept until {}",
        manifest.tables.len(),
        saved.bytes_read,
        saved.bytes_added,
        manifest.expires_at
    );
    job.log(Level::Info, text).await;
}
