//! Files of rows: Parquet, one row group each. Where a file ends, and where a page in it ends, the content says: where rows
//! were inserted or deleted, the files and pages around them are the same as before, and so are the chunks that a repository
//! keeps of them. No earlier backup has to be read for that. `bounds` is what is known of their values, `scan` reads some of
//! their rows.

mod bounds;
pub mod scan;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_row::{RowConverter, SortField};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use landreeve_core::vault::{Part, PartRows, PartWriter, RowsHash, VaultError, VaultErrorKind, VaultResult};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{CdcOptions, EnabledStatistics, WriterProperties};
use sha2::{Digest as _, Sha256};

/// Rows of a batch that is read.
const BATCH_ROWS: usize = 1_024;

/// Bytes of a column's dictionary. A column with more values has none from there on.
const DICTIONARY: usize = 32 * 1_024;

/// How many rows and bytes of them are encoded together. What the encoder makes of rows depends on that, and the batches that
/// come are cut elsewhere when rows before them are gone.
const GROUP_ROWS: usize = 8 * 1_024;
const GROUP_BYTES: u64 = 4 << 20;
/// Bytes of a page before it is compressed: where in between it ends, the content says. Small ones, because at least one of each
/// column is read for a row.
const LEAST_PAGE: usize = 64 * 1_024;
const GREATEST_PAGE: usize = 256 * 1_024;
/// Of the encoder, which counts otherwise: never reached.
const PAGE_BYTES: usize = 4 << 20;

/// Where files end, in bytes of values before they are compressed: after a row whose checksum says so, which one in `spread`
/// bytes does, but not before `least`, and at `most` after any row.
#[derive(Debug, Clone, Copy)]
struct Cut {
    least: u64,
    spread: u64,
    most: u64,
}

impl Cut {
    /// Of files that have so many bytes on average.
    fn about(bytes: u64) -> Cut {
        // The smaller the part that counts for nothing, the sooner two files end at the same row again.
        Cut { least: bytes / 4, spread: (bytes / 4 * 3).max(1), most: bytes * 2 }
    }

    /// Whether a file ends after this row of `length` bytes, which is the last of `bytes`.
    fn is_end(self, bytes: u64, length: u64, hash: RowsHash) -> bool {
        let share = (u128::from(length) << 64) / u128::from(self.spread);
        bytes >= self.most || bytes >= self.least && (hash.0 & u128::from(u64::MAX)) < share
    }
}

fn unwritable(path: &Path, error: impl std::fmt::Display) -> VaultError {
    VaultError::new(VaultErrorKind::Unavailable, format!("could not write {}: {error}", path.display()))
}

fn damaged(error: impl std::fmt::Display) -> VaultError {
    VaultError::new(VaultErrorKind::Damaged, format!("a file of rows cannot be read: {error}"))
}

pub struct Writer {
    path: std::path::PathBuf,
    schema: SchemaRef,
    writer: ArrowWriter<BufWriter<File>>,
    hasher: Hasher,
    rows: u64,
    hash: RowsHash,
    bytes: u64,
    cut: Cut,
    full: bool,
    group: Group,
}

/// Rows that wait to be encoded together.
#[derive(Default)]
struct Group {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: u64,
}

impl Writer {
    /// `bytes`: how many the values of a file have on average.
    pub fn new(path: &Path, schema: &SchemaRef, bytes: u64) -> VaultResult<Writer> {
        let level = ZstdLevel::try_new(1).map_err(|error| unwritable(path, error))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_content_defined_chunking(Some(CdcOptions {
                min_chunk_size: LEAST_PAGE,
                max_chunk_size: GREATEST_PAGE,
                ..CdcOptions::default()
            }))
            // What is encoded with a dictionary depends on all rows before it: only what has few values is.
            .set_dictionary_page_size_limit(DICTIONARY)
            .set_data_page_size_limit(PAGE_BYTES)
            .set_data_page_row_count_limit(usize::MAX)
            // One row group: a part is as large as its writer makes it.
            .set_max_row_group_row_count(None)
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_created_by("landreeve".to_owned())
            .build();
        let file = File::create_new(path).map_err(|error| unwritable(path, error))?;
        let writer = ArrowWriter::try_new(BufWriter::new(file), schema.clone(), Some(properties));
        Ok(Writer {
            path: path.to_owned(),
            schema: schema.clone(),
            writer: writer.map_err(|error| unwritable(path, error))?,
            hasher: Hasher::new(schema)?,
            rows: 0,
            hash: RowsHash::default(),
            bytes: 0,
            cut: Cut::about(bytes),
            full: false,
            group: Group::default(),
        })
    }

    /// Encodes the rows that wait.
    fn flush(&mut self) -> VaultResult<()> {
        let Group { batches, .. } = std::mem::take(&mut self.group);
        let failed = |error: &dyn std::fmt::Display| unwritable(&self.path, error);
        let group = concat_batches(&self.schema, &batches).map_err(|error| failed(&error))?;
        self.writer.write(&group).map_err(|error| failed(&error))
    }
}

