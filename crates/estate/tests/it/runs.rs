//! One node: runs from submission to the end of their retention.

use std::time::Duration;

use bytes::Bytes;
use landreeve_core::ids::{OuId, RunId};
use landreeve_core::{Action, ErrorKind, Noun, Page, Permission, RunState};
use landreeve_estate::args;
use landreeve_estate::ops::RunFilter;
use landreeve_estate::ops::runs::{RunRef, probe_submit, run_cancel, run_get, run_list, run_wait, submit};
use landreeve_estate::runs::PROBE;
use landreeve_estate::runs::{Lane, NewRun, Run};
use landreeve_estate::upkeep::PURGE;

use crate::support::QUERY;
use crate::support::{BOUND, Node, Site, caller, exec, number, query, rows};

conformance![
    a_run_is_claimed_by_its_submission,
    runs_beyond_the_workers_wait_in_order,
    a_lane_enforces_its_limit,
    progress_is_written,
    a_run_is_cancelled_wherever_it_is,
    a_run_past_its_time_limit_is_stopped,
    probes_follow_their_input,
    a_failing_executor_does_not_affect_others,
    an_idempotency_key_gives_the_first_run,
    waiters_are_woken,
    a_dropped_submission_still_starts,
    runs_are_listed_by_filter,
    retention_follows_the_clock,
    a_blob_that_cannot_be_deleted_is_not_forgotten,
    runs_follow_the_state_machine,
    a_child_needs_a_running_parent,
    cancelling_a_parent_cancels_all_below_it,
    a_family_is_purged_from_the_leaves_up,
];

fn in_lane(input: &str, limit: u32) -> NewRun {
    NewRun { lane: Some(Lane { name: "lane".into(), limit }), ..query(input) }
}

async fn cancel(node: &Node, id: RunId) -> landreeve_core::Result<Run> {
    run_cancel(&node.estate, &node.ctx, RunRef::Id(id), &[]).await
}

async fn a_run_is_claimed_by_its_submission(site: &Site) {
    // More than one worker: the queue may be looking for work with one of them.
    let node = site.node(3).await;
    let run = node.submit(query("wait")).await;
    assert_eq!((run.state, run.attempt, run.progress), (RunState::Starting, 1, 0));
    assert_eq!(run.actor_kind, "operator");
    node.gate.until_begun(1).await;
    site.clock.seconds(3);
    node.gate.open(1);
    let end = node.end(run.id).await;
    assert_eq!((end.state, end.progress, &end.error), (RunState::Succeeded, 100, &None));
    assert_eq!(end.duration(node.estate.now()), Some(Duration::from_secs(3)));
    assert_eq!((end.id, end.uuid), (run.id, run.uuid));
    let same = run_get(&node.estate, &node.ctx, RunRef::Uuid(run.uuid), &[QUERY.kind]).await.unwrap();
    assert_eq!(same, end);
    let other = run_get(&node.estate, &node.ctx, RunRef::Id(run.id), &[PROBE.kind]).await;
    assert_eq!(other.unwrap_err().kind, ErrorKind::NotFound, "of another kind");
    assert_eq!(number(&node.estate, "SELECT count(*) FROM outbox WHERE kind = 'run_finished'").await, 1);
    assert_eq!(number(&node.estate, "SELECT count(*) FROM audit_events WHERE action = 'submitted'").await, 1);
}

async fn runs_beyond_the_workers_wait_in_order(site: &Site) {
    let node = site.node(2).await;
    let mut ids = Vec::new();
    for index in 0..8 {
        let run = node.submit(query("wait")).await;
        assert!(index < 2 || run.state == RunState::Queued, "{index}: {:?}", run.state);
        ids.push(run.id);
    }
    node.gate.until_begun(2).await;
    for index in 3..=8 {
        node.gate.open(1);
        node.gate.until_begun(index).await;
    }
    node.gate.open(2);
    for id in &ids {
        assert_eq!(node.end(*id).await.state, RunState::Succeeded);
    }
    let mut begun = node.gate.begun();
    // The first two started immediately.
    begun[..2].sort();
    assert_eq!(begun, ids);
    assert_eq!(node.gate.most(), 2);
}

