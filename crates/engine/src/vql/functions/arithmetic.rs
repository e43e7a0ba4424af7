//! `+`, `-`, `*`, `/` and MOD. Integers do not wrap: a result that is out of range is an error. `/` on integers truncates,
//! and dividing by zero is NULL.

use arrow_array::cast::AsArray as _;
use arrow_array::types::Decimal128Type;
use arrow_array::{Array as _, ArrayRef, Datum};
use arrow_schema::{ArrowError, DataType};
use datafusion::arrow::compute::kernels::cmp;
use datafusion::arrow::compute::kernels::numeric::{add, div, mul, neg, rem, sub};
use datafusion::arrow::compute::{nullif, or};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{ColumnarValue, Operator, ReturnFieldArgs, ScalarFunctionArgs};
use datafusion::physical_expr_common::datum::apply;

use super::{Definition, is_text, never, number, wrong};

const fn definition(
    name: &'static str,
    coerce: fn(&[DataType]) -> Result<Vec<DataType>>,
    returns: fn(&ReturnFieldArgs<'_>) -> Result<DataType>,
    invoke: fn(&ScalarFunctionArgs) -> Result<ColumnarValue>,
) -> Definition {
    Definition { name, coerce, returns, invoke, is_same: never }
}

pub const ALL: &[Definition] = &[
    definition(
        super::ADD,
        |types| operands(types, Operator::Plus),
        |args| result(args, Operator::Plus),
        |args| calculate(args, add),
    ),
    definition(
        super::SUBTRACT,
        |types| operands(types, Operator::Minus),
        |args| result(args, Operator::Minus),
        |args| calculate(args, sub),
    ),
    definition(
        super::MULTIPLY,
        |types| operands(types, Operator::Multiply),
        |args| result(args, Operator::Multiply),
        |args| calculate(args, mul),
    ),
    definition(
        super::DIVIDE,
        |types| operands(types, Operator::Divide),
        |args| result(args, Operator::Divide),
        |args| divide(args, div),
    ),
    definition(
        super::MODULO,
        |types| operands(types, Operator::Modulo),
        |args| result(args, Operator::Modulo),
        |args| divide(args, rem),
    ),
    definition(
        super::NEGATE,
        negated,
        |args| Ok(args.arg_fields.first().map_or(DataType::Null, |field| field.data_type().clone())),
        negate,
    ),
];

/// Numbers as the functions take them; anything else (a time, an interval) as it is.
fn operand(kind: &DataType) -> DataType {
    match kind {
        // Two floats are added as floats.
        DataType::Float32 | DataType::Null => kind.clone(),
        other => number("", other).unwrap_or_else(|_| other.clone()),
    }
}

fn operands(types: &[DataType], op: Operator) -> Result<Vec<DataType>> {
    let [left, right] = types else { return Err(wrong(format!("{op} needs two operands"))) };
    let (left, right) = (operand(left), operand(right));
    if left == DataType::Null && right == DataType::Null {
        return Ok(vec![DataType::Int64, DataType::Int64]);
    }
    // Days.
    if op == Operator::Minus && left == DataType::Date32 && right == DataType::Date32 {
        return Ok(vec![DataType::Int64, DataType::Int64]);
    }
    if is_text(&left) || is_text(&right) {
        return Err(wrong(format!("{op} needs numbers, not text; use CAST")));
    }
    let (left, right) = BinaryTypeCoercer::new(&left, &op, &right).get_input_types()?;
    Ok(vec![left, right])
}

fn result(args: &ReturnFieldArgs<'_>, op: Operator) -> Result<DataType> {
    let [left, right] = args.arg_fields else { return Err(wrong(format!("{op} needs two operands"))) };
    BinaryTypeCoercer::new(left.data_type(), &op, right.data_type()).get_result_type()
}

type Kernel = fn(&dyn Datum, &dyn Datum) -> Result<ArrayRef, ArrowError>;

fn calculate(args: &ScalarFunctionArgs, kernel: Kernel) -> Result<ColumnarValue> {
    let [left, right] = args.args.as_slice() else { return Err(wrong("an operator needs two operands")) };
    apply(left, right, |left, right| checked(kernel(left, right)?))
}

/// The kernels check that a decimal fits into 128 bits, not that it has at most as many digits as its type.
fn checked(array: ArrayRef) -> Result<ArrayRef, ArrowError> {
    if let DataType::Decimal128(precision, _) = array.data_type() {
        let valid = array.as_primitive::<Decimal128Type>().validate_decimal_precision(*precision);
        valid.map_err(|error| ArrowError::ArithmeticOverflow(format!("decimal overflow: {error}")))?;
    }
    Ok(array)
}

fn divide(args: &ScalarFunctionArgs, kernel: Kernel) -> Result<ColumnarValue> {
    let [left, right] = args.args.as_slice() else { return Err(wrong("a division needs two operands")) };
    let right = without_zero(right)?;
    apply(left, &right, |left, right| checked(kernel(left, right)?))
}

/// NULL instead of zero.
fn without_zero(value: &ColumnarValue) -> Result<ColumnarValue> {
    let kind = value.data_type();
    if !kind.is_numeric() {
        return Ok(value.clone());
    }
    let zero = ScalarValue::new_zero(&kind)?;
    let constant = matches!(value, ColumnarValue::Scalar(_));
    let array = value.to_array(1)?;
    let mut zeros = cmp::eq(&array, &zero.to_scalar()?)?;
    // The comparison tells the zeros of floats apart.
    if matches!(kind, DataType::Float32 | DataType::Float64) {
        let negative = ScalarValue::Float64(Some(-0.0)).cast_to(&kind)?;
        zeros = or(&zeros, &cmp::eq(&array, &negative.to_scalar()?)?)?;
    }
    let array = nullif(&array, &zeros)?;
    if constant {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
    }
    Ok(ColumnarValue::Array(array))
}

fn negated(types: &[DataType]) -> Result<Vec<DataType>> {
    let [kind] = types else { return Err(wrong("- needs one operand")) };
    Ok(vec![match kind {
        DataType::Interval(_) | DataType::Float32 => kind.clone(),
        other => number(super::NEGATE, other)?,
    }])
}

fn negate(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let [value] = args.args.as_slice() else { return Err(wrong("- needs one operand")) };
    match value {
        ColumnarValue::Array(array) => Ok(ColumnarValue::Array(neg(array)?)),
        ColumnarValue::Scalar(scalar) => {
            let array = neg(&scalar.to_array()?)?;
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?))
        }
    }
}
