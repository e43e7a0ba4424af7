//! Decodes MySQL's binary values into Arrow builders.

use std::fmt::Write;
use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Decimal256Builder, Float32Builder,
    Float64Builder, Int16Builder, Int32Builder, Int64Builder, StringBuilder, UInt64Builder,
};
use arrow_array::types::{TimestampMicrosecondType, TimestampMillisecondType, TimestampSecondType};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_buffer::i256;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use jiff::civil;
use jiff::tz::TimeZone;
use landreeve_core::schema::{self, LogicalType, describe, native_type};
use landreeve_core::source::SourceError;
use mysql_async::consts::{ColumnFlags, ColumnType};
use mysql_async::{Column, Row, Value};

use crate::{Bounds, errors};

/// The character set of binary columns.
const BINARY: u16 = 63;

enum Builder {
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    UInt64(UInt64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Bool(BooleanBuilder),
    Decimal128(Decimal128Builder, u8, i8),
    Decimal256(Decimal256Builder, u8, i8),
    Text(StringBuilder),
    Binary(BinaryBuilder),
    Date(Date32Builder),
    /// The flag means that the value is an instant in the session's zone.
    Timestamp(Int64Builder, TimeUnit, bool),
}

pub(super) struct Columns {
    fields: Vec<Field>,
    builders: Vec<Builder>,
    clock: TimeZone,
    rows: usize,
    scratch: String,
    bounds: Bounds,
    /// Errors are about a backup, whose reader cannot write another query.
    for_backup: bool,
}

fn unit_of(decimals: u8) -> TimeUnit {
    match decimals {
        0 => TimeUnit::Second,
        1..=3 => TimeUnit::Millisecond,
        _ => TimeUnit::Microsecond,
    }
}

/// How a column is read, its logical type, and MySQL's name for its type.
fn plan(column: &Column) -> (Builder, LogicalType, String) {
    use ColumnType as T;
    use LogicalType as L;
    let unsigned = column.flags().contains(ColumnFlags::UNSIGNED_FLAG);
    let sign = if unsigned { " unsigned" } else { "" };
    let is_binary = column.character_set() == BINARY;
    let integer = |builder: Builder, name: &str| (builder, L::Integer, format!("{name}{sign}"));
    let fraction = |name: &str| match column.decimals() {
        decimals @ 1..=6 => format!("{name}({decimals})"),
        _ => name.to_owned(),
    };
    let short = || Builder::Int16(Int16Builder::new());
    let long = || Builder::Int32(Int32Builder::new());
    let moment = |zoned| Builder::Timestamp(Int64Builder::new(), unit_of(column.decimals()), zoned);
    match column.column_type() {
        T::MYSQL_TYPE_TINY => integer(short(), "tinyint"),
        T::MYSQL_TYPE_SHORT if unsigned => integer(long(), "smallint"),
        T::MYSQL_TYPE_SHORT => integer(short(), "smallint"),
        T::MYSQL_TYPE_INT24 => integer(long(), "mediumint"),
        T::MYSQL_TYPE_LONG if unsigned => integer(Builder::Int64(Int64Builder::new()), "int"),
        T::MYSQL_TYPE_LONG => integer(long(), "int"),
        T::MYSQL_TYPE_LONGLONG if unsigned => {
            (Builder::UInt64(UInt64Builder::new()), L::UnsignedBig, "bigint unsigned".to_owned())
        }
        T::MYSQL_TYPE_LONGLONG => integer(Builder::Int64(Int64Builder::new()), "bigint"),
        T::MYSQL_TYPE_YEAR => (short(), L::Integer, "year".to_owned()),
        T::MYSQL_TYPE_FLOAT => (Builder::Float32(Float32Builder::new()), L::Number, "float".to_owned()),
        T::MYSQL_TYPE_DOUBLE => (Builder::Float64(Float64Builder::new()), L::Number, "double".to_owned()),
        T::MYSQL_TYPE_DECIMAL | T::MYSQL_TYPE_NEWDECIMAL => decimal(column, unsigned),
        T::MYSQL_TYPE_BIT if column.column_length() == 1 => {
            (Builder::Bool(BooleanBuilder::new()), L::Boolean, "bit(1)".to_owned())
        }
        T::MYSQL_TYPE_BIT => {
            (Builder::Binary(BinaryBuilder::new()), L::Binary, format!("bit({})", column.column_length()))
        }
        T::MYSQL_TYPE_DATE | T::MYSQL_TYPE_NEWDATE => {
            (Builder::Date(Date32Builder::new()), L::Date, "date".to_owned())
        }
        T::MYSQL_TYPE_DATETIME | T::MYSQL_TYPE_DATETIME2 => {
            (moment(false), L::DateTime, fraction("datetime"))
        }
        T::MYSQL_TYPE_TIMESTAMP | T::MYSQL_TYPE_TIMESTAMP2 => {
            (moment(true), L::Instant, fraction("timestamp"))
        }
        T::MYSQL_TYPE_TIME | T::MYSQL_TYPE_TIME2 => (text(), L::Time, fraction("time")),
        T::MYSQL_TYPE_JSON => (text(), L::Json, "json".to_owned()),
        T::MYSQL_TYPE_GEOMETRY => (Builder::Binary(BinaryBuilder::new()), L::Binary, "geometry".to_owned()),
        T::MYSQL_TYPE_VECTOR => (Builder::Binary(BinaryBuilder::new()), L::Binary, "vector".to_owned()),
        T::MYSQL_TYPE_NULL => (text(), L::Text, "null".to_owned()),
        _ if column.flags().contains(ColumnFlags::ENUM_FLAG) => (text(), L::Text, "enum".to_owned()),
        _ if column.flags().contains(ColumnFlags::SET_FLAG) => (text(), L::Text, "set".to_owned()),
        other => {
            let (words, bytes) = match other {
                T::MYSQL_TYPE_STRING => ("char", "binary"),
                T::MYSQL_TYPE_VARCHAR | T::MYSQL_TYPE_VAR_STRING => ("varchar", "varbinary"),
                _ => ("text", "blob"),
            };
            if is_binary {
                (Builder::Binary(BinaryBuilder::new()), L::Binary, bytes.to_owned())
            } else {
                (text(), L::Text, words.to_owned())
            }
        }
    }
}

fn text() -> Builder {
    Builder::Text(StringBuilder::new())
}

/// The precision follows from the display length: digits, a point, a sign.
fn decimal(column: &Column, unsigned: bool) -> (Builder, LogicalType, String) {
    let scale = column.decimals();
    let extra = u32::from(scale > 0) + u32::from(!unsigned);
    let precision = column.column_length().saturating_sub(extra).max(1).max(u32::from(scale));
    let native = format!("decimal({precision},{scale})");
    let (Ok(small), Ok(places)) = (u8::try_from(precision), i8::try_from(scale)) else {
        return (text(), LogicalType::Decimal, native);
    };
    let built = match small {
        0..=38 => Decimal128Builder::new()
            .with_precision_and_scale(small, places)
            .map(|b| Builder::Decimal128(b, small, places)),
        39..=76 => Decimal256Builder::new()
            .with_precision_and_scale(small, places)
            .map(|b| Builder::Decimal256(b, small, places)),
        _ => return (text(), LogicalType::Decimal, native),
    };
    (built.unwrap_or_else(|_| text()), LogicalType::Decimal, native)
}

fn data_type(builder: &Builder) -> DataType {
    match builder {
        Builder::Int16(_) => DataType::Int16,
        Builder::Int32(_) => DataType::Int32,
        Builder::Int64(_) => DataType::Int64,
        Builder::UInt64(_) => DataType::UInt64,
        Builder::Float32(_) => DataType::Float32,
        Builder::Float64(_) => DataType::Float64,
        Builder::Bool(_) => DataType::Boolean,
        Builder::Decimal128(_, precision, scale) => DataType::Decimal128(*precision, *scale),
        Builder::Decimal256(_, precision, scale) => DataType::Decimal256(*precision, *scale),
        Builder::Text(_) => DataType::Utf8,
        Builder::Binary(_) => DataType::Binary,
        Builder::Date(_) => DataType::Date32,
        Builder::Timestamp(_, unit, zoned) => DataType::Timestamp(*unit, zoned.then(|| "UTC".into())),
    }
}

impl Columns {
    pub fn new(columns: &[Column], clock: TimeZone, bounds: Bounds) -> Result<Columns, SourceError> {
        let mut made = Columns {
            fields: Vec::new(),
            builders: Vec::new(),
            clock,
            rows: 0,
            scratch: String::new(),
            bounds,
            for_backup: false,
        };
        for column in columns {
            let (builder, logical, native) = plan(column);
            let field = Field::new(column.name_str(), data_type(&builder), true);
            made.fields.push(describe(field, logical, &native));
            made.builders.push(builder);
        }
        Ok(made)
    }

