//! Environments, clusters, servers and their configuration, on both metadata stores.

use std::collections::BTreeMap;

use landreeve_core::datasource::DatabaseType;
use landreeve_core::{Action, Error, ErrorKind, Noun, OpCtx, Permission, Secret, page};
use landreeve_estate::args;
use landreeve_estate::identity::Origin;
use landreeve_estate::ops::datasources::{datasource_create, datasource_delete};
use landreeve_estate::ops::{DatasourceDetails, sign_in};
use landreeve_promotion::DATABASE_TYPE;
use landreeve_promotion::clusters::{
    Cluster, ClusterFacts, cluster_create, cluster_delete, cluster_get, cluster_list, cluster_update,
};
use landreeve_promotion::configuration::{
    Argument, Configuration, Script, Scripts, Strategy, VariablesOf, configuration_get, configuration_put,
    variables_get, variables_put,
};
use landreeve_promotion::environments::{
    Environment, EnvironmentFacts, environment_create, environment_delete, environment_get, environment_list,
    environment_named, environment_update,
};
use landreeve_promotion::ids::{ClusterId, EnvironmentId};
use landreeve_promotion::nodes::{node_create, node_delete, node_list};
use landreeve_promotion::servers::{
    Server, ServerFacts, ServerType, server_create, server_delete, server_get, server_list, server_named,
    server_update,
};
use landreeve_testkit::{Kit, PASSWORD};

use crate::support::World;

macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::World::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                let world = super::World::postgres().await;
                let kit = super::$name(world).await;
                kit.remove().await;
            })*
        }
    };
}

on_both! {
    environments_are_created_changed_and_deleted
    every_fault_is_reported
    clusters_have_an_order_without_gaps
    servers_move_within_their_unit
    an_embedded_server_has_a_node
    passwords_are_sealed_and_kept
    nothing_is_deleted_while_a_deployment_is_in_progress
    configurations_and_variables_are_replaced
    other_units_do_not_see_an_environment
}

fn facts(name: &str) -> EnvironmentFacts {
    EnvironmentFacts { name: name.to_owned(), ..EnvironmentFacts::default() }
}

fn server_facts(name: &str, cluster: ClusterId) -> ServerFacts {
    ServerFacts {
        cluster: Some(cluster),
        name: name.to_owned(),
        host: "embedded".to_owned(),
        enabled: true,
        use_default_license_alias: true,
        ..ServerFacts::default()
    }
}

/// At an address that no other server of the test has.
fn remote_facts(name: &str, cluster: ClusterId) -> ServerFacts {
    ServerFacts { host: format!("{name}.example.com"), port: Some(8_443), ..server_facts(name, cluster) }
}

impl World {
    async fn environment(&self, name: &str) -> Environment {
        environment_create(&self.plane, &self.ctx, facts(name).into()).await.unwrap()
    }

    async fn cluster(&self, environment: EnvironmentId, name: &str) -> Cluster {
        let facts = ClusterFacts {
            environment: Some(environment),
            name: name.to_owned(),
            enabled: true,
            ..ClusterFacts::default()
        };
        cluster_create(&self.plane, &self.ctx, facts.into()).await.unwrap()
    }

    async fn server(&self, facts: ServerFacts) -> Server {
        server_create(&self.plane, &self.ctx, facts.into()).await.unwrap()
    }

    /// The names of an environment's clusters; their positions must be 1, 2, ….
    async fn order(&self, environment: EnvironmentId) -> Vec<String> {
        let clusters = cluster_list(&self.plane, &self.ctx, environment).await.unwrap();
        for (position, cluster) in (1..).zip(&clusters) {
            assert_eq!(cluster.position, position, "{clusters:?}");
        }
        clusters.into_iter().map(|cluster| cluster.name).collect()
    }

    /// The names of an environment's servers with their positions.
    async fn servers(&self, environment: EnvironmentId) -> Vec<(String, i64)> {
        let servers = server_list(&self.plane, &self.ctx, environment).await.unwrap();
        servers.into_iter().map(|server| (server.name, server.position)).collect()
    }

