//! Resolves a range at a given time to two instants or two times of day, and finds its neighbours.
//!
//! The end of a span is exclusive, so that neighbours meet without a gap. Days, weeks and months are those of the
//! range's zone, and a day can have 23 or 25 hours. Nothing here depends on a database.

use jiff::tz::Disambiguation;
use jiff::{SignedDuration, Timestamp, ToSpan, civil};

use super::range::{Endpoint, Range, Relative, Unit};
use super::zone::Zone;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeekStart {
    #[default]
    Monday,
    Sunday,
}

/// The time that relative ranges refer to, and the calendar they follow.
#[derive(Debug, Clone, Copy)]
pub struct Present<'a> {
    pub now: Timestamp,
    pub zone: &'a Zone,
    pub week_start: WeekStart,
}

/// The precision to which a range is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    Second,
    Day,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Next,
    Previous,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub start: Option<Timestamp>,
    /// The first instant after the span.
    pub end: Option<Timestamp>,
    /// Set if the range ends now, in which case its neighbours are found differently.
    sliding: Option<Relative>,
}

/// Part of every day; it passes midnight if it starts after it ends. The end is inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayPart {
    All,
    Between { start: civil::Time, end: civil::Time },
}

type Outcome<T> = Result<T, String>;

fn beyond<E>(_: E) -> String {
    "extends outside the years 1 to 9999".to_owned()
}

impl Present<'_> {
    fn second(&self) -> Outcome<Timestamp> {
        Timestamp::from_second(self.now.as_second()).map_err(beyond)
    }

    fn begin(&self, date: civil::Date) -> Outcome<Timestamp> {
        Ok(date.to_zoned(self.zone.rules().clone()).map_err(beyond)?.timestamp())
    }

    fn date(&self, at: Timestamp) -> civil::Date {
        self.zone.wall(at).date()
    }

    fn is_midnight(&self, at: Timestamp) -> bool {
        self.begin(self.date(at)).is_ok_and(|begin| begin == at)
    }

    /// The first day of the week, month, quarter or year of a day.
    fn first_day(&self, unit: Unit, date: civil::Date) -> Outcome<civil::Date> {
        let first_of = |month: i8| civil::Date::new(date.year(), month, 1).map_err(beyond);
        match unit {
            Unit::Week => {
                let into = match self.week_start {
                    WeekStart::Monday => date.weekday().to_monday_zero_offset(),
                    WeekStart::Sunday => date.weekday().to_sunday_zero_offset(),
                };
                add_days(date, -i64::from(into))
            }
            Unit::Month => first_of(date.month()),
            Unit::Quarter => first_of((date.month() - 1) / 3 * 3 + 1),
            Unit::Year => first_of(1),
            Unit::Second | Unit::Minute | Unit::Hour | Unit::Day => Ok(date),
        }
    }

    /// The first instant of the current unit, shifted by `moved` units.
    fn unit_begin(&self, unit: Unit, moved: i64) -> Outcome<Timestamp> {
        if let Some(length) = clock_length(unit) {
            let now = self.second()?;
            let wall = self.zone.wall(now);
            let into = match unit {
                Unit::Hour => i64::from(wall.minute()) * 60 + i64::from(wall.second()),
                Unit::Minute => i64::from(wall.second()),
                _ => 0,
            };
            return add_seconds(now, moved.saturating_mul(length) - into);
        }
        self.begin(add_units(self.first_day(unit, self.date(self.now))?, unit, moved)?)
    }

    /// The same local time, `count` calendar units later.
    fn on_calendar(&self, at: Timestamp, unit: Unit, count: i64) -> Outcome<Timestamp> {
        if let Some(length) = clock_length(unit) {
            return add_seconds(at, count.saturating_mul(length));
        }
        if self.is_midnight(at) {
            return self.begin(add_units(self.date(at), unit, count)?);
        }
        let wall = self.zone.wall(at);
        let moved = add_units(wall.date(), unit, count)?.to_datetime(wall.time());
        self.zone.rules().to_timestamp(moved).map_err(beyond)
    }
}

