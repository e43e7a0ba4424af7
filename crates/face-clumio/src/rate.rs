//! How many requests of callers with a valid token the whole dialect takes in a second. Others are not counted: they could stop
//! everyone else.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::Result;
use landreeve_http::rate::RateLimit;

#[derive(Clone)]
pub struct Limit(Arc<RateLimit>);

/// There is one organization here.
const ORGANIZATION: i64 = 0;

impl Limit {
    pub fn new(requests_per_second: u32) -> Limit {
        Limit(Arc::new(RateLimit::new(requests_per_second, Duration::from_secs(1))))
    }

    /// Counts a request.
    pub fn take(&self, now: Timestamp) -> Result<()> {
        self.0.take(ORGANIZATION, now)
    }
}
