//! Virtual databases with the real engine, on both metadata stores.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod deployments;
mod execute;
mod nodes;
mod permits;
mod support;
