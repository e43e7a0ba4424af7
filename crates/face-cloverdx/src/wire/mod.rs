//! The wire format, with conversions from the estate's types.

pub mod error;
pub mod executions;
pub mod link;
pub mod query;
