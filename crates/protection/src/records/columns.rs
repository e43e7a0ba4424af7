//! Columns as they are kept, in the types that SQL knows: numbers that are kept as text with every digit become decimals,
//! times microseconds.

use std::sync::Arc;

use arrow_array::builder::Decimal128Builder;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array as _, ArrayRef};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Field, TimeUnit};
use landreeve_core::decimal;
use landreeve_core::schema::{
    LogicalType, NEGATIVE_INFINITY, POSITIVE_INFINITY, ZERO_DATE, logical_type, native_type,
};

/// Of decimals whose size is not declared, or is greater than 38 digits.
const DECIMAL: (u8, i8) = (38, 20);

/// The column as it is shown.
pub fn shown(stored: &Field) -> Field {
    let data_type = match (stored.data_type(), logical_type(stored)) {
        (DataType::Utf8, LogicalType::Decimal) => {
            let (precision, scale) = size(native_type(stored)).unwrap_or(DECIMAL);
            DataType::Decimal128(precision, scale)
        }
        (DataType::Timestamp(_, zone), _) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        (DataType::UInt64, _) => DataType::Decimal128(20, 0),
        (DataType::UInt8 | DataType::UInt16 | DataType::UInt32, _) => DataType::Int64,
        (DataType::Int8, _) => DataType::Int16,
        (other, _) => other.clone(),
    };
    stored.clone().with_data_type(data_type)
}

/// Whether the order of the values that are kept is that of those shown.
pub fn is_comparable(stored: &Field) -> bool {
    match stored.data_type() {
        DataType::Utf8 => logical_type(stored) != LogicalType::Decimal,
        DataType::Boolean
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Date32
        | DataType::Timestamp(..) => true,
        _ => false,
    }
}

/// Precision and scale of `numeric(12,2)`.
fn size(native: &str) -> Option<(u8, i8)> {
    let (_, rest) = native.split_once('(')?;
    let (inside, _) = rest.split_once(')')?;
    let (precision, scale) = inside.split_once(',').unwrap_or((inside, "0"));
    let (precision, scale) = (precision.trim().parse::<u8>().ok()?, scale.trim().parse::<i8>().ok()?);
    let fits = (1..=38).contains(&precision) && (0..=i8::try_from(precision).ok()?).contains(&scale);
    fits.then_some((precision, scale))
}

/// The values as they are shown. The message is for the user.
pub fn convert(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    if column.data_type() == to {
        return Ok(Arc::clone(column));
    }
    match (column.data_type(), to) {
        (DataType::Utf8, DataType::Decimal128(precision, scale)) => decimals(column, *precision, *scale),
        (DataType::Timestamp(unit, _), DataType::Timestamp(TimeUnit::Microsecond, zone)) => {
            moments(column, *unit, zone.clone())
        }
        _ => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(column, to, &options).map_err(|error| error.to_string())
        }
    }
}

fn decimals(column: &ArrayRef, precision: u8, scale: i8) -> Result<ArrayRef, String> {
    let builder = Decimal128Builder::with_capacity(column.len()).with_precision_and_scale(precision, scale);
    let mut builder = builder.map_err(|error| error.to_string())?;
    for text in column.as_string::<i32>() {
        match text.map(|text| (text, decimal::parse(text, precision, scale))) {
            None => builder.append_null(),
            Some((_, Some(value))) => builder.append_value(value),
            Some((text, None)) => {
                let start: String = text.chars().take(50).collect();
                return Err(format!(
                    "{start} is no decimal({precision},{scale}); restore the table to read it"
                ));
            }
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// Dates that are no dates (zero, infinite) stay what they are.
fn moments(column: &ArrayRef, unit: TimeUnit, zone: Option<Arc<str>>) -> Result<ArrayRef, String> {
    let factor = match unit {
        TimeUnit::Second => 1_000_000,
        TimeUnit::Millisecond => 1_000,
        _ => 1,
    };
    let numbers = cast_with_options(column, &DataType::Int64, &CastOptions::default());
    let numbers = numbers.map_err(|error| error.to_string())?;
    let moments = numbers.as_primitive::<Int64Type>().try_unary::<_, TimestampMicrosecondType, _>(|value| {
        match value {
            ZERO_DATE | NEGATIVE_INFINITY | POSITIVE_INFINITY => Some(value),
            value => value.checked_mul(factor),
        }
        .ok_or_else(|| "a time is out of range".to_owned())
    });
    Ok(Arc::new(moments?.with_timezone_opt(zone)))
}

#[cfg(test)]
mod tests {
    use arrow_array::types::Decimal128Type;
    use arrow_array::{StringArray, TimestampSecondArray};
    use landreeve_core::schema::describe;

    use super::*;

    #[test]
    fn decimals_have_the_size_that_was_declared() {
        for (native, wanted) in [
            ("numeric(12,2)", (12, 2)),
            ("decimal(38,0)", (38, 0)),
            ("numeric(5)", (5, 0)),
            ("numeric", DECIMAL),
            ("numeric(39,2)", DECIMAL),
            ("numeric(5,-2)", DECIMAL),
            ("numeric(2,5)", DECIMAL),
        ] {
            let field = describe(Field::new("n", DataType::Utf8, true), LogicalType::Decimal, native);
            assert_eq!(shown(&field).data_type(), &DataType::Decimal128(wanted.0, wanted.1), "{native}");
        }
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("1.50"), None, Some("-0.01")]));
        let converted = convert(&texts, &DataType::Decimal128(12, 2)).unwrap();
        assert_eq!(
            converted.as_primitive::<Decimal128Type>().iter().collect::<Vec<_>>(),
            [Some(150), None, Some(-1)]
        );
        let nan: ArrayRef = Arc::new(StringArray::from(vec!["NaN"]));
        assert!(
            convert(&nan, &DataType::Decimal128(12, 2)).unwrap_err().starts_with("NaN is no decimal(12,2)")
        );
    }

    #[test]
    fn times_are_microseconds() {
        let stored: ArrayRef = Arc::new(TimestampSecondArray::from(vec![
            Some(1),
            None,
            Some(POSITIVE_INFINITY),
            Some(ZERO_DATE),
        ]));
        let converted = convert(&stored, &DataType::Timestamp(TimeUnit::Microsecond, None)).unwrap();
        let values: Vec<_> = converted.as_primitive::<TimestampMicrosecondType>().iter().collect();
        assert_eq!(values, [Some(1_000_000), None, Some(POSITIVE_INFINITY), Some(ZERO_DATE)]);
        let late: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX / 2]));
        assert!(convert(&late, &DataType::Timestamp(TimeUnit::Microsecond, None)).is_err());
    }
}
