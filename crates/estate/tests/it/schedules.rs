//! Recurring runs.

use landreeve_core::ids::ScheduleId;
use landreeve_core::{Action, Noun, Permission};
use landreeve_estate::ops::DatasourceDetails;
use landreeve_estate::ops::datasources::{datasource_create, datasource_delete, datasource_update};
use landreeve_estate::ops::scheduled;
use landreeve_estate::runs::queue::Submitter;
use landreeve_estate::schedules::{self, Missed, Schedule, Timing};
use landreeve_estate::store::Notice;
use landreeve_estate::{Estate, args};
use tokio::task::JoinHandle;

use crate::keys::unit;
use crate::secrets::postgres_details;
use crate::support::QUERY;
use crate::support::{Node, Site, caller, exec, number, rows};

conformance![
    a_due_schedule_submits_one_run,
    missed_times_make_one_run,
    a_restart_does_not_forget_a_missed_time,
    one_bad_schedule_does_not_block_others,
    the_nightly_schedule_follows_its_datasource,
    a_thousand_that_are_due_together_are_submitted_together,
    a_missed_time_can_be_skipped,
    a_single_time_runs_once,
    an_interval_keeps_its_step,
    a_clock_that_was_set_back_does_not_stop_schedules,
    the_owner_of_a_schedule_submits_its_runs,
];

async fn put(estate: &Estate, name: &'static str, cron: &'static str) {
    let id: ScheduleId = estate.next(ScheduleId::KIND).await.unwrap();
    let timing = Timing::Cron { expression: cron.to_owned(), zone: "UTC".to_owned() };
    let now = estate.now();
    let schedule = Schedule {
        body: scheduled::body(&QUERY, &format!("{name:?}")).unwrap(),
        next_at: Some(schedules::next_time(cron, "UTC", now).unwrap()),
        ..Schedule::of_system(id, "estate", name, timing)
    };
    estate
        .store()
        .write(move |tx| Box::pin(async move { schedules::put(tx, &schedule, now).await }))
        .await
        .unwrap();
}

fn scheduler(node: &Node) -> JoinHandle<()> {
    tokio::spawn(schedules::run(node.estate.clone(), node.stop.clone()))
}

fn wake(nodes: &[&Node]) {
    for node in nodes {
        node.estate.store().notices().tell(Notice::Schedule);
    }
}

async fn runs_of(estate: &Estate, name: &'static str) -> i64 {
    let found = rows(estate, "SELECT count(*) FROM runs WHERE actor_name = $1", args![name]).await;
    found[0].int(0).unwrap()
}

async fn next_at(estate: &Estate, name: &'static str) -> String {
    let found = rows(estate, "SELECT next_at FROM schedules WHERE name = $1", args![name]).await;
    found[0].time(0).unwrap().to_string()
}

async fn a_due_schedule_submits_one_run(site: &Site) {
    let node = site.node(2).await;
    put(&node.estate, "hourly", "0 * * * *").await;
    assert_eq!(next_at(&node.estate, "hourly").await, "2026-01-15T13:00:00Z");
    let task = scheduler(&node);
    site.clock.set("2026-01-15T12:59:59Z");
    wake(&[&node]);
    assert_eq!(runs_of(&node.estate, "hourly").await, 0);
    for hour in 13..16_i64 {
        site.clock.set(&format!("2026-01-15T{hour}:00:00Z"));
        wake(&[&node]);
        let sql = "SELECT count(*) FROM runs WHERE actor_name = 'hourly' AND state = 'succeeded'";
        node.until_number(sql, hour - 12).await;
    }
    assert_eq!(next_at(&node.estate, "hourly").await, "2026-01-15T16:00:00Z");
    let run =
        rows(&node.estate, "SELECT actor_kind, input, kind FROM runs WHERE actor_name = 'hourly'", args![])
            .await;
    assert_eq!(
        (run[0].text(0).unwrap(), run[0].text(1).unwrap()),
        ("system".to_owned(), "\"hourly\"".to_owned())
    );
    node.stop.cancel();
    task.await.unwrap();
}

async fn missed_times_make_one_run(site: &Site) {
    let node = site.node(2).await;
    put(&node.estate, "hourly", "0 * * * *").await;
    site.clock.set("2026-01-17T09:30:00Z");
    let task = scheduler(&node);
    node.until_number("SELECT count(*) FROM runs WHERE actor_name = 'hourly' AND state = 'succeeded'", 1)
        .await;
    assert_eq!(next_at(&node.estate, "hourly").await, "2026-01-17T10:00:00Z");
    // A second one, so that there has been another check.
    put(&node.estate, "other", "31 * * * *").await;
    site.clock.set("2026-01-17T09:31:00Z");
    wake(&[&node]);
    node.until_number("SELECT count(*) FROM runs WHERE actor_name = 'other' AND state = 'succeeded'", 1)
        .await;
    assert_eq!(runs_of(&node.estate, "hourly").await, 1);
    node.stop.cancel();
    task.await.unwrap();
}

