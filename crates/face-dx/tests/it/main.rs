//! Tests of the dialect with an estate in the same process.

#![expect(clippy::unwrap_used, reason = "test helpers fail like tests")]

use axum::Router;
use landreeve_core::ids::{KeyId, OuId};
use landreeve_core::{Permission, RunState};
use landreeve_delivery::queries::DATA_QUERY;
use landreeve_estate::ops::keys::key_set_enabled;
use landreeve_estate::ops::runs::PROBE;
use landreeve_estate::ops::users::user_update;
use landreeve_estate::ops::{Api, UserChange};
use landreeve_face_dx::{Options, ROUTES, permissions, router};
use landreeve_testkit::skeleton::{self, Credential, Dialect, Refusal, Routes};
use landreeve_testkit::{Answer, Ask, HOSTILE, Kit, everything, limits};
use serde_json::json;

mod data_cloud;
mod web;

pub async fn face() -> (Kit, Router) {
    let kit = Kit::new().await;
    let router =
        router(kit.delivery(), &Options { requests_per_minute: 0, polls_per_run: 0 }).unwrap().into();
    (kit, router)
}

/// The minimal arguments of a method, so that only the caller can be at fault.
fn arguments(path: &str, id: &str) -> serde_json::Value {
    match path.trim_start_matches("/api/").trim_start_matches('/') {
        "deployments.create" | "deployments.upsert" => {
            json!({ "reference_id": "r", "deployed_at": 1_680_723_287, "service": "s" })
        }
        "deployments.update" | "deployments.info" => json!({ "reference_id": "r" }),
        "deployments.setPullServices" => json!({ "repository": "a/b", "pull_number": 1, "services": ["s"] }),
        "incidents.upsert" => json!({ "reference_id": "i", "started_at": 1_680_723_287 }),
        "incidents.sync" => json!({ "reference_id": "i", "started_at": 1_680_723_287, "services": ["s"] }),
        "pipelineRuns.upsert" | "pipelineRuns.sync" => json!({
            "pipeline_name": "p", "pipeline_source": "Jenkins", "reference_id": "b", "started_at": "1680723287"
        }),
        "pullRequests.upsert" => json!({ "repository": "a/b", "number": 1, "created_at": 1_680_723_287 }),
        "commits.push" => json!({
            "repository": "a/b", "commits": [{ "sha": "d1a34f0", "committed_at": 1_680_723_287 }]
        }),
        "repos.upsert" => json!({ "repository": "a/b" }),
        "customData.set" => json!({ "reference": "r", "key": "k", "value": {} }),
        "customData.setAll" => json!({ "data": [] }),
        "customData.get" | "customData.delete" => json!({ "reference": "r", "key": "k" }),
        "customData.getAllByReference" | "customData.deleteAllByReference" => json!({ "reference": "r" }),
        "teams.info" | "teams.get" => json!({ "reference_id": "t" }),
        "teams.findByMembers" => json!({ "team_emails": "a@example.com" }),
        "orgfiles.teamHierarchy.process" | "orgfiles.teamHierarchy.preview" => {
            json!({ "teams": [{ "reference_id": "t", "name": "T" }] })
        }
        "users.findByGithubUsername" => json!({ "github_username": "ann" }),
        "users.update" | "users.upsert" => json!({ "email": "a@example.com" }),
        "queries.datafeed" | "datacloud.queries.datafeed" => json!({ "feed_token": "lrf_x" }),
        "studio.queryRuns.execute" => json!({ "sql": "select 1" }),
        "studio.queryRuns.download" => json!({ "token": "x" }),
        _ => json!({ "id": id }),
    }
}

pub fn view() -> Vec<Permission> {
    permissions::parse_scope("datacloud:query").unwrap()
}

#[track_caller]
pub fn fails(answer: &Answer, status: u16, word: &str) {
    let body = answer.json();
    assert_eq!((answer.status, &body["ok"], &body["error"]), (status, &json!(false), &json!(word)), "{body}");
    assert!(
        body["error_details"]["message"].is_string() && answer.header("content-type") == "application/json"
    );
}

/// Name and code of each invalid argument.
pub fn faults(answer: &Answer) -> Vec<[String; 2]> {
    let body = answer.json();
    let all = body["error_details"]["arguments"].as_array().unwrap();
    all.iter().map(|fault| ["name", "code"].map(|of| fault[of].as_str().unwrap().to_owned())).collect()
}

