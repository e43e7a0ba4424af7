//! The text format of time ranges: two ends, either of which can be open, or a range relative to the current time.
//!
//! | text | meaning |
//! | --- | --- |
//! | `1712233090~1712237090` | two instants in seconds since 1970; the end includes its last microsecond |
//! | `1712233090~`, `~1712237090` | open to one side |
//! | empty, `~` | all time |
//! | `2023-04-12~2023-04-14`, `2023-04-12T08:00:00~…`, `13:00:00~13:59:59` | local time in the range's zone |
//! | `last_7_days` | the last six days and today until its end |
//! | `last_24_hours_now` | until now; hours, days and weeks have a fixed length |
//! | `this_month`, `this_month_now` | the whole current month, or until now |
//! | `previous_week` | the week before the current one |
//!
//! This module only parses and formats them; `span` resolves them at a given time.

use std::fmt;
use std::str::FromStr;

use jiff::{Timestamp, civil};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Range {
    Absolute { start: Option<Endpoint>, end: Option<Endpoint> },
    Relative(Relative),
}

/// One end of a range. It includes the second or day that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    Instant(Timestamp),
    Local(civil::DateTime),
    Date(civil::Date),
    Time(civil::Time),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relative {
    Last { count: u16, unit: Unit, now: bool },
    This { unit: Unit, now: bool },
    Previous { unit: Unit },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

impl Unit {
    pub const ALL: [Unit; 8] = [
        Unit::Second,
        Unit::Minute,
        Unit::Hour,
        Unit::Day,
        Unit::Week,
        Unit::Month,
        Unit::Quarter,
        Unit::Year,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Unit::Second => "second",
            Unit::Minute => "minute",
            Unit::Hour => "hour",
            Unit::Day => "day",
            Unit::Week => "week",
            Unit::Month => "month",
            Unit::Quarter => "quarter",
            Unit::Year => "year",
        }
    }

    fn parse(text: &str) -> Option<Unit> {
        Unit::ALL.into_iter().find(|unit| unit.as_str() == text)
    }
}

impl Range {
    pub const ALL_TIME: Range = Range::Absolute { start: None, end: None };

    /// Builds a range from a separate start and end; an empty one is open.
    pub fn from_ends(start: &str, end: &str) -> Result<Range, String> {
        let range = Range::Absolute { start: Endpoint::parse(start)?, end: Endpoint::parse(end)? };
        if let Range::Absolute { start: Some(start), end: Some(end) } = &range {
            check_order(*start, *end)?;
        }
        Ok(range)
    }
}

/// Ends of the same kind are compared here, others once their instants are known. Times of day can pass midnight.
fn check_order(start: Endpoint, end: Endpoint) -> Result<(), String> {
    let wrong = match (start, end) {
        (Endpoint::Instant(start), Endpoint::Instant(end)) => start > end,
        (Endpoint::Local(start), Endpoint::Local(end)) => start > end,
        (Endpoint::Date(start), Endpoint::Date(end)) => start > end,
        _ => false,
    };
    if wrong { Err(format!("starts after it ends: {start}~{end}")) } else { Ok(()) }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Range, String> {
        let text = text.trim();
        if text.is_empty() {
            Ok(Range::ALL_TIME)
        } else if let Some((start, end)) = text.split_once('~') {
            Range::from_ends(start, end)
        } else {
            Relative::from_str(text).map(Range::Relative)
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Range::Absolute { start: None, end: None } => Ok(()),
            Range::Absolute { start, end } => {
                if let Some(start) = start {
                    start.fmt(f)?;
                }
                f.write_str("~")?;
                end.map_or(Ok(()), |end| end.fmt(f))
            }
            Range::Relative(relative) => relative.fmt(f),
        }
    }
}

impl Endpoint {
    /// `None` for an empty string.
    pub fn parse(text: &str) -> Result<Option<Endpoint>, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        Endpoint::read(text).map(Some).ok_or_else(|| {
            format!(
                "{text:?} is not seconds since 1970, a date (2024-04-12), a date and time (2024-04-12T08:00:00) or a \
                 time of day (08:00:00), in the years 1 to 9999 and without fractions of a second"
            )
        })
    }

    fn read(text: &str) -> Option<Endpoint> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let endpoint = if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            Endpoint::Instant(Timestamp::from_second(text.parse().ok()?).ok()?)
        } else if text.bytes().filter(|&byte| byte == b'-').count() == 2 && text.len() == 10 {
            Endpoint::Date(text.parse().ok()?)
        } else if text.len() <= 8 {
            Endpoint::Time(text.parse().ok()?)
        } else if let Ok(instant) = text.parse::<Timestamp>() {
            Endpoint::Instant(instant)
        } else {
            Endpoint::Local(text.parse().ok()?)
        };
        let (whole, year) = match endpoint {
            Endpoint::Instant(at) => {
                (at.subsec_nanosecond() == 0, jiff::tz::Offset::UTC.to_datetime(at).year())
            }
            Endpoint::Local(at) => (at.subsec_nanosecond() == 0, at.year()),
            Endpoint::Date(date) => (true, date.year()),
            Endpoint::Time(time) => (time.subsec_nanosecond() == 0, 1),
        };
        (whole && (1..=9999).contains(&year)).then_some(endpoint)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Instant(at) => at.as_second().fmt(f),
            Endpoint::Local(at) => at.fmt(f),
            Endpoint::Date(date) => date.fmt(f),
            Endpoint::Time(time) => time.fmt(f),
        }
    }
}