async fn a_lane_enforces_its_limit(site: &Site) {
    let node = site.node(5).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(node.submit(in_lane("wait", 2)).await.id);
    }
    let beside = node.submit(query("wait")).await;
    let begun = node.gate.until_begun(3).await;
    assert!(begun.contains(&beside.id), "a full lane does not delay other runs");
    assert_eq!(node.get(ids[2]).await.state, RunState::Queued);
    // A cancelled run's place in the queue is not used.
    cancel(&node, ids[2]).await.unwrap();
    node.gate.open(10);
    for (index, id) in ids.iter().enumerate() {
        let wanted = if index == 2 { RunState::Cancelled } else { RunState::Succeeded };
        assert_eq!(node.end(*id).await.state, wanted);
    }
    node.end(beside.id).await;
    assert!(node.gate.most() <= 3, "{} at the same time", node.gate.most());
    // One at a time, they start in the order of submission.
    let mut single = Vec::new();
    for _ in 0..6 {
        single.push(node.submit(in_lane("yield", 1)).await.id);
    }
    for id in &single {
        assert_eq!(node.end(*id).await.state, RunState::Succeeded);
    }
    let lane: Vec<RunId> = node.gate.begun().into_iter().filter(|id| single.contains(id)).collect();
    assert_eq!(lane, single, "in order");
}

async fn progress_is_written(site: &Site) {
    let node = site.node(1).await;
    let run = node.submit(query("report")).await;
    let seen = node.until(run.id, |run| run.progress == 42).await;
    assert_eq!((seen.state, seen.progress_note.as_str()), (RunState::Running, "almost half"));
    cancel(&node, run.id).await.unwrap();
    let end = node.end(run.id).await;
    assert_eq!((end.state, end.progress), (RunState::Cancelled, 42));
}

async fn a_run_is_cancelled_wherever_it_is(site: &Site) {
    let node = site.node(1).await;
    let (first, second) = (node.submit(query("wait")).await, node.submit(query("wait")).await);
    node.gate.until_begun(1).await;
    let queued = cancel(&node, second.id).await.unwrap();
    assert_eq!((queued.state, queued.finished_at), (RunState::Cancelled, Some(node.estate.now())));
    assert_eq!(queued.error.unwrap().code, "cancelled");
    let running = cancel(&node, first.id).await.unwrap();
    assert_eq!(running.state, RunState::Cancelling);
    let end = node.end(first.id).await;
    assert_eq!((end.state, end.error.unwrap().code.as_str()), (RunState::Cancelled, "cancelled"));
    for id in [first.id, second.id] {
        let error = cancel(&node, id).await.unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "not_cancellable"));
        assert!(error.message.contains("cancelled"), "{error}");
    }
    assert_eq!(cancel(&node, RunId(9_999)).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(node.gate.begun(), [first.id], "the queued one never started");
    // A run is stopped even if this node missed the notice.
    let third = node.submit(query("wait")).await;
    node.gate.until_begun(2).await;
    exec(&node.estate, "UPDATE runs SET state = 'cancelling' WHERE id = $1", args![third.id]).await;
    assert_eq!(node.end(third.id).await.state, RunState::Cancelled);
    assert_eq!(number(&node.estate, "SELECT count(*) FROM audit_events WHERE action = 'cancelled'").await, 2);
}

async fn a_run_past_its_time_limit_is_stopped(site: &Site) {
    let node = site.node(1).await;
    let new = NewRun { time_limit: Some(Duration::from_millis(20)), ..query("wait") };
    let run = node.submit(new).await;
    let end = node.end(run.id).await;
    assert_eq!((end.state, end.error.unwrap().code.as_str()), (RunState::TimedOut, "timed_out"));
    let next = node.submit(NewRun { time_limit: Some(BOUND), ..query("") }).await;
    assert_eq!(node.end(next.id).await.state, RunState::Succeeded);
}

async fn probes_follow_their_input(site: &Site) {
    let node = site.node(1).await;
    let probe = |wait, fail| probe_submit(&node.estate, &node.ctx, wait, fail);
    let run = probe(Duration::ZERO, true).await.unwrap();
    let error = node.end(run.id).await.error.unwrap();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Invalid, "told_to_fail"));
    let run = probe(Duration::from_millis(30), false).await.unwrap();
    assert_eq!(node.end(run.id).await.state, RunState::Succeeded);
    let run = probe(Duration::from_secs(3_600), false).await.unwrap();
    cancel(&node, run.id).await.unwrap();
    assert_eq!(node.end(run.id).await.state, RunState::Cancelled);
    let error = probe(Duration::from_secs(3_601), false).await.unwrap_err();
    assert_eq!((error.kind, error.faults[0].field.as_str()), (ErrorKind::Invalid, "seconds"));
    let outsider = caller(&node.estate, None, &[Permission::new(Noun::RUN, Action::VIEW)]).await;
    let refused = probe_submit(&node.estate, &outsider, Duration::ZERO, false).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Forbidden);
}

