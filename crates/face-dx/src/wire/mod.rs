//! The wire format, with conversions from the estate's types.

pub mod auth;
pub mod changes;
pub mod custom_data;
pub mod deployments;
pub mod done;
pub mod error;
pub mod id;
pub mod incidents;
pub mod link;
pub mod pipelines;
pub mod queries;
pub mod query_runs;
pub mod teams;
pub mod time;
mod types;
pub mod users;

pub use types::{ServiceArgument, ShaArgument, TimeArgument};
