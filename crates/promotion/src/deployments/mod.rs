//! Deployments: revisions are executed on the servers of an environment, one server at a time, and undone if one fails.
//!
//! `check` finds everything that is in the way, `start` starts a deployment or says what it would do, `plan` computes its
//! tasks, `execute` is the run, `unwind` undoes a failed one, also after a crash, `finish` writes the end with everything
//! that follows from it, `tasks` has the rows, `list` shows and approves, `scripts` takes servers out of service, `backup`
//! commits what was deployed, `drift` compares servers with it. Does not belong here: how a script changes a node (`apply`).

mod backup;
mod check;
pub mod drift;
mod execute;
mod finish;
mod list;
mod plan;
mod scripts;
mod secrets;
mod start;
mod tasks;
mod unwind;

use std::time::Duration;

use landreeve_core::{Category, PoolName};
use landreeve_estate::runs::KindSpec;

pub use check::{MASK, RevisionProblems, Validation};
pub use execute::Deployer;
pub use finish::{Closer, purge};
pub use list::{
    DeployedRevision, Deployment, DeploymentFilter, Listed, Progress, Shown, deployment_approve,
    deployment_cancel, deployment_delete, deployment_get, deployment_list, deployment_progress,
};
pub use start::{
    Failing, MAX_DESCRIPTION, MAX_REVISIONS, NewDeployment, ServerPlan, Started, deployment_start,
    revision_validate,
};
pub use tasks::{Named, Task, TaskState};

/// A hundred years: the record of a deployment is kept until it is deleted.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Its first attempt deploys; a later one only undoes what the first left behind. A deployment's id is its run's.
pub const DEPLOYMENT: KindSpec = KindSpec {
    pool: PoolName::LONG,
    cleans_up: true,
    // It ends with the server that it is working on, undoes, and takes servers into service again.
    grace: Duration::from_secs(1_800),
    keep_record: FOREVER,
    keep_data: FOREVER,
    ..KindSpec::new("deployment", Category::Deployment)
};

/// The state of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not ended: see `Shown` for what it does.
    InProgress,
    Ok,
    Warning,
    Error,
    Cancelled,
}

impl State {
    const ALL: [State; 5] = [State::InProgress, State::Ok, State::Warning, State::Error, State::Cancelled];

    pub const fn as_str(self) -> &'static str {
        match self {
            State::InProgress => "in_progress",
            State::Ok => "ok",
            State::Warning => "warning",
            State::Error => "error",
            State::Cancelled => "cancelled",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|known| known.as_str() == text)
    }

    pub const fn is_success(self) -> bool {
        matches!(self, State::Ok | State::Warning)
    }
}
