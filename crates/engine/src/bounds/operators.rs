//! Operators whose result or time is not bounded by the size of a row become functions, which are checked like any
//! other: `||`, regular expressions, LIKE with a computed or long pattern, and casts of lists to text.

use std::hash::Hash;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, BooleanArray, StringArray};
use arrow_cast::{CastOptions, cast};
use arrow_schema::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::{Cast, Like, ScalarFunction, TryCast};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable as _, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};

use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_plan::ExecutionPlan;

use super::Bounds;
use super::scalar::{bound_calls, bounded, is_bounded};

/// Maximum length of a constant pattern that remains an operator.
const SHORT_PATTERN: usize = 256;

/// Replaces operators by functions, and functions that the planner has put in by bounded ones.
#[derive(Debug)]
pub struct Operators {
    bounds: Arc<Bounds>,
    concat: Arc<ScalarUDF>,
    regexp_like: Arc<ScalarUDF>,
    like: Arc<ScalarUDF>,
    list_to_text: Arc<ScalarUDF>,
}

impl Operators {
    pub fn new(bounds: &Arc<Bounds>) -> Result<Operators> {
        let within = |function: Arc<ScalarUDF>| {
            let name = function.name().to_owned();
            let missing = || DataFusionError::Internal(format!("{name} is not in the list of functions"));
            bounded(function, bounds).map(Arc::new).ok_or_else(missing)
        };
        let ours = |kind| within(Arc::new(ScalarUDF::from(Ours::new(kind))));
        Ok(Operators {
            bounds: Arc::clone(bounds),
            concat: ours(Kind::Concat)?,
            regexp_like: within(datafusion::functions::regex::regexp_like())?,
            like: ours(Kind::Like)?,
            list_to_text: ours(Kind::ListToText)?,
        })
    }

    /// A cast that the planner does not look into.
    fn narrow_cast(&self, to: &DataType, safe: bool) -> Result<Arc<ScalarUDF>> {
        let function = Arc::new(ScalarUDF::from(NarrowCast::new(to.clone(), safe)));
        let missing = || DataFusionError::Internal("narrow_cast is not in the list of functions".to_owned());
        bounded(function, &self.bounds).map(Arc::new).ok_or_else(missing)
    }
}

/// Whether different decimals become the same value. The planner compares what is cast by casting what it is compared
/// with back, which is wrong then.
fn loses_digits(from: &DataType, to: &DataType) -> bool {
    let scale = |kind: &DataType| match kind {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => Some(*scale),
        kind if kind.is_integer() => Some(0),
        _ => None,
    };
    matches!((scale(from), scale(to)), (Some(from), Some(to)) if to < from)
}

fn call(function: &Arc<ScalarUDF>, args: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), args))
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn constant(value: &str) -> Expr {
    Expr::Literal(ScalarValue::Utf8(Some(value.to_owned())), None)
}

impl FunctionRewrite for Operators {
    fn name(&self) -> &'static str {
        "bounds"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        Ok(Transformed::yes(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
                Operator::StringConcat => call(&self.concat, vec![*left, *right]),
                Operator::RegexMatch => call(&self.regexp_like, vec![*left, *right]),
                Operator::RegexNotMatch => !call(&self.regexp_like, vec![*left, *right]),
                Operator::RegexIMatch => call(&self.regexp_like, vec![*left, *right, constant("i")]),
                Operator::RegexNotIMatch => !call(&self.regexp_like, vec![*left, *right, constant("i")]),
                _ => return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))),
            },
            // There is no other escape character.
            Expr::Like(like)
                if is_long(&like.pattern) && like.escape_char.is_none_or(|char| char == '\\') =>
            {
                let Like { negated, expr, pattern, case_insensitive, .. } = like;
                let args = vec![*expr, *pattern, Expr::Literal(case_insensitive.into(), None)];
                if negated { !call(&self.like, args) } else { call(&self.like, args) }
            }
            Expr::SimilarTo(Like { negated, expr, pattern, escape_char: None, case_insensitive }) => {
                let mut args = vec![*expr, *pattern];
                args.extend(case_insensitive.then(|| constant("i")));
                let found = call(&self.regexp_like, args);
                if negated { !found } else { found }
            }
            // A value of such a type has the size that the type says, also if it is NULL.
            Expr::Cast(Cast { field, .. }) | Expr::TryCast(TryCast { field, .. })
                if has_fixed_size(field.data_type()) =>
            {
                return plan_err!("arrays of a fixed size are not available here; leave the size out");
            }
            Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field })
                if is_text(field.data_type()) && expr.get_type(schema)?.is_nested() =>
            {
                call(&self.list_to_text, vec![*expr])
            }
            Expr::Cast(Cast { expr, field }) if loses_digits(&expr.get_type(schema)?, field.data_type()) => {
                call(&self.narrow_cast(field.data_type(), false)?, vec![*expr])
            }
            Expr::TryCast(TryCast { expr, field })
                if loses_digits(&expr.get_type(schema)?, field.data_type()) =>
            {
                call(&self.narrow_cast(field.data_type(), true)?, vec![*expr])
            }
            other => return bound_calls(other, &self.bounds),
        }))
    }
}

