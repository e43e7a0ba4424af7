//! What a run is called and in which states it can be. The engine itself is `estate::runs`.

use crate::names::registered_name;

registered_name! {
    /// Everything that takes time is a run of some kind. Kinds are registered by the planes that execute them.
    RunKind
}

registered_name! {
    /// Workers of their own: a run of one pool never waits for those of another.
    PoolName
}

impl PoolName {
    /// Queries and refreshes: what somebody waits for.
    pub const SHORT: PoolName = PoolName::new("short");
    /// What may take hours.
    pub const LONG: PoolName = PoolName::new("long");
}

/// What a run of some kind does, in words that every face knows: one that shows all kinds derives its own from this, so
/// that a new kind appears there without a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Category {
    /// Asks a database and keeps what it answers.
    Query,
    /// Executes a pipeline.
    Job,
    /// Moves definitions from one environment to another.
    Deployment,
    Backup,
    Restore,
    /// Gathers what a person reads: metrics, compliance.
    Report,
    /// Upkeep of the estate.
    System,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunState {
    /// Not to be claimed yet: it waits for its time, or for somebody to release it.
    Held,
    Queued,
    /// Claimed by a node; the executor has not reported yet.
    Starting,
    Running,
    /// Asked to stop; the executor has not answered yet.
    Cancelling,
    Succeeded,
    Failed,
    Cancelled,
    TimedOut,
    /// Its node died and its kind is not retried.
    Lost,
    /// It succeeded, and its data has passed its retention.
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

    /// The edges of the state machine. A run moves along these and no others.
    pub const fn may_become(self, next: RunState) -> bool {
        use RunState::{
            Cancelled, Cancelling, Expired, Failed, Held, Lost, Queued, Running, Starting, Succeeded,
            TimedOut,
        };
        match self {
            // timed out: nobody released it before it expired
            Held => matches!(next, Queued | Cancelled | TimedOut),
            // cancelling: it was asked to stop before a crash, and is claimed again to clean up
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
