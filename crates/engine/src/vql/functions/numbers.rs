//! Functions on numbers. Those that round keep the type of their argument; the others work on doubles, and are NULL
//! where they have no result, never NaN.

use std::sync::Arc;

use arrow_array::builder::PrimitiveBuilder;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Decimal128Type, Float64Type, Int32Type, Int64Type};
use arrow_array::{ArrayRef, ArrowPrimitiveType, Decimal128Array, Float64Array, Int32Array, PrimitiveArray};
use arrow_schema::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs};

use super::{Definition, Rows, failed, never, number, shown, wrong};

const fn rounding(
    name: &'static str,
    coerce: fn(&[DataType]) -> Result<Vec<DataType>>,
    returns: fn(&ReturnFieldArgs<'_>) -> Result<DataType>,
    invoke: fn(&ScalarFunctionArgs) -> Result<ColumnarValue>,
) -> Definition {
    Definition { name, coerce, returns, invoke, is_same: never }
}

const fn double(
    name: &'static str,
    coerce: fn(&[DataType]) -> Result<Vec<DataType>>,
    invoke: fn(&ScalarFunctionArgs) -> Result<ColumnarValue>,
) -> Definition {
    Definition { name, coerce, returns: |_| Ok(DataType::Float64), invoke, is_same: never }
}

pub const ALL: &[Definition] = &[
    rounding(super::ABS, |types| numbers(super::ABS, types, false), same, abs),
    rounding(super::CEIL, |types| numbers(super::CEIL, types, false), rounded, |args| round(args, Way::Up)),
    rounding(
        super::FLOOR,
        |types| numbers(super::FLOOR, types, false),
        rounded,
        |args| round(args, Way::Down),
    ),
    rounding(
        super::ROUND,
        |types| numbers(super::ROUND, types, true),
        rounded,
        |args| round(args, Way::Half),
    ),
    rounding(
        super::TRUNC,
        |types| numbers(super::TRUNC, types, true),
        rounded,
        |args| round(args, Way::Zero),
    ),
    rounding(super::SIGN, |types| numbers(super::SIGN, types, false), |_| Ok(DataType::Int32), sign),
    double(
        super::EXP,
        |types| doubles(super::EXP, types, 1),
        |args| calculate(args, super::EXP, |x, _| Some(x.exp())),
    ),
    double(
        super::LN,
        |types| doubles(super::LN, types, 1),
        |args| calculate(args, super::LN, |x, _| (x > 0.0).then(|| x.ln())),
    ),
    double(super::LOG, |types| doubles(super::LOG, types, 2), |args| calculate(args, super::LOG, logarithm)),
    double(
        super::POWER,
        |types| doubles(super::POWER, types, 2),
        |args| calculate(args, super::POWER, power),
    ),
    double(
        super::SQRT,
        |types| doubles(super::SQRT, types, 1),
        |args| calculate(args, super::SQRT, |x, _| (x >= 0.0).then(|| x.sqrt())),
    ),
];

/// A number, and perhaps a number of digits.
fn numbers(name: &str, types: &[DataType], has_digits: bool) -> Result<Vec<DataType>> {
    match types {
        [value] => Ok(vec![number(name, value)?]),
        [value, digits] if has_digits && (digits.is_integer() || *digits == DataType::Null) => {
            Ok(vec![number(name, value)?, DataType::Int64])
        }
        _ => Err(wrong(format!("{} needs a number and whole digits", shown(name)))),
    }
}

fn doubles(name: &str, types: &[DataType], max: usize) -> Result<Vec<DataType>> {
    if types.is_empty() || types.len() > max {
        return Err(wrong(format!("{} needs {max} numbers", shown(name))));
    }
    types.iter().map(|kind| number(name, kind).map(|_| DataType::Float64)).collect()
}

fn same(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    Ok(args.arg_fields.first().map_or(DataType::Null, |field| field.data_type().clone()))
}

/// A decimal that is rounded to a known number of digits has that many.
fn rounded(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    let kind = same(args)?;
    let DataType::Decimal128(precision, scale) = kind else { return Ok(kind) };
    let digits = match args.scalar_arguments.get(1) {
        None => Some(0),
        Some(Some(ScalarValue::Int64(Some(digits)))) => Some(*digits),
        Some(_) => None,
    };
    let scale_of = |digits: i64| i8::try_from(digits.clamp(0, i64::from(scale.max(0)))).unwrap_or(scale);
    let kept = digits.map_or(scale, scale_of);
    let whole = i16::from(precision) - i16::from(scale);
    let precision = (whole + i16::from(kept) + 1).clamp(1, 38);
    Ok(DataType::Decimal128(u8::try_from(precision).unwrap_or(38), kept))
}

#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
    /// Half away from zero.
    Half,
    Zero,
}

