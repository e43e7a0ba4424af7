//! Servers on other machines, with a double in place of the network, on both metadata stores: what is deployed to them,
//! and what follows when their answers are lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use landreeve_core::ids::BoxFuture;
use landreeve_core::{Error, ErrorKind, Input, OpCtx, Result, Secret};
use landreeve_estate::args;
use landreeve_estate::ops::Run;
use landreeve_estate::ops::runs::{RunRef, run_wait};
use landreeve_promotion::access::{
    Application, ChangeKind, Listed, NodeAccess, NodeChange, NodeDone, NodeState, NodeWork, RemoteNodes,
    RemotePlace, ScriptDone, UNREACHABLE,
};
use landreeve_promotion::apply::{Options, apply};
use landreeve_promotion::clusters::{ClusterFacts, cluster_create};
use landreeve_promotion::deployments::drift::{DriftState, environment_drift};
use landreeve_promotion::deployments::{
    NewDeployment, Progress, Shown, Started, State, TaskState, deployment_progress, deployment_start,
};
use landreeve_promotion::environments::{EnvironmentFacts, environment_create};
use landreeve_promotion::ids::{ClusterId, EnvironmentId, RevisionId};
use landreeve_promotion::leases::{LeaseState, POLL, lease_ask_remote, lease_states};
use landreeve_promotion::revisions::{
    FromServer, NewRevision, ReplaceMode, RevisionType, ServerRef, revision_from_server, revision_text,
    revision_upload,
};
use landreeve_promotion::selection::{Description, Selection};
use landreeve_promotion::servers::{EMBEDDED, Server, ServerFacts, server_create};
use landreeve_promotion::versions::history;
use landreeve_promotion::vql::place::Place;
use landreeve_promotion::vql::properties::Properties;
use landreeve_promotion::{Promotion, PromotionOptions};
use landreeve_testkit::{Kit, follow};

/// What happens when scripts are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Done,
    /// A statement fails.
    Fails,
    /// The node refuses.
    Refuses,
    /// The answer is lost, although they were applied.
    LosesAnswer,
    /// They never arrive.
    LosesRequest,
    /// They are applied, and then the node is gone.
    Dies,
}

#[derive(Debug)]
struct There {
    then: Then,
    down: bool,
    /// The next answers to a rollback are lost.
    loses_rollbacks: usize,
    version: i64,
    /// Of the versions.
    hashes: Vec<String>,
    applied: BTreeMap<String, Option<Application>>,
    /// Who signed in where last.
    place: Option<RemotePlace>,
    withdrawn: Vec<String>,
}

/// The other machine.
#[derive(Debug)]
struct Far(Mutex<There>);

impl Far {
    fn new() -> Arc<Far> {
        Arc::new(Far(Mutex::new(There {
            then: Then::Done,
            down: false,
            loses_rollbacks: 0,
            version: 0,
            hashes: vec!["empty".to_owned()],
            applied: BTreeMap::new(),
            place: None,
            withdrawn: Vec::new(),
        })))
    }

    fn there(&self) -> MutexGuard<'_, There> {
        self.0.lock().unwrap()
    }

    fn up(&self) -> Result<MutexGuard<'_, There>> {
        let there = self.there();
        if there.down { Err(lost()) } else { Ok(there) }
    }
}

impl There {
    fn state(&self) -> NodeState {
        let at = usize::try_from(self.version).unwrap();
        NodeState { version: self.version, content_hash: self.hashes[at].clone() }
    }

    fn change(&mut self, hash: String) -> NodeState {
        self.version = i64::try_from(self.hashes.len()).unwrap();
        self.hashes.push(hash);
        self.state()
    }
}

fn lost() -> Error {
    Error::unavailable(UNREACHABLE, "the server F 1 cannot be reached: the connection broke")
}

struct FarNode(Arc<Far>);

#[derive(Debug)]
struct Wire(Arc<Far>);

impl RemoteNodes for Wire {
    fn node(&self, place: RemotePlace) -> Box<dyn NodeAccess> {
        self.0.there().place = Some(place);
        Box::new(FarNode(Arc::clone(&self.0)))
    }
}

