//! The node: claims runs, renews their leases, forwards cancels, and recovers the runs of other nodes that died.
//!
//! If a worker is free, a submission claims its run in the transaction that inserts it, so that a short run costs two
//! commits. Everything else waits in the queue and is claimed when a worker of its pool is free, without polling.
//! `execute` executes one run.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use landreeve_core::ids::{BoxFuture, RunId};
use landreeve_core::{Clock, Error, IdKind, Ids, OpCtx, PoolName, Result, RunKind, RunState};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::claim::{self, Family, Wanted};
use super::job::{Executor, Signal, StopReason};
use super::kind::{KindSpec, OnDrain};
use super::pools::{Holder, Place, Pool};
use super::queue::{self, Lease, Submission, Submitter};
use super::record::{NewRun, Run};
use super::recover::{self, Lost};
use crate::budget::{self, Budget};
use crate::plane::Registry;
use crate::store::{Store, Tx};

/// How a process executes runs.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Number of workers in the pools that all planes share.
    pub short: usize,
    pub long: usize,
    /// Overrides the size of every pool, for commands, which execute the runs that they submit. 0 executes nothing.
    pub every_pool: Option<usize>,
    /// Maximum share of a pool for one submitter, datasource or unit, in per cent.
    pub share: u32,
    /// Maximum number of waiting runs for one submitter's requests.
    pub max_waiting: u32,
    /// How long a claim is valid without a heartbeat. The heartbeat interval is a third of it.
    pub lease: Duration,
    pub node_name: String,
    /// Where runs reserve their memory.
    pub memory: Budget,
}

impl Default for RunOptions {
    fn default() -> RunOptions {
        RunOptions {
            short: 24,
            long: 4,
            every_pool: None,
            share: 75,
            max_waiting: 1_000,
            lease: Duration::from_secs(30),
            node_name: "landreeve".to_owned(),
            memory: Budget::unlimited(),
        }
    }
}

/// Maximum number of runs claimed in one transaction, which holds as many workers meanwhile.
const MAX_CLAIMED: usize = 8;

/// How long runs that are interrupted at the end of a stop have to end.
const CUT_OFF: Duration = Duration::from_secs(5);

impl RunOptions {
    fn heartbeat(&self) -> Duration {
        self.lease / 3
    }
}

/// The role of a process in the estate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Executes all waiting runs. `home` is a place in which only one process at a time can be a node, such as a locked
    /// data directory.
    Node { home: Option<String> },
    /// A command: it executes the runs that it submits and their children, leaves the rest to the nodes, and ends soon.
    Command,
}

/// Looks up the current authority of a run's submitter.
pub type AuthorityOf = Arc<dyn for<'r> Fn(&'r Run) -> BoxFuture<'r, Result<OpCtx>> + Send + Sync>;

/// The executors, and how to look up the authority that a run has.
pub struct Executors {
    pub by_kind: HashMap<RunKind, Arc<dyn Executor>>,
    pub authority: AuthorityOf,
}

/// A submission with its ids, and from its transaction on a worker, if one is free.
pub struct Ticket {
    pub submission: Submission,
    /// Taken when the transaction begins and not before: a submission that waits for the writer occupies no worker.
    place: Mutex<Option<Place>>,
    _expected: Expected,
}

impl Ticket {
    fn place(&self) -> MutexGuard<'_, Option<Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run that a transaction in progress may claim for this process. Until it is launched or abandoned, the store may
/// know more about it than this process.
struct Expected {
    engine: Engine,
    id: RunId,
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.engine.known().expected.remove(&self.id);
    }
}

#[derive(Clone)]
pub struct Engine(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub store: Store,
    ids: Arc<dyn Ids>,
    pub clock: Arc<dyn Clock>,
    pub registry: Arc<Registry>,
    options: RunOptions,
    node: OnceLock<i64>,
    working: OnceLock<Working>,
    known: Mutex<Known>,
    /// Whether there is more than one unit, so that shares limit each of them.
    many_units: AtomicBool,
    pub tasks: Tasks,
}

/// The state of an engine that has been started.
pub(super) struct Working {
    pub executors: Executors,
    pools: HashMap<PoolName, Arc<Pool>>,
    role: Role,
}

