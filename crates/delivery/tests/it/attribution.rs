//! Attribution as documented: gaps are filled, changes may arrive after their deployment, pull requests may belong to
//! some services only, and a deployment explains what it matched or why nothing.

use landreeve_core::RunState;
use landreeve_core::ids::OuId;
use landreeve_delivery::ATTRIBUTION;
use landreeve_delivery::changes::{CommitFacts, PullFacts, PullRef, commits_push, pull_services_set};
use landreeve_delivery::deployments::{DeploymentFacts, deployment_info, deployment_update};
use landreeve_delivery::repos::{RepoFacts, repo_upsert};
use landreeve_estate::args;

use crate::support::{DAY, World, commit, deployed, deployed_at, merged, minute, own, service, set, sha};

conformance![
    gaps_are_filled,
    gaps_are_filled_whatever_the_order_of_deployments,
    a_pull_request_counts_within_three_days,
    a_pull_request_that_comes_after_three_days_is_too_late,
    a_restart_attributes_again,
    an_update_restarts_the_three_days,
    a_deployment_explains_why_it_has_no_changes,
    a_hash_that_became_ambiguous_is_explained,
    changes_of_other_services_are_explained,
    services_of_a_pull_request_can_be_set_at_any_time,
    services_are_added_and_replaced,
    services_and_their_pull_request_can_arrive_concurrently,
    a_squash_merge_includes_its_commits,
    short_hashes_set_the_first_commit,
    services_and_environments_do_not_share_changes,
    integration_branches_are_separate_lines,
    a_new_default_branch_attributes_again,
    a_large_repository_is_moved_in_parts_and_resumes_after_a_crash,
    a_deployment_takes_from_a_later_one_and_returns_it,
    changes_of_a_moved_deployment_go_to_the_next_one,
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
    // The same commit again: nothing is left.
    world.deploy("at E again", deployed_at("web", minute(30), &sha(5))).await.unwrap();
    assert_eq!(world.brought("at E again").await, set([]));
    assert!(world.explained("at E again").await.ends_with("had already been deployed."));
}

async fn gaps_are_filled_whatever_the_order_of_deployments(world: &World) {
    world.deploy("at E", deployed_at("web", minute(20), &sha(5))).await.unwrap();
    five(world).await;
    assert_eq!(world.brought("at E").await, set(["#1", "#2", "#3", "#4", "#5"]));
    world.deploy("at B", deployed_at("web", minute(10), &sha(2))).await.unwrap();
    assert_eq!(world.brought("at B").await, set(["#1", "#2"]));
    assert_eq!(world.brought("at E").await, set(["#3", "#4", "#5"]));
}

