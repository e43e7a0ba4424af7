//! What was read of a request and what is wrong with it travel together, so that one answer names every fault: those of
//! the reading and those that the plane finds.

use landreeve_core::Result;
use landreeve_core::error::Faults;

/// What somebody asks for. Where a member could not be read something stands in for it, and `faults` says so: the plane
/// checks it with the rest, and never gets to use it.
#[derive(Debug, Clone)]
pub struct Input<T> {
    value: T,
    faults: Faults,
}

impl<T> Input<T> {
    pub fn new(value: T, faults: Faults) -> Input<T> {
        Input { value, faults }
    }

    /// Notes what is wrong beside the value.
    pub(crate) fn noted(mut self, note: impl FnOnce(&mut Faults)) -> Input<T> {
        note(&mut self.faults);
        self
    }

    /// The value, unless something is wrong with it or was wrong before. What stands in for a member at fault is not
    /// told of again.
    pub(crate) fn checked(self, check: impl FnOnce(&T, &mut Faults)) -> Result<T> {
        self.parsed(|value, faults| {
            check(&value, faults);
            value
        })
    }

    /// The same, of what `parse` makes of the value.
    pub(crate) fn parsed<P>(mut self, parse: impl FnOnce(T, &mut Faults) -> P) -> Result<P> {
        let mut found = Faults::default();
        let parsed = parse(self.value, &mut found);
        self.faults.absorb(found);
        self.faults.finish()?;
        Ok(parsed)
    }
}

/// Whoever makes a value of its own has read nothing wrong.
impl<T> From<T> for Input<T> {
    fn from(value: T) -> Input<T> {
        Input::new(value, Faults::default())
    }
}
