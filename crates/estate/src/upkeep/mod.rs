//! The estate's own work: the run kinds that read the schemas of datasources and delete expired data.
//!
//! This module knows nothing about planes: a plane deletes its own rows in its purge hook.

mod purge;
mod refresh;

pub use purge::{PURGE, Purge};
pub use refresh::{OnChange, SAMPLE_DATA, SCHEMA_REFRESH, SchemaRefresh};
