//! Repositories, on both metadata stores.

use landreeve_core::source::CancellationToken;
use landreeve_core::vault::CheckDepth;
use landreeve_core::{Action, ErrorKind, Input, Permission, RunState, Secret};
use landreeve_estate::args;
use landreeve_protection::backing_up::NewBackup;
use landreeve_protection::nouns::REPOSITORY;
use landreeve_protection::records::{RecordQuery, backup_tables, record_query};
use landreeve_protection::repositories::{
    NewRepository, Origin, repository_add, repository_key, repository_list, repository_move, repository_named,
};
use landreeve_protection::upkeep::{repository_check, repository_prune};
use landreeve_testkit::{BUCKET, RestStorage, S3Storage};

use crate::support::{World, on_both};

on_both! {
    a_repository_is_made_listed_and_opened_elsewhere
    what_is_wrong_is_told_all_of_it
    what_cannot_be_made_leaves_no_row
    an_interrupted_one_is_finished
    doing_it_again_uses_what_is_stated_then
    several_nodes_share_a_folder_or_have_none
    a_repository_is_attached_once
    a_server_keeps_a_repository_too
    a_bucket_keeps_a_repository_too
    damage_fails_a_check
    an_append_only_repository_is_not_pruned
    only_those_who_may_see_or_change_repositories
}

async fn a_repository_is_made_listed_and_opened_elsewhere(world: &World) {
    let made = world.add(world.wanted("offsite", "a")).await.unwrap();
    assert_eq!(made.repository_id.as_ref().map(String::len), Some(64));
    let listed = repository_list(&world.plane, &world.ctx).await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&made));
    let key = repository_key(&world.plane, &world.ctx, "offsite").await.unwrap();
    assert_eq!(key.reveal().len(), 43, "256 bits in base64");
    let shown = "SELECT count(*) FROM audit_events WHERE action = 'key_shown'";
    assert_eq!(world.kit.number(shown).await, 1);
    // Moved to another place, its password is all it takes.
    std::fs::rename(world.path("a"), world.path("b")).unwrap();
    let run = repository_check(&world.plane, &world.ctx, "offsite", CheckDepth::Structure).await.unwrap();
    let (state, message) = world.ended(run).await;
    assert_eq!(state, RunState::Failed);
    assert!(message.starts_with("there is no repository in "), "{message}");
    let taken = world.attach(world.wanted("moved", "b"), &key).await.unwrap_err();
    assert!(taken.message.contains("is the same repository as offsite"), "{}", taken.message);
    std::fs::rename(world.path("b"), world.path("a")).unwrap();
    for depth in [CheckDepth::Structure, CheckDepth::Data] {
        let run = repository_check(&world.plane, &world.ctx, "offsite", depth).await.unwrap();
        assert_eq!(world.ended(run).await, (RunState::Succeeded, String::new()));
        let checked = repository_named(&world.plane, &world.ctx, "offsite").await.unwrap().checked;
        assert_eq!(checked.map(|(_, depth)| depth), Some(depth));
    }
    let run = repository_prune(&world.plane, &world.ctx, "offsite").await.unwrap();
    assert_eq!(world.ended(run).await, (RunState::Succeeded, String::new()));
    assert!(repository_named(&world.plane, &world.ctx, "offsite").await.unwrap().pruned_at.is_some());
}

async fn what_is_wrong_is_told_all_of_it(world: &World) {
    let good = world.wanted("good", "a");
    let long = "n".repeat(65);
    let cases = [
        (NewRepository { name: String::new(), ..good.clone() }, "name"),
        (NewRepository { name: long, ..good.clone() }, "name"),
        (NewRepository { name: "a b".into(), ..good.clone() }, "name"),
        (NewRepository { name: "a/b".into(), ..good.clone() }, "name"),
        (NewRepository { url: "relative".into(), ..good.clone() }, "url"),
        (NewRepository { url: "s3://AKIA@bucket".into(), ..good.clone() }, "url"),
        (NewRepository { url: "gs://bucket".into(), ..good.clone() }, "url"),
        (NewRepository { url: "rest:http://example.com/".into(), ..good.clone() }, "url"),
        (NewRepository { url: format!("/{}", "a".repeat(2_000)), ..good.clone() }, "url"),
        (NewRepository { password: Some(Secret::new("")), ..good.clone() }, "password"),
        (NewRepository { password: Some(Secret::new("p".repeat(1_025))), ..good.clone() }, "password"),
    ];
    for (new, field) in cases {
        let error = world.add(new.clone()).await.unwrap_err();
        assert_eq!((error.kind, error.faults.len()), (ErrorKind::Invalid, 1), "{new:?}: {error:?}");
        assert_eq!(error.faults[0].field, field, "{new:?}");
    }
    let all = NewRepository { name: "?".into(), url: "?".into(), password: None, ..good };
    let error = repository_add(&world.plane, &world.ctx, Input::of(all), Origin::Existing).await.unwrap_err();
    let fields: Vec<_> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["name", "url", "password"]);
    assert!(repository_list(&world.plane, &world.ctx).await.unwrap().is_empty());
}

