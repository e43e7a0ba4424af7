//! The Parquet form, written row group by row group.

use std::io;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, Time32MillisecondType, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef, PrimitiveArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use landreeve_core::schema;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::Sink;

/// Maximum size of a row group, in memory and in rows.
const GROUP_BYTES: usize = 16 * 1024 * 1024;
const GROUP_ROWS: usize = 256 * 1024;
/// About how many bytes are encoded at a time, so that a batch of long values does not become one row group.
const SLICE_BYTES: usize = 4 * 1024 * 1024;

pub(super) struct Parquet {
    schema: SchemaRef,
    writer: ArrowWriter<Vec<u8>>,
}

/// Parquet has no unit of seconds, so they become milliseconds, which all readers understand.
fn stored_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(TimeUnit::Second, zone) => {
            DataType::Timestamp(TimeUnit::Millisecond, zone.clone())
        }
        DataType::Time32(_) => DataType::Time32(TimeUnit::Millisecond),
        other => other.clone(),
    }
}

impl Parquet {
    pub fn new(schema: &SchemaRef) -> io::Result<Parquet> {
        let fields: Vec<Field> = schema
            .fields()
            .iter()
            .map(|field| field.as_ref().clone().with_data_type(stored_type(field.data_type())))
            .collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        let level = ZstdLevel::try_new(1).map_err(io::Error::other)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let writer =
            ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).map_err(io::Error::other)?;
        Ok(Parquet { schema, writer })
    }

    fn drain(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.writer.sync()?;
        out.append(self.writer.inner_mut());
        Ok(())
    }
}

fn stored(array: &ArrayRef) -> ArrayRef {
    // The ends of the range mean infinity and the zero date, and are not scaled.
    let scaled = |value: i64| match value {
        schema::POSITIVE_INFINITY | schema::NEGATIVE_INFINITY | schema::ZERO_DATE => value,
        seconds => seconds.saturating_mul(1000),
    };
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, zone) => {
            let seconds = array.as_primitive::<arrow_array::types::TimestampSecondType>();
            let millis: PrimitiveArray<Int64Type> = seconds.unary(scaled);
            Arc::new(millis.reinterpret_cast::<TimestampMillisecondType>().with_timezone_opt(zone.clone()))
        }
        DataType::Time32(TimeUnit::Second) => {
            let seconds = array.as_primitive::<arrow_array::types::Time32SecondType>();
            let millis: PrimitiveArray<Int32Type> = seconds.unary(|second| second * 1000);
            Arc::new(millis.reinterpret_cast::<Time32MillisecondType>())
        }
        _ => array.clone(),
    }
}

impl Sink for Parquet {
    fn rows(&mut self, batch: &RecordBatch, from: usize, out: &mut Vec<u8>) -> io::Result<usize> {
        let columns: Vec<ArrayRef> = batch.columns().iter().map(stored).collect();
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(io::Error::other)?;
        let left = batch.num_rows().saturating_sub(from);
        let size: usize = batch.columns().iter().map(|array| array.get_array_memory_size()).sum();
        let row = (size / batch.num_rows().max(1)).max(1);
        let batch = batch.slice(from, (SLICE_BYTES / row).clamp(1, left.max(1)).min(left));
        self.writer.write(&batch).map_err(io::Error::other)?;
        if self.writer.in_progress_size() >= GROUP_BYTES {
            self.writer.flush().map_err(io::Error::other)?;
        }
        self.drain(out)?;
        Ok(from + batch.num_rows())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.writer.finish().map_err(io::Error::other)?;
        self.drain(out)
    }
}
