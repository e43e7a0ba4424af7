//! The variables of a statement: each use is replaced by the value, never by SQL.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Statement, UnaryOperator, Value, ValueWithSpan, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use landreeve_core::error::codes;
use landreeve_core::source::SourceError;
use landreeve_core::table::{Scalar, Variable};

use crate::error::query;
use crate::walk;

/// Maximum total size of the values that replace variables, in bytes.
const MAX_BYTES: usize = 2 * 1_024 * 1_024;

/// Replaces the variables with their values.
pub fn fill(statement: &mut Statement, variables: &[(String, Variable)]) -> Result<(), SourceError> {
    let mut filling = Filling { variables, bytes: 0 };
    match walk::visit_mut(statement, &mut filling) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(fault) => Err(fault),
    }
}

struct Filling<'a> {
    variables: &'a [(String, Variable)],
    /// Total size of the values so far, in bytes.
    bytes: usize,
}

impl Filling<'_> {
    fn value_of(&self, expr: &Expr) -> Option<Result<&Variable, SourceError>> {
        let Expr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) = expr else { return None };
        let bare = name.trim_start_matches(['$', ':', '?']);
        let known = self.variables.iter().find(|(known, _)| known == bare).map(|(_, value)| value);
        Some(known.ok_or_else(|| query(codes::MISSING_VARIABLE, format!("the variable {name} has no value"))))
    }

    /// `IN ($ids)`: each array in the list is replaced by its values.
    fn spread(&mut self, list: &mut Vec<Expr>) -> Result<(), SourceError> {
        let mut bytes = self.bytes;
        let mut spread = Vec::with_capacity(list.len());
        for item in list.drain(..) {
            match self.value_of(&item) {
                Some(value) => match value? {
                    Variable::Many(values) => {
                        values.iter().try_for_each(|value| count(&mut bytes, value))?;
                        spread.extend(values.iter().map(literal));
                    }
                    Variable::One(value) => {
                        count(&mut bytes, value)?;
                        spread.push(literal(value));
                    }
                    Variable::Null => spread.push(null()),
                },
                None => spread.push(item),
            }
        }
        *list = spread;
        self.bytes = bytes;
        Ok(())
    }

    /// Replaces variables with values.
    fn replace(&mut self, expr: &mut Expr) -> ControlFlow<SourceError> {
        if let Expr::InList { list, negated, .. } = expr {
            if let Err(fault) = self.spread(list) {
                return ControlFlow::Break(fault);
            }
            if list.is_empty() {
                // Nothing is in an empty list.
                *expr = Expr::Value(Value::Boolean(*negated).with_span(Span::empty()));
            }
            return ControlFlow::Continue(());
        }
        if let Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } = expr
            && let Some(Ok(Variable::Many(_))) = self.value_of(right)
        {
            let (left, right) = (left.clone(), (**right).clone());
            *expr = Expr::InList { expr: left, list: vec![right], negated: false };
            return self.replace(expr);
        }
        match self.value_of(expr) {
            None => ControlFlow::Continue(()),
            Some(Err(fault)) => ControlFlow::Break(fault),
            Some(Ok(Variable::Null)) => {
                *expr = null();
                ControlFlow::Continue(())
            }
            Some(Ok(Variable::One(value))) => {
                let (mut bytes, value) = (self.bytes, literal_of(value));
                if let Err(fault) = count(&mut bytes, &value.0) {
                    return ControlFlow::Break(fault);
                }
                self.bytes = bytes;
                *expr = value.1;
                ControlFlow::Continue(())
            }
            Some(Ok(Variable::Many(_))) => {
                let message = format!("{expr} is an array; write IN ({expr})");
                ControlFlow::Break(query("array_variable", message))
            }
        }
    }
}

impl VisitorMut for Filling<'_> {
    type Break = SourceError;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SourceError> {
        self.replace(expr)
    }
}

/// Each use of a variable counts with the size of its value.
fn count(bytes: &mut usize, value: &Scalar) -> Result<(), SourceError> {
    *bytes += match value {
        Scalar::Text(text) => text.len() + 16,
        Scalar::Boolean(_) | Scalar::Integer(_) | Scalar::Float(_) | Scalar::Instant(_) => 64,
    };
    if *bytes > MAX_BYTES {
        return Err(query(
            "too_long",
            "the values of the variables take up more than 2 MiB, counting every use",
        ));
    }
    Ok(())
}

fn literal_of(value: &Scalar) -> (Scalar, Expr) {
    (value.clone(), literal(value))
}

fn null() -> Expr {
    Expr::Value(Value::Null.with_span(Span::empty()))
}

fn literal(scalar: &Scalar) -> Expr {
    let number = |text: String| match text.strip_prefix('-') {
        Some(digits) => Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr: Box::new(Expr::Value(Value::Number(digits.to_owned(), false).with_span(Span::empty()))),
        },
        None => Expr::Value(Value::Number(text, false).with_span(Span::empty())),
    };
    match scalar {
        Scalar::Boolean(value) => Expr::Value(Value::Boolean(*value).with_span(Span::empty())),
        Scalar::Integer(value) => number(value.to_string()),
        // Only finite numbers get here; others are rejected where variables are read.
        Scalar::Float(value) => number(format!("{value:?}")),
        Scalar::Text(value) => Expr::Value(Value::SingleQuotedString(value.clone()).with_span(Span::empty())),
        Scalar::Instant(micros) => {
            let text = landreeve_core::clock::from_micros(*micros).to_string();
            Expr::Value(Value::SingleQuotedString(text).with_span(Span::empty()))
        }
    }
}