impl PartWriter for Writer {
    fn write(&mut self, batch: &RecordBatch) -> VaultResult<usize> {
        let rows = self.hasher.rows(batch)?;
        let (mut waiting, mut taken) = (0, 0);
        for row in &rows {
            if self.full {
                break;
            }
            let (hash, length) = (hash_of(row), row.as_ref().len() as u64);
            self.hash = self.hash.and(hash);
            self.bytes += length;
            self.full = self.cut.is_end(self.bytes, length, hash);
            taken += 1;
            self.group.rows += 1;
            self.group.bytes += length;
            if self.full || self.group.rows >= GROUP_ROWS || self.group.bytes >= GROUP_BYTES {
                self.group.batches.push(batch.slice(waiting, taken - waiting));
                waiting = taken;
                self.flush()?;
            }
        }
        if waiting < taken {
            self.group.batches.push(batch.slice(waiting, taken - waiting));
        }
        self.rows += taken as u64;
        Ok(taken)
    }

    fn is_full(&self) -> bool {
        self.full
    }

    fn finish(mut self: Box<Self>) -> VaultResult<Part> {
        self.flush()?;
        let Writer { path, schema, mut writer, rows, hash, .. } = *self;
        let failed = |error: &dyn std::fmt::Display| unwritable(&path, error);
        let written = writer.finish().map_err(|error| failed(&error))?;
        writer.inner_mut().flush().map_err(|error| failed(&error))?;
        Ok(Part { rows, hash, bounds: bounds::of_file(&schema, &written) })
    }
}

pub fn rows(path: &Path) -> VaultResult<PartRows> {
    let file = File::open(path).map_err(damaged)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
    let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(damaged)?;
    Ok(Box::new(reader.map(|batch| batch.map_err(damaged))))
}

/// The sum of the rows' checksums (128 bits of SHA-256), so that their order does not matter. Every bit of a value does.
pub struct Hasher(RowConverter);

impl Hasher {
    pub fn new(schema: &SchemaRef) -> VaultResult<Hasher> {
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let converter = RowConverter::new(fields);
        converter.map(Hasher).map_err(|error| VaultError::new(VaultErrorKind::Internal, error.to_string()))
    }

    pub fn of(&mut self, batch: &RecordBatch) -> VaultResult<RowsHash> {
        Ok(self.rows(batch)?.iter().map(hash_of).fold(RowsHash::default(), RowsHash::and))
    }

    fn rows(&mut self, batch: &RecordBatch) -> VaultResult<arrow_row::Rows> {
        let rows = self.0.convert_columns(batch.columns());
        rows.map_err(|error| VaultError::new(VaultErrorKind::Internal, error.to_string()))
    }
}