pub fn hash_id(kit: &Kit, run: &landreeve_estate::ops::Run) -> String {
    kit.estate.hash_ids().encode_plain(run.id)
}

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
    const BASE: &'static str = "";

    fn kit(&self) -> &Kit {
        &self.kit
    }

    fn router(&self) -> &Router {
        &self.router
    }

    async fn ask(&self, method: &str, path: &str) -> Ask {
        let id = hash_id(&self.kit, &self.kit.probe().await);
        Ask::new(method, path).json(&arguments(path, &id))
    }

    async fn caller(&self, permissions: &[Permission]) -> Credential {
        Credential::bearer(self.kit.key(Api::Delivery, permissions).await.1)
    }

    fn strangers(&self) -> Vec<Credential> {
        vec![Credential::bearer("lrd_wrong")]
    }

    fn refused(&self, answer: &Answer, why: Refusal) {
        let word = match why {
            Refusal::Missing => "not_authed",
            Refusal::Invalid => "invalid_auth",
            Refusal::Permission => "missing_scope",
        };
        fails(answer, 422, word);
    }

    fn open(&self, answer: &Answer) {
        fails(answer, 422, "invalid_auth");
    }

    fn allowed(&self, path: &str, answer: &Answer) {
        let word = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        let unknown =
            word.ends_with("not_found") || word == "no_users_found" || word == "execution_not_complete";
        assert!(answer.status < 300 || unknown, "{path}: {}", answer.body);
    }

    fn named(&self, answer: &Answer) -> Vec<String> {
        let invalid = answer.json()["error_details"]["arguments"].is_array();
        let faults = if invalid { faults(answer) } else { Vec::new() };
        faults.into_iter().map(|[name, _]| name).collect()
    }
}

#[tokio::test]
async fn the_document_states_what_is_accepted() {
    let tried = limits::the_document_states_what_is_accepted(&Face::new().await).await;
    assert!(tried > 200, "only {tried} limits");
}

#[tokio::test]
async fn every_route_rejects_callers_without_permission() {
    skeleton::every_route_rejects_callers_without_permission(&Face::new().await).await;
}

#[tokio::test]
async fn the_reference_does_not_need_a_key() {
    skeleton::the_reference_does_not_need_a_credential(&Face::new().await).await;
}

#[tokio::test]
async fn a_key_is_described() {
    let (kit, router) = face().await;
    let (_, key) = kit.key(Api::Delivery, &[]).await;
    let answer = Ask::get("/auth.info").bearer(&key).send(&router).await;
    let expected = r#"{"ok":true,"auth":{"token_type":"account_web_api_token","token_name":"ci","scopes":[],"expires_at":null,"created_at":"2026-01-15T12:00:00Z"},"account":{"name":"Global"}}"#;
    assert_eq!((answer.status, answer.body.as_str()), (200, expected));
    assert_eq!(Ask::post("/auth.info").bearer(&key).send(&router).await.body, expected);
    let admin = kit.user("ann", &everything()).await;
    let (_, key) = kit.user_key(Api::Delivery, &admin).await;
    let answer = Ask::get("/auth.info").bearer(&key).send(&router).await;
    assert_eq!(answer.json()["auth"]["token_type"], "personal_access_token");
}

#[tokio::test]
async fn only_a_valid_bearer_key_of_this_api_is_accepted() {
    let (kit, router) = face().await;
    let info = || Ask::get("/auth.info");
    let (_, other) = kit.key(Api::Analytics, &everything()).await;
    fails(&info().bearer(&other).send(&router).await, 422, "invalid_auth");
    fails(&info().basic("admin", landreeve_testkit::PASSWORD).send(&router).await, 422, "invalid_auth");
    for value in [&b"Bearer"[..], b"Token abc", b"\xff\xfe", b"Bearer a\xffb", b"Basic !!"] {
        fails(&info().header("authorization", value).send(&router).await, 422, "invalid_auth");
    }
    fails(&info().header("authorization", "").send(&router).await, 422, "not_authed");
    fails(&info().bearer("a").bearer("b").send(&router).await, 422, "invalid_auth");
    let (key, secret) = kit.key(Api::Delivery, &[]).await;
    assert_eq!(info().header("authorization", format!("bEARER   {secret}")).send(&router).await.status, 200);
    key_set_enabled(&kit.estate, &kit.operator(), KeyId(key.id.0), false).await.unwrap();
    fails(&info().bearer(&secret).send(&router).await, 422, "invalid_auth");
    let ann = kit.user("ann", &[]).await;
    let (_, secret) = kit.user_key(Api::Delivery, &ann).await;
    let change = UserChange { enabled: Some(false), ..UserChange::default() };
    user_update(&kit.estate, &kit.operator(), ann.id, change).await.unwrap();
    fails(&info().bearer(&secret).send(&router).await, 422, "account_inactive");
}

