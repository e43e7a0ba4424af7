//! What the language is given: definitions of filters, inputs, snippets, zones and the time. All of it values.
//!
//! The names of the built-in variables are here; those of built-in snippets are the caller's.

use std::collections::BTreeMap;

use jiff::Timestamp;
use landreeve_core::source::SessionZone;

use super::span::WeekStart;
use super::zone::Zone;

/// Variables that need no definition.
pub const TIMERANGE: &str = "timerange";
/// The older way to write `timerange.previous`.
pub const TIMERANGE_PREVIOUS: &str = "timerange_previous";
pub const AGGREGATION: &str = "aggregation";
pub const TIME_ZONE: &str = "tz";

/// Whether a filter cannot have this variable name, because it means something already.
pub fn is_reserved(name: &str) -> bool {
    [TIMERANGE, TIMERANGE_PREVIOUS, AGGREGATION, TIME_ZONE].contains(&name)
        || Aggregation::parse(name).is_some()
}

#[derive(Debug, Clone)]
pub struct Environment {
    /// By variable name. A variable without a definition is a text input with any number of values.
    pub filters: BTreeMap<String, FilterDef>,
    pub inputs: InputParameters,
    pub snippets: Snippets,
    /// The zone of values that have none, and of the session.
    pub data_zone: Option<Zone>,
    pub dashboard_zone: Option<Zone>,
    /// Which zones an input may put in place of the dashboard's.
    pub zone_choice: ZoneChoice,
    /// What the built-in aggregation may be; `None` is everything but `all_time`.
    pub aggregation_options: Option<Vec<Aggregation>>,
    pub week_start: WeekStart,
    pub session_zone: SessionZone,
    pub now: Timestamp,
}

impl Environment {
    /// No filters, inputs, snippets or zones.
    pub fn new(now: Timestamp) -> Environment {
        Environment {
            filters: BTreeMap::new(),
            inputs: InputParameters::default(),
            snippets: Snippets::default(),
            data_zone: None,
            dashboard_zone: None,
            zone_choice: ZoneChoice::Any,
            aggregation_options: None,
            week_start: WeekStart::Monday,
            session_zone: SessionZone::AsAsked,
            now,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ZoneChoice {
    /// Only the zone that is set already.
    Fixed,
    Any,
    OneOf(Vec<Zone>),
}

#[derive(Debug, Clone, Default)]
pub struct Snippets {
    pub custom: BTreeMap<String, String>,
    /// Each becomes its value as a literal, or NULL. They win over custom ones of the same name.
    pub builtin: BTreeMap<String, Option<String>>,
}

/// The values a client chose, as it sent them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InputParameters {
    /// See `range`.
    pub timerange: Option<String>,
    pub aggregation: Option<String>,
    pub tz: Option<String>,
    /// Variable and selected values. None selected is a choice too, and no restriction.
    pub filters: Vec<(String, Vec<Scalar>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    Text(String),
    /// As its digits were sent, so that none is lost.
    Number(String),
    Boolean(bool),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterDef {
    pub control: Control,
    /// Used when there is no input; empty is no default.
    pub default: Vec<Scalar>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// `options`: `None` when the allowed values are not enforced.
    Dropdown {
        value_type: ValueType,
        multiple: bool,
        options: Option<Vec<Scalar>>,
    },
    /// What a person types: text, a number, a date.
    Input {
        value_type: ValueType,
        multiple: bool,
    },
    DateTimeRange,
    DateRange,
    TimeRange,
    /// `options`: `None` is everything but `all_time`.
    Aggregation {
        options: Option<Vec<Aggregation>>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    Text,
    Integer,
    Number,
    Boolean,
    Date,
    DateTime,
    Time,
}

/// What a transformation groups times by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    Second,
    Minute,
    Hour,
    Day,
    /// From Monday.
    Week,
    WeekSunday,
    Month,
    Quarter,
    Year,
    /// One group of everything.
    AllTime,
}

impl Aggregation {
    pub const ALL: [Aggregation; 10] = [
        Aggregation::Second,
        Aggregation::Minute,
        Aggregation::Hour,
        Aggregation::Day,
        Aggregation::Week,
        Aggregation::WeekSunday,
        Aggregation::Month,
        Aggregation::Quarter,
        Aggregation::Year,
        Aggregation::AllTime,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Aggregation::Second => "second",
            Aggregation::Minute => "minute",
            Aggregation::Hour => "hour",
            Aggregation::Day => "day",
            Aggregation::Week => "week",
            Aggregation::WeekSunday => "week_sunday",
            Aggregation::Month => "month",
            Aggregation::Quarter => "quarter",
            Aggregation::Year => "year",
            Aggregation::AllTime => "all_time",
        }
    }

    pub fn parse(text: &str) -> Option<Aggregation> {
        Aggregation::ALL.into_iter().find(|known| known.as_str() == text)
    }
}
