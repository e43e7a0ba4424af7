//! What tests of faces stand on: an estate in a temporary directory (or on PostgreSQL), a clock moved by hand, makers of users,
//! keys and runs in any state, and a client that asks a router without a network.
//!
//! A dependency of tests only.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests")]

mod ask;
mod delivery;
mod documented;
mod estate;
mod relay;
mod routes;
mod site;
pub mod skeleton;

pub use ask::{Answer, Ask, HOSTILE};
pub use delivery::number_in_copy;
pub use estate::{Kit, PASSWORD};
pub use relay::Relay;
pub use routes::{compare, everything, everything_but, parse};
pub use site::{MockClock, Site};

pub use landreeve_estate::store::list::PAGE_ROWS;
