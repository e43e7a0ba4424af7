//! Buffers lines and writes them together, because a system call costs more than formatting the line. Warnings and
//! errors are written immediately, with everything buffered before them; other lines follow a moment later.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line can stay in the buffer; a killed process loses at most that.
const WAIT: Duration = Duration::from_millis(20);
/// Bytes in the buffer that trigger an immediate write.
const FULL: usize = 64 * 1_024;

#[derive(Clone)]
pub struct Buffer(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    filled: Condvar,
}

struct State {
    lines: Vec<u8>,
    out: Box<dyn Write + Send>,
    /// The writer thread has stopped, so every line is written immediately.
    ended: bool,
}

impl State {
    fn write(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        // If the log cannot be written, there is no other place to report it.
        let _ = self.out.write_all(&self.lines).and_then(|()| self.out.flush());
        self.lines.clear();
    }
}

impl Buffer {
    /// Starts a thread that writes the buffered lines, until `end`.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Buffer> {
        let state = State { lines: Vec::new(), out: Box::new(out), ended: false };
        let buffer = Buffer(Arc::new(Shared { state: Mutex::new(state), filled: Condvar::new() }));
        let later = buffer.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || later.write_later())?;
        Ok(buffer)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_later(&self) {
        loop {
            let state = self.state();
            let waiting = |state: &mut State| state.lines.is_empty() && !state.ended;
            let state = self.0.filled.wait_while(state, waiting).unwrap_or_else(PoisonError::into_inner);
            let more = |state: &mut State| !state.ended;
            let waited = self.0.filled.wait_timeout_while(state, WAIT, more);
            let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if state.ended {
                return;
            }
            state.write();
        }
    }

    /// Writes the buffered lines. From now on each line is written immediately.
    pub fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.write();
        self.0.filled.notify_all();
    }

    fn add(&self, text: &[u8], at_once: bool) {
        let mut state = self.state();
        let first = state.lines.is_empty();
        state.lines.extend_from_slice(text);
        if at_once || state.ended || state.lines.len() >= FULL {
            state.write();
        } else if first {
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
        assert_eq!(written(), long);
        buffer.end();
        buffer.add(b"last\n", false);
        assert!((0..2).any(|_| written() == "last\n"), "written immediately after `end`");
    }
}
