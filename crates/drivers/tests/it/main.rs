//! The drivers against live servers. `cargo xtask test` starts them and says where they are.

mod attacks;
mod catalog;
mod lifecycle;
mod support;
mod types;
