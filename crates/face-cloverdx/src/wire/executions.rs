//! A run as an execution.

use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::{PageOf, RunState};
use landreeve_estate::ops::Run;
use serde::Serialize;
use utoipa::ToSchema;

use super::link::Link;

#[derive(Debug, Serialize, ToSchema)]
pub struct ExecutionCollection {
    #[serde(rename = "@self")]
    link: String,
    #[serde(rename = "@type")]
    kind: &'static str,
    #[serde(rename = "@totalItems")]
    total_items: u64,
    #[serde(rename = "@startIndex")]
    start_index: u64,
    /// Number of executions in this response.
    #[serde(rename = "@pageItems")]
    page_items: usize,
    members: Vec<Execution>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Execution {
    #[serde(rename = "@self")]
    link: String,
    #[serde(rename = "@type")]
    kind: &'static str,
    run_id: i64,
    job_file: &'static str,
    job_type: String,
    /// `ENQUEUED`, `READY`, `RUNNING`, `FINISHED_OK`, `ERROR`, `ABORTED`, `TIMEOUT` or `UNKNOWN`.
    status: &'static str,
    submit_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_time: Option<String>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_string: Option<String>,
    username: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_error: Option<JobError>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct JobError {
    component_id: &'static str,
    message: String,
}

impl ExecutionCollection {
    pub fn new(runs: PageOf<Run>, link: &Link, now: Timestamp) -> ExecutionCollection {
        ExecutionCollection {
            link: link.executions(),
            kind: "ExecutionCollection",
            total_items: runs.total,
            start_index: runs.offset,
            page_items: runs.items.len(),
            members: runs.items.into_iter().map(|run| Execution::new(run, link, now)).collect(),
        }
    }
}

impl Execution {
    pub fn new(run: Run, link: &Link, now: Timestamp) -> Execution {
        let duration = run.duration(now);
        let name = run.kind.as_str();
        Execution {
            link: link.execution(run.id.0),
            kind: "Execution",
            run_id: run.id.0,
            job_file: name,
            job_type: name.to_uppercase(),
            status: status(run.state),
            submit_time: time(run.submitted_at),
            start_time: run.started_at.map(time),
            stop_time: run.finished_at.map(time),
            duration: duration.and_then(|duration| u64::try_from(duration.as_millis()).ok()),
            duration_string: duration.map(words),
            job_error: run
                .error
                .filter(|_| run.state != RunState::Cancelled)
                .map(|error| JobError { component_id: name, message: error.message }),
            username: run.actor_name,
        }
    }
}

/// ISO 8601 with milliseconds and the UTC offset.
fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3f+00:00").to_string()
}

/// `3m 11s`, `2h 0m 5s`, `362ms`.
fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) => format!("{}ms", duration.as_millis()),
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h {minutes}m {seconds}s"),
    }
}

pub fn status(state: RunState) -> &'static str {
    match state {
        RunState::Held | RunState::Queued => "ENQUEUED",
        RunState::Starting => "READY",
        RunState::Running | RunState::Cancelling => "RUNNING",
        RunState::Succeeded | RunState::Expired => "FINISHED_OK",
        RunState::Failed => "ERROR",
        RunState::Cancelled => "ABORTED",
        RunState::TimedOut => "TIMEOUT",
        RunState::Lost => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable() {
        let shown = [0, 362, 2_000, 191_362, 7_205_000].map(|millis| words(Duration::from_millis(millis)));
        assert_eq!(shown, ["0ms", "362ms", "2s", "3m 11s", "2h 0m 5s"]);
    }
}