    async fn nodes(&self) -> Vec<String> {
        let nodes = node_list(&self.plane, &self.ctx, None).await.unwrap().items;
        nodes.into_iter().map(|node| node.name).collect()
    }

    /// A deployment in progress, as a row.
    async fn deploying(&self, environment: EnvironmentId) {
        self.kit
            .exec(
                "INSERT INTO promotion_deployments (id, ou_id, environment_id, environment_name, scenario, description, \
                 owner, user_name, state, message, created_at) VALUES (99, 1, $1, 'E', 'production', '', 'operator', \
                 'operator', 'in_progress', '', 0)",
                args![environment],
            )
            .await;
    }
}

fn fields(error: &Error) -> Vec<&str> {
    error.faults.iter().map(|fault| fault.field.as_str()).collect()
}

async fn environments_are_created_changed_and_deleted(world: World) -> Kit {
    let (plane, ctx) = (&world.plane, &world.ctx);
    let whole = EnvironmentFacts {
        description: Some("First".to_owned()),
        minimum_update: Some("20190312".to_owned()),
        minimum_update_mandatory: true,
        minimum_update_url: Some("https://example.com/update".to_owned()),
        license_alias: Some("STAGING_2".to_owned()),
        environment_type: Some("STANDARD".to_owned()),
        ..facts("E")
    };
    let made = environment_create(plane, ctx, whole.clone().into()).await.unwrap();
    assert_eq!(made.scenario().as_str(), "staging");
    assert_eq!(environment_get(plane, ctx, made.id).await.unwrap(), made);
    for name in ["E", &made.id.to_string()] {
        assert_eq!(environment_named(plane, ctx, name).await.unwrap(), made);
    }
    let twice = environment_create(plane, ctx, whole.into()).await.unwrap_err();
    assert_eq!((twice.kind, fields(&twice)), (ErrorKind::Conflict, vec!["name"]));
    let other = world.environment("F").await;
    assert_eq!(other.scenario().as_str(), "production");
    let taken = environment_update(plane, ctx, other.id, facts("E").into()).await.unwrap_err();
    assert_eq!((taken.kind, fields(&taken)), (ErrorKind::Conflict, vec!["name"]));

    let changed = environment_update(plane, ctx, made.id, facts("G").into()).await.unwrap();
    let expected = Environment {
        name: "G".to_owned(),
        description: None,
        minimum_update: None,
        minimum_update_mandatory: false,
        minimum_update_url: None,
        license_alias: None,
        environment_type: None,
        row_version: 2,
        ..made.clone()
    };
    assert_eq!((&changed, &environment_get(plane, ctx, made.id).await.unwrap()), (&expected, &expected));

    for number in 0..250 {
        world.environment(&format!("many {number}")).await;
    }
    let all = page::collect(|after| environment_list(plane, ctx, after)).await.unwrap();
    assert!(all.len() == 252 && all.is_sorted_by_key(|environment| environment.id), "{}", all.len());

    let cluster = world.cluster(made.id, "C").await;
    let server = world.server(server_facts("S", cluster.id)).await;
    environment_delete(plane, ctx, made.id).await.unwrap();
    for gone in [
        environment_get(plane, ctx, made.id).await.map(drop),
        cluster_get(plane, ctx, cluster.id).await.map(drop),
        server_get(plane, ctx, server.id).await.map(drop),
        environment_delete(plane, ctx, made.id).await,
    ] {
        assert_eq!(gone.unwrap_err().kind, ErrorKind::NotFound);
    }
    assert!(world.nodes().await.is_empty());
    world.kit
}

