//! What SQL sees of the plane: documented tables over the store's rows, bound to one reader's units, and our views on
//! them. `define` names the columns, `read` turns a scan into one statement on the store and its rows into batches.

mod define;
mod read;
mod views;

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use landreeve_core::Result;
use landreeve_core::table::{Catalog, Table, Tables};
use landreeve_estate::identity::ous::below;
use landreeve_estate::store::{Arg, Conn, Row, Store};

pub use views::VIEWS;

/// The plane's tables as a port.
#[derive(Clone)]
pub struct DeliveryCatalog {
    store: Store,
}

impl DeliveryCatalog {
    pub fn new(store: Store) -> DeliveryCatalog {
        DeliveryCatalog { store }
    }
}

impl Catalog for DeliveryCatalog {
    fn tables(&self, subtrees: &[String]) -> Tables {
        let subtrees: Arc<[String]> = subtrees.into();
        let table = |definition: &'static define::Definition| {
            let table = read::StoreTable::new(self.store.clone(), definition, Arc::clone(&subtrees));
            (definition.name, Arc::new(table) as Arc<dyn Table>)
        };
        Tables { tables: define::TABLES.iter().map(table).collect(), views: VIEWS.to_vec() }
    }
}

/// A condition that holds for rows of these subtrees, its values bound from `$first` on.
pub fn scope(column: &str, subtrees: &[String], first: usize) -> (String, Vec<Arg>) {
    if subtrees.iter().any(|path| path == "/1/") {
        return ("1 = 1".to_owned(), Vec::new());
    }
    if subtrees.is_empty() {
        return ("1 = 0".to_owned(), Vec::new());
    }
    let mut bound = Vec::new();
    let parts = subtrees.iter().map(|path| {
        let at = first + bound.len();
        bound.extend([Arg::from(path.as_str()), Arg::from(below(path))]);
        format!("(o.path >= ${at} AND o.path < ${})", at + 1)
    });
    let parts: Vec<String> = parts.collect();
    (format!("{column} IN (SELECT o.id FROM ous o WHERE {})", parts.join(" OR ")), bound)
}

/// Every row of a statement that is put together here, of which there are few.
pub async fn all(conn: &mut Conn, sql: String, values: Vec<Arg>) -> Result<Vec<Row>> {
    conn.rows(sql, values)?.try_collect().await
}
