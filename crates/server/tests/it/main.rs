//! End-to-end tests: a real server process, used over HTTP and through the command line, on real databases that
//! `cargo xtask test` starts.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod analytics;
mod backups;
mod catalog;
mod command_line;
mod crash;
mod delivery;
mod deployments;
mod faults;
mod kerberos;
mod life;
mod nodes;
mod promotion;
mod promotion_crash;
mod promotion_walk;
mod properties;
mod pushdown;
mod revisions;
mod schema;
mod support;
mod virtual_databases;
mod virtual_faults;
