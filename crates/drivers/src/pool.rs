//! Idle connections per datasource and version. It does not depend on a database: drivers create connections and decide
//! whether they are clean. How many there may be is counted by the giver of the permits in specifications.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use landreeve_core::ids::DatasourceId;
use landreeve_core::source::{ConnectSpec, Permit};
use tokio::time::Instant;

use crate::Owner;

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
    idle: Vec<(C, Instant)>,
}

/// Where a connection belongs, with the permit for it. Returning the connection through it pools the connection.
pub(crate) struct Lease<C> {
    inner: Arc<Inner<C>>,
    owner: Owner,
    key: (DatasourceId, i64),
    generation: Arc<()>,
    permit: Permit,
}

impl<C: Send + 'static> Pool<C> {
    pub fn new(idle_timeout: Duration, owner: Owner) -> Pool<C> {
        let state = Mutex::new(State { slots: HashMap::new(), sweeping: false });
        Pool { inner: Arc::new(Inner { state, idle_timeout }), owner }
    }

    /// An idle connection if there is one.
    pub fn checkout(&self, spec: &ConnectSpec) -> (Lease<C>, Option<C>) {
        let key = (spec.datasource, spec.version);
        let mut state = self.inner.lock();
        // There is a newer version: idle connections of older ones must not be reused.
        state.slots.retain(|(datasource, version), _| *datasource != key.0 || *version >= key.1);
        let new = || Slot { generation: Arc::new(()), idle: Vec::new() };
        let slot = state.slots.entry(key).or_insert_with(new);
        let (generation, idle) = (slot.generation.clone(), slot.idle.pop().map(|(connection, _)| connection));
        drop(state);
        let (inner, owner) = (self.inner.clone(), self.owner.clone());
        (Lease { inner, owner, key, generation, permit: spec.permit.clone() }, idle)
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
