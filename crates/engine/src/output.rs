//! Converts results to the types that the rest of the server knows, and marks each column with its meaning.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{DurationMicrosecondType, IntervalMonthDayNanoType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_json::writer::{EncoderOptions, make_encoder};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use landreeve_core::schema::{LogicalType, describe, logical_type};
use landreeve_core::source::SourceError;

use crate::bounds::sizes::{Sizes, all};
use crate::error::query as fault;

/// Maximum size of a row, in values of the maximum size.
const MAX_ROW_VALUES: u64 = 8;
/// Size of a part; a single row may be larger.
const PART_BYTES: u64 = 8 * 1_024 * 1_024;

fn too_large(what: &str, bytes: u64, max: u64) -> SourceError {
    let message = format!("{what} has {bytes} bytes; the limit is {max} ([engine] max_value_bytes)");
    fault("too_large", message)
}

/// How each column of a plan becomes a column of a result.
pub struct Columns {
    schema: SchemaRef,
    ways: Vec<Way>,
}

#[derive(Debug, Clone, PartialEq)]
enum Way {
    Same,
    Cast(DataType),
    /// An interval or a duration, as ISO 8601 text.
    Interval,
    /// A list or a structure, as JSON.
    Json,
    /// Anything else, as the engine formats it.
    Text,
}

impl Columns {
    pub fn of(schema: &Schema) -> Result<Columns, SourceError> {
        let mut fields = Vec::new();
        let mut ways = Vec::new();
        for field in schema.fields() {
            let (way, shown, logical) = way(field.data_type());
            // A table says which of its texts are more than that. A cast keeps what the table said of another type.
            let logical = match (logical_type(field), logical) {
                (
                    told @ (LogicalType::Json | LogicalType::Uuid | LogicalType::Interval),
                    LogicalType::Text,
                ) => told,
                (_, logical) => logical,
            };
            let native = native_name(field.data_type());
            fields.push(describe(Field::new(field.name(), shown, true), logical, &native));
            ways.push(way);
        }
        Ok(Columns { schema: Arc::new(Schema::new(fields)), ways })
    }

    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The batch in parts of a bounded size: values that share a buffer are copied when they are converted.
    pub fn parts(batch: &RecordBatch, max_value: u64) -> Result<Vec<RecordBatch>, SourceError> {
        for (column, field) in batch.columns().iter().zip(batch.schema().fields()) {
            let largest = Sizes::of(column).largest();
            if largest > max_value {
                return Err(too_large(&format!("a value of column {}", field.name()), largest, max_value));
            }
        }
        let sizes = all(batch.columns());
        let (mut start, mut sum, mut parts) = (0, 0_u64, Vec::new());
        for row in 0..batch.num_rows() {
            let size = sizes.row(row);
            if size > max_value.saturating_mul(MAX_ROW_VALUES) {
                return Err(too_large("a row", size, max_value.saturating_mul(MAX_ROW_VALUES)));
            }
            if sum + size > PART_BYTES && row > start {
                parts.push(batch.slice(start, row - start));
                (start, sum) = (row, 0);
            }
            sum += size;
        }
        parts.push(batch.slice(start, batch.num_rows() - start));
        Ok(parts)
    }

