//! Looks again at views below which something was replaced: they get its new types, or are invalid.

use std::collections::BTreeSet;

use landreeve_core::table::TableName;

use super::create::Measured;
use super::{Execution, Failure};
use crate::catalog::{Body, Key, Kind, Object, columns};
use crate::vql::ast::{Definition, Interface, Table, View};

#[derive(Default)]
pub(super) struct Replanned {
    pub invalid: Vec<(Key, String)>,
    pub refused: Vec<(Key, String)>,
}

impl Execution<'_> {
    /// Each view after everything that it needs.
    pub(super) fn replan(&mut self) -> Replanned {
        let mut replanned = Replanned::default();
        let mut todo: BTreeSet<(u32, Key)> = BTreeSet::new();
        let changed: Vec<Key> = self.changed.keys().cloned().collect();
        for key in &changed {
            self.add_users(key, &mut todo);
        }
        for key in self.rewrapped.clone() {
            self.add_users(&key, &mut todo);
        }
        for key in self.planned.keys().cloned().collect::<Vec<_>>() {
            self.add_below(&key, &mut todo);
        }
        while let Some((_, key)) = todo.pop_first() {
            let Some(before) = self.catalog.get(&key).cloned() else { continue };
            self.step += 1;
            match self.planned_again(&key, &before) {
                Ok(after) => {
                    let size = |object: &Object| (object.relations, object.depth);
                    let differs = after.columns != before.columns || size(&after) != size(&before);
                    self.put(key.clone(), after);
                    if differs {
                        self.add_users(&key, &mut todo);
                    }
                }
                Err(failure) if failure.lacks.is_empty() => replanned.refused.push((key, failure.message)),
                Err(failure) => {
                    // What is above still plans against the columns it was stored with, but has no rows.
                    replanned.invalid.push((key.clone(), failure.message));
                    self.add_invalid(&key, &mut replanned.invalid);
                }
            }
        }
        replanned.invalid.sort();
        replanned.invalid.dedup_by(|one, other| one.0 == other.0);
        replanned
    }

    /// The views right above one that changed, unless they were planned since.
    fn add_users(&self, key: &Key, todo: &mut BTreeSet<(u32, Key)>) {
        let changed = self.changed.get(key).copied().unwrap_or(self.step);
        for user in self.users_of(key) {
            let planned = self.planned.get(&user).copied();
            if user.kind == Kind::View
                && planned.is_none_or(|planned| planned <= changed)
                && let Some(object) = self.catalog.get(&user)
            {
                todo.insert((object.depth, user));
            }
        }
    }

    /// The views below one of this script that the script did not plan: one of them may have been invalid before.
    fn add_below(&self, key: &Key, todo: &mut BTreeSet<(u32, Key)>) {
        let mut next = vec![key.clone()];
        while let Some(key) = next.pop() {
            let Some(object) = self.catalog.get(&key) else { continue };
            for needed in object.needs.iter().filter(|needed| needed.kind == Kind::View) {
                if !self.planned.contains_key(needed)
                    && let Some(below) = self.catalog.get(needed)
                    && todo.insert((below.depth, needed.clone()))
                {
                    next.push(needed.clone());
                }
            }
        }
    }

    /// Everything above an invalid view.
    fn add_invalid(&self, key: &Key, invalid: &mut Vec<(Key, String)>) {
        let mut seen: BTreeSet<Key> = invalid.iter().map(|(key, _)| key.clone()).collect();
        let mut next = vec![key.clone()];
        while let Some(key) = next.pop() {
            for user in self.users_of(&key) {
                if user.kind == Kind::View && seen.insert(user.clone()) {
                    invalid.push((user.clone(), format!("the view {} below it is invalid", key.full_name())));
                    next.push(user);
                }
            }
        }
    }

    fn planned_again(&mut self, key: &Key, before: &Object) -> Result<Object, Failure> {
        match before.definition() {
            Some(Definition::View(view)) => self.view_again(key, view, before),
            Some(Definition::Interface(view)) => self.interface_again(key, view, before),
            Some(Definition::Table(table)) => self.table_again(table, before),
            _ => Ok(before.clone()),
        }
    }

    fn view_again(&mut self, key: &Key, view: &View, before: &Object) -> Result<Object, Failure> {
        let missing = |message: String| Failure::lacking(key.clone(), message);
        let names =
            self.planner.names(&view.select, &key.database).map_err(|error| missing(error.message))?;
        let names: Vec<Key> =
            names.into_iter().map(|TableName { schema, name }| Key::view(schema, name)).collect();
        let Measured { needs, relations, depth } = self.measure(key, &names)?;
        let known = self.columns_of(&needs);
        let planned = self.planner.plan(&view.select, &key.database, &known);
        let planned = planned.map_err(|error| missing(error.message))?;
        let stored = before.columns.iter().flat_map(|columns| columns.fields().iter());
        let gone = stored.into_iter().find(|field| planned.schema.field_with_name(field.name()).is_err());
        if let Some(gone) = gone {
            return Err(missing(format!("it no longer has the column {}", gone.name())));
        }
        Ok(Object { columns: Some(planned.schema), needs, relations, depth, ..before.clone() })
    }

    fn interface_again(&mut self, key: &Key, view: &Interface, before: &Object) -> Result<Object, Failure> {
        self.interface(key, view, Object::new(Body::Defined(Definition::Interface(view.clone()))))
            .map(|after| Object { body: before.body.clone(), ..after })
    }

    /// A decimal has the size that its wrapper says.
    fn table_again(&self, table: &Table, before: &Object) -> Result<Object, Failure> {
        let wrapper = before.needs.iter().find_map(|key| match self.definition(key) {
            Some(Definition::Wrapper(wrapper)) => Some((key, wrapper)),
            _ => None,
        });
        let Some((key, wrapper)) = wrapper else { return Ok(before.clone()) };
        let known = |column: &str| wrapper.outputs.iter().any(|output| output.name == column);
        if let Some(gone) =
            table.columns.iter().find(|column| !wrapper.outputs.is_empty() && !known(&column.name))
        {
            let message = format!("the wrapper {} has no field {}", key.full_name(), gone.name);
            return Err(Failure::lacking(key.clone(), message));
        }
        let columns = Some(columns::of_table(&table.columns, Some(wrapper)));
        Ok(Object { columns, ..before.clone() })
    }
}