/// The length in seconds, if it is fixed.
const fn clock_length(unit: Unit) -> Option<i64> {
    match unit {
        Unit::Second => Some(1),
        Unit::Minute => Some(60),
        Unit::Hour => Some(3600),
        Unit::Day | Unit::Week | Unit::Month | Unit::Quarter | Unit::Year => None,
    }
}

fn add_days(date: civil::Date, days: i64) -> Outcome<civil::Date> {
    let span = jiff::Span::new().try_days(days).map_err(beyond)?;
    date.checked_add(span).map_err(beyond)
}

fn add_units(date: civil::Date, unit: Unit, count: i64) -> Outcome<civil::Date> {
    let months = |count: i64| {
        let span = jiff::Span::new().try_months(count).map_err(beyond)?;
        date.checked_add(span).map_err(beyond)
    };
    match unit {
        Unit::Week => add_days(date, count.saturating_mul(7)),
        Unit::Month => months(count),
        Unit::Quarter => months(count.saturating_mul(3)),
        Unit::Year => months(count.saturating_mul(12)),
        Unit::Second | Unit::Minute | Unit::Hour | Unit::Day => add_days(date, count),
    }
}

fn add_seconds(at: Timestamp, seconds: i64) -> Outcome<Timestamp> {
    at.checked_add(SignedDuration::from_secs(seconds)).map_err(beyond)
}

impl Span {
    pub const ALL_TIME: Span = Span { start: None, end: None, sliding: None };

    const fn between(start: Timestamp, end: Timestamp) -> Span {
        Span { start: Some(start), end: Some(end), sliding: None }
    }

    pub fn resolve(range: &Range, grain: Grain, present: Present<'_>) -> Outcome<Span> {
        let span = match range {
            Range::Absolute { start, end } => {
                let start = start.map(|at| absolute_start(at, grain, present)).transpose()?;
                let end = end.map(|at| absolute_end(at, grain, present)).transpose()?;
                if let (Some(start), Some(end)) = (start, end)
                    && start >= end
                {
                    return Err("starts after it ends".to_owned());
                }
                Span { start, end, sliding: None }
            }
            Range::Relative(relative) => {
                if grain == Grain::Day && relative.unit() < Unit::Day {
                    return Err("is a date range; its smallest unit is the day".to_owned());
                }
                relative_span(*relative, grain, present)?
            }
        };
        span.checked()
    }

    /// Every database can represent the years 1 to 9999; a day is left for other zones.
    fn checked(self) -> Outcome<Span> {
        let first = civil::date(1, 1, 2).in_tz("UTC").map_err(beyond)?.timestamp();
        let last = civil::date(9999, 12, 30).in_tz("UTC").map_err(beyond)?.timestamp();
        let inside = |at: Option<Timestamp>| at.is_none_or(|at| (first..=last).contains(&at));
        if inside(self.start) && inside(self.end) { Ok(self) } else { Err(beyond(())) }
    }

    /// The last second of the span.
    pub fn last_second(&self) -> Option<Timestamp> {
        self.end.and_then(|end| add_seconds(end, -1).ok())
    }

    /// The neighbouring span; `None` if this one is open to that side.
    pub fn neighbour(&self, direction: Direction, present: Present<'_>) -> Outcome<Option<Span>> {
        let span = match (self.start, self.end) {
            (Some(start), Some(end)) => self.bounded_neighbour(start, end, direction, present)?,
            (Some(start), None) if direction == Direction::Previous => {
                Span { end: Some(start), ..Span::ALL_TIME }
            }
            (None, Some(end)) if direction == Direction::Next => Span { start: Some(end), ..Span::ALL_TIME },
            _ => return Ok(None),
        };
        span.checked().map(Some)
    }

