//! Attribution as documented: gaps are filled, changes may come later than their deployment, pull requests may belong to
//! some services only, and a deployment says what it matched or why nothing.

use landreeve_core::ids::OuId;
use landreeve_core::{RunKind, RunState};
use landreeve_delivery::changes::{PullFacts, PullRef, pull_services_set};
use landreeve_delivery::deployments::{DeploymentFacts, deployment_info, deployment_update};
use landreeve_delivery::repos::{RepoFacts, repo_upsert};
use landreeve_estate::args;

use crate::support::{DAY, World, deployed, deployed_at, merged, minute, own, service, set, sha};

conformance![
    gaps_are_filled,
    gaps_are_filled_by_deployments_that_come_in_another_order,
    a_pull_request_may_come_within_three_days,
    a_pull_request_that_comes_after_three_days_is_too_late,
    a_restart_looks_again,
    an_update_begins_three_days_anew,
    a_deployment_says_why_it_brought_nothing,
    services_of_a_pull_request_may_be_told_at_any_time,
    services_are_added_and_replaced,
    a_squash_merge_swallows_its_commits,
    services_and_environments_do_not_share_changes,
    integration_branches_are_lines_of_their_own,
    another_default_branch_attributes_anew,
    a_deployment_takes_from_a_later_one_and_gives_back,
];

const SHOP: &str = "acme/shop";
const TWO: std::time::Duration = std::time::Duration::from_secs(2 * 86_400);

fn whole() -> DeploymentFacts {
    DeploymentFacts { repository: own(SHOP), ..deployed("web", minute(100)) }
}

/// A to E, merged in this order as pull requests 1 to 5.
async fn five(world: &World) {
    for number in 1..=5 {
        let at = minute(i64::from(number));
        world.pull(SHOP, i64::from(number), minute(0), merged(number, at)).await.unwrap();
    }
}

async fn gaps_are_filled(world: &World) {
    five(world).await;
    world.deploy("at B", deployed_at("web", minute(10), &sha(2))).await.unwrap();
    world.deploy("at E", deployed_at("web", minute(20), &sha(5)[..7])).await.unwrap();
    assert_eq!(world.brought("at B").await, set(["#1", "#2"]));
    assert_eq!(world.brought("at E").await, set(["#3", "#4", "#5"]));
    assert_eq!(
        world.explained("at E").await,
        format!(
            "3 changes on the default branch up to the commit {} that were not deployed before.",
            &sha(5)[..7]
        )
    );
    // Once more the same commit: nothing is left.
    world.deploy("at E again", deployed_at("web", minute(30), &sha(5))).await.unwrap();
    assert_eq!(world.brought("at E again").await, set([]));
    assert!(world.explained("at E again").await.ends_with("was deployed before."));
}

async fn gaps_are_filled_by_deployments_that_come_in_another_order(world: &World) {
    world.deploy("at E", deployed_at("web", minute(20), &sha(5))).await.unwrap();
    five(world).await;
    assert_eq!(world.brought("at E").await, set(["#1", "#2", "#3", "#4", "#5"]));
    world.deploy("at B", deployed_at("web", minute(10), &sha(2))).await.unwrap();
    assert_eq!(world.brought("at B").await, set(["#1", "#2"]));
    assert_eq!(world.brought("at E").await, set(["#3", "#4", "#5"]));
}

async fn a_pull_request_may_come_within_three_days(world: &World) {
    world.deploy("by commit", deployed_at("web", minute(10), &sha(1))).await.unwrap();
    world.deploy("by list", list(&[&sha(2)])).await.unwrap();
    world.deploy("whole", DeploymentFacts { service: Some(service("job")), ..whole() }).await.unwrap();
    for reference in ["by commit", "by list", "whole"] {
        let info = deployment_info(&world.plane, &world.ctx, reference).await.unwrap();
        assert_eq!((info.attributed_at, info.change_count), (None, 0), "{reference}");
        assert!(
            info.attribution
                .ends_with("It is looked for again for three days after the deployment was recorded.")
        );
    }
    world.kit.clock.advance(TWO);
    world.pull(SHOP, 1, minute(0), merged(1, minute(1))).await.unwrap();
    world.pull(SHOP, 2, minute(0), merged(2, minute(200))).await.unwrap();
    assert_eq!(world.brought("by commit").await, set(["#1"]));
    assert_eq!(world.brought("by list").await, set(["#2"]));
    assert_eq!(world.brought("whole").await, set(["#1"]));
    let info = deployment_info(&world.plane, &world.ctx, "by commit").await.unwrap();
    assert_eq!(info.attributed_at, Some(world.kit.estate.now()));
}

