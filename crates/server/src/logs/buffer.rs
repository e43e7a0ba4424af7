//! Buffers lines and writes them together, because a system call costs more than formatting the line. Warnings and
//! errors are written immediately, with everything buffered before them; other lines follow a moment later.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line can stay in the buffer; a killed process loses at most that.
const WAIT: Duration = Duration::from_millis(20);
/// Bytes in the buffer that wake the thread before that.
const FULL: usize = 64 * 1_024;
/// Bytes in the buffer beyond which the thread that adds a line writes them itself.
const OVERFULL: usize = 1_024 * 1_024;

#[derive(Clone)]
pub struct Buffer(Arc<Shared>);

struct Shared {
    /// Locked before `lines`, and while writing: threads that add lines do not wait for it.
    out: Mutex<Out>,
    lines: Mutex<Lines>,
    filled: Condvar,
}

struct Out {
    file: Box<dyn Write + Send>,
    /// What is being written.
    lines: Vec<u8>,
}

struct Lines {
    text: Vec<u8>,
    /// The writer thread has stopped, so every line is written immediately.
    ended: bool,
}

impl Buffer {
    /// Starts a thread that writes the buffered lines, until `end`.
    pub fn start(file: impl Write + Send + 'static) -> io::Result<Buffer> {
        let out = Mutex::new(Out { file: Box::new(file), lines: Vec::new() });
        let lines = Mutex::new(Lines { text: Vec::new(), ended: false });
        let buffer = Buffer(Arc::new(Shared { out, lines, filled: Condvar::new() }));
        let later = buffer.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || later.write_later())?;
        Ok(buffer)
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) {
        let mut out = self.0.out.lock().unwrap_or_else(PoisonError::into_inner);
        let Out { file, lines } = &mut *out;
        std::mem::swap(lines, &mut self.lines().text);
        if !lines.is_empty() {
            // If the log cannot be written, there is no other place to report it.
            let _ = file.write_all(lines).and_then(|()| file.flush());
            lines.clear();
        }
    }

    fn write_later(&self) {
        loop {
            let waiting = |lines: &mut Lines| lines.text.is_empty() && !lines.ended;
            let lines =
                self.0.filled.wait_while(self.lines(), waiting).unwrap_or_else(PoisonError::into_inner);
            let more = |lines: &mut Lines| lines.text.len() < FULL && !lines.ended;
            let waited = self.0.filled.wait_timeout_while(lines, WAIT, more);
            let (lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if lines.ended {
                return;
            }
            drop(lines);
            self.write();
        }
    }

    /// Writes the buffered lines. From now on each line is written immediately.
    pub fn end(&self) {
        self.lines().ended = true;
        self.0.filled.notify_all();
        self.write();
    }

    fn add(&self, text: &[u8], at_once: bool) {
        let mut lines = self.lines();
        let before = lines.text.len();
        lines.text.extend_from_slice(text);
        let after = lines.text.len();
        let at_once = at_once || lines.ended || after >= OVERFULL;
        drop(lines);
        if at_once {
            self.write();
        } else if before == 0 || (before < FULL && after >= FULL) {
            self.0.filled.notify_one();
        }
    }
}

/// Receives one line.
pub struct Taker {
    buffer: Buffer,
    at_once: bool,
}

impl Write for Taker {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.buffer.add(text, self.at_once);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Buffer {
    type Writer = Taker;

    fn make_writer(&'a self) -> Taker {
        Taker { buffer: self.clone(), at_once: true }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Taker {
        Taker { buffer: self.clone(), at_once: *meta.level() <= Level::WARN }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Sends each write to the test.
    struct Writes(mpsc::Sender<String>);

    impl Write for Writes {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.send(String::from_utf8(text.to_vec()).unwrap()).unwrap();
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_keep_their_order_and_none_is_lost() {
        let (sender, writes) = mpsc::channel();
        let buffer = Buffer::start(Writes(sender)).unwrap();
        let written = || writes.recv_timeout(Duration::from_secs(10)).unwrap();
        buffer.add(b"one\n", false);
        assert_eq!(written(), "one\n", "written by the thread");
        buffer.add(b"two\n", false);
        buffer.add(b"three\n", true);
        let mut all = written();
        // The second line may have been written on its own before.
        if !all.ends_with("three\n") {
            all += &written();
        }
        assert_eq!(all, "two\nthree\n", "a warning flushes the lines before it");
        let long = "x".repeat(FULL);
        buffer.add(long.as_bytes(), false);
        assert_eq!(written(), long, "a full buffer does not wait");
        let longer = "x".repeat(OVERFULL);
        buffer.add(longer.as_bytes(), false);
        assert_eq!(written(), longer);
        buffer.end();
        buffer.add(b"last\n", false);
        assert!((0..2).any(|_| written() == "last\n"), "written immediately after `end`");
    }
}
