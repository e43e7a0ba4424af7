//! Tests of the dialect with an estate in the same process.

#![expect(clippy::unwrap_used, reason = "test helpers fail like tests")]

use std::sync::Arc;

use axum::Router;
use landreeve_core::ids::OuId;
use landreeve_core::{Permission, RunState};
use landreeve_estate::ops::UserChange;
use landreeve_estate::ops::runs::PROBE;
use landreeve_estate::ops::users::user_update;
use landreeve_estate::upkeep::PURGE;
use landreeve_face_denodo::{Options, ROUTES, permissions, router};
use landreeve_promotion::clusters::{Cluster, ClusterFacts, cluster_create};
use landreeve_promotion::environments::{Environment, EnvironmentFacts, environment_create};
use landreeve_promotion::servers::{Server, ServerFacts, server_create};
use landreeve_promotion::{Promotion, PromotionOptions};
use landreeve_testkit::skeleton::{self, Credential, Dialect, Refusal, Routes};
use landreeve_testkit::{Answer, Ask, HOSTILE, Kit, PASSWORD, everything, limits};
use serde_json::{Value, json};

mod catalog;
mod deployments;
mod kerberos;
mod licenses;
mod nodes;
mod properties;
mod revisions;
mod roles;
mod transcripts;

async fn face() -> (Kit, Router) {
    let face = Face::new().await;
    (face.kit, face.router)
}

#[track_caller]
fn fails(answer: &Answer, status: u16, message: &str) {
    let mut body = answer.json();
    // They say the same, member by member.
    body.as_object_mut().unwrap().remove("problems");
    let expected = json!({ "status": status, "message": message });
    assert_eq!((answer.status, body), (status, expected));
    assert_eq!(answer.header("content-type"), "application/json;charset=UTF-8");
}

/// The schemes that a caller is offered.
fn challenges(answer: &Answer) -> Vec<&str> {
    answer.headers.get_all("www-authenticate").iter().map(|value| value.to_str().unwrap()).collect()
}

/// The fields that a refusal names.
fn problems(answer: &Answer) -> Vec<String> {
    let body = answer.json();
    let problems = body["problems"].as_array().into_iter().flatten();
    problems.map(|problem| problem["field"].as_str().unwrap().to_owned()).collect()
}

const WRONG: &str = "The user name or password is incorrect";

async fn sign_in(router: &Router, name: &str) -> String {
    let answer = Ask::get("/login").basic(name, PASSWORD).send(router).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.header("set-cookie").split(';').next().unwrap().to_owned()
}

struct Face {
    kit: Kit,
    plane: Promotion,
    router: Router,
}

impl Face {
    async fn new() -> Face {
        Face::over(Kit::new().await).await
    }

    async fn over(kit: Kit) -> Face {
        Face::with(kit, PromotionOptions::default()).await
    }

    async fn with(kit: Kit, options: PromotionOptions) -> Face {
        let (plane, slot) = landreeve_promotion::plane(
            kit.engine(),
            landreeve_testkit::files(),
            true,
            permissions::roles(),
            options,
        );
        let kit = kit.reopen(vec![plane]).await;
        let plane = slot.get().unwrap();
        let options = Options { tickets: Some(Arc::new(kerberos::Double::default())), ..Options::default() };
        let router = router(kit.estate.clone(), plane.clone(), options).unwrap().into();
        Face { kit, plane, router }
    }

    /// A name that nothing else has.
    fn name(&self) -> String {
        format!("x-{}", self.kit.estate.uuid())
    }

    /// For production, because it has no alias.
    async fn environment(&self) -> Environment {
        let facts = EnvironmentFacts { name: self.name(), ..EnvironmentFacts::default() };
        environment_create(&self.plane, &self.kit.operator(), facts.into()).await.unwrap()
    }

    async fn cluster(&self) -> Cluster {
        let environment = Some(self.environment().await.id);
        let facts = ClusterFacts { environment, name: self.name(), description: None, enabled: true };
        cluster_create(&self.plane, &self.kit.operator(), facts.into()).await.unwrap()
    }

