//! Texts as typed columns.

use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
    Int32Builder, Int64Builder, StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, SchemaRef, TimeUnit};
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use landreeve_core::{calendar, decimal};

/// A column that is being read.
pub enum Column {
    Int(Int32Builder),
    Long(Int64Builder),
    Float(Float32Builder),
    Double(Float64Builder),
    Decimal(Decimal128Builder, u8, i8),
    Text(StringBuilder),
    Boolean(BooleanBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    DateTime(TimestampMicrosecondBuilder),
    Instant(TimestampMicrosecondBuilder),
}

impl Column {
    /// `None` if no text can be of this type.
    pub fn new(data_type: &DataType) -> Option<Column> {
        Some(match data_type {
            DataType::Int32 => Column::Int(Int32Builder::new()),
            DataType::Int64 => Column::Long(Int64Builder::new()),
            DataType::Float32 => Column::Float(Float32Builder::new()),
            DataType::Float64 => Column::Double(Float64Builder::new()),
            DataType::Decimal128(precision, scale) => {
                let builder = Decimal128Builder::new().with_precision_and_scale(*precision, *scale).ok()?;
                Column::Decimal(builder, *precision, *scale)
            }
            DataType::Utf8 => Column::Text(StringBuilder::new()),
            DataType::Boolean => Column::Boolean(BooleanBuilder::new()),
            DataType::Date32 => Column::Date(Date32Builder::new()),
            DataType::Time64(TimeUnit::Microsecond) => Column::Time(Time64MicrosecondBuilder::new()),
            DataType::Timestamp(TimeUnit::Microsecond, None) => {
                Column::DateTime(TimestampMicrosecondBuilder::new())
            }
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
                Column::Instant(TimestampMicrosecondBuilder::new().with_timezone("UTC"))
            }
            _ => return None,
        })
    }

    pub fn push_null(&mut self) {
        match self {
            Column::Int(builder) => builder.append_null(),
            Column::Long(builder) => builder.append_null(),
            Column::Float(builder) => builder.append_null(),
            Column::Double(builder) => builder.append_null(),
            Column::Decimal(builder, ..) => builder.append_null(),
            Column::Text(builder) => builder.append_null(),
            Column::Boolean(builder) => builder.append_null(),
            Column::Date(builder) => builder.append_null(),
            Column::Time(builder) => builder.append_null(),
            Column::DateTime(builder) | Column::Instant(builder) => builder.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Column::Int(builder) => builder.finish_dyn(),
            Column::Long(builder) => builder.finish_dyn(),
            Column::Float(builder) => builder.finish_dyn(),
            Column::Double(builder) => builder.finish_dyn(),
            Column::Decimal(builder, ..) => builder.finish_dyn(),
            Column::Text(builder) => builder.finish_dyn(),
            Column::Boolean(builder) => builder.finish_dyn(),
            Column::Date(builder) => builder.finish_dyn(),
            Column::Time(builder) => builder.finish_dyn(),
            Column::DateTime(builder) | Column::Instant(builder) => builder.finish_dyn(),
        }
    }
}

trait FinishDyn {
    fn finish_dyn(&mut self) -> ArrayRef;
}

impl<B: ArrayBuilder> FinishDyn for B {
    fn finish_dyn(&mut self) -> ArrayRef {
        ArrayBuilder::finish(self)
    }
}

/// A value that was read from a text and checked, so that a row with a fault leaves nothing behind.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Whole(i64),
    Number(f64),
    Decimal(i128),
    Text(String),
    Boolean(bool),
}

