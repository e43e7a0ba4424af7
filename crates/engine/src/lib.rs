//! SQL over the tables of catalogs with DataFusion: one SELECT, bounded in memory and time.
//!
//! `statement` prepares a statement: `flavour` parses it, `reading` checks that it only reads, `variables` fills in its
//! values. `vql` does the same for virtual databases, in their SQL. `bounds` is what a statement may use. `provider` lets
//! DataFusion plan a read of a plane's table, `scan` executes it with the connections from `admission`. `threads` are what
//! statements run on. `output` converts
//! results to the types that the rest of the server knows, `driver` offers a plane's tables as a datasource. Does not belong
//! here: the meaning of any table, or a function that can access a file or the network.

mod admission;
mod bounds;
mod dialect;
mod driver;
mod error;
mod explain;
mod flavour;
mod functions;
mod growth;
mod names;
mod output;
mod provider;
mod reading;
mod scan;
mod session;
mod statement;
mod subqueries;
mod threads;
mod variables;
mod vql;
mod walk;
mod yielding;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow_array::RecordBatch;
use futures_util::StreamExt as _;
use landreeve_core::ids::BoxFuture;
use landreeve_core::source::{CancellationToken, QueryStream, SourceError};
use landreeve_core::table::{EngineQuery, Readable, SqlEngine, ViewPlanner};
use output::Columns;
use session::Sources;
use threads::Threads;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

pub use bounds::allowed::names as function_names;
pub use driver::EngineDriver;
pub use vql::strict::names as vql_function_names;

#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Maximum memory of one statement, in bytes.
    pub memory_bytes: usize,
    /// Maximum size of a text, list or other value that a function returns, in bytes.
    pub max_value_bytes: usize,
    /// Where sorting and grouping spill data that does not fit into memory, and the limit in bytes.
    pub spill_dir: PathBuf,
    pub spill_bytes: u64,
    /// How many statements run at the same time; others wait, which counts towards their time limit.
    pub statements: usize,
    pub threads: usize,
}

/// Plans and executes on separate threads, so that a CPU-bound statement does not delay requests.
pub struct Engine {
    options: EngineOptions,
    threads: Threads,
    places: Arc<Semaphore>,
}

impl Engine {
    pub fn new(options: EngineOptions) -> Engine {
        let places = Arc::new(Semaphore::new(options.statements.max(1)));
        // A long computation keeps its thread, so other statements need their own.
        let threads = Threads::new(options.threads.max(1) * options.statements.max(1), threads::IDLE);
        Engine { options, threads, places }
    }
}

impl SqlEngine for Engine {
    fn check<'a>(
        &'a self,
        tables: &'a Readable,
        query: &'a EngineQuery,
    ) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let (options, query) = (self.options.clone(), query.clone());
            let sources = Sources::new(tables.clone(), CancellationToken::new(), None);
            let threads = self.threads.start()?;
            let planned =
                threads.handle.spawn(async move { session::plan(&options, &sources, &query).await });
            let mut guard = AbortOnDrop(planned);
            (&mut guard.0).await.map_err(|_| error::stopped())?
        })
    }

    fn query(
        &self,
        tables: Readable,
        query: EngineQuery,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<QueryStream, SourceError>> {
        Box::pin(async move {
            let options = self.options.clone();
            let limit = query.query.time_limit;
            let mut over = Box::pin(tokio::time::sleep(limit));
            let place = tokio::select! {
                place = Place::take(&self.places) => place?,
                () = cancel.cancelled() => return Err(error::cancelled()),
                () = &mut over => return Err(error::busy()),
            };
            let sources = Sources::new(tables, cancel.clone(), Some(Arc::clone(&place)));
            let (batches, received) = mpsc::channel::<Sent>(2);
            let (begun, schema) = tokio::sync::oneshot::channel();
            let threads = self.threads.start()?;
            let handle = threads.handle.clone();
            let work = async move {
                // The reader may be gone while this still computes; the slot becomes free when the computation ends.
                let (_place, _threads) = (place, threads);
                match session::start(&options, &sources, &query).await {
                    Ok(stream) => {
                        if begun.send(Ok(stream.schema.clone())).is_ok() {
                            forward(stream, &query, &batches).await;
                        }
                    }
                    Err(error) => drop(begun.send(Err(error))),
                }
            };
            let task = handle.spawn(work);
            let guard = AbortOnDrop(task);
            let schema = tokio::select! {
                schema = schema => schema.map_err(|_| error::stopped())??,
                () = cancel.cancelled() => return Err(error::cancelled()),
                () = &mut over => return Err(error::timed_out(limit)),
            };
            let state = Reading { received, cancel, over, limit, ended: false, _guard: guard };
            Ok(QueryStream { schema, batches: Box::pin(futures_util::stream::unfold(state, read)) })
        })
    }

    fn view_planner(&self) -> Box<dyn ViewPlanner> {
        Box::new(vql::planner::Planner::new(self.options.max_value_bytes))
    }
}

