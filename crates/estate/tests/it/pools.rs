//! Workers in pools: long runs do not delay short ones, and no submitter takes all workers.

use std::time::Duration;

use landreeve_core::{Action, ErrorKind, Noun, OpCtx, Permission, RunState};
use landreeve_estate::EstateOptions;
use landreeve_estate::budget::Budget;
use landreeve_estate::ops::runs::submit;
use landreeve_estate::runs::{NewRun, RunOptions};

use crate::keys::unit;
use crate::support::{HASTY, LONG, Node, Site, caller, number, of, query};

conformance![
    long_runs_do_not_delay_short_ones,
    no_submitter_takes_a_whole_pool,
    no_datasource_takes_a_whole_pool,
    no_unit_takes_a_whole_pool,
    runs_claimed_together_respect_shares,
    a_small_pool_serves_submitters_in_turn,
    submitters_take_turns_on_a_busy_datasource,
    the_waiting_runs_of_a_submitter_are_limited,
    a_run_without_memory_stays_queued,
    a_hundred_parents_finish_on_two_workers,
    a_command_executes_children_and_nothing_else,
];

const USE: Permission = Permission::new(Noun::RUN, Action::USE);

async fn submits(node: &Node, ctx: &OpCtx, count: usize, new: NewRun) -> Vec<landreeve_estate::ops::Run> {
    let mut runs = Vec::new();
    for _ in 0..count {
        runs.push(submit(&node.estate, ctx, new.clone()).await.unwrap());
    }
    runs
}

/// How many runs of a submitter execute. Every run that can start has been claimed once a later run has ended.
async fn executing(node: &Node, ctx: &OpCtx) -> i64 {
    let id = ctx.actor().id().unwrap();
    let rows = crate::support::rows(
        &node.estate,
        "SELECT count(*) FROM runs WHERE submitter = $1 AND occupies = 1",
        landreeve_estate::args![format!("key:{id}")],
    );
    rows.await[0].int(0).unwrap()
}

async fn long_runs_do_not_delay_short_ones(site: &Site) {
    let node = site.node(1).await;
    for _ in 0..6 {
        node.submit(of(&LONG, "wait")).await;
    }
    node.gate.until_begun(4).await;
    let short = node.submit(query("")).await;
    assert_eq!(node.end(short.id).await.state, RunState::Succeeded);
    let waiting = "SELECT count(*) FROM runs WHERE kind = 'long' AND state = 'queued'";
    assert_eq!(number(&node.estate, waiting).await, 2, "beyond the workers of their own pool");
    node.gate.open(6);
    node.until_number("SELECT count(*) FROM runs WHERE state = 'succeeded'", 7).await;
}

async fn no_submitter_takes_a_whole_pool(site: &Site) {
    let node = site.node(8).await;
    let greedy = caller(&node.estate, None, &[USE]).await;
    submits(&node, &greedy, 20, query("wait")).await;
    node.gate.until_begun(6).await;
    let other = caller(&node.estate, None, &[USE]).await;
    let run = submit(&node.estate, &other, query("")).await.unwrap();
    assert_eq!(node.end(run.id).await.state, RunState::Succeeded);
    assert_eq!(executing(&node, &greedy).await, 6, "three quarters of eight");
    // The operator has no share, so both remaining workers are available to it.
    let first = node.submit(query("wait")).await;
    let second = node.submit(query("wait")).await;
    node.gate.until_begun(9).await;
    let waits = submit(&node.estate, &other, query("")).await.unwrap();
    assert_eq!(waits.state, RunState::Queued);
    node.gate.open(22);
    for run in [&first, &second, &waits] {
        assert_eq!(node.end(run.id).await.state, RunState::Succeeded);
    }
    node.until_number("SELECT count(*) FROM runs WHERE state = 'succeeded'", 24).await;
}

