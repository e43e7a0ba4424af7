//! Times in the formats of this dialect's families, and in every format that clients send.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Numbers from here on are milliseconds: as seconds they would be after the year 5000.
const MILLIS: i64 = 100_000_000_000;

/// `2026-01-15T12:00:00Z`: whole seconds, in UTC.
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-01-15T12:00:00.000Z`: milliseconds, in UTC.
pub fn millis(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Seconds or milliseconds since 1970, with or without a fraction; ISO 8601 with an offset, or in UTC without one; a
/// date alone means its start.
pub fn parse(text: &str) -> Option<Timestamp> {
    let number = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return since_1970(text);
    }
    let micros = |at: Timestamp| Timestamp::from_microsecond(at.as_microsecond()).ok();
    if let Ok(at) = text.parse::<Timestamp>() {
        return micros(at);
    }
    let utc = |wall: DateTime| TimeZone::UTC.to_timestamp(wall).ok().and_then(micros);
    if let Ok(wall) = text.parse::<DateTime>() {
        return utc(wall);
    }
    text.parse::<Date>().ok().and_then(|date| utc(date.to_datetime(jiff::civil::Time::midnight())))
}

fn since_1970(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: i32 =
        if fraction.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok()? } else { return None };
    let span = if whole.unsigned_abs() >= MILLIS.unsigned_abs() {
        SignedDuration::from_millis(whole)
            .checked_add(SignedDuration::from_nanos(i64::from(nanos) / 1_000_000 * 1_000))?
    } else {
        SignedDuration::new(whole, nanos)
    };
    Timestamp::from_microsecond(i64::try_from(span.as_micros()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_format_of_a_time() {
        let at = |text: &str| parse(text).map(|at| at.to_string());
        let expected = Some("2023-04-05T19:45:23Z".to_owned());
        for text in [
            "1680723923",
            "1680723923000",
            "2023-04-05T19:45:23Z",
            "2023-04-05T19:45:23",
            "2023-04-05 19:45:23",
            "2023-04-05T21:45:23+02:00",
            "2023-04-05T19:45:23.000Z",
            "2023-04-05T21:45:23+0200",
        ] {
            assert_eq!(at(text), expected, "{text}");
        }
        assert_eq!(at("1680723923.5"), Some("2023-04-05T19:45:23.5Z".to_owned()));
        assert_eq!(at("2023-04-05"), Some("2023-04-05T00:00:00Z".to_owned()));
        for text in [
            "-9223372036854775808",
            "9223372036854775807.999",
            "",
            "yesterday",
            "1.2.3",
            "2023-13-01",
            "99999999999999999999",
            "12:00",
            "-",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }
}
