//! Functions that the parameter language uses and SQLite lacks: time zones and truncation to calendar units.
//!
//! `landreeve_tz(ts, from_zone, to_zone)` converts a local time from one zone to another; `landreeve_trunc(unit, ts)`
//! returns the start of the unit. Both take ISO text or seconds since 1970 and return text; NULL gives NULL; a time
//! that cannot be parsed is an error.

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, Result};

use super::replaced;

/// `length`: the limit of a text or value, in bytes.
pub(super) fn register(connection: &Connection, length: i32) -> Result<()> {
    replaced::register(connection, length)?;
    connection.create_scalar_function(c"landreeve_tz", 3, PURE, |context| {
        if (0..3).any(|index| context.get_raw(index) == ValueRef::Null) {
            return Ok(None);
        }
        let (from, to) = (zone(context, 1)?, zone(context, 2)?);
        let local = match read(context.get_raw(0))? {
            Moment::Instant(instant) => to.to_datetime(instant),
            Moment::Local(local) => {
                let zoned = local.to_zoned(from).map_err(|error| failure(error.to_string()))?;
                to.to_datetime(zoned.timestamp())
            }
        };
        Ok(Some(show(local)))
    })?;
    connection.create_scalar_function(c"landreeve_trunc", 2, PURE, |context| {
        if (0..2).any(|index| context.get_raw(index) == ValueRef::Null) {
            return Ok(None);
        }
        let unit: String = context.get(0)?;
        let local = match read(context.get_raw(1))? {
            Moment::Instant(instant) => TimeZone::UTC.to_datetime(instant),
            Moment::Local(local) => local,
        };
        truncate(&unit, local).map(Some)
    })
}

/// The result depends on nothing but the arguments.
pub(super) const PURE: FunctionFlags = FunctionFlags::SQLITE_UTF8
    .union(FunctionFlags::SQLITE_DETERMINISTIC)
    .union(FunctionFlags::SQLITE_INNOCUOUS);

pub(super) fn failure(message: String) -> Error {
    Error::UserFunctionError(message.into())
}

fn zone(context: &Context<'_>, index: usize) -> Result<TimeZone> {
    let name = context.get_raw(index).as_str().map_err(|_| failure("a time zone must be text".to_owned()))?;
    TimeZone::get(name).map_err(|_| {
        let shown: String = name.chars().take(100).collect();
        failure(format!("unknown time zone {shown}"))
    })
}

enum Moment {
    Instant(Timestamp),
    Local(DateTime),
}

fn read(value: ValueRef<'_>) -> Result<Moment> {
    // It may be of any size.
    let unreadable = |text: &str| {
        let shown: String = text.chars().take(100).collect();
        failure(format!("{shown:?} is not a time; write YYYY-MM-DD HH:MM:SS"))
    };
    match value {
        ValueRef::Integer(seconds) => {
            Timestamp::from_second(seconds).map(Moment::Instant).map_err(|_| unreadable(&seconds.to_string()))
        }
        ValueRef::Real(seconds) => {
            let micros = (seconds * 1e6).round();
            // Values that the cast clamps are not valid times anyway.
            Timestamp::from_microsecond(micros as i64)
                .map(Moment::Instant)
                .map_err(|_| unreadable(&seconds.to_string()))
        }
        ValueRef::Text(bytes) => {
            let text = std::str::from_utf8(bytes).map_err(|_| unreadable("text that is not UTF-8"))?.trim();
            if let Ok(instant) = text.parse::<Timestamp>() {
                return Ok(Moment::Instant(instant));
            }
            let local = text
                .parse::<DateTime>()
                .or_else(|error| text.parse::<Date>().map(|day| day.at(0, 0, 0, 0)).map_err(|_| error));
            local.map(Moment::Local).map_err(|_| unreadable(text))
        }
        _ => Err(failure("a time must be text or a number".to_owned())),
    }
}

fn show(local: DateTime) -> String {
    let whole = local.strftime("%Y-%m-%d %H:%M:%S").to_string();
    match local.subsec_nanosecond() / 1000 {
        0 => whole,
        micros => format!("{whole}.{micros:06}"),
    }
}

fn truncate(unit: &str, local: DateTime) -> Result<String> {
    let day = local.date();
    let back_to = |first: Weekday| day.checked_sub(i64::from(day.weekday().since(first)).days());
    let day = match unit {
        "second" | "minute" | "hour" => {
            let (minute, second) = match unit {
                "second" => (local.minute(), local.second()),
                "minute" => (local.minute(), 0),
                _ => (0, 0),
            };
            let time =
                Time::new(local.hour(), minute, second, 0).map_err(|error| failure(error.to_string()))?;
            return Ok(show(day.to_datetime(time)));
        }
        "day" => Ok(day),
        "week" => back_to(Weekday::Monday),
        "week_sunday" => back_to(Weekday::Sunday),
        "month" => Date::new(day.year(), day.month(), 1),
        "quarter" => Date::new(day.year(), (day.month() - 1) / 3 * 3 + 1, 1),
        "year" => Date::new(day.year(), 1, 1),
        other => return Err(failure(format!("{other:?} is not a unit of time"))),
    };
    day.map(|day| day.strftime("%Y-%m-%d").to_string()).map_err(|error| failure(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(expression: &str) -> Result<Option<String>> {
        let connection = Connection::open_in_memory()?;
        register(&connection, 1_000)?;
        connection.query_row(&format!("SELECT {expression}"), [], |row| row.get(0))
    }

    #[test]
    fn zones() {
        let tz = |ts: &str| ask(&format!("landreeve_tz({ts}, 'UTC', 'Europe/Berlin')")).expect("runs");
        assert_eq!(tz("'2024-03-31 00:59:59'").as_deref(), Some("2024-03-31 01:59:59"));
        assert_eq!(tz("'2024-03-31T01:00:00.5'").as_deref(), Some("2024-03-31 03:00:00.500000"));
        assert_eq!(tz("'2024-10-27T02:30:00+02:00'").as_deref(), Some("2024-10-27 02:30:00"));
        assert_eq!(tz("0").as_deref(), Some("1970-01-01 01:00:00"));
        assert_eq!(tz("0.25").as_deref(), Some("1970-01-01 01:00:00.250000"));
        assert_eq!(tz("'2024-01-01'").as_deref(), Some("2024-01-01 01:00:00"));
        assert_eq!(tz("NULL"), None);
        assert!(ask("landreeve_tz('soon', 'UTC', 'UTC')").is_err());
        assert!(ask("landreeve_tz(0, 'UTC', 'Mars/Base')").is_err());
    }

    #[test]
    fn units() {
        let trunc =
            |unit: &str| ask(&format!("landreeve_trunc('{unit}', '2024-05-15 13:45:56.7')")).expect("runs");
        for (unit, start) in [
            ("second", "2024-05-15 13:45:56"),
            ("minute", "2024-05-15 13:45:00"),
            ("hour", "2024-05-15 13:00:00"),
            ("day", "2024-05-15"),
            ("week", "2024-05-13"),
            ("week_sunday", "2024-05-12"),
            ("month", "2024-05-01"),
            ("quarter", "2024-04-01"),
            ("year", "2024-01-01"),
        ] {
            assert_eq!(trunc(unit).as_deref(), Some(start), "{unit}");
        }
        assert!(ask("landreeve_trunc('eon', '2024-05-15')").is_err());
    }
}
