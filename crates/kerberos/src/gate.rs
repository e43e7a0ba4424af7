//! Limits how many checks run at the same time, how long one waits for its turn, and how long its caller waits for it.

use std::sync::Arc;
use std::time::Duration;

use landreeve_core::{Error, Result};
use tokio::sync::Semaphore;
use tokio::time::timeout;

#[derive(Debug)]
pub struct Gate {
    permits: Arc<Semaphore>,
    wait: Duration,
    limit: Duration,
}

impl Gate {
    pub fn new(concurrent: usize, wait: Duration, limit: Duration) -> Gate {
        Gate { permits: Arc::new(Semaphore::new(concurrent)), wait, limit }
    }

    /// Runs `work` on a thread for blocking calls. Such a call cannot be stopped: after the limit its caller is answered,
    /// but its place stays occupied until it returns.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let busy = || {
            Error::rate_limited(
                "too many Kerberos tickets are being checked; try again in a moment",
                self.wait,
            )
        };
        let permit = timeout(self.wait, Arc::clone(&self.permits).acquire_owned()).await;
        let permit = permit.map_err(|_| busy())?.map_err(|_| busy())?;
        let working = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        match timeout(self.limit, working).await {
            Ok(done) => done.map_err(Error::internal),
            Err(_) => Err(Error::unavailable("kerberos", "the Kerberos library did not answer in time")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use landreeve_core::ErrorKind;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_check_that_hangs_is_unavailable_and_keeps_its_place() {
        let gate = Gate::new(1, MOMENT, MOMENT);
        let (release, released) = mpsc::channel::<()>();
        let hanging = gate.run(move || released.recv().is_ok()).await.unwrap_err();
        assert_eq!(hanging.kind, ErrorKind::Unavailable);
        let busy = gate.run(|| ()).await.unwrap_err();
        assert_eq!((busy.kind, busy.retry_after), (ErrorKind::RateLimited, Some(MOMENT)));
        release.send(()).unwrap();
        let free = Gate { permits: Arc::clone(&gate.permits), wait: LONG, limit: LONG };
        assert_eq!(free.run(|| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_panic_gives_the_place_back() {
        let gate = Gate::new(1, LONG, LONG);
        let error = gate.run::<u8>(|| panic!("as the test wants")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Internal);
        assert_eq!(gate.run(|| 7).await.unwrap(), 7);
    }
}
