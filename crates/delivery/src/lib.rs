//! The delivery plane: what was deployed, which changes were in it, what broke, and who did it; and the DORA metrics
//! that follow.
//!
//! `deployments`, `changes`, `incidents`, `pipelines`, `custom_data` record facts; `attribution` finds the changes of a
//! deployment, `explain` says how they were found or why there are none; `people` and `teams` say whose they are;
//! `tables` offers it all to SQL, `queries` and `feeds` run that SQL, `metrics` computes the common metrics. Does not
//! belong here: HTTP, wire formats, the name of a vendor.

mod attribution;
pub mod changes;
pub mod custom_data;
mod deployment;
pub mod deployments;
pub mod events;
mod explain;
pub mod feeds;
pub mod ids;
pub mod incidents;
mod metadata;
pub mod metrics;
mod moving;
mod names;
pub mod nouns;
pub mod people;
pub mod pipelines;
mod plane;
pub mod queries;
pub mod repos;
mod sha;
pub mod source_id;
mod stored;
mod tables;
pub mod teams;
mod text;

pub use attribution::{ATTRIBUTION, RetryAttribution};
pub use landreeve_estate::results::Wanted;
pub use metadata::Metadata;
pub use names::ServiceName;
pub use plane::{DATABASE_TYPE, Delivery, DeliveryOptions, MIGRATIONS, SETTINGS, plane, source};
pub use tables::DeliveryCatalog;
