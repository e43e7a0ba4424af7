//! SQLite files through backup and restore, on both metadata stores.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use landreeve_core::vault::CheckDepth;
use landreeve_core::{Action, ErrorKind, Permission, RunState};
use landreeve_estate::ops::datasources::{datasource_delete, datasource_get};
use landreeve_estate::ops::ous::ou_create;
use landreeve_estate::ops::{runs, sign_in};
use landreeve_protection::backing_up::{NewBackup, backup_start};
use landreeve_protection::backups::{backup_delete, backup_get};
use landreeve_protection::nouns::{BACKUP, RESTORE};
use landreeve_protection::repositories::{NewRepository, repository_key, repository_list};
use landreeve_protection::restoring::{NewRestore, backup_verify, restore_plan, restore_start};
use landreeve_protection::upkeep::{repository_check, repository_prune};
use rusqlite::Connection;

use crate::support::{World, on_both, to};

on_both! {
    a_file_is_backed_up_and_restored
    what_is_unchanged_is_not_stored_again
    a_copy_is_of_one_moment_while_others_write
    a_repository_alone_is_enough
    a_backup_whose_run_was_lost_is_found
    what_has_expired_is_forgotten_and_nothing_else
    only_the_operator_deletes_one
    damage_is_told_and_never_restored
    what_cannot_be_backed_up_says_why
    what_cannot_be_restored_says_why
    a_cancel_leaves_nothing
    a_prune_waits_for_those_before_it
    only_those_who_may
}

const DEFAULTS: NewBackup = NewBackup { repository: None, keep: None };
const SHOP: &str = "CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT NOT NULL); \
                    CREATE TABLE \"odd \"\" name\" (a, b BLOB); CREATE VIEW v AS SELECT * FROM orders; \
                    CREATE INDEX i ON orders (note); \
                    INSERT INTO orders WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
                    SELECT i, hex(randomblob(20)) FROM n; \
                    INSERT INTO \"odd \"\" name\" VALUES (1e999, x'00ff'), (NULL, 'text'), (9223372036854775807, 0.1);";

