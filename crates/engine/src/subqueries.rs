//! Refuses queries in conditions whose answer would be wrong: the planner turns them into joins, which know no NULL.
//!
//! `x IN (SELECT …)` becomes a join that marks rows, so that an unknown answer is *false*. That is as good where only *true*
//! counts: in a condition of WHERE or HAVING, below AND and OR. `NOT IN` is exact as such a condition of its own.

use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::common::{JoinType, Result};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, Subquery};
use landreeve_core::source::SourceError;

use crate::error::{query, translate};

/// What is made of an expression's value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Rows are kept if it is true. It is a condition of its own.
    Condition,
    /// The same, but another condition may be enough.
    Alternative,
    /// An unknown value differs from *false*.
    Value,
}

/// Refuses a statement with such a query.
pub fn check(plan: &LogicalPlan) -> std::result::Result<(), SourceError> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        found = fault_of(node)?;
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })
    .map_err(|error| translate(&error))?;
    match found {
        Some(message) => Err(query("not_supported", message)),
        None => Ok(()),
    }
}

fn fault_of(node: &LogicalPlan) -> Result<Option<&'static str>> {
    match node {
        LogicalPlan::Filter(filter) => fault(&filter.predicate, Place::Condition),
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner => match &join.filter {
            Some(condition) => fault(condition, Place::Condition),
            None => Ok(None),
        },
        _ => {
            let mut found = None;
            node.apply_expressions(|expr| {
                found = fault(expr, Place::Value)?;
                Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })?;
            Ok(found)
        }
    }
}

const UNKNOWN: &str = "IN with a query can only be a condition of WHERE or HAVING, below AND and OR: elsewhere NULL would \
     count as false; use EXISTS or a join";
const NEGATED: &str = "NOT IN with a query can only be a condition of its own or below AND: elsewhere NULL would count as \
     false; use NOT EXISTS or a join";
const CORRELATED: &str =
    "NOT IN with a query that names columns of the query around it is not supported; use NOT EXISTS";
const COUNTED: &str = "a query in IN or EXISTS that names columns of the query around it cannot be an aggregate without \
     GROUP BY; compare with the aggregate, as in (SELECT count(*) …) > 0";

fn fault(expr: &Expr, place: Place) -> Result<Option<&'static str>> {
    match expr {
        Expr::Alias(alias) => fault(&alias.expr, place),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) if place != Place::Value => {
            either(left, right, place)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) if place != Place::Value => {
            either(left, right, Place::Alternative)
        }
        Expr::Not(inner) => match inner.as_ref() {
            Expr::InSubquery(asked) => {
                Ok(in_query(&asked.subquery, !asked.negated, place).or(fault(&asked.expr, Place::Value)?))
            }
            other => fault(other, Place::Value),
        },
        Expr::InSubquery(asked) => {
            Ok(in_query(&asked.subquery, asked.negated, place).or(fault(&asked.expr, Place::Value)?))
        }
        Expr::Exists(asked) => Ok(counted(&asked.subquery)),
        other => {
            let mut found = None;
            other.apply_children(|part| {
                found = fault(part, Place::Value)?;
                Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })?;
            Ok(found)
        }
    }
}

fn either(left: &Expr, right: &Expr, place: Place) -> Result<Option<&'static str>> {
    match fault(left, place)? {
        None => fault(right, place),
        found => Ok(found),
    }
}

fn in_query(asked: &Subquery, negated: bool, place: Place) -> Option<&'static str> {
    match (negated, place) {
        (_, Place::Value) => Some(UNKNOWN),
        (true, Place::Alternative) => Some(NEGATED),
        (true, Place::Condition) if !asked.outer_ref_columns.is_empty() => Some(CORRELATED),
        _ => counted(asked),
    }
}

/// An aggregate without groups has a row also where nothing matches, which a join does not make.
fn counted(asked: &Subquery) -> Option<&'static str> {
    (!asked.outer_ref_columns.is_empty() && is_counted(&asked.subquery)).then_some(COUNTED)
}

fn is_counted(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Distinct(_)
        | LogicalPlan::SubqueryAlias(_) => plan.inputs().into_iter().any(is_counted),
        _ => false,
    }
}
