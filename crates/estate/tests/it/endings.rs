//! Runs that do not end by themselves, and runs that wait before they start.

use std::sync::Arc;
use std::time::Duration;

use landreeve_core::ids::RunId;
use landreeve_core::{Action, ErrorKind, Noun, Permission, RunState, Secret};
use landreeve_estate::ops::keys::key_set_enabled;
use landreeve_estate::ops::runs::{RunRef, run_cancel, run_log, submit, submit_with};
use landreeve_estate::ops::users::{NewUser, user_create};
use landreeve_estate::ops::{GrantTarget, NewGrant, Run};
use landreeve_estate::runs::log::{self, MAX_BYTES};
use landreeve_estate::runs::queue;
use landreeve_estate::runs::{Lane, NewRun, RunOptions};
use landreeve_estate::store::Notice;
use landreeve_estate::{EstateOptions, args};

use crate::support::{CLEANER, HASTY, Node, REQUEUED, RETRIED, Site, caller, exec, number, of, query, rows};

conformance![
    a_run_that_ignores_its_cancel_is_lost_after_its_grace,
    a_thread_that_does_not_stop_keeps_its_lane,
    a_task_that_blocks_keeps_its_lane,
    a_run_knows_why_it_has_to_stop,
    a_drained_run_goes_back_to_the_queue,
    a_kind_that_cleans_up_is_claimed_again,
    a_run_unknown_to_its_node_is_taken_back,
    a_run_that_was_taken_away_is_stopped,
    a_held_run_waits_for_its_release,
    a_held_run_times_out_if_it_is_not_released,
    a_delayed_run_joins_the_queue_on_time,
    temporary_failures_are_retried,
    an_idempotency_key_belongs_to_a_kind_and_submitter,
    rows_of_a_plane_are_committed_with_the_run,
    a_run_executes_with_the_submitters_current_permissions,
    a_log_can_be_followed_and_survives_a_failure,
    a_log_ends_at_its_limit,
];

const USE: Permission = Permission::new(Noun::DATASOURCE, Action::USE);

fn in_lane(new: NewRun) -> NewRun {
    NewRun { lane: Some(Lane { name: "narrow".into(), limit: 1 }), ..new }
}

async fn cancel(node: &Node, id: RunId) -> Run {
    run_cancel(&node.estate, &node.ctx, RunRef::Id(id), &[]).await.unwrap()
}

async fn a_run_that_ignores_its_cancel_is_lost_after_its_grace(site: &Site) {
    let node = site.node(1).await;
    let run = node.submit(of(&HASTY, "ignore")).await;
    node.gate.until_begun(1).await;
    cancel(&node, run.id).await;
    let end = node.end(run.id).await;
    let error = end.error.unwrap();
    assert_eq!((end.state, error.code.as_str()), (RunState::Lost, "did_not_stop"));
    assert!(error.message.contains("it was cancelled"), "{}", error.message);
    // The only worker is free.
    let next = node.submit(query("")).await;
    assert_eq!(node.end(next.id).await.state, RunState::Succeeded);
    let limited = NewRun { time_limit: Some(Duration::from_millis(20)), ..of(&HASTY, "ignore") };
    let run = node.submit(limited).await;
    let end = node.end(run.id).await;
    assert_eq!(end.state, RunState::Lost);
    assert!(end.error.unwrap().message.contains("its time limit was exceeded"));
}

/// The run ends and its worker is free, but runs that would write to the same place do not start.
async fn keeps_its_lane(site: &Site, input: &str) {
    let node = site.node(1).await;
    let run = node.submit(in_lane(of(&HASTY, input))).await;
    node.gate.until_begun(1).await;
    cancel(&node, run.id).await;
    assert_eq!(node.end(run.id).await.state, RunState::Lost);
    let second = node.submit(in_lane(query(""))).await;
    let beside = node.submit(query("")).await;
    assert_eq!(node.end(beside.id).await.state, RunState::Succeeded, "the worker is free");
    assert_eq!(node.get(second.id).await.state, RunState::Queued);
    assert_eq!(number(&node.estate, "SELECT count(*) FROM runs WHERE occupies = 1").await, 1);
    node.gate.release_threads(1);
    assert_eq!(node.end(second.id).await.state, RunState::Succeeded);
    assert_eq!(number(&node.estate, "SELECT count(*) FROM runs WHERE occupies = 1").await, 0);
}