/// Reads a text as a value of the column's type. An empty text is NULL, except in a column of texts.
pub fn read(column: &Column, text: &str) -> Result<Value, String> {
    if let Column::Text(_) = column {
        return Ok(Value::Text(text.to_owned()));
    }
    let text = text.trim();
    if text.is_empty() {
        return Ok(Value::Null);
    }
    let wrong = |what: &str| format!("{text:?} is no {what}");
    match column {
        Column::Int(_) => {
            text.parse::<i32>().map(|value| Value::Whole(value.into())).map_err(|_| wrong("int"))
        }
        Column::Long(_) => text.parse().map(Value::Whole).map_err(|_| wrong("long")),
        Column::Float(_) => {
            text.parse::<f32>().map(|value| Value::Number(value.into())).map_err(|_| wrong("float"))
        }
        Column::Double(_) => text.parse().map(Value::Number).map_err(|_| wrong("double")),
        Column::Decimal(_, precision, scale) => decimal::parse(text, *precision, *scale)
            .map(Value::Decimal)
            .ok_or_else(|| wrong(&format!("decimal({precision},{scale})"))),
        Column::Boolean(_) => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "1" => Ok(Value::Boolean(true)),
            "false" | "f" | "no" | "0" => Ok(Value::Boolean(false)),
            _ => Err(wrong("boolean")),
        },
        Column::Date(_) => {
            let date = calendar::date(text).ok_or_else(|| wrong("date; write 2026-01-31"))?;
            Ok(Value::Whole(days(date)))
        }
        Column::Time(_) => {
            let time = calendar::time(text).ok_or_else(|| wrong("time; write 12:30:00"))?;
            let micros =
                time.since(Time::midnight()).ok().and_then(|span| span.total(jiff::Unit::Microsecond).ok());
            micros.map(|micros| Value::Whole(micros as i64)).ok_or_else(|| wrong("time"))
        }
        Column::DateTime(_) => {
            let at = calendar::wall(text).ok_or_else(|| wrong("timestamp; write 2026-01-31 12:30:00"))?;
            let at = TimeZone::UTC.to_timestamp(at).map_err(|_| wrong("timestamp"))?;
            Ok(Value::Whole(at.as_microsecond()))
        }
        Column::Instant(_) => {
            let at = calendar::instant(text)
                .ok_or_else(|| wrong("time with a zone; write 2026-01-31T12:30:00Z"))?;
            Ok(Value::Whole(at.as_microsecond()))
        }
        Column::Text(_) => Ok(Value::Text(text.to_owned())),
    }
}

/// Since 1970.
fn days(date: Date) -> i64 {
    let since = date.since(jiff::civil::date(1970, 1, 1));
    since.map_or(0, |span| i64::from(span.get_days()))
}

/// Columns that grow row by row.
pub struct Rows {
    schema: SchemaRef,
    pub columns: Vec<Column>,
    count: usize,
    bytes: usize,
}

impl Rows {
    pub fn new(schema: &SchemaRef) -> Result<Rows, String> {
        let column = |field: &Arc<arrow_schema::Field>| {
            let data_type = field.data_type();
            Column::new(data_type).ok_or_else(|| {
                format!("column {}: a file cannot have values of type {data_type}", field.name())
            })
        };
        let columns = schema.fields().iter().map(column).collect::<Result<_, _>>()?;
        Ok(Rows { schema: Arc::clone(schema), columns, count: 0, bytes: 0 })
    }

    /// Adds a row: one value for each column.
    pub fn push(&mut self, values: Vec<Value>) {
        self.count += 1;
        for (column, value) in self.columns.iter_mut().zip(values) {
            self.bytes += 8;
            match (column, value) {
                (Column::Int(builder), Value::Whole(value)) => {
                    builder.append_option(i32::try_from(value).ok());
                }
                (Column::Long(builder), Value::Whole(value)) => builder.append_value(value),
                (Column::Float(builder), Value::Number(value)) => builder.append_value(value as f32),
                (Column::Double(builder), Value::Number(value)) => builder.append_value(value),
                (Column::Decimal(builder, ..), Value::Decimal(value)) => builder.append_value(value),
                (Column::Text(builder), Value::Text(text)) => {
                    self.bytes += text.len();
                    builder.append_value(text);
                }
                (Column::Boolean(builder), Value::Boolean(value)) => builder.append_value(value),
                (Column::Date(builder), Value::Whole(value)) => {
                    builder.append_option(i32::try_from(value).ok())
                }
                (Column::Time(builder), Value::Whole(value)) => builder.append_value(value),
                (Column::DateTime(builder) | Column::Instant(builder), Value::Whole(value)) => {
                    builder.append_value(value);
                }
                (column, _) => column.push_null(),
            }
        }
    }

    pub fn is_full(&self, rows: usize, bytes: usize) -> bool {
        self.count >= rows || self.bytes >= bytes
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The rows so far; the next ones start a new batch.
    pub fn take(&mut self) -> Result<RecordBatch, String> {
        let columns: Vec<ArrayRef> = self.columns.iter_mut().map(Column::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.count));
        (self.count, self.bytes) = (0, 0);
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|error| error.to_string())
    }
}
