//! What goes over the wire, with the conversions from the estate's types.

pub mod error;
pub mod executions;
pub mod link;
pub mod query;