async fn a_thread_that_does_not_stop_keeps_its_lane(site: &Site) {
    keeps_its_lane(site, "thread").await;
}

async fn a_task_that_blocks_keeps_its_lane(site: &Site) {
    keeps_its_lane(site, "block").await;
}

async fn a_run_knows_why_it_has_to_stop(site: &Site) {
    let node = site.node(3).await;
    let cancelled = node.submit(query("why")).await;
    let limit = Some(Duration::from_millis(20));
    let late = node.submit(NewRun { time_limit: limit, ..query("why") }).await;
    let drained = node.submit(of(&REQUEUED, "why")).await;
    node.gate.until_begun(3).await;
    cancel(&node, cancelled.id).await;
    for (run, reason) in [(cancelled, "Cancelled"), (late, "TimedOut")] {
        assert_eq!(node.end(run.id).await.output.as_deref(), Some(reason));
    }
    node.estate.runs().stop(Duration::from_secs(10)).await;
    let end = node.get(drained.id).await;
    assert_eq!((end.state, end.output.as_deref()), (RunState::Succeeded, Some("Draining")));
}

async fn a_drained_run_goes_back_to_the_queue(site: &Site) {
    let first = site.node(2).await;
    let requeued = first.submit(of(&REQUEUED, "wait")).await;
    let finished = first.submit(query("wait")).await;
    first.gate.until_begun(2).await;
    let stopping = {
        let estate = first.estate.clone();
        tokio::spawn(async move { estate.runs().stop(Duration::from_secs(20)).await })
    };
    let back = first.until(requeued.id, |run| run.state == RunState::Queued).await;
    assert_eq!((back.attempt, back.max_attempts), (1, 2), "the attempt does not count");
    assert!(!first.get(finished.id).await.state.is_final(), "the other kind is allowed to finish");
    first.gate.open(1);
    stopping.await.unwrap();
    assert_eq!(first.get(finished.id).await.state, RunState::Succeeded);
    first.stop.cancel();
    first.estate.store().close().await;
    let second = site.node(2).await;
    second.gate.open(1);
    let end = second.end(requeued.id).await;
    assert_eq!((end.state, end.attempt), (RunState::Succeeded, 2));
}

async fn a_kind_that_cleans_up_is_claimed_again(site: &Site) {
    let first = site.node(3).await;
    let cut_off = first.submit(of(&CLEANER, "cleanup")).await;
    let asked = first.submit(of(&CLEANER, "cleanup")).await;
    let plain = first.submit(query("wait")).await;
    first.gate.until_begun(3).await;
    // A crash leaves the rows unchanged; the next start removes the node's row.
    exec(
        &first.estate,
        "UPDATE runs SET state = 'cancelling', cancel_requested = 1 WHERE id = $1",
        args![asked.id],
    )
    .await;
    first.estate.runs().stop(Duration::ZERO).await;
    first.stop.cancel();
    first.estate.store().close().await;
    let second = site.node(3).await;
    for (run, asked) in [(cut_off, "false"), (asked, "true")] {
        let end = second.end(run.id).await;
        assert_eq!((end.state, end.attempt), (RunState::Succeeded, 2), "its executor decides");
        assert_eq!(end.output.as_deref(), Some(asked), "and knows whether it was cancelled");
    }
    assert_eq!(second.end(plain.id).await.state, RunState::Lost);
}

fn quick() -> RunOptions {
    RunOptions { short: 2, lease: Duration::from_millis(600), ..RunOptions::default() }
}

