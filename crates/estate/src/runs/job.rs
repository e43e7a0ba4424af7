//! An executing run, as its executor sees it, and what an executor returns.

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

/// What an executor returns.
pub type Outcome = Result<Done, Failure>;

/// The end of a run that succeeded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// JSON, described in the plane's `stored.rs`.
    pub output: Option<String>,
    /// A small result, stored in the run's row.
    pub result: Option<Vec<u8>>,
    /// The name of the blob with a large result.
    pub result_blob: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Failure {
    pub state: RunState,
    pub error: RunError,
    /// The failure is temporary: the run is retried if its kind has attempts left.
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

    /// Marks the failure as temporary, so that the run is retried.
    #[must_use]
    pub fn again(mut self) -> Failure {
        self.again = true;
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        if error.kind == ErrorKind::Internal {
            // The cause of an internal error belongs only in the log.
            tracing::error!(cause = %error, "run failed with an internal error");
            return Failure::internal();
        }
        Failure::new(error.kind, error.code, error.message)
    }
}

/// Does the work of one kind of run.
pub trait Executor: Send + Sync + 'static {
    /// Must end soon after `job.cancelled()`: after the grace of its kind, its task is aborted.
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome>;
}

/// Why a run has to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// A user cancelled it.
    Cancelled,
    /// It exceeded its time limit.
    TimedOut,
    /// This server is stopping. A run that is requeued finishes its work in the next attempt.
    Draining,
    /// Another attempt has taken over. The result of this one will be ignored.
    TakenAway,
}

/// Tells an executing run to stop.
#[derive(Debug)]
pub(super) struct Signal {
    token: CancellationToken,
    reason: AtomicU8,
    /// Its end has been written.
    ended: AtomicBool,
    pub on_drain: OnDrain,
    /// It cleans up after a cancelled attempt, and the same cancel must not stop it again.
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

    /// Keeps the first reason, except that a cancel replaces a drain.
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

/// An executing run, as its executor sees it.
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

    /// The submitter's authority, as it was when the run started.
    pub fn ctx(&self) -> &OpCtx {
        &self.ctx
    }

    /// Resolves when the run has to stop; `stop_reason` says why.
    pub async fn cancelled(&self) {
        self.signal.token().cancelled().await;
    }

    pub fn token(&self) -> CancellationToken {
        self.signal.token().clone()
    }

    pub fn stop_reason(&self) -> Option<StopReason> {
        self.signal.reason()
    }

    /// Whether an earlier attempt was interrupted, so that a kind that cleans up has to check what it left behind.
    /// `run.cancel_requested` says whether the run had been cancelled by then.
    pub fn is_cleanup(&self) -> bool {
        self.run.attempt > 1
    }

    /// Reports the progress in per cent, and a short note. Written within half a second.
    pub fn report(&self, percent: u8, note: impl Into<String>) {
        *self.progress() = Some((percent.min(100), note.into()));
    }

    pub(super) fn take_report(&self) -> Option<(u8, String)> {
        self.progress().take()
    }

    fn progress(&self) -> MutexGuard<'_, Option<(u8, String)>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line to the run's log, which is visible to everyone who can see the run.
    pub async fn log(&self, level: Level, text: impl Into<String>) {
        self.log.line(level, text.into()).await;
    }

    /// Runs blocking work on a separate thread. It must check the token often, because it cannot be aborted and the run
    /// keeps its place in its lane until the thread ends.
    pub async fn blocking<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(CancellationToken) -> T + Send + 'static,
    {
        let token = self.token();
        self.threads.spawn_blocking(move || work(token)).await.map_err(Error::internal)
    }

    /// Waits without occupying a worker, then takes a worker again. A run that has to stop in the meantime continues
    /// without one, because it only has to end.
    pub async fn park<T>(&self, wait: impl Future<Output = T>) -> T {
        let parked = self.pool.park();
        drop(self.take_place());
        let value = wait.await;
        let worker = tokio::select! {
            () = self.cancelled() => None,
            worker = self.pool.worker() => worker,
        };
        if let Some(worker) = worker {
            let place = self.pool.place(worker, Holder::of_run(&self.run));
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
        // Subscribe before the first read, so that an end in between is not missed.
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
            // The end of a child is announced as a change of its parent.
            let own = async { while changes.recv().await.is_ok_and(|changed| changed != self.run.id) {} };
            tokio::select! {
                () = self.cancelled() => return Ok(()),
                // Resolves even if some notices were missed.
                () = own => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn open_children(&self) -> Result<i64> {
        queue::open_children(&mut self.store.read().await?, self.run.id).await
    }
}

/// Checks again after this time, in case a notice was lost with its connection.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// The first pause after a failed read.
const FIRST_RETRY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_first_reason_to_stop_but_a_cancel_replaces_a_drain() {
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
    fn a_cleanup_is_not_stopped_by_the_cancel_before_it() {
        let signal = Signal::new(OnDrain::Requeue, true);
        signal.stop(StopReason::Cancelled);
        assert!(signal.reason().is_none() && !signal.token().is_cancelled());
        signal.stop(StopReason::Draining);
        assert_eq!(signal.reason(), Some(StopReason::Draining));
    }
}