async fn a_failing_executor_does_not_affect_others(site: &Site) {
    let node = site.node(1).await;
    // One that panics, one with an internal error, one whose end the store cannot represent.
    for input in ["panic", "internal", "nul"] {
        let run = node.submit(query(input)).await;
        let end = node.end(run.id).await;
        let error = end.error.unwrap();
        assert_eq!((end.state, error.kind), (RunState::Failed, ErrorKind::Internal), "{input}");
        assert!(!error.message.contains("secret cause"), "the cause is for the log");
    }
    let run = node.submit(query("")).await;
    assert_eq!(node.end(run.id).await.state, RunState::Succeeded, "the worker is free again");
}

async fn an_idempotency_key_gives_the_first_run(site: &Site) {
    let node = site.node(4).await;
    let keyed = |key: &str| NewRun { idempotency_key: Some(key.into()), ..query("") };
    let first = node.submit(keyed("a")).await;
    node.end(first.id).await;
    assert_eq!(node.submit(keyed("a")).await.id, first.id);
    let all = futures_util::future::join_all((0..12).map(|_| node.submit(keyed("b")))).await;
    assert!(all.iter().all(|run| run.id == all[0].id && run.id != first.id));
    node.end(all[0].id).await;
    assert_eq!(number(&node.estate, "SELECT count(*) FROM runs").await, 2);
    assert_eq!(node.gate.begun().len(), 2);
    for _ in 0..4 {
        node.submit(query("wait")).await;
    }
    node.gate.until_begun(6).await;
    assert_eq!(node.gate.most(), 4, "no worker was lost on the way");
}

async fn waiters_are_woken(site: &Site) {
    let node = site.node(1).await;
    let run = node.submit(query("wait")).await;
    let short = run_wait(&node.estate, &node.ctx, RunRef::Id(run.id), &[], Duration::from_millis(5)).await;
    assert!(!short.unwrap().state.is_final(), "a timeout is not an error");
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let (estate, ctx) = (node.estate.clone(), node.ctx.clone());
            tokio::spawn(async move { run_wait(&estate, &ctx, RunRef::Id(run.id), &[], BOUND).await })
        })
        .collect();
    node.gate.open(1);
    for task in waiting {
        assert_eq!(task.await.unwrap().unwrap().state, RunState::Succeeded);
    }
}

/// A client that goes away while its submission is written must not leave a run that is never started.
async fn a_dropped_submission_still_starts(site: &Site) {
    let node = site.node(2).await;
    let first = node.submit(query("")).await;
    node.end(first.id).await;
    tokio::select! {
        biased;
        _ = submit(&node.estate, &node.ctx, query("wait")) => panic!("a commit takes longer than one poll"),
        () = std::future::ready(()) => {}
    }
    let begun = node.gate.until_begun(2).await;
    node.gate.open(1);
    assert_eq!(node.end(begun[1]).await.state, RunState::Succeeded);
}

async fn runs_are_listed_by_filter(site: &Site) {
    let node = site.node(2).await;
    let mut ids = Vec::new();
    for index in 0..7 {
        let noun = (index % 2 == 0).then_some((Noun::DATASOURCE, 7));
        let run = node.submit(NewRun { noun, ..query("") }).await;
        ids.push(node.end(run.id).await.id);
    }
    let failed = probe_submit(&node.estate, &node.ctx, Duration::ZERO, true).await.unwrap();
    node.end(failed.id).await;
    let list = |filter: RunFilter, page| {
        let node = &node;
        async move { run_list(&node.estate, &node.ctx, &filter, page).await.unwrap() }
    };
    let all = list(RunFilter::default(), Page::first(100)).await;
    assert_eq!((all.total, all.items[0].id), (8, failed.id), "newest first");
    let kinds = RunFilter { kinds: vec![QUERY.kind, PURGE.kind], ..RunFilter::default() };
    let page = list(kinds.clone(), Page { offset: 2, limit: 3 }).await;
    assert_eq!((page.total, page.has_more()), (7, true));
    assert_eq!(page.items.iter().map(|run| run.id).collect::<Vec<_>>(), [ids[4], ids[3], ids[2]]);
    let states = RunFilter { states: vec![RunState::Failed], ..RunFilter::default() };
    assert_eq!(list(states, Page::first(100)).await.items[0].id, failed.id);
    let noun = RunFilter { noun: Some(("datasource".into(), Some(7))), ..kinds };
    assert_eq!(list(noun, Page::first(100)).await.total, 4);
    let outsider = RunFilter { submitter: Some("user:7".to_owned()), ..RunFilter::default() };
    assert_eq!(list(outsider, Page::first(100)).await.total, 0);
}

