//! What goes over the wire, with the conversions from the estate's types.

pub mod auth;
pub mod error;
pub mod link;
pub mod query_runs;
pub mod time;
