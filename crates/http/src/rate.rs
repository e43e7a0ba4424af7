//! Rate limits over a sliding window.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::{Error, Result};

/// Number of slices in a window, which determines the precision of the limit.
const SLICES: usize = 60;
/// Maximum number of keys to track; beyond that, old counts are dropped.
const MAX_CALLERS: usize = 10_000;

/// Allows at most `most` requests per key (an account or a run) in any window of this length.
pub struct RateLimit {
    most: u32,
    window: Duration,
    windows: Mutex<HashMap<i64, Window>>,
}

/// Counts per slice of the last window; slices are numbered since 1970.
struct Window {
    slice: i64,
    counts: [u32; SLICES],
}

impl RateLimit {
    /// `most`: 0 means no limit. `window`: at least 60 microseconds.
    pub fn new(most: u32, window: Duration) -> RateLimit {
        RateLimit { most, window, windows: Mutex::default() }
    }

    /// Counts a request, or returns an error that says when to retry.
    pub fn take(&self, key: i64, now: Timestamp) -> Result<()> {
        if self.most == 0 {
            return Ok(());
        }
        let length = self.window / SLICES as u32;
        let slice = now.as_microsecond() / i64::try_from(length.as_micros()).unwrap_or(i64::MAX).max(1);
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MAX_CALLERS && !windows.contains_key(&key) {
            windows.retain(|_, window| slice - window.slice < SLICES as i64);
            if windows.len() >= MAX_CALLERS {
                windows.clear();
            }
        }
        let window = windows.entry(key).or_insert(Window { slice, counts: [0; SLICES] });
        window.forward(slice);
        if window.counts.iter().sum::<u32>() >= self.most {
            let message = format!("more than {} requests within {} s", self.most, self.window.as_secs());
            return Err(Error::rate_limited(message, length * window.room(slice)));
        }
        window.counts[slot(window.slice)] += 1;
        Ok(())
    }
}

fn slot(slice: i64) -> usize {
    slice.rem_euclid(SLICES as i64) as usize
}

impl Window {
    fn forward(&mut self, slice: i64) {
        let passed = (slice - self.slice).clamp(0, SLICES as i64);
        for step in 1..=passed {
            self.counts[slot(self.slice + step)] = 0;
        }
        self.slice = self.slice.max(slice);
    }

    /// Number of slices until the oldest counted request leaves the window.
    fn room(&self, slice: i64) -> u32 {
        let oldest = (1..=SLICES as u32).find(|ahead| self.counts[slot(slice + i64::from(*ahead))] > 0);
        oldest.unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_768_478_400 + second).unwrap()
    }

    #[test]
    fn no_window_exceeds_the_limit() {
        let limit = RateLimit::new(3, MINUTE);
        for second in [0, 10, 59] {
            limit.take(1, at(second)).unwrap();
        }
        let error = limit.take(1, at(59)).unwrap_err();
        assert_eq!(error.retry_after, Some(Duration::from_secs(1)));
        limit.take(2, at(59)).unwrap();
        limit.take(1, at(60)).unwrap();
        assert!(limit.take(1, at(60)).is_err());
        limit.take(1, at(70)).unwrap();
        // A clock that goes back makes no room.
        assert!(limit.take(1, at(0)).is_err());
        limit.take(1, at(1_000)).unwrap();
        RateLimit::new(0, MINUTE).take(1, at(0)).unwrap();
    }

    #[test]
    fn short_windows_slide_in_fractions_of_a_second() {
        let limit = RateLimit::new(2, Duration::from_secs(5));
        let after = |millis| at(0) + Duration::from_millis(millis);
        limit.take(1, after(0)).unwrap();
        limit.take(1, after(2_500)).unwrap();
        let error = limit.take(1, after(4_000)).unwrap_err();
        assert!(error.retry_after.unwrap() <= Duration::from_millis(1_100), "{error:?}");
        limit.take(1, after(5_000)).unwrap();
        assert!(limit.take(1, after(7_400)).is_err());
        limit.take(1, after(7_500)).unwrap();
    }
}
