//! What may be asked: exactly one SELECT that writes nothing, with every variable given a value.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement as DfStatement};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    Ident, ObjectName, Query, SetExpr, Statement, TableFactor, UnaryOperator, Value, ValueWithSpan, VisitMut,
    VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, Tokenizer};
use landreeve_core::source::SourceError;
use landreeve_core::table::{Scalar, Variable};

use crate::error::{not_read_only, query};

/// How deep a statement may be nested, and an expression with its chains of operators: planning takes time that grows
/// with the square of that.
const DEPTH: usize = 64;
const DEEPEST: usize = 300;

/// How many words and signs a statement may have, values and names in lists not counted: what it is made into is walked
/// by functions that call themselves.
const LONGEST: usize = 5_000;

fn check_length(sql: &str) -> Result<(), SourceError> {
    // What cannot be read as words is the parser's to tell.
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize() else { return Ok(()) };
    let counts = |token: &&Token| {
        !matches!(
            token,
            Token::Whitespace(_)
                | Token::Comma
                | Token::Period
                | Token::Number(..)
                | Token::SingleQuotedString(_)
                | Token::LParen
                | Token::RParen
        )
    };
    if tokens.iter().filter(counts).count() > LONGEST {
        let message = format!("the statement has more than {LONGEST} words and signs; make it shorter");
        return Err(query("too_long", message));
    }
    Ok(())
}

/// Reads the statement, refuses what is no single SELECT, and puts the values in place of the variables.
pub fn prepare(sql: &str, variables: &[(String, Variable)]) -> Result<DfStatement, SourceError> {
    check_length(sql)?;
    let parsed = DFParserBuilder::new(sql)
        .with_dialect(&PostgreSqlDialect {})
        .with_recursion_limit(DEPTH)
        .build()
        .and_then(|mut parser| parser.parse_statements());
    let mut statements = parsed.map_err(|error| crate::error::translate(&error))?;
    let (Some(statement), true) = (statements.pop_front(), statements.is_empty()) else {
        return Err(not_read_only("one statement is wanted, and it must be a SELECT"));
    };
    let DfStatement::Statement(mut statement) = statement else {
        return Err(not_read_only("only SELECT may be asked"));
    };
    if !matches!(*statement, Statement::Query(_)) {
        return Err(not_read_only("only SELECT may be asked"));
    }
    let mut visitor = Preparation { variables, fault: None, depth: 0, bytes: 0, queries: Vec::new() };
    let _ = VisitMut::visit(&mut *statement, &mut visitor);
    match visitor.fault {
        Some(fault) => Err(fault),
        None => Ok(DfStatement::Statement(statement)),
    }
}

struct Preparation<'a> {
    variables: &'a [(String, Variable)],
    fault: Option<SourceError>,
    /// How many expressions are open around the present one.
    depth: usize,
    /// What was put in place of variables, in bytes.
    bytes: usize,
    /// The queries around the present place.
    queries: Vec<Scope>,
}

/// What a query is made of when each name in it is replaced by what it stands for, which is how it is planned.
#[derive(Default)]
struct Scope {
    /// Names of the WITH clause whose queries are still to come.
    coming: VecDeque<String>,
    named: HashMap<String, u64>,
    size: u64,
}

/// How many tables a statement may name once every name of a WITH clause is replaced by its query.
const MOST_TABLES: u64 = 1_000;
/// How many bytes may be put in place of variables.
const MOST_BYTES: usize = 2 * 1_024 * 1_024;

