//! The node: claims runs, executes them, reports, cancels and recovers.
//!
//! A submission that finds a free worker claims its run in the transaction that inserts it, so that a short run costs
//! two commits. Everything else waits in the queue and is claimed when a worker is free; nobody polls.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::ids::{BoxFuture, RunId};
use landreeve_core::{Clock, Error, ErrorKind, IdKind, Ids, Result, RunKind, RunState, clock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::queue::{self, Lease, Submitter};
use super::record::{NewRun, Run, RunError};
use crate::store::Store;

/// How long a claim holds without a heartbeat, and how often the heart beats.
const LEASE: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How soon and how often what a run reports is written.
const FIRST_REPORT: Duration = Duration::from_millis(100);
const REPORT: Duration = Duration::from_millis(500);

/// What an executor gives back.
pub type Outcome = Result<Done, Failure>;

/// The end of a run that did its work.
#[derive(Debug, Clone, Default)]
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
}

impl Failure {
    pub fn new(kind: ErrorKind, code: impl Into<String>, message: impl Into<String>) -> Failure {
        let error = RunError { kind, code: code.into(), message: message.into(), detail: None };
        Failure { state: RunState::Failed, error }
    }

    pub fn cancelled() -> Failure {
        Failure { state: RunState::Cancelled, ..Failure::new(ErrorKind::Conflict, "cancelled", "cancelled") }
    }

    pub fn timed_out(limit: Duration) -> Failure {
        let message = format!("it took longer than its time limit of {} seconds", limit.as_secs());
        Failure { state: RunState::TimedOut, ..Failure::new(ErrorKind::Unavailable, "timed_out", message) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let message = match error.kind {
            // The cause of our own fault is for the log.
            ErrorKind::Internal => "the server failed; its log says why".to_owned(),
            _ => error.message.clone(),
        };
        if error.kind == ErrorKind::Internal {
            tracing::error!(cause = %error, "a run failed for a reason of ours");
        }
        Failure::new(error.kind, error.code, message)
    }
}

/// Does the work of one kind of run.
pub trait Executor: Send + Sync + 'static {
    /// Ends soon after `job.cancelled()`.
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome>;
}

/// A run in execution, as its executor sees it.
pub struct Job {
    pub run: Run,
    cancel: CancellationToken,
    progress: Mutex<Option<(u8, String)>>,
}

impl Job {
    /// Resolves when somebody asked the run to stop, its time is over, or the server stops.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    pub fn token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Per cent and a few words; written soon, not at once.
    pub fn report(&self, percent: u8, note: impl Into<String>) {
        *self.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some((percent.min(100), note.into()));
    }

    fn take_report(&self) -> Option<(u8, String)> {
        self.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}

/// What a process does for the estate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Executes whatever waits. `home` is a place in which only one process at a time can be a node, such as a locked
    /// data directory.
    Node { home: Option<String> },
    /// A command: it executes what it submits itself, leaves the rest to the nodes, and is gone soon.
    Command,
}

/// A place for a submission: its ids, and a worker if one is free.
#[derive(Clone)]
pub struct Ticket {
    pub id: RunId,
    pub uuid: Uuid,
    permit: Option<Arc<OwnedSemaphorePermit>>,
}

#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    store: Store,
    ids: Arc<dyn Ids>,
    clock: Arc<dyn Clock>,
    node: Node,
    workers: Arc<Semaphore>,
    /// Something in the queue may be able to start: a submission does not overtake it.
    behind: AtomicBool,
    executors: OnceLock<HashMap<RunKind, Arc<dyn Executor>>>,
    live: Mutex<HashMap<RunId, CancellationToken>>,
    tasks: Tasks,
}

struct Node {
    name: String,
    id: OnceLock<i64>,
}

struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    /// Set when draining took too long: what ends now was cut off, nobody asked for it.
    abandon: CancellationToken,
}

impl Engine {
    pub fn new(
        store: Store,
        ids: Arc<dyn Ids>,
        clock: Arc<dyn Clock>,
        workers: usize,
        node_name: String,
    ) -> Engine {
        Engine(Arc::new(Inner {
            store,
            ids,
            clock,
            node: Node { name: node_name, id: OnceLock::new() },
            workers: Arc::new(Semaphore::new(workers)),
            behind: AtomicBool::new(false),
            executors: OnceLock::new(),
            live: Mutex::new(HashMap::new()),
            tasks: Tasks {
                tracker: TaskTracker::new(),
                stop: CancellationToken::new(),
                abandon: CancellationToken::new(),
            },
        }))
    }