/// The runs that this process knows to be its own.
#[derive(Default)]
pub(super) struct Known {
    live: HashMap<RunId, Live>,
    expected: HashSet<RunId>,
    /// Attempts that are ours according to the store, but were unknown at the last heartbeat.
    suspects: HashSet<Attempt>,
    /// When a lane had no room.
    crowded: HashMap<String, Instant>,
}

/// How long a lane that had no room is not expected to have any. To be wrong costs more than to ask.
const CROWDED: Duration = Duration::from_secs(1);
/// Maximum number of lanes that are remembered.
const MAX_CROWDED: usize = 1_024;

/// A run and the number of its attempt.
type Attempt = (RunId, i64);

/// One attempt that executes here. A later one of the same run may follow it on the same node.
#[derive(Clone)]
struct Live {
    attempt: i64,
    signal: Arc<Signal>,
}

impl Known {
    fn is_crowded(&self, lane: &str) -> bool {
        self.crowded.get(lane).is_some_and(|at| at.elapsed() < CROWDED)
    }

    fn crowd(&mut self, lane: &str) {
        if self.crowded.len() >= MAX_CROWDED {
            self.crowded.clear();
        }
        self.crowded.insert(lane.to_owned(), Instant::now());
    }

    fn attempt(&self, id: RunId, attempt: i64) -> Option<&Arc<Signal>> {
        self.live.get(&id).filter(|live| live.attempt == attempt).map(|live| &live.signal)
    }

    fn knows(&self, id: RunId, attempt: i64) -> bool {
        self.attempt(id, attempt).is_some() || self.expected.contains(&id)
    }
}

pub(super) struct Tasks {
    tracker: TaskTracker,
    /// Claims in progress. They end before the last run starts.
    claims: TaskTracker,
    pub runs: TaskTracker,
    /// Threads that outlive their runs. Nothing waits for them.
    pub lingering: TaskTracker,
    pub stop: CancellationToken,
    /// Cancelled when draining took too long: runs that end now were interrupted.
    pub abandon: CancellationToken,
}

impl Engine {
    pub fn new(
        store: Store,
        ids: Arc<dyn Ids>,
        clock: Arc<dyn Clock>,
        registry: Arc<Registry>,
        options: RunOptions,
    ) -> Engine {
        Engine(Arc::new(Inner {
            store,
            ids,
            clock,
            registry,
            options,
            node: OnceLock::new(),
            working: OnceLock::new(),
            known: Mutex::new(Known::default()),
            many_units: AtomicBool::new(false),
            tasks: Tasks {
                tracker: TaskTracker::new(),
                claims: TaskTracker::new(),
                runs: TaskTracker::new(),
                lingering: TaskTracker::new(),
                stop: CancellationToken::new(),
                abandon: CancellationToken::new(),
            },
        }))
    }

    /// Registers the node, recovers runs that a crash interrupted, and starts claiming runs that have an executor.
    pub async fn start(&self, executors: Executors, role: Role) -> Result<()> {
        let id = self.0.ids.next(IdKind("node")).await?;
        let (name, now) = (self.0.options.node_name.clone(), self.0.clock.now());
        let (home, recovers) = match &role {
            Role::Node { home } => (home.clone(), true),
            Role::Command => (None, false),
        };
        let (registry, lease) = (Arc::clone(&self.0.registry), self.0.options.lease);
        let (recovered, many_units) = self
            .0
            .store
            .write(move |tx| {
                Box::pin(async move {
                    recover::register_node(tx, id, &name, home.as_deref(), now).await?;
                    recover::forget_silent_nodes(tx, lease, now).await?;
                    let many_units = crate::identity::ous::are_many(tx).await?;
                    // Expired leases may belong to nodes that temporarily lost the store, like this one.
                    let recovered = if recovers {
                        recover::recover(tx, Lost::OfGoneNodes, &registry, now).await?
                    } else {
                        0
                    };
                    Ok((recovered, many_units))
                })
            })
            .await?;
        self.0.many_units.store(many_units, Ordering::SeqCst);
        if recovered > 0 {
            tracing::warn!(runs = recovered, "recovered runs that were interrupted by a stop");
        }
        metrics::gauge!("landreeve_runs_lingering").set(0.0);
        metrics::gauge!(budget::RESERVED).increment(0.0);
        let pools = self.pools(&executors);
        let claiming: Vec<_> = pools.values().filter(|pool| pool.workers > 0).cloned().collect();
        let working = Working { executors, pools, role };
        if self.0.node.set(id).is_err() || self.0.working.set(working).is_err() {
            return Err(Error::internal("the run engine was started twice"));
        }
        for pool in claiming {
            self.0.tasks.claims.spawn(self.clone().claim_loop(pool));
        }
        self.0.tasks.tracker.spawn(self.clone().heartbeat_loop());
        self.0.tasks.tracker.spawn(self.clone().cancel_loop());
        self.0.tasks.tracker.spawn(self.clone().hold_loop());
        Ok(())
    }