fn hash_of(row: arrow_row::Row<'_>) -> RowsHash {
    let digest = Sha256::digest(row.as_ref());
    let half = digest.first_chunk().copied().unwrap_or_default();
    RowsHash(u128::from_be_bytes(half))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Float64Array, Int64Array, StringArray};

    use super::*;

    fn batch(ids: &[i64]) -> RecordBatch {
        let text = |id: &i64| (id % 3 != 0).then(|| format!("text {id}"));
        let columns: [(&str, ArrayRef); 3] = [
            ("id", Arc::new(Int64Array::from(ids.to_vec()))),
            ("text", Arc::new(StringArray::from(ids.iter().map(text).collect::<Vec<_>>()))),
            (
                "number",
                Arc::new(Float64Array::from(ids.iter().map(|id| *id as f64 / 7.0).collect::<Vec<_>>())),
            ),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
    }

    fn written(path: &Path, batches: &[RecordBatch]) -> Part {
        let mut writer = Box::new(Writer::new(path, &batches[0].schema(), u64::MAX / 4).unwrap());
        for batch in batches {
            assert_eq!(writer.write(batch).unwrap(), batch.num_rows());
        }
        writer.finish().unwrap()
    }

    /// The rows in as many files as it takes.
    fn cut(folder: &Path, batch: &RecordBatch) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut left = batch.clone();
        while left.num_rows() > 0 {
            let path = folder.join("part");
            let mut writer = Box::new(Writer::new(&path, &batch.schema(), 16_000).unwrap());
            while left.num_rows() > 0 && !writer.is_full() {
                // In batches of any size.
                let taken = writer.write(&left.slice(0, left.num_rows().min(97))).unwrap();
                left = left.slice(taken, left.num_rows() - taken);
            }
            parts.push(writer.finish().unwrap());
            std::fs::remove_file(path).unwrap();
        }
        parts
    }

    #[test]
    fn files_end_where_they_did_before() {
        let folder = tempfile::tempdir().unwrap();
        let ids: Vec<i64> = (0..60_000).collect();
        let before = cut(folder.path(), &batch(&ids));
        let rows: Vec<u64> = before.iter().map(|part| part.rows).collect();
        assert!(before.len() > 50, "{rows:?}");
        let same = |ids: &[i64]| {
            let after = cut(folder.path(), &batch(ids));
            assert_eq!(after.iter().map(|part| part.rows).sum::<u64>(), ids.len() as u64);
            before.len() - before.iter().filter(|part| after.contains(part)).count()
        };
        let without = |from: usize, to: usize| [&ids[..from], &ids[to..]].concat();
        assert_eq!(same(&ids), 0);
        for (from, to) in [(0, 1), (30_000, 30_001), (30_000, 30_300), (59_999, 60_000)] {
            let changed = same(&without(from, to));
            assert!(changed <= 4, "{changed} of {} files after rows {from} to {to}", before.len());
        }
        let mut more = ids.clone();
        more.splice(1_000..1_000, 100_000..100_200);
        assert!(same(&more) <= 4);
    }

    /// However the rows come: where rows before them are gone, they come in other batches.
    #[test]
    fn the_same_rows_are_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let rows = batch(&(0..60_000).map(|id| id * 7_919 % 60_013).collect::<Vec<_>>());
        let mut files = Vec::new();
        for size in [60_000, 8_192, 1_024, 777] {
            let path = folder.path().join(size.to_string());
            let batches: Vec<RecordBatch> = (0..rows.num_rows())
                .step_by(size)
                .map(|from| rows.slice(from, size.min(rows.num_rows() - from)))
                .collect();
            written(&path, &batches);
            files.push(std::fs::read(path).unwrap());
        }
        assert!(files.iter().all(|file| *file == files[0]));
    }

    #[test]
    fn bounds_are_those_of_the_values() {
        use landreeve_core::table::Value;
        let folder = tempfile::tempdir().unwrap();
        let part = written(&folder.path().join("part"), &[batch(&[5, 3, 10])]);
        let text = |text: &str| Value::Text(text.to_owned());
        let wanted = vec![
            Some((Value::Integer(3), Value::Integer(10))),
            Some((text("text 10"), text("text 5"))),
            None,
        ];
        assert_eq!(part.bounds, wanted);
        let none = written(&folder.path().join("none"), &[batch(&[5]).slice(0, 0)]);
        assert_eq!((none.rows, none.bounds), (0, vec![None, None, None]));
    }
    #[test]
    fn rows_come_back_with_their_checksum() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part");
        let ids: Vec<i64> = (0..10_000).collect();
        let part = written(&path, &[batch(&ids[..4_000]), batch(&ids[4_000..])]);
        assert_eq!(part.rows, 10_000);
        let read: Vec<RecordBatch> = rows(&path).unwrap().collect::<VaultResult<_>>().unwrap();
        let mut hasher = Hasher::new(&read[0].schema()).unwrap();
        let hash =
            read.iter().map(|batch| hasher.of(batch).unwrap()).fold(RowsHash::default(), RowsHash::and);
        assert_eq!(hash, part.hash);
        assert_eq!(concat_batches(&read[0].schema(), &read).unwrap(), batch(&ids));
        assert_eq!(RowsHash::parse(&hash.to_string()), Some(hash));
    }

    #[test]
    fn the_checksum_is_of_the_values_and_not_of_their_order() {
        let hash = |ids: &[i64]| Hasher::new(&batch(ids).schema()).unwrap().of(&batch(ids)).unwrap();
        assert_eq!(hash(&[1, 2, 3]), hash(&[3, 1, 2]));
        assert_ne!(hash(&[1, 2, 3]), hash(&[1, 2, 4]));
        assert_ne!(hash(&[1, 2]), hash(&[1, 2, 2]));
        assert_ne!(hash(&[1, 1]), hash(&[2, 2]));
        let of = |value: f64| {
            let column = Arc::new(Float64Array::from(vec![value])) as ArrayRef;
            let batch = RecordBatch::try_from_iter([("x", column)]).unwrap();
            Hasher::new(&batch.schema()).unwrap().of(&batch).unwrap()
        };
        assert_ne!(of(0.0), of(-0.0));
    }

    #[test]
    fn a_row_that_is_inserted_changes_little_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let ids: Vec<i64> = (0..200_000).collect();
        let mut more = ids.clone();
        more.insert(50_000, 1_000_000);
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        written(&a, &[batch(&ids)]);
        written(&b, &[batch(&more)]);
        let (a, b) = (std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
        let blocks: std::collections::HashSet<&[u8]> = a.windows(64).collect();
        let new = b.chunks_exact(64).filter(|block| !blocks.contains(block)).count() * 64;
        assert!(new * 2 < b.len(), "{new} of {} bytes are new", b.len());
    }

    #[test]
    fn what_is_no_file_of_rows_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part");
        written(&path, &[batch(&[1, 2, 3])]);
        let whole = std::fs::read(&path).unwrap();
        for cut in [0, 4, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let read = rows(&path).and_then(|rows| rows.collect::<VaultResult<Vec<_>>>());
            assert_eq!(read.unwrap_err().kind, VaultErrorKind::Damaged, "{cut}");
        }
    }
}