/// Whether a value of this type has its size from the type, at any depth.
fn has_fixed_size(kind: &DataType) -> bool {
    match kind {
        DataType::FixedSizeList(..) => true,
        DataType::FixedSizeBinary(bytes) => *bytes > 64,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => has_fixed_size(item.data_type()),
        DataType::Map(item, _) => has_fixed_size(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_fixed_size(field.data_type())),
        DataType::Dictionary(_, values) => has_fixed_size(values),
        _ => false,
    }
}

fn is_long(pattern: &Expr) -> bool {
    match pattern {
        Expr::Literal(
            ScalarValue::Utf8(Some(text))
            | ScalarValue::Utf8View(Some(text))
            | ScalarValue::LargeUtf8(Some(text)),
            _,
        ) => text.len() > SHORT_PATTERN,
        Expr::Literal(..) => false,
        _ => true,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Concat,
    Like,
    ListToText,
}

/// The function of an operator.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Ours {
    kind: Kind,
    signature: Signature,
}

impl Ours {
    fn new(kind: Kind) -> Ours {
        let arguments = match kind {
            Kind::Concat => 2,
            Kind::Like => 3,
            Kind::ListToText => 1,
        };
        Ours { kind, signature: Signature::any(arguments, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Ours {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Concat => "string_concat",
            Kind::Like => "text_like",
            Kind::ListToText => "list_to_text",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.kind == Kind::Like { DataType::Boolean } else { DataType::Utf8 })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let result: ArrayRef = match (self.kind, arrays.as_slice()) {
            (Kind::Concat, [left, right]) => concat(left, right)?,
            (Kind::Like, [text, pattern, insensitive]) => like(text, pattern, insensitive)?,
            (Kind::ListToText, [list]) => cast(list, &DataType::Utf8)?,
            _ => return Err(DataFusionError::Internal(format!("{}: wrong arguments", self.name()))),
        };
        if constant && result.len() == 1 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

/// A cast of decimals to a type with fewer digits after the point.
#[derive(Debug, PartialEq, Eq, Hash)]
struct NarrowCast {
    to: DataType,
    /// What does not fit is NULL, and no error.
    safe: bool,
    signature: Signature,
}

impl NarrowCast {
    fn new(to: DataType, safe: bool) -> NarrowCast {
        NarrowCast { to, safe, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for NarrowCast {
    fn name(&self) -> &'static str {
        "narrow_cast"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = args.args.as_slice() else {
            return Err(DataFusionError::Internal("narrow_cast: wrong arguments".to_owned()));
        };
        let options = CastOptions { safe: self.safe, ..CastOptions::default() };
        value.cast_to(&self.to, Some(&options))
    }
}

fn concat(left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
    let (left, right) = (cast(left, &DataType::Utf8View)?, cast(right, &DataType::Utf8View)?);
    let mut texts = StringBuilder::new();
    for pair in left.as_string_view().iter().zip(right.as_string_view()) {
        if let (Some(left), Some(right)) = pair {
            std::fmt::Write::write_str(&mut texts, left)?;
            texts.append_value(right);
        } else {
            texts.append_null();
        }
    }
    Ok(Arc::new(texts.finish()))
}

fn like(text: &ArrayRef, pattern: &ArrayRef, insensitive: &ArrayRef) -> Result<ArrayRef> {
    let (text, pattern) = (cast(text, &DataType::Utf8)?, cast(pattern, &DataType::Utf8)?);
    let (text, pattern): (&StringArray, &StringArray) = (text.as_string(), pattern.as_string());
    let insensitive = insensitive.as_boolean_opt().is_some_and(|flags: &BooleanArray| flags.true_count() > 0);
    let found = if insensitive {
        arrow_string::like::ilike(text, pattern)?
    } else {
        arrow_string::like::like(text, pattern)?
    };
    Ok(Arc::new(found))
}

/// Fails if a plan calls a function that is not bounded.
pub fn verify(plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
    plan.apply(|node| {
        node.apply_expressions(&mut |expr| {
            expr.apply(|part| match part.downcast_ref::<ScalarFunctionExpr>() {
                Some(call) if !is_bounded(call.fun()) => {
                    plan_err!("the function {} is not available here", call.name())
                }
                _ => Ok(TreeNodeRecursion::Continue),
            })
        })
    })
    .map(drop)
}
