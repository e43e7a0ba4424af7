//! A run as it is stored.

use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::ids::{OuId, RunId};
use landreeve_core::{Error, ErrorKind, Noun, PoolName, Result, RunKind, RunState};
use uuid::Uuid;

use super::kind::KindSpec;
use crate::store::Row;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub id: RunId,
    pub uuid: Uuid,
    pub kind: RunKind,
    pub state: RunState,
    pub ou: OuId,
    pub ou_path: String,
    /// The resource that it is about, if it is about a single one.
    pub noun: Option<(String, i64)>,
    /// JSON from the plane that submitted it, described in that plane's `stored.rs`.
    pub input: String,
    pub output: Option<String>,
    pub result_blob: Option<String>,
    pub has_small_result: bool,
    pub error: Option<RunError>,
    /// Per cent, 0 to 100.
    pub progress: u8,
    pub progress_note: String,
    pub pool: PoolName,
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
    /// A cancel was requested. After a crash the run is still claimed again if its kind cleans up.
    pub cancel_requested: bool,
}

/// Why a run did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunError {
    pub kind: ErrorKind,
    pub code: String,
    pub message: String,
    /// The database's own error code, if any.
    pub source_code: Option<String>,
    /// The position in the statement, in characters from 1.
    pub position: Option<u32>,
}

impl RunError {
    pub fn new(kind: ErrorKind, code: impl Into<String>, message: impl Into<String>) -> RunError {
        RunError { kind, code: code.into(), message: message.into(), source_code: None, position: None }
    }
}

impl Run {
    /// A run that waits or executes can be cancelled.
    pub fn is_cancellable(&self) -> bool {
        matches!(self.state, RunState::Held | RunState::Queued | RunState::Starting | RunState::Running)
    }

    pub fn noun_id(&self) -> Option<i64> {
        self.noun.as_ref().map(|(_, id)| *id)
    }

    /// The submitter as it is stored: `user:3`, `operator`.
    pub fn submitter(&self) -> String {
        match self.actor_id {
            Some(id) => format!("{}:{id}", self.actor_kind),
            None => self.actor_kind.clone(),
        }
    }

    pub fn duration(&self, now: Timestamp) -> Option<Duration> {
        let start = self.started_at?;
        let end = self.finished_at.unwrap_or(now);
        Some(Duration::from_micros(
            end.as_microsecond().saturating_sub(start.as_microsecond()).unsigned_abs(),
        ))
    }

    /// Whether it had data that is past its retention, even if it has not been purged yet.
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

/// Limits how many runs execute at the same time, for example the queries on one datasource. The others wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    pub name: String,
    pub limit: u32,
}

#[derive(Debug, Clone)]
pub struct NewRun {
    pub kind: RunKind,
    pub pool: PoolName,
    pub ou: OuId,
    pub noun: Option<(Noun, i64)>,
    pub lane: Option<Lane>,
    pub input: String,
    pub parent: Option<RunId>,
    /// Held until then.
    pub not_before: Option<Timestamp>,
    /// Held until it is released, or ended *timed out* at this time.
    pub hold_until: Option<Timestamp>,
    /// A second submission of the same kind by the same submitter with the same key returns the first run.
    pub idempotency_key: Option<String>,
    /// If more than one, it is retried when its node dies.
    pub max_attempts: u32,
    pub time_limit: Option<Duration>,
    pub keep_record: Duration,
    pub keep_data: Duration,
}

impl NewRun {
    /// A run with the limits, retries and retention of its kind.
    pub fn new(kind: &KindSpec, ou: OuId, input: impl Into<String>) -> NewRun {
        NewRun {
            kind: kind.kind,
            pool: kind.pool,
            ou,
            noun: None,
            lane: None,
            input: input.into(),
            parent: None,
            not_before: None,
            hold_until: None,
            idempotency_key: None,
            max_attempts: kind.retry.attempts,
            time_limit: kind.time_limit,
            keep_record: kind.keep_record,
            keep_data: kind.keep_data,
        }
    }
}

/// The columns of a run, for a statement on the table `runs`, including those with `RETURNING`.
#[macro_export]
macro_rules! run_columns {
    () => {
        "runs.id, runs.uuid, runs.kind, runs.state, runs.ou_id, (SELECT o.path FROM ous o WHERE o.id = runs.ou_id), \
         runs.noun, runs.noun_id, runs.input, runs.output, runs.result_blob, \
         CASE WHEN runs.result IS NULL THEN 0 ELSE 1 END, runs.error_kind, runs.error_code, runs.error_message, \
         runs.error_source_code, runs.error_position, runs.progress, runs.progress_note, runs.pool, runs.actor_kind, \
         runs.actor_id, runs.actor_name, runs.parent_id, runs.attempt, runs.max_attempts, runs.time_limit, \
         runs.submitted_at, runs.updated_at, runs.started_at, runs.finished_at, runs.keep_record, runs.keep_data, \
         runs.cancel_requested"
    };
}

fn micros(value: i64) -> Duration {
    Duration::from_micros(value.unsigned_abs())
}

pub(super) fn from_row(row: &Row) -> Result<Run> {
    let error = match row.text_opt(14)? {
        None => None,
        Some(message) => Some(RunError {
            kind: row.text_opt(12)?.and_then(|kind| ErrorKind::parse(&kind)).unwrap_or(ErrorKind::Internal),
            code: row.text_opt(13)?.unwrap_or_default(),
            message,
            source_code: row.text_opt(15)?,
            position: row.int_opt(16)?.and_then(|position| u32::try_from(position).ok()),
        }),
    };
    let noun = match (row.text_opt(6)?, row.int_opt(7)?) {
        (Some(noun), Some(id)) => Some((noun, id)),
        _ => None,
    };
    Ok(Run {
        id: row.id(0)?,
        uuid: row.uuid(1)?,
        kind: RunKind::stored(&row.text(2)?),
        state: row.word(3, RunState::parse)?,
        ou: row.id(4)?,
        ou_path: row.text(5)?,
        noun,
        input: row.text(8)?,
        output: row.text_opt(9)?,
        result_blob: row.text_opt(10)?,
        has_small_result: row.flag(11)?,
        error,
        progress: u8::try_from(row.int(17)?).map_err(Error::internal)?,
        progress_note: row.text(18)?,
        pool: PoolName::stored(&row.text(19)?),
        actor_kind: row.text(20)?,
        actor_id: row.int_opt(21)?,
        actor_name: row.text(22)?,
        parent: row.id_opt(23)?,
        attempt: row.int(24)?,
        max_attempts: row.int(25)?,
        time_limit: row.int_opt(26)?.map(micros),
        submitted_at: row.time(27)?,
        updated_at: row.time(28)?,
        started_at: row.time_opt(29)?,
        finished_at: row.time_opt(30)?,
        keep_record: micros(row.int(31)?),
        keep_data: micros(row.int(32)?),
        cancel_requested: row.flag(33)?,
    })
}