async fn every_fault_is_reported(world: World) -> Kit {
    let (plane, ctx) = (&world.plane, &world.ctx);
    let long = |count: usize| Some("x".repeat(count));
    let wrong = EnvironmentFacts {
        description: long(4_001),
        minimum_update: Some("2019-3-12".to_owned()),
        minimum_update_url: long(4_001),
        license_alias: Some("PERSONAL_DEVELOPER".to_owned()),
        environment_type: long(256),
        ..facts("")
    };
    let expected =
        ["name", "description", "minimum_update", "minimum_update_url", "license_alias", "environment_type"];
    let error = environment_create(plane, ctx, wrong.into()).await.unwrap_err();
    assert_eq!((error.kind, fields(&error)), (ErrorKind::Invalid, expected.to_vec()));
    let alias = &error.faults[4].message;
    assert!(["DEVELOPMENT", "STAGING", "PRODUCTION"].iter().all(|word| alias.contains(word)), "{alias}");

    let error = cluster_create(plane, ctx, ClusterFacts::default().into()).await.unwrap_err();
    assert_eq!(fields(&error), ["environment", "name"]);
    let unknown = ClusterFacts { environment: Some(EnvironmentId(999)), ..ClusterFacts::default() };
    assert_eq!(cluster_create(plane, ctx, unknown.into()).await.unwrap_err().kind, ErrorKind::NotFound);

    let environment = world.environment("E").await;
    let cluster = world.cluster(environment.id, "C").await;
    let twice =
        ClusterFacts { environment: Some(environment.id), name: "C".to_owned(), ..ClusterFacts::default() };
    let twice = cluster_create(plane, ctx, twice.into()).await.unwrap_err();
    assert_eq!((twice.kind, fields(&twice)), (ErrorKind::Conflict, vec!["name"]));

    let wrong = ServerFacts {
        cluster: Some(cluster.id),
        name: "a\nb".to_owned(),
        description: long(4_001),
        host: "https://h".to_owned(),
        username: long(256),
        password: Some(Secret::new("x".repeat(1_001))),
        default_database: long(256),
        ..ServerFacts::default()
    };
    let error = server_create(plane, ctx, wrong.into()).await.unwrap_err();
    let expected =
        ["name", "description", "host", "port", "username", "password", "default_database", "license_alias"];
    assert_eq!(fields(&error), expected);
    assert!(!format!("{error:?}").contains("xxxxx"), "no value of a secret");
    let error = server_create(plane, ctx, ServerFacts::default().into()).await.unwrap_err();
    assert_eq!(fields(&error), ["cluster", "name", "host", "license_alias"]);
    let long_name = server_create(plane, ctx, server_facts(&"x".repeat(101), cluster.id).into()).await;
    assert_eq!(fields(&long_name.unwrap_err()), ["name"]);

    world.server(remote_facts("one", cluster.id)).await;
    for (facts, field) in [
        (server_facts("one", cluster.id), "name"),
        (ServerFacts { name: "two".to_owned(), ..remote_facts("one", cluster.id) }, "host"),
    ] {
        let error = server_create(plane, ctx, facts.into()).await.unwrap_err();
        assert_eq!((error.kind, fields(&error)), (ErrorKind::Conflict, vec![field]));
    }
    let same_host = ServerFacts { name: "two".to_owned(), port: Some(1), ..remote_facts("one", cluster.id) };
    world.server(same_host).await;
    world.kit
}