/// Everything that a database has, in the order in which it is stored.
fn dump(world: &World, file: &str) -> Vec<String> {
    let open = Connection::open(world.path(file)).unwrap();
    let text = |sql: &str| -> Vec<String> {
        let mut statement = open.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(text("PRAGMA integrity_check"), ["ok"]);
    let mut all = text("SELECT type || name || coalesce(sql, '') FROM sqlite_schema ORDER BY 1");
    all.extend(text("SELECT id || note FROM orders ORDER BY id"));
    all
}

async fn a_file_is_backed_up_and_restored(world: &World) {
    let shop = world.database(&world.ctx, "shop.db", SHOP).await;
    let backup = world.back_up(&shop, DEFAULTS).await;
    assert_eq!((backup.tables, backup.rows), (2, Some(20_003)));
    assert_eq!((backup.asset.uuid, backup.asset.name.as_str()), (shop.uuid, "shop.db"));
    assert_eq!(backup.expires_at.duration_since(backup.started_at), jiff::SignedDuration::from_hours(168));
    assert_eq!(backup.repository_name, "default");
    let size = std::fs::metadata(world.path("shop.db")).unwrap().len();
    assert_eq!(backup.bytes_read, i64::try_from(size).unwrap());
    let added = backup.bytes_added.unwrap();
    assert!(added > 100_000 && added < backup.bytes_read, "{added}");
    // Nothing of it stays where it was staged.
    assert_eq!(std::fs::read_dir(world.path("scratch")).unwrap().count(), 0);
    let run = backup_verify(&world.plane, &world.ctx, backup.uuid).await.unwrap();
    assert_eq!(world.ended(run).await, (RunState::Succeeded, String::new()));
    assert!(backup_get(&world.plane, &world.ctx, backup.uuid).await.unwrap().verified_at.is_some());
    let run = world.restore(&backup, "restored.db", true).await.unwrap();
    assert_eq!(world.ended(run.clone()).await, (RunState::Succeeded, String::new()));
    assert_eq!(dump(world, "restored.db"), dump(world, "shop.db"));
    let (lines, _) =
        runs::run_log(&world.kit.estate, &world.ctx, runs::RunRef::Id(run.id), &[], 0).await.unwrap();
    assert_eq!(lines[0].text, "compared: 2 tables with 20003 rows are equal");
    let name = format!("shop.db {}", backup.started_at.strftime("%Y-%m-%d %H:%M"));
    let made = world.kit.rows(&format!("SELECT config, uuid FROM datasources WHERE name = '{name}'")).await;
    assert!(made[0][0].contains("restored.db"), "{made:?}");
    assert_ne!(made[0][1], shop.uuid.to_string());
}

async fn what_is_unchanged_is_not_stored_again(world: &World) {
    let shop = world.database(&world.ctx, "shop.db", SHOP).await;
    let first = world.back_up(&shop, DEFAULTS).await.bytes_added.unwrap();
    let second = world.back_up(&shop, DEFAULTS).await.bytes_added.unwrap();
    assert!(second * 50 < first, "{first}, then {second}");
    Connection::open(world.path("shop.db"))
        .unwrap()
        .execute("UPDATE orders SET note = 'x' WHERE id = 7", [])
        .unwrap();
    let third = world.back_up(&shop, DEFAULTS).await.bytes_added.unwrap();
    assert!(third > second && third < first, "{first}, {second}, then {third}");
    assert_eq!(world.listed().await.len(), 3);
}

/// Every transaction moves an amount from one row to another: the sum is the same at any moment.
async fn a_copy_is_of_one_moment_while_others_write(world: &World) {
    for mode in ["wal", "delete"] {
        let file = format!("{mode}.db");
        let sql = format!(
            "PRAGMA journal_mode = {mode}; CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT); \
             CREATE TABLE t (id INTEGER PRIMARY KEY, amount INTEGER, filler BLOB); \
             INSERT INTO t WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
             SELECT i, 100, randomblob(1000) FROM n;"
        );
        let source = world.database(&world.ctx, &file, &sql).await;
        let (stop, writes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writer = std::thread::spawn({
            let (path, stop, writes) = (world.path(&file), Arc::clone(&stop), Arc::clone(&writes));
            move || {
                let open = Connection::open(path).unwrap();
                open.busy_timeout(Duration::from_secs(30)).unwrap();
                // Others need the disk too.
                open.pragma_update(None, "synchronous", "OFF").unwrap();
                let mut at = 1;
                while !stop.load(Ordering::SeqCst) {
                    at = at * 37 % 5_003;
                    open.execute_batch(&format!(
                        "BEGIN IMMEDIATE; UPDATE t SET amount = amount - 1 WHERE id = 1 + {at} % 5000; \
                         UPDATE t SET amount = amount + 1 WHERE id = 1 + ({at} * 7) % 5000; COMMIT"
                    ))
                    .unwrap();
                    writes.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        while writes.load(Ordering::SeqCst) < 10 {
            tokio::task::yield_now().await;
        }
        let backup = world.back_up(&source, DEFAULTS).await;
        let during = writes.load(Ordering::SeqCst);
        stop.store(true, Ordering::SeqCst);
        writer.join().unwrap();
        assert!(during > 10, "the writer was never stopped for long");
        let copy = format!("{mode}-copy.db");
        let run = world.restore(&backup, &copy, true).await.unwrap();
        assert_eq!(world.ended(run).await, (RunState::Succeeded, String::new()));
        dump(world, &copy);
        let open = Connection::open(world.path(&copy)).unwrap();
        let sum: i64 = open.query_row("SELECT sum(amount) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(sum, 500_000, "{mode}");
    }
}

/// Another estate attaches the repository: the asset is there as deleted, and its backups can be restored.
async fn a_repository_alone_is_enough(world: &World) {
    let shop = world.database(&world.ctx, "shop.db", SHOP).await;
    let first = world.back_up(&shop, DEFAULTS).await;
    world.kit.clock.seconds(60);
    let made = [first, world.back_up(&shop, DEFAULTS).await];
    let key = repository_key(&world.plane, &world.ctx, "default").await.unwrap();
    let other = World::sqlite().await;
    let url = world.path("default").to_str().unwrap().to_owned();
    other.attach(NewRepository { url, ..other.wanted("moved", "x") }, &key).await.unwrap();
    assert_eq!(other.listed().await, [made[1].uuid, made[0].uuid]);
    let found = backup_get(&other.plane, &other.ctx, made[0].uuid).await.unwrap();
    assert_eq!((found.asset.datasource, found.asset.uuid), (None, shop.uuid));
    assert_eq!((found.bytes_added, found.finished_at, found.ou_path.as_str()), (None, None, "/1/"));
    let same = |backup: &landreeve_protection::backups::Backup| {
        (backup.started_at, backup.expires_at, backup.rows, backup.bytes_read, backup.snapshot.clone())
    };
    assert_eq!(same(&found), same(&made[0]));
    let run = other.restore(&found, "restored.db", true).await.unwrap();
    assert_eq!(other.ended(run).await, (RunState::Succeeded, String::new()));
    assert_eq!(dump(&other, "restored.db"), dump(world, "shop.db"));
    // Stock restic reads it too.
    let restic = tokio::process::Command::new("restic")
        .args(["-r", world.path("default").to_str().unwrap(), "--no-cache", "check", "--read-data"])
        .env("RESTIC_PASSWORD", key.reveal())
        .output()
        .await
        .unwrap();
    assert!(restic.status.success(), "{}", String::from_utf8_lossy(&restic.stderr));
}

/// A server was killed between the snapshot and its row.
async fn a_backup_whose_run_was_lost_is_found(world: &World) {
    let shop = world.database(&world.ctx, "shop.db", SHOP).await;
    let made = world.back_up(&shop, DEFAULTS).await;
    for check in [true, false] {
        world.kit.exec("DELETE FROM backups", Vec::new()).await;
        assert!(world.listed().await.is_empty());
        let run = match check {
            true => repository_check(&world.plane, &world.ctx, "default", CheckDepth::Structure).await,
            false => repository_prune(&world.plane, &world.ctx, "default").await,
        };
        assert_eq!(world.ended(run.unwrap()).await, (RunState::Succeeded, String::new()));
        assert_eq!(world.listed().await, [made.uuid], "{check}");
    }
}

async fn what_has_expired_is_forgotten_and_nothing_else(world: &World) {
    let shop = world.database(&world.ctx, "shop.db", SHOP).await;
    let keep = |text: &str| NewBackup { repository: None, keep: Some(text.to_owned()) };
    let short = world.back_up(&shop, keep("1h")).await;
    let long = world.back_up(&shop, keep("2h")).await;
    let prune = async || {
        let run = repository_prune(&world.plane, &world.ctx, "default").await.unwrap();
        assert_eq!(world.ended(run).await, (RunState::Succeeded, String::new()));
        world.listed().await
    };
    world.kit.clock.set(&(short.expires_at - jiff::SignedDuration::from_micros(1)).to_string());
    assert_eq!(prune().await, [long.uuid, short.uuid]);
    world.kit.clock.set(&short.expires_at.to_string());
    // It cannot be used any more, even before it is forgotten.
    let error = world.restore(&short, "r.db", false).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.message.contains("has expired"), "{}", error.message);
    assert_eq!(prune().await, [long.uuid]);
    let run = world.restore(&long, "r.db", true).await.unwrap();
    assert_eq!(world.ended(run).await, (RunState::Succeeded, String::new()));
}

async fn only_the_operator_deletes_one(world: &World) {
    let shop = world.database(&world.ctx, "shop.db", SHOP).await;
    let backup = world.back_up(&shop, DEFAULTS).await;
    let ann = world.kit.person("ann", &[Permission::new(BACKUP, Action::MANAGE)]).await;
    let error = backup_delete(&world.plane, &ann, backup.uuid).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Forbidden);
    backup_delete(&world.plane, &world.ctx, backup.uuid).await.unwrap();
    assert!(world.listed().await.is_empty());
    let audited = "SELECT count(*) FROM audit_events WHERE action = 'deleted' AND noun = 'backup'";
    assert_eq!(world.kit.number(audited).await, 1);
    // Its snapshot is gone: a check does not find it again.
    let run = repository_check(&world.plane, &world.ctx, "default", CheckDepth::Structure).await.unwrap();
    assert_eq!(world.ended(run).await, (RunState::Succeeded, String::new()));
    assert!(world.listed().await.is_empty());
    // In an append-only repository it stays.
    let kept = NewRepository { append_only: true, ..world.wanted("kept", "kept") };
    world.add(kept).await.unwrap();
    let backup = world.back_up(&shop, NewBackup { repository: Some("kept".into()), keep: None }).await;
    let error = backup_delete(&world.plane, &world.ctx, backup.uuid).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "append_only"));
    assert_eq!(world.listed().await, [backup.uuid]);
}

async fn damage_is_told_and_never_restored(world: &World) {
    let shop = world.database(&world.ctx, "shop.db", SHOP).await;
    let backup = world.back_up(&shop, DEFAULTS).await;
    let mut packs = Vec::new();
    for folder in std::fs::read_dir(world.path("default/data")).unwrap() {
        packs.extend(std::fs::read_dir(folder.unwrap().path()).unwrap().map(|pack| pack.unwrap().path()));
    }
    packs.sort_by_key(|pack| std::fs::metadata(pack).unwrap().len());
    let pack = packs.last().unwrap();
    let whole = std::fs::read(pack).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 3] ^= 1;
    for damaged in [flipped, whole[..whole.len() / 2].to_vec(), Vec::new()] {
        std::fs::set_permissions(pack, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(pack, &damaged).unwrap();
        let run = backup_verify(&world.plane, &world.ctx, backup.uuid).await.unwrap();
        let (state, message) = world.ended(run).await;
        assert_eq!(state, RunState::Failed, "{message}");
        let before = std::fs::read_dir(world.path("")).unwrap().count();
        let run = world.restore(&backup, "r.db", false).await.unwrap();
        let (state, message) = world.ended(run).await;
        assert_eq!(state, RunState::Failed, "{message}");
        assert_eq!(std::fs::read_dir(world.path("")).unwrap().count(), before, "nothing is left");
        assert!(backup_get(&world.plane, &world.ctx, backup.uuid).await.unwrap().verified_at.is_none());
    }
    std::fs::write(pack, &whole).unwrap();
    let run = world.restore(&backup, "r.db", true).await.unwrap();
    assert_eq!(world.ended(run).await, (RunState::Succeeded, String::new()));
}

async fn what_cannot_be_backed_up_says_why(world: &World) {
    let shop = world.database(&world.ctx, "shop.db", SHOP).await;
    for (repository, keep, field, part) in [
        (Some("nowhere"), None, "repository", "there is no repository called nowhere"),
        (None, Some("0d"), "keep", "must be a number"),
        (None, Some("999y"), "keep", "must be at most 100y"),
    ] {
        let new = NewBackup { repository: repository.map(Into::into), keep: keep.map(Into::into) };
        let error = backup_start(&world.plane, &world.ctx, shop.id, new).await.unwrap_err();
        assert_eq!((error.faults.len(), error.faults[0].field.as_str()), (1, field), "{error:?}");
        assert!(error.faults[0].message.contains(part), "{error:?}");
    }
    let both = NewBackup { repository: Some("nowhere".into()), keep: Some("x".into()) };
    let error = backup_start(&world.plane, &world.ctx, shop.id, both).await.unwrap_err();
    assert_eq!(error.faults.len(), 2);
    assert!(repository_list(&world.plane, &world.ctx).await.unwrap().is_empty());
    // A file that is gone, or no database.
    let ended = async || {
        let run = backup_start(&world.plane, &world.ctx, shop.id, DEFAULTS).await.unwrap();
        world.ended(run).await
    };
    std::fs::rename(world.path("shop.db"), world.path("away.db")).unwrap();
    let (state, message) = ended().await;
    assert_eq!(state, RunState::Failed);
    assert!(message.contains("is not a file below"), "{message}");
    std::fs::write(world.path("shop.db"), vec![7; 10_000]).unwrap();
    let (state, message) = ended().await;
    assert_eq!(state, RunState::Failed);
    assert!(message.contains("is not a SQLite database"), "{message}");
    assert!(world.listed().await.is_empty());
    assert_eq!(std::fs::read_dir(world.path("scratch")).unwrap().count(), 0);
    // The sample of the server has no backup, nor has a type without snapshots.
    datasource_delete(&world.kit.estate, &world.ctx, shop.id).await.unwrap();
    let error = backup_start(&world.plane, &world.ctx, shop.id, DEFAULTS).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

async fn what_cannot_be_restored_says_why(world: &World) {
    let shop = world.database(&world.ctx, "shop.db", SHOP).await;
    let backup = world.back_up(&shop, DEFAULTS).await;
    std::fs::write(world.path("taken.db"), "x").unwrap();
    std::fs::write(world.path("beside.db-wal"), "x").unwrap();
    let data = world.kit.path("data");
    for (file, kind) in [
        (world.path("taken.db"), ErrorKind::Conflict),
        (world.path("beside.db"), ErrorKind::Conflict),
        (world.path("no/such/folder.db"), ErrorKind::Invalid),
        (data.join("inside.db"), ErrorKind::Invalid),
        ("/".into(), ErrorKind::Invalid),
        ("".into(), ErrorKind::Invalid),
        ("relative.db".into(), ErrorKind::Invalid),
    ] {
        let database = file.to_str().unwrap().to_owned();
        let new = to(&backup, database);
        let error = restore_plan(&world.plane, &world.ctx, new).await.unwrap_err();
        assert_eq!(error.kind, kind, "{file:?}: {error:?}");
    }
    let new = NewRestore { name: Some(" ".into()), ..to(&backup, "/".into()) };
    let error = restore_plan(&world.plane, &world.ctx, new).await.unwrap_err();
    let fields: Vec<_> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["name", "database"]);
    let new = NewRestore { backup: world.kit.estate.uuid(), ..to(&backup, "/x".into()) };
    assert_eq!(restore_plan(&world.plane, &world.ctx, new).await.unwrap_err().kind, ErrorKind::NotFound);
}

async fn a_cancel_leaves_nothing(world: &World) {
    let shop = world.database(&world.ctx, "shop.db", SHOP).await;
    let backup = world.back_up(&shop, DEFAULTS).await;
    let listed = world.listed().await;
    for _ in 0..5 {
        let run = backup_start(&world.plane, &world.ctx, shop.id, DEFAULTS).await.unwrap();
        // A second one waits for nothing: it is refused.
        let error = backup_start(&world.plane, &world.ctx, shop.id, DEFAULTS).await.unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "busy"));
        runs::run_cancel(&world.kit.estate, &world.ctx, runs::RunRef::Id(run.id), &[]).await.unwrap();
        assert_eq!(world.ended(run).await.0, RunState::Cancelled);
        let run = world.restore(&backup, "r.db", false).await.unwrap();
        runs::run_cancel(&world.kit.estate, &world.ctx, runs::RunRef::Id(run.id), &[]).await.unwrap();
        assert_eq!(world.ended(run).await.0, RunState::Cancelled);
    }
    assert_eq!(world.listed().await, listed);
    assert!(!world.path("r.db").exists());
    assert_eq!(world.kit.number("SELECT count(*) FROM repository_uses").await, 0);
}

/// Waits until the count is one.
async fn until(world: &World, count: &'static str) {
    let counted = async {
        while world.kit.number(count).await != 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), counted).await.unwrap();
}

