//! The nouns of this plane's permissions.

use landreeve_core::Noun;
use landreeve_estate::plane::NounSpec;

/// Where backups are kept. Repositories belong to the whole estate.
pub const REPOSITORY: Noun = Noun::new("repository");

/// Backups of the databases in a unit: seeing them (view), making them (manage).
pub const BACKUP: Noun = Noun::new("backup");

/// Restoring a backup: to where it was made (use), to another server (manage).
pub const RESTORE: Noun = Noun::new("restore");

/// The rows in a backup: reading them (use).
pub const RECORD: Noun = Noun::new("record");

/// Policies of a unit.
pub const POLICY: Noun = Noun::new("policy");

/// Alerts about the databases of a unit: seeing them (view), noting and clearing them (manage).
pub const ALERT: Noun = Noun::new("alert");

pub const SPECS: [NounSpec; 6] = [
    NounSpec::administrative(REPOSITORY),
    NounSpec::administrative(BACKUP),
    NounSpec::administrative(RESTORE),
    NounSpec::administrative(RECORD),
    NounSpec::administrative(POLICY),
    NounSpec::administrative(ALERT),
];
