//! Successive attempts, and what a node that stops or dies leaves to the next one.

use std::time::Duration;

use landreeve_core::ids::{OuId, RunId, UserId};
use landreeve_core::{Action, ErrorKind, Noun, Permission, PoolName, RunState, Secret};
use landreeve_estate::ops::runs::{RunRef, run_cancel, submit};
use landreeve_estate::ops::users::{NewUser, user_create};
use landreeve_estate::ops::{GrantTarget, NewGrant, sign_in};
use landreeve_estate::runs::claim::{self, Family, Shares, Wanted};
use landreeve_estate::runs::queue::{self, End, Lease, Submission, Submitter, Threads};
use landreeve_estate::runs::{Done, KindSpec, Lane, NewRun, RunOptions};
use landreeve_estate::store::Notice;
use landreeve_estate::{Estate, EstateOptions, args};

use crate::support::{
    CLEANER, HASTY, Node, REQUEUED, RETRIED, STUBBORN, Site, exec, get_run, number, of, query, rows,
};

conformance![
    an_earlier_attempt_on_the_same_node_is_stopped,
    a_stop_puts_back_runs_that_are_being_claimed,
    a_node_with_a_running_thread_does_not_deregister,
    a_success_with_a_thread_left_keeps_its_lane,
    a_cancelled_run_is_not_retried,
    a_cancelled_run_cleans_up_without_a_pause,
    a_cleanup_is_not_cancelled_again,
    drains_do_not_count_as_crashes,
    a_requeued_run_that_misses_its_grace_goes_back,
    a_node_that_never_returns_is_forgotten,
    a_live_node_that_was_forgotten_registers_again,
    the_end_of_a_run_in_a_full_lane_wakes_the_queue,
    a_grant_on_one_resource_is_enough_to_run,
    many_runs_waiting_for_a_lane_do_not_hide_the_next_run,
    runs_claimed_together_respect_their_lanes,
    a_submitted_run_is_as_stored,
];

fn quick(workers: usize) -> RunOptions {
    RunOptions { short: workers, lease: Duration::from_millis(600), ..RunOptions::default() }
}

async fn quick_node(site: &Site, workers: usize) -> Node {
    site.node_with(EstateOptions { runs: quick(workers), ..site.options() }).await
}

fn in_lane(new: NewRun) -> NewRun {
    NewRun { lane: Some(Lane { name: "narrow".into(), limit: 1 }), ..new }
}

async fn cancel(node: &Node, id: RunId) {
    run_cancel(&node.estate, &node.ctx, RunRef::Id(id), &[]).await.unwrap();
}

/// Does what another node does when it takes the run back.
async fn take_back(node: &Node, id: RunId) {
    exec(
        &node.estate,
        "UPDATE runs SET state = 'queued', node_id = NULL, lease_until = NULL, occupies = 0 WHERE id = $1",
        args![id],
    )
    .await;
    node.estate.store().notices().tell(Notice::Queue(PoolName::SHORT));
}

async fn an_earlier_attempt_on_the_same_node_is_stopped(site: &Site) {
    let node = quick_node(site, 2).await;
    let run = node.submit(NewRun { max_attempts: 3, ..query("why") }).await;
    node.gate.until_begun(1).await;
    take_back(&node, run.id).await;
    node.gate.until_begun(2).await;
    node.gate.until_ended(1).await;
    let goes_on = node.get(run.id).await;
    assert_eq!((goes_on.attempt, goes_on.state.is_final()), (2, false), "the later attempt continues");
    cancel(&node, run.id).await;
    assert_eq!(node.end(run.id).await.output.as_deref(), Some("Cancelled"));
}

async fn a_stop_puts_back_runs_that_are_being_claimed(site: &Site) {
    let node = site.node(8).await;
    let submissions = (0..60).map(|_| node.submit(of(&REQUEUED, "wait")));
    let runs = futures_util::future::join_all(submissions).await;
    node.gate.until_begun(1).await;
    let stopped = node.estate.runs().stop(Duration::from_secs(20));
    tokio::time::timeout(Duration::from_secs(10), stopped).await.expect("every run is notified of the drain");
    let waiting =
        number(&node.estate, "SELECT count(*) FROM runs WHERE state = 'queued' AND occupies = 0").await;
    assert_eq!(waiting, i64::try_from(runs.len()).unwrap());
    assert_eq!(number(&node.estate, "SELECT count(*) FROM nodes").await, 0);
}