async fn a_run_unknown_to_its_node_is_taken_back(site: &Site) {
    let node = site.node_with(EstateOptions { runs: quick(), ..site.options() }).await;
    // The state after a lost answer to COMMIT: ours in the store, unknown in the process.
    let other = site.open().await;
    let operator = landreeve_estate::ops::sign_in::operator(&other);
    let lane = |new: NewRun| NewRun { lane: Some(Lane { name: "ghost".into(), limit: 1 }), ..new };
    let ghost = submit(&other, &operator, lane(NewRun { max_attempts: 2, ..query("") })).await.unwrap();
    exec(
        &other,
        "UPDATE runs SET state = 'starting', attempt = 1, occupies = 1, node_id = $2, lease_until = $3 WHERE id = $1",
        args![ghost.id, node.estate.runs().node().unwrap(), i64::MAX],
    )
    .await;
    let blocked = node.submit(lane(query(""))).await;
    assert_eq!(node.end(ghost.id).await.state, RunState::Succeeded, "it is retried");
    assert_eq!(node.end(blocked.id).await.state, RunState::Succeeded, "and its lane is free");
}

async fn a_run_that_was_taken_away_is_stopped(site: &Site) {
    let node = site.node_with(EstateOptions { runs: quick(), ..site.options() }).await;
    let run = node.submit(query("why")).await;
    node.gate.until_begun(1).await;
    exec(&node.estate, "UPDATE runs SET node_id = 999, attempt = 2 WHERE id = $1", args![run.id]).await;
    // It ends here silently, because another node has the run now.
    node.gate.until_ended(1).await;
    node.estate.runs().stop(Duration::from_secs(10)).await;
    let row = rows(&node.estate, "SELECT state, output FROM runs WHERE id = $1", args![run.id]).await;
    assert_ne!(row[0].text(0).unwrap(), "succeeded");
    assert_eq!(row[0].text_opt(1).unwrap(), None);
}

async fn a_held_run_waits_for_its_release(site: &Site) {
    let node = site.node(2).await;
    let until = landreeve_core::clock::from_micros(node.estate.now().as_microsecond() + 60_000_000);
    let hold = |new: NewRun| NewRun { hold_until: Some(until), ..new };
    let held = node.submit(in_lane(hold(query("")))).await;
    let stopped = node.submit(hold(query(""))).await;
    assert_eq!(held.state, RunState::Held);
    let beside = node.submit(in_lane(query(""))).await;
    assert_eq!(node.end(beside.id).await.state, RunState::Succeeded, "it does not occupy its lane");
    assert_eq!(cancel(&node, stopped.id).await.state, RunState::Cancelled);
    let (id, now) = (held.id, node.estate.now());
    let approve =
        || node.estate.store().write(move |tx| Box::pin(async move { queue::release(tx, id, now).await }));
    assert!(approve().await.unwrap());
    assert_eq!(node.end(held.id).await.state, RunState::Succeeded);
    assert!(!approve().await.unwrap());
}

async fn a_held_run_times_out_if_it_is_not_released(site: &Site) {
    let node = site.node(2).await;
    let until = landreeve_core::clock::from_micros(node.estate.now().as_microsecond() + 60_000_000);
    let held = node.submit(NewRun { hold_until: Some(until), ..query("") }).await;
    site.clock.seconds(60);
    node.estate.store().notices().tell(Notice::Held);
    let end = node.end(held.id).await;
    let error = end.error.unwrap();
    assert_eq!((end.state, error.code.as_str()), (RunState::TimedOut, "not_released"));
    assert_eq!(node.gate.begun(), []);
}

async fn a_delayed_run_joins_the_queue_on_time(site: &Site) {
    let node = site.node(2).await;
    let at = landreeve_core::clock::from_micros(node.estate.now().as_microsecond() + 60_000_000);
    let later = node.submit(NewRun { not_before: Some(at), ..query("") }).await;
    assert_eq!(later.state, RunState::Held);
    let past = node.submit(NewRun { not_before: Some(node.estate.now()), ..query("") }).await;
    assert_eq!(node.end(past.id).await.state, RunState::Succeeded, "its time is now");
    site.clock.seconds(60);
    node.estate.store().notices().tell(Notice::Held);
    assert_eq!(node.end(later.id).await.state, RunState::Succeeded);
}

