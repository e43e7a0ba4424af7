//! Workers in pools, and how they are shared: no submitter, datasource or unit can occupy a whole pool, and waiting
//! submitters take turns.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use landreeve_core::{PoolName, RunKind};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::record::{NewRun, Run};
use crate::budget::{Budget, Reservation};

/// Pools of this size limit the share of each; smaller ones only serve the waiting submitters in turn.
const SMALLEST_SHARED: usize = 4;
/// Maximum number of served submitters that a pool remembers.
const MAX_REMEMBERED_TURNS: usize = 256;
/// If more parents than this wait for their children, a pool starts only children.
pub(super) const MAX_PARKED: usize = 10_000;

pub(super) struct Pool {
    pub name: PoolName,
    pub workers: usize,
    /// The kinds that this process executes in it: `,query,probe,`.
    pub kinds: String,
    free: Arc<Semaphore>,
    busy: Mutex<Busy>,
    /// Maximum number of workers for one submitter, datasource or unit. `None` if the pool is too small for shares.
    share: Option<usize>,
    /// A queued run may be able to start, and submissions must not overtake it.
    pub behind: AtomicBool,
    parked: AtomicUsize,
    /// Notified when a share is no longer full.
    pub changed: Notify,
    /// Where its runs reserve the memory of a statement, if they need any.
    memory: Option<Budget>,
}

#[derive(Clone, Default)]
struct Busy {
    submitters: HashMap<String, usize>,
    sources: HashMap<i64, usize>,
    units: HashMap<i64, usize>,
    /// Submitters in the order in which they were served, the latest last.
    turns: VecDeque<String>,
}

/// Who occupies a worker. Shares do not limit the server itself or the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    submitter: String,
    source: Option<i64>,
    unit: i64,
}

impl Holder {
    pub fn new(submitter: String, source: Option<i64>, unit: i64) -> Holder {
        Holder { submitter, source, unit }
    }

    pub fn of_new(new: &NewRun, submitter: &str) -> Holder {
        let source = new.noun.filter(|(noun, _)| noun.as_str() == "datasource").map(|(_, id)| id);
        Holder { submitter: submitter.to_owned(), source, unit: new.ou.0 }
    }

    pub fn of_run(run: &Run) -> Holder {
        let source = run.noun.as_ref().filter(|(noun, _)| noun == "datasource").map(|(_, id)| *id);
        Holder { submitter: run.submitter(), source, unit: run.ou.0 }
    }

    fn has_share(&self) -> bool {
        !matches!(self.submitter.as_str(), "system" | "operator")
    }
}

/// A worker that is free, with the memory for one run.
pub(super) struct Worker {
    _permit: OwnedSemaphorePermit,
    _memory: Option<Reservation>,
}

/// A worker of a pool. Dropping it frees the worker.
pub(super) struct Place {
    pool: Arc<Pool>,
    holder: Holder,
    _worker: Worker,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.busy().remove(&self.holder);
        self.pool.changed.notify_one();
    }
}

impl Place {
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

/// Counts a parent that waits without a worker.
pub(super) struct Parked(Arc<Pool>);

impl Drop for Parked {
    fn drop(&mut self) {
        self.0.parked.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Who has a full share, in the form that the queue's statements need: submitters as `,user:3,`, ids of datasources and
/// units as `,7,9,`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Full {
    pub submitters: String,
    pub sources: String,
    pub units: String,
}

impl Pool {
    /// `share` is in per cent of the workers, rounded up.
    pub fn new(
        name: PoolName,
        workers: usize,
        share: u32,
        kinds: &[RunKind],
        memory: Option<Budget>,
    ) -> Pool {
        let share = (workers * share as usize).div_ceil(100).max(1);
        Pool {
            name,
            workers,
            kinds: kinds.iter().fold(String::from(","), |text, kind| text + kind.as_str() + ","),
            free: Arc::new(Semaphore::new(workers)),
            busy: Mutex::new(Busy::default()),
            share: (workers >= SMALLEST_SHARED).then_some(share),
            behind: AtomicBool::new(false),
            parked: AtomicUsize::new(0),
            changed: Notify::new(),
            memory,
        }
    }

