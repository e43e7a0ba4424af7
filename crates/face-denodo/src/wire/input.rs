//! Reads request bodies with all their faults, and translates the plane's names of fields to those of members.

use landreeve_core::error::Faults;
use landreeve_core::{Error, Fault, Input, Result};
use landreeve_http::body::{Fields, NullIs, Rules, Unknown, json_object, read_object};

/// A null means that the member is absent. An unknown member would have no effect, so it is a fault.
const RULES: Rules = Rules { null: NullIs::Absent, unknown: Unknown::Report };

/// From the plane's name of a field to the member's. A member's name stays as it is.
pub type Names = fn(&str) -> String;

/// A body that must be a JSON object.
pub fn read<T>(body: &[u8], names: Names, read: impl FnOnce(&Fields<'_>) -> T) -> Result<Input<T>> {
    let object = json_object(body)?;
    let (mut slot, mut faults) = (None, Faults::default());
    if let Err(error) = read_object(&object, "", RULES, |fields| slot = Some(read(fields))) {
        error.faults.into_iter().for_each(|fault| faults.add(fault));
    }
    let value = slot.ok_or_else(|| Error::internal("a body that was not read"))?;
    Ok(Input::new(value, faults).named(names))
}

/// The same error with the members' names, for one that was found after the body was accepted.
pub fn named(error: Error, names: Names) -> Error {
    let faults = error.faults.into_iter().map(|fault| Fault { field: names(&fault.field), ..fault });
    Error { faults: faults.collect(), ..error }
}

/// `license_alias` becomes `licenseAlias`.
pub fn camel(field: &str) -> String {
    let mut name = String::with_capacity(field.len());
    let mut starts = false;
    for c in field.chars() {
        match c {
            '_' => starts = true,
            c if starts => {
                name.push(c.to_ascii_uppercase());
                starts = false;
            }
            c => name.push(c),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_those_of_members() {
        for (field, member) in [
            ("license_alias", "licenseAlias"),
            ("scripts.disable_server.arguments.0.literal", "scripts.disableServer.arguments.0.literal"),
            ("licenseAlias", "licenseAlias"),
            ("", ""),
        ] {
            assert_eq!(camel(field), member);
        }
    }
}
