//! Rows in the binary form of COPY, which costs the server about half of what text does. Not every type has one that we
//! write; a table with another type is written as text.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampSecondType,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use landreeve_core::schema;
use landreeve_core::source::SourceError;
use postgres_types::{Kind, Type};

use super::decode::{EPOCH_DAYS, EPOCH_MICROS};
use super::numeric;
use crate::errors;

/// What comes before all rows: a signature, no flags, no extension.
pub(super) const HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What follows them.
pub(super) const END: &[u8] = &[0xff, 0xff];

const NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// Appends one value, which is not null, without its length. `None` if it is none of the type.
type Write<'a> = Box<dyn Fn(usize, &mut Vec<u8>) -> Option<()> + Send + 'a>;

/// Whether every column has a binary form.
pub(super) fn has_all(types: &[Type], batch: &RecordBatch) -> bool {
    types.len() == batch.num_columns()
        && i16::try_from(types.len()).is_ok()
        && types.iter().zip(batch.columns()).all(|(ty, column)| writer(ty, column).is_some())
}

/// Appends the rows of a batch.
pub(super) fn rows(types: &[Type], batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), SourceError> {
    let columns: Vec<(&ArrayRef, Write<'_>)> = types
        .iter()
        .zip(batch.columns())
        .filter_map(|(ty, column)| Some((column, writer(ty, column)?)))
        .collect();
    let count = i16::try_from(columns.len()).unwrap_or(i16::MAX);
    for row in 0..batch.num_rows() {
        out.extend(count.to_be_bytes());
        for (index, (column, write)) in columns.iter().enumerate() {
            if column.is_null(row) {
                out.extend(NULL);
                continue;
            }
            let begin = out.len();
            out.extend([0; 4]);
            let length = write(row, out).and_then(|()| i32::try_from(out.len() - begin - 4).ok());
            let (Some(length), Some(place)) = (length, out.get_mut(begin..begin + 4)) else {
                return Err(unwritable(batch, index));
            };
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
    Ok(())
}

fn unwritable(batch: &RecordBatch, column: usize) -> SourceError {
    let schema = batch.schema();
    let name = schema.fields().get(column).map_or("?", |field| field.name().as_str());
    errors::unsupported(format!("a value of the column \"{name}\" is none of its type"))
}

fn writer<'a>(ty: &Type, column: &'a ArrayRef) -> Option<Write<'a>> {
    /// A number, in the order of bytes of networks.
    macro_rules! numbers {
        ($type:ty) => {{
            let values = column.as_primitive::<$type>();
            Box::new(move |row, out: &mut Vec<u8>| put(values.value(row).to_be_bytes(), out)) as _
        }};
    }
    /// A point in time of so many microseconds a unit.
    macro_rules! instants {
        ($type:ty, $unit:expr) => {{
            let values = column.as_primitive::<$type>();
            Box::new(move |row, out: &mut Vec<u8>| put(instant(values.value(row), $unit)?.to_be_bytes(), out))
                as _
        }};
    }
    macro_rules! times {
        ($type:ty, $unit:expr) => {{
            let values = column.as_primitive::<$type>();
            Box::new(move |row, out: &mut Vec<u8>| {
                put((i64::from(values.value(row)) * $unit).to_be_bytes(), out)
            }) as _
        }};
    }
    /// What a text stands for.
    macro_rules! texts {
        ($write:expr) => {{
            let values = column.as_string::<i32>();
            Box::new(move |row, out: &mut Vec<u8>| $write(values.value(row), out)) as _
        }};
    }
    Some(match (ty, column.data_type()) {
        (&Type::BOOL, DataType::Boolean) => {
            let values = column.as_boolean();
            Box::new(move |row, out| put([u8::from(values.value(row))], out))
        }
        (&Type::INT2, DataType::Int16) => numbers!(Int16Type),
        (&Type::INT4, DataType::Int32) => numbers!(Int32Type),
        (&Type::INT8, DataType::Int64) => numbers!(Int64Type),
        (&Type::OID | &Type::XID | &Type::CID, DataType::Int64) => {
            let values = column.as_primitive::<Int64Type>();
            Box::new(move |row, out| put(u32::try_from(values.value(row)).ok()?.to_be_bytes(), out))
        }
        (&Type::FLOAT4, DataType::Float32) => numbers!(Float32Type),
        (&Type::FLOAT8, DataType::Float64) => numbers!(Float64Type),
        (&Type::TEXT | &Type::VARCHAR | &Type::BPCHAR | &Type::NAME | &Type::JSON, DataType::Utf8) => {
            texts!(put)
        }
        (ty, DataType::Utf8) if matches!(ty.kind(), Kind::Enum(_)) => texts!(put),
        (&Type::JSONB, DataType::Utf8) => texts!(|value, out: &mut Vec<u8>| {
            out.push(1);
            put(value, out)
        }),
        (&Type::NUMERIC, DataType::Utf8) => texts!(numeric::encode),
        (&Type::UUID, DataType::Utf8) => texts!(uuid),
        (&Type::BYTEA, DataType::Binary) => {
            let values = column.as_binary::<i32>();
            Box::new(move |row, out| put(values.value(row), out))
        }
        (&Type::DATE, DataType::Date32) => {
            let values = column.as_primitive::<Date32Type>();
            Box::new(move |row, out| put(date(values.value(row))?.to_be_bytes(), out))
        }
        (&Type::TIMESTAMP | &Type::TIMESTAMPTZ, DataType::Timestamp(unit, _)) => match unit {
            TimeUnit::Second => instants!(TimestampSecondType, 1_000_000),
            TimeUnit::Millisecond => instants!(TimestampMillisecondType, 1_000),
            TimeUnit::Microsecond => instants!(TimestampMicrosecondType, 1),
            TimeUnit::Nanosecond => return None,
        },
        (&Type::TIME, DataType::Time32(TimeUnit::Second)) => times!(Time32SecondType, 1_000_000),
        (&Type::TIME, DataType::Time32(TimeUnit::Millisecond)) => times!(Time32MillisecondType, 1_000),
        (&Type::TIME, DataType::Time64(TimeUnit::Microsecond)) => times!(Time64MicrosecondType, 1),
        _ => return None,
    })
}

fn put(value: impl AsRef<[u8]>, out: &mut Vec<u8>) -> Option<()> {
    out.extend(value.as_ref());
    Some(())
}

fn uuid(value: &str, out: &mut Vec<u8>) -> Option<()> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut digits = value.bytes().filter(|byte| *byte != b'-').map(digit);
    let begin = out.len();
    while let Some(high) = digits.next() {
        out.push(high? << 4 | digits.next()??);
    }
    (out.len() - begin == 16).then_some(())
}

