//! The use cases shared by all planes: each is one function that checks the caller's authority, acts and audits in one
//! transaction. Faces, the console and the command line call these and use nothing else of the estate.

pub mod access;
pub mod audit;
pub mod backup;
pub mod datasources;
pub mod general;
pub mod groups;
pub mod keys;
pub mod members;
pub mod ous;
pub mod runs;
pub mod scheduled;
pub mod secrets;
pub mod settings;
pub mod sign_in;
pub mod units;
pub mod users;

pub use crate::Estate;
pub use crate::audit::AuditEvent;
pub use crate::estate::OwnedAct;
pub use crate::identity::grants::Assignment;
pub use crate::identity::groups::{EVERYONE, GroupFilter};
pub use crate::identity::{
    Api, GrantTarget, Group, Key, NewGrant, Origin, Ou, Role, Subject, User, UserChange, UserFilter,
};
pub use crate::inventory::{
    Agent, AgentFilter, ConnectionMode, Datasource, DatasourceDetails, DatasourceFilter, Login, Ssh,
};
pub use crate::outbound::Network;
pub use crate::runs::list::{FamilyFilter, Narrow, Range, RunOrder};
pub use crate::runs::{Run, RunError, RunFilter};
pub use crate::settings::{CsvSeparator, Settings, WeekStart};