async fn a_node_with_a_running_thread_does_not_deregister(site: &Site) {
    let node = site.node(2).await;
    let run = node.submit(in_lane(of(&HASTY, "thread"))).await;
    node.gate.until_begun(1).await;
    cancel(&node, run.id).await;
    node.end(run.id).await;
    let other = site.open().await;
    let waits = submit(&other, &node.ctx, in_lane(query(""))).await.unwrap();
    node.estate.runs().stop(Duration::from_secs(5)).await;
    assert_eq!(number(&node.estate, "SELECT count(*) FROM nodes").await, 1, "its leases have to expire");
    assert_eq!(get_run(&other, waits.id).await.state, RunState::Queued);
    assert_eq!(number(&other, "SELECT count(*) FROM runs WHERE occupies = 1").await, 1);
    node.gate.release_threads(1);
}

async fn a_success_with_a_thread_left_keeps_its_lane(site: &Site) {
    let node = site.node(2).await;
    let run = node.submit(in_lane(of(&HASTY, "leave"))).await;
    assert_eq!(node.end(run.id).await.state, RunState::Succeeded);
    let next = node.submit(in_lane(query(""))).await;
    let beside = node.submit(query("")).await;
    assert_eq!(node.end(beside.id).await.state, RunState::Succeeded);
    assert_eq!(node.get(next.id).await.state, RunState::Queued, "its thread is still running");
    node.gate.release_threads(1);
    assert_eq!(node.end(next.id).await.state, RunState::Succeeded);
}

async fn a_cancelled_run_is_not_retried(site: &Site) {
    let node = site.node(2).await;
    let run = node.submit(of(&RETRIED, "again when cancelled")).await;
    node.gate.until_begun(1).await;
    cancel(&node, run.id).await;
    let end = node.end(run.id).await;
    assert_eq!((end.state, end.attempt), (RunState::Cancelled, 1));
}

async fn a_cancelled_run_cleans_up_without_a_pause(site: &Site) {
    let node = site.node(2).await;
    let run = node.submit(NewRun { max_attempts: 3, ..of(&CLEANER, "again when cancelled") }).await;
    node.gate.until_begun(1).await;
    cancel(&node, run.id).await;
    let end = node.end(run.id).await;
    assert_eq!((end.state, end.attempt, end.output.as_deref()), (RunState::Succeeded, 2, Some("true")));
}

/// A run that was cancelled before its node crashed.
async fn cancelled_before_a_crash(node: &Node, kind: &KindSpec, input: &str) -> RunId {
    let run = node.submit(of(kind, input)).await;
    node.gate.until_begun(1).await;
    exec(
        &node.estate,
        "UPDATE runs SET state = 'cancelling', cancel_requested = 1 WHERE id = $1",
        args![run.id],
    )
    .await;
    node.estate.runs().stop(Duration::ZERO).await;
    node.stop.cancel();
    node.estate.store().close().await;
    run.id
}

async fn a_cleanup_is_not_cancelled_again(site: &Site) {
    let run = cancelled_before_a_crash(&quick_node(site, 2).await, &CLEANER, "slow cleanup").await;
    let second = quick_node(site, 2).await;
    let end = second.end(run).await;
    assert_eq!((end.state, end.output.as_deref()), (RunState::Succeeded, Some("true")), "{:?}", end.error);
}

async fn drains_do_not_count_as_crashes(site: &Site) {
    let first = site.node(2).await;
    let (drained, crashed) =
        (first.submit(of(&CLEANER, "cleanup")).await, first.submit(of(&CLEANER, "cleanup")).await);
    first.gate.until_begun(2).await;
    let sql = "UPDATE runs SET attempt = 12, max_attempts = $2 WHERE id = $1";
    exec(&first.estate, sql, args![drained.id, 11_i64]).await;
    exec(&first.estate, sql, args![crashed.id, 1_i64]).await;
    first.estate.runs().stop(Duration::ZERO).await;
    first.stop.cancel();
    first.estate.store().close().await;
    let second = site.node(2).await;
    assert_eq!(second.end(drained.id).await.state, RunState::Succeeded);
    assert_eq!(second.end(crashed.id).await.state, RunState::Lost, "it crashed its server each time");
}

async fn a_requeued_run_that_misses_its_grace_goes_back(site: &Site) {
    let node = site.node(2).await;
    let run = node.submit(of(&STUBBORN, "ignore")).await;
    node.gate.until_begun(1).await;
    node.estate.runs().stop(Duration::from_secs(20)).await;
    let back = node.get(run.id).await;
    assert_eq!((back.state, back.attempt, back.max_attempts), (RunState::Queued, 1, 2));
}

