//! Checks that a statement, in any flavour, is a single SELECT that writes nothing, locks nothing and is small enough
//! to be planned.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, SetExpr, SetOperator, Statement, TableFactor, Visitor,
};
use landreeve_core::source::SourceError;

use crate::error::{not_read_only, query};
use crate::growth;
use crate::walk;

/// Maximum nesting of an expression, including chains of operators: planning time grows with its square.
const DEEPEST: usize = 300;

/// The size of a query once each name in it is replaced by its query, which is how it is planned.
#[derive(Default)]
struct Scope {
    /// Names of the WITH clause whose queries have not been visited yet.
    coming: VecDeque<String>,
    named: HashMap<String, u64>,
    size: u64,
}

/// Maximum number of tables in a statement once every view and every name of a WITH clause is replaced by its query. A SELECT
/// without a table counts as one.
const MAX_TABLES: u64 = 1_000;
/// What each INTERSECT and EXCEPT counts besides: they become joins inside each other, and a hundred of them take as long to
/// plan as a thousand tables.
const SET_JOIN: u64 = 15;
/// Maximum number of names in a WITH clause.
const MAX_NAMES: usize = 200;
/// Maximum number of columns of a SELECT: planning takes time with their square.
const MAX_COLUMNS: usize = 5_000;

/// Rejects a statement that does more than read, or that is too large to be planned.
pub fn check(statement: &Statement) -> Result<(), SourceError> {
    if !matches!(statement, Statement::Query(_)) {
        return Err(not_read_only("only SELECT statements are allowed"));
    }
    expanded(statement, &|_| 1).map(drop)
}

/// The number of tables in a statement once every name is replaced by its query; `weigh` is how many there are in a
/// view. Rejects a statement that has too many.
pub fn expanded(statement: &Statement, weigh: &dyn Fn(&ObjectName) -> u64) -> Result<u64, SourceError> {
    let mut check = Check { weigh, sizes: Vec::new(), queries: Vec::new(), size: 0 };
    match walk::visit(statement, &mut check) {
        ControlFlow::Continue(()) => Ok(check.size),
        ControlFlow::Break(fault) => Err(fault),
    }
}

struct Check<'a> {
    weigh: &'a dyn Fn(&ObjectName) -> u64,
    /// For each expression that contains the current position: how large its parts are so far.
    sizes: Vec<u64>,
    /// The queries that contain the current position.
    queries: Vec<Scope>,
    /// The size of the whole statement, in the end.
    size: u64,
}

impl Visitor for Check<'_> {
    type Break = SourceError;

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<SourceError> {
        let name = relation.to_string().to_lowercase();
        let known = self.queries.iter().rev().find_map(|query| query.named.get(&name)).copied();
        let size = known.unwrap_or_else(|| (self.weigh)(relation));
        if let Some(query) = self.queries.last_mut() {
            query.size = query.size.saturating_add(size);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<SourceError> {
        match factor {
            TableFactor::Table { sample: Some(_), .. } => ControlFlow::Break(query(
                "not_supported",
                "TABLESAMPLE is not supported; use a condition or LIMIT",
            )),
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<SourceError> {
        let Some(ended) = self.queries.pop() else { return ControlFlow::Continue(()) };
        if ended.size > MAX_TABLES {
            return ControlFlow::Break(too_many_tables());
        }
        match self.queries.last_mut() {
            Some(around) => match around.coming.pop_front() {
                Some(name) => drop(around.named.insert(name, ended.size.max(1))),
                None => around.size = around.size.saturating_add(ended.size),
            },
            None => self.size = ended.size,
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, asked: &Query) -> ControlFlow<SourceError> {
        let with = asked.with.iter().flat_map(|with| &with.cte_tables);
        let coming = with.map(|table| table.alias.name.to_string().to_lowercase()).collect();
        self.queries.push(Scope { coming, size: own_size(&asked.body), ..Scope::default() });
        if asked.with.as_ref().is_some_and(|with| with.cte_tables.len() > MAX_NAMES) {
            let message = format!("a WITH clause has more than {MAX_NAMES} names; use views");
            return ControlFlow::Break(query("too_long", message));
        }
        if !asked.locks.is_empty() {
            return ControlFlow::Break(not_read_only(
                "FOR UPDATE and FOR SHARE are not allowed; leave them out",
            ));
        }
        match body_fault(&asked.body) {
            Some(fault) => ControlFlow::Break(fault),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<SourceError> {
        self.sizes.push(1);
        if self.sizes.len() > DEEPEST {
            let message = format!(
                "an expression has more than {DEEPEST} levels, or a chain of operators is longer than that; \
                 use IN, CASE or a subquery"
            );
            return ControlFlow::Break(query("too_deep", message));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<SourceError> {
        let size = self.sizes.pop().unwrap_or(1).saturating_mul(growth::copies(expr));
        if let Some(around) = self.sizes.last_mut() {
            *around = around.saturating_add(size);
        }
        match growth::within(size) {
            Ok(()) => ControlFlow::Continue(()),
            Err(fault) => ControlFlow::Break(fault),
        }
    }
}

fn too_many_tables() -> SourceError {
    let message = format!(
        "the statement uses more than {MAX_TABLES} tables once its views and its WITH clause are expanded (a SELECT without a \
         table counts as one, INTERSECT and EXCEPT as {SET_JOIN})"
    );
    query("too_long", message)
}

/// Refuses a chain of more set operations than a statement may have tables, before anything walks it recursively.
pub fn check_chain(set_operations: usize) -> Result<(), SourceError> {
    if u64::try_from(set_operations).is_ok_and(|count| count <= MAX_TABLES) {
        Ok(())
    } else {
        Err(too_many_tables())
    }
}

/// What a body counts besides its tables.
fn own_size(body: &SetExpr) -> u64 {
    match body {
        SetExpr::Select(select) => u64::from(select.from.is_empty()),
        SetExpr::SetOperation { op, left, right, .. } => {
            let joins = matches!(op, SetOperator::Intersect | SetOperator::Except | SetOperator::Minus);
            let own = if joins { SET_JOIN } else { 0 };
            own.saturating_add(own_size(left)).saturating_add(own_size(right))
        }
        SetExpr::Values(_) => 1,
        _ => 0,
    }
}

/// Why a query's body is not allowed; `None` if it is.
fn body_fault(body: &SetExpr) -> Option<SourceError> {
    match body {
        SetExpr::Select(select) if select.into.is_some() => {
            Some(not_read_only("SELECT INTO writes; only reading is allowed"))
        }
        SetExpr::Select(select) if select.projection.len() > MAX_COLUMNS => {
            Some(query("too_long", format!("a SELECT has more than {MAX_COLUMNS} columns")))
        }
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) | SetExpr::Table(_) => None,
        SetExpr::SetOperation { left, right, .. } => body_fault(left).or_else(|| body_fault(right)),
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            Some(not_read_only("only SELECT statements are allowed"))
        }
    }
}
