//! CSV (RFC 4180): a header, CRLF, quotes where needed. NULL is empty and an empty string is `""`.

use std::io;

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use landreeve_core::source::EncodeOptions;

use super::cells::{Cells, base64};
use super::time::ZoneClock;
use super::{CHUNK, Cut, PIECE, Sink, piece};

pub(super) struct Csv {
    zone: ZoneClock,
    separator: u8,
    scratch: Vec<u8>,
    /// Where the row that was begun goes on.
    cut: Option<Cut>,
}

impl Csv {
    pub fn new(schema: &Schema, options: &EncodeOptions, out: &mut Vec<u8>) -> Csv {
        let separator = options.csv_separator;
        for (index, field) in schema.fields().iter().enumerate() {
            if index > 0 {
                out.push(separator);
            }
            text(field.name().as_bytes(), separator, out);
        }
        out.extend_from_slice(b"\r\n");
        Csv { zone: ZoneClock::new(options.time_zone.clone()), separator, scratch: Vec::new(), cut: None }
    }
}

impl Sink for Csv {
    fn rows(&mut self, batch: &RecordBatch, from: usize, out: &mut Vec<u8>) -> io::Result<usize> {
        let columns = Cells::of_batch(batch)?;
        let mut row = from;
        while row < batch.num_rows() && out.len() < CHUNK {
            let mut resumed = self.cut.take();
            let first = resumed.map_or(0, |cut| cut.column);
            for (index, cells) in columns.iter().enumerate().skip(first) {
                let cut = resumed.take();
                if index > 0 && cut.is_none() {
                    out.push(self.separator);
                }
                if cells.is_null(row) {
                    continue;
                }
                let cut = cut.unwrap_or(Cut { column: index, ..Cut::default() });
                if let Some((value, _)) = cells.borrowed(row) {
                    self.cut = long_text(value.as_bytes(), self.separator, cut, out);
                } else if let Some(bytes) = cells.binary(row).filter(|bytes| bytes.len() > PIECE) {
                    self.cut = long_binary(bytes, self.separator, cut, out);
                } else {
                    // Numbers and dates contain the separator only if it is an unusual one.
                    self.scratch.clear();
                    cells.write(row, &mut self.zone, &mut self.scratch);
                    text(&self.scratch, self.separator, out);
                }
                if self.cut.is_some() {
                    return Ok(row);
                }
            }
            out.extend_from_slice(b"\r\n");
            row += 1;
        }
        Ok(row)
    }

    fn finish(&mut self, _out: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }
}

fn text(value: &[u8], separator: u8, out: &mut Vec<u8>) {
    if !needs_quotes(value, separator) {
        out.extend_from_slice(value);
        return;
    }
    out.push(b'"');
    doubled(value, out);
    out.push(b'"');
}

fn needs_quotes(value: &[u8], separator: u8) -> bool {
    value.is_empty() || value.iter().any(|byte| *byte == separator || matches!(*byte, b'"' | b'\r' | b'\n'))
}

fn doubled(value: &[u8], out: &mut Vec<u8>) {
    for &byte in value {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
}

/// Writes a text or the next piece of it. Returns where it goes on if that was not all.
fn long_text(value: &[u8], separator: u8, cut: Cut, out: &mut Vec<u8>) -> Option<Cut> {
    if value.len() <= PIECE {
        text(value, separator, out);
        return None;
    }
    let begins = cut.written == 0;
    let quoted = if begins { needs_quotes(value, separator) } else { cut.marked };
    if begins && quoted {
        out.push(b'"');
    }
    let (piece, ends) = piece(value, cut.written, PIECE);
    doubled(piece, out);
    if ends && quoted {
        out.push(b'"');
    }
    (!ends).then_some(Cut { written: cut.written + piece.len(), marked: quoted, ..cut })
}

/// The same for a binary value.
fn long_binary(bytes: &[u8], separator: u8, cut: Cut, out: &mut Vec<u8>) -> Option<Cut> {
    // An unusual separator may be a character of base64.
    let quoted = separator.is_ascii_alphanumeric() || matches!(separator, b'+' | b'/' | b'=');
    if cut.written == 0 && quoted {
        out.push(b'"');
    }
    let (piece, ends) = piece(bytes, cut.written, PIECE);
    base64(piece, out);
    if ends && quoted {
        out.push(b'"');
    }
    (!ends).then_some(Cut { written: cut.written + piece.len(), ..cut })
}
