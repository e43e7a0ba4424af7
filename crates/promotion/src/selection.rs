//! What a revision takes from a node: a database or elements of it, and the script that creates or drops them.
//!
//! Does not belong here: where the node is, and what becomes of the script.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use landreeve_core::error::Faults;
use landreeve_core::{Error, Result};

use crate::catalog::{self, Catalog, Key, Kind, Object};
use crate::revisions::{MAX_ELEMENTS, MAX_VQL_BYTES, ReplaceMode, RevisionType};
use crate::vql::ast::{Definition, Describe, Described, Options, Target};
use crate::vql::print;
use crate::vql::properties::Properties;

/// Elements of a node's database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    pub database: String,
    /// `Insert` or `Delete`.
    pub kind: RevisionType,
    /// The names of views, datasources and wrappers, and the paths of folders; `None`: everything.
    pub elements: Option<Vec<String>>,
    pub replace: ReplaceMode,
}

/// A script, and the values of its properties where it comes from; passwords are not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub vql: String,
    pub properties: Properties,
}

pub(crate) fn check(selection: &Selection, faults: &mut Faults) {
    check_parts(&selection.database, selection.kind, selection.elements.as_deref(), faults);
}

pub(crate) fn check_parts(
    database: &str,
    kind: RevisionType,
    elements: Option<&[String]>,
    faults: &mut Faults,
) {
    if database.is_empty() {
        faults.push("database", "length", "must not be empty");
    }
    if kind == RevisionType::Vql {
        faults.push("kind", "enum", "must create or drop elements");
    }
    let Some(elements) = elements else { return };
    if elements.is_empty() {
        faults.push("elements", "length", "must not be empty; leave it out for everything in the database");
    }
    if elements.len() > MAX_ELEMENTS {
        let has = elements.len();
        faults.push("elements", "length", format!("must have at most {MAX_ELEMENTS} items, has {has}"));
    }
}

/// The script that creates or drops what is selected. `whose`: the node, as messages name it.
pub(crate) fn describe(catalog: &Catalog, selection: &Selection, whose: &str) -> Result<Description> {
    let database = selection.database.as_str();
    if !catalog.contains(&Key::database(database)) {
        let message = format!("is not a database of {whose}: {database:?}");
        return Err(Error::fault("database", "unknown", message));
    }
    let named = selection.elements.as_deref().map(|names| named(catalog, database, names)).transpose()?;
    let text = match selection.kind {
        RevisionType::Delete => {
            let all = || selectable(catalog, database).map(|(key, _)| key.clone()).collect();
            let vql = drops(catalog, database, &named.unwrap_or_else(all));
            Description { vql, properties: Properties::new() }
        }
        RevisionType::Insert | RevisionType::Vql => creations(catalog, database, named, selection.replace)?,
    };
    if text.vql.len() > MAX_VQL_BYTES {
        let most = MAX_VQL_BYTES >> 20;
        return Err(Error::too_large(format!("the script of the revision is larger than {most} MiB")));
    }
    Ok(text)
}

/// The objects of a database that can be chosen by their names.
fn selectable<'a>(
    catalog: &'a Catalog,
    database: &'a str,
) -> impl Iterator<Item = (&'a Key, &'a Arc<Object>)> {
    let all = catalog.of_database(database);
    all.filter(|(key, _)| !matches!(key.kind, Kind::Database | Kind::Kept(_)))
}

/// The objects with these names. A name can be that of several, such as a view and its wrapper.
fn named(catalog: &Catalog, database: &str, names: &[String]) -> Result<BTreeSet<Key>> {
    let mut known: BTreeMap<&str, Vec<&Key>> = BTreeMap::new();
    for (key, _) in selectable(catalog, database) {
        known.entry(key.name.as_str()).or_default().push(key);
    }
    let (mut found, mut faults) = (BTreeSet::new(), Faults::default());
    for (at, name) in names.iter().enumerate() {
        match known.get(name.as_str()) {
            Some(keys) => found.extend(keys.iter().map(|key| (*key).clone())),
            None => {
                let message = format!("is not an element of the database {database}: {name:?}");
                faults.push(format!("elements.{at}"), "unknown", message);
            }
        }
    }
    faults.finish()?;
    Ok(found)
}

