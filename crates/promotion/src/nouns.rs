//! The nouns of this plane's permissions.

use landreeve_core::Noun;

/// A node with virtual databases; the word *node* alone means a server process.
pub const VIRTUAL_NODE: Noun = Noun::new("virtual_node");
