//! Step three: converts parameters and their selected values to SQL of the dialect.
//!
//! Each problem is a fault at its parameter, and expansion continues in order to find the others.

use jiff::Timestamp;
use landreeve_core::Fault;
use landreeve_core::datasource::SqlDialect;
use landreeve_core::error::codes;

use super::bucket::{Operand, Transform};
use super::env::{
    AGGREGATION, Aggregation, Environment, TIME_ZONE, TIMERANGE, TIMERANGE_PREVIOUS, ValueType, ZoneChoice,
};
use super::lexer::{Kind, lex};
use super::literal::{self, Literal};
use super::parse::{Expr, Form, Node, Param, Selector};
use super::range::Range;
use super::snippets::{MAX_BYTES, MAX_FAULTS, close_comment};
use super::span::{DayPart, Direction, Grain, LAST_SECOND, Present, Span};
use super::values::{Bad, Selected, Zones, aggregation, select};
use super::zone::{Zone, is_fixed, shifts};

pub struct Expander<'e> {
    env: &'e Environment,
    dialect: SqlDialect,
    pub zones: Zones,
    pub faults: Vec<Fault>,
    /// The ranges of the statement and the expressions they bound; see `hull`.
    bounds: Vec<(Option<String>, Span)>,
    too_large: bool,
}

/// A range or times that a condition compares with.
enum Compared {
    DateTimes { span: Option<Span>, builtin: bool },
    Dates(Option<Span>),
    Times(DayPart),
    Values { value_type: ValueType, values: Vec<Literal> },
}

type Outcome<T> = Result<T, Bad>;

