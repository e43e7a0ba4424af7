//! The memory that statements and downloads may use together. Each reserves all that it may ever need once, before it
//! starts, so that nothing waits for memory while it holds some.
//!
//! What is reserved is a bound, not what is in use: the bounds themselves are kept where the memory is allocated, by the
//! limits of values, rows and batches.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use landreeve_core::source::{ByteStream, QueryStream};
use landreeve_core::{Error, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory is counted in pieces of this size.
const PIECE: u64 = 64 * 1024;
/// How many times as large as its compressed form a block of LZ4 can be.
const LZ4: u64 = 255;
/// Chunks of a download on their way to the client.
const CHUNKS: u64 = 1024 * 1024;
/// How long a request waits for memory.
const WAIT: Duration = Duration::from_secs(10);
/// After which time a refused request may be sent again.
const AGAIN: Duration = Duration::from_secs(5);
/// The metric.
pub(crate) const RESERVED: &str = "landreeve_memory_reserved_bytes";

/// The memory of the whole process.
#[derive(Debug, Clone)]
pub struct Budget {
    free: Arc<Semaphore>,
    /// What downloads may have of it: half, so that clients which do not read their responses stop no statement.
    downloads: Arc<Semaphore>,
    pieces: u32,
    statement: u64,
    /// How long a request waits for memory.
    wait: Duration,
}

/// Reserved memory, given back when the last copy is dropped.
#[derive(Debug, Clone)]
pub struct Reservation(#[expect(dead_code, reason = "held, never read")] Arc<Held>);

#[derive(Debug)]
struct Held {
    _permit: OwnedSemaphorePermit,
    /// Of a download: its part of their share.
    _share: Option<OwnedSemaphorePermit>,
    bytes: f64,
}

impl Held {
    fn new(permit: OwnedSemaphorePermit, pieces: u32, share: Option<OwnedSemaphorePermit>) -> Held {
        let bytes = (u64::from(pieces) * PIECE) as f64;
        metrics::gauge!(RESERVED).increment(bytes);
        Held { _permit: permit, _share: share, bytes }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        metrics::gauge!(RESERVED).decrement(self.bytes);
    }
}

impl Reservation {
    /// Keeps the memory reserved until the bytes have been sent.
    pub fn hold_bytes(self, stream: ByteStream) -> ByteStream {
        Box::pin(stream.inspect(move |_| {
            let _held = &self;
        }))
    }

    /// Keeps the memory reserved until the rows have been read.
    pub fn hold(self, stream: QueryStream) -> QueryStream {
        let batches = stream.batches.inspect(move |_| {
            let _held = &self;
        });
        QueryStream { schema: stream.schema, batches: Box::pin(batches) }
    }
}

impl Budget {
    /// `bytes` in all, of which one statement may need `statement`. There is always room for one.
    pub fn new(bytes: u64, statement: u64) -> Budget {
        let pieces = pieces(bytes.max(statement));
        let downloads = Arc::new(Semaphore::new(downloads_of(pieces) as usize));
        Budget { free: Arc::new(Semaphore::new(pieces as usize)), downloads, pieces, statement, wait: WAIT }
    }

    /// For commands and tests that execute one thing after another.
    pub fn unlimited() -> Budget {
        Budget::new(PIECE * u64::from(u32::MAX >> 3), 0)
    }

    /// For tests.
    pub fn waiting_at_most(self, wait: Duration) -> Budget {
        Budget { wait, ..self }
    }

    pub fn bytes(&self) -> u64 {
        u64::from(self.pieces) * PIECE
    }

    /// Reserved at the moment.
    pub fn reserved(&self) -> u64 {
        self.bytes().saturating_sub(self.free.available_permits() as u64 * PIECE)
    }

    /// The memory of one statement, for a run, which waits in its queue as long as it takes.
    pub async fn for_run(&self) -> Result<Reservation> {
        self.acquire(self.statement, None).await
    }

    /// The same if it is free now and no other waits for it.
    pub fn try_for_run(&self) -> Option<Reservation> {
        let wanted = self.wanted(self.statement);
        let permit = Arc::clone(&self.free).try_acquire_many_owned(wanted).ok()?;
        Some(Reservation(Arc::new(Held::new(permit, wanted, None))))
    }

    /// The memory of one statement, for a request.
    pub async fn for_statement(&self) -> Result<Reservation> {
        self.reserve(self.statement).await
    }

    /// The memory of a download of a result with so many stored bytes. Its longest batch cannot be larger than LZ4 can
    /// make of them, nor need more than the statement that produced it.
    pub async fn for_download(&self, stored: u64) -> Result<Reservation> {
        let bytes = stored.saturating_mul(LZ4).min(self.statement).saturating_add(CHUNKS);
        let wanted = self.wanted(bytes).min(downloads_of(self.pieces));
        let share = async {
            let share =
                Arc::clone(&self.downloads).acquire_many_owned(wanted).await.map_err(Error::internal)?;
            self.acquire(bytes, Some(share)).await
        };
        self.in_time(share).await
    }

    /// Memory for a request, which waits a moment for it.
    async fn reserve(&self, bytes: u64) -> Result<Reservation> {
        self.in_time(self.acquire(bytes, None)).await
    }

    async fn in_time(&self, reserving: impl Future<Output = Result<Reservation>>) -> Result<Reservation> {
        match tokio::time::timeout(self.wait, reserving).await {
            Ok(reserved) => reserved,
            Err(_) => {
                let message = "the server's memory is in use by other statements and downloads ([limits] memory_bytes); \
                               try again later";
                Err(Error { retry_after: Some(AGAIN), ..Error::unavailable("memory", message) })
            }
        }
    }

    async fn acquire(&self, bytes: u64, share: Option<OwnedSemaphorePermit>) -> Result<Reservation> {
        let wanted = self.wanted(bytes);
        let permit = Arc::clone(&self.free).acquire_many_owned(wanted).await.map_err(Error::internal)?;
        Ok(Reservation(Arc::new(Held::new(permit, wanted, share))))
    }

    /// More than everything would wait forever.
    fn wanted(&self, bytes: u64) -> u32 {
        pieces(bytes).min(self.pieces)
    }
}

const fn downloads_of(pieces: u32) -> u32 {
    if pieces < 2 { 1 } else { pieces / 2 }
}

fn pieces(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(PIECE)).unwrap_or(u32::MAX).min(u32::MAX >> 3)
}

#[cfg(test)]
mod tests {
    use landreeve_core::ErrorKind;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[tokio::test]
    async fn a_request_waits_for_memory_and_then_is_refused() {
        let budget = Budget::new(10 * MIB, 4 * MIB).waiting_at_most(Duration::ZERO);
        let first = budget.for_statement().await.unwrap();
        let _second = budget.try_for_run().unwrap();
        assert_eq!((budget.bytes(), budget.reserved()), (10 * MIB, 8 * MIB));
        assert!(budget.try_for_run().is_none());
        let refused = budget.for_statement().await.unwrap_err();
        assert_eq!((refused.kind, refused.code), (ErrorKind::Unavailable, "memory"));
        assert_eq!(refused.retry_after, Some(AGAIN));
        let small = budget.reserve(2 * MIB).await.unwrap();
        let copy = first.clone();
        drop((first, small));
        assert_eq!(budget.reserved(), 8 * MIB, "a copy holds it");
        let waiting = budget.for_run();
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(copy);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn downloads_leave_memory_for_statements() {
        let budget = Budget::new(16 * MIB, 4 * MIB).waiting_at_most(Duration::ZERO);
        let mut downloads = Vec::new();
        while let Ok(download) = budget.for_download(MIB).await {
            downloads.push(download);
        }
        assert_eq!((downloads.len(), budget.reserved()), (1, 5 * MIB));
        let statements = [budget.try_for_run(), budget.try_for_run()];
        assert!(statements.iter().all(Option::is_some));
        downloads.clear();
        assert!(budget.for_download(MIB).await.is_ok());
    }

    #[tokio::test]
    async fn what_needs_everything_runs_alone() {
        let budget = Budget::new(MIB, 4 * MIB);
        assert_eq!(budget.bytes(), 4 * MIB, "one statement fits");
        let all = budget.reserve(100 * MIB).await.unwrap();
        assert!(budget.try_for_run().is_none());
        drop(all);
        assert!(budget.try_for_run().is_some());
    }
}
