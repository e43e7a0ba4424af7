//! JSON: an array of rows, which are arrays, in the caller's envelope. A value's encoding depends on its column's type,
//! never on the value.

use std::io;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema};
use landreeve_core::schema::{LogicalType, logical_type};
use landreeve_core::source::{EncodeOptions, Envelope, JsonColumn};

use super::cells::{Cells, Shape, base64};
use super::time::ZoneClock;
use super::valid::is_json;
use super::{CHUNK, Cut, PIECE, Sink, piece};

pub(super) struct Json {
    zone: ZoneClock,
    /// Which columns contain integers that are written as strings.
    quoted: Vec<bool>,
    any_row: bool,
    /// Where the row that was begun goes on.
    cut: Option<Cut>,
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
        Ok(Json {
            zone: ZoneClock::new(options.time_zone.clone()),
            quoted,
            any_row: false,
            cut: None,
            envelope,
        })
    }
}

impl Sink for Json {
    fn rows(&mut self, batch: &RecordBatch, from: usize, out: &mut Vec<u8>) -> io::Result<usize> {
        let columns = Cells::of_batch(batch)?;
        let mut row = from;
        while row < batch.num_rows() && out.len() < CHUNK {
            let mut resumed = self.cut.take();
            if resumed.is_none() {
                if std::mem::replace(&mut self.any_row, true) {
                    out.push(b',');
                }
                out.push(b'[');
            }
            let first = resumed.map_or(0, |cut| cut.column);
            for (index, (cells, quoted)) in columns.iter().zip(&self.quoted).enumerate().skip(first) {
                let cut = resumed.take();
                if index > 0 && cut.is_none() {
                    out.push(b',');
                }
                let cut = cut.unwrap_or(Cut { column: index, ..Cut::default() });
                self.cut = value(cells, row, *quoted, cut, &mut self.zone, out);
                if self.cut.is_some() {
                    return Ok(row);
                }
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

/// Writes a value or the next piece of it. Returns where it goes on if that was not all.
fn value(
    cells: &Cells<'_>,
    row: usize,
    quoted: bool,
    cut: Cut,
    zone: &mut ZoneClock,
    out: &mut Vec<u8>,
) -> Option<Cut> {
    if cells.is_null(row) {
        out.extend_from_slice(b"null");
    } else if let Some((text, shape)) = cells.borrowed(row) {
        return written(text, shape, cut, out);
    } else if let Some(bytes) = cells.binary(row).filter(|bytes| bytes.len() > PIECE) {
        return long_binary(bytes, cut, out);
    } else if cells.shape(row) == Shape::Bare && !quoted {
        cells.write(row, zone, out);
    } else {
        out.push(b'"');
        cells.write(row, zone, out);
        out.push(b'"');
    }
    None
}

/// A text, as a string or as the JSON that it is.
fn written(text: &str, shape: Shape, cut: Cut, out: &mut Vec<u8>) -> Option<Cut> {
    let begins = cut.written == 0;
    let is_json = if begins { shape == Shape::Json && is_json(text) } else { cut.marked };
    let (piece, ends) = piece(text.as_bytes(), cut.written, PIECE);
    if is_json {
        out.extend_from_slice(piece);
    } else {
        if begins {
            out.push(b'"');
        }
        escaped(piece, out);
        if ends {
            out.push(b'"');
        }
    }
    (!ends).then_some(Cut { written: cut.written + piece.len(), marked: is_json, ..cut })
}

fn long_binary(bytes: &[u8], cut: Cut, out: &mut Vec<u8>) -> Option<Cut> {
    if cut.written == 0 {
        out.push(b'"');
    }
    let (piece, ends) = piece(bytes, cut.written, PIECE);
    base64(piece, out);
    if ends {
        out.push(b'"');
    }
    (!ends).then_some(Cut { written: cut.written + piece.len(), ..cut })
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

fn escaped(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.reserve(bytes.len() + 2);
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
}
