//! Converts SQLite's values to columns with one type each.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, StringBuilder,
};
use arrow_array::types::TimestampMicrosecondType;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use jiff::civil;
use landreeve_core::schema::{LogicalType, describe};
use landreeve_core::source::SourceError;
use rusqlite::Statement;
use rusqlite::types::{Value, ValueRef};

use crate::errors;

/// The type a column is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Integer,
    Boolean,
    Real,
    Text,
    Json,
    Uuid,
    Time,
    Blob,
    Date,
    DateTime,
}

impl Kind {
    /// From the declared type, then SQLite's own affinity rules; `None` if neither applies.
    fn declared(declared: &str) -> Option<Kind> {
        let upper = declared.to_ascii_uppercase();
        let word = upper.split(['(', ' ']).next().unwrap_or_default();
        let has = |part: &str| upper.contains(part);
        Some(match word {
            "BOOL" | "BOOLEAN" => Kind::Boolean,
            "DATE" => Kind::Date,
            "DATETIME" | "TIMESTAMP" => Kind::DateTime,
            "TIME" => Kind::Time,
            "JSON" => Kind::Json,
            "UUID" => Kind::Uuid,
            "NUMERIC" | "DECIMAL" | "NUMBER" | "MONEY" => Kind::Real,
            _ if has("INT") => Kind::Integer,
            _ if has("CHAR") || has("CLOB") || has("TEXT") => Kind::Text,
            "BLOB" | "BINARY" | "VARBINARY" | "BYTEA" => Kind::Blob,
            _ if has("REAL") || has("FLOA") || has("DOUB") => Kind::Real,
            _ => return None,
        })
    }

    fn logical(self) -> LogicalType {
        match self {
            Kind::Integer => LogicalType::Integer,
            Kind::Boolean => LogicalType::Boolean,
            Kind::Real => LogicalType::Number,
            Kind::Text => LogicalType::Text,
            Kind::Json => LogicalType::Json,
            Kind::Uuid => LogicalType::Uuid,
            Kind::Time => LogicalType::Time,
            Kind::Blob => LogicalType::Binary,
            Kind::Date => LogicalType::Date,
            Kind::DateTime => LogicalType::DateTime,
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Kind::Integer => DataType::Int64,
            Kind::Boolean => DataType::Boolean,
            Kind::Real => DataType::Float64,
            Kind::Text | Kind::Json | Kind::Uuid | Kind::Time => DataType::Utf8,
            Kind::Blob => DataType::Binary,
            Kind::Date => DataType::Date32,
            Kind::DateTime => DataType::Timestamp(TimeUnit::Microsecond, None),
        }
    }

    fn builder(self) -> Builder {
        match self {
            Kind::Integer => Builder::Integer(Int64Builder::new()),
            Kind::Boolean => Builder::Boolean(BooleanBuilder::new()),
            Kind::Real => Builder::Real(Float64Builder::new()),
            Kind::Text | Kind::Json | Kind::Uuid | Kind::Time => Builder::Text(StringBuilder::new()),
            Kind::Blob => Builder::Blob(BinaryBuilder::new()),
            Kind::Date => Builder::Date(Date32Builder::new()),
            Kind::DateTime => Builder::DateTime(Int64Builder::new()),
        }
    }
}

enum Builder {
    Integer(Int64Builder),
    Boolean(BooleanBuilder),
    Real(Float64Builder),
    Text(StringBuilder),
    Blob(BinaryBuilder),
    Date(Date32Builder),
    DateTime(Int64Builder),
    /// Nothing declared: the first batch decides.
    Undecided(Vec<Value>),
}

struct Column {
    name: String,
    native: String,
    kind: Option<Kind>,
    builder: Builder,
}

pub(super) struct Columns(Vec<Column>);

/// A double represents integers up to this exactly.
const EXACT: u64 = 1 << 53;

impl Columns {
    pub fn new(statement: &Statement<'_>) -> Columns {
        let columns = statement.columns();
        Columns(
            columns
                .iter()
                .map(|column| {
                    let declared = column.decl_type().unwrap_or_default();
                    let kind = Kind::declared(declared);
                    let builder = kind.map_or_else(|| Builder::Undecided(Vec::new()), Kind::builder);
                    Column {
                        name: column.name().to_owned(),
                        native: declared.to_ascii_lowercase(),
                        kind,
                        builder,
                    }
                })
                .collect(),
        )
    }

    pub fn width(&self) -> usize {
        self.0.len()
    }

