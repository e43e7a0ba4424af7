//! The input of the language: filter definitions, inputs, snippets, zones and the time. All of them are values.
//!
//! The names of the built-in variables are defined here; the caller defines those of built-in snippets.

use std::collections::BTreeMap;

use jiff::Timestamp;
use landreeve_core::source::SessionZone;

use super::span::WeekStart;
use super::zone::Zone;

/// Variables that do not need a definition.
pub const TIMERANGE: &str = "timerange";
/// The older form of `timerange.previous`.
pub const TIMERANGE_PREVIOUS: &str = "timerange_previous";
pub const AGGREGATION: &str = "aggregation";
pub const TIME_ZONE: &str = "tz";

/// Whether a filter cannot have this variable name, because it is already in use.
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
    /// The zone of values without a zone, and of the session.
    pub data_zone: Option<Zone>,
    pub dashboard_zone: Option<Zone>,
    /// Which zones an input can choose instead of the dashboard's.
    pub zone_choice: ZoneChoice,
    /// Allowed values of the built-in aggregation; `None` means all except `all_time`.
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
    /// Only the zone that is already set.
    Fixed,
    Any,
    OneOf(Vec<Zone>),
}

#[derive(Debug, Clone, Default)]
pub struct Snippets {
    pub custom: BTreeMap<String, String>,
    /// Each is replaced by its value as a literal, or NULL. They take precedence over custom ones with the same name.
    pub builtin: BTreeMap<String, Option<String>>,
}

/// The values that a client selected, as it sent them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InputParameters {
    /// See `range`.
    pub timerange: Option<String>,
    pub aggregation: Option<String>,
    pub tz: Option<String>,
    /// Variables and their selected values. Selecting no value is also a choice, and restricts nothing.
    pub filters: Vec<(String, Vec<Scalar>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    Text(String),
    /// The digits as sent, so that none are lost.
    Number(String),
    Boolean(bool),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterDef {
    pub control: Control,
    /// Used if there is no input; empty means no default.
    pub default: Vec<Scalar>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// `options`: `None` if the allowed values are not enforced.
    Dropdown {
        value_type: ValueType,
        multiple: bool,
        options: Option<Vec<Scalar>>,
    },
    /// A value that a user types: text, a number, a date.
    Input {
        value_type: ValueType,
        multiple: bool,
    },
    DateTimeRange,
    DateRange,
    TimeRange,
    /// `options`: `None` means all except `all_time`.
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

/// The unit by which a transformation groups times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    Second,
    Minute,
    Hour,
    Day,
    /// Starts on Monday.
    Week,
    WeekSunday,
    Month,
    Quarter,
    Year,
    /// A single group of everything.
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
