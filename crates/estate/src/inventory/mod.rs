//! The datasource inventory: a datasource is declared once, and every plane uses the same row. Does not belong here: a
//! dialect's attribute names, or connecting.

pub mod agents;
pub mod connect;
pub mod datasources;
pub mod permits;
mod places;
pub mod stored;

pub use agents::{Agent, AgentFilter};
pub use datasources::{ConnectionMode, Datasource, DatasourceDetails, DatasourceFilter, Login, Ssh};