async fn retention_follows_the_clock(site: &Site) {
    const HOUR: Duration = Duration::from_secs(3_600);
    let node = site.node(2).await;
    let blobs = node.estate.blobs();
    blobs.put("results/one", Bytes::from_static(b"large")).await.unwrap();
    let keep = |input: &str| NewRun { keep_data: HOUR, keep_record: HOUR * 2, ..query(input) };
    let mut ids = Vec::new();
    for input in ["blob:results/one", "small", ""] {
        let run = node.submit(keep(input)).await;
        ids.push(node.end(run.id).await.id);
    }
    let forever =
        node.submit(NewRun { keep_record: Duration::MAX, keep_data: Duration::MAX, ..query("small") }).await;
    node.end(forever.id).await;
    let running = node.submit(keep("wait")).await;
    site.clock.seconds(3_599);
    assert_eq!(node.purge().await.state, RunState::Succeeded);
    assert!(blobs.read("results/one").await.is_ok());
    site.clock.seconds(1);
    let kept = node.get(ids[0]).await;
    assert!(kept.data_expired(node.estate.now()), "it has expired, whether or not a purge has run");
    assert_eq!(node.purge().await.state, RunState::Succeeded);
    assert_eq!(blobs.read("results/one").await.err().unwrap().kind, ErrorKind::NotFound);
    for (id, state) in
        [(ids[0], RunState::Expired), (ids[1], RunState::Expired), (ids[2], RunState::Succeeded)]
    {
        let run = node.get(id).await;
        assert_eq!((run.state, run.result_blob, run.has_small_result), (state, None, false));
    }
    assert!(node.get(forever.id).await.has_small_result);
    site.clock.seconds(3_600);
    let gone = run_get(&node.estate, &node.ctx, RunRef::Id(ids[0]), &[]).await;
    assert_eq!(gone.unwrap_err().kind, ErrorKind::NotFound, "past its retention, purged or not");
    assert_eq!(node.purge().await.state, RunState::Succeeded);
    let left = rows(&node.estate, "SELECT id FROM runs WHERE kind = 'query' ORDER BY id", args![]).await;
    let left: Vec<RunId> = left.iter().map(|row| row.id(0).unwrap()).collect();
    assert_eq!(left, [forever.id, running.id]);
    assert!(!node.get(running.id).await.state.is_final());
}

async fn a_blob_that_cannot_be_deleted_is_not_forgotten(site: &Site) {
    let node = site.node(2).await;
    // A folder with the blob's name cannot be deleted as a file.
    std::fs::create_dir_all(site.blobs().join("results/stuck/inside")).unwrap();
    node.estate.blobs().put("results/fine", Bytes::from_static(b"large")).await.unwrap();
    for input in ["blob:results/stuck", "blob:results/fine"] {
        let run = node.submit(NewRun { keep_data: Duration::ZERO, ..query(input) }).await;
        node.end(run.id).await;
    }
    const NAMED: &str = "SELECT count(*) FROM runs WHERE result_blob IS NOT NULL";
    assert_eq!(node.purge().await.state, RunState::Succeeded);
    assert!(!site.blobs().join("results/fine").exists(), "one does not block the others");
    assert_eq!(number(&node.estate, NAMED).await, 1);
    std::fs::remove_dir_all(site.blobs().join("results/stuck")).unwrap();
    assert_eq!(node.purge().await.state, RunState::Succeeded);
    assert_eq!(number(&node.estate, NAMED).await, 0);
}

