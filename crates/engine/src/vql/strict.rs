//! What a statement in VQL can contain. Everything else is refused, by name and position.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, CeilFloorKind, DataType, DateTimeField, Distinct, DuplicateTreatment,
    ExactNumberInfo, Expr, ExtractSyntax, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    GroupByExpr, Ident, Join, JoinConstraint, JoinOperator, LimitClause, ObjectName, OrderByKind, Query,
    Select, SelectFlavor, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier,
    Spanned as _, Statement, TableAlias, TableFactor, TimezoneInfo, UnaryOperator, Value, ValueWithSpan,
    Visitor, WildcardAdditionalOptions, WindowFrameUnits, WindowType,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use landreeve_core::source::SourceError;

use super::Writer;
use super::tokens::{at, start_of};
use crate::error::query as fault;
use crate::walk;

/// Maximum nesting of queries.
const MAX_LEVELS: usize = 64;
/// Maximum number of arguments of a function.
const MAX_ARGUMENTS: usize = 255;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Scalar,
    Aggregate,
    /// Only with OVER.
    Window,
    /// Not in views.
    Caller,
}

/// The functions that a text can call, with the number of their arguments. Those with syntax of their own (CAST, CEIL,
/// EXTRACT, FLOOR, POSITION, SUBSTR, SUBSTRING, TRIM) are expressions.
const FUNCTIONS: &[(&str, usize, usize, Kind)] = &[
    ("abs", 1, 1, Kind::Scalar),
    ("addday", 2, 2, Kind::Scalar),
    ("addmonth", 2, 2, Kind::Scalar),
    ("addyear", 2, 2, Kind::Scalar),
    ("avg", 1, 1, Kind::Aggregate),
    ("coalesce", 1, MAX_ARGUMENTS, Kind::Scalar),
    ("concat", 1, MAX_ARGUMENTS, Kind::Scalar),
    ("count", 1, 1, Kind::Aggregate),
    ("current_date", 0, 0, Kind::Scalar),
    ("current_timestamp", 0, 0, Kind::Scalar),
    ("date_trunc", 2, 2, Kind::Caller),
    ("date_trunc_in", 3, 3, Kind::Caller),
    ("exp", 1, 1, Kind::Scalar),
    ("formatdate", 2, 2, Kind::Scalar),
    ("getday", 1, 1, Kind::Scalar),
    ("getdaysbetween", 2, 2, Kind::Scalar),
    ("gethour", 1, 1, Kind::Scalar),
    ("getminute", 1, 1, Kind::Scalar),
    ("getmonth", 1, 1, Kind::Scalar),
    ("getsecond", 1, 1, Kind::Scalar),
    ("getyear", 1, 1, Kind::Scalar),
    ("group_concat", 1, 2, Kind::Aggregate),
    ("instr", 2, 2, Kind::Scalar),
    ("lag", 1, 3, Kind::Window),
    ("lead", 1, 3, Kind::Window),
    ("len", 1, 1, Kind::Scalar),
    ("ln", 1, 1, Kind::Scalar),
    ("log", 1, 2, Kind::Scalar),
    ("lower", 1, 1, Kind::Scalar),
    ("ltrim", 1, 1, Kind::Scalar),
    ("max", 1, 1, Kind::Aggregate),
    ("min", 1, 1, Kind::Aggregate),
    ("mod", 2, 2, Kind::Scalar),
    ("now", 0, 0, Kind::Scalar),
    ("nullif", 2, 2, Kind::Scalar),
    ("nvl", 2, 2, Kind::Scalar),
    ("power", 2, 2, Kind::Scalar),
    ("rank", 0, 0, Kind::Window),
    ("replace", 3, 3, Kind::Scalar),
    ("round", 1, 2, Kind::Scalar),
    ("row_number", 0, 0, Kind::Window),
    ("rtrim", 1, 1, Kind::Scalar),
    ("sign", 1, 1, Kind::Scalar),
    ("sqrt", 1, 1, Kind::Scalar),
    ("stdev", 1, 1, Kind::Aggregate),
    ("sum", 1, 1, Kind::Aggregate),
    ("to_localdate", 2, 2, Kind::Scalar),
    ("to_timestamp", 2, 2, Kind::Scalar),
    ("trunc", 1, 2, Kind::Scalar),
    ("upper", 1, 1, Kind::Scalar),
    ("var", 1, 1, Kind::Aggregate),
];

