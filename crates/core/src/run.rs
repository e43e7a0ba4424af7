//! Kinds and states of runs. The engine itself is `estate::runs`.

use crate::names::registered_name;

registered_name! {
    /// Everything that takes time is a run of some kind. The planes that execute the kinds register them.
    RunKind
}

registered_name! {
    /// A pool has its own workers: a run in one pool never waits for runs in another.
    PoolName
}

impl PoolName {
    /// Queries and refreshes: a user is waiting for them.
    pub const SHORT: PoolName = PoolName::new("short");
    /// Runs that can take hours.
    pub const LONG: PoolName = PoolName::new("long");
}

/// What a kind of run does, in terms that every face knows. A face that shows all kinds derives its own terms from
/// this, so that a new kind appears there without a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Category {
    /// Queries a database and stores the result.
    Query,
    /// Executes a pipeline.
    Job,
    /// Moves definitions from one environment to another.
    Deployment,
    Backup,
    Restore,
    /// Collects data for people to read: metrics, compliance.
    Report,
    /// Maintenance of the estate.
    System,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunState {
    /// Cannot be claimed yet: it waits for its start time, or for a user to release it.
    Held,
    Queued,
    /// Claimed by a node; the executor has not reported yet.
    Starting,
    Running,
    /// Cancel was requested; the executor has not confirmed it yet.
    Cancelling,
    Succeeded,
    Failed,
    Cancelled,
    TimedOut,
    /// Its node died and its kind is not retried.
    Lost,
    /// It succeeded, and its data is past its retention.
    Expired,
}

impl RunState {
    pub const ALL: [RunState; 11] = [
        RunState::Held,
        RunState::Queued,
        RunState::Starting,
        RunState::Running,
        RunState::Cancelling,
        RunState::Succeeded,
        RunState::Failed,
        RunState::Cancelled,
        RunState::TimedOut,
        RunState::Lost,
        RunState::Expired,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            RunState::Held => "held",
            RunState::Queued => "queued",
            RunState::Starting => "starting",
            RunState::Running => "running",
            RunState::Cancelling => "cancelling",
            RunState::Succeeded => "succeeded",
            RunState::Failed => "failed",
            RunState::Cancelled => "cancelled",
            RunState::TimedOut => "timed_out",
            RunState::Lost => "lost",
            RunState::Expired => "expired",
        }
    }

    pub fn parse(text: &str) -> Option<RunState> {
        RunState::ALL.into_iter().find(|state| state.as_str() == text)
    }

    pub const fn is_final(self) -> bool {
        !matches!(
            self,
            RunState::Held | RunState::Queued | RunState::Starting | RunState::Running | RunState::Cancelling
        )
    }

    /// The transitions of the state machine. There are no others.
    pub const fn may_become(self, next: RunState) -> bool {
        use RunState::{
            Cancelled, Cancelling, Expired, Failed, Held, Lost, Queued, Running, Starting, Succeeded,
            TimedOut,
        };
        match self {
            // timed out: it expired before a user released it
            Held => matches!(next, Queued | Cancelled | TimedOut),
            // cancelling: cancel was requested before a crash, and the run is claimed again to clean up
            Queued => matches!(next, Starting | Cancelling | Cancelled | Failed),
            // back to queued: the node died or drained, and the kind is retried; held: it is retried later
            Starting | Running => matches!(
                next,
                Running | Cancelling | Queued | Held | Succeeded | Failed | Cancelled | TimedOut | Lost
            ),
            // back to queued: the node died, and the kind cleans up
            Cancelling => matches!(next, Queued | Succeeded | Failed | Cancelled | TimedOut | Lost),
            Succeeded => matches!(next, Expired),
            Failed | Cancelled | TimedOut | Lost | Expired => false,
        }
    }
}
