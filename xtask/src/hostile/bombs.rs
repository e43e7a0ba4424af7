//! The list of bombs.

use anyhow::{Result, ensure};

use super::caller::Target;
use super::downloads::Format;
use super::{functions, statements};

/// A statement, or several that belong together.
pub struct Bomb {
    pub name: String,
    pub action: Action,
}

pub enum Action {
    /// Statements on one target, one after the other.
    Sequence(Target, Vec<String>),
    /// Statements on one target, concurrently.
    Concurrent(Target, Vec<String>),
    /// A statement whose result is read slowly.
    SlowReader(Target, String),
    /// Finds the largest value that can be stored; the downloads read it.
    LargestValue,
    /// Readers of that value, concurrently.
    Downloads(Format),
}

impl Bomb {
    pub fn new(name: impl Into<String>, action: Action) -> Self {
        Self { name: name.into(), action }
    }

    /// The name of the function, if the bomb calls one with various arguments.
    pub fn function(&self) -> Option<&str> {
        self.name.strip_prefix(functions::PREFIX)
    }

    fn matches(&self, only: &str) -> bool {
        self.name.to_lowercase().contains(only)
    }
}

/// The bombs whose name contains the text, which is in lower case.
pub fn selected(only: Option<&str>) -> Result<Vec<Bomb>> {
    let mut bombs = all()?;
    let Some(only) = only else { return Ok(bombs) };
    let downloads = |bomb: &Bomb| matches!(bomb.action, Action::Downloads(_)) && bomb.matches(only);
    let needs_value = bombs.iter().any(downloads);
    bombs.retain(|bomb| bomb.matches(only) || needs_value && matches!(bomb.action, Action::LargestValue));
    ensure!(!bombs.is_empty(), "no bomb has a name that contains `{only}`");
    Ok(bombs)
}

/// Those that end the server are more likely late in the list: each costs a restart, which hides what came before.
fn all() -> Result<Vec<Bomb>> {
    let mut bombs = functions::bombs()?;
    bombs.extend(statements::engine());
    bombs.extend(statements::postgres());
    bombs.extend(statements::mariadb());
    bombs.extend(statements::sqlite());
    bombs.push(Bomb::new("downloads: the largest value that can be stored", Action::LargestValue));
    for format in Format::ALL {
        let name = format!("downloads: ten readers of that value as {}", format.name());
        bombs.push(Bomb::new(name, Action::Downloads(format)));
    }
    Ok(bombs)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let mut seen = HashSet::new();
        for bomb in all().unwrap() {
            assert!(seen.insert(bomb.name.clone()), "{}", bomb.name);
        }
    }

    #[test]
    fn selects_by_name() {
        let names = |only| selected(Some(only)).map(|bombs| bombs.len()).ok();
        assert!(names("replace").unwrap() >= 2);
        // It needs the stored value too.
        assert_eq!(names("as parquet"), Some(2));
        assert_eq!(names("nosuch"), None);
    }
}
