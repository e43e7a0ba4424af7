//! Nodes that die, and nodes that share a queue.

use std::collections::HashSet;
use std::time::Duration;

use landreeve_core::ids::{OuId, RunId};
use landreeve_core::{PoolName, RunState};
use landreeve_estate::runs::claim::{self, Family, Shares, Wanted};
use landreeve_estate::runs::queue::{self, End, Lease, Submission, Submitter, Threads};
use landreeve_estate::runs::recover::{self, Lost};
use landreeve_estate::runs::{Done, Lane, NewRun};
use landreeve_estate::{Estate, args};

use crate::runs::{check_states, watch_states};
use crate::support::QUERY;
use crate::support::{Gate, Site, exec, get_run, number, query};

conformance![
    runs_of_a_dead_node_are_recovered,
    a_run_interrupted_by_a_stop_is_recovered,
    a_node_that_lost_its_run_cannot_end_it,
    two_nodes_recovering_concurrently_recover_once,
];

/// A run held by a node that no longer exists.
async fn held(estate: &Estate, new: NewRun) -> RunId {
    let now = estate.now();
    let id: RunId = estate.next(RunId::KIND).await.unwrap();
    let (uuid, submitter) = (estate.uuid(), Submitter { kind: "system", id: None, name: "test".into() });
    let lease = Some(Lease { node: 999, term: Duration::from_secs(30) });
    let submission = Submission { lease, ..Submission::waiting(id, uuid, new, submitter) };
    let (run, _) = estate
        .store()
        .write(move |tx| Box::pin(async move { queue::insert(tx, &submission, now).await }))
        .await
        .unwrap();
    assert_eq!(run.state, RunState::Starting);
    id
}

/// The same, with a lease that has expired by whichever clock counts.
async fn expired(estate: &Estate, new: NewRun) -> RunId {
    let id = held(estate, new).await;
    exec(estate, "UPDATE runs SET lease_until = 1 WHERE id = $1", args![id]).await;
    id
}

fn retried(input: &str) -> NewRun {
    NewRun { max_attempts: 3, ..query(input) }
}

async fn runs_of_a_dead_node_are_recovered(site: &Site) {
    let before = site.open().await;
    let again = expired(&before, retried("")).await;
    let lost = expired(&before, query("")).await;
    let worn = expired(&before, retried("")).await;
    let stopped = expired(&before, retried("")).await;
    exec(&before, "UPDATE runs SET attempt = 3, state = 'running' WHERE id = $1", args![worn]).await;
    exec(&before, "UPDATE runs SET state = 'cancelling' WHERE id = $1", args![stopped]).await;
    before.store().close().await;

    let node = site.node(2).await;
    let end = node.end(again).await;
    assert_eq!((end.state, end.attempt), (RunState::Succeeded, 2));
    for id in [lost, worn] {
        let end = node.end(id).await;
        let error = end.error.unwrap();
        assert_eq!((end.state, error.code.as_str()), (RunState::Lost, "node_lost"));
        assert!(error.message.contains("stopped before it finished"), "{}", error.message);
    }
    let end = node.end(stopped).await;
    assert_eq!((end.state, end.error.unwrap().code.as_str()), (RunState::Cancelled, "cancelled"));
    assert_eq!(node.gate.begun(), [again]);
    assert_eq!(number(&node.estate, "SELECT count(*) FROM outbox WHERE kind = 'run_finished'").await, 4);
}

async fn a_run_interrupted_by_a_stop_is_recovered(site: &Site) {
    let first = site.node(2).await;
    watch_states(site, &first).await;
    let again = first.submit(retried("wait")).await.id;
    let lost = first.submit(query("wait")).await.id;
    let waiting = first.submit(query("")).await;
    assert_eq!(waiting.state, RunState::Queued);
    first.gate.until_begun(2).await;
    first.estate.runs().stop(Duration::ZERO).await;
    assert_eq!(number(&first.estate, "SELECT count(*) FROM nodes").await, 0, "it deregistered");
    first.stop.cancel();
    first.estate.store().close().await;

    // Where several nodes may be alive, leases expire by the clock.
    site.clock.seconds(31);
    let second = site.node(2).await;
    second.gate.open(2);
    assert_eq!(second.end(again).await.state, RunState::Succeeded);
    assert_eq!(second.end(lost).await.state, RunState::Lost);
    assert_eq!(second.end(waiting.id).await.state, RunState::Succeeded);
    check_states(&second).await;
}

async fn recover_expired(estate: &Estate) -> u64 {
    let now = estate.now();
    let registry = std::sync::Arc::clone(estate.registry());
    let recovered = estate.store().write(move |tx| {
        Box::pin(async move { recover::recover(tx, Lost::WithExpiredLease, &registry, now).await })
    });
    recovered.await.unwrap()
}