    fn pools(&self, executors: &Executors) -> HashMap<PoolName, Arc<Pool>> {
        let (registry, options) = (&self.0.registry, &self.0.options);
        let kinds_of = |pool: PoolName| {
            let of_pool = registry.kinds().filter(|kind| kind.pool == pool).map(|kind| kind.kind);
            of_pool.filter(|kind| executors.by_kind.contains_key(kind)).collect::<Vec<_>>()
        };
        let made = registry.pools().iter().map(|(name, workers)| {
            let workers = options.every_pool.unwrap_or(*workers);
            let kinds = kinds_of(*name);
            let needs =
                kinds.iter().any(|kind| registry.kind(*kind).is_some_and(|spec| spec.reserves_memory));
            let memory = needs.then(|| options.memory.clone());
            (*name, Arc::new(Pool::new(*name, workers, options.share, &kinds, memory)))
        });
        made.collect()
    }

    /// Waits up to `grace` for executing runs to end, then cancels them. The next start recovers them.
    pub async fn stop(&self, grace: Duration) {
        let tasks = &self.0.tasks;
        tasks.stop.cancel();
        for tracker in [&tasks.tracker, &tasks.claims, &tasks.runs, &tasks.lingering] {
            tracker.close();
        }
        self.drain();
        // A claim in progress may still add a run.
        let ended = async {
            tasks.claims.wait().await;
            tasks.runs.wait().await;
        };
        if tokio::time::timeout(grace, ended).await.is_err() {
            tasks.abandon.cancel();
            self.drain();
            let cut_off = async {
                tasks.claims.wait().await;
                tasks.runs.wait().await;
            };
            let _ = tokio::time::timeout(CUT_OFF, cut_off).await;
        }
        let _ = tokio::time::timeout(CUT_OFF, tasks.tracker.wait()).await;
        self.deregister().await;
    }

    /// Deregisters this node, so that its runs are recovered without waiting for its leases to expire. As long as any
    /// of them may still write, the leases must keep other nodes away.
    async fn deregister(&self) {
        let tasks = &self.0.tasks;
        let Some(id) = self.node() else { return };
        if !(tasks.claims.is_empty() && tasks.runs.is_empty() && tasks.lingering.is_empty()) {
            tracing::warn!("this node stops with unfinished work; its leases have to expire first");
            return;
        }
        let removed =
            self.0.store.write(move |tx| Box::pin(async move { recover::remove_node(tx, id).await })).await;
        if let Err(error) = removed {
            tracing::warn!(%error, "could not deregister this node");
        }
    }

    /// Stops the runs that go back to the queue and lets the others end. If draining has taken too long, stops all.
    fn drain(&self) {
        for live in self.known().live.values() {
            self.drain_one(&live.signal);
        }
    }

    fn drain_one(&self, signal: &Signal) {
        // A command lets its own runs finish.
        let is_node = self.working().is_some_and(|working| working.role != Role::Command);
        let abandoned = self.0.tasks.abandon.is_cancelled();
        if abandoned || (is_node && signal.on_drain == OnDrain::Requeue) {
            signal.stop(StopReason::Draining);
        }
    }

    pub fn node(&self) -> Option<i64> {
        self.0.node.get().copied()
    }