    pub fn convert(&self, batch: &RecordBatch) -> Result<RecordBatch, SourceError> {
        let columns = batch.columns().iter().zip(&self.ways).map(|(array, way)| match way {
            Way::Same => Ok(Arc::clone(array)),
            Way::Cast(target) => cast(array, target).map_err(|error| fault("value", error.to_string())),
            Way::Interval => intervals(array),
            Way::Json => texts(array, true),
            Way::Text => texts(array, false),
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(self.schema(), columns).map_err(|error| fault("value", error.to_string()))
    }
}

fn way(from: &DataType) -> (Way, DataType, LogicalType) {
    let utc = || Some(Arc::from("UTC"));
    let micros = DataType::Timestamp(TimeUnit::Microsecond, utc());
    let local = DataType::Timestamp(TimeUnit::Microsecond, None);
    let cast_to = |to: DataType, logical| {
        let way = if *from == to { Way::Same } else { Way::Cast(to.clone()) };
        (way, to, logical)
    };
    match from {
        DataType::Boolean => cast_to(DataType::Boolean, LogicalType::Boolean),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            cast_to(from.clone(), LogicalType::Integer)
        }
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => {
            cast_to(DataType::Int64, LogicalType::Integer)
        }
        DataType::UInt64 => cast_to(DataType::UInt64, LogicalType::UnsignedBig),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            cast_to(DataType::Float64, LogicalType::Number)
        }
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            cast_to(DataType::Decimal128(*precision, *scale), LogicalType::Decimal)
        }
        DataType::Decimal128(..) | DataType::Decimal256(..) => cast_to(from.clone(), LogicalType::Decimal),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
            cast_to(DataType::Utf8, LogicalType::Text)
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            cast_to(DataType::Binary, LogicalType::Binary)
        }
        DataType::Date32 | DataType::Date64 => cast_to(DataType::Date32, LogicalType::Date),
        DataType::Time32(_) | DataType::Time64(_) => {
            cast_to(DataType::Time64(TimeUnit::Microsecond), LogicalType::Time)
        }
        DataType::Timestamp(_, None) => cast_to(local, LogicalType::DateTime),
        DataType::Timestamp(_, Some(_)) => cast_to(micros, LogicalType::Instant),
        DataType::Duration(_) | DataType::Interval(_) => {
            (Way::Interval, DataType::Utf8, LogicalType::Interval)
        }
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::Struct(_)
        | DataType::Map(..) => (Way::Json, DataType::Utf8, LogicalType::Json),
        DataType::Dictionary(_, value) => {
            let (inner, shown, logical) = way(value);
            match inner {
                Way::Same | Way::Cast(_) => (Way::Cast(shown.clone()), shown, logical),
                Way::Interval | Way::Json | Way::Text => (Way::Text, DataType::Utf8, LogicalType::Other),
            }
        }
        _ => (Way::Text, DataType::Utf8, LogicalType::Other),
    }
}

/// PostgreSQL's name for the type.
fn native_name(from: &DataType) -> String {
    match from {
        DataType::Boolean => "boolean",
        DataType::Int8 | DataType::Int16 => "smallint",
        DataType::Int32 => "integer",
        DataType::Int64 | DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => "bigint",
        DataType::Float16 | DataType::Float32 | DataType::Float64 => "double precision",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Timestamp(_, None) => "timestamp without time zone",
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone",
        DataType::Duration(_) | DataType::Interval(_) => "interval",
        DataType::List(_) | DataType::LargeList(_) | DataType::Struct(_) => "json",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytea",
        DataType::Time32(_) | DataType::Time64(_) => "time without time zone",
        DataType::UInt64 => "numeric(20,0)",
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            return format!("numeric({precision},{scale})");
        }
        other => return other.to_string(),
    }
    .to_owned()
}

/// ISO 8601, as for intervals from every source.
fn intervals(array: &ArrayRef) -> Result<ArrayRef, SourceError> {
    let failed = |error: arrow_schema::ArrowError| fault("value", error.to_string());
    let mut texts = StringBuilder::new();
    if matches!(array.data_type(), DataType::Duration(_)) {
        let spans = cast(array, &DataType::Duration(TimeUnit::Microsecond)).map_err(failed)?;
        for micros in spans.as_primitive::<DurationMicrosecondType>() {
            texts.append_option(micros.map(|micros| iso(0, 0, i128::from(micros) * 1_000)));
        }
    } else {
        let spans =
            cast(array, &DataType::Interval(arrow_schema::IntervalUnit::MonthDayNano)).map_err(failed)?;
        for span in spans.as_primitive::<IntervalMonthDayNanoType>() {
            texts.append_option(span.map(|span| iso(span.months, span.days, i128::from(span.nanoseconds))));
        }
    }
    Ok(Arc::new(texts.finish()))
}

