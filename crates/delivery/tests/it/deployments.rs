//! Recording deployments: once per reference, updated by the given values, rejected with every fault.

use jiff::Timestamp;
use landreeve_core::{Error, ErrorKind};
use landreeve_delivery::deployments::{
    DeploymentFacts, deployment_create, deployment_info, deployment_update, deployment_upsert,
};
use landreeve_delivery::{Delivery, DeliveryOptions, Metadata, ServiceName};
use serde_json::json;

use crate::support::{World, deployed, deployed_at, merged, minute, own, service, set, sha};

conformance![
    recording_the_same_one_twice_changes_nothing,
    rejects_a_taken_reference_and_names_the_differences,
    an_update_changes_the_given_values,
    an_upsert_creates_or_changes,
    a_commit_and_a_list_exclude_each_other,
    faults_name_their_field,
    an_ambiguous_hash_stores_nothing,
    a_hash_that_became_ambiguous_is_not_rejected,
    strict_repositories_add_none,
    an_update_keeps_omitted_values,
    a_name_that_another_node_changed_can_be_changed_back,
];

async fn one_row(world: &World) -> Vec<String> {
    world.sql("SELECT * FROM deployments").await.remove(0)
}

async fn count(world: &World) -> i64 {
    world.number("SELECT count(*) FROM delivery_deployments").await
}

fn full() -> DeploymentFacts {
    DeploymentFacts {
        source_url: own("https://ci.example.com/1"),
        source_name: own("ci"),
        environment: own("staging"),
        integration_branch: own("main"),
        success: Some(false),
        metadata: Some(Metadata::new(json!({"a": {"b": 1}, "c": "x"})).unwrap()),
        ..deployed_at("web", minute(1), &sha(1))
    }
}

async fn recording_the_same_one_twice_changes_nothing(world: &World) {
    let first = world.deploy("rel-1", full()).await.unwrap();
    let audited = world.audited().await;
    let (row, updated) =
        (one_row(world).await, world.number("SELECT updated_at FROM delivery_deployments").await);
    world.kit.clock.advance(crate::support::DAY);
    // The hash in uppercase is the same hash.
    let capitals = DeploymentFacts { commit_sha: Some(sha(1).to_uppercase()), ..full() };
    for facts in [full(), capitals] {
        assert_eq!(world.deploy("rel-1", facts).await.unwrap(), first);
    }
    assert_eq!(world.audited().await, audited, "nothing changed, so nothing is audited");
    assert_eq!(one_row(world).await, row);
    assert_eq!(world.number("SELECT updated_at FROM delivery_deployments").await, updated);
    assert_eq!(count(world).await, 1);
    let metadata = world.sql("SELECT key, value FROM deployment_metadata ORDER BY key").await;
    assert_eq!(metadata, [["a.b", "1"], ["c", "x"]]);
}

async fn rejects_a_taken_reference_and_names_the_differences(world: &World) {
    world.deploy("rel-1", full()).await.unwrap();
    let before = (one_row(world).await, world.audited().await);
    let every = "service, repository, environment, deployed_at, success, commit_sha, merge_commit_shas, \
                 integration_branch, source_url, source_name, metadata";
    let other = DeploymentFacts { merge_commit_shas: Some(vec![sha(2)]), ..deployed("api", minute(2)) };
    for (facts, differing) in [
        (other, every),
        (DeploymentFacts { success: None, ..full() }, "success"),
        (DeploymentFacts { source_name: None, environment: None, ..full() }, "environment, source_name"),
    ] {
        let error = world.deploy("rel-1", facts).await.unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "reference_id_taken"));
        assert!(
            error.message.contains(&format!("with other values: {differing}. Send")),
            "{}",
            error.message
        );
        assert_eq!(error.faults[0].field, "reference_id");
    }
    assert_eq!((one_row(world).await, world.audited().await), before);
    // A service and repository named by rejected requests are not left behind.
    assert_eq!(world.sql("SELECT identifier FROM deployment_services").await, [["web"]]);
    // References are unique within a unit.
    let ou = world.kit.ou("other").await;
    let ctx = landreeve_estate::ops::sign_in::system_in(&world.kit.estate, ou.id).await.unwrap();
    deployment_create(&world.plane, &ctx, own("rel-1"), deployed("api", minute(2)).into()).await.unwrap();
    assert_eq!(count(world).await, 2);
    // Without a reference each is separate.
    for _ in 0..2 {
        deployment_create(&world.plane, &world.ctx, None, deployed("api", minute(2)).into()).await.unwrap();
    }
    assert_eq!(count(world).await, 4);
}

