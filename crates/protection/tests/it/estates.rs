//! The estate itself through backup and restore, on both metadata stores.

use landreeve_core::{Action, ErrorKind, Noun, Permission, RunState};
use landreeve_estate::ops::backup::{file_check, manifest_check};
use landreeve_estate::ops::sign_in;
use landreeve_protection::assets::{ResourceFilter, resource_page};
use landreeve_protection::backing_up::NewBackup;
use landreeve_protection::backups::{Backup, BackupFilter, backup_get, backup_list, backup_page};
use landreeve_protection::estate_backup::estate_backup_start;
use landreeve_protection::nouns::{BACKUP, RESTORE};
use landreeve_protection::repositories::{NewRepository, repository_key};
use landreeve_protection::restoring::{NewRestore, backup_verify, restore_plan, restore_start};
use rusqlite::Connection;

use crate::support::{World, on_both, to};

on_both! {
    the_estate_is_backed_up_and_restored
    only_the_operator_sees_it
}

async fn back_up(world: &World, keep: Option<&str>) -> Backup {
    let new = NewBackup { repository: None, keep: keep.map(str::to_owned) };
    let run = estate_backup_start(&world.plane, &world.ctx, new).await.unwrap();
    assert_eq!(world.ended(run.clone()).await, (RunState::Succeeded, String::new()));
    backup_get(&world.plane, &world.ctx, run.uuid).await.unwrap()
}

async fn the_estate_is_backed_up_and_restored(world: &World) {
    world.database(&world.ctx, "shop.db", "CREATE TABLE t (a)").await;
    let large = bytes::Bytes::from(vec![7; 300_000]);
    world.kit.estate.blobs().put("results/one/two.arrows", large.clone()).await.unwrap();
    std::fs::create_dir_all(world.path("files/inner")).unwrap();
    std::fs::write(world.path("files/inner/sales.db"), b"sales").unwrap();
    let first = back_up(world, Some("30d")).await;
    assert_eq!((first.asset.name.as_str(), first.ou_path.as_str(), first.tables), ("estate", "/1/", 0));
    assert_eq!(first.expires_at.duration_since(first.started_at).as_hours(), 30 * 24);
    world.kit.clock.seconds(60);
    let second = back_up(world, None).await;
    // The large file is in the repository already.
    assert!(second.bytes_added.unwrap() < first.bytes_read / 2, "{second:?}");
    let run = backup_verify(&world.plane, &world.ctx, second.uuid).await.unwrap();
    assert_eq!(world.ended(run).await, (RunState::Succeeded, String::new()));
    // Another estate restores it, from the repository alone.
    let key = repository_key(&world.plane, &world.ctx, "default").await.unwrap();
    let other = World::sqlite().await;
    let url = world.path("default").to_str().unwrap().to_owned();
    other.attach(NewRepository { url, ..other.wanted("moved", "x") }, &key).await.unwrap();
    assert_eq!(other.listed().await, [second.uuid, first.uuid]);
    let folder = other.path("estate");
    let wanted = to(&second, folder.to_str().unwrap().to_owned());
    let run = restore_start(&other.plane, &other.ctx, wanted.clone()).await.unwrap();
    assert_eq!(other.ended(run).await, (RunState::Succeeded, String::new()));
    assert_eq!(manifest_check(&folder, &folder, &[]).await.unwrap(), (3, Vec::new()));
    assert_eq!(file_check(&folder.join("estate.db")).await.unwrap(), Vec::<String>::new());
    let open = Connection::open(folder.join("estate.db")).unwrap();
    let name: String =
        open.query_row("SELECT name FROM datasources WHERE builtin IS NULL", [], |row| row.get(0)).unwrap();
    assert_eq!(name, "shop.db");
    assert_eq!(std::fs::read(folder.join("blobs/results/one/two.arrows")).unwrap(), large);
    assert_eq!(std::fs::read(folder.join("files/inner/sales.db")).unwrap(), b"sales");
    // What exists is not replaced, and what is not used is told.
    let error = restore_plan(&other.plane, &other.ctx, wanted.clone()).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "exists"));
    let odd = NewRestore { owners: true, compare: true, tables: vec!["t".into()], ..wanted.clone() };
    let error = restore_plan(&other.plane, &other.ctx, odd).await.unwrap_err();
    let fields: Vec<&str> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["owners", "compare"]);
    let partial = std::fs::read_dir(other.path(""))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".partial"));
    assert_eq!(partial.count(), 0);
}

async fn only_the_operator_sees_it(world: &World) {
    let backup = back_up(world, None).await;
    let rights = [
        Permission::new(BACKUP, Action::MANAGE),
        Permission::new(RESTORE, Action::MANAGE),
        Permission::new(Noun::DATASOURCE, Action::MANAGE),
        Permission::new(Noun::SETTING, Action::MANAGE),
    ];
    let admin = world.kit.person("admin-of-all", &rights).await;
    let filter = BackupFilter::default();
    let listed = backup_list(&world.plane, &admin, &filter, None).await.unwrap();
    assert!(listed.items.is_empty());
    let page = landreeve_core::Page::first(10);
    assert_eq!(backup_page(&world.plane, &admin, &filter, page).await.unwrap().total, 0);
    let deleted =
        ResourceFilter { deleted: landreeve_protection::assets::Deleted::Included, ..Default::default() };
    assert_eq!(resource_page(&world.plane, &admin, &deleted, page).await.unwrap().total, 0);
    for ctx in [&admin, &world.kit.person("guest", &[Permission::new(BACKUP, Action::VIEW)]).await] {
        assert_eq!(backup_get(&world.plane, ctx, backup.uuid).await.unwrap_err().kind, ErrorKind::NotFound);
        let wanted = to(&backup, world.path("x").to_str().unwrap().to_owned());
        assert_eq!(restore_start(&world.plane, ctx, wanted).await.unwrap_err().kind, ErrorKind::NotFound);
    }
    let new = NewBackup { repository: None, keep: None };
    let guest = world.kit.person("other", &[Permission::new(BACKUP, Action::MANAGE)]).await;
    assert_eq!(estate_backup_start(&world.plane, &guest, new).await.unwrap_err().kind, ErrorKind::Forbidden);
    let new = NewBackup { repository: Some("nowhere".to_owned()), keep: Some("soon".to_owned()) };
    let error =
        estate_backup_start(&world.plane, &sign_in::operator(&world.kit.estate), new).await.unwrap_err();
    assert_eq!(error.faults.len(), 2, "{error:?}");
}
