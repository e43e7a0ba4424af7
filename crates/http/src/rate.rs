//! How often an account may ask: a limit over a window that moves with the clock.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::{Error, Result};

const SLICES: usize = 60;
/// Accounts that asked within the last minute, at most; beyond that the oldest knowledge goes.
const MOST: usize = 10_000;

/// At most so many requests within any sixty seconds, told apart by an account's number.
pub struct RateLimit {
    per_minute: u32,
    windows: Mutex<HashMap<i64, Window>>,
}

/// Counts per second of the last minute.
struct Window {
    second: i64,
    counts: [u32; SLICES],
}

impl RateLimit {
    /// 0 sets no limit.
    pub fn new(per_minute: u32) -> RateLimit {
        RateLimit { per_minute, windows: Mutex::default() }
    }

    /// Counts a request, or says when there is room for it.
    pub fn take(&self, account: i64, now: Timestamp) -> Result<()> {
        if self.per_minute == 0 {
            return Ok(());
        }
        let second = now.as_second();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MOST && !windows.contains_key(&account) {
            windows.retain(|_, window| second - window.second < SLICES as i64);
            if windows.len() >= MOST {
                windows.clear();
            }
        }
        let window = windows.entry(account).or_insert(Window { second, counts: [0; SLICES] });
        window.forward(second);
        if window.counts.iter().sum::<u32>() >= self.per_minute {
            let message = format!("more than {} requests within a minute", self.per_minute);
            return Err(Error::rate_limited(message, window.room(second)));
        }
        window.counts[slot(window.second)] += 1;
        Ok(())
    }
}

fn slot(second: i64) -> usize {
    second.rem_euclid(SLICES as i64) as usize
}

impl Window {
    fn forward(&mut self, second: i64) {
        let passed = (second - self.second).clamp(0, SLICES as i64);
        for step in 1..=passed {
            self.counts[slot(self.second + step)] = 0;
        }
        self.second = self.second.max(second);
    }

    /// When the first of those that were counted leaves the window.
    fn room(&self, second: i64) -> Duration {
        let oldest = (1..=SLICES as i64).find(|ahead| self.counts[slot(second + ahead)] > 0);
        Duration::from_secs(oldest.unwrap_or(1).unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_768_478_400 + second).unwrap()
    }

    #[test]
    fn no_sixty_seconds_hold_more_than_the_limit() {
        let limit = RateLimit::new(3);
        for second in [0, 10, 59] {
            limit.take(1, at(second)).unwrap();
        }
        let error = limit.take(1, at(59)).unwrap_err();
        assert_eq!(error.retry_after, Some(Duration::from_secs(1)));
        limit.take(2, at(59)).unwrap();
        limit.take(1, at(60)).unwrap();
        assert!(limit.take(1, at(60)).is_err());
        limit.take(1, at(70)).unwrap();
        // A clock that goes back opens nothing.
        assert!(limit.take(1, at(0)).is_err());
        limit.take(1, at(1_000)).unwrap();
        RateLimit::new(0).take(1, at(0)).unwrap();
    }
}
