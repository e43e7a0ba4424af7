//! Backs a database up: a snapshot of it is staged and saved in a repository, with a manifest that says what it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::ids::{BoxFuture, DatasourceId};
use landreeve_core::snapshot::Snapshot;
use landreeve_core::source::{ConnectSpec, Connections, Permit};
use landreeve_core::vault::{Saved, SnapshotHead};
use landreeve_core::{Action, Category, Error, ErrorKind, Input, Noun, OpCtx, Result};
use landreeve_estate::args;
use landreeve_estate::inventory::connect::{connect_spec, source_failure};
use landreeve_estate::ops::{Datasource, datasources, runs};
use landreeve_estate::program::Scratch;
use landreeve_estate::runs::log::Level;
use landreeve_estate::runs::{Done, Executor, Failure, Job, KindSpec, Lane, NewRun, Outcome, Retry, Run};
use landreeve_estate::store::Conn;

use crate::at_work::{AtWork, Use};
use crate::backups::{self, Found, Made};
use crate::ids::RepositoryId;
use crate::keep::Keep;
use crate::manifest::{self, Manifest, ManifestAsset};
use crate::nouns::BACKUP;
use crate::plane::{POOL, Protection};
use crate::policies::following;
use crate::repositories;
use crate::staging::{self, Stager};
use crate::stored::StoredBackUp;

const DAY: Duration = Duration::from_secs(86_400);

pub const BACK_UP: KindSpec = KindSpec {
    pool: POOL,
    // What a backup has saved so far must not be pruned: a prune deletes after 23 hours at the earliest.
    time_limit: Some(Duration::from_secs(20 * 3_600)),
    retry: Retry { attempts: 3, backoff: Duration::from_secs(2) },
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
    /// How long it is kept, as `Keep` reads it. `None`: as the datasource's policy says for backups on demand, else a
    /// week.
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
    let mut conn = estate.store().read().await?;
    if is_under_way(&mut conn, datasource.id).await? {
        return Err(Error::conflict("busy", "another backup of this datasource is under way"));
    }
    let first = is_first(&mut conn, datasource.id, input.repository()).await?;
    drop(conn);
    let input = input.first(first);
    let new = NewRun {
        noun: Some((Noun::DATASOURCE, datasource.id.0)),
        lane: Some(lane(datasource.id)),
        ..NewRun::new(&BACK_UP, datasource.ou, input.as_json()?)
    };
    runs::submit(estate, ctx, new).await
}

/// An error if a datasource cannot be backed up.
pub(crate) fn check_supported(plane: &Protection, datasource: &Datasource) -> Result<()> {
    if datasource.builtin.is_some() {
        return Err(Error::conflict(
            "builtin",
            "the built-in source is made by the server; it needs no backup",
        ));
    }
    match unsupported(plane, datasource.details.database_type, datasource.details.enabled) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Why a datasource of this type cannot be backed up.
pub(crate) fn unsupported(plane: &Protection, database_type: DatabaseType, enabled: bool) -> Option<Error> {
    if !enabled {
        return Some(Error::conflict("disabled", "the datasource is disabled; enable it to back it up"));
    }
    plane.estate().snapshots(database_type).err()
}

async fn checked(
    plane: &Protection,
    new: Input<NewBackup>,
    datasource: DatasourceId,
) -> Result<StoredBackUp> {
    let kept = following::kept_on_demand(plane, datasource).await?;
    let zone = kept.as_ref().filter(|_| new.value().keep.is_none()).map(|(_, zone)| zone.clone());
    let (repository, keep) = wanted(plane, new, kept.map(|(keep, _)| keep)).await?;
    let stored = StoredBackUp::new(datasource, repository, keep);
    Ok(match &zone {
        Some(zone) => stored.in_zone(zone),
        None => stored,
    })
}

/// Where a backup goes, and how long it is kept where the caller does not say: a week, if nothing else is known.
pub(crate) async fn wanted(
    plane: &Protection,
    new: Input<NewBackup>,
    otherwise: Option<Keep>,
) -> Result<(Option<RepositoryId>, Keep)> {
    let mut repository = None;
    if let Some(name) = &new.value().repository {
        let mut conn = plane.estate().store().read().await?;
        repository = Some((name.clone(), repositories::named(&mut conn, name).await?));
    }
    let default = otherwise.unwrap_or(Keep::WEEK);
    new.parsed(|new, faults| {
        let keep = new.keep.as_deref().map_or(Ok(default), Keep::parse);
        let keep = keep.map_err(|message| faults.push("keep", "format", message)).unwrap_or(default);
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
        (repository, keep)
    })
}

/// One backup of a database at a time.
pub(crate) fn lane(datasource: DatasourceId) -> Lane {
    Lane { name: format!("backup:{}", datasource.0), limit: 1 }
}

pub(crate) async fn is_under_way(conn: &mut Conn, datasource: DatasourceId) -> Result<bool> {
    is_taken(conn, &lane(datasource).name).await
}

/// Whether a run is in this lane.
pub(crate) async fn is_taken(conn: &mut Conn, lane: &str) -> Result<bool> {
    let sql = "SELECT count(*) FROM runs WHERE lane = $1 \
               AND state IN ('held', 'queued', 'starting', 'running', 'cancelling')";
    Ok(conn.one(sql, args![lane]).await?.int(0)? > 0)
}

/// When a backup that begins now has started, and when it expires.
pub(crate) type Times = (Timestamp, Timestamp);

/// By the calendar of this zone, or else of the estate's.
pub(crate) async fn times(plane: &Protection, keep: Keep, zone: Option<TimeZone>) -> Result<Times> {
    let estate = plane.estate();
    let zone = match zone {
        Some(zone) => zone,
        None => TimeZone::get(&estate.settings().await?.time_zone).unwrap_or(TimeZone::UTC),
    };
    let started = estate.now();
    Ok((started, keep.until(started, &zone)?))
}

/// Whether a repository has no backup of the datasource yet. `None`: the one called `default`.
pub(crate) async fn is_first(
    conn: &mut Conn,
    datasource: DatasourceId,
    repository: Option<RepositoryId>,
) -> Result<bool> {
    let sql = "SELECT count(*) FROM backups b JOIN assets a ON a.id = b.asset_id \
               JOIN datasources d ON d.uuid = a.uuid JOIN repositories r ON r.id = b.repository_id \
               WHERE d.id = $1 AND (r.id = $2 OR r.name = $3)";
    let default = if repository.is_none() { repositories::DEFAULT } else { "" };
    Ok(conn.one(sql, args![datasource, repository.unwrap_or(RepositoryId(0)), default]).await?.int(0)? == 0)
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
            let times = times(plane, input.keep()?, input.zone()).await?;
            let done =
                work.during(job, Use::Add, async || back_up(&work, job, &datasource, times).await).await?;
            if let Some(cause) = input.cause() {
                following::note(plane, datasource.id, cause, times.0).await?;
            }
            Ok(done)
        })
    }
}

