//! Rows of a backup as parameters of a statement. Every value goes back exactly as it was read.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampSecondType, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use jiff::civil;
use landreeve_core::schema;
use landreeve_core::source::SourceError;
use mysql_async::Value;

use crate::errors;

/// One value, which is not null. `None`: it is not in the calendar.
type Take<'a> = Box<dyn Fn(usize) -> Option<Value> + Send + Sync + 'a>;

/// The values of a column.
pub(super) struct Values<'a> {
    column: &'a ArrayRef,
    name: &'a str,
    take: Take<'a>,
}

impl<'a> Values<'a> {
    pub fn new(column: &'a ArrayRef, name: &'a str) -> Result<Values<'a>, SourceError> {
        Ok(Values { column, name, take: taker(column)? })
    }

    pub fn get(&self, row: usize) -> Result<Value, SourceError> {
        if self.column.is_null(row) {
            return Ok(Value::NULL);
        }
        (self.take)(row).ok_or_else(|| {
            errors::unsupported(format!(
                "a value of the column \"{}\" is not a date of the calendar",
                self.name
            ))
        })
    }

    /// Bytes are taken as hexadecimal digits from now on, if this has bytes.
    pub fn as_digits(&mut self) -> bool {
        let Some(values) = self.column.as_binary_opt::<i32>() else { return false };
        self.take = Box::new(move |row| Some(Value::Bytes(digits(values.value(row)))));
        true
    }
}

fn digits(bytes: &[u8]) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    bytes.iter().flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]).collect()
}

fn taker(column: &ArrayRef) -> Result<Take<'_>, SourceError> {
    macro_rules! plain {
        ($type:ty, $value:expr) => {{
            let values = column.as_primitive::<$type>();
            Box::new(move |row| Some($value(values.value(row).into())))
        }};
    }
    macro_rules! decimals {
        ($type:ty) => {{
            let values = column.as_primitive::<$type>();
            Box::new(move |row| Some(Value::Bytes(values.value_as_string(row).into_bytes())))
        }};
    }
    /// A point in time of so many units a second.
    macro_rules! instants {
        ($type:ty, $units:expr) => {{
            let values = column.as_primitive::<$type>();
            Box::new(move |row| timestamp(values.value(row), $units))
        }};
    }
    Ok(match column.data_type() {
        DataType::Boolean => {
            let values = column.as_boolean();
            Box::new(move |row| Some(Value::Int(values.value(row).into())))
        }
        DataType::Int16 => plain!(Int16Type, Value::Int),
        DataType::Int32 => plain!(Int32Type, Value::Int),
        DataType::Int64 => plain!(Int64Type, Value::Int),
        DataType::UInt64 => plain!(UInt64Type, Value::UInt),
        DataType::Float32 => plain!(Float32Type, Value::Float),
        DataType::Float64 => plain!(Float64Type, Value::Double),
        DataType::Decimal128(..) => decimals!(Decimal128Type),
        DataType::Decimal256(..) => decimals!(Decimal256Type),
        DataType::Utf8 => {
            let values = column.as_string::<i32>();
            Box::new(move |row| Some(Value::Bytes(values.value(row).as_bytes().to_owned())))
        }
        DataType::Binary => {
            let values = column.as_binary::<i32>();
            Box::new(move |row| Some(Value::Bytes(values.value(row).to_owned())))
        }
        DataType::Date32 => {
            let values = column.as_primitive::<Date32Type>();
            Box::new(move |row| match values.value(row) {
                schema::ZERO_DAY => Some(ZERO),
                days => moment(i64::from(days), 0, 0),
            })
        }
        DataType::Timestamp(TimeUnit::Second, _) => instants!(TimestampSecondType, 1),
        DataType::Timestamp(TimeUnit::Millisecond, _) => instants!(TimestampMillisecondType, 1_000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => instants!(TimestampMicrosecondType, 1_000_000),
        other => {
            return Err(errors::unsupported(format!("values of {other} cannot be written to MySQL")));
        }
    })
}

const ZERO: Value = Value::Date(0, 0, 0, 0, 0, 0, 0);

fn timestamp(value: i64, units: i64) -> Option<Value> {
    if value == schema::ZERO_DATE {
        return Some(ZERO);
    }
    let (seconds, fraction) = (value.div_euclid(units), value.rem_euclid(units));
    let micros = u32::try_from(fraction * (1_000_000 / units)).ok()?;
    moment(seconds.div_euclid(86_400), seconds.rem_euclid(86_400), micros)
}

fn moment(days: i64, seconds: i64, micros: u32) -> Option<Value> {
    let date = civil::date(1970, 1, 1).checked_add(jiff::Span::new().try_days(days).ok()?).ok()?;
    let year = u16::try_from(date.year()).ok()?;
    let (month, day) = (u8::try_from(date.month()).ok()?, u8::try_from(date.day()).ok()?);
    let part = |value: i64| u8::try_from(value).ok();
    let (hour, minute, second) = (part(seconds / 3_600)?, part(seconds / 60 % 60)?, part(seconds % 60)?);
    Some(Value::Date(year, month, day, hour, minute, second, micros))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Date32Array, TimestampMillisecondArray, UInt32Array};

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let days = Date32Array::from(vec![
            Some(0),
            Some(-719_162),
            Some(2_932_896),
            Some(schema::ZERO_DAY),
            None,
            Some(2_932_897),
        ]);
        let column: ArrayRef = Arc::new(days);
        let values = Values::new(&column, "d").unwrap();
        assert_eq!(values.get(0).unwrap(), Value::Date(1970, 1, 1, 0, 0, 0, 0));
        assert_eq!(values.get(1).unwrap(), Value::Date(1, 1, 1, 0, 0, 0, 0));
        assert_eq!(values.get(2).unwrap(), Value::Date(9999, 12, 31, 0, 0, 0, 0));
        assert_eq!(values.get(3).unwrap(), ZERO);
        assert_eq!(values.get(4).unwrap(), Value::NULL);
        assert!(values.get(5).unwrap_err().message.contains("\"d\""));
        let column: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![-1, schema::ZERO_DATE]));
        let values = Values::new(&column, "t").unwrap();
        assert_eq!(values.get(0).unwrap(), Value::Date(1969, 12, 31, 23, 59, 59, 999_000));
        assert_eq!(values.get(1).unwrap(), ZERO);
        let column: ArrayRef = Arc::new(UInt32Array::from(vec![1]));
        assert!(Values::new(&column, "x").is_err());
    }
}
