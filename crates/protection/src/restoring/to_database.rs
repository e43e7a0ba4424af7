//! Restores a backup into a new database on a server: definitions, rows, then what needs rows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{TryStreamExt as _, stream};
use landreeve_core::load::{Choice, Definitions, Loader, Rows, Stage};
use landreeve_core::source::{ConnectSpec, RecordBatch, SourceError, SourceErrorKind, Target};
use landreeve_core::vault::{
    Repository as Opened, RowsHash, SnapshotId, Vault, VaultError, VaultErrorKind, VaultResult,
};
use landreeve_core::{Error, ErrorKind};
use landreeve_estate::inventory::connect::{source_failure, write_spec};
use landreeve_estate::ops::{Datasource, DatasourceDetails};
use landreeve_estate::program::Scratch;
use landreeve_estate::results::{BATCH_BYTES, BATCH_ROWS};
use landreeve_estate::runs::log::Level;
use landreeve_estate::runs::{Failure, Job, Outcome};
use tokio::sync::mpsc;

use super::{check_files, choosing, compared, copy, declare};
use crate::at_work::AtWork;
use crate::backing_up::connections;
use crate::backups::Backup;
use crate::manifest::{Manifest, ManifestTable};
use crate::stored::StoredRestore;

/// Batches that were read from the backup and not written yet.
const AHEAD: usize = 2;

type Done<T> = Result<T, Failure>;

pub(super) async fn restore(
    work: &AtWork,
    job: &Job,
    backup: &Backup,
    restore: &StoredRestore,
    (server, database): (&Datasource, String),
) -> Outcome {
    let estate = work.plane.estate();
    let place = format!("the database {database} on {}", server.details.host.as_deref().unwrap_or_default());
    if job.is_cleanup() {
        let message = format!(
            "the server was stopped during the restore; if it had made {place}, that is incomplete: drop it, unless it existed before"
        );
        return Err(Failure::new(ErrorKind::Unavailable, "interrupted", message));
    }
    let scratch = Scratch::new(&work.plane.options().scratch_dir, job.run.uuid)?;
    job.report(0, "checking the backup");
    let manifest = Arc::new(check(work, job, backup).await?);
    let mut spec = write_spec(estate.outbound(), server.endpoint()).await?;
    let _permits = connections(&work.plane, job, &spec, 2).await?;
    let loader = estate.loader(spec.database_type)?;
    let created = loader.create(&spec, &database, &manifest.settings, job.token()).await;
    created.map_err(|error| refused(&error))?;
    if let Target::Network { database: inside, .. } = &mut spec.target {
        database.clone_into(inside);
    }
    let only = restore.only.clone().map(Choice::from);
    let filling = Filling { work, job, backup, manifest, only, spec, loader, scratch: scratch.path() };
    let filled = async {
        filling.fill(restore.owners).await?;
        if restore.compare { filling.compare().await } else { Ok(()) }
    };
    filled.await.map_err(|mut failure| {
        failure.error.message =
            format!("{}; {place} was left as far as it had been restored", failure.error.message);
        failure
    })?;
    let details = restored(server, restore.name.clone(), database);
    // On its own server it belongs where the asset does.
    let own = backup.asset.datasource == Some(server.id);
    let unit = if own { (backup.ou, backup.ou_path.as_str()) } else { (server.ou, server.ou_path.as_str()) };
    declare(work, job, unit, details, &place).await
}

/// The new database as a datasource. What the writer has made, the user who only reads cannot read yet.
fn restored(server: &Datasource, name: String, database: String) -> DatasourceDetails {
    let mut details =
        DatasourceDetails { name, database: Some(database), writer: None, ..server.details.clone() };
    if let Some(writer) = &server.details.writer {
        details.username = Some(writer.username.clone());
        details.password = Some(writer.password.clone());
    }
    details
}

/// Reads the whole backup before anything is made.
async fn check(work: &AtWork, job: &Job, backup: &Backup) -> Done<Manifest> {
    let snapshot = backup.snapshot.clone();
    work.open(job, move |opened| {
        let manifest = Manifest::read(opened, &snapshot)?;
        check_files(opened, &snapshot, &manifest)?;
        Ok(manifest)
    })
    .await
}

