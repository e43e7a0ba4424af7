//! Policies: backups that are made by themselves, on both metadata stores.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, ToSpan as _};
use landreeve_core::error::Fault;
use landreeve_core::ids::RunId;
use landreeve_core::source::Connections;
use landreeve_core::{Action, ErrorKind, Input, OpCtx, Permission, RunState, page};
use landreeve_estate::ops::runs::{RunRef, run_cancel, run_get};
use landreeve_estate::ops::{Datasource, Run, sign_in};
use landreeve_protection::alerts::{Alert, alert_list, alert_update};
use landreeve_protection::backing_up::{NewBackup, backup_start};
use landreeve_protection::backups::{Backup, BackupFilter, backup_list};
use landreeve_protection::consolidated::group_get;
use landreeve_protection::nouns::{ALERT, POLICY};
use landreeve_protection::policies::model::{NewOperation, NewPolicy, NewSla};
use landreeve_protection::policies::{
    Assignment, Lock, Policy, PolicyFilter, policy_assign, policy_create, policy_delete, policy_get,
    policy_list, policy_update,
};
use uuid::Uuid;

use crate::support::{World, on_both};

on_both! {
    backups_are_made_when_they_are_due
    what_fails_is_told_once_and_tried_again
    a_window_that_closes_cuts_a_backup_off
    one_repository_that_fails_holds_up_no_other
    only_those_who_may
}

const TABLE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)";

fn sla(every: (&str, i64), keep: (&str, i64)) -> NewSla {
    NewSla {
        retention: (keep.0.to_owned(), keep.1),
        frequency: (every.0.to_owned(), every.1),
        offsets: Vec::new(),
    }
}

fn policy(slas: Vec<NewSla>, window: Option<(&str, &str)>) -> NewPolicy {
    let operation = NewOperation {
        kind: "aws_rds_resource_granular_backup".to_owned(),
        action: if window.is_some() { "window" } else { "immediate" }.to_owned(),
        window: window.map(|(start, end)| (start.to_owned(), end.to_owned())),
        slas,
        ..NewOperation::default()
    };
    NewPolicy { name: "gold".to_owned(), enabled: true, operations: vec![operation] }
}

async fn made(world: &World, new: NewPolicy) -> Policy {
    policy_create(&world.plane, &world.ctx, Input::of(new)).await.unwrap()
}

async fn assign(world: &World, source: &Datasource, policy: Option<Uuid>) {
    let items = vec![Assignment { datasource: source.uuid, policy }];
    let run = policy_assign(&world.plane, &world.ctx, Input::of(items)).await.unwrap();
    done(world, run).await;
}

async fn done(world: &World, run: Run) {
    assert_eq!(world.ended(run).await, (RunState::Succeeded, String::new()));
}

/// All backups, the oldest first.
async fn backups(world: &World) -> Vec<Backup> {
    let filter = BackupFilter::default();
    let all = page::collect(|after| backup_list(&world.plane, &world.ctx, &filter, after)).await.unwrap();
    all.into_iter().rev().collect()
}

async fn alerts(world: &World) -> Vec<Alert> {
    page::collect(|after| alert_list(&world.plane, &world.ctx, None, after)).await.unwrap()
}