async fn update(world: &World, reference: &str, facts: DeploymentFacts) -> Result<(), Error> {
    deployment_update(&world.plane, &world.ctx, reference.to_owned(), facts.into()).await.map(drop)
}

async fn an_update_changes_the_given_values(world: &World) {
    let error = update(world, "none", full()).await.unwrap_err();
    assert_eq!((error.kind, error.noun), (ErrorKind::NotFound, Some("deployment")));
    assert_eq!(count(world).await, 0);
    world.deploy("rel-1", full()).await.unwrap();
    let facts = DeploymentFacts {
        deployed_at: Some(minute(9)),
        service: Some(ServiceName { identifier: "api".to_owned(), name: own("The API") }),
        repository: own("acme/till"),
        environment: own("production"),
        success: Some(true),
        source_url: own("https://ci.example.com/2"),
        source_name: own("cd"),
        integration_branch: own("develop"),
        metadata: Some(Metadata::new(json!({"d": true})).unwrap()),
        ..DeploymentFacts::default()
    };
    update(world, "rel-1", facts).await.unwrap();
    let info = deployment_info(&world.plane, &world.ctx, "rel-1").await.unwrap();
    assert_eq!((info.service.as_str(), info.service_name.as_str()), ("api", "The API"));
    assert_eq!((info.deployed_at, info.success), (minute(9), true));
    assert_eq!(info.repository.as_deref(), Some("acme/till"));
    assert_eq!(info.environment, "production");
    assert_eq!(info.source_url.as_deref(), Some("https://ci.example.com/2"));
    assert_eq!(
        (info.source_name.as_deref(), info.integration_branch.as_deref()),
        (Some("cd"), Some("develop"))
    );
    assert_eq!(info.metadata, Some(json!({"d": true})));
    assert_eq!(info.commit_sha, Some(sha(1)));
    assert_eq!(world.sql("SELECT key, value FROM deployment_metadata").await, [["d", "true"]]);
}

async fn an_update_keeps_omitted_values(world: &World) {
    world.deploy("rel-1", full()).await.unwrap();
    let (before, audited) = (one_row(world).await, world.audited().await);
    update(world, "rel-1", DeploymentFacts::default()).await.unwrap();
    assert_eq!(one_row(world).await, before);
    assert_eq!(world.audited().await, audited);
    update(world, "rel-1", DeploymentFacts { success: Some(true), ..DeploymentFacts::default() })
        .await
        .unwrap();
    let mut after = one_row(world).await;
    assert_eq!(std::mem::replace(&mut after[10], "false".to_owned()), "true");
    assert_eq!(after, before);
    assert_eq!(world.audited().await, audited + 1);
}

async fn an_upsert_creates_or_changes(world: &World) {
    let upsert = async |facts: DeploymentFacts| {
        deployment_upsert(&world.plane, &world.ctx, "rel-1".to_owned(), facts.into()).await
    };
    let error = upsert(DeploymentFacts { environment: own("staging"), ..DeploymentFacts::default() })
        .await
        .unwrap_err();
    let fields: Vec<&str> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["deployed_at", "service"]);
    assert_eq!(count(world).await, 0);
    let id = upsert(full()).await.unwrap();
    let facts = DeploymentFacts { source_name: own("cd"), ..DeploymentFacts::default() };
    assert_eq!(upsert(facts).await.unwrap(), id);
    let info = deployment_info(&world.plane, &world.ctx, "rel-1").await.unwrap();
    assert_eq!((info.source_name.as_deref(), info.environment.as_str()), (Some("cd"), "staging"));
    assert_eq!(count(world).await, 1);
}

