//! The drivers against live servers. `cargo xtask test` starts them and passes their addresses.
#![expect(clippy::expect_used, reason = "a test stops at the first error")]

mod attacks;
mod bounds;
mod catalog;
mod gate;
mod guest;
mod isolation;
mod lifecycle;
mod mysql_backup;
mod support;
mod types;
