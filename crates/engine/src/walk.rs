//! Visits parsed statements.
//!
//! The parser's traversal is generic over the visitor and covers every kind of statement, so it is large. Here it is compiled
//! for two types, not for each of our visitors.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, Select, Statement, TableFactor, ValueWithSpan, Visit, VisitMut, Visitor,
    VisitorMut,
};

pub fn visit<N: Visit, V: Visitor>(node: &N, visitor: &mut V) -> ControlFlow<V::Break> {
    let mut stopping = Stopping { visitor, why: None };
    let stopped = Visit::visit(node, &mut Reading(&mut stopping));
    ended(stopped, stopping.why)
}

pub fn visit_mut<N: VisitMut, V: VisitorMut>(node: &mut N, visitor: &mut V) -> ControlFlow<V::Break> {
    let mut stopping = Stopping { visitor, why: None };
    let stopped = VisitMut::visit(node, &mut Changing(&mut stopping));
    ended(stopped, stopping.why)
}

fn ended<B>(stopped: ControlFlow<()>, why: Option<B>) -> ControlFlow<B> {
    match (stopped, why) {
        (ControlFlow::Break(()), Some(why)) => ControlFlow::Break(why),
        _ => ControlFlow::Continue(()),
    }
}

/// A visitor, and why it stopped.
struct Stopping<'a, V, B> {
    visitor: &'a mut V,
    why: Option<B>,
}

impl<V, B> Stopping<'_, V, B> {
    fn keep(&mut self, visit: impl FnOnce(&mut V) -> ControlFlow<B>) -> ControlFlow<()> {
        match visit(self.visitor) {
            ControlFlow::Continue(()) => ControlFlow::Continue(()),
            ControlFlow::Break(why) => {
                self.why = Some(why);
                ControlFlow::Break(())
            }
        }
    }
}

struct Reading<'a>(&'a mut dyn Visitor<Break = ()>);

impl Reading<'_> {
    fn pass(
        &mut self,
        visit: impl FnOnce(&mut dyn Visitor<Break = ()>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        visit(self.0)
    }
}

struct Changing<'a>(&'a mut dyn VisitorMut<Break = ()>);

impl Changing<'_> {
    fn pass(
        &mut self,
        visit: impl FnOnce(&mut dyn VisitorMut<Break = ()>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        visit(self.0)
    }
}

/// The methods of a visitor, each of which calls the visitor below.
macro_rules! methods {
    ($call:ident: $($method:ident($node:ty)),+ $(,)?) => {
        type Break = ();

        $(fn $method(&mut self, node: $node) -> ControlFlow<()> {
            self.$call(|visitor| visitor.$method(node))
        })+
    };
}

macro_rules! reading {
    ($call:ident) => {
        methods! { $call:
            pre_visit_query(&Query),
            post_visit_query(&Query),
            pre_visit_select(&Select),
            post_visit_select(&Select),
            pre_visit_relation(&ObjectName),
            post_visit_relation(&ObjectName),
            pre_visit_table_factor(&TableFactor),
            post_visit_table_factor(&TableFactor),
            pre_visit_expr(&Expr),
            post_visit_expr(&Expr),
            pre_visit_statement(&Statement),
            post_visit_statement(&Statement),
            pre_visit_value(&ValueWithSpan),
            post_visit_value(&ValueWithSpan)
        }
    };
}

macro_rules! changing {
    ($call:ident) => {
        methods! { $call:
            pre_visit_query(&mut Query),
            post_visit_query(&mut Query),
            pre_visit_select(&mut Select),
            post_visit_select(&mut Select),
            pre_visit_relation(&mut ObjectName),
            post_visit_relation(&mut ObjectName),
            pre_visit_table_factor(&mut TableFactor),
            post_visit_table_factor(&mut TableFactor),
            pre_visit_expr(&mut Expr),
            post_visit_expr(&mut Expr),
            pre_visit_statement(&mut Statement),
            post_visit_statement(&mut Statement),
            pre_visit_value(&mut ValueWithSpan),
            post_visit_value(&mut ValueWithSpan)
        }
    };
}

impl<V: Visitor> Visitor for Stopping<'_, V, V::Break> {
    reading!(keep);
}

impl<V: VisitorMut> VisitorMut for Stopping<'_, V, V::Break> {
    changing!(keep);
}

impl Visitor for Reading<'_> {
    reading!(pass);
}

impl VisitorMut for Changing<'_> {
    changing!(pass);
}
