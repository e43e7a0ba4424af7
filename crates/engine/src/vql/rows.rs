//! Rows that are put together, and rows that are joined by names, in VQL. As in `textual`: DataFusion would compute floats and
//! decimals together as decimals of few digits, and read a text as a number.

use std::sync::Arc;

use arrow_schema::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult as _};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{
    Expr, ExprSchemable as _, Join, LogicalPlan, LogicalPlanBuilder, Union, cast,
};

use super::textual;

/// For a plan as it was written, so that everything above is computed with the types that the rows have.
pub fn align(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut any = false;
    let mut each = |plan| {
        let done = match plan {
            LogicalPlan::Union(union) => united(union)?,
            LogicalPlan::Join(join) => joined(join)?,
            other => Transformed::no(other),
        };
        any |= done.transformed;
        // Its columns may come from a union that was changed.
        done.map_data(|plan| if any { plan.recompute_schema() } else { Ok(plan) })
    };
    plan.transform_up_with_subqueries(&mut each).data()
}

/// A column that is a float in one part and a decimal in another becomes a float in all.
fn united(union: Union) -> Result<Transformed<LogicalPlan>> {
    let mixed = |at: usize| {
        let has = |test: fn(&DataType) -> bool| {
            union.inputs.iter().any(|input| test(input.schema().field(at).data_type()))
        };
        has(DataType::is_floating) && has(DataType::is_decimal)
    };
    let floats: Vec<bool> = (0..union.schema.fields().len()).map(mixed).collect();
    if !floats.contains(&true) {
        return Ok(Transformed::no(LogicalPlan::Union(union)));
    }
    let inputs = union.inputs.into_iter().map(|input| as_floats(input, &floats));
    let union = Union::try_new_with_loose_types(inputs.collect::<Result<_>>()?)?;
    Ok(Transformed::yes(LogicalPlan::Union(union)))
}

fn as_floats(input: Arc<LogicalPlan>, floats: &[bool]) -> Result<Arc<LogicalPlan>> {
    let columns = input.schema().iter().zip(floats).map(|((qualifier, field), float)| {
        let column = Expr::Column(Column::from((qualifier, field)));
        if *float && field.data_type().is_decimal() {
            cast(column, DataType::Float64).alias_qualified(qualifier.cloned(), field.name())
        } else {
            column
        }
    });
    let columns: Vec<Expr> = columns.collect();
    LogicalPlanBuilder::from(input).project(columns)?.build().map(Arc::new)
}

/// The columns of USING, INTERSECT and MINUS. Those of ON are an expression like any other.
fn joined(mut join: Join) -> Result<Transformed<LogicalPlan>> {
    let mut changed = false;
    for (left, right) in &mut join.on {
        let kinds = [left.get_type(join.left.schema())?, right.get_type(join.right.schema())?];
        changed |= textual::align_of(&mut [left, right], &kinds);
    }
    Ok(Transformed::new_transformed(LogicalPlan::Join(join), changed))
}
