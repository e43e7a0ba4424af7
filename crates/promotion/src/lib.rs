//! The promotion plane: virtual databases, whose views span several databases and files, and the environments that their
//! definitions go to.
//!
//! `vql` is the language, `catalog` the objects of a version and what a script does to them, `scan` reads base views from
//! their sources. `nodes` and `versions` are the rows, `apply` runs a script against them, `sources` and `jdbc` find out
//! where rows are, `tables` offers views to SQL. `environments`, `clusters`, `servers` and `configuration` are what is
//! deployed to, `access` reaches the nodes of servers, here and on other machines. `revisions` are the scripts that are kept
//! to be deployed, `selection` makes them of what a node has, `leases` knows which servers are running, `git` is where backups
//! are committed. Does not belong here: HTTP, wire formats, the planning of SQL.

pub mod access;
pub mod apply;
pub mod catalog;
pub mod clusters;
pub mod configuration;
pub mod deployments;
pub mod environments;
mod git;
pub mod ids;
mod jdbc;
pub mod leases;
pub mod nodes;
pub mod nouns;
mod plane;
pub mod properties;
pub mod revisions;
mod scan;
pub mod scenario;
pub mod selection;
pub mod servers;
mod sources;
mod stored;
mod tables;
mod text;
pub mod versions;
pub mod vql;

pub use plane::{DATABASE_TYPE, MIGRATIONS, Promotion, PromotionOptions, SETTINGS, plane};