    async fn server(&self) -> Server {
        let facts = ServerFacts {
            cluster: Some(self.cluster().await.id),
            name: self.name(),
            host: self.name(),
            port: Some(8_443),
            enabled: true,
            use_default_license_alias: true,
            ..ServerFacts::default()
        };
        server_create(&self.plane, &self.kit.operator(), facts.into()).await.unwrap()
    }

    /// The id of something that a path can name, by the first part of the path.
    async fn id(&self, path: &str) -> i64 {
        match path.split('/').nth(1) {
            Some("environments") => self.environment().await.id.0,
            Some("clusters") => self.cluster().await.id.0,
            Some("servers") => self.server().await.id.0,
            _ => self.kit.probe().await.id.0,
        }
    }

    /// A valid body, if the route has one.
    async fn body(&self, method: &str, path: &str) -> Option<Value> {
        let name = self.name();
        match (method, path) {
            ("POST", "/environments") | ("PUT", "/environments/{id}") => Some(json!({ "name": name })),
            ("POST", "/clusters") | ("PUT", "/clusters/{id}") => {
                Some(json!({ "name": name, "environmentId": self.environment().await.id.0 }))
            }
            ("POST", "/servers") | ("PUT", "/servers/{id}") => Some(json!({
                "name": name, "urlIP": name, "urlPort": 8_443, "clusterId": self.cluster().await.id.0
            })),
            ("PUT", _) => Some(json!({})),
            _ => None,
        }
    }
}

impl Dialect for Face {
    const ROUTES: Routes = ROUTES;
    const BASE: &'static str = "";
    /// A database can be one that the server does not have, an alias must be one of a scenario, and revisions must differ.
    const DEPENDENT: &'static [&'static str] = &["database", "licenseAlias", "revisionIds"];

    fn kit(&self) -> &Kit {
        &self.kit
    }

    fn router(&self) -> &Router {
        &self.router
    }

    async fn ask(&self, method: &str, path: &str) -> Ask {
        if let Some(ask) = deployments::ask(self, method, path).await {
            return ask;
        }
        if let Some(ask) = nodes::ask(self, method, path).await {
            return ask;
        }
        if let Some(ask) = revisions::ask(&self.kit, &self.router, method, path).await {
            return ask;
        }
        if let Some(ask) = properties::ask(&self.router, method, path).await {
            return ask;
        }
        let id = if path.contains("{id}") { self.id(path).await } else { 0 };
        let ask = Ask::new(method, path.replace("{id}", &id.to_string()));
        match self.body(method, path).await {
            Some(body) => ask.json(&body),
            None => ask,
        }
    }

    async fn caller(&self, permissions: &[Permission]) -> Credential {
        let name = format!("caller-{}", self.kit.estate.uuid());
        self.kit.user(&name, permissions).await;
        Credential::basic(&name, PASSWORD)
    }

    fn strangers(&self) -> Vec<Credential> {
        vec![Credential::basic("stranger", "wrong"), Credential::Cookie("JSESSIONID=00".to_owned())]
    }

    fn refused(&self, answer: &Answer, why: Refusal) {
        let status = if why == Refusal::Permission { 403 } else { 401 };
        assert_eq!((answer.status, &answer.json()["status"]), (status, &json!(status)), "{why:?}");
        let offered = ["Negotiate", "Basic realm=\"Solution Manager\""];
        assert!(status == 403 || challenges(answer) == offered, "{:?}", answer.headers);
    }

    fn open(&self, answer: &Answer) {
        assert_eq!(answer.status, 200);
    }

    fn allowed(&self, path: &str, answer: &Answer) {
        assert!([200, 201, 204].contains(&answer.status), "{path}: {} {}", answer.status, answer.body);
    }

    fn named(&self, answer: &Answer) -> Vec<String> {
        let fields = if answer.body.is_empty() { Vec::new() } else { problems(answer) };
        fields.into_iter().map(|field| field.replace(['[', ']'], "")).collect()
    }
}

#[tokio::test]
async fn the_document_states_what_is_accepted() {
    let tried = limits::the_document_states_what_is_accepted(&Face::new().await).await;
    assert!(tried > 120, "only {tried} limits");
}

#[tokio::test]
async fn every_route_rejects_callers_without_permission() {
    skeleton::every_route_rejects_callers_without_permission(&Face::new().await).await;
}