/// The names of all functions that a text can call by name.
pub fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|(name, ..)| *name)
}

/// What is refused, and where.
struct Refusal {
    message: String,
    offset: Option<usize>,
}

type Checked = Result<(), Refusal>;

fn refused(what: impl std::fmt::Display, span: Span) -> Refusal {
    Refusal { message: format!("{what} is not available in VQL"), offset: start_of(span) }
}

fn wrong(message: impl Into<String>, span: Span) -> Refusal {
    Refusal { message: message.into(), offset: start_of(span) }
}

pub fn check(statement: &Statement, writer: Writer, sql: &str) -> Result<(), SourceError> {
    let mut strict = Strict { writer, levels: 0, last: None };
    match walk::visit(statement, &mut strict) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refusal) => {
            Err(at(sql, refusal.offset.or(strict.last), fault("not_supported", refusal.message)))
        }
    }
}

struct Strict {
    writer: Writer,
    levels: usize,
    /// The last known position, for parts of the tree that have none.
    last: Option<usize>,
}

fn flow(checked: Checked) -> ControlFlow<Refusal> {
    match checked {
        Ok(()) => ControlFlow::Continue(()),
        Err(refusal) => ControlFlow::Break(refusal),
    }
}

impl Visitor for Strict {
    type Break = Refusal;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Refusal> {
        self.levels += 1;
        if self.levels > MAX_LEVELS {
            let message = format!("the statement has more than {MAX_LEVELS} levels of queries; use views");
            return ControlFlow::Break(wrong(message, query.span()));
        }
        flow(query_fault(query))
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Refusal> {
        self.levels -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Refusal> {
        self.last = start_of(select.select_token.0.span).or(self.last);
        flow(select_fault(select))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Refusal> {
        flow(self.factor_fault(factor))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Refusal> {
        if let Expr::Identifier(name) = expr {
            self.last = start_of(name.span).or(self.last);
        }
        if let Expr::Value(value) = expr {
            self.last = start_of(value.span).or(self.last);
        }
        flow(self.expr_fault(expr))
    }
}

fn query_fault(query: &Query) -> Checked {
    let span = || query.span();
    if query.for_clause.is_some() || query.settings.is_some() || query.format_clause.is_some() {
        return Err(refused("FOR, SETTINGS or FORMAT after a query", span()));
    }
    if !query.pipe_operators.is_empty() {
        return Err(refused("a pipe operator", span()));
    }
    if let Some(with) = &query.with {
        if with.recursive {
            return Err(refused("WITH RECURSIVE", with.with_token.0.span));
        }
        for table in &with.cte_tables {
            alias_fault(&table.alias)?;
            if table.materialized.is_some() || table.from.is_some() {
                return Err(refused("MATERIALIZED", table.alias.name.span));
            }
        }
    }
    if let Some(order_by) = &query.order_by {
        let OrderByKind::Expressions(items) = &order_by.kind else {
            return Err(refused("ORDER BY ALL", span()));
        };
        if order_by.interpolate.is_some() || items.iter().any(|item| item.with_fill.is_some()) {
            return Err(refused("WITH FILL", span()));
        }
    }
    let limited = limit_fault(query)?;
    if let Some(fetch) = &query.fetch {
        if fetch.with_ties || fetch.percent {
            return Err(refused("FETCH with WITH TIES or PERCENT", span()));
        }
        if limited {
            return Err(wrong("write either LIMIT or FETCH", span()));
        }
        fetch.quantity.iter().try_for_each(count_fault)?;
    }
    body_fault(&query.body)
}

/// Whether there is a LIMIT.
fn limit_fault(query: &Query) -> Result<bool, Refusal> {
    match &query.limit_clause {
        None => Ok(false),
        Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
            limit.iter().try_for_each(count_fault)?;
            offset.iter().try_for_each(|offset| count_fault(&offset.value))?;
            Ok(limit.is_some())
        }
        Some(_) => Err(refused("LIMIT BY", query.span())),
    }
}

fn count_fault(expr: &Expr) -> Checked {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. })
            if number.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            Ok(())
        }
        Expr::Value(ValueWithSpan { value: Value::Placeholder(_), .. }) => Ok(()),
        other => Err(wrong("LIMIT, OFFSET and FETCH need a whole number", other.span())),
    }
}

