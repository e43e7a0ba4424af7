//! Reads some rows of a file in a repository, and of the file only the pages that may have them.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_schema::{Schema, SchemaRef};
use bytes::{Buf as _, Bytes};
use landreeve_core::table::Condition;
use landreeve_core::vault::{PartAsk, PartRows, StoredFile, VaultError, VaultErrorKind, VaultResult};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use parquet::file::reader::{ChunkReader, Length};

use super::{bounds, damaged};

/// Read at a time where no page says how much is wanted.
const CHUNK: usize = 64 * 1024;

pub fn schema(file: Arc<dyn StoredFile>) -> VaultResult<SchemaRef> {
    let failed = Failed::default();
    let source = Source { file, failed: failed.clone() };
    let metadata = ArrowReaderMetadata::load(&source, ArrowReaderOptions::new());
    Ok(Arc::clone(metadata.map_err(|error| failed.told(&error))?.schema()))
}

pub fn rows(file: Arc<dyn StoredFile>, ask: &PartAsk) -> VaultResult<PartRows> {
    let failed = Failed::default();
    let source = Source { file, failed: failed.clone() };
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(source, options);
    let mut builder = builder.map_err(|error| failed.told(&error))?;
    if let Some(selection) = selection(builder.schema(), builder.metadata(), &ask.conditions) {
        builder = builder.with_row_selection(selection);
    }
    let mask = ProjectionMask::roots(builder.parquet_schema(), ask.columns.iter().copied());
    let reader = builder.with_projection(mask).with_batch_size(ask.batch_rows.max(1)).build();
    let reader = reader.map_err(|error| failed.told(&error))?;
    Ok(Box::new(reader.map(move |batch| batch.map_err(|error| failed.told(&error)))))
}

/// The rows of those pages that may have rows for all conditions. `None`: all.
fn selection(schema: &Schema, file: &ParquetMetaData, conditions: &[Condition]) -> Option<RowSelection> {
    let of_condition = |condition: &Condition| {
        let pages = bounds::of_pages(schema, file, condition.column)?;
        let selectors = pages.into_iter().map(|(bounds, rows)| {
            match bounds.is_none_or(|(least, greatest)| condition.test.may_hold(&least, &greatest)) {
                true => RowSelector::select(rows),
                false => RowSelector::skip(rows),
            }
        });
        Some(RowSelection::from_iter(selectors))
    };
    conditions.iter().filter_map(of_condition).reduce(|all, more| all.intersection(&more))
}

/// Why reading failed, which the library only passes on as text.
#[derive(Clone, Default)]
struct Failed(Arc<Mutex<Option<VaultError>>>);

impl Failed {
    fn keep(&self, error: VaultError) -> ParquetError {
        let told = ParquetError::General(error.message.clone());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        told
    }

    fn told(&self, error: &dyn std::fmt::Display) -> VaultError {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        kept.unwrap_or_else(|| damaged(error))
    }
}

struct Source {
    file: Arc<dyn StoredFile>,
    failed: Failed,
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.file.size()
    }
}

impl ChunkReader for Source {
    type T = From;