/// A deployment of these commits, whose repository nobody tells.
fn list(shas: &[&str]) -> DeploymentFacts {
    let listed = shas.iter().map(|sha| (*sha).to_owned()).collect();
    DeploymentFacts { merge_commit_shas: Some(listed), ..deployed("lists", minute(10)) }
}

async fn a_pull_request_that_comes_after_three_days_is_too_late(world: &World) {
    world.deploy("by commit", deployed_at("web", minute(10), &sha(1))).await.unwrap();
    world.deploy("by list", list(&[&sha(1)])).await.unwrap();
    world.deploy("whole", DeploymentFacts { service: Some(service("job")), ..whole() }).await.unwrap();
    world.kit.clock.advance(3 * DAY);
    world.pull(SHOP, 1, minute(0), merged(1, minute(1))).await.unwrap();
    for reference in ["by commit", "by list", "whole"] {
        assert_eq!(world.brought(reference).await, set([]), "{reference}");
        let why = world.explained(reference).await;
        assert!(why.contains("Three days have passed"), "{reference}: {why}");
    }
    // What is deployed from now on is not held up by those.
    world.deploy("next", deployed_at("web", minute(300), &sha(1))).await.unwrap();
    assert_eq!(world.brought("next").await, set(["#1"]));
}

async fn a_restart_looks_again(world: &World) {
    world.deploy("whole", whole()).await.unwrap();
    // As if another node had written the pull request without seeing the deployment.
    world.pull(SHOP, 1, minute(0), merged(1, minute(1))).await.unwrap();
    let forget = world.kit.estate.store().write(|tx| {
        Box::pin(async move {
            tx.exec("DELETE FROM delivery_change_deployments", args![]).await?;
            tx.exec("UPDATE delivery_deployments SET attributed_at = NULL", args![]).await
        })
    });
    forget.await.unwrap();
    world.kit.clock.advance(TWO);
    let restarted = world.kit.delivery();
    world.kit.start_delivery(&restarted).await;
    let run = world.kit.run_of(RunKind::Attribution, OuId::ROOT).await;
    assert_eq!(world.kit.ended(&run).await.state, RunState::Succeeded);
    assert_eq!(world.brought("whole").await, set(["#1"]));
}

async fn an_update_begins_three_days_anew(world: &World) {
    world.deploy("late", deployed_at("web", minute(10), &sha(1))).await.unwrap();
    world.kit.clock.advance(3 * DAY);
    world.pull(SHOP, 1, minute(0), merged(1, minute(1))).await.unwrap();
    assert_eq!(world.brought("late").await, set([]));
    let facts = DeploymentFacts { source_name: own("again"), ..DeploymentFacts::default() };
    deployment_update(&world.plane, &world.ctx, "late".to_owned(), facts).await.unwrap();
    assert_eq!(world.brought("late").await, set(["#1"]));
}

async fn a_deployment_says_why_it_brought_nothing(world: &World) {
    world.deploy("failed", DeploymentFacts { success: Some(false), ..whole() }).await.unwrap();
    world.deploy("nameless", deployed("web", minute(1))).await.unwrap();
    world.deploy("unknown", deployed_at("web", minute(1), "abcdef1")).await.unwrap();
    world.deploy("list", list(&["abcdef1"])).await.unwrap();
    world.deploy("empty", whole()).await.unwrap();
    let again = "It is looked for again for three days after the deployment was recorded.";
    for (reference, why) in [
        ("failed", "It did not succeed, so it brought no changes.".to_owned()),
        (
            "nameless",
            "It names neither a repository nor merge commits, so no changes can be found.".to_owned(),
        ),
        (
            "unknown",
            format!(
                "No merged pull request and no pushed commit abcdef1 of the repository is known yet. {again}"
            ),
        ),
        ("list", format!("None of the commits it lists is known yet. {again}")),
        (
            "empty",
            format!(
                "Nothing on the default branch up to the time of the deployment was left to deploy. {again}"
            ),
        ),
    ] {
        assert_eq!(world.explained(reference).await, why, "{reference}");
    }
    let error = deployment_info(&world.plane, &world.ctx, "none").await.unwrap_err();
    assert_eq!(error.code, "deployment_not_found");
}

