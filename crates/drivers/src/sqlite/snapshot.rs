//! Copies a file with SQLite's own backup interface, page by page, while others use it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use landreeve_core::ids::BoxFuture;
use landreeve_core::schema::TableKind;
use landreeve_core::snapshot::{Contents, Snapshot, SnapshotFile, SnapshotTable, TableRows};
use landreeve_core::source::{QueryStream, SourceError, SourceErrorKind};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::hooks::{AuthContext, Authorization};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::introspect;
use super::open::{self, error};
use crate::{Bounds, errors};

/// What the copy is called in a backup.
const FILE: &str = "database.sqlite";
/// Pages between two looks at whether to stop.
const PAGES: i32 = 1_024;
/// How often a writer may make the copy begin again before it has to wait for the copy.
const RESTARTS: u32 = 3;
/// How often to look whether another program has unlocked the file: a busy writer does for a few milliseconds at a time. In
/// all it may be locked for a minute.
const LOCKED_LOOK: Duration = Duration::from_millis(2);
const LOCKED_LOOKS: u32 = 30_000;

/// `wait` waits for so long, unless there is a reason to stop.
pub(super) fn take(
    source: &Connection,
    path: &Path,
    scratch: &Path,
    bounds: Bounds,
    wait: impl Fn(Duration) -> Result<(), SourceError>,
) -> Result<Copied, SourceError> {
    // A file is opened without following links.
    let scratch = scratch.canonicalize().map_err(|error| {
        errors::connect(format!("could not use the folder {}: {error}", scratch.display()))
    })?;
    let target = scratch.join(FILE);
    copy(source, path, &target, &wait)?;
    let copied = open::open(&target, bounds)?;
    let tables = tables(&copied)?;
    let files = vec![SnapshotFile { name: FILE.to_owned(), path: target }];
    Ok(Copied(Contents {
        server_version: rusqlite::version().to_owned(),
        tables,
        files,
        ..Contents::default()
    }))
}

/// A copy is complete before it is seen.
pub(super) struct Copied(Contents);

impl Snapshot for Copied {
    fn contents(&self) -> &Contents {
        &self.0
    }

    fn rows<'a>(&'a self, _: usize, _: usize, _: usize) -> BoxFuture<'a, Result<QueryStream, SourceError>> {
        let error = errors::unsupported("the rows of a SQLite file are in its copy");
        Box::pin(std::future::ready(Err(error)))
    }

    fn end(self: Box<Self>) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn copy(
    source: &Connection,
    path: &Path,
    target: &Path,
    wait: &impl Fn(Duration) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    let failed = |failure: rusqlite::Error| error(&failure, None);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut copied = Connection::open_with_flags(target, flags).map_err(failed)?;
    // After a crash the copy is of no use.
    copied.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF").map_err(failed)?;
    source.busy_timeout(Duration::ZERO).map_err(failed)?;
    let backup = Backup::new(source, &mut copied).map_err(failed)?;
    // Readers of a WAL do not disturb writers. Elsewhere a writer has to wait for those that read.
    if has_wal(path) || !pages(&backup, RESTARTS, wait)? {
        // No statement of a user is executed here.
        source.authorizer(None::<fn(AuthContext<'_>) -> Authorization>).map_err(failed)?;
        source.execute_batch("BEGIN").map_err(failed)?;
        // The transaction begins with its first read, and ends with the connection.
        let sql = "SELECT count(*) FROM sqlite_schema";
        until_unlocked(wait, || match source.query_row(sql, [], |_| Ok(())) {
            Err(failure) if is_busy(&failure) => Ok(None),
            done => done.map(Some).map_err(failed),
        })?;
        pages(&backup, u32::MAX, wait)?;
    }
    Ok(())
}

/// Copies page by page; whether to the end. A change of the file makes the copy begin again.
fn pages(
    backup: &Backup<'_, '_>,
    most_restarts: u32,
    wait: &impl Fn(Duration) -> Result<(), SourceError>,
) -> Result<bool, SourceError> {
    let (mut least, mut restarts) = (i32::MAX, 0);
    while restarts < most_restarts {
        let step = until_unlocked(wait, || match backup.step(PAGES) {
            Ok(StepResult::Busy | StepResult::Locked) => Ok(None),
            done => done.map(Some).map_err(|failure| error(&failure, None)),
        })?;
        if step == StepResult::Done {
            return Ok(true);
        }
        let left = backup.progress().remaining;
        restarts += u32::from(left > least);
        least = left;
    }
    Ok(false)
}

/// Tries until it succeeds or fails. `None`: another program has locked the file.
fn until_unlocked<T>(
    wait: &impl Fn(Duration) -> Result<(), SourceError>,
    mut attempt: impl FnMut() -> Result<Option<T>, SourceError>,
) -> Result<T, SourceError> {
    wait(Duration::ZERO)?;
    for _ in 0..LOCKED_LOOKS {
        if let Some(done) = attempt()? {
            return Ok(done);
        }
        wait(LOCKED_LOOK)?;
    }
    let message = "another program has locked the file for a minute";
    Err(SourceError::new(SourceErrorKind::TimedOut, message))
}

fn is_busy(failure: &rusqlite::Error) -> bool {
    let busy = [ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked];
    failure.sqlite_error_code().is_some_and(|code| busy.contains(&code))
}

/// By the header of the file.
fn has_wal(path: &Path) -> bool {
    let mut header = [0; 20];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok() && header[18] == 2
}

fn tables(connection: &Connection) -> Result<Vec<SnapshotTable>, SourceError> {
    let catalog = introspect::catalog(connection, true)?;
    let failed = |failure: rusqlite::Error| error(&failure, None);
    let mut created = connection
        .prepare("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1")
        .map_err(failed)?;
    let mut found = Vec::new();
    for schema in catalog.schemas {
        for table in schema.tables.into_iter().filter(|table| table.kind == TableKind::Table) {
            let definition = created.query_row([&table.name], |row| row.get(0)).map_err(failed)?;
            found.push(SnapshotTable {
                schema: schema.name.clone(),
                name: table.name,
                definition,
                columns: table.columns,
                rows: TableRows::InFile(table.row_count),
                partition_of: None,
                through: None,
            });
        }
    }
    Ok(found)
}