async fn clusters_have_an_order_without_gaps(world: World) -> Kit {
    let (plane, ctx) = (&world.plane, &world.ctx);
    let (one, two) = (world.environment("one").await, world.environment("two").await);
    let mut clusters = Vec::new();
    for name in ["a", "b", "c", "d"] {
        clusters.push(world.cluster(one.id, name).await);
    }
    world.cluster(two.id, "x").await;
    cluster_delete(plane, ctx, clusters[1].id).await.unwrap();
    assert_eq!(world.order(one.id).await, ["a", "c", "d"]);
    let there = ClusterFacts {
        environment: Some(two.id),
        name: "moved".to_owned(),
        description: Some("here".to_owned()),
        enabled: false,
    };
    let moved = cluster_update(plane, ctx, clusters[0].id, there.into()).await.unwrap();
    assert_eq!(cluster_get(plane, ctx, moved.id).await.unwrap(), moved);
    assert_eq!((moved.environment, moved.position, moved.enabled), (two.id, 2, false));
    assert_eq!(world.order(one.id).await, ["c", "d"]);
    assert_eq!(world.order(two.id).await, ["x", "moved"]);
    let same = ClusterFacts { environment: Some(one.id), name: "e".to_owned(), ..ClusterFacts::default() };
    let same = cluster_update(plane, ctx, clusters[3].id, same.into()).await.unwrap();
    assert_eq!((same.position, world.order(one.id).await), (2, vec!["c".to_owned(), "e".to_owned()]));
    for number in 0..98 {
        world.cluster(one.id, &format!("many {number}")).await;
    }
    let one_more =
        ClusterFacts { environment: Some(one.id), name: "z".to_owned(), ..ClusterFacts::default() };
    let error = cluster_create(plane, ctx, one_more.into()).await.unwrap_err();
    assert!(error.kind == ErrorKind::Invalid && error.message.contains("at most 100 clusters"), "{error}");
    world.kit
}

async fn servers_move_within_their_unit(world: World) -> Kit {
    let (plane, ctx) = (&world.plane, &world.ctx);
    let (one, two) = (world.environment("one").await, world.environment("two").await);
    let (a, b) = (world.cluster(one.id, "a").await, world.cluster(one.id, "b").await);
    let x = world.cluster(two.id, "x").await;
    let mut servers = Vec::new();
    for name in ["s1", "s2", "s3"] {
        servers.push(world.server(remote_facts(name, a.id)).await);
    }
    let place = |name: &str, position| (name.to_owned(), position);
    let moved = server_update(plane, ctx, servers[0].id, remote_facts("s1", b.id).into()).await.unwrap();
    assert_eq!((moved.cluster, moved.position), (b.id, 1));
    assert_eq!(world.servers(one.id).await, [place("s2", 1), place("s3", 2), place("s1", 1)]);
    server_update(plane, ctx, servers[1].id, remote_facts("s2", x.id).into()).await.unwrap();
    assert_eq!(world.servers(one.id).await, [place("s3", 1), place("s1", 1)]);
    assert_eq!(world.servers(two.id).await, [place("s2", 1)]);
    server_delete(plane, ctx, servers[2].id).await.unwrap();
    assert_eq!(world.servers(one.id).await, [place("s1", 1)]);

    let whole = ServerFacts {
        description: Some("d".to_owned()),
        kind: ServerType::Scheduler,
        username: Some("u".to_owned()),
        default_database: Some("admin".to_owned()),
        use_kerberos: true,
        use_pass_through: true,
        enabled: false,
        license_alias: Some("PRODUCTION_1".to_owned()),
        use_default_license_alias: false,
        ..remote_facts("s9", b.id)
    };
    let made = world.server(whole).await;
    assert_eq!(server_get(plane, ctx, made.id).await.unwrap(), made);
    assert!(made.use_kerberos && made.use_pass_through && !made.enabled && !made.use_default_license_alias);
    assert_eq!(server_named(plane, ctx, "s9").await.unwrap(), made);
    assert_eq!(server_named(plane, ctx, &made.id.to_string()).await.unwrap(), made);
    assert_eq!(server_named(plane, ctx, "none").await.unwrap_err().kind, ErrorKind::NotFound);

    let unit = world.kit.ou("Research").await;
    let there = sign_in::operator_in(&world.kit.estate, unit.uuid).await.unwrap();
    let other = environment_create(plane, &there, facts("other").into()).await.unwrap();
    let cluster =
        ClusterFacts { environment: Some(other.id), name: "o".to_owned(), ..ClusterFacts::default() };
    let cluster = cluster_create(plane, &there, cluster.into()).await.unwrap();
    let error = server_update(plane, ctx, made.id, remote_facts("s9", cluster.id).into()).await.unwrap_err();
    assert_eq!(fields(&error), ["cluster"]);
    let elsewhere =
        ClusterFacts { environment: Some(other.id), name: "b".to_owned(), ..ClusterFacts::default() };
    let error = cluster_update(plane, ctx, b.id, elsewhere.into()).await.unwrap_err();
    assert_eq!(fields(&error), ["environment"]);
    // Names are unique in a unit only.
    server_create(plane, &there, remote_facts("s9", cluster.id).into()).await.unwrap();
    world.kit
}