impl Way {
    fn double(self, value: f64) -> f64 {
        match self {
            Way::Up => value.ceil(),
            Way::Down => value.floor(),
            Way::Half => value.round(),
            Way::Zero => value.trunc(),
        }
    }

    /// A whole number of units. `unit` is positive.
    fn units(self, value: i128, unit: i128) -> i128 {
        let (units, rest) = (value / unit, value % unit);
        match self {
            Way::Up if rest > 0 => units + 1,
            Way::Down if rest < 0 => units - 1,
            // Does not overflow: twice the rest may, the difference does not.
            Way::Half if rest.abs() >= unit - rest.abs() => units + rest.signum(),
            _ => units,
        }
    }
}

/// Ten to this power; `None` if it has more digits than any decimal.
fn ten(power: i64) -> Option<i128> {
    u32::try_from(power).ok().filter(|power| *power <= 38).map(|power| 10_i128.pow(power))
}

fn each<T: ArrowPrimitiveType>(
    rows: &Rows,
    value: impl Fn(usize) -> Result<Option<T::Native>>,
) -> Result<PrimitiveArray<T>> {
    let mut made = PrimitiveBuilder::<T>::with_capacity(rows.len());
    for row in 0..rows.len() {
        made.append_option(value(row)?);
    }
    Ok(made.finish())
}

fn whole(rows: &Rows, row: usize) -> Option<i64> {
    let (array, index) = rows.place(0, row)?;
    match array.as_primitive_opt::<Int32Type>() {
        Some(array) => Some(i64::from(array.value(index))),
        None => rows.long(0, row),
    }
}

fn round(args: &ScalarFunctionArgs, way: Way) -> Result<ColumnarValue> {
    let rows = Rows::new(args)?;
    let digits = |row: usize| if rows.has(1) { rows.long(1, row) } else { Some(0) };
    let made: ArrayRef = match (args.arg_fields.first().map(|field| field.data_type()), args.return_type()) {
        (_, DataType::Float64) => Arc::new(each::<Float64Type>(&rows, |row| {
            Ok(rows.double(0, row).zip(digits(row)).map(|(value, digits)| round_double(value, digits, way)))
        })?),
        (Some(DataType::Decimal128(_, from)), DataType::Decimal128(precision, to)) => {
            let (from, to) = (i64::from(*from), i64::from(*to));
            let array: Decimal128Array =
                each::<Decimal128Type>(&rows, |row| match rows.decimal(0, row).zip(digits(row)) {
                    Some((value, digits)) => round_decimal(value, from, digits, to, way).map(Some),
                    None => Ok(None),
                })?;
            let array = array.with_precision_and_scale(*precision, i8::try_from(to).unwrap_or(0))?;
            array.validate_decimal_precision(*precision)?;
            Arc::new(array)
        }
        (_, kind) => {
            let array = each::<Int64Type>(&rows, |row| match whole(&rows, row).zip(digits(row)) {
                Some((value, digits)) => round_whole(value, digits, way).map(Some),
                None => Ok(None),
            })?;
            narrow(&array, kind)?
        }
    };
    rows.result(made)
}

/// An error if a number is out of the range of its type.
fn narrow(array: &PrimitiveArray<Int64Type>, kind: &DataType) -> Result<ArrayRef> {
    let options = datafusion::arrow::compute::CastOptions { safe: false, ..Default::default() };
    Ok(datafusion::arrow::compute::cast_with_options(array, kind, &options)?)
}

fn round_double(value: f64, digits: i64, way: Way) -> f64 {
    let digits = i32::try_from(digits.clamp(-400, 400)).unwrap_or(0);
    if digits == 0 {
        return way.double(value);
    }
    let factor = 10_f64.powi(digits.abs());
    if digits > 0 {
        let scaled = value * factor;
        // A double this large has no such digits.
        return if scaled.is_finite() { way.double(scaled) / factor } else { value };
    }
    if factor.is_finite() { way.double(value / factor) * factor } else { 0.0 }
}

fn round_decimal(value: i128, from: i64, digits: i64, to: i64, way: Way) -> Result<i128> {
    let out_of_range = || failed("a rounded number is out of range: overflow");
    let digits = digits.clamp(-100, 100);
    if digits >= from {
        // Nothing is cut.
        let more = ten(to.saturating_sub(from).max(0)).ok_or_else(out_of_range)?;
        return value.checked_mul(more).ok_or_else(out_of_range);
    }
    let Some(unit) = ten(from - digits) else { return Ok(0) };
    let Some(back) = ten(to - digits) else { return Ok(0) };
    way.units(value, unit).checked_mul(back).ok_or_else(out_of_range)
}