#[tokio::test]
async fn a_run_is_shown_as_a_query_run() {
    let (kit, router) = face().await;
    let (_, key) = kit.key(Api::Delivery, &view()).await;
    let words = [
        (RunState::Queued, "queued"),
        (RunState::Starting, "queued"),
        (RunState::Running, "running"),
        (RunState::Cancelling, "running"),
        (RunState::Succeeded, "succeeded"),
        (RunState::Failed, "failed"),
        (RunState::Cancelled, "failed"),
        (RunState::TimedOut, "failed"),
        (RunState::Lost, "failed"),
        (RunState::Expired, "expired"),
    ];
    for (state, word) in words {
        let run = kit.probe_in(state).await;
        let id = hash_id(&kit, &run);
        let answer = Ask::get(format!("/studio.queryRuns.info?id={id}")).bearer(&key).send(&router).await;
        let shown = &answer.json()["query_run"];
        assert_eq!(shown["status"], word, "{state:?}");
        assert_eq!(answer.header("retry-after"), if state.is_final() { "" } else { "1" });
        assert_eq!(shown["error"].is_object(), word == "failed");
        assert_eq!(shown["finished_at"].is_string(), state.is_final());
    }
    let run = kit.probe_in(RunState::Failed).await;
    let id = hash_id(&kit, &run);
    let ask = Ask::get(format!("/studio.queryRuns.info?id={id}")).header("x-forwarded-proto", "https");
    let expected = json!({ "ok": true, "query_run": {
        "id": id,
        "status": "failed",
        "submitted_at": "2026-01-15T12:00:00Z",
        "finished_at": "2026-01-15T12:03:12Z",
        "expires_at": "2026-02-14T12:03:12Z",
        "info_url": format!("https://estate.example/studio.queryRuns.info?id={id}"),
        "results_url": null,
        "error": { "code": "told_to_fail", "message": "the probe failed as requested" },
    }});
    assert_eq!(ask.bearer(&key).send(&router).await.json(), expected);
}

#[tokio::test]
async fn a_record_past_its_retention_is_gone_before_the_purge() {
    let (kit, router) = face().await;
    let (_, key) = kit.key(Api::Delivery, &view()).await;
    let run = kit.probe_in(RunState::Succeeded).await;
    let ask = || Ask::get(format!("/studio.queryRuns.info?id={}", hash_id(&kit, &run))).bearer(&key);
    assert_eq!(ask().send(&router).await.json()["query_run"]["status"], "succeeded");
    kit.clock.advance(std::time::Duration::from_secs(31 * 86_400));
    fails(&ask().send(&router).await, 422, "query_run_not_found");
}

#[tokio::test]
async fn a_run_can_be_cancelled_only_once() {
    let (kit, router) = face().await;
    kit.start().await;
    let (_, key) = kit.key(Api::Delivery, &permissions::parse_scope("datacloud:manage").unwrap()).await;
    let run = kit.long_probe().await;
    let id = hash_id(&kit, &run);
    // As curl sends it: JSON with the content type of a form.
    let cancel = || {
        Ask::post("/studio.queryRuns.cancel")
            .bearer(&key)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(json!({ "id": id }).to_string())
    };
    let answer = cancel().send(&router).await;
    assert_eq!((answer.status, &answer.json()["query_run"]["status"]), (200, &json!("running")));
    assert_eq!(kit.ended(&run).await.state, RunState::Cancelled);
    fails(&cancel().send(&router).await, 422, "not_cancellable");
}

