//! Names that the planes register: kinds of run, nouns, actions. They are values rather than an enum: a plane adds its
//! own without a change here, and a name in a row that no plane of this program registers keeps its text.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// How many names can come from rows before any more are shown as `UNKNOWN`. Only our programs write rows, so only
/// a damaged store comes close.
const MAX_INTERNED: usize = 4_096;

/// Replaces a name from a row once there are too many of them.
pub const UNKNOWN: &str = "unknown";

static INTERNED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// The same text, kept until the process ends. Only for names from rows, never for text from a request.
pub(crate) fn intern(text: &str) -> &'static str {
    let mut interned = INTERNED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = interned.get(text) {
        return known;
    }
    if interned.len() >= MAX_INTERNED {
        return UNKNOWN;
    }
    let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
    interned.insert(text);
    text
}

/// Declares a type of registered names. Its constants can be used in patterns.
macro_rules! registered_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(&'static str);

        impl $name {
            /// For constants that a plane registers.
            pub const fn new(name: &'static str) -> $name {
                $name(name)
            }

            /// A name from a row, registered or not.
            pub fn stored(text: &str) -> $name {
                $name($crate::names::intern(text))
            }

            pub const fn as_str(self) -> &'static str {
                self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.0)
            }
        }
    };
}
pub(crate) use registered_name;

#[cfg(test)]
mod tests {
    use crate::{Noun, RunKind};

    #[test]
    fn a_name_from_a_row_equals_the_registered_one() {
        const KNOWN: RunKind = RunKind::new("query");
        assert_eq!(RunKind::stored("query"), KNOWN);
        assert!(matches!(RunKind::stored("query"), KNOWN));
        assert_eq!(RunKind::stored("of a later program").as_str(), "of a later program");
        assert_ne!(Noun::stored("dashboard"), Noun::RUN);
    }
}
