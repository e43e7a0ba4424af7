//! CSV (RFC 4180): a header, CRLF, quotes where needed. NULL is empty and an empty string is `""`.

use std::io;

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use landreeve_core::source::EncodeOptions;

use super::cells::Cells;
use super::time::ZoneClock;
use super::{CHUNK, Sink};

pub(super) struct Csv {
    zone: ZoneClock,
    separator: u8,
    scratch: Vec<u8>,
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
        Csv { zone: ZoneClock::new(options.time_zone.clone()), separator, scratch: Vec::new() }
    }
}

impl Sink for Csv {
    fn rows(&mut self, batch: &RecordBatch, from: usize, out: &mut Vec<u8>) -> io::Result<usize> {
        let columns = Cells::of_batch(batch)?;
        let mut row = from;
        while row < batch.num_rows() && out.len() < CHUNK {
            for (index, cells) in columns.iter().enumerate() {
                if index > 0 {
                    out.push(self.separator);
                }
                if cells.is_null(row) {
                    continue;
                }
                if let Some((value, _)) = cells.borrowed(row) {
                    text(value.as_bytes(), self.separator, out);
                } else {
                    // Numbers and dates contain the separator only if it is an unusual one.
                    self.scratch.clear();
                    cells.write(row, &mut self.zone, &mut self.scratch);
                    text(&self.scratch, self.separator, out);
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
    let plain = !value.is_empty()
        && !value.iter().any(|byte| *byte == separator || matches!(*byte, b'"' | b'\r' | b'\n'));
    if plain {
        out.extend_from_slice(value);
        return;
    }
    out.push(b'"');
    for &byte in value {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}