    fn busy(&self) -> MutexGuard<'_, Busy> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker for a submission, if one is free, no earlier run waits, and its shares are not used up.
    pub fn try_place(self: &Arc<Pool>, holder: Holder, many_units: bool) -> Option<Place> {
        // In a small pool, only the queue shows whose turn it is.
        if self.behind.load(Ordering::SeqCst) || self.parked.load(Ordering::SeqCst) > MAX_PARKED {
            return None;
        }
        let worker = self.try_worker()?;
        let mut busy = self.busy();
        if self.share.is_some_and(|share| busy.is_full(&holder, share, many_units)) {
            return None;
        }
        busy.add(&holder);
        drop(busy);
        Some(Place { pool: Arc::clone(self), holder, _worker: worker })
    }

    /// Waits for a free worker and its memory, for any run. `None` if the engine is stopping.
    pub async fn worker(&self) -> Option<Worker> {
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        let memory = match &self.memory {
            Some(memory) => Some(memory.for_run().await.ok()?),
            None => None,
        };
        Some(Worker { _permit: permit, _memory: memory })
    }

    fn try_worker(&self) -> Option<Worker> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        let memory = match &self.memory {
            Some(memory) => Some(memory.try_for_run()?),
            None => None,
        };
        Some(Worker { _permit: permit, _memory: memory })
    }

    /// Assigns the worker to a run.
    pub fn place(self: &Arc<Pool>, worker: Worker, holder: Holder) -> Place {
        self.busy().add(&holder);
        Place { pool: Arc::clone(self), holder, _worker: worker }
    }

    pub fn park(self: &Arc<Pool>) -> Parked {
        self.parked.fetch_add(1, Ordering::SeqCst);
        Parked(Arc::clone(self))
    }

    pub fn has_too_many_parked(&self) -> bool {
        self.parked.load(Ordering::SeqCst) > MAX_PARKED
    }

    /// More workers that are free now, at most this many.
    pub fn more_workers(&self, most: usize) -> Vec<Worker> {
        (0..most).map_while(|_| self.try_worker()).collect()
    }

    pub fn shares(&self, many_units: bool) -> Shares {
        Shares { share: self.share, many_units, busy: self.busy().clone() }
    }
}

/// How a pool is shared at one moment, and would be if it also executed other runs.
#[derive(Clone, Default)]
pub struct Shares {
    share: Option<usize>,
    many_units: bool,
    busy: Busy,
}

impl Shares {
    pub(super) fn is_full(&self, holder: &Holder) -> bool {
        self.share.is_some_and(|share| self.busy.is_full(holder, share, self.many_units))
    }

    /// Those whose runs the queue skips.
    pub(super) fn full(&self) -> Full {
        let Some(share) = self.share else {
            return Full { submitters: ",".into(), sources: ",".into(), units: ",".into() };
        };
        Full {
            submitters: at_least(&self.busy.submitters, share),
            sources: at_least(&self.busy.sources, share),
            units: if self.many_units { at_least(&self.busy.units, share) } else { ",".to_owned() },
        }
    }

    /// Who was served, the latest last.
    pub(super) fn turns(&self) -> String {
        self.busy.turns.iter().fold(String::from(","), |text, submitter| text + submitter + ",")
    }

    pub(super) fn add(&mut self, holder: &Holder) {
        self.busy.add(holder);
    }
}

fn at_least<K: std::fmt::Display>(counts: &HashMap<K, usize>, share: usize) -> String {
    let full = counts.iter().filter(|(_, count)| **count >= share);
    full.fold(String::from(","), |text, (key, _)| format!("{text}{key},"))
}

impl Busy {
    fn is_full(&self, holder: &Holder, share: usize, many_units: bool) -> bool {
        let full = |count: Option<&usize>| count.is_some_and(|count| *count >= share);
        holder.has_share()
            && (full(self.submitters.get(&holder.submitter))
                || holder.source.is_some_and(|source| full(self.sources.get(&source)))
                || (many_units && full(self.units.get(&holder.unit))))
    }

