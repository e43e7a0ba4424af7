//! A run in execution, as its executor sees it, and what an executor gives back.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use landreeve_core::ids::BoxFuture;
use landreeve_core::{Clock, Error, ErrorKind, OpCtx, Result, RunState};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::kind::OnDrain;
use super::log::{Level, Log};
use super::pools::{Holder, Place, Pool};
use super::queue;
use super::record::{Run, RunError};
use crate::store::Store;

/// What an executor gives back.
pub type Outcome = Result<Done, Failure>;

/// The end of a run that did its work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// JSON, described in the plane's `stored.rs`.
    pub output: Option<String>,
    /// A small result, kept in the run's row.
    pub result: Option<Vec<u8>>,
    /// The name of the blob that holds a large one.
    pub result_blob: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Failure {
    pub state: RunState,
    pub error: RunError,
    /// What failed may come back: the run is tried again while its kind has attempts left.
    pub again: bool,
}

impl Failure {
    pub fn new(kind: ErrorKind, code: impl Into<String>, message: impl Into<String>) -> Failure {
        Failure { state: RunState::Failed, error: RunError::new(kind, code, message), again: false }
    }

    pub fn cancelled() -> Failure {
        Failure { state: RunState::Cancelled, ..Failure::new(ErrorKind::Conflict, "cancelled", "cancelled") }
    }

    pub fn timed_out(limit: Duration) -> Failure {
        let message = format!("it exceeded its time limit of {} seconds", limit.as_secs());
        Failure { state: RunState::TimedOut, ..Failure::new(ErrorKind::Unavailable, "timed_out", message) }
    }

    pub(super) fn lost(message: &str) -> Failure {
        Failure { state: RunState::Lost, ..Failure::new(ErrorKind::Unavailable, "did_not_stop", message) }
    }

    pub(super) fn internal() -> Failure {
        Failure::new(ErrorKind::Internal, "internal", "internal error; see the server log for the reason")
    }

    /// Worth another attempt.
    #[must_use]
    pub fn again(mut self) -> Failure {
        self.again = true;
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        if error.kind == ErrorKind::Internal {
            // The cause of our own fault is for the log.
            tracing::error!(cause = %error, "run failed with an internal error");
            return Failure::internal();
        }
        Failure::new(error.kind, error.code, error.message)
    }
}

/// Does the work of one kind of run.
pub trait Executor: Send + Sync + 'static {
    /// Ends soon after `job.cancelled()`: once the grace of its kind is over, its task is aborted.
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome>;
}

/// Why a run has to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// A user cancelled it.
    Cancelled,
    /// Its time limit is over.
    TimedOut,
    /// This server stops. What a kind that is requeued has not finished, its next attempt does.
    Draining,
    /// Another attempt has taken over: this one's result will be ignored.
    TakenAway,
}

/// Tells a run that executes here to stop.
#[derive(Debug)]
pub(super) struct Signal {
    token: CancellationToken,
    reason: AtomicU8,
    /// Its end has been written.
    ended: AtomicBool,
    pub on_drain: OnDrain,
    /// It cleans up after an attempt that was cancelled: the same cancel must not stop it.
    after_cancel: bool,
}

impl Signal {
    pub fn new(on_drain: OnDrain, after_cancel: bool) -> Signal {
        Signal {
            token: CancellationToken::new(),
            reason: AtomicU8::new(0),
            ended: AtomicBool::new(false),
            on_drain,
            after_cancel,
        }
    }

    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// The first reason stays, but for a cancel, which outranks a drain.
    pub fn stop(&self, reason: StopReason) {
        if self.after_cancel && reason == StopReason::Cancelled {
            return;
        }
        let code = reason as u8 + 1;
        let outranked = [0, StopReason::Draining as u8 + 1];
        let _ = self.reason.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |known| {
            (known == 0 || (outranked.contains(&known) && reason == StopReason::Cancelled)).then_some(code)
        });
        self.token.cancel();
    }

    pub fn reason(&self) -> Option<StopReason> {
        let all = [StopReason::Cancelled, StopReason::TimedOut, StopReason::Draining, StopReason::TakenAway];
        all.into_iter().find(|reason| *reason as u8 + 1 == self.reason.load(Ordering::SeqCst))
    }

    pub fn token(&self) -> &CancellationToken {
        &self.token
    }
}

/// A run in execution, as its executor sees it.
pub struct Job {
    pub run: Run,
    ctx: OpCtx,
    signal: Arc<Signal>,
    store: Store,
    progress: Mutex<Option<(u8, String)>>,
    place: Mutex<Option<Place>>,
    pool: Arc<Pool>,
    pub(super) threads: TaskTracker,
    pub(super) log: Log,
}

impl Job {
    pub(super) fn new(
        run: Run,
        ctx: OpCtx,
        signal: Arc<Signal>,
        store: Store,
        clock: Arc<dyn Clock>,
        place: Place,
    ) -> Job {
        let pool = Arc::clone(place.pool());
        let log = Log::new(store.clone(), run.id, clock);
        Job {
            run,
            ctx,
            signal,
            store,
            progress: Mutex::new(None),
            place: Mutex::new(Some(place)),
            pool,
            threads: TaskTracker::new(),
            log,
        }
    }

