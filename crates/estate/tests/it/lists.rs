//! Lists of runs, compared with a plain filter over all of them.

use landreeve_core::ids::{OuId, RunId};
use landreeve_core::{Action, Noun, Page, Permission, RunState, clock};
use landreeve_estate::args;
use landreeve_estate::ops::runs::{run_list, run_list_after, submit};
use landreeve_estate::ops::{FamilyFilter, Range, Run, RunFilter, RunOrder};
use landreeve_estate::runs::NewRun;
use landreeve_estate::runs::list::After;

use crate::keys::unit;
use crate::support::{HASTY, LONG, Node, QUERY, Site, caller, exec, get_run, of, rows};

conformance![
    every_filter_returns_the_matching_runs,
    pages_follow_one_another,
    a_caller_sees_only_permitted_units,
];

/// Runs of every sort, none of which is executed: their states are set directly.
async fn filled(site: &Site) -> (Node, Vec<Run>) {
    let node = site.node(0).await;
    let left = unit(&node.estate, None, "left").await;
    let below = unit(&node.estate, Some(&left), "below").await;
    let ctx = caller(&node.estate, None, &[Permission::new(Noun::RUN, Action::USE)]).await;
    let mut ids = Vec::new();
    for index in 0..60_i64 {
        let kind = [&QUERY, &LONG, &HASTY][(index % 3) as usize];
        let ou = [OuId::ROOT, left.id, below.id][(index % 5 % 3) as usize];
        let noun = (index % 4 == 0).then_some((Noun::DATASOURCE, index % 8));
        let parent = (index % 7 == 6).then(|| ids[0]);
        let new = NewRun { ou, noun, parent, ..of(kind, "") };
        let who = if index % 2 == 0 { &node.ctx } else { &ctx };
        ids.push(submit(&node.estate, who, new).await.unwrap().id);
        site.clock.seconds(10);
    }
    // From here on no background work changes a run.
    node.estate.runs().stop(std::time::Duration::ZERO).await;
    let states = ["queued", "succeeded", "failed", "cancelled", "running"];
    for (index, id) in ids.iter().enumerate().skip(1) {
        let state = states[index % states.len()];
        let ended = i64::from(RunState::parse(state).unwrap().is_final());
        exec(
            &node.estate,
            "UPDATE runs SET state = $2, finished_at = CASE WHEN $3 = 1 THEN submitted_at + 5000000 - 13 * (id % 3) ELSE NULL END, \
             error_message = CASE WHEN $2 = 'failed' THEN '100% of a_Disk is FULL' ELSE NULL END WHERE id = $1",
            args![*id, state, ended],
        )
        .await;
    }
    // Ids come in blocks: a run can have a larger id than one that was submitted after it.
    let (one, other) = (ids[40], ids[41]);
    let (first, second) = (get_run(&node.estate, one).await, get_run(&node.estate, other).await);
    let sql = "UPDATE runs SET submitted_at = $2 WHERE id = $1";
    exec(&node.estate, sql, args![one, second.submitted_at]).await;
    exec(&node.estate, sql, args![other, first.submitted_at]).await;
    let mut runs = Vec::new();
    for id in ids {
        runs.push(get_run(&node.estate, id).await);
    }
    (node, runs)
}

type Keeps = Box<dyn Fn(&Run) -> bool>;

fn filters(runs: &[Run]) -> Vec<(RunFilter, Keeps)> {
    let none = RunFilter::default;
    let (from, to) = (runs[10].submitted_at, runs[30].submitted_at);
    let (first, beside) = (runs[0].id, runs[1].submitter());
    let left = runs[1].ou;
    let ended = clock::from_micros(runs[20].submitted_at.as_microsecond());
    vec![
        (none(), Box::new(|_| true)),
        (RunFilter { kinds: vec![LONG.kind], ..none() }, Box::new(|run| run.kind == LONG.kind)),
        (RunFilter { kinds: vec![LONG.kind, HASTY.kind], ..none() }, Box::new(|run| run.kind != QUERY.kind)),
        (
            RunFilter { states: vec![RunState::Failed, RunState::Running], ..none() },
            Box::new(|run| matches!(run.state, RunState::Failed | RunState::Running)),
        ),
        (RunFilter { states: vec![RunState::Lost], ..none() }, Box::new(|_| false)),
        (RunFilter { family: Some(FamilyFilter::TopLevel), ..none() }, Box::new(|run| run.parent.is_none())),
        (
            RunFilter { family: Some(FamilyFilter::ChildrenOf(first)), ..none() },
            Box::new(move |run| run.parent == Some(first)),
        ),
        (
            RunFilter { submitter: Some(beside.clone()), ..none() },
            Box::new(move |run| run.submitter() == beside),
        ),
        (RunFilter { noun: Some(("datasource".into(), None)), ..none() }, Box::new(|run| run.noun.is_some())),
        (
            RunFilter { noun: Some(("datasource".into(), Some(4))), ..none() },
            Box::new(|run| run.noun_id() == Some(4)),
        ),
        (RunFilter { ou: Some(left), ..none() }, Box::new(move |run| run.ou == left)),
        (RunFilter { ou: Some(OuId(999)), ..none() }, Box::new(|_| false)),
        (
            RunFilter { submitted: Range::new(Some(from), Some(to)), ..none() },
            Box::new(move |run| run.submitted_at >= from && run.submitted_at < to),
        ),
        (
            RunFilter { finished: Range::new(Some(ended), None), ..none() },
            Box::new(move |run| run.finished_at.is_some_and(|at| at >= ended)),
        ),
        (RunFilter { text: Some("A_disk".into()), ..none() }, Box::new(|run| run.error.is_some())),
        (RunFilter { text: Some("100%".into()), ..none() }, Box::new(|run| run.error.is_some())),
        (RunFilter { text: Some("100_".into()), ..none() }, Box::new(|_| false)),
        (
            RunFilter { kinds: vec![QUERY.kind], submitted: Range::new(None, Some(to)), ..none() },
            Box::new(move |run| run.kind == QUERY.kind && run.submitted_at < to),
        ),
    ]
}