    /// Registers the node, recovers what a crash cut off, and begins to claim. Only what has an executor is claimed.
    pub async fn start(&self, executors: HashMap<RunKind, Arc<dyn Executor>>, role: Role) -> Result<()> {
        let (home, claims) = match role {
            Role::Node { home } => (home, true),
            Role::Command => (None, false),
        };
        let id = self.0.ids.next(IdKind("node")).await?;
        let (name, now) = (self.0.node.name.clone(), self.0.clock.now());
        let recovered = self
            .0
            .store
            .write(move |tx| {
                Box::pin(async move {
                    queue::register_node(tx, id, &name, home.as_deref(), now).await?;
                    if claims { queue::recover(tx, now).await } else { Ok(0) }
                })
            })
            .await?;
        if recovered > 0 {
            tracing::warn!(runs = recovered, "recovered runs that a stop cut off");
        }
        if self.0.node.id.set(id).is_err() || self.0.executors.set(executors).is_err() {
            return Err(Error::internal("the run engine was started twice"));
        }
        if claims {
            self.0.tasks.tracker.spawn(self.clone().claim_loop());
        }
        self.0.tasks.tracker.spawn(self.clone().heartbeat_loop());
        self.0.tasks.tracker.spawn(self.clone().cancel_loop());
        Ok(())
    }

    /// Lets executing runs end for as long as `grace`, then cancels them; they are recovered by the next start.
    pub async fn stop(&self, grace: Duration) {
        self.0.tasks.stop.cancel();
        self.0.tasks.tracker.close();
        if tokio::time::timeout(grace, self.0.tasks.tracker.wait()).await.is_err() {
            self.0.tasks.abandon.cancel();
            for token in self.live().values() {
                token.cancel();
            }
            let _ = tokio::time::timeout(Duration::from_secs(5), self.0.tasks.tracker.wait()).await;
        }
        if let Some(id) = self.0.node.id.get().copied() {
            let removed =
                self.0.store.write(move |tx| Box::pin(async move { queue::remove_node(tx, id).await })).await;
            if let Err(error) = removed {
                tracing::warn!(%error, "this node could not sign off");
            }
        }
    }

