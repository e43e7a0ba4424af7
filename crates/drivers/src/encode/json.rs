//! JSON: an object with `columns`, `row_count`, `truncated`, `timestamp`, `time_zone`, `rows`, in this order;
//! rows are arrays. A value's encoding depends on its column's type, never on the value.

use std::io;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema};
use landreeve_core::schema::{LogicalType, logical_type, native_type};
use landreeve_core::source::EncodeOptions;

use super::cells::{Cells, Shape};
use super::time::ZoneClock;
use super::valid::is_json;
use super::{CHUNK, Sink};

pub(super) struct Json {
    zone: ZoneClock,
    /// Which columns contain integers that are written as strings.
    quoted: Vec<bool>,
    any_row: bool,
}

/// The value of `type`, and whether numbers in this column are written as strings.
fn column_type(field: &Field, integers_as_strings: bool) -> (&'static str, bool) {
    match logical_type(field) {
        LogicalType::Text | LogicalType::Uuid => ("text", false),
        LogicalType::Integer => ("integer", integers_as_strings && is_64_bits(field)),
        LogicalType::UnsignedBig => ("integer", true),
        LogicalType::Number => ("number", false),
        LogicalType::Decimal => ("number", true),
        LogicalType::Boolean => ("boolean", false),
        LogicalType::Date => ("date", false),
        LogicalType::Instant | LogicalType::DateTime => ("datetime", false),
        LogicalType::Time => ("time", false),
        LogicalType::Interval => ("interval", false),
        LogicalType::Json => ("json", false),
        LogicalType::Binary => ("binary", false),
        LogicalType::Other => ("unknown", false),
    }
}

/// Smaller integers fit into a double.
fn is_64_bits(field: &Field) -> bool {
    matches!(field.data_type(), DataType::Int64 | DataType::UInt64)
}

impl Json {
    pub fn new(schema: &Schema, options: &EncodeOptions, out: &mut Vec<u8>) -> Json {
        let mut quoted = Vec::with_capacity(schema.fields().len());
        out.extend_from_slice(b"{\"columns\":[");
        for (index, field) in schema.fields().iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let (kind, as_string) = column_type(field, options.integers_as_strings);
            quoted.push(as_string);
            out.extend_from_slice(b"{\"name\":");
            string(field.name(), out);
            out.extend_from_slice(b",\"type\":\"");
            out.extend_from_slice(kind.as_bytes());
            out.push(b'"');
            if as_string {
                out.extend_from_slice(b",\"encoding\":\"string\"");
            }
            if logical_type(field) == LogicalType::Instant {
                out.extend_from_slice(b",\"zoned\":true");
            }
            if !native_type(field).is_empty() {
                out.extend_from_slice(b",\"native_type\":");
                string(native_type(field), out);
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"],\"row_count\":");
        out.extend_from_slice(itoa::Buffer::new().format(options.row_count).as_bytes());
        let truncated = options.most_rows.is_some_and(|most| most < options.row_count);
        out.extend_from_slice(if truncated { b",\"truncated\":true" } else { b",\"truncated\":false" });
        out.extend_from_slice(b",\"timestamp\":");
        out.extend_from_slice(itoa::Buffer::new().format(options.timestamp).as_bytes());
        out.extend_from_slice(b",\"time_zone\":");
        string(&options.time_zone_name, out);
        out.extend_from_slice(b",\"rows\":[");
        Json { zone: ZoneClock::new(options.time_zone.clone()), quoted, any_row: false }
    }
}

impl Sink for Json {
    fn rows(&mut self, batch: &RecordBatch, from: usize, out: &mut Vec<u8>) -> io::Result<usize> {
        let columns = Cells::of_batch(batch)?;
        let mut row = from;
        while row < batch.num_rows() && out.len() < CHUNK {
            if std::mem::replace(&mut self.any_row, true) {
                out.push(b',');
            }
            out.push(b'[');
            for (index, (cells, quoted)) in columns.iter().zip(&self.quoted).enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                value(cells, row, *quoted, &mut self.zone, out);
            }
            out.push(b']');
            row += 1;
        }
        Ok(row)
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        out.extend_from_slice(b"]}");
        Ok(())
    }
}

fn value(cells: &Cells<'_>, row: usize, quoted: bool, zone: &mut ZoneClock, out: &mut Vec<u8>) {
    if cells.is_null(row) {
        out.extend_from_slice(b"null");
        return;
    }
    if let Some((text, shape)) = cells.borrowed(row) {
        if shape == Shape::Json && is_json(text) {
            out.extend_from_slice(text.as_bytes());
        } else {
            string(text, out);
        }
        return;
    }
    if cells.shape(row) == Shape::Bare && !quoted {
        cells.write(row, zone, out);
    } else {
        out.push(b'"');
        cells.write(row, zone, out);
        out.push(b'"');
    }
}

/// The character after the backslash; 0 for bytes that need no escape, `u` for six-character escapes.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 32 {
        table[byte] = b'u';
        byte += 1;
    }
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[8] = b'b';
    table[12] = b'f';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

fn string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut copied = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        let escape = ESCAPES[usize::from(byte)];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&bytes[copied..index]);
        copied = index + 1;
        out.extend([b'\\', escape]);
        if escape == b'u' {
            out.extend([b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}