    fn get_read(&self, start: u64) -> ParquetResult<From> {
        let (file, failed) = (Arc::clone(&self.file), self.failed.clone());
        Ok(From { file, failed, position: start, ahead: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let read = self.file.read_at(start, length).map_err(|error| self.failed.keep(error))?;
        if read.len() < length {
            let message = "a file of rows ends early".to_owned();
            return Err(self.failed.keep(VaultError::new(VaultErrorKind::Damaged, message)));
        }
        Ok(read)
    }
}

/// The bytes from a position on.
struct From {
    file: Arc<dyn StoredFile>,
    failed: Failed,
    position: u64,
    ahead: Bytes,
}

impl Read for From {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.ahead.is_empty() {
            let read = self.file.read_at(self.position, CHUNK);
            self.ahead = read.map_err(|error| std::io::Error::other(self.failed.keep(error)))?;
            self.position += self.ahead.len() as u64;
        }
        let count = out.len().min(self.ahead.len());
        let (now, _) = out.split_at_mut(count);
        self.ahead.copy_to_slice(now);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use arrow_array::cast::AsArray as _;
    use arrow_array::types::Int64Type;
    use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use landreeve_core::table::{Comparison, Test, Value};
    use landreeve_core::vault::PartWriter as _;

    use super::super::Writer;
    use super::*;

    /// Says how much of it was read.
    struct Counted {
        bytes: Bytes,
        read: AtomicU64,
        cut: bool,
    }

    impl StoredFile for Counted {
        fn size(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn read_at(&self, position: u64, length: usize) -> VaultResult<Bytes> {
            if self.cut && position > 4 && position < self.size() / 2 {
                return Err(VaultError::cancelled());
            }
            self.read.fetch_add(length as u64, Ordering::Relaxed);
            let position = usize::try_from(position).unwrap();
            Ok(self.bytes.slice(position..self.bytes.len().min(position + length)))
        }
    }

    const ROWS: i64 = 400_000;

    fn file(cut: bool) -> Arc<Counted> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part");
        // Neither column compresses well.
        let text = |id: i64| {
            format!("{:x}{:x}", id.wrapping_mul(0x1E37_79B9_7F4A_7C15), id.wrapping_mul(0x5851_F42D))
        };
        let columns: [(&str, ArrayRef); 2] = [
            ("id", Arc::new(Int64Array::from_iter_values((0..ROWS).map(|id| id * 2)))),
            ("text", Arc::new(StringArray::from_iter_values((0..ROWS).map(text)))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = Box::new(Writer::new(&path, &batch.schema(), u64::MAX / 4).unwrap());
        assert_eq!(writer.write(&batch).unwrap(), batch.num_rows());
        writer.finish().unwrap();
        let bytes = Bytes::from(std::fs::read(path).unwrap());
        Arc::new(Counted { bytes, read: AtomicU64::new(0), cut })
    }

    fn asked(comparison: Comparison, value: i64) -> PartAsk {
        let test = Test::Compare(comparison, Value::Integer(value));
        PartAsk { columns: vec![0, 1], conditions: vec![Condition { column: 0, test }], batch_rows: 512 }
    }

    #[test]
    fn few_rows_are_found_by_reading_little() {
        for wanted in [0, 1, 777, ROWS, 2 * ROWS - 2] {
            let file = file(false);
            let found: Vec<RecordBatch> =
                rows(file.clone(), &asked(Comparison::Equal, wanted)).unwrap().map(Result::unwrap).collect();
            let ids =
                found.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
            assert_eq!(ids.filter(|id| *id == wanted).count(), usize::from(wanted % 2 == 0));
            let read = file.read.load(Ordering::Relaxed);
            assert!(read * 4 < file.size(), "{read} of {} bytes were read for {wanted}", file.size());
        }
        let file = file(false);
        let all = rows(file.clone(), &asked(Comparison::GreaterOrEqual, 0)).unwrap();
        assert_eq!(all.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), usize::try_from(ROWS).unwrap());
        let read = file.read.load(Ordering::Relaxed);
        let none = rows(file.clone(), &asked(Comparison::Less, 0)).unwrap();
        assert_eq!(none.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 0);
        assert!(file.read.load(Ordering::Relaxed) - read < read / 10);
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let ask = PartAsk { columns: Vec::new(), conditions: Vec::new(), batch_rows: 512 };
        let counted = rows(file(false), &ask).unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>();
        assert_eq!(counted, usize::try_from(ROWS).unwrap());
    }

    #[test]
    fn the_reason_of_a_failure_is_kept() {
        let read = rows(file(true), &asked(Comparison::GreaterOrEqual, 0))
            .and_then(|rows| rows.collect::<VaultResult<Vec<_>>>());
        assert_eq!(read.unwrap_err().kind, VaultErrorKind::Cancelled);
    }
}