/// Those that add come together; one that deletes waits for them, and those after it wait for it.
async fn a_prune_waits_for_those_before_it(world: &World) {
    let shop = world.database(&world.ctx, "shop.db", SHOP).await;
    let backup = world.back_up(&shop, DEFAULTS).await;
    // Another run, which is under way, uses the repository.
    let other = world.kit.probe_in(RunState::Running).await;
    let id = backup.repository;
    let uses = "INSERT INTO repository_uses (run_id, repository_id, ticket, exclusive) VALUES ($1, $2, 0, 0)";
    world.kit.exec(uses, landreeve_estate::args![other.id, id]).await;
    let added = world.back_up(&shop, DEFAULTS).await;
    let prune = repository_prune(&world.plane, &world.ctx, "default").await.unwrap();
    until(world, "SELECT count(*) FROM repository_uses WHERE exclusive = 1").await;
    let verify = backup_verify(&world.plane, &world.ctx, added.uuid).await.unwrap();
    until(world, "SELECT count(*) FROM repository_uses WHERE exclusive = 0 AND ticket > 0").await;
    for run in [&prune, &verify] {
        assert!(!world.kit.run(run).await.state.is_final());
    }
    world.kit.put(&other, RunState::Lost).await;
    for run in [prune, verify] {
        assert_eq!(world.ended(run).await, (RunState::Succeeded, String::new()));
    }
    // What a killed run left does not count, and goes with the next.
    world.back_up(&shop, DEFAULTS).await;
    assert_eq!(world.kit.number("SELECT count(*) FROM repository_uses").await, 0);
}

