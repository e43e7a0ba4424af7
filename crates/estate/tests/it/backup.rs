//! A copy of a store is one file, whichever database it came from, and can be restored to either.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use landreeve_core::ErrorKind;
use landreeve_core::ids::OuId;
use landreeve_estate::blobs::Blobs;
use landreeve_estate::ops::backup::{blobs_copy, store_copy, store_restore};
use landreeve_estate::ops::sign_in::operator;
use landreeve_estate::plane::Plane;
use landreeve_estate::store::{Location, MigrationSet, Migrations};
use landreeve_estate::{Estate, EstateOptions, args};

use crate::support::{Node, QUERY, Site, exec, number, query, rows};

conformance![
    a_copy_is_complete_and_restores_to_sqlite,
    a_copy_is_complete_and_restores_to_postgres,
    a_copy_is_a_snapshot,
    blobs_of_any_size_are_copied,
];

/// A plane with every type of column.
const PLANE: &str = "CREATE TABLE parts (id BIGINT PRIMARY KEY, weight DOUBLE PRECISION, name TEXT, above BIGINT REFERENCES parts (id))";
const SET: MigrationSet = MigrationSet { component: "plane", sqlite: &[PLANE], postgres: &[PLANE] };

fn planes() -> Vec<Plane> {
    vec![Plane { migrations: SET, kinds: vec![QUERY], ..Plane::new("plane") }]
}

fn migrations() -> Migrations {
    Migrations::with(&[SET])
}

/// Every kind of row, NULLs, bytes, text beyond ASCII, and a row that refers to a later one.
async fn filled(site: &Site) -> Node {
    let options = EstateOptions { planes: planes(), ..site.options() };
    let node = site.node_with(options).await;
    crate::keys::unit(&node.estate, None, "Süd").await;
    let run = node.submit(query("small")).await;
    node.end(run.id).await;
    for sql in [
        "INSERT INTO parts (id, weight, name, above) VALUES (9, 0.1, 'naïve \"quoted\"', NULL)",
        "INSERT INTO parts (id, weight, name, above) VALUES (2, NULL, NULL, 9)",
        "UPDATE parts SET above = 9 WHERE id = 9",
    ] {
        exec(&node.estate, sql, args![]).await;
    }
    for id in 100..600_i64 {
        let sql = "INSERT INTO parts (id, weight, name, above) VALUES ($1, $2, 'x', 2)";
        exec(&node.estate, sql, args![id, id as f64 + 0.125]).await;
    }
    node
}

fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// Every row of every table as text, except the nodes' own. The tables are those of the SQLite side.
async fn contents(estate: &Estate, tables: &[(String, Vec<String>)]) -> Vec<String> {
    let is_sqlite = estate.store().dialect() == landreeve_estate::store::Dialect::Sqlite;
    let mut all = Vec::new();
    for (table, columns) in tables {
        let shown: Vec<String> = columns
            .iter()
            .map(|column| match (column.as_str(), is_sqlite) {
                ("result" | "secret_sealed" | "secrets_sealed", true) => {
                    format!("COALESCE(lower(hex({column})), 'null')")
                }
                ("result" | "secret_sealed" | "secrets_sealed", false) => {
                    format!("COALESCE(encode({column}, 'hex'), 'null')")
                }
                _ => format!("COALESCE(CAST({column} AS TEXT), 'null')"),
            })
            .collect();
        let sql = leaked(format!("SELECT {} FROM {table}", shown.join(" || '|' || ")));
        let mut found: Vec<String> = rows(estate, sql, args![])
            .await
            .iter()
            .map(|row| format!("{table}: {}", row.text(0).unwrap()))
            .collect();
        found.sort();
        all.extend(found);
    }
    all
}

async fn tables(copy: &Estate) -> Vec<(String, Vec<String>)> {
    let sql = "SELECT m.name, group_concat(c.name) FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table' \
               AND m.name NOT IN ('nodes', 'leases', 'migration_checksums') GROUP BY m.name ORDER BY m.name";
    let found = rows(copy, sql, args![]).await;
    let found = found.iter().map(|row| {
        let columns = row.text(1).unwrap().split(',').map(str::to_owned).collect();
        (row.text(0).unwrap(), columns)
    });
    found.collect()
}

async fn opened(site: &Site, location: Location) -> Estate {
    Estate::open(EstateOptions { location, planes: planes(), ..site.options() }).await.unwrap()
}

/// A copy of the site's store, and the content of the store at that time.
async fn copied(site: &Site) -> (Node, PathBuf) {
    let node = filled(site).await;
    node.stop.cancel();
    let target = site.dir.path().join("copy.db");
    node.estate.store().copy(&target).await.unwrap();
    (node, target)
}

fn check(before: &[String], after: &[String]) {
    assert!(before.len() > 500, "only {} rows are compared", before.len());
    for table in ["runs", "parts", "sequences", "facts", "migrations", "epochs", "ous", "audit_events"] {
        assert!(before.iter().any(|row| row.starts_with(&format!("{table}: "))), "no row of {table}");
    }
    // Print only the differences: the full content of both would hide the row.
    let differ = before.iter().zip(after).find(|(before, after)| before != after);
    assert_eq!((differ, before.len()), (None, after.len()));
}