async fn a_restart_does_not_forget_a_missed_time(site: &Site) {
    let node = site.node(2).await;
    schedules::ensure(&node.estate).await.unwrap();
    assert_eq!(next_at(&node.estate, "purge").await, "2026-01-15T12:17:00Z");
    site.clock.set("2026-01-15T12:20:00Z");
    schedules::ensure(&node.estate).await.unwrap();
    assert_eq!(number(&node.estate, "SELECT count(*) FROM schedules").await, 1);
    let task = scheduler(&node);
    node.until_number("SELECT count(*) FROM runs WHERE kind = 'purge' AND state = 'succeeded'", 1).await;
    assert_eq!(next_at(&node.estate, "purge").await, "2026-01-15T13:17:00Z");
    node.stop.cancel();
    task.await.unwrap();
}

async fn one_bad_schedule_does_not_block_others(site: &Site) {
    let node = site.node(2).await;
    put(&node.estate, "bad", "0 * * * *").await;
    put(&node.estate, "good", "1 13 * * *").await;
    exec(&node.estate, "UPDATE schedules SET time_zone = 'Mars' WHERE name = 'bad'", args![]).await;
    site.clock.set("2026-01-15T13:30:00Z");
    let task = scheduler(&node);
    node.until_number("SELECT count(*) FROM runs WHERE actor_name = 'good' AND state = 'succeeded'", 1).await;
    assert_eq!(runs_of(&node.estate, "bad").await, 0);
    node.stop.cancel();
    task.await.unwrap();
}

async fn the_nightly_schedule_follows_its_datasource(site: &Site) {
    let node = site.node(2).await;
    let estate = &node.estate;
    let left = unit(estate, None, "left").await;
    let manage = Permission::new(Noun::DATASOURCE, Action::MANAGE);
    let ctx = caller(estate, Some(left.uuid), &[manage]).await;
    let off = DatasourceDetails { nightly_schema: false, ..postgres_details("one") };
    let made = datasource_create(estate, &ctx, off, Vec::new()).await.unwrap();
    type Change = fn(&mut DatasourceDetails);
    let changes: [(Change, i64); 6] = [
        (|_| {}, 0),
        (|details| details.nightly_schema = true, 1),
        (|details| details.enabled = false, 0),
        (|details| details.enabled = true, 1),
        (|details| details.nightly_schema = false, 0),
        (|details| details.nightly_schema = true, 1),
    ];
    for (change, schedules) in changes {
        // Changed by the operator, whose unit is the root.
        datasource_update(estate, &node.ctx, made.id, landreeve_core::Input::of(change), None).await.unwrap();
        assert_eq!(number(estate, "SELECT count(*) FROM schedules").await, schedules);
    }
    assert_eq!(
        number(estate, "SELECT ou_id FROM schedules").await,
        left.id.0,
        "it belongs to the datasource's unit"
    );
    site.clock.set("2026-01-16T02:23:00Z");
    let task = scheduler(&node);
    node.until_number("SELECT count(*) FROM runs WHERE kind = 'schema_refresh' AND state = 'succeeded'", 1)
        .await;
    let run = rows(estate, "SELECT noun, noun_id, ou_id FROM runs", args![]).await;
    assert_eq!((run[0].text(0).unwrap().as_str(), run[0].int(1).unwrap()), ("datasource", made.id.0));
    assert_eq!(run[0].int(2).unwrap(), left.id.0);
    let read = "SELECT noun_id, actor_kind, detail FROM audit_events WHERE action = 'schema_read'";
    let read = rows(estate, read, args![]).await;
    assert_eq!((read.len(), read[0].int(0).unwrap()), (1, made.id.0));
    let id = number(estate, "SELECT id FROM runs").await;
    assert_eq!(
        (read[0].text(1).unwrap(), read[0].text(2).unwrap()),
        ("system".to_owned(), format!("run {id}"))
    );
    datasource_delete(estate, &ctx, made.id).await.unwrap();
    assert_eq!(number(estate, "SELECT count(*) FROM schedules").await, 0);
    node.stop.cancel();
    task.await.unwrap();
}