async fn bind(world: &World, number: i64, services: &[&str], replace: bool) {
    let pull = PullRef::Number { repository: SHOP.to_owned(), number };
    let services = services.iter().map(|name| service(name)).collect();
    pull_services_set(&world.plane, &world.ctx, pull, services, replace).await.unwrap();
}

async fn services_of_a_pull_request_may_be_told_at_any_time(world: &World) {
    let api = || DeploymentFacts { service: Some(service("api")), ..whole() };
    // Before the pull request, before the deployments.
    bind(world, 1, &["api"], false).await;
    world.pull(SHOP, 1, minute(0), merged(1, minute(1))).await.unwrap();
    // After the pull request, before the deployments; by GitHub's id.
    let facts = PullFacts { reference: own("7001"), ..merged(2, minute(2)) };
    world.pull(SHOP, 2, minute(0), facts).await.unwrap();
    let by_id = |id| PullRef::GitHub(id);
    pull_services_set(&world.plane, &world.ctx, by_id(7001), vec![service("api")], false).await.unwrap();
    world.pull(SHOP, 3, minute(0), merged(3, minute(3))).await.unwrap();
    // By GitHub's id before the pull request is known.
    pull_services_set(&world.plane, &world.ctx, by_id(7004), vec![service("web")], false).await.unwrap();
    let facts = PullFacts { reference: own("7004"), ..merged(4, minute(4)) };
    world.pull(SHOP, 4, minute(0), facts).await.unwrap();
    world.deploy("web", whole()).await.unwrap();
    world.deploy("api", api()).await.unwrap();
    assert_eq!(world.brought("web").await, set(["#3", "#4"]));
    assert_eq!(world.brought("api").await, set(["#1", "#2", "#3"]));
    // After the deployments.
    bind(world, 3, &["api"], false).await;
    assert_eq!(world.brought("web").await, set(["#4"]));
    assert_eq!(world.brought("api").await, set(["#1", "#2", "#3"]));
}

async fn services_are_added_and_replaced(world: &World) {
    world.pull(SHOP, 1, minute(0), PullFacts { reference: own("9"), ..merged(1, minute(1)) }).await.unwrap();
    for name in ["web", "api", "job"] {
        let facts = DeploymentFacts { service: Some(service(name)), ..whole() };
        world.deploy(name, facts).await.unwrap();
    }
    let having = async || {
        let mut having = Vec::new();
        for name in ["web", "api", "job"] {
            if world.brought(name).await == set(["#1"]) {
                having.push(name);
            }
        }
        having
    };
    assert_eq!(having().await, ["web", "api", "job"]);
    bind(world, 1, &["web"], false).await;
    assert_eq!(having().await, ["web"]);
    bind(world, 1, &["api"], false).await;
    bind(world, 1, &["api"], false).await;
    assert_eq!(having().await, ["web", "api"]);
    bind(world, 1, &["job"], true).await;
    assert_eq!(having().await, ["job"]);
    bind(world, 1, &[], false).await;
    assert_eq!(having().await, ["job"]);
    // What was said by GitHub's id is replaced by what is said by number.
    pull_services_set(&world.plane, &world.ctx, PullRef::GitHub(9), vec![service("web")], false)
        .await
        .unwrap();
    assert_eq!(having().await, ["web", "job"]);
    bind(world, 1, &["api"], true).await;
    assert_eq!(having().await, ["api"]);
    bind(world, 1, &[], true).await;
    assert_eq!(having().await, ["web", "api", "job"]);
    assert_eq!(world.number("SELECT count(*) FROM delivery_pull_services").await, 0);
}