async fn a_node_that_lost_its_run_cannot_end_it(site: &Site) {
    let estate = site.open().await;
    let id = expired(&estate, retried("")).await;
    let old = get_run(&estate, id).await;
    let now = estate.now();
    assert_eq!(recover_expired(&estate).await, 1);
    let wanted = Wanted {
        pool: PoolName::SHORT,
        kinds: ",query,".to_owned(),
        lease: Lease { node: 7, term: Duration::from_secs(30) },
        family: Family::Any,
    };
    let next = estate
        .store()
        .write(move |tx| Box::pin(async move { claim::claim(tx, &wanted, Shares::default(), 1, now).await }))
        .await
        .unwrap()
        .pop()
        .expect("it is queued again");
    assert_eq!((next.id, next.attempt), (id, 2));
    let (late, mine) = (old, next.clone());
    let ended = estate
        .store()
        .write(move |tx| {
            Box::pin(async move {
                let reported = queue::report(tx, &late, 50, "late", now).await?;
                let done = End::Succeeded(Done::default());
                let late = queue::finish(tx, &late, &done, Threads::Gone, now).await?;
                let mine = queue::finish(tx, &mine, &done, Threads::Gone, now).await?;
                Ok((reported, late, mine))
            })
        })
        .await
        .unwrap();
    assert_eq!(ended, (None, false, true));
    let end = get_run(&estate, id).await;
    assert_eq!((end.state, end.progress), (RunState::Succeeded, 100));
}

async fn two_nodes_recovering_concurrently_recover_once(site: &Site) {
    let (one, other) = (site.open().await, site.open().await);
    for _ in 0..40 {
        expired(&one, query("")).await;
    }
    let (first, second) = tokio::join!(recover_expired(&one), recover_expired(&other));
    assert_eq!(first + second, 40);
    assert_eq!(number(&one, "SELECT count(*) FROM runs WHERE state = 'lost'").await, 40);
    assert_eq!(number(&one, "SELECT count(*) FROM outbox").await, 40);
}

/// Only on PostgreSQL: SQLite has one server.
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_share_one_queue() {
    let site = Site::postgres().await;
    let options = || site.with_workers(3);
    let (one, other) = (site.node_with(options()).await, site.node_with(options()).await);
    watch_states(&site, &one).await;
    let submissions = (0..200).map(|index| {
        let node = if index % 4 == 0 { &other } else { &one };
        node.submit(query("yield"))
    });
    let ids: Vec<RunId> =
        futures_util::future::join_all(submissions).await.iter().map(|run| run.id).collect();
    for id in &ids {
        assert_eq!(one.end(*id).await.state, RunState::Succeeded);
    }
    let (mine, theirs) = (one.gate.begun(), other.gate.begun());
    let each: HashSet<RunId> = mine.iter().chain(&theirs).copied().collect();
    assert_eq!((mine.len() + theirs.len(), each.len()), (200, 200), "each was executed once");
    assert!(!mine.is_empty() && !theirs.is_empty());
    check_states(&one).await;
    // A cancel received by one node reaches the other.
    let run = other.submit(query("wait")).await;
    landreeve_estate::ops::runs::run_cancel(
        &one.estate,
        &one.ctx,
        landreeve_estate::ops::runs::RunRef::Id(run.id),
        &[],
    )
    .await
    .unwrap();
    assert_eq!(one.end(run.id).await.state, RunState::Cancelled);
    site.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_a_lane_applies_across_nodes() {
    let site = Site::postgres().await;
    let gate = Gate::new();
    let options = || site.with_workers(4);
    let (one, other) =
        (site.node_at(options(), gate.clone()).await, site.node_at(options(), gate.clone()).await);
    let new = || NewRun { lane: Some(Lane { name: "narrow".into(), limit: 2 }), ..query("yield") };
    let submissions =
        (0..60).map(|index| if index % 2 == 0 { one.submit(new()) } else { other.submit(new()) });
    let runs = futures_util::future::join_all(submissions).await;
    for run in &runs {
        assert_eq!(one.end(run.id).await.state, RunState::Succeeded);
    }
    assert_eq!(gate.begun().len(), 60);
    assert!(gate.most() <= 2, "{} were inside at once", gate.most());
    site.remove().await;
}

/// A node does not touch runs held by another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_valid_lease_is_respected() {
    let site = Site::postgres().await;
    let before = site.open().await;
    let now = before.now();
    before
        .store()
        .write(move |tx| {
            Box::pin(async move { recover::register_node(tx, 999, "other", Some("there"), now).await })
        })
        .await
        .unwrap();
    let id = held(&before, retried("")).await;
    let node = site.node(2).await;
    let beside = node.submit(query("")).await;
    node.end(beside.id).await;
    assert_eq!(node.get(id).await.state, RunState::Starting);
    assert_eq!(node.get(id).await.kind, QUERY.kind);
    assert_eq!(node.get(id).await.ou, OuId::ROOT);
    site.remove().await;
}
