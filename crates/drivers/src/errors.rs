//! Builds `SourceError`s that users can act on. Belongs here: messages that all drivers share. Each driver interprets
//! its database's own codes.

use std::time::Duration;

use landreeve_core::source::{SourceError, SourceErrorKind};

pub(crate) fn connect(message: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Connect, message)
}

pub(crate) fn lost(message: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Lost, message)
}

pub(crate) fn unsupported(message: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Unsupported, message)
}

pub(crate) fn cancelled() -> SourceError {
    SourceError::new(SourceErrorKind::Cancelled, "the query was cancelled")
}

pub(crate) fn timed_out(limit: Duration) -> SourceError {
    SourceError::new(SourceErrorKind::TimedOut, format!("the query did not finish within {}", seconds(limit)))
}

/// A task ended without a result: it panicked, or the program is shutting down.
pub(crate) fn no_answer() -> SourceError {
    lost("the driver stopped before it returned a result")
}

pub(crate) fn wrong_target() -> SourceError {
    unsupported(
        "wrong kind of address for this database (SQLite needs a file path, the others a host and port)",
    )
}

/// "3 s", "1.5 s".
pub(crate) fn seconds(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// Joins an error with its causes; in client libraries the useful part is often the last one.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