/// The runs that a filter matches, in the requested order.
fn model(runs: &[Run], filter: &RunFilter, keeps: &Keeps) -> Vec<RunId> {
    let mut kept: Vec<&Run> = runs.iter().filter(|run| keeps(run)).collect();
    if filter.order == RunOrder::LastFinished {
        kept.retain(|run| run.finished_at.is_some());
    }
    let by_end = filter.order == RunOrder::LastFinished || filter.finished != Range::default();
    kept.sort_by_key(|run| if by_end { (run.finished_at, run.id) } else { (Some(run.submitted_at), run.id) });
    if filter.order != RunOrder::Oldest {
        kept.reverse();
    }
    kept.iter().map(|run| run.id).collect()
}

async fn every_filter_returns_the_matching_runs(site: &Site) {
    let (node, runs) = filled(site).await;
    for order in [RunOrder::Newest, RunOrder::Oldest, RunOrder::LastFinished] {
        for (filter, keeps) in filters(&runs) {
            let filter = RunFilter { order, ..filter };
            let wanted = model(&runs, &filter, &keeps);
            let page = run_list(&node.estate, &node.ctx, &filter, Page::first(100)).await.unwrap();
            let found: Vec<RunId> = page.items.iter().map(|run| run.id).collect();
            assert_eq!(found, wanted, "{filter:?}");
            assert_eq!(page.total, wanted.len() as u64, "{filter:?}");
            let part = Page { offset: 3, limit: 4 };
            let page = run_list(&node.estate, &node.ctx, &filter, part).await.unwrap();
            let found: Vec<RunId> = page.items.iter().map(|run| run.id).collect();
            let part: Vec<RunId> = wanted.iter().skip(3).take(4).copied().collect();
            assert_eq!((found, page.total), (part, wanted.len() as u64), "{filter:?}");
        }
    }
}

async fn pages_follow_one_another(site: &Site) {
    let (node, runs) = filled(site).await;
    for order in [RunOrder::Newest, RunOrder::Oldest, RunOrder::LastFinished] {
        for (filter, keeps) in filters(&runs) {
            let filter = RunFilter { order, ..filter };
            let by_end = order == RunOrder::LastFinished || filter.finished != Range::default();
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = run_list_after(&node.estate, &node.ctx, &filter, after, 7).await.unwrap();
                let Some(last) = page.last() else { break };
                let at = if by_end { last.finished_at.unwrap() } else { last.submitted_at };
                after = Some(After { id: last.id, at });
                found.extend(page.iter().map(|run| run.id));
            }
            assert_eq!(found, model(&runs, &filter, &keeps), "{filter:?}");
        }
    }
}

async fn a_caller_sees_only_permitted_units(site: &Site) {
    let (node, runs) = filled(site).await;
    let units = rows(&node.estate, "SELECT uuid FROM ous ORDER BY id", args![]).await;
    let left = units[1].uuid(0).unwrap();
    let view = Permission::new(Noun::RUN, Action::VIEW);
    let inside = caller(&node.estate, Some(left), &[view]).await;
    let filter = RunFilter::default();
    let page = run_list(&node.estate, &inside, &filter, Page::first(100)).await.unwrap();
    let found: Vec<RunId> = page.items.iter().map(|run| run.id).collect();
    let wanted = model(&runs, &filter, &(Box::new(|run: &Run| run.ou != OuId::ROOT) as Keeps));
    assert_eq!((found, page.total), (wanted.clone(), wanted.len() as u64));
    let outside = RunFilter { ou: Some(OuId::ROOT), ..filter };
    assert_eq!(run_list(&node.estate, &inside, &outside, Page::first(9)).await.unwrap().total, 0);
}
