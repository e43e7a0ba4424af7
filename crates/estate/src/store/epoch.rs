//! The current authority epoch on PostgreSQL, where other nodes change it too. Waiting requests share the next read: it
//! starts after each of them asked, so that none gets an outdated result.

use std::time::Duration;

use landreeve_core::Result;
use tokio::sync::{mpsc, oneshot};

use super::closed;
use super::link::{Connector, Link, carry};
use crate::args;

/// How many requests can wait in the channel before senders have to wait.
const WAITING: usize = 1_024;

type Asked = Vec<oneshot::Sender<Result<i64>>>;

pub struct EpochReader(mpsc::Sender<oneshot::Sender<Result<i64>>>);

impl EpochReader {
    /// `limit`: of a statement. A read gets a quarter of it, which leaves time for another on a new connection.
    pub fn start(connector: Connector, limit: Option<Duration>) -> EpochReader {
        let (sender, waiting) = mpsc::channel(WAITING);
        // It ends when the store, which has the only sender, is dropped.
        tokio::spawn(read(connector, limit.map(|limit| limit / 4), waiting));
        EpochReader(sender)
    }

    pub async fn epoch(&self) -> Result<i64> {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

async fn read(
    connector: Connector,
    limit: Option<Duration>,
    mut waiting: mpsc::Receiver<oneshot::Sender<Result<i64>>>,
) {
    let mut asked = Vec::new();
    while !asked.is_empty() || waiting.recv_many(&mut asked, WAITING).await > 0 {
        match connector.carried(limit).await {
            Ok((link, mut carrier)) => carry(&mut carrier, session(link, &mut waiting, &mut asked)).await,
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
) {
    let mut fresh = true;
    loop {
        let rows = link.all("SELECT value FROM epochs WHERE name = 'authority'", args![]).await;
        let epoch = rows.and_then(|rows| {
            let row = rows.first().ok_or_else(|| landreeve_core::Error::internal("there is no epoch"))?;
            row.int(0)
        });
        if epoch.is_err() && !fresh && !link.is_sound() {
            return;
        }
        answer(asked, &epoch);
        fresh = false;
        if !link.is_sound() || waiting.recv_many(asked, WAITING).await == 0 || !link.is_sound() {
            return;
        }
    }
}
