//! Objects as VQL again: DESC, and the text that identifies a catalog.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use super::{Body, Catalog, Key, Kind, Object};
use crate::vql::ast::{Definition, Describe, Described, Element, KeptKind, Options, Target};
use crate::vql::print::{self, Style};

/// The statements of DESC VQL. `connected`: the database of names without one.
pub fn text(catalog: &Catalog, connected: Option<&str>, wanted: &Describe) -> Result<String, String> {
    let mut keys = BTreeSet::new();
    let mut first = None;
    match &wanted.what {
        Described::Database(name) => {
            if !catalog.contains(&Key::database(name)) {
                return Err(format!("Database '{name}' not found"));
            }
            keys.insert(Key::database(name));
            keys.extend(catalog.of_database(name).map(|(key, _)| key.clone()));
            first = Some(name.as_str());
        }
        Described::Elements(elements) => {
            for element in elements {
                let (name, kind) = match element {
                    Element::View(name) => (name, Kind::View),
                    Element::Source(kind, name) => (name, Kind::Source(*kind)),
                };
                let database = name.database.as_deref().or(connected);
                let database = database
                    .ok_or("no database is connected; write CONNECT DATABASE before this statement")?;
                let key = Key::new(database, kind, &name.name);
                if !catalog.contains(&key) {
                    return Err(match kind {
                        Kind::View => format!("View '{}' not found", name.name),
                        _ => format!("Data source {} not found", name.name),
                    });
                }
                keys.insert(key);
            }
        }
    }
    if wanted.options.include_dependencies {
        add_dependencies(catalog, &mut keys);
    }
    Ok(script(catalog, &keys, first, wanted.options))
}

/// The statements of these objects of databases that exist already.
pub fn elements(catalog: &Catalog, keys: &BTreeSet<Key>, options: Options) -> String {
    script(catalog, keys, None, options)
}

/// Everything that these objects need, with folders and databases.
fn add_dependencies(catalog: &Catalog, keys: &mut BTreeSet<Key>) {
    let mut next: Vec<Key> = keys.iter().cloned().collect();
    while let Some(key) = next.pop() {
        let Some(object) = catalog.get(&key) else { continue };
        let mut needed: Vec<Key> = object.needs.iter().cloned().collect();
        let mut folder = object.folder();
        while let Some(path) = folder {
            needed.push(Key::new(&key.database, Kind::Folder, path));
            folder = path.rsplit_once('/').map(|(parent, _)| parent).filter(|parent| !parent.is_empty());
        }
        if key.kind != Kind::Database && !key.database.is_empty() {
            needed.push(Key::database(&key.database));
        }
        for key in needed {
            if keys.insert(key.clone()) {
                next.push(key);
            }
        }
    }
}

/// The whole node, as canonical text.
pub fn everything(catalog: &Catalog) -> String {
    let keys = catalog.iter().map(|(key, _)| key.clone()).collect();
    script(catalog, &keys, None, Options { replace_existing: true, ..Options::default() })
}

/// The whole node, with properties in place of what differs between environments and of passwords.
pub fn with_properties(catalog: &Catalog) -> String {
    let keys = catalog.iter().map(|(key, _)| key.clone()).collect();
    let options = Options { replace_existing: true, include_properties: true, ..Options::default() };
    script(catalog, &keys, None, options)
}

/// Identifies the objects of a catalog: SHA-256 of its canonical text.
pub fn content_hash(catalog: &Catalog) -> String {
    hex::encode(Sha256::digest(everything(catalog)))
}

/// The statement of one object.
pub fn statement(key: &Key, object: &Object, style: Style) -> String {
    match &object.body {
        Body::Kept(kept) => print::kept(kept, style),
        Body::Defined(definition) => {
            let name = if key.kind == Kind::Database { &key.database } else { &key.name };
            print::create(&key.database, name, definition, style)
        }
    }
}

/// In an order in which every statement finds what it needs.
fn script(catalog: &Catalog, keys: &BTreeSet<Key>, only: Option<&str>, options: Options) -> String {
    let style = Style {
        replace: options.replace_existing,
        properties: options.include_properties,
        ..Style::default()
    };
    let mut out = String::from("ENTER SINGLE USER MODE;\n");
    let mut line = |text: &str| {
        out.push_str(text);
        out.push_str(";\n");
    };
    let of_node = keys.iter().filter(|key| key.database.is_empty());
    for key in of_node {
        if let Some(object) = catalog.get(key) {
            line(&statement(key, object, style));
        }
    }
    let databases: BTreeSet<&str> =
        keys.iter().map(|key| key.database.as_str()).filter(|database| !database.is_empty()).collect();
    // Views of one database can need those of another, so databases come first.
    for database in &databases {
        let key = Key::database(*database);
        if let (true, Some(object)) = (keys.contains(&key), catalog.get(&key)) {
            if options.drop_elements && only == Some(database) {
                print::drop(Target::Database, database).iter().for_each(|text| line(text));
            }
            line(&statement(&key, object, style));
            if let Some(Definition::Database(found)) = object.definition() {
                for clause in &found.clauses {
                    line(&print::alter_database(database, clause));
                }
            }
        }
    }
    let mut connected = None;
    let mut ordered: Vec<(&Key, &std::sync::Arc<Object>)> = keys
        .iter()
        .filter(|key| !key.database.is_empty() && key.kind != Kind::Database)
        .filter_map(|key| Some((key, catalog.get(key)?)))
        .collect();
    ordered.sort_by_key(|(key, object)| order(key, object));
    for (key, object) in ordered {
        if connected != Some(&key.database) {
            if connected.is_some() {
                line("CLOSE");
            }
            line(&format!("CONNECT DATABASE {}", print::name(&key.database)));
            connected = Some(&key.database);
        }
        if options.drop_elements && only.is_none() {
            let target = match key.kind {
                Kind::Source(kind) => Target::Source(kind),
                Kind::Wrapper(kind) => Target::Wrapper(kind),
                Kind::View => Target::View,
                _ => Target::Folder,
            };
            print::drop(target, &key.name).iter().for_each(|text| line(text));
        }
        line(&statement(key, object, style));
    }
    if connected.is_some() {
        line("CLOSE");
    }
    line("EXIT SINGLE USER MODE");
    out
}

/// Sources, wrappers and views of all databases, views by level, and what has no effect last.
fn order<'a>(key: &'a Key, object: &Object) -> (u8, u32, &'a str, Kind, &'a str) {
    let rank = match key.kind {
        Kind::Database | Kind::Folder => 0,
        Kind::Source(_) => 1,
        Kind::Wrapper(_) => 2,
        Kind::Kept(KeptKind::Type | KeptKind::Map) => 3,
        Kind::View => 4,
        Kind::Kept(_) => 5,
    };
    (rank, object.depth, &key.database, key.kind, &key.name)
}