async fn back_up(work: &AtWork, job: &Job, datasource: &Datasource, times: Times) -> Outcome {
    if job.is_cleanup() && adopt(work, job).await? {
        return Ok(Done::default());
    }
    let plane = &work.plane;
    let scratch = Scratch::new(&plane.options().scratch_dir, job.run.uuid)?;
    job.report(0, "reading the definitions");
    let (permits, snapshot) = snapshot(plane, job, datasource, scratch.path()).await?;
    let manifest = Manifest::new(asset(plane, datasource).await?, job.run.uuid, times);
    let read = async |stager: Stager<'_>, manifest| {
        let read = stager.stage(manifest, snapshot).await;
        // Its connections are needed until everything has been read.
        drop(permits);
        read
    };
    save(work, (job, scratch.path()), manifest, read).await
}

/// Saves what is read in the repository, and enters it into the catalogue.
pub(crate) async fn save(
    work: &AtWork,
    (job, scratch): (&Job, PathBuf),
    manifest: Manifest,
    read: impl AsyncFnOnce(Stager<'_>, Manifest) -> std::result::Result<Manifest, Option<Failure>>,
) -> Outcome {
    let plane = &work.plane;
    let head = head(&manifest);
    let (staged, files) = staging::channel();
    let stager = Stager { job, vault: plane.vault(), scratch, staged };
    let reading = read(stager, manifest);
    let saving = work.open(job, move |opened| opened.save(&head, files));
    let (read, saved) = tokio::join!(reading, saving);
    // If reading failed, that is why nothing was saved.
    let (manifest, saved) = match (read, saved) {
        (Err(Some(failure)), _) | (Err(None) | Ok(_), Err(failure)) => return Err(failure),
        (Err(None), Ok(_)) => return Err(Error::internal("a backup was saved that was not read").into()),
        (Ok(manifest), Ok(saved)) => (manifest, saved),
    };
    log(job, &manifest, &saved).await;
    let made = Made { finished_at: plane.estate().now(), bytes_added: saved.bytes_added };
    let found = Found { snapshot: saved.id, manifest, made: Some(made) };
    backups::enter(plane, work.repository.id, found).await?;
    Ok(Done::default())
}

/// Whether an attempt that was interrupted had saved the backup.
pub(crate) async fn adopt(work: &AtWork, job: &Job) -> std::result::Result<bool, Failure> {
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

/// The snapshot, and what has permission for its connections.
async fn snapshot(
    plane: &Protection,
    job: &Job,
    datasource: &Datasource,
    scratch: PathBuf,
) -> std::result::Result<(Vec<Permit>, Box<dyn Snapshot>), Failure> {
    let estate = plane.estate();
    let failed = |error| source_failure(&error, BACK_UP.time_limit);
    let spec = connect_spec(estate.outbound(), datasource.endpoint(), &[]).await?;
    let snapshots = estate.snapshots(spec.database_type)?;
    // With few connections, one table after another.
    let most = plane.options().readers.get();
    let fits = |readers: &usize| snapshots.connections(*readers) <= spec.max_connections;
    let readers = (1..=most).rev().find(fits).unwrap_or(1);
    let permits = connections(plane, job, &spec, snapshots.connections(readers)).await?;
    let options = plane.snapshot_options(scratch, readers);
    let snapshot = snapshots.take(&spec, options, job.token()).await.map_err(failed)?;
    Ok((permits, snapshot))
}

/// Waits for so many of a datasource's connections. They count until the permits are dropped.
pub(crate) async fn connections(
    plane: &Protection,
    job: &Job,
    spec: &ConnectSpec,
    wanted: usize,
) -> std::result::Result<Vec<Permit>, Failure> {
    if spec.max_connections < wanted {
        let message = format!(
            "it needs {wanted} connections at a time; the datasource may have {} (max_concurrent_executions)",
            spec.max_connections
        );
        return Err(Failure::new(ErrorKind::Conflict, "too_few_connections", message));
    }
    let all = BTreeMap::from([(spec.datasource, Connections { wanted, limit: spec.max_connections })]);
    tokio::select! {
        () = job.cancelled() => Err(Failure::cancelled()),
        () = tokio::time::sleep(CONNECTION_WAIT) => {
            let message = "none of the datasource's connections (max_concurrent_executions) became free in time";
            Err(Failure::new(ErrorKind::Unavailable, "no_connection", message))
        }
        permits = plane.estate().connections().take(all) => {
            Ok(permits.into_values().flatten().collect())
        }
    }
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
