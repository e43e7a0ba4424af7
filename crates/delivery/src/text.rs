//! Limits for all text in the plane.

use jiff::Timestamp;
use landreeve_core::error::Faults;

/// Names, identifiers, references, branches.
pub const NAME: usize = 255;
/// Titles, messages, addresses.
pub const LONG: usize = 4_096;
/// Prefix of the references that the server assigns. It is reserved, so that no client can take one first.
pub const RESERVED_PREFIX: &str = "landreeve:";

/// Adds a fault unless the text has 1 to `most` characters and, if it is a name, no control characters.
pub fn check(faults: &mut Faults, field: &str, text: &str, most: usize) {
    let length = text.chars().count();
    if length == 0 || length > most {
        faults.push(field, "length", format!("must have 1 to {most} characters"));
    } else if most == NAME && text.chars().any(char::is_control) {
        faults.push(field, "character", "must not contain control characters");
    }
}

/// Clients must choose their own references for what they record.
pub fn refuse_own(faults: &mut Faults, reference: &str) {
    if reference.starts_with(RESERVED_PREFIX) {
        faults.push(
            "reference_id",
            "reserved",
            format!("must not start with {RESERVED_PREFIX:?}, which is reserved for the server"),
        );
    }
}

/// Clocks differ: how far in the future a fact may be, in microseconds.
const FUTURE: i64 = 300_000_000;

pub fn check_past(faults: &mut Faults, field: &str, at: Option<Timestamp>, now: Timestamp) {
    if at.is_some_and(|at| at.as_microsecond() > now.as_microsecond().saturating_add(FUTURE)) {
        faults.push(field, "range", "must not be in the future");
    }
}

pub fn check_opt(faults: &mut Faults, field: &str, text: Option<&str>, most: usize) {
    if let Some(text) = text {
        check(faults, field, text, most);
    }
}