/// Until a statement returns a row.
async fn until(world: &World, sql: String) {
    let sql: &'static str = Box::leak(format!("SELECT count(*) FROM ({sql}) AS found").into_boxed_str());
    let found = async {
        while world.kit.number(sql).await == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.unwrap_or_else(|_| panic!("{sql}"));
}

/// Until so many runs that back up have ended, and the scheduler has seen that.
async fn until_ended(world: &World, count: usize) {
    until(
        world,
        format!("SELECT 1 FROM (SELECT count(*) AS n FROM runs WHERE kind = 'backup' AND finished_at IS NOT NULL) AS r WHERE n >= {count}"),
    )
    .await;
}

/// Moves the clock, and waits until the scheduler has looked at every database.
async fn pass(world: &World, by: SignedDuration) {
    world.kit.clock.advance(Duration::try_from(by).unwrap());
    settle(world).await;
}

async fn settle(world: &World) {
    world.kit.wake_schedules();
    let now = world.kit.estate.now().as_microsecond();
    let waiting = format!("SELECT count(*) FROM schedules WHERE plane = 'protection' AND next_at <= {now}");
    let waiting: &'static str = Box::leak(waiting.into_boxed_str());
    while world.kit.number(waiting).await > 0 {
        tokio::task::yield_now().await;
    }
}

async fn count(world: &World) -> i64 {
    world.kit.number("SELECT count(*) FROM runs WHERE kind = 'backup'").await
}

const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// After this the end of a backup has been seen.
const SEEN: SignedDuration = SignedDuration::from_secs(31);

async fn backups_are_made_when_they_are_due(world: &World) {
    world.kit.follow_schedules().await;
    let shop = world.database(&world.ctx, "shop.db", TABLE).await;
    let gold =
        made(world, policy(vec![sla(("days", 1), ("weeks", 1)), sla(("months", 1), ("years", 1))], None))
            .await;
    assign(world, &shop, Some(gold.uuid)).await;
    until_ended(world, 1).await;
    let first = backups(world).await.remove(0);
    // Both are due: the longer retention counts.
    let year = first.started_at.to_zoned(jiff::tz::TimeZone::UTC).checked_add(1.year()).unwrap().timestamp();
    assert_eq!(first.expires_at, year);
    pass(world, SEEN).await;
    pass(world, HOUR * 23).await;
    assert_eq!(count(world).await, 1);
    pass(world, HOUR).await;
    until_ended(world, 2).await;
    let second = backups(world).await.remove(1);
    assert_eq!(second.expires_at.duration_since(second.started_at), HOUR * 168);
    assert!(second.started_at.duration_since(first.started_at) >= HOUR * 24);
    // However many were missed, one is made.
    pass(world, SEEN).await;
    pass(world, HOUR * 24 * 5).await;
    until_ended(world, 3).await;
    pass(world, SEEN).await;
    assert_eq!(count(world).await, 3);
    // A change of the policy changes no backup that exists.
    let before: Vec<Timestamp> = backups(world).await.iter().map(|backup| backup.expires_at).collect();
    let shorter = NewPolicy { name: "bronze".into(), ..policy(vec![sla(("days", 1), ("days", 1))], None) };
    let (locked, run) =
        policy_update(&world.plane, &world.ctx, gold.uuid, Input::of(shorter.clone())).await.unwrap();
    assert_eq!(locked.lock, Lock::Updating);
    done(world, run).await;
    let changed = policy_get(&world.plane, &world.ctx, gold.uuid).await.unwrap();
    assert_eq!(
        (changed.name.as_str(), changed.lock, &changed.operations),
        ("bronze", Lock::Unlocked, &shorter.operations)
    );
    assert_eq!(changed.assigned, 1);
    settle(world).await;
    assert_eq!(backups(world).await.iter().map(|backup| backup.expires_at).collect::<Vec<_>>(), before);
    // Neither a policy that is not active nor one that is not assigned makes backups.
    let paused = NewPolicy { enabled: false, ..shorter.clone() };
    done(world, policy_update(&world.plane, &world.ctx, gold.uuid, Input::of(paused)).await.unwrap().1).await;
    pass(world, HOUR * 48).await;
    done(world, policy_update(&world.plane, &world.ctx, gold.uuid, Input::of(shorter)).await.unwrap().1)
        .await;
    until_ended(world, 4).await;
    assign(world, &shop, None).await;
    pass(world, HOUR * 48).await;
    assert_eq!(count(world).await, 4);
    assign(world, &shop, Some(gold.uuid)).await;
    until_ended(world, 5).await;
    done(world, policy_delete(&world.plane, &world.ctx, gold.uuid).await.unwrap()).await;
    pass(world, HOUR * 48).await;
    assert_eq!(
        (
            count(world).await,
            world.kit.number("SELECT count(*) FROM schedules WHERE name LIKE 'policy:%'").await
        ),
        (5, 0)
    );
    assert_eq!(policy_get(&world.plane, &world.ctx, gold.uuid).await.unwrap_err().kind, ErrorKind::NotFound);
    assert!(alerts(world).await.is_empty());
}

async fn what_fails_is_told_once_and_tried_again(world: &World) {
    world.kit.follow_schedules().await;
    let shop = world.database(&world.ctx, "shop.db", TABLE).await;
    let (here, away) = (world.path("shop.db"), world.path("away.db"));
    std::fs::rename(&here, &away).unwrap();
    // What a caller wanted is told to that caller.
    let own = backup_start(&world.plane, &world.ctx, shop.id, NewBackup { repository: None, keep: None })
        .await
        .unwrap();
    assert_eq!(world.ended(own).await.0, RunState::Failed);
    let gold = made(world, policy(vec![sla(("days", 1), ("days", 7))], None)).await;
    assign(world, &shop, Some(gold.uuid)).await;
    until_ended(world, 2).await;
    until(world, "SELECT 1 FROM alerts WHERE raised_count = 1".into()).await;
    // Not before an hour has passed.
    pass(world, SEEN).await;
    pass(world, SignedDuration::from_mins(58)).await;
    assert_eq!(count(world).await, 2);
    pass(world, SignedDuration::from_mins(2)).await;
    until_ended(world, 3).await;
    until(world, "SELECT 1 FROM alerts WHERE raised_count = 2".into()).await;
    let raised = alerts(world).await;
    assert_eq!(raised.len(), 1);
    let alert = &raised[0];
    assert_eq!((alert.kind.as_str(), alert.active, alert.entity), ("policy_violated", true, shop.uuid));
    assert!(alert.updated_at > alert.raised_at && !alert.description.is_empty(), "{alert:?}");
    assert_eq!(alert.parent, Some((shop.uuid, "shop.db".to_owned())));
    let group = group_get(&world.plane, &world.ctx, alert.group.unwrap()).await.unwrap();
    assert_eq!((group.active, group.active_entities, group.cleared_entities), (true, 1, 0));
    let noted = alert_update(&world.plane, &world.ctx, alert.uuid, Some("the disk is away".into()), false)
        .await
        .unwrap();
    assert_eq!((noted.notes.as_str(), noted.active), ("the disk is away", true));
    // It clears itself.
    std::fs::rename(&away, &here).unwrap();
    pass(world, HOUR + SEEN).await;
    until_ended(world, 4).await;
    until(world, "SELECT 1 FROM alerts WHERE status = 'cleared'".into()).await;
    let cleared = alerts(world).await;
    assert_eq!((cleared.len(), cleared[0].raised_count, cleared[0].active), (1, 2, false));
    assert!(cleared[0].cleared_at.is_some());
    let group = group_get(&world.plane, &world.ctx, alert.group.unwrap()).await.unwrap();
    assert_eq!((group.active, group.cleared_entities, group.cleared_at), (false, 1, cleared[0].cleared_at));
}

async fn a_window_that_closes_cuts_a_backup_off(world: &World) {
    world.kit.follow_schedules().await;
    let shop = world.database(&world.ctx, "shop.db", TABLE).await;
    world.kit.clock.set("2026-01-15T23:30:00Z");
    let night = made(world, policy(vec![sla(("days", 1), ("days", 7))], Some(("23:00", "01:00")))).await;
    // Something else has the only connection.
    let limit = usize::try_from(shop.details.max_concurrent).unwrap();
    let all = [(shop.id, Connections { wanted: limit, limit })].into();
    let held = world.kit.estate.connections().take(all).await;
    assign(world, &shop, Some(night.uuid)).await;
    until(world, "SELECT 1 FROM runs WHERE kind = 'backup' AND state = 'running'".into()).await;
    world.kit.clock.set("2026-01-16T01:00:00Z");
    settle(world).await;
    until_ended(world, 1).await;
    until(world, "SELECT 1 FROM alerts WHERE cause = 'aborted' AND status = 'active'".into()).await;
    drop(held);
    // It is tried again when the window opens.
    world.kit.clock.set("2026-01-16T22:59:00Z");
    settle(world).await;
    assert_eq!(count(world).await, 1);
    world.kit.clock.set("2026-01-16T23:00:00Z");
    settle(world).await;
    until_ended(world, 2).await;
    until(world, "SELECT 1 FROM alerts WHERE status = 'cleared'".into()).await;
    assert_eq!(backups(world).await.len(), 1);
    // The end of the window finds nothing to cut off.
    world.kit.clock.set("2026-01-17T01:00:01Z");
    settle(world).await;
    assert_eq!(world.kit.number("SELECT count(*) FROM schedules WHERE name LIKE 'window:%'").await, 0);
}

/// The copy in another place is made at once, and goes on being made.
async fn one_repository_that_fails_holds_up_no_other(world: &World) {
    world.kit.follow_schedules().await;
    let shop = world.database(&world.ctx, "shop.db", TABLE).await;
    for name in ["here", "there"] {
        world.add(world.wanted(name, name)).await.unwrap();
    }
    std::fs::remove_dir_all(world.path("here")).unwrap();
    let mut both = policy(vec![sla(("days", 1), ("days", 7))], None);
    both.operations[0].repository = Some("here".to_owned());
    both.operations.push(NewOperation { repository: Some("there".to_owned()), ..both.operations[0].clone() });
    let both = made(world, both).await;
    assign(world, &shop, Some(both.uuid)).await;
    until_ended(world, 1).await;
    assert!(backups(world).await.is_empty());
    pass(world, SEEN).await;
    until_ended(world, 2).await;
    assert_eq!(backups(world).await[0].repository_name, "there");
    pass(world, SEEN).await;
    assert_eq!(count(world).await, 2);
    // The one that fails is tried again, and the other is made again a day later.
    pass(world, HOUR).await;
    until_ended(world, 3).await;
    pass(world, SEEN).await;
    pass(world, HOUR * 23).await;
    until_ended(world, 4).await;
    pass(world, SEEN).await;
    until_ended(world, 5).await;
    assert_eq!(backups(world).await.len(), 2);
    // What succeeds there says nothing about here.
    until(world, "SELECT 1 FROM alerts WHERE raised_count = 3".into()).await;
    let raised = alerts(world).await;
    assert_eq!((raised.len(), raised[0].active), (1, true), "{raised:?}");
}

#[tokio::test]
async fn what_is_wrong_is_told_at_once() {
    let world = World::sqlite().await;
    let good = || policy(vec![sla(("days", 1), ("days", 7))], None);
    let with = |change: fn(&mut NewPolicy)| {
        let mut new = good();
        change(&mut new);
        new
    };
    let operation = |change: fn(&mut NewOperation)| {
        let mut new = good();
        change(&mut new.operations[0]);
        new
    };
    let goal = |change: fn(&mut NewSla)| {
        let mut new = good();
        change(&mut new.operations[0].slas[0]);
        new
    };
    for (new, fields) in [
        (with(|new| new.name = " ".into()), vec!["name"]),
        (with(|new| new.name = "x".repeat(256)), vec!["name"]),
        (with(|new| new.operations.clear()), vec!["operations"]),
        (with(|new| new.operations = vec![new.operations[0].clone(); 21]), vec!["operations"]),
        (operation(|new| new.kind = "backup".into()), vec!["operations.0.type"]),
        (operation(|new| new.action = String::new()), vec!["operations.0.action_setting"]),
        (operation(|new| new.action = "window".into()), vec!["operations.0.backup_window_tz"]),
        (operation(|new| new.zone = Some("Mars/Olympus".into())), vec!["operations.0.timezone"]),
        (operation(|new| new.repository = Some("nowhere".into())), vec!["operations.0.backup_aws_region"]),
        (operation(|new| new.slas.clear()), vec!["operations.0.slas"]),
        (operation(|new| new.settings = "x".repeat(9_000).into()), vec!["operations.0.advanced_settings"]),
        (
            operation(|new| {
                new.action = "window".into();
                new.window = Some(("24:00".into(), "1:00".into()));
            }),
            vec!["operations.0.backup_window_tz.start_time", "operations.0.backup_window_tz.end_time"],
        ),
        (
            operation(|new| {
                new.action = "window".into();
                new.window = Some(("01:00".into(), "01:00".into()));
            }),
            vec!["operations.0.backup_window_tz.end_time"],
        ),
        (goal(|new| new.frequency.1 = 0), vec!["operations.0.slas.0.rpo_frequency.value"]),
        (goal(|new| new.frequency.0 = "decades".into()), vec!["operations.0.slas.0.rpo_frequency.unit"]),
        (goal(|new| new.retention.1 = 0), vec!["operations.0.slas.0.retention_duration"]),
        (goal(|new| new.retention = ("years".into(), 101)), vec!["operations.0.slas.0.retention_duration"]),
        (goal(|new| new.offsets = vec![1]), vec!["operations.0.slas.0.rpo_frequency.offsets"]),
        (
            goal(|new| {
                new.frequency = ("weeks".into(), 1);
                new.offsets = vec![7];
                new.retention.0 = "eons".into();
            }),
            vec!["operations.0.slas.0.retention_duration", "operations.0.slas.0.rpo_frequency.offsets"],
        ),
    ] {
        let error = policy_create(&world.plane, &world.ctx, Input::of(new)).await.unwrap_err();
        let found: Vec<&str> = error.faults.iter().map(|fault: &Fault| fault.field.as_str()).collect();
        assert_eq!((error.kind, found), (ErrorKind::Invalid, fields));
    }
    let shop = world.database(&world.ctx, "shop.db", TABLE).await;
    let snapshot = operation(|new| new.kind = "aws_rds_resource_aws_snapshot".into());
    let useless = made(&world, snapshot).await;
    let item = |policy| Assignment { datasource: shop.uuid, policy: Some(policy) };
    let assigned = async |items: Vec<Assignment>| {
        policy_assign(&world.plane, &world.ctx, Input::of(items)).await.map(drop).map_err(|error| error.kind)
    };
    assert_eq!(assigned(vec![item(useless.uuid)]).await, Err(ErrorKind::Invalid));
    assert_eq!(assigned(vec![item(Uuid::nil())]).await, Err(ErrorKind::Invalid));
    assert_eq!(assigned(Vec::new()).await, Err(ErrorKind::Invalid));
    let gold = made(&world, good()).await;
    assert_eq!(assigned(vec![item(gold.uuid); 101]).await, Err(ErrorKind::Invalid));
    // One change at a time.
    world.kit.exec("UPDATE policies SET lock_status = 'updating' WHERE name = 'gold'", Vec::new()).await;
    let refused = policy_update(&world.plane, &world.ctx, gold.uuid, Input::of(good())).await.unwrap_err();
    assert_eq!((refused.kind, refused.code), (ErrorKind::Conflict, "locked"));
    assert_eq!(assigned(vec![item(gold.uuid)]).await, Err(ErrorKind::Invalid));
}

/// A change that is cancelled leaves its policy as it was, and open for others.
#[tokio::test]
async fn a_change_that_is_cancelled_locks_nothing() {
    let world = World::sqlite().await;
    world.kit.follow_schedules().await;
    let gold = made(&world, policy(vec![sla(("days", 1), ("days", 7))], None)).await;
    // The only worker is busy.
    let running = world.kit.number("SELECT count(*) FROM runs WHERE state = 'running'").await;
    assert_eq!(running, 0);
    let run = policy_delete(&world.plane, &world.ctx, gold.uuid).await.unwrap();
    let _ = run_cancel(&world.kit.estate, &world.ctx, RunRef::Id(RunId(run.id.0)), &[]).await;
    let ended = world.ended(run.clone()).await.0;
    match ended {
        RunState::Succeeded => {
            assert!(policy_get(&world.plane, &world.ctx, gold.uuid).await.is_err());
        }
        _ => {
            until(&world, "SELECT 1 FROM policies WHERE lock_status = 'unlocked'".into()).await;
            let run = run_get(&world.kit.estate, &world.ctx, RunRef::Id(run.id), &[]).await.unwrap();
            assert_eq!(run.state, RunState::Cancelled);
        }
    }
}

async fn only_those_who_may(world: &World) {
    let estate = &world.kit.estate;
    let unit = landreeve_estate::ops::ous::ou_create(estate, &world.ctx, None, "sales".into(), String::new())
        .await
        .unwrap();
    let inside = sign_in::operator_in(estate, unit.uuid).await.unwrap();
    let shop = world.database(&inside, "shop.db", TABLE).await;
    let gold = made(world, policy(vec![sla(("days", 1), ("days", 7))], None)).await;
    let permission = Permission::new;
    let guest = world.kit.person("guest", &[]).await;
    let viewer = world
        .kit
        .person("viewer", &[permission(POLICY, Action::VIEW), permission(ALERT, Action::VIEW)])
        .await;
    let manager = world
        .kit
        .person("manager", &[permission(POLICY, Action::MANAGE), permission(ALERT, Action::MANAGE)])
        .await;
    let new = || Input::of(policy(vec![sla(("days", 1), ("days", 7))], None));
    for (ctx, sees, manages) in [(&guest, false, false), (&viewer, true, false), (&manager, true, true)] {
        let ctx: &OpCtx = ctx;
        assert_eq!(policy_list(&world.plane, ctx, &PolicyFilter::default(), None).await.is_ok(), sees);
        assert_eq!(policy_get(&world.plane, ctx, gold.uuid).await.is_ok(), sees);
        assert_eq!(alert_list(&world.plane, ctx, None, None).await.is_ok(), sees);
        let made = policy_create(&world.plane, ctx, new()).await;
        assert_eq!(made.is_ok(), manages);
        let items = Input::of(vec![Assignment { datasource: shop.uuid, policy: None }]);
        assert_eq!(policy_assign(&world.plane, ctx, items).await.is_ok(), manages);
        if let Ok(made) = made {
            let (_, run) = policy_update(&world.plane, ctx, made.uuid, new()).await.unwrap();
            world.ended(run).await;
            world.ended(policy_delete(&world.plane, ctx, made.uuid).await.unwrap()).await;
        } else {
            assert_eq!(
                policy_update(&world.plane, ctx, gold.uuid, new()).await.unwrap_err().kind,
                ErrorKind::Forbidden
            );
            assert_eq!(
                policy_delete(&world.plane, ctx, gold.uuid).await.unwrap_err().kind,
                ErrorKind::Forbidden
            );
        }
    }
    // A policy of a unit is for what is in it.
    let own = policy_create(&world.plane, &inside, new()).await.unwrap();
    let outside = world.database(&world.ctx, "outside.db", TABLE).await;
    let items = Input::of(vec![Assignment { datasource: outside.uuid, policy: Some(own.uuid) }]);
    let refused = policy_assign(&world.plane, &world.ctx, items).await.unwrap_err();
    assert_eq!(refused.faults[0].code, "other_unit");
}
