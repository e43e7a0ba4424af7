//! CAST of texts to numbers: blanks around the number are ignored, what follows it too, and a text that does not start
//! with a number is NULL. A number that is out of range is an error. The functions here return the number as plain text,
//! which the engine's own cast reads; other values are returned as they are.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_schema::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs};

use super::{Definition, Rows, failed, is_text, wrong};

pub const ALL: &[Definition] = &[
    Definition {
        name: super::WHOLE,
        coerce: same,
        returns: first,
        invoke: |args| read(args, Kind::Whole),
        is_same,
    },
    Definition {
        name: super::SINGLE,
        coerce: same,
        returns: first,
        invoke: |args| read(args, Kind::Single),
        is_same,
    },
    Definition {
        name: super::NUMBER,
        coerce: same,
        returns: first,
        invoke: |args| read(args, Kind::Number),
        is_same,
    },
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Truncated towards zero.
    Whole,
    /// Within the range of a float of 32 bits.
    Single,
    Number,
}

const fn is_same(kind: &DataType) -> bool {
    !is_text(kind)
}

fn same(types: &[DataType]) -> Result<Vec<DataType>> {
    let [kind] = types else { return Err(wrong("CAST needs one value")) };
    Ok(vec![if is_text(kind) { DataType::Utf8 } else { kind.clone() }])
}

fn first(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    Ok(args.arg_fields.first().map_or(DataType::Null, |field| field.data_type().clone()))
}

fn read(args: &ScalarFunctionArgs, kind: Kind) -> Result<ColumnarValue> {
    let [value] = args.args.as_slice() else { return Err(wrong("CAST needs one value")) };
    if !is_text(&value.data_type()) {
        return Ok(value.clone());
    }
    let rows = Rows::new(args)?;
    let mut numbers = StringBuilder::new();
    for row in 0..rows.len() {
        let number = match rows.text(0, row) {
            Some(text) => plain(text, kind)?,
            None => None,
        };
        numbers.append_option(number);
    }
    rows.result(Arc::new(numbers.finish()))
}

/// Maximum number of digits that an exponent adds.
const MAX_SHIFT: usize = 400;

/// The number at the start of a text, without an exponent.
fn plain(text: &str, kind: Kind) -> Result<Option<String>> {
    let Some(number) = Prefix::read(text) else { return Ok(None) };
    let Some((whole, fraction)) = number.shifted() else {
        return Err(failed(format!("the number {} is out of range", short(text))));
    };
    let sign = if number.negative { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole.as_str() };
    if kind == Kind::Whole {
        return Ok(Some(if whole == "0" { whole.to_owned() } else { format!("{sign}{whole}") }));
    }
    let plain =
        if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") };
    let is_finite = match kind {
        Kind::Single => plain.parse::<f32>().is_ok_and(f32::is_finite),
        Kind::Number | Kind::Whole => plain.parse::<f64>().is_ok_and(f64::is_finite),
    };
    if is_finite {
        Ok(Some(plain))
    } else {
        Err(failed(format!("the number {} is out of range", short(text))))
    }
}

fn short(text: &str) -> String {
    text.trim().chars().take(40).collect()
}

/// `-12.5e3` at the start of a text.
struct Prefix<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
}

impl Prefix<'_> {
    fn read(text: &str) -> Option<Prefix<'_>> {
        let text = text.trim_start();
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, rest) = digits(text);
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        Some(Prefix { negative, whole: whole.trim_start_matches('0'), fraction, exponent: exponent(rest) })
    }

    /// The digits before and after the point, without an exponent; `None` if they are too many.
    fn shifted(&self) -> Option<(String, String)> {
        let (whole, fraction) = (self.whole, self.fraction);
        let is_zero = whole.is_empty() && fraction.bytes().all(|digit| digit == b'0');
        if is_zero || self.exponent == 0 {
            return Some((whole.to_owned(), fraction.to_owned()));
        }
        let shift = usize::try_from(self.exponent.unsigned_abs()).unwrap_or(usize::MAX);
        if shift > MAX_SHIFT {
            let tiny = self.exponent < 0 && whole.len() < shift;
            return tiny.then(|| (String::new(), String::new()));
        }
        if self.exponent > 0 {
            let moved = fraction.len().min(shift);
            let (to_whole, rest) = fraction.split_at(moved);
            let all = format!("{whole}{to_whole}{}", "0".repeat(shift - moved));
            return Some((all.trim_start_matches('0').to_owned(), rest.to_owned()));
        }
        let moved = whole.len().min(shift);
        let (rest, to_fraction) = whole.split_at(whole.len() - moved);
        Some((rest.to_owned(), format!("{}{to_fraction}{fraction}", "0".repeat(shift - moved))))
    }
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// The exponent at the start of a text; zero if there is none.
fn exponent(text: &str) -> i64 {
    let Some(rest) = text.strip_prefix(['e', 'E']) else { return 0 };
    let (negative, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest.strip_prefix('+').unwrap_or(rest)),
    };
    let (digits, _) = digits(rest);
    if digits.is_empty() {
        return 0;
    }
    let value = digits.parse::<i64>().unwrap_or(i64::MAX);
    if negative { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_at_the_start_counts() {
        for (text, whole, number) in [
            ("12", Some("12"), Some("12")),
            (" \t12.9 ", Some("12"), Some("12.9")),
            ("-12.9abc", Some("-12"), Some("-12.9")),
            ("+007", Some("7"), Some("7")),
            (".5", Some("0"), Some("0.5")),
            ("-.5", Some("0"), Some("-0.5")),
            ("5.", Some("5"), Some("5")),
            ("1.25e1", Some("12"), Some("12.5")),
            ("1e3x", Some("1000"), Some("1000")),
            ("1250e-2", Some("12"), Some("12.50")),
            ("1e-500", Some("0"), Some("0")),
            ("0e999", Some("0"), Some("0")),
            ("1e", Some("1"), Some("1")),
            ("12 34", Some("12"), Some("12")),
            ("", None, None),
            ("abc", None, None),
            ("-", None, None),
            (".", None, None),
            ("e5", None, None),
        ] {
            assert_eq!(plain(text, Kind::Whole).unwrap().as_deref(), whole, "{text}");
            assert_eq!(plain(text, Kind::Number).unwrap().as_deref(), number, "{text}");
        }
        assert!(plain("1e999", Kind::Number).is_err());
        assert!(plain("1e350", Kind::Number).is_err());
        assert!(plain("1e39", Kind::Single).is_err());
        assert!(plain("1e39", Kind::Number).is_ok());
    }
}
