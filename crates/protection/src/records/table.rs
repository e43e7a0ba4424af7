//! A table of a backup: the files of its rows, of which only those are read that may have what is wanted.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use futures_util::stream;
use landreeve_core::source::{SourceError, SourceErrorKind};
use landreeve_core::table::{Applies, BatchStream, Condition, Scan, Table, Test};
use landreeve_core::vault::{PartAsk, Vault, VaultError, VaultErrorKind, VaultResult};
use tokio::sync::mpsc;

use super::columns;
use super::opened::OpenBackup;
use super::{BackupColumn, BackupTable};
use crate::manifest::{ManifestPart, ManifestTable};
use crate::plane::Protection;

/// Files that are read at the same time.
const READERS: usize = 2;

pub(super) fn described(table: &ManifestTable, is_readable: bool) -> BackupTable {
    let columns = table.columns.iter().map(|column| BackupColumn {
        name: column.name.clone(),
        data_type: column.data_type.clone(),
        nullable: column.nullable,
        is_key: table.key.contains(&column.name),
    });
    BackupTable {
        schema: table.schema.clone(),
        name: table.name.clone(),
        rows: table.rows,
        columns: columns.collect(),
        is_readable,
    }
}

/// The rows of one table.
#[derive(Clone)]
pub(super) struct Rows {
    vault: Arc<dyn Vault>,
    opened: Arc<OpenBackup>,
    /// Its place in the manifest.
    position: usize,
    /// What the files have.
    stored: SchemaRef,
    shown: SchemaRef,
}

impl Rows {
    pub async fn open(
        plane: &Protection,
        opened: Arc<OpenBackup>,
        position: usize,
    ) -> Result<Rows, SourceError> {
        let lost = |error: landreeve_core::Error| SourceError::new(SourceErrorKind::Lost, error.message);
        let backup = Arc::clone(&opened);
        let stored = plane.blocking(move |vault| stored(vault, &backup, position)).await.map_err(lost)?;
        let stored = stored.map_err(told)?;
        let fields = stored.fields().iter().map(|field| columns::shown(field));
        let shown = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(Rows { vault: plane.vault(), opened, position, stored, shown })
    }

    fn table(&self) -> Option<&ManifestTable> {
        self.opened.manifest.tables.get(self.position)
    }

    /// The files that may have rows for all of these conditions.
    fn parts(&self, conditions: &[Condition]) -> Vec<&ManifestPart> {
        let Some(table) = self.table() else { return Vec::new() };
        let of_key = |condition: &Condition| {
            let name = self.stored.fields().get(condition.column)?.name();
            table.key.iter().position(|key| key == name)
        };
        let may_have = |part: &ManifestPart| {
            conditions.iter().all(|condition| {
                let bounds = of_key(condition).and_then(|key| part.bounds.get(key)?.as_ref());
                bounds
                    .is_none_or(|(least, greatest)| condition.test.may_hold(&least.into(), &greatest.into()))
            })
        };
        table.parts.iter().flatten().filter(|part| part.rows > 0 && may_have(part)).collect()
    }

    /// Reads the rows of one part of a scan, until the reader is gone.
    fn read(
        &self,
        scan: &Scan,
        rows: &mpsc::Sender<Result<RecordBatch, SourceError>>,
    ) -> Result<(), SourceError> {
        let mut wanted = scan.columns.clone();
        wanted.sort_unstable();
        wanted.dedup();
        let places: HashMap<usize, usize> = wanted.iter().copied().zip(0..).collect();
        let ask =
            PartAsk { columns: wanted, conditions: scan.conditions.clone(), batch_rows: scan.batch_rows };
        let mut left = scan.limit.unwrap_or(u64::MAX);
        for part in self.parts(&scan.conditions).into_iter().skip(scan.partition).step_by(READERS) {
            let file = self.opened.file(&part.file).map_err(told)?;
            for batch in self.vault.part_scan(file, &ask).map_err(told)? {
                if scan.cancel.is_cancelled() || left == 0 {
                    return Ok(());
                }
                let batch = self.shown(&batch.map_err(told)?, scan, &places)?;
                left = left.saturating_sub(batch.num_rows() as u64);
                if rows.blocking_send(Ok(batch)).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The columns of a batch in the order and the types in which they are wanted.
    fn shown(
        &self,
        batch: &RecordBatch,
        scan: &Scan,
        places: &HashMap<usize, usize>,
    ) -> Result<RecordBatch, SourceError> {
        let mut arrays = Vec::with_capacity(scan.columns.len());
        for wanted in &scan.columns {
            let array = places.get(wanted).and_then(|place| batch.columns().get(*place));
            let (array, field) = array.zip(self.shown.fields().get(*wanted)).ok_or_else(missing)?;
            let converted = columns::convert(array, field.data_type());
            arrays.push(converted.map_err(|why| {
                let error =
                    SourceError::new(SourceErrorKind::Query, format!("column {}: {why}", field.name()));
                SourceError { code: Some("bad_value".to_owned()), ..error }
            })?);
        }
        let schema = self.shown.project(&scan.columns).map_err(|_| missing())?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::new(schema), arrays, &options)
            .map_err(|error| SourceError::new(SourceErrorKind::Lost, error.to_string()))
    }
}

fn missing() -> SourceError {
    SourceError::new(SourceErrorKind::Lost, "a column of the backup is missing")
}

/// The columns of the files. Where there is none, they are text.
fn stored(vault: &dyn Vault, opened: &OpenBackup, position: usize) -> VaultResult<SchemaRef> {
    let table = opened.manifest.tables.get(position);
    let first = table.and_then(|table| table.parts.iter().flatten().next());
    match first {
        Some(part) => vault.part_schema(opened.file(&part.file)?),
        None => {
            let columns = table.map(|table| table.columns.as_slice()).unwrap_or_default();
            let fields = columns.iter().map(|column| Field::new(&column.name, DataType::Utf8, true));
            Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
        }
    }
}

fn told(error: VaultError) -> SourceError {
    let kind = match error.kind {
        VaultErrorKind::Cancelled => SourceErrorKind::Cancelled,
        _ => SourceErrorKind::Lost,
    };
    SourceError::new(kind, error.message)
}

impl Table for Rows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.shown)
    }

    fn applies(&self, condition: &Condition) -> Applies {
        let field = self.stored.fields().get(condition.column);
        let is_test = matches!(condition.test, Test::Compare(..) | Test::OneOf(_));
        match field.is_some_and(|field| is_test && columns::is_comparable(field)) {
            true => Applies::Superset,
            false => Applies::No,
        }
    }

    fn partitions(&self, scan: &Scan) -> usize {
        self.parts(&scan.conditions).len().clamp(1, READERS)
    }

    fn row_count(&self) -> Option<u64> {
        self.table().and_then(|table| table.rows)
    }

    fn scan(&self, scan: Scan) -> BatchStream {
        let (sender, receiver) = mpsc::channel(1);
        let table = self.clone();
        // It ends with its reader, or when the scan is cancelled.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = table.read(&scan, &sender) {
                let _ = sender.blocking_send(Err(error));
            }
        });
        Box::pin(stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|batch| (batch, receiver))
        }))
    }
}
