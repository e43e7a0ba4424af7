//! How long a backup is kept: a number of hours, days, weeks, months or years of the calendar.

use std::fmt;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use landreeve_core::{Error, Result};

/// Maximum number of units, which is about a hundred years of each.
const HOURS: i64 = 876_600;
const DAYS: i64 = 36_525;
const WEEKS: i64 = 5_218;
const MONTHS: i64 = 1_200;
const YEARS: i64 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    count: i64,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Unit {
    const ALL: [(Unit, char, i64); 5] = [
        (Unit::Hour, 'h', HOURS),
        (Unit::Day, 'd', DAYS),
        (Unit::Week, 'w', WEEKS),
        (Unit::Month, 'm', MONTHS),
        (Unit::Year, 'y', YEARS),
    ];
}

impl Keep {
    /// How long a backup is kept by default.
    pub const WEEK: Keep = Keep { count: 7, unit: Unit::Day };

    /// `12h`, `7d`, `4w`, `6m` (months) or `1y`. The message is for the user.
    pub fn parse(text: &str) -> std::result::Result<Keep, String> {
        let wrong = || "must be a number from 1 with h, d, w, m or y behind it, such as 7d".to_owned();
        let letter = text.chars().last().ok_or_else(wrong)?;
        let (unit, _, most) =
            Unit::ALL.into_iter().find(|(_, known, _)| *known == letter).ok_or_else(wrong)?;
        let digits = &text[..text.len() - 1];
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(wrong());
        }
        let count = digits.parse().unwrap_or(i64::MAX);
        match count {
            0 => Err(wrong()),
            count if count > most => Err(format!("must be at most {most}{letter}")),
            count => Ok(Keep { count, unit }),
        }
    }

    /// So many days, weeks, months or years (and hours). The message is for the user.
    pub fn of(unit: &str, count: i64) -> std::result::Result<Keep, String> {
        let letter = match unit {
            "hours" => 'h',
            "days" => 'd',
            "weeks" => 'w',
            "months" => 'm',
            "years" => 'y',
            _ => return Err("must have the unit hours, days, weeks, months or years".to_owned()),
        };
        match Unit::ALL.into_iter().find(|(_, known, _)| *known == letter) {
            Some((unit, _, most)) if (1..=most).contains(&count) => Ok(Keep { count, unit }),
            Some((_, _, most)) => Err(format!("must be from 1 to {most} {unit}")),
            None => Err("has an unknown unit".to_owned()),
        }
    }

    /// Its unit and how many of it, as `of` takes them.
    pub fn parts(self) -> (&'static str, i64) {
        let unit = match self.unit {
            Unit::Hour => "hours",
            Unit::Day => "days",
            Unit::Week => "weeks",
            Unit::Month => "months",
            Unit::Year => "years",
        };
        (unit, self.count)
    }

    /// When a backup from then is past its retention, by the calendar of this zone.
    pub fn until(self, from: Timestamp, zone: &TimeZone) -> Result<Timestamp> {
        let span = Span::new();
        let span = match self.unit {
            Unit::Hour => span.hours(self.count),
            Unit::Day => span.days(self.count),
            Unit::Week => span.weeks(self.count),
            Unit::Month => span.months(self.count),
            Unit::Year => span.years(self.count),
        };
        let end = from.to_zoned(zone.clone()).checked_add(span).map_err(Error::internal)?;
        Ok(end.timestamp())
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = Unit::ALL.into_iter().find(|(unit, ..)| *unit == self.unit).map_or('d', |known| known.1);
        write!(f, "{}{letter}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_follow_the_calendar() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        for (text, from, until) in [
            ("1h", "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"),
            // The clocks change in between: a day is 23 hours long.
            ("1d", "2026-03-28T12:00:00Z", "2026-03-29T11:00:00Z"),
            ("2w", "2026-11-30T12:00:00Z", "2026-12-14T12:00:00Z"),
            ("1m", "2026-01-31T12:00:00Z", "2026-02-28T12:00:00Z"),
            ("1y", "2024-02-29T12:00:00Z", "2025-02-28T12:00:00Z"),
            ("100y", "2026-11-30T12:00:00Z", "2126-11-30T12:00:00Z"),
        ] {
            let keep = Keep::parse(text).unwrap();
            assert_eq!(keep.to_string(), text);
            let from: Timestamp = from.parse().unwrap();
            assert_eq!(keep.until(from, &zone).unwrap().to_string(), until, "{text}");
        }
        assert_eq!(Keep::parse("7d"), Ok(Keep::WEEK));
    }

    #[test]
    fn anything_else_is_a_fault() {
        for text in ["", "d", "7", "0d", "-1d", "+1d", "1.5d", "1D", "7 d", "7ä", "1s", "٣d"] {
            assert!(Keep::parse(text).unwrap_err().starts_with("must be a number"), "{text}");
        }
        for (text, message) in
            [("101y", "must be at most 100y"), ("99999999999999999999h", "must be at most 876600h")]
        {
            assert_eq!(Keep::parse(text).unwrap_err(), message);
        }
    }
}