fn done(work: &NodeWork, before: NodeState, after: NodeState, failed: usize) -> NodeDone {
    let listed = Listed {
        place: Place { line: 1, column: 1 },
        failed: true,
        text: "CREATE VIEW v".to_owned(),
        message: "there already is one".to_owned(),
    };
    let script = |failed: usize| ScriptDone {
        statements: 2,
        failed,
        listed: vec![listed.clone(); failed],
        omitted: 0,
    };
    NodeDone {
        before,
        after,
        scripts: work.scripts.iter().map(|_| script(failed)).collect(),
        invalid: Vec::new(),
        refused: Vec::new(),
        changes: Vec::new(),
    }
}

impl FarNode {
    fn applied(&self, work: &NodeWork, expected: &NodeState, key: String) -> Result<NodeDone> {
        let mut there = self.0.up()?;
        let before = there.state();
        assert_eq!(before, *expected, "the plane read it just before");
        assert!(!there.applied.contains_key(&key), "a key is used once");
        match there.then {
            Then::LosesRequest => return Err(lost()),
            Then::Refuses => return Err(Error::conflict("node_refused", "the server F 1: no")),
            Then::Fails => return Ok(done(work, before.clone(), before, 1)),
            Then::Done | Then::LosesAnswer | Then::Dies => {}
        }
        let text: Vec<&str> = work.scripts.iter().map(|script| script.text.as_str()).collect();
        let after = there.change(text.join(";"));
        there.applied.insert(key, Some(Application { from: before.version, to: after.clone() }));
        there.down = there.then == Then::Dies;
        if there.then == Then::Done { Ok(done(work, before, after, 0)) } else { Err(lost()) }
    }
}

fn ready<'a, T: Send + 'a>(value: Result<T>) -> BoxFuture<'a, Result<T>> {
    Box::pin(std::future::ready(value))
}

impl NodeAccess for FarNode {
    fn state(&self) -> BoxFuture<'_, Result<NodeState>> {
        ready(self.0.up().map(|there| there.state()))
    }

    fn changes(&self, since: NodeState) -> BoxFuture<'_, Result<Option<Vec<NodeChange>>>> {
        let change = |there: MutexGuard<'_, There>| NodeChange {
            kind: "view".to_owned(),
            name: format!("from {} to {}", since.version, there.version),
            change: ChangeKind::Create,
            before: None,
            after: None,
        };
        ready(self.0.up().map(|there| Some(vec![change(there)])))
    }

    fn plan(&self, work: NodeWork) -> BoxFuture<'_, Result<NodeDone>> {
        let state = self.0.up().map(|there| there.state());
        ready(state.map(|state| done(&work, state.clone(), state, 0)))
    }

    fn apply(&self, work: NodeWork, expected: NodeState, key: String) -> BoxFuture<'_, Result<NodeDone>> {
        ready(self.applied(&work, &expected, key))
    }

    fn application(&self, key: String) -> BoxFuture<'_, Result<Option<Application>>> {
        ready(self.0.up().map(|there| there.applied.get(&key).cloned().flatten()))
    }

    fn withdraw(&self, key: String) -> BoxFuture<'_, Result<Option<Application>>> {
        ready(self.0.up().map(|mut there| {
            there.withdrawn.push(key.clone());
            there.applied.entry(key).or_insert(None).clone()
        }))
    }

    fn rollback(&self, to: i64, expected: NodeState) -> BoxFuture<'_, Result<NodeState>> {
        ready(self.0.up().and_then(|mut there| {
            assert_eq!(there.state(), expected);
            there.version = to;
            if there.loses_rollbacks == 0 {
                return Ok(there.state());
            }
            there.loses_rollbacks -= 1;
            Err(lost())
        }))
    }

    fn text(&self) -> BoxFuture<'_, Result<String>> {
        ready(self.0.up().map(|there| there.state().content_hash))
    }

    fn describe(&self, selection: Selection) -> BoxFuture<'_, Result<Description>> {
        let vql = format!("CREATE DATABASE {};", selection.database);
        let properties = Properties::from([("a".to_owned(), "b".to_owned())]);
        ready(self.0.up().map(|_| Description { vql, properties }))
    }
}

struct Stage {
    kit: Kit,
    plane: Promotion,
    ctx: OpCtx,
    far: Arc<Far>,
}

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
    another_machine_is_deployed_to_and_compared
    what_became_of_scripts_is_found_out
    another_machine_is_rolled_back
    after_a_crash_the_other_machine_is_asked
    a_server_that_cannot_be_signed_in_to_is_named
    the_lease_of_a_server_that_answers_is_renewed
}

const SCRIPT: &str = "CREATE OR REPLACE DATABASE d; CONNECT DATABASE d; \
    CREATE INTERFACE VIEW i (id:long, name:text);";