    pub fn node(&self) -> Option<i64> {
        self.0.node.id.get().copied()
    }

    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, CancellationToken>> {
        self.0.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn lease(&self, node: i64, now: Timestamp) -> Lease {
        let until = now.as_microsecond() + i64::try_from(LEASE.as_micros()).unwrap_or(i64::MAX);
        Lease { node, until: clock::from_micros(until) }
    }

    /// A place for one submission. It holds a free worker, if there is one, until it is launched or dropped.
    pub async fn ticket(&self, uuid: Uuid, kind: RunKind) -> Result<Ticket> {
        let id = RunId(self.0.ids.next(RunId::KIND).await?);
        let known = self.0.executors.get().is_some_and(|executors| executors.contains_key(&kind));
        let open = known && !self.0.tasks.stop.is_cancelled() && !self.0.behind.load(Ordering::SeqCst);
        let permit =
            if open { Arc::clone(&self.0.workers).try_acquire_owned().ok().map(Arc::new) } else { None };
        Ok(Ticket { id, uuid, permit })
    }

    /// Inserts the run inside the caller's transaction.
    pub async fn insert(
        &self,
        tx: &mut crate::store::Tx,
        ticket: &Ticket,
        new: &NewRun,
        submitter: &Submitter,
        now: Timestamp,
    ) -> Result<(Run, bool)> {
        let lease = match (&ticket.permit, self.node()) {
            (Some(_), Some(node)) => Some(self.lease(node, now)),
            _ => None,
        };
        queue::insert(tx, ticket.id, ticket.uuid, new, submitter, lease, now).await
    }

    /// Begins a run that its submission claimed. Call it once the transaction is durable.
    pub fn launch(&self, ticket: Ticket, run: &Run) {
        if run.state == RunState::Queued {
            self.0.behind.store(true, Ordering::SeqCst);
        }
        if let (Some(permit), RunState::Starting, true) = (ticket.permit, run.state, run.id == ticket.id) {
            self.spawn(run.clone(), permit);
        }
    }

    fn spawn(&self, run: Run, permit: Arc<OwnedSemaphorePermit>) {
        let engine = self.clone();
        let (id, cancel) = (run.id, CancellationToken::new());
        // Known before anybody can ask it to stop.
        self.live().insert(id, cancel.clone());
        self.0.tasks.tracker.spawn(async move {
            engine.execute(run, cancel).await;
            engine.live().remove(&id);
            drop(permit);
        });
    }

    async fn execute(&self, run: Run, cancel: CancellationToken) {
        let Some(executor) = self.0.executors.get().and_then(|executors| executors.get(&run.kind)).cloned()
        else {
            return;
        };
        metrics::counter!("landreeve_runs_started_total", "kind" => run.kind.as_str()).increment(1);
        let limit = run.time_limit;
        let job = Arc::new(Job { run, cancel, progress: Mutex::new(None) });
        // A task of its own, so that a panic in an executor ends the run and not the node.
        let work = {
            let job = Arc::clone(&job);
            tokio::spawn(async move { executor.execute(&job).await })
        };
        let outcome = self.watch(&job, work, limit).await;
        let cut_off = matches!(&outcome, Err(failure) if failure.state == RunState::Cancelled);
        if cut_off && self.0.tasks.abandon.is_cancelled() {
            // The next start finds the lease and decides by the kind: again, or ended with a reason.
            return;
        }
        self.finish(&job.run, outcome).await;
    }

    async fn watch(
        &self,
        job: &Job,
        work: tokio::task::JoinHandle<Outcome>,
        limit: Option<Duration>,
    ) -> Outcome {
        let mut work = work;
        let mut reports = tokio::time::interval(REPORT);
        reports.reset_after(FIRST_REPORT);
        let deadline = tokio::time::sleep(limit.unwrap_or(Duration::MAX / 4));
        tokio::pin!(deadline);
        let (mut late, mut first) = (false, true);
        loop {
            tokio::select! {
                ended = &mut work => {
                    return match ended {
                        Ok(Err(failure)) if late && failure.state == RunState::Cancelled => {
                            Err(Failure::timed_out(limit.unwrap_or_default()))
                        }
                        Ok(outcome) => outcome,
                        Err(error) => {
                            tracing::error!(run = job.run.id.0, %error, "an executor panicked");
                            Err(Failure::new(ErrorKind::Internal, "internal", "the server failed; its log says why"))
                        }
                    };
                }
                () = &mut deadline, if limit.is_some() && !late => {
                    late = true;
                    job.cancel.cancel();
                }
                _ = reports.tick() => {
                    let report = job.take_report();
                    if report.is_some() || first {
                        first = false;
                        self.report(&job.run, report.unwrap_or_default()).await;
                    }
                }
            }
        }
    }

    async fn report(&self, run: &Run, (percent, note): (u8, String)) {
        let (run, now) = (run.clone(), self.0.clock.now());
        let id = run.id;
        let written = self
            .0
            .store
            .write(move |tx| Box::pin(async move { queue::report(tx, &run, percent, &note, now).await }))
            .await;
        match written {
            // Whoever asked it to stop may have done so before it was known here.
            Ok(Some(RunState::Cancelling)) => self.cancel_live(id),
            Ok(_) => {}
            Err(error) => tracing::warn!(run = id.0, %error, "the progress of a run could not be written"),
        }
    }

    /// Writes the end. While the store is away (a full disk) it tries again: the lease keeps the run ours.
    ///
    /// An end that the store refuses (a text it cannot hold) becomes a failure: no run is left without an end.
    async fn finish(&self, run: &Run, outcome: Outcome) {
        let (mut state, mut outcome) = match outcome {
            Ok(done) => (RunState::Succeeded, Ok(done)),
            Err(failure) => (failure.state, Err(failure.error)),
        };
        metrics::counter!("landreeve_runs_finished_total", "kind" => run.kind.as_str(), "state" => state.as_str())
            .increment(1);
        loop {
            let (copy, end, now) = (run.clone(), outcome.clone(), self.0.clock.now());
            let written = self
                .0
                .store
                .write(move |tx| Box::pin(async move { queue::finish(tx, &copy, state, &end, now).await }))
                .await;
            match written {
                Ok(true) => return,
                Ok(false) => {
                    tracing::warn!(run = run.id.0, "a run ended here after another node had taken it over");
                    return;
                }
                Err(error) if error.kind == ErrorKind::Unavailable && !self.0.tasks.stop.is_cancelled() => {
                    tracing::warn!(run = run.id.0, %error, "the end of a run could not be written; trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error) => {
                    tracing::error!(run = run.id.0, %error, "the end of a run could not be written");
                    let failure = Failure::from(Error::internal("its end could not be written"));
                    if outcome.as_ref().is_err_and(|error| *error == failure.error) {
                        return;
                    }
                    (state, outcome) = (failure.state, Err(failure.error));
                }
            }
        }
    }

    /// Claims whenever a worker is free and something may start.
    async fn claim_loop(self) {
        let Some(executors) = self.0.executors.get() else { return };
        let kinds = executors.keys().fold(String::from(","), |text, kind| text + kind.as_str() + ",");
        loop {
            let permit = tokio::select! {
                () = self.0.tasks.stop.cancelled() => return,
                permit = Arc::clone(&self.0.workers).acquire_owned() => permit,
            };
            let Ok(permit) = permit else { return };
            self.0.behind.store(false, Ordering::SeqCst);
            match self.claim(&kinds).await {
                Ok(Some(run)) => {
                    self.0.behind.store(true, Ordering::SeqCst);
                    self.spawn(run, Arc::new(permit));
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "no run could be claimed"),
            }
            // The worker must be free for submissions while this loop waits.
            drop(permit);
            tokio::select! {
                () = self.0.tasks.stop.cancelled() => return,
                () = self.0.store.notices().queue() => {}
                // A notice may have been lost with the connection that brings them.
                () = tokio::time::sleep(LEASE) => {}
            }
        }
    }

    async fn claim(&self, kinds: &str) -> Result<Option<Run>> {
        let Some(node) = self.node() else { return Ok(None) };
        let (kinds, now) = (kinds.to_owned(), self.0.clock.now());
        let lease = self.lease(node, now);
        self.0
            .store
            .write(move |tx| Box::pin(async move { queue::claim(tx, &kinds, lease, now).await }))
            .await
    }

    async fn heartbeat_loop(self) {
        let Some(node) = self.node() else { return };
        loop {
            // Leases are kept until the last run has ended, also while the server drains.
            let draining = self.0.tasks.stop.is_cancelled();
            if draining && self.live().is_empty() {
                return;
            }
            let wait = if draining { Duration::from_millis(100) } else { HEARTBEAT };
            tokio::select! {
                () = self.0.tasks.stop.cancelled(), if !draining => continue,
                () = tokio::time::sleep(wait) => {}
            }
            let now = self.0.clock.now();
            let lease = self.lease(node, now);
            let beaten = self
                .0
                .store
                .write(move |tx| {
                    Box::pin(async move {
                        let cancelled = queue::heartbeat(tx, lease, now).await?;
                        queue::recover(tx, now).await?;
                        Ok(cancelled)
                    })
                })
                .await;
            match beaten {
                Ok(cancelled) => cancelled.into_iter().for_each(|id| self.cancel_live(id)),
                Err(error) => tracing::warn!(%error, "the heartbeat could not be written"),
            }
        }
    }

    /// Passes a cancel on as soon as it is durable, whichever node took the request.
    async fn cancel_loop(self) {
        let mut changes = self.0.store.notices().runs();
        loop {
            let changed = tokio::select! {
                () = self.0.tasks.stop.cancelled() => return,
                changed = changes.recv() => changed,
            };
            match changed {
                Ok(id) if self.live().contains_key(&id) => {
                    let found = async { queue::get(&mut self.0.store.read().await?, id).await };
                    if let Ok(Some(run)) = found.await
                        && run.state == RunState::Cancelling
                    {
                        self.cancel_live(id);
                    }
                }
                // The heartbeat finds what was missed.
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn cancel_live(&self, id: RunId) {
        if let Some(token) = self.live().get(&id) {
            token.cancel();
        }
    }
}
