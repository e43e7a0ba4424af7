//! Functions on dates and timestamps. Adding months and years stays within the month: a month after 31 January is the
//! last day of February.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Date32Type, Time64MicrosecondType, TimestampMicrosecondType};
use arrow_array::{ArrayRef, Date32Array, Int64Array, TimestampMicrosecondArray};
use arrow_schema::{DataType, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs};
use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, Span};

use super::patterns::Pattern;
use super::{Definition, Rows, failed, never, shown, wrong};

pub const ALL: &[Definition] = &[
    adding(
        super::ADD_DAYS,
        |types| added(super::ADD_DAYS, types),
        |args| add(args, |n| Span::new().try_days(n)),
    ),
    adding(
        super::ADD_MONTHS,
        |types| added(super::ADD_MONTHS, types),
        |args| add(args, |n| Span::new().try_months(n)),
    ),
    adding(
        super::ADD_YEARS,
        |types| added(super::ADD_YEARS, types),
        |args| add(args, |n| Span::new().try_years(n)),
    ),
    Definition {
        name: super::DAYS_BETWEEN,
        coerce: two_times,
        returns: |_| Ok(DataType::Int64),
        invoke: days_between,
        is_same: never,
    },
    Definition {
        name: super::FORMAT_DATE,
        coerce: formatted,
        returns: |_| Ok(DataType::Utf8),
        invoke: format_date,
        is_same: never,
    },
    Definition {
        name: super::TO_DATE,
        coerce: |types| two_texts(super::TO_DATE, types),
        returns: |_| Ok(DataType::Date32),
        invoke: to_date,
        is_same: never,
    },
    Definition {
        name: super::TO_TIMESTAMP,
        coerce: |types| two_texts(super::TO_TIMESTAMP, types),
        returns: |_| Ok(DataType::Timestamp(TimeUnit::Microsecond, None)),
        invoke: to_timestamp,
        is_same: never,
    },
];

const fn adding(
    name: &'static str,
    coerce: fn(&[DataType]) -> Result<Vec<DataType>>,
    invoke: fn(&ScalarFunctionArgs) -> Result<ColumnarValue>,
) -> Definition {
    Definition { name, coerce, returns: first, invoke, is_same: never }
}

fn first(args: &ReturnFieldArgs<'_>) -> Result<DataType> {
    Ok(args.arg_fields.first().map_or(DataType::Null, |field| field.data_type().clone()))
}

const MICROS_OF_DAY: i64 = 86_400_000_000;

/// The one type of each kind of time that the functions know.
fn time(name: &str, kind: &DataType) -> Result<DataType> {
    Ok(match kind {
        DataType::Date32 | DataType::Date64 | DataType::Null => DataType::Date32,
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        other => return Err(wrong(format!("{} needs a date or timestamp, not {other}", shown(name)))),
    })
}

fn added(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [at, count] if count.is_integer() || *count == DataType::Null => {
            Ok(vec![time(name, at)?, DataType::Int64])
        }
        _ => Err(wrong(format!("{} needs a date or timestamp and a whole number", shown(name)))),
    }
}

fn two_times(types: &[DataType]) -> Result<Vec<DataType>> {
    let [from, to] = types else { return Err(wrong("GETDAYSBETWEEN needs two dates")) };
    let (from, to) = (time(super::DAYS_BETWEEN, from)?, time(super::DAYS_BETWEEN, to)?);
    let has_zone = [&from, &to].into_iter().any(|kind| matches!(kind, DataType::Timestamp(_, Some(_))));
    let kind = DataType::Timestamp(TimeUnit::Microsecond, has_zone.then(|| "UTC".into()));
    Ok(vec![kind.clone(), kind])
}

fn formatted(types: &[DataType]) -> Result<Vec<DataType>> {
    let [_, at] = types else { return Err(wrong("FORMATDATE needs a pattern and a date")) };
    let at = match at {
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        other => time(super::FORMAT_DATE, other)?,
    };
    Ok(vec![DataType::Utf8, at])
}

fn two_texts(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let is_text = |kind: &DataType| super::is_text(kind) || *kind == DataType::Null;
    match types {
        [pattern, text] if is_text(pattern) && is_text(text) => Ok(vec![DataType::Utf8, DataType::Utf8]),
        _ => Err(wrong(format!("{} needs a pattern and a text", shown(name)))),
    }
}

fn date_of(days: i32) -> Option<Date> {
    Date::new(1970, 1, 1).ok()?.checked_add(Span::new().try_days(days).ok()?).ok()
}

fn time_of(micros: i64) -> Option<DateTime> {
    Date::new(1970, 1, 1)
        .ok()?
        .to_datetime(jiff::civil::Time::midnight())
        .checked_add(SignedDuration::from_micros(micros))
        .ok()
}

fn days_of(date: Date) -> Option<i32> {
    let epoch = Date::new(1970, 1, 1).ok()?;
    i32::try_from(date.duration_since(epoch).as_hours() / 24).ok()
}

