//! Ids in the dialect's form.

pub use landreeve_delivery::source_id::{decode, encode};
