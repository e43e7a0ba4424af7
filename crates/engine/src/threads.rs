//! The engine's threads. They start with a statement and end when there has been none for a moment: a thread keeps memory
//! for its next allocations, and all of it while it has nothing to do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use landreeve_core::source::{SourceError, SourceErrorKind};
use tokio::runtime::{Builder, Handle, Runtime};

/// Recursive functions walk the plans; only the part of the stack that they use takes memory.
pub(crate) const STACK: usize = 64 * 1_024 * 1_024;
/// How long threads without a statement stay.
pub const IDLE: Duration = Duration::from_secs(2);

pub struct Threads {
    count: usize,
    idle: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    runtime: Option<Runtime>,
    /// Statements that use the threads.
    uses: usize,
    /// How often they became unused.
    ends: u64,
}

/// The right to use the threads: they stay as long as it does.
pub struct Use {
    pub handle: Handle,
    idle: Duration,
    state: Arc<Mutex<State>>,
}

impl Threads {
    pub fn new(count: usize, idle: Duration) -> Threads {
        Threads { count, idle, state: Arc::default() }
    }

    pub fn start(&self) -> Result<Use, SourceError> {
        let mut state = lock(&self.state);
        let handle = match &state.runtime {
            Some(runtime) => runtime.handle().clone(),
            None => {
                let made = self.make()?;
                let handle = made.handle().clone();
                state.runtime = Some(made);
                handle
            }
        };
        state.uses += 1;
        Ok(Use { handle, idle: self.idle, state: Arc::clone(&self.state) })
    }

    fn make(&self) -> Result<Runtime, SourceError> {
        Builder::new_multi_thread()
            .worker_threads(self.count)
            .thread_name("landreeve-sql")
            .thread_stack_size(STACK)
            .enable_time()
            .build()
            .map_err(|cause| {
                let message = format!("the SQL engine could not start its threads: {cause}");
                SourceError::new(SourceErrorKind::Lost, message)
            })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A runtime must not be dropped in async code, where it could block; nothing here is worth waiting for.
        if let Some(runtime) = lock(&self.state).runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.uses -= 1;
        if state.uses > 0 {
            return;
        }
        state.ends += 1;
        let (ends, idle, weak) = (state.ends, self.idle, Arc::downgrade(&self.state));
        // It ends with the threads themselves at the latest.
        self.handle.spawn(async move {
            tokio::time::sleep(idle).await;
            let Some(state) = weak.upgrade() else { return };
            let mut state = lock(&state);
            let unused = state.uses == 0 && state.ends == ends;
            let ended = if unused { state.runtime.take() } else { None };
            drop(state);
            if let Some(runtime) = ended {
                runtime.shutdown_background();
            }
        });
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_threads(threads: &Threads) -> bool {
        lock(&threads.state).runtime.is_some()
    }

    async fn until_ended(threads: &Threads) {
        let ended = async {
            while has_threads(threads) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("they do not end");
    }

    #[tokio::test]
    async fn threads_end_when_no_statement_uses_them() {
        let threads = Threads::new(2, Duration::from_millis(20));
        assert!(!has_threads(&threads), "before the first statement");
        for round in 1..=2 {
            let (first, second) = (threads.start().unwrap(), threads.start().unwrap());
            assert_eq!(first.handle.spawn(async { 7 }).await.unwrap(), 7);
            drop(first);
            assert_eq!(lock(&threads.state).ends, 2 * (round - 1), "one still uses them");
            assert_eq!(second.handle.spawn(async { 8 }).await.unwrap(), 8);
            drop(second);
            drop(threads.start().unwrap());
            assert_eq!(lock(&threads.state).ends, 2 * round, "only the last end counts");
            until_ended(&threads).await;
        }
    }
}
