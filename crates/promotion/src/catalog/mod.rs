//! A node's objects in one version, in memory. Versions are immutable: a script is executed on a copy.
//!
//! `execute` runs the statements of a script, `columns` knows the types of columns, `describe` writes objects as VQL
//! again, `diff` compares two versions. Does not belong here: storage, sources, the text of VQL.

pub mod columns;
pub mod describe;
pub mod diff;
pub mod execute;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_schema::SchemaRef;
use landreeve_core::ids::DatasourceId;

use crate::vql::ast::{Definition, Kept, KeptKind, SourceKind};

/// What identifies an object of a node. Base views, views and interface views share their names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Empty for what belongs to the node itself.
    pub database: String,
    pub kind: Kind,
    /// Empty for a database.
    pub name: String,
}

/// In the order in which a script creates them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Database,
    Folder,
    Source(SourceKind),
    Wrapper(SourceKind),
    View,
    Kept(KeptKind),
}

impl Kind {
    /// As users call it.
    pub fn label(self) -> String {
        match self {
            Kind::Database => "database".to_owned(),
            Kind::Folder => "folder".to_owned(),
            Kind::Source(kind) => format!("datasource {}", kind.as_str()),
            Kind::Wrapper(kind) => format!("wrapper {}", kind.as_str()),
            Kind::View => "view".to_owned(),
            Kind::Kept(kind) => kind.as_str().to_owned(),
        }
    }
}

impl Key {
    pub fn database(name: impl Into<String>) -> Key {
        Key { database: name.into(), kind: Kind::Database, name: String::new() }
    }

    pub fn new(database: impl Into<String>, kind: Kind, name: impl Into<String>) -> Key {
        Key { database: database.into(), kind, name: name.into() }
    }

    pub fn view(database: impl Into<String>, name: impl Into<String>) -> Key {
        Key::new(database, Kind::View, name)
    }

    /// The name with its database.
    pub fn full_name(&self) -> String {
        match (self.database.as_str(), self.name.as_str()) {
            ("", name) => name.to_owned(),
            (database, "") => database.to_owned(),
            (database, name) => format!("{database}.{name}"),
        }
    }
}

/// Where the rows of a JDBC source are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// A datasource of the inventory.
    Inventory(DatasourceId),
    /// One that only this catalog knows; its details and password are stored beside it.
    Declared(DatasourceId),
}

impl Connection {
    pub const fn id(self) -> DatasourceId {
        match self {
            Connection::Inventory(id) | Connection::Declared(id) => id,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    pub body: Body,
    /// The columns of a view.
    pub columns: Option<SchemaRef>,
    /// What its definition names, and so depends on.
    pub needs: BTreeSet<Key>,
    /// How many base views it reads once everything below it is expanded.
    pub relations: u32,
    /// How many levels of views are below it, with its own.
    pub depth: u32,
    /// Of a JDBC source.
    pub connection: Option<Connection>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    Defined(Definition),
    Kept(Kept),
}

impl Object {
    pub fn new(body: Body) -> Object {
        Object { body, columns: None, needs: BTreeSet::new(), relations: 0, depth: 0, connection: None }
    }

    /// The folder it is in.
    pub fn folder(&self) -> Option<&str> {
        let Body::Defined(definition) = &self.body else { return None };
        match definition {
            Definition::Source(source) => source.folder.as_deref(),
            Definition::Wrapper(wrapper) => wrapper.folder.as_deref(),
            Definition::Table(table) => table.folder.as_deref(),
            Definition::View(view) => view.folder.as_deref(),
            Definition::Interface(view) => view.folder.as_deref(),
            Definition::Database(_) | Definition::Folder { .. } => None,
        }
    }

    pub fn definition(&self) -> Option<&Definition> {
        match &self.body {
            Body::Defined(definition) => Some(definition),
            Body::Kept(_) => None,
        }
    }
}

/// The objects of one version of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {
    objects: BTreeMap<Key, Arc<Object>>,
}

impl Catalog {
    pub fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    pub fn contains(&self, key: &Key) -> bool {
        self.objects.contains_key(key)
    }

    pub fn insert(&mut self, key: Key, object: Object) {
        self.objects.insert(key, Arc::new(object));
    }

    pub fn remove(&mut self, key: &Key) -> Option<Arc<Object>> {
        self.objects.remove(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<Object>)> {
        self.objects.iter()
    }

    pub fn len(&self) -> usize {
        self.objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The objects of a database, without the database itself.
    pub fn of_database<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Key, &'a Arc<Object>)> {
        let all = self.objects.range(Key::database(name)..);
        all.take_while(move |(key, _)| key.database == name).filter(|(key, _)| key.kind != Kind::Database)
    }

    pub fn databases(&self) -> impl Iterator<Item = &str> {
        self.objects.keys().filter(|key| key.kind == Kind::Database).map(|key| key.database.as_str())
    }

    /// Every view of a database with its columns.
    pub fn views<'a>(&'a self, database: &'a str) -> impl Iterator<Item = (&'a str, &'a Arc<Object>)> {
        self.of_database(database)
            .filter(|(key, _)| key.kind == Kind::View)
            .map(|(key, object)| (key.name.as_str(), object))
    }

    /// The datasources that its objects name.
    pub fn connections(&self) -> BTreeSet<DatasourceId> {
        self.objects.values().filter_map(|object| object.connection).map(Connection::id).collect()
    }

    /// What depends directly on each object.
    pub fn users(&self) -> BTreeMap<Key, BTreeSet<Key>> {
        let mut users: BTreeMap<Key, BTreeSet<Key>> = BTreeMap::new();
        for (key, object) in &self.objects {
            for needed in &object.needs {
                users.entry(needed.clone()).or_default().insert(key.clone());
            }
        }
        users
    }

    /// The number of rows of a view, if its statistics say it.
    pub fn row_count(&self, database: &str, view: &str) -> Option<u64> {
        let key = Key::new(database, Kind::Kept(KeptKind::Statistics), view);
        match &self.objects.get(&key)?.body {
            Body::Kept(kept) => kept.rows,
            Body::Defined(_) => None,
        }
    }
}
