//! Datasources whose own login only reads, and which have another one for writing.

use landreeve_core::{Input, RunState, Secret};
use landreeve_estate::ops::datasources::{datasource_create, datasource_list, datasource_update};
use landreeve_estate::ops::{Datasource, DatasourceDetails, DatasourceFilter, Login};
use landreeve_protection::backing_up::NewBackup;
use landreeve_protection::backups::Backup;
use landreeve_protection::restoring::restore_start;

use crate::support::{World, to};
use crate::{mysql, postgres};

const DEFAULTS: NewBackup = NewBackup { repository: None, keep: None };

fn login(details: &DatasourceDetails) -> Option<Login> {
    let username = details.username.clone().unwrap();
    Some(Login { username, password: details.password.clone().unwrap() })
}

/// What a restore of this backup has declared.
async fn datasources_named(world: &World, backup: &Backup) -> Datasource {
    let name = format!("{} {}", backup.asset.name, backup.started_at.strftime("%Y-%m-%d %H:%M"));
    let (estate, ctx) = (&world.kit.estate, &world.ctx);
    let all = datasource_list(estate, ctx, &DatasourceFilter::default(), false, None).await.unwrap().items;
    let made = all.into_iter().find(|seen| seen.datasource.details.name == name);
    Datasource::clone(&made.unwrap_or_else(|| panic!("no {name}")).datasource)
}

#[tokio::test]
async fn a_restore_writes_as_the_user_who_may() {
    let world = World::sqlite().await;
    let shop =
        postgres::Database::new("CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await;
    let (name, password) = (format!("reader_{}", shop.name), "Only-reads-1!");
    shop.admin(&format!("CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE pg_read_all_data")).await;
    let whole = shop.details();
    let reading = DatasourceDetails {
        username: Some(name.clone()),
        password: Some(Secret::new(password)),
        ..whole.clone()
    };
    let source = postgres::declared(&world, reading.clone()).await;
    let backup = world.back_up(&source, DEFAULTS).await;
    let new = postgres::Database::unused();
    let run = restore_start(&world.plane, &world.ctx, to(&backup, new.name.clone())).await.unwrap();
    let (state, message) = world.ended(run).await;
    assert_eq!(
        (state, message.contains("permission denied to create database")),
        (RunState::Failed, true),
        "{message}"
    );
    let change = Input::of(move |details: &mut DatasourceDetails| details.writer = login(&whole));
    datasource_update(&world.kit.estate, &world.ctx, source.id, change, None).await.unwrap();
    postgres::restored(&world, &backup, to(&backup, new.name.clone())).await;
    assert_eq!(new.dump().await, shop.dump().await);
    // What reads still is who it was. The new database is read by the one who made it.
    world.back_up(&source, DEFAULTS).await;
    let made = datasources_named(&world, &backup).await;
    assert_eq!((&made.details.username, &made.details.writer), (&shop.details().username, &None));
    world.back_up(&made, DEFAULTS).await;
    new.drop().await;
    shop.admin(&format!("DROP ROLE {name}")).await;
    shop.drop().await;
}

#[tokio::test]
async fn a_restore_to_mariadb_writes_as_the_user_who_may() {
    let world = World::sqlite().await;
    let shop =
        mysql::Database::new("CREATE TABLE t (a int PRIMARY KEY);; INSERT INTO t VALUES (1), (2)").await;
    let (name, password) = (mysql::unused(), "Only-reads-1!");
    shop.run(&format!("CREATE USER `{name}`@`%` IDENTIFIED BY '{password}'")).await;
    shop.run(&format!("GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON `{}`.* TO `{name}`@`%`", shop.name)).await;
    let whole = shop.details();
    let reading = DatasourceDetails {
        username: Some(name.clone()),
        password: Some(Secret::new(password)),
        writer: login(&whole),
        ..whole
    };
    let source = mysql::declared(&world, reading).await;
    let backup = world.back_up(&source, DEFAULTS).await;
    let new = mysql::Database::named(&mysql::unused());
    mysql::restored(&world, &backup, to(&backup, new.name.clone())).await;
    assert_eq!(new.rows().await, shop.rows().await);
    new.drop().await;
    shop.run(&format!("DROP USER `{name}`@`%`")).await;
    shop.drop().await;
}

#[tokio::test]
async fn a_file_has_no_users() {
    let world = World::sqlite().await;
    let file = world.database(&world.ctx, "file", "CREATE TABLE t (a)").await;
    for (writer, code) in [("owner", "not_used"), ("", "not_used")] {
        let writer = Some(Login { username: writer.to_owned(), password: Secret::new("x") });
        let details = DatasourceDetails { name: "other".into(), writer, ..file.details.clone() };
        let error = datasource_create(&world.kit.estate, &world.ctx, details, Vec::new()).await.unwrap_err();
        assert_eq!((error.faults[0].field.as_str(), error.faults[0].code), ("write_user", code));
    }
}

#[tokio::test]
async fn a_database_that_was_dropped_comes_back_through_its_datasource() {
    let world = World::sqlite().await;
    let shop = postgres::Database::new("CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    let source = postgres::declared(&world, shop.details()).await;
    let backup = world.back_up(&source, DEFAULTS).await;
    let (before, again) = (shop.dump().await, shop.name.clone());
    shop.admin(&format!("DROP DATABASE \"{again}\" WITH (FORCE)")).await;
    postgres::restored(&world, &backup, to(&backup, again)).await;
    assert_eq!(shop.dump().await, before);
    shop.drop().await;
}