async fn what_cannot_be_made_leaves_no_row(world: &World) {
    std::fs::create_dir(world.path("full")).unwrap();
    std::fs::write(world.path("full").join("mine"), "1").unwrap();
    std::fs::write(world.path("file"), "1").unwrap();
    for (folder, part) in [("full", "is not empty"), ("file", "Not a directory")] {
        let error = world.add(world.wanted("x", folder)).await.unwrap_err();
        assert!(error.message.contains(part), "{}", error.message);
        assert!(repository_list(&world.plane, &world.ctx).await.unwrap().is_empty(), "{folder}");
    }
    // A name and an address have one repository.
    world.add(world.wanted("x", "a")).await.unwrap();
    for (name, folder, field) in [("x", "b", "name"), ("y", "a", "url")] {
        let error = world.add(world.wanted(name, folder)).await.unwrap_err();
        assert_eq!(error.faults[0].field, field, "{name} {folder}: {error:?}");
    }
    assert!(!world.path("b").exists());
    assert_eq!(repository_list(&world.plane, &world.ctx).await.unwrap().len(), 1);
    for name in ["none", ""] {
        let error = repository_check(&world.plane, &world.ctx, name, CheckDepth::Data).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound);
    }
}

async fn an_interrupted_one_is_finished(world: &World) {
    let made = world.add(world.wanted("x", "a")).await.unwrap();
    let key = repository_key(&world.plane, &world.ctx, "x").await.unwrap();
    // As after a kill between the folder and the row.
    world.kit.exec("UPDATE repositories SET repository_id = NULL", args![]).await;
    let error = repository_check(&world.plane, &world.ctx, "x", CheckDepth::Structure).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "unfinished"));
    assert_eq!(world.add(world.wanted("x", "a")).await.unwrap().repository_id, made.repository_id);
    // As after a kill between the row and the folder, and before the repository was complete.
    for file in ["config", ""] {
        world.kit.exec("UPDATE repositories SET repository_id = NULL", args![]).await;
        let path = world.path("a");
        if file.is_empty() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path.join(file)).unwrap();
        }
        world.add(world.wanted("x", "a")).await.unwrap();
        let run = repository_check(&world.plane, &world.ctx, "x", CheckDepth::Data).await.unwrap();
        assert_eq!(world.ended(run).await, (RunState::Succeeded, String::new()), "{file}");
        assert_eq!(repository_key(&world.plane, &world.ctx, "x").await.unwrap(), key, "the same password");
    }
}

async fn doing_it_again_uses_what_is_stated_then(world: &World) {
    world.add(world.wanted("x", "a")).await.unwrap();
    let key = repository_key(&world.plane, &world.ctx, "x").await.unwrap();
    let unfinished = async || world.kit.exec("UPDATE repositories SET repository_id = NULL", args![]).await;
    unfinished().await;
    let other = NewRepository { password: Some(Secret::new("other")), ..world.wanted("x", "a") };
    assert_eq!(world.add(other).await.unwrap_err().faults[0].field, "password");
    // The name is not free for another place, and the message says where to finish it.
    let elsewhere = world.add(world.wanted("x", "b")).await.unwrap_err();
    assert!(elsewhere.faults[0].message.contains(world.path("a").to_str().unwrap()), "{elsewhere:?}");
    let now = NewRepository {
        append_only: true,
        shared: true,
        password: Some(key.clone()),
        ..world.wanted("x", "a")
    };
    let made = world.add(now).await.unwrap();
    assert_eq!((made.append_only, made.shared), (true, true));
    assert_eq!(repository_list(&world.plane, &world.ctx).await.unwrap(), [made]);
    // A password that was stated wrongly once is not kept.
    unfinished().await;
    world.attach(world.wanted("x", "a"), &Secret::new("wrong")).await.unwrap_err();
    assert!(repository_list(&world.plane, &world.ctx).await.unwrap().is_empty());
    world.attach(world.wanted("x", "a"), &key).await.unwrap();
}

async fn several_nodes_share_a_folder_or_have_none(world: &World) {
    for id in [901_i64, 902] {
        let sql = "INSERT INTO nodes (id, name, home, started_at, seen_at) VALUES ($1, 'n', $2, $3, $3)";
        world.kit.exec(sql, args![id, format!("/home/{id}"), world.kit.estate.now()]).await;
    }
    let error = world.add(world.wanted("x", "a")).await.unwrap_err();
    assert_eq!((error.faults[0].field.as_str(), error.faults[0].code), ("url", "not_shared"));
    world.add(NewRepository { shared: true, ..world.wanted("x", "a") }).await.unwrap();
}

