//! The analytics plane: query any datasource with parameters, keep results, arrange reports on dashboards.
//!
//! `lang` is the SQL parameter language, `executions` runs queries, `dashboards`, `reports`, `filters` and `snippets`
//! are what people make. What must not enter: HTTP, the shape of any wire, a vendor's name.

pub mod dashboards;
pub mod executions;
pub mod filters;
pub mod ids;
pub mod lang;
pub mod nouns;
mod options;
mod parameters;
mod plane;
pub mod reports;
pub mod snippets;
mod stored;

pub use plane::{Analytics, AnalyticsOptions, BuiltinSnippets, MIGRATIONS, plane};
