//! The nouns of this plane's permissions.

use landreeve_core::Noun;

/// Deployments, changes, incidents, pipeline runs, custom data. `use` allows recording them.
pub const DELIVERY: Noun = Noun::new("delivery");
pub const PERSON: Noun = Noun::new("person");
pub const TEAM: Noun = Noun::new("team");
/// A saved query over delivery data.
pub const FEED: Noun = Noun::new("feed");