fn round_whole(value: i64, digits: i64, way: Way) -> Result<i64> {
    if digits >= 0 {
        return Ok(value);
    }
    let Some(unit) = ten(digits.saturating_neg()).filter(|unit| *unit <= 10_i128.pow(19)) else {
        return Ok(0);
    };
    let rounded = way.units(i128::from(value), unit) * unit;
    i64::try_from(rounded).map_err(|_| failed("a rounded number is out of range: overflow"))
}

fn abs(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let rows = Rows::new(args)?;
    let made: ArrayRef = match args.return_type() {
        DataType::Float64 => {
            Arc::new(each::<Float64Type>(&rows, |row| Ok(rows.double(0, row).map(f64::abs)))?)
        }
        DataType::Decimal128(precision, scale) => {
            let array =
                each::<Decimal128Type>(&rows, |row| Ok(rows.decimal(0, row).map(i128::saturating_abs)))?;
            Arc::new(array.with_precision_and_scale(*precision, *scale)?)
        }
        kind => {
            let array = each::<Int64Type>(&rows, |row| match whole(&rows, row) {
                Some(value) => value.checked_abs().map(Some).ok_or_else(|| failed("integer overflow in ABS")),
                None => Ok(None),
            })?;
            narrow(&array, kind)?
        }
    };
    rows.result(made)
}

fn sign(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let rows = Rows::new(args)?;
    let kind = args.arg_fields.first().map(|field| field.data_type().clone());
    let sign = |row: usize| match kind {
        Some(DataType::Float64) => match rows.double(0, row)? {
            value if value > 0.0 => Some(1),
            value if value < 0.0 => Some(-1),
            0.0 => Some(0),
            _ => None,
        },
        Some(DataType::Decimal128(..)) => rows.decimal(0, row).map(|value| value.signum() as i32),
        _ => whole(&rows, row).map(|value| value.signum() as i32),
    };
    let made: ArrayRef = Arc::new((0..rows.len()).map(sign).collect::<Int32Array>());
    rows.result(made)
}

/// Calculates with one or two doubles. NaN is NULL; an infinite result of finite arguments is an error.
fn calculate(
    args: &ScalarFunctionArgs,
    name: &str,
    apply: fn(f64, Option<f64>) -> Option<f64>,
) -> Result<ColumnarValue> {
    let rows = Rows::new(args)?;
    let made: Float64Array = each::<Float64Type>(&rows, |row| {
        let Some(first) = rows.double(0, row) else { return Ok(None) };
        let second = rows.double(1, row);
        if rows.has(1) && second.is_none() {
            return Ok(None);
        }
        let value = apply(first, second).filter(|value| !value.is_nan());
        let finite = first.is_finite() && second.is_none_or(f64::is_finite);
        match value {
            Some(value) if value.is_infinite() && finite => {
                Err(failed(format!("the result of {} is out of range: overflow", shown(name))))
            }
            value => Ok(value),
        }
    })?;
    rows.result(Arc::new(made))
}

/// To base 10, or to another one.
fn logarithm(value: f64, base: Option<f64>) -> Option<f64> {
    match base {
        _ if value <= 0.0 => None,
        None => Some(value.log10()),
        Some(base) if base <= 0.0 || base == 1.0 => None,
        Some(10.0) => Some(value.log10()),
        Some(2.0) => Some(value.log2()),
        Some(base) => Some(value.ln() / base.ln()),
    }
}

/// Zero to a negative power would be a division by zero.
fn power(base: f64, exponent: Option<f64>) -> Option<f64> {
    let exponent = exponent?;
    (base != 0.0 || exponent >= 0.0).then(|| base.powf(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_rounded_away_from_zero() {
        for (value, digits, expected) in [
            (2.5, 0, 3.0),
            (-2.5, 0, -3.0),
            (1.25, 1, 1.3),
            (-1234.5, -2, -1200.0),
            (5.0, -400, 0.0),
            (1e300, 300, 1e300),
        ] {
            assert_eq!(round_double(value, digits, Way::Half), expected, "{value} {digits}");
        }
        for (value, digits, to, expected) in [
            (1_245, 2, 2, 125),
            (-1_245, 2, 2, -125),
            (1_245, -1, 0, 0),
            (1_244, 5, 3, 1_244),
            (999_500, 0, 0, 1_000),
        ] {
            assert_eq!(round_decimal(value, 3, digits, to, Way::Half).unwrap(), expected, "{value} {digits}");
        }
        for (value, digits, expected) in [(15, -1, 20), (-15, -1, -20), (14, -1, 10), (7, -30, 0), (7, 3, 7)]
        {
            assert_eq!(round_whole(value, digits, Way::Half).unwrap(), expected, "{value} {digits}");
        }
        assert!(round_whole(i64::MAX, -1, Way::Half).is_err());
    }
}