    fn bounded_neighbour(
        &self,
        start: Timestamp,
        end: Timestamp,
        direction: Direction,
        present: Present<'_>,
    ) -> Outcome<Span> {
        let sign = if direction == Direction::Next { 1 } else { -1 };
        match self.sliding {
            Some(Relative::This { unit, .. }) => {
                let start = present.on_calendar(start, unit, sign)?;
                return Ok(Span::between(start, present.on_calendar(end, unit, sign)?.max(start)));
            }
            Some(Relative::Last { count, unit, .. }) => {
                let count = i64::from(count) * sign;
                let touching = if direction == Direction::Next { end } else { start };
                let far = if present.is_midnight(start) && present.is_midnight(end) {
                    present.on_calendar(touching, unit, count)?
                } else {
                    slide(touching, unit, count, present)?
                };
                return Ok(Span::between(touching.min(far), touching.max(far)));
            }
            _ => {}
        }
        if !present.is_midnight(start) || !present.is_midnight(end) {
            let length = end.as_second() - start.as_second();
            return Ok(Span::between(add_seconds(start, sign * length)?, add_seconds(end, sign * length)?));
        }
        let (first, after) = (present.date(start), present.date(end));
        let months = i64::from(after.year() - first.year()) * 12 + i64::from(after.month() - first.month());
        let (unit, count) = if first.day() == 1 && after.day() == 1 && months > 0 {
            (Unit::Month, months)
        } else {
            let days = first.until(after).map_err(beyond)?.get_days();
            (Unit::Day, i64::from(days))
        };
        let moved = |date| add_units(date, unit, sign * count).and_then(|date| present.begin(date));
        if direction == Direction::Next {
            Ok(Span::between(end, moved(after)?))
        } else {
            Ok(Span::between(moved(first)?, start))
        }
    }
}

/// In a range that ends now, days and weeks have a fixed length; months do not.
fn slide(at: Timestamp, unit: Unit, count: i64, present: Present<'_>) -> Outcome<Timestamp> {
    match unit {
        Unit::Day => add_seconds(at, count.saturating_mul(86_400)),
        Unit::Week => add_seconds(at, count.saturating_mul(604_800)),
        _ => present.on_calendar(at, unit, count),
    }
}

fn relative_span(relative: Relative, grain: Grain, present: Present<'_>) -> Outcome<Span> {
    let now = || match grain {
        Grain::Second => present.second(),
        Grain::Day => present.unit_begin(Unit::Day, 1),
    };
    Ok(match relative {
        Relative::Last { count, unit, now: false } => {
            Span::between(present.unit_begin(unit, 1 - i64::from(count))?, present.unit_begin(unit, 1)?)
        }
        Relative::Last { count, unit, now: true } => {
            let (end, count) = (now()?, -i64::from(count));
            let start = match grain {
                Grain::Second => slide(end, unit, count, present)?,
                Grain::Day => present.on_calendar(end, unit, count)?,
            };
            Span { sliding: Some(relative), ..Span::between(start, end) }
        }
        Relative::This { unit, now: false } => {
            Span::between(present.unit_begin(unit, 0)?, present.unit_begin(unit, 1)?)
        }
        Relative::This { unit, now: true } => {
            Span { sliding: Some(relative), ..Span::between(present.unit_begin(unit, 0)?, now()?) }
        }
        Relative::Previous { unit } => {
            Span::between(present.unit_begin(unit, -1)?, present.unit_begin(unit, 0)?)
        }
    })
}

fn absolute_start(at: Endpoint, grain: Grain, present: Present<'_>) -> Outcome<Timestamp> {
    let date = match (at, grain) {
        (Endpoint::Instant(at), Grain::Second) => return Ok(at),
        (Endpoint::Local(at), Grain::Second) => return local(at, Disambiguation::Compatible, present),
        (Endpoint::Instant(at), Grain::Day) => present.date(at),
        (Endpoint::Local(at), Grain::Day) => at.date(),
        (Endpoint::Date(date), _) => date,
        (Endpoint::Time(_), _) => return Err("must use dates, not times of day".to_owned()),
    };
    present.begin(date)
}

fn absolute_end(at: Endpoint, grain: Grain, present: Present<'_>) -> Outcome<Timestamp> {
    let date = match (at, grain) {
        (Endpoint::Instant(at), Grain::Second) => return add_seconds(at, 1),
        // In a repeated hour, an end includes both.
        (Endpoint::Local(at), Grain::Second) => {
            return add_seconds(local(at, Disambiguation::Later, present)?, 1);
        }
        (Endpoint::Instant(at), Grain::Day) => present.date(at),
        (Endpoint::Local(at), Grain::Day) => at.date(),
        (Endpoint::Date(date), _) => date,
        (Endpoint::Time(_), _) => return Err("must use dates, not times of day".to_owned()),
    };
    present.begin(date.checked_add(1.day()).map_err(beyond)?)
}

