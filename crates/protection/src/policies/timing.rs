//! When a goal of a policy is due. Pure.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, ToSpan as _, Zoned};

use super::model::{Frequency, Operation, Unit, Window};

/// After a failure it is tried again after a tenth of the frequency, but not sooner and not later than this.
const SHORTEST_PAUSE: SignedDuration = SignedDuration::from_secs(30);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// When a backup for this goal is to start; a time that has come if it is due now. `None`: never by itself.
///
/// `last`: when the last one for it started. `since`: when it began to count.
pub fn start(
    operation: &Operation,
    frequency: &Frequency,
    last: Option<Timestamp>,
    since: Timestamp,
    now: Timestamp,
) -> Option<Timestamp> {
    let Frequency::Every { count, unit, weekdays } = frequency else { return None };
    let zone = &operation.zone;
    let Some(window) = operation.window else {
        return match last {
            Some(last) => after(last, zone, *count, *unit, weekdays),
            None => first(since, zone, weekdays),
        };
    };
    let due = match last {
        // Counted from one opening to another, so that it does not begin a little later each day.
        Some(last) if !matches!(unit, Unit::Minute | Unit::Hour) => {
            after(opening_before(window, last, zone)?, zone, *count, *unit, weekdays)?
        }
        Some(last) => after(last, zone, *count, *unit, weekdays)?,
        None if window.closes.is_none() => opening_from(window, first(since, zone, weekdays)?, zone)?,
        None => first(since, zone, weekdays)?,
    };
    open_at(window, due.max(now), zone).map(|open| if open <= now { due.min(now) } else { open })
}

/// When the window that is open now closes. `None`: it never does.
pub fn closes(operation: &Operation, now: Timestamp) -> Option<Timestamp> {
    let window = operation.window?;
    let (_, end) = around(window, now, &operation.zone)?;
    end
}

