//! Gives a checked statement in VQL the meaning that it has there: operators and functions become calls of the functions
//! in `functions`, or of DataFusion's where the meaning is the same.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, DataType, DuplicateTreatment, ExactNumberInfo, Expr, Function,
    FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, LimitClause, ObjectName,
    Query, Select, SelectItem, SetExpr, SetOperator, Statement, TableFactor, TimezoneInfo, TrimWhereField,
    TypedString, UnaryOperator, Value, ValueWithSpan, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Span;

use super::functions::{self, like};
use super::strict::is_dual;
use crate::walk;

pub fn apply(statement: &mut Statement) {
    let _ = walk::visit_mut(statement, &mut Rewriting);
}

struct Rewriting;

impl VisitorMut for Rewriting {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        without_minus(&mut query.body);
        if let Some(fetch) = query.fetch.take() {
            let one = || Expr::Value(Value::Number("1".to_owned(), false).with_span(Span::empty()));
            let limit = Some(fetch.quantity.unwrap_or_else(one));
            let offset = match query.limit_clause.take() {
                Some(LimitClause::LimitOffset { offset, .. }) => offset,
                _ => None,
            };
            query.limit_clause = Some(LimitClause::LimitOffset { limit, offset, limit_by: Vec::new() });
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        name_columns(select);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if is_dual(factor)
            && let TableFactor::Table { alias, .. } = factor
            && let Some(subquery) = one_row()
        {
            *factor = TableFactor::Derived { lateral: false, subquery, alias: alias.take(), sample: None };
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        rewrite(expr);
        ControlFlow::Continue(())
    }
}

/// DataFusion has EXCEPT, which means the same.
fn without_minus(body: &mut SetExpr) {
    let mut left = body;
    while let SetExpr::SetOperation { left: next, op, right, .. } = left {
        if *op == SetOperator::Minus {
            *op = SetOperator::Except;
        }
        without_minus(right);
        left = next;
    }
}

fn one_row() -> Option<Box<Query>> {
    let parsed = Parser::parse_sql(&GenericDialect {}, "SELECT 1 AS dual").ok()?;
    match parsed.into_iter().next() {
        Some(Statement::Query(query)) => Some(query),
        _ => None,
    }
}

/// A column without an alias is called by its function, or `expression`; equal names are numbered.
fn name_columns(select: &mut Select) {
    let mut taken: Vec<String> = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::ExprWithAlias { alias, .. } => taken.push(alias.value.clone()),
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => taken.push(name.value.clone()),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
                taken.extend(parts.last().map(|name| name.value.clone()));
            }
            _ => {}
        }
    }
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        if matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
            continue;
        }
        let plain = column_name(expr);
        let numbered = (1..).map(|number| format!("{plain}_{number}"));
        let mut names = std::iter::once(plain.clone()).chain(numbered);
        let Some(name) = names.find(|name| !taken.contains(name)) else { continue };
        taken.push(name.clone());
        let expr = std::mem::replace(expr, null());
        *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) };
    }
}

fn column_name(expr: &Expr) -> String {
    let mut expr = expr;
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    match expr {
        Expr::Function(function) => function.name.to_string().to_lowercase(),
        Expr::Cast { .. } => "cast".to_owned(),
        Expr::Case { .. } => "case".to_owned(),
        Expr::Ceil { .. } => "ceil".to_owned(),
        Expr::Floor { .. } => "floor".to_owned(),
        Expr::Extract { .. } => "extract".to_owned(),
        Expr::Position { .. } => "position".to_owned(),
        Expr::Substring { shorthand: true, .. } => "substr".to_owned(),
        Expr::Substring { .. } => "substring".to_owned(),
        Expr::Trim { .. } => "trim".to_owned(),
        _ => "expression".to_owned(),
    }
}

fn null() -> Expr {
    Expr::Value(Value::Null.with_span(Span::empty()))
}

fn text(value: impl Into<String>) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.into()).with_span(Span::empty()))
}

