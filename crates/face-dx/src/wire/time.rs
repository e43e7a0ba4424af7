//! Times as most families of this dialect write them.

use jiff::Timestamp;

/// `2026-01-15T12:00:00Z`: whole seconds, in UTC.
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
