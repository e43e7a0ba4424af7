//! Between which values the columns of a file, or of its pages, are.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampSecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Schema, TimeUnit};
use landreeve_core::schema::{NEGATIVE_INFINITY, POSITIVE_INFINITY};
use landreeve_core::table::Value;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;

/// The least and the greatest value, or something beyond them. `None`: that is not known.
pub type Bounds = Option<(Value, Value)>;

/// Of each column of a file.
pub fn of_file(schema: &Schema, file: &ParquetMetaData) -> Vec<Bounds> {
    let of_column = |column: usize| {
        let converter = converter(schema, file, column)?;
        let (least, greatest) = (
            converter.row_group_mins(file.row_groups()).ok()?,
            converter.row_group_maxes(file.row_groups()).ok()?,
        );
        Some((value(&least, 0)?, value(&greatest, 0)?))
    };
    (0..schema.fields().len()).map(of_column).collect()
}

/// Of a column's pages, with how many rows each has. `None`: the file does not say.
pub fn of_pages(schema: &Schema, file: &ParquetMetaData, column: usize) -> Option<Vec<(Bounds, usize)>> {
    let (index, places) = (file.column_index()?, file.offset_index()?);
    let converter = converter(schema, file, column)?;
    let least = converter.data_page_mins(index, places, &[0]).ok()?;
    let greatest = converter.data_page_maxes(index, places, &[0]).ok()?;
    let rows = converter.data_page_row_counts(places, file.row_groups(), &[0]).ok()??;
    let page = |at: usize| {
        let rows = usize::try_from(rows.values().get(at).copied()?).ok()?;
        Some((value(&least, at).zip(value(&greatest, at)), rows))
    };
    (0..rows.len()).map(page).collect()
}

/// A file has one row group, and each of its columns is a leaf.
fn converter<'a>(
    schema: &'a Schema,
    file: &'a ParquetMetaData,
    column: usize,
) -> Option<StatisticsConverter<'a>> {
    let field = schema.fields().get(column)?;
    StatisticsConverter::from_column_index(column, field, file.file_metadata().schema_descr()).ok()
}

/// Floating-point numbers have none: what is no number is in no statistics.
fn value(array: &ArrayRef, at: usize) -> Option<Value> {
    if at >= array.len() || array.is_null(at) {
        return None;
    }
    let instant = |value: i64, unit: i64, zoned: bool| {
        let micros = match value {
            POSITIVE_INFINITY | NEGATIVE_INFINITY => value,
            value => value.checked_mul(unit)?,
        };
        Some(if zoned { Value::Instant(micros) } else { Value::DateTime(micros) })
    };
    Some(match array.data_type() {
        DataType::Boolean => Value::Boolean(array.as_boolean().value(at)),
        DataType::Int16 => Value::Integer(i64::from(array.as_primitive::<Int16Type>().value(at))),
        DataType::Int32 => Value::Integer(i64::from(array.as_primitive::<Int32Type>().value(at))),
        DataType::Int64 => Value::Integer(array.as_primitive::<Int64Type>().value(at)),
        DataType::Utf8 => Value::Text(array.as_string::<i32>().value(at).to_owned()),
        DataType::Date32 => Value::Date(array.as_primitive::<Date32Type>().value(at)),
        DataType::Timestamp(unit, zone) => {
            let zoned = zone.is_some();
            match unit {
                TimeUnit::Second => {
                    instant(array.as_primitive::<TimestampSecondType>().value(at), 1_000_000, zoned)?
                }
                TimeUnit::Millisecond => {
                    instant(array.as_primitive::<TimestampMillisecondType>().value(at), 1_000, zoned)?
                }
                TimeUnit::Microsecond => {
                    instant(array.as_primitive::<TimestampMicrosecondType>().value(at), 1, zoned)?
                }
                TimeUnit::Nanosecond => return None,
            }
        }
        _ => return None,
    })
}