/// `P1Y2M3DT4H5M6.5S`; a negative part has its own sign.
fn iso(months: i32, days: i32, nanos: i128) -> String {
    let mut text = String::from("P");
    let mut part = |value: i128, unit: char| {
        if value != 0 {
            text.push_str(&format!("{value}{unit}"));
        }
    };
    part(i128::from(months / 12), 'Y');
    part(i128::from(months % 12), 'M');
    part(i128::from(days), 'D');
    let (hours, rest) = (nanos / 3_600_000_000_000, nanos % 3_600_000_000_000);
    let (minutes, rest) = (rest / 60_000_000_000, rest % 60_000_000_000);
    let mut time = String::new();
    if hours != 0 {
        time.push_str(&format!("{hours}H"));
    }
    if minutes != 0 {
        time.push_str(&format!("{minutes}M"));
    }
    if rest != 0 {
        let sign = if rest < 0 { "-" } else { "" };
        let (whole, fraction) = (rest.abs() / 1_000_000_000, rest.abs() % 1_000_000_000);
        let fraction = format!("{fraction:09}");
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() { "" } else { "." };
        time.push_str(&format!("{sign}{whole}{dot}{fraction}S"));
    }
    if !time.is_empty() {
        text.push('T');
        text.push_str(&time);
    }
    if text == "P" { "PT0S".to_owned() } else { text }
}

fn texts(array: &ArrayRef, json: bool) -> Result<ArrayRef, SourceError> {
    let failed = |error: arrow_schema::ArrowError| fault("value", error.to_string());
    let mut texts = StringBuilder::new();
    if json {
        let options = EncoderOptions::default();
        let field = Arc::new(Field::new("value", array.data_type().clone(), true));
        let mut encoder = make_encoder(&field, array.as_ref(), &options).map_err(failed)?;
        let mut bytes = Vec::new();
        for row in 0..array.len() {
            if array.is_null(row) {
                texts.append_null();
                continue;
            }
            bytes.clear();
            encoder.encode(row, &mut bytes);
            texts.append_value(String::from_utf8_lossy(&bytes));
        }
        return Ok(Arc::new(texts.finish()));
    }
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options).map_err(failed)?;
    for row in 0..array.len() {
        match array.is_null(row) {
            true => texts.append_null(),
            false => texts.append_value(formatter.value(row).try_to_string().map_err(failed)?),
        }
    }
    Ok(Arc::new(texts.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a table says of a column is kept by a cast of it.
    #[test]
    fn the_type_of_a_column_is_that_of_its_values() {
        for (told, data_type, expected) in [
            (LogicalType::Integer, DataType::Utf8, LogicalType::Text),
            (LogicalType::Instant, DataType::Utf8, LogicalType::Text),
            (LogicalType::Decimal, DataType::Int32, LogicalType::Integer),
            (LogicalType::Integer, DataType::Float64, LogicalType::Number),
            (LogicalType::Date, DataType::Timestamp(TimeUnit::Microsecond, None), LogicalType::DateTime),
            (LogicalType::Json, DataType::Int64, LogicalType::Integer),
            (LogicalType::Json, DataType::Utf8, LogicalType::Json),
            (LogicalType::Uuid, DataType::Utf8, LogicalType::Uuid),
            (LogicalType::Other, DataType::Utf8, LogicalType::Text),
        ] {
            let field = describe(Field::new("c", data_type.clone(), true), told, "as the table says");
            let columns = Columns::of(&Schema::new(vec![field])).unwrap();
            assert_eq!(logical_type(columns.schema().field(0)), expected, "{told:?} as {data_type}");
        }
    }

    #[test]
    fn intervals_are_iso_8601() {
        assert_eq!(iso(14, 3, 14_706_500_000_000), "P1Y2M3DT4H5M6.5S");
        assert_eq!(iso(0, 0, 0), "PT0S");
        assert_eq!(iso(0, -1, -500_000_000), "P-1DT-0.5S");
        assert_eq!(iso(0, 0, 90_000_000_000_000), "PT25H");
    }
}