    /// On whose authority it works: the submitter's, as it was when the run started.
    pub fn ctx(&self) -> &OpCtx {
        &self.ctx
    }

    /// Resolves when the run is to stop; `stop_reason` says why.
    pub async fn cancelled(&self) {
        self.signal.token().cancelled().await;
    }

    pub fn token(&self) -> CancellationToken {
        self.signal.token().clone()
    }

    pub fn stop_reason(&self) -> Option<StopReason> {
        self.signal.reason()
    }

    /// An earlier attempt was cut off: a kind that cleans up looks at what it left. `run.cancel_requested` says whether
    /// the run had been cancelled by then.
    pub fn is_cleanup(&self) -> bool {
        self.run.attempt > 1
    }

    /// Per cent and a short note; written within half a second.
    pub fn report(&self, percent: u8, note: impl Into<String>) {
        *self.progress() = Some((percent.min(100), note.into()));
    }

    pub(super) fn take_report(&self) -> Option<(u8, String)> {
        self.progress().take()
    }

    fn progress(&self) -> MutexGuard<'_, Option<(u8, String)>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line to the run's log, which everyone who sees the run can follow.
    pub async fn log(&self, level: Level, text: impl Into<String>) {
        self.log.line(level, text.into()).await;
    }

    /// Work that blocks its thread, on a thread for such work. It must look at the token often: nothing can stop it, and
    /// while it lives the run keeps its place in its lane.
    pub async fn blocking<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(CancellationToken) -> T + Send + 'static,
    {
        let token = self.token();
        self.threads.spawn_blocking(move || work(token)).await.map_err(Error::internal)
    }

    /// Waits without occupying a worker, then takes a worker again. A run that has to stop meanwhile continues without
    /// one, because all it has left to do is end.
    pub async fn park<T>(&self, wait: impl Future<Output = T>) -> T {
        let parked = self.pool.park();
        drop(self.take_place());
        let value = wait.await;
        let worker = tokio::select! {
            () = self.cancelled() => None,
            worker = self.pool.worker() => worker,
        };
        if let Some(permit) = worker {
            let place = self.pool.place(permit, Holder::of_run(&self.run));
            *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
        }
        drop(parked);
        value
    }

    pub(super) fn take_place(&self) -> Option<Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits, parked, until every child of this run has ended, or the run has to stop.
    pub async fn children_ended(&self) -> Result<()> {
        self.park(self.await_children()).await
    }

    async fn await_children(&self) -> Result<()> {
        // Listening begins before the first look, so that an end between the two is not missed.
        let mut changes = self.store.notices().runs();
        let mut retry = FIRST_RETRY;
        loop {
            let wait = match self.open_children().await {
                Ok(0) => return Ok(()),
                Ok(_) => {
                    retry = FIRST_RETRY;
                    LOOK_AGAIN
                }
                // Do not fail hours of work because the store is briefly unavailable.
                Err(error) if error.kind == ErrorKind::Unavailable => {
                    tracing::warn!(run = self.run.id.0, %error, "could not read the children of a run; trying again");
                    let pause = retry;
                    retry = (retry * 2).min(LOOK_AGAIN);
                    pause
                }
                Err(error) => return Err(error),
            };
            // The end of a child is a change of its parent.
            let own = async { while changes.recv().await.is_ok_and(|changed| changed != self.run.id) {} };
            tokio::select! {
                () = self.cancelled() => return Ok(()),
                // Also when some notices were missed.
                () = own => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn open_children(&self) -> Result<i64> {
        queue::open_children(&mut self.store.read().await?, self.run.id).await
    }
}

/// A notice may have been lost with the connection that brings them.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// The first pause after a look that failed.
const FIRST_RETRY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_to_stop_stays_unless_somebody_cancels_a_draining_run() {
        use StopReason::{Cancelled, Draining, TakenAway, TimedOut};
        for (first, second, told) in [
            (Cancelled, TimedOut, Cancelled),
            (TimedOut, Cancelled, TimedOut),
            (Draining, Cancelled, Cancelled),
            (Draining, TimedOut, Draining),
            (TakenAway, Cancelled, TakenAway),
        ] {
            let signal = Signal::new(OnDrain::Finish, false);
            assert_eq!(signal.reason(), None);
            signal.stop(first);
            signal.stop(second);
            assert_eq!(signal.reason(), Some(told), "{first:?}, then {second:?}");
            assert!(signal.token().is_cancelled());
        }
    }

    #[test]
    fn the_cancel_that_a_cleanup_follows_does_not_stop_it() {
        let signal = Signal::new(OnDrain::Requeue, true);
        signal.stop(StopReason::Cancelled);
        assert!(signal.reason().is_none() && !signal.token().is_cancelled());
        signal.stop(StopReason::Draining);
        assert_eq!(signal.reason(), Some(StopReason::Draining));
    }
}