fn refused(error: &SourceError) -> Failure {
    let mut failure = source_failure(error, None);
    if error.code.as_deref() == Some("not_empty") {
        failure.error.kind = ErrorKind::Conflict;
        failure.error.code = "not_empty".to_owned();
    }
    failure
}

struct Filling<'a> {
    work: &'a AtWork,
    job: &'a Job,
    backup: &'a Backup,
    manifest: Arc<Manifest>,
    /// `None`: everything is restored.
    only: Option<Choice>,
    spec: ConnectSpec,
    loader: Arc<dyn Loader>,
    scratch: PathBuf,
}

impl Filling<'_> {
    async fn fill(&self, owners: bool) -> Done<()> {
        let file = self.definitions().await?;
        let tools = self.work.plane.options().tools.clone();
        let (scratch, only) = (self.scratch.clone(), self.only.clone());
        let definitions = Definitions { file, scratch, owners, only, tools };
        self.define(&definitions, Stage::BeforeRows).await?;
        for (position, table) in self.manifest.tables.iter().enumerate() {
            if self.has(table) {
                self.job.report(10, format!("writing {}.{}", table.schema, table.name));
                self.load(position, table).await?;
            }
        }
        self.job.report(80, "making indexes");
        self.define(&definitions, Stage::AfterRows).await
    }

    async fn define(&self, definitions: &Definitions, stage: Stage) -> Done<()> {
        let defined = self.loader.define(&self.spec, definitions, stage, self.job.token()).await;
        for left_out in defined.map_err(|error| source_failure(&error, None))? {
            self.job.log(Level::Warn, left_out).await;
        }
        Ok(())
    }

    /// Whether the rows of a table are written by us.
    fn has(&self, table: &ManifestTable) -> bool {
        table.parts.is_some() && self.only.as_ref().is_none_or(|choice| choosing::has(choice, table))
    }

    /// The file that holds no rows of ours.
    async fn definitions(&self) -> Done<PathBuf> {
        let (manifest, snapshot) = (Arc::clone(&self.manifest), self.backup.snapshot.clone());
        let target = self.scratch.join("definitions");
        let written = target.clone();
        self.work
            .open(self.job, move |opened| {
                let file = manifest.files.iter().find(|file| !file.name.contains('/'));
                let file = file.ok_or_else(|| damaged("it has no definitions"))?;
                let mut out =
                    std::fs::File::create_new(&written).map_err(|error| unwritable(&written, &error))?;
                copy(opened, &snapshot, file, &mut out)
            })
            .await?;
        Ok(target)
    }

    async fn load(&self, position: usize, table: &ManifestTable) -> Done<()> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let (manifest, snapshot) = (Arc::clone(&self.manifest), self.backup.snapshot.clone());
        let (vault, path) = (self.work.plane.vault(), self.scratch.join("part"));
        let reading = self.work.open(self.job, move |opened| {
            let table = manifest.tables.get(position).ok_or_else(|| damaged("a table is missing"))?;
            let read = read_parts(opened, (&manifest, table), &snapshot, (&*vault, &path), |batch| {
                sender.blocking_send(Ok(batch)).is_ok()
            });
            // Otherwise what was read so far would look complete.
            if read.is_err() {
                let _ = sender.blocking_send(Err(stopped()));
            }
            read
        });
        let columns: Vec<String> = table.columns.iter().map(|column| column.name.clone()).collect();
        let rows: Rows = Box::pin(stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|batch| (batch, receiver))
        }));
        let loading = self.loader.load(&self.spec, table.place(), &columns, rows, self.job.token());
        let (read, loaded) = tokio::join!(reading, loading);
        let loaded = loaded.map_err(|error| source_failure(&error, None));
        // Rows that could not be read end the stream early: that is the reason then.
        read?;
        let loaded = loaded?;
        if Some(loaded) != table.rows {
            let (schema, name, rows) = (&table.schema, &table.name, table.rows.unwrap_or_default());
            let message = format!("{schema}.{name} has {rows} rows in the backup, but {loaded} were written");
            return Err(Failure::new(ErrorKind::Internal, "rows", message));
        }
        Ok(())
    }

    /// Reads the new database as a backup would, and compares it.
    async fn compare(&self) -> Done<()> {
        self.job.report(90, "comparing");
        let folder = self.scratch.join("compare");
        std::fs::create_dir(&folder).map_err(Error::internal)?;
        let snapshots = self.work.plane.estate().snapshots(self.spec.database_type)?;
        let options = self.work.plane.snapshot_options(folder, 1);
        let failed = |error| source_failure(&error, None);
        let snapshot = snapshots.take(&self.spec, options, self.job.token()).await.map_err(failed)?;
        let vault = self.work.plane.vault();
        // Rows that were written through another table may be in other parts of it than before.
        let mut wanted: BTreeMap<(&str, &str), (u64, RowsHash)> = BTreeMap::new();
        let mut found = wanted.clone();
        for table in self.manifest.tables.iter().filter(|table| self.has(table)) {
            let sum = wanted.entry(table.place()).or_default();
            let hash = table.hash().map_err(Error::internal)?;
            *sum = (sum.0 + table.rows.unwrap_or_default(), sum.1.and(hash));
            let mut known = snapshot.contents().tables.iter();
            let schema_differs = self.spec.database_type.schema_is_database();
            let position = known.position(|known| {
                known.name == table.name && (schema_differs || known.schema == table.schema)
            });
            let Some(position) = position else { continue };
            let sum = found.entry(table.place()).or_default();
            let mut read = snapshot.rows(position, BATCH_ROWS, BATCH_BYTES).await.map_err(failed)?;
            while let Some(batch) = read.batches.try_next().await.map_err(failed)? {
                let (rows, vault) = (batch.num_rows() as u64, Arc::clone(&vault));
                let hash = self.job.blocking(move |_| vault.rows_hash(&batch)).await?;
                let hash = hash.map_err(|error| Failure::from(error.into_error()))?;
                *sum = (sum.0 + rows, sum.1.and(hash));
            }
        }
        for ((schema, name), sum) in wanted {
            if found.get(&(schema, name)).copied().unwrap_or_default() != sum {
                let message = format!("{schema}.{name} has other rows than the backup");
                return Err(Failure::new(ErrorKind::Unavailable, "different", message));
            }
        }
        snapshot.end().await.map_err(failed)?;
        // What the archive has itself, `pg_restore` has written.
        let restored = self.manifest.tables.iter().filter(|table| self.only.is_none() || self.has(table));
        let (tables, rows) = (restored.clone().count() as u64, restored.map(|table| table.rows).sum());
        compared(self.job, tables, rows).await;
        Ok(())
    }
}

