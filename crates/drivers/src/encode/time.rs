//! Dates and times as text, from Arrow's integers: any year an integer can express, including BC and after 9999, and
//! instants in a zone. Pure.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use landreeve_core::schema;

const DAY: i64 = 86_400;
/// The Gregorian calendar repeats every 400 years, including the weekdays.
const CYCLE_SECONDS: i64 = 146_097 * DAY;

fn two(out: &mut Vec<u8>, value: u32) {
    out.extend([b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8]);
}

fn integer(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Year (astronomical: 0 is 1 BC), month, day of a day number since 1970.
pub(super) fn civil(days: i64) -> (i64, u32, u32) {
    // Counted from 0000-03-01, so that the leap day ends a year.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_index + 2) / 5 + 1) as u32;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Returns whether the year is BC, which is written after the whole value.
fn date_part(out: &mut Vec<u8>, days: i64) -> bool {
    let (year, month, day) = civil(days);
    let shown = if year <= 0 { 1 - year } else { year };
    if shown <= 9999 {
        two(out, (shown / 100) as u32);
        two(out, (shown % 100) as u32);
    } else {
        integer(out, shown);
    }
    out.push(b'-');
    two(out, month);
    out.push(b'-');
    two(out, day);
    year <= 0
}

pub(super) fn date(out: &mut Vec<u8>, days: i32) {
    match days {
        schema::POSITIVE_INFINITY_DAY => out.extend_from_slice(b"infinity"),
        schema::NEGATIVE_INFINITY_DAY => out.extend_from_slice(b"-infinity"),
        schema::ZERO_DAY => out.extend_from_slice(b"0000-00-00"),
        days => {
            if date_part(out, i64::from(days)) {
                out.extend_from_slice(b" BC");
            }
        }
    }
}

/// The unit of a column's integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    fn per_second(self) -> i64 {
        match self {
            Unit::Seconds => 1,
            Unit::Millis => 1_000,
            Unit::Micros => 1_000_000,
            Unit::Nanos => 1_000_000_000,
        }
    }

    fn fraction(self, out: &mut Vec<u8>, fraction: i64) {
        let mut digits = match self {
            Unit::Seconds => return,
            Unit::Millis => 3,
            Unit::Micros => 6,
            Unit::Nanos => 9,
        };
        out.push(b'.');
        let mut rest = fraction;
        let mut divisor = self.per_second() / 10;
        while digits > 0 {
            out.push(b'0' + (rest / divisor) as u8);
            rest %= divisor;
            divisor = (divisor / 10).max(1);
            digits -= 1;
        }
    }
}

/// `true` if the value is not a date in the calendar (infinity, the zero date).
fn sentinel(out: &mut Vec<u8>, value: i64) -> bool {
    out.extend_from_slice(match value {
        schema::POSITIVE_INFINITY => b"infinity".as_slice(),
        schema::NEGATIVE_INFINITY => b"-infinity",
        schema::ZERO_DATE => b"0000-00-00",
        _ => return false,
    });
    true
}

fn clock(out: &mut Vec<u8>, second_of_day: i64) {
    two(out, (second_of_day / 3600) as u32);
    out.push(b':');
    two(out, (second_of_day / 60 % 60) as u32);
    out.push(b':');
    two(out, (second_of_day % 60) as u32);
}

pub(super) fn date_time(out: &mut Vec<u8>, value: i64, unit: Unit) {
    if sentinel(out, value) {
        return;
    }
    let seconds = value.div_euclid(unit.per_second());
    let before_christ = date_part(out, seconds.div_euclid(DAY));
    out.push(b'T');
    clock(out, seconds.rem_euclid(DAY));
    unit.fraction(out, value.rem_euclid(unit.per_second()));
    if before_christ {
        out.extend_from_slice(b" BC");
    }
}

/// A time of day; PostgreSQL also has 24:00:00.
pub(super) fn time_of_day(out: &mut Vec<u8>, value: i64, unit: Unit) {
    clock(out, value.div_euclid(unit.per_second()));
    unit.fraction(out, value.rem_euclid(unit.per_second()));
}

/// A zone with a cache of periods of constant offset, so that each of a million instants costs only a search.
pub(super) struct ZoneClock {
    zone: TimeZone,
    stretches: Vec<Stretch>,
    last: usize,
}

#[derive(Clone, Copy)]
struct Stretch {
    from: i64,
    until: i64,
    /// Whole minutes, because RFC 3339 has nothing finer.
    offset: i64,
}

/// More periods than a zone's table has; each distant year would add two.
const MAX_STRETCHES: usize = 4096;

impl ZoneClock {
    pub fn new(zone: TimeZone) -> ZoneClock {
        ZoneClock { zone, stretches: Vec::new(), last: 0 }
    }

    /// An offset with seconds (local mean time) is rounded to a minute. The instant stays exact, because the local time
    /// shown uses the rounded offset too.
    fn offset(&mut self, seconds: i64) -> i64 {
        if let Some(stretch) = self.stretches.get(self.last)
            && (stretch.from..stretch.until).contains(&seconds)
        {
            return stretch.offset;
        }
        let found = self.stretches.partition_point(|stretch| stretch.until <= seconds);
        if let Some(stretch) = self.stretches.get(found)
            && stretch.from <= seconds
        {
            self.last = found;
            return stretch.offset;
        }
        let stretch = self.look_up(seconds);
        if self.stretches.len() >= MAX_STRETCHES {
            self.stretches.clear();
        }
        let at = self.stretches.partition_point(|known| known.until <= stretch.from);
        self.stretches.insert(at, stretch);
        self.last = at;
        stretch.offset
    }