    pub fn for_backup(self) -> Columns {
        Columns { for_backup: true, ..self }
    }

    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.fields.clone()))
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the approximate size of the row in bytes.
    pub fn append(&mut self, row: &Row) -> Result<usize, SourceError> {
        let mut bytes = 0;
        for (index, builder) in self.builders.iter_mut().enumerate() {
            let value = row.as_ref(index).unwrap_or(&Value::NULL);
            let size = if let Value::Bytes(value) = value { value.len() } else { 0 };
            if size > self.bounds.max_value_bytes {
                let name = self.fields.get(index).map_or("?", |field| field.name().as_str());
                return Err(match self.for_backup {
                    true => errors::value_too_large_for_backup(name, size, self.bounds),
                    false => errors::value_too_large(name, size, self.bounds),
                });
            }
            bytes += size + 8;
            if append(builder, value, &self.clock, &mut self.scratch).is_none() {
                return Err(unfit(self.fields.get(index), value, self.for_backup));
            }
        }
        self.rows += 1;
        Ok(bytes)
    }

    pub fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch, SourceError> {
        let rows = std::mem::take(&mut self.rows);
        let arrays = self.builders.iter_mut().map(finish).collect();
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(schema.clone(), arrays, &options)
            .map_err(|error| errors::lost(format!("could not build a batch: {error}")))
    }
}