async fn a_node_that_never_returns_is_forgotten(site: &Site) {
    let before = site.open().await;
    let operator = sign_in::operator(&before);
    let run = submit(&before, &operator, in_lane(query(""))).await.unwrap();
    let sql =
        "INSERT INTO nodes (id, name, home, started_at, seen_at) VALUES (999, 'gone', 'elsewhere', 1, 1)";
    exec(&before, sql, args![]).await;
    // It ended, but one of its threads ran until its machine died.
    exec(
        &before,
        "UPDATE runs SET state = 'lost', occupies = 1, node_id = 999, finished_at = 1 WHERE id = $1",
        args![run.id],
    )
    .await;
    let waits = submit(&before, &operator, in_lane(query(""))).await.unwrap();
    before.store().close().await;
    let node = quick_node(site, 2).await;
    assert_eq!(node.end(waits.id).await.state, RunState::Succeeded);
    assert_eq!(number(&node.estate, "SELECT count(*) FROM nodes WHERE id = 999").await, 0);
}

async fn a_live_node_that_was_forgotten_registers_again(site: &Site) {
    let node = quick_node(site, 2).await;
    exec(&node.estate, "DELETE FROM nodes", args![]).await;
    let back = async {
        while number(&node.estate, "SELECT count(*) FROM nodes").await == 0 {
            let run = node.submit(query("yield")).await;
            node.end(run.id).await;
        }
    };
    tokio::time::timeout(crate::support::BOUND, back).await.expect("its heartbeat should register it");
}

async fn insert(estate: &Estate, new: NewRun, key: i64, lease: Option<Lease>) -> landreeve_estate::ops::Run {
    let (id, uuid, now) = (estate.next(RunId::KIND).await.unwrap(), estate.uuid(), estate.now());
    let submitter = Submitter { kind: "key", id: Some(key), name: "test".into() };
    let submission = Submission { lease, ..Submission::waiting(id, uuid, new, submitter) };
    let insert =
        estate.store().write(move |tx| Box::pin(async move { queue::insert(tx, &submission, now).await }));
    insert.await.unwrap().0
}

const LEASE: Lease = Lease { node: 999, term: Duration::from_secs(30) };

/// Another node may have found the lane full and queued its run in a transaction that is invisible to this one.
async fn the_end_of_a_run_in_a_full_lane_wakes_the_queue(site: &Site) {
    let estate = site.open().await;
    for (limit, wakes) in [(1, true), (2, false)] {
        let lane = Some(Lane { name: format!("of {limit}"), limit });
        let run = insert(&estate, NewRun { lane, ..query("") }, 1, Some(LEASE)).await;
        assert_eq!(run.state, RunState::Starting);
        let mut queue = estate.store().notices().queue(PoolName::SHORT);
        queue.mark_unchanged();
        let now = estate.now();
        let ended = estate.store().write(move |tx| {
            let (run, done) = (run.clone(), End::Succeeded(Done::default()));
            Box::pin(async move { queue::finish(tx, &run, &done, Threads::Gone, now).await })
        });
        assert!(ended.await.unwrap());
        // SQLite has only one writer, which sees every waiting run.
        let wakes = wakes && !site.is_sqlite();
        assert_eq!(queue.has_changed().unwrap(), wakes, "a lane of {limit}");
    }
}

async fn a_grant_on_one_resource_is_enough_to_run(site: &Site) {
    const USE: Permission = Permission::new(Noun::DATASOURCE, Action::USE);
    let node = site.node(2).await;
    let user = NewUser {
        name: "mara".into(),
        email: "mara@example.com".into(),
        full_name: "Mara Hopp".into(),
        password: Some(Secret::new("correct horse")),
        grants: vec![NewGrant::Permission(USE, GrantTarget::Resource(1))],
    };
    let user = user_create(&node.estate, &node.ctx, user).await.unwrap();
    let submitter = |id: UserId| Submitter { kind: "user", id: Some(id.0), name: "mara".into() };
    let (id, uuid, now) =
        (node.estate.next(RunId::KIND).await.unwrap(), node.estate.uuid(), node.estate.now());
    let new = NewRun { ou: OuId::ROOT, ..query("who") };
    let submission = Submission::waiting(id, uuid, new, submitter(user.id));
    let inserted = node
        .estate
        .store()
        .write(move |tx| Box::pin(async move { queue::insert(tx, &submission, now).await }));
    let run = inserted.await.unwrap().0;
    let end = node.end(run.id).await;
    assert_eq!(
        (end.state, end.output.as_deref()),
        (RunState::Succeeded, Some("mara false")),
        "{:?}",
        end.error
    );
    exec(&node.estate, "UPDATE users SET enabled = 0 WHERE id = $1", args![user.id]).await;
    node.estate.store().write(|tx| Box::pin(async move { tx.bump_epoch().await })).await.unwrap();
    let run = insert_for(&node.estate, submitter(user.id)).await;
    let error = node.end(run).await.error.unwrap();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Forbidden, "submitter_refused"));
}

