//! What all planes share that needs I/O: the metadata store, identity, secrets, audit, runs, events, the datasource
//! inventory and blobs.
//!
//! Use cases are in `ops`, one function each; faces and the command line call only those. Does not belong here: a
//! plane's nouns, HTTP, a dialect's names.

pub mod audit;
pub mod blobs;
mod bootstrap;
pub mod budget;
mod builtin;
mod estate;
pub mod events;
pub mod identity;
pub mod inventory;
mod manifest;
pub mod memory;
pub mod ops;
pub mod outbound;
pub mod plane;
pub mod program;
pub mod random;
mod refusals;
pub mod results;
pub mod runs;
pub mod schedules;
pub mod secrets;
pub mod settings;
pub mod store;
mod tokens;
pub mod units;
pub mod upkeep;

pub use estate::{Estate, EstateOptions};
pub use plane::{Plane, PlaneParts};
// The types in `EstateOptions`, for callers that only open an estate.
pub use store::{Location, MigrationSet, Migrations, StoreOptions};