async fn a_pull_request_counts_within_three_days(world: &World) {
    world.deploy("by commit", deployed_at("web", minute(10), &sha(1))).await.unwrap();
    world.deploy("by list", list(&[&sha(2)])).await.unwrap();
    world.deploy("whole", DeploymentFacts { service: Some(service("job")), ..whole() }).await.unwrap();
    for reference in ["by commit", "by list", "whole"] {
        let info = deployment_info(&world.plane, &world.ctx, reference).await.unwrap();
        assert_eq!((info.attributed_at, info.change_count), (None, 0), "{reference}");
        assert!(
            info.attribution
                .ends_with("The server keeps looking for three days after the deployment was recorded.")
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

/// A deployment of these commits that names no repository.
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
    // Later deployments are not held up by those.
    world.deploy("next", deployed_at("web", minute(300), &sha(1))).await.unwrap();
    assert_eq!(world.brought("next").await, set(["#1"]));
}

async fn a_restart_attributes_again(world: &World) {
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
    let run = world.kit.run_of(ATTRIBUTION.kind, OuId::ROOT).await;
    assert_eq!(world.kit.ended(&run).await.state, RunState::Succeeded);
    assert_eq!(world.brought("whole").await, set(["#1"]));
}

async fn an_update_restarts_the_three_days(world: &World) {
    world.deploy("late", deployed_at("web", minute(10), &sha(1))).await.unwrap();
    world.kit.clock.advance(3 * DAY);
    world.pull(SHOP, 1, minute(0), merged(1, minute(1))).await.unwrap();
    assert_eq!(world.brought("late").await, set([]));
    let facts = DeploymentFacts { source_name: own("again"), ..DeploymentFacts::default() };
    deployment_update(&world.plane, &world.ctx, "late".to_owned(), facts.into()).await.unwrap();
    assert_eq!(world.brought("late").await, set(["#1"]));
}

async fn a_deployment_explains_why_it_has_no_changes(world: &World) {
    world.deploy("failed", DeploymentFacts { success: Some(false), ..whole() }).await.unwrap();
    world.deploy("nameless", deployed("web", minute(1))).await.unwrap();
    world.deploy("unknown", deployed_at("web", minute(1), "abcdef1")).await.unwrap();
    world.deploy("list", list(&["abcdef1"])).await.unwrap();
    world.deploy("empty", whole()).await.unwrap();
    let again = "The server keeps looking for three days after the deployment was recorded.";
    for (reference, why) in [
        ("failed", "The deployment failed, so it has no changes.".to_owned()),
        (
            "nameless",
            "The deployment has neither a repository nor merge commits, so no changes can be found."
                .to_owned(),
        ),
        (
            "unknown",
            format!(
                "No merged pull request or pushed commit abcdef1 in the repository is known yet. {again}"
            ),
        ),
        ("list", format!("None of the commits that the deployment lists is known yet. {again}")),
        (
            "empty",
            format!(
                "There was nothing left to deploy on the default branch up to the time of the deployment. {again}"
            ),
        ),
    ] {
        assert_eq!(world.explained(reference).await, why, "{reference}");
    }
    let error = deployment_info(&world.plane, &world.ctx, "none").await.unwrap_err();
    assert_eq!(error.noun, Some("deployment"));
}

async fn a_hash_that_became_ambiguous_is_explained(world: &World) {
    world.deploy("by commit", deployed_at("web", minute(10), "0123456")).await.unwrap();
    world.deploy("by list", list(&["0123456"])).await.unwrap();
    let both = DeploymentFacts { service: Some(service("job")), ..list(&["0123456", &sha(3)]) };
    world.deploy("one of two", both).await.unwrap();
    world.pull(SHOP, 3, minute(0), merged(3, minute(3))).await.unwrap();
    for (number, hash) in [(1, "0123456a"), (2, "0123456b")] {
        let facts = PullFacts { merge_commit_sha: own(hash), ..merged(1, minute(number)) };
        world.pull(SHOP, number, minute(0), facts).await.unwrap();
    }
    let unclear = "0123456 is ambiguous: it matches 0123456a and 0123456b. Update the deployment with more \
                   digits.";
    assert_eq!(world.explained("by commit").await, unclear);
    assert_eq!(world.explained("by list").await, unclear);
    let some = format!("1 changes whose commits the deployment lists. {unclear}");
    assert_eq!(world.explained("one of two").await, some);
    let clear = DeploymentFacts { commit_sha: own("0123456a"), ..DeploymentFacts::default() };
    deployment_update(&world.plane, &world.ctx, "by commit".to_owned(), clear.into()).await.unwrap();
    assert_eq!(world.brought("by commit").await, set(["#1"]));
}

async fn changes_of_other_services_are_explained(world: &World) {
    world.pull(SHOP, 1, minute(0), merged(1, minute(1))).await.unwrap();
    bind(world, 1, &["api"], false).await;
    world.deploy("commit", deployed_at("web", minute(10), &sha(1))).await.unwrap();
    world.deploy("list", list(&[&sha(1)])).await.unwrap();
    world.deploy("whole", DeploymentFacts { service: Some(service("job")), ..whole() }).await.unwrap();
    let up_to = format!("up to the commit {}", sha(1));
    let bound = |up_to: &str| {
        format!("The only change left to deploy on the default branch {up_to} belongs to other services.")
    };
    assert_eq!(world.explained("commit").await, bound(&up_to));
    assert_eq!(
        world.explained("list").await,
        "The commits that the deployment lists belong to other services."
    );
    let whole = world.explained("whole").await;
    assert!(whole.starts_with(&bound("up to the time of the deployment")), "{whole}");
    // It belongs to all services again, and is deployed once with each.
    bind(world, 1, &[], true).await;
    for reference in ["commit", "list", "whole"] {
        assert_eq!(world.brought(reference).await, set(["#1"]), "{reference}");
    }
    world.deploy("commit again", deployed_at("web", minute(20), &sha(1))).await.unwrap();
    let before = format!("Everything on the default branch {up_to} had already been deployed.");
    assert_eq!(world.explained("commit again").await, before);
    let again = DeploymentFacts { deployed_at: Some(minute(20)), ..list(&[&sha(1)]) };
    world.deploy("list again", again).await.unwrap();
    assert_eq!(
        world.explained("list again").await,
        "The commits that the deployment lists had already been deployed."
    );
    // Whatever services it belongs to, the second deployment could not have delivered it.
    bind(world, 1, &["api"], false).await;
    assert_eq!(world.explained("commit again").await, before);
}

async fn bind(world: &World, number: i64, services: &[&str], replace: bool) {
    let pull = PullRef::Number { repository: SHOP.to_owned(), number };
    let services: Vec<_> = services.iter().map(|name| service(name)).collect();
    pull_services_set(&world.plane, &world.ctx, pull, services.into(), replace).await.unwrap();
}

async fn services_of_a_pull_request_can_be_set_at_any_time(world: &World) {
    let api = || DeploymentFacts { service: Some(service("api")), ..whole() };
    // Before the pull request, before the deployments.
    bind(world, 1, &["api"], false).await;
    world.pull(SHOP, 1, minute(0), merged(1, minute(1))).await.unwrap();
    // After the pull request, before the deployments; by GitHub's id.
    let facts = PullFacts { reference: own("7001"), ..merged(2, minute(2)) };
    world.pull(SHOP, 2, minute(0), facts).await.unwrap();
    let by_id = |id| PullRef::GitHub(id);
    pull_services_set(&world.plane, &world.ctx, by_id(7001), vec![service("api")].into(), false)
        .await
        .unwrap();
    world.pull(SHOP, 3, minute(0), merged(3, minute(3))).await.unwrap();
    // By GitHub's id before the pull request is known.
    pull_services_set(&world.plane, &world.ctx, by_id(7004), vec![service("web")].into(), false)
        .await
        .unwrap();
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
    // Services set by GitHub's id are replaced by those set by number.
    pull_services_set(&world.plane, &world.ctx, PullRef::GitHub(9), vec![service("web")].into(), false)
        .await
        .unwrap();
    assert_eq!(having().await, ["web", "job"]);
    bind(world, 1, &["api"], true).await;
    assert_eq!(having().await, ["api"]);
    bind(world, 1, &[], true).await;
    assert_eq!(having().await, ["web", "api", "job"]);
    assert_eq!(world.number("SELECT count(*) FROM delivery_pull_services").await, 0);
}

async fn services_and_their_pull_request_can_arrive_concurrently(world: &World) {
    world.deploy("web", whole()).await.unwrap();
    world.deploy("api", DeploymentFacts { service: Some(service("api")), ..whole() }).await.unwrap();
    for number in 1..=10_u32 {
        let facts =
            PullFacts { reference: Some(number.to_string()), ..merged(number, minute(i64::from(number))) };
        let pull = world.pull(SHOP, i64::from(number), minute(0), facts);
        let id = PullRef::GitHub(i64::from(number));
        let bound = pull_services_set(&world.plane, &world.ctx, id, vec![service("api")].into(), false);
        futures_util::future::try_join(pull, bound).await.unwrap();
    }
    let loose = "SELECT count(*) FROM delivery_pull_services WHERE change_id IS NULL";
    assert_eq!(world.number(loose).await, 0);
    assert_eq!(world.brought("web").await, set([]));
    assert_eq!(world.brought("api").await.len(), 10);
}

async fn a_squash_merge_includes_its_commits(world: &World) {
    world.push(SHOP, Some("feature"), &[(11, minute(1)), (12, minute(2))]).await.unwrap();
    world.push(SHOP, None, &[(20, minute(3))]).await.unwrap();
    let facts = PullFacts {
        commit_shas: Some(vec![sha(11), sha(12)]),
        base_ref: own("main"),
        ..merged(13, minute(4))
    };
    world.pull(SHOP, 1, minute(2), facts).await.unwrap();
    // The squashed commit itself is pushed with the default branch's name.
    world.push(SHOP, Some("main"), &[(13, minute(4)), (20, minute(3))]).await.unwrap();
    // A commit that never was on the default branch still identifies its pull request.
    world.deploy("at a member", deployed_at("web", minute(10), &sha(12))).await.unwrap();
    assert_eq!(world.brought("at a member").await, set(["#1", "20"]));
    let first = world.sql("SELECT first_commit_at, merge_commit_sha FROM pull_requests").await;
    assert_eq!(first, [["2026-01-01T00:01:00Z", &sha(13)]]);
    assert_eq!(world.sql("SELECT count(*) FROM commits").await, [["4"]]);
}

/// Whichever of the two is short, and whichever arrives first.
async fn short_hashes_set_the_first_commit(world: &World) {
    let holding = |number: u32, shas: &[&str], at| PullFacts {
        commit_shas: Some(shas.iter().map(|sha| (*sha).to_owned()).collect()),
        ..merged(number, at)
    };
    let members = [sha(11), sha(12), sha(21), sha(22)];
    let [one, two, three, four] = members.each_ref().map(|sha| &sha[..7]);
    world.pull(SHOP, 1, minute(5), holding(13, &[one, two], minute(6))).await.unwrap();
    let pushed = [(11, minute(1)), (12, minute(2)), (21, minute(3)), (22, minute(4))];
    world.push(SHOP, Some("feature"), &pushed).await.unwrap();
    world.pull(SHOP, 2, minute(5), holding(23, &[three, four], minute(7))).await.unwrap();
    world.pull(SHOP, 3, minute(5), holding(33, &[&sha(31)], minute(8))).await.unwrap();
    let short = CommitFacts { sha: sha(31)[..8].to_owned(), ..commit(31, minute(4)) };
    commits_push(&world.plane, &world.ctx, SHOP.to_owned(), own("feature"), vec![short].into())
        .await
        .unwrap();
    let first = world.sql("SELECT number, first_commit_at FROM pull_requests ORDER BY 1").await;
    assert_eq!(
        first,
        [["1", "2026-01-01T00:01:00Z"], ["2", "2026-01-01T00:03:00Z"], ["3", "2026-01-01T00:04:00Z"]]
    );
    world.deploy("whole", whole()).await.unwrap();
    let minutes = "SELECT CAST(lead_time_seconds / 60 AS BIGINT) FROM dora_changes ORDER BY change_id";
    assert_eq!(world.sql(minutes).await, [["99"], ["97"], ["96"]]);
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

async fn integration_branches_are_separate_lines(world: &World) {
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

async fn a_new_default_branch_attributes_again(world: &World) {
    for (number, branch) in [(1, "main"), (2, "trunk")] {
        let facts = PullFacts { base_ref: own(branch), ..merged(number, minute(i64::from(number))) };
        world.pull(SHOP, i64::from(number), minute(0), facts).await.unwrap();
    }
    world.deploy("whole", whole()).await.unwrap();
    assert_eq!(world.brought("whole").await, set(["#1"]));
    let trunk = RepoFacts { default_branch: own("trunk"), ..RepoFacts::default() };
    repo_upsert(&world.plane, &world.ctx, SHOP.to_owned(), trunk.into()).await.unwrap();
    assert_eq!(world.brought("whole").await, set(["#2"]));
}

/// More changes than one transaction handles. The attribution run resumes a move that a crash interrupted.
async fn a_large_repository_is_moved_in_parts_and_resumes_after_a_crash(world: &World) {
    let count = 600_u32;
    for branch in ["main", "trunk"] {
        let first = if branch == "main" { 1 } else { 10_001 };
        let commits: Vec<_> =
            (first..first + count).map(|number| (number, minute(i64::from(number - first) / 60))).collect();
        world.push(SHOP, Some(branch), &commits).await.unwrap();
    }
    world.deploy("whole", whole()).await.unwrap();
    assert_eq!((brought_of_main(world).await, brought_of_trunk(world).await), (600, 0));
    let trunk = RepoFacts { default_branch: own("trunk"), ..RepoFacts::default() };
    repo_upsert(&world.plane, &world.ctx, SHOP.to_owned(), trunk.into()).await.unwrap();
    assert_eq!((brought_of_main(world).await, brought_of_trunk(world).await), (0, 600));
    assert_eq!(world.number("SELECT moving FROM delivery_repos").await, 0);
    // The state after a crash: the default branch has changed, and nothing has been moved.
    let cut = world.kit.estate.store().write(|tx| {
        Box::pin(async move {
            tx.exec("UPDATE delivery_repos SET default_branch = 'main', moving = 1", args![]).await.map(drop)
        })
    });
    cut.await.unwrap();
    let restarted = world.kit.delivery();
    world.kit.start_delivery(&restarted).await;
    let run = world.kit.run_of(ATTRIBUTION.kind, OuId::ROOT).await;
    assert_eq!(world.kit.ended(&run).await.state, RunState::Succeeded);
    assert_eq!((brought_of_main(world).await, brought_of_trunk(world).await), (600, 0));
    assert_eq!(world.number("SELECT moving FROM delivery_repos").await, 0);
}

async fn brought_of_main(world: &World) -> i64 {
    let sql = "SELECT count(*) FROM delivery_change_deployments d JOIN delivery_changes c ON c.id = d.change_id \
               WHERE c.branch = 'main'";
    world.number(sql).await
}

async fn brought_of_trunk(world: &World) -> i64 {
    let sql = "SELECT count(*) FROM delivery_change_deployments d JOIN delivery_changes c ON c.id = d.change_id \
               WHERE c.branch = 'trunk'";
    world.number(sql).await
}

async fn a_deployment_takes_from_a_later_one_and_returns_it(world: &World) {
    five(world).await;
    world.deploy("late", deployed_at("web", minute(50), &sha(5))).await.unwrap();
    world.deploy("early", deployed_at("web", minute(40), &sha(3))).await.unwrap();
    assert_eq!(world.brought("late").await, set(["#4", "#5"]));
    let failed = DeploymentFacts { success: Some(false), ..DeploymentFacts::default() };
    deployment_update(&world.plane, &world.ctx, "early".to_owned(), failed.into()).await.unwrap();
    assert_eq!(world.brought("early").await, set([]));
    assert_eq!(world.brought("late").await, set(["#1", "#2", "#3", "#4", "#5"]));
    let elsewhere =
        DeploymentFacts { success: Some(true), environment: own("staging"), ..DeploymentFacts::default() };
    deployment_update(&world.plane, &world.ctx, "early".to_owned(), elsewhere.into()).await.unwrap();
    assert_eq!(world.brought("early").await, set(["#1", "#2", "#3"]));
    assert_eq!(world.brought("late").await.len(), 5);
}

/// It moves just as another deployment that would get its changes is recorded; two may also swap places.
async fn changes_of_a_moved_deployment_go_to_the_next_one(world: &World) {
    let moved = |reference: String, repository: String| {
        let facts = DeploymentFacts { repository: Some(repository), ..DeploymentFacts::default() };
        deployment_update(&world.plane, &world.ctx, reference, facts.into())
    };
    for round in 0..10 {
        let (one, other) = (format!("acme/one{round}"), format!("acme/other{round}"));
        let at = |repository: &str, minutes| DeploymentFacts {
            repository: own(repository),
            ..deployed_at("web", minute(minutes), &sha(1))
        };
        let named = |name: &str| format!("{name} {round}");
        for (repository, early) in [(&one, "early"), (&other, "back")] {
            world.pull(repository, 1, minute(0), merged(1, minute(1))).await.unwrap();
            world.deploy(&named(early), at(repository, 10)).await.unwrap();
            assert_eq!(world.brought(&named(early)).await, set(["#1"]));
        }
        let away = moved(named("early"), format!("acme/away{round}"));
        let late = named("late");
        futures_util::future::try_join(away, world.deploy(&late, at(&one, 20))).await.unwrap();
        assert_eq!(world.brought(&late).await, set(["#1"]), "{round}");
        let there = moved(late.clone(), other.clone());
        futures_util::future::try_join(there, moved(named("back"), one.clone())).await.unwrap();
        for reference in [late, named("back")] {
            assert_eq!(world.brought(&reference).await, set(["#1"]), "{reference}");
        }
    }
}