async fn a_commit_and_a_list_exclude_each_other(world: &World) {
    world.pull("acme/shop", 1, minute(0), merged(1, minute(1))).await.unwrap();
    world.pull("acme/shop", 2, minute(0), merged(2, minute(2))).await.unwrap();
    world.deploy("rel-1", deployed_at("web", minute(9), &sha(2))).await.unwrap();
    assert_eq!(world.brought("rel-1").await, set(["#1", "#2"]));
    let list = |shas: &[String]| DeploymentFacts {
        merge_commit_shas: Some(shas.to_vec()),
        ..DeploymentFacts::default()
    };
    let kept = async || {
        let info = deployment_info(&world.plane, &world.ctx, "rel-1").await.unwrap();
        (info.commit_sha, info.merge_commit_shas)
    };
    update(world, "rel-1", list(&[])).await.unwrap();
    assert_eq!(kept().await, (Some(sha(2)), vec![]));
    update(world, "rel-1", list(&[sha(2), sha(2)])).await.unwrap();
    assert_eq!(kept().await, (None, vec![sha(2)]));
    assert_eq!(world.brought("rel-1").await, set(["#2"]));
    assert_eq!(world.sql("SELECT merge_commit_shas[1] FROM deployments").await, [[sha(2)]]);
    update(world, "rel-1", DeploymentFacts { commit_sha: own(&sha(1)), ..DeploymentFacts::default() })
        .await
        .unwrap();
    assert_eq!(kept().await, (Some(sha(1)), vec![]));
    assert_eq!(world.brought("rel-1").await, set(["#1"]));
    let both = DeploymentFacts { commit_sha: own(&sha(1)), ..list(&[sha(2)]) };
    let error = update(world, "rel-1", both).await.unwrap_err();
    assert_eq!((error.faults[0].field.as_str(), error.faults[0].code), ("commit_sha", "exclusive"));
}

async fn faults_name_their_field(world: &World) {
    let now = world.kit.estate.now();
    let later = |seconds| Some(Timestamp::from_second(now.as_second() + seconds).unwrap());
    let long = own(&"x".repeat(256));
    for (facts, field, code) in [
        (DeploymentFacts { deployed_at: later(301), ..full() }, "deployed_at", "range"),
        (DeploymentFacts { deployed_at: Timestamp::from_second(-1).ok(), ..full() }, "deployed_at", "range"),
        (DeploymentFacts { deployed_at: None, ..full() }, "deployed_at", "required"),
        (DeploymentFacts { service: None, ..full() }, "service", "required"),
        (DeploymentFacts { service: Some(service("")), ..full() }, "service", "length"),
        (DeploymentFacts { repository: long.clone(), ..full() }, "repository", "length"),
        (DeploymentFacts { environment: own("a\nb"), ..full() }, "environment", "character"),
        (DeploymentFacts { commit_sha: own("d1a34f"), ..full() }, "commit_sha", "sha"),
        (
            DeploymentFacts {
                commit_sha: None,
                merge_commit_shas: Some(vec![sha(1), "x".to_owned()]),
                ..full()
            },
            "merge_commit_shas.1",
            "sha",
        ),
    ] {
        let error = world.deploy("rel-1", facts).await.unwrap_err();
        let faults: Vec<_> = error.faults.iter().map(|fault| (fault.field.as_str(), fault.code)).collect();
        assert_eq!(faults, [(field, code)]);
    }
    let error = deployment_create(&world.plane, &world.ctx, long, DeploymentFacts::default().into())
        .await
        .unwrap_err();
    let fields: Vec<_> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["deployed_at", "service", "reference_id"]);
    assert_eq!(Metadata::new(json!({"a.b": 1})).unwrap_err().faults[0].field, "metadata.a.b");
    assert_eq!(count(world).await, 0);
    assert_eq!(world.number("SELECT count(*) FROM delivery_services").await, 0);
    // Clocks differ by a few minutes.
    world.deploy("rel-1", DeploymentFacts { deployed_at: later(299), ..full() }).await.unwrap();
}

