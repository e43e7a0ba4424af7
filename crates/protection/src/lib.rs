//! The protection plane: where backups are kept.
//!
//! `repositories` are the places and what opens them, `upkeep` checks and prunes them. Does not belong here: HTTP, wire
//! formats, the format of repositories.

pub mod ids;
pub mod nouns;
mod plane;
pub mod repositories;
mod stored;
pub mod upkeep;

pub use plane::{MIGRATIONS, Protection, ProtectionOptions, SETTINGS, plane};