fn number(value: u64) -> Expr {
    Expr::Value(Value::Number(value.to_string(), false).with_span(Span::empty()))
}

fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, null())
}

fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

fn bigint(expr: Expr) -> Expr {
    cast(expr, DataType::BigInt(None))
}

/// Microseconds, the precision of all instants.
fn instant() -> DataType {
    DataType::Timestamp(Some(6), TimezoneInfo::Tz)
}

fn rewrite(expr: &mut Expr) {
    let made = match expr {
        Expr::BinaryOp { left, op, right } => match operator(op) {
            Some(name) => call(name, vec![take(left), take(right)]),
            None => return,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => match inner.as_ref() {
            Expr::Value(ValueWithSpan { value: Value::Number(..), .. }) => return,
            _ => call(functions::NEGATE, vec![take(inner)]),
        },
        Expr::UnaryOp { op: UnaryOperator::Plus, expr: inner } => take(inner),
        // A number with an exponent is a double, one with a point a decimal.
        Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) if digits.contains(['e', 'E']) => {
            cast(text(digits.clone()), DataType::Double(ExactNumberInfo::None))
        }
        Expr::Cast { expr: inner, data_type, .. } => as_cast(take(inner), data_type),
        Expr::TypedString(TypedString { data_type, value, .. }) => {
            as_cast(Expr::Value(value.clone()), data_type)
        }
        Expr::Extract { field, expr: inner, .. } => part_of(&field.to_string(), take(inner)),
        Expr::Ceil { expr: inner, .. } => call(functions::CEIL, vec![take(inner)]),
        Expr::Floor { expr: inner, .. } => call(functions::FLOOR, vec![take(inner)]),
        Expr::Position { expr: part, r#in } => call("strpos", texts(vec![take(r#in), take(part)])),
        Expr::Substring { expr: inner, substring_from, substring_for, special, shorthand } => {
            let from = substring_from.as_mut().map_or_else(|| number(1), |from| take(from));
            let mut args = vec![take(inner), from];
            args.extend(substring_for.as_mut().map(|to| take(to)));
            let zero_based = *special && !*shorthand;
            call(if zero_based { functions::SUBSTRING } else { functions::SUBSTR }, args)
        }
        Expr::Trim { trim_where, trim_what, expr: inner, .. } => {
            let name = match trim_where {
                Some(TrimWhereField::Leading) => "ltrim",
                Some(TrimWhereField::Trailing) => "rtrim",
                Some(TrimWhereField::Both) | None => "btrim",
            };
            let mut args = vec![take(inner)];
            args.extend(trim_what.as_mut().map(|what| take(what)));
            call(name, texts(args))
        }
        Expr::Like { pattern, escape_char, .. } => {
            let escape = match escape_char.take() {
                Some(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => text.chars().next(),
                _ => None,
            };
            **pattern = like_pattern(take(pattern), escape.unwrap_or(like::DEFAULT_ESCAPE));
            return;
        }
        Expr::AtTimeZone { timestamp, time_zone } => {
            call(crate::functions::AT_TIME_ZONE, vec![take(timestamp), take(time_zone)])
        }
        Expr::Function(function) => match function_call(function) {
            Some(made) => made,
            None => return,
        },
        _ => return,
    };
    *expr = made;
}

fn texts(args: Vec<Expr>) -> Vec<Expr> {
    args.into_iter().map(|arg| call(functions::TEXT, vec![arg])).collect()
}

fn operator(op: &BinaryOperator) -> Option<&'static str> {
    Some(match op {
        BinaryOperator::Plus => functions::ADD,
        BinaryOperator::Minus => functions::SUBTRACT,
        BinaryOperator::Multiply => functions::MULTIPLY,
        BinaryOperator::Divide => functions::DIVIDE,
        BinaryOperator::StringConcat => functions::CONCAT,
        _ => return None,
    })
}

/// The engine knows no escape but a backslash.
fn like_pattern(pattern: Expr, escape: char) -> Expr {
    match pattern {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(pattern), .. }) => {
            text(like::with_backslash(&pattern, escape))
        }
        other => call(functions::LIKE_PATTERN, vec![other, text(escape)]),
    }
}