async fn a_repository_is_attached_once(world: &World) {
    world.add(world.wanted("x", "a")).await.unwrap();
    let key = repository_key(&world.plane, &world.ctx, "x").await.unwrap();
    world.kit.exec("DELETE FROM repositories", args![]).await;
    let error = world.add(world.wanted("y", "a")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict, "{}", error.message);
    assert!(error.message.ends_with("already has a repository; attach it with its password"));
    let wrong = world.attach(world.wanted("y", "a"), &Secret::new("wrong")).await.unwrap_err();
    assert_eq!(wrong.code, "wrong_password", "{}", wrong.message);
    let none = world.attach(world.wanted("y", "b"), &key).await.unwrap_err();
    assert_eq!(none.code, "no_repository", "{}", none.message);
    assert!(!world.path("b").exists());
    let attached = world.attach(world.wanted("y", "a"), &key).await.unwrap();
    assert_eq!(repository_list(&world.plane, &world.ctx).await.unwrap(), [attached]);
    assert_eq!(repository_key(&world.plane, &world.ctx, "y").await.unwrap(), key);
}

async fn a_server_keeps_a_repository_too(world: &World) {
    // ann:pass:word
    let storage = RestStorage::with_login("YW5uOnBhc3M6d29yZA==");
    let (place, login) = (storage.address(), "ann:pass:word");
    let at = |url: String| NewRepository { url, ..world.wanted("offsite", "") };
    let error = world.add(at(format!("rest:http://ann:wrong@{place}/a"))).await.unwrap_err();
    assert!(error.message.contains("does not accept the user name or password"), "{}", error.message);
    assert!(repository_list(&world.plane, &world.ctx).await.unwrap().is_empty());
    let made = world.add(at(format!("rest:http://{login}@{place}/a"))).await.unwrap();
    assert_eq!(made.address.to_string(), format!("rest:http://{place}/a/"), "without the login");
    for depth in [CheckDepth::Structure, CheckDepth::Data] {
        let run = repository_check(&world.plane, &world.ctx, "offsite", depth).await.unwrap();
        assert_eq!(world.ended(run).await, (RunState::Succeeded, String::new()));
    }
    let stored = world.kit.rows("SELECT name, address FROM repositories").await;
    assert!(!format!("{stored:?}").contains("pass:word"));
    // The same place with another login is the same repository.
    let again = NewRepository { name: "other".into(), ..at(format!("rest:http://{login}@{place}/a/")) };
    assert_eq!(world.add(again).await.unwrap_err().faults[0].field, "url");
    drop(storage);
    let run = repository_check(&world.plane, &world.ctx, "offsite", CheckDepth::Structure).await.unwrap();
    let (state, message) = world.ended(run).await;
    assert_eq!(state, RunState::Failed, "{message}");
}

async fn a_bucket_keeps_a_repository_too(world: &World) {
    let Some(storage) = S3Storage::start() else { return };
    let place = format!("{BUCKET}/a?endpoint=http://{}", storage.address());
    let at =
        |login: &str| NewRepository { url: format!("s3://{login}{place}"), ..world.wanted("offsite", "") };
    let error = world.add(at("")).await.unwrap_err();
    assert!(error.message.contains("state it as s3://ACCESS_KEY_ID:SECRET@"), "{}", error.message);
    assert!(repository_list(&world.plane, &world.ctx).await.unwrap().is_empty());
    let made = world.add(at("AKIATEST:se/c+r@et:@")).await.unwrap();
    assert_eq!(made.address.to_string(), format!("s3://{place}"), "without the login");
    let run = repository_check(&world.plane, &world.ctx, "offsite", CheckDepth::Data).await.unwrap();
    assert_eq!(world.ended(run).await, (RunState::Succeeded, String::new()));
    let stored = world.kit.rows("SELECT name, address FROM repositories").await;
    assert!(!format!("{stored:?}").contains("se/c"));
    let again = NewRepository { name: "other".into(), ..at("AKIA2:secret@") };
    assert_eq!(world.add(again).await.unwrap_err().faults[0].field, "url");
    // The stored login is the one that was stated.
    let key = storage.only_allow(&["s3:GetObject", "s3:ListBucket", "s3:PutObject"]);
    let run = repository_check(&world.plane, &world.ctx, "offsite", CheckDepth::Structure).await.unwrap();
    assert_eq!(world.ended(run).await.0, RunState::Failed, "an unknown key");
    let login = format!("{}:{}@", key.id, key.secret);
    let elsewhere = NewRepository {
        url: format!("s3://{login}{BUCKET}/b?endpoint=http://{}", storage.address()),
        ..world.wanted("second", "")
    };
    world.add(elsewhere).await.unwrap();
    let run = repository_check(&world.plane, &world.ctx, "second", CheckDepth::Data).await.unwrap();
    assert_eq!(world.ended(run).await, (RunState::Succeeded, String::new()));
}

