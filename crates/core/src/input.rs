//! Carries a request's parsed value together with its faults, so that one response reports all of them: those found in
//! parsing and those found by the plane.

use crate::error::Faults;
use crate::{Fault, Result};

/// A member that can be absent or null.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Given<T> {
    #[default]
    Absent,
    Null,
    Value(T),
}

impl<T> Given<T> {
    pub fn value(self) -> Option<T> {
        match self {
            Given::Value(value) => Some(value),
            Given::Absent | Given::Null => None,
        }
    }

    pub fn as_value(&self) -> Option<&T> {
        match self {
            Given::Value(value) => Some(value),
            Given::Absent | Given::Null => None,
        }
    }

    /// For updates: leave unchanged, clear, or set.
    pub fn change(self) -> Option<Option<T>> {
        match self {
            Given::Absent => None,
            Given::Null => Some(None),
            Given::Value(value) => Some(Some(value)),
        }
    }

    /// The new value for `old`: unchanged, cleared, or replaced.
    pub fn over(self, old: Option<T>) -> Option<T> {
        self.change().unwrap_or(old)
    }
}

/// A parsed request. A member that could not be read has a placeholder, and `faults` says so: the plane checks it with
/// the rest but never uses it.
#[derive(Debug, Clone)]
pub struct Input<T> {
    value: T,
    faults: Faults,
    names: fn(&str) -> String,
}

impl<T> Input<T> {
    pub fn new(value: T, faults: Faults) -> Input<T> {
        Input { value, faults, names: str::to_owned }
    }

    /// A value that was not read from a request, so that it has no faults.
    pub fn of(value: T) -> Input<T> {
        Input::new(value, Faults::default())
    }

    /// Sets how to convert the domain's field names to the request's. Faults found in parsing already have the
    /// request's.
    #[must_use]
    pub fn named(self, names: fn(&str) -> String) -> Input<T> {
        Input { names, ..self }
    }

    /// The value, for inspection only: it can contain placeholders.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Converts the value, and adds the faults found in it, by the request's field names.
    pub fn map<U>(mut self, convert: impl FnOnce(T, &mut Faults) -> U) -> Input<U> {
        let value = convert(self.value, &mut self.faults);
        Input { value, faults: self.faults, names: self.names }
    }

    /// Adds faults found outside the value, by the request's field names.
    #[must_use]
    pub fn noted(mut self, note: impl FnOnce(&mut Faults)) -> Input<T> {
        note(&mut self.faults);
        self
    }

    /// The value, or all faults: those found before and those that `check` finds. A placeholder is not reported again.
    pub fn checked(self, check: impl FnOnce(&T, &mut Faults)) -> Result<T> {
        let mut found = Faults::default();
        check(&self.value, &mut found);
        self.settled(found)
    }

    /// The same, for the result of `parse`.
    pub fn parsed<P>(self, parse: impl FnOnce(T, &mut Faults) -> P) -> Result<P> {
        let mut found = Faults::default();
        let value = parse(self.value, &mut found);
        Input { value, faults: self.faults, names: self.names }.settled(found)
    }

    /// The value, or the faults found before.
    pub fn valid(self) -> Result<T> {
        self.settled(Faults::default())
    }

    /// The value, or all faults: those found before and `found`, which has the domain's field names.
    pub fn settled(mut self, found: Faults) -> Result<T> {
        self.faults.absorb(found.renamed(self.names));
        self.faults.finish()?;
        Ok(self.value)
    }
}

/// A value that was not parsed has no faults.
impl<T> From<T> for Input<T> {
    fn from(value: T) -> Input<T> {
        Input::of(value)
    }
}

impl Faults {
    fn renamed(self, names: fn(&str) -> String) -> Faults {
        let mut renamed = Faults::default();
        for fault in self.into_vec() {
            renamed.add(Fault { field: names(&fault.field), ..fault });
        }
        renamed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(field: &str) -> String {
        format!("/data/{field}")
    }

    #[test]
    fn reports_faults_of_parsing_and_of_the_plane_together() {
        let mut faults = Faults::default();
        faults.push("/data/name", "type", "must be a string");
        let input = Input::new(7, faults).named(pointer).map(|value, faults| {
            faults.push("/data/more", "alone", "must come together with name");
            value + 1
        });
        let checked = input.checked(|value, faults| {
            assert_eq!(*value, 8);
            faults.push("name", "required", "is required");
            faults.push("size", "range", "must be from 1 to 5");
        });
        let fields: Vec<_> = checked.unwrap_err().faults.into_iter().map(|fault| fault.field).collect();
        assert_eq!(fields, ["/data/name", "/data/more", "/data/size"]);
        assert_eq!(Input::of(3).named(pointer).valid().unwrap(), 3);
    }

    #[test]
    fn given_replaces_clears_or_leaves_the_old_value() {
        let over = |given: Given<i64>| given.over(Some(1));
        assert_eq!((over(Given::Absent), over(Given::Null), over(Given::Value(2))), (Some(1), None, Some(2)));
        assert_eq!(Given::Value(2).as_value(), Some(&2));
    }
}