async fn an_embedded_server_has_a_node(world: World) -> Kit {
    let (plane, ctx, estate) = (&world.plane, &world.ctx, &world.kit.estate);
    let environment = world.environment("E").await;
    let cluster = world.cluster(environment.id, "C").await;
    let dev = world.server(server_facts("Dev 1", cluster.id)).await;
    assert_eq!(world.nodes().await, ["dev-1"]);
    assert!(dev.embedded && dev.node.is_some());
    // What is deployed to a server must not change another.
    let error = server_create(plane, ctx, server_facts("dev-1", cluster.id).into()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict, "{error}");
    assert!(error.message.contains("dev-1 is that of the server Dev 1"), "{error}");
    let other = world.server(remote_facts("dev-1", cluster.id)).await;
    let error =
        server_update(plane, ctx, other.id, server_facts("dev-1", cluster.id).into()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict, "{error}");
    server_delete(plane, ctx, other.id).await.unwrap();
    let renamed =
        server_update(plane, ctx, dev.id, server_facts("Renamed", cluster.id).into()).await.unwrap();
    assert_eq!((renamed.node, world.nodes().await), (dev.node, vec!["dev-1".to_owned()]));
    assert_eq!(node_delete(plane, ctx, "dev-1").await.unwrap_err().kind, ErrorKind::Conflict);
    let details = DatasourceDetails {
        name: "V".to_owned(),
        database_type: DatabaseType::Catalog(DATABASE_TYPE),
        host: Some("dev-1".to_owned()),
        database: Some("d".to_owned()),
        ..DatasourceDetails::default()
    };
    let source = datasource_create(estate, ctx, details, Vec::new()).await.unwrap();
    for refused in [
        server_delete(plane, ctx, dev.id).await,
        cluster_delete(plane, ctx, cluster.id).await,
        environment_delete(plane, ctx, environment.id).await,
    ] {
        let error = refused.unwrap_err();
        assert!(error.kind == ErrorKind::Conflict && error.message.contains("the datasource V"), "{error}");
    }
    assert_eq!(world.servers(environment.id).await.len(), 1, "nothing was deleted");
    datasource_delete(estate, ctx, source.id).await.unwrap();
    server_delete(plane, ctx, dev.id).await.unwrap();
    assert!(world.nodes().await.is_empty());

    // Nodes that were there before stay, and so does one that a server leaves.
    node_create(plane, ctx, "older").await.unwrap();
    world.server(server_facts("older", cluster.id)).await;
    world.server(server_facts("local", cluster.id)).await;
    let leaves = world.server(server_facts("leaves", cluster.id)).await;
    let left = server_update(plane, ctx, leaves.id, remote_facts("leaves", cluster.id).into()).await.unwrap();
    assert!(!left.embedded && left.node.is_none());
    cluster_delete(plane, ctx, cluster.id).await.unwrap();
    assert_eq!(world.nodes().await, ["leaves", "local", "older"]);
    world.kit
}

