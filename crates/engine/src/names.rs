//! The tables and views that a statement names; names of its WITH clauses are not among them.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Ident, ObjectName, ObjectNamePart, Query, Statement, TableFactor, Visitor, VisitorMut,
};
use landreeve_core::table::TableName;

use crate::walk;

/// The parts of a name as the planner compares them.
fn parts(name: &ObjectName) -> Vec<String> {
    let part = |part: &ObjectNamePart| match part.as_ident() {
        Some(Ident { value, quote_style: None, .. }) => value.to_lowercase(),
        Some(quoted) => quoted.value.clone(),
        None => part.to_string(),
    };
    name.0.iter().map(part).collect()
}

/// The table or view of a name; `schema` is that of unqualified names.
pub fn table_name(name: &ObjectName, schema: &str) -> TableName {
    let mut parts = parts(name);
    let last = parts.pop().unwrap_or_default();
    TableName::new(parts.pop().unwrap_or_else(|| schema.to_owned()), last)
}

/// The names in the WITH clauses around the current position. A name counts from the query after its own.
#[derive(Default)]
struct Scopes(Vec<Scope>);

#[derive(Default)]
struct Scope {
    coming: std::collections::VecDeque<String>,
    named: Vec<String>,
}

impl Scopes {
    fn enter(&mut self, query: &Query) {
        let with = query.with.iter().flat_map(|with| &with.cte_tables);
        let name = |name: &Ident| parts(&ObjectName::from(vec![name.clone()])).pop().unwrap_or_default();
        let coming = with.map(|table| name(&table.alias.name)).collect();
        // A recursive query names itself.
        let recursive = query.with.as_ref().is_some_and(|with| with.recursive);
        let named =
            if recursive { Vec::from(std::collections::VecDeque::clone(&coming)) } else { Vec::new() };
        self.0.push(Scope { coming, named });
    }

    fn leave(&mut self) {
        self.0.pop();
        if let Some(around) = self.0.last_mut() {
            around.named.extend(around.coming.pop_front());
        }
    }

    fn contain(&self, name: &ObjectName) -> bool {
        match parts(name).as_slice() {
            [one] => self.0.iter().any(|scope| scope.named.contains(one)),
            _ => false,
        }
    }
}

/// Every table and view that a statement names, in order, as often as it names it.
pub fn named(statement: &Statement, schema: &str) -> Vec<TableName> {
    let mut naming = Naming { scopes: Scopes::default(), schema, found: Vec::new() };
    let _ = walk::visit(statement, &mut naming);
    naming.found
}

struct Naming<'a> {
    scopes: Scopes,
    schema: &'a str,
    found: Vec<TableName>,
}

impl Visitor for Naming<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.scopes.enter(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.scopes.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        if !self.scopes.contain(relation) {
            self.found.push(table_name(relation, self.schema));
        }
        ControlFlow::Continue(())
    }
}

/// Puts the schema before every unqualified name.
pub fn qualify(statement: &mut Statement, schema: &str) {
    let _ = walk::visit_mut(statement, &mut Qualifying { scopes: Scopes::default(), schema });
}

struct Qualifying<'a> {
    scopes: Scopes,
    schema: &'a str,
}

impl VisitorMut for Qualifying<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.scopes.enter(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.scopes.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: None, .. } = factor
            && name.0.len() == 1
            && !self.scopes.contain(name)
        {
            let schema = Ident::with_quote('"', self.schema);
            name.0.insert(0, ObjectNamePart::Identifier(schema));
        }
        ControlFlow::Continue(())
    }
}
