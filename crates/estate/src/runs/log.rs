//! The log of a run: lines with time, level and text, appended in batches and deleted with the run. A run that writes
//! none costs nothing.

use std::sync::{Arc, PoisonError};

use jiff::Timestamp;
use landreeve_core::ids::RunId;
use landreeve_core::{Clock, Result, clock};
use serde::{Deserialize, Serialize};

use crate::args;
use crate::store::{Conn, Store};

/// Maximum size of one run's log.
pub const MAX_BYTES: usize = 16 * 1_024 * 1_024;
/// A longer line is truncated and marked.
const MAX_LINE: usize = 64 * 1_024;
/// Bytes buffered in memory before a writer has to wait for the store.
const MAX_BUFFER: usize = 256 * 1_024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub at: Timestamp,
    pub level: Level,
    pub text: String,
}

/// A line as it is stored: a batch is one JSON array of these. Do not change the fixture below.
#[derive(Debug, Serialize, Deserialize)]
struct StoredLine(i64, Level, String);

pub(super) struct Log {
    store: Store,
    run: RunId,
    clock: Arc<dyn Clock>,
    buffer: std::sync::Mutex<Buffer>,
    /// Batches are written one at a time.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Buffer {
    lines: Vec<StoredLine>,
    waiting: usize,
    /// Bytes that the run has written so far, including those in the buffer.
    total: usize,
    full: bool,
}

impl Log {
    pub fn new(store: Store, run: RunId, clock: Arc<dyn Clock>) -> Log {
        Log {
            store,
            run,
            clock,
            buffer: std::sync::Mutex::new(Buffer::default()),
            writing: tokio::sync::Mutex::new(()),
        }
    }

    fn buffer(&self) -> std::sync::MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn line(&self, level: Level, text: String) {
        if self.take(level, cut(text)) {
            self.flush().await;
        }
    }

    /// Returns `true` if the buffer must be written before it takes more.
    fn take(&self, level: Level, text: String) -> bool {
        let now = self.clock.now().as_microsecond();
        let mut buffer = self.buffer();
        if buffer.full {
            return false;
        }
        let size = text.len() + 32;
        let line = if buffer.total + size > MAX_BYTES {
            buffer.full = true;
            let message = format!("the log is full at {MAX_BYTES} bytes; later lines were not stored");
            StoredLine(now, Level::Warn, message)
        } else {
            StoredLine(now, level, text)
        };
        buffer.total += size;
        buffer.waiting += size;
        buffer.lines.push(line);
        buffer.waiting > MAX_BUFFER
    }

    /// Writes the buffer. Lines that cannot be stored are lost, which is reported in the server's log.
    pub async fn flush(&self) {
        let _one = self.writing.lock().await;
        let (lines, bytes) = {
            let mut buffer = self.buffer();
            if buffer.lines.is_empty() {
                return;
            }
            buffer.waiting = 0;
            (std::mem::take(&mut buffer.lines), buffer.total)
        };
        let count = lines.len();
        if let Err(error) = self.write(lines, bytes).await {
            tracing::warn!(run = self.run.0, lines = count, %error, "could not store lines of a run's log");
        }
    }

    async fn write(&self, lines: Vec<StoredLine>, bytes: usize) -> Result<()> {
        let text = serde_json::to_string(&lines).map_err(landreeve_core::Error::internal)?;
        // PostgreSQL cannot hold the character U+0000.
        let text = text.replace("\\u0000", "\\ufffd");
        let (run, bytes) = (self.run, i64::try_from(bytes).unwrap_or(i64::MAX));
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    // An earlier attempt may have left batches.
                    tx.exec(
                        "INSERT INTO run_logs (run_id, batch, bytes, lines) SELECT $1, \
                         COALESCE((SELECT max(batch) FROM run_logs WHERE run_id = $1), 0) + 1, $2, $3",
                        args![run, bytes, text],
                    )
                    .await?;
                    tx.run_changed(run).await
                })
            })
            .await
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_LINE {
        let mut end = MAX_LINE;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(" … (cut)");
    }
    text
}

/// The lines after a batch, and the number of the last batch read. Reads up to `most` batches.
pub async fn read(conn: &mut Conn, run: RunId, after: i64, most: u32) -> Result<(Vec<Line>, i64)> {
    let rows = conn
        .all(
            "SELECT batch, lines FROM run_logs WHERE run_id = $1 AND batch > $2 ORDER BY batch LIMIT $3",
            args![run, after, most],
        )
        .await?;
    let (mut lines, mut last) = (Vec::new(), after);
    for row in &rows {
        last = row.int(0)?;
        let stored = row.json::<Vec<StoredLine>>(1)?;
        lines.extend(stored.into_iter().map(|StoredLine(at, level, text)| Line {
            at: clock::from_micros(at),
            level,
            text,
        }));
    }
    Ok((lines, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stored_lines() {
        let text = r#"[[1768478400500000,"warn","disk is nearly full"]]"#;
        let stored: Vec<StoredLine> = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&stored).unwrap(), text);
    }

    #[test]
    fn truncates_long_lines_between_characters() {
        let text = cut("ü".repeat(MAX_LINE));
        assert!(text.len() <= MAX_LINE + 16 && text.ends_with("ü … (cut)"));
        assert_eq!(cut("short".to_owned()), "short");
    }
}
