//! Carries a request's parsed value together with its faults, so that one response reports all of them: those found in
//! parsing and those found by the plane.

use landreeve_core::Result;
use landreeve_core::error::Faults;

/// A parsed request. A member that could not be read has a placeholder, and `faults` says so: the plane checks it with
/// the rest but never uses it.
#[derive(Debug, Clone)]
pub struct Input<T> {
    value: T,
    faults: Faults,
}

impl<T> Input<T> {
    pub fn new(value: T, faults: Faults) -> Input<T> {
        Input { value, faults }
    }

    /// Adds faults found outside the value.
    pub(crate) fn noted(mut self, note: impl FnOnce(&mut Faults)) -> Input<T> {
        note(&mut self.faults);
        self
    }

    /// The value, or all faults: those found before and those that `check` finds. A placeholder is not reported again.
    pub(crate) fn checked(self, check: impl FnOnce(&T, &mut Faults)) -> Result<T> {
        self.parsed(|value, faults| {
            check(&value, faults);
            value
        })
    }

    /// The same, for the result of `parse`.
    pub(crate) fn parsed<P>(mut self, parse: impl FnOnce(T, &mut Faults) -> P) -> Result<P> {
        let mut found = Faults::default();
        let parsed = parse(self.value, &mut found);
        self.faults.absorb(found);
        self.faults.finish()?;
        Ok(parsed)
    }
}

/// A value that was not parsed has no faults.
impl<T> From<T> for Input<T> {
    fn from(value: T) -> Input<T> {
        Input::new(value, Faults::default())
    }
}
