//! Decodes PostgreSQL's binary values straight into Arrow builders, without an allocation per value.
//!
//! For a type that is not decoded here, the server returns text (see `Plan::as_text`); values are never guessed.

use std::error::Error;
use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
    Int16Builder, Int32Builder, Int64Builder, StringBuilder,
};
use arrow_array::types::{
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampSecondType,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, SchemaRef, TimeUnit};
use landreeve_core::schema::{self, LogicalType, describe};
use landreeve_core::source::{SourceError, SourceErrorKind};
use postgres_types::{FromSql, Kind, Type};
use tokio_postgres::{Column, Row};

use super::numeric;
use crate::{Bounds, errors};

/// Days and microseconds between PostgreSQL's epoch (2000) and ours (1970).
pub(super) const EPOCH_DAYS: i32 = 10_957;
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The bytes as received.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Raw<'a>, Box<dyn Error + Sync + Send>> {
        Ok(Raw(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// How one column is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Bool,
    Int2,
    Int4,
    Int8,
    /// Unsigned 32 bits: oid and similar types.
    Oid,
    Float4,
    Float8,
    Text,
    Numeric,
    /// A numeric as a decimal of this size.
    Decimal(u8, i8),
    Interval,
    Jsonb,
    Uuid,
    Bytea,
    Date,
    Timestamp(TimeUnit, bool),
    Time(TimeUnit),
}

pub(super) struct Plan {
    pub fields: Vec<Field>,
    /// Columns that the server must return as text.
    pub as_text: Vec<bool>,
    /// Whether the client looked up types in the catalog.
    pub has_custom_types: bool,
    readers: Vec<Reader>,
}

/// The unit that fits a column's fraction digits, from its type modifier.
fn unit_of(precision: i32) -> TimeUnit {
    match precision {
        0 => TimeUnit::Second,
        1..=3 => TimeUnit::Millisecond,
        _ => TimeUnit::Microsecond,
    }
}

/// `decimals`: the size of the decimals that are wanted in each column.
pub(super) fn plan(columns: &[Column], decimals: &[Option<(u8, i8)>]) -> Plan {
    let mut plan =
        Plan { fields: Vec::new(), as_text: Vec::new(), has_custom_types: false, readers: Vec::new() };
    for (index, column) in columns.iter().enumerate() {
        let ty = column.type_();
        let native = native_name(ty, column.type_modifier());
        let (reader, logical, as_text) = reader_of(ty, column.type_modifier());
        let reader = match decimals.get(index).copied().flatten() {
            Some((precision, scale)) if reader == Reader::Numeric => Reader::Decimal(precision, scale),
            _ => reader,
        };
        plan.has_custom_types |= Type::from_oid(ty.oid()).is_none();
        plan.fields.push(describe(Field::new(column.name(), data_type(reader), true), logical, &native));
        plan.as_text.push(as_text);
        plan.readers.push(reader);
    }
    plan
}

fn reader_of(ty: &Type, modifier: i32) -> (Reader, LogicalType, bool) {
    use LogicalType as L;
    let (reader, logical) = match *ty {
        Type::BOOL => (Reader::Bool, L::Boolean),
        Type::INT2 => (Reader::Int2, L::Integer),
        Type::INT4 => (Reader::Int4, L::Integer),
        Type::INT8 => (Reader::Int8, L::Integer),
        Type::OID | Type::XID | Type::CID => (Reader::Oid, L::Integer),
        Type::FLOAT4 => (Reader::Float4, L::Number),
        Type::FLOAT8 => (Reader::Float8, L::Number),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN => (Reader::Text, L::Text),
        Type::NUMERIC => (Reader::Numeric, L::Decimal),
        Type::INTERVAL => (Reader::Interval, L::Interval),
        Type::JSON => (Reader::Text, L::Json),
        Type::JSONB => (Reader::Jsonb, L::Json),
        Type::UUID => (Reader::Uuid, L::Uuid),
        Type::BYTEA => (Reader::Bytea, L::Binary),
        Type::DATE => (Reader::Date, L::Date),
        Type::TIMESTAMP => (Reader::Timestamp(unit_of(modifier), false), L::DateTime),
        Type::TIMESTAMPTZ => (Reader::Timestamp(unit_of(modifier), true), L::Instant),
        Type::TIME => (Reader::Time(unit_of(modifier)), L::Time),
        _ if matches!(ty.kind(), Kind::Enum(_)) => (Reader::Text, L::Text),
        _ => {
            let logical = if ty.name() == "citext" { L::Text } else { L::Other };
            return (Reader::Text, logical, true);
        }
    };
    (reader, logical, false)
}

fn data_type(reader: Reader) -> DataType {
    match reader {
        Reader::Bool => DataType::Boolean,
        Reader::Int2 => DataType::Int16,
        Reader::Int4 => DataType::Int32,
        Reader::Int8 | Reader::Oid => DataType::Int64,
        Reader::Float4 => DataType::Float32,
        Reader::Float8 => DataType::Float64,
        Reader::Text | Reader::Numeric | Reader::Interval | Reader::Jsonb | Reader::Uuid => DataType::Utf8,
        Reader::Decimal(precision, scale) => DataType::Decimal128(precision, scale),
        Reader::Bytea => DataType::Binary,
        Reader::Date => DataType::Date32,
        Reader::Timestamp(unit, zoned) => DataType::Timestamp(unit, zoned.then(|| "UTC".into())),
        Reader::Time(unit @ (TimeUnit::Second | TimeUnit::Millisecond)) => DataType::Time32(unit),
        Reader::Time(unit) => DataType::Time64(unit),
    }
}

/// The type's name as `format_type` writes it, as far as a result's description contains it.
fn native_name(ty: &Type, modifier: i32) -> String {
    let with = |name: &str, modifier: i32| {
        if modifier < 0 { name.to_owned() } else { format!("{name}({modifier})") }
    };
    let zoned = |name: &str, zone: &str| {
        if modifier < 0 { format!("{name} {zone}") } else { format!("{name}({modifier}) {zone}") }
    };
    match *ty {
        Type::BOOL => "boolean".to_owned(),
        Type::INT2 => "smallint".to_owned(),
        Type::INT4 => "integer".to_owned(),
        Type::INT8 => "bigint".to_owned(),
        Type::FLOAT4 => "real".to_owned(),
        Type::FLOAT8 => "double precision".to_owned(),
        Type::VARCHAR => with("character varying", modifier - 4),
        Type::BPCHAR => with("character", modifier - 4),
        Type::NUMERIC if modifier >= 4 => {
            let packed = modifier - 4;
            // The scale is 11 bits, signed.
            let scale = ((packed & 0x7ff) ^ 1024) - 1024;
            format!("numeric({},{scale})", packed >> 16 & 0xffff)
        }
        Type::TIMESTAMP => zoned("timestamp", "without time zone"),
        Type::TIMESTAMPTZ => zoned("timestamp", "with time zone"),
        Type::TIME => zoned("time", "without time zone"),
        Type::TIMETZ => zoned("time", "with time zone"),
        Type::BIT => with("bit", modifier),
        Type::VARBIT => with("bit varying", modifier),
        Type::CHAR => "\"char\"".to_owned(),
        _ => match ty.kind() {
            Kind::Array(element) => format!("{}[]", native_name(element, modifier)),
            _ => ty.name().to_owned(),
        },
    }
}

enum Builder {
    Bool(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Text(StringBuilder),
    Binary(BinaryBuilder),
    Date(Date32Builder),
    Decimal(Decimal128Builder),
}

fn builder_of(reader: Reader, rows: usize) -> Builder {
    match reader {
        Reader::Bool => Builder::Bool(BooleanBuilder::with_capacity(rows)),
        Reader::Int2 => Builder::Int16(Int16Builder::with_capacity(rows)),
        Reader::Int4 | Reader::Time(TimeUnit::Second | TimeUnit::Millisecond) => {
            Builder::Int32(Int32Builder::with_capacity(rows))
        }
        Reader::Int8 | Reader::Oid | Reader::Timestamp(..) | Reader::Time(_) => {
            Builder::Int64(Int64Builder::with_capacity(rows))
        }
        Reader::Float4 => Builder::Float32(Float32Builder::with_capacity(rows)),
        Reader::Float8 => Builder::Float64(Float64Builder::with_capacity(rows)),
        Reader::Text | Reader::Numeric | Reader::Interval | Reader::Jsonb | Reader::Uuid => {
            Builder::Text(StringBuilder::with_capacity(rows, rows * 16))
        }
        Reader::Bytea => Builder::Binary(BinaryBuilder::with_capacity(rows, rows * 16)),
        Reader::Date => Builder::Date(Date32Builder::with_capacity(rows)),
        Reader::Decimal(..) => Builder::Decimal(Decimal128Builder::with_capacity(rows)),
    }
}

/// The rows of a batch while it is being built.
pub(super) struct Columns<'a> {
    plan: &'a Plan,
    builders: Vec<Builder>,
    scratch: Vec<u8>,
    rows: usize,
    /// The expected number of rows in the next batch.
    capacity: usize,
    bounds: Bounds,
}

impl<'a> Columns<'a> {
    pub fn new(plan: &'a Plan, batch_rows: usize, bounds: Bounds) -> Columns<'a> {
        // Most results are small; the first batch grows as needed.
        let builders = plan.readers.iter().map(|reader| builder_of(*reader, batch_rows.min(64))).collect();
        Columns { plan, builders, scratch: Vec::new(), rows: 0, capacity: batch_rows, bounds }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn append(&mut self, row: &Row) -> Result<(), SourceError> {
        for (index, (builder, reader)) in self.builders.iter_mut().zip(&self.plan.readers).enumerate() {
            let value: Option<Raw<'_>> =
                row.try_get(index).map_err(|error| errors::lost(format!("unreadable row: {error}")))?;
            match value {
                None => append_null(builder),
                Some(Raw(raw)) if raw.len() > self.bounds.max_value_bytes => {
                    let name = self.plan.fields.get(index).map_or("?", |field| field.name().as_str());
                    return Err(errors::value_too_large(name, raw.len(), self.bounds));
                }
                Some(Raw(raw)) => {
                    if append_value(builder, *reader, raw, &mut self.scratch).is_none() {
                        return Err(self.unreadable(index));
                    }
                }
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn unreadable(&self, index: usize) -> SourceError {
        let field = self.plan.fields.get(index);
        let name = field.map_or("?", |field| field.name().as_str());
        let native = field.map_or("?", schema::native_type);
        if let Some(Reader::Decimal(precision, scale)) = self.plan.readers.get(index) {
            let message =
                format!("a value of the column \"{name}\" ({native}) is no decimal({precision},{scale})");
            let error = SourceError::new(SourceErrorKind::Query, message);
            return SourceError { code: Some("bad_value".to_owned()), ..error };
        }
        errors::unsupported(format!(
            "a value of the column \"{name}\" ({native}) cannot be represented in a result; write CAST(\"{name}\" AS text)"
        ))
    }

    pub fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch, SourceError> {
        let rows = std::mem::take(&mut self.rows);
        // Estimating from the previous batch avoids growing step by step, and waste when batches are short.
        let capacity = self.capacity.min(rows);
        let mut arrays = Vec::with_capacity(self.builders.len());
        for (builder, reader) in self.builders.iter_mut().zip(&self.plan.readers) {
            arrays.push(finish(std::mem::replace(builder, builder_of(*reader, capacity)), *reader));
        }
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(schema.clone(), arrays, &options)
            .map_err(|error| errors::lost(format!("could not build a batch: {error}")))
    }
}

fn append_null(builder: &mut Builder) {
    match builder {
        Builder::Bool(builder) => builder.append_null(),
        Builder::Int16(builder) => builder.append_null(),
        Builder::Int32(builder) => builder.append_null(),
        Builder::Int64(builder) => builder.append_null(),
        Builder::Float32(builder) => builder.append_null(),
        Builder::Float64(builder) => builder.append_null(),
        Builder::Text(builder) => builder.append_null(),
        Builder::Binary(builder) => builder.append_null(),
        Builder::Date(builder) => builder.append_null(),
        Builder::Decimal(builder) => builder.append_null(),
    }
}

/// `None` if the bytes are not valid for the type, or the value does not fit the column.
fn append_value(builder: &mut Builder, reader: Reader, raw: &[u8], scratch: &mut Vec<u8>) -> Option<()> {
    match builder {
        Builder::Bool(builder) => builder.append_value(*raw.first()? != 0),
        Builder::Int16(builder) => builder.append_value(i16::from_be_bytes(raw.try_into().ok()?)),
        Builder::Int32(builder) => builder.append_value(match reader {
            Reader::Time(TimeUnit::Second) => i32::try_from(int8(raw)? / 1_000_000).ok()?,
            Reader::Time(_) => i32::try_from(int8(raw)? / 1_000).ok()?,
            _ => i32::from_be_bytes(raw.try_into().ok()?),
        }),
        Builder::Int64(builder) => builder.append_value(match reader {
            Reader::Oid => i64::from(u32::from_be_bytes(raw.try_into().ok()?)),
            Reader::Timestamp(unit, _) => timestamp(int8(raw)?, unit)?,
            _ => int8(raw)?,
        }),
        Builder::Float32(builder) => builder.append_value(f32::from_be_bytes(raw.try_into().ok()?)),
        Builder::Float64(builder) => builder.append_value(f64::from_be_bytes(raw.try_into().ok()?)),
        Builder::Text(builder) => {
            let text = match reader {
                Reader::Text => raw,
                Reader::Jsonb => raw.strip_prefix(&[1])?,
                _ => {
                    scratch.clear();
                    match reader {
                        Reader::Numeric => numeric::numeric(raw, scratch)?,
                        Reader::Interval => numeric::interval(raw, scratch)?,
                        _ => uuid(raw, scratch)?,
                    }
                    scratch
                }
            };
            builder.append_value(std::str::from_utf8(text).ok()?);
        }
        Builder::Binary(builder) => builder.append_value(raw),
        Builder::Date(builder) => builder.append_value(match i32::from_be_bytes(raw.try_into().ok()?) {
            i32::MAX => schema::POSITIVE_INFINITY_DAY,
            i32::MIN => schema::NEGATIVE_INFINITY_DAY,
            days => days.checked_add(EPOCH_DAYS)?,
        }),
        Builder::Decimal(builder) => match reader {
            Reader::Decimal(precision, scale) => {
                builder.append_value(numeric::decimal(raw, precision, scale)?);
            }
            _ => return None,
        },
    }
    Some(())
}

fn int8(raw: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(raw.try_into().ok()?))
}

fn timestamp(micros: i64, unit: TimeUnit) -> Option<i64> {
    match micros {
        i64::MAX => return Some(schema::POSITIVE_INFINITY),
        i64::MIN => return Some(schema::NEGATIVE_INFINITY),
        _ => (),
    }
    // Divides first, because PostgreSQL's last years overflow as microseconds since 1970.
    let divisor = match unit {
        TimeUnit::Second => 1_000_000,
        TimeUnit::Millisecond => 1_000,
        _ => 1,
    };
    micros.div_euclid(divisor).checked_add(EPOCH_MICROS / divisor)
}

fn uuid(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    if raw.len() != 16 {
        return None;
    }
    for (index, byte) in raw.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    Some(())
}

fn finish(builder: Builder, reader: Reader) -> ArrayRef {
    match builder {
        Builder::Bool(mut builder) => Arc::new(builder.finish()),
        Builder::Int16(mut builder) => Arc::new(builder.finish()),
        Builder::Int32(mut builder) => match reader {
            Reader::Time(TimeUnit::Second) => {
                Arc::new(builder.finish().reinterpret_cast::<Time32SecondType>())
            }
            Reader::Time(_) => Arc::new(builder.finish().reinterpret_cast::<Time32MillisecondType>()),
            _ => Arc::new(builder.finish()),
        },
        Builder::Int64(mut builder) => {
            let array = builder.finish();
            let zone = |zoned: bool| zoned.then_some("UTC");
            match reader {
                Reader::Timestamp(TimeUnit::Second, zoned) => {
                    Arc::new(array.reinterpret_cast::<TimestampSecondType>().with_timezone_opt(zone(zoned)))
                }
                Reader::Timestamp(TimeUnit::Millisecond, zoned) => Arc::new(
                    array.reinterpret_cast::<TimestampMillisecondType>().with_timezone_opt(zone(zoned)),
                ),
                Reader::Timestamp(_, zoned) => Arc::new(
                    array.reinterpret_cast::<TimestampMicrosecondType>().with_timezone_opt(zone(zoned)),
                ),
                Reader::Time(_) => Arc::new(array.reinterpret_cast::<Time64MicrosecondType>()),
                _ => Arc::new(array),
            }
        }
        Builder::Float32(mut builder) => Arc::new(builder.finish()),
        Builder::Float64(mut builder) => Arc::new(builder.finish()),
        Builder::Text(mut builder) => Arc::new(builder.finish()),
        Builder::Binary(mut builder) => Arc::new(builder.finish()),
        Builder::Date(mut builder) => Arc::new(builder.finish()),
        Builder::Decimal(mut builder) => {
            let values = builder.finish();
            match reader {
                Reader::Decimal(precision, scale) => {
                    Arc::new(values.with_data_type(DataType::Decimal128(precision, scale)))
                }
                _ => Arc::new(values),
            }
        }
    }
}
