//! The run engine over a connection to PostgreSQL that loses answers, stops responding or rejects connections, and on
//! nodes whose clocks differ.

use std::time::Duration;

use landreeve_core::ids::{RunId, ScheduleId};
use landreeve_core::{ErrorKind, PoolName, RunState};
use landreeve_estate::EstateOptions;
use landreeve_estate::ops::runs::submit;
use landreeve_estate::ops::scheduled;
use landreeve_estate::runs::{Lane, NewRun, RunOptions};
use landreeve_estate::schedules::{self, Schedule, Timing};
use landreeve_estate::store::{Location, Notice, StoreOptions};

use crate::relay::Relay;
use crate::support::{Gate, Node, QUERY, Site, exec, number, query};

/// A node behind a relay, with a short lease and short time limits.
struct Behind {
    site: Site,
    relay: Relay,
    node: Node,
}

const LEASE: Duration = Duration::from_secs(3);

fn quick() -> RunOptions {
    RunOptions { short: 4, lease: LEASE, ..RunOptions::default() }
}

async fn behind(site: &Site, gate: Gate) -> (Relay, Node) {
    let Location::Postgres(url) = &site.location else { panic!("the site is on PostgreSQL") };
    let relay = Relay::to(url).await;
    let options = EstateOptions {
        location: Location::Postgres(relay.url(url)),
        store: StoreOptions { statement_limit: Duration::from_secs(1) },
        runs: quick(),
        ..site.options()
    };
    let node = site.node_at(options, gate).await;
    (relay, node)
}

impl Behind {
    async fn new() -> Behind {
        let site = Site::postgres().await;
        let (relay, node) = behind(&site, Gate::new()).await;
        Behind { site, relay, node }
    }

    /// Every accepted run has ended, and no run occupies a lane.
    async fn all_end(&self, total: i64) {
        self.node.until_number("SELECT count(*) FROM runs WHERE finished_at IS NULL", 0).await;
        assert_eq!(number(&self.node.estate, "SELECT count(*) FROM runs").await, total);
        assert_eq!(number(&self.node.estate, "SELECT count(*) FROM runs WHERE occupies = 1").await, 0);
    }

    async fn end(self) {
        self.node.stop.cancel();
        self.node.estate.runs().stop(Duration::from_secs(1)).await;
        self.site.remove().await;
    }
}