fn body_fault(body: &SetExpr) -> Checked {
    let mut left = body;
    loop {
        left = match left {
            SetExpr::Select(_) | SetExpr::Query(_) => return Ok(()),
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let all = *set_quantifier == SetQuantifier::All;
                let plain = matches!(set_quantifier, SetQuantifier::None | SetQuantifier::Distinct);
                match op {
                    SetOperator::Union if all || plain => {}
                    SetOperator::Intersect | SetOperator::Minus if plain => {}
                    SetOperator::Except => {
                        return Err(wrong("EXCEPT is not available in VQL; write MINUS", right.span()));
                    }
                    _ => return Err(refused(format!("{op} {set_quantifier}"), right.span())),
                }
                body_fault(right)?;
                left
            }
            SetExpr::Values(_) => return Err(refused("VALUES", left.span())),
            SetExpr::Table(_) => return Err(refused("TABLE", left.span())),
            other => return Err(refused("a statement that writes", other.span())),
        };
    }
}

fn select_fault(select: &Select) -> Checked {
    let span = select.select_token.0.span;
    let odd = [
        (!select.optimizer_hints.is_empty(), "an optimizer hint"),
        (select.select_modifiers.is_some(), "a modifier after SELECT"),
        (matches!(select.distinct, Some(Distinct::On(_))), "DISTINCT ON"),
        (select.top.is_some(), "TOP"),
        (select.exclude.is_some(), "EXCLUDE"),
        (select.into.is_some(), "SELECT INTO"),
        (!select.lateral_views.is_empty(), "LATERAL VIEW"),
        (select.prewhere.is_some(), "PREWHERE"),
        (!select.connect_by.is_empty(), "CONNECT BY"),
        (!select.cluster_by.is_empty(), "CLUSTER BY"),
        (!select.distribute_by.is_empty(), "DISTRIBUTE BY"),
        (!select.sort_by.is_empty(), "SORT BY"),
        (!select.named_window.is_empty(), "WINDOW"),
        (select.qualify.is_some(), "QUALIFY"),
        (select.value_table_mode.is_some(), "SELECT AS"),
        (select.flavor != SelectFlavor::Standard, "FROM before SELECT"),
    ];
    if let Some((_, name)) = odd.into_iter().find(|(found, _)| *found) {
        return Err(refused(name, span));
    }
    match &select.group_by {
        GroupByExpr::Expressions(_, modifiers) if modifiers.is_empty() => {}
        _ => return Err(refused("GROUP BY ALL or with modifiers", span)),
    }
    select.projection.iter().try_for_each(item_fault)?;
    if let ControlFlow::Break(refusal) = walk::visit(&select.projection, &mut Tests(0)) {
        return Err(refusal);
    }
    for table in &select.from {
        table.joins.iter().try_for_each(join_fault)?;
    }
    Ok(())
}

/// Finds `EXISTS` and `IN (SELECT …)`, which the engine knows as conditions only. The number of queries around.
struct Tests(usize);

