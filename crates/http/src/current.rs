//! The request that the current task serves, for log lines. A span of `tracing` is formatted, registered and freed for
//! every request; this is looked at only when a line is written.

use uuid::Uuid;

tokio::task_local! {
    static CURRENT: CurrentRequest;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentRequest {
    pub id: Uuid,
    /// Name of the face.
    pub face: &'static str,
}

impl CurrentRequest {
    /// `None` outside of requests, and in tasks that a request spawned.
    pub fn get() -> Option<CurrentRequest> {
        CURRENT.try_with(|current| *current).ok()
    }

    pub fn enter<R>(self, work: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self, work)
    }

    pub fn serve<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, work)
    }
}
