//! How values of different types are compared in VQL.

use std::sync::Arc;

use arrow_schema::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::{Between, InList, InSubquery};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable as _, LogicalPlanBuilder, Operator, Subquery, cast,
};

#[derive(Debug)]
pub struct Textual;

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Functions whose arguments have one type.
const UNIFIED: [&str; 2] = ["coalesce", "nullif"];

const fn is_comparison(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq
    )
}

/// Gives these expressions, which are compared with each other, types that are compared as in VQL. DataFusion would read a
/// text as a number, a float as a decimal of few digits, and times as nanoseconds, which end in 2262.
fn align(exprs: &mut [&mut Expr], schema: &DFSchema) -> bool {
    kinds(exprs, schema).is_some_and(|kinds| align_of(exprs, &kinds))
}

/// The same for expressions of these types.
pub fn align_of(exprs: &mut [&mut Expr], kinds: &[DataType]) -> bool {
    let has = |test: fn(&DataType) -> bool| kinds.iter().any(test);
    if has(is_text) && has(DataType::is_numeric) {
        return become_type(exprs, kinds, DataType::is_numeric, &DataType::Utf8);
    }
    let moment = kinds.iter().find(|kind| matches!(kind, DataType::Timestamp(..)));
    if let Some(DataType::Timestamp(_, zone)) = moment
        && has(|kind| is_text(kind) || *kind == DataType::Date32)
    {
        let moment = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
        return become_type(exprs, kinds, |kind| is_text(kind) || *kind == DataType::Date32, &moment);
    }
    floats(exprs, kinds)
}

/// The same for expressions that are results of one: only numbers among numbers change.
fn unify(exprs: &mut [&mut Expr], schema: &DFSchema) -> bool {
    kinds(exprs, schema).is_some_and(|kinds| floats(exprs, &kinds))
}

/// If a type is not known, the planner reports why.
fn kinds(exprs: &[&mut Expr], schema: &DFSchema) -> Option<Vec<DataType>> {
    exprs.iter().map(|expr| expr.get_type(schema).ok()).collect()
}

/// A decimal among floats becomes a float.
fn floats(exprs: &mut [&mut Expr], kinds: &[DataType]) -> bool {
    kinds.iter().any(DataType::is_floating)
        && become_type(exprs, kinds, DataType::is_decimal, &DataType::Float64)
}

/// Casts the expressions whose type passes a test. Returns whether there is one.
fn become_type(
    exprs: &mut [&mut Expr],
    kinds: &[DataType],
    test: fn(&DataType) -> bool,
    to: &DataType,
) -> bool {
    let mut changed = false;
    for (expr, _) in exprs.iter_mut().zip(kinds).filter(|(_, kind)| test(kind)) {
        **expr = cast(std::mem::take(&mut **expr), to.clone());
        changed = true;
    }
    changed
}

impl FunctionRewrite for Textual {
    fn name(&self) -> &'static str {
        "textual_comparison"
    }

    fn rewrite(&self, mut expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let changed = match &mut expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => {
                align(&mut [left.as_mut(), right.as_mut()], schema)
            }
            Expr::Between(Between { expr, low, high, .. }) => {
                align(&mut [expr.as_mut(), low.as_mut(), high.as_mut()], schema)
            }
            Expr::InList(InList { expr, list, .. }) => {
                let mut all: Vec<&mut Expr> = std::iter::once(expr.as_mut()).chain(list).collect();
                align(&mut all, schema)
            }
            Expr::Case(case) => {
                let compared = match &mut case.expr {
                    Some(value) => {
                        let whens = case.when_then_expr.iter_mut().map(|(when, _)| when.as_mut());
                        align(&mut std::iter::once(value.as_mut()).chain(whens).collect::<Vec<_>>(), schema)
                    }
                    None => false,
                };
                let results = case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
                let otherwise = case.else_expr.iter_mut().map(AsMut::as_mut);
                unify(&mut results.chain(otherwise).collect::<Vec<_>>(), schema) || compared
            }
            Expr::ScalarFunction(call) if UNIFIED.contains(&call.func.name()) => {
                unify(&mut call.args.iter_mut().collect::<Vec<_>>(), schema)
            }
            Expr::InSubquery(inner) => in_subquery(inner, schema)?,
            _ => false,
        };
        Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
    }
}

fn in_subquery(inner: &mut InSubquery, schema: &DFSchema) -> Result<bool> {
    let Some((qualifier, field)) = inner.subquery.subquery.schema().iter().next() else { return Ok(false) };
    let kind = inner.expr.get_type(schema)?;
    if is_text(field.data_type()) && kind.is_numeric() {
        *inner.expr = cast(std::mem::take(inner.expr.as_mut()), DataType::Utf8);
        return Ok(true);
    }
    if !is_text(&kind) || !field.data_type().is_numeric() {
        return Ok(false);
    }
    let column = Expr::Column(Column::from((qualifier, field)));
    let name = field.name().clone();
    let plan = LogicalPlanBuilder::from(Arc::clone(&inner.subquery.subquery));
    let plan = plan.project([cast(column, DataType::Utf8).alias(name)])?.build()?;
    inner.subquery = Subquery { subquery: Arc::new(plan), ..inner.subquery.clone() };
    Ok(true)
}
