//! What was read of a request and what is wrong with it travel together, so that one answer names every fault: those of
//! the reading and those that a plane finds.

use crate::error::Faults;
use crate::{Fault, Result};

/// A member that may be left out, or given as null.
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

    /// For changes: nothing to do, clear, or set.
    pub fn change(self) -> Option<Option<T>> {
        match self {
            Given::Absent => None,
            Given::Null => Some(None),
            Given::Value(value) => Some(Some(value)),
        }
    }

    /// What becomes of `old`: it stays, is cleared, or is replaced.
    pub fn over(self, old: Option<T>) -> Option<T> {
        self.change().unwrap_or(old)
    }
}

/// What a request asks for. Where a member could not be read something stands in for it, and `faults` says so: a plane
/// checks it with the rest, and never gets to use it.
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

    /// A value of our own, in which nothing was read wrong.
    pub fn of(value: T) -> Input<T> {
        Input::new(value, Faults::default())
    }

    /// How the request calls what the domain calls `field`; the faults of the reading have the request's names already.
    #[must_use]
    pub fn named(self, names: fn(&str) -> String) -> Input<T> {
        Input { names, ..self }
    }

    /// The value, to be looked at: something in it may only stand in for what could not be read.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Makes something else of the value, and notes what is wrong with it, by the request's names.
    pub fn map<U>(mut self, convert: impl FnOnce(T, &mut Faults) -> U) -> Input<U> {
        let value = convert(self.value, &mut self.faults);
        Input { value, faults: self.faults, names: self.names }
    }

    /// Notes what is wrong beside the value, by the request's names.
    #[must_use]
    pub fn noted(mut self, note: impl FnOnce(&mut Faults)) -> Input<T> {
        note(&mut self.faults);
        self
    }

    /// The value, unless something is wrong with it or was wrong before. What stands in for a member at fault is not
    /// told of again.
    pub fn checked(self, check: impl FnOnce(&T, &mut Faults)) -> Result<T> {
        let mut found = Faults::default();
        check(&self.value, &mut found);
        self.settled(found)
    }

    /// The same, of what `parse` makes of the value.
    pub fn parsed<P>(self, parse: impl FnOnce(T, &mut Faults) -> P) -> Result<P> {
        let mut found = Faults::default();
        let value = parse(self.value, &mut found);
        Input { value, faults: self.faults, names: self.names }.settled(found)
    }

    /// The value, unless something was wrong before.
    pub fn valid(self) -> Result<T> {
        self.settled(Faults::default())
    }

    /// The value, unless this was found wrong with it, by the domain's names, or something was wrong before.
    pub fn settled(mut self, found: Faults) -> Result<T> {
        self.faults.absorb(found.renamed(self.names));
        self.faults.finish()?;
        Ok(self.value)
    }
}

/// A value that was not read from a request has no faults.
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
    fn faults_of_the_reading_and_of_the_plane_are_told_together() {
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
        let told: Vec<_> = checked.unwrap_err().faults.into_iter().map(|fault| fault.field).collect();
        assert_eq!(told, ["/data/name", "/data/more", "/data/size"]);
        assert_eq!(Input::of(3).named(pointer).valid().unwrap(), 3);
    }

    #[test]
    fn what_is_given_replaces_clears_or_leaves() {
        let over = |given: Given<i64>| given.over(Some(1));
        assert_eq!((over(Given::Absent), over(Given::Null), over(Given::Value(2))), (Some(1), None, Some(2)));
        assert_eq!(Given::Value(2).as_value(), Some(&2));
    }
}
