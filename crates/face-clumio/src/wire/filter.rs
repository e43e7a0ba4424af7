//! Filters of lists: which fields and operators a list has, as data, and what a request says with them.

use jiff::{SignedDuration, Timestamp};
use landreeve_core::error::Faults;
use serde_json::{Map, Value};

/// Most values in a list such as that of `$in`.
const MAX_VALUES: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Eq,
    Lt,
    Lte,
    Gt,
    Gte,
    In,
    All,
    Contains,
    BeginsWith,
}

impl Op {
    const fn as_str(self) -> &'static str {
        match self {
            Op::Eq => "$eq",
            Op::Lt => "$lt",
            Op::Lte => "$lte",
            Op::Gt => "$gt",
            Op::Gte => "$gte",
            Op::In => "$in",
            Op::All => "$all",
            Op::Contains => "$contains",
            Op::BeginsWith => "$begins_with",
        }
    }

    const fn takes_list(self) -> bool {
        matches!(self, Op::In | Op::All)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Also as a string.
    Bool,
    /// RFC 3339.
    Time,
    /// RFC 3339; for `$eq` how many seconds back from now.
    TimeOrAge,
}

/// A field of a list's filter, with its operators.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub field: &'static str,
    pub ops: &'static [Op],
    pub kind: Kind,
}

