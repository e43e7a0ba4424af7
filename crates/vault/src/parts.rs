//! Files of rows: Parquet, one row group each, with pages that end where the content says so. Where rows were inserted or
//! deleted, the pages around them are the same as before, and so are the chunks that a repository keeps of them.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_row::{RowConverter, SortField};
use arrow_schema::SchemaRef;
use landreeve_core::vault::{Part, PartRows, PartWriter, RowsHash, VaultError, VaultErrorKind, VaultResult};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{CdcOptions, EnabledStatistics, WriterProperties};
use sha2::{Digest as _, Sha256};

/// Rows of a batch that is read.
const BATCH_ROWS: usize = 1_024;

fn unwritable(path: &Path, error: impl std::fmt::Display) -> VaultError {
    VaultError::new(VaultErrorKind::Unavailable, format!("could not write {}: {error}", path.display()))
}

fn damaged(error: impl std::fmt::Display) -> VaultError {
    VaultError::new(VaultErrorKind::Damaged, format!("a file of rows cannot be read: {error}"))
}

pub struct Writer {
    path: std::path::PathBuf,
    writer: ArrowWriter<BufWriter<File>>,
    hasher: Hasher,
    rows: u64,
    hash: RowsHash,
    raw_bytes: u64,
}

impl Writer {
    pub fn new(path: &Path, schema: &SchemaRef) -> VaultResult<Writer> {
        let level = ZstdLevel::try_new(1).map_err(|error| unwritable(path, error))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_content_defined_chunking(Some(CdcOptions::default()))
            // One row group: a part is as large as its writer makes it.
            .set_max_row_group_row_count(None)
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_created_by("landreeve".to_owned())
            .build();
        let file = File::create_new(path).map_err(|error| unwritable(path, error))?;
        let writer = ArrowWriter::try_new(BufWriter::new(file), schema.clone(), Some(properties));
        Ok(Writer {
            path: path.to_owned(),
            writer: writer.map_err(|error| unwritable(path, error))?,
            hasher: Hasher::new(schema)?,
            rows: 0,
            hash: RowsHash::default(),
            raw_bytes: 0,
        })
    }
}

impl PartWriter for Writer {
    fn write(&mut self, batch: &RecordBatch) -> VaultResult<()> {
        self.writer.write(batch).map_err(|error| unwritable(&self.path, error))?;
        self.hash = self.hash.and(self.hasher.of(batch)?);
        self.rows += batch.num_rows() as u64;
        self.raw_bytes += batch.get_array_memory_size() as u64;
        Ok(())
    }

    fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    fn finish(self: Box<Self>) -> VaultResult<Part> {
        let Writer { path, writer, rows, hash, .. } = *self;
        let failed = |error: &dyn std::fmt::Display| unwritable(&path, error);
        let file = writer.into_inner().map_err(|error| failed(&error))?;
        file.into_inner().map_err(|error| failed(&error))?;
        Ok(Part { rows, hash })
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
        let rows = self.0.convert_columns(batch.columns());
        let rows = rows.map_err(|error| VaultError::new(VaultErrorKind::Internal, error.to_string()))?;
        let hash_of = |row: arrow_row::Row<'_>| {
            let digest = Sha256::digest(row.as_ref());
            let half = digest.first_chunk().copied().unwrap_or_default();
            RowsHash(u128::from_be_bytes(half))
        };
        Ok(rows.iter().map(hash_of).fold(RowsHash::default(), RowsHash::and))
    }
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
        let mut writer = Box::new(Writer::new(path, &batches[0].schema()).unwrap());
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap()
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
        assert_eq!(arrow_select::concat::concat_batches(&read[0].schema(), &read).unwrap(), batch(&ids));
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
