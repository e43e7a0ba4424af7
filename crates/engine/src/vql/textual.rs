//! In VQL a text is compared with a number as text; DataFusion would read the text as a number.

use std::sync::Arc;

use arrow_schema::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::{Between, Case, InList, InSubquery};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable as _, LogicalPlanBuilder, Operator, Subquery, cast,
};

#[derive(Debug)]
pub struct Textual;

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

const fn is_comparison(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq
    )
}

/// Makes the numbers among these expressions texts, if there is a text among them.
fn align(exprs: &mut [&mut Expr], schema: &DFSchema) -> Result<bool> {
    // If a type is not known, the planner reports why.
    let Ok(kinds) = exprs.iter().map(|expr| expr.get_type(schema)).collect::<Result<Vec<_>>>() else {
        return Ok(false);
    };
    if !kinds.iter().any(is_text) || !kinds.iter().any(DataType::is_numeric) {
        return Ok(false);
    }
    for (expr, kind) in exprs.iter_mut().zip(kinds) {
        if kind.is_numeric() {
            **expr = cast(std::mem::take(&mut **expr), DataType::Utf8);
        }
    }
    Ok(true)
}

impl FunctionRewrite for Textual {
    fn name(&self) -> &'static str {
        "textual_comparison"
    }

    fn rewrite(&self, mut expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let changed = match &mut expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => {
                align(&mut [left.as_mut(), right.as_mut()], schema)?
            }
            Expr::Between(Between { expr, low, high, .. }) => {
                align(&mut [expr.as_mut(), low.as_mut(), high.as_mut()], schema)?
            }
            Expr::InList(InList { expr, list, .. }) => {
                let mut all: Vec<&mut Expr> = std::iter::once(expr.as_mut()).chain(list).collect();
                align(&mut all, schema)?
            }
            Expr::Case(Case { expr: Some(value), when_then_expr, .. }) => {
                let whens = when_then_expr.iter_mut().map(|(when, _)| when.as_mut());
                let mut all: Vec<&mut Expr> = std::iter::once(value.as_mut()).chain(whens).collect();
                align(&mut all, schema)?
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