    fn add(&mut self, holder: &Holder) {
        self.turns.retain(|known| *known != holder.submitter);
        self.turns.push_back(holder.submitter.clone());
        if self.turns.len() > MAX_REMEMBERED_TURNS {
            self.turns.pop_front();
        }
        if !holder.has_share() {
            return;
        }
        *self.submitters.entry(holder.submitter.clone()).or_default() += 1;
        *self.units.entry(holder.unit).or_default() += 1;
        if let Some(source) = holder.source {
            *self.sources.entry(source).or_default() += 1;
        }
    }

    fn remove(&mut self, holder: &Holder) {
        if !holder.has_share() {
            return;
        }
        less(&mut self.submitters, holder.submitter.clone());
        less(&mut self.units, holder.unit);
        if let Some(source) = holder.source {
            less(&mut self.sources, source);
        }
    }
}

fn less<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    if let std::collections::hash_map::Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(submitter: &str, source: Option<i64>, unit: i64) -> Holder {
        Holder { submitter: submitter.to_owned(), source, unit }
    }

    fn pool(workers: usize) -> Arc<Pool> {
        pool_with(workers, None)
    }

    fn pool_with(workers: usize, memory: Option<Budget>) -> Arc<Pool> {
        Arc::new(Pool::new(PoolName::SHORT, workers, 75, &[RunKind::new("query")], memory))
    }

    #[test]
    fn limits_a_submitter_a_datasource_and_a_unit_to_their_share() {
        for (workers, share) in [(4, 3), (5, 4), (16, 12)] {
            let pool = pool(workers);
            let taken: Vec<_> =
                (0..workers).filter_map(|_| pool.try_place(holder("key:1", None, 1), false)).collect();
            assert_eq!(taken.len(), share, "of {workers}");
            assert_eq!(pool.shares(false).full().submitters, ",key:1,");
            assert!(pool.try_place(holder("key:2", None, 1), true).is_none(), "the unit's share is full");
            assert!(pool.try_place(holder("key:2", None, 1), false).is_some(), "a single unit has no limit");
            assert!(pool.try_place(holder("system", Some(7), 1), true).is_some(), "the server has no limit");
            drop(taken);
            assert_eq!(
                pool.shares(true).full(),
                Full { submitters: ",".into(), sources: ",".into(), units: ",".into() }
            );
            let by_source: Vec<_> = (0..i64::try_from(workers).unwrap())
                .filter_map(|n| pool.try_place(holder(&format!("key:{n}"), Some(7), n), false))
                .collect();
            assert_eq!(by_source.len(), share, "of {workers}, one datasource");
        }
    }

    #[test]
    fn a_small_pool_remembers_the_submitters_it_served() {
        let pool = pool(2);
        drop(pool.try_place(holder("key:1", None, 1), false));
        drop(pool.try_place(holder("key:2", None, 1), false));
        drop(pool.try_place(holder("key:1", None, 1), false));
        assert_eq!(pool.shares(false).turns(), ",key:2,key:1,");
        drop(pool.try_place(holder("operator", None, 1), false));
        assert_eq!(pool.shares(false).turns(), ",key:2,key:1,operator,", "in stored form");
        let all: Vec<_> = (0..2).filter_map(|_| pool.try_place(holder("key:1", None, 1), false)).collect();
        assert_eq!(all.len(), 2, "a submitter can use the whole pool while no others wait");
    }

    #[tokio::test]
    async fn a_worker_needs_memory() {
        let budget = Budget::new(2, 1);
        let pool = pool_with(4, Some(budget.clone()));
        let all = budget.for_statement().await.unwrap();
        assert!(pool.try_place(holder("key:1", None, 1), false).is_none());
        assert!(pool.more_workers(4).is_empty());
        let waiting = pool.worker();
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(all);
        let worker = waiting.await.unwrap();
        assert!(budget.try_for_run().is_none(), "the worker holds it");
        drop(pool.place(worker, holder("key:1", None, 1)));
        assert!(pool.try_place(holder("key:1", None, 1), false).is_some());
    }

    #[test]
    fn a_submission_does_not_overtake_waiting_runs() {
        let pool = pool(4);
        pool.behind.store(true, Ordering::SeqCst);
        assert!(pool.try_place(holder("key:1", None, 1), false).is_none());
    }
}