fn narrow(input: &str) -> NewRun {
    NewRun { lane: Some(Lane { name: "narrow".into(), limit: 1 }), max_attempts: 5, ..query(input) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_submission_leaves_no_ghost() {
    let world = Behind::new().await;
    // The first takes the ids of those behind it. The lost answer may be a heartbeat's instead of a submission's.
    let mut submitted = 0;
    loop {
        let run = submit(&world.node.estate, &world.node.ctx, narrow("")).await;
        submitted += 1;
        match run {
            Ok(run) => assert_eq!(world.node.end(run.id).await.state, RunState::Succeeded),
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::Unavailable);
                break;
            }
        }
        world.relay.cut_commits(1);
    }
    // It was committed and claimed: the heartbeat finds runs that are not executing, and their lane is free again.
    let next = world.node.submit(narrow("")).await;
    assert_eq!(world.node.end(next.id).await.state, RunState::Succeeded);
    world.all_end(submitted + 1).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_claim_leaves_no_ghost() {
    let world = Behind::new().await;
    // Submitted without the relay, by a process that executes nothing: the next commits through it are claims.
    let beside = world.site.open().await;
    world.relay.cut_commits(2);
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(submit(&beside, &world.node.ctx, narrow("")).await.unwrap());
    }
    world.node.estate.store().notices().tell(Notice::Queue(PoolName::SHORT));
    for run in runs {
        assert_eq!(world.node.end(run.id).await.state, RunState::Succeeded);
    }
    assert_eq!(*world.relay.commits_cut().borrow(), 2);
    world.all_end(3).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_schedule_submits_once() {
    let world = Behind::new().await;
    let estate = &world.node.estate;
    let timing = Timing::Cron { expression: "0 * * * *".to_owned(), zone: "UTC".to_owned() };
    let id = estate.next(ScheduleId::KIND).await.unwrap();
    let schedule = Schedule {
        body: scheduled::body(&QUERY, "{}").unwrap(),
        next_at: Some("2026-01-15T13:00:00Z".parse().unwrap()),
        ..Schedule::of_system(id, "estate", "hourly", timing)
    };
    let now = estate.now();
    estate
        .store()
        .write(move |tx| Box::pin(async move { schedules::put(tx, &schedule, now).await }))
        .await
        .unwrap();
    world.site.clock.set("2026-01-15T13:00:00Z");
    world.relay.cut_commits(3);
    let task = tokio::spawn(schedules::run(estate.clone(), world.node.stop.clone()));
    world.node.until_number("SELECT count(*) FROM runs WHERE finished_at IS NOT NULL", 1).await;
    world.all_end(1).await;
    world.node.stop.cancel();
    task.await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_an_end_ends_the_run_once() {
    let world = Behind::new().await;
    let run = world.node.submit(narrow("wait")).await;
    world.node.gate.until_begun(1).await;
    world.relay.cut_commits(1);
    world.node.gate.open(1);
    assert_eq!(world.node.end(run.id).await.state, RunState::Succeeded);
    world.all_end(1).await;
    let told = "SELECT count(*) FROM outbox WHERE kind = 'run_finished'";
    assert_eq!(number(&world.node.estate, told).await, 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_away_longer_than_a_lease_loses_no_run() {
    let site = Site::postgres().await;
    let (one, other) = (behind(&site, Gate::new()).await, behind(&site, Gate::new()).await);
    let mine = one.1.submit(query("wait")).await;
    let theirs = other.1.submit(query("wait")).await;
    one.1.gate.until_begun(1).await;
    other.1.gate.until_begun(1).await;
    one.0.hold();
    other.0.hold();
    // Longer than a lease, by the store's own clock.
    let direct = site.open().await;
    exec(&direct, "SELECT pg_sleep(4)", landreeve_estate::args![]).await;
    one.0.pass();
    other.0.pass();
    one.1.gate.open(1);
    other.1.gate.open(1);
    for (node, run) in [(&one.1, &mine), (&other.1, &theirs)] {
        let end = node.end(run.id).await;
        assert_eq!((end.state, end.attempt), (RunState::Succeeded, 1), "no other node took it over");
    }
    site.remove().await;
}

/// PostgreSQL answers that the database does not accept connections: that is not a refusal of what is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_accepts_no_connections_loses_no_run() {
    let world = Behind::new().await;
    let run = world.node.submit(query("wait")).await;
    world.node.gate.until_begun(1).await;
    world.site.allow_connections(false).await;
    world.relay.cut();
    let away = world.node.estate.store().epoch().await.err();
    assert_eq!(away.map(|error| error.kind), Some(ErrorKind::Unavailable));
    world.node.gate.open(1);
    world.node.gate.until_ended(1).await;
    world.site.allow_connections(true).await;
    let end = world.node.end(run.id).await;
    assert_eq!(end.state, RunState::Succeeded, "{:?}", end.error);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_parent_survives_an_unavailable_store() {
    let world = Behind::new().await;
    let parent = world.node.submit(query("patient parent")).await;
    world.node.gate.until_begun(4).await;
    world.relay.refuse();
    world.relay.cut();
    // Each of these makes it check its children.
    let notices = world.node.estate.store().notices();
    for _ in 0..3 {
        notices.tell(Notice::Run(parent.id));
        let away = world.node.estate.store().epoch().await.err();
        assert_eq!(away.map(|error| error.kind), Some(ErrorKind::Unavailable));
    }
    world.relay.pass();
    world.node.gate.open(3);
    let end = world.node.end(parent.id).await;
    assert_eq!(end.state, RunState::Succeeded, "{:?}", end.error);
    world.all_end(4).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_run_ends_behind_a_proxy_that_accepts_and_closes() {
    let world = Behind::new().await;
    let mut accepted: Vec<RunId> = Vec::new();
    for round in 0..6 {
        if round % 2 == 1 {
            world.relay.refuse();
        }
        for _ in 0..4 {
            if let Ok(run) = submit(&world.node.estate, &world.node.ctx, query("yield")).await {
                accepted.push(run.id);
            }
        }
        world.relay.pass();
    }
    assert!(!accepted.is_empty());
    for id in &accepted {
        let end = world.node.end(*id).await;
        assert!(matches!(end.state, RunState::Succeeded | RunState::Lost), "{:?}", end.state);
        // A run that finished is never reported as failed.
        assert!(end.state == RunState::Succeeded || end.error.is_some());
    }
    world.node.until_number("SELECT count(*) FROM runs WHERE finished_at IS NULL", 0).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_a_minute_apart_lose_no_run() {
    let site = Site::postgres().await;
    let one = site.node_with(EstateOptions { runs: quick(), ..site.options() }).await;
    let slow = std::sync::Arc::new(crate::support::MockClock::behind(&site.clock, Duration::from_secs(60)));
    let options = EstateOptions { clock: slow, runs: quick(), ..site.options() };
    let other = site.node_with(options).await;
    let runs = [one.submit(query("wait")).await, other.submit(query("wait")).await];
    one.gate.until_begun(1).await;
    other.gate.until_begun(1).await;
    // Two leases by the store's clock: each node has sent heartbeats and looked for others' runs.
    exec(&site.open().await, "SELECT pg_sleep(7)", landreeve_estate::args![]).await;
    one.gate.open(1);
    other.gate.open(1);
    for run in runs {
        let end = one.end(run.id).await;
        assert_eq!((end.state, end.attempt), (RunState::Succeeded, 1));
    }
    site.remove().await;
}