/// Makes the store record every change of a run's state.
pub async fn watch_states(site: &Site, node: &Node) {
    exec(&node.estate, "CREATE TABLE moves (run BIGINT, old TEXT, new TEXT)", args![]).await;
    if site.is_sqlite() {
        exec(
            &node.estate,
            "CREATE TRIGGER watch AFTER UPDATE OF state ON runs WHEN OLD.state <> NEW.state BEGIN \
             INSERT INTO moves VALUES (OLD.id, OLD.state, NEW.state); END",
            args![],
        )
        .await;
        return;
    }
    exec(
        &node.estate,
        "CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         INSERT INTO moves VALUES (OLD.id, OLD.state, NEW.state); RETURN NEW; END $$",
        args![],
    )
    .await;
    exec(
        &node.estate,
        "CREATE TRIGGER watch AFTER UPDATE OF state ON runs FOR EACH ROW WHEN (OLD.state <> NEW.state) \
         EXECUTE FUNCTION watch()",
        args![],
    )
    .await;
}

/// Every recorded change is a transition of the state machine. Returns the number of changes.
pub async fn check_states(node: &Node) -> usize {
    let moves = rows(&node.estate, "SELECT run, old, new FROM moves", args![]).await;
    for row in &moves {
        let (old, new) = (row.word(1, RunState::parse).unwrap(), row.word(2, RunState::parse).unwrap());
        assert!(old.may_become(new), "run {}: {old:?} became {new:?}", row.int(0).unwrap());
    }
    moves.len()
}

async fn runs_follow_the_state_machine(site: &Site) {
    let node = site.node(3).await;
    watch_states(site, &node).await;
    const INPUTS: [&str; 7] = ["", "wait", "report", "panic", "small", "internal", "yield"];
    let mut tasks = Vec::new();
    for index in 0..70_usize {
        let mut new = in_lane(INPUTS[index % INPUTS.len()], 2);
        if index % 3 == 0 {
            new.lane = None;
        }
        new.keep_data = Duration::ZERO;
        new.time_limit = Some(Duration::from_millis(if index % 5 == 0 { 1 } else { 150 }));
        let (estate, ctx) = (node.estate.clone(), node.ctx.clone());
        tasks.push(tokio::spawn(async move {
            let run = submit(&estate, &ctx, new).await.unwrap();
            if index % 4 == 1 {
                drop(run_cancel(&estate, &ctx, RunRef::Id(run.id), &[]).await);
            }
            run_wait(&estate, &ctx, RunRef::Id(run.id), &[], BOUND).await.unwrap()
        }));
    }
    for task in tasks {
        let run = task.await.unwrap();
        assert!(run.state.is_final() && run.finished_at.is_some(), "{:?}", run.state);
        assert_eq!(run.error.is_some(), run.state != RunState::Succeeded);
    }
    node.purge().await;
    assert!(check_states(&node).await >= 70);
    assert_eq!(number(&node.estate, "SELECT count(*) FROM outbox WHERE kind = 'run_finished'").await, 71);
    assert_eq!(node.get(node.gate.begun()[0]).await.ou, OuId::ROOT);
}

fn child_of(parent: &Run, input: &str) -> NewRun {
    NewRun { parent: Some(parent.id), ..query(input) }
}

async fn a_child_needs_a_running_parent(site: &Site) {
    let node = site.node(2).await;
    let parent = node.submit(query("wait")).await;
    node.gate.until_begun(1).await;
    let child = node.submit(child_of(&parent, "")).await;
    assert_eq!(node.end(child.id).await.parent, Some(parent.id));
    assert_eq!(parent.parent, None);
    let refused = |new| async {
        let before = number(&node.estate, "SELECT count(*) FROM runs").await;
        let error = submit(&node.estate, &node.ctx, new).await.unwrap_err();
        assert_eq!(number(&node.estate, "SELECT count(*) FROM runs").await, before);
        error
    };
    let unknown = refused(NewRun { parent: Some(RunId(9_999)), ..query("") }).await;
    assert_eq!((unknown.kind, unknown.faults[0].field.as_str()), (ErrorKind::Invalid, "parent"));
    // Stopping a parent stops its children, so a unit beside or above it is not allowed.
    let below = crate::keys::unit(&node.estate, None, "below").await;
    let lower = node.submit(NewRun { ou: below.id, ..query("wait") }).await;
    let beside = refused(child_of(&lower, "")).await;
    assert_eq!(beside.faults[0].field, "parent");
    let fits = node.submit(NewRun { ou: below.id, ..child_of(&parent, "") }).await;
    cancel(&node, lower.id).await.unwrap();
    node.end(lower.id).await;
    node.end(fits.id).await;
    node.gate.open(1);
    node.end(parent.id).await;
    let late = refused(child_of(&parent, "")).await;
    assert_eq!((late.kind, late.code), (ErrorKind::Conflict, "parent_ended"));
    exec(&node.estate, "UPDATE runs SET state = 'cancelling' WHERE id = $1", args![parent.id]).await;
    assert_eq!(refused(child_of(&parent, "")).await.code, "parent_ended", "nor one that is being cancelled");
}