    pub fn append(&mut self, index: usize, value: ValueRef<'_>) -> Result<(), SourceError> {
        let Some(column) = self.0.get_mut(index) else { return Err(errors::no_answer()) };
        if append(&mut column.builder, value).is_none() {
            return Err(unfit(column, value));
        }
        Ok(())
    }

    /// Returns the arrays of a batch. Decides the types that were still undecided.
    pub fn finish(&mut self) -> Result<Vec<ArrayRef>, SourceError> {
        let mut arrays = Vec::with_capacity(self.0.len());
        for column in &mut self.0 {
            if let Builder::Undecided(values) = &mut column.builder {
                let values = std::mem::take(values);
                let kind = decide(&values);
                if values.iter().all(|value| matches!(value, Value::Null)) {
                    "any".clone_into(&mut column.native);
                }
                column.kind = Some(kind);
                column.builder = kind.builder();
                for value in &values {
                    if append(&mut column.builder, value.into()).is_none() {
                        return Err(unfit(column, value.into()));
                    }
                }
            }
            arrays.push(finish(&mut column.builder));
        }
        Ok(arrays)
    }

    /// All types are known only after the first `finish`.
    pub fn schema(&self) -> SchemaRef {
        let fields = self.0.iter().map(|column| {
            let kind = column.kind.unwrap_or(Kind::Text);
            let native = if column.native.is_empty() { storage_class(kind) } else { &column.native };
            describe(Field::new(&column.name, kind.data_type(), true), kind.logical(), native)
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

fn storage_class(kind: Kind) -> &'static str {
    match kind {
        Kind::Integer => "integer",
        Kind::Real => "real",
        Kind::Blob => "blob",
        _ => "text",
    }
}

fn decide(values: &[Value]) -> Kind {
    let any = |test: fn(&Value) -> bool| values.iter().any(test);
    if any(|value| matches!(value, Value::Text(_))) {
        Kind::Text
    } else if any(|value| matches!(value, Value::Blob(_))) {
        Kind::Blob
    } else if any(|value| matches!(value, Value::Real(_))) {
        Kind::Real
    } else if any(|value| matches!(value, Value::Integer(_))) {
        Kind::Integer
    } else {
        Kind::Text
    }
}

fn unfit(column: &Column, value: ValueRef<'_>) -> SourceError {
    let what = match value {
        ValueRef::Integer(value) => format!("the integer {value}"),
        ValueRef::Real(value) => format!("the number {value}"),
        ValueRef::Text(bytes) => {
            format!("the text {:?}", String::from_utf8_lossy(bytes).chars().take(40).collect::<String>())
        }
        ValueRef::Blob(bytes) => format!("a blob of {} bytes", bytes.len()),
        ValueRef::Null => "NULL".to_owned(),
    };
    let read_as = column.kind.map_or("text", |kind| kind.logical().as_str());
    let cast = if column.kind == Some(Kind::Integer) && matches!(value, ValueRef::Real(_)) {
        "REAL"
    } else {
        "TEXT"
    };
    errors::unsupported(format!(
        "the column \"{0}\" is read as {read_as} but contains {what}; write CAST(\"{0}\" AS {cast})",
        column.name
    ))
}

/// `None` if the value does not fit.
fn append(builder: &mut Builder, value: ValueRef<'_>) -> Option<()> {
    match builder {
        Builder::Undecided(values) => values.push(Value::try_from(value).ok()?),
        Builder::Integer(builder) => match value {
            ValueRef::Null => builder.append_null(),
            ValueRef::Integer(value) => builder.append_value(value),
            _ => return None,
        },
        Builder::Boolean(builder) => match value {
            ValueRef::Null => builder.append_null(),
            ValueRef::Integer(value @ (0 | 1)) => builder.append_value(value == 1),
            _ => return None,
        },
        Builder::Real(builder) => match value {
            ValueRef::Null => builder.append_null(),
            ValueRef::Real(value) => builder.append_value(value),
            ValueRef::Integer(value) if value.unsigned_abs() <= EXACT => builder.append_value(value as f64),
            _ => return None,
        },
        Builder::Text(builder) => match value {
            ValueRef::Null => builder.append_null(),
            ValueRef::Text(bytes) => builder.append_value(std::str::from_utf8(bytes).ok()?),
            _ => return None,
        },
        Builder::Blob(builder) => match value {
            ValueRef::Null => builder.append_null(),
            ValueRef::Blob(bytes) => builder.append_value(bytes),
            _ => return None,
        },
        Builder::Date(builder) => match value {
            ValueRef::Null => builder.append_null(),
            ValueRef::Text(bytes) => builder.append_value(day_number(read_date(bytes)?)),
            _ => return None,
        },
        Builder::DateTime(builder) => match value {
            ValueRef::Null => builder.append_null(),
            ValueRef::Text(bytes) => builder.append_value(read_date_time(bytes)?),
            _ => return None,
        },
    }
    Some(())
}

fn digits(bytes: &[u8]) -> Option<i64> {
    let all_digits = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    all_digits.then(|| bytes.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
}

/// `YYYY-MM-DD` and nothing else.
fn read_date(bytes: &[u8]) -> Option<civil::Date> {
    let [a, b, c, d, b'-', e, f, b'-', g, h] = bytes else { return None };
    let (year, month, day) = (digits(&[*a, *b, *c, *d])?, digits(&[*e, *f])?, digits(&[*g, *h])?);
    civil::Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

fn day_number(date: civil::Date) -> i32 {
    let since = date.duration_since(civil::date(1970, 1, 1)).as_hours() / 24;
    // Four-digit years are far within 32 bits.
    i32::try_from(since).unwrap_or(i32::MAX)
}

/// A date, optionally with `HH:MM`, `HH:MM:SS` or up to six more digits; no zone. Microseconds since 1970.
fn read_date_time(bytes: &[u8]) -> Option<i64> {
    let (day, rest) = bytes.split_at_checked(10)?;
    let days = i64::from(day_number(read_date(day)?));
    let clock = match rest {
        [] => 0,
        [b' ' | b'T', rest @ ..] => read_clock(rest)?,
        _ => return None,
    };
    Some(days * 86_400_000_000 + clock)
}

fn read_clock(bytes: &[u8]) -> Option<i64> {
    let (hour, minute, rest) = match bytes {
        [a, b, b':', c, d, rest @ ..] => (digits(&[*a, *b])?, digits(&[*c, *d])?, rest),
        _ => return None,
    };
    let (second, fraction) = match rest {
        [] => (0, 0),
        [b':', a, b] => (digits(&[*a, *b])?, 0),
        [b':', a, b, b'.', fraction @ ..] if fraction.len() <= 6 => {
            let scale = 10_i64.pow(6 - u32::try_from(fraction.len()).ok()?);
            (digits(&[*a, *b])?, digits(fraction)? * scale)
        }
        _ => return None,
    };
    (hour < 24 && minute < 60 && second < 60)
        .then_some(((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction)
}

fn finish(builder: &mut Builder) -> ArrayRef {
    match builder {
        Builder::Integer(builder) => Arc::new(builder.finish()),
        Builder::Boolean(builder) => Arc::new(builder.finish()),
        Builder::Real(builder) => Arc::new(builder.finish()),
        Builder::Text(builder) => Arc::new(builder.finish()),
        Builder::Blob(builder) => Arc::new(builder.finish()),
        Builder::Date(builder) => Arc::new(builder.finish()),
        Builder::DateTime(builder) => {
            Arc::new(builder.finish().reinterpret_cast::<TimestampMicrosecondType>())
        }
        Builder::Undecided(values) => arrow_array::new_null_array(&DataType::Utf8, values.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_parsed_strictly() {
        assert_eq!(read_date(b"1970-01-02").map(day_number), Some(1));
        assert_eq!(read_date(b"0001-01-01").map(day_number), Some(-719_162));
        assert_eq!(read_date(b"2023-02-29"), None);
        assert_eq!(read_date_time(b"1970-01-01 00:00:01"), Some(1_000_000));
        assert_eq!(read_date_time(b"1970-01-01T00:01:00.5"), Some(60_500_000));
        assert_eq!(read_date_time(b"1970-01-02"), Some(86_400_000_000));
        for bad in [
            "1970-01-01 00:00:01Z",
            "1970-01-01 24:00",
            "1970-01-01 1:00",
            "1970-01-01 00:00:00.1234567",
            "0",
        ] {
            assert_eq!(read_date_time(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn declared_types() {
        assert_eq!(Kind::declared("VARCHAR(20)"), Some(Kind::Text));
        assert_eq!(Kind::declared("unsigned big int"), Some(Kind::Integer));
        assert_eq!(Kind::declared("decimal(15,2)"), Some(Kind::Real));
        assert_eq!(Kind::declared("DOUBLE PRECISION"), Some(Kind::Real));
        assert_eq!(Kind::declared(""), None);
        assert_eq!(Kind::declared("ANY"), None);
    }
}