impl Relative {
    pub const fn unit(self) -> Unit {
        match self {
            Relative::Last { unit, .. } | Relative::This { unit, .. } | Relative::Previous { unit } => unit,
        }
    }
}

impl FromStr for Relative {
    type Err = String;

    fn from_str(text: &str) -> Result<Relative, String> {
        let words: Vec<&str> = text.split('_').collect();
        let (words, now) = match words.as_slice() {
            [words @ .., "now"] => (words, true),
            words => (words, false),
        };
        let read = match words {
            ["last", count, unit] => {
                let count = count.parse::<u16>().ok().filter(|count| *count > 0);
                let unit = Unit::parse(unit.strip_suffix('s').unwrap_or(unit));
                count.zip(unit).map(|(count, unit)| Relative::Last { count, unit, now })
            }
            ["this", unit] => Unit::parse(unit).map(|unit| Relative::This { unit, now }),
            ["previous", unit] if !now => Unit::parse(unit).map(|unit| Relative::Previous { unit }),
            _ => None,
        };
        read.ok_or_else(|| {
            format!(
                "{text:?} is not a range: use start~end (either can be omitted), last_N_UNITs or this_UNIT (optionally \
                 followed by _now), or previous_UNIT, where UNIT is second, minute, hour, day, week, month, quarter or \
                 year and N is at most 65535"
            )
        })
    }
}

impl fmt::Display for Relative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = |now: bool| if now { "_now" } else { "" };
        match *self {
            Relative::Last { count, unit, now } => {
                let plural = if count == 1 { "" } else { "s" };
                write!(f, "last_{count}_{}{plural}{}", unit.as_str(), suffix(now))
            }
            Relative::This { unit, now } => write!(f, "this_{}{}", unit.as_str(), suffix(now)),
            Relative::Previous { unit } => write!(f, "previous_{}", unit.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn formats_ranges_canonically() {
        for (text, canonical) in [
            ("1712233090~1712237090", "1712233090~1712237090"),
            ("1712233090~", "1712233090~"),
            ("~-5", "~-5"),
            ("", ""),
            ("~", ""),
            (" last_1_days ", "last_1_day"),
            ("last_24_hours_now", "last_24_hours_now"),
            ("last_7_day", "last_7_days"),
            ("this_month_now", "this_month_now"),
            ("this_quarter", "this_quarter"),
            ("previous_week", "previous_week"),
            ("2023-04-12~2023-04-14", "2023-04-12~2023-04-14"),
            ("2023-04-12T00:00:00~2023-04-12 23:59:59", "2023-04-12T00:00:00~2023-04-12T23:59:59"),
            ("2023-04-12T00:00:00Z~", "1681257600~"),
            ("13:00~13:59:59", "13:00:00~13:59:59"),
        ] {
            assert_eq!(text.parse::<Range>().unwrap().to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn rejects_malformed_ranges() {
        for text in [
            "x",
            "5",
            "5~4",
            "a~b",
            "1~2~3",
            "last_0_days",
            "last_days",
            "last_7_moons",
            "last_70000_days",
            "previous_week_now",
            "this_",
            "now",
            "2023-02-30~",
            "2023-04-14~2023-04-12",
            "9999999999999~",
            "25:00:00~",
            "2023-04-12T00:00:00.5~",
            "~-99999999999",
        ] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn ranges_round_trip(start in proptest::option::of(-60_000_000_000_i64..120_000_000_000), length in 0_i64..100_000_000_000,
                         open in any::<bool>(), count in 1_u16.., unit in 0_usize..8, form in 0..5) {
            let unit = Unit::ALL[unit];
            let at = |second| Endpoint::Instant(Timestamp::from_second(second).unwrap());
            let range = match form {
                0 => Range::Absolute {
                    start: start.map(at),
                    end: (!open).then(|| at(start.unwrap_or(0) + length)),
                },
                1 => Range::Relative(Relative::Last { count, unit, now: open }),
                2 => Range::Relative(Relative::This { unit, now: open }),
                _ => Range::Relative(Relative::Previous { unit }),
            };
            prop_assert_eq!(range.to_string().parse::<Range>().unwrap(), range);
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Range>();
        }
    }
}