async fn a_copy_is_complete_and_restores_to_sqlite(site: &Site) {
    let (node, copy) = copied(site).await;
    let restored = opened(site, Location::Sqlite(copy.clone())).await;
    let tables = tables(&restored).await;
    check(&contents(&node.estate, &tables).await, &contents(&restored, &tables).await);
    assert_eq!(restored.store_id(), node.estate.store_id());
    let ctx = operator(&node.estate);
    store_copy(&node.estate, &ctx, &copy).await.expect_err("a copy never overwrites a file");
    store_copy(&node.estate, &ctx, &site.dir.path().join("other.db")).await.unwrap();
    let told = "SELECT count(*) FROM audit_events WHERE action = 'backed_up'";
    assert_eq!(number(&node.estate, told).await, 1);
}

async fn a_copy_is_complete_and_restores_to_postgres(site: &Site) {
    let (node, copy) = copied(site).await;
    let target = Site::postgres().await;
    let Location::Postgres(url) = &target.location else { panic!("a PostgreSQL site") };
    let source = working_copy(&copy, site.dir.path());
    store_restore(&source, &migrations(), url).await.unwrap();
    let restored = opened(site, target.location.clone()).await;
    let plain = opened(site, Location::Sqlite(copy.clone())).await;
    let tables = tables(&plain).await;
    check(&contents(&node.estate, &tables).await, &contents(&restored, &tables).await);
    assert_eq!(restored.store_id(), node.estate.store_id());
    assert_eq!(number(&restored, "SELECT count(*) FROM nodes").await, 0, "a copy has no nodes");
    // The foreign keys are back: a row that refers to nothing is rejected.
    let dangling = restored.store().write(|tx| {
        Box::pin(async move { tx.exec("INSERT INTO parts (id, above) VALUES (3, 77)", args![]).await })
    });
    assert_eq!(dangling.await.unwrap_err().code, "gone");
    let next: OuId = restored.next(OuId::KIND).await.unwrap();
    let taken = number(&node.estate, "SELECT max(id) FROM ous").await;
    assert!(next.0 > taken, "ids continue where they were");
    let error = store_restore(&source, &migrations(), url).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "not_empty"));
    restored.store().close().await;
    target.remove().await;
}

fn working_copy(copy: &Path, folder: &Path) -> PathBuf {
    let path = folder.join("working.db");
    std::fs::copy(copy, &path).unwrap();
    path
}

/// Pairs that are always written together are both in every copy.
async fn a_copy_is_a_snapshot(site: &Site) {
    let node = filled(site).await;
    let (estate, stop) = (node.estate.clone(), node.stop.clone());
    let writing = tokio::spawn(async move {
        let mut number = 100_i64;
        while !stop.is_cancelled() {
            number += 1;
            estate
                .store()
                .write(move |tx| {
                    Box::pin(async move {
                        // Tables that are far apart in the order of the names.
                        tx.exec(
                            "INSERT INTO facts (name, value) VALUES ($1, 'x')",
                            args![format!("pair{number}")],
                        )
                        .await?;
                        tx.exec("INSERT INTO parts (id, name) VALUES ($1, 'pair')", args![number + 10_000])
                            .await
                    })
                })
                .await
                .unwrap();
        }
        number - 100
    });
    let mut seen = 0;
    for round in 0..5 {
        let target = site.dir.path().join(format!("copy{round}.db"));
        store_copy(&node.estate, &node.ctx, &target).await.unwrap();
        let copy = opened(site, Location::Sqlite(target)).await;
        let facts = number(&copy, "SELECT count(*) FROM facts WHERE name LIKE 'pair%'").await;
        let parts = number(&copy, "SELECT count(*) FROM parts WHERE name = 'pair'").await;
        assert_eq!(facts, parts);
        assert!(facts >= seen);
        seen = facts;
        copy.store().close().await;
    }
    node.stop.cancel();
    assert!(writing.await.unwrap() >= seen && seen > 0, "nothing was written in the meantime");
}

async fn blobs_of_any_size_are_copied(site: &Site) {
    let estate = site.open().await;
    let large: Vec<u8> = (0..11 * 1_024 * 1_024_u32).map(|index| (index % 251) as u8).collect();
    for (name, bytes) in
        [("results/large", large.clone()), ("results/small", vec![7]), ("other/none", Vec::new())]
    {
        estate.blobs().put(name, Bytes::from(bytes)).await.unwrap();
    }
    let folder = site.dir.path().join("copied");
    let target = Blobs::local(&folder).unwrap();
    assert_eq!(blobs_copy(&estate, &operator(&estate), &target).await.unwrap(), 3);
    assert!(std::fs::read(folder.join("results/large")).unwrap() == large);
    assert_eq!(std::fs::read(folder.join("results/small")).unwrap(), [7]);
    assert_eq!(std::fs::read(folder.join("other/none")).unwrap(), b"");
    let outsider = crate::support::caller(&estate, None, &[]).await;
    assert_eq!(blobs_copy(&estate, &outsider, &target).await.unwrap_err().kind, ErrorKind::Forbidden);
}
