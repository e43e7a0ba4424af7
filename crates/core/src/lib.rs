//! The vocabulary that all other crates share: ids, time, errors, authority, paging and the ports.
//!
//! Belongs here: small, stable values and traits without I/O. Does not belong here: an async runtime, serde, a database
//! client, a status code, or the name of a vendor.

pub mod authority;
pub mod calendar;
pub mod clock;
pub mod datasource;
pub mod decimal;
pub mod error;
pub mod hashid;
pub mod ids;
pub mod input;
pub mod load;
pub mod names;
pub mod opctx;
pub mod outbound;
pub mod page;
pub mod random;
pub mod run;
pub mod schema;
pub mod secret;
pub mod snapshot;
pub mod source;
pub mod sql;
pub mod table;
pub mod tickets;
pub mod vault;

pub use authority::{Action, Authority, Grant, Granted, Noun, Permission, Scope};
pub use clock::{Clock, SystemClock};
pub use error::{Error, ErrorKind, Fault, Result};
pub use ids::{IdKind, Ids, KindedId};
pub use input::{Given, Input};
pub use opctx::{Actor, Moment, OpCtx, OpKind};
pub use page::{Page, PageOf, Part};
pub use random::Random;
pub use run::{Category, PoolName, RunKind, RunState};
pub use secret::Secret;