fn unfit(field: Option<&Field>, value: &Value, for_backup: bool) -> SourceError {
    let name = field.map_or("?", |field| field.name().as_str());
    let native = field.map_or("?", native_type);
    let value = errors::words(&value.as_sql(false));
    errors::unsupported(match for_backup {
        true => format!("the column \"{name}\" ({native}) contains {value}, which a backup cannot represent"),
        false => format!(
            "the column `{name}` ({native}) contains {value}, which a result cannot represent; write CAST(`{name}` AS CHAR)"
        ),
    })
}

/// `None` if the value does not fit.
fn append(builder: &mut Builder, value: &Value, clock: &TimeZone, scratch: &mut String) -> Option<()> {
    if *value == Value::NULL {
        append_null(builder);
        return Some(());
    }
    match builder {
        Builder::Int16(builder) => builder.append_value(integer(value)?.try_into().ok()?),
        Builder::Int32(builder) => builder.append_value(integer(value)?.try_into().ok()?),
        Builder::Int64(builder) => builder.append_value(integer(value)?),
        Builder::UInt64(builder) => builder.append_value(match value {
            Value::UInt(value) => *value,
            other => u64::try_from(integer(other)?).ok()?,
        }),
        Builder::Float32(builder) => match value {
            Value::Float(value) => builder.append_value(*value),
            _ => return None,
        },
        Builder::Float64(builder) => match value {
            Value::Double(value) => builder.append_value(*value),
            Value::Float(value) => builder.append_value(f64::from(*value)),
            _ => return None,
        },
        Builder::Bool(builder) => match value {
            Value::Bytes(bytes) => builder.append_value(bytes.iter().any(|byte| *byte != 0)),
            _ => return None,
        },
        Builder::Decimal128(builder, _, scale) => {
            builder.append_value(unscaled(value, *scale, scratch)?.parse::<i128>().ok()?);
        }
        Builder::Decimal256(builder, _, scale) => {
            builder.append_value(i256::from_string(unscaled(value, *scale, scratch)?)?);
        }
        Builder::Text(builder) => match value {
            Value::Bytes(bytes) => builder.append_value(std::str::from_utf8(bytes).ok()?),
            Value::Time(negative, days, hours, minutes, seconds, micros) => {
                scratch.clear();
                let sign = if *negative { "-" } else { "" };
                let hours = u64::from(*days) * 24 + u64::from(*hours);
                write!(scratch, "{sign}{hours:02}:{minutes:02}:{seconds:02}").ok()?;
                if *micros > 0 {
                    write!(scratch, ".{micros:06}").ok()?;
                }
                builder.append_value(&*scratch);
            }
            _ => return None,
        },
        Builder::Binary(builder) => match value {
            Value::Bytes(bytes) => builder.append_value(bytes),
            _ => return None,
        },
        Builder::Date(builder) => match value {
            Value::Date(0, 0, 0, ..) => builder.append_value(schema::ZERO_DAY),
            Value::Date(year, month, day, ..) => builder.append_value(days_since_1970(*year, *month, *day)?),
            _ => return None,
        },
        Builder::Timestamp(builder, unit, zoned) => {
            builder.append_value(timestamp(value, *unit, *zoned, clock)?)
        }
    }
    Some(())
}

