//! Runs one statement on a blocking thread.

use std::sync::Arc;

use arrow_array::RecordBatch;
use landreeve_core::source::{Query, SourceError, SourceErrorKind};
use rusqlite::Connection;
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;

use super::open::error;
use super::values::Columns;
use crate::feed::Feed;
use crate::{Bounds, errors, gate};

fn size_of(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len() + 8,
        _ => 8,
    }
}

pub(super) fn pump(
    connection: &Connection,
    query: &Query,
    bounds: Bounds,
    feed: &mut Feed,
    mut send: impl FnMut(&Feed, RecordBatch) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    let checked = gate::check(&query.sql, landreeve_core::datasource::SqlDialect::Sqlite)?;
    let most = limit_values(connection, checked.text, bounds).map_err(|failure| error(&failure, None))?;
    let failed = |failure: rusqlite::Error| match failure.sqlite_error_code() {
        Some(rusqlite::ErrorCode::TooBig) => errors::sqlite_too_large(most),
        _ => error(&failure, Some(checked.text)),
    };
    let mut statement = connection.prepare(checked.text).map_err(failed)?;
    if !statement.readonly() {
        return Err(SourceError::new(
            SourceErrorKind::NotReadOnly,
            "the statement writes; only reading is allowed",
        ));
    }
    if statement.parameter_count() > 0 {
        return Err(errors::unsupported(
            "the statement has placeholders such as ?, but no values were given for them",
        ));
    }
    let mut columns = Columns::new(&statement);
    let width = columns.width();
    let mut rows = statement.query([]).map_err(failed)?;
    let mut schema = None;
    let (mut count, mut bytes) = (0_usize, 0_usize);
    loop {
        let row = rows.next().map_err(failed)?;
        if let Some(row) = row {
            let before = bytes;
            for index in 0..width {
                let value = row.get_ref(index).map_err(failed)?;
                bytes += size_of(value);
                if bytes - before > bounds.max_row_bytes {
                    return Err(errors::row_too_large(None, bounds));
                }
                columns.append(index, value)?;
            }
            count += 1;
            if count < query.batch_rows.max(1) && bytes < query.batch_bytes {
                continue;
            }
        }
        // The types of columns without a declared type are known now.
        let arrays = columns.finish()?;
        let known = match &schema {
            Some(known) => Arc::clone(known),
            None => {
                let first = columns.schema();
                feed.schema(first.clone());
                schema.insert(first).clone()
            }
        };
        if count > 0 {
            let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(count));
            let batch = RecordBatch::try_new_with_options(known, arrays, &options)
                .map_err(|failure| errors::lost(failure.to_string()))?;
            send(feed, batch)?;
        }
        (count, bytes) = (0, 0);
        if row_ended(&rows) {
            return Ok(());
        }
    }
}

/// Instructions of SQLite's programs that can put a large value into a register.
const LARGE: [&str; 14] = [
    "AggFinal",
    "AggInverse",
    "AggStep",
    "AggStep1",
    "AggValue",
    "Blob",
    "Cast",
    "Column",
    "Concat",
    "Copy",
    "Function",
    "MakeRecord",
    "PureFunc",
    "VColumn",
];

/// SQLite limits a value, not a statement, which can have thousands of values at one time. So the limit of each is a share
/// of what the statement may use. Returns the limit in bytes.
fn limit_values(connection: &Connection, sql: &str, bounds: Bounds) -> rusqlite::Result<usize> {
    let mut places = 0_usize;
    // A statement that cannot be explained is wrong, or is itself an EXPLAIN.
    if let Ok(mut program) = connection.prepare(&format!("EXPLAIN {sql}"))
        && let Ok(mut instructions) = program.query([])
    {
        while let Ok(Some(instruction)) = instructions.next() {
            let name = instruction.get_ref(1)?;
            places += usize::from(name.as_str().is_ok_and(|name| LARGE.contains(&name)));
        }
    }
    let together = bounds.max_row_bytes.saturating_mul(3);
    let most = (together / places.max(1)).clamp(MIN_BYTES, bounds.max_value_bytes.max(MIN_BYTES));
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, i32::try_from(most).unwrap_or(i32::MAX))?;
    Ok(most)
}

/// Values up to this size are always allowed.
const MIN_BYTES: usize = 64 * 1_024;

/// `Rows` releases its statement after the last row.
fn row_ended(rows: &rusqlite::Rows<'_>) -> bool {
    rows.as_ref().is_none()
}
