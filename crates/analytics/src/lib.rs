//! The analytics plane: query any datasource with parameters, store results, arrange reports on dashboards.
//!
//! `lang` is the SQL parameter language, `executions` runs queries, `dashboards`, `reports`, `filters` and `snippets`
//! are what users create. Modules build on one another in one direction: `rows`, then `filters` and `snippets`, `usage`
//! (the names in SQL), `dashboards` and `reports`, `parameters` (the inputs of expansion), `options` (the options of
//! drop-downs), `executions`. Does not belong here: HTTP, wire formats, the name of a vendor.

pub mod dashboards;
pub mod executions;
pub mod filters;
pub mod ids;
pub mod lang;
pub mod nouns;
pub mod options;
mod parameters;
mod plane;
pub mod reports;
mod rows;
pub mod snippets;
mod stored;
mod usage;
mod zones;

pub use plane::{Analytics, AnalyticsOptions, BuiltinSnippets, MIGRATIONS, SETTINGS, plane};
