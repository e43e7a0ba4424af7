//! Connections to PostgreSQL for reading. A connection is not reused if its last statement was not read to the end, or
//! if it is older than the last time the server did not respond.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use landreeve_core::{Error, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::link::{Connector, Link};

/// How long a reader waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

pub struct Pool {
    connector: Connector,
    permits: Arc<Semaphore>,
    idle: Arc<Idle>,
    /// Time limit of each statement.
    limit: Option<Duration>,
}

#[derive(Default)]
struct Idle(Mutex<Vec<Link>>);

impl Idle {
    fn links(&self) -> std::sync::MutexGuard<'_, Vec<Link>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that returns to its pool.
pub struct Pooled {
    /// `None` only while it is being dropped.
    link: Option<Link>,
    idle: Arc<Idle>,
    permit: OwnedSemaphorePermit,
}

impl Pooled {
    pub fn link(&mut self) -> Result<&mut Link> {
        self.link
            .as_mut()
            .ok_or_else(|| Error::internal("a connection was used after it was returned to the pool"))
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let open = !self.permit.semaphore().is_closed();
        if let Some(link) = self.link.take().filter(|link| open && link.is_sound()) {
            self.idle.links().push(link);
        }
    }
}

impl Pool {
    pub fn new(connector: Connector, size: usize, limit: Option<Duration>) -> Pool {
        Pool { connector, permits: Arc::new(Semaphore::new(size)), idle: Arc::default(), limit }
    }

    pub async fn acquire(&self) -> Result<Pooled> {
        let Ok(permit) =
            tokio::time::timeout(ACQUIRE_TIMEOUT, Arc::clone(&self.permits).acquire_owned()).await
        else {
            let message = "the metadata store does not respond: every connection is busy";
            return Err(Error::unavailable("store", message));
        };
        let permit = permit.map_err(|_| super::closed())?;
        // Connections that are no longer usable are closed here.
        let known = {
            let mut links = self.idle.links();
            loop {
                match links.pop() {
                    Some(link) if !link.is_sound() => {}
                    other => break other,
                }
            }
        };
        let link = match known {
            Some(link) => link,
            None => self.connector.connect(self.limit).await?,
        };
        Ok(Pooled { link: Some(link), idle: Arc::clone(&self.idle), permit })
    }

    /// Accepts no more readers. Current readers end by the time limit of their statement.
    pub fn close(&self) {
        self.permits.close();
        self.idle.links().clear();
    }
}
