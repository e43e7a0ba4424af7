//! A small bounded pool of idle connections per datasource and version. It does not depend on a database: drivers
//! create connections and decide whether they are clean.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use landreeve_core::ids::DatasourceId;
use landreeve_core::source::{ConnectSpec, SourceError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::{Owner, errors};

/// A connection that has received a longer row is not used again, because a client's buffer never shrinks.
pub(crate) const LONGEST_KEPT: usize = 4 * 1024 * 1024;

pub(crate) struct Pool<C> {
    inner: Arc<Inner<C>>,
    owner: Owner,
}

struct Inner<C> {
    state: Mutex<State<C>>,
    idle_timeout: Duration,
}

struct State<C> {
    slots: HashMap<(DatasourceId, i64), Slot<C>>,
    sweeping: bool,
}

struct Slot<C> {
    generation: Arc<()>,
    permits: Arc<Semaphore>,
    idle: Vec<(C, Instant)>,
}

/// Permission to use one connection of a datasource. Returning the connection through it pools the connection; dropping
/// it only frees the slot.
pub(crate) struct Lease<C> {
    inner: Arc<Inner<C>>,
    owner: Owner,
    key: (DatasourceId, i64),
    generation: Arc<()>,
    permit: OwnedSemaphorePermit,
}

impl<C: Send + 'static> Pool<C> {
    pub fn new(idle_timeout: Duration, owner: Owner) -> Pool<C> {
        let state = Mutex::new(State { slots: HashMap::new(), sweeping: false });
        Pool { inner: Arc::new(Inner { state, idle_timeout }), owner }
    }

    /// Waits for a free slot, then returns an idle connection if there is one. The caller limits the wait.
    pub async fn checkout(&self, spec: &ConnectSpec) -> Result<(Lease<C>, Option<C>), SourceError> {
        let key = (spec.datasource, spec.version);
        let (generation, permits) = {
            let mut state = self.inner.lock();
            // There is a newer version: idle connections of older ones must not be reused.
            state.slots.retain(|(datasource, version), _| *datasource != key.0 || *version >= key.1);
            let slot = state.slots.entry(key).or_insert_with(|| Slot {
                generation: Arc::new(()),
                permits: Arc::new(Semaphore::new(spec.max_connections.max(1))),
                idle: Vec::new(),
            });
            (slot.generation.clone(), slot.permits.clone())
        };
        let permit =
            permits.acquire_owned().await.map_err(|_| errors::lost("the connection pool was closed"))?;
        let idle = {
            let mut state = self.inner.lock();
            state.slots.get_mut(&key).and_then(|slot| slot.idle.pop()).map(|(connection, _)| connection)
        };
        Ok((Lease { inner: self.inner.clone(), owner: self.owner.clone(), key, generation, permit }, idle))
    }

    pub fn forget(&self, datasource: DatasourceId) {
        self.inner.lock().slots.retain(|(known, _), _| *known != datasource);
    }
}

impl<C: Send + 'static> Lease<C> {
    /// Keeps a clean connection for reuse.
    pub fn put(self, connection: C) {
        if self.owner.closing.is_cancelled() {
            return;
        }
        let mut state = self.inner.lock();
        let Some(slot) = state.slots.get_mut(&self.key) else { return };
        // The datasource was forgotten meanwhile, and its pool recreated.
        if !Arc::ptr_eq(&slot.generation, &self.generation) {
            return;
        }
        slot.idle.push((connection, Instant::now()));
        let start_sweeper = !std::mem::replace(&mut state.sweeping, true);
        drop(state);
        if start_sweeper {
            self.owner.tasks.spawn(sweep(self.inner.clone(), self.owner.clone()));
        }
        drop(self.permit);
    }
}

impl<C> Inner<C> {
    /// Nothing here panics while holding the lock, so the state is intact even if the lock is poisoned.
    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs while there are idle connections, then ends.
async fn sweep<C>(inner: Arc<Inner<C>>, owner: Owner) {
    let step = (inner.idle_timeout / 4).max(Duration::from_millis(50));
    loop {
        let closing = tokio::select! {
            () = tokio::time::sleep(step) => false,
            () = owner.closing.cancelled() => true,
        };
        let now = Instant::now();
        let mut state = inner.lock();
        for slot in state.slots.values_mut() {
            slot.idle.retain(|(_, since)| !closing && now.duration_since(*since) < inner.idle_timeout);
        }
        if state.slots.values().all(|slot| slot.idle.is_empty()) {
            state.sweeping = false;
            return;
        }
    }
}