fn as_cast(inner: Expr, data_type: &DataType) -> Expr {
    match data_type {
        DataType::Int(_) | DataType::Integer(_) | DataType::BigInt(_) => {
            cast(call(functions::WHOLE, vec![inner]), data_type.clone())
        }
        DataType::Float(_) => cast(call(functions::SINGLE, vec![inner]), data_type.clone()),
        DataType::Double(_) | DataType::Decimal(_) | DataType::Numeric(_) => {
            cast(call(functions::NUMBER, vec![inner]), data_type.clone())
        }
        DataType::Varchar(Some(length)) => {
            let characters = match length {
                datafusion::sql::sqlparser::ast::CharacterLength::IntegerLength { length, .. } => *length,
                datafusion::sql::sqlparser::ast::CharacterLength::Max => u64::from(u32::MAX),
            };
            call(functions::SUBSTR, vec![cast(inner, DataType::Text), number(1), number(characters)])
        }
        DataType::Timestamp(_, zone) => cast(inner, DataType::Timestamp(Some(6), *zone)),
        DataType::Custom(..) => cast(inner, DataType::Date),
        other => cast(inner, other.clone()),
    }
}

fn part_of(field: &str, at: Expr) -> Expr {
    bigint(call("date_part", vec![text(field.to_lowercase()), at]))
}

/// The arguments, taken out of a call.
fn arguments(function: &mut Function) -> Vec<Expr> {
    let FunctionArguments::List(list) = &mut function.args else { return Vec::new() };
    let expr = |arg: FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    };
    list.args.drain(..).filter_map(expr).collect()
}

fn rename(function: &mut Function, name: &str) {
    function.name = ObjectName::from(vec![Ident::new(name)]);
}

/// `None`: the call remains, perhaps by another name.
fn function_call(function: &mut Function) -> Option<Expr> {
    let name = function.name.to_string();
    let same = |function: &mut Function, name: &str| Some(call(name, arguments(function)));
    match name.as_str() {
        "sum" => rename(function, functions::SUM),
        "stdev" => rename(function, "stddev"),
        "group_concat" => return Some(group_concat(function)),
        "row_number" | "rank" => return Some(bigint(Expr::Function(function.clone()))),
        "len" => return same(function, "character_length"),
        "nvl" => return same(function, "coalesce"),
        "nullif" => return Some(nullif(arguments(function))),
        // Any value can be the argument of a function on texts.
        "lower" | "ltrim" | "replace" | "rtrim" | "upper" => {
            return Some(call(&name, texts(arguments(function))));
        }
        "instr" => return same(function, functions::INSTR),
        "concat" => return Some(concat(arguments(function))),
        "abs" => return same(function, functions::ABS),
        "round" => return same(function, functions::ROUND),
        "trunc" => return same(function, functions::TRUNC),
        "mod" => return same(function, functions::MODULO),
        "power" => return same(function, functions::POWER),
        "sqrt" => return same(function, functions::SQRT),
        "log" => return same(function, functions::LOG),
        "ln" => return same(function, functions::LN),
        "exp" => return same(function, functions::EXP),
        "sign" => return same(function, functions::SIGN),
        "now" | "current_timestamp" => return Some(cast(call("now", Vec::new()), instant())),
        "current_date" => return same(function, "current_date"),
        "getyear" | "getmonth" | "getday" | "gethour" | "getminute" | "getsecond" => {
            let argument = arguments(function).pop()?;
            return Some(part_of(name.strip_prefix("get").unwrap_or_default(), argument));
        }
        "getdaysbetween" => return same(function, functions::DAYS_BETWEEN),
        "addday" => return same(function, functions::ADD_DAYS),
        "addmonth" => return same(function, functions::ADD_MONTHS),
        "addyear" => return same(function, functions::ADD_YEARS),
        "formatdate" => return same(function, functions::FORMAT_DATE),
        "to_localdate" => return same(function, functions::TO_DATE),
        "to_timestamp" => return same(function, functions::TO_TIMESTAMP),
        _ => {}
    }
    None
}

