//! The parameter `include`: a list of relationships, by commas or by coming several times.

use landreeve_core::{Error, ErrorKind, Fault, Result};
use landreeve_http::extract::Query;

use crate::error::code;

/// Which of the known relationships are asked for.
#[derive(Debug, Default)]
pub struct Include(Option<Vec<&'static str>>);

impl Include {
    pub fn read(query: &Query, known: &[&'static str]) -> Result<Include> {
        let mut wanted = None;
        let mut faults = Vec::new();
        for name in query.all("include").flat_map(|list| list.split(',')).map(str::trim) {
            if name.is_empty() {
                continue;
            }
            match known.iter().find(|known| **known == name) {
                Some(known) => wanted.get_or_insert_with(Vec::new).push(*known),
                None if known.is_empty() => {
                    faults.push(Fault::new(
                        "?include",
                        code::UNKNOWN_INCLUDE,
                        "is not taken by this operation",
                    ));
                }
                None => {
                    let message = format!("takes {}, not {name:?}", known.join(", "));
                    faults.push(Fault::new("?include", code::UNKNOWN_INCLUDE, message));
                }
            }
        }
        if faults.is_empty() {
            return Ok(Include(wanted));
        }
        let message = "include names a relationship that is not there";
        Err(Error { faults, ..Error::new(ErrorKind::Invalid, code::UNKNOWN_INCLUDE, message) })
    }

    /// For operations that take none.
    pub fn none(query: &Query) -> Result<()> {
        Include::read(query, &[]).map(drop)
    }

    /// Is there to be a member `included`?
    pub fn any(&self) -> bool {
        self.0.is_some()
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().flatten().any(|wanted| *wanted == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_lists_and_repetitions_and_nothing_unknown() {
        let read = |query: &str| Include::read(&Query::parse(query), &["reports", "user"]);
        let both = read("include=reports,user").unwrap();
        assert!(both.has("reports") && both.has("user"));
        let both = read("include=reports&include=user").unwrap();
        assert!(both.has("reports") && both.has("user"));
        assert!(!read("").unwrap().any() && !read("include=").unwrap().any());
        assert_eq!(read("include=x,reports,y").unwrap_err().faults.len(), 2);
        assert!(Include::none(&Query::parse("include=reports")).is_err());
    }
}
