//! Reads a backup: to see that it is intact, or into a new database.

mod choosing;
mod to_database;
mod to_file;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use landreeve_core::datasource::DatabaseType;
use landreeve_core::error::Faults;
use landreeve_core::ids::{AuditId, BoxFuture, DatasourceId, OuId};
use landreeve_core::vault::{Repository as Opened, SnapshotId, VaultError, VaultErrorKind, VaultResult};
use landreeve_core::{Action, Category, Error, Input, Noun, OpCtx, Result};
use landreeve_estate::args;
use landreeve_estate::audit::{self, Act};
use landreeve_estate::ops::{Datasource, DatasourceDetails, datasources, runs};
use landreeve_estate::runs::log::Level;
use landreeve_estate::runs::{Done, Executor, Failure, Job, KindSpec, Lane, NewRun, Outcome, Run};
use landreeve_estate::store::next_in;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use self::choosing::{Chosen, MAX_NAMES};
pub(crate) use self::to_file::only_file;
use crate::at_work::{AtWork, Use};
use crate::backups::{self, Backup, backup_get};
use crate::estate_backup;
use crate::manifest::{self, Manifest, ManifestFile};
use crate::nouns::{BACKUP, RESTORE};
use crate::plane::{POOL, Protection};
use crate::records::opened;
use crate::stored::{StoredRestore, StoredTarget, StoredUse};

const DAY: Duration = Duration::from_secs(86_400);

