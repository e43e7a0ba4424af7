//! Checks what a client selected against the filter's definition and converts it to typed values.
//!
//! Does not write SQL.

use jiff::civil;

use super::env::{Aggregation, Control, FilterDef, Scalar, ValueType};
use super::literal::{Literal, plain_number};
use super::range::{Endpoint, Range};
use super::zone::Zone;

/// A fault whose field is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    pub code: &'static str,
    pub message: String,
}

impl Bad {
    pub fn new(code: &'static str, message: impl Into<String>) -> Bad {
        Bad { code, message: message.into() }
    }
}

/// What is selected for a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selected {
    Values {
        value_type: ValueType,
        values: Vec<Literal>,
    },
    /// The built-in range is written differently.
    DateTimes {
        range: Range,
        builtin: bool,
    },
    Dates(Range),
    Times(Range),
    Aggregation(Aggregation),
    ZoneName(String),
}

/// The zone of a client's times, and the zone in which the database reads them.
#[derive(Debug, Clone)]
pub struct Zones {
    pub data: Zone,
    pub shown: Zone,
    /// Whether a dashboard zone is set, even if it is the same as the data's.
    pub dashboard: bool,
}

impl Zones {
    pub fn differ(&self) -> bool {
        self.data != self.shown
    }
}

pub fn select(def: Option<&FilterDef>, input: Option<&[Scalar]>, zones: &Zones) -> Result<Selected, Bad> {
    let Some(def) = def else {
        let values = input.unwrap_or_default().iter().map(ad_hoc).collect::<Result<_, _>>()?;
        return Ok(Selected::Values { value_type: ValueType::Text, values });
    };
    let chosen = input.unwrap_or(&def.default);
    match &def.control {
        Control::Dropdown { value_type, multiple, options } => {
            let values = values(chosen, *value_type, *multiple, zones)?;
            // A default may be older than the options; only the client's values must be among them.
            if let (Some(options), Some(_)) = (options, input) {
                let options: Vec<Literal> =
                    options.iter().filter_map(|option| literal(option, *value_type, zones).ok()).collect();
                if let Some(at) =
                    values.iter().position(|value| !options.iter().any(|option| same(option, value)))
                {
                    let shown = chosen.get(at).map(show).unwrap_or_default();
                    return Err(Bad::new("enum", format!("has no option {shown}")));
                }
            }
            Ok(Selected::Values { value_type: *value_type, values })
        }
        Control::Input { value_type, multiple } => {
            let values = values(chosen, *value_type, *multiple, zones)?;
            Ok(Selected::Values { value_type: *value_type, values })
        }
        Control::DateTimeRange => Ok(Selected::DateTimes { range: range(chosen)?, builtin: false }),
        Control::DateRange => range(chosen).map(Selected::Dates),
        Control::TimeRange => range(chosen).map(Selected::Times),
        Control::Aggregation { options } => match chosen {
            [] => Ok(Selected::Aggregation(Aggregation::Day)),
            [Scalar::Text(name)] => aggregation(name, options.as_deref()).map(Selected::Aggregation),
            [other] => {
                Err(Bad::new("type", format!("must be the name of an aggregation, not {}", show(other))))
            }
            _ => Err(Bad::new("too_many", "must be a single aggregation")),
        },
    }
}

/// `options`: `None` means all except `all_time`.
pub fn aggregation(name: &str, options: Option<&[Aggregation]>) -> Result<Aggregation, Bad> {
    let names = |list: &[Aggregation]| list.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", ");
    let Some(aggregation) = Aggregation::parse(name) else {
        return Err(Bad::new("enum", format!("must be one of {}, not {name:?}", names(&Aggregation::ALL))));
    };
    let (allowed, words) = match options {
        Some(options) => (options.contains(&aggregation), format!("; allowed: {}", names(options))),
        None => (aggregation != Aggregation::AllTime, String::new()),
    };
    if allowed {
        Ok(aggregation)
    } else {
        Err(Bad::new("not_allowed", format!("does not allow the aggregation {name}{words}")))
    }
}

fn range(values: &[Scalar]) -> Result<Range, Bad> {
    let read = match values {
        [] => Ok(Range::ALL_TIME),
        [Scalar::Text(text)] => text.parse(),
        [start @ (Scalar::Text(_) | Scalar::Number(_)), end @ (Scalar::Text(_) | Scalar::Number(_))] => {
            Range::from_ends(plain_text(start), plain_text(end))
        }
        [_] | [_, _] => return Err(Bad::new("type", "must be a range as text, or a start and an end")),
        _ => return Err(Bad::new("too_many", "must be a single range: text, or a start and an end")),
    };
    read.map_err(|message| Bad::new("range", message))
}

