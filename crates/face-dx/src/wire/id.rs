//! Ids as the dialect writes them.

pub use landreeve_delivery::source_id::{decode, encode};
