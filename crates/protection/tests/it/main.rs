//! The plane with a real vault and both metadata stores.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod backups;
mod chosen;
mod estates;
mod forgetting;
mod mysql;
mod policies;
mod postgres;
mod records;
mod repositories;
mod support;
mod writers;
