//! The estate's own work: the run kinds that read the schemas of datasources and remove what is past its retention.
//!
//! What must not enter: anything of a plane; a plane's own rows go through its purge hook.

mod purge;
mod refresh;

pub use purge::{PURGE, Purge};
pub use refresh::{OnChange, SAMPLE_DATA, SCHEMA_REFRESH, SchemaRefresh};
