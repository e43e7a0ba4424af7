//! Where the authority's epoch stands on PostgreSQL, where other nodes write it too. Requests that wait share the next
//! read: it begins after each of them asked, so none gets an answer from before its question.

use landreeve_core::{Error, Result};
use sqlx::{PgPool, Row as _};
use tokio::sync::{mpsc, oneshot};

use super::store_error;

/// How many may wait before one is asked to wait outside.
const WAITING: usize = 1_024;

pub struct EpochReader(mpsc::Sender<oneshot::Sender<Result<i64>>>);

impl EpochReader {
    pub fn start(pool: PgPool) -> EpochReader {
        let (sender, receiver) = mpsc::channel(WAITING);
        // It ends when the store, which holds the only sender, is gone.
        tokio::spawn(read(pool, receiver));
        EpochReader(sender)
    }

    pub async fn epoch(&self) -> Result<i64> {
        let gone = || Error::unavailable("store", "the metadata store is closed: the server is stopping");
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn read(pool: PgPool, mut waiting: mpsc::Receiver<oneshot::Sender<Result<i64>>>) {
    let mut asked = Vec::new();
    while waiting.recv_many(&mut asked, WAITING).await > 0 {
        let row = sqlx::query("SELECT value FROM epochs WHERE name = 'authority'").fetch_one(&pool).await;
        let epoch = row.and_then(|row| row.try_get::<i64, _>(0)).map_err(store_error);
        for answer in asked.drain(..) {
            // Whoever asked may have gone.
            let _ = answer.send(epoch.clone());
        }
    }
}
