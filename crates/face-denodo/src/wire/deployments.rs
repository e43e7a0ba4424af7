//! A run as a deployment with one task.

use jiff::Timestamp;
use landreeve_core::{PageOf, RunKind, RunState};
use landreeve_estate::ops::Run;
use serde::Serialize;
use utoipa::ToSchema;

use super::time::millis;
use crate::Options;

pub const OK: &str = "OK";
pub const ERROR: &str = "ERROR";
pub const IN_PROGRESS: &str = "IN_PROGRESS";

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentList {
    start: u64,
    count: u32,
    /// Number of deployments in this response.
    num_elements: usize,
    deployments: Vec<Deployment>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Deployment {
    id: i64,
    user: String,
    deployment_time: String,
    description: String,
    state: &'static str,
    /// Empty: a probe deploys nothing.
    revisions: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    deployment_id: i64,
    state: &'static str,
    /// Percent.
    progress: u8,
    tasks: Vec<Task>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Task {
    id: i64,
    name: &'static str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_date: Option<String>,
    deployment_execution_type: &'static str,
    output: String,
}

impl DeploymentList {
    pub fn new(runs: PageOf<Run>, options: &Options) -> DeploymentList {
        let (start, count) = (runs.offset, runs.limit);
        let deployments: Vec<_> = runs.items.into_iter().map(|run| Deployment::new(run, options)).collect();
        DeploymentList { start, count, num_elements: deployments.len(), deployments }
    }
}

impl Deployment {
    fn new(run: Run, options: &Options) -> Deployment {
        Deployment {
            id: run.id.0,
            user: run.actor_name,
            deployment_time: millis(run.submitted_at),
            description: run.kind.as_str().to_owned(),
            state: state(run.state, options.later_states),
            revisions: Vec::new(),
        }
    }
}

impl Progress {
    pub fn new(run: &Run, since: Option<Timestamp>, options: &Options) -> Progress {
        let task = since.is_none_or(|since| run.updated_at > since).then(|| Task::new(run, options));
        Progress {
            deployment_id: run.id.0,
            state: state(run.state, options.later_states),
            progress: if run.state.is_final() { 100 } else { run.progress.min(99) },
            tasks: task.into_iter().collect(),
        }
    }
}

impl Task {
    fn new(run: &Run, options: &Options) -> Task {
        let (name, kind) = words(run.kind);
        let said = run.error.as_ref().map_or(&run.progress_note, |error| &error.message);
        Task {
            id: run.id.0,
            name,
            state: state(run.state, options.later_states),
            start_date: run.started_at.map(millis),
            end_date: run.finished_at.map(millis),
            deployment_execution_type: kind,
            output: said.clone(),
        }
    }
}

/// The name of a task and its type.
fn words(kind: RunKind) -> (&'static str, &'static str) {
    match kind.as_str() {
        "probe" => ("Probe", "PROBE"),
        // Not shown in this dialect.
        _ => ("", ""),
    }
}

/// `later`: with the states that only later versions of the dialect have.
pub fn state(state: RunState, later: bool) -> &'static str {
    match state {
        RunState::Held if later => "PENDING",
        RunState::Queued if later => "QUEUED",
        RunState::Starting if later => "PENDING",
        RunState::Cancelled if later => "CANCELED",
        RunState::Held | RunState::Queued | RunState::Starting | RunState::Running | RunState::Cancelling => {
            IN_PROGRESS
        }
        RunState::Succeeded | RunState::Expired => OK,
        RunState::Failed | RunState::Cancelled | RunState::TimedOut | RunState::Lost => ERROR,
    }
}
