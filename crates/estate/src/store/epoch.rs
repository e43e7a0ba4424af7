//! The current authority epoch on PostgreSQL, where other nodes change it too.
//!
//! A value that was read may be used for `LEASE` after the read began, unless this process has heard of a change since.
//! In return, a write that changes the epoch is acknowledged only `SETTLING` after its commit (`Store::write`): by then no
//! node uses an older value, and a request that begins after the acknowledgement sees the change on every node.
//!
//! Waiting requests share the next read: it starts after each of them asked, so that none gets an outdated result.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use landreeve_core::Result;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::closed;
use super::link::{Connector, Link, carry};
use super::notices::Notices;
use crate::args;

const LEASE: Duration = Duration::from_millis(20);
/// Longer than `LEASE`, because clocks do not run equally fast.
pub(super) const SETTLING: Duration = Duration::from_millis(24);
/// The age at which a value is read again while it is still valid, so that under load no request waits for it, even if
/// PostgreSQL has to wait for a processor.
const RENEWING: Duration = Duration::from_millis(12);
/// How many requests can wait in the channel before senders have to wait.
const WAITING: usize = 1_024;

type Asked = Vec<oneshot::Sender<Result<i64>>>;

pub struct EpochReader {
    requests: mpsc::Sender<oneshot::Sender<Result<i64>>>,
    leased: Leased,
}

/// The last value read.
#[derive(Clone)]
struct Leased {
    last: Arc<Mutex<Option<Lease>>>,
    notices: Notices,
}

/// What is known without a read.
enum Known {
    Nothing,
    /// To be read again soon.
    Aging(i64),
    Fresh(i64),
}

#[derive(Clone, Copy)]
struct Lease {
    epoch: i64,
    /// When its read began, and what this process had heard by then.
    begun: Instant,
    heard: i64,
    /// It is being read again.
    renewing: bool,
}

impl Leased {
    fn last(&self) -> MutexGuard<'_, Option<Lease>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of several callers, one is told that the value is aging.
    fn get(&self) -> Known {
        let mut last = self.last();
        let Some(lease) = last.as_mut().filter(|lease| lease.heard == self.notices.epoch()) else {
            return Known::Nothing;
        };
        match lease.begun.elapsed() {
            age if age >= LEASE => Known::Nothing,
            age if age >= RENEWING && !std::mem::replace(&mut lease.renewing, true) => {
                Known::Aging(lease.epoch)
            }
            _ => Known::Fresh(lease.epoch),
        }
    }

    fn put(&self, lease: Lease) {
        *self.last() = Some(lease);
    }
}

impl EpochReader {
    /// `limit`: of a statement. A read gets a quarter of it, which leaves time for another on a new connection.
    pub fn start(connector: Connector, limit: Option<Duration>, notices: Notices) -> EpochReader {
        let (requests, waiting) = mpsc::channel(WAITING);
        let leased = Leased { last: Arc::default(), notices };
        // It ends when the store, which has the only sender, is dropped.
        tokio::spawn(read(connector, limit.map(|limit| limit / 4), waiting, leased.clone()));
        EpochReader { requests, leased }
    }

    pub async fn epoch(&self) -> Result<i64> {
        let known = self.leased.get();
        if let Known::Fresh(epoch) = known {
            return Ok(epoch);
        }
        let (answer, answered) = oneshot::channel();
        if let Known::Aging(epoch) = known {
            // If too many are waiting, a read is about to begin anyway.
            let _ = self.requests.try_send(answer);
            return Ok(epoch);
        }
        self.requests.send(answer).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

async fn read(
    connector: Connector,
    limit: Option<Duration>,
    mut waiting: mpsc::Receiver<oneshot::Sender<Result<i64>>>,
    leased: Leased,
) {
    let mut asked = Vec::new();
    while !asked.is_empty() || waiting.recv_many(&mut asked, WAITING).await > 0 {
        match connector.carried(limit).await {
            Ok((link, mut carrier)) => {
                carry(&mut carrier, session(link, &mut waiting, &mut asked, &leased)).await
            }
            Err(error) => {
                // Requests that arrived in the meantime have waited as well.
                while let Ok(late) = waiting.try_recv() {
                    asked.push(late);
                }
                answer(&mut asked, &Err(error));
            }
        }
    }
}

fn answer(asked: &mut Asked, epoch: &Result<i64>) {
    for answer in asked.drain(..) {
        // The requester may be gone.
        let _ = answer.send(epoch.clone());
    }
}

/// Reads on one connection until it fails. Requests left in `asked` are for the next one.
async fn session(
    mut link: Link,
    waiting: &mut mpsc::Receiver<oneshot::Sender<Result<i64>>>,
    asked: &mut Asked,
    leased: &Leased,
) {
    let mut fresh = true;
    loop {
        let (begun, heard) = (Instant::now(), leased.notices.epoch());
        let rows = link.all("SELECT value FROM epochs WHERE name = 'authority'", args![]).await;
        let epoch = rows.and_then(|rows| {
            let row = rows.first().ok_or_else(|| landreeve_core::Error::internal("there is no epoch"))?;
            row.int(0)
        });
        if epoch.is_err() && !fresh && !link.is_sound() {
            return;
        }
        if let Ok(epoch) = epoch {
            leased.put(Lease { epoch, begun, heard, renewing: false });
        }
        answer(asked, &epoch);
        fresh = false;
        if !link.is_sound() || waiting.recv_many(asked, WAITING).await == 0 || !link.is_sound() {
            return;
        }
    }
}