impl Stage {
    async fn new(kit: Kit) -> Stage {
        let far = Far::new();
        let remote = Some(Arc::new(Wire(Arc::clone(&far))) as Arc<dyn RemoteNodes>);
        let options = PromotionOptions { remote, ..PromotionOptions::default() };
        let files = landreeve_testkit::files();
        let (plane, slot) = landreeve_promotion::plane(kit.engine(), files, true, Vec::new(), options);
        let kit = kit.reopen(vec![plane]).await;
        Stage { plane: slot.get().unwrap(), ctx: kit.operator(), kit, far }
    }

    async fn cluster(&self) -> (EnvironmentId, ClusterId) {
        let name = format!("e-{}", self.kit.estate.uuid());
        let facts = EnvironmentFacts { name, ..EnvironmentFacts::default() };
        let environment = environment_create(&self.plane, &self.ctx, Input::of(facts)).await.unwrap().id;
        let facts = ClusterFacts {
            environment: Some(environment),
            name: "c".to_owned(),
            description: None,
            enabled: true,
        };
        (environment, cluster_create(&self.plane, &self.ctx, Input::of(facts)).await.unwrap().id)
    }

    async fn server(&self, facts: ServerFacts) -> Server {
        server_create(&self.plane, &self.ctx, Input::of(facts)).await.unwrap()
    }

    async fn revision(&self) -> RevisionId {
        let new = NewRevision {
            name: "r".to_owned(),
            description: None,
            vql: SCRIPT.as_bytes().to_vec(),
            replace: ReplaceMode::Replace,
            properties: None,
        };
        revision_upload(&self.plane, &self.ctx, Input::of(new)).await.unwrap().id
    }

    async fn started(&self, environment: EnvironmentId, dry_run: bool) -> Result<Started> {
        let revisions = vec![self.revision().await];
        let new = NewDeployment { environment, revisions, description: String::new(), dry_run };
        deployment_start(&self.plane, &self.ctx, Input::of(new)).await
    }

    async fn start(&self, environment: EnvironmentId) -> Run {
        match self.started(environment, false).await.unwrap() {
            Started::Run(run) => *run,
            other => panic!("{other:?}"),
        }
    }

    async fn ended(&self, run: &Run) -> Progress {
        let which = || RunRef::Id(run.id);
        let (estate, wait) = (&self.kit.estate, Duration::from_secs(60));
        run_wait(estate, &self.ctx, which(), &[], wait).await.unwrap();
        let found = deployment_progress(&self.plane, &self.ctx, run.id, None).await.unwrap().unwrap();
        assert!(matches!(found.deployment.state, Shown::Ended(_)), "{found:#?}");
        assert!(found.tasks.iter().all(|task| task.state.is_final()), "{found:#?}");
        found
    }

    async fn deployed(&self, environment: EnvironmentId) -> Progress {
        let run = self.start(environment).await;
        self.ended(&run).await
    }

    async fn drift(&self, environment: EnvironmentId) -> (DriftState, usize) {
        let found = environment_drift(&self.plane, &self.ctx, environment).await.unwrap();
        (found[0].state, found[0].changes.as_ref().map_or(0, Vec::len))
    }
}

fn far(cluster: ClusterId) -> ServerFacts {
    ServerFacts {
        cluster: Some(cluster),
        name: "F 1".to_owned(),
        host: "far.example.com".to_owned(),
        port: Some(8_700),
        username: Some("promoter".to_owned()),
        password: Some(Secret::new("generated-secret")),
        enabled: true,
        use_default_license_alias: true,
        ..ServerFacts::default()
    }
}

fn near(cluster: ClusterId) -> ServerFacts {
    ServerFacts {
        cluster: Some(cluster),
        name: "near".to_owned(),
        host: EMBEDDED.to_owned(),
        enabled: true,
        use_default_license_alias: true,
        ..ServerFacts::default()
    }
}

