//! Nodes on other machines: what a server answers another one, and two estates that deploy to one another over sockets,
//! with a relay between them that misbehaves.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use landreeve_core::ids::{OuId, RunId};
use landreeve_core::{Action, Input, Permission, Secret};
use landreeve_estate::ops::runs::{RunRef, run_wait};
use landreeve_estate::outbound::http::OutboundHttp;
use landreeve_estate::outbound::{Network, Outbound};
use landreeve_face_denodo::remote::{Remote, Timeouts};
use landreeve_promotion::PromotionOptions;
use landreeve_promotion::access::RemoteNodes;
use landreeve_promotion::clusters::{ClusterFacts, cluster_create};
use landreeve_promotion::environments::{EnvironmentFacts, environment_create};
use landreeve_promotion::ids::{EnvironmentId, RevisionId};
use landreeve_promotion::nodes::node_create;
use landreeve_promotion::nouns::{DEPLOY_DEVELOPMENT, DEPLOY_PRODUCTION, REVISION};
use landreeve_promotion::revisions::{NewRevision, ReplaceMode, revision_upload};
use landreeve_promotion::servers::{EMBEDDED, ServerFacts, server_create};
use landreeve_testkit::{Answer, Ask, HttpRelay, Kit, Mishap, PASSWORD};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{Face, fails};

const SCRIPT: &str = "CREATE OR REPLACE DATABASE d;\nCONNECT DATABASE d;\n\
    CREATE OR REPLACE INTERFACE VIEW i (id:long, name:text);\n";

/// A valid request, if the route is one of nodes.
pub async fn ask(face: &Face, method: &str, path: &str) -> Option<Ask> {
    if !path.starts_with("/node/") {
        return None;
    }
    let name = format!("n-{}", face.kit.estate.uuid());
    node_create(&face.plane, &face.kit.operator(), &name).await.unwrap();
    let place = path.replace("{name}", &name).replace("{key}", "some-key");
    let scripts = json!([{ "name": "r", "text": SCRIPT }]);
    let hash = async || {
        let answer = call(face, Ask::get(format!("/node/{name}"))).await;
        answer.json()["contentHash"].clone()
    };
    let ask = Ask::new(method, place);
    Some(match path.rsplit('/').next() {
        Some("plan") => ask.json(&json!({ "scripts": scripts, "properties": {} })),
        Some("apply") => ask.json(&json!({
            "scripts": scripts, "properties": {}, "expectedHash": hash().await, "key": "k"
        })),
        Some("rollback") => {
            applied(face, &name, "k", hash().await, SCRIPT).await;
            ask.json(&json!({ "to": 0, "expectedHash": hash().await }))
        }
        Some("description") => {
            applied(face, &name, "k", hash().await, SCRIPT).await;
            ask.json(&json!({ "database": "d", "type": "INSERT", "replace": "REPLACE_EXISTING" }))
        }
        _ => ask,
    })
}

async fn call(face: &Face, ask: Ask) -> Answer {
    ask.basic("admin", PASSWORD).send(&face.router).await
}

async fn applied(face: &Face, node: &str, key: &str, hash: Value, text: &str) -> Answer {
    let body = json!({
        "scripts": [{ "name": "r", "text": text }], "properties": {}, "expectedHash": hash, "key": key
    });
    call(face, Ask::post(format!("/node/{node}/apply")).json(&body)).await
}