async fn insert_for(estate: &Estate, submitter: Submitter) -> RunId {
    let (id, uuid, now) = (estate.next(RunId::KIND).await.unwrap(), estate.uuid(), estate.now());
    let submission = Submission::waiting(id, uuid, query("who"), submitter);
    let inserted =
        estate.store().write(move |tx| Box::pin(async move { queue::insert(tx, &submission, now).await }));
    inserted.await.unwrap().0.id
}

async fn many_runs_waiting_for_a_lane_do_not_hide_the_next_run(site: &Site) {
    let estate = site.open().await;
    insert(&estate, in_lane(query("")), 1, Some(LEASE)).await;
    for key in 100..180 {
        insert(&estate, in_lane(query("")), key, None).await;
    }
    let free = insert(&estate, query(""), 999, None).await;
    let wanted =
        Wanted { pool: PoolName::SHORT, kinds: ",query,".to_owned(), lease: LEASE, family: Family::Any };
    let now = estate.now();
    let claimed = estate
        .store()
        .write(move |tx| {
            let wanted = wanted.clone();
            Box::pin(async move { claim::claim(tx, &wanted, Shares::default(), 1, now).await })
        })
        .await
        .unwrap();
    assert_eq!(claimed.iter().map(|run| run.id).collect::<Vec<_>>(), [free.id]);
    assert_eq!(rows(&estate, "SELECT 1 FROM runs WHERE state = 'queued'", args![]).await.len(), 80);
}

/// Each lane has two places, one of which is taken.
async fn runs_claimed_together_respect_their_lanes(site: &Site) {
    let estate = site.open().await;
    let of_lane = |name: &str| NewRun { lane: Some(Lane { name: name.to_owned(), limit: 2 }), ..query("") };
    for lane in ["a", "b"] {
        assert_eq!(insert(&estate, of_lane(lane), 1, Some(LEASE)).await.state, RunState::Starting);
    }
    for lane in ["a", "a", "a", "b", "b"] {
        insert(&estate, of_lane(lane), 2, None).await;
    }
    let free = insert(&estate, query(""), 2, None).await;
    let wanted =
        Wanted { pool: PoolName::SHORT, kinds: ",query,".to_owned(), lease: LEASE, family: Family::Any };
    let now = estate.now();
    let mut counts = Vec::new();
    for _ in 0..2 {
        let wanted = wanted.clone();
        let claimed = estate
            .store()
            .write(move |tx| {
                let wanted = wanted.clone();
                Box::pin(async move { claim::claim(tx, &wanted, Shares::default(), 8, now).await })
            })
            .await
            .unwrap();
        assert!(claimed.iter().all(|run| run.state == RunState::Starting && run.attempt == 1));
        counts.push((claimed.len(), claimed.last().is_some_and(|run| run.id == free.id)));
    }
    assert_eq!(counts, [(3, true), (0, false)]);
    assert_eq!(number(&estate, "SELECT count(*) FROM runs WHERE state = 'queued'").await, 3);
}

/// A submission returns the run without reading it back.
async fn a_submitted_run_is_as_stored(site: &Site) {
    let estate = site.open().await;
    let parent = insert(&estate, query(""), 1, Some(LEASE)).await;
    let odd = Duration::from_nanos(1_234_567_891);
    let later = estate.now() + Duration::from_secs(60);
    for new in [
        query("input"),
        in_lane(query("")),
        NewRun { time_limit: Some(odd), keep_data: odd, keep_record: odd, max_attempts: 3, ..query("") },
        NewRun { parent: Some(parent.id), noun: Some((Noun::DATASOURCE, 7)), ..query("") },
        NewRun { not_before: Some(later), ..query("") },
        NewRun { hold_until: Some(later), ..query("") },
        NewRun { idempotency_key: Some("key".to_owned()), ..query("") },
    ] {
        for lease in [None, Some(LEASE)] {
            let key = new.idempotency_key.as_ref().map(|key| format!("{key} {}", lease.is_some()));
            let new = NewRun { idempotency_key: key, ..new.clone() };
            let run = insert(&estate, new, 5, lease).await;
            assert_eq!(run, get_run(&estate, run.id).await);
        }
    }
}
