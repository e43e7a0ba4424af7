//! Writes the values of one column of a batch as text, for any text format.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array, PrimitiveArray,
    RecordBatch, StringArray,
};
use arrow_buffer::{NullBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, TimeUnit};
use base64::Engine;
use landreeve_core::schema::{LogicalType, logical_type};

use super::time::{self, Unit, ZoneClock};

/// What the text of a value needs in quoting and escaping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Digits, `true`: nothing.
    Bare,
    /// Text without characters that any format must escape.
    Plain,
    /// Any text.
    Free,
    /// A JSON document, probably.
    Json,
}

enum Values<'a> {
    Bool(&'a BooleanArray),
    Int8(&'a PrimitiveArray<Int8Type>),
    Int16(&'a PrimitiveArray<Int16Type>),
    Int32(&'a PrimitiveArray<Int32Type>),
    Int64(&'a PrimitiveArray<Int64Type>),
    UInt8(&'a PrimitiveArray<UInt8Type>),
    UInt16(&'a PrimitiveArray<UInt16Type>),
    UInt32(&'a PrimitiveArray<UInt32Type>),
    UInt64(&'a PrimitiveArray<UInt64Type>),
    Float32(&'a PrimitiveArray<Float32Type>),
    Float64(&'a PrimitiveArray<Float64Type>),
    Decimal128(&'a Decimal128Array),
    Decimal256(&'a Decimal256Array),
    Text(&'a StringArray),
    Binary(&'a BinaryArray),
    Date(&'a PrimitiveArray<Date32Type>),
    Time32(ScalarBuffer<i32>, Unit),
    Time64(ScalarBuffer<i64>, Unit),
    DateTime(ScalarBuffer<i64>, Unit),
    Instant(ScalarBuffer<i64>, Unit),
    Null,
}

pub(super) struct Cells<'a> {
    values: Values<'a>,
    nulls: Option<&'a NullBuffer>,
    is_json: bool,
}

fn micros(array: &ArrayRef, unit: TimeUnit) -> (ScalarBuffer<i64>, Unit) {
    match unit {
        TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().values().clone(), Unit::Seconds),
        TimeUnit::Millisecond => {
            (array.as_primitive::<TimestampMillisecondType>().values().clone(), Unit::Millis)
        }
        TimeUnit::Microsecond => {
            (array.as_primitive::<TimestampMicrosecondType>().values().clone(), Unit::Micros)
        }
        TimeUnit::Nanosecond => {
            (array.as_primitive::<TimestampNanosecondType>().values().clone(), Unit::Nanos)
        }
    }
}

impl<'a> Cells<'a> {
    /// A column of a type that no driver produces is an error; its text is never guessed.
    pub fn of(field: &Field, array: &'a ArrayRef) -> std::io::Result<Cells<'a>> {
        let values = match array.data_type() {
            DataType::Boolean => Values::Bool(array.as_boolean()),
            DataType::Int8 => Values::Int8(array.as_primitive()),
            DataType::Int16 => Values::Int16(array.as_primitive()),
            DataType::Int32 => Values::Int32(array.as_primitive()),
            DataType::Int64 => Values::Int64(array.as_primitive()),
            DataType::UInt8 => Values::UInt8(array.as_primitive()),
            DataType::UInt16 => Values::UInt16(array.as_primitive()),
            DataType::UInt32 => Values::UInt32(array.as_primitive()),
            DataType::UInt64 => Values::UInt64(array.as_primitive()),
            DataType::Float32 => Values::Float32(array.as_primitive()),
            DataType::Float64 => Values::Float64(array.as_primitive()),
            DataType::Decimal128(..) => Values::Decimal128(array.as_primitive::<Decimal128Type>()),
            DataType::Decimal256(..) => Values::Decimal256(array.as_primitive::<Decimal256Type>()),
            DataType::Utf8 => Values::Text(array.as_string()),
            DataType::Binary => Values::Binary(array.as_binary()),
            DataType::Date32 => Values::Date(array.as_primitive()),
            DataType::Time32(TimeUnit::Second) => {
                Values::Time32(array.as_primitive::<Time32SecondType>().values().clone(), Unit::Seconds)
            }
            DataType::Time32(_) => {
                Values::Time32(array.as_primitive::<Time32MillisecondType>().values().clone(), Unit::Millis)
            }
            DataType::Time64(TimeUnit::Microsecond) => {
                Values::Time64(array.as_primitive::<Time64MicrosecondType>().values().clone(), Unit::Micros)
            }
            DataType::Time64(_) => {
                Values::Time64(array.as_primitive::<Time64NanosecondType>().values().clone(), Unit::Nanos)
            }
            DataType::Timestamp(unit, zone) => {
                let (values, unit) = micros(array, *unit);
                if zone.is_some() { Values::Instant(values, unit) } else { Values::DateTime(values, unit) }
            }
            DataType::Null => Values::Null,
            other => {
                return Err(std::io::Error::new(
                    std::io::ErrorKind::Unsupported,
                    format!("the column {} has the type {other}, which has no text form", field.name()),
                ));
            }
        };
        Ok(Cells { values, nulls: array.nulls(), is_json: logical_type(field) == LogicalType::Json })
    }

    pub fn of_batch(batch: &'a RecordBatch) -> std::io::Result<Vec<Cells<'a>>> {
        let fields = batch.schema_ref().fields();
        fields.iter().zip(batch.columns()).map(|(field, array)| Cells::of(field, array)).collect()
    }

    pub fn is_null(&self, row: usize) -> bool {
        matches!(self.values, Values::Null) || self.nulls.is_some_and(|nulls| nulls.is_null(row))
    }

    /// The bytes of a value that is written as base64.
    pub fn binary(&self, row: usize) -> Option<&'a [u8]> {
        match &self.values {
            Values::Binary(array) => Some(array.value(row)),
            _ => None,
        }
    }

    /// The text of a value that has to be copied and escaped; `None` if `write` produces it.
    pub fn borrowed(&self, row: usize) -> Option<(&'a str, Shape)> {
        match &self.values {
            Values::Text(array) => {
                Some((array.value(row), if self.is_json { Shape::Json } else { Shape::Free }))
            }
            _ => None,
        }
    }

    /// The shape of this column's values, except those that `borrowed` returns.
    pub fn shape(&self, row: usize) -> Shape {
        match &self.values {
            Values::Bool(_)
            | Values::Int8(_)
            | Values::Int16(_)
            | Values::Int32(_)
            | Values::Int64(_)
            | Values::UInt8(_)
            | Values::UInt16(_)
            | Values::UInt32(_) => Shape::Bare,
            Values::Float32(array) if array.value(row).is_finite() => Shape::Bare,
            Values::Float64(array) if array.value(row).is_finite() => Shape::Bare,
            Values::Text(_) => Shape::Free,
            _ => Shape::Plain,
        }
    }

    pub fn write(&self, row: usize, zone: &mut ZoneClock, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        match &self.values {
            Values::Bool(array) => {
                out.extend_from_slice(if array.value(row) { b"true".as_slice() } else { b"false" });
            }
            Values::Int8(array) => out.extend_from_slice(digits.format(array.value(row)).as_bytes()),
            Values::Int16(array) => out.extend_from_slice(digits.format(array.value(row)).as_bytes()),
            Values::Int32(array) => out.extend_from_slice(digits.format(array.value(row)).as_bytes()),
            Values::Int64(array) => out.extend_from_slice(digits.format(array.value(row)).as_bytes()),
            Values::UInt8(array) => out.extend_from_slice(digits.format(array.value(row)).as_bytes()),
            Values::UInt16(array) => out.extend_from_slice(digits.format(array.value(row)).as_bytes()),
            Values::UInt32(array) => out.extend_from_slice(digits.format(array.value(row)).as_bytes()),
            Values::UInt64(array) => out.extend_from_slice(digits.format(array.value(row)).as_bytes()),
            Values::Float32(array) => float(array.value(row), f32::is_finite, f32::is_nan, out),
            Values::Float64(array) => float(array.value(row), f64::is_finite, f64::is_nan, out),
            Values::Decimal128(array) => {
                let value = array.value(row);
                decimal(value < 0, digits.format(value.unsigned_abs()), array.scale(), out);
            }
            Values::Decimal256(array) => {
                let text = array.value(row).to_string();
                let plain = text.strip_prefix('-').unwrap_or(&text);
                decimal(text.len() != plain.len(), plain, array.scale(), out);
            }
            Values::Text(array) => out.extend_from_slice(array.value(row).as_bytes()),
            Values::Binary(array) => base64(array.value(row), out),
            Values::Date(array) => time::date(out, array.value(row)),
            Values::Time32(values, unit) => time::time_of_day(out, i64::from(values[row]), *unit),
            Values::Time64(values, unit) => time::time_of_day(out, values[row], *unit),
            Values::DateTime(values, unit) => time::date_time(out, values[row], *unit),
            Values::Instant(values, unit) => zone.instant(out, values[row], *unit),
            Values::Null => (),
        }
    }
}

fn float<F: zmij::Float + PartialOrd + Default + Copy>(
    value: F,
    is_finite: fn(F) -> bool,
    is_nan: fn(F) -> bool,
    out: &mut Vec<u8>,
) {
    if is_finite(value) {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else if is_nan(value) {
        out.extend_from_slice(b"NaN");
    } else {
        out.extend_from_slice(if value > F::default() { b"Infinity".as_slice() } else { b"-Infinity" });
    }
}

/// Inserts the decimal point into an integer's digits.
fn decimal(negative: bool, digits: &str, scale: i8, out: &mut Vec<u8>) {
    if negative {
        out.push(b'-');
    }
    let Ok(scale) = usize::try_from(scale) else {
        out.extend_from_slice(digits.as_bytes());
        out.extend(std::iter::repeat_n(b'0', usize::from(scale.unsigned_abs())));
        return;
    };
    let bytes = digits.as_bytes();
    if scale == 0 {
        out.extend_from_slice(bytes);
        return;
    }
    let whole = bytes.len().saturating_sub(scale);
    if whole == 0 {
        out.push(b'0');
    } else {
        out.extend_from_slice(&bytes[..whole]);
    }
    out.push(b'.');
    out.extend(std::iter::repeat_n(b'0', scale.saturating_sub(bytes.len())));
    out.extend_from_slice(&bytes[whole..]);
}

pub(super) fn base64(value: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + value.len().div_ceil(3) * 4, 0);
    // The length above is exactly the length of padded base64.
    let written =
        base64::engine::general_purpose::STANDARD.encode_slice(value, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
}
