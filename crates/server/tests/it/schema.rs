//! The schema that the migrations of all planes create together.

use std::collections::BTreeMap;

use landreeve_estate::args;
use landreeve_estate::store::{Location, Migrations, Row, Store};

use crate::support::postgres_database;

async fn rows(location: Location, sql: &'static str) -> Vec<Row> {
    let migrations = Migrations::with(&[landreeve_analytics::MIGRATIONS, landreeve_delivery::MIGRATIONS]);
    let store = Store::open(&location, &migrations).await.unwrap();
    let rows = store.read().await.unwrap().all(sql, args![]).await.unwrap();
    store.close().await;
    rows
}

/// One folder's columns: (table, column) to (type in the words of rule 8, nullable).
type Columns = BTreeMap<(String, String), (String, bool)>;

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_and_postgres_have_the_same_columns() {
    let folder = tempfile::tempdir().unwrap();
    let (_, address) = postgres_database().await;
    let mut sqlite = Columns::new();
    for row in rows(
        Location::Sqlite(folder.path().join("estate.db")),
        "SELECT m.name, p.name, p.type, p.\"notnull\", p.pk FROM sqlite_schema m, pragma_table_info(m.name) p \
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'",
    )
    .await
    {
        let type_name = match row.text(2).unwrap().as_str() {
            "BLOB" => "bytes".to_owned(),
            "BIGINT" => "bigint".to_owned(),
            "DOUBLE PRECISION" => "double precision".to_owned(),
            "TEXT" => "text".to_owned(),
            other => panic!("{other} is not a type of rule 8"),
        };
        let nullable = row.int(3).unwrap() == 0 && row.int(4).unwrap() == 0;
        sqlite.insert((row.text(0).unwrap(), row.text(1).unwrap()), (type_name, nullable));
    }
    let mut postgres = Columns::new();
    for row in rows(
        Location::Postgres(address.url.clone()),
        "SELECT table_name::text, column_name::text, data_type::text, is_nullable::text \
         FROM information_schema.columns WHERE table_schema = 'public'",
    )
    .await
    {
        let type_name = row.text(2).unwrap().replace("bytea", "bytes");
        let nullable = row.text(3).unwrap() == "YES";
        postgres.insert((row.text(0).unwrap(), row.text(1).unwrap()), (type_name, nullable));
    }
    assert!(sqlite.len() > 300, "only {} columns were found", sqlite.len());
    assert_eq!(sqlite, postgres);
}

/// A migration that no set lists would never run.
#[tokio::test(flavor = "multi_thread")]
async fn every_migration_file_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::Sqlite(folder.path().join("estate.db"));
    let applied = rows(location, "SELECT component, version FROM migrations").await;
    let applied: BTreeMap<String, i64> =
        applied.iter().map(|row| (row.text(0).unwrap(), row.int(1).unwrap())).collect();
    for (component, applied) in &applied {
        for store in ["sqlite", "postgres"] {
            let files = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(format!("../{component}/migrations/{store}"))
                .read_dir()
                .unwrap()
                .count();
            assert_eq!(i64::try_from(files).unwrap(), *applied, "{component}, {store}");
        }
    }
    assert!(applied.len() >= 3, "{applied:?}");
}