async fn shown(face: &Face, node: &str) -> Value {
    let answer = call(face, Ask::get(format!("/node/{node}"))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

#[tokio::test]
async fn a_node_is_planned_applied_to_and_rolled_back_once() {
    let face = Face::new().await;
    node_create(&face.plane, &face.kit.operator(), "prod-1").await.unwrap();
    let empty = shown(&face, "prod-1").await;
    assert_eq!((&empty["name"], &empty["version"]), (&json!("prod-1"), &json!(0)));
    let body = json!({ "scripts": [{ "name": "r", "text": SCRIPT }], "properties": {} });
    let plan = call(&face, Ask::post("/node/prod-1/plan").json(&body)).await.json();
    assert_eq!((&plan["version"], &plan["fromHash"]), (&json!(0), &empty["contentHash"]));
    assert_eq!(plan["changes"][0]["change"], "create", "{plan}");
    assert_eq!(shown(&face, "prod-1").await, empty, "nothing is applied");

    let first = applied(&face, "prod-1", "k1", empty["contentHash"].clone(), SCRIPT).await.json();
    assert_eq!((&first["version"], &first["contentHash"]), (&json!(1), &plan["contentHash"]));
    assert_eq!((&first["scripts"][0]["statements"], &first["changes"]), (&json!(3), &json!([])));
    // The same again is answered, whatever the node has by then.
    let again = applied(&face, "prod-1", "k1", json!("another"), "DROP DATABASE d CASCADE").await.json();
    assert_eq!((&again["version"], &again["scripts"]), (&json!(1), &json!([])));
    let moved = "the node prod-1 was changed at the same time by someone else";
    fails(&applied(&face, "prod-1", "k2", empty["contentHash"].clone(), SCRIPT).await, 409, moved);

    let application = async |method: &str, key: &str| {
        call(&face, Ask::new(method, format!("/node/prod-1/applications/{key}"))).await.json()
    };
    let known = json!({
        "key": "k1", "applied": true, "fromVersion": 0, "version": 1, "contentHash": first["contentHash"]
    });
    assert_eq!(application("GET", "k1").await, known);
    assert_eq!(application("DELETE", "k1").await, known, "it cannot be undone like this");
    let none = json!({ "key": "k3", "applied": false });
    for method in ["GET", "DELETE", "DELETE", "GET"] {
        assert_eq!(application(method, "k3").await, none);
    }
    let now = shown(&face, "prod-1").await["contentHash"].clone();
    let given_up = "the request was given up before it was executed; nothing was applied";
    fails(&applied(&face, "prod-1", "k3", now.clone(), "CREATE DATABASE e").await, 409, given_up);

    let second = applied(&face, "prod-1", "k4", now.clone(), "CREATE DATABASE e").await.json();
    assert_eq!(second["version"], 2);
    let since = call(&face, Ask::get("/node/prod-1?since=1")).await.json();
    assert_eq!((&since["sinceHash"], &since["changes"][0]["name"]), (&now, &json!("e")), "{since}");
    assert!(call(&face, Ask::get("/node/prod-1?since=9")).await.json().get("changes").is_none());
    let back = |to: i64, hash: &Value| {
        Ask::post("/node/prod-1/rollback").json(&json!({ "to": to, "expectedHash": hash }))
    };
    fails(&call(&face, back(1, &now)).await, 409, moved);
    fails(&call(&face, back(9, &second["contentHash"])).await, 404, "there is no such version");
    for (to, from, hash) in [(1, &second, &now), (0, &first, &empty["contentHash"])] {
        let answer = call(&face, back(to, &from["contentHash"])).await.json();
        assert_eq!((&answer["version"], &answer["contentHash"]), (&json!(to), hash));
    }
    fails(&call(&face, Ask::get("/node/prod-2")).await, 404, "there is no such virtual node");
    fails(&call(&face, Ask::get("/node/Prod%201")).await, 404, "there is no such virtual node");
}

#[tokio::test]
async fn what_fails_is_told_without_the_values_of_properties() {
    let face = Face::new().await;
    node_create(&face.plane, &face.kit.operator(), "n").await.unwrap();
    let empty = shown(&face, "n").await;
    let body = json!({
        "scripts": [
            { "name": "good", "text": "CREATE DATABASE d;" },
            { "name": "bad", "text": "CONNECT DATABASE d;\nCREATE VIEW v AS SELECT a FROM b WHERE c = '${x}';" }
        ],
        "properties": { "x": "generated-value" }, "expectedHash": empty["contentHash"], "key": "k"
    });
    let answer = call(&face, Ask::post("/node/n/apply").json(&body)).await;
    let done = answer.json();
    assert_eq!((answer.status, &done["version"]), (200, &json!(0)), "{done}");
    let failed = &done["scripts"][1]["listed"][0];
    assert_eq!((&failed["line"], &failed["failed"]), (&json!(2), &json!(true)), "{done}");
    assert!(failed["text"].as_str().unwrap().contains("${x}") && !answer.body.contains("generated-value"));
    assert_eq!(shown(&face, "n").await, empty, "all, or nothing");
    let missing = json!({ "scripts": [{ "name": "r", "text": "SET 'a' = '${y}'" }], "properties": {} });
    let answer = call(&face, Ask::post("/node/n/plan").json(&missing)).await;
    assert_eq!((answer.status, answer.json()["problems"][0]["field"].clone()), (400, json!("r")));
}

/// A node that is a server of an environment belongs to who manages deployments there.
#[tokio::test]
async fn a_promotion_administrator_of_the_scenario_is_let_in() {
    let face = Face::new().await;
    let (plane, operator) = (&face.plane, face.kit.operator());
    let environment = environment(&face, "Production").await;
    let facts = ServerFacts { host: EMBEDDED.to_owned(), port: None, ..facts(&face, environment, 1).await };
    server_create(plane, &operator, Input::of(facts)).await.unwrap();
    node_create(plane, &operator, "free").await.unwrap();
    let manage = |noun| Permission::new(noun, Action::MANAGE);
    for (name, permissions, free, own) in [
        ("production", vec![manage(REVISION), manage(DEPLOY_PRODUCTION)], 200, 200),
        ("development", vec![manage(REVISION), manage(DEPLOY_DEVELOPMENT)], 200, 403),
        ("revisions", vec![manage(REVISION)], 403, 403),
        ("deployer", vec![Permission::new(REVISION, Action::USE), manage(DEPLOY_PRODUCTION)], 403, 403),
    ] {
        face.kit.user(name, &permissions).await;
        for (node, status) in [("free", free), ("prod-1", own)] {
            let ask = Ask::get(format!("/node/{node}")).basic(name, PASSWORD);
            let answer = ask.send(&face.router).await;
            assert_eq!(answer.status, status, "{name} {node}: {}", answer.body);
        }
    }
    let unit = face.kit.ou("Research").await;
    face.kit.user_in(unit.id, "ann", &[manage(REVISION), manage(DEPLOY_PRODUCTION)]).await;
    let answer = Ask::get("/node/free").basic("ann", PASSWORD).send(&face.router).await;
    fails(&answer, 404, "there is no such virtual node");
}

async fn environment(face: &Face, name: &str) -> EnvironmentId {
    let facts = EnvironmentFacts { name: name.to_owned(), ..EnvironmentFacts::default() };
    environment_create(&face.plane, &face.kit.operator(), Input::of(facts)).await.unwrap().id
}

/// A server `Prod 1` of another machine.
async fn facts(face: &Face, environment: EnvironmentId, port: u16) -> ServerFacts {
    let facts =
        ClusterFacts { environment: Some(environment), name: face.name(), description: None, enabled: true };
    let cluster = cluster_create(&face.plane, &face.kit.operator(), Input::of(facts)).await.unwrap().id;
    ServerFacts {
        cluster: Some(cluster),
        name: "Prod 1".to_owned(),
        host: "http://127.0.0.1".to_owned(),
        port: Some(port),
        username: Some("promoter".to_owned()),
        password: Some(Secret::new(PASSWORD)),
        enabled: true,
        use_default_license_alias: true,
        ..ServerFacts::default()
    }
}

/// Two estates: one deploys to the node `prod-1` of the other, through a relay.
struct Pair {
    here: Face,
    there: Face,
    relay: HttpRelay,
    environment: EnvironmentId,
    revision: RevisionId,
}

/// Serves a face as the main listener does.
async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().nest("/solution-manager", router);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

fn remote(deny: &[&str], timeouts: Timeouts) -> Arc<dyn RemoteNodes> {
    let deny = deny.iter().map(|network| Network::parse(network).unwrap()).collect();
    let outbound = Outbound::new(deny, Vec::new(), PathBuf::from("."), Vec::new());
    let remote = Remote::new(Arc::new(OutboundHttp::new(outbound)), Vec::new());
    Arc::new(remote.with_timeouts(timeouts))
}

impl Pair {
    async fn new() -> Pair {
        Pair::with(&[], Timeouts::default()).await
    }

    async fn with(deny: &[&str], timeouts: Timeouts) -> Pair {
        let there = Face::new().await;
        node_create(&there.plane, &there.kit.operator(), "prod-1").await.unwrap();
        let manage = |noun| Permission::new(noun, Action::MANAGE);
        there.kit.user_in(OuId::ROOT, "promoter", &[manage(REVISION), manage(DEPLOY_PRODUCTION)]).await;
        let relay = HttpRelay::to(serve(there.router.clone()).await).await;
        let options =
            PromotionOptions { remote: Some(remote(deny, timeouts)), ..PromotionOptions::default() };
        let here = Face::with(Kit::new().await, options).await;
        let environment = environment(&here, "Production").await;
        let facts = facts(&here, environment, relay.port()).await;
        server_create(&here.plane, &here.kit.operator(), Input::of(facts)).await.unwrap();
        here.kit.start_planes().await;
        let new = NewRevision {
            name: "Revision 1".to_owned(),
            description: None,
            vql: SCRIPT.as_bytes().to_vec(),
            replace: ReplaceMode::Replace,
            properties: None,
        };
        let revision = revision_upload(&here.plane, &here.kit.operator(), Input::of(new)).await.unwrap().id;
        Pair { here, there, relay, environment, revision }
    }

    async fn start(&self, dry_run: bool) -> Answer {
        let body = json!({
            "revisionIds": [self.revision.0], "environmentId": self.environment.0, "dryRun": dry_run
        });
        call(&self.here, Ask::post("/deployments").json(&body)).await
    }

    /// The progress of a deployment at its end.
    async fn deployed(&self) -> Value {
        let answer = self.start(false).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let id = answer.json()["deploymentId"].as_i64().unwrap();
        let (estate, operator) = (&self.here.kit.estate, self.here.kit.operator());
        run_wait(estate, &operator, RunRef::Id(RunId(id)), &[], Duration::from_secs(60)).await.unwrap();
        let answer = call(&self.here, Ask::get(format!("/deployments/{id}/progress"))).await;
        answer.json()
    }

    async fn drift(&self) -> Value {
        let path = format!("/environments/{}/drift", self.environment);
        call(&self.here, Ask::get(path)).await.json()["servers"][0].clone()
    }

    async fn version(&self) -> i64 {
        shown(&self.there, "prod-1").await["version"].as_i64().unwrap()
    }

    /// Makes the node empty again.
    async fn reset(&self) {
        let now = shown(&self.there, "prod-1").await;
        let body = json!({ "to": 0, "expectedHash": now["contentHash"] });
        call(&self.there, Ask::post("/node/prod-1/rollback").json(&body)).await;
    }
}

#[tokio::test]
async fn one_estate_deploys_to_the_node_of_another() {
    let pair = Pair::new().await;
    let plan = pair.start(true).await.json()["plan"][0].clone();
    assert_eq!((&plan["server"], &plan["failing"]), (&json!("Prod 1"), &json!([])), "{plan}");
    assert_eq!(plan["changes"][0]["name"], "d");
    assert_eq!(pair.version().await, 0);

    let ended = pair.deployed().await;
    assert_eq!((&ended["state"], &ended["message"]), (&json!("OK"), &Value::Null), "{ended}");
    assert_eq!(ended["tasks"][0]["output"], " - Executed 3 of 3 VQL commands");
    assert_eq!(pair.version().await, 1);
    let drift = pair.drift().await;
    assert_eq!((&drift["state"], &drift["liveHash"]), (&json!("IN_SYNC"), &plan["toHash"]), "{drift}");
    let now = shown(&pair.there, "prod-1").await["contentHash"].clone();
    applied(&pair.there, "prod-1", "other", now, "CREATE DATABASE e").await;
    let drift = pair.drift().await;
    assert_eq!((&drift["state"], &drift["changes"][0]["name"]), (&json!("DRIFTED"), &json!("e")), "{drift}");

    let server = call(&pair.here, Ask::get(format!("/environments/{}/servers", pair.environment))).await;
    let body = json!({
        "name": "taken", "serverId": server.json()["servers"][0]["id"], "database": "d", "type": "INSERT"
    });
    let made = call(&pair.here, Ask::post("/revisions").json(&body)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let text = call(&pair.here, Ask::get(format!("/revisions/{}/vql", made.json()["id"]))).await;
    assert!(text.body.contains("CREATE OR REPLACE INTERFACE VIEW i"), "{}", text.body);
    let body = json!({
        "name": "none", "serverId": server.json()["servers"][0]["id"], "database": "d", "type": "INSERT",
        "elements": ["nothing"]
    });
    let answer = call(&pair.here, Ask::post("/revisions").json(&body)).await;
    fails(&answer, 400, "elements.0 is not an element of the database d: \"nothing\"");
    assert!(pair.relay.seen().contains(&"POST /solution-manager/node/prod-1/description".to_owned()));
}

/// What each mishap of the call that applies scripts leads to.
#[tokio::test]
async fn a_mishap_while_scripts_are_applied_is_decided_by_the_node() {
    let pair = Pair::new().await;
    let say = |text: &str| Mishap::Say(text.to_owned());
    let page = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>";
    let redirect =
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: https://evil.example.com/\r\ncontent-length: 0\r\n\r\n";
    let no_room = r#"{"status":503,"message":"no room"}"#;
    let busy = format!("HTTP/1.1 503 Busy\r\ncontent-length: {}\r\n\r\n{no_room}", no_room.len());
    for (mishap, state, part, version) in [
        (Mishap::CutAnswer, "OK", "it was applied, but the answer of the node was lost", 1),
        (Mishap::Refuse, "ERROR", "cannot be reached: ", 0),
        (say(page), "ERROR", "does not answer as a node does", 0),
        (say("SSH-2.0-OpenSSH_9.2\r\n"), "ERROR", "the response is not HTTP", 0),
        (say(redirect), "ERROR", "redirects to \"https://evil.example.com/\"", 0),
        (say(&busy), "ERROR", "cannot answer now: 503 no room", 0),
        (Mishap::Endless, "ERROR", "is larger than 8388608 bytes", 0),
    ] {
        pair.reset().await;
        pair.relay.pass();
        pair.relay.mishap("/apply", mishap.clone(), 1);
        let ended = pair.deployed().await;
        let output = ended["tasks"][0]["output"].as_str().unwrap();
        assert!(ended["state"] == state && output.contains(part), "{mishap:?}: {ended}");
        assert!(version == 1 || output.ends_with("nothing was applied"), "{mishap:?}: {ended}");
        assert_eq!(pair.version().await > 0, version > 0, "{mishap:?}");
        let seen = pair.relay.seen();
        assert_eq!(
            seen.iter().filter(|line| line.ends_with("/apply")).count(),
            1,
            "it is sent once: {seen:?}"
        );
        assert!(seen.last().unwrap().contains("/applications/deployment:"), "{seen:?}");
    }
}

#[tokio::test]
async fn a_slow_node_is_not_waited_for_longer_than_it_may_take() {
    let short = Duration::from_millis(300);
    let timeouts = Timeouts { apply: short, ..Timeouts::default() };
    let pair = Pair::with(&[], timeouts).await;
    pair.relay.mishap("/apply", Mishap::Hold, 1);
    let ended = pair.deployed().await;
    let output = ended["tasks"][0]["output"].as_str().unwrap();
    assert!(output.contains("took longer than 0.3 seconds; nothing was applied"), "{ended}");
    assert_eq!(pair.version().await, 0);
}

/// Before anything is applied, the deployment ends; a server that was not touched is not in doubt.
#[tokio::test]
async fn a_node_that_cannot_be_asked_is_not_deployed_to() {
    let pair = Pair::new().await;
    pair.relay.mishap("GET /solution-manager/node/prod-1 ", Mishap::Refuse, usize::MAX);
    let ended = pair.deployed().await;
    let message = ended["message"].as_str().unwrap();
    assert!(message.starts_with("the server Prod 1 cannot be reached: "), "{ended}");
    assert_eq!((&ended["state"], &ended["tasks"][0]["state"]), (&json!("ERROR"), &json!("ERROR")));
    assert_eq!(pair.drift().await["state"], "UNREACHABLE");
    pair.relay.pass();
    let answer = {
        pair.relay.mishap("/plan", Mishap::Refuse, 1);
        pair.start(true).await
    };
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.json()["message"].as_str().unwrap().starts_with("the server Prod 1 cannot be reached: "));
}

#[tokio::test]
async fn what_the_other_server_refuses_is_said() {
    let pair = Pair::new().await;
    let (kit, plane) = (&pair.there.kit, &pair.there.plane);
    landreeve_promotion::nodes::node_delete(plane, &kit.operator(), "prod-1").await.unwrap();
    let part = "it has no node prod-1; create it there: landreeve vql node create prod-1";
    let message = pair.deployed().await["message"].clone();
    assert_eq!(message, format!("the server Prod 1: {part}"));
    node_create(plane, &kit.operator(), "prod-1").await.unwrap();
    let facts = ServerFacts {
        host: EMBEDDED.to_owned(),
        port: None,
        ..facts(&pair.there, environment_of(&pair.there, "DEVELOPMENT").await, 1).await
    };
    server_create(plane, &kit.operator(), Input::of(facts)).await.unwrap();
    let message = pair.deployed().await["message"].clone();
    let expected = "the server Prod 1: the user promoter is not a promotion administrator there: ";
    assert!(message.as_str().unwrap().starts_with(expected), "{message}");
}

async fn environment_of(face: &Face, alias: &str) -> EnvironmentId {
    let facts = EnvironmentFacts {
        name: face.name(),
        license_alias: Some(alias.to_owned()),
        ..EnvironmentFacts::default()
    };
    environment_create(&face.plane, &face.kit.operator(), Input::of(facts)).await.unwrap().id
}

#[tokio::test]
async fn outbound_rules_hold() {
    let pair = Pair::with(&["127.0.0.0/8"], Timeouts::default()).await;
    let message = pair.deployed().await["message"].clone();
    assert!(message.as_str().unwrap().contains("[outbound] deny"), "{message}");
    assert!(pair.relay.seen().is_empty());
}