pub const VERIFY: KindSpec = KindSpec {
    pool: POOL,
    reserves_memory: true,
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
/// Bytes of a database's name.
const MAX_DATABASE: usize = 63;

/// What a caller states about a restore.
#[derive(Debug, Clone)]
pub struct NewRestore {
    pub backup: Uuid,
    /// The server. `None`: the backup's own.
    pub to: Option<DatasourceId>,
    /// The new database: for SQLite the path of a new file.
    pub database: String,
    /// Of the datasource that it becomes. `None`: the asset's, with the backup's date.
    pub name: Option<String>,
    /// Schemas that are restored; with no schemas and no tables, everything is.
    pub schemas: Vec<String>,
    /// Tables that are restored: `SCHEMA.TABLE`, or `TABLE` if only one schema has it.
    pub tables: Vec<String>,
    /// Also who owns what, and who may do what.
    pub owners: bool,
    /// Reads what was written once more and compares it with the backup.
    pub compare: bool,
}

/// What a restore will do.
#[derive(Debug, Clone)]
pub struct Plan {
    pub backup: Backup,
    pub target: Target,
    pub name: String,
    /// `None`: everything.
    pub chosen: Option<Chosen>,
    pub owners: bool,
    pub compare: bool,
}

/// Where a backup is restored to.
#[derive(Debug, Clone)]
pub enum Target {
    File(PathBuf),
    /// For an estate.
    Folder(PathBuf),
    /// A new database on the server of a datasource.
    Database {
        server: Arc<Datasource>,
        database: String,
    },
}

impl Target {
    /// For users.
    pub fn shown(&self) -> String {
        match self {
            Target::File(path) => format!("the new file {}", path.display()),
            Target::Folder(path) => format!("the new folder {}", path.display()),
            Target::Database { server, database } => {
                let host = server.details.host.as_deref().unwrap_or_default();
                format!("the new database {database} on {host}, the server of {}", server.details.name)
            }
        }
    }
}

/// Checks everything about a restore that can be known before it begins.
pub async fn restore_plan(
    plane: &Protection,
    ctx: &OpCtx,
    new: impl Into<Input<NewRestore>>,
) -> Result<Plan> {
    let (estate, new) = (plane.estate(), new.into());
    let backup = backup_get(plane, ctx, new.value().backup).await?;
    backup.check_usable(estate.now())?;
    let mut found = Faults::default();
    let length = new.value().name.as_ref().map_or(1, |name| name.trim().chars().count());
    if !(1..=MAX_NAME).contains(&length) {
        found.push("name", "length", format!("must have 1 to {MAX_NAME} characters"));
    }
    let target = match DatabaseType::stored(&backup.asset.database_type) {
        _ if backup.asset.is_estate() => folder(plane, ctx, new.value()),
        DatabaseType::Sqlite => file(plane, ctx, &backup, new.value()).await,
        _ => database(plane, ctx, &backup, new.value()).await,
    };
    if let Err(error) = &target {
        error.faults.iter().for_each(|fault| found.add(fault.clone()));
    }
    let mut chosen = None;
    if target.is_ok() {
        chosen = choice(plane, &backup, new.value(), &mut found).await?;
    }
    let new = new.settled(found)?;
    let default = || match &target {
        // Of the folder.
        Ok(Target::Folder(path)) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        _ => format!("{} {}", backup.asset.name, backup.started_at.strftime("%Y-%m-%d %H:%M")),
    };
    let name = new.name.unwrap_or_else(default);
    Ok(Plan { target: target?, backup, name, chosen, owners: new.owners, compare: new.compare })
}

/// What is named of a backup, if anything.
async fn choice(
    plane: &Protection,
    backup: &Backup,
    new: &NewRestore,
    faults: &mut Faults,
) -> Result<Option<Chosen>> {
    let mut refuse = false;
    let is_file =
        backup.asset.is_estate() || DatabaseType::stored(&backup.asset.database_type) == DatabaseType::Sqlite;
    for (field, names) in [("schemas", &new.schemas), ("tables", &new.tables)] {
        if is_file && !names.is_empty() {
            faults.push(field, "not_used", "is not used for what is restored as a whole");
            refuse = true;
        } else if names.len() > MAX_NAMES {
            faults.push(field, "length", format!("must have at most {MAX_NAMES} names"));
            refuse = true;
        }
    }
    if refuse || (new.schemas.is_empty() && new.tables.is_empty()) {
        return Ok(None);
    }
    let opened = opened::open(plane, backup).await?;
    Ok(choosing::choose(&opened.manifest, (&new.schemas, &new.tables), faults))
}

async fn file(plane: &Protection, ctx: &OpCtx, backup: &Backup, new: &NewRestore) -> Result<Target> {
    may_restore(plane, ctx, backup).await?;
    if new.to.is_some() && new.to != backup.asset.datasource {
        return Err(Error::fault(
            "to",
            "not_used",
            "is not used for SQLite, which is restored to a file here",
        ));
    }
    if new.owners {
        return Err(Error::fault("owners", "not_used", "is not used for SQLite, which has no owners"));
    }
    let operator = ctx.authority().is_operator();
    plane.estate().outbound().new_sqlite_file(&new.database, operator).map(Target::File)
}

/// Only the operator sees backups of an estate.
fn folder(plane: &Protection, ctx: &OpCtx, new: &NewRestore) -> Result<Target> {
    if !ctx.authority().is_operator() {
        return Err(Error::not_found("backup"));
    }
    let mut faults = Faults::default();
    for (field, given) in [("to", new.to.is_some()), ("owners", new.owners), ("compare", new.compare)] {
        if given {
            faults.push(field, "not_used", "is not used for an estate, which is restored to a folder here");
        }
    }
    faults.finish()?;
    plane.estate().outbound().new_folder(&new.database).map(Target::Folder)
}

async fn database(plane: &Protection, ctx: &OpCtx, backup: &Backup, new: &NewRestore) -> Result<Target> {
    let estate = plane.estate();
    let server = server(plane, ctx, backup, new.to).await?;
    if server.details.database_type.as_str() != backup.asset.database_type {
        let (own, other) = (&backup.asset.database_type, server.details.database_type.as_str());
        let message = format!("is of type {other}; the backup is of {own}");
        return Err(Error::fault("to", "type", message));
    }
    estate.loader(server.details.database_type)?;
    let database = new.database.clone();
    if database.is_empty() || database.len() > MAX_DATABASE || database.chars().any(char::is_control) {
        let message = format!("must be a name of 1 to {MAX_DATABASE} bytes");
        return Err(Error::fault("database", "format", message));
    }
    Ok(Target::Database { server, database })
}

/// The datasource on whose server a backup is restored: its own, or one that the caller may use for that.
async fn server(
    plane: &Protection,
    ctx: &OpCtx,
    backup: &Backup,
    to: Option<DatasourceId>,
) -> Result<Arc<Datasource>> {
    let estate = plane.estate();
    let own = backup.asset.datasource;
    match (to, own) {
        (Some(to), own) if own != Some(to) => {
            let server = datasources::load(estate, to).await?;
            estate.require(ctx, RESTORE, Action::MANAGE, &backup.ou_path, backups::granted(backup)).await?;
            estate.require(ctx, RESTORE, Action::MANAGE, &server.ou_path, to.0).await?;
            estate.require(ctx, Noun::DATASOURCE, Action::MANAGE, &server.ou_path, to.0).await?;
            Ok(server)
        }
        (_, Some(own)) => {
            may_restore(plane, ctx, backup).await?;
            datasources::load(estate, own).await
        }
        (_, None) => {
            may_restore(plane, ctx, backup).await?;
            let message = "is required: the datasource that was backed up is not in this estate";
            Err(Error::fault("to", "required", message))
        }
    }
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
    let Plan { backup, target, name, chosen, owners, compare } = restore_plan(plane, ctx, new).await?;
    let by_operator = ctx.authority().is_operator();
    let other = match &target {
        Target::Database { server, .. } if backup.asset.datasource != Some(server.id) => Some(target.shown()),
        _ => None,
    };
    // Two that make the same database could each take it for empty.
    let lane = match &target {
        Target::File(_) | Target::Folder(_) => None,
        Target::Database { server, database } => {
            Some(Lane { name: format!("restore:{}:{database}", server.id.0), limit: 1 })
        }
    };
    let target = match target {
        Target::File(file) => StoredTarget::File { file, by_operator },
        Target::Folder(folder) => StoredTarget::Folder { folder },
        Target::Database { server, database } => StoredTarget::Database { server: server.id.0, database },
    };
    let only = chosen.map(|chosen| chosen.choice.into());
    let input = StoredUse::new(backup.uuid, Some(StoredRestore { name, target, owners, compare, only }));
    let new = NewRun {
        noun: Some((RESTORE, backup.id.0)),
        lane,
        ..NewRun::new(&RESTORE_RUN, backup.ou, input.as_json()?)
    };
    let Some(place) = other else { return runs::submit(plane.estate(), ctx, new).await };
    runs::submit_with(plane.estate(), ctx, new, redirected(plane, ctx, &backup, &place)).await
}

/// Notes in the audit trail that a backup goes to another server than its own.
fn redirected(plane: &Protection, ctx: &OpCtx, backup: &Backup, place: &str) -> runs::WithRun {
    let (plane, ctx, id) = (plane.clone(), ctx.clone(), backup.id);
    let detail = format!("{} of {} to {place}", backup.uuid, backup.asset.name);
    Arc::new(move |tx, _| {
        let (ctx, detail, now) = (ctx.clone(), detail.clone(), plane.estate().now());
        Box::pin(async move {
            let event = AuditId(next_in(tx, AuditId::KIND).await?);
            let act = Act { action: "redirected", noun: RESTORE, noun_id: Some(id.0), detail: &detail };
            audit::record(tx, event, now, &ctx, act).await
        })
    })
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
                    check_files(opened, &snapshot, &manifest)
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
            let restore = restore.ok_or_else(|| Error::internal("a restore without a target"))?;
            let carry_out = async || match restore.target.clone() {
                StoredTarget::File { file, by_operator } => {
                    may_restore(&self.0, job.ctx(), &backup).await?;
                    to_file::restore(&work, job, &backup, &restore, (file, by_operator)).await
                }
                StoredTarget::Folder { folder } => {
                    estate_backup::restore(&work, job, &backup, &restore, folder).await
                }
                StoredTarget::Database { server: to, database } => {
                    let to = Some(DatasourceId(to));
                    let server = server(&self.0, job.ctx(), &backup, to).await?;
                    to_database::restore(&work, job, &backup, &restore, (&server, database)).await
                }
            };
            work.during(job, Use::Read, carry_out).await
        })
    }
}