async fn passwords_are_sealed_and_kept(world: World) -> Kit {
    let (plane, ctx, estate) = (&world.plane, &world.ctx, &world.kit.estate);
    let environment = world.environment("E").await;
    let cluster = world.cluster(environment.id, "C").await;
    let with = |password: Option<&str>| ServerFacts {
        password: password.map(Secret::new),
        ..remote_facts("s", cluster.id)
    };
    let made = world.server(with(Some("generated-secret"))).await;
    assert!(made.has_password && !format!("{made:?}").contains("generated-secret"));
    let stored = async || {
        let mut conn = estate.store().read().await.unwrap();
        let row = conn.one("SELECT password_sealed FROM promotion_servers", args![]).await.unwrap();
        let sealed = row.bytes_opt(0).unwrap()?;
        let plain = estate.unseal(&format!("promotion_server:{}", made.id), &sealed).unwrap();
        Some(String::from_utf8(plain.to_vec()).unwrap())
    };
    assert_eq!(stored().await.as_deref(), Some("generated-secret"));
    for (password, expected) in [
        (None, Some("generated-secret")),
        (Some("another-secret"), Some("another-secret")),
        (Some(""), None),
        (None, None),
        (Some("third-secret"), Some("third-secret")),
    ] {
        let changed = server_update(plane, ctx, made.id, with(password).into()).await.unwrap();
        assert_eq!((stored().await.as_deref(), changed.has_password), (expected, expected.is_some()));
        assert_eq!(server_get(plane, ctx, made.id).await.unwrap(), changed);
    }
    for elsewhere in [
        ServerFacts { host: "evil.example.com".to_owned(), ..with(None) },
        ServerFacts { port: Some(1), ..with(None) },
    ] {
        let error = server_update(plane, ctx, made.id, elsewhere.clone().into()).await.unwrap_err();
        assert_eq!(fields(&error), ["password"]);
        let stated = ServerFacts { password: Some(Secret::new("third-secret")), ..elsewhere };
        server_update(plane, ctx, made.id, stated.into()).await.unwrap();
    }
    world.kit
}

async fn nothing_is_deleted_while_a_deployment_is_in_progress(world: World) -> Kit {
    let (plane, ctx) = (&world.plane, &world.ctx);
    let (busy, free) = (world.environment("busy").await, world.environment("free").await);
    let (cluster, other) = (world.cluster(busy.id, "C").await, world.cluster(free.id, "D").await);
    let server = world.server(remote_facts("S", cluster.id)).await;
    world.deploying(busy.id).await;
    let changed = |change: fn(&mut ServerFacts)| {
        let mut facts = remote_facts("S", cluster.id);
        change(&mut facts);
        server_update(plane, ctx, server.id, facts.into())
    };
    changed(|facts| facts.description = Some("what is not an address".to_owned())).await.unwrap();
    let there = ClusterFacts { environment: Some(free.id), name: "C".to_owned(), ..ClusterFacts::default() };
    for refused in [
        environment_delete(plane, ctx, busy.id).await,
        cluster_delete(plane, ctx, cluster.id).await,
        server_delete(plane, ctx, server.id).await,
        server_update(plane, ctx, server.id, remote_facts("S", other.id).into()).await.map(drop),
        changed(|facts| facts.host = "other.example.com".to_owned()).await.map(drop),
        changed(|facts| facts.host = "embedded".to_owned()).await.map(drop),
        changed(|facts| facts.port = Some(1)).await.map(drop),
        changed(|facts| facts.enabled = !facts.enabled).await.map(drop),
        cluster_update(plane, ctx, cluster.id, there.into()).await.map(drop),
    ] {
        let error = refused.unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "deploying"), "{error}");
        assert_eq!(error.message, "the deployment 99 to E is in progress");
    }
    cluster_delete(plane, ctx, other.id).await.unwrap();
    world.kit.exec("UPDATE promotion_deployments SET state = 'ok'", args![]).await;
    server_delete(plane, ctx, server.id).await.unwrap();
    cluster_delete(plane, ctx, cluster.id).await.unwrap();
    environment_delete(plane, ctx, busy.id).await.unwrap();
    assert_eq!(world.kit.number("SELECT count(*) FROM promotion_deployments").await, 1, "the record stays");
    world.kit
}

fn script(file: &str, arguments: Vec<Argument>) -> Option<Script> {
    Some(Script { file: file.to_owned(), arguments })
}