fn date(days: i32) -> Option<i32> {
    match days {
        schema::POSITIVE_INFINITY_DAY => Some(i32::MAX),
        schema::NEGATIVE_INFINITY_DAY => Some(i32::MIN),
        days => days.checked_sub(EPOCH_DAYS),
    }
}

/// Microseconds since 2000.
fn instant(value: i64, unit: i64) -> Option<i64> {
    match value {
        schema::POSITIVE_INFINITY => Some(i64::MAX),
        schema::NEGATIVE_INFINITY => Some(i64::MIN),
        // In its own unit, because the last years overflow as microseconds since 1970.
        value => value.checked_sub(EPOCH_MICROS / unit)?.checked_mul(unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_sixteen_bytes() {
        let mut out = Vec::new();
        assert_eq!(uuid("00112233-4455-6677-8899-aabbccddeeff", &mut out), Some(()));
        assert_eq!(out, (0_u8..16).map(|digit| digit << 4 | digit).collect::<Vec<_>>());
        for bad in
            ["", "0011", "00112233-4455-6677-8899-aabbccddeeffa", "g0112233-4455-6677-8899-aabbccddeeff"]
        {
            assert_eq!(uuid(bad, &mut Vec::new()), None, "{bad}");
        }
    }

    #[test]
    fn times_are_since_2000() {
        assert_eq!(date(EPOCH_DAYS), Some(0));
        assert_eq!(date(schema::POSITIVE_INFINITY_DAY), Some(i32::MAX));
        assert_eq!(date(schema::NEGATIVE_INFINITY_DAY), Some(i32::MIN));
        assert_eq!(date(i32::MIN + 1), None);
        assert_eq!(instant(EPOCH_MICROS, 1), Some(0));
        assert_eq!(instant(EPOCH_MICROS / 1_000_000 - 1, 1_000_000), Some(-1_000_000));
        assert_eq!(instant(schema::POSITIVE_INFINITY, 1_000), Some(i64::MAX));
        assert_eq!(instant(i64::MAX - 1, 1_000), None);
    }
}
