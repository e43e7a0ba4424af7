//! Reads a snapshot and passes its files on to a repository: those that the driver made, then files of rows, table by table,
//! then the manifest. Little is staged at a time: a file is deleted when it has been saved.

use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{TryStreamExt as _, future};
use landreeve_core::Error;
use landreeve_core::snapshot::{Snapshot, SnapshotFile, TableRows};
use landreeve_core::source::{QueryStream, RecordBatch};
use landreeve_core::vault::{
    NewFile, NewFiles, Part, PartWriter, Vault, VaultError, VaultErrorKind, VaultResult,
};
use landreeve_estate::inventory::connect::source_failure;
use landreeve_estate::results::{BATCH_BYTES, BATCH_ROWS};
use landreeve_estate::runs::log::Level;
use landreeve_estate::runs::{Failure, Job};
use tokio::sync::mpsc;

use crate::manifest::{self, Manifest, ManifestFile, ManifestPart, ManifestTable};

/// What follows next in a backup.
pub(crate) enum Staged {
    File {
        file: ManifestFile,
        path: PathBuf,
    },
    /// Everything has been read.
    Manifest(Vec<u8>),
}

/// Between the reader and the repository: a file that is staged waits for the one before it.
pub(crate) fn channel() -> (mpsc::Sender<Staged>, NewFiles) {
    let (sender, mut receiver) = mpsc::channel(1);
    let mut ended = false;
    let files = std::iter::from_fn(move || {
        if ended {
            return None;
        }
        Some(match receiver.blocking_recv() {
            Some(Staged::File { file, path }) => {
                let ManifestFile { name, bytes, .. } = file;
                let content = Removed::open(path).map(|content| Box::new(content) as _);
                content.map(|content| NewFile { path: manifest::data_path(&name), size: bytes, content })
            }
            Some(Staged::Manifest(text)) => {
                ended = true;
                let (size, content) = (text.len() as u64, Box::new(Cursor::new(text)));
                Ok(NewFile { path: manifest::PATH.to_owned(), size, content })
            }
            None => {
                ended = true;
                Err(VaultError::new(VaultErrorKind::Source, "the database was not read to its end"))
            }
        })
    });
    (sender, Box::new(files))
}

/// A file that is deleted when it has been read.
struct Removed {
    file: File,
    path: PathBuf,
}

impl Removed {
    fn open(path: PathBuf) -> VaultResult<Removed> {
        let file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
        Ok(Removed { file, path })
    }
}

impl Read for Removed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        // Otherwise the whole folder is deleted at the end.
        let _ = fs::remove_file(&self.path);
    }
}

fn unreadable(path: &Path, error: &io::Error) -> VaultError {
    VaultError::new(VaultErrorKind::Source, format!("could not read {}: {error}", path.display()))
}

/// A part that is complete.
struct Finished {
    /// The place of its table.
    table: usize,
    part: Part,
    path: PathBuf,
}

/// Why staging ended early. `None`: the repository takes no more files.
type Stopped = Option<Failure>;

pub(crate) struct Stager<'a> {
    pub job: &'a Job,
    pub vault: Arc<dyn Vault>,
    pub scratch: PathBuf,
    pub staged: mpsc::Sender<Staged>,
}

