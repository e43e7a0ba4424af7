//! Creates and replaces objects.

use std::collections::BTreeSet;

use arrow_schema::SchemaRef;
use landreeve_core::source::SourceError;
use landreeve_core::table::TableName;

use super::{Execution, Failure, Input};
use crate::catalog::{Body, Key, Kind, Object, columns};
use crate::vql::ast::{
    Access, Clause, Database, Definition, Interface, Kept, Name, Source, SourceKind, Table, View, Wrapper,
};
use crate::vql::print::is_part_of_property;

/// Maximum number of base views that a view reads once everything below it is expanded.
pub const MAX_RELATIONS: u32 = 1_000;
/// Maximum number of views above one another.
pub const MAX_LEVELS: u32 = 64;

fn exists(name: &str) -> Failure {
    Failure::new(format!("Duplicate object identifier: '{name}' already exists"))
}

fn no_view(key: &Key) -> Failure {
    Failure::lacking(key.clone(), format!("View '{}' not found", key.name))
}

impl Execution<'_> {
    pub(super) fn create(
        &mut self,
        index: usize,
        replace: bool,
        name: &Name,
        definition: &Definition,
    ) -> Result<Key, Failure> {
        if let Definition::Database(database) = definition {
            return self.create_database(replace, &name.name, database);
        }
        let database = self.database_of(index, name)?;
        let kind = match definition {
            Definition::Source(source) => Kind::Source(source.kind()),
            Definition::Wrapper(wrapper) => Kind::Wrapper(wrapper.kind),
            Definition::Folder { .. } => Kind::Folder,
            _ => Kind::View,
        };
        let key = Key::new(database, kind, &name.name);
        let named = is_part_of_property(&key.database) && is_part_of_property(&key.name);
        if let (Definition::Source(Source { access: Access::Jdbc { password: Some(_), .. }, .. }), false) =
            (definition, named)
        {
            return Err(Failure::new(
                "the name of a datasource with a password, and of its database, must not contain ' $ { or }: it is \
                 part of the name of a property",
            ));
        }
        self.replaceable(&key, replace, definition)?;
        let object = Object::new(Body::Defined(definition.clone()));
        self.folder_exists(&key, object.folder())?;
        let object = match definition {
            Definition::Database(_) => return Err(Failure::new("a database is not in a database")),
            Definition::Folder { .. } => self.folder(&key, object)?,
            Definition::Source(source) => self.source(index, source, object)?,
            Definition::Wrapper(wrapper) => self.wrapper(&key, wrapper, object)?,
            Definition::Table(table) => self.table(&key, table, object)?,
            Definition::View(view) => self.view(index, &key, view, object)?,
            Definition::Interface(view) => self.interface(&key, view, object)?,
        };
        self.acyclic(&key, &object)?;
        self.put(key.clone(), object);
        Ok(key)
    }

    /// An object with this name is only replaced by one of the same type.
    fn replaceable(&self, key: &Key, replace: bool, definition: &Definition) -> Result<(), Failure> {
        let Some(before) = self.definition(key) else { return Ok(()) };
        let same = std::mem::discriminant(before) == std::mem::discriminant(definition);
        match (replace, same) {
            (true, true) => Ok(()),
            (true, false) => Err(Failure::new(format!(
                "Duplicate object identifier: '{}' already exists as a view of another type; drop it first",
                key.name
            ))),
            (false, _) => Err(exists(&key.name)),
        }
    }

    fn create_database(&mut self, replace: bool, name: &str, database: &Database) -> Result<Key, Failure> {
        let key = Key::database(name);
        let mut database = database.clone();
        match self.definition(&key) {
            Some(_) if !replace => return Err(exists(name)),
            // What ALTER DATABASE said stays.
            Some(Definition::Database(before)) => database.clauses.clone_from(&before.clauses),
            _ => {}
        }
        self.put(key.clone(), Object::new(Body::Defined(Definition::Database(database))));
        Ok(key)
    }

    pub(super) fn alter_database(&mut self, name: &str, clauses: &[Clause]) -> Result<(), Failure> {
        self.database(name)?;
        let key = Key::database(name);
        let Some(Definition::Database(before)) = self.definition(&key) else { return Ok(()) };
        let mut after = before.clone();
        for clause in clauses {
            after
                .clauses
                .retain(|known| known.word != clause.word || adds(&known.word) && known.text != clause.text);
            after.clauses.push(clause.clone());
        }
        after.clauses.sort_by(|one, other| (&one.word, &one.text).cmp(&(&other.word, &other.text)));
        self.put(key, Object::new(Body::Defined(Definition::Database(after))));
        Ok(())
    }

    fn folder_exists(&self, key: &Key, folder: Option<&str>) -> Result<(), Failure> {
        let Some(folder) = folder else { return Ok(()) };
        let wanted = Key::new(&key.database, Kind::Folder, folder);
        if self.catalog.contains(&wanted) {
            return Ok(());
        }
        Err(Failure::lacking(wanted, format!("destination folder '{folder}' not found")))
    }

    fn folder(&self, key: &Key, object: Object) -> Result<Object, Failure> {
        let parent = key.name.rsplit_once('/').map(|(parent, _)| parent).filter(|parent| !parent.is_empty());
        if let Some(parent) = parent {
            let wanted = Key::new(&key.database, Kind::Folder, parent);
            if !self.catalog.contains(&wanted) {
                return Err(Failure::lacking(wanted, format!("parent not found: '{parent}'")));
            }
        }
        Ok(object)
    }

    fn source(&self, index: usize, source: &Source, object: Object) -> Result<Object, Failure> {
        if source.kind() != SourceKind::Jdbc {
            return Ok(object);
        }
        match self.inputs.get(index).map(|Input { connection, .. }| connection) {
            Some(Some(Ok(connection))) => Ok(Object { connection: Some(*connection), ..object }),
            Some(Some(Err(why))) => Err(Failure::new(why.clone())),
            _ => Err(Failure::new("the datasource was not looked up")),
        }
    }

    fn wrapper(&self, key: &Key, wrapper: &Wrapper, object: Object) -> Result<Object, Failure> {
        let source = Key::new(&key.database, Kind::Source(wrapper.kind), &wrapper.source);
        if !self.catalog.contains(&source) {
            return Err(Failure::lacking(source, format!("Data source {} not found", wrapper.source)));
        }
        Ok(Object { needs: BTreeSet::from([source]), ..object })
    }

    fn table(&self, key: &Key, table: &Table, object: Object) -> Result<Object, Failure> {
        let Some((kind, name)) = &table.wrapper else {
            let columns = Some(columns::of_table(&table.columns, None));
            return Ok(Object { columns, relations: 1, depth: 1, ..object });
        };
        let database = name.database.clone().unwrap_or_else(|| key.database.clone());
        let wanted = Key::new(database, Kind::Wrapper(*kind), &name.name);
        let Some(Definition::Wrapper(wrapper)) = self.definition(&wanted) else {
            let message =
                format!("Error loading wrapper '{}.{}/{}'", wanted.database, kind.as_str(), wanted.name);
            return Err(Failure::lacking(wanted, message));
        };
        let known = |column: &str| wrapper.outputs.iter().any(|output| output.name == column);
        let unknown = table.columns.iter().find(|column| !wrapper.outputs.is_empty() && !known(&column.name));
        if let Some(unknown) = unknown {
            let message =
                format!("the column {} is not a field of the wrapper {}", unknown.name, wanted.full_name());
            return Err(Failure::lacking(wanted, message));
        }
        let columns = Some(columns::of_table(&table.columns, Some(wrapper)));
        Ok(Object { columns, needs: BTreeSet::from([wanted]), relations: 1, depth: 1, ..object })
    }

    fn view(&mut self, index: usize, key: &Key, view: &View, object: Object) -> Result<Object, Failure> {
        let names = self.planner.names(&view.select, &key.database);
        let names = names.map_err(|error| self.fault_in(index, view, error))?;
        let names: Vec<Key> =
            names.into_iter().map(|TableName { schema, name }| Key::view(schema, name)).collect();
        let Measured { needs, relations, depth } = self.measure(key, &names)?;
        let known = self.columns_of(&needs);
        let planned = match self.planner.plan(&view.select, &key.database, &known) {
            Ok(planned) => planned,
            // Another version of what it names may have what is missing.
            Err(error) => {
                let failure = self.fault_in(index, view, error);
                return Err(Failure { lacks: needs.into_iter().collect(), ..failure });
            }
        };
        if let Some(unknown) =
            view.primary_key.iter().find(|key| planned.schema.field_with_name(key).is_err())
        {
            return Err(Failure::new(format!("the primary key has an unknown column: {unknown}")));
        }
        let definition = View { select: planned.sql, select_at: 0, ..view.clone() };
        let body = Body::Defined(Definition::View(definition));
        Ok(Object { body, columns: Some(planned.schema), needs, relations, depth, ..object })
    }

    /// The position of an error in the SELECT as a place in the script.
    fn fault_in(&self, index: usize, view: &View, error: SourceError) -> Failure {
        let chars = error.position.and_then(|position| usize::try_from(position).ok());
        let bytes = chars.and_then(|chars| {
            let found = view.select.char_indices().map(|(at, _)| at).nth(chars.saturating_sub(1));
            found.or(Some(view.select.len()))
        });
        let place =
            self.inputs.get(index).map(|input| input.piece.place_of(view.select_at + bytes.unwrap_or(0)));
        Failure { place, ..Failure::new(error.message) }
    }

    pub(super) fn columns_of(&self, keys: &BTreeSet<Key>) -> Vec<(TableName, SchemaRef)> {
        let columns = |key: &Key| {
            let columns = self.catalog.get(key)?.columns.clone()?;
            Some((TableName::new(&key.database, &key.name), columns))
        };
        keys.iter().filter_map(columns).collect()
    }

    pub(super) fn interface(&self, key: &Key, view: &Interface, object: Object) -> Result<Object, Failure> {
        let schema = columns::of_interface(&view.columns);
        let Some(name) = &view.implementation else {
            return Ok(Object { columns: Some(schema), relations: 1, depth: 1, ..object });
        };
        let database = name.database.clone().unwrap_or_else(|| key.database.clone());
        let wanted = Key::view(database, &name.name);
        let Measured { needs, relations, depth } = self.measure(key, std::slice::from_ref(&wanted))?;
        let found = self.catalog.get(&wanted).and_then(|object| object.columns.clone());
        let Some(found) = found else { return Err(no_view(&wanted)) };
        for field in schema.fields() {
            let name = field.name();
            let lacks = |message: String| Failure::lacking(wanted.clone(), message);
            let Ok(from) = found.field_with_name(name) else {
                return Err(lacks(format!("the implementation {} has no column {name}", wanted.full_name())));
            };
            if !columns::can_become(from.data_type(), field.data_type()) {
                let (from, to) = (columns::vql_type(from), columns::vql_type(field));
                return Err(lacks(format!(
                    "the column {name} of the implementation {} is {from} and cannot become {to}",
                    wanted.full_name()
                )));
            }
        }
        Ok(Object { columns: Some(schema), needs, relations, depth, ..object })
    }

    /// How large a view is that names these.
    pub(super) fn measure(&self, key: &Key, names: &[Key]) -> Result<Measured, Failure> {
        let mut measured = Measured { needs: BTreeSet::new(), relations: 0, depth: 1 };
        for name in names {
            if name == key {
                return Err(Failure::new(format!("the view {} would depend on itself", key.full_name())));
            }
            let object = self.catalog.get(name).ok_or_else(|| no_view(name))?;
            measured.relations = measured.relations.saturating_add(object.relations);
            measured.depth = measured.depth.max(object.depth.saturating_add(1));
            measured.needs.insert(name.clone());
        }
        if measured.relations > MAX_RELATIONS {
            return Err(Failure::new(format!(
                "the view {} would read more than {MAX_RELATIONS} base views once everything below it is expanded",
                key.full_name()
            )));
        }
        if measured.depth > MAX_LEVELS {
            return Err(Failure::new(format!(
                "the view {} would have more than {MAX_LEVELS} levels of views below it",
                key.full_name()
            )));
        }
        Ok(measured)
    }

    /// A new object needs nothing that needs it.
    fn acyclic(&self, key: &Key, object: &Object) -> Result<(), Failure> {
        if !self.catalog.contains(key) {
            return Ok(());
        }
        let mut seen: BTreeSet<&Key> = BTreeSet::new();
        let mut next: Vec<&Key> = object.needs.iter().collect();
        while let Some(needed) = next.pop() {
            if needed == key {
                return Err(Failure::new(format!("the view {} would depend on itself", key.full_name())));
            }
            if seen.insert(needed) {
                next.extend(self.catalog.get(needed).into_iter().flat_map(|object| &object.needs));
            }
        }
        Ok(())
    }

    pub(super) fn keep(
        &mut self,
        index: usize,
        replace: bool,
        name: &Name,
        kept: &Kept,
    ) -> Result<Key, Failure> {
        let database = if kept.kind.in_database() { self.database_of(index, name)? } else { String::new() };
        let key = Key::new(database, Kind::Kept(kept.kind), &name.name);
        if !replace && self.catalog.contains(&key) {
            return Err(exists(&name.name));
        }
        self.put(key.clone(), Object::new(Body::Kept(kept.clone())));
        Ok(key)
    }
}

/// Clauses of ALTER DATABASE that add to what is there.
fn adds(word: &str) -> bool {
    word == "GRANT" || word == "REVOKE"
}

/// What a view needs, and how large it is.
pub(super) struct Measured {
    pub needs: BTreeSet<Key>,
    pub relations: u32,
    pub depth: u32,
}
