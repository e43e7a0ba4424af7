//! Texts as dates and times, of which nothing is dropped: a date is only a date, and an offset counts.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::temporal::Pieces;
use jiff::tz::TimeZone;

/// `2026-01-31`. A text with a time or an offset is no date.
pub fn date(text: &str) -> Option<Date> {
    let pieces = Pieces::parse(text).ok()?;
    (pieces.time().is_none() && !has_zone(&pieces)).then_some(pieces.date())
}

/// `12:30:00` or `12:30:00.25`. A text with a date or an offset is no time.
pub fn time(text: &str) -> Option<Time> {
    let is_part = |byte: u8| byte.is_ascii_digit() || matches!(byte, b':' | b'.' | b',');
    text.bytes().all(is_part).then(|| text.parse().ok()).flatten()
}

/// `2026-01-31 12:30:00`, a date alone, which is its first moment, or a time with an offset or `Z`, in UTC.
pub fn wall(text: &str) -> Option<DateTime> {
    let pieces = Pieces::parse(text).ok()?;
    if has_zone(&pieces) {
        return instant(text).map(|at| TimeZone::UTC.to_datetime(at));
    }
    Some(pieces.date().to_datetime(pieces.time().unwrap_or(Time::midnight())))
}

/// `2026-01-31T12:30:00Z` or with an offset. The name of a zone behind it might say another time, so it is refused.
pub fn instant(text: &str) -> Option<Timestamp> {
    let named = Pieces::parse(text).ok()?.time_zone_annotation().is_some();
    if named { None } else { text.parse().ok() }
}

fn has_zone(pieces: &Pieces<'_>) -> bool {
    pieces.offset().is_some() || pieces.time_zone_annotation().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_text_says_is_dropped() {
        for (text, expected_date, expected_time, expected_wall) in [
            ("2026-01-31", Some("2026-01-31"), None, Some("2026-01-31T00:00:00")),
            ("20260131", Some("2026-01-31"), None, Some("2026-01-31T00:00:00")),
            ("2026-01-31 12:30", None, None, Some("2026-01-31T12:30:00")),
            ("2026-01-31T12:30:00.25", None, None, Some("2026-01-31T12:30:00.25")),
            ("2026-01-31 12:30:00Z", None, None, Some("2026-01-31T12:30:00")),
            ("2026-01-31T12:30:00-00:00", None, None, Some("2026-01-31T12:30:00")),
            ("2026-01-31 00:30:00+02:00", None, None, Some("2026-01-30T22:30:00")),
            ("2026-01-31T23:30:00-01", None, None, Some("2026-02-01T00:30:00")),
            ("2026-01-31T12:30:00+01:00[Europe/Berlin]", None, None, None),
            ("2026-01-31T12:30:00+02:00[Europe/Berlin]", None, None, None),
            ("2026-01-31T12:30:00Z[Europe/Berlin]", None, None, None),
            ("2026-01-31T12:30:00[Europe/Berlin]", None, None, None),
            ("2026-01-31[Europe/Berlin]", None, None, None),
            ("12:30", None, Some("12:30:00"), None),
            ("12:30:00.5", None, Some("12:30:00.5"), None),
            ("12:30:00Z", None, None, None),
            ("12:30:00+02:00", None, None, None),
            ("2026-02-30", None, None, None),
            ("2026-01-31 25:00", None, None, None),
            ("25:00", None, None, None),
            ("", None, None, None),
        ] {
            assert_eq!(date(text).map(|date| date.to_string()).as_deref(), expected_date, "date {text}");
            assert_eq!(time(text).map(|time| time.to_string()).as_deref(), expected_time, "time {text}");
            assert_eq!(wall(text).map(|wall| wall.to_string()).as_deref(), expected_wall, "wall {text}");
        }
    }
}
