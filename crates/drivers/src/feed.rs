//! How a running statement delivers its batches, and how it learns that it must stop: it was cancelled, it exceeded its
//! time limit, or its reader is gone. Nothing here depends on a database.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures_core::Stream;
use landreeve_core::source::{QueryStream, SourceError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Owner, errors};

/// Why a statement must stop early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Cancelled,
    TimedOut(Duration),
    /// The stream, or the future that would return it, was dropped.
    Abandoned,
}

impl Stop {
    pub fn error(self) -> SourceError {
        match self {
            Stop::Cancelled | Stop::Abandoned => errors::cancelled(),
            Stop::TimedOut(limit) => errors::timed_out(limit),
        }
    }
}

/// Everything that can stop a statement from outside.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    cancel: CancellationToken,
    closing: CancellationToken,
    abandoned: CancellationToken,
    limit: Duration,
    pub deadline: Instant,
}

impl Watch {
    pub async fn stopped(&self) -> Stop {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Stop::Cancelled,
            () = self.closing.cancelled() => Stop::Cancelled,
            () = self.abandoned.cancelled() => Stop::Abandoned,
            () = tokio::time::sleep_until(self.deadline) => Stop::TimedOut(self.limit),
        }
    }

    /// The reason to stop, if there already is one.
    pub fn reason(&self) -> Option<Stop> {
        if self.cancel.is_cancelled() || self.closing.is_cancelled() {
            Some(Stop::Cancelled)
        } else if self.abandoned.is_cancelled() {
            Some(Stop::Abandoned)
        } else {
            (Instant::now() >= self.deadline).then_some(Stop::TimedOut(self.limit))
        }
    }

    /// Runs a future that needs no cleanup when it is dropped.
    pub async fn or_stop<T>(
        &self,
        work: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        tokio::select! {
            biased;
            stop = self.stopped() => Err(stop.error()),
            done = work => done,
        }
    }

    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// What the statement sends to its reader. Without an explicit end, a producer that died would look like a complete
/// result.
enum Part {
    Batch(RecordBatch),
    End,
    Failed(SourceError),
}

/// The producing end of a `QueryStream`.
pub(crate) struct Feed {
    head: Option<oneshot::Sender<Result<SchemaRef, SourceError>>>,
    batches: mpsc::Sender<Part>,
    /// A slot in the channel reserved for the end, so that ending never waits for the reader.
    last: mpsc::OwnedPermit<Part>,
}

impl Feed {
    /// Must come before the first batch.
    pub fn schema(&mut self, schema: SchemaRef) {
        if let Some(head) = self.head.take() {
            let _ = head.send(Ok(schema));
        }
    }

    /// Waits until there is room. A missing reader is not an error here: the watch reports it as abandoned.
    pub async fn batch(&self, batch: RecordBatch) {
        if self.batches.send(Part::Batch(batch)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Marks the result as complete.
    pub fn end(self) {
        self.last.send(Part::End);
    }

    /// Ends the stream with an error, instead of the schema or as the last item.
    pub fn fail(mut self, error: SourceError) {
        if let Some(head) = self.head.take() {
            let _ = head.send(Err(error));
        } else {
            self.last.send(Part::Failed(error));
        }
    }
}

/// What `query` waits for and returns.
pub(crate) struct Outlet {
    head: oneshot::Receiver<Result<SchemaRef, SourceError>>,
    batches: mpsc::Receiver<Part>,
    guard: DropGuard,
}

impl Outlet {
    pub async fn stream(self) -> Result<QueryStream, SourceError> {
        let schema = self.head.await.map_err(|_| errors::no_answer())??;
        let batches = Box::pin(Batches { batches: Some(self.batches), _guard: self.guard });
        Ok(QueryStream { schema, batches })
    }
}

struct Batches {
    /// `None` after the end.
    batches: Option<mpsc::Receiver<Part>>,
    _guard: DropGuard,
}

impl Stream for Batches {
    type Item = Result<RecordBatch, SourceError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(batches) = &mut self.batches else { return Poll::Ready(None) };
        let item = match std::task::ready!(batches.poll_recv(cx)) {
            Some(Part::Batch(batch)) => return Poll::Ready(Some(Ok(batch))),
            Some(Part::End) => None,
            Some(Part::Failed(error)) => Some(Err(error)),
            None => Some(Err(errors::no_answer())),
        };
        self.batches = None;
        Poll::Ready(item)
    }
}

/// At most one batch is buffered between the database and the reader.
pub(crate) fn open(
    owner: &Owner,
    cancel: CancellationToken,
    limit: Duration,
) -> Result<(Feed, Watch, Outlet), SourceError> {
    let (head_in, head_out) = oneshot::channel();
    let (batches_in, batches_out) = mpsc::channel(2);
    let last = batches_in.clone().try_reserve_owned().map_err(|_| errors::no_answer())?;
    let (watch, guard) = watch(owner, cancel, limit);
    let feed = Feed { head: Some(head_in), batches: batches_in, last };
    Ok((feed, watch, Outlet { head: head_out, batches: batches_out, guard }))
}

fn watch(owner: &Owner, cancel: CancellationToken, limit: Duration) -> (Watch, DropGuard) {
    let abandoned = CancellationToken::new();
    let guard = abandoned.clone().drop_guard();
    let watch = Watch { cancel, closing: owner.closing.clone(), abandoned, limit, deadline: deadline(limit) };
    (watch, guard)
}

/// A limit of years must not overflow the clock.
fn deadline(limit: Duration) -> Instant {
    Instant::now() + limit.min(Duration::from_secs(365 * 86_400))
}

/// Runs a job in a separate task, so that its cleanup happens even if the caller goes away.
pub(crate) async fn run<T, F, W>(
    owner: &Owner,
    cancel: CancellationToken,
    limit: Duration,
    job: F,
) -> Result<T, SourceError>
where
    T: Send + 'static,
    F: FnOnce(Watch) -> W,
    W: Future<Output = Result<T, SourceError>> + Send + 'static,
{
    let (watch, guard) = watch(owner, cancel, limit);
    let (answer, answered) = oneshot::channel();
    let job = job(watch);
    owner.tasks.spawn(async move {
        let _ = answer.send(job.await);
    });
    let result = answered.await.map_err(|_| errors::no_answer())?;
    drop(guard);
    result
}
