//! Bounds the size of expressions during planning. The planner replaces some expressions by ones that contain an argument
//! twice (COALESCE becomes CASE), and columns by what computes them, so that a short statement can become a tree of any
//! size. Nothing can interrupt that, so the size is estimated before it begins.

use std::collections::HashMap;

use datafusion::common::tree_node::TreeNode as _;
use datafusion::common::{Column, DFSchema, Result, TableReference};
use datafusion::logical_expr::expr::{Between, Case, InList};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast;
use landreeve_core::source::SourceError;

use crate::error::{query, translate};

/// Maximum size of an expression, in nodes, once everything in it is replaced. A size of 65,536 took 0.7 s to plan and
/// 257 MB.
const MAX_NODES: u64 = 50_000;

/// Maximum size of the conditions that the planner collects at one table, in nodes. Three times as many overflow the stack
/// of a program that is not optimised.
const MAX_CONDITIONS: u64 = 8_000;

/// Functions that become CASE with an argument twice, whose type is looked at again for each.
const REPEATED: [&str; 4] = ["coalesce", "nvl", "ifnull", "nvl2"];
/// As measured: with `greatest` inside, each level takes 4.5 times as long as the one below it.
const COPIES: u64 = 5;
/// Lists up to this length become comparisons.
const SHORT_LIST: usize = 3;

/// Refuses a statement whose expressions would become too large.
pub fn check(plan: &LogicalPlan) -> std::result::Result<(), SourceError> {
    let mut largest = 0;
    weigh(plan, &mut largest).map_err(|error| translate(&error))?;
    within(largest)?;
    let conditions = conditions(plan).map_err(|error| translate(&error))?;
    if conditions > MAX_CONDITIONS {
        let message = format!(
            "the conditions of the statement and of the views below it have more than {MAX_CONDITIONS} parts together; \
             use fewer, or a list (IN)"
        );
        return Err(query("too_deep", message));
    }
    Ok(())
}

/// The size of all conditions between a plan's result and the table that has the most: the planner collects them at the
/// table, one inside the other, and walks them recursively.
fn conditions(plan: &LogicalPlan) -> Result<u64> {
    let mut below = 0;
    for input in plan.inputs() {
        below = below.max(conditions(input)?);
    }
    let mut own = 0;
    let mut count = |expr: &Expr| {
        expr.apply(|_| {
            own += 1;
            Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
        })
    };
    match plan {
        LogicalPlan::Filter(filter) => drop(count(&filter.predicate)?),
        LogicalPlan::Join(join) => {
            if let Some(condition) = &join.filter {
                count(condition)?;
            }
        }
        _ => {}
    }
    Ok(below + own)
}

/// How often the planner may write the parts of an expression: at least once. It looks at types as often, while it makes
/// the plan that `check` looks at.
pub fn copies(expr: &ast::Expr) -> u64 {
    match expr {
        ast::Expr::Function(call) => {
            let name = call.name.0.last().map(ToString::to_string).unwrap_or_default();
            let repeats = |known: &str| name.trim_matches('"').eq_ignore_ascii_case(known);
            if REPEATED.iter().any(|known| repeats(known)) { COPIES } else { 1 }
        }
        ast::Expr::Between { .. } => 2,
        ast::Expr::Case { operand: Some(_), conditions, .. } => 1 + conditions.len() as u64,
        ast::Expr::InList { list, .. } if list.len() <= SHORT_LIST => list.len().max(1) as u64,
        _ => 1,
    }
}

/// Refuses an expression of this size.
pub fn within(size: u64) -> std::result::Result<(), SourceError> {
    if size > MAX_NODES {
        let message = format!(
            "an expression has more than {MAX_NODES} parts once it is expanded (COALESCE and CASE count their \
             arguments several times, and columns of subqueries and views as what computes them); make it simpler"
        );
        return Err(query("too_deep", message));
    }
    Ok(())
}

/// The size of what computes each column of a plan. `largest`: of any expression so far.
fn weigh(plan: &LogicalPlan, largest: &mut u64) -> Result<Vec<u64>> {
    let mut known = Known::default();
    let mut inputs = Vec::new();
    for input in plan.inputs() {
        let weights = weigh(input, largest)?;
        known.add(input.schema(), &weights);
        inputs.push(weights);
    }
    let mut sizes = Vec::new();
    plan.apply_expressions(|expr| {
        let size = size(expr, &known, largest)?;
        *largest = (*largest).max(size);
        sizes.push(size);
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    })?;
    let width = plan.schema().fields().len();
    let mut columns = match plan {
        LogicalPlan::Projection(_) => sizes,
        // Its groups are computed as they are written; what it aggregates is not merged with anything.
        LogicalPlan::Aggregate(aggregate) => sizes.into_iter().take(aggregate.group_expr.len()).collect(),
        LogicalPlan::Union(_) => {
            let at = |column: usize| {
                inputs.iter().filter_map(|input| input.get(column)).max().copied().unwrap_or(1)
            };
            (0..width).map(at).collect()
        }
        _ => inputs.concat(),
    };
    columns.resize(width, 1);
    Ok(columns)
}

/// The sizes of columns, by their names.
#[derive(Default)]
struct Known {
    qualified: HashMap<(TableReference, String), u64>,
    named: HashMap<String, u64>,
}

impl Known {
    fn add(&mut self, schema: &DFSchema, weights: &[u64]) {
        for ((qualifier, field), weight) in schema.iter().zip(weights) {
            let name = field.name().clone();
            let largest = self.named.entry(name.clone()).or_insert(*weight);
            *largest = (*largest).max(*weight);
            if let Some(qualifier) = qualifier {
                self.qualified.insert((qualifier.clone(), name), *weight);
            }
        }
    }

    fn get(&self, column: &Column) -> u64 {
        let qualified = column
            .relation
            .as_ref()
            .and_then(|relation| self.qualified.get(&(relation.clone(), column.name.clone())));
        qualified.or_else(|| self.named.get(&column.name)).copied().unwrap_or(1)
    }
}

fn size(expr: &Expr, known: &Known, largest: &mut u64) -> Result<u64> {
    if let Expr::Column(column) = expr {
        return Ok(known.get(column));
    }
    if let Some(plan) = subqueries(expr) {
        weigh(plan, largest)?;
    }
    let mut parts = Vec::new();
    expr.apply_children(|part| {
        parts.push(size(part, known, largest)?);
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    })?;
    let sum = parts.iter().fold(1, |sum: u64, part| sum.saturating_add(*part));
    let first = parts.first().copied().unwrap_or(0);
    Ok(match expr {
        Expr::ScalarFunction(call) if REPEATED.contains(&call.name()) => sum.saturating_mul(COPIES),
        Expr::Between(Between { .. }) => sum.saturating_add(first),
        Expr::Case(Case { expr: Some(_), when_then_expr, .. }) => {
            sum.saturating_add(first.saturating_mul(when_then_expr.len() as u64))
        }
        Expr::InList(InList { list, .. }) if list.len() <= SHORT_LIST => {
            sum.saturating_add(first.saturating_mul(list.len() as u64))
        }
        _ => sum,
    })
}

fn subqueries(expr: &Expr) -> Option<&LogicalPlan> {
    match expr {
        Expr::ScalarSubquery(subquery) => Some(&subquery.subquery),
        Expr::InSubquery(found) => Some(&found.subquery.subquery),
        Expr::Exists(found) => Some(&found.subquery.subquery),
        _ => None,
    }
}
