//! Tests of the dialect with an estate in the same process.

#![expect(clippy::unwrap_used, reason = "test helpers fail like tests")]

use axum::Router;
use landreeve_core::ids::OuId;
use landreeve_core::{Permission, RunState};
use landreeve_estate::ops::UserChange;
use landreeve_estate::ops::runs::PROBE;
use landreeve_estate::ops::users::user_update;
use landreeve_estate::upkeep::PURGE;
use landreeve_face_cloverdx::{BASE, Options, ROUTES, router};
use landreeve_testkit::skeleton::{self, Credential, Dialect, Refusal, Routes};
use landreeve_testkit::{Answer, Ask, HOSTILE, Kit, PASSWORD, everything, limits};
use serde_json::{Value, json};

async fn face() -> (Kit, Router) {
    let kit = Kit::new().await;
    let router = router(kit.estate.clone(), Options::default()).unwrap().into();
    (kit, router)
}

fn ask(method: &str, path: &str) -> Ask {
    Ask::new(method, format!("{BASE}{path}")).header("X-Requested-By", "any")
}

fn get(path: &str) -> Ask {
    ask("GET", path).basic("admin", PASSWORD)
}

#[track_caller]
fn fails(answer: &Answer, status: u16, message: &str) -> Value {
    let body = answer.json();
    assert_eq!((answer.status, body["message"].as_str()), (status, Some(message)), "{body}");
    assert_eq!((&body["@type"], &body["status"]), (&json!("Error"), &json!(status)));
    assert_eq!(answer.header("content-type"), "application/json");
    body["details"].clone()
}

const WRONG: &str = "The user name or password is incorrect";

struct Face {
    kit: Kit,
    router: Router,
}

impl Face {
    async fn new() -> Face {
        let (kit, router) = face().await;
        Face { kit, router }
    }
}

impl Dialect for Face {
    const ROUTES: Routes = ROUTES;
    const BASE: &'static str = BASE;
    const DOCS: &'static str = "/docs.html";

    fn kit(&self) -> &Kit {
        &self.kit
    }

    fn router(&self) -> &Router {
        &self.router
    }

    async fn ask(&self, method: &str, path: &str) -> Ask {
        ask(method, &path.replace("{runId}", &self.kit.probe().await.id.to_string()))
    }

    async fn caller(&self, permissions: &[Permission]) -> Credential {
        let name = format!("caller-{}", self.kit.estate.uuid());
        self.kit.user(&name, permissions).await;
        Credential::basic(&name, PASSWORD)
    }

    fn strangers(&self) -> Vec<Credential> {
        vec![Credential::basic("admin", "wrong")]
    }

    fn refused(&self, answer: &Answer, why: Refusal) {
        let status = if why == Refusal::Permission { 403 } else { 401 };
        let body = answer.json();
        assert_eq!(
            (answer.status, &body["@type"], &body["status"]),
            (status, &json!("Error"), &json!(status))
        );
        assert!(status == 403 || answer.header("www-authenticate") == "Basic realm=\"CloverDX Server\"");
    }

    fn open(&self, answer: &Answer) {
        panic!("no route is open: {}", answer.body);
    }

    fn allowed(&self, path: &str, answer: &Answer) {
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    }

