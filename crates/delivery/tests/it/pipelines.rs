//! Pipeline runs: five notifications are merged into the same record in each of their 120 orders.

use jiff::Timestamp;
use landreeve_delivery::pipelines::{PipelineFacts, pipeline_upsert};

use crate::support::{World, own, sha, time};

conformance![
    every_order_gives_the_same_record,
    unknown_statuses_are_kept,
    dependent_fields_require_each_other
];

fn told(reference: &str, at: Timestamp, status: Option<&str>) -> PipelineFacts {
    PipelineFacts {
        name: "build".to_owned(),
        source: "Jenkins".to_owned(),
        reference: reference.to_owned(),
        started_at: at,
        status: status.map(str::to_owned),
        finished_at: None,
        repository: None,
        commit_sha: None,
        pr_number: None,
        source_url: None,
        head_branch: None,
        email: None,
        github_username: None,
        gitlab_username: None,
    }
}

fn permutations(items: &[usize]) -> Vec<Vec<usize>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let with_first = |at: usize| {
        let rest: Vec<usize> = items.iter().copied().filter(|item| *item != items[at]).collect();
        permutations(&rest).into_iter().map(move |rest| [vec![items[at]], rest].concat())
    };
    (0..items.len()).flat_map(with_first).collect()
}

async fn every_order_gives_the_same_record(world: &World) {
    let at = |clock: &str| time(&format!("2026-01-02T{clock}Z"));
    let five = [
        ("11:25:18", "running", None),
        ("11:25:21", "success", None),
        ("11:24:40", "failure", None),
        ("11:25:21", "running", None),
        ("11:26:07", "success", Some(at("11:26:30"))),
    ];
    let orders = permutations(&[0, 1, 2, 3, 4]);
    assert_eq!(orders.len(), 120);
    for (number, order) in orders.iter().enumerate() {
        for (clock, status, finished_at) in order.iter().map(|place| five[*place]) {
            let facts =
                PipelineFacts { finished_at, ..told(&format!("run {number}"), at(clock), Some(status)) };
            pipeline_upsert(&world.plane, &world.ctx, facts.into()).await.unwrap();
        }
    }
    let folded = world
        .sql("SELECT status, started_at, finished_at, duration, count(*) FROM pipeline_runs GROUP BY 1, 2, 3, 4")
        .await;
    assert_eq!(folded, [["failure", "2026-01-02T11:24:40Z", "2026-01-02T11:26:30Z", "110", "120"]]);
}

async fn unknown_statuses_are_kept(world: &World) {
    let at = time("2026-01-02T00:00:00Z");
    let fold = async |reference: &str, words: &[Option<&str>]| {
        for word in words {
            pipeline_upsert(&world.plane, &world.ctx, told(reference, at, *word).into()).await.unwrap();
        }
        let sql = format!("SELECT status FROM pipeline_runs WHERE reference_id = '{reference}'");
        world.sql(&sql).await.remove(0).remove(0)
    };
    assert_eq!(fold("silent", &[None]).await, "unknown");
    assert_eq!(fold("odd", &[Some("running"), Some("Half_Baked")]).await, "half_baked");
    assert_eq!(fold("jenkins", &[Some("success"), Some("UNSTABLE"), Some("success")]).await, "unstable");
    assert_eq!(fold("aborted", &[Some("aborted"), Some("success")]).await, "aborted");
    assert_eq!(fold("known", &[Some("running"), None, Some("unknown")]).await, "running");
    // The same reference from another source is another run.
    let other = PipelineFacts { source: "Tekton".to_owned(), ..told("odd", at, Some("success")) };
    pipeline_upsert(&world.plane, &world.ctx, other.into()).await.unwrap();
    let rows = world
        .sql("SELECT pipeline_source, status FROM pipeline_runs WHERE reference_id = 'odd' ORDER BY 1")
        .await;
    assert_eq!(rows, [["Jenkins", "half_baked"], ["Tekton", "success"]]);
}

async fn dependent_fields_require_each_other(world: &World) {
    let at = time("2026-01-02T00:00:00Z");
    let facts = PipelineFacts { commit_sha: own(&sha(1)), pr_number: Some(0), ..told("r", at, None) };
    let error = pipeline_upsert(&world.plane, &world.ctx, facts.into()).await.unwrap_err();
    let fields: Vec<_> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["repository", "repository", "pr_number"]);
    assert_eq!(world.number("SELECT count(*) FROM delivery_pipeline_runs").await, 0);
    let pull = world.pull("acme/shop", 7, at, crate::support::merged(3, at)).await.unwrap();
    for (reference, commit, number) in [("by number", None, Some(7)), ("by commit", own(&sha(3)), None)] {
        let facts = PipelineFacts {
            repository: own("acme/shop"),
            commit_sha: commit,
            pr_number: number,
            ..told(reference, at, None)
        };
        pipeline_upsert(&world.plane, &world.ctx, facts.into()).await.unwrap();
        // What a later notification leaves out is kept.
        pipeline_upsert(&world.plane, &world.ctx, told(reference, at, Some("success")).into()).await.unwrap();
    }
    let rows = world.sql("SELECT pull_id, repository FROM pipeline_runs").await;
    assert_eq!(rows, vec![vec![pull.to_string(), "acme/shop".to_owned()]; 2]);
}