async fn only_those_who_may(world: &World) {
    let estate = &world.kit.estate;
    let unit = ou_create(estate, &world.ctx, None, "sales".into(), String::new()).await.unwrap();
    let inside = sign_in::operator_in(estate, unit.uuid).await.unwrap();
    let shop = world.database(&inside, "shop.db", SHOP).await;
    let backup = world.back_up(&shop, DEFAULTS).await;
    assert_eq!(backup.ou_path, unit.path);
    let permission = Permission::new;
    let guest = world.kit.person("guest", &[]).await;
    let viewer = world.kit.person("viewer", &[permission(BACKUP, Action::VIEW)]).await;
    let restorer = world
        .kit
        .person("restorer", &[permission(BACKUP, Action::VIEW), permission(RESTORE, Action::USE)])
        .await;
    let manager = world.kit.person("manager", &[permission(BACKUP, Action::MANAGE)]).await;
    let elsewhere = world.kit.ou("elsewhere").await;
    world
        .kit
        .user_in(
            elsewhere.id,
            "other",
            &[permission(BACKUP, Action::MANAGE), permission(RESTORE, Action::MANAGE)],
        )
        .await;
    let origin = landreeve_estate::ops::Origin {
        request_id: estate.uuid(),
        address: None,
        kind: landreeve_core::OpKind::CommandLine,
    };
    let password = landreeve_core::Secret::new(landreeve_testkit::PASSWORD);
    let other = sign_in::by_password(estate, "other", password, None, origin).await.unwrap();
    let database = || world.path("r.db").to_str().unwrap().to_owned();
    for (who, ctx, sees, makes, restores) in [
        ("guest", &guest, false, false, false),
        ("viewer", &viewer, true, false, false),
        ("restorer", &restorer, true, false, true),
        ("manager", &manager, true, true, false),
        ("other", &other, false, false, false),
    ] {
        let listed =
            landreeve_protection::backups::backup_list(&world.plane, ctx, &Default::default(), None).await;
        assert_eq!(listed.is_ok_and(|part| part.items.len() == 1), sees, "{who}");
        assert_eq!(backup_get(&world.plane, ctx, backup.uuid).await.is_ok(), sees, "{who}");
        let made = backup_start(&world.plane, ctx, shop.id, DEFAULTS).await;
        assert_eq!(made.is_ok(), makes, "{who}");
        if let Ok(run) = made {
            assert_eq!(world.ended(run).await, (RunState::Succeeded, String::new()), "{who}");
            world
                .kit
                .exec("DELETE FROM backups WHERE uuid <> (SELECT min(uuid) FROM backups)", Vec::new())
                .await;
            world
                .kit
                .exec("UPDATE backups SET uuid = $1", landreeve_estate::args![backup.uuid.to_string()])
                .await;
        }
        let new = to(&backup, database());
        let error = restore_start(&world.plane, ctx, new).await.err();
        let stopped = error.map(|error| error.kind);
        let wanted = match (sees, restores) {
            // No folder is open to users here.
            (_, true) => Some(ErrorKind::Invalid),
            (true, false) => Some(ErrorKind::Forbidden),
            (false, false) => {
                stopped.filter(|kind| matches!(kind, ErrorKind::Forbidden | ErrorKind::NotFound))
            }
        };
        assert_eq!(stopped, wanted, "{who}");
        assert_eq!(backup_verify(&world.plane, ctx, backup.uuid).await.is_ok(), makes, "{who}");
    }
    let _ = datasource_get(estate, &world.ctx, shop.id).await.unwrap();
}
