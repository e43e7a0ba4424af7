//! Bringing a store to the program's schema.

use std::collections::BTreeMap;

use landreeve_core::ErrorKind;
use landreeve_estate::store::{MigrationSet, Migrations, Store};
use landreeve_estate::{Estate, EstateOptions, args};

use crate::support::{Site, exec, number, rows};

conformance![a_fresh_store_has_the_schema_and_opens_again, a_newer_store_is_refused, a_plane_brings_its_own];

const SPROUT_1: &str = "CREATE TABLE sprouts (id BIGINT PRIMARY KEY)";
const SPROUT_2: &str = "CREATE TABLE leaves (id BIGINT PRIMARY KEY); INSERT INTO leaves (id) VALUES (7)";

const YOUNG: MigrationSet = MigrationSet { component: "sprout", sqlite: &[SPROUT_1], postgres: &[SPROUT_1] };
const GROWN: MigrationSet =
    MigrationSet { component: "sprout", sqlite: &[SPROUT_1, SPROUT_2], postgres: &[SPROUT_1, SPROUT_2] };

async fn a_fresh_store_has_the_schema_and_opens_again(site: &Site) {
    let first = site.open().await;
    let id = first.store_id();
    assert_eq!(number(&first, "SELECT version FROM migrations WHERE component = 'estate'").await, 2);
    assert_eq!(number(&first, "SELECT count(*) FROM ous").await, 1);
    first.store().close().await;
    let second = site.open().await;
    assert_eq!(second.store_id(), id, "the facts of a store never change");
    assert_eq!(second.hash_ids().encode_plain(7), first.hash_ids().encode_plain(7));
}

async fn a_newer_store_is_refused(site: &Site) {
    let estate = site.open().await;
    exec(&estate, "UPDATE migrations SET version = 99 WHERE component = 'estate'", args![]).await;
    estate.store().close().await;
    let error = Estate::open(site.options()).await.err().expect("a newer store is refused");
    assert_eq!((error.kind, error.code), (ErrorKind::PreconditionFailed, "store_too_new"));
    assert!(error.message.contains("version 99"), "{error}");
    assert!(error.message.contains("knows version 2"), "{error}");
}

async fn a_plane_brings_its_own(site: &Site) {
    let open = |set| Estate::open(EstateOptions { migrations: Migrations::with(&[set]), ..site.options() });
    open(YOUNG).await.unwrap().store().close().await;
    let copies = || {
        let names = std::fs::read_dir(site.data()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains("before-")).collect::<Vec<_>>()
    };
    assert!(copies().is_empty(), "a new store is not copied");
    let grown = open(GROWN).await.unwrap();
    assert_eq!(number(&grown, "SELECT id FROM leaves").await, 7);
    assert_eq!(number(&grown, "SELECT version FROM migrations WHERE component = 'sprout'").await, 2);
    grown.store().close().await;
    if site.is_sqlite() {
        let copies = copies();
        assert_eq!(copies.len(), 1, "{copies:?}");
        let copy = landreeve_estate::store::Location::Sqlite(site.data().join(&copies[0]));
        let before =
            Store::open(&copy, &Migrations::with(&[YOUNG])).await.expect("the copy is the old store");
        before.close().await;
    }
    let error = open(YOUNG).await.err().expect("the older program is refused");
    assert!(error.message.contains("sprout") && error.message.contains("version 2"), "{error}");
}

/// A folder's columns: (table, column) to (type as rule 8 names it, may be null).
type Columns = BTreeMap<(String, String), (String, bool)>;

#[tokio::test]
async fn both_folders_give_the_same_columns() {
    let (light, heavy) = (Site::sqlite(), Site::postgres().await);
    let mut sqlite = Columns::new();
    let estate = light.open().await;
    for row in rows(
        &estate,
        "SELECT m.name, p.name, p.type, p.\"notnull\", p.pk FROM sqlite_schema m, pragma_table_info(m.name) p \
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'",
        args![],
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
    let estate = heavy.open().await;
    for row in rows(
        &estate,
        "SELECT table_name::text, column_name::text, data_type::text, is_nullable::text \
         FROM information_schema.columns WHERE table_schema = 'public'",
        args![],
    )
    .await
    {
        let type_name = row.text(2).unwrap().replace("bytea", "bytes");
        let nullable = row.text(3).unwrap() == "YES";
        postgres.insert((row.text(0).unwrap(), row.text(1).unwrap()), (type_name, nullable));
    }
    assert!(sqlite.len() > 100, "only {} columns were found", sqlite.len());
    assert_eq!(sqlite, postgres);
    heavy.remove().await;
}
