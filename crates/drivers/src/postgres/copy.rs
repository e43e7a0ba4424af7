//! Rows in the text form of COPY. Every value comes back exactly as it was read.

use std::io::Write as _;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampSecondType,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use landreeve_core::schema;
use landreeve_core::source::SourceError;

use crate::errors;

const DAY_MICROS: i64 = 86_400_000_000;

/// Appends one value, which is not null, to a line.
type Write<'a> = Box<dyn Fn(usize, &mut Vec<u8>) + Send + 'a>;

/// Appends the rows of a batch.
pub(super) fn lines(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), SourceError> {
    let writers = batch.columns().iter().map(writer).collect::<Result<Vec<_>, _>>()?;
    for row in 0..batch.num_rows() {
        for (index, (write, column)) in writers.iter().zip(batch.columns()).enumerate() {
            if index > 0 {
                out.push(b'\t');
            }
            match column.is_null(row) {
                true => out.extend(b"\\N"),
                false => write(row, out),
            }
        }
        out.push(b'\n');
    }
    Ok(())
}

fn writer(column: &ArrayRef) -> Result<Write<'_>, SourceError> {
    /// A number as Rust writes it.
    macro_rules! numbers {
        ($type:ty) => {{
            let values = column.as_primitive::<$type>();
            Box::new(move |row, out| {
                let _ = write!(out, "{}", values.value(row));
            })
        }};
    }
    /// A point in time of so many microseconds a unit.
    macro_rules! instants {
        ($type:ty, $unit:expr, $zone:expr) => {{
            let (values, zone) = (column.as_primitive::<$type>(), $zone.clone());
            Box::new(move |row, out| timestamp(values.value(row), $unit, zone.is_some(), out))
        }};
    }
    macro_rules! times {
        ($type:ty, $unit:expr) => {{
            let values = column.as_primitive::<$type>();
            Box::new(move |row, out| time(i64::from(values.value(row)) * $unit, out))
        }};
    }
    Ok(match column.data_type() {
        DataType::Boolean => {
            let values = column.as_boolean();
            Box::new(move |row, out| out.push(if values.value(row) { b't' } else { b'f' }))
        }
        DataType::Int16 => numbers!(Int16Type),
        DataType::Int32 => numbers!(Int32Type),
        DataType::Int64 => numbers!(Int64Type),
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>();
            Box::new(move |row, out| {
                float(f64::from(values.value(row)), format_args!("{:e}", values.value(row)), out)
            })
        }
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>();
            Box::new(move |row, out| float(values.value(row), format_args!("{:e}", values.value(row)), out))
        }
        DataType::Utf8 => {
            let values = column.as_string::<i32>();
            Box::new(move |row, out| escaped(values.value(row).as_bytes(), out))
        }
        DataType::Binary => {
            let values = column.as_binary::<i32>();
            Box::new(move |row, out| hexadecimal(values.value(row), out))
        }
        DataType::Date32 => {
            let values = column.as_primitive::<Date32Type>();
            Box::new(move |row, out| date(values.value(row), out))
        }
        DataType::Timestamp(TimeUnit::Second, zone) => instants!(TimestampSecondType, 1_000_000, zone),
        DataType::Timestamp(TimeUnit::Millisecond, zone) => instants!(TimestampMillisecondType, 1_000, zone),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => instants!(TimestampMicrosecondType, 1, zone),
        DataType::Time32(TimeUnit::Second) => times!(Time32SecondType, 1_000_000),
        DataType::Time32(_) => times!(Time32MillisecondType, 1_000),
        DataType::Time64(TimeUnit::Microsecond) => times!(Time64MicrosecondType, 1),
        other => {
            return Err(errors::unsupported(format!("values of {other} cannot be written to PostgreSQL")));
        }
    })
}

fn escaped(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\n' | b'\r' | b'\t')) {
        let (before, after) = rest.split_at(at);
        out.extend(before);
        let letter = match after.first() {
            Some(b'\n') => b'n',
            Some(b'\r') => b'r',
            Some(b'\t') => b't',
            _ => b'\\',
        };
        out.extend([b'\\', letter]);
        rest = after.get(1..).unwrap_or_default();
    }
    out.extend(rest);
}

