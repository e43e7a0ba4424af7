//! Commit hashes: hexadecimal, seven characters or more, in lower case. A shorter one names every longer one that it
//! begins.

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

    /// A list of at most `most` hashes, in order and each once; what is wrong is told by its place in the list.
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

    /// As the store kept it.
    pub fn kept(text: String) -> Sha {
        Sha(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The two may be the same commit: one begins with the other.
    pub fn matches(&self, other: &Sha) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }

    /// A range of texts, `from` included and `until` not, that holds every hash that may match this one.
    pub fn range(&self) -> (String, String) {
        let from = &self.0[..SHORTEST.min(self.0.len())];
        (from.to_owned(), format!("{from}g"))
    }
}

/// `Sha::range` in SQL: the hash in the column `theirs` may match the one in `ours`. An index over `theirs` serves.
macro_rules! like {
    ($ours:literal, $theirs:literal) => {
        concat!($theirs, " >= substr(", $ours, ", 1, 7) AND ", $theirs, " < substr(", $ours, ", 1, 7) || 'g'")
    };
}

/// `Sha::matches` in SQL, with the range.
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
    fn a_short_one_names_the_long_ones_that_it_begins() {
        assert!(sha("D1A34F0").matches(&sha("d1a34f0aaaa")) && sha("d1a34f0aaaa").matches(&sha("d1a34f0")));
        assert!(!sha("d1a34f0b").matches(&sha("d1a34f0a")));
        let (from, until) = sha("d1a34f0aaaa").range();
        for text in ["d1a34f0", "d1a34f0fffff"] {
            assert!(from.as_str() <= text && text < until.as_str());
        }
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        for text in ["", "d1a34f", "xyzxyzx", "d1a34f0 d1a34f0", &"a".repeat(41)] {
            assert!(Sha::parse("sha", text).is_err(), "{text}");
        }
    }
}