async fn an_ambiguous_hash_stores_nothing(world: &World) {
    let (one, two) = ("abcdef1000", "abcdef1fff");
    for (number, hash) in [(1, one), (2, two)] {
        let facts = landreeve_delivery::changes::PullFacts {
            merge_commit_sha: own(hash),
            ..merged(1, minute(number))
        };
        world.pull("acme/shop", number, minute(0), facts).await.unwrap();
    }
    let audited = world.audited().await;
    let by_commit = deployed_at("web", minute(9), "abcdef1");
    let listed =
        DeploymentFacts { merge_commit_shas: Some(vec!["abcdef1".to_owned()]), ..deployed("web", minute(9)) };
    let in_repository = DeploymentFacts { repository: own("acme/shop"), ..listed.clone() };
    for (facts, field) in
        [(by_commit, "commit_sha"), (listed, "merge_commit_shas"), (in_repository, "merge_commit_shas")]
    {
        let error = world.deploy("rel-1", facts).await.unwrap_err();
        assert_eq!((error.faults[0].field.as_str(), error.faults[0].code), (field, "ambiguous"));
        assert!(error.message.contains(one) && error.message.contains(two), "{}", error.message);
    }
    assert_eq!(count(world).await, 0);
    assert_eq!(world.number("SELECT count(*) FROM delivery_services").await, 0);
    assert_eq!(world.audited().await, audited);
    // With one more digit it is unambiguous.
    world.deploy("rel-1", deployed_at("web", minute(9), "abcdef10")).await.unwrap();
    assert_eq!(world.brought("rel-1").await, set(["#1"]));
    // What becomes ambiguous later waits, and does not cause rejections.
    world.deploy("rel-2", deployed_at("api", minute(9), "0123456")).await.unwrap();
    let listed =
        DeploymentFacts { merge_commit_shas: Some(vec!["0123456".to_owned()]), ..deployed("job", minute(9)) };
    world.deploy("rel-3", listed).await.unwrap();
    for (number, hash, brought) in [(3, "0123456a", 3), (4, "0123456b", 0)] {
        let facts = landreeve_delivery::changes::PullFacts {
            merge_commit_sha: own(hash),
            ..merged(1, minute(number))
        };
        world.pull("acme/shop", number, minute(0), facts).await.unwrap();
        assert_eq!(world.brought("rel-2").await.len(), brought);
        assert_eq!(world.brought("rel-3").await.len(), usize::from(brought > 0));
    }
}