    fn look_up(&self, seconds: i64) -> Stretch {
        let (lowest, highest) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        // Before the table starts, the offset never changes; after it, the rules repeat with the calendar.
        let shift = if seconds > highest { (seconds - highest).div_euclid(CYCLE_SECONDS) + 1 } else { 0 }
            * CYCLE_SECONDS;
        let at =
            Timestamp::from_second((seconds - shift).clamp(lowest, highest)).unwrap_or(Timestamp::UNIX_EPOCH);
        let offset = i64::from(self.zone.to_offset(at).seconds());
        let before = at.checked_add(jiff::SignedDuration::from_secs(1)).ok();
        let from = before
            .and_then(|next| self.zone.preceding(next).next())
            .map(|change| change.timestamp().as_second());
        let until = self.zone.following(at).next().map(|change| change.timestamp().as_second());
        // Without a transition before or after it, a period extends to the limit of jiff's time.
        let from = from.map_or(if shift == 0 { i64::MIN } else { seconds }, |from| from + shift);
        let until = until.map_or(if shift == 0 { highest } else { seconds }, |until| until + shift);
        let minutes = (offset + 30).div_euclid(60);
        Stretch { from: from.min(seconds), until: until.max(seconds.saturating_add(1)), offset: minutes * 60 }
    }

    /// RFC 3339 with the zone's offset.
    pub fn instant(&mut self, out: &mut Vec<u8>, value: i64, unit: Unit) {
        if sentinel(out, value) {
            return;
        }
        let seconds = value.div_euclid(unit.per_second());
        let offset = self.offset(seconds);
        // The ends of 64 bits as seconds are far outside any database's calendar.
        let local = seconds.saturating_add(offset);
        let before_christ = date_part(out, local.div_euclid(DAY));
        out.push(b'T');
        clock(out, local.rem_euclid(DAY));
        unit.fraction(out, value.rem_euclid(unit.per_second()));
        out.push(if offset < 0 { b'-' } else { b'+' });
        let minutes = (offset.unsigned_abs() / 60) as u32;
        two(out, minutes / 60);
        out.push(b':');
        two(out, minutes % 60);
        if before_christ {
            out.extend_from_slice(b" BC");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("ascii")
    }

    #[test]
    fn far_dates() {
        assert_eq!(written(|out| date(out, 0)), "1970-01-01");
        assert_eq!(written(|out| date(out, 3_672_339)), "12024-07-10");
        assert_eq!(written(|out| date(out, -735_160)), "0044-03-15 BC");
        assert_eq!(written(|out| date(out, i32::MAX)), "infinity");
        assert_eq!(written(|out| date(out, i32::MIN)), "-infinity");
        assert_eq!(written(|out| date(out, schema::ZERO_DAY)), "0000-00-00");
        assert_eq!(written(|out| date_time(out, -1, Unit::Millis)), "1969-12-31T23:59:59.999");
        assert_eq!(written(|out| date_time(out, 1, Unit::Nanos)), "1970-01-01T00:00:00.000000001");
        assert_eq!(written(|out| time_of_day(out, 86_400_000_000, Unit::Micros)), "24:00:00.000000");
    }

    #[test]
    fn instants_follow_the_zone() {
        let mut berlin = ZoneClock::new(TimeZone::get("Europe/Berlin").expect("known"));
        let mut show = |seconds: i64| written(|out| berlin.instant(out, seconds, Unit::Seconds));
        assert_eq!(show(1_711_846_799), "2024-03-31T01:59:59+01:00");
        assert_eq!(show(1_711_846_800), "2024-03-31T03:00:00+02:00");
        assert_eq!(show(1_729_990_799), "2024-10-27T02:59:59+02:00");
        assert_eq!(show(1_729_990_800), "2024-10-27T02:00:00+01:00");
        assert_eq!(show(1_711_846_799), "2024-03-31T01:59:59+01:00");
        // Rounded from +00:53:28 to a whole minute.
        assert_eq!(show(-5_000_000_000), "1811-07-23T15:59:40+00:53");
        assert_eq!(show(317_290_089_600), "12024-07-10T02:00:00+02:00");
        assert_eq!(show(317_274_537_600), "12024-01-12T01:00:00+01:00");
    }

    proptest! {
        #[test]
        fn dates_agree_with_jiff(days in -719_000_i32..2_900_000) {
            let theirs = jiff::civil::date(1970, 1, 1)
                .checked_add(jiff::Span::new().days(days))
                .expect("in range");
            prop_assert_eq!(written(|out| date(out, days)), theirs.to_string());
        }

        #[test]
        fn instants_agree_with_jiff(
            seconds in prop::collection::vec(-2_000_000_000_i64..10_000_000_000, 1..40),
            zone in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC", "Africa/Casablanca"]),
        ) {
            let zone = TimeZone::get(zone).expect("known");
            let mut clock = ZoneClock::new(zone.clone());
            for second in seconds {
                let theirs = Timestamp::from_second(second).expect("in range").to_zoned(zone.clone());
                if theirs.offset().seconds() % 60 == 0 {
                    let shown = theirs.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
                    prop_assert_eq!(written(|out| clock.instant(out, second, Unit::Seconds)), shown);
                }
            }
        }
    }
}