async fn configurations_and_variables_are_replaced(world: World) -> Kit {
    let (plane, ctx) = (&world.plane, &world.ctx);
    let environment = world.environment("E").await;
    let number = async || configuration_get(plane, ctx, environment.id).await.unwrap().configured_clusters;
    let initial = configuration_get(plane, ctx, environment.id).await.unwrap();
    assert_eq!(initial, Configuration { configured_clusters: Some(0), ..Configuration::default() });
    let cluster = world.cluster(environment.id, "C").await;
    assert_eq!(number().await, Some(0), "a cluster without an enabled server is not enabled");
    let server = world.server(server_facts("S", cluster.id)).await;
    assert_eq!(number().await, Some(1));

    let whole = Configuration {
        deployments_enabled: false,
        server_strategy: Strategy::Half,
        configured_clusters: Some(3),
        queue_deployments: true,
        approvals_required: 1,
        refuse_on_drift: true,
        scripts: Scripts {
            disable_server: script(
                "out.sh",
                vec![Argument::Literal("-v ; $(x)".to_owned()), Argument::Variable("host".to_owned())],
            ),
            enable_cluster: script("in.sh", Vec::new()),
            ..Scripts::default()
        },
        ..Configuration::default()
    };
    let stored = configuration_put(plane, ctx, environment.id, whole.clone().into()).await.unwrap();
    assert_eq!((&stored, &configuration_get(plane, ctx, environment.id).await.unwrap()), (&whole, &whole));
    let scripts = |file: &str| Scripts { enable_server: script(file, Vec::new()), ..Scripts::default() };
    for file in ["", ".", "..", "../x", "a/b", "/x", "a\0b", "a\nb", &"x".repeat(256)] {
        let wrong = Configuration { scripts: scripts(file), ..Configuration::default() };
        let error = configuration_put(plane, ctx, environment.id, wrong.into()).await.unwrap_err();
        assert_eq!(fields(&error), ["scripts.enable_server.file"], "{file:?}");
    }
    let wrong = Configuration {
        backup_enabled: true,
        approvals_required: 2,
        configured_clusters: Some(101),
        scripts: Scripts {
            disable_cluster: script(
                "x",
                vec![Argument::Literal("x".repeat(4_001)), Argument::Variable(String::new())],
            ),
            ..Scripts::default()
        },
        ..Configuration::default()
    };
    let error = configuration_put(plane, ctx, environment.id, wrong.into()).await.unwrap_err();
    let expected = [
        "backup_enabled",
        "approvals_required",
        "configured_clusters",
        "scripts.disable_cluster.arguments.0.literal",
        "scripts.disable_cluster.arguments.1.variable",
    ];
    assert_eq!(fields(&error), expected);
    assert!(error.faults[0].message.contains("no backup repository is configured"));
    assert_eq!(configuration_get(plane, ctx, environment.id).await.unwrap(), whole, "nothing was changed");

    let variables = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    for of in [VariablesOf::Cluster(cluster.id), VariablesOf::Server(server.id)] {
        assert!(variables_get(plane, ctx, of).await.unwrap().is_empty());
        for set in [variables(&[("a", "1"), ("b c", "'; \"")]), variables(&[("b c", "")]), variables(&[])] {
            variables_put(plane, ctx, of, set.clone().into()).await.unwrap();
            assert_eq!(variables_get(plane, ctx, of).await.unwrap(), set);
        }
        let (name, value) = ("x".repeat(101), "x".repeat(4_001));
        let wrong = variables(&[("", "x"), (&name, "x"), ("long", &value), ("nul", "\0")]);
        let error = variables_put(plane, ctx, of, wrong.into()).await.unwrap_err();
        assert_eq!(fields(&error), ["", "long", "nul", &name]);
        let many: BTreeMap<_, _> = (0..101).map(|at| (format!("v{at}"), String::new())).collect();
        variables_put(plane, ctx, of, many.into()).await.unwrap_err();
    }
    let predefined = variables(&[("host", "h"), ("name", "n"), ("port", "1")]);
    let of = VariablesOf::Server(server.id);
    let error = variables_put(plane, ctx, of, predefined.clone().into()).await.unwrap_err();
    assert_eq!(fields(&error), ["host", "name", "port"]);
    variables_put(plane, ctx, VariablesOf::Cluster(cluster.id), predefined.into()).await.unwrap();
    world.kit
}