impl Preparation<'_> {
    fn stop(&mut self, fault: SourceError) -> ControlFlow<()> {
        self.fault = Some(fault);
        ControlFlow::Break(())
    }

    fn value_of(&self, expr: &Expr) -> Option<Result<&Variable, SourceError>> {
        let Expr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) = expr else { return None };
        let bare = name.trim_start_matches(['$', ':', '?']);
        let known = self.variables.iter().find(|(known, _)| known == bare).map(|(_, value)| value);
        Some(known.ok_or_else(|| query("missing_variable", format!("the variable {name} has no value"))))
    }

    /// `IN ($ids)`: each array in the list becomes its values.
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

    /// Puts values in place of variables.
    fn replace(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::InList { list, negated, .. } = expr {
            if let Err(fault) = self.spread(list) {
                return self.stop(fault);
            }
            if list.is_empty() {
                // Nothing is among no values.
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
            Some(Err(fault)) => self.stop(fault),
            Some(Ok(Variable::Null)) => {
                *expr = null();
                ControlFlow::Continue(())
            }
            Some(Ok(Variable::One(value))) => {
                let (mut bytes, value) = (self.bytes, literal_of(value));
                if let Err(fault) = count(&mut bytes, &value.0) {
                    return self.stop(fault);
                }
                self.bytes = bytes;
                *expr = value.1;
                ControlFlow::Continue(())
            }
            Some(Ok(Variable::Many(_))) => {
                let message = format!("{expr} is an array: write IN ({expr})");
                self.stop(query("array_variable", message))
            }
        }
    }
}