/// Reads the rows of a table, a file at a time, until `each` takes no more.
fn read_parts(
    opened: &dyn Opened,
    (manifest, table): (&Manifest, &ManifestTable),
    snapshot: &SnapshotId,
    (vault, path): (&dyn Vault, &Path),
    mut each: impl FnMut(RecordBatch) -> bool,
) -> VaultResult<()> {
    for part in table.parts.iter().flatten() {
        let file = manifest.files.iter().find(|file| file.name == part.file);
        let file = file.ok_or_else(|| damaged("a file of rows is missing"))?;
        let mut out = std::fs::File::create_new(path).map_err(|error| unwritable(path, &error))?;
        copy(opened, snapshot, file, &mut out)?;
        for batch in vault.part_rows(path)? {
            if !each(batch?) {
                return Ok(());
            }
        }
        std::fs::remove_file(path).map_err(|error| unwritable(path, &error))?;
    }
    Ok(())
}

fn damaged(why: &str) -> VaultError {
    VaultError::new(VaultErrorKind::Damaged, format!("the backup is not complete: {why}"))
}

fn unwritable(path: &Path, error: &std::io::Error) -> VaultError {
    let message = format!("could not write {}: {error}", path.display());
    VaultError::new(VaultErrorKind::Unavailable, message)
}

/// What a stream of rows ends with if the reader was stopped.
fn stopped() -> SourceError {
    SourceError::new(SourceErrorKind::Cancelled, "it was stopped")
}
