//! Delimited text, record by record, within a bound on the size of one.

use std::borrow::Cow;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};

use super::input::Input;
use crate::Bounds;

/// What is wrong with the file at a record, or in general.
pub type Fault = String;

pub struct Records {
    input: Input,
    reader: Reader,
    latin1: bool,
    bounds: Bounds,
    /// What ends a line, and whether it was added to the end of the file.
    line_end: &'static [u8],
    ended: bool,
    out: Vec<u8>,
    ends: Vec<usize>,
    fields: usize,
    /// Of the current record, starting at 1 and counting the header.
    pub number: u64,
}

impl Records {
    pub fn new(input: Input, delimiter: u8, end_of_line: u8, latin1: bool, bounds: Bounds) -> Records {
        // Every kind of line break ends a line unless only a carriage return does.
        let (terminator, line_end): (_, &[u8]) =
            if end_of_line == b'\r' { (Terminator::Any(b'\r'), b"\r") } else { (Terminator::CRLF, b"\n") };
        let reader = ReaderBuilder::new().delimiter(delimiter).terminator(terminator).build();
        Records {
            input,
            reader,
            latin1,
            bounds,
            line_end,
            ended: false,
            out: vec![0; 4_096],
            ends: vec![0; 64],
            fields: 0,
            number: 0,
        }
    }

    /// Reads the next record; `false` at the end.
    pub fn next(&mut self) -> Result<bool, Fault> {
        let (mut written, mut ended) = (0, 0);
        loop {
            let input = self.input.fill()?;
            let (out, ends) = (self.out.get_mut(written..), self.ends.get_mut(ended..));
            let (Some(out), Some(ends)) = (out, ends) else {
                return Err("the record is too long".to_owned());
            };
            let is_over = input.is_empty();
            let input = if is_over && !self.ended { self.line_end } else { input };
            let (result, read, wrote, fields) = self.reader.read_record(input, out, ends);
            if !is_over {
                self.input.consume(read);
            } else if read > 0 {
                self.ended = true;
                // The end of a line that is part of a field.
                if wrote > 0 && matches!(result, ReadRecordResult::InputEmpty) {
                    return Err("the file ends inside quotes".to_owned());
                }
            }
            written += wrote;
            ended += fields;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => {
                    if self.out.len() >= self.bounds.max_row_bytes {
                        return Err(format!(
                            "a row has more than {} bytes ([sources] max_row_bytes); a quote may be missing",
                            self.bounds.max_row_bytes
                        ));
                    }
                    let size = (self.out.len() * 2).min(self.bounds.max_row_bytes);
                    self.out.resize(size, 0);
                }
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => {
                    self.fields = ended;
                    self.number += 1;
                    return Ok(true);
                }
                ReadRecordResult::End => return Ok(false),
            }
        }
    }

    /// How many fields the record has.
    pub fn width(&self) -> usize {
        self.fields
    }

    pub fn field(&self, at: usize) -> Result<Cow<'_, str>, Fault> {
        let end = self.ends.get(at).copied().filter(|_| at < self.fields).unwrap_or(0);
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let bytes = self.out.get(start..end).unwrap_or_default();
        if bytes.len() > self.bounds.max_value_bytes {
            return Err(format!(
                "a value has {} bytes; at most {} are allowed ([sources] max_value_bytes)",
                bytes.len(),
                self.bounds.max_value_bytes
            ));
        }
        if self.latin1 {
            return Ok(bytes.iter().copied().map(char::from).collect::<String>().into());
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "the text is not UTF-8".to_owned())?;
        // The first field of a file may begin with a byte order mark.
        Ok(if self.number == 1 && at == 0 { text.trim_start_matches('\u{feff}') } else { text }.into())
    }
}
