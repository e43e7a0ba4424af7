//! Limits for the text of environments and of what is in them.

use landreeve_core::Error;
use landreeve_core::error::Faults;

/// Characters of a name.
pub(crate) const NAME: usize = 255;
/// Characters of a description or an address.
pub(crate) const LONG: usize = 4_000;

/// Adds a fault if the text is not a name: 1 to 255 characters without control characters.
pub(crate) fn name(faults: &mut Faults, field: &str, text: &str) {
    let length = text.chars().count();
    if length == 0 || length > NAME {
        faults.push(field, "length", format!("must have 1 to {NAME} characters"));
    } else if text.chars().any(char::is_control) {
        faults.push(field, "character", "must not contain control characters");
    } else if text.trim().is_empty() {
        faults.push(field, "format", "must not be blank");
    }
}

/// Adds a fault if there is a text and it has more characters, or one that no store can keep.
pub(crate) fn at_most(faults: &mut Faults, field: &str, text: Option<&str>, limit: usize) {
    let Some(text) = text else { return };
    if text.chars().count() > limit {
        faults.push(field, "length", format!("must have at most {limit} characters"));
    } else if text.contains('\0') {
        faults.push(field, "character", "must not contain the character U+0000");
    }
}

/// The error for a number that is the name of one thing and the id of another.
pub(crate) fn ambiguous(what: &str, name: &str) -> Error {
    Error::conflict(
        "ambiguous",
        format!(
            "{name} is the name of one {what} and the id of another; use the id of the one or the name of the other"
        ),
    )
}
