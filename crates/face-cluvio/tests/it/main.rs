//! Both servers of the dialect in-process, with an estate on SQLite and a driver that reacts to the statement.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test helpers fail like tests")]

mod bad_input;
mod catalog;
mod data;
#[path = "../../../testkit/src/documented.rs"]
mod documented;
mod executions;
mod ids;
mod includes;
mod limits;
mod lists;
mod merge;
mod permissions;
mod properties;
mod routes;
mod samples;
mod support;
