//! The bytes of a file, piece by piece, from a position of our own: several scans can read one open file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

pub struct Input {
    file: Arc<File>,
    position: u64,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

const PIECE: usize = 64 * 1_024;

impl Input {
    pub fn new(file: Arc<File>) -> Input {
        Input { file, position: 0, buffer: vec![0; PIECE], start: 0, end: 0 }
    }

    /// What is read and not consumed yet; more is read if that is nothing. Empty at the end of the file.
    pub fn fill(&mut self) -> Result<&[u8], String> {
        if self.start == self.end {
            self.start = 0;
            self.end = self.read_at()?;
            self.position += self.end as u64;
        }
        Ok(self.buffer.get(self.start..self.end).unwrap_or_default())
    }

    fn read_at(&mut self) -> Result<usize, String> {
        loop {
            match self.file.read_at(&mut self.buffer, self.position) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map_err(|error| format!("cannot be read: {error}")),
            }
        }
    }

    pub fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }
}

impl io::Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let found = self.fill().map_err(io::Error::other)?;
        let count = found.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..count), found.get(..count)) {
            to.copy_from_slice(from);
        }
        self.consume(count);
        Ok(count)
    }
}