/// Two at a time; the parts of a long list are joined pairwise, so that the calls do not nest deeply.
fn concat(mut parts: Vec<Expr>) -> Expr {
    if parts.len() == 1 {
        parts.push(text(""));
    }
    while parts.len() > 1 {
        let mut pairs = Vec::with_capacity(parts.len().div_ceil(2));
        let mut rest = parts.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => call(functions::CONCAT, vec![left, right]),
                None => left,
            });
        }
        parts = pairs;
    }
    parts.pop().unwrap_or_else(null)
}

/// As a comparison, so that a text and a number are compared as texts. A computed value is not written twice: it would
/// double with each level of nesting.
fn nullif(mut args: Vec<Expr>) -> Expr {
    let simple =
        matches!(args.first(), Some(Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_)));
    match args.as_mut_slice() {
        [value, other] if simple => Expr::Case {
            case_token: AttachedToken::empty(),
            end_token: AttachedToken::empty(),
            operand: None,
            conditions: vec![CaseWhen {
                condition: Expr::BinaryOp {
                    left: Box::new(value.clone()),
                    op: BinaryOperator::Eq,
                    right: Box::new(take(other)),
                },
                result: null(),
            }],
            else_result: Some(Box::new(take(value))),
        },
        _ => call("nullif", args),
    }
}

fn group_concat(function: &mut Function) -> Expr {
    let distinct = match &function.args {
        FunctionArguments::List(list) => list.duplicate_treatment == Some(DuplicateTreatment::Distinct),
        _ => false,
    };
    let mut args = arguments(function).into_iter();
    let value = call(functions::TEXT, vec![args.next().unwrap_or_else(null)]);
    let separator = args.next().unwrap_or_else(|| text(","));
    let mut made = call("string_agg", vec![value, separator]);
    if let Expr::Function(made) = &mut made {
        made.over = function.over.take();
        if let FunctionArguments::List(list) = &mut made.args
            && distinct
        {
            list.duplicate_treatment = Some(DuplicateTreatment::Distinct);
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::ast::DateTimeField;

    use super::*;

    fn shown(sql: &str) -> String {
        let mut statement = Parser::parse_sql(&super::super::Vql, sql).unwrap().remove(0);
        apply(&mut statement);
        statement.to_string()
    }

    #[test]
    fn columns_without_alias_have_names() {
        for (sql, expected) in [
            ("select max(a), max(b), a from t", "SELECT max(a) AS \"max\", max(b) AS \"max_1\", a FROM t"),
            (
                "select 1, (2), cast(a as text) from t",
                "SELECT 1 AS \"expression\", (2) AS \"expression_1\", CAST(a AS TEXT) AS \"cast\" FROM t",
            ),
            ("select x.max, max(a) from x", "SELECT x.max, max(a) AS \"max_1\" FROM x"),
        ] {
            assert_eq!(shown(sql), expected, "{sql}");
        }
    }

    #[test]
    fn clauses_become_what_the_engine_has() {
        for (sql, expected) in [
            ("select a from t minus select a from u", "SELECT a FROM t EXCEPT SELECT a FROM u"),
            (
                "select a from t offset 2 rows fetch first 3 rows only",
                "SELECT a FROM t LIMIT 3 OFFSET 2 ROWS",
            ),
            ("select a from dual() d", "SELECT a FROM (SELECT 1 AS dual) d"),
            ("select a from t where a like 'x$_\\'", "SELECT a FROM t WHERE a LIKE 'x\\_\\\\'"),
        ] {
            assert_eq!(shown(sql), expected, "{sql}");
        }
    }

    #[test]
    fn fields_have_names() {
        assert_eq!(DateTimeField::Year.to_string().to_lowercase(), "year");
        assert_eq!(DateTimeField::Week(None).to_string().to_lowercase(), "week");
    }
}