async fn temporary_failures_are_retried(site: &Site) {
    let node = site.node(2).await;
    let run = node.submit(of(&RETRIED, "again")).await;
    for (attempt, pause) in [(1, 60), (2, 120)] {
        let held = node.until(run.id, |run| run.state == RunState::Held && run.attempt == attempt).await;
        assert!(held.progress_note.contains("the database is away"), "{}", held.progress_note);
        site.clock.seconds(pause - 1);
        node.estate.store().notices().tell(Notice::Held);
        let due = node.submit(query("")).await;
        node.end(due.id).await;
        assert_eq!(node.get(run.id).await.state, RunState::Held, "not before its pause is over");
        site.clock.seconds(1);
        node.estate.store().notices().tell(Notice::Held);
    }
    let end = node.end(run.id).await;
    assert_eq!((end.state, end.attempt), (RunState::Failed, 3));
    assert_eq!(end.error.unwrap().message, "the database is away");
}

async fn an_idempotency_key_belongs_to_a_kind_and_submitter(site: &Site) {
    let node = site.node(2).await;
    let keyed = |new: NewRun| NewRun { idempotency_key: Some("key".into()), ..new };
    let first = node.submit(keyed(query(""))).await;
    assert_eq!(node.submit(keyed(query(""))).await.id, first.id);
    let another = submit(&node.estate, &node.ctx, keyed(query("small"))).await.unwrap_err();
    assert_eq!((another.kind, another.code), (ErrorKind::Conflict, "idempotency_key"));
    let kind = node.submit(keyed(of(&HASTY, ""))).await;
    let stranger = caller(&node.estate, None, &[USE]).await;
    let theirs = submit(&node.estate, &stranger, keyed(query("small"))).await.unwrap();
    assert!(kind.id != first.id && theirs.id != first.id && kind.id != theirs.id);
    let events = "SELECT count(*) FROM audit_events WHERE action = 'submitted'";
    assert_eq!(number(&node.estate, events).await, 3, "one for each that was inserted");
}

async fn rows_of_a_plane_are_committed_with_the_run(site: &Site) {
    let node = site.node(2).await;
    exec(&node.estate, "CREATE TABLE parts (run BIGINT)", args![]).await;
    let with = |fails: bool| {
        submit_with(
            &node.estate,
            &node.ctx,
            NewRun { idempotency_key: Some("once".into()), ..query("") },
            Arc::new(move |tx, run| {
                Box::pin(async move {
                    tx.exec("INSERT INTO parts (run) VALUES ($1)", args![run.id]).await?;
                    if fails {
                        Err(landreeve_core::Error::conflict("no", "changed its mind"))
                    } else {
                        Ok(())
                    }
                })
            }),
        )
    };
    assert_eq!(with(true).await.unwrap_err().code, "no");
    assert_eq!(
        number(&node.estate, "SELECT (SELECT count(*) FROM runs) + (SELECT count(*) FROM parts)").await,
        0
    );
    let run = with(false).await.unwrap();
    assert_eq!(with(false).await.unwrap().id, run.id);
    assert_eq!(number(&node.estate, "SELECT count(*) FROM parts").await, 1);
    assert_eq!(node.end(run.id).await.state, RunState::Succeeded);
}

