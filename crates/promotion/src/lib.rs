//! The promotion plane: virtual databases, whose views span several databases and files.
//!
//! `vql` is the language, `catalog` the objects of a version and what a script does to them, `scan` reads base views from
//! their sources. `nodes` and `versions` are the rows, `apply` runs a script against them, `sources` and `jdbc` find out
//! where rows are, `tables` offers views to SQL. Does not belong here: HTTP, wire formats, the planning of SQL.

pub mod apply;
pub mod catalog;
pub mod deployments;
pub mod ids;
mod jdbc;
pub mod nodes;
pub mod nouns;
mod plane;
mod scan;
pub mod scenario;
mod sources;
mod stored;
mod tables;
pub mod versions;
pub mod vql;

pub use plane::{DATABASE_TYPE, MIGRATIONS, Promotion, plane};
