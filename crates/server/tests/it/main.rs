//! The one end-to-end test binary: a real server process, spoken to over HTTP and by the command line, on real
//! databases. `cargo xtask test` starts those.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod analytics;
mod catalog;
mod command_line;
mod crash;
mod delivery;
mod faults;
mod life;
mod schema;
mod support;
