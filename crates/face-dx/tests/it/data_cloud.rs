//! The Data Cloud's families over the wire: the examples of the source document, and pitfalls of real clients.

use axum::Router;
use landreeve_core::Permission;
use landreeve_estate::ops::Api;
use landreeve_face_dx::{Options, permissions, router};
use landreeve_testkit::{Answer, Ask, Kit};
use serde_json::{Value, json};

use crate::{face, fails, faults};

pub struct Client<'a> {
    pub kit: &'a Kit,
    pub router: &'a Router,
    pub key: String,
}

impl<'a> Client<'a> {
    pub async fn new(kit: &'a Kit, router: &'a Router, scopes: &[&str]) -> Client<'a> {
        let held: Vec<Permission> =
            scopes.iter().flat_map(|scope| permissions::parse_scope(scope).unwrap()).collect();
        let (_, key) = kit.key(Api::Delivery, &held).await;
        Client { kit, router, key }
    }

    pub async fn post(&self, method: &str, arguments: &Value) -> Answer {
        Ask::post(format!("/{method}")).bearer(&self.key).json(arguments).send(self.router).await
    }

    pub async fn get(&self, method: &str) -> Answer {
        Ask::get(format!("/{method}")).bearer(&self.key).send(self.router).await
    }

    #[track_caller]
    pub fn done(answer: &Answer) {
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"ok":true}"#));
    }

    /// The result of SQL on the store, as text.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        self.kit.rows(sql).await
    }
}

async fn writer<'a>(kit: &'a Kit, router: &'a Router) -> Client<'a> {
    Client::new(kit, router, &["datacloud:write"]).await
}

#[tokio::test]
async fn the_two_documented_requests_are_the_same_deployment() {
    let (kit, router) = face().await;
    let client = writer(&kit, &router).await;
    let json = r#"{
"reference_id": "globally-unique-identifier",
"deployed_at": 1680723287,
"service": "my_service",
"commit_sha": "d1a34f0"
}"#;
    let ask =
        Ask::post("/api/deployments.create").bearer(&client.key).header("content-type", "application/json");
    Client::done(&ask.body(json).send(&router).await);
    let path = "/api/deployments.create?%20reference_id=globally-unique-identifier&deployed_at=1680723287\
                &service=my_service&%20commit_sha=d1a34f0";
    Client::done(&Ask::post(path).bearer(&client.key).send(&router).await);
    let rows = client.rows("select reference_id, commit_sha from delivery_deployments").await;
    assert_eq!(rows, [["globally-unique-identifier", "d1a34f0"]]);
    // With another value it is another deployment.
    let path = path.replace("1680723287", "1680723288");
    let answer = Ask::post(path).bearer(&client.key).send(&router).await;
    fails(&answer, 422, "reference_id_taken");
    let faults = &answer.json()["error_details"]["arguments"];
    assert_eq!(faults[0]["name"], "reference_id");
    assert!(faults[0]["message"].as_str().unwrap().contains("deployed_at"), "{faults}");
}