fn hexadecimal(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    // The backslash is escaped for COPY.
    out.extend(b"\\\\x");
    out.extend(bytes.iter().flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]));
}

fn float(value: f64, digits: std::fmt::Arguments<'_>, out: &mut Vec<u8>) {
    if value.is_nan() {
        out.extend(b"NaN");
    } else if value.is_infinite() {
        out.extend(if value > 0.0 { b"Infinity".as_slice() } else { b"-Infinity" });
    } else {
        let _ = out.write_fmt(digits);
    }
}

fn date(days: i32, out: &mut Vec<u8>) {
    match days {
        schema::POSITIVE_INFINITY_DAY => out.extend(b"infinity"),
        schema::NEGATIVE_INFINITY_DAY => out.extend(b"-infinity"),
        days => {
            let before_christ = calendar_day(i64::from(days), out);
            out.extend(if before_christ { b" BC".as_slice() } else { b"" });
        }
    }
}

fn timestamp(value: i64, unit: i64, zoned: bool, out: &mut Vec<u8>) {
    match value {
        schema::POSITIVE_INFINITY => return out.extend(b"infinity"),
        schema::NEGATIVE_INFINITY => return out.extend(b"-infinity"),
        _ => {}
    }
    // In its own unit, because the last years overflow as microseconds.
    let day = DAY_MICROS / unit;
    let before_christ = calendar_day(value.div_euclid(day), out);
    out.push(b' ');
    time(value.rem_euclid(day) * unit, out);
    out.extend(if zoned { b"+00".as_slice() } else { b"" });
    out.extend(if before_christ { b" BC".as_slice() } else { b"" });
}

/// A time of day, up to 24:00:00.
fn time(micros: i64, out: &mut Vec<u8>) {
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if micros > 0 {
        let _ = write!(out, ".{micros:06}");
    }
}

/// A day since 1970 in the Gregorian calendar of all times; whether it is before Christ. The calendar repeats every 400
/// years, which begin in March here, so that a leap day is a year's last.
fn calendar_day(days: i64, out: &mut Vec<u8>) -> bool {
    const ERA: i64 = 146_097;
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    // There is no year 0.
    let shown = if year > 0 { year } else { 1 - year };
    let _ = write!(out, "{shown:04}-{month:02}-{day:02}");
    year <= 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (-719_162, "0001-01-01"),
            (-719_163, "0001-12-31 BC"),
            (-719_528, "0001-01-01 BC"),
            (-2_440_588, "4714-11-24 BC"),
            (2_145_042_905, "5874897-12-31"),
            (i32::MAX, "infinity"),
            (i32::MIN, "-infinity"),
        ] {
            assert_eq!(written(|out| date(days, out)), text);
        }
        let mut day = jiff::civil::date(-9999, 1, 1);
        for _ in 0..10_000 {
            let days = day.since(jiff::civil::date(1970, 1, 1)).unwrap().get_days();
            let (year, shown) = (i64::from(day.year()), written(|out| date(days, out)));
            let wanted = match year > 0 {
                true => format!("{year:04}-{:02}-{:02}", day.month(), day.day()),
                false => format!("{:04}-{:02}-{:02} BC", 1 - year, day.month(), day.day()),
            };
            assert_eq!(shown, wanted);
            day = day.checked_add(jiff::Span::new().days(729)).unwrap();
        }
    }

    #[test]
    fn values_are_escaped_and_exact() {
        assert_eq!(written(|out| escaped(b"a\tb\\c\nd\re", out)), "a\\tb\\\\c\\nd\\re");
        assert_eq!(written(|out| hexadecimal(&[0, 255, 92], out)), "\\\\x00ff5c");
        assert_eq!(written(|out| timestamp(-1, 1, true, out)), "1969-12-31 23:59:59.999999+00");
        assert_eq!(written(|out| timestamp(0, 1_000_000, false, out)), "1970-01-01 00:00:00");
        assert_eq!(written(|out| time(DAY_MICROS, out)), "24:00:00");
        for value in [0.1, -0.0, 1e300, 5e-324, f64::MAX] {
            let text = written(|out| float(value, format_args!("{value:e}"), out));
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits());
        }
    }
}
