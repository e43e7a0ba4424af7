//! Builds `SourceError`s that users can act on. Belongs here: messages that all drivers share. Each driver interprets
//! its database's own codes.

use std::time::Duration;

use landreeve_core::source::{SourceError, SourceErrorKind};

use crate::Bounds;

pub(crate) fn connect(message: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Connect, message)
}

pub(crate) fn lost(message: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Lost, message)
}

pub(crate) fn unsupported(message: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Unsupported, message)
}

/// The code of an error about a value or a row that is too large.
const TOO_LARGE: &str = "too_large";

fn too_large(message: String) -> SourceError {
    SourceError { code: Some(TOO_LARGE.to_owned()), ..SourceError::new(SourceErrorKind::Query, message) }
}

/// Whether the driver gave the statement up because of this error, while the database still sends rows.
pub(crate) fn is_too_large(error: &SourceError) -> bool {
    error.code.as_deref() == Some(TOO_LARGE)
}

/// Whether it is the row that is too large, whatever is in it.
pub(crate) fn is_row_too_large(error: &SourceError) -> bool {
    is_too_large(error) && error.message.starts_with("a row has")
}

pub(crate) fn value_too_large(column: &str, bytes: usize, bounds: Bounds) -> SourceError {
    too_large(format!(
        "a value of the column \"{column}\" has {bytes} bytes; at most {} are allowed ([sources] max_value_bytes); \
         select a part of it",
        bounds.max_value_bytes
    ))
}

/// The same in a backup, which has a limit of its own and cannot select a part.
pub(crate) fn value_too_large_for_backup(column: &str, bytes: usize, bounds: Bounds) -> SourceError {
    too_large(format!(
        "a value of the column \"{column}\" has {bytes} bytes; at most {} are allowed ([protection] max_value_bytes)",
        bounds.max_value_bytes
    ))
}

/// `bytes` if they are known.
pub(crate) fn row_too_large(bytes: Option<usize>, bounds: Bounds) -> SourceError {
    let most = bounds.max_row_bytes;
    too_large(match bytes {
        Some(bytes) => format!(
            "a row has {bytes} bytes; at most {most} are allowed ([sources] max_row_bytes); select fewer columns, or parts of \
             long values"
        ),
        None => format!(
            "a row has more than {most} bytes, which is the most that is allowed ([sources] max_row_bytes); select fewer \
             columns, or parts of long values"
        ),
    })
}

pub(crate) fn row_too_large_for_backup(bounds: Bounds) -> SourceError {
    too_large(format!(
        "a row has more than {} bytes, twice what one value may have ([protection] max_value_bytes)",
        bounds.max_row_bytes
    ))
}

/// An error that quotes a value, for example.
pub(crate) fn message_too_large(bytes: usize) -> SourceError {
    too_large(format!(
        "the database sent a message of {bytes} bytes, which is too long; it is probably an error"
    ))
}

/// The longest text of a database's error that is passed on.
const LONGEST_MESSAGE: usize = 8 * 1024;

/// A database's own words. They may quote a value of any size.
pub(crate) fn words(text: &str) -> String {
    if text.len() <= LONGEST_MESSAGE {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(LONGEST_MESSAGE);
    format!("{} … ({} bytes)", text.get(..end).unwrap_or_default(), text.len())
}

/// SQLite does not say which value is too large: it refuses to make it. The limit depends on the statement.
pub(crate) fn sqlite_too_large(most: usize) -> SourceError {
    let message = format!(
        "a value or a row of the statement would be larger than {most} bytes, which is the most for a value of \
         this statement ([sources] max_value_bytes, max_row_bytes); select fewer columns, or a part of it"
    );
    SourceError { code: Some("SQLITE_TOOBIG".to_owned()), ..too_large(message) }
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
