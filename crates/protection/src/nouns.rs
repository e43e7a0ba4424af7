//! The nouns of this plane's permissions.

use landreeve_core::Noun;
use landreeve_estate::plane::NounSpec;

/// Where backups are kept. Repositories belong to the whole estate.
pub const REPOSITORY: Noun = Noun::new("repository");

pub const SPECS: [NounSpec; 1] = [NounSpec::administrative(REPOSITORY)];
