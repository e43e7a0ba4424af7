//! Removes objects.

use std::collections::BTreeSet;

use super::{Execution, Failure};
use crate::catalog::{Key, Kind};
use crate::vql::ast::{Drop, KeptKind, Target};

const DEPENDANTS: &str = "There are some elements that depend on this one";
const CONTAINS: &str = "contains elements and can not be dropped";

impl Execution<'_> {
    pub(super) fn drop(&mut self, index: usize, drop: &Drop) -> Result<(), Failure> {
        let Some(key) = self.dropped(index, drop)? else { return Ok(()) };
        let below = self.below(&key);
        if !below.is_empty() && !drop.cascade {
            let what = if key.kind == Kind::Database { "database" } else { "folder" };
            return Err(Failure::new(format!("The {what} '{}' {CONTAINS}", drop.name.name)));
        }
        let mut gone = below;
        gone.insert(key.clone());
        let mut next: Vec<Key> = gone.iter().cloned().collect();
        let mut named = Vec::new();
        while let Some(key) = next.pop() {
            for user in self.users_of(&key) {
                if !gone.contains(&user) {
                    named.push(user.full_name());
                    gone.insert(user.clone());
                    next.push(user);
                }
            }
        }
        if !named.is_empty() && !drop.cascade {
            named.sort();
            named.truncate(10);
            return Err(Failure::new(format!("{DEPENDANTS}: {}", named.join(", "))));
        }
        for key in gone {
            self.take(&key);
            if key.kind == Kind::View {
                self.forget_options(&key);
            }
        }
        Ok(())
    }

    /// What is to be dropped; `None` if it does not exist and need not.
    fn dropped(&self, index: usize, drop: &Drop) -> Result<Option<Key>, Failure> {
        let name = &drop.name;
        let kind = match drop.target {
            Target::Database => {
                if self.connected.get(index).and_then(Option::as_ref) == Some(&name.name) {
                    return Err(Failure::new(format!(
                        "the database '{}' is connected; CLOSE it first",
                        name.name
                    )));
                }
                let key = Key::database(&name.name);
                let missing = format!("Database '{}' not found", name.name);
                return self.existing(key, drop.if_exists, missing);
            }
            Target::Folder => Kind::Folder,
            Target::Source(kind) => Kind::Source(kind),
            Target::Wrapper(kind) => Kind::Wrapper(kind),
            Target::View => Kind::View,
            Target::Kept(kind) => Kind::Kept(kind),
        };
        let in_database = !matches!(kind, Kind::Kept(kept) if !kept.in_database());
        let database = if in_database {
            match self.database_of(index, name) {
                Ok(database) => database,
                // A database that is missing is absence too.
                Err(_) if drop.if_exists && name.database.is_some() => return Ok(None),
                Err(failure) => return Err(Failure { lacks: Vec::new(), ..failure }),
            }
        } else {
            String::new()
        };
        let missing = match kind {
            Kind::View => format!("View '{}' not found", name.name),
            Kind::Source(_) => format!("Data source {} not found", name.name),
            Kind::Wrapper(kind) => {
                format!("Error loading wrapper '{database}.{}/{}'", kind.as_str(), name.name)
            }
            other => format!("The {} '{}' was not found", other.label(), name.name),
        };
        self.existing(Key::new(database, kind, &name.name), drop.if_exists, missing)
    }

    /// A statement that drops is never tried again: it could drop what a later one creates.
    fn existing(&self, key: Key, if_exists: bool, missing: String) -> Result<Option<Key>, Failure> {
        match (self.catalog.contains(&key), if_exists) {
            (true, _) => Ok(Some(key)),
            (false, true) => Ok(None),
            (false, false) => Err(Failure::new(missing)),
        }
    }

    /// What a database or a folder contains.
    fn below(&self, key: &Key) -> BTreeSet<Key> {
        let all = self.catalog.of_database(&key.database);
        match key.kind {
            Kind::Database => all.map(|(key, _)| key.clone()).collect(),
            Kind::Folder => {
                let inside = format!("{}/", key.name);
                let is_below = |(found, object): &(&Key, &std::sync::Arc<crate::catalog::Object>)| {
                    let folder = object.folder();
                    folder.is_some_and(|folder| folder == key.name || folder.starts_with(&inside))
                        || (found.kind == Kind::Folder && found.name.starts_with(&inside))
                };
                all.filter(is_below).map(|(key, _)| key.clone()).collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// Statistics, layout and cache of a view that is gone.
    fn forget_options(&mut self, view: &Key) {
        for (kind, name) in [
            (KeptKind::Statistics, view.name.clone()),
            (KeptKind::ViewOption, format!("{} layout", view.name)),
            (KeptKind::ViewOption, format!("{} cache", view.name)),
        ] {
            self.take(&Key::new(&view.database, Kind::Kept(kind), name));
        }
    }
}