async fn another_machine_is_deployed_to_and_compared(stage: &Stage) {
    let (environment, cluster) = stage.cluster().await;
    stage.server(far(cluster)).await;
    assert_eq!(stage.drift(environment).await, (DriftState::NeverDeployed, 0));
    let Started::Planned(_, plan) = stage.started(environment, true).await.unwrap() else {
        panic!("it was started");
    };
    assert_eq!((plan[0].server.as_str(), plan[0].from_hash.as_str()), ("F 1", "empty"));
    stage.kit.start_planes().await;
    let ended = stage.deployed(environment).await;
    assert_eq!(ended.deployment.state, Shown::Ended(State::Ok), "{ended:#?}");
    assert_eq!(ended.tasks[0].output, " - Executed 2 of 2 VQL commands");
    let place = stage.far.there().place.clone().unwrap();
    assert_eq!(
        (place.server.as_str(), place.node.as_str(), place.host.as_str(), place.port, place.plain),
        ("F 1", "f-1", "far.example.com", 8_700, false)
    );
    assert_eq!((place.username.as_str(), place.password.reveal()), ("promoter", "generated-secret"));
    assert_eq!(stage.drift(environment).await, (DriftState::InSync, 0));
    stage.far.there().change("others".to_owned());
    assert_eq!(stage.drift(environment).await, (DriftState::Drifted, 1));
    stage.far.there().down = true;
    assert_eq!(stage.drift(environment).await, (DriftState::Unreachable, 0));
    let error = stage.started(environment, true).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Unavailable, UNREACHABLE));
    stage.far.there().down = false;

    let from = FromServer {
        name: "taken".to_owned(),
        description: None,
        server: ServerRef::Named("F 1".to_owned()),
        database: "sales".to_owned(),
        kind: RevisionType::Insert,
        elements: None,
        replace: ReplaceMode::Replace,
    };
    let made = revision_from_server(&stage.plane, &stage.ctx, Input::of(from)).await.unwrap();
    let (_, text) = revision_text(&stage.plane, &stage.ctx, made.id).await.unwrap();
    assert_eq!(text, "CREATE DATABASE sales;");
}

async fn what_became_of_scripts_is_found_out(stage: &Stage) {
    stage.kit.start_planes().await;
    let failed = "the revisions could not be applied to the server F 1";
    for (then, state, message, output, changed) in [
        (
            Then::LosesAnswer,
            State::Ok,
            String::new(),
            "it was applied, but the answer of the node was lost",
            true,
        ),
        (
            Then::LosesRequest,
            State::Error,
            failed.to_owned(),
            "the connection broke; nothing was applied",
            false,
        ),
        (
            Then::Fails,
            State::Error,
            failed.to_owned(),
            "Executed 1 of 2 VQL commands\n - line 1, column 1: failed",
            false,
        ),
        (Then::Refuses, State::Error, failed.to_owned(), "the server F 1: no", false),
        (
            Then::Dies,
            State::Error,
            format!("{failed}; possibly with the new version, because the node does not answer: F 1"),
            "whether something was applied is not known",
            true,
        ),
    ] {
        let (environment, cluster) = stage.cluster().await;
        let server = stage.server(far(cluster)).await;
        let before = {
            let mut there = stage.far.there();
            (there.then, there.down) = (then, false);
            there.withdrawn.clear();
            there.version
        };
        let ended = stage.deployed(environment).await;
        assert_eq!(ended.deployment.state, Shown::Ended(state), "{then:?} {ended:#?}");
        assert_eq!(ended.deployment.message, message, "{then:?}");
        assert!(ended.tasks[0].output.contains(output), "{then:?} {ended:#?}");
        assert!(!format!("{ended:?}").contains("generated-secret"));
        let (after, withdrawn) = {
            let there = stage.far.there();
            (there.version, there.withdrawn.len())
        };
        assert_eq!(after > before, changed, "{then:?}");
        // What may still arrive must not be applied.
        assert_eq!(withdrawn, usize::from(then == Then::LosesRequest), "{then:?}");
        landreeve_promotion::servers::server_delete(&stage.plane, &stage.ctx, server.id).await.unwrap();
    }
}

async fn another_machine_is_rolled_back(stage: &Stage) {
    let (environment, cluster) = stage.cluster().await;
    stage.server(far(cluster)).await;
    stage.server(near(cluster)).await;
    // The second server has what the revision cannot create again.
    let done =
        apply(&stage.plane, &stage.ctx, "near", SCRIPT.to_owned(), Properties::new(), Options::default());
    assert!(!done.await.unwrap().failed());
    stage.kit.start_planes().await;
    let failed = "the revisions could not be applied to the server near";
    for lost in [0, 1] {
        stage.far.there().loses_rollbacks = lost;
        let ended = stage.deployed(environment).await;
        assert_eq!(ended.deployment.message, format!("{failed}; rolled back: F 1"), "{ended:#?}");
        let last = ended.tasks.last().unwrap();
        assert_eq!((last.kind.as_str(), last.state), ("ROLLBACK", TaskState::Ok));
        assert_eq!(stage.far.there().state().content_hash, "empty");
    }
    assert_eq!(history(&stage.plane, &stage.ctx, "near").await.unwrap().len(), 1);
    assert_eq!(stage.kit.number("SELECT count(*) FROM promotion_server_states").await, 0);
}