/// The restored database becomes a datasource.
async fn declare(
    work: &AtWork,
    job: &Job,
    unit: (OuId, &str),
    details: DatasourceDetails,
    what: &str,
) -> Outcome {
    let estate = work.plane.estate();
    let made = datasources::datasource_made(estate, job.ctx(), unit, details).await.map_err(|error| {
        let mut failure = Failure::from(error);
        let why = &failure.error.message;
        failure.error.message = format!("{what} was restored, but is not a datasource yet: {why}");
        failure
    })?;
    let id = estate.hash_ids().encode_grouped(made.id);
    job.log(Level::Info, format!("restored to {what}, which is the datasource {id}")).await;
    Ok(Done::default())
}

async fn compared(job: &Job, tables: u64, rows: Option<u64>) {
    let rows = rows.map_or_else(String::new, |rows| format!(" with {rows} rows"));
    job.log(Level::Info, format!("compared: {tables} tables{rows} are equal")).await;
}

/// Files that are read at the same time.
const READERS: usize = 2;

/// Reads every byte of a backup, and compares it with what the manifest says.
fn check_files(opened: &dyn Opened, snapshot: &SnapshotId, manifest: &Manifest) -> VaultResult<()> {
    let some = |first: usize| {
        let mut files = manifest.files.iter().skip(first).step_by(READERS);
        files.try_for_each(|file| copy(opened, snapshot, file, &mut io::sink()))
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|first| scope.spawn(move || some(first))).collect();
        let ended = readers.into_iter().map(|reader| {
            let ended = reader.join();
            ended.unwrap_or_else(|_| Err(VaultError::new(VaultErrorKind::Internal, "a reader ended early")))
        });
        // Each of them is waited for.
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}

/// Copies a file of a backup, and compares it with what the manifest says of it.
pub(crate) fn copy(
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
