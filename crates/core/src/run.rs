//! What a run is called and in which states it can be. The engine itself is `estate::runs`.

/// Everything that takes time is a run of some kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunKind {
    /// Waits, reports progress, may be told to fail: proves the engine, stays in the product.
    Probe,
    /// A SQL query against a datasource.
    Query,
    /// Reads a datasource's schema.
    SchemaRefresh,
    /// Makes the built-in sample source.
    SampleData,
    /// Removes what is past its retention.
    Purge,
    /// A SQL query over the server's own delivery data.
    DataQuery,
    /// Tries again to find what deployments brought.
    Attribution,
    /// Takes in a hierarchy of teams.
    TeamImport,
}

impl RunKind {
    pub const ALL: [RunKind; 8] = [
        RunKind::Probe,
        RunKind::Query,
        RunKind::SchemaRefresh,
        RunKind::SampleData,
        RunKind::Purge,
        RunKind::DataQuery,
        RunKind::Attribution,
        RunKind::TeamImport,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            RunKind::Probe => "probe",
            RunKind::Query => "query",
            RunKind::SchemaRefresh => "schema_refresh",
            RunKind::SampleData => "sample_data",
            RunKind::Purge => "purge",
            RunKind::DataQuery => "data_query",
            RunKind::Attribution => "attribution",
            RunKind::TeamImport => "team_import",
        }
    }

    pub fn parse(text: &str) -> Option<RunKind> {
        RunKind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunState {
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
    pub const ALL: [RunState; 10] = [
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
        !matches!(self, RunState::Queued | RunState::Starting | RunState::Running | RunState::Cancelling)
    }

    /// The edges of the state machine. A run moves along these and no others.
    pub const fn may_become(self, next: RunState) -> bool {
        use RunState::{
            Cancelled, Cancelling, Expired, Failed, Lost, Queued, Running, Starting, Succeeded, TimedOut,
        };
        match self {
            Queued => matches!(next, Starting | Cancelled | Failed),
            // back to queued: the node died before or while it ran, and the kind is retried
            Starting | Running => matches!(
                next,
                Running | Cancelling | Queued | Succeeded | Failed | Cancelled | TimedOut | Lost
            ),
            Cancelling => matches!(next, Succeeded | Failed | Cancelled | TimedOut | Lost),
            Succeeded => matches!(next, Expired),
            Failed | Cancelled | TimedOut | Lost | Expired => false,
        }
    }
}
