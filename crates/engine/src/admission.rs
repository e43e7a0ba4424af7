//! The connections to datasources that a statement reads through. It gets all of them before it starts, so that it never
//! holds one while it waits for another.
//!
//! If it reads a datasource more often than that may have connections, its scans take turns. A scan that has a turn reads to
//! its end, into files if need be, whatever the plan reads first: a join reads one side to the end before the other.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow_array::{RecordBatch, RecordBatchOptions};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use datafusion::physical_plan::spill::spill_pool::spsc_channel;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures_util::StreamExt as _;
use landreeve_core::ids::DatasourceId;
use landreeve_core::source::{Connections, Permit, Permits, SourceError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::AbortOnDrop;
use crate::error::{carried, stopped};

/// The permits of a statement, for its scans.
#[derive(Debug, Clone, Default)]
pub struct Admission(Arc<OnceLock<HashMap<DatasourceId, Arc<Turns>>>>);

impl Admission {
    /// `wanted`: how many connections the scans need.
    pub fn grant(&self, wanted: &BTreeMap<DatasourceId, Connections>, permits: Permits) {
        let turns = permits.into_iter().map(|(datasource, permits)| {
            let scans = wanted.get(&datasource).map_or(0, |connections| connections.wanted);
            (datasource, Arc::new(Turns::new(scans, permits)))
        });
        // A plan is admitted once.
        let _ = self.0.set(turns.collect());
    }

    pub fn turns(&self, datasource: DatasourceId) -> Option<Arc<Turns>> {
        self.0.get()?.get(&datasource).cloned()
    }
}

/// The permits for one datasource.
#[derive(Debug)]
pub struct Turns {
    free: Arc<Semaphore>,
    state: Mutex<State>,
    /// Whether there are fewer permits than scans.
    short: bool,
}

#[derive(Debug)]
struct State {
    permits: Vec<Permit>,
    /// How many scans have not had one yet.
    waiting: usize,
}

impl Turns {
    fn new(scans: usize, permits: Vec<Permit>) -> Turns {
        Turns {
            free: Arc::new(Semaphore::new(permits.len())),
            short: permits.len() < scans,
            state: Mutex::new(State { permits, waiting: scans }),
        }
    }

    /// Whether a scan must read to its end without waiting for its reader.
    pub const fn short(&self) -> bool {
        self.short
    }

    /// A permit for one scan.
    pub async fn take(self: Arc<Self>) -> std::result::Result<Permit, SourceError> {
        let turn = Arc::clone(&self.free).acquire_owned().await.map_err(|_| stopped())?;
        let permit = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.waiting = state.waiting.saturating_sub(1);
            state.permits.pop().ok_or_else(stopped)?
        };
        Ok(Permit::new(Lent { permit: Some(permit), turns: self, _turn: turn }))
    }
}

/// A permit that goes to the next scan once its connection is free.
struct Lent {
    permit: Option<Permit>,
    turns: Arc<Turns>,
    /// Dropped after the permit is back.
    _turn: OwnedSemaphorePermit,
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut state = self.turns.state.lock().unwrap_or_else(PoisonError::into_inner);
        // If no scan needs it any more, it goes back to the datasource now, not at the end of the statement.
        if state.permits.len() < state.waiting {
            state.permits.extend(self.permit.take());
        }
    }
}

/// Reads a stream to its end, as fast as it comes, and keeps in files what its reader has not read yet.
pub fn read_ahead(mut rows: SendableRecordBatchStream, context: &TaskContext) -> SendableRecordBatchStream {
    let schema = rows.schema();
    if schema.fields().is_empty() {
        return counted(rows, context.session_config().batch_size());
    }
    let metrics = SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0);
    let manager = SpillManager::new(context.runtime_env(), metrics, Arc::clone(&schema));
    let longest = context.session_config().options().execution.max_spill_file_size_bytes;
    let (kept, read) = spsc_channel(longest.into(), Arc::new(manager));
    let reading = AbortOnDrop(tokio::spawn(async move {
        while let Some(batch) = rows.next().await {
            kept.push_batch(&batch?)?;
        }
        Ok(())
    }));
    let end = futures_util::stream::once(ended(reading)).filter_map(|read| async { read.err().map(Err) });
    Box::pin(RecordBatchStreamAdapter::new(schema, read.chain(end)))
}

/// Rows without columns, which have nothing that a file could keep.
fn counted(mut rows: SendableRecordBatchStream, batch_rows: usize) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let counting = AbortOnDrop(tokio::spawn(async move {
        let mut count = 0;
        while let Some(batch) = rows.next().await {
            count += batch?.num_rows();
        }
        Ok(count)
    }));
    let of = Arc::clone(&schema);
    let batches = futures_util::stream::once(ended(counting)).flat_map(move |count| {
        let (of, batch_rows) = (Arc::clone(&of), batch_rows.max(1));
        let (count, failure) = match count {
            Ok(count) => (count, None),
            Err(error) => (0, Some(Err(error))),
        };
        let batches = (0..count).step_by(batch_rows).map(move |start| {
            let options = RecordBatchOptions::new().with_row_count(Some(batch_rows.min(count - start)));
            let batch = RecordBatch::try_new_with_options(Arc::clone(&of), Vec::new(), &options);
            batch.map_err(|error| DataFusionError::ArrowError(Box::new(error), None))
        });
        futures_util::stream::iter(batches.chain(failure))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

async fn ended<T>(mut task: AbortOnDrop<Result<T>>) -> Result<T> {
    (&mut task.0).await.unwrap_or_else(|_| Err(carried(stopped())))
}
