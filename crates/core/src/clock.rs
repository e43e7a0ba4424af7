//! The only clock. Every use case takes the time from here, so that tests can set it.

use jiff::Timestamp;

pub trait Clock: Send + Sync + 'static {
    /// The current time in whole microseconds, so that it is the same after being stored.
    fn now(&self) -> Timestamp;
}

#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the port's only real implementation")]
    fn now(&self) -> Timestamp {
        from_micros(Timestamp::now().as_microsecond())
    }
}

/// A stored time. Values outside the range of a timestamp are clamped to it.
pub fn from_micros(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 { Timestamp::MIN } else { Timestamp::MAX })
}
