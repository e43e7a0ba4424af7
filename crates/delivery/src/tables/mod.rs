//! The plane's tables in SQL: documented tables over the store's rows, limited to the reader's units, and our views on
//! them. `define` names the columns, `read` turns a scan into one statement on the store and its rows into batches.

mod define;
mod read;
mod views;

use std::sync::Arc;

use landreeve_core::Result;
use landreeve_core::ids::BoxFuture;
use landreeve_core::schema::TableKind;
use landreeve_core::source::SourceError;
use landreeve_core::table::{Catalog, Listed, Readable, Reader, Table, TableName, Tables, View};
use landreeve_estate::store::Store;

pub use views::VIEWS;

/// The plane's tables behind the port `Catalog`.
#[derive(Clone)]
pub struct DeliveryCatalog {
    store: Store,
}

impl DeliveryCatalog {
    pub fn new(store: Store) -> DeliveryCatalog {
        DeliveryCatalog { store }
    }
}

/// The schema of all the plane's tables.
const SCHEMA: &str = "public";

fn view(sql: &str) -> View {
    View { sql: sql.to_owned(), schema: SCHEMA.to_owned(), columns: None }
}

impl DeliveryCatalog {
    /// The tables as seen by a reader of these subtrees of units.
    pub fn seen_by(&self, subtrees: &[String]) -> Readable {
        let reader = Reader { subtrees: subtrees.to_vec(), ..Reader::default() };
        Readable { catalog: Arc::new(self.clone()), reader }
    }

    fn tables(&self, reader: &Reader, wanted: impl Fn(&str) -> bool) -> Tables {
        let subtrees: Arc<[String]> = reader.subtrees.as_slice().into();
        let table = |definition: &'static define::Definition| {
            let table = read::StoreTable::new(self.store.clone(), definition, Arc::clone(&subtrees));
            (TableName::new(SCHEMA, definition.name), Arc::new(table) as Arc<dyn Table>)
        };
        let tables = define::TABLES.iter().filter(|definition| wanted(definition.name)).map(table);
        let views = VIEWS.iter().filter(|(name, _)| wanted(name));
        Tables {
            tables: tables.collect(),
            views: views.map(|(name, sql)| (TableName::new(SCHEMA, *name), view(sql))).collect(),
        }
    }
}

impl Catalog for DeliveryCatalog {
    fn default_schema<'a>(&'a self, _: &'a Reader) -> &'a str {
        SCHEMA
    }

    fn resolve<'a>(
        &'a self,
        reader: &'a Reader,
        names: &'a [TableName],
    ) -> BoxFuture<'a, Result<Tables, SourceError>> {
        let wanted = |name: &str| names.iter().any(|known| known.schema == SCHEMA && known.name == name);
        Box::pin(std::future::ready(Ok(self.tables(reader, wanted))))
    }

    fn list<'a>(&'a self, _: &'a Reader) -> BoxFuture<'a, Result<Vec<Listed>, SourceError>> {
        let tables = define::TABLES.iter().map(|definition| (definition.name, TableKind::Table));
        let views = VIEWS.iter().map(|(name, _)| (*name, TableKind::View));
        let all =
            tables.chain(views).map(|(name, kind)| Listed::new(TableName::new(SCHEMA, name), kind)).collect();
        Box::pin(std::future::ready(Ok(all)))
    }
}
