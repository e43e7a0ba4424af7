//! The drivers against live servers. `cargo xtask test` starts them and says where they are.
#![expect(clippy::expect_used, reason = "a test ends at the first surprise")]

mod attacks;
mod catalog;
mod lifecycle;
mod support;
mod types;
