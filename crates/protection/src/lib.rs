//! The protection plane: databases are backed up to repositories, and restored from them.
//!
//! `repositories` are the places and what opens them, `upkeep` checks and prunes them, `at_work` keeps runs that use one
//! apart. `backing_up` takes a snapshot of a database, `staging` passes it on, and it is
//! saved with its `manifest`; `backups` is the catalogue of what
//! was saved, `taking_in` makes it from a repository; `restoring` reads a backup, `records` some rows of one. `policies` say what is backed up by itself, `alerts` what went
//! wrong; `assets` lists the databases, `subjects` says
//! what runs are about, `consolidated` puts alerts together, `trail` says what was done, `units` moves backups with their databases. Does not belong here: HTTP, wire
//! formats, the format of repositories, how a database is read.

pub mod alerts;
pub mod assets;
mod at_work;
pub mod backing_up;
pub mod backups;
pub mod consolidated;
pub mod estate_backup;
pub mod ids;
pub mod keep;
mod manifest;
pub mod nouns;
mod plane;
pub mod policies;
pub mod records;
pub mod repositories;
pub mod restoring;
mod staging;
mod stored;
pub mod subjects;
mod taking_in;
pub mod trail;
mod units;
pub mod upkeep;

pub use plane::{MIGRATIONS, Protection, ProtectionOptions, RowOrderOption, SETTINGS, plane};