async fn damage_fails_a_check(world: &World) {
    world.add(world.wanted("x", "a")).await.unwrap();
    // A pack that no index knows is harmless; one that is missing is not.
    let pack = world.path("a").join("data/00");
    std::fs::create_dir_all(&pack).unwrap();
    std::fs::write(pack.join("0".repeat(64)), "rubbish").unwrap();
    let run = repository_check(&world.plane, &world.ctx, "x", CheckDepth::Data).await.unwrap();
    let harmless = world.ended(run).await;
    let index = world.path("a").join("index").join("1".repeat(64));
    std::fs::write(index, "rubbish").unwrap();
    let run = repository_check(&world.plane, &world.ctx, "x", CheckDepth::Structure).await.unwrap();
    let (state, message) = world.ended(run).await;
    assert_eq!(state, RunState::Failed, "{message} ({harmless:?})");
    assert!(message.contains("damaged") || message.contains("cannot be read"), "{message}");
}

async fn an_append_only_repository_is_not_pruned(world: &World) {
    let new = NewRepository { append_only: true, ..world.wanted("x", "a") };
    assert!(world.add(new).await.unwrap().append_only);
    let error = repository_prune(&world.plane, &world.ctx, "x").await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "append_only"));
}

async fn only_those_who_may_see_or_change_repositories(world: &World) {
    world.add(world.wanted("x", "a")).await.unwrap();
    let none = world.kit.person("none", &[]).await;
    let viewer = world.kit.person("viewer", &[Permission::new(REPOSITORY, Action::VIEW)]).await;
    let manager = world.kit.person("manager", &[Permission::new(REPOSITORY, Action::MANAGE)]).await;
    for (ctx, sees, manages) in [(&none, false, false), (&viewer, true, false), (&manager, true, true)] {
        assert_eq!(repository_list(&world.plane, ctx).await.is_ok(), sees);
        assert_eq!(repository_named(&world.plane, ctx, "x").await.is_ok(), sees);
        assert_eq!(repository_key(&world.plane, ctx, "x").await.is_ok(), manages);
        assert_eq!(repository_prune(&world.plane, ctx, "x").await.is_ok(), manages);
        let checked = repository_check(&world.plane, ctx, "x", CheckDepth::Structure).await;
        assert_eq!(checked.is_ok(), manages);
        let new = world.wanted(if manages { "y" } else { "z" }, "b");
        let added = repository_add(&world.plane, ctx, Input::of(new), Origin::New).await;
        assert_eq!(added.is_ok(), manages);
    }
}

#[tokio::test]
async fn a_repository_that_was_moved_is_found_again() {
    let world = World::sqlite().await;
    let shop = world.database(&world.ctx, "shop.db", "CREATE TABLE t (a)").await;
    let backup = world.back_up(&shop, NewBackup { repository: None, keep: None }).await;
    // It is kept open from here on.
    assert_eq!(backup_tables(&world.plane, &world.ctx, backup.uuid).await.unwrap().len(), 1);
    world.add(world.wanted("other", "elsewhere")).await.unwrap();
    let url = |folder: &str| world.path(folder).to_str().unwrap().to_owned();
    std::fs::rename(world.path("default"), world.path("moved")).unwrap();
    let fails =
        async |url: String| repository_move(&world.plane, &world.ctx, "default", &url).await.unwrap_err();
    assert_eq!(fails(url("default")).await.code, "no_repository");
    assert_eq!(fails(url("elsewhere")).await.faults.len(), 0, "another password");
    assert_eq!(fails("relative".to_owned()).await.faults[0].field, "url");
    let moved = repository_move(&world.plane, &world.ctx, "default", &url("moved")).await.unwrap();
    assert_eq!(moved.address.to_string(), url("moved"));
    let sql = "SELECT * FROM t".to_owned();
    let time_limit = std::time::Duration::from_secs(30);
    let asked = RecordQuery { backup: backup.uuid, sql, time_limit, max_rows: None };
    assert!(record_query(&world.plane, &world.ctx, asked, CancellationToken::new()).await.is_ok());
    let run = world.restore(&backup, "restored.db", true).await.unwrap();
    assert_eq!(world.ended(run).await.1, "");
    world.back_up(&shop, NewBackup { repository: None, keep: None }).await;
    assert!(!world.path("default").exists());
}
