//! Limits for clients: connections, header, body and time. They can change while the server runs.
//!
//! Limits of a dialect or a use case (rows, `wait=`) belong to the face or the plane, not here.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// A change applies to new connections and new requests; those in progress keep their limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections of one listener; more wait in the accept queue.
    pub connections: usize,
    /// Concurrent requests on one HTTP/2 connection.
    pub streams: u32,
    /// Bytes of a request head.
    pub header_bytes: usize,
    /// Time to send a request head. On HTTP/1 it also closes a connection that is idle between requests.
    pub header_time: Duration,
    pub handshake_time: Duration,
    /// An HTTP/2 connection without a request is closed after one to two times this period.
    pub idle_time: Duration,
    /// A client that reads nothing of its response for this long is disconnected.
    pub write_stall: Duration,
    /// Time that requests in progress get to finish when the server is stopped.
    pub drain_time: Duration,
    pub body: BodyLimits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    pub bytes: usize,
    /// Maximum time without a byte.
    pub stall: Duration,
    /// Maximum time for the whole body, so that a slow client cannot occupy memory for hours.
    pub total: Duration,
}

impl Default for BodyLimits {
    fn default() -> BodyLimits {
        BodyLimits { bytes: 8 * 1024 * 1024, stall: Duration::from_secs(30), total: Duration::from_secs(300) }
    }
}

impl Limits {
    /// The HTTP/1 parser needs at least this.
    pub const MIN_HEADER_BYTES: usize = 8 * 1024;
    /// How long a client may read nothing of its response.
    pub const WRITE_STALL: Duration = Duration::from_secs(60);
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 1_024,
            streams: 64,
            header_bytes: 32 * 1024,
            header_time: Duration::from_secs(10),
            handshake_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(60),
            write_stall: Limits::WRITE_STALL,
            drain_time: Duration::from_secs(20),
            body: BodyLimits::default(),
        }
    }
}

/// The current limits, shared by all listeners and changed by a reload.
#[derive(Debug, Clone)]
pub struct LiveLimits(Arc<watch::Sender<Arc<Limits>>>);

impl LiveLimits {
    pub fn new(limits: Limits) -> LiveLimits {
        LiveLimits(Arc::new(watch::Sender::new(Arc::new(limits))))
    }

    pub fn get(&self) -> Arc<Limits> {
        self.0.borrow().clone()
    }

    pub fn set(&self, limits: Limits) {
        self.0.send_replace(Arc::new(limits));
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Limits>> {
        self.0.subscribe()
    }
}

impl Default for LiveLimits {
    fn default() -> LiveLimits {
        LiveLimits::new(Limits::default())
    }
}