impl Visitor for Tests {
    type Break = Refusal;

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<Refusal> {
        self.0 += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Refusal> {
        self.0 -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Refusal> {
        match expr {
            Expr::Exists { .. } | Expr::InSubquery { .. } if self.0 == 0 => {
                let message = "EXISTS and IN (SELECT …) are available in WHERE, HAVING and ON only";
                ControlFlow::Break(wrong(message, expr.span()))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

fn item_fault(item: &SelectItem) -> Checked {
    match item {
        SelectItem::UnnamedExpr(_) => Ok(()),
        SelectItem::ExprWithAlias { expr, alias } => name_fault(alias).map_err(|fault| {
            // The parser drops the position of such an alias.
            Refusal { offset: fault.offset.or_else(|| start_of(expr.span())), ..fault }
        }),
        SelectItem::Wildcard(options) => star_fault(options),
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
            relation_fault(name)?;
            star_fault(options)
        }
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(_), options) => {
            Err(refused("a field of an expression", options.wildcard_token.0.span))
        }
        SelectItem::ExprWithAliases { expr, .. } => Err(refused("a list of aliases", expr.span())),
    }
}

fn star_fault(options: &WildcardAdditionalOptions) -> Checked {
    let plain = WildcardAdditionalOptions {
        wildcard_token: options.wildcard_token.clone(),
        ..WildcardAdditionalOptions::default()
    };
    if *options == plain {
        return Ok(());
    }
    Err(refused("an option of *", options.wildcard_token.0.span))
}

fn join_fault(join: &Join) -> Checked {
    let span = join.relation.span();
    if join.global {
        return Err(refused("GLOBAL JOIN", span));
    }
    let constraint = match &join.join_operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint) => constraint,
        JoinOperator::CrossJoin(JoinConstraint::None) => return Ok(()),
        _ => return Err(refused("this kind of join", span)),
    };
    match constraint {
        JoinConstraint::On(_) => Ok(()),
        JoinConstraint::Using(columns) => columns.iter().try_for_each(|column| match column.0.as_slice() {
            [_] => Ok(()),
            _ => Err(wrong("USING needs plain column names", column.span())),
        }),
        JoinConstraint::Natural => Err(refused("NATURAL JOIN", span)),
        JoinConstraint::None => Err(wrong("a join needs ON or USING", span)),
    }
}

/// Some positions of the grammar take a text as a name.
fn name_fault(name: &Ident) -> Checked {
    match name.quote_style {
        Some('\'') => Err(wrong("a name is written without quotes or in double quotes", name.span)),
        _ => Ok(()),
    }
}

fn alias_fault(alias: &TableAlias) -> Checked {
    name_fault(&alias.name)?;
    if alias.at.is_some() || alias.columns.iter().any(|column| column.data_type.is_some()) {
        return Err(refused("a type or AT in an alias", alias.name.span));
    }
    Ok(())
}

fn relation_fault(name: &ObjectName) -> Checked {
    let plain = name.0.iter().all(|part| part.as_ident().is_some_and(|name| name_fault(name).is_ok()));
    match name.0.len() {
        1 | 2 if plain => Ok(()),
        _ => {
            let parts: Vec<_> =
                name.0.iter().map(|part| part.as_ident().map_or("", |name| &name.value)).collect();
            let message = format!("{} is not a name: write view or database.view", parts.join("."));
            Err(wrong(message, name.span()))
        }
    }
}

/// `Dual()`: one row.
pub fn is_dual(factor: &TableFactor) -> bool {
    match factor {
        TableFactor::Table { name, args: Some(args), .. } => {
            let part = name.0.first().and_then(|part| part.as_ident());
            name.0.len() == 1 && args.args.is_empty() && part.is_some_and(|name| name.value == "dual")
        }
        _ => false,
    }
}

impl Strict {
    fn factor_fault(&mut self, factor: &TableFactor) -> Checked {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                self.last = start_of(name.span()).or(self.last);
                if args.is_some() && !is_dual(factor) {
                    return Err(refused(format!("the table function {name}"), name.span()));
                }
                if sample.is_some() {
                    return Err(refused("TABLESAMPLE", name.span()));
                }
                let plain = with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty();
                if !plain || version.is_some() || json_path.is_some() || *with_ordinality {
                    return Err(refused("an option of a table", name.span()));
                }
                alias.iter().try_for_each(alias_fault)?;
                relation_fault(name)
            }
            TableFactor::Derived { lateral, subquery, alias, sample } => {
                if *lateral || sample.is_some() {
                    return Err(refused("LATERAL or TABLESAMPLE", subquery.span()));
                }
                alias.iter().try_for_each(alias_fault)
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                table_with_joins.joins.iter().try_for_each(join_fault)
            }
            other => Err(refused("this kind of table", other.span())),
        }
    }

    fn caller(&self, what: &str, span: Span) -> Checked {
        match self.writer {
            Writer::Caller => Ok(()),
            Writer::View => Err(refused(format!("{what} in a view"), span)),
        }
    }