fn micros_of(at: DateTime) -> Option<i64> {
    let epoch = Date::new(1970, 1, 1).ok()?.to_datetime(jiff::civil::Time::midnight());
    i64::try_from(at.duration_since(epoch).as_micros()).ok()
}

impl Rows {
    fn days(&self, argument: usize, row: usize) -> Option<i32> {
        let (array, index) = self.place(argument, row)?;
        Some(array.as_primitive_opt::<Date32Type>()?.value(index))
    }

    fn micros(&self, argument: usize, row: usize) -> Option<i64> {
        let (array, index) = self.place(argument, row)?;
        Some(array.as_primitive_opt::<TimestampMicrosecondType>()?.value(index))
    }

    /// A date, timestamp or time of day.
    fn time(&self, argument: usize, row: usize) -> Option<Result<DateTime>> {
        let (array, index) = self.place(argument, row)?;
        let found = if let Some(days) = self.days(argument, row) {
            date_of(days).map(|date| date.to_datetime(jiff::civil::Time::midnight()))
        } else if let Some(micros) = self.micros(argument, row) {
            time_of(micros)
        } else {
            time_of(array.as_primitive_opt::<Time64MicrosecondType>()?.value(index))
        };
        Some(found.ok_or_else(|| failed("a date is out of range")))
    }
}

fn add(args: &ScalarFunctionArgs, span: fn(i64) -> Result<Span, jiff::Error>) -> Result<ColumnarValue> {
    let rows = Rows::new(args)?;
    let out_of_range = || failed("a date is out of range: overflow");
    let spans = |row| rows.long(1, row).map(|count| span(count).map_err(|_| out_of_range()));
    let made: ArrayRef = match args.return_type() {
        DataType::Timestamp(_, zone) => {
            let sum = |row: usize| -> Result<Option<i64>> {
                let Some((micros, span)) = rows.micros(0, row).zip(spans(row)) else { return Ok(None) };
                let span = span?;
                let sum = time_of(micros).and_then(|at| at.checked_add(span).ok()).and_then(micros_of);
                sum.map(Some).ok_or_else(out_of_range)
            };
            let array = (0..rows.len()).map(sum).collect::<Result<TimestampMicrosecondArray>>()?;
            Arc::new(array.with_timezone_opt(zone.clone()))
        }
        _ => {
            let sum = |row: usize| -> Result<Option<i32>> {
                let Some((days, span)) = rows.days(0, row).zip(spans(row)) else { return Ok(None) };
                let span = span?;
                let sum = date_of(days).and_then(|date| date.checked_add(span).ok()).and_then(days_of);
                sum.map(Some).ok_or_else(out_of_range)
            };
            Arc::new((0..rows.len()).map(sum).collect::<Result<Date32Array>>()?)
        }
    };
    rows.result(made)
}

/// Whole days of 24 hours, truncated towards zero.
fn days_between(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let rows = Rows::new(args)?;
    let days = |row| {
        let (from, to) = rows.micros(0, row).zip(rows.micros(1, row))?;
        i64::try_from((i128::from(to) - i128::from(from)) / i128::from(MICROS_OF_DAY)).ok()
    };
    let made: ArrayRef = Arc::new((0..rows.len()).map(days).collect::<Int64Array>());
    rows.result(made)
}

/// The compiled pattern of the last row: usually all are the same.
#[derive(Default)]
struct Compiled(Option<Pattern>);

impl Compiled {
    fn get(&mut self, text: &str) -> Result<&Pattern> {
        let known = self.0.take().filter(|known| known.text() == text);
        let pattern = match known {
            Some(pattern) => pattern,
            None => Pattern::new(text).map_err(failed)?,
        };
        Ok(self.0.insert(pattern))
    }
}

fn format_date(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let rows = Rows::new(args)?;
    let (mut compiled, mut texts) = (Compiled::default(), StringBuilder::new());
    for row in 0..rows.len() {
        match rows.text(0, row).zip(rows.time(1, row)) {
            Some((pattern, at)) => texts.append_value(compiled.get(pattern)?.format(at?)),
            None => texts.append_null(),
        }
    }
    rows.result(Arc::new(texts.finish()))
}

/// A text that does not match its pattern is an error.
fn parsed(rows: &Rows) -> Result<Vec<Option<DateTime>>> {
    let mut compiled = Compiled::default();
    let parse = |row| match rows.text(0, row).zip(rows.text(1, row)) {
        Some((pattern, text)) => compiled.get(pattern)?.parse(text).map(Some).map_err(failed),
        None => Ok(None),
    };
    (0..rows.len()).map(parse).collect()
}

fn to_date(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let rows = Rows::new(args)?;
    let dates = parsed(&rows)?.into_iter().map(|at| at.and_then(|at| days_of(at.date())));
    rows.result(Arc::new(dates.collect::<Date32Array>()))
}

fn to_timestamp(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let rows = Rows::new(args)?;
    let times = parsed(&rows)?.into_iter().map(|at| at.and_then(micros_of));
    rows.result(Arc::new(times.collect::<TimestampMicrosecondArray>()))
}