impl VisitorMut for Preparation<'_> {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        let name = relation.to_string().to_lowercase();
        let known = self.queries.iter().rev().find_map(|query| query.named.get(&name)).copied();
        if let Some(query) = self.queries.last_mut() {
            query.size = query.size.saturating_add(known.unwrap_or(1));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { sample: Some(_), .. } => {
                self.stop(query("not_supported", "TABLESAMPLE is not there; use a condition or LIMIT"))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        let Some(ended) = self.queries.pop() else { return ControlFlow::Continue(()) };
        if ended.size > MOST_TABLES {
            let message = format!(
                "the statement names more than {MOST_TABLES} tables once its WITH clause is filled in"
            );
            return self.stop(query("too_long", message));
        }
        if let Some(around) = self.queries.last_mut() {
            match around.coming.pop_front() {
                Some(name) => drop(around.named.insert(name, ended.size.max(1))),
                None => around.size = around.size.saturating_add(ended.size),
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, asked: &mut Query) -> ControlFlow<()> {
        let with = asked.with.iter().flat_map(|with| &with.cte_tables);
        let coming = with.map(|table| table.alias.name.to_string().to_lowercase()).collect();
        self.queries.push(Scope { coming, ..Scope::default() });
        if !asked.locks.is_empty() {
            return self
                .stop(not_read_only("FOR UPDATE and FOR SHARE are not taken: nothing here is locked"));
        }
        match body_fault(&asked.body) {
            Some(fault) => self.stop(fault),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            let message = format!(
                "an expression of the statement is nested more than {DEEPEST} deep, or as long a chain of operators; \
                 use IN, CASE or a subquery"
            );
            return self.stop(query("too_deep", message));
        }
        self.replace(expr)
    }

    /// In PostgreSQL `AT TIME ZONE` leaves the zone behind; the engine's own does not.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.depth -= 1;
        match expr {
            Expr::AtTimeZone { timestamp, time_zone } => {
                *expr = call(crate::functions::AT_TIME_ZONE, timestamp, time_zone);
            }
            // Its own form is a union of types, which nothing compares with.
            Expr::BinaryOp { left, op: BinaryOperator::Arrow, right } => {
                *expr = call("json_get_json", left, right)
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn call(function: &str, left: &Expr, right: &Expr) -> Expr {
    let argument = |expr: &Expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr.clone()));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(function)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![argument(left), argument(right)],
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// What a query's body must not be or hold.
fn body_fault(body: &SetExpr) -> Option<SourceError> {
    match body {
        SetExpr::Select(select) if select.into.is_some() => {
            Some(not_read_only("SELECT INTO writes; only reading is allowed"))
        }
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) | SetExpr::Table(_) => None,
        SetExpr::SetOperation { left, right, .. } => body_fault(left).or_else(|| body_fault(right)),
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            Some(not_read_only("only SELECT may be asked"))
        }
    }
}

/// Each use of a variable takes the place of its value.
fn count(bytes: &mut usize, value: &Scalar) -> Result<(), SourceError> {
    *bytes += match value {
        Scalar::Text(text) => text.len() + 16,
        Scalar::Boolean(_) | Scalar::Integer(_) | Scalar::Float(_) | Scalar::Instant(_) => 64,
    };
    if *bytes > MOST_BYTES {
        return Err(query("too_long", "the variables take more than 2 MiB where they are used"));
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
        // A finite number has digits; the others are refused where variables are read.
        Scalar::Float(value) => number(format!("{value:?}")),
        Scalar::Text(value) => Expr::Value(Value::SingleQuotedString(value.clone()).with_span(Span::empty())),
        Scalar::Instant(micros) => {
            let text = landreeve_core::clock::from_micros(*micros).to_string();
            Expr::Value(Value::SingleQuotedString(text).with_span(Span::empty()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landreeve_core::source::SourceErrorKind;

    fn prepared(sql: &str, variables: &[(&str, Variable)]) -> Result<String, SourceError> {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        prepare(sql, &variables).map(|statement| statement.to_string())
    }

    #[test]
    fn everything_but_one_select_is_refused() {
        for sql in [
            "",
            ";",
            "select 1; select 2",
            "insert into deployments values (1)",
            "update deployments set id = 1",
            "delete from deployments",
            "drop table deployments",
            "create table x as select 1",
            "create external table x stored as csv location '/etc/passwd'",
            "copy deployments to '/tmp/x'",
            "select 1 into x",
            "with x as (insert into t values (1) returning 1) select * from x",
            "with x as (select 1 into y) select * from x",
            "select * from deployments for update",
            "set datafusion.execution.batch_size = 1",
            "explain select 1",
            "show tables",
            "begin",
            "prepare x as select 1",
        ] {
            assert_eq!(prepared(sql, &[]).unwrap_err().kind, SourceErrorKind::NotReadOnly, "{sql}");
        }
    }

    #[test]
    fn variables_are_values_and_never_sql() {
        let one = |text: &str| Variable::One(Scalar::Text(text.to_owned()));
        assert_eq!(
            prepared("select $a", &[("a", one("x' or '1'='1"))]).unwrap(),
            "SELECT 'x'' or ''1''=''1'"
        );
        let ids = Variable::Many(vec![Scalar::Integer(1), Scalar::Integer(-2)]);
        assert_eq!(
            prepared("select 1 where x in ($ids)", &[("ids", ids.clone())]).unwrap(),
            "SELECT 1 WHERE x IN (1, -2)"
        );
        assert_eq!(
            prepared("select 1 where x = any($ids)", &[("ids", ids.clone())]).unwrap(),
            "SELECT 1 WHERE x IN (1, -2)"
        );
        let none = [("ids", Variable::Many(Vec::new()))];
        assert_eq!(prepared("select 1 where x in ($ids)", &none).unwrap(), "SELECT 1 WHERE false");
        assert_eq!(prepared("select 1 where x not in ($ids)", &none).unwrap(), "SELECT 1 WHERE true");
        assert_eq!(prepared("select $n", &[("n", Variable::Null)]).unwrap(), "SELECT NULL");
        assert_eq!(prepared("select $ids", &[("ids", ids)]).unwrap_err().code.unwrap(), "array_variable");
        assert_eq!(prepared("select $x", &[]).unwrap_err().code.unwrap(), "missing_variable");
        assert_eq!(prepared("select '$x', \"$x\"", &[]).unwrap(), "SELECT '$x', \"$x\"");
    }

    #[test]
    fn nesting_has_a_bound() {
        let deep = format!("select {}1{}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(prepared(&deep, &[]).is_err());
    }
}