async fn no_datasource_takes_a_whole_pool(site: &Site) {
    let node = site.node(4).await;
    let on = |id| NewRun { noun: Some((Noun::DATASOURCE, id)), ..query("wait") };
    for _ in 0..4 {
        let ctx = caller(&node.estate, None, &[USE]).await;
        submit(&node.estate, &ctx, on(7)).await.unwrap();
    }
    node.gate.until_begun(3).await;
    let ctx = caller(&node.estate, None, &[USE]).await;
    let other = submit(&node.estate, &ctx, on(8)).await.unwrap();
    node.gate.until_begun(4).await;
    assert!(!node.get(other.id).await.state.is_final());
    assert_eq!(number(&node.estate, "SELECT count(*) FROM runs WHERE noun_id = 7 AND occupies = 1").await, 3);
    node.gate.open(5);
    node.until_number("SELECT count(*) FROM runs WHERE state = 'succeeded'", 5).await;
}

async fn no_unit_takes_a_whole_pool(site: &Site) {
    let left = unit(&site.open().await, None, "left").await;
    let node = site.node(4).await;
    for _ in 0..4 {
        let ctx = caller(&node.estate, Some(left.uuid), &[USE]).await;
        submit(&node.estate, &ctx, NewRun { ou: left.id, ..query("wait") }).await.unwrap();
    }
    node.gate.until_begun(3).await;
    let ctx = caller(&node.estate, None, &[USE]).await;
    let other = submit(&node.estate, &ctx, query("")).await.unwrap();
    assert_eq!(node.end(other.id).await.state, RunState::Succeeded);
    let of_unit = "SELECT count(*) FROM runs WHERE ou_id <> 1 AND occupies = 1";
    assert_eq!(number(&node.estate, of_unit).await, 3);
    node.gate.open(4);
    node.until_number("SELECT count(*) FROM runs WHERE state = 'succeeded'", 5).await;
}

/// When several workers become free together, their runs are claimed in one transaction.
async fn runs_claimed_together_respect_shares(site: &Site) {
    let node = site.node(8).await;
    for _ in 0..8 {
        node.submit(query("wait")).await;
    }
    node.gate.until_begun(8).await;
    let (greedy, other) =
        (caller(&node.estate, None, &[USE]).await, caller(&node.estate, None, &[USE]).await);
    submits(&node, &greedy, 10, query("wait")).await;
    submits(&node, &other, 1, query("wait")).await;
    node.gate.open(8);
    node.gate.until_begun(15).await;
    assert_eq!((executing(&node, &greedy).await, executing(&node, &other).await), (6, 1));
    node.gate.open(11);
    node.until_number("SELECT count(*) FROM runs WHERE state = 'succeeded'", 19).await;
}

async fn a_small_pool_serves_submitters_in_turn(site: &Site) {
    let node = site.node(1).await;
    let held = node.submit(query("wait")).await;
    node.gate.until_begun(1).await;
    let (first, second) =
        (caller(&node.estate, None, &[USE]).await, caller(&node.estate, None, &[USE]).await);
    let many = submits(&node, &first, 4, query("")).await;
    let few = submits(&node, &second, 2, query("")).await;
    node.gate.open(1);
    node.end(held.id).await;
    for run in many.iter().chain(&few) {
        node.end(run.id).await;
    }
    let order: Vec<_> = node.gate.begun()[1..].to_vec();
    let expected = [many[0].id, few[0].id, many[1].id, few[1].id, many[2].id, many[3].id].to_vec();
    assert_eq!(order, expected, "the submitter that has waited longest is next");
}

/// One submitter has all workers that the datasource may use, and a backlog; another one is next, not last.
async fn submitters_take_turns_on_a_busy_datasource(site: &Site) {
    let node = site.node(8).await;
    let on_source = |input: &str| NewRun { noun: Some((Noun::DATASOURCE, 7)), ..query(input) };
    let greedy = caller(&node.estate, None, &[USE]).await;
    submits(&node, &greedy, 30, on_source("wait")).await;
    node.gate.until_begun(6).await;
    let other = caller(&node.estate, None, &[USE]).await;
    let waits = submit(&node.estate, &other, on_source("")).await.unwrap();
    assert_eq!(waits.state, RunState::Queued);
    node.gate.open(1);
    assert_eq!(node.end(waits.id).await.state, RunState::Succeeded);
    let ended = number(&node.estate, "SELECT count(*) FROM runs WHERE state = 'succeeded'").await;
    assert_eq!(ended, 2, "after one run of the other's backlog");
}