    fn expr_fault(&self, expr: &Expr) -> Checked {
        match expr {
            Expr::CompoundIdentifier(parts) if parts.len() <= 3 => Ok(()),
            Expr::CompoundIdentifier(parts) => {
                let parts: Vec<_> = parts.iter().map(|part| part.value.as_str()).collect();
                Err(refused(format!("the name {}", parts.join(".")), expr.span()))
            }
            Expr::Identifier(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::InList { .. }
            | Expr::InSubquery { .. }
            | Expr::Between { .. }
            | Expr::Nested(_)
            | Expr::Case { .. }
            | Expr::Exists { .. }
            | Expr::Position { .. }
            | Expr::Subquery(_) => Ok(()),
            Expr::BinaryOp { op, .. } => binary_fault(op, expr),
            Expr::UnaryOp { op: UnaryOperator::Not | UnaryOperator::Minus | UnaryOperator::Plus, .. } => {
                Ok(())
            }
            Expr::Like { any: false, escape_char, .. } => match escape_char {
                None => Ok(()),
                Some(ValueWithSpan { value: Value::SingleQuotedString(text), .. })
                    if text.chars().count() == 1 =>
                {
                    Ok(())
                }
                Some(other) => Err(wrong("ESCAPE needs a single character", other.span)),
            },
            Expr::Cast { kind, data_type, array: false, format: None, .. } => {
                match kind {
                    CastKind::Cast => {}
                    CastKind::DoubleColon => self.caller("::", expr.span())?,
                    _ => return Err(refused("TRY_CAST", expr.span())),
                }
                if is_type(data_type) {
                    return Ok(());
                }
                Err(refused(format!("the type {data_type}"), expr.span()))
            }
            Expr::Extract { field, syntax: ExtractSyntax::From, .. } => field_fault(field, expr),
            Expr::Ceil { field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime), .. }
            | Expr::Floor { field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime), .. } => Ok(()),
            Expr::Substring { substring_from, substring_for, .. } => {
                match substring_from.is_some() || substring_for.is_some() {
                    true => Ok(()),
                    false => Err(wrong("SUBSTRING needs a position", expr.span())),
                }
            }
            Expr::Trim { trim_characters: None, .. } => Ok(()),
            Expr::Value(value) => self.value_fault(value),
            Expr::Function(function) => self.function_fault(function),
            Expr::TypedString(text) => self.caller("a typed literal", text.value.span),
            Expr::Interval(_) => self.caller("INTERVAL", expr.span()),
            Expr::AtTimeZone { .. } => self.caller("AT TIME ZONE", expr.span()),
            other => Err(refused(short(other), other.span())),
        }
    }

    fn value_fault(&self, value: &ValueWithSpan) -> Checked {
        match &value.value {
            Value::Number(..) | Value::SingleQuotedString(_) | Value::Null | Value::Boolean(_) => Ok(()),
            Value::Placeholder(name) => self.caller(&format!("the variable {name}"), value.span),
            other => Err(refused(other, value.span)),
        }
    }

    fn function_fault(&self, function: &Function) -> Checked {
        let (span, shown) = (function.name.span(), function.name.to_string());
        let name = match function.name.0.as_slice() {
            [part] => part.as_ident().map_or("", |name| name.value.as_str()),
            _ => "",
        };
        let Some((_, min, max, kind)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) else {
            return Err(refused(format!("the function {shown}"), span));
        };
        if *kind == Kind::Caller {
            self.caller(&format!("the function {shown}"), span)?;
        }
        let plain = function.filter.is_none()
            && function.null_treatment.is_none()
            && function.within_group.is_empty()
            && function.parameters == FunctionArguments::None
            && !function.uses_odbc_syntax;
        if !plain {
            return Err(refused(format!("FILTER, WITHIN GROUP or an option of NULLs in {shown}"), span));
        }
        let count = argument_fault(function, name, *kind, span)?;
        if count < *min || count > *max {
            let wanted = if min == max { min.to_string() } else { format!("{min} to {max}") };
            return Err(wrong(format!("{shown} takes {wanted} arguments, not {count}"), span));
        }
        match (&function.over, kind) {
            (None, Kind::Window) => Err(wrong(format!("{shown} needs OVER"), span)),
            (Some(_), Kind::Scalar | Kind::Caller) => Err(wrong(format!("{shown} cannot have OVER"), span)),
            (None, _) => Ok(()),
            (Some(over), _) => window_fault(over, span),
        }
    }
}