async fn cancelling_a_parent_cancels_all_below_it(site: &Site) {
    let node = site.node(3).await;
    let parent = node.submit(query("wait")).await;
    node.gate.until_begun(1).await;
    let ended = node.submit(child_of(&parent, "wait")).await;
    node.gate.until_begun(2).await;
    let executing = node.submit(child_of(&ended, "wait")).await;
    node.gate.until_begun(3).await;
    // No worker is left for these.
    let queued = node.submit(child_of(&executing, "wait")).await;
    let other = node.submit(query("wait")).await;
    exec(&node.estate, "UPDATE runs SET state = 'succeeded', finished_at = 1 WHERE id = $1", args![ended.id])
        .await;
    let asked = cancel(&node, parent.id).await.unwrap();
    assert_eq!(asked.state, RunState::Cancelling);
    // All in one transaction: the queued one has ended, the executing ones are being cancelled.
    let states = rows(&node.estate, "SELECT id, state FROM runs ORDER BY id", args![]).await;
    let state = |run: &Run| {
        let row = states.iter().find(|row| row.id::<RunId>(0).unwrap() == run.id).unwrap();
        row.word(1, RunState::parse).unwrap()
    };
    assert_eq!((state(&queued), state(&ended)), (RunState::Cancelled, RunState::Succeeded));
    assert!(matches!(state(&executing), RunState::Cancelling | RunState::Cancelled));
    for run in [&parent, &executing, &queued] {
        let end = node.end(run.id).await;
        assert_eq!((end.state, end.error.unwrap().code.as_str()), (RunState::Cancelled, "cancelled"));
    }
    assert!(!node.get(other.id).await.state.is_final(), "an unrelated run continues");
    assert_eq!(number(&node.estate, "SELECT count(*) FROM audit_events WHERE action = 'cancelled'").await, 1);
    let finished = "SELECT count(*) FROM outbox WHERE kind = 'run_finished'";
    assert_eq!(number(&node.estate, finished).await, 3);
}

async fn a_family_is_purged_from_the_leaves_up(site: &Site) {
    const HOUR: Duration = Duration::from_secs(3_600);
    let node = site.node(4).await;
    let blobs = node.estate.blobs();
    blobs.put("results/child", Bytes::from_static(b"large")).await.unwrap();
    let short = NewRun { keep_data: HOUR, keep_record: HOUR, ..query("wait") };
    let parent = node.submit(short.clone()).await;
    node.gate.until_begun(1).await;
    // It would be kept for thirty days if it were not a child.
    let child = node.submit(child_of(&parent, "blob:results/child")).await;
    node.end(child.id).await;
    let second = node.submit(short).await;
    node.gate.until_begun(3).await;
    let live = node.submit(child_of(&second, "wait")).await;
    node.gate.until_begun(4).await;
    for run in [&parent, &second] {
        exec(
            &node.estate,
            "UPDATE runs SET state = 'succeeded', finished_at = updated_at, node_id = NULL, lease_until = NULL, occupies = 0 \
             WHERE id = $1",
            args![run.id],
        )
        .await;
    }
    let left = "SELECT count(*) FROM runs WHERE kind = 'query'";
    assert_eq!(node.purge().await.state, RunState::Succeeded);
    assert_eq!(number(&node.estate, left).await, 4, "nothing has expired");
    assert!(blobs.read("results/child").await.is_ok());
    site.clock.advance(HOUR);
    assert_eq!(node.purge().await.state, RunState::Succeeded);
    let found = rows(&node.estate, "SELECT id FROM runs WHERE kind = 'query' ORDER BY id", args![]).await;
    let found: Vec<RunId> = found.iter().map(|row| row.id(0).unwrap()).collect();
    assert_eq!(found, [second.id, live.id], "a parent is kept while it has a child");
    assert_eq!(blobs.read("results/child").await.err().unwrap().kind, ErrorKind::NotFound);
    // Its parents' executors wait before it.
    node.gate.open(3);
    node.end(live.id).await;
    assert_eq!(node.purge().await.state, RunState::Succeeded);
    assert_eq!(number(&node.estate, left).await, 0);
}