    fn named(&self, answer: &Answer) -> Vec<String> {
        let details = answer.json()["details"].clone();
        let fields = details.as_array().into_iter().flatten().filter_map(|detail| detail["field"].as_str());
        fields.map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn the_document_states_what_is_accepted() {
    let tried = limits::the_document_states_what_is_accepted(&Face::new().await).await;
    assert!(tried > 5, "only {tried} limits");
}

#[tokio::test]
async fn every_route_rejects_callers_without_permission() {
    skeleton::every_route_rejects_callers_without_permission(&Face::new().await).await;
}

#[tokio::test]
async fn the_catalog_does_not_need_a_login_or_the_header() {
    skeleton::the_reference_does_not_need_a_credential(&Face::new().await).await;
}

#[tokio::test]
async fn the_header_is_checked_before_anything_else() {
    let (kit, router) = face().await;
    let run = kit.probe().await;
    let bare = |method: &str, path: &str| Ask::new(method, format!("{BASE}{path}")).basic("admin", PASSWORD);
    let message = "the header x-requested-by is required; any value will do";
    let abort = format!("/executions/{}/abort", run.id);
    fails(&bare("POST", &abort).send(&router).await, 400, message);
    fails(&bare("GET", "/executions").send(&router).await, 400, message);
    fails(&Ask::get(format!("{BASE}/executions")).send(&router).await, 400, message);
    assert_eq!(kit.run(&run).await.state, RunState::Queued);
    assert_eq!(bare("GET", "/executions").header("X-Requested-By", "").send(&router).await.status, 200);

    let mut options = Options { csrf_on_get: false, ..Options::default() };
    let lenient = landreeve_face_cloverdx::router(kit.estate.clone(), options.clone()).unwrap().into();
    assert_eq!(bare("GET", "/executions").send(&lenient).await.status, 200);
    fails(&bare("POST", &abort).send(&lenient).await, 400, message);
    options.csrf = false;
    let off = landreeve_face_cloverdx::router(kit.estate.clone(), options).unwrap().into();
    assert_eq!(bare("POST", &abort).send(&off).await.status, 200);
}

#[tokio::test]
async fn each_failed_sign_in_has_its_own_reason() {
    let (kit, router) = face().await;
    let ann = kit.user("ann", &everything()).await;
    let list = || ask("GET", "/executions");
    fails(&list().send(&router).await, 401, "a credential is required");
    fails(&list().basic("unknown", "wrong").send(&router).await, 401, WRONG);
    fails(&list().bearer("x").send(&router).await, 401, "the scheme must be Basic");
    for value in [&b"Basic"[..], b"Basic !!!", b"\xff", b"Basic bm9jb2xvbg=="] {
        let answer = list().header("authorization", value).send(&router).await;
        fails(&answer, 401, "the Authorization header cannot be read");
    }
    assert_eq!(list().basic("ann", PASSWORD).send(&router).await.status, 200);
    let change = UserChange { enabled: Some(false), ..UserChange::default() };
    user_update(&kit.estate, &kit.operator(), ann.id, change).await.unwrap();
    fails(&list().basic("ann", PASSWORD).send(&router).await, 401, WRONG);
    kit.user("bob", &everything()).await;
    for _ in 0..5 {
        fails(&list().basic("bob", "wrong").send(&router).await, 401, WRONG);
    }
    let locked = "The user name or password is incorrect";
    fails(&list().basic("bob", PASSWORD).send(&router).await, 401, locked);
    kit.clock.advance(std::time::Duration::from_secs(301));
    assert_eq!(list().basic("bob", PASSWORD).send(&router).await.status, 200);
}

const STATES: [(RunState, &str); 10] = [
    (RunState::Queued, "ENQUEUED"),
    (RunState::Starting, "READY"),
    (RunState::Running, "RUNNING"),
    (RunState::Cancelling, "RUNNING"),
    (RunState::Succeeded, "FINISHED_OK"),
    (RunState::Failed, "ERROR"),
    (RunState::Cancelled, "ABORTED"),
    (RunState::TimedOut, "TIMEOUT"),
    (RunState::Lost, "UNKNOWN"),
    (RunState::Expired, "FINISHED_OK"),
];

#[tokio::test]
async fn a_run_is_shown_as_an_execution() {
    let (kit, router) = face().await;
    for (state, word) in STATES {
        let run = kit.probe_in(state).await;
        let shown = get(&format!("/executions/{}", run.id)).send(&router).await.json();
        assert_eq!(shown["status"], word, "{state:?}");
        assert_eq!(shown.get("startTime").is_some(), state != RunState::Queued);
        assert_eq!(shown.get("stopTime").is_some(), state.is_final());
        assert_eq!(shown.get("jobError").is_some(), ["ERROR", "TIMEOUT", "UNKNOWN"].contains(&word));
    }
    let run = kit.probe_in(RunState::Failed).await;
    let expected = json!({
        "@self": format!("http://estate.example/api/rest/v1/executions/{}", run.id),
        "@type": "Execution",
        "runId": run.id.0,
        "jobFile": "probe",
        "jobType": "PROBE",
        "status": "ERROR",
        "submitTime": "2026-01-15T12:00:00.500+00:00",
        "startTime": "2026-01-15T12:00:01.500+00:00",
        "stopTime": "2026-01-15T12:03:12.862+00:00",
        "duration": 191_362,
        "durationString": "3m 11s",
        "username": "operator",
        "jobError": { "componentId": "probe", "message": "the probe failed as requested" },
    });
    assert_eq!(get(&format!("/executions/{}", run.id)).send(&router).await.json(), expected);
}

#[tokio::test]
async fn a_collection_is_paged_and_filtered() {
    let (kit, router) = face().await;
    for (state, _) in STATES {
        kit.probe_in(state).await;
    }
    kit.run_of(PURGE.kind, OuId::ROOT).await;
    let body = get("/executions?pageSize=4&startIndex=8").header("x-forwarded-proto", "https");
    let body = body.send(&router).await.json();
    let head = ["@self", "@type", "@totalItems", "@startIndex", "@pageItems"].map(|name| body[name].clone());
    let link = json!("https://estate.example/api/rest/v1/executions");
    assert_eq!(head, [link, json!("ExecutionCollection"), json!(10), json!(8), json!(2)]);
    assert_eq!(body["members"][1]["status"], "ENQUEUED");
    for (query, count) in [
        ("", 10),
        ("?startIndex=10", 0),
        ("?startIndex=9223372036854775807", 0),
        ("?status=RUNNING", 2),
        ("?status=FINISHED_OK&pageSize=1", 1),
        ("?pageSize=&status=&sandboxCode=", 10),
    ] {
        let body = get(&format!("/executions{query}")).send(&router).await.json();
        assert_eq!(body["@pageItems"], count, "{query}");
    }
    let answer = get("/executions?pageSize=0&startIndex=x&status=DONE&jobFile=a&size=1").send(&router).await;
    let details = fails(&answer, 400, "the request has 5 errors");
    let fields: Vec<_> = details.as_array().unwrap().iter().map(|detail| detail["field"].clone()).collect();
    assert_eq!(fields, ["size", "jobFile", "startIndex", "pageSize", "status"]);
}

#[tokio::test]
async fn an_abort_is_idempotent() {
    let (kit, router) = face().await;
    kit.start().await;
    let run = kit.long_probe().await;
    let abort = || ask("POST", &format!("/executions/{}/abort", run.id)).basic("admin", PASSWORD);
    let answer = abort().send(&router).await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("RUNNING")));
    assert_eq!(kit.ended(&run).await.state, RunState::Cancelled);
    for _ in 0..2 {
        let answer = abort().send(&router).await;
        assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("ABORTED")));
    }
    let done = kit.probe_in(RunState::Succeeded).await;
    let answer = ask("POST", &format!("/executions/{}/abort", done.id)).basic("admin", PASSWORD);
    assert_eq!(answer.send(&router).await.json()["status"], "FINISHED_OK");
}

