//! How many connections a datasource has at a time: one count for everything that reads from it or writes to it.
//!
//! Everything takes the permits that it needs together and in the order of ids, before it uses one. So nothing waits for a
//! permit while another, which waits for the first, holds it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use landreeve_core::ids::DatasourceId;
use landreeve_core::source::{
    CancellationToken, ConnectSpec, Connections, Driver, Permit, Permits, Query, QueryStream, SourceError,
    SourceErrorKind,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// The connections of all datasources in this process.
#[derive(Default)]
pub struct ConnectionLimits(Mutex<HashMap<DatasourceId, Slot>>);

struct Slot {
    limit: usize,
    free: Arc<Semaphore>,
}

impl ConnectionLimits {
    /// Waits for all of these permits. The caller limits the wait.
    pub async fn take(&self, wanted: BTreeMap<DatasourceId, Connections>) -> Permits {
        let mut permits = Permits::new();
        for (datasource, connections) in wanted {
            permits.insert(datasource, self.take_of(datasource, connections).await);
        }
        permits
    }

    async fn take_of(&self, datasource: DatasourceId, connections: Connections) -> Vec<Permit> {
        let limit = connections.limit.clamp(1, Semaphore::MAX_PERMITS);
        let count = connections.wanted.min(limit);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        // The semaphores are never closed; without permits nothing is read.
        let Ok(mut taken) = self.free(datasource, limit).acquire_many_owned(count).await else {
            return Vec::new();
        };
        let mut permits = Vec::with_capacity(count as usize);
        while let Some(one) = taken.split(1) {
            permits.push(Permit::new(one));
        }
        permits
    }

    /// After a change of its limit, a datasource counts from zero: the old connections end by themselves.
    fn free(&self, datasource: DatasourceId, limit: usize) -> Arc<Semaphore> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Permits and those who wait for one have copies.
        slots.retain(|known, slot| *known == datasource || Arc::strong_count(&slot.free) > 1);
        let new = || Slot { limit, free: Arc::new(Semaphore::new(limit)) };
        let slot = slots.entry(datasource).or_insert_with(new);
        if slot.limit != limit {
            *slot = new();
        }
        Arc::clone(&slot.free)
    }

    /// Waits for one connection, within a statement's limits.
    pub async fn admit(
        &self,
        spec: &mut ConnectSpec,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<(), SourceError> {
        let connections = Connections { wanted: 1, limit: spec.max_connections };
        let taking = async {
            let mut permits = self.take_of(spec.datasource, connections).await;
            permits.pop().ok_or_else(|| SourceError::new(SourceErrorKind::Lost, "the server is stopping"))
        };
        spec.permit = tokio::select! {
            permit = taking => permit?,
            () = cancel.cancelled() => {
                return Err(SourceError::new(SourceErrorKind::Cancelled, "the statement was cancelled"));
            }
            () = tokio::time::sleep(limit) => {
                let message = format!(
                    "none of the datasource's {} connections (max_concurrent_executions) became free in time",
                    connections.limit
                );
                return Err(SourceError::new(SourceErrorKind::TimedOut, message));
            }
        };
        Ok(())
    }

    /// Executes a statement on a connection of its own; waiting for it counts towards the statement's time limit.
    pub async fn query(
        &self,
        driver: &dyn Driver,
        mut spec: ConnectSpec,
        query: Query,
        cancel: CancellationToken,
    ) -> Result<QueryStream, SourceError> {
        let asked = Instant::now();
        self.admit(&mut spec, query.time_limit, &cancel).await?;
        let time_limit = query.time_limit.saturating_sub(asked.elapsed());
        let stream = driver.query(&spec, Query { time_limit, ..query }, cancel).await?;
        // A driver without connections of its own keeps no copy.
        let batches = stream.batches.inspect(move |_| {
            let _held = &spec.permit;
        });
        Ok(QueryStream { schema: stream.schema, batches: Box::pin(batches) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn wanted(all: &[(i64, usize, usize)]) -> BTreeMap<DatasourceId, Connections> {
        let each = all
            .iter()
            .map(|(id, wanted, limit)| (DatasourceId(*id), Connections { wanted: *wanted, limit: *limit }));
        each.collect()
    }

    #[tokio::test]
    async fn at_most_as_many_as_the_datasource_may_have() {
        let limits = ConnectionLimits::default();
        let held = limits.take(wanted(&[(1, 5, 2), (2, 1, 3)])).await;
        assert_eq!(held.values().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        let more = limits.take(wanted(&[(2, 9, 3)]));
        tokio::pin!(more);
        assert!(futures_util::poll!(&mut more).is_pending());
        drop(held);
        assert_eq!(more.await.values().map(Vec::len).collect::<Vec<_>>(), [3]);
        assert!(limits.take(wanted(&[])).await.is_empty());
        // A permit that is copied counts once, until its last copy is dropped.
        let mut one = limits.take(wanted(&[(1, 1, 1)])).await;
        let copy = one[&DatasourceId(1)][0].clone();
        one.clear();
        let next = limits.take(wanted(&[(1, 1, 1)]));
        tokio::pin!(next);
        assert!(futures_util::poll!(&mut next).is_pending());
        drop(copy);
        next.await;
        assert!(limits.0.lock().unwrap().len() <= 2, "unused datasources are forgotten");
    }

    /// Work that needs several datasources, in any combination, never waits for each other for ever.
    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_waits_for_ever() {
        const LIMITS: [usize; 4] = [1, 1, 2, 3];
        let limits = Arc::new(ConnectionLimits::default());
        let in_use: Arc<[AtomicUsize; 4]> = Arc::default();
        let work = (0..200_usize).map(|seed| {
            let (limits, in_use) = (Arc::clone(&limits), Arc::clone(&in_use));
            async move {
                let all: Vec<(i64, usize, usize)> = (0..4)
                    .filter(|source| (seed + 1) >> source & 1 == 1)
                    .map(|source| (source as i64, 1 + (seed + source) % 4, LIMITS[source]))
                    .collect();
                let held = limits.take(wanted(&all)).await;
                for (id, permits) in &held {
                    let source = id.0 as usize;
                    let now = in_use[source].fetch_add(permits.len(), Ordering::SeqCst) + permits.len();
                    assert!(now <= LIMITS[source], "{now} connections to {source}");
                }
                tokio::task::yield_now().await;
                for (id, permits) in &held {
                    in_use[id.0 as usize].fetch_sub(permits.len(), Ordering::SeqCst);
                }
            }
        });
        let tasks: Vec<_> = work.map(tokio::spawn).collect();
        for task in tasks {
            tokio::time::timeout(Duration::from_secs(20), task).await.expect("ends").unwrap();
        }
    }
}