/// Only on PostgreSQL: SQLite has one server.
#[tokio::test(flavor = "multi_thread")]
async fn two_schedulers_submit_one_run() {
    let site = Site::postgres().await;
    let (one, other) = (site.node(2).await, site.node(2).await);
    let tasks = [scheduler(&one), scheduler(&other)];
    put(&one.estate, "hourly", "0 * * * *").await;
    for hour in 13..18_i64 {
        site.clock.set(&format!("2026-01-15T{hour}:00:00Z"));
        wake(&[&one, &other]);
        one.until_number(
            "SELECT count(*) FROM runs WHERE actor_name = 'hourly' AND state = 'succeeded'",
            hour - 12,
        )
        .await;
    }
    assert_eq!(runs_of(&one.estate, "hourly").await, 5);
    // The node with the lease deregisters: the other takes over immediately.
    let holder = number(&one.estate, "SELECT node_id FROM leases WHERE name = 'scheduler'").await;
    let (gone, left) = if one.estate.runs().node() == Some(holder) { (&one, &other) } else { (&other, &one) };
    gone.stop.cancel();
    gone.estate.runs().stop(std::time::Duration::ZERO).await;
    site.clock.set("2026-01-15T18:00:00Z");
    wake(&[left]);
    left.until_number("SELECT count(*) FROM runs WHERE actor_name = 'hourly' AND state = 'succeeded'", 6)
        .await;
    left.stop.cancel();
    for task in tasks {
        task.await.unwrap();
    }
    site.remove().await;
}

async fn put_as(estate: &Estate, schedule: Schedule) {
    let now = estate.now();
    estate
        .store()
        .write(move |tx| Box::pin(async move { schedules::put(tx, &schedule, now).await }))
        .await
        .unwrap();
}

async fn schedule(estate: &Estate, name: &str, timing: Timing, next: &str) -> Schedule {
    Schedule {
        body: scheduled::body(&QUERY, "{}").unwrap(),
        next_at: Some(next.parse().unwrap()),
        ..Schedule::of_system(estate.next(ScheduleId::KIND).await.unwrap(), "estate", name, timing)
    }
}

fn cron(expression: &str) -> Timing {
    Timing::Cron { expression: expression.to_owned(), zone: "UTC".to_owned() }
}

async fn fill(estate: &Estate, count: usize) {
    for index in 0..count {
        let made = schedule(estate, &format!("s{index}"), cron("0 * * * *"), "2026-01-15T13:00:00Z").await;
        put_as(estate, made).await;
    }
}

async fn a_thousand_that_are_due_together_are_submitted_together(site: &Site) {
    let node = site.node(0).await;
    fill(&node.estate, 1_000).await;
    site.clock.set("2026-01-15T13:00:00Z");
    let task = scheduler(&node);
    node.until_number("SELECT count(*) FROM runs", 1_000).await;
    let each = "SELECT count(*) FROM (SELECT actor_name FROM runs GROUP BY actor_name) r";
    assert_eq!(number(&node.estate, each).await, 1_000, "each once");
    let stepped =
        "SELECT count(*) FROM schedules WHERE last_at = 1768482000000000 AND next_at = 1768485600000000";
    assert_eq!(number(&node.estate, stepped).await, 1_000);
    node.stop.cancel();
    task.await.unwrap();
}

async fn a_missed_time_can_be_skipped(site: &Site) {
    let node = site.node(0).await;
    for (name, missed) in [("skips", Missed::Skip), ("makes up", Missed::RunOnce)] {
        let made = schedule(&node.estate, name, cron("0 * * * *"), "2026-01-15T13:00:00Z").await;
        put_as(&node.estate, Schedule { missed, ..made }).await;
    }
    site.clock.set("2026-01-15T15:30:00Z");
    let task = scheduler(&node);
    node.until_number("SELECT count(*) FROM runs", 1).await;
    assert_eq!((runs_of(&node.estate, "skips").await, runs_of(&node.estate, "makes up").await), (0, 1));
    site.clock.set("2026-01-15T16:00:00Z");
    wake(&[&node]);
    node.until_number("SELECT count(*) FROM runs", 3).await;
    assert_eq!(runs_of(&node.estate, "skips").await, 1, "on time it runs");
    node.stop.cancel();
    task.await.unwrap();
}

