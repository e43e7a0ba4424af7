//! JSON: an array of rows, which are arrays, in the caller's envelope. A value's encoding depends on its column's type,
//! never on the value.

use std::io;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema};
use landreeve_core::schema::{LogicalType, logical_type};
use landreeve_core::source::{EncodeOptions, Envelope, JsonColumn};

use super::cells::{Cells, Shape};
use super::time::ZoneClock;
use super::valid::is_json;
use super::{CHUNK, Sink};

pub(super) struct Json {
    zone: ZoneClock,
    /// Which columns contain integers that are written as strings.
    quoted: Vec<bool>,
    any_row: bool,
    envelope: Option<Arc<dyn Envelope>>,
}

/// Whether numbers in this column are written as strings.
fn is_quoted(field: &Field, integers_as_strings: bool) -> bool {
    match logical_type(field) {
        LogicalType::Integer => integers_as_strings && is_64_bits(field),
        LogicalType::UnsignedBig | LogicalType::Decimal => true,
        _ => false,
    }
}

/// Smaller integers fit into a double.
fn is_64_bits(field: &Field) -> bool {
    matches!(field.data_type(), DataType::Int64 | DataType::UInt64)
}

impl Json {
    pub fn new(schema: &Schema, options: &EncodeOptions, out: &mut Vec<u8>) -> io::Result<Json> {
        let columns = schema
            .fields()
            .iter()
            .map(|field| JsonColumn { field, quoted: is_quoted(field, options.integers_as_strings) });
        let columns: Vec<JsonColumn<'_>> = columns.collect();
        let envelope = options.envelope.clone();
        if let Some(envelope) = &envelope {
            envelope.head(&columns, out)?;
        }
        out.push(b'[');
        let quoted = columns.iter().map(|column| column.quoted).collect();
        Ok(Json { zone: ZoneClock::new(options.time_zone.clone()), quoted, any_row: false, envelope })
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
        out.push(b']');
        if let Some(envelope) = &self.envelope {
            out.extend_from_slice(envelope.tail());
        }
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