/// The number of arguments.
fn argument_fault(function: &Function, name: &str, kind: Kind, span: Span) -> Result<usize, Refusal> {
    let list = match &function.args {
        FunctionArguments::None => return Ok(0),
        FunctionArguments::Subquery(_) => return Err(refused("a query as an argument", span)),
        FunctionArguments::List(list) => list,
    };
    if !list.clauses.is_empty() {
        return Err(refused(format!("a clause in the arguments of {name}"), span));
    }
    if list.duplicate_treatment == Some(DuplicateTreatment::Distinct)
        && (kind != Kind::Aggregate || function.over.is_some())
    {
        return Err(refused(format!("DISTINCT in this call of {name}"), span));
    }
    for argument in &list.args {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(_)) => {}
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if name == "count" => {}
            _ => return Err(refused(format!("an argument of this form in {name}"), span)),
        }
    }
    if matches!(name, "group_concat" | "lag" | "lead")
        && let Some(computed) = list.args.iter().skip(1).find(|argument| !is_constant(argument))
    {
        return Err(wrong(format!("{name} needs a constant here"), computed.span()));
    }
    Ok(list.args.len())
}

fn is_constant(argument: &FunctionArg) -> bool {
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument else { return false };
    match expr {
        Expr::Value(_) => true,
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => matches!(expr.as_ref(), Expr::Value(_)),
        _ => false,
    }
}

fn window_fault(over: &WindowType, span: Span) -> Checked {
    let WindowType::WindowSpec(spec) = over else { return Err(refused("a named window", span)) };
    if spec.window_name.is_some() {
        return Err(refused("a named window", span));
    }
    match &spec.window_frame {
        Some(frame) if frame.units == WindowFrameUnits::Groups => {
            Err(refused("a window frame in GROUPS", span))
        }
        _ => Ok(()),
    }
}

fn binary_fault(op: &BinaryOperator, expr: &Expr) -> Checked {
    match op {
        BinaryOperator::Plus
        | BinaryOperator::Minus
        | BinaryOperator::Multiply
        | BinaryOperator::Divide
        | BinaryOperator::StringConcat
        | BinaryOperator::Eq
        | BinaryOperator::NotEq
        | BinaryOperator::Lt
        | BinaryOperator::LtEq
        | BinaryOperator::Gt
        | BinaryOperator::GtEq
        | BinaryOperator::And
        | BinaryOperator::Or => Ok(()),
        other => Err(refused(format!("the operator {other}"), expr.span())),
    }
}

fn field_fault(field: &DateTimeField, expr: &Expr) -> Checked {
    match field {
        DateTimeField::Year
        | DateTimeField::Quarter
        | DateTimeField::Month
        | DateTimeField::Week(None)
        | DateTimeField::Day
        | DateTimeField::Hour
        | DateTimeField::Minute
        | DateTimeField::Second => Ok(()),
        other => Err(refused(format!("EXTRACT({other})"), expr.span())),
    }
}

/// Whether CAST has this type.
fn is_type(kind: &DataType) -> bool {
    match kind {
        DataType::Int(None)
        | DataType::Integer(None)
        | DataType::BigInt(None)
        | DataType::Float(ExactNumberInfo::None)
        | DataType::Double(ExactNumberInfo::None)
        | DataType::Text
        | DataType::Varchar(_)
        | DataType::Boolean
        | DataType::Date
        | DataType::Time(None, TimezoneInfo::None)
        | DataType::Timestamp(None, _) => true,
        DataType::Decimal(size) | DataType::Numeric(size) => match size {
            ExactNumberInfo::None => true,
            ExactNumberInfo::Precision(precision) => (1..=38).contains(precision),
            ExactNumberInfo::PrecisionAndScale(precision, scale) => {
                (1..=38).contains(precision)
                    && *scale >= 0
                    && u64::try_from(*scale).is_ok_and(|scale| scale <= *precision)
            }
        },
        DataType::Custom(name, arguments) => {
            arguments.is_empty()
                && name.0.len() == 1
                && name.0.iter().all(|part| part.as_ident().is_some_and(|name| name.value == "localdate"))
        }
        _ => false,
    }
}

/// An expression for a message.
fn short(expr: &Expr) -> String {
    const MAX_CHARS: usize = 60;
    let text = expr.to_string();
    let cut: String = text.chars().take(MAX_CHARS).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_sorted_and_listed_once() {
        let names: Vec<_> = FUNCTIONS.iter().map(|(name, ..)| *name).collect();
        assert!(names.is_sorted_by(|left, right| left < right), "{names:?}");
    }
}