async fn the_waiting_runs_of_a_submitter_are_limited(site: &Site) {
    let options = RunOptions { short: 1, max_waiting: 3, ..RunOptions::default() };
    let node = site.node_with(EstateOptions { runs: options, ..site.options() }).await;
    let ctx = caller(&node.estate, None, &[USE]).await;
    let parent = submit(&node.estate, &ctx, query("wait")).await.unwrap();
    node.gate.until_begun(1).await;
    let waiting = submits(&node, &ctx, 3, query("")).await;
    let error = submit(&node.estate, &ctx, query("")).await.unwrap_err();
    assert_eq!((error.kind, error.retry_after.is_some()), (ErrorKind::RateLimited, true));
    assert!(error.message.contains("max_waiting"), "{error}");
    // Runs submitted by parents do not count, and other submitters have their own limit.
    let child = NewRun { parent: Some(parent.id), ..query("") };
    let child = submit(&node.estate, &ctx, child).await.unwrap();
    let other = caller(&node.estate, None, &[USE]).await;
    let beside = submit(&node.estate, &other, query("")).await.unwrap();
    node.gate.open(1);
    for run in waiting.iter().chain([&child, &beside]) {
        assert_eq!(node.end(run.id).await.state, RunState::Succeeded);
    }
    submit(&node.estate, &ctx, query("")).await.unwrap();
}

/// There is memory for two statements, one of which a request uses.
async fn a_run_without_memory_stays_queued(site: &Site) {
    let memory = Budget::new(2_097_152, 1_048_576).waiting_at_most(Duration::ZERO);
    let options = RunOptions { memory: memory.clone(), ..RunOptions::default() };
    let node = site.node_with(EstateOptions { runs: options, ..site.options() }).await;
    let request = memory.for_statement().await.unwrap();
    let first = node.submit(query("wait")).await;
    node.gate.until_begun(1).await;
    let refused = memory.for_statement().await.unwrap_err();
    assert_eq!((refused.kind, refused.code), (ErrorKind::Unavailable, "memory"));
    let waits = node.submit(query("")).await;
    assert_eq!(waits.state, RunState::Queued);
    // A kind of another pool needs none.
    let long = node.submit(of(&LONG, "")).await;
    assert_eq!(long.state, RunState::Starting);
    assert_eq!(node.get(waits.id).await.state, RunState::Queued);
    drop(request);
    assert_eq!(node.end(waits.id).await.state, RunState::Succeeded);
    node.gate.open(2);
    for run in [first, long] {
        assert_eq!(node.end(run.id).await.state, RunState::Succeeded);
    }
    assert!(memory.for_statement().await.is_ok());
}

async fn a_hundred_parents_finish_on_two_workers(site: &Site) {
    let node = site.node(2).await;
    for _ in 0..100 {
        node.submit(query("parent")).await;
    }
    node.until_number("SELECT count(*) FROM runs WHERE state = 'succeeded'", 400).await;
    assert_eq!(number(&node.estate, "SELECT count(*) FROM runs WHERE parent_id IS NOT NULL").await, 300);
}

async fn a_command_executes_children_and_nothing_else(site: &Site) {
    // A run that waits for a server.
    let before = site.open().await;
    let operator = landreeve_estate::ops::sign_in::operator(&before);
    let waits = submit(&before, &operator, query("")).await.unwrap();
    let command = site.command(2).await;
    let parent = command.submit(query("parent")).await;
    assert_eq!(parent.state, RunState::Starting, "it does not wait behind the runs of others");
    assert_eq!(command.end(parent.id).await.state, RunState::Succeeded);
    assert_eq!(number(&command.estate, "SELECT count(*) FROM runs WHERE parent_id IS NOT NULL").await, 3);
    assert_eq!(command.get(waits.id).await.state, RunState::Queued);
    let hasty = command.submit(of(&HASTY, "")).await;
    assert_eq!(command.end(hasty.id).await.state, RunState::Succeeded);
}