async fn a_hash_that_became_ambiguous_is_not_rejected(world: &World) {
    let short = "0123456";
    let by_commit = || deployed_at("web", minute(9), short);
    let by_list = || DeploymentFacts {
        commit_sha: None,
        merge_commit_shas: Some(vec![short.to_owned()]),
        ..deployed_at("job", minute(9), short)
    };
    let ids =
        [world.deploy("commit", by_commit()).await.unwrap(), world.deploy("list", by_list()).await.unwrap()];
    world.deploy("clear", deployed_at("api", minute(9), "0123456a")).await.unwrap();
    for (number, hash) in [(1, "0123456a"), (2, "0123456b")] {
        let facts = landreeve_delivery::changes::PullFacts {
            merge_commit_sha: own(hash),
            ..merged(1, minute(number))
        };
        world.pull("acme/shop", number, minute(0), facts).await.unwrap();
    }
    // Sending the same values again succeeds; other values for its reference are an error as usual.
    for _ in 0..2 {
        assert_eq!(world.deploy("commit", by_commit()).await.unwrap(), ids[0]);
        assert_eq!(world.deploy("list", by_list()).await.unwrap(), ids[1]);
    }
    for (reference, facts) in [("commit", by_commit()), ("list", by_list())] {
        let facts = DeploymentFacts { success: Some(false), ..facts };
        let error = world.deploy(reference, facts).await.unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "reference_id_taken"));
        assert!(error.message.contains("with other values: success. Send"), "{}", error.message);
    }
    // Other values can still be changed, even if everything is sent again.
    let named = |name: &str| DeploymentFacts { source_name: own(name), ..DeploymentFacts::default() };
    for (reference, facts) in [("commit", by_commit()), ("list", by_list())] {
        update(world, reference, named("ci")).await.unwrap();
        update(world, reference, DeploymentFacts { deployed_at: Some(minute(8)), ..named("ci") })
            .await
            .unwrap();
        let whole = DeploymentFacts { source_name: own("cd"), ..facts };
        deployment_upsert(&world.plane, &world.ctx, reference.to_owned(), whole.into()).await.unwrap();
        let info = deployment_info(&world.plane, &world.ctx, reference).await.unwrap();
        assert_eq!((info.source_name.as_deref(), info.deployed_at), (Some("cd"), minute(9)));
        assert_eq!(info.change_count, 0, "{reference}");
    }
    // New values are rejected.
    let listed = || Some(vec![short.to_owned()]);
    for (facts, field) in [
        (DeploymentFacts { commit_sha: own(short), ..DeploymentFacts::default() }, "commit_sha"),
        (DeploymentFacts { merge_commit_shas: listed(), ..DeploymentFacts::default() }, "merge_commit_shas"),
    ] {
        let error = update(world, "clear", facts).await.unwrap_err();
        assert_eq!((error.faults[0].field.as_str(), error.faults[0].code), (field, "ambiguous"));
    }
    update(world, "commit", DeploymentFacts { repository: own("acme/till"), ..named("cd") }).await.unwrap();
    let back = DeploymentFacts { repository: own("acme/shop"), ..DeploymentFacts::default() };
    let error = update(world, "commit", back).await.unwrap_err();
    assert_eq!((error.faults[0].field.as_str(), error.faults[0].code), ("commit_sha", "ambiguous"));
    assert_eq!(world.brought("clear").await, set(["#1"]));
}

async fn strict_repositories_add_none(world: &World) {
    let strict: Delivery =
        world.kit.delivery_with(DeliveryOptions { strict_repositories: true, ..DeliveryOptions::default() });
    let facts = || deployed_at("web", minute(1), &sha(1));
    let error = deployment_create(&strict, &world.ctx, own("rel-1"), facts().into()).await.unwrap_err();
    assert_eq!((error.kind, error.noun), (ErrorKind::NotFound, Some("repository")));
    assert_eq!(error.faults[0].field, "repository");
    assert_eq!(count(world).await, 0);
    // A known repository, in any spelling.
    world.pull("Acme/Shop", 1, minute(0), merged(1, minute(0))).await.unwrap();
    deployment_create(&strict, &world.ctx, own("rel-1"), facts().into()).await.unwrap();
    assert_eq!(world.brought("rel-1").await, set(["#1"]));
}

async fn a_name_that_another_node_changed_can_be_changed_back(world: &World) {
    // Each node has its own cache.
    let nodes = [world.kit.delivery(), world.kit.delivery()];
    for (at, node, name) in [(1, 0, "One"), (2, 1, "Two"), (3, 0, "One"), (4, 0, "One"), (5, 1, "Two")] {
        let named = ServiceName { identifier: "web".to_owned(), name: own(name) };
        let facts = DeploymentFacts { service: Some(named), ..deployed("web", minute(at)) };
        deployment_create(&nodes[node], &world.ctx, own(&format!("rel-{at}")), facts.into()).await.unwrap();
        let rows = world.rows("SELECT name FROM delivery_services", landreeve_estate::args![]).await;
        assert_eq!(rows[0].text(0).unwrap(), name, "deployment {at}");
    }
}
