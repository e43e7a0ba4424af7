//! What one client may take: connections, header, body and time. Changeable while the server runs.
//!
//! What must not enter: limits of a dialect or a use case (rows, `wait=`), which belong to the face or the plane.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// A change reaches new connections and new requests; what is under way keeps the limits it began with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections of one listener; more wait in the accept queue.
    pub connections: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
    /// Bytes of a request head.
    pub header_bytes: usize,
    /// To send a request head. On HTTP/1 it also ends a connection that is idle between requests.
    pub header_time: Duration,
    pub handshake_time: Duration,
    /// An HTTP/2 connection without a request is closed after one to two times this.
    pub idle_time: Duration,
    /// A client that takes no byte of its response for this long is cut off.
    pub write_stall: Duration,
    /// For requests under way when the server is told to stop.
    pub drain_time: Duration,
    pub body: BodyLimits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    pub bytes: usize,
    /// Longest time without a byte.
    pub stall: Duration,
    /// Longest time for the whole body, so that a drip does not hold memory for hours.
    pub total: Duration,
}

impl Default for BodyLimits {
    fn default() -> BodyLimits {
        BodyLimits { bytes: 8 * 1024 * 1024, stall: Duration::from_secs(30), total: Duration::from_secs(300) }
    }
}

impl Limits {
    /// Below this the HTTP/1 parser cannot work.
    pub const MIN_HEADER_BYTES: usize = 8 * 1024;
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
            write_stall: Duration::from_secs(60),
            drain_time: Duration::from_secs(20),
            body: BodyLimits::default(),
        }
    }
}

/// The limits in force, shared by every listener and changed by a reload.
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