    pub fn options(&self) -> &RunOptions {
        &self.0.options
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn working(&self) -> Option<&Working> {
        self.0.working.get()
    }

    fn lease(&self, node: i64) -> Lease {
        Lease { node, term: self.0.options.lease }
    }

    /// The ids of one submission.
    pub async fn ticket(&self, uuid: Uuid, new: NewRun, submitter: Submitter) -> Result<Ticket> {
        let id = RunId(self.0.ids.next(RunId::KIND).await?);
        self.known().expected.insert(id);
        let expected = Expected { engine: self.clone(), id };
        let counts = matches!(submitter.kind, "user" | "key") && new.parent.is_none();
        let most_waiting = counts.then_some(self.0.options.max_waiting);
        let expects_room = new.lane.as_ref().is_none_or(|lane| !self.known().is_crowded(&lane.name));
        let submission =
            Submission { id, uuid, new, submitter, most_waiting, lease: None, ou_path: None, expects_room };
        Ok(Ticket { submission, place: Mutex::new(None), _expected: expected })
    }

    fn free_place(&self, new: &NewRun, submitter: &Submitter) -> Option<Place> {
        let working = self.working()?;
        let known = working.executors.by_kind.contains_key(&new.kind);
        let may_start = known && new.not_before.is_none() && new.hold_until.is_none();
        if !may_start || self.0.tasks.stop.is_cancelled() {
            return None;
        }
        let pool = working.pools.get(&new.pool)?;
        let holder = Holder::of_new(new, &submitter.key());
        let place = pool.try_place(holder, self.0.many_units.load(Ordering::SeqCst));
        if place.is_none() {
            // It will wait, and those after it must not overtake it.
            pool.behind.store(true, Ordering::SeqCst);
        }
        place
    }

    /// Inserts the run inside the caller's transaction. It reserves a free worker, if there is one, until the ticket is
    /// launched or dropped, also if the transaction is tried again.
    pub async fn insert(&self, tx: &mut Tx, ticket: &Ticket) -> Result<(Run, bool)> {
        let lease = {
            let mut place = ticket.place();
            if place.is_none() {
                *place = self.free_place(&ticket.submission.new, &ticket.submission.submitter);
            }
            place.as_ref().and(self.node()).map(|node| self.lease(node))
        };
        let submission = Submission { lease, ..ticket.submission.clone() };
        queue::insert(tx, &submission, self.0.clock.now()).await
    }

    /// Starts a run that its submission claimed. Call it after the transaction is durable.
    pub fn launch(&self, ticket: &Ticket, run: &Run) {
        if run.state == RunState::Queued
            && let Some(pool) = self.working().and_then(|working| working.pools.get(&run.pool))
        {
            pool.behind.store(true, Ordering::SeqCst);
        }
        let (submission, place) = (&ticket.submission, ticket.place().take());
        if let (Some(_), RunState::Queued, Some(lane)) = (&place, run.state, &submission.new.lane) {
            self.known().crowd(&lane.name);
        }
        if let (Some(place), RunState::Starting, true) = (place, run.state, run.id == submission.id) {
            self.spawn(run.clone(), place);
        }
    }

    fn spawn(&self, run: Run, place: Place) {
        let engine = self.clone();
        let spec = self.0.registry.kind(run.kind);
        let on_drain = spec.map_or(OnDrain::Finish, |spec| spec.on_drain);
        let after_cancel = run.cancel_requested && spec.is_some_and(|spec| spec.cleans_up);
        let signal = Arc::new(Signal::new(on_drain, after_cancel));
        let (id, attempt) = (run.id, run.attempt);
        // Must be known before a stop can be requested.
        let live = Live { attempt, signal: Arc::clone(&signal) };
        if let Some(earlier) = self.known().live.insert(id, live) {
            // Its lease was lost and the run came back to this node.
            earlier.signal.stop(StopReason::TakenAway);
        }
        if self.0.tasks.stop.is_cancelled() {
            self.drain_one(&signal);
        }
        self.0.tasks.runs.spawn(async move {
            engine.execute(run, place, signal).await;
            let mut known = engine.known();
            if known.attempt(id, attempt).is_some() {
                known.live.remove(&id);
            }
        });
    }

    /// Claims a run whenever a worker is free and a run may start.
    async fn claim_loop(self, pool: Arc<Pool>) {
        let mut queue = self.0.store.notices().queue(pool.name);
        loop {
            let worker = tokio::select! {
                () = self.0.tasks.stop.cancelled() => return,
                worker = pool.worker() => worker,
            };
            let Some(worker) = worker else { return };
            queue.mark_unchanged();
            let mut workers = vec![worker];
            // More runs wait, probably.
            if pool.behind.swap(false, Ordering::SeqCst) {
                workers.extend(pool.more_workers(MAX_CLAIMED - 1));
            }
            match self.claim(&pool, workers.len()).await {
                Ok(runs) if runs.is_empty() => {}
                Ok(runs) => {
                    pool.behind.store(true, Ordering::SeqCst);
                    for (run, worker) in runs.into_iter().zip(workers) {
                        let place = pool.place(worker, Holder::of_run(&run));
                        self.spawn(run, place);
                    }
                    continue;
                }
                Err(error) => {
                    tracing::warn!(pool = pool.name.as_str(), %error, "could not claim a run");
                    // Do not loop if the store fails immediately.
                    drop(workers);
                    self.pause(Duration::from_secs(1)).await;
                    continue;
                }
            }
            // The workers must be free for submissions while this loop waits.
            drop(workers);
            self.wait_for_work(&pool, &mut queue).await;
        }
    }

    async fn wait_for_work(&self, pool: &Pool, queue: &mut watch::Receiver<u64>) {
        tokio::select! {
            () = self.0.tasks.stop.cancelled() => {}
            _ = queue.changed() => {}
            () = pool.changed.notified() => {}
            // A notice may have been lost with its connection.
            () = tokio::time::sleep(self.0.options.lease) => {}
        }
    }

    async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = self.0.tasks.stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// Claims at most this many runs in one transaction, each as if those before it already ran.
    async fn claim(&self, pool: &Pool, most: usize) -> Result<Vec<Run>> {
        let (Some(node), Some(working)) = (self.node(), self.working()) else { return Ok(Vec::new()) };
        let family = match &working.role {
            Role::Command => Family::Of(self.own_runs()),
            Role::Node { .. } if pool.has_too_many_parked() => Family::Children,
            Role::Node { .. } => Family::Any,
        };
        let wanted = Wanted { pool: pool.name, kinds: pool.kinds.clone(), lease: self.lease(node), family };
        let (shares, now) = (pool.shares(self.0.many_units.load(Ordering::SeqCst)), self.0.clock.now());
        // Several answers are awaited one after the other, and submissions need not wait for them.
        self.0
            .store
            .write_alone(move |tx| {
                Box::pin(async move { claim::claim(tx, &wanted, shares, most, now).await })
            })
            .await
    }

    fn own_runs(&self) -> String {
        self.known().live.keys().fold(String::from(","), |text, id| format!("{text}{id},"))
    }

    /// Renews leases, and detects differences between the store and this process.
    async fn heartbeat_loop(self) {
        let Some(node) = self.node() else { return };
        let (period, lease) = (self.0.options.heartbeat(), self.0.options.lease);
        let mut last = Instant::now();
        // The leases of other nodes may have expired because the store was unavailable for them too.
        let mut recover_from = last + lease;
        loop {
            // Leases are renewed until the last run has ended, even while the server drains.
            let draining = self.0.tasks.stop.is_cancelled();
            if draining && self.known().live.is_empty() {
                return;
            }
            let wait = if draining { period.min(Duration::from_millis(100)) } else { period };
            tokio::select! {
                () = self.0.tasks.stop.cancelled(), if !draining => continue,
                () = tokio::time::sleep(wait) => {}
            }
            if last.elapsed() > period * 2 {
                recover_from = Instant::now() + lease;
            }
            let recovers = Instant::now() >= recover_from;
            match self.beat(node, recovers).await {
                Ok(()) => last = Instant::now(),
                Err(error) => tracing::warn!(%error, "could not write the heartbeat"),
            }
        }
    }

    async fn beat(&self, node: i64, recovers: bool) -> Result<()> {
        let working = self.working().ok_or_else(|| Error::internal("a heartbeat without a start"))?;
        let recovers = recovers && matches!(working.role, Role::Node { .. });
        let (lease, now, registry) = (self.lease(node), self.0.clock.now(), Arc::clone(&self.0.registry));
        let name = self.0.options.node_name.clone();
        // Runs that start during this heartbeat are not missing.
        let (executing, ghosts) = self.before_beat();
        let renewed: Vec<RunId> = executing.iter().map(|(id, _)| *id).collect();
        let (ours, many_units) = self
            .0
            .store
            .write(move |tx| {
                Box::pin(async move {
                    recover::recover_ghosts(tx, node, &ghosts, &registry, now).await?;
                    let ours = recover::heartbeat(tx, lease, &name, &renewed, now).await?;
                    if recovers {
                        recover::forget_silent_nodes(tx, lease.term, now).await?;
                        recover::recover(tx, Lost::WithExpiredLease, &registry, now).await?;
                    }
                    Ok((ours, crate::identity::ous::are_many(tx).await?))
                })
            })
            .await?;
        self.0.many_units.store(many_units, Ordering::SeqCst);
        let mut known = self.known();
        for run in ours.iter().filter(|run| run.cancelling) {
            if let Some(signal) = known.attempt(run.id, run.attempt) {
                signal.stop(StopReason::Cancelled);
            }
        }
        let ours: HashSet<Attempt> = ours.iter().map(|run| (run.id, run.attempt)).collect();
        for (id, Live { attempt, signal }) in &executing {
            // It may have ended by itself in the meantime.
            if !ours.contains(&(*id, *attempt)) && !signal.has_ended() {
                tracing::warn!(
                    run = id.0,
                    attempt,
                    "a run was taken over by another node and is being stopped here"
                );
                signal.stop(StopReason::TakenAway);
            }
        }
        known.suspects = ours.into_iter().filter(|(id, attempt)| !known.knows(*id, *attempt)).collect();
        Ok(())
    }

    /// The attempts whose leases are renewed, and those that were already unknown at the last heartbeat.
    fn before_beat(&self) -> (Vec<(RunId, Live)>, Vec<Attempt>) {
        let mut known = self.known();
        let suspects = std::mem::take(&mut known.suspects);
        let ghosts = suspects.into_iter().filter(|(id, attempt)| !known.knows(*id, *attempt)).collect();
        let executing = known.live.iter().filter(|(_, live)| !live.signal.has_ended());
        (executing.map(|(id, live)| (*id, live.clone())).collect(), ghosts)
    }

    /// Forwards a cancel as soon as it is durable, whichever node received the request.
    async fn cancel_loop(self) {
        let mut stops = self.0.store.notices().stops();
        loop {
            let stopped = tokio::select! {
                () = self.0.tasks.stop.cancelled() => return,
                stopped = stops.recv() => stopped,
            };
            match stopped {
                Ok(id) if self.known().live.contains_key(&id) => {
                    let found = async { queue::get(&mut self.0.store.read().await?, id).await };
                    if let Ok(Some(run)) = found.await
                        && run.state == RunState::Cancelling
                        && let Some(signal) = self.known().attempt(id, run.attempt)
                    {
                        signal.stop(StopReason::Cancelled);
                    }
                }
                // The next heartbeat finds missed cancels.
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// Queues held runs when their time has come.
    async fn hold_loop(self) {
        let mut held = self.0.store.notices().held();
        loop {
            held.mark_unchanged();
            let now = self.0.clock.now();
            let due = self
                .0
                .store
                .write(move |tx| Box::pin(async move { queue::release_due(tx, now).await }))
                .await;
            let pause = match due {
                Ok(next) => next.map_or(self.0.options.lease, |next| {
                    let micros = next.as_microsecond().saturating_sub(now.as_microsecond()).max(1_000);
                    Duration::from_micros(micros.unsigned_abs()).min(self.0.options.lease)
                }),
                Err(error) => {
                    tracing::warn!(%error, "could not read the held runs");
                    Duration::from_secs(1)
                }
            };
            tokio::select! {
                () = self.0.tasks.stop.cancelled() => return,
                _ = held.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    pub(super) fn kind(&self, kind: RunKind) -> Option<&KindSpec> {
        self.0.registry.kind(kind)
    }
}