async fn a_squash_merge_swallows_its_commits(world: &World) {
    world.push(SHOP, Some("feature"), &[(11, minute(1)), (12, minute(2))]).await.unwrap();
    world.push(SHOP, None, &[(20, minute(3))]).await.unwrap();
    let facts = PullFacts {
        commit_shas: Some(vec![sha(11), sha(12)]),
        base_ref: own("main"),
        ..merged(13, minute(4))
    };
    world.pull(SHOP, 1, minute(2), facts).await.unwrap();
    // The squashed commit itself arrives by the default branch's name.
    world.push(SHOP, Some("main"), &[(13, minute(4)), (20, minute(3))]).await.unwrap();
    // A commit that never was on the default branch still names its pull request.
    world.deploy("at a member", deployed_at("web", minute(10), &sha(12))).await.unwrap();
    assert_eq!(world.brought("at a member").await, set(["#1", "20"]));
    let first = world.sql("SELECT first_commit_at, merge_commit_sha FROM pull_requests").await;
    assert_eq!(first, [["2026-01-01T00:01:00Z", &sha(13)]]);
    assert_eq!(world.sql("SELECT count(*) FROM commits").await, [["4"]]);
}

async fn services_and_environments_do_not_share_changes(world: &World) {
    five(world).await;
    for (reference, name, environment) in
        [("a", "web", "production"), ("b", "web", "staging"), ("c", "api", "production")]
    {
        let facts =
            DeploymentFacts { service: Some(service(name)), environment: own(environment), ..whole() };
        world.deploy(reference, facts).await.unwrap();
        assert_eq!(world.brought(reference).await.len(), 5, "{reference}");
    }
    assert_eq!(world.sql("SELECT count(*) FROM pull_deployments").await, [["15"]]);
    assert_eq!(
        world.sql("SELECT merge_to_deploy, open_to_deploy FROM pull_deployments ORDER BY 1 LIMIT 1").await,
        [["5700", "6000"]]
    );
}

async fn integration_branches_are_lines_of_their_own(world: &World) {
    let to = |branch: &str, number: u32| PullFacts {
        base_ref: own(branch),
        ..merged(number, minute(i64::from(number)))
    };
    world.pull(SHOP, 1, minute(0), to("main", 1)).await.unwrap();
    world.pull(SHOP, 2, minute(0), to("develop", 2)).await.unwrap();
    world.pull(SHOP, 3, minute(0), to("main", 3)).await.unwrap();
    let on = |branch: &str| DeploymentFacts { integration_branch: own(branch), ..whole() };
    world.deploy("develop", on("develop")).await.unwrap();
    world.deploy("main", on("main")).await.unwrap();
    assert_eq!(world.brought("develop").await, set(["#2"]));
    assert_eq!(world.brought("main").await, set(["#1", "#3"]));
    let by_commit = deployed_at("other", minute(50), &sha(2));
    world.deploy("by its commit", by_commit).await.unwrap();
    assert_eq!(world.brought("by its commit").await, set(["#2"]));
}

async fn another_default_branch_attributes_anew(world: &World) {
    for (number, branch) in [(1, "main"), (2, "trunk")] {
        let facts = PullFacts { base_ref: own(branch), ..merged(number, minute(i64::from(number))) };
        world.pull(SHOP, i64::from(number), minute(0), facts).await.unwrap();
    }
    world.deploy("whole", whole()).await.unwrap();
    assert_eq!(world.brought("whole").await, set(["#1"]));
    let trunk = RepoFacts { default_branch: own("trunk"), ..RepoFacts::default() };
    repo_upsert(&world.plane, &world.ctx, SHOP.to_owned(), trunk).await.unwrap();
    assert_eq!(world.brought("whole").await, set(["#2"]));
}

async fn a_deployment_takes_from_a_later_one_and_gives_back(world: &World) {
    five(world).await;
    world.deploy("late", deployed_at("web", minute(50), &sha(5))).await.unwrap();
    world.deploy("early", deployed_at("web", minute(40), &sha(3))).await.unwrap();
    assert_eq!(world.brought("late").await, set(["#4", "#5"]));
    let failed = DeploymentFacts { success: Some(false), ..DeploymentFacts::default() };
    deployment_update(&world.plane, &world.ctx, "early".to_owned(), failed).await.unwrap();
    assert_eq!(world.brought("early").await, set([]));
    assert_eq!(world.brought("late").await, set(["#1", "#2", "#3", "#4", "#5"]));
    let elsewhere =
        DeploymentFacts { success: Some(true), environment: own("staging"), ..DeploymentFacts::default() };
    deployment_update(&world.plane, &world.ctx, "early".to_owned(), elsewhere).await.unwrap();
    assert_eq!(world.brought("early").await, set(["#1", "#2", "#3"]));
    assert_eq!(world.brought("late").await.len(), 5);
}