#[tokio::test]
async fn the_reference_does_not_need_a_login() {
    skeleton::the_reference_does_not_need_a_credential(&Face::new().await).await;
}

#[tokio::test]
async fn a_session_is_valid_from_login_to_logout() {
    let (kit, router) = face().await;
    let answer = Ask::get("/login").basic("admin", PASSWORD).header("accept", "application/json");
    let answer = answer.send(&router).await;
    let expected = concat!(
        r#"{"userName":"admin","promotionAdminEnvironments":null,"promotionEnvironments":null,"promotion":true,"#,
        r#""promotionAdmin":true,"solutionManagerAdmin":true,"vdpAdmin":true,"jmxAdmin":true,"admin":true,"jmxadmin":true}"#
    );
    assert_eq!((answer.status, answer.body.as_str()), (200, expected));
    let (value, rest) = answer.header("set-cookie").split_once(';').unwrap();
    assert_eq!(rest, "path=/;HttpOnly;SameSite=Lax");
    let secret = value.strip_prefix("JSESSIONID=").unwrap();
    let is_hex = |c: char| c.is_ascii_digit() || ('A'..='F').contains(&c);
    assert!(secret.len() == 32 && secret.chars().all(is_hex), "{secret}");

    let list = || Ask::get("/deployments").header("cookie", format!("theme=dark; {value}"));
    assert_eq!(list().send(&router).await.status, 200);
    // The cookie takes precedence, and the header is ignored.
    assert_eq!(list().basic("admin", "wrong").send(&router).await.status, 200);
    let answer = Ask::get("/logout").header("cookie", value).send(&router).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    fails(&list().send(&router).await, 401, "the session has ended; sign in again");
    // An invalid cookie does not prevent signing in with a password.
    assert_eq!(list().basic("admin", PASSWORD).send(&router).await.status, 200);

    let cookie = sign_in(&router, "admin").await;
    kit.clock.advance(std::time::Duration::from_secs(31 * 60));
    let answer = Ask::get("/deployments").header("cookie", cookie).send(&router).await;
    fails(&answer, 401, "the session has ended; sign in again");
}

#[tokio::test]
async fn each_failed_sign_in_has_its_own_reason() {
    let (kit, router) = face().await;
    let ann = kit.user("ann", &everything()).await;
    let login = || Ask::get("/login");
    fails(&login().send(&router).await, 401, "a credential is required");
    fails(&login().basic("ann", "wrong").send(&router).await, 401, WRONG);
    fails(&login().basic("unknown", "wrong").send(&router).await, 401, WRONG);
    fails(&login().bearer("x").send(&router).await, 401, "the scheme must be Basic");
    for value in [&b"Basic"[..], b"Basic !!!", b"\xff", b"Negotiate", b"Basic bm9jb2xvbg=="] {
        let answer = login().header("authorization", value).send(&router).await;
        fails(&answer, 401, "the Authorization header cannot be read");
    }

    let cookie = sign_in(&router, "ann").await;
    let change = UserChange { enabled: Some(false), ..UserChange::default() };
    user_update(&kit.estate, &kit.operator(), ann.id, change).await.unwrap();
    fails(&login().basic("ann", PASSWORD).send(&router).await, 401, WRONG);
    let answer = Ask::get("/deployments").header("cookie", cookie).send(&router).await;
    assert_eq!(answer.status, 401);

    kit.user("bob", &[]).await;
    for _ in 0..5 {
        fails(&login().basic("bob", "wrong").send(&router).await, 401, WRONG);
    }
    let locked = "The user name or password is incorrect";
    fails(&login().basic("bob", PASSWORD).send(&router).await, 401, locked);
    kit.clock.advance(std::time::Duration::from_secs(301));
    assert_eq!(login().basic("bob", PASSWORD).send(&router).await.status, 200);
}

const STATES: [(RunState, &str, &str); 10] = [
    (RunState::Queued, "IN_PROGRESS", "QUEUED"),
    (RunState::Starting, "IN_PROGRESS", "PENDING"),
    (RunState::Running, "IN_PROGRESS", "IN_PROGRESS"),
    (RunState::Cancelling, "IN_PROGRESS", "IN_PROGRESS"),
    (RunState::Succeeded, "OK", "OK"),
    (RunState::Failed, "ERROR", "ERROR"),
    (RunState::Cancelled, "ERROR", "CANCELED"),
    (RunState::TimedOut, "ERROR", "ERROR"),
    (RunState::Lost, "ERROR", "ERROR"),
    (RunState::Expired, "OK", "OK"),
];

