//! Virtual databases with the real engine, and environments, on both metadata stores.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod backups;
mod deployments;
mod environments;
mod execute;
mod leases;
mod nodes;
mod permits;
mod properties;
mod remote;
mod revisions;
mod support;
mod topologies;