async fn a_single_time_runs_once(site: &Site) {
    let node = site.node(0).await;
    let at = "2026-01-15T12:30:00Z";
    put_as(&node.estate, schedule(&node.estate, "once", Timing::Once(at.parse().unwrap()), at).await).await;
    site.clock.set("2026-01-15T12:30:01Z");
    let task = scheduler(&node);
    node.until_number("SELECT count(*) FROM runs", 1).await;
    assert_eq!(number(&node.estate, "SELECT count(*) FROM schedules WHERE next_at IS NULL").await, 1);
    node.stop.cancel();
    task.await.unwrap();
}

async fn an_interval_keeps_its_step(site: &Site) {
    let node = site.node(0).await;
    let every = Timing::Every(std::time::Duration::from_secs(600));
    put_as(&node.estate, schedule(&node.estate, "every", every, "2026-01-15T12:10:00Z").await).await;
    let task = scheduler(&node);
    for (now, runs, next) in [
        ("2026-01-15T12:10:03Z", 1, "2026-01-15T12:20:00Z"),
        ("2026-01-15T12:20:00Z", 2, "2026-01-15T12:30:00Z"),
        ("2026-01-15T14:02:00Z", 3, "2026-01-15T14:10:00Z"),
    ] {
        site.clock.set(now);
        wake(&[&node]);
        node.until_number("SELECT count(*) FROM runs", runs).await;
        assert_eq!(next_at(&node.estate, "every").await, next);
    }
    node.stop.cancel();
    task.await.unwrap();
}

async fn a_clock_that_was_set_back_does_not_stop_schedules(site: &Site) {
    let node = site.node(0).await;
    put_as(&node.estate, schedule(&node.estate, "hourly", cron("0 * * * *"), "2026-01-15T13:00:00Z").await)
        .await;
    site.clock.set("2026-01-15T13:00:00Z");
    let task = scheduler(&node);
    node.until_number("SELECT count(*) FROM runs", 1).await;
    // By a day: otherwise the next time would be in 25 hours.
    site.clock.set("2026-01-14T13:30:00Z");
    wake(&[&node]);
    site.clock.set("2026-01-14T14:00:00Z");
    put_as(&node.estate, schedule(&node.estate, "other", cron("0 * * * *"), "2026-01-14T14:00:00Z").await)
        .await;
    wake(&[&node]);
    node.until_number("SELECT count(*) FROM runs WHERE actor_name = 'other'", 1).await;
    site.clock.set("2026-01-14T15:00:00Z");
    wake(&[&node]);
    node.until_number("SELECT count(*) FROM runs WHERE actor_name = 'other'", 2).await;
    assert!(runs_of(&node.estate, "hourly").await >= 2, "it follows the current clock");
    node.stop.cancel();
    task.await.unwrap();
}

async fn the_owner_of_a_schedule_submits_its_runs(site: &Site) {
    let node = site.node(1).await;
    let ctx = caller(&node.estate, None, &[Permission::new(Noun::DATASOURCE, Action::USE)]).await;
    let made = schedule(&node.estate, "theirs", cron("0 * * * *"), "2026-01-15T13:00:00Z").await;
    let owner = Submitter::from(ctx.actor());
    let body = scheduled::body(&QUERY, "\"who\"").unwrap();
    put_as(&node.estate, Schedule { owner, body, ..made }).await;
    site.clock.set("2026-01-15T13:00:00Z");
    let task = scheduler(&node);
    node.until_number("SELECT count(*) FROM runs WHERE state = 'succeeded'", 1).await;
    let run = rows(&node.estate, "SELECT submitter, counted FROM runs", args![]).await;
    assert_eq!(run[0].text(0).unwrap(), format!("key:{}", ctx.actor().id().unwrap()));
    assert_eq!(run[0].int(1).unwrap(), 0, "scheduled runs do not count");
    node.stop.cancel();
    task.await.unwrap();
}

/// Only on PostgreSQL: SQLite has one server.
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_submit_a_thousand_once() {
    let site = Site::postgres().await;
    let (one, other) = (site.node(0).await, site.node(0).await);
    fill(&one.estate, 1_000).await;
    site.clock.set("2026-01-15T13:00:00Z");
    let tasks = [scheduler(&one), scheduler(&other)];
    one.until_number("SELECT count(*) FROM schedules WHERE last_at IS NOT NULL", 1_000).await;
    let each = "SELECT count(*) FROM (SELECT DISTINCT actor_name FROM runs) r";
    assert_eq!(number(&one.estate, each).await, 1_000);
    assert_eq!(number(&one.estate, "SELECT count(*) FROM runs").await, 1_000);
    one.stop.cancel();
    other.stop.cancel();
    for task in tasks {
        task.await.unwrap();
    }
    site.remove().await;
}
