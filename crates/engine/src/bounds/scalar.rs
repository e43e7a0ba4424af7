//! A function that checks what a call needs before it is made.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef};
use arrow_schema::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::allowed::{Allowed, allowed};
use super::needs::{Arguments, Estimate, Need};
use super::sizes::Sizes;
use super::{Bounds, STEPS};

/// How many bytes a call may return before the rest of the rows is left to another call.
const BYTES: u64 = 16 * 1_024 * 1_024;

#[derive(Debug)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    need: Estimate,
    simplified: bool,
    bounds: Arc<Bounds>,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Bounded) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

/// The function within the statement's bounds. `None`: a statement cannot call it.
pub fn bounded(inner: Arc<ScalarUDF>, bounds: &Arc<Bounds>) -> Option<ScalarUDF> {
    let Allowed { need, simplified } = allowed(inner.name())?;
    Some(ScalarUDF::from(Bounded { inner, need, simplified, bounds: Arc::clone(bounds) }))
}

/// Whether calls of this function are checked.
pub fn is_bounded(function: &ScalarUDF) -> bool {
    function.inner().downcast_ref::<Bounded>().is_some()
}

/// Replaces calls that the planner has made itself, without looking up the function.
pub fn bound_calls(expr: Expr, bounds: &Arc<Bounds>) -> Result<Transformed<Expr>> {
    match expr {
        Expr::ScalarFunction(mut call) if !is_bounded(&call.func) => {
            let Some(function) = bounded(Arc::clone(&call.func), bounds) else {
                return Err(DataFusionError::Plan(format!(
                    "the function {} is not available",
                    call.func.name()
                )));
            };
            call.func = Arc::new(function);
            Ok(Transformed::yes(Expr::ScalarFunction(call)))
        }
        other => Ok(Transformed::no(other)),
    }
}

impl Bounded {
    /// Calls the function for some rows.
    fn call(&self, args: ScalarFunctionArgs, needs: &[Need]) -> Result<ColumnarValue> {
        self.bounds.look()?;
        let sum = needs.iter().map(|need| need.bytes).fold(0, u64::saturating_add);
        let reserved = self.bounds.reserve(self.name(), sum)?;
        let (call, rows) = (Arc::as_ptr(&args.return_field).addr(), args.number_rows);
        let result = self.inner.invoke_with_args(args)?;
        let sizes = Sizes::of_argument(&result)?;
        drop(reserved);
        self.bounds.value(self.name(), sizes.largest())?;
        match &result {
            ColumnarValue::Scalar(_) => {
                self.bounds.keep_constant(self.name(), call, sizes.largest(), rows)?;
            }
            ColumnarValue::Array(array) => self.bounds.keep(array),
        }
        Ok(result)
    }

    /// The ends of the groups of rows that are left to one call each.
    fn groups(needs: &[Need]) -> Vec<usize> {
        let mut ends = Vec::new();
        let (mut bytes, mut steps) = (0_u64, 0_u64);
        for (row, need) in needs.iter().enumerate() {
            let (more_bytes, more_steps) =
                (bytes.saturating_add(need.bytes), steps.saturating_add(need.steps));
            if (more_bytes > BYTES || more_steps > STEPS) && (bytes, steps) != (0, 0) {
                ends.push(row);
                (bytes, steps) = (need.bytes, need.steps);
            } else {
                (bytes, steps) = (more_bytes, more_steps);
            }
        }
        ends.push(needs.len());
        ends
    }

    fn joined(&self, parts: &[ArrayRef]) -> Result<ColumnarValue> {
        let bytes = parts.iter().map(|part| part.get_array_memory_size() as u64).sum();
        let reserved = self.bounds.reserve(self.name(), bytes)?;
        let parts: Vec<_> = parts.iter().map(AsRef::as_ref).collect();
        let whole = arrow_select::concat::concat(&parts)?;
        drop(reserved);
        self.bounds.keep(&whole);
        Ok(ColumnarValue::Array(whole))
    }
}

/// The same call for a part of the rows.
fn part(args: &ScalarFunctionArgs, start: usize, rows: usize) -> ScalarFunctionArgs {
    let values = args.args.iter().map(|value| match value {
        ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(start, rows)),
        ColumnarValue::Scalar(_) => value.clone(),
    });
    ScalarFunctionArgs { args: values.collect(), number_rows: rows, ..args.clone() }
}

#[warn(clippy::missing_trait_methods)]
impl ScalarUDFImpl for Bounded {
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let needs = (self.need)(&Arguments::new(&args.args, rows)?)?;
        for need in &needs {
            self.bounds.value(self.name(), need.at_least)?;
            self.bounds.steps(self.name(), need.steps)?;
        }
        let groups = Bounded::groups(&needs);
        if constant || groups.len() == 1 {
            return self.call(args, &needs);
        }
        let (mut start, mut parts) = (0, Vec::with_capacity(groups.len()));
        for end in groups {
            let needs = needs.get(start..end).unwrap_or_default();
            parts.push(self.call(part(&args, start, end - start), needs)?.into_array(end - start)?);
            start = end;
        }
        self.joined(&parts)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if !self.simplified {
            return Ok(ExprSimplifyResult::Original(args));
        }
        Ok(match self.inner.inner().simplify(args, info)? {
            ExprSimplifyResult::Simplified(expr) => ExprSimplifyResult::Simplified(
                expr.transform_up(|expr| bound_calls(expr, &self.bounds))?.data,
            ),
            original @ ExprSimplifyResult::Original(_) => original,
        })
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        bounded(Arc::new(self.inner.inner().with_updated_config(config)?), &self.bounds)
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        #[expect(deprecated, reason = "delegates")]
        self.inner.inner().display_name(args)
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.inner().schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.inner().return_field_from_args(args)
    }

    fn is_nullable(&self, args: &[Expr], schema: &dyn datafusion::common::ExprSchema) -> bool {
        #[expect(deprecated, reason = "delegates")]
        self.inner.inner().is_nullable(args, schema)
    }

    fn is_strict(&self) -> bool {
        self.inner.inner().is_strict()
    }

    fn preimage(
        &self,
        args: &[Expr],
        literal: &Expr,
        info: &SimplifyContext,
    ) -> Result<datafusion::logical_expr::preimage::PreimageResult> {
        self.inner.inner().preimage(args, literal, info)
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.inner().conditional_arguments(args)
    }

    fn short_circuits(&self) -> bool {
        self.inner.inner().short_circuits()
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        self.inner.inner().evaluate_bounds(inputs)
    }

    fn propagate_constraints(
        &self,
        interval: &Interval,
        inputs: &[&Interval],
    ) -> Result<Option<Vec<Interval>>> {
        self.inner.inner().propagate_constraints(interval, inputs)
    }

    fn struct_field_mapping(
        &self,
        literals: &[Option<datafusion::scalar::ScalarValue>],
    ) -> Option<datafusion::logical_expr::StructFieldMapping> {
        self.inner.inner().struct_field_mapping(literals)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.inner().output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.inner().preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.inner().strictly_order_preserving(inputs)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(types)
    }

    fn documentation(&self) -> Option<&datafusion::logical_expr::Documentation> {
        None
    }

    fn placement(
        &self,
        args: &[datafusion::logical_expr::ExpressionPlacement],
    ) -> datafusion::logical_expr::ExpressionPlacement {
        self.inner.inner().placement(args)
    }
}