/// A statement's place among those that run at the same time.
struct Place {
    places: Arc<Semaphore>,
    held: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Place {
    async fn take(places: &Arc<Semaphore>) -> Result<Arc<Place>, SourceError> {
        let held = Arc::clone(places).acquire_owned().await.map_err(|_| error::stopped())?;
        Ok(Arc::new(Place { places: Arc::clone(places), held: Mutex::new(Some(held)) }))
    }

    /// Waits for something outside of the engine, and leaves the place to another statement meanwhile.
    async fn leave<T>(&self, wait: impl Future<Output = T>) -> Result<T, SourceError> {
        drop(self.held.lock().unwrap_or_else(PoisonError::into_inner).take());
        let done = wait.await;
        let again = Arc::clone(&self.places).acquire_owned().await.map_err(|_| error::stopped())?;
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(again);
        Ok(done)
    }
}

/// Aborts a statement whose reader is gone.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Reading {
    received: mpsc::Receiver<Sent>,
    cancel: CancellationToken,
    over: std::pin::Pin<Box<tokio::time::Sleep>>,
    limit: Duration,
    ended: bool,
    _guard: AbortOnDrop<()>,
}

/// A batch, or `None` at the end; if the `None` is missing, the work was interrupted.
type Sent = Result<Option<RecordBatch>, SourceError>;

async fn read(mut state: Reading) -> Option<(Result<RecordBatch, SourceError>, Reading)> {
    if state.ended {
        return None;
    }
    let next = tokio::select! {
        next = state.received.recv() => next.unwrap_or_else(|| Err(error::stopped())),
        () = state.cancel.cancelled() => Err(error::cancelled()),
        () = &mut state.over => Err(error::timed_out(state.limit)),
    };
    state.ended = !matches!(next, Ok(Some(_)));
    next.transpose().map(|next| (next, state))
}

/// Sends the statement's batches within its limits, and finally how it ended.
async fn forward(mut stream: session::Started, query: &EngineQuery, batches: &mpsc::Sender<Sent>) {
    let mut rows = 0_u64;
    while let Some(next) = stream.batches.next().await {
        let parts = next
            .map_err(|error| error::translate(&error))
            .and_then(|batch| Columns::parts(&batch, stream.max_value));
        let parts = match parts {
            Ok(parts) => parts.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        for part in parts {
            let next = part.and_then(|part| stream.columns.convert(&part)).and_then(|batch| {
                rows += batch.num_rows() as u64;
                match query.max_rows {
                    Some(most) if rows > most => Err(error::too_many_rows(most)),
                    _ => Ok(batch),
                }
            });
            let failed = next.is_err();
            // An error here means that the reader is gone.
            if batches.send(next.map(Some)).await.is_err() || failed {
                return;
            }
        }
    }
    // The reader may be gone.
    let _ = batches.send(Ok(None)).await;
}
