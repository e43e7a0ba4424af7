//! The basis of the faces' tests: an estate in a temporary directory (or on PostgreSQL), a clock that tests set,
//! functions that create users, keys and runs in any state, and a client that calls a router without a network.
//!
//! Only a dependency of tests.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test helpers fail like tests")]

mod ask;
mod databases;
mod delivery;
mod documented;
mod estate;
mod http_relay;
pub mod limits;
mod relay;
mod rest_storage;
mod routes;
mod s3_storage;
mod site;
pub mod skeleton;

pub use ask::{Answer, Ask, HOSTILE};
pub use databases::{mariadb_execute, mariadb_url, postgres_execute, sqlite_execute, sqlite_number};
pub use delivery::{codec, drivers, engine, files, number_in_copy, vault};
pub use estate::{Kit, PASSWORD, follow};
pub use http_relay::{HttpRelay, Mishap};
pub use relay::Relay;
pub use rest_storage::RestStorage;
pub use routes::{compare, everything, everything_but, parse};
pub use s3_storage::{BUCKET, S3Key, S3Storage};
pub use site::{MockClock, Site, postgres_url};

pub use landreeve_estate::store::list::PAGE_ROWS;
