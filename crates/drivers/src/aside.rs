//! Work that other tasks of the thread would wait for. While a long value is copied, the runtime gives them to another thread;
//! between shorter ones they have their turn.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::{Handle, RuntimeFlavor};

/// In bytes: copied in less than a millisecond, which is no longer than a statement takes anyway.
pub(crate) const LONG: usize = 1024 * 1024;

/// Does it where nothing waits for it if it works on so many bytes.
pub(crate) fn aside<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes >= LONG && has_other_threads() { tokio::task::block_in_place(work) } else { work() }
}

/// A runtime with one thread has no other to give the tasks to.
fn has_other_threads() -> bool {
    Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// A future that is polled like that. `bytes` says how many it works on next.
pub(crate) struct Aside<F, B> {
    pub future: F,
    pub bytes: B,
}

impl<F: Future + Unpin, B: Fn() -> usize + Unpin> Future for Aside<F, B> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        aside((this.bytes)(), || Pin::new(&mut this.future).poll(cx))
    }
}

/// In bytes: a task that has worked on so many lets others go first. Far more than a result of ordinary size has.
pub(crate) const TURN: usize = 256 * 1024;

/// How much of its turn a task has used.
#[derive(Debug, Default)]
pub(crate) struct Turn(usize);

impl Turn {
    /// Whether it is over after so many more bytes.
    pub fn ends_after(&mut self, bytes: usize) -> bool {
        self.0 = self.0.saturating_add(bytes);
        let over = self.0 >= TURN;
        if over {
            self.0 = 0;
        }
        over
    }

    pub async fn took(&mut self, bytes: usize) {
        if self.ends_after(bytes) {
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// With one worker, another task runs only if that worker is free.
    fn others_run(bytes: usize, runtime: &tokio::runtime::Runtime) -> bool {
        runtime.block_on(async move {
            let (told, heard) = std::sync::mpsc::channel();
            let working = tokio::spawn(async move {
                tokio::spawn(async move { told.send(()) });
                let future = std::future::poll_fn(move |_| {
                    Poll::Ready(heard.recv_timeout(Duration::from_millis(500)).is_ok())
                });
                Aside { future, bytes: || bytes }.await
            });
            working.await.unwrap()
        })
    }

    #[tokio::test]
    async fn other_tasks_have_their_turn_between_rows() {
        let mut turn = Turn::default();
        let others = tokio::spawn(async {});
        turn.took(TURN - 1).await;
        assert!(!others.is_finished(), "after little work");
        turn.took(1).await;
        assert!(others.is_finished());
    }

    #[test]
    fn other_tasks_run_beside_work_on_a_long_value() {
        let one_worker = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        assert!(others_run(LONG, &one_worker));
        assert!(!others_run(LONG - 1, &one_worker), "a short one is not worth it");
        let one_thread = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(!others_run(LONG, &one_thread), "there is no other thread");
    }
}
