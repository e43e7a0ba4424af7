//! JSON objects, one after the other: the elements of an array, or one a line. Each is parsed by itself, within a bound on
//! its size.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::delimited::Fault;
use super::input::Input;
use crate::Bounds;

pub struct Objects {
    input: Input,
    bounds: Bounds,
    object: Vec<u8>,
    /// Of the current object, starting at 1.
    pub number: u64,
    /// Inside an array.
    array: bool,
    ended: bool,
}

/// The members of an object, as JSON.
pub type Members<'a> = HashMap<String, &'a RawValue>;

impl Objects {
    pub fn new(input: Input, bounds: Bounds) -> Objects {
        Objects { input, bounds, object: Vec::new(), number: 0, array: false, ended: false }
    }

    /// Reads the next object; `false` at the end.
    pub fn next(&mut self) -> Result<bool, Fault> {
        if !self.find()? {
            return Ok(false);
        }
        self.number += 1;
        self.object.clear();
        let (mut depth, mut text, mut escaped) = (0_usize, false, false);
        loop {
            let found = self.input.fill()?;
            if found.is_empty() {
                return Err("the file ends inside an object".to_owned());
            }
            let mut taken = 0;
            let mut whole = false;
            for byte in found {
                taken += 1;
                match (*byte, text) {
                    (_, true) if escaped => escaped = false,
                    (b'\\', true) => escaped = true,
                    (b'"', _) => text = !text,
                    (b'{', false) => depth += 1,
                    (b'}', false) => {
                        depth -= 1;
                        whole = depth == 0;
                    }
                    _ => {}
                }
                if whole {
                    break;
                }
            }
            self.object.extend_from_slice(found.get(..taken).unwrap_or_default());
            self.input.consume(taken);
            if self.object.len() > self.bounds.max_row_bytes {
                return Err(format!(
                    "an object has more than {} bytes ([sources] max_row_bytes)",
                    self.bounds.max_row_bytes
                ));
            }
            if whole {
                return Ok(true);
            }
        }
    }

    /// Moves to the beginning of the next object; `false` if there is none.
    fn find(&mut self) -> Result<bool, Fault> {
        loop {
            let Some(&byte) = self.input.fill()?.first() else {
                return if self.array && !self.ended {
                    Err("the array does not end".to_owned())
                } else {
                    Ok(false)
                };
            };
            let first = self.number == 0 && !self.array;
            match byte {
                b'{' if !self.ended => return Ok(true),
                b'[' if first && !self.ended => self.array = true,
                b',' if self.array && self.number > 0 && !self.ended => {}
                b']' if self.array && !self.ended => self.ended = true,
                b' ' | b'\t' | b'\r' | b'\n' => {}
                // A byte order mark.
                0xef | 0xbb | 0xbf if first => {}
                _ => return Err("it is neither an array of objects nor one object a line".to_owned()),
            }
            self.input.consume(1);
        }
    }

    pub fn members(&self) -> Result<Members<'_>, Fault> {
        serde_json::from_slice(&self.object).map_err(|error| format!("it is no JSON object: {error}"))
    }
}