/// The statements that create a whole database, or these elements of it.
fn creations(
    catalog: &Catalog,
    database: &str,
    named: Option<BTreeSet<Key>>,
    replace: ReplaceMode,
) -> Result<Description> {
    let options = Options {
        drop_elements: replace == ReplaceMode::DropBefore,
        replace_existing: replace == ReplaceMode::Replace,
        include_properties: true,
        include_dependencies: false,
    };
    match named {
        None => {
            let wanted = Describe { what: Described::Database(database.to_owned()), options };
            let vql = catalog::describe::text(catalog, None, &wanted)
                .map_err(|message| Error::fault("database", "unknown", message))?;
            let all = catalog.of_database(database).map(|(key, _)| key);
            Ok(Description { vql, properties: source_values(catalog, all) })
        }
        Some(mut keys) => {
            add_parts(catalog, &mut keys, replace != ReplaceMode::DoNotReplace);
            // A folder is never dropped, so it must be replaced.
            let options = Options { replace_existing: replace != ReplaceMode::DoNotReplace, ..options };
            let vql = catalog::describe::elements(catalog, &keys, options);
            Ok(Description { vql, properties: source_values(catalog, keys.iter()) })
        }
    }
}

/// Adds what elements cannot be created without: the wrappers of base views, and, if they can be replaced, folders.
fn add_parts(catalog: &Catalog, keys: &mut BTreeSet<Key>, folders: bool) {
    let mut next: Vec<Key> = keys.iter().cloned().collect();
    while let Some(key) = next.pop() {
        let Some(object) = catalog.get(&key) else { continue };
        let mut parts = Vec::new();
        if let Some(Definition::Table(table)) = object.definition()
            && let Some((kind, wrapper)) = &table.wrapper
        {
            let database = wrapper.database.as_ref().unwrap_or(&key.database);
            parts.push(Key::new(database, Kind::Wrapper(*kind), &wrapper.name));
        }
        if folders {
            let inside = if key.kind == Kind::Folder { parent(&key.name) } else { object.folder() };
            parts.extend(inside.map(|path| Key::new(&key.database, Kind::Folder, path)));
        }
        for part in parts.into_iter().filter(|part| part.database == key.database && catalog.contains(part)) {
            if keys.insert(part.clone()) {
                next.push(part);
            }
        }
    }
}

/// The folder that a folder is in.
fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent).filter(|parent| !parent.is_empty())
}

/// The values that the properties of these objects stand for; passwords are not known.
fn source_values<'a>(catalog: &Catalog, keys: impl Iterator<Item = &'a Key>) -> Properties {
    let of_one = |key: &'a Key| {
        let definition = catalog.get(key).and_then(|object| object.definition());
        definition.map(|definition| print::values(&key.database, &key.name, definition)).unwrap_or_default()
    };
    keys.flat_map(of_one).collect()
}

/// The statements that drop these elements: views from the top down, then wrappers, datasources, and folders from the
/// inside out.
fn drops(catalog: &Catalog, database: &str, keys: &BTreeSet<Key>) -> String {
    let depth = |key: &Key| catalog.get(key).map_or(0, |object| object.depth);
    let mut ordered: Vec<(u8, u32, &Key)> =
        keys.iter().map(|key| (rank(key.kind), depth(key), key)).collect();
    ordered.sort_unstable();
    let mut out = format!("CONNECT DATABASE {};\n", print::name(database));
    for (_, _, key) in ordered.into_iter().rev() {
        let statement = match key.kind {
            Kind::View => print::drop(Target::View, &key.name),
            Kind::Wrapper(kind) => print::drop(Target::Wrapper(kind), &key.name),
            Kind::Source(kind) => print::drop(Target::Source(kind), &key.name),
            Kind::Folder => Some(print::drop_folder(&key.name)),
            Kind::Database | Kind::Kept(_) => None,
        };
        if let Some(statement) = statement {
            out.push_str(&statement);
            out.push_str(";\n");
        }
    }
    out.push_str("CLOSE;\n");
    out
}

/// The order in which elements are created.
const fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Database | Kind::Folder => 0,
        Kind::Source(_) => 1,
        Kind::Wrapper(_) => 2,
        Kind::View => 3,
        Kind::Kept(_) => 4,
    }
}