fn local(at: civil::DateTime, rule: Disambiguation, present: Present<'_>) -> Outcome<Timestamp> {
    present.zone.rules().to_ambiguous_timestamp(at).disambiguate(rule).map_err(beyond)
}

impl DayPart {
    pub fn resolve(range: &Range, present: Present<'_>) -> Outcome<DayPart> {
        match range {
            Range::Absolute { start, end } => {
                let time = |at: Option<Endpoint>, open: civil::Time| match at {
                    None => Ok(open),
                    Some(Endpoint::Time(time)) => Ok(time),
                    Some(Endpoint::Instant(at)) => Ok(present.zone.wall(at).time()),
                    Some(Endpoint::Local(_) | Endpoint::Date(_)) => {
                        Err("must use times of day, like 13:00:00~13:59:59".to_owned())
                    }
                };
                let start = time(*start, civil::Time::midnight())?;
                Ok(DayPart::new(start, time(*end, LAST_SECOND)?))
            }
            Range::Relative(relative) => {
                if relative.unit() > Unit::Hour {
                    return Err("is a time range; its largest unit is the hour".to_owned());
                }
                Ok(DayPart::of(&relative_span(*relative, Grain::Second, present)?, present))
            }
        }
    }

    fn new(start: civil::Time, end: civil::Time) -> DayPart {
        if seconds_of_day(end) + 1 == seconds_of_day(start)
            || (start == civil::Time::midnight() && end == LAST_SECOND)
        {
            DayPart::All
        } else {
            DayPart::Between { start, end }
        }
    }

    fn of(span: &Span, present: Present<'_>) -> DayPart {
        let (Some(start), Some(end)) = (span.start, span.end) else { return DayPart::All };
        let length = end.as_second() - start.as_second();
        if length >= 86_400 {
            return DayPart::All;
        }
        // An empty range, in the first second of an hour, is that second.
        let last = if length == 0 { start } else { span.last_second().unwrap_or(start) };
        DayPart::Between { start: present.zone.wall(start).time(), end: present.zone.wall(last).time() }
    }

    /// The neighbour of a range's part of the day. After a range that ends now, it starts with the next full unit.
    pub fn neighbour(range: &Range, direction: Direction, present: Present<'_>) -> Outcome<DayPart> {
        if let Range::Relative(relative) = range {
            let part = DayPart::resolve(range, present)?;
            let (unit, count, now) = match *relative {
                Relative::Last { count, unit, now } => (unit, i64::from(count), now),
                Relative::This { unit, now } => (unit, 1, now),
                Relative::Previous { unit } => (unit, 1, false),
            };
            if part == DayPart::All {
                return Ok(part);
            }
            let span = if now && direction == Direction::Next {
                Some(Span::between(present.unit_begin(unit, 1)?, present.unit_begin(unit, 1 + count)?))
            } else {
                relative_span(*relative, Grain::Second, present)?.neighbour(direction, present)?
            };
            return Ok(span.map_or(DayPart::All, |span| DayPart::of(&span, present)));
        }
        let DayPart::Between { start, end } = DayPart::resolve(range, present)? else {
            return Ok(DayPart::All);
        };
        let (start, end) = (seconds_of_day(start), seconds_of_day(end));
        let length = (end - start).rem_euclid(86_400) + 1;
        let sign = if direction == Direction::Next { 1 } else { -1 };
        Ok(DayPart::Between { start: time_of(start + sign * length), end: time_of(end + sign * length) })
    }
}

pub const LAST_SECOND: civil::Time = civil::time(23, 59, 59, 0);

fn seconds_of_day(time: civil::Time) -> i64 {
    i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second())
}

fn time_of(seconds: i64) -> civil::Time {
    civil::Time::midnight().wrapping_add(seconds.rem_euclid(86_400).seconds())
}

#[cfg(test)]
#[path = "span_tests.rs"]
mod tests;