/// A user of a unit with permissions there.
async fn user(world: &World, name: &str, unit: &landreeve_estate::ops::Ou, held: &[Permission]) -> OpCtx {
    let estate = &world.kit.estate;
    world.kit.user_in(unit.id, name, held).await;
    let origin =
        Origin { request_id: estate.uuid(), address: None, kind: landreeve_core::OpKind::Background };
    sign_in::by_password(estate, name, Secret::new(PASSWORD), None, origin).await.unwrap()
}

async fn other_units_do_not_see_an_environment(world: World) -> Kit {
    let plane = &world.plane;
    let all = |nouns: &[&'static str]| -> Vec<Permission> {
        nouns.iter().copied().map(|noun| Permission::new(Noun::new(noun), Action::MANAGE)).collect()
    };
    let unit = world.kit.ou("Research").await;
    let everything = ["environment", "deploy_development", "deploy_staging", "deploy_production"];
    let ann = user(&world, "ann", &unit, &all(&everything)).await;
    let above = world.environment("above").await;
    let cluster = world.cluster(above.id, "C").await;
    let server = world.server(remote_facts("S", cluster.id)).await;
    for unknown in [
        environment_get(plane, &ann, above.id).await.map(drop),
        environment_update(plane, &ann, above.id, facts("x").into()).await.map(drop),
        environment_delete(plane, &ann, above.id).await,
        environment_named(plane, &ann, "above").await.map(drop),
        cluster_list(plane, &ann, above.id).await.map(drop),
        cluster_get(plane, &ann, cluster.id).await.map(drop),
        cluster_delete(plane, &ann, cluster.id).await,
        server_list(plane, &ann, above.id).await.map(drop),
        server_get(plane, &ann, server.id).await.map(drop),
        server_named(plane, &ann, "S").await.map(drop),
        server_delete(plane, &ann, server.id).await,
        server_create(plane, &ann, remote_facts("T", cluster.id).into()).await.map(drop),
        configuration_get(plane, &ann, above.id).await.map(drop),
        variables_get(plane, &ann, VariablesOf::Cluster(cluster.id)).await.map(drop),
        variables_get(plane, &ann, VariablesOf::Server(server.id)).await.map(drop),
    ] {
        assert_eq!(unknown.unwrap_err().kind, ErrorKind::NotFound);
    }
    assert!(environment_list(plane, &ann, None).await.unwrap().items.is_empty());
    // From above, the units below are visible.
    let below = environment_create(plane, &ann, facts("above").into()).await.unwrap();
    assert_eq!(environment_get(plane, &world.ctx, below.id).await.unwrap(), below);
    assert_eq!(environment_list(plane, &world.ctx, None).await.unwrap().items.len(), 2);

    // A caller who sees an environment and lacks the permission is refused.
    let view = [Permission::new(Noun::new("environment"), Action::VIEW)];
    let bob = user(&world, "bob", &unit, &view).await;
    let deployer = [view[0], Permission::new(Noun::new("deploy_staging"), Action::MANAGE)];
    let cleo = user(&world, "cleo", &unit, &deployer).await;
    for refused in [
        environment_update(plane, &bob, below.id, facts("x").into()).await.map(drop),
        environment_delete(plane, &bob, below.id).await,
        configuration_get(plane, &bob, below.id).await.map(drop),
        // It is for production.
        configuration_get(plane, &cleo, below.id).await.map(drop),
    ] {
        assert_eq!(refused.unwrap_err().kind, ErrorKind::Forbidden);
    }
    let staging = EnvironmentFacts { license_alias: Some("STAGING".to_owned()), ..facts("above") };
    environment_update(plane, &ann, below.id, staging.into()).await.unwrap();
    configuration_get(plane, &cleo, below.id).await.unwrap();
    world.kit
}