impl Rule {
    pub const fn text(field: &'static str, ops: &'static [Op]) -> Rule {
        Rule { field, ops, kind: Kind::Text }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operand {
    Text(String),
    Bool(bool),
    Time(Timestamp),
    Seconds(i64),
}

impl Operand {
    fn as_text(&self) -> Option<&str> {
        match self {
            Operand::Text(text) => Some(text),
            Operand::Bool(_) | Operand::Time(_) | Operand::Seconds(_) => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    field: &'static str,
    op: Op,
    values: Vec<Operand>,
}

/// What a request's filter says. All of its conditions must be met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions(Vec<Condition>);

impl Conditions {
    /// Reports one fault for each thing that the list does not have. What is null is left out.
    pub fn parse(filter: &Map<String, Value>, rules: &[Rule], faults: &mut Faults) -> Conditions {
        let mut conditions = Vec::new();
        for (field, asked) in filter.iter().filter(|(_, asked)| !asked.is_null()) {
            let at = format!("filter.{field}");
            let Some(rule) = rules.iter().find(|rule| rule.field == field) else {
                faults.push(at, "unknown", unknown_field(rules));
                continue;
            };
            let Some(asked) = asked.as_object() else {
                let example = rule.ops.first().map_or("$eq", |op| op.as_str());
                faults.push(
                    at,
                    "type",
                    format!("must be an object with an operator, such as {{\"{example}\": …}}"),
                );
                continue;
            };
            for (op, value) in asked.iter().filter(|(_, value)| !value.is_null()) {
                let at = format!("{at}.{op}");
                match rule.ops.iter().find(|known| known.as_str() == op) {
                    None => faults.push(at, "unknown", format!("is not supported; use {}", joined(rule.ops))),
                    Some(known) => match values(*known, rule.kind, value) {
                        Ok(values) => conditions.push(Condition { field: rule.field, op: *known, values }),
                        Err(message) => faults.push(at, "format", message),
                    },
                }
            }
        }
        Conditions(conditions)
    }

    fn values(&self, field: &str, op: Op) -> Option<&[Operand]> {
        let found = self.0.iter().find(|condition| condition.field == field && condition.op == op);
        found.map(|condition| condition.values.as_slice())
    }

    pub fn text(&self, field: &str, op: Op) -> Option<&str> {
        self.texts(field, op)?.into_iter().next()
    }

    pub fn texts(&self, field: &str, op: Op) -> Option<Vec<&str>> {
        Some(self.values(field, op)?.iter().filter_map(Operand::as_text).collect())
    }

    /// Times are shown in whole seconds, so one that a client has read counts to the end of its second.
    pub fn time(&self, field: &str, op: Op) -> Option<Timestamp> {
        let time = self.values(field, op)?.iter().find_map(|value| match value {
            Operand::Time(time) => Some(*time),
            _ => None,
        })?;
        let whole = matches!(op, Op::Lte | Op::Gt) && time.subsec_nanosecond() == 0;
        if whole { time.checked_add(SignedDuration::from_micros(999_999)).ok() } else { Some(time) }
    }

    /// How many seconds back from now.
    pub fn age(&self, field: &str) -> Option<i64> {
        self.values(field, Op::Eq)?.iter().find_map(|value| match value {
            Operand::Seconds(seconds) => Some(*seconds),
            _ => None,
        })
    }

    /// By `$eq` or `$in`.
    pub fn flags(&self, field: &str) -> Option<Vec<bool>> {
        let values = self.values(field, Op::Eq).or_else(|| self.values(field, Op::In))?;
        let flag = |value: &Operand| match value {
            Operand::Bool(flag) => Some(*flag),
            _ => None,
        };
        Some(values.iter().filter_map(flag).collect())
    }

    /// Whether a value that is the same for every row meets the conditions on its field.
    pub fn allow(&self, field: &str, value: &str) -> bool {
        let mut of_field = self.0.iter().filter(|condition| condition.field == field);
        let meets = |condition: &Condition| {
            let mut wanted = condition.values.iter().filter_map(Operand::as_text);
            match condition.op {
                Op::Contains => wanted.all(|text| value.contains(text)),
                Op::BeginsWith => wanted.all(|text| value.starts_with(text)),
                _ => wanted.any(|text| text == value),
            }
        };
        of_field.all(meets)
    }

    pub fn has(&self, field: &str) -> bool {
        self.0.iter().any(|condition| condition.field == field)
    }
}

fn unknown_field(rules: &[Rule]) -> String {
    let fields: Vec<&str> = rules.iter().map(|rule| rule.field).collect();
    match fields.as_slice() {
        [] => "is not supported; this list has no filters".to_owned(),
        fields => format!("is not a field of this filter; use {}", fields.join(", ")),
    }
}

fn joined(ops: &[Op]) -> String {
    ops.iter().map(|op| op.as_str()).collect::<Vec<_>>().join(", ")
}

fn values(op: Op, kind: Kind, value: &Value) -> Result<Vec<Operand>, String> {
    let kind = match (kind, op) {
        (Kind::TimeOrAge, Op::Eq) => return Ok(vec![Operand::Seconds(seconds(value)?)]),
        (Kind::TimeOrAge, _) => Kind::Time,
        (kind, _) => kind,
    };
    if !op.takes_list() {
        return Ok(vec![operand(kind, value)?]);
    }
    match value.as_array() {
        Some(items) if (1..=MAX_VALUES).contains(&items.len()) => {
            items.iter().map(|item| operand(kind, item)).collect()
        }
        _ => Err(format!("must be a list of 1 to {MAX_VALUES} values")),
    }
}

/// Also as a string.
fn seconds(value: &Value) -> Result<i64, String> {
    let seconds = value.as_i64().or_else(|| value.as_str()?.parse().ok());
    let within = seconds.filter(|seconds| (0..=MAX_AGE).contains(seconds));
    within.ok_or_else(|| format!("must be a number of seconds back from now, from 0 to {MAX_AGE}"))
}

/// A hundred years in seconds.
const MAX_AGE: i64 = 3_155_760_000;

fn operand(kind: Kind, value: &Value) -> Result<Operand, String> {
    let text = || value.as_str().ok_or_else(|| "must be a string".to_owned());
    match kind {
        Kind::Text => text().map(|text| Operand::Text(text.to_owned())),
        Kind::Word(words) => match text()? {
            word if words.contains(&word) => Ok(Operand::Text(word.to_owned())),
            other => Err(format!("cannot be {other:?}; it must be one of {}", words.join(", "))),
        },
        Kind::Bool => match (value, value.as_str()) {
            (Value::Bool(flag), _) => Ok(Operand::Bool(*flag)),
            (_, Some("true")) => Ok(Operand::Bool(true)),
            (_, Some("false")) => Ok(Operand::Bool(false)),
            _ => Err("must be true or false".to_owned()),
        },
        Kind::Time | Kind::TimeOrAge => {
            let wrong = || "must be a time such as \"2026-01-15T12:00:00Z\"".to_owned();
            text()?.parse().map(Operand::Time).map_err(|_| wrong())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const RULES: [Rule; 4] = [
        Rule::text("name", &[Op::Contains]),
        Rule { field: "is_deleted", ops: &[Op::Eq, Op::In], kind: Kind::Bool },
        Rule { field: "start_timestamp", ops: &[Op::Gt, Op::Lte], kind: Kind::Time },
        Rule { field: "status", ops: &[Op::In], kind: Kind::Word(&["queued", "failed"]) },
    ];

    fn parse(filter: &Value) -> Result<Conditions, Vec<String>> {
        let mut faults = Faults::default();
        let conditions = Conditions::parse(filter.as_object().unwrap(), &RULES, &mut faults);
        match faults.finish() {
            Ok(()) => Ok(conditions),
            Err(error) => {
                Err(error.faults.iter().map(|fault| format!("{} {}", fault.field, fault.message)).collect())
            }
        }
    }

    #[test]
    fn reads_what_clients_send() {
        let filter = json!({
            "name": { "$contains": "shop" }, "is_deleted": { "$in": ["true", false] },
            "start_timestamp": { "$gt": "2026-01-15T12:00:00Z", "$lte": "2026-01-16T12:00:00+01:00" },
            "status": { "$in": null }, "unknown": null,
        });
        let conditions = parse(&filter).unwrap();
        assert_eq!(conditions.text("name", Op::Contains), Some("shop"));
        assert_eq!(conditions.flags("is_deleted"), Some(vec![true, false]));
        let until = conditions.time("start_timestamp", Op::Lte).unwrap();
        assert_eq!(until.to_string(), "2026-01-16T11:00:00.999999Z");
        assert!(!conditions.has("status") && conditions.has("name"));
        assert_eq!(parse(&json!({})).unwrap(), Conditions::default());
    }

    #[test]
    fn reports_everything_that_is_wrong() {
        let filter = json!({
            "colour": { "$eq": "red" }, "name": { "$eq": "shop", "$contains": 1 }, "is_deleted": true,
            "start_timestamp": { "$gt": "yesterday", "$lte": "2026-01-15" },
            "status": { "$in": [] },
        });
        let expected = [
            "filter.colour is not a field of this filter; use name, is_deleted, start_timestamp, status",
            "filter.name.$eq is not supported; use $contains",
            "filter.name.$contains must be a string",
            "filter.is_deleted must be an object with an operator, such as {\"$eq\": …}",
            "filter.start_timestamp.$gt must be a time such as \"2026-01-15T12:00:00Z\"",
            "filter.start_timestamp.$lte must be a time such as \"2026-01-15T12:00:00Z\"",
            "filter.status.$in must be a list of 1 to 1000 values",
        ];
        assert_eq!(parse(&filter).unwrap_err(), expected);
        let words = parse(&json!({ "status": { "$in": ["failed", "done"] } })).unwrap_err();
        assert_eq!(words, ["filter.status.$in cannot be \"done\"; it must be one of queued, failed"]);
    }

    #[test]
    fn constants_are_compared_with_each_operator() {
        let rules =
            [Rule::text("region", &[Op::Eq, Op::In]), Rule::text("account", &[Op::BeginsWith, Op::Contains])];
        let allows = |filter: Value| {
            let mut faults = Faults::default();
            let conditions = Conditions::parse(filter.as_object().unwrap(), &rules, &mut faults);
            assert!(faults.is_empty());
            conditions.allow("region", "local") && conditions.allow("account", "0001")
        };
        assert!(allows(json!({})));
        assert!(allows(json!({ "region": { "$eq": "local", "$in": ["x", "local"] } })));
        assert!(allows(json!({ "account": { "$begins_with": "000", "$contains": "1" } })));
        assert!(!allows(json!({ "region": { "$eq": "us-west-2" } })));
        assert!(!allows(json!({ "account": { "$begins_with": "1" } })));
    }
}
