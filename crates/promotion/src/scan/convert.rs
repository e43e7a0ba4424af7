//! What a source returns as the types that a view declares. A value that does not fit is an error that says where.

use std::sync::Arc;

use arrow_array::builder::Decimal128Builder;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, SchemaRef, TimeUnit};
use landreeve_core::source::{SourceError, SourceErrorKind};
use landreeve_core::{decimal, schema};

/// Converts the columns of a batch, in order, to those of a schema.
pub fn batch(view: &str, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, SourceError> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        convert(column, field.data_type()).map_err(|why| fault(view, field.name(), &why))
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    if columns.len() < schema.fields().len() {
        return Err(fault(view, "", "the source returned fewer columns"));
    }
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| fault(view, "", &error.to_string()))
}

fn fault(view: &str, column: &str, why: &str) -> SourceError {
    let place =
        if column.is_empty() { format!("view {view}") } else { format!("view {view}, column {column}") };
    let error = SourceError::new(SourceErrorKind::Query, format!("{place}: {why}"));
    SourceError { code: Some("bad_value".to_owned()), ..error }
}

fn convert(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    if column.data_type() == to {
        return Ok(Arc::clone(column));
    }
    match (column.data_type(), to) {
        (DataType::Utf8, DataType::Decimal128(precision, scale)) => {
            decimals(column.as_string::<i32>().iter(), *precision, *scale)
        }
        // SQLite keeps decimals as floats: their shortest text is the number that was stored.
        (DataType::Float64, DataType::Decimal128(precision, scale)) => {
            let texts: Vec<Option<String>> = column
                .as_primitive::<Float64Type>()
                .iter()
                .map(|value| value.map(|value| value.to_string()))
                .collect();
            decimals(texts.iter().map(Option::as_deref), *precision, *scale)
        }
        // Dates that are no dates (zero, infinite) stay what they are.
        (
            DataType::Timestamp(unit @ (TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond), _),
            DataType::Timestamp(TimeUnit::Microsecond, zone),
        ) => {
            let factor = match unit {
                TimeUnit::Second => 1_000_000,
                TimeUnit::Millisecond => 1_000,
                _ => 1,
            };
            let special = [schema::ZERO_DATE, schema::NEGATIVE_INFINITY, schema::POSITIVE_INFINITY];
            moments(column, zone.clone(), |value| {
                if special.contains(&value) { Some(value) } else { value.checked_mul(factor) }
            })
        }
        (DataType::Date32, DataType::Timestamp(TimeUnit::Microsecond, zone)) => {
            moments(column, zone.clone(), |days| match i32::try_from(days).ok()? {
                schema::ZERO_DAY => Some(schema::ZERO_DATE),
                schema::NEGATIVE_INFINITY_DAY => Some(schema::NEGATIVE_INFINITY),
                schema::POSITIVE_INFINITY_DAY => Some(schema::POSITIVE_INFINITY),
                days => i64::from(days).checked_mul(MICROS_OF_DAY),
            })
        }
        (from, to) if lossless(from, to) => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(column, to, &options).map_err(|error| error.to_string())
        }
        (from, to) => Err(format!("the source has values of type {from}, which cannot become {to}")),
    }
}

const MICROS_OF_DAY: i64 = 86_400_000_000;

/// Times as microseconds; the function converts the number of a value.
fn moments(
    column: &ArrayRef,
    zone: Option<Arc<str>>,
    convert: impl Fn(i64) -> Option<i64>,
) -> Result<ArrayRef, String> {
    let numbers = cast_with_options(column, &DataType::Int64, &CastOptions::default());
    let numbers = numbers.map_err(|error| error.to_string())?;
    let converted =
        numbers.as_primitive::<Int64Type>().try_unary::<_, TimestampMicrosecondType, _>(|value| {
            convert(value).ok_or_else(|| "a time is out of range".to_owned())
        });
    Ok(Arc::new(converted?.with_timezone_opt(zone)))
}

