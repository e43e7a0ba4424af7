//! The nouns of this plane's permissions.

use landreeve_core::Noun;

pub const DASHBOARD: Noun = Noun::new("dashboard");
pub const REPORT: Noun = Noun::new("report");
pub const FILTER: Noun = Noun::new("filter");
pub const SNIPPET: Noun = Noun::new("snippet");