fn plain_text(scalar: &Scalar) -> &str {
    match scalar {
        Scalar::Text(text) | Scalar::Number(text) => text,
        Scalar::Boolean(true) => "true",
        Scalar::Boolean(false) => "false",
    }
}

/// For messages: truncated, because a value can be long.
fn show(scalar: &Scalar) -> String {
    let text: String = plain_text(scalar).chars().take(60).collect();
    if matches!(scalar, Scalar::Text(_)) { format!("{text:?}") } else { text }
}

fn no_nul(text: &str) -> Result<Literal, Bad> {
    if text.contains('\0') {
        return Err(Bad::new("nul", "must not contain the character U+0000"));
    }
    Ok(Literal::Text(text.to_owned()))
}

/// A variable without a definition is text, whatever the client sent.
fn ad_hoc(scalar: &Scalar) -> Result<Literal, Bad> {
    no_nul(plain_text(scalar))
}

fn values(
    chosen: &[Scalar],
    value_type: ValueType,
    multiple: bool,
    zones: &Zones,
) -> Result<Vec<Literal>, Bad> {
    if !multiple && chosen.len() > 1 {
        return Err(Bad::new("too_many", format!("must be a single value, not {}", chosen.len())));
    }
    chosen.iter().map(|value| literal(value, value_type, zones)).collect()
}

fn literal(scalar: &Scalar, value_type: ValueType, zones: &Zones) -> Result<Literal, Bad> {
    let wrong = |wanted: &str| Bad::new("type", format!("must be {wanted}, not {}", show(scalar)));
    match value_type {
        ValueType::Text => match scalar {
            Scalar::Text(text) => no_nul(text),
            _ => Err(wrong("text")),
        },
        ValueType::Integer | ValueType::Number => {
            let plain = match scalar {
                Scalar::Number(text) | Scalar::Text(text) => plain_number(text),
                Scalar::Boolean(_) => None,
            };
            if value_type == ValueType::Number {
                return plain.map(Literal::Number).ok_or_else(|| wrong("a number"));
            }
            plain
                .map(|plain| without_zeros(&plain).to_owned())
                .filter(|plain| !plain.contains('.'))
                .map(Literal::Number)
                .ok_or_else(|| wrong("a whole number"))
        }
        ValueType::Boolean => match plain_text(scalar) {
            "true" => Ok(Literal::Boolean(true)),
            "false" => Ok(Literal::Boolean(false)),
            _ => Err(wrong("true or false")),
        },
        ValueType::Date => date(scalar, zones).ok_or_else(|| wrong("a date like 2024-04-12")),
        ValueType::DateTime => {
            date_time(scalar, zones).ok_or_else(|| wrong("a date and time like 2024-04-12T08:00:00"))
        }
        ValueType::Time => match endpoint(scalar) {
            Some(Endpoint::Time(time)) => Ok(Literal::Time(time)),
            _ => Err(wrong("a time of day like 08:00:00")),
        },
    }
}

fn endpoint(scalar: &Scalar) -> Option<Endpoint> {
    match scalar {
        Scalar::Text(text) | Scalar::Number(text) => Endpoint::parse(text).ok().flatten(),
        Scalar::Boolean(_) => None,
    }
}

fn date(scalar: &Scalar, zones: &Zones) -> Option<Literal> {
    match endpoint(scalar)? {
        Endpoint::Date(date) => Some(Literal::Date(date)),
        Endpoint::Instant(at) => Some(Literal::Date(zones.shown.wall(at).date())),
        Endpoint::Local(_) | Endpoint::Time(_) => None,
    }
}

fn date_time(scalar: &Scalar, zones: &Zones) -> Option<Literal> {
    let local = match endpoint(scalar)? {
        Endpoint::Instant(at) => return Some(Literal::DateTime(zones.data.wall(at))),
        Endpoint::Local(at) => at,
        Endpoint::Date(date) => date.to_datetime(civil::Time::midnight()),
        Endpoint::Time(_) => return None,
    };
    // If both zones are the same, a time that the zone skips is left unchanged.
    if !zones.differ() {
        return Some(Literal::DateTime(local));
    }
    zones.shown.rules().to_timestamp(local).ok().map(|at| Literal::DateTime(zones.data.wall(at)))
}

fn without_zeros(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

fn same(one: &Literal, other: &Literal) -> bool {
    match (one, other) {
        (Literal::Number(one), Literal::Number(other)) => without_zeros(one) == without_zeros(other),
        _ => one == other,
    }
}