#[tokio::test]
async fn other_kinds_other_units_and_unknown_ids_are_404() {
    let (kit, router) = face().await;
    let unit = kit.ou("Research").await;
    kit.user_in(unit.id, "ann", &everything()).await;
    let elsewhere = kit.probe().await;
    let path = format!("/executions/{}", elsewhere.id);
    let missing = "there is no such execution";
    fails(&ask("GET", &path).basic("ann", PASSWORD).send(&router).await, 404, missing);
    fails(&ask("POST", &format!("{path}/abort")).basic("ann", PASSWORD).send(&router).await, 404, missing);
    assert_eq!(ask("GET", "/executions").basic("ann", PASSWORD).send(&router).await.json()["@totalItems"], 0);
    for kind in kit.estate.registry().kinds().map(|kind| kind.kind).filter(|kind| *kind != PROBE) {
        let run = kit.run_of(kind, OuId::ROOT).await;
        fails(&get(&format!("/executions/{}", run.id)).send(&router).await, 404, missing);
    }
    for id in ["0", "99999", "-1", "+1", "1.0", "99999999999999999999", "%00", "a", "%F0%9F%A6%80", "%ff"] {
        let answer = get(&format!("/executions/{id}")).send(&router).await;
        assert_eq!((answer.status, &answer.json()["status"]), (404, &json!(404)), "{id}");
    }
    fails(&get("/dashboards").send(&router).await, 404, "there is nothing at this path");
    let answer = ask("DELETE", "/executions").basic("admin", PASSWORD).send(&router).await;
    fails(&answer, 405, "DELETE is not allowed on this path");
    let odd = Ask::get(format!("{BASE}/executions")).header("x-requested-by", "1").header("host", "a b\"<");
    assert_eq!(odd.basic("admin", PASSWORD).send(&router).await.status, 200);
}

#[tokio::test]
async fn everything_works_below_a_prefix() {
    let (_kit, router) = face().await;
    let mounted = Router::new().nest_service("/clover", router);
    assert_eq!(Ask::get(format!("/clover{BASE}/docs.html")).send(&mounted).await.status, 200);
    let list = || Ask::get(format!("/clover{BASE}/executions")).basic("admin", PASSWORD);
    assert_eq!(list().header("x-requested-by", "x").send(&mounted).await.status, 200);
    fails(&list().send(&mounted).await, 400, "the header x-requested-by is required; any value will do");
    fails(&Ask::get("/clover/none").send(&mounted).await, 404, "there is nothing at this path");
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
            let query: String = ["pageSize", "startIndex", "status", "sandboxCode"]
                .map(|name| format!("{name}={bad}&"))
                .concat();
            let ask = ask(method, &format!("{path}?{query}")).basic("admin", PASSWORD);
            let answer = ask.body(bad).send(&router).await;
            assert!(answer.status < 500, "{method} {path}?{query}: {}", answer.body);
            assert!(
                answer.body.is_empty()
                    || answer.header("content-type") == "text/plain; charset=utf-8"
                    || answer.json().is_object()
            );
        }
    }
}