#[tokio::test]
async fn a_run_is_shown_as_a_deployment() {
    let Face { kit, plane, router } = Face::new().await;
    let options = Options { later_states: true, ..Options::default() };
    let later = landreeve_face_denodo::router(kit.estate.clone(), plane, options).unwrap().into();
    for (state, word, later_word) in STATES {
        let run = kit.probe_in(state).await;
        for (router, word) in [(&router, word), (&later, later_word)] {
            let ask = Ask::get(format!("/deployments/{}/progress", run.id)).basic("admin", PASSWORD);
            let shown = ask.send(router).await.json();
            assert_eq!((&shown["state"], &shown["tasks"][0]["state"]), (&json!(word), &json!(word)));
            assert_eq!(shown["progress"] == 100, state.is_final());
        }
    }
    let run = kit.probe_in(RunState::Failed).await;
    let ask = || Ask::get(format!("/deployments/{}/progress", run.id)).basic("admin", PASSWORD);
    let expected = json!({
        "deploymentId": run.id.0, "state": "ERROR", "progress": 100, "tasks": [{
            "id": run.id.0, "name": "Probe", "state": "ERROR",
            "startDate": "2026-01-15T12:00:01.500+0000", "endDate": "2026-01-15T12:03:12.862+0000",
            "deploymentExecutionType": "PROBE", "output": "the probe failed as requested",
        }],
    });
    assert_eq!(ask().send(&router).await.json(), expected);
    // Missing values are left out.
    let queued = kit.probe().await;
    let ask = Ask::get(format!("/deployments/{}/progress", queued.id)).basic("admin", PASSWORD);
    let task = &ask.send(&router).await.json()["tasks"][0];
    assert!(task.get("startDate").is_none() && task.get("endDate").is_none());
    for (since, tasks) in [("2026-01-15T11:59:59%2B0000", 1), ("2026-01-15T12:00:02+0000", 0)] {
        let path = format!("/deployments/{}/progress?lastUpdate={since}", queued.id);
        let shown = Ask::get(path).basic("admin", PASSWORD).send(&router).await.json();
        assert_eq!(shown["tasks"].as_array().unwrap().len(), tasks, "{since}");
    }
}

#[tokio::test]
async fn deployments_are_listed_newest_first_and_filtered() {
    let (kit, router) = face().await;
    for (state, _, _) in STATES {
        kit.probe_in(state).await;
    }
    kit.run_of(PURGE.kind, OuId::ROOT).await;
    let list = |query: &str| Ask::get(format!("/deployments{query}")).basic("admin", PASSWORD);
    let body = list("").send(&router).await.json();
    assert_eq!((&body["start"], &body["count"], &body["numElements"]), (&json!(0), &json!(10), &json!(10)));
    let first = &body["deployments"][0];
    assert_eq!(first["deploymentTime"], "2026-01-15T12:00:00.500+0000");
    assert!(first["id"].as_i64() > body["deployments"][9]["id"].as_i64());
    assert_eq!(
        (&first["user"], &first["state"], &first["revisions"]),
        (&json!("operator"), &json!("OK"), &json!([]))
    );
    for (query, total, shown) in [
        ("?status=OK", 2, 2),
        ("?status=ERROR", 4, 4),
        ("?status=IN_PROGRESS", 4, 4),
        ("?start=8", 10, 2),
        ("?start=99", 10, 0),
        ("?count=3", 10, 3),
        ("?user=operator", 10, 10),
        ("?user=admin", 0, 0),
        ("?user=unknown", 0, 0),
        ("?description=ROB", 10, 10),
        ("?description=none", 0, 0),
        ("?environmentId=3", 0, 0),
        (
            "?startDeploymentTime=2026-01-15T12:00:00%2B0000&endDeploymentTime=2026-01-15T13:00:01%2B0100",
            10,
            10,
        ),
        (
            "?startDeploymentTime=2026-01-15T12:00:01%2B0000&endDeploymentTime=2026-01-15T13:00:00%2B0000",
            0,
            0,
        ),
    ] {
        let body = list(query).send(&router).await.json();
        let listed = body["deployments"].as_array().unwrap().len();
        assert_eq!((&body["numElements"], listed), (&json!(total), shown), "{query}");
    }
    let answer = list("?startDeploymentTime=2026-01-15T12:00:00%2B0000").send(&router).await;
    fails(&answer, 400, "endDeploymentTime is required, because the other time is given");
    fails(&list("?states=all").send(&router).await, 400, "states must be extended");
    fails(
        &list("?status=DONE").send(&router).await,
        400,
        "status must be one of PENDING, QUEUED, IN_PROGRESS, OK, OK_WITH_WARNINGS, ERROR, CANCELED",
    );
    let answer = list("?start=-1&count=0&environmentId=3&page=2").send(&router).await;
    let message = "page is not a parameter of this request; \
                   start must be between 0 and 9223372036854775807; count must be between 1 and 1000";
    fails(&answer, 400, message);
}