async fn after_a_crash_the_other_machine_is_asked(stage: &Stage) {
    let mut runs = Vec::new();
    for reached in [true, false] {
        let (environment, cluster) = stage.cluster().await;
        let server = stage.server(ServerFacts {
            name: format!("far-{reached}"),
            port: Some(if reached { 1 } else { 2 }),
            ..far(cluster)
        });
        let server = server.await;
        let run = stage.start(environment).await;
        stage
            .kit
            .exec(
                "UPDATE promotion_deployment_servers SET phase = 'applying', from_version = 0 WHERE deployment_id = $1",
                args![run.id],
            )
            .await;
        if reached {
            let mut there = stage.far.there();
            let to = there.change("new".to_owned());
            let key = format!("deployment:{}:{}", run.uuid, server.id);
            there.applied.insert(key, Some(Application { from: 0, to }));
        }
        let sql = "UPDATE runs SET state = 'running', attempt = 1, node_id = 999, occupies = 1, lease_until = 1 WHERE id = $1";
        stage.kit.exec(sql, args![run.id]).await;
        runs.push((run, reached));
    }
    stage.kit.start_planes().await;
    for (run, reached) in runs {
        let ended = stage.ended(&run).await;
        let rolled_back = if reached { "; rolled back: far-true" } else { "" };
        let message = format!("the server stopped while it was deploying{rolled_back}");
        assert_eq!(ended.deployment.message, message, "{ended:#?}");
        assert_eq!(ended.tasks.last().unwrap().kind, "RECOVERY");
    }
    let there = stage.far.there();
    assert_eq!((there.version, there.withdrawn.len()), (0, 1));
}

async fn a_server_that_cannot_be_signed_in_to_is_named(stage: &Stage) {
    let (environment, cluster) = stage.cluster().await;
    stage.server(ServerFacts { password: None, ..far(cluster) }).await;
    let error = stage.started(environment, false).await.unwrap_err();
    let expected =
        "the server F 1 is on another machine and has no user name and password; set both to deploy to it";
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Conflict, expected));
    assert_eq!(stage.drift(environment).await, (DriftState::Unreachable, 0));
    assert!(stage.far.there().place.is_none(), "it is not even tried");
}

async fn the_lease_of_a_server_that_answers_is_renewed(stage: &Stage) {
    let (_, cluster) = stage.cluster().await;
    let server = stage.server(far(cluster)).await;
    stage.server(ServerFacts { name: "off".to_owned(), enabled: false, port: Some(1), ..far(cluster) }).await;
    stage
        .server(ServerFacts { name: "none".to_owned(), password: None, port: Some(2), ..far(cluster) })
        .await;
    let state = async || {
        let leases = lease_states(&stage.plane, std::slice::from_ref(&server)).await.unwrap();
        leases.get(&server.id).copied().unwrap_or(LeaseState::Free)
    };
    stage.far.there().down = true;
    assert_eq!((lease_ask_remote(&stage.plane).await.unwrap(), state().await), (0, LeaseState::Free));
    stage.far.there().down = false;
    for _ in 0..2 {
        assert_eq!((lease_ask_remote(&stage.plane).await.unwrap(), state().await), (1, LeaseState::Active));
    }
    stage.far.there().down = true;
    stage.kit.clock.advance(Duration::from_secs(121));
    assert_eq!(lease_ask_remote(&stage.plane).await.unwrap(), 0);
    follow(&stage.kit.estate, "promotion", POLL).await;
    assert_eq!(state().await, LeaseState::Grace);
    stage.far.there().down = false;
    stage.kit.clock.advance(Duration::from_secs(6 * 86_400));
    assert_eq!((lease_ask_remote(&stage.plane).await.unwrap(), state().await), (1, LeaseState::Active));
    let ended = "SELECT count(*) FROM promotion_leases WHERE end_reason = 'grace_period_exceeded'";
    assert_eq!(stage.kit.number(ended).await, 1, "the lease before has ended");
}
