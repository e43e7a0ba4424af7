//! A run as it is kept.

use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::ids::{OuId, RunId};
use landreeve_core::{Error, ErrorKind, Noun, Result, RunKind, RunState};
use uuid::Uuid;

use crate::store::Row;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub id: RunId,
    pub uuid: Uuid,
    pub kind: RunKind,
    pub state: RunState,
    pub ou: OuId,
    pub ou_path: String,
    /// What it is about, where it is about one thing.
    pub noun: Option<(String, i64)>,
    /// JSON of the plane that submitted it; described in that plane's `stored.rs`.
    pub input: String,
    pub output: Option<String>,
    pub result_blob: Option<String>,
    pub has_small_result: bool,
    pub error: Option<RunError>,
    /// Per cent, 0 to 100.
    pub progress: u8,
    pub progress_note: String,
    pub actor_kind: String,
    pub actor_id: Option<i64>,
    pub actor_name: String,
    pub parent: Option<RunId>,
    pub attempt: i64,
    pub max_attempts: i64,
    pub time_limit: Option<Duration>,
    pub submitted_at: Timestamp,
    pub updated_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub keep_record: Duration,
    pub keep_data: Duration,
}

/// Why a run did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunError {
    pub kind: ErrorKind,
    pub code: String,
    pub message: String,
    /// JSON with more (a position, a database's code), where there is more.
    pub detail: Option<String>,
}

impl Run {
    /// A queued or executing run can be cancelled.
    pub fn is_cancellable(&self) -> bool {
        matches!(self.state, RunState::Queued | RunState::Starting | RunState::Running)
    }

    pub fn duration(&self, now: Timestamp) -> Option<Duration> {
        let start = self.started_at?;
        let end = self.finished_at.unwrap_or(now);
        Some(Duration::from_micros(
            end.as_microsecond().saturating_sub(start.as_microsecond()).unsigned_abs(),
        ))
    }

    /// Its data was there and has passed its retention, whether or not the purge has come by.
    pub fn data_expired(&self, now: Timestamp) -> bool {
        self.state == RunState::Expired
            || (self.state == RunState::Succeeded && passed(self.finished_at, self.keep_data, now))
    }

    pub fn record_expired(&self, now: Timestamp) -> bool {
        self.state.is_final() && passed(self.finished_at, self.keep_record, now)
    }
}

fn passed(from: Option<Timestamp>, keep: Duration, now: Timestamp) -> bool {
    from.is_some_and(|from| {
        let age = now.as_microsecond().saturating_sub(from.as_microsecond());
        i64::try_from(keep.as_micros()).is_ok_and(|keep| age >= keep)
    })
}

/// Runs of one lane wait for one another beyond the limit: a datasource's queries, for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    pub name: String,
    pub limit: u32,
}

#[derive(Debug, Clone)]
pub struct NewRun {
    pub kind: RunKind,
    pub ou: OuId,
    pub noun: Option<(Noun, i64)>,
    pub lane: Option<Lane>,
    pub input: String,
    pub parent: Option<RunId>,
    /// A second submission with the same key gives the first run.
    pub idempotency_key: Option<String>,
    /// More than one: it is tried again when its node dies.
    pub max_attempts: u32,
    pub time_limit: Option<Duration>,
    pub keep_record: Duration,
    pub keep_data: Duration,
}

impl NewRun {
    pub const DAY: Duration = Duration::from_secs(86_400);

    /// A run that is kept for thirty days and not retried.
    pub fn new(kind: RunKind, ou: OuId, input: impl Into<String>) -> NewRun {
        NewRun {
            kind,
            ou,
            noun: None,
            lane: None,
            input: input.into(),
            parent: None,
            idempotency_key: None,
            max_attempts: 1,
            time_limit: None,
            keep_record: NewRun::DAY * 30,
            keep_data: NewRun::DAY * 30,
        }
    }
}

/// The columns of a run, for a table `r` joined with its unit `o`.
#[macro_export]
macro_rules! run_columns {
    () => {
        "r.id, r.uuid, r.kind, r.state, r.ou_id, o.path, r.noun, r.noun_id, r.input, r.output, r.result_blob, \
         CASE WHEN r.result IS NULL THEN 0 ELSE 1 END, r.error_kind, r.error_code, r.error_message, r.error_detail, \
         r.progress, r.progress_note, r.actor_kind, r.actor_id, r.actor_name, r.parent_id, r.attempt, \
         r.max_attempts, r.time_limit, r.submitted_at, r.updated_at, r.started_at, r.finished_at, r.keep_record, \
         r.keep_data"
    };
}

fn micros(value: i64) -> Duration {
    Duration::from_micros(value.unsigned_abs())
}

pub(super) fn from_row(row: &Row) -> Result<Run> {
    let error = match row.text_opt(14)? {
        None => None,
        Some(message) => {
            let kind =
                row.text_opt(12)?.and_then(|kind| ErrorKind::parse(&kind)).unwrap_or(ErrorKind::Internal);
            let code = row.text_opt(13)?.unwrap_or_default();
            Some(RunError { kind, code, message, detail: row.text_opt(15)? })
        }
    };
    let noun = match (row.text_opt(6)?, row.int_opt(7)?) {
        (Some(noun), Some(id)) => Some((noun, id)),
        _ => None,
    };
    Ok(Run {
        id: row.id(0)?,
        uuid: row.uuid(1)?,
        kind: row.word(2, RunKind::parse)?,
        state: row.word(3, RunState::parse)?,
        ou: row.id(4)?,
        ou_path: row.text(5)?,
        noun,
        input: row.text(8)?,
        output: row.text_opt(9)?,
        result_blob: row.text_opt(10)?,
        has_small_result: row.flag(11)?,
        error,
        progress: u8::try_from(row.int(16)?).map_err(Error::internal)?,
        progress_note: row.text(17)?,
        actor_kind: row.text(18)?,
        actor_id: row.int_opt(19)?,
        actor_name: row.text(20)?,
        parent: row.id_opt(21)?,
        attempt: row.int(22)?,
        max_attempts: row.int(23)?,
        time_limit: row.int_opt(24)?.map(micros),
        submitted_at: row.time(25)?,
        updated_at: row.time(26)?,
        started_at: row.time_opt(27)?,
        finished_at: row.time_opt(28)?,
        keep_record: micros(row.int(29)?),
        keep_data: micros(row.int(30)?),
    })
}
