//! Migrating a store to the program's schema.

use landreeve_core::ErrorKind;
use landreeve_core::ids::RunId;
use landreeve_estate::plane::Plane;
use landreeve_estate::store::{MigrationSet, Migrations, Store};
use landreeve_estate::{Estate, EstateOptions, args};

use crate::support::{Site, exec, number};

conformance![
    a_fresh_store_has_the_schema_and_opens_again,
    rejects_a_newer_store,
    a_plane_has_its_own_migrations,
    rejects_a_changed_migration_by_name,
];

const SPROUT_1: &str = "CREATE TABLE sprouts (id BIGINT PRIMARY KEY)";
const SPROUT_2: &str = "CREATE TABLE leaves (id BIGINT PRIMARY KEY); INSERT INTO leaves (id) VALUES (7)";

const YOUNG: MigrationSet = MigrationSet { component: "sprout", sqlite: &[SPROUT_1], postgres: &[SPROUT_1] };
const GROWN: MigrationSet =
    MigrationSet { component: "sprout", sqlite: &[SPROUT_1, SPROUT_2], postgres: &[SPROUT_1, SPROUT_2] };

async fn a_fresh_store_has_the_schema_and_opens_again(site: &Site) {
    let first = site.open().await;
    let id = first.store_id();
    assert_eq!(number(&first, "SELECT version FROM migrations WHERE component = 'estate'").await, 10);
    assert_eq!(number(&first, "SELECT count(*) FROM ous").await, 1);
    first.store().close().await;
    let second = site.open().await;
    assert_eq!(second.store_id(), id, "the facts of a store never change");
    assert_eq!(second.hash_ids().encode_plain(RunId(7)), first.hash_ids().encode_plain(RunId(7)));
}

async fn rejects_a_newer_store(site: &Site) {
    let estate = site.open().await;
    exec(&estate, "UPDATE migrations SET version = 99 WHERE component = 'estate'", args![]).await;
    estate.store().close().await;
    let error = Estate::open(site.options()).await.err().expect("a newer store is rejected");
    assert_eq!((error.kind, error.code), (ErrorKind::PreconditionFailed, "store_too_new"));
    assert!(error.message.contains("version 99"), "{error}");
    assert!(error.message.contains("knows version 10"), "{error}");
}

async fn a_plane_has_its_own_migrations(site: &Site) {
    let plane = |migrations| Plane { migrations, ..Plane::new("sprout") };
    let open = |set| Estate::open(EstateOptions { planes: vec![plane(set)], ..site.options() });
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
            Store::open(&copy, &Migrations::with(&[YOUNG])).await.expect("the copy has the old schema");
        before.close().await;
    }
    let error = open(YOUNG).await.err().expect("the older program is rejected");
    assert!(error.message.contains("sprout") && error.message.contains("version 2"), "{error}");
}

async fn rejects_a_changed_migration_by_name(site: &Site) {
    const OTHER: &str = "CREATE TABLE sprouts (id BIGINT PRIMARY KEY, colour TEXT)";
    const REGROWN: MigrationSet =
        MigrationSet { component: "sprout", sqlite: &[OTHER, SPROUT_2], postgres: &[OTHER, SPROUT_2] };
    let plane = |migrations| Plane { migrations, ..Plane::new("sprout") };
    let open = |set| Estate::open(EstateOptions { planes: vec![plane(set)], ..site.options() });
    let estate = open(GROWN).await.unwrap();
    assert_eq!(
        number(&estate, "SELECT count(*) FROM migration_checksums WHERE component = 'sprout'").await,
        2
    );
    estate.store().close().await;
    let error = open(REGROWN).await.err().expect("a changed migration is rejected");
    assert_eq!((error.kind, error.code), (ErrorKind::PreconditionFailed, "migration_changed"));
    assert!(error.message.contains("migration 1 of sprout"), "{error}");
    // A store from before checksums gets them at its next start.
    let estate = open(GROWN).await.unwrap();
    exec(&estate, "DELETE FROM migration_checksums", args![]).await;
    estate.store().close().await;
    let estate = open(GROWN).await.unwrap();
    assert_eq!(
        number(&estate, "SELECT count(*) FROM migration_checksums WHERE component = 'sprout'").await,
        2
    );
    estate.store().close().await;
    assert_eq!(open(REGROWN).await.err().unwrap().code, "migration_changed");
}
