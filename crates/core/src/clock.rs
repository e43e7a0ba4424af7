//! The one clock. Every use case takes its time from here, so that tests can move it by hand.

use jiff::Timestamp;

pub trait Clock: Send + Sync + 'static {
    /// The present, in whole microseconds: what is stored is what was read.
    fn now(&self) -> Timestamp;
}

#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the port's one real implementation")]
    fn now(&self) -> Timestamp {
        from_micros(Timestamp::now().as_microsecond())
    }
}

/// A time as the store keeps it. Values outside what a timestamp can hold become its ends.
pub fn from_micros(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 { Timestamp::MIN } else { Timestamp::MAX })
}