fn append_null(builder: &mut Builder) {
    match builder {
        Builder::Int16(builder) => builder.append_null(),
        Builder::Int32(builder) => builder.append_null(),
        Builder::Int64(builder) => builder.append_null(),
        Builder::UInt64(builder) => builder.append_null(),
        Builder::Float32(builder) => builder.append_null(),
        Builder::Float64(builder) => builder.append_null(),
        Builder::Bool(builder) => builder.append_null(),
        Builder::Decimal128(builder, ..) => builder.append_null(),
        Builder::Decimal256(builder, ..) => builder.append_null(),
        Builder::Text(builder) => builder.append_null(),
        Builder::Binary(builder) => builder.append_null(),
        Builder::Date(builder) => builder.append_null(),
        Builder::Timestamp(builder, ..) => builder.append_null(),
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(value) => Some(*value),
        Value::UInt(value) => i64::try_from(*value).ok(),
        _ => None,
    }
}

/// The decimal's digits without the point, padded to the column's scale.
fn unscaled<'a>(value: &Value, scale: i8, scratch: &'a mut String) -> Option<&'a str> {
    let Value::Bytes(bytes) = value else { return None };
    let text = std::str::from_utf8(bytes).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let missing = usize::try_from(scale).ok()?.checked_sub(fraction.len())?;
    scratch.clear();
    scratch.push_str(whole);
    scratch.push_str(fraction);
    scratch.extend(std::iter::repeat_n('0', missing));
    Some(scratch)
}

fn days_since_1970(year: u16, month: u8, day: u8) -> Option<i32> {
    let date =
        civil::Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?)
            .ok()?;
    i32::try_from(date.duration_since(civil::date(1970, 1, 1)).as_hours() / 24).ok()
}

fn timestamp(value: &Value, unit: TimeUnit, zoned: bool, clock: &TimeZone) -> Option<i64> {
    let Value::Date(year, month, day, hour, minute, second, micros) = value else { return None };
    if (*year, *month, *day) == (0, 0, 0) {
        // A zero date with a time of day is as incomplete as one with a month.
        return (*hour == 0 && *minute == 0 && *second == 0 && *micros == 0).then_some(schema::ZERO_DATE);
    }
    let days = i64::from(days_since_1970(*year, *month, *day)?);
    let local = days * 86_400 + i64::from(*hour) * 3600 + i64::from(*minute) * 60 + i64::from(*second);
    let seconds = if zoned && *clock != TimeZone::UTC {
        let date = civil::Date::new(i16::try_from(*year).ok()?, *month as i8, *day as i8).ok()?;
        let time = date.at(*hour as i8, *minute as i8, *second as i8, 0);
        clock.to_ambiguous_timestamp(time).compatible().ok()?.as_second()
    } else {
        local
    };
    Some(match unit {
        TimeUnit::Second => seconds,
        TimeUnit::Millisecond => seconds * 1000 + i64::from(*micros / 1000),
        _ => seconds * 1_000_000 + i64::from(*micros),
    })
}

fn finish(builder: &mut Builder) -> ArrayRef {
    match builder {
        Builder::Int16(builder) => Arc::new(builder.finish()),
        Builder::Int32(builder) => Arc::new(builder.finish()),
        Builder::Int64(builder) => Arc::new(builder.finish()),
        Builder::UInt64(builder) => Arc::new(builder.finish()),
        Builder::Float32(builder) => Arc::new(builder.finish()),
        Builder::Float64(builder) => Arc::new(builder.finish()),
        Builder::Bool(builder) => Arc::new(builder.finish()),
        Builder::Decimal128(builder, ..) => Arc::new(builder.finish()),
        Builder::Decimal256(builder, ..) => Arc::new(builder.finish()),
        Builder::Text(builder) => Arc::new(builder.finish()),
        Builder::Binary(builder) => Arc::new(builder.finish()),
        Builder::Date(builder) => Arc::new(builder.finish()),
        Builder::Timestamp(builder, unit, zoned) => {
            let array = builder.finish();
            let zone = zoned.then_some("UTC");
            match unit {
                TimeUnit::Second => {
                    Arc::new(array.reinterpret_cast::<TimestampSecondType>().with_timezone_opt(zone))
                }
                TimeUnit::Millisecond => {
                    Arc::new(array.reinterpret_cast::<TimestampMillisecondType>().with_timezone_opt(zone))
                }
                _ => Arc::new(array.reinterpret_cast::<TimestampMicrosecondType>().with_timezone_opt(zone)),
            }
        }
    }
}
