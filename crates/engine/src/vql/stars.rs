//! Replaces every `*` of a SELECT list in a view's text by the columns it means.

use std::ops::ControlFlow;

use datafusion::common::TableReference;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, JoinConstraint, JoinOperator, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, Spanned as _, Statement, TableFactor, TableWithJoins, Value,
    Visitor, With,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use landreeve_core::source::SourceError;

use super::tokens::{end_of, start_of};
use crate::walk;

/// Plans a query; only its schema is used.
pub type Plan<'a> = dyn FnMut(Statement) -> Result<LogicalPlan, SourceError> + 'a;

/// The text with each `*` spelled out. `statement` is the text's syntax tree.
pub fn spell_out(sql: &str, statement: &Statement, plan: &mut Plan<'_>) -> Result<String, SourceError> {
    let mut stars = Stars { around: Vec::new(), found: Vec::new() };
    let _ = walk::visit(statement, &mut stars);
    let mut text = String::with_capacity(sql.len());
    let mut copied = 0;
    for star in stars.found {
        let columns = columns(&plan(star.query)?);
        text.push_str(sql.get(copied..star.start).unwrap_or_default());
        text.push_str(&columns);
        copied = star.end;
    }
    text.push_str(sql.get(copied..).unwrap_or_default());
    Ok(text)
}

struct Star {
    start: usize,
    end: usize,
    /// `SELECT *` from the same tables.
    query: Statement,
}

struct Stars {
    /// The WITH clauses around the current position, with the tables that can be named there.
    around: Vec<(Option<With>, usize)>,
    found: Vec<Star>,
}

impl Visitor for Stars {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        // The queries of a WITH clause come first; each can name those before it.
        self.around.push((query.with.clone(), 0));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.around.pop();
        if let Some((_, named)) = self.around.last_mut() {
            *named += 1;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in &select.projection {
            let (start, end) = match item {
                SelectItem::Wildcard(options) => {
                    let span = options.wildcard_token.0.span;
                    (start_of(span), end_of(span))
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    (start_of(name.span()), end_of(options.wildcard_token.0.span))
                }
                _ => continue,
            };
            if let (Some(start), Some(end)) = (start, end) {
                self.found.push(Star { start, end, query: self.query(select, item) });
            }
        }
        ControlFlow::Continue(())
    }
}

impl Stars {
    /// `SELECT *` from the same tables, within the same WITH clauses.
    fn query(&self, select: &Select, item: &SelectItem) -> Statement {
        let mut from = select.from.clone();
        from.iter_mut().for_each(without_conditions);
        let body = Select {
            distinct: None,
            projection: vec![item.clone()],
            from,
            selection: None,
            group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
            having: None,
            ..select.clone()
        };
        let mut query = plain(SetExpr::Select(Box::new(body)));
        for (clause, named) in self.around.iter().rev() {
            let Some(clause) = clause else { continue };
            let cte_tables: Vec<_> = clause.cte_tables.iter().take(*named).cloned().collect();
            if !cte_tables.is_empty() {
                query = plain(SetExpr::Query(Box::new(query)));
                query.with = Some(With { cte_tables, ..clause.clone() });
            }
        }
        Statement::Query(Box::new(query))
    }
}

fn plain(body: SetExpr) -> Query {
    Query {
        with: None,
        body: Box::new(body),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}

/// The condition of a join can name columns of a query around it, and does not decide which columns there are.
fn without_conditions(table: &mut TableWithJoins) {
    let inner = |factor: &mut TableFactor| {
        if let TableFactor::NestedJoin { table_with_joins, .. } = factor {
            without_conditions(table_with_joins);
        }
    };
    inner(&mut table.relation);
    for join in &mut table.joins {
        inner(&mut join.relation);
        if let JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint) = &mut join.join_operator
            && let JoinConstraint::On(condition) = constraint
        {
            *condition = Expr::Value(Value::Boolean(true).with_span(Span::empty()));
        }
    }
}

/// The columns of a plan as a list in SQL.
fn columns(plan: &LogicalPlan) -> String {
    let column = |(qualifier, field): (Option<&TableReference>, &arrow_schema::FieldRef)| {
        let mut parts: Vec<&str> = Vec::new();
        if let Some(qualifier) = qualifier {
            parts.extend(qualifier.schema());
            parts.push(qualifier.table());
        }
        parts.push(field.name());
        parts.iter().map(|part| quoted(part)).collect::<Vec<_>>().join(".")
    };
    plan.schema().iter().map(column).collect::<Vec<_>>().join(", ")
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