#[tokio::test]
async fn a_deployment_can_be_cancelled_only_once() {
    let (kit, router) = face().await;
    kit.start().await;
    let run = kit.long_probe().await;
    let cancel = || Ask::post(format!("/deployments/{}/cancel", run.id)).basic("admin", PASSWORD);
    let answer = cancel().send(&router).await;
    assert_eq!((answer.status, &answer.json()["state"]), (200, &json!("IN_PROGRESS")));
    assert_eq!(kit.ended(&run).await.state, RunState::Cancelled);
    fails(&cancel().send(&router).await, 409, "the run has already ended: cancelled");
}

#[tokio::test]
async fn other_kinds_other_units_and_unknown_ids_are_404() {
    let (kit, router) = face().await;
    let unit = kit.ou("Research").await;
    kit.user_in(unit.id, "ann", &everything()).await;
    let get = |id: &str, name: &str| Ask::get(format!("/deployments/{id}/progress")).basic(name, PASSWORD);
    let elsewhere = kit.probe().await.id.to_string();
    fails(&get(&elsewhere, "ann").send(&router).await, 404, "there is no such deployment");
    assert_eq!(get(&elsewhere, "admin").send(&router).await.status, 200);
    for kind in kit.estate.registry().kinds().map(|kind| kind.kind).filter(|kind| *kind != PROBE) {
        let id = kit.run_of(kind, OuId::ROOT).await.id.to_string();
        fails(&get(&id, "admin").send(&router).await, 404, "there is no such deployment");
    }
    for id in ["0", "99999", "-1", "+1", "1.0", "99999999999999999999", "%00", "a", "%F0%9F%A6%80", "%ff"] {
        let answer = get(id, "admin").send(&router).await;
        assert_eq!((answer.status, &answer.json()["status"]), (404, &json!(404)), "{id}");
    }
    let path = format!("/deployments/{elsewhere}/progress?lastUpdate=soon");
    let message = "lastUpdate must be a date such as 2017-11-07T16:50:32+0100";
    fails(&Ask::get(path).basic("admin", PASSWORD).send(&router).await, 400, message);
    fails(&Ask::get("/nothing").send(&router).await, 404, "there is nothing at this path");
    fails(&Ask::patch("/deployments").send(&router).await, 405, "PATCH is not allowed on this path");
}

#[tokio::test]
async fn hostile_input_is_never_a_500() {
    let (_kit, router) = face().await;
    for (method, path, _) in ROUTES {
        for bad in HOSTILE {
            let mut path = path.to_string();
            if let (Some(open), Some(close)) = (path.find('{'), path.find('}')) {
                path.replace_range(open..=close, bad);
            }
            let query: String = ["start", "count", "status", "user", "lastUpdate"]
                .map(|name| format!("{name}={bad}&"))
                .concat();
            let ask = Ask::new(method, format!("{path}?{query}")).basic("admin", PASSWORD);
            let answer = ask.body(bad).send(&router).await;
            assert!(answer.status < 500, "{method} {path}?{query}: {}", answer.body);
            assert!(
                answer.body.is_empty()
                    || answer.header("content-type") == "text/plain; charset=utf-8"
                    || matches!(answer.json(), Value::Object(_) | Value::Array(_))
            );
        }
    }
}
