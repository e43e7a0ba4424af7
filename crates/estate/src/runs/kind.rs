//! The static properties of a kind of run: its pool, its retries, how it ends and how long it is kept.

use std::time::Duration;

use landreeve_core::{Category, PoolName, RunKind};

/// How often a run is tried if its node dies or an attempt fails for a temporary reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// 1 means that it is not retried.
    pub attempts: u32,
    /// The pause before the second attempt. It doubles with each further one, up to `MAX_BACKOFF`.
    pub backoff: Duration,
}

/// The longest pause before an attempt.
pub const MAX_BACKOFF: Duration = Duration::from_secs(3_600);

impl Retry {
    pub const NEVER: Retry = Retry { attempts: 1, backoff: Duration::ZERO };

    /// The pause after this attempt, counted from 1.
    pub fn pause_after(self, attempt: i64) -> Duration {
        let doubled = u32::try_from(attempt.saturating_sub(1)).unwrap_or(0).min(20);
        self.backoff.saturating_mul(1 << doubled).min(MAX_BACKOFF)
    }
}

/// What happens to an executing run when its server stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDrain {
    /// It is stopped immediately, and goes back to the queue for another node or the next start.
    Requeue,
    /// It may finish within the time that the server has to stop.
    Finish,
}

#[derive(Debug, Clone, Copy)]
pub struct KindSpec {
    pub kind: RunKind,
    pub category: Category,
    pub pool: PoolName,
    pub retry: Retry,
    /// After a crash it is claimed again, even if it was *cancelling*, and its executor decides how it ends.
    pub cleans_up: bool,
    /// How long its executor has to end after a cancel or its time limit.
    pub grace: Duration,
    pub on_drain: OnDrain,
    pub time_limit: Option<Duration>,
    /// The memory of a statement is reserved before it starts; as long as there is none, it stays queued.
    pub reserves_memory: bool,
    /// Retention of the record and of its data, from the end of the run.
    pub keep_record: Duration,
    pub keep_data: Duration,
}

const DAY: Duration = Duration::from_secs(86_400);

impl KindSpec {
    /// A short kind that is not retried and is kept for thirty days.
    pub const fn new(kind: &'static str, category: Category) -> KindSpec {
        KindSpec {
            kind: RunKind::new(kind),
            category,
            pool: PoolName::SHORT,
            retry: Retry::NEVER,
            cleans_up: false,
            grace: Duration::from_secs(10),
            on_drain: OnDrain::Finish,
            time_limit: None,
            reserves_memory: false,
            keep_record: DAY.saturating_mul(30),
            keep_data: DAY.saturating_mul(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour() {
        let retry = Retry { attempts: 100, backoff: Duration::from_secs(30) };
        let pauses = [1, 2, 3, 8, 100].map(|attempt| retry.pause_after(attempt).as_secs());
        assert_eq!(pauses, [30, 60, 120, 3_600, 3_600]);
        assert_eq!(Retry::NEVER.pause_after(1), Duration::ZERO);
    }
}
