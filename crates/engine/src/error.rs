//! Translates DataFusion's errors to `SourceError`s.

use std::time::Duration;

use arrow_schema::ArrowError;
use datafusion::common::DataFusionError;
use landreeve_core::source::{SourceError, SourceErrorKind};

/// A table's error, passed through DataFusion.
#[derive(Debug)]
struct Carried(SourceError);

impl std::fmt::Display for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Carried {}

/// A table's error, for DataFusion.
pub fn carried(error: SourceError) -> DataFusionError {
    DataFusionError::External(Box::new(Carried(error)))
}

const OUT_OF_MEMORY: &str = "the statement needs more memory than it is allowed ([engine] memory_bytes, spill_bytes); \
     select fewer rows or columns, or group more coarsely";

const JOIN_TOO_LARGE: &str = "the smaller side of a join does not fit into the memory that the statement is allowed \
     ([engine] memory_bytes); filter it, or select fewer of its columns";

/// Whether a join asked for the memory: it keeps one of its sides.
fn of_join(message: &str) -> bool {
    let consumer = message.split("failed for ").nth(1).unwrap_or_default();
    ["HashJoinInput", "NestedLoopJoin", "CrossJoin"].iter().any(|join| consumer.starts_with(join))
}

pub fn translate(error: &DataFusionError) -> SourceError {
    let root = error.find_root();
    if let DataFusionError::External(inner) = root
        && let Some(Carried(carried)) = inner.downcast_ref::<Carried>()
    {
        return carried.clone();
    }
    let (code, message) = match root {
        DataFusionError::SQL(parse, _) => ("syntax_error", parse.to_string()),
        DataFusionError::ResourcesExhausted(what) if of_join(what) => {
            ("out_of_memory", JOIN_TOO_LARGE.to_owned())
        }
        DataFusionError::ResourcesExhausted(_) => ("out_of_memory", OUT_OF_MEMORY.to_owned()),
        DataFusionError::NotImplemented(what) => ("not_supported", what.clone()),
        DataFusionError::Plan(what) => ("invalid", what.clone()),
        DataFusionError::SchemaError(error, _) => ("invalid", error.to_string()),
        DataFusionError::Internal(what) => {
            tracing::error!(cause = %what, "the SQL engine failed");
            (
                "internal",
                "the SQL engine cannot execute this statement; see the server log for the reason".to_owned(),
            )
        }
        // Disk space is limited too, but the engine has no separate kind of error for it.
        other if other.to_string().contains("spilling") => ("out_of_memory", OUT_OF_MEMORY.to_owned()),
        DataFusionError::ArrowError(error, _) => ("execution", of_arrow(error)),
        other => ("execution", other.strip_backtrace()),
    };
    let message = short(&message);
    SourceError { code: Some(code.to_owned()), ..SourceError::new(SourceErrorKind::Query, message) }
}

/// The message without the library's name for its kind.
fn of_arrow(error: &ArrowError) -> String {
    match error {
        ArrowError::CastError(what)
        | ArrowError::ComputeError(what)
        | ArrowError::InvalidArgumentError(what)
        | ArrowError::ParseError(what) => what.clone(),
        ArrowError::ArithmeticOverflow(what) => {
            format!("arithmetic overflow: {}", what.trim_start_matches("Overflow happened on: "))
        }
        ArrowError::DivideByZero => "division by zero".to_owned(),
        other => other.to_string(),
    }
}

/// Shortens a message, because the engine's advice can be many lines long.
fn short(message: &str) -> String {
    const MAX_CHARS: usize = 600;
    let message = message.strip_prefix("External error: ").unwrap_or(message);
    let words: Vec<&str> = message.split_whitespace().collect();
    words
        .join(" ")
        .replace("landreeve.public.", "")
        .replace("landreeve.", "")
        .chars()
        .take(MAX_CHARS)
        .collect()
}

pub fn query(code: &str, message: impl Into<String>) -> SourceError {
    SourceError { code: Some(code.to_owned()), ..SourceError::new(SourceErrorKind::Query, message) }
}

pub fn not_read_only(message: &str) -> SourceError {
    SourceError::new(SourceErrorKind::NotReadOnly, message)
}

pub fn stopped() -> SourceError {
    SourceError::new(SourceErrorKind::Lost, "the SQL engine stopped before the statement finished")
}

pub fn cancelled() -> SourceError {
    SourceError::new(SourceErrorKind::Cancelled, "the statement was cancelled")
}

pub fn timed_out(limit: Duration) -> SourceError {
    let message = format!("the statement took longer than {} seconds", limit.as_secs());
    SourceError::new(SourceErrorKind::TimedOut, message)
}

pub fn busy() -> SourceError {
    let message = "timed out while waiting for other statements; try again later";
    // The code tells the caller that the statement itself was not too slow.
    SourceError { code: Some("busy".to_owned()), ..SourceError::new(SourceErrorKind::TimedOut, message) }
}

pub fn too_many_rows(most: u64) -> SourceError {
    query("too_many_rows", format!("the result has more than {most} rows; add conditions, GROUP BY or LIMIT"))
}