#[tokio::test]
async fn arguments_are_accepted_in_every_notation() {
    let (kit, router) = face().await;
    let client = writer(&kit, &router).await;
    let ask = || Ask::post("/api/deployments.create").bearer(&client.key);
    let json = |n: u32| {
        json!({ "reference_id": format!("r{n}"), "deployed_at": "2023-04-05T19:34:47", "service": "s",
            "merge_commit_shas": ["d1a34f0a", "d1a34f0b"] })
    };
    Client::done(&ask().body(json(1).to_string()).send(&router).await);
    Client::done(&ask().header("content-type", "text/plain").body(json(2).to_string()).send(&router).await);
    let form = "reference_id=r3&deployed_at=1680723287000&service=s&merge_commit_shas[]=d1a34f0a&merge_commit_shas[]=d1a34f0b";
    Client::done(
        &ask().header("content-type", "application/x-www-form-urlencoded").body(form).send(&router).await,
    );
    let form = "reference_id=r4&deployed_at=1680723287&service=s&merge_commit_shas=%5B%22d1a34f0a%22%2C%22d1a34f0b%22%5D";
    Client::done(&ask().body(form).send(&router).await);
    let rows = client.rows("select deployed_at, merge_commit_shas from delivery_deployments").await;
    assert_eq!(rows.len(), 4);
    for row in rows {
        assert_eq!(row[1], r#"["d1a34f0a","d1a34f0b"]"#);
    }
    let times = client.rows("select distinct cast(deployed_at as text) from delivery_deployments").await;
    assert_eq!(times, [["1680723287000000"]]);
    for (n, service) in [json!("a"), json!({"identifier": "a"}), json!({"identifier": "a", "name": "A"})]
        .into_iter()
        .enumerate()
    {
        let body =
            json!({ "reference_id": format!("s{n}"), "deployed_at": 1_680_723_287, "service": service });
        Client::done(&client.post("api/deployments.create", &body).await);
    }
    let services = client.rows("select identifier, name from delivery_services order by id").await;
    assert_eq!(services, [["s", "s"], ["a", "A"]]);
}

#[tokio::test]
async fn faults_are_named_and_nothing_is_stored() {
    let (kit, router) = face().await;
    let client = writer(&kit, &router).await;
    let create = async |body: Value| client.post("api/deployments.create", &body).await;
    fails(&create(json!({})).await, 422, "required_params_missing");
    let answer =
        create(json!({ "deployed_at": true, "service": [], "success": "maybe", "commit_sha": "xyz" })).await;
    fails(&answer, 422, "invalid_arguments");
    let expected = [["deployed_at", "time"], ["service", "type"], ["success", "type"], ["commit_sha", "sha"]];
    assert_eq!(faults(&answer), expected);
    let with = |name: &str, value: Value| {
        let mut body = json!({ "reference_id": "x", "deployed_at": 1_680_723_287, "service": "s" });
        body[name] = value;
        body
    };
    fails(&create(with("commit_sha", json!("xyz"))).await, 422, "invalid_arguments");
    fails(&create(with("metadata", json!({ "a.b": 1 }))).await, 422, "metadata_invalid");
    fails(&create(with("metadata", json!("x"))).await, 422, "metadata_invalid");
    fails(&create(with("deployed_at", json!("2030-01-01"))).await, 422, "invalid_arguments");
    fails(&create(with("deployed_at", json!("yesterday"))).await, 422, "invalid_arguments");
    fails(&create(with("service", json!({ "name": "" }))).await, 422, "invalid_arguments");
    let ask = Ask::post("/api/deployments.create").bearer(&client.key).body("{\"service\":");
    fails(&ask.send(&router).await, 422, "invalid_json");
    assert!(client.rows("select id from delivery_deployments").await.is_empty());
    assert!(client.rows("select id from delivery_services").await.is_empty());
    fails(
        &client.post("api/deployments.update", &json!({ "reference_id": "no" })).await,
        422,
        "deployment_not_found",
    );
    fails(&client.post("api/deployments.nothing", &json!({})).await, 422, "unknown_method");
}

/// Values that cannot be read, values the plane rejects, and contradictions: all in one response.
#[tokio::test]
async fn one_response_names_every_fault() {
    let (kit, router) = face().await;
    let client = writer(&kit, &router).await;
    let (late, long) = ("2030-01-01", "x".repeat(256));
    let cases: [(&str, Value, &[[&str; 2]]); 7] = [
        (
            "deployments.create",
            json!({ "reference_id": long, "deployed_at": late, "service": "s", "commit_sha": "xyz",
                "merge_commit_shas": ["d1a34f0", {}], "metadata": { "a.b": 1 } }),
            &[
                ["merge_commit_shas.1", "type"],
                ["metadata.a.b", "key"],
                ["reference_id", "length"],
                ["deployed_at", "range"],
                ["commit_sha", "sha"],
                ["commit_sha", "exclusive"],
            ],
        ),
        (
            "incidents.upsert",
            json!({ "reference_id": "i", "started_at": late, "resolved_at": "2029-01-01", "name": {},
                "services": ["a", true], "metadata": "x" }),
            &[
                ["name", "type"],
                ["services.1", "type"],
                ["metadata", "type"],
                ["started_at", "range"],
                ["resolved_at", "range"],
            ],
        ),
        (
            "pipelineRuns.upsert",
            json!({ "pipeline_name": {}, "reference_id": long, "started_at": "soon", "commit_sha": "xyz",
                "pr_number": 0 }),
            &[
                ["pipeline_name", "type"],
                ["pipeline_source", "required"],
                ["started_at", "time"],
                ["reference_id", "length"],
                ["repository", "required"],
                ["repository", "required"],
                ["pr_number", "range"],
                ["commit_sha", "sha"],
            ],
        ),
        (
            "pullRequests.upsert",
            json!({ "repository": "", "number": 0, "created_at": late, "merged_at": "soon",
                "merge_commit_sha": "xyz", "commit_shas": ["d1a34f0", "x"] }),
            &[
                ["repository", "required"],
                ["merged_at", "time"],
                ["number", "range"],
                ["created_at", "range"],
                ["merge_commit_sha", "sha"],
                ["commit_shas.1", "sha"],
            ],
        ),
        (
            "commits.push",
            json!({ "repository": {}, "commits": [
                { "sha": "xyz", "committed_at": late, "parents": ["x"] }, 5, { "sha": "d1a34f0" } ] }),
            &[
                ["repository", "type"],
                ["commits.1", "type"],
                ["commits.2.committed_at", "required"],
                ["commits.0.committed_at", "range"],
                ["commits.0.parents.0", "sha"],
                ["commits.0.sha", "sha"],
            ],
        ),
        (
            "repos.upsert",
            json!({ "repository": long, "default_branch": {} }),
            &[["default_branch", "type"], ["repository", "length"]],
        ),
        (
            "customData.setAll",
            json!({ "data": [{ "key": "k", "value": 5 }, 7] }),
            &[["data.0.reference", "required"], ["data.1", "type"], ["data.0.value", "type"]],
        ),
    ];
    for (method, body, expected) in cases {
        let answer = client.post(&format!("api/{method}"), &body).await;
        fails(&answer, 422, "invalid_arguments");
        assert_eq!(faults(&answer), expected, "{method}");
    }
    for table in ["deployments", "incidents", "pipeline_runs", "changes", "repos", "custom_data"] {
        assert!(client.rows(&format!("select id from delivery_{table}")).await.is_empty(), "{table}");
    }
}

#[tokio::test]
async fn only_invalid_utf8_is_rejected() {
    let (kit, router) = face().await;
    let client = writer(&kit, &router).await;
    // The replacement character itself is accepted, in any notation.
    let body = json!({ "reference_id": "a", "deployed_at": 1_680_723_287, "service": "s", "source_name": "\u{fffd}" });
    Client::done(&client.post("api/deployments.create", &body).await);
    let path =
        "/api/deployments.create?reference_id=b&deployed_at=1680723287&service=s&source_name=%EF%BF%BD";
    Client::done(&Ask::post(path).bearer(&client.key).send(&router).await);
    let rows = client.rows("select distinct source_name from delivery_deployments").await;
    assert_eq!(rows, [["\u{fffd}"]]);
    let ask = Ask::post("/api/deployments.create?source_name=%ff").bearer(&client.key);
    let answer = ask.body(b"service=s&merge_commit_shas[]=\xff").send(&router).await;
    fails(&answer, 422, "invalid_arguments");
    let expected =
        [["source_name", "character"], ["merge_commit_shas", "character"], ["deployed_at", "required"]];
    assert_eq!(faults(&answer), expected);
}

#[tokio::test]
async fn an_ambiguous_commit_stores_nothing() {
    let (kit, router) = face().await;
    let client = writer(&kit, &router).await;
    let commit = |sha: &str, at: i64| json!({ "sha": sha, "committed_at": at });
    let body = json!({ "repository": "acme/shop", "commits": [
        commit("d1a34f0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 1_680_000_000),
        commit("d1a34f0bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", 1_680_000_100),
    ]});
    Client::done(&client.post("api/commits.push", &body).await);
    let deploy = |sha: &str| {
        json!({ "reference_id": sha, "deployed_at": 1_680_723_287, "service": "s", "repository": "acme/shop",
            "commit_sha": sha })
    };
    let answer = client.post("api/deployments.create", &deploy("d1a34f0")).await;
    fails(&answer, 422, "invalid_arguments");
    assert_eq!(answer.json()["error_details"]["arguments"][0]["code"], "ambiguous");
    assert!(client.rows("select id from delivery_deployments").await.is_empty());
    Client::done(&client.post("api/deployments.create", &deploy("d1a34f0b")).await);
    let info = client.get("api/deployments.info?reference_id=d1a34f0b").await.json();
    assert_eq!(info["deployment"]["change_count"], 2);
    assert!(info["deployment"]["attributed_at"].is_string());
}

#[tokio::test]
async fn a_deployment_can_be_patched() {
    let (kit, router) = face().await;
    let client = writer(&kit, &router).await;
    let upsert = async |body: Value| client.post("api/deployments.upsert", &body).await;
    fails(&upsert(json!({ "reference_id": "u" })).await, 422, "required_params_missing");
    Client::done(
        &upsert(json!({ "reference_id": "u", "deployed_at": 1_680_723_287, "service": "s",
            "commit_sha": "d1a34f0", "source_name": "ci" }))
        .await,
    );
    Client::done(&upsert(json!({ "reference_id": "u", "merge_commit_shas": ["aaaaaaa"] })).await);
    let shown = async || client.get("api/deployments.info?reference_id=u").await.json()["deployment"].clone();
    let now = shown().await;
    assert_eq!((&now["commit_sha"], &now["merge_commit_shas"]), (&json!(null), &json!(["aaaaaaa"])));
    assert_eq!(now["source_name"], "ci");
    let body = json!({ "reference_id": "u", "commit_sha": "bbbbbbb", "success": false });
    Client::done(&client.post("api/deployments.update", &body).await);
    let now = shown().await;
    assert_eq!((&now["commit_sha"], &now["merge_commit_shas"]), (&json!("bbbbbbb"), &json!([])));
    assert_eq!(now["attribution"], "The deployment failed, so it has no changes.");
    // An object without keys as PHP writes it.
    let patch = async |metadata: Value| {
        let body = json!({ "reference_id": "u", "metadata": metadata });
        Client::done(&client.post("api/deployments.update", &body).await);
        shown().await["metadata"].clone()
    };
    assert_eq!(patch(json!({ "a": 1 })).await, json!({ "a": 1 }));
    assert_eq!(patch(json!([])).await, json!({}));
}

#[tokio::test]
async fn a_strict_server_rejects_unknown_repositories() {
    let kit = Kit::new().await;
    let options = landreeve_delivery::DeliveryOptions { strict_repositories: true, ..Default::default() };
    let router: Router = router(kit.delivery_with(options), &Options::default()).unwrap().into();
    let client = writer(&kit, &router).await;
    let body = json!({ "reference_id": "r", "deployed_at": 1_680_723_287, "service": "s", "repository": "acme/shop" });
    fails(&client.post("api/deployments.create", &body).await, 422, "repo_not_found");
    assert!(client.rows("select id from delivery_services").await.is_empty());
    Client::done(&client.post("api/repos.upsert", &json!({ "repository": "Acme/Shop" })).await);
    Client::done(&client.post("api/deployments.create", &body).await);
}

#[tokio::test]
async fn incidents_distinguish_absent_from_null() {
    let (kit, router) = face().await;
    let client = writer(&kit, &router).await;
    let upsert = async |body: Value| client.post("api/incidents.upsert", &body).await;
    let missing = upsert(json!({ "reference_id": "i" })).await;
    fails(&missing, 422, "invalid_arguments");
    assert_eq!(faults(&missing), [["started_at", "required"]]);
    Client::done(
        &upsert(json!({ "reference_id": "i", "started_at": "2026-01-02T09:20:00Z", "priority": "p1",
            "resolved_at": null, "services": [{ "name": "Checkout" }, "search"], "metadata": { "a": { "b": 1 } } }))
        .await,
    );
    let services = "select s.identifier from delivery_incident_services i join delivery_services s \
                    on s.id = i.service_id order by s.identifier";
    let metadata = "select key, value from delivery_incident_metadata";
    let resolved = "select cast(resolved_at as text), priority from delivery_incidents";
    assert_eq!(client.rows(services).await, [["Checkout"], ["search"]]);
    assert_eq!(client.rows(metadata).await, [["a.b", "1"]]);
    // Absent: everything is kept.
    Client::done(&upsert(json!({ "reference_id": "i", "resolved_at": "2026-01-02T10:20:00Z" })).await);
    assert_eq!(client.rows(services).await.len(), 2);
    assert_eq!(client.rows(metadata).await.len(), 1);
    assert_eq!(client.rows(resolved).await, [["1767349200000000", "p1"]]);
    // Null and an empty list delete, a value replaces.
    Client::done(
        &upsert(json!({ "reference_id": "i", "resolved_at": null, "services": [], "metadata": null })).await,
    );
    assert!(client.rows(services).await.is_empty() && client.rows(metadata).await.is_empty());
    assert_eq!(client.rows(resolved).await, [["NULL", "p1"]]);
    Client::done(
        &client.post("api/incidents.sync", &json!({ "reference_id": "i", "services": ["a"] })).await,
    );
    assert_eq!(client.rows(services).await, [["a"]]);
    fails(
        &upsert(json!({ "reference_id": "i", "resolved_at": "2025-01-01" })).await,
        422,
        "invalid_arguments",
    );
    // An object without keys, and how PHP writes one, delete like null.
    for empty in [json!([]), json!({}), json!("[]"), json!("")] {
        Client::done(&upsert(json!({ "reference_id": "i", "metadata": { "a": 1 } })).await);
        assert_eq!(client.rows(metadata).await.len(), 1);
        Client::done(&upsert(json!({ "reference_id": "i", "metadata": empty })).await);
        assert!(client.rows(metadata).await.is_empty(), "{empty}");
        assert_eq!(client.rows("select metadata from delivery_incidents").await, [["NULL"]]);
    }
    let answer = upsert(json!({ "reference_id": "i", "metadata": { "a b": 1 } })).await;
    fails(&answer, 422, "metadata_invalid");
    // The older method requires the services.
    for services in [json!(null), json!("")] {
        let answer =
            client.post("api/incidents.sync", &json!({ "reference_id": "i", "services": services })).await;
        assert_eq!(answer.status, if services.is_null() { 422 } else { 200 });
    }
    let answer = client.post("api/incidents.sync", &json!({ "reference_id": "i", "name": {} })).await;
    assert_eq!(faults(&answer), [["name", "type"], ["services", "required"]]);
}

#[tokio::test]
async fn notifications_are_merged_into_one_pipeline_run() {
    let (kit, router) = face().await;
    let client = writer(&kit, &router).await;
    let notify = async |at: &str, status: &str, finished: Option<&str>| {
        let body = json!({ "pipeline_name": "build", "pipeline_source": "Jenkins", "reference_id": "b1",
            "started_at": format!("2026-01-02T{at}Z"), "status": status,
            "finished_at": finished.map(|at| format!("2026-01-02T{at}Z")) });
        Client::done(&client.post("api/pipelineRuns.sync", &body).await);
    };
    notify("11:25:18", "running", None).await;
    notify("11:25:21", "success", None).await;
    notify("11:24:40", "failure", None).await;
    notify("11:25:21", "running", None).await;
    notify("11:26:07", "success", Some("11:27:00")).await;
    let rows = client
        .rows(
            "select status, cast(started_at as text), cast(finished_at as text) from delivery_pipeline_runs",
        )
        .await;
    assert_eq!(rows, [["failure", "1767353080000000", "1767353220000000"]]);
    let body = json!({ "pipeline_name": "build", "pipeline_source": "Jenkins", "reference_id": "b2",
        "started_at": "1767345600", "status": "NOT_BUILT" });
    Client::done(&client.post("api/pipelineRuns.upsert", &body).await);
    let rows = client.rows("select status from delivery_pipeline_runs where reference_id = 'b2'").await;
    assert_eq!(rows, [["not_built"]]);
    let body = json!({ "pipeline_name": "b", "pipeline_source": "J", "reference_id": "b3", "started_at": 1,
        "commit_sha": "d1a34f0" });
    let answer = client.post("api/pipelineRuns.upsert", &body).await;
    assert_eq!(answer.json()["error_details"]["arguments"][0]["name"], "repository");
}

#[tokio::test]
async fn custom_data_is_set_completely_or_not_at_all() {
    let (kit, router) = face().await;
    let client = writer(&kit, &router).await;
    let set = json!({ "reference": "o/r", "key": "k", "value": { "a": 1 }, "timestamp": 1_680_723_287 });
    let answer = client.post("api/customData.set", &set).await.json();
    assert_eq!(
        (&answer["ok"], &answer["data"]["value"], &answer["reference"]),
        (&json!(true), &json!({"a": 1}), &json!("o/r"))
    );
    let all = json!({ "data": [
        { "reference": "o/r", "key": "l", "value": {} },
        { "reference": "o/r", "key": "m", "value": 5 },
    ]});
    let refused = client.post("api/customData.setAll", &all).await;
    fails(&refused, 422, "invalid_arguments");
    assert_eq!(faults(&refused), [["data.1.value", "type"]]);
    let refused = client.post("api/customData.set", &json!({ "reference": "o/r", "value": 5 })).await;
    assert_eq!(faults(&refused), [["key", "required"], ["value", "type"]]);
    let listed = client.get("api/customData.getAllByReference?reference=o%2Fr").await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    let id = answer["id"].clone();
    assert_eq!(client.get(&format!("api/customData.get?id={id}")).await.json()["key"], "k");
    assert_eq!(client.get("api/customData.get?reference=o%2Fr&key=k").await.json()["data"]["id"], id);
    Client::done(&client.post("api/customData.delete", &json!({ "id": id })).await);
    fails(&client.get("api/customData.get?reference=o%2Fr&key=k").await, 422, "not_found");
    Client::done(&client.post("api/customData.deleteAllByReference", &json!({ "reference": "o/r" })).await);
}

#[tokio::test]
async fn changes_that_arrive_later_are_found() {
    let (kit, router) = face().await;
    let client = writer(&kit, &router).await;
    let deploy = json!({ "reference_id": "d", "deployed_at": "2026-01-10T12:00:00Z", "service": "checkout",
        "repository": "acme/shop", "commit_sha": "4f2c9be" });
    Client::done(&client.post("api/deployments.create", &deploy).await);
    let shown = async || client.get("api/deployments.info?reference_id=d").await.json()["deployment"].clone();
    let before = shown().await;
    assert_eq!((&before["attributed_at"], &before["change_count"]), (&json!(null), &json!(0)));
    assert!(before["attribution"].as_str().unwrap().contains("4f2c9be"));
    let pull = json!({ "repository": "acme/shop", "number": 12, "created_at": "2026-01-09T10:00:00Z",
        "merged_at": "2026-01-10T09:00:00Z", "merge_commit_sha": "4f2c9be01d7a6f3b8e5c2d9a0b1c2d3e4f5a6b7c" });
    Client::done(&client.post("api/pullRequests.upsert", &pull).await);
    let after = shown().await;
    assert_eq!((&after["change_count"], &after["changes"][0]["number"]), (&json!(1), &json!(12)));
    // Bound to another service, it no longer belongs to this one.
    let bind =
        json!({ "repository": "acme/shop", "pull_number": 12, "services": [{ "identifier": "search" }] });
    Client::done(&client.post("api/deployments.setPullServices", &bind).await);
    assert_eq!(shown().await["change_count"], 0);
    let free = json!({ "repository": "acme/shop", "pull_number": 12, "services": [], "replace": true });
    Client::done(&client.post("api/deployments.setPullServices", &free).await);
    assert_eq!(shown().await["change_count"], 1);
}
