//! Small things that several nouns of the plane need: the audit line of an act, a taken name as a fault.

use landreeve_core::{Error, ErrorKind, Fault, Noun};
use landreeve_estate::ops::OwnedAct;

pub(crate) fn act(action: &'static str, noun: Noun, id: i64, name: &str) -> OwnedAct {
    OwnedAct::new(action, noun, id, name)
}

/// A name that is taken is a fault of the field that holds it.
pub(crate) fn taken(error: Error, field: &'static str) -> Error {
    if error.kind == ErrorKind::Conflict && error.code == "taken" {
        return Error { faults: vec![Fault::new(field, "taken", "is taken already")], ..error };
    }
    error
}