#[tokio::test]
async fn a_run_id_is_accepted_in_every_notation() {
    let (kit, router) = face().await;
    let (_, key) = kit.key(Api::Delivery, &everything()).await;
    for case in 0..4 {
        let id = hash_id(&kit, &kit.probe().await);
        let ask = Ask::post("/studio.queryRuns.cancel").bearer(&key);
        let ask = match case {
            0 => ask.json(&json!({ "id": id })),
            1 => ask.body(format!("id={id}")),
            2 => Ask::post(format!("/studio.queryRuns.cancel?%20id={id}")).bearer(&key),
            _ => ask.header("content-type", "text/plain").body(format!("{{\"id\": \"{id}\"}}")),
        };
        assert_eq!(ask.send(&router).await.status, 200, "case {case}");
    }
    let cancel = |body: &str| Ask::post("/studio.queryRuns.cancel").bearer(&key).body(body);
    fails(&cancel("").send(&router).await, 422, "invalid_arguments");
    fails(&cancel("{\"id\":").send(&router).await, 422, "invalid_json");
    fails(&cancel("[]").send(&router).await, 422, "invalid_json");
    let answer = cancel("{\"id\": true}").send(&router).await;
    fails(&answer, 422, "invalid_arguments");
    let expected = json!([{ "name": "id", "code": "type", "message": "must be a string" }]);
    assert_eq!(answer.json()["error_details"]["arguments"], expected);
}

#[tokio::test]
async fn other_kinds_other_units_and_unknown_ids_are_not_found() {
    let (kit, router) = face().await;
    let unit = kit.ou("Research").await;
    let (_, key) = kit.key_in(Api::Delivery, &everything(), Some(&unit)).await;
    let (_, root) = kit.key(Api::Delivery, &everything()).await;
    let get = |id: &str, key: &str| Ask::get(format!("/studio.queryRuns.info?id={id}")).bearer(key);
    let elsewhere = hash_id(&kit, &kit.probe().await);
    fails(&get(&elsewhere, &key).send(&router).await, 422, "query_run_not_found");
    assert_eq!(get(&elsewhere, &root).send(&router).await.status, 200);
    let shown = [PROBE, DATA_QUERY.kind];
    for kind in kit.estate.registry().kinds().map(|kind| kind.kind).filter(|kind| !shown.contains(kind)) {
        let id = hash_id(&kit, &kit.run_of(kind, OuId::ROOT).await);
        fails(&get(&id, &root).send(&router).await, 422, "query_run_not_found");
    }
    for id in ["1", "zzzzzzzzzzzz", "%00", "a%20b", "AAAAAAAAAAAA", "-1", "%F0%9F%A6%80"] {
        fails(&get(id, &root).send(&router).await, 422, "query_run_not_found");
    }
    fails(&get("%ff%fe", &root).send(&router).await, 422, "invalid_arguments");
}

#[tokio::test]
async fn unknown_methods_are_json_errors() {
    let (_kit, router) = face().await;
    for ask in [
        Ask::get("/studio.queryRuns.execute"),
        Ask::get("/api/deployments.create"),
        Ask::post("/api/nothing.create"),
        Ask::get("/"),
        Ask::get("/studio.queryRuns.cancel"),
        Ask::new("DELETE", "/auth.info"),
        Ask::post("/studio.queryRuns.info"),
    ] {
        fails(&ask.send(&router).await, 422, "unknown_method");
    }
}

#[tokio::test]
async fn all_routes_work_below_a_prefix() {
    let (kit, router) = face().await;
    let (_, key) = kit.key(Api::Delivery, &[]).await;
    let mounted = Router::new().nest_service("/dx", router);
    assert_eq!(Ask::get("/dx/auth.info").bearer(&key).send(&mounted).await.status, 200);
    for ask in [Ask::get("/dx"), Ask::get("/dx/api/deployments.none"), Ask::new("PUT", "/dx/auth.info")] {
        fails(&ask.send(&mounted).await, 422, "unknown_method");
    }
}

#[tokio::test]
async fn hostile_input_is_never_a_500() {
    let (kit, router) = face().await;
    let (_, key) = kit.key(Api::Delivery, &everything()).await;
    for (method, path, _) in ROUTES {
        for bad in HOSTILE {
            let mut path = path.to_string();
            if let (Some(open), Some(close)) = (path.find('{'), path.find('}')) {
                path.replace_range(open..=close, bad);
            }
            let query: String = ["id", "%00"].map(|name| format!("{name}={bad}&")).concat();
            let ask = Ask::new(method, format!("{path}?{query}")).bearer(&key);
            let answer = ask.body(bad).send(&router).await;
            assert!(answer.status < 500, "{method} {path}?{query}: {}", answer.body);
            assert!(
                answer.body.is_empty()
                    || answer.header("content-type") == "text/plain; charset=utf-8"
                    || answer.json().is_object()
                    || answer.json().is_array()
            );
        }
    }
    let large = Ask::post("/studio.queryRuns.cancel").bearer(&key).body(vec![b'a'; 8 * 1_048_576 + 1]);
    fails(&large.send(&router).await, 422, "invalid_arguments");
}
