//! A backup's tables, for the engine.

use std::sync::Arc;

use landreeve_core::ids::BoxFuture;
use landreeve_core::schema::TableKind;
use landreeve_core::source::{SourceError, SourceErrorKind};
use landreeve_core::table::{Catalog, Listed, Reader, Table, TableName, Tables};
use landreeve_core::{Error, OpCtx, Result};
use uuid::Uuid;

use super::opened::{self, OpenBackup};
use super::staged::StagedRows;
use super::table::Rows;
use crate::backups;
use crate::manifest::ManifestTable;
use crate::plane::Protection;

/// The schema of names without one. In a backup whose tables are all in one schema, it means that one.
const DEFAULT_SCHEMA: &str = "public";

pub struct BackupCatalog {
    plane: Protection,
}

impl BackupCatalog {
    pub fn new(plane: Protection) -> BackupCatalog {
        BackupCatalog { plane }
    }

    /// The reader may do so: that was checked when the datasource was declared, or before the statement.
    async fn open(&self, reader: &Reader) -> std::result::Result<Arc<OpenBackup>, SourceError> {
        let found = async {
            let uuid = reader.database.as_deref().and_then(|text| Uuid::parse_str(text).ok());
            let uuid = uuid.ok_or_else(|| Error::not_found("backup"))?;
            let backup = backups::find(&mut self.plane.estate().store().read().await?, uuid).await?;
            let backup = backup.ok_or_else(|| Error::not_found("backup"))?;
            backup.check_usable(self.plane.estate().now())?;
            opened::open(&self.plane, &backup).await
        };
        found.await.map_err(|error| {
            let message = format!("the backup cannot be read: {}", error.message);
            SourceError {
                code: Some(error.code.to_owned()),
                ..SourceError::new(SourceErrorKind::Connect, message)
            }
        })
    }
}

impl Catalog for BackupCatalog {
    fn default_schema<'a>(&'a self, _: &'a Reader) -> &'a str {
        DEFAULT_SCHEMA
    }

    fn resolve<'a>(
        &'a self,
        reader: &'a Reader,
        names: &'a [TableName],
    ) -> BoxFuture<'a, std::result::Result<Tables, SourceError>> {
        Box::pin(async move {
            let opened = self.open(reader).await?;
            let mut tables = Tables::default();
            for name in names {
                let Some(position) = position(&opened.manifest.tables, name) else { continue };
                if opened.manifest.tables.get(position).is_some_and(|table| !opened.can_read(table)) {
                    return Err(unreadable(name));
                }
                let backup = Arc::clone(&opened);
                let table: Arc<dyn Table> = match opened.is_sqlite() {
                    true => Arc::new(StagedRows::open(&self.plane, backup, position).await?),
                    false => Arc::new(Rows::open(&self.plane, backup, position).await?),
                };
                tables.tables.push((name.clone(), table));
            }
            Ok(tables)
        })
    }

    fn list<'a>(
        &'a self,
        reader: &'a Reader,
    ) -> BoxFuture<'a, std::result::Result<Vec<Listed>, SourceError>> {
        Box::pin(async move {
            let opened = self.open(reader).await?;
            let readable = opened.manifest.tables.iter().filter(|table| opened.can_read(table));
            let listed = readable
                .map(|table| Listed::new(TableName::new(&table.schema, &table.name), TableKind::Table));
            Ok(listed.collect())
        })
    }

    fn may_declare<'a>(&'a self, ctx: &'a OpCtx, database: Option<&'a str>) -> BoxFuture<'a, Result<()>> {
        Box::pin(super::may_declare(&self.plane, ctx, database))
    }
}

/// The place of a table among those of a backup.
fn position(tables: &[ManifestTable], name: &TableName) -> Option<usize> {
    let mut schemas = tables.iter().map(|table| table.schema.as_str());
    let first = schemas.next().unwrap_or_default();
    let only = schemas.all(|schema| schema == first).then_some(first);
    let has = |schema: &str| tables.iter().any(|table| table.schema == schema);
    let schema = match only {
        Some(only) if name.schema == DEFAULT_SCHEMA && !has(DEFAULT_SCHEMA) => only,
        _ => &name.schema,
    };
    tables.iter().position(|table| table.place() == (schema, name.name.as_str()))
}

/// Its rows are in a file that only its database reads.
fn unreadable(name: &TableName) -> SourceError {
    let message = format!("the rows of {name} cannot be read from the backup; restore it to read them");
    SourceError::new(SourceErrorKind::Query, message)
}
