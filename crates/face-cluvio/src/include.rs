//! The parameter `include`: a list of relationships, comma-separated or repeated.

use landreeve_core::{Error, ErrorKind, Fault, Result};
use landreeve_http::extract::Query;

use crate::error::code;

/// The requested relationships.
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
                        "is not supported by this operation",
                    ));
                }
                None => {
                    let message = format!("must be one of {}, not {name:?}", known.join(", "));
                    faults.push(Fault::new("?include", code::UNKNOWN_INCLUDE, message));
                }
            }
        }
        if faults.is_empty() {
            return Ok(Include(wanted));
        }
        let message = "include names an unknown relationship";
        Err(Error { faults, ..Error::new(ErrorKind::Invalid, code::UNKNOWN_INCLUDE, message) })
    }

    /// For operations without `include`.
    pub fn none(query: &Query) -> Result<()> {
        Include::read(query, &[]).map(drop)
    }

    /// Whether the response has a member `included`.
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
    fn accepts_lists_and_repetition_and_rejects_unknown_names() {
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
