//! Introspection, and the messages of the connection test.

use std::time::Duration;

use landreeve_core::Secret;
use landreeve_core::schema::{Catalog, TableInfo, TableKind};
use landreeve_core::source::{CancellationToken, Drivers as _, SourceErrorKind, Target, TlsMode};
use landreeve_drivers::{DriverOptions, DriverSet};

use crate::support::{Live, address, mariadb, mariadb_admin, postgres, postgres_admin, sqlite};

async fn catalog(live: &Live) -> Catalog {
    live.driver().introspect(&live.spec, true, CancellationToken::new()).await.expect("reads")
}

fn table<'a>(catalog: &'a Catalog, schema: &str, name: &str) -> &'a TableInfo {
    let schema = catalog.schemas.iter().find(|known| known.name == schema).expect("the schema");
    schema.tables.iter().find(|known| known.name == name).expect("the table")
}

#[tokio::test]
async fn postgres_catalog() {
    postgres_admin(
        "drop schema if exists lr_cat cascade; create schema lr_cat;
         create table lr_cat.t (id bigint primary key, name varchar(20), gone int, n numeric(10,2) not null);
         alter table lr_cat.t drop column gone;
         insert into lr_cat.t select i, 'x', 1 from generate_series(1, 500) i; analyze lr_cat.t;
         create view lr_cat.v as select id from lr_cat.t",
    )
    .await;
    let catalog = catalog(&postgres()).await;
    assert_eq!(catalog.default_schema.as_deref(), Some("public"));
    assert!(catalog.server_version.starts_with(|first: char| first.is_ascii_digit()));
    let t = table(&catalog, "lr_cat", "t");
    assert_eq!((t.kind, t.row_count, t.row_count_exact), (TableKind::Table, Some(500), false));
    let shown: Vec<String> = t
        .columns
        .iter()
        .map(|column| format!("{} {} {} {}", column.position, column.name, column.data_type, column.nullable))
        .collect();
    assert_eq!(shown, ["1 id bigint false", "2 name character varying(20) true", "3 n numeric(10,2) false"]);
    assert_eq!(table(&catalog, "lr_cat", "v").kind, TableKind::View);
    assert!(!catalog.schemas.iter().any(|schema| schema.name.starts_with("pg_")));
}

#[tokio::test]
async fn mariadb_catalog() {
    use mysql_async::prelude::Queryable;
    let mut admin = mariadb_admin("LANDREEVE_TEST_MARIADB").await;
    admin
        .query_drop("create or replace table test.lr_cat (id bigint unsigned not null, name varchar(20))")
        .await
        .expect("creates");
    admin
        .query_drop("create or replace view test.lr_cat_v as select id from test.lr_cat")
        .await
        .expect("creates");
    admin.disconnect().await.expect("leaves");
    let catalog = catalog(&mariadb()).await;
    let t = table(&catalog, "test", "lr_cat");
    assert_eq!((t.kind, t.row_count.is_some(), t.row_count_exact), (TableKind::Table, true, false));
    assert_eq!(t.columns[0].data_type, "bigint(20) unsigned");
    assert!(!t.columns[0].nullable && t.columns[1].nullable);
    assert_eq!(table(&catalog, "test", "lr_cat_v").kind, TableKind::View);
}

#[tokio::test]
async fn sqlite_catalog() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("c.db");
    let file = rusqlite::Connection::open(&path).expect("opens");
    file.execute_batch(
        "create table \"odd \"\"name\" (id integer primary key, v text not null, w decimal(10,2));
         insert into \"odd \"\"name\" (v) values ('a'), ('b'); create view v as select id from \"odd \"\"name\"",
    )
    .expect("creates");
    let catalog = catalog(&sqlite(&path)).await;
    let t = table(&catalog, "main", "odd \"name");
    assert_eq!((t.row_count, t.row_count_exact), (Some(2), true));
    assert_eq!(t.columns[2].data_type, "decimal(10,2)");
    assert!(!t.columns[0].nullable && !t.columns[1].nullable && t.columns[2].nullable);
    assert_eq!(table(&catalog, "main", "v").kind, TableKind::View);
    assert_eq!(catalog.total_rows(), Some((2, true)));
}

async fn message(live: &Live) -> String {
    let error = live.driver().test(&live.spec, CancellationToken::new()).await.expect_err("must fail");
    assert_eq!(error.kind, SourceErrorKind::Connect, "{error}");
    assert!(!error.message.contains("wrong-secret"), "{error}");
    error.message
}

fn change(live: &mut Live, change: impl FnOnce(&mut String, &mut u16, &mut Secret, &mut String)) {
    let Target::Network { host, port, addresses, password, database, .. } = &mut live.spec.target else {
        panic!("a server")
    };
    change(host, port, password, database);
    for address in addresses {
        address.set_port(*port);
    }
}

/// The test servers have a certificate from a private CA.
#[tokio::test]
async fn certificates_are_checked_against_the_configured_ca() {
    let path = address("LANDREEVE_TEST_TLS_CA");
    let ca_pem = Some(std::fs::read(path).expect("the CA certificate"));
    let trusting = DriverSet::new(DriverOptions { ca_pem, ..DriverOptions::default() }).expect("drivers");
    for new in [postgres, mariadb] {
        let mut live = new();
        let driver = trusting.driver(live.spec.database_type).expect("a driver");
        for mode in [TlsMode::Require, TlsMode::Verify] {
            live.spec.tls = mode;
            driver.test(&live.spec, CancellationToken::new()).await.expect("an encrypted connection");
        }
        change(&mut live, |host, _, _, _| *host = "elsewhere.example".to_owned());
        let error = driver.test(&live.spec, CancellationToken::new()).await.expect_err("another name");
        assert!(error.message.contains("certificate"), "{error}");
    }
    trusting.close().await;
}

#[tokio::test]
async fn a_failed_test_says_what_to_do() {
    for new in [postgres, mariadb] {
        assert!(new().driver().test(&new().spec, CancellationToken::new()).await.is_ok());

        let mut live = new();
        change(&mut live, |_, _, password, _| *password = Secret::new("wrong-secret"));
        assert!(message(&live).await.contains("rejected the password of"));

        let mut live = new();
        change(&mut live, |_, _, _, database| *database = "lr_nowhere".to_owned());
        assert!(message(&live).await.contains("the database lr_nowhere does not exist"));

        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port_of = listener.local_addr().expect("an address").port();
        let mut live = new();
        live.spec.connect_timeout = Duration::from_millis(300);
        change(&mut live, |_, port, _, _| *port = port_of);
        // The kernel accepts the connection, but nothing is ever sent.
        let silent = message(&live).await;
        assert!(silent.contains("within 0.3 s"), "{silent}");
        drop(listener);
        let refused = message(&live).await;
        assert!(refused.contains("nothing is listening on 127.0.0.1:"), "{refused}");

        let mut live = new();
        live.spec.tls = TlsMode::Verify;
        let stranger = message(&live).await;
        assert!(stranger.contains("certificate"), "{stranger}");

        let mut live = new();
        if let Target::Network { addresses, .. } = &mut live.spec.target {
            addresses.clear();
        }
        assert!(message(&live).await.contains("was not found"));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("no.db");
    std::fs::write(&path, "certainly not a database file, and long enough to be read as one")
        .expect("writes");
    let live = sqlite(&path);
    assert!(message(&live).await.contains("not a SQLite database"));
    std::fs::remove_file(&path).expect("removes");
    assert!(message(&live).await.contains("does not exist"));
}