/// How long to wait after an attempt that failed.
pub fn pause(frequency: &Frequency) -> SignedDuration {
    let Frequency::Every { count, unit, .. } = frequency else { return LONGEST_PAUSE };
    let unit = match unit {
        Unit::Minute => SignedDuration::from_mins(1),
        Unit::Hour => SignedDuration::from_hours(1),
        Unit::Day => SignedDuration::from_hours(24),
        Unit::Week | Unit::Month | Unit::Year => SignedDuration::from_hours(168),
    };
    let tenth = unit.saturating_mul(i32::try_from(*count).unwrap_or(i32::MAX)) / 10;
    tenth.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

fn local(at: Timestamp, zone: &TimeZone) -> Zoned {
    at.to_zoned(zone.clone())
}

/// The first time, for a goal without a backup: now, or on the first of its days.
fn first(since: Timestamp, zone: &TimeZone, weekdays: &[u8]) -> Option<Timestamp> {
    let day = local(since, zone);
    if weekdays.is_empty() || weekdays.contains(&number(day.weekday())) {
        return Some(since);
    }
    (1..=7).find_map(|days| {
        let day = day.start_of_day().ok()?.checked_add(days.days()).ok()?;
        weekdays.contains(&number(day.weekday())).then(|| day.timestamp())
    })
}

/// Sunday is 0.
fn number(day: Weekday) -> u8 {
    day.to_sunday_zero_offset().unsigned_abs()
}

/// So much later, by the calendar of the zone.
fn after(last: Timestamp, zone: &TimeZone, count: i64, unit: Unit, weekdays: &[u8]) -> Option<Timestamp> {
    let last = local(last, zone);
    if unit == Unit::Week && !weekdays.is_empty() {
        return on_weekdays(&last, count, weekdays);
    }
    let span = Span::new();
    let span = match unit {
        Unit::Minute => span.try_minutes(count),
        Unit::Hour => span.try_hours(count),
        Unit::Day => span.try_days(count),
        Unit::Week => span.try_weeks(count),
        Unit::Month => span.try_months(count),
        Unit::Year => span.try_years(count),
    };
    Some(last.checked_add(span.ok()?).ok()?.timestamp())
}

/// The next of these days: later in the same week, or in the one that is `count` weeks later.
fn on_weekdays(last: &Zoned, count: i64, weekdays: &[u8]) -> Option<Timestamp> {
    let left = i64::from(6 - number(last.weekday()));
    let week = left + 1 + 7 * (count - 1);
    let day = (1..=left).chain(week..week + 7).find(|days| {
        let day = last.checked_add(days.days());
        day.is_ok_and(|day| weekdays.contains(&number(day.weekday())))
    });
    Some(last.checked_add(day?.days()).ok()?.timestamp())
}

/// When the window opens on the day that is so many days after this time's.
fn opening(window: Window, at: Timestamp, zone: &TimeZone, days: i64) -> Option<Timestamp> {
    let day = local(at, zone).date().checked_add(days.days()).ok()?;
    Some(day.to_datetime(window.opens).to_zoned(zone.clone()).ok()?.timestamp())
}

/// The last opening that is not after this time.
fn opening_before(window: Window, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    [0, -1, -2].into_iter().filter_map(|days| opening(window, at, zone, days)).find(|open| *open <= at)
}

/// The first opening that is not before this time.
fn opening_from(window: Window, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    (0..3).filter_map(|days| opening(window, at, zone, days)).find(|open| *open >= at)
}

/// The window that is open at this time: when it opened and when it closes.
fn around(window: Window, at: Timestamp, zone: &TimeZone) -> Option<(Timestamp, Option<Timestamp>)> {
    let opened = opening_before(window, at, zone)?;
    let Some(closes) = window.closes else { return Some((opened, None)) };
    let day = local(opened, zone).date();
    // It may close on the next day.
    let day = if closes > window.opens { day } else { day.tomorrow().ok()? };
    let end = day.to_datetime(closes).to_zoned(zone.clone()).ok()?.timestamp();
    (at < end).then_some((opened, Some(end)))
}

/// This time if the window is open then, otherwise when it opens next.
fn open_at(window: Window, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    if around(window, at, zone).is_some() {
        return Some(at);
    }
    opening_from(window, at, zone)
}

#[cfg(test)]
mod tests {
    use landreeve_core::error::Faults;

    use super::super::model::{NewOperation, NewPolicy, NewSla, Rules};
    use super::*;

    fn operation(
        window: Option<(&str, &str)>,
        zone: &str,
        frequency: (&str, i64),
        offsets: &[i64],
    ) -> Operation {
        let window = window.map(|(start, end)| (start.to_owned(), end.to_owned()));
        let new = NewOperation {
            kind: "aws_rds_resource_granular_backup".to_owned(),
            action: if window.is_some() { "window" } else { "immediate" }.to_owned(),
            window,
            zone: Some(zone.to_owned()),
            slas: vec![NewSla {
                retention: ("days".to_owned(), 7),
                frequency: (frequency.0.to_owned(), frequency.1),
                offsets: offsets.to_vec(),
            }],
            ..NewOperation::default()
        };
        let new = NewPolicy { name: "gold".to_owned(), enabled: true, operations: vec![new] };
        let mut faults = Faults::default();
        let rules = Rules::parse(&new, &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
        rules.operations.into_iter().next().unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Window, zone, frequency, days of the week; when the last backup started, since when the goal counts, now; when the
    /// next is to start.
    const CASES: &str = "
        # The first is due at once, the next after its frequency.
        - UTC 1 days - - 2026-03-01T10:00:00Z 2026-03-01T10:00:00Z 2026-03-01T10:00:00Z
        - UTC 1 days - 2026-03-01T10:00:00Z - 2026-03-01T11:00:00Z 2026-03-02T10:00:00Z
        - UTC 15 minutes - 2026-03-01T10:00:00Z - 2026-03-09T00:00:00Z 2026-03-01T10:15:00Z
        # The clocks change in between.
        - Europe/Berlin 1 days - 2026-03-28T12:00:00Z - 2026-03-28T12:00:00Z 2026-03-29T11:00:00Z
        - Europe/Berlin 24 hours - 2026-03-28T12:00:00Z - 2026-03-28T12:00:00Z 2026-03-29T12:00:00Z
        - Europe/Berlin 1 months - 2026-01-31T12:00:00Z - 2026-01-31T12:00:00Z 2026-02-28T12:00:00Z
        # A window that closes.
        23:00-02:00 UTC 1 days - - 2026-03-01T10:00:00Z 2026-03-01T10:00:00Z 2026-03-01T23:00:00Z
        23:00-02:00 UTC 1 days - - 2026-03-01T01:00:00Z 2026-03-01T01:00:00Z 2026-03-01T01:00:00Z
        23:00-02:00 UTC 1 days - 2026-03-01T23:00:07Z - 2026-03-02T12:00:00Z 2026-03-02T23:00:00Z
        23:00-02:00 UTC 1 days - 2026-03-02T01:00:00Z - 2026-03-02T12:00:00Z 2026-03-02T23:00:00Z
        23:00-02:00 UTC 1 hours - 2026-03-01T23:30:00Z - 2026-03-01T23:30:00Z 2026-03-02T00:30:00Z
        23:00-02:00 UTC 1 hours - 2026-03-02T01:30:00Z - 2026-03-02T01:30:00Z 2026-03-02T23:00:00Z
        # What was missed is made up for once, when the window opens.
        23:00-02:00 UTC 1 days - 2026-03-01T23:00:07Z - 2026-03-05T12:00:00Z 2026-03-05T23:00:00Z
        23:00-02:00 UTC 1 days - 2026-03-01T23:00:07Z - 2026-03-05T23:30:00Z 2026-03-02T23:00:00Z
        # Without an end it opens each day, and what was missed is made up for at once.
        01:00- UTC 1 days - - 2026-03-01T10:00:00Z 2026-03-01T10:00:00Z 2026-03-02T01:00:00Z
        01:00- UTC 1 days - 2026-03-01T01:00:09Z - 2026-03-01T02:00:00Z 2026-03-02T01:00:00Z
        01:00- UTC 1 days - 2026-03-01T01:00:09Z - 2026-03-04T09:00:00Z 2026-03-02T01:00:00Z
        01:00- UTC 1 days - 2026-03-04T09:00:00Z - 2026-03-04T10:00:00Z 2026-03-05T01:00:00Z
        # The hour in which it opens does not exist on the day on which the clocks change.
        02:30-04:00 Europe/Berlin 1 days - 2026-03-28T01:30:01Z - 2026-03-28T12:00:00Z 2026-03-29T01:30:00Z
        # 1 March 2026 is a Sunday.
        - UTC 1 weeks 0,3 2026-03-01T10:00:00Z - 2026-03-01T10:00:00Z 2026-03-04T10:00:00Z
        - UTC 1 weeks 0,3 2026-03-04T10:00:00Z - 2026-03-04T10:00:00Z 2026-03-08T10:00:00Z
        - UTC 2 weekly 3 2026-03-04T10:00:00Z - 2026-03-04T10:00:00Z 2026-03-18T10:00:00Z
        - UTC 1 weeks 5 - 2026-03-01T10:00:00Z 2026-03-01T10:00:00Z 2026-03-06T00:00:00Z
        - UTC 1 weeks - 2026-03-04T10:00:00Z - 2026-03-04T10:00:00Z 2026-03-11T10:00:00Z";

    #[test]
    fn goals_are_due_by_the_calendar() {
        for case in CASES.lines().map(str::trim).filter(|case| !case.is_empty() && !case.starts_with('#')) {
            let fields: Vec<&str> = case.split(' ').collect();
            let [window, zone, count, unit, days, last, since, now, wanted] = fields[..] else {
                panic!("{case}")
            };
            let offsets: Vec<i64> = days.split(',').filter_map(|day| day.parse().ok()).collect();
            let operation = operation(
                window.split_once('-').filter(|_| window != "-"),
                zone,
                (unit, count.parse().unwrap()),
                &offsets,
            );
            let (last, since) = (last.parse().ok(), since.parse().unwrap_or(Timestamp::UNIX_EPOCH));
            let found = start(&operation, &operation.slas[0].frequency, last, since, at(now));
            assert_eq!(found.unwrap().to_string(), wanted, "{case}");
        }
        let on_demand = operation(None, "UTC", ("on_demand", 0), &[]);
        let now = at("2026-03-01T10:00:00Z");
        assert_eq!(start(&on_demand, &on_demand.slas[0].frequency, None, now, now), None);
    }

    #[test]
    fn a_start_is_in_the_window_and_one_opening_has_one() {
        let operation = operation(Some(("22:00", "06:00")), "America/New_York", ("days", 1), &[]);
        let frequency = &operation.slas[0].frequency;
        let (mut now, mut last) = (at("2026-10-20T15:00:00Z"), None);
        let since = now;
        for _ in 0..30 {
            let next = start(&operation, frequency, last, since, now).unwrap();
            let hour = local(next.max(now), &operation.zone).hour();
            assert!(!(6..22).contains(&hour), "{next}");
            assert!(closes(&operation, next.max(now)).is_some_and(|end| end > next));
            // It starts a little later than it is due.
            let begun = next.max(now) + SignedDuration::from_secs(11);
            if let Some(before) = last.replace(begun) {
                let days = local(begun, &operation.zone).date() - local(before, &operation.zone).date();
                assert_eq!(days.get_days(), 1, "{before} {begun}");
            }
            now = begun;
        }
    }

    #[test]
    fn failures_are_tried_again_sooner_the_more_often_it_is_due() {
        for (frequency, seconds) in [
            (("minutes", 1), 30),
            (("minutes", 15), 90),
            (("hours", 5), 1_800),
            (("days", 1), 3_600),
            (("years", 100), 3_600),
        ] {
            let operation = operation(None, "UTC", frequency, &[]);
            assert_eq!(pause(&operation.slas[0].frequency).as_secs(), seconds, "{frequency:?}");
        }
    }
}
