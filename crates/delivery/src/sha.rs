//! Commit hashes: at least seven lowercase hexadecimal digits. A short hash matches longer ones that start with it.

use landreeve_core::Fault;
use landreeve_core::error::Faults;

const SHORTEST: usize = 7;
const MAX_DIGITS: usize = 40;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha(String);

impl Sha {
    pub fn parse(field: &str, text: &str) -> Result<Sha, Fault> {
        let text = text.trim().to_ascii_lowercase();
        if (SHORTEST..=MAX_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Ok(Sha(text));
        }
        Err(Fault::new(field, "sha", "must be 7 to 40 hexadecimal digits"))
    }

    /// Parses a list of at most `most` hashes, sorted and without duplicates; faults name the position in the list.
    pub fn parse_list(field: &str, all: &[String], most: usize, faults: &mut Faults) -> Vec<Sha> {
        if all.len() > most {
            faults.push(field, "range", format!("must have at most {most} hashes"));
        }
        let mut list: Vec<Sha> = all
            .iter()
            .take(most)
            .enumerate()
            .filter_map(|(at, sha)| faults.take(Sha::parse(&format!("{field}.{at}"), sha)))
            .collect();
        list.sort();
        list.dedup();
        list
    }

    /// A hash as stored.
    pub fn kept(text: String) -> Sha {
        Sha(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the two may be the same commit: one starts with the other.
    pub fn matches(&self, other: &Sha) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }

    /// A range of strings, `from` inclusive and `until` exclusive, that contains every hash that may match this one.
    pub fn range(&self) -> (String, String) {
        let from = &self.0[..SHORTEST.min(self.0.len())];
        (from.to_owned(), format!("{from}g"))
    }
}

/// `Sha::range` in SQL: the hash in column `theirs` may match the one in `ours`. Uses an index on `theirs`.
macro_rules! like {
    ($ours:literal, $theirs:literal) => {
        concat!($theirs, " >= substr(", $ours, ", 1, 7) AND ", $theirs, " < substr(", $ours, ", 1, 7) || 'g'")
    };
}

/// `Sha::matches` in SQL, including the range.
macro_rules! same {
    ($ours:literal, $theirs:literal) => {
        concat!(
            $crate::sha::like!($ours, $theirs),
            " AND (substr(",
            $theirs,
            ", 1, length(",
            $ours,
            ")) = ",
            $ours,
            " OR substr(",
            $ours,
            ", 1, length(",
            $theirs,
            ")) = ",
            $theirs,
            ")"
        )
    };
}

pub(crate) use {like, same};

#[cfg(test)]
mod tests {
    use super::*;

    fn sha(text: &str) -> Sha {
        Sha::parse("sha", text).unwrap()
    }

    #[test]
    fn a_short_hash_matches_longer_ones_with_the_same_start() {
        assert!(sha("D1A34F0").matches(&sha("d1a34f0aaaa")) && sha("d1a34f0aaaa").matches(&sha("d1a34f0")));
        assert!(!sha("d1a34f0b").matches(&sha("d1a34f0a")));
        let (from, until) = sha("d1a34f0aaaa").range();
        for text in ["d1a34f0", "d1a34f0fffff"] {
            assert!(from.as_str() <= text && text < until.as_str());
        }
    }

    #[test]
    fn rejects_malformed_hashes() {
        for text in ["", "d1a34f", "xyzxyzx", "d1a34f0 d1a34f0", &"a".repeat(41)] {
            assert!(Sha::parse("sha", text).is_err(), "{text}");
        }
    }
}
