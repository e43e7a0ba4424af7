//! The functions of VQL that DataFusion lacks or that mean something else there. A text cannot name them: `rewrite` puts
//! them in. Each is listed in `bounds::allowed` with what it needs.

mod arithmetic;
mod casts;
mod dates;
pub mod like;
mod numbers;
mod patterns;
pub mod sum;
mod text;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Decimal128Type, Float64Type, Int64Type};
use arrow_array::{Array as _, ArrayRef};
use arrow_schema::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

pub const ABS: &str = "vql_abs";
pub const ADD: &str = "vql_add";
pub const ADD_DAYS: &str = "vql_add_days";
pub const ADD_MONTHS: &str = "vql_add_months";
pub const ADD_YEARS: &str = "vql_add_years";
pub const CEIL: &str = "vql_ceil";
pub const CONCAT: &str = "vql_concat";
pub const DAYS_BETWEEN: &str = "vql_days_between";
pub const DIVIDE: &str = "vql_divide";
pub const EXP: &str = "vql_exp";
pub const FLOOR: &str = "vql_floor";
pub const FORMAT_DATE: &str = "vql_format_date";
pub const INSTR: &str = "vql_instr";
pub const LIKE_PATTERN: &str = "vql_like_pattern";
pub const LN: &str = "vql_ln";
pub const LOG: &str = "vql_log";
pub const MODULO: &str = "vql_modulo";
pub const MULTIPLY: &str = "vql_multiply";
pub const NEGATE: &str = "vql_negate";
pub const NUMBER: &str = "vql_number";
pub const POWER: &str = "vql_power";
pub const ROUND: &str = "vql_round";
pub const SIGN: &str = "vql_sign";
pub const SINGLE: &str = "vql_single";
pub const SQRT: &str = "vql_sqrt";
pub const SUBSTR: &str = "vql_substr";
pub const SUBSTRING: &str = "vql_substring";
pub const SUBTRACT: &str = "vql_subtract";
pub const SUM: &str = "vql_sum";
pub const TEXT: &str = "vql_text";
pub const TO_DATE: &str = "vql_to_date";
pub const TO_TIMESTAMP: &str = "vql_to_timestamp";
pub const TRUNC: &str = "vql_trunc";
pub const WHOLE: &str = "vql_whole";

pub fn all() -> Vec<Arc<ScalarUDF>> {
    let all = [arithmetic::ALL, casts::ALL, dates::ALL, numbers::ALL, text::ALL];
    all.into_iter().flatten().map(|definition| Arc::new(ScalarUDF::from(Function::new(definition)))).collect()
}

/// What a function is.
#[derive(Debug)]
pub struct Definition {
    name: &'static str,
    /// The types that the arguments are cast to.
    coerce: fn(&[DataType]) -> Result<Vec<DataType>>,
    /// The type of the result; the arguments have been cast.
    returns: fn(&ReturnFieldArgs<'_>) -> Result<DataType>,
    invoke: fn(&ScalarFunctionArgs) -> Result<ColumnarValue>,
    /// Whether an argument of this type is the result itself.
    is_same: fn(&DataType) -> bool,
}

const fn never(_: &DataType) -> bool {
    false
}

#[derive(Debug)]
struct Function {
    definition: &'static Definition,
    signature: Signature,
}

impl Function {
    fn new(definition: &'static Definition) -> Function {
        Function { definition, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        self.definition.name == other.definition.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.definition.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.definition.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        (self.definition.coerce)(types)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("{} decides by its fields", self.name())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), (self.definition.returns)(&args)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        (self.definition.invoke)(&args)
    }

    fn simplify(&self, mut args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if let [argument] = args.as_slice()
            && (self.definition.is_same)(&info.get_data_type(argument)?)
            && let Some(argument) = args.pop()
        {
            return Ok(ExprSimplifyResult::Simplified(argument));
        }
        Ok(ExprSimplifyResult::Original(args))
    }
}

/// The arguments of a call, row by row; a constant is the same in every row.
struct Rows {
    arrays: Vec<(ArrayRef, bool)>,
    count: usize,
}

impl Rows {
    fn new(args: &ScalarFunctionArgs) -> Result<Rows> {
        let array = |value: &ColumnarValue| {
            Ok(match value {
                ColumnarValue::Array(array) => (Arc::clone(array), false),
                ColumnarValue::Scalar(value) => (value.to_array()?, true),
            })
        };
        let arrays = args.args.iter().map(array).collect::<Result<Vec<_>>>()?;
        let constant = arrays.iter().all(|(_, constant)| *constant);
        Ok(Rows { arrays, count: if constant { 1 } else { args.number_rows } })
    }

    fn len(&self) -> usize {
        self.count
    }

    /// The array of an argument and the index in it; `None` if the value is NULL.
    fn place(&self, argument: usize, row: usize) -> Option<(&ArrayRef, usize)> {
        let (array, constant) = self.arrays.get(argument)?;
        let index = if *constant { 0 } else { row };
        (index < array.len() && array.is_valid(index)).then_some((array, index))
    }

    fn has(&self, argument: usize) -> bool {
        self.arrays.len() > argument
    }

    fn text(&self, argument: usize, row: usize) -> Option<&str> {
        let (array, index) = self.place(argument, row)?;
        Some(array.as_string_opt::<i32>()?.value(index))
    }

    fn long(&self, argument: usize, row: usize) -> Option<i64> {
        let (array, index) = self.place(argument, row)?;
        Some(array.as_primitive_opt::<Int64Type>()?.value(index))
    }

    fn double(&self, argument: usize, row: usize) -> Option<f64> {
        let (array, index) = self.place(argument, row)?;
        Some(array.as_primitive_opt::<Float64Type>()?.value(index))
    }

    fn decimal(&self, argument: usize, row: usize) -> Option<i128> {
        let (array, index) = self.place(argument, row)?;
        Some(array.as_primitive_opt::<Decimal128Type>()?.value(index))
    }

    /// The result for all rows, as a constant if every argument is one.
    fn result(&self, array: ArrayRef) -> Result<ColumnarValue> {
        if self.arrays.iter().all(|(_, constant)| *constant) && array.len() == 1 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

fn failed(message: impl Into<String>) -> DataFusionError {
    DataFusionError::Execution(message.into())
}

fn wrong(message: impl Into<String>) -> DataFusionError {
    DataFusionError::Plan(message.into())
}

const fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// A number as the functions take it: smaller integers become `int`, unsigned ones `long`.
fn number(name: &str, kind: &DataType) -> Result<DataType> {
    Ok(match kind {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            DataType::Int32
        }
        DataType::Int64 | DataType::UInt32 | DataType::Null => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => DataType::Float64,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => DataType::Decimal128(*precision, *scale),
        other => return Err(wrong(format!("{} needs a number, not {other}", shown(name)))),
    })
}

/// A function as its users know it.
fn shown(name: &str) -> String {
    name.strip_prefix("vql_").unwrap_or(name).to_uppercase()
}