impl Stager<'_> {
    /// Returns the finished manifest.
    pub async fn stage(
        &self,
        mut manifest: Manifest,
        snapshot: Box<dyn Snapshot>,
    ) -> Result<Manifest, Stopped> {
        let contents = snapshot.contents();
        manifest.server_version = contents.server_version.clone();
        manifest.settings = contents.settings.clone();
        manifest.tools = contents.tools.clone();
        manifest.warnings = contents.warnings.clone();
        for warning in &contents.warnings {
            self.job.log(Level::Warn, warning.clone()).await;
        }
        let mut files = contents.files.clone();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        self.pass_files(&mut manifest, files).await?;
        manifest.tables = contents.tables.iter().map(ManifestTable::from).collect();
        let (finished, parts) = mpsc::channel(1);
        let reading = self.read_tables(&*snapshot, finished);
        let passing = self.pass_parts(&mut manifest, parts);
        tokio::try_join!(reading, passing)?;
        snapshot.end().await.map_err(|error| Some(source_failure(&error, None)))?;
        self.finished(manifest).await
    }

    /// Stages files only, which are in the order of their paths.
    pub async fn stage_files(
        &self,
        mut manifest: Manifest,
        files: Vec<SnapshotFile>,
    ) -> Result<Manifest, Stopped> {
        self.pass_files(&mut manifest, files).await?;
        self.finished(manifest).await
    }

    async fn pass_files(&self, manifest: &mut Manifest, files: Vec<SnapshotFile>) -> Result<(), Stopped> {
        for file in files {
            self.pass(manifest, file.name, file.path).await?;
        }
        Ok(())
    }

    async fn finished(&self, manifest: Manifest) -> Result<Manifest, Stopped> {
        let text = manifest.as_json().map_err(failed)?;
        self.staged.send(Staged::Manifest(text)).await.map_err(|_| None)?;
        Ok(manifest)
    }

    /// Passes a file on that is complete.
    async fn pass(&self, manifest: &mut Manifest, name: String, path: PathBuf) -> Result<(), Stopped> {
        let read = path.clone();
        let summed = self
            .job
            .blocking(move |stop| {
                let content = File::open(&read).map_err(|error| unreadable(&read, &error))?;
                let summed = manifest::sha256(content, || !stop.is_cancelled());
                summed.map_err(|error| unreadable(&read, &error))
            })
            .await;
        if self.job.token().is_cancelled() {
            return Err(Some(Failure::cancelled()));
        }
        let (sha256, bytes) = summed.map_err(failed)?.map_err(|error| failed(error.into_error()))?;
        let file = ManifestFile { name, bytes, sha256 };
        self.staged.send(Staged::File { file: file.clone(), path }).await.map_err(|_| None)?;
        manifest.files.push(file);
        Ok(())
    }

    /// Reads all tables with rows, some at the same time.
    async fn read_tables(
        &self,
        snapshot: &dyn Snapshot,
        finished: mpsc::Sender<Finished>,
    ) -> Result<(), Stopped> {
        let next = AtomicUsize::new(0);
        let readers = (0..snapshot.readers()).map(|_| self.read_some(snapshot, &next, finished.clone()));
        future::try_join_all(readers.collect::<Vec<_>>()).await.map(drop)
    }

    /// Reads one table after another, until none is left for the readers.
    async fn read_some(
        &self,
        snapshot: &dyn Snapshot,
        next: &AtomicUsize,
        finished: mpsc::Sender<Finished>,
    ) -> Result<(), Stopped> {
        loop {
            let position = next.fetch_add(1, Ordering::Relaxed);
            let Some(table) = snapshot.contents().tables.get(position) else { return Ok(()) };
            if matches!(table.rows, TableRows::Readable(_)) {
                self.job.report(5, format!("reading {}.{}", table.schema, table.name));
                let rows = snapshot.rows(position, BATCH_ROWS, BATCH_BYTES).await;
                let rows = rows.map_err(|error| Some(source_failure(&error, None)))?;
                self.read(position, rows, &finished).await?;
            }
        }
    }

    /// Reads the rows of a table into parts: at least one, which has its columns.
    async fn read(
        &self,
        table: usize,
        mut rows: QueryStream,
        finished: &mpsc::Sender<Finished>,
    ) -> Result<(), Stopped> {
        let (mut open, mut count): (Option<Box<dyn PartWriter>>, usize) = (None, 0);
        let failed = |error| Some(source_failure(&error, None));
        let path = |count: usize| self.scratch.join(format!("{table:08}-{count:08}"));
        while let Some(batch) = rows.batches.try_next().await.map_err(failed)? {
            let mut left = batch;
            while left.num_rows() > 0 {
                let (writer, taken) = self.write(open.take(), path(count), left.clone()).await?;
                left = left.slice(taken, left.num_rows() - taken);
                if writer.is_full() {
                    self.finish(table, writer, path(count), finished).await?;
                    count += 1;
                } else {
                    open = Some(writer);
                }
            }
        }
        if open.is_none() && count == 0 {
            let none = RecordBatch::new_empty(rows.schema.clone());
            open = Some(self.write(None, path(0), none).await?.0);
        }
        match open {
            Some(writer) => self.finish(table, writer, path(count), finished).await,
            None => Ok(()),
        }
    }

    async fn finish(
        &self,
        table: usize,
        writer: Box<dyn PartWriter>,
        path: PathBuf,
        finished: &mpsc::Sender<Finished>,
    ) -> Result<(), Stopped> {
        let part = self.job.blocking(move |_| writer.finish()).await.map_err(failed)?;
        let part = part.map_err(|error| failed(error.into_error()))?;
        // What follows was stopped: it says why.
        finished.send(Finished { table, part, path }).await.map_err(|_| None)
    }

    /// Passes parts on in the order in which they are finished, which is that of their names.
    async fn pass_parts(
        &self,
        manifest: &mut Manifest,
        mut parts: mpsc::Receiver<Finished>,
    ) -> Result<(), Stopped> {
        while let Some(Finished { table, part, path }) = parts.recv().await {
            let file = format!("parts/{:08}.parquet", manifest.files.len());
            self.pass(manifest, file.clone(), path).await?;
            let table = manifest.tables.get_mut(table);
            let table = table.ok_or_else(|| failed(Error::internal("rows of no table")))?;
            table.rows = table.rows.map(|rows| rows + part.rows);
            let part = ManifestPart::new(file, &part, table);
            table.parts.get_or_insert_default().push(part);
        }
        Ok(())
    }

    /// Returns also how many rows were written.
    async fn write(
        &self,
        open: Option<Box<dyn PartWriter>>,
        path: PathBuf,
        batch: RecordBatch,
    ) -> Result<(Box<dyn PartWriter>, usize), Stopped> {
        let vault = Arc::clone(&self.vault);
        let written = self.job.blocking(move |_| {
            let mut writer = match open {
                Some(writer) => writer,
                None => vault.part_writer(&path, &batch.schema())?,
            };
            let taken = writer.write(&batch)?;
            VaultResult::Ok((writer, taken))
        });
        written.await.map_err(failed)?.map_err(|error| failed(error.into_error()))
    }
}

fn failed(error: Error) -> Stopped {
    Some(error.into())
}