async fn a_run_executes_with_the_submitters_current_permissions(site: &Site) {
    let node = site.node(1).await;
    let ctx = caller(&node.estate, None, &[USE]).await;
    let who = submit(&node.estate, &ctx, query("who")).await.unwrap();
    assert_eq!(node.end(who.id).await.output.as_deref(), Some("key true"));
    let held = node.submit(query("wait")).await;
    node.gate.until_begun(2).await;
    let waits = submit(&node.estate, &ctx, query("who")).await.unwrap();
    let key = landreeve_core::ids::KeyId(ctx.actor().id().unwrap());
    exec(&node.estate, "DELETE FROM grants WHERE subject_kind = 'key' AND subject_id = $1", args![key]).await;
    key_set_enabled(&node.estate, &node.ctx, key, true).await.unwrap();
    node.gate.open(1);
    node.end(held.id).await;
    let end = node.end(waits.id).await;
    assert_eq!(
        end.output.as_deref(),
        Some("key false"),
        "as it was when the run started, not when it was submitted"
    );
    key_set_enabled(&node.estate, &node.ctx, key, false).await.unwrap();
    let refused = submit(&node.estate, &ctx, query("who")).await.unwrap();
    let end = node.end(refused.id).await;
    let error = end.error.unwrap();
    assert_eq!(
        (end.state, error.kind, error.code.as_str()),
        (RunState::Failed, ErrorKind::Forbidden, "submitter_refused")
    );
    assert!(error.message.contains("disabled"), "{}", error.message);
    let begun = node.gate.begun().len();
    let user = NewUser {
        name: "mara".into(),
        email: "mara@example.com".into(),
        full_name: "Mara Hopp".into(),
        password: Some(Secret::new("correct horse")),
        grants: vec![NewGrant::Permission(USE, GrantTarget::Subtree(landreeve_core::ids::OuId::ROOT))],
    };
    let user = user_create(&node.estate, &node.ctx, user).await.unwrap();
    let origin = crate::support::origin();
    let ctx = landreeve_estate::ops::sign_in::by_password(
        &node.estate,
        "mara",
        Secret::new("correct horse"),
        None,
        origin,
    )
    .await
    .unwrap();
    let who = submit(&node.estate, &ctx, query("who")).await.unwrap();
    assert_eq!(node.end(who.id).await.output.as_deref(), Some("mara true"));
    exec(&node.estate, "UPDATE users SET enabled = 0 WHERE id = $1", args![user.id]).await;
    key_set_enabled(&node.estate, &node.ctx, key, false).await.unwrap();
    let refused = submit(&node.estate, &ctx, query("who")).await.unwrap();
    let error = node.end(refused.id).await.error.unwrap();
    assert_eq!(error.code, "submitter_refused");
    assert_eq!(node.gate.begun().len(), begun + 1, "nothing started without authority");
}

async fn a_log_can_be_followed_and_survives_a_failure(site: &Site) {
    let node = site.node(2).await;
    let silent = node.submit(query("")).await;
    node.end(silent.id).await;
    assert_eq!(
        number(&node.estate, "SELECT count(*) FROM run_logs").await,
        0,
        "one without lines costs nothing"
    );
    let run = node.submit(NewRun { keep_record: Duration::from_secs(60), ..query("log") }).await;
    assert_eq!(node.end(run.id).await.state, RunState::Failed);
    let mut conn = node.estate.store().read().await.unwrap();
    let (lines, place) = log::read(&mut conn, run.id, 0, 10).await.unwrap();
    let texts: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["line 0", "line 1", "line 2"]);
    assert_eq!(log::read(&mut conn, run.id, place, 10).await.unwrap(), (Vec::new(), place));
    drop(conn);
    site.clock.seconds(60);
    node.purge().await;
    assert_eq!(number(&node.estate, "SELECT count(*) FROM run_logs").await, 0, "it is deleted with its run");
}

async fn a_log_ends_at_its_limit(site: &Site) {
    let node = site.node(2).await;
    let run = node.submit(query("flood")).await;
    assert_eq!(node.end(run.id).await.state, RunState::Succeeded);
    let (mut place, mut size, mut last) = (0, 0, String::new());
    loop {
        let (lines, next) = run_log(&node.estate, &node.ctx, RunRef::Id(run.id), &[], place).await.unwrap();
        if next == place {
            break;
        }
        place = next;
        size += lines.iter().map(|line| line.text.len()).sum::<usize>();
        last = lines.last().unwrap().text.clone();
    }
    assert!(size <= MAX_BYTES && size > MAX_BYTES / 2, "{size}");
    assert!(last.starts_with("the log is full"), "{last}");
}