impl<'e> Expander<'e> {
    /// Also checks the built-in inputs, whether or not the statement uses them.
    pub fn new(env: &'e Environment, dialect: SqlDialect) -> Expander<'e> {
        let data = env.data_zone.clone().unwrap_or_else(Zone::utc);
        let shown = env.dashboard_zone.clone().unwrap_or_else(|| data.clone());
        let zones = Zones { data, shown, dashboard: env.dashboard_zone.is_some() };
        let mut expander =
            Expander { env, dialect, zones, faults: Vec::new(), bounds: Vec::new(), too_large: false };
        match expander.chosen_zone() {
            Ok(Some(zone)) => {
                expander.zones.shown = zone;
                expander.zones.dashboard = true;
            }
            Ok(None) => {}
            Err(bad) => expander.fault("parameters.tz".to_owned(), bad),
        }
        for name in [TIMERANGE, AGGREGATION] {
            if let Err(bad) = expander.selected(name) {
                expander.fault(field(name), bad);
            }
        }
        for (name, _) in &env.inputs.filters {
            if [TIMERANGE, TIMERANGE_PREVIOUS, AGGREGATION, TIME_ZONE].contains(&name.as_str()) {
                let message = "is built in; use its own field in the parameters instead";
                expander.fault(format!("parameters.filters.{name}"), Bad::new("reserved", message));
            }
        }
        expander
    }

    fn chosen_zone(&self) -> Outcome<Option<Zone>> {
        let Some(name) = self.env.inputs.tz.as_deref().map(str::trim).filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let zone = Zone::find(name)
            .ok_or_else(|| Bad::new("time_zone", format!("is not an IANA time zone: {name:?}")))?;
        let refused = |words: String| Err(Bad::new("not_allowed", words));
        match &self.env.zone_choice {
            ZoneChoice::Any => Ok(Some(zone)),
            ZoneChoice::OneOf(list) if list.contains(&zone) => Ok(Some(zone)),
            ZoneChoice::OneOf(list) => {
                let names = list.iter().map(Zone::name).collect::<Vec<_>>().join(", ");
                refused(format!("must be one of {names}, not {}", zone.name()))
            }
            ZoneChoice::Fixed if zone == self.zones.shown => Ok(None),
            ZoneChoice::Fixed => {
                refused(format!("cannot be changed here; times are shown in {}", self.zones.shown.name()))
            }
        }
    }

    pub fn fault(&mut self, field: String, bad: Bad) {
        let fault = Fault { field, code: bad.code, message: bad.message };
        if self.faults.len() < MAX_FAULTS && !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    pub fn statement(&mut self, nodes: &[Node<'_>]) -> String {
        self.collect_bounds(nodes);
        self.nodes(nodes)
    }

    fn nodes(&mut self, nodes: &[Node<'_>]) -> String {
        let mut sql = String::new();
        for (place, node) in nodes.iter().enumerate() {
            let piece = match node {
                Node::Text(text) => {
                    sql.push_str(text);
                    continue;
                }
                Node::Snippet(call) => match self.builtin(call.name, call.args.is_some()) {
                    Ok(piece) => piece,
                    Err(bad) => {
                        self.fault("sql".to_owned(), bad);
                        continue;
                    }
                },
                Node::Param(param) => self.param(param),
            };
            let rest = match nodes.get(place + 1) {
                Some(Node::Text(text)) => text,
                Some(_) | None => "",
            };
            join(&mut sql, &piece, rest);
            if sql.len() > MAX_BYTES {
                self.refuse_size();
                return String::new();
            }
        }
        sql
    }

    fn refuse_size(&mut self) {
        self.too_large = true;
        let message = format!("expands to more than {MAX_BYTES} bytes");
        self.fault("sql".to_owned(), Bad::new("too_large", message));
    }

    fn builtin(&self, name: &str, args: bool) -> Outcome<String> {
        if args {
            return Err(Bad::new("arguments", format!("[{name}] is built in and does not take arguments")));
        }
        let value = match self.env.snippets.builtin.get(name).and_then(Option::as_ref) {
            None => Literal::Null,
            Some(value) if value.contains('\0') => {
                return Err(Bad::new(
                    "nul",
                    format!("uses [{name}], whose value contains the character U+0000"),
                ));
            }
            Some(value) => Literal::Text(value.clone()),
        };
        Ok(value.sql(self.dialect))
    }

    fn param(&mut self, param: &Param<'_>) -> String {
        if self.too_large {
            return String::new();
        }
        let (name, outcome) = match &param.form {
            Form::Condition { expr, variable, selector } => {
                let operand = self.operand(expr);
                (*variable, self.condition(&operand, variable, *selector, param))
            }
            Form::Transformation { expr, transform, selector } => {
                let operand = self.operand(expr);
                (*transform, self.transformation(&operand, transform, *selector))
            }
            Form::Value { variable, selector } => (*variable, self.value(variable, *selector)),
            Form::Legacy { variable } => (*variable, self.legacy(variable)),
        };
        outcome.unwrap_or_else(|bad| {
            // Problems in the statement's text are reported on the text.
            if matches!(bad.code, codes::SELECTOR | codes::UNKNOWN | codes::ZONE_TABLES | codes::TOO_LARGE) {
                let source: String = param.source.chars().take(120).collect();
                let message = format!("contains {source}: {}", bad.message);
                self.fault("sql".to_owned(), Bad::new(bad.code, message));
            } else {
                self.fault(field(name), bad);
            }
            String::new()
        })
    }

    fn operand(&mut self, expr: &Expr<'_>) -> Operand {
        let mut sql = self.nodes(&expr.nodes);
        close_comment(&mut sql, self.dialect);
        Operand { sql, column: expr.column }
    }

    fn present(&self) -> Present<'_> {
        Present { now: self.env.now, zone: &self.zones.shown, week_start: self.env.week_start }
    }

    fn selected(&self, variable: &str) -> Outcome<Selected> {
        let inputs = &self.env.inputs;
        match variable {
            TIMERANGE | TIMERANGE_PREVIOUS => {
                let range = inputs.timerange.as_deref().unwrap_or_default().parse::<Range>();
                let range = range.map_err(|message| Bad::new("range", message))?;
                Span::resolve(&range, Grain::Second, self.present()).map_err(|why| Bad::new("range", why))?;
                Ok(Selected::DateTimes { range, builtin: true })
            }
            AGGREGATION => match inputs.aggregation.as_deref() {
                None | Some("") => Ok(Selected::Aggregation(Aggregation::Day)),
                Some(name) => {
                    aggregation(name, self.env.aggregation_options.as_deref()).map(Selected::Aggregation)
                }
            },
            TIME_ZONE => Ok(Selected::ZoneName(self.zones.shown.name().to_owned())),
            _ => {
                let mut given = inputs.filters.iter().filter(|(name, _)| name == variable);
                let input = given.next().map(|(_, values)| values.as_slice());
                if given.next().is_some() {
                    return Err(Bad::new("duplicate", "is listed twice"));
                }
                select(self.env.filters.get(variable), input, &self.zones)
            }
        }
    }

    /// The span of a range, or of the range before or after it; `None` if there is none.
    fn span(&self, range: &Range, grain: Grain, direction: Option<Direction>) -> Outcome<Option<Span>> {
        let present = self.present();
        let span = Span::resolve(range, grain, present).and_then(|span| match direction {
            None => Ok(Some(span)),
            Some(direction) => span.neighbour(direction, present),
        });
        span.map_err(|message| Bad::new("range", message))
    }

    fn day_part(&self, range: &Range, direction: Option<Direction>) -> Outcome<DayPart> {
        let part = match direction {
            None => DayPart::resolve(range, self.present()),
            Some(direction) => DayPart::neighbour(range, direction, self.present()),
        };
        part.map_err(|message| Bad::new("range", message))
    }

    /// What a condition with this variable and selector compares with.
    fn compared(&self, variable: &str, selector: Option<Selector<'_>>) -> Outcome<Compared> {
        let selected = self.selected(variable)?;
        let is_range =
            matches!(selected, Selected::DateTimes { .. } | Selected::Dates(_) | Selected::Times(_));
        let direction = match selector {
            None if variable == TIMERANGE_PREVIOUS => Some(Direction::Previous),
            None => None,
            Some(selector) if !is_range || variable == TIMERANGE_PREVIOUS => {
                return Err(bad_selector(variable, selector, "it has no selectors in a condition"));
            }
            Some(Selector::Next) => Some(Direction::Next),
            Some(Selector::Previous) => Some(Direction::Previous),
            Some(selector) => {
                return Err(bad_selector(variable, selector, "in a condition, use .next or .previous"));
            }
        };
        Ok(match selected {
            Selected::DateTimes { range, builtin } => {
                Compared::DateTimes { span: self.span(&range, Grain::Second, direction)?, builtin }
            }
            Selected::Dates(range) => Compared::Dates(self.span(&range, Grain::Day, direction)?),
            Selected::Times(range) => Compared::Times(self.day_part(&range, direction)?),
            Selected::Values { value_type, values } => Compared::Values { value_type, values },
            Selected::Aggregation(aggregation) => text_value(aggregation.as_str()),
            Selected::ZoneName(name) => text_value(&name),
        })
    }

    fn condition(
        &self,
        operand: &Operand,
        variable: &str,
        selector: Option<Selector<'_>>,
        param: &Param<'_>,
    ) -> Outcome<String> {
        let sql = match self.compared(variable, selector)? {
            Compared::DateTimes { span: None, .. } | Compared::Dates(None) => return Ok("(1=0)".to_owned()),
            Compared::DateTimes { span: Some(span), builtin: true } => {
                return Ok(both(&self.builtin_range(operand, &span))
                    .map_or_else(|| "(1=1)".to_owned(), |sql| format!("({sql})")));
            }
            Compared::DateTimes { span: Some(span), builtin: false } => {
                both(&self.date_times(operand, &span))
            }
            Compared::Dates(Some(span)) => both(&self.dates(operand, &span)),
            Compared::Times(part) => self.times(operand, part),
            Compared::Values { value_type, values } => self.values(operand, value_type, &values),
        };
        Ok(match sql {
            None => "(1=1)".to_owned(),
            Some(sql) if stands_alone(param) => sql,
            Some(sql) => format!("({sql})"),
        })
    }

    /// The left side of a comparison: in SQLite, text formatted by its own functions; otherwise the expression itself.
    fn subject(&self, operand: &Operand, function: &str) -> String {
        if self.dialect == SqlDialect::Sqlite {
            format!("{function}({})", operand.sql)
        } else {
            operand.wrapped()
        }
    }

    fn date_time(&self, at: Timestamp) -> Literal {
        Literal::DateTime(self.zones.data.wall(at))
    }

    /// Compared with plain text, so that it also works for a column of ISO 8601 text.
    fn builtin_range(&self, operand: &Operand, span: &Span) -> [Option<String>; 2] {
        if self.dialect == SqlDialect::Sqlite {
            return self.date_times(operand, span);
        }
        let wall = |at| self.zones.data.wall(at);
        let x = &operand.sql;
        [
            span.start.map(|at| format!("({x}) >= '{}'", wall(at))),
            span.last_second().map(|at| format!("({x}) <= '{}.999999'", wall(at))),
        ]
    }

    fn date_times(&self, operand: &Operand, span: &Span) -> [Option<String>; 2] {
        let x = self.subject(operand, "datetime");
        let start = span.start.map(|at| format!("{x} >= {}", self.date_time(at).sql(self.dialect)));
        let end = span.last_second().map(|at| self.until(&x, &self.date_time(at), "SECOND"));
        [start, end]
    }

    fn dates(&self, operand: &Operand, span: &Span) -> [Option<String>; 2] {
        let x = self.subject(operand, "date");
        let date = |at| Literal::Date(self.zones.shown.wall(at).date());
        let start = span.start.map(|at| format!("{x} >= {}", date(at).sql(self.dialect)));
        let end = span.last_second().map(|at| self.until(&x, &date(at), "DAY"));
        [start, end]
    }

    fn until(&self, x: &str, last: &Literal, unit: &str) -> String {
        let last = last.sql(self.dialect);
        if self.dialect == SqlDialect::Sqlite {
            format!("{x} <= {last}")
        } else {
            format!("{x} < {last} + INTERVAL '1' {unit}")
        }
    }

    fn times(&self, operand: &Operand, part: DayPart) -> Option<String> {
        let DayPart::Between { start, end } = part else { return None };
        let x = self.subject(operand, "time");
        let from = format!("{x} >= {}", Literal::Time(start).sql(self.dialect));
        let until = self.until(&x, &Literal::Time(end), "SECOND");
        Some(if start > end {
            format!("({from} OR {until})")
        } else if end == LAST_SECOND {
            // One second more would be midnight, which comes before everything.
            from
        } else {
            format!("{from} AND {until}")
        })
    }

    fn values(&self, operand: &Operand, value_type: ValueType, values: &[Literal]) -> Option<String> {
        let x = match value_type {
            ValueType::Date => self.subject(operand, "date"),
            ValueType::DateTime => self.subject(operand, "datetime"),
            ValueType::Time => self.subject(operand, "time"),
            ValueType::Text | ValueType::Integer | ValueType::Number | ValueType::Boolean => {
                operand.wrapped()
            }
        };
        match values {
            [] => None,
            [one] => Some(format!("{x} = {}", one.sql(self.dialect))),
            many => Some(format!("{x} IN ({})", self.list(many))),
        }
    }

    fn list(&self, values: &[Literal]) -> String {
        values.iter().map(|value| value.sql(self.dialect)).collect::<Vec<_>>().join(", ")
    }

    /// `{variable.start}`, `{variable.end}`; the end is the last second or day of the range.
    fn value(&self, variable: &str, selector: Selector<'_>) -> Outcome<String> {
        let selected = self.selected(variable)?;
        let words = "as a value, use .start or .end";
        let start = match selector {
            Selector::Start => true,
            Selector::End => false,
            _ => return Err(bad_selector(variable, selector, words)),
        };
        let direction = (variable == TIMERANGE_PREVIOUS).then_some(Direction::Previous);
        let pick =
            |span: Option<Span>| span.and_then(|span| if start { span.start } else { span.last_second() });
        let (value, type_name) = match selected {
            Selected::DateTimes { range, .. } => {
                let at = pick(self.span(&range, Grain::Second, direction)?);
                (at.map(|at| self.date_time(at)), "TIMESTAMP")
            }
            Selected::Dates(range) => {
                let at = pick(self.span(&range, Grain::Day, direction)?);
                (at.map(|at| Literal::Date(self.zones.shown.wall(at).date())), "DATE")
            }
            Selected::Times(range) => {
                let (from, until) = match self.day_part(&range, direction)? {
                    DayPart::All => (jiff::civil::Time::midnight(), LAST_SECOND),
                    DayPart::Between { start, end } => (start, end),
                };
                (Some(Literal::Time(if start { from } else { until })), "TIME")
            }
            Selected::Values { .. } | Selected::Aggregation(_) | Selected::ZoneName(_) => {
                return Err(bad_selector(variable, selector, "it is not a range and has no selectors"));
            }
        };
        Ok(match (value, self.dialect) {
            (Some(value), _) => value.sql(self.dialect),
            (None, SqlDialect::Sqlite) => Literal::Null.sql(self.dialect),
            (None, SqlDialect::MySql) if type_name == "TIMESTAMP" => "CAST(NULL AS DATETIME)".to_owned(),
            (None, _) => format!("CAST(NULL AS {type_name})"),
        })
    }

    /// `{variable}`: the values separated by commas, for `IN ({variable})`; NULL if none is selected.
    fn legacy(&self, variable: &str) -> Outcome<String> {
        Ok(match self.selected(variable)? {
            Selected::Values { values, .. } if values.is_empty() => Literal::Null.sql(self.dialect),
            Selected::Values { values, .. } => self.list(&values),
            Selected::Aggregation(aggregation) => literal::text(aggregation.as_str(), self.dialect),
            Selected::ZoneName(name) => literal::text(&name, self.dialect),
            Selected::DateTimes { .. } | Selected::Dates(_) | Selected::Times(_) => {
                let message =
                    format!("{variable} is a range; write {{{variable}.start}} or {{{variable}.end}}");
                return Err(Bad::new(codes::SELECTOR, message));
            }
        })
    }

    fn transformation(&self, operand: &Operand, name: &str, selector: Option<&str>) -> Outcome<String> {
        if let Some(selector) = selector {
            return Err(bad_selector(name, Selector::Unknown(selector), "a transformation has no selectors"));
        }
        let aggregation = match Aggregation::parse(name) {
            Some(fixed) => Some(fixed),
            None if name == TIME_ZONE => None,
            None if name == AGGREGATION || self.env.filters.contains_key(name) => {
                match self.selected(name)? {
                    Selected::Aggregation(aggregation) => Some(aggregation),
                    _ => {
                        return Err(Bad::new(
                            "unknown",
                            format!("{name} is a filter, but not an aggregation filter"),
                        ));
                    }
                }
            }
            None => {
                let fixed = Aggregation::ALL.map(Aggregation::as_str).join(", ");
                return Err(Bad::new(
                    "unknown",
                    format!(
                        "unknown transformation {name}; use {fixed}, aggregation, tz or an aggregation filter"
                    ),
                ));
            }
        };
        let (dialect, session_zone, zones) = (self.dialect, self.env.session_zone, &self.zones);
        let mut transform = Transform { dialect, zones, session_zone, operand, shifts: None };
        if Transform::needs_shifts(aggregation, operand, dialect, session_zone, zones) {
            let from = Transform::origin(operand, dialect, session_zone, zones);
            let (begin, end) = self.hull(operand, &from)?;
            let written = shifts(&from, &zones.shown, begin, end).ok_or_else(|| {
                Bad::new(
                    codes::ZONE_TABLES,
                    format!("the range is too long to write out every clock change; choose a shorter range, {REMEDY}"),
                )
            })?;
            // The expression is repeated for every change, and some buckets repeat the whole again.
            if operand.sql.len().saturating_mul(2 * (written.changes.len() + 1)) > MAX_BYTES {
                return Err(Bad::new("too_large", format!("expands to more than {MAX_BYTES} bytes")));
            }
            transform.shifts = Some(written);
        }
        Ok(match aggregation {
            Some(aggregation) => transform.bucket(aggregation),
            None => transform.in_zone(),
        })
    }

    /// The time in which an expression's values can be: the ranges with which the same expression is compared,
    /// otherwise all ranges of the statement. It always includes the present.
    fn hull(&self, operand: &Operand, from: &Zone) -> Outcome<(Timestamp, Timestamp)> {
        let now = self.env.now;
        let fixed = is_fixed(from) && is_fixed(&self.zones.shown);
        let is_now = *from != self.zones.data;
        if fixed || is_now {
            return Ok((now, now));
        }
        let wanted = normalised(&operand.sql, self.dialect);
        let same = |bound: &&(Option<String>, Span)| bound.0.as_ref() == Some(&wanted);
        let spans: Vec<&Span> = if self.bounds.iter().any(|bound| same(&bound)) {
            self.bounds.iter().filter(same).map(|(_, span)| span).collect()
        } else {
            self.bounds.iter().map(|(_, span)| span).collect()
        };
        let unbounded = || {
            Bad::new(
                codes::ZONE_TABLES,
                format!(
                    "the server has no time zone tables, so times can be shown in {} only within a range that has a \
                     start and an end; choose such a range, {REMEDY}",
                    self.zones.shown.name()
                ),
            )
        };
        if spans.is_empty() {
            return Err(unbounded());
        }
        let (mut begin, mut end) = (now, now);
        for span in spans {
            begin = begin.min(span.start.ok_or_else(unbounded)?);
            end = end.max(span.end.ok_or_else(unbounded)?);
        }
        Ok((begin, end))
    }

    fn collect_bounds(&mut self, nodes: &[Node<'_>]) {
        for node in nodes {
            let Node::Param(param) = node else { continue };
            match &param.form {
                Form::Condition { expr, variable, selector } => {
                    if let Ok(Compared::DateTimes { span: Some(span), .. } | Compared::Dates(Some(span))) =
                        self.compared(variable, *selector)
                    {
                        let [Node::Text(text)] = expr.nodes.as_slice() else {
                            self.bounds.push((None, span));
                            continue;
                        };
                        self.bounds.push((Some(normalised(text, self.dialect)), span));
                    }
                    self.collect_bounds(&expr.nodes);
                }
                Form::Value { variable, .. } => {
                    if let Ok(Compared::DateTimes { span: Some(span), .. } | Compared::Dates(Some(span))) =
                        self.compared(variable, None)
                    {
                        self.bounds.push((None, span));
                    }
                }
                Form::Transformation { expr, .. } => self.collect_bounds(&expr.nodes),
                Form::Legacy { .. } => {}
            }
        }
    }
}

const REMEDY: &str = "or load the time zone tables on the server once: \
                      `mysql_tzinfo_to_sql /usr/share/zoneinfo | mysql -u root mysql`";

fn text_value(value: &str) -> Compared {
    Compared::Values { value_type: ValueType::Text, values: vec![Literal::Text(value.to_owned())] }
}

fn field(variable: &str) -> String {
    match variable {
        TIMERANGE | TIMERANGE_PREVIOUS => "parameters.timerange".to_owned(),
        AGGREGATION => "parameters.aggregation".to_owned(),
        TIME_ZONE => "parameters.tz".to_owned(),
        name => format!("parameters.filters.{name}"),
    }
}

fn bad_selector(variable: &str, selector: Selector<'_>, words: &str) -> Bad {
    Bad::new(codes::SELECTOR, format!(".{} cannot be used with {variable}; {words}", selector.as_str()))
}

fn both([start, end]: &[Option<String>; 2]) -> Option<String> {
    match (start, end) {
        (Some(start), Some(end)) => Some(format!("{start} AND {end}")),
        (Some(one), None) | (None, Some(one)) => Some(one.clone()),
        (None, None) => None,
    }
}

/// An expression without insignificant whitespace.
fn normalised(sql: &str, dialect: SqlDialect) -> String {
    let code = lex(sql, dialect).into_iter().filter(|token| !token.kind.is_blank());
    let words = code.map(|token| match token.kind {
        Kind::Word => token.text.to_ascii_lowercase(),
        _ => token.text.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Appends an expansion, with a space if it could otherwise merge with the text before it: `E` and `'…'`, `-` and `-1`.
/// In MySQL two dashes and a space start a comment, so there it gets parentheses instead.
/// PostgreSQL joins a literal with one on the next line, even after comments, so it also gets parentheses there.
fn join(sql: &mut String, piece: &str, rest: &str) {
    let next = rest.chars().next();
    let after = rest.trim_start();
    let continued = piece.ends_with('\'') && ["'", "--", "/*"].iter().any(|start| after.starts_with(start));
    if sql.ends_with("--") || continued || (piece.starts_with('\'') && may_continue(sql)) {
        sql.push_str(if sql.ends_with("--") || sql.is_empty() { "(" } else { " (" });
        sql.push_str(piece);
        sql.push(')');
        return;
    }
    let among = |char: char, safe: &str| char.is_ascii_whitespace() || safe.contains(char);
    if sql.chars().next_back().is_some_and(|last| !among(last, "(,=<>[|+*")) {
        sql.push(' ');
    }
    sql.push_str(piece);
    if next.is_some_and(|next| !among(next, "),;]:=<>|+*-")) {
        sql.push(' ');
    }
}

/// Whether a literal appended here could continue one that ended on an earlier line.
fn may_continue(sql: &str) -> bool {
    let code = sql.trim_end();
    let line_break = sql[code.len()..].contains(['\n', '\r']);
    let last_line = code.rsplit(['\n', '\r']).next().unwrap_or_default();
    line_break && (code.ends_with('\'') || code.ends_with("*/") || last_line.contains("--"))
}

/// Whether a condition can replace the parameter without added parentheses, as in the documented expansions: after a
/// word that starts a condition and before one that ends it.
fn stands_alone(param: &Param<'_>) -> bool {
    const BEFORE: [&str; 9] = ["(", "[", "WHERE", "AND", "OR", "ON", "HAVING", "WHEN", "FILTER"];
    const AFTER: [&str; 22] = [
        ")",
        "]",
        ";",
        ",",
        "AND",
        "OR",
        "THEN",
        "GROUP",
        "ORDER",
        "HAVING",
        "LIMIT",
        "OFFSET",
        "FETCH",
        "UNION",
        "INTERSECT",
        "EXCEPT",
        "WINDOW",
        "JOIN",
        "LEFT",
        "INNER",
        "WHERE",
        "FOR",
    ];
    let one_of = |word: Option<&str>, words: &[&str]| {
        word.is_none_or(|word| words.iter().any(|known| known.eq_ignore_ascii_case(word)))
    };
    one_of(param.before, &BEFORE) && one_of(param.after, &AFTER)
}
