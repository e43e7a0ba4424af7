//! The analytics plane: query any datasource with parameters, keep results, arrange reports on dashboards.
//!
//! `lang` is the SQL parameter language, `executions` runs queries, `dashboards`, `reports`, `filters` and `snippets`
//! are what people make. Modules build on one another in one direction: `rows`, then `filters` and `snippets`, `usage`
//! (what SQL names), `dashboards` and `reports`, `parameters` (what a statement is expanded with), `options` (what
//! drop-downs offer), `executions`. What must not enter: HTTP, the shape of any wire, a vendor's name.

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