/// Conversions that keep each value or fail.
fn lossless(from: &DataType, to: &DataType) -> bool {
    let whole = |data_type: &DataType| data_type.is_integer();
    match (from, to) {
        (DataType::Null, _) | (_, DataType::Utf8) => true,
        (from, to)
            if whole(from) && (whole(to) || matches!(to, DataType::Decimal128(..) | DataType::Float64)) =>
        {
            true
        }
        (from, DataType::Boolean) if whole(from) => true,
        (DataType::Boolean, to) if whole(to) => true,
        (from, to) if from.is_floating() && to.is_floating() => true,
        (DataType::Decimal128(..), DataType::Decimal128(..) | DataType::Float64) => true,
        (DataType::Utf8, to) => {
            whole(to)
                || to.is_floating()
                || matches!(
                    to,
                    DataType::Boolean | DataType::Date32 | DataType::Timestamp(..) | DataType::Time64(_)
                )
        }
        (DataType::Timestamp(..), DataType::Timestamp(..) | DataType::Date32) => true,
        (DataType::Time32(_) | DataType::Time64(_), DataType::Time64(_)) => true,
        (DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary, DataType::Binary) => true,
        _ => false,
    }
}

/// Numbers as text: how drivers return a decimal whose size they do not know.
fn decimals<'a>(
    texts: impl Iterator<Item = Option<&'a str>>,
    precision: u8,
    scale: i8,
) -> Result<ArrayRef, String> {
    let builder = Decimal128Builder::new().with_precision_and_scale(precision, scale);
    let mut builder = builder.map_err(|error| error.to_string())?;
    for text in texts {
        match text {
            None => builder.append_null(),
            Some(text) => match decimal::parse(text, precision, scale) {
                Some(value) => builder.append_value(value),
                None => return Err(format!("the value {text} is no decimal({precision},{scale})")),
            },
        }
    }
    Ok(Arc::new(builder.finish()))
}

#[cfg(test)]
mod tests {
    use arrow_array::{BooleanArray, Date32Array, Int16Array, Int64Array, StringArray, TimestampSecondArray};

    use super::*;

    #[test]
    fn what_does_not_fit_is_an_error_with_its_place() {
        let one = |data_type| {
            let field = arrow_schema::Field::new("total", data_type, true);
            Arc::new(arrow_schema::Schema::new(vec![field]))
        };
        let of = |column: ArrayRef, to: DataType| {
            let from = one(column.data_type().clone());
            let source = RecordBatch::try_new(from, vec![column]).unwrap();
            batch("sales.orders", &source, &one(to)).map(|batch| Arc::clone(batch.column(0)))
        };
        let small = of(Arc::new(Int16Array::from(vec![Some(1), None])), DataType::Int64).unwrap();
        assert_eq!(*small, *(Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef));
        let flags = of(Arc::new(Int64Array::from(vec![0, 7])), DataType::Boolean).unwrap();
        assert_eq!(*flags, *(Arc::new(BooleanArray::from(vec![false, true])) as ArrayRef));
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        let zero =
            of(Arc::new(TimestampSecondArray::from(vec![schema::ZERO_DATE, 2])), micros.clone()).unwrap();
        assert_eq!(*zero.as_primitive::<TimestampMicrosecondType>().values(), [schema::ZERO_DATE, 2_000_000]);
        let days = Date32Array::from(vec![schema::POSITIVE_INFINITY_DAY, 1]);
        let days = of(Arc::new(days), micros).unwrap();
        let expected = [schema::POSITIVE_INFINITY, MICROS_OF_DAY];
        assert_eq!(*days.as_primitive::<TimestampMicrosecondType>().values(), expected);
        for (column, to, message) in [
            (
                Arc::new(Int64Array::from(vec![1_i64 << 40])) as ArrayRef,
                DataType::Int32,
                "view sales.orders, column total: ",
            ),
            (Arc::new(StringArray::from(vec!["x"])), DataType::Int32, "view sales.orders, column total: "),
            (
                Arc::new(StringArray::from(vec!["1.234"])),
                DataType::Decimal128(5, 2),
                "the value 1.234 is no decimal(5,2)",
            ),
            (Arc::new(BooleanArray::from(vec![true])), DataType::Date32, "which cannot become Date32"),
            (
                Arc::new(TimestampSecondArray::from(vec![i64::MAX - 1])),
                DataType::Timestamp(TimeUnit::Microsecond, None),
                "a time is out of range",
            ),
        ] {
            let error = of(column, to).unwrap_err();
            assert!(error.message.contains(message), "{}", error.message);
        }
    }
}
