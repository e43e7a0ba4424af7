//! What is in a backup: its tables, and their rows by SQL, without a restore. `opened` keeps backups open, `catalog` offers
//! their tables to the engine, `table` reads rows of one, `staged` those of a SQLite file, `columns` shows them in the types that SQL knows,
//! `restoring` keeps what a SELECT found.

mod catalog;
mod columns;
pub(crate) mod opened;
pub mod restoring;
mod staged;
mod table;

use std::sync::Arc;
use std::time::Duration;

use landreeve_core::datasource::CatalogType;
use landreeve_core::source::{CancellationToken, Query, QueryStream, SourceError, SourceErrorKind};
use landreeve_core::table::{EngineQuery, Readable, Reader};
use landreeve_core::{Action, Error, ErrorKind, OpCtx, Result};
use landreeve_estate::results::{BATCH_BYTES, BATCH_ROWS};
use uuid::Uuid;

use crate::backups::{self, Backup, backup_get};
use crate::nouns::BACKUP;
use crate::plane::Protection;

pub(crate) use catalog::BackupCatalog;
pub(crate) use opened::OpenBackups;

/// The type of a datasource whose tables are those of a backup. Its database is the backup's id.
pub const DATABASE_TYPE: CatalogType = CatalogType::new("backup");

/// A table in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupTable {
    pub schema: String,
    pub name: String,
    /// `None`: it could not be counted.
    pub rows: Option<u64>,
    pub columns: Vec<BackupColumn>,
    /// Whether its rows can be read without a restore.
    pub is_readable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupColumn {
    pub name: String,
    /// As its database writes it.
    pub data_type: String,
    pub nullable: bool,
    pub is_key: bool,
}

/// The tables in a backup, in the order of their names.
pub async fn backup_tables(plane: &Protection, ctx: &OpCtx, uuid: Uuid) -> Result<Vec<BackupTable>> {
    let backup = usable(plane, ctx, uuid).await?;
    let opened = opened::open(plane, &backup).await?;
    let mut tables: Vec<BackupTable> =
        opened.manifest.tables.iter().map(|table| table::described(table, opened.can_read(table))).collect();
    tables.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    Ok(tables)
}

/// A backup that has not expired.
async fn usable(plane: &Protection, ctx: &OpCtx, uuid: Uuid) -> Result<Backup> {
    let backup = backup_get(plane, ctx, uuid).await?;
    backup.check_usable(plane.estate().now())?;
    Ok(backup)
}

/// A SELECT over a backup's tables.
#[derive(Debug, Clone)]
pub struct RecordQuery {
    pub backup: Uuid,
    pub sql: String,
    pub time_limit: Duration,
    /// More rows than this are an error. `None`: no limit.
    pub max_rows: Option<u64>,
}

/// Runs a SELECT over a backup's tables. Rows come as they are read.
pub async fn record_query(
    plane: &Protection,
    ctx: &OpCtx,
    asked: RecordQuery,
    cancel: CancellationToken,
) -> Result<QueryStream> {
    let backup = usable(plane, ctx, asked.backup).await?;
    backups::require_record(plane, ctx, &backup).await?;
    let query = EngineQuery {
        query: Query {
            sql: asked.sql,
            time_limit: asked.time_limit,
            batch_rows: BATCH_ROWS,
            batch_bytes: BATCH_BYTES,
            decimals: Vec::new(),
        },
        variables: Vec::new(),
        max_rows: asked.max_rows,
    };
    let reader = Reader { database: Some(backup.uuid.to_string()), ..Reader::default() };
    let catalog = Arc::new(BackupCatalog::new(plane.clone()));
    let stream = plane.engine().query(Readable { catalog, reader }, query, cancel).await;
    stream.map_err(|error| query_error(&error))
}

/// What a statement is told that did not begin, or did not end.
pub fn query_error(error: &SourceError) -> Error {
    match error.kind {
        SourceErrorKind::NotReadOnly => Error::fault("sql", "not_read_only", &*error.message),
        SourceErrorKind::Query | SourceErrorKind::Unsupported => {
            Error::fault("sql", "sql_error", &*error.message)
        }
        SourceErrorKind::TimedOut => Error::fault("sql", "timeout", &*error.message),
        SourceErrorKind::Cancelled => Error::conflict("cancelled", &*error.message),
        SourceErrorKind::Connect | SourceErrorKind::Lost => {
            Error::new(ErrorKind::Unavailable, "unavailable", &*error.message)
        }
    }
}

/// Checks that the caller may make a backup's tables a datasource, which lets its users read them.
async fn may_declare(plane: &Protection, ctx: &OpCtx, database: Option<&str>) -> Result<()> {
    let unknown = || Error::fault("database", "unknown", "is not the id of a backup");
    let uuid = database.and_then(|text| Uuid::parse_str(text).ok()).ok_or_else(unknown)?;
    let found = backups::find(&mut plane.estate().store().read().await?, uuid).await?;
    let backup = found.ok_or_else(unknown)?;
    if plane
        .estate()
        .require(ctx, BACKUP, Action::VIEW, &backup.ou_path, backups::granted(&backup))
        .await
        .is_err()
    {
        return Err(unknown());
    }
    backups::require_record(plane, ctx, &backup).await?;
    backup
        .check_usable(plane.estate().now())
        .map_err(|error| Error::fault("database", "expired", error.message))?;
    Ok(())
}
