//! Deployments over HTTP: the documented examples, what is missing, dry runs, approval, drift.

use std::time::Duration;

use landreeve_core::ids::{EventId, OuId, RunId};
use landreeve_core::{Input, RunState};
use landreeve_estate::events::{Delivered, Event, Subscriber as _};
use landreeve_estate::ops::runs::{RunRef, run_wait};
use landreeve_promotion::clusters::{ClusterFacts, cluster_create};
use landreeve_promotion::configuration::{Configuration, configuration_put};
use landreeve_promotion::deployments::{
    Closer, DEPLOYMENT, NewDeployment, Started, deployment_cancel, deployment_start,
};
use landreeve_promotion::environments::{EnvironmentFacts, environment_create};
use landreeve_promotion::ids::{EnvironmentId, RevisionId};
use landreeve_promotion::revisions::{NewRevision, ReplaceMode, revision_upload};
use landreeve_promotion::servers::{EMBEDDED, ServerFacts, server_create};
use landreeve_testkit::{Answer, Ask, PASSWORD};
use serde_json::{Value, json};

use crate::{Face, fails};

const SCRIPT: &str = "CREATE OR REPLACE DATABASE d;";
const WITH_PROPERTIES: &str = "CONNECT DATABASE d; SET 'a' = '${users.user1.NAME}';";

/// An environment with one embedded server, `server-1` with the number of the environment.
async fn environment(face: &Face, name: &str) -> EnvironmentId {
    let (plane, operator) = (&face.plane, face.kit.operator());
    let facts = EnvironmentFacts { name: name.to_owned(), ..EnvironmentFacts::default() };
    let environment = environment_create(plane, &operator, Input::of(facts)).await.unwrap().id;
    let facts = ClusterFacts {
        environment: Some(environment),
        name: "Cluster 1".to_owned(),
        description: None,
        enabled: true,
    };
    let cluster = cluster_create(plane, &operator, Input::of(facts)).await.unwrap().id;
    let facts = ServerFacts {
        cluster: Some(cluster),
        name: format!("server-{environment}"),
        host: EMBEDDED.to_owned(),
        enabled: true,
        use_default_license_alias: true,
        ..ServerFacts::default()
    };
    server_create(plane, &operator, Input::of(facts)).await.unwrap();
    environment
}

async fn revision(face: &Face, name: &str, vql: &str) -> RevisionId {
    let new = NewRevision {
        name: name.to_owned(),
        description: Some("optional".to_owned()),
        vql: vql.as_bytes().to_vec(),
        replace: ReplaceMode::Replace,
        properties: Some(b"users.user1.NAME = ann\n".to_vec()),
    };
    revision_upload(&face.plane, &face.kit.operator(), Input::of(new)).await.unwrap().id
}

/// A deployment that waits for its approval, started on the command line.
async fn held(face: &Face) -> i64 {
    let environment = environment(face, &face.name()).await;
    let configuration = Configuration { approvals_required: 1, ..Configuration::default() };
    let operator = face.kit.operator();
    configuration_put(&face.plane, &operator, environment, Input::of(configuration)).await.unwrap();
    let new = NewDeployment {
        environment,
        revisions: vec![revision(face, "r", SCRIPT).await],
        description: String::new(),
        dry_run: false,
    };
    match deployment_start(&face.plane, &operator, Input::of(new)).await.unwrap() {
        Started::Run(run) => run.id.0,
        other => panic!("{other:?}"),
    }
}

/// One that has ended: it was cancelled before it started.
async fn ended(face: &Face) -> i64 {
    let id = RunId(held(face).await);
    deployment_cancel(&face.plane, &face.kit.operator(), id).await.unwrap();
    let event =
        Event::RunFinished { run: id, kind: DEPLOYMENT.kind, state: RunState::Cancelled, noun_id: None };
    let event = Delivered { id: EventId(1), ou: OuId::ROOT, at: face.kit.estate.now(), event };
    Closer(face.plane.clone()).handle(&event).await.unwrap();
    id.0
}

/// A valid request, if the route is one of deployments that needs more than a run.
pub async fn ask(face: &Face, method: &str, path: &str) -> Option<Ask> {
    match (method, path) {
        ("POST", "/deployments") => {
            let environment = environment(face, &face.name()).await;
            let revision = revision(face, "r", SCRIPT).await;
            let body = json!({ "revisionIds": [revision.0], "environmentId": environment.0 });
            Some(Ask::post(path).json(&body))
        }
        ("POST", "/deployments/{id}/approve") => {
            Some(Ask::post(path.replace("{id}", &held(face).await.to_string())))
        }
        ("DELETE", "/deployments/{id}") => {
            Some(Ask::new(method, path.replace("{id}", &ended(face).await.to_string())))
        }
        ("POST", "/revisions/{id}/validate") => {
            let environment = environment(face, &face.name()).await;
            let revision = revision(face, "r", SCRIPT).await;
            let path = path.replace("{id}", &revision.to_string());
            Some(Ask::post(path).json(&json!({ "environmentId": environment.0 })))
        }
        _ => None,
    }
}

async fn call(face: &Face, ask: Ask) -> Answer {
    ask.basic("admin", PASSWORD).send(&face.router).await
}

async fn get(face: &Face, path: String) -> Value {
    let answer = call(face, Ask::get(path)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

async fn start(face: &Face, body: Value) -> Answer {
    call(face, Ask::post("/deployments").json(&body)).await
}

/// Polls as clients do: until the state is another.
async fn finished(face: &Face, id: i64) -> Value {
    for _ in 0..2_000 {
        let found = get(face, format!("/deployments/{id}/progress")).await;
        if found["state"] != "IN_PROGRESS" {
            return found;
        }
        assert_ne!(found["progress"], 100, "{found}");
        let (estate, operator, which) = (&face.kit.estate, face.kit.operator(), RunRef::Id(RunId(id)));
        run_wait(estate, &operator, which, &[], Duration::from_millis(50)).await.unwrap();
    }
    panic!("the deployment {id} does not end");
}

/// The documented example, from the start to the list.
#[tokio::test]
async fn a_deployment_is_started_followed_and_listed() {
    let face = Face::new().await;
    let environment = environment(&face, "Environment 3").await;
    let revision = revision(&face, "Revision 1", SCRIPT).await;
    face.kit.start_planes().await;
    let body = json!({
        "revisionIds": [revision.0], "environmentId": environment.0, "description": "Deployment of Revision 1"
    });
    let answer = start(&face, body).await;
    let id = answer.json()["deploymentId"].as_i64().unwrap();
    assert_eq!((answer.status, answer.body.clone()), (200, format!(r#"{{"deploymentId":{id}}}"#)));
    assert_eq!(answer.header("content-type"), "application/json;charset=UTF-8");
    let mut found = finished(&face, id).await;
    let task = &mut found["tasks"][0];
    for (name, part) in [("id", json!(1)), ("cluster", json!(1)), ("server", json!(1))] {
        let number = if name == "id" { &mut task["id"] } else { &mut task[name]["id"] };
        assert!(number.is_i64());
        *number = part;
    }
    let expected = json!({
        "deploymentId": id, "state": "OK", "progress": 100, "tasks": [{
            "id": 1, "name": "Revision Revision 1 VQL deployment", "state": "OK",
            "startDate": "2026-01-15T12:00:00.500+0000", "endDate": "2026-01-15T12:00:00.500+0000",
            "deploymentExecutionType": "VQL", "output": " - Executed 1 of 1 VQL commands",
            "cluster": { "id": 1, "name": "Cluster 1" }, "server": { "id": 1, "name": format!("server-{environment}") }
        }]
    });
    assert_eq!(found, expected);
    let listed = get(&face, format!("/deployments?environmentId={environment}&user=admin")).await;
    let expected = json!({
        "start": 0, "count": 10, "numElements": 1, "deployments": [{
            "id": id, "user": "admin", "deploymentTime": "2026-01-15T12:00:00.500+0000",
            "description": "Deployment of Revision 1", "state": "OK",
            "targetEnvironment": { "id": environment.0, "name": "Environment 3" },
            "revisions": [{ "id": revision.0, "description": "optional", "name": "Revision 1" }]
        }]
    });
    assert_eq!(listed, expected);
    for (since, tasks) in [("2026-01-15T12:00:00.500%2B0000", 1), ("2026-01-15T12:00:01%2B0000", 0)] {
        let found = get(&face, format!("/deployments/{id}/progress?lastUpdate={since}")).await;
        assert_eq!(found["tasks"].as_array().unwrap().len(), tasks, "{since}");
    }
    let drift = get(&face, format!("/environments/{environment}/drift")).await;
    assert_eq!(drift["servers"][0]["state"], "IN_SYNC", "{drift}");
    assert_eq!(drift["servers"][0]["deployedHash"], drift["servers"][0]["liveHash"]);
    let gone = call(&face, Ask::new("DELETE", format!("/deployments/{id}"))).await;
    assert_eq!((gone.status, gone.body.as_str()), (204, ""));
    let answer = call(&face, Ask::get(format!("/deployments/{id}/progress"))).await;
    fails(&answer, 404, "there is no such deployment");
}

#[tokio::test]
async fn missing_properties_are_in_the_body_of_a_success() {
    let face = Face::new().await;
    let environment = environment(&face, "env1").await;
    let revision = revision(&face, "Revision 1", WITH_PROPERTIES).await;
    let answer = start(&face, json!({ "revisionIds": [revision.0], "environmentId": environment.0 })).await;
    let expected = json!({
        "validationResponse": {
            "validation": {
                "resultVqlValidation": "ERROR",
                "outputVqlValidation":
                    "Error validating revision 'Revision 1'.\n Missing VQL properties: \nusers.user1.NAME\n\n",
                "errorVqlValidation": "",
                "missingVqlPropertiesWithServerValues": { "users.user1.NAME": "ann" },
                "resultSchValidation": "OK", "outputSchValidation": "", "errorSchValidation": "",
                "targetEnvironment": {
                    "id": environment.0, "name": "env1", "description": "", "minimumUpdateValue": "",
                    "minimumUpdateMandatory": false, "minimumUpdateDownloadUrl": ""
                },
                "state": "ERROR",
                "messageResult": "Properties of the revisions are missing in the environment or cannot be used; nothing was deployed."
            },
            "scriptValidationsResult": []
        }
    });
    assert_eq!((answer.status, answer.json()), (200, expected.clone()));
    for ask in [
        Ask::post(format!("/revisions/{revision}/validate")).json(&json!({ "environmentId": environment.0 })),
        Ask::post(format!("/revisions/{revision}/validate?environmentId={environment}")),
    ] {
        assert_eq!(call(&face, ask).await.json(), expected);
    }
    assert_eq!(get(&face, "/deployments".to_owned()).await["numElements"], 0);
}

#[tokio::test]
async fn a_dry_run_shows_the_plan() {
    let face = Face::new().await;
    let environment = environment(&face, "test").await;
    let revisions = [
        revision(&face, "good", SCRIPT).await,
        revision(&face, "bad", "CONNECT DATABASE d;\nCREATE VIEW v AS SELECT a FROM nothing").await,
    ];
    let ids: Vec<i64> = revisions.iter().map(|revision| revision.0).collect();
    let answer =
        start(&face, json!({ "revisionIds": ids, "environmentId": environment.0, "dryRun": true })).await;
    let body = answer.json();
    let validation = &body["validationResponse"]["validation"];
    assert_eq!((answer.status, &validation["state"]), (200, &json!("ERROR")));
    let said = validation["errorVqlValidation"].as_str().unwrap();
    let place = format!("server-{environment}: bad: line 2, column 1: ");
    assert!(said.starts_with(&place) && said.contains("nothing"), "{said}");
    let only = json!({ "revisionIds": [ids[0]], "environmentId": environment.0, "dryRun": true });
    let good = start(&face, only).await.json();
    assert_eq!(good["validationResponse"]["validation"]["state"], "OK", "{good}");
    let plan = &body["plan"][0];
    assert_eq!(plan["server"], format!("server-{environment}"));
    assert_ne!(plan["fromHash"], plan["toHash"]);
    let change = &plan["changes"][0];
    assert_eq!(
        (&change["kind"], &change["name"], &change["change"]),
        (&json!("database"), &json!("d"), &json!("create"))
    );
    let failing = &plan["failing"][0];
    assert_eq!((&failing["revision"], &failing["line"]), (&json!("bad"), &json!(2)), "{plan}");
    assert_eq!(get(&face, "/deployments".to_owned()).await["numElements"], 0);
}

#[tokio::test]
async fn what_is_in_the_way_is_refused_with_every_reason() {
    let face = Face::new().await;
    let environment = environment(&face, "test").await;
    let configuration = Configuration {
        deployments_enabled: false,
        configured_clusters: Some(3),
        ..Configuration::default()
    };
    let operator = face.kit.operator();
    configuration_put(&face.plane, &operator, environment, Input::of(configuration)).await.unwrap();
    let good = revision(&face, "good", SCRIPT).await;
    let missing = revision(&face, "missing", WITH_PROPERTIES).await;
    let answer = start(&face, json!({ "revisionIds": [good.0], "environmentId": environment.0 })).await;
    let body = answer.json();
    assert_eq!((answer.status, body["problems"].as_array().unwrap().len()), (409, 2), "{body}");
    assert!(body.get("validationResponse").is_none());
    for problem in body["problems"].as_array().unwrap() {
        assert!(body["message"].as_str().unwrap().contains(problem["message"].as_str().unwrap()), "{body}");
    }
    let answer = start(&face, json!({ "revisionIds": [missing.0], "environmentId": environment.0 })).await;
    let body = answer.json();
    assert_eq!((answer.status, &body["status"]), (409, &json!(409)));
    assert_eq!(body["validationResponse"]["validation"]["state"], "ERROR");
    for (body, status, message) in [
        (json!({}), 400, "environmentId is required; revisionIds is required"),
        (
            json!({ "revisionIds": [], "environmentId": environment.0 }),
            400,
            "revisionIds must have at least one revision",
        ),
        (
            json!({ "revisionIds": ["1"], "environmentId": environment.0 }),
            400,
            "revisionIds.0 must be a whole number, not a string",
        ),
        (json!({ "revisionIds": [good.0], "environmentId": 9_999_999 }), 404, "there is no such environment"),
        (
            json!({ "revisionIds": [9_999_999], "environmentId": environment.0 }),
            404,
            "there is no such revision",
        ),
    ] {
        fails(&start(&face, body).await, status, message);
    }
    let twice = json!({ "revisionIds": [good.0, good.0], "environmentId": environment.0 });
    fails(&start(&face, twice).await, 400, &format!("revisionIds has the revision {good} twice"));
}

#[tokio::test]
async fn a_deployment_waits_for_approval() {
    let face = Face::new().await;
    let id = held(&face).await;
    let found = get(&face, format!("/deployments/{id}/progress")).await;
    assert_eq!((&found["state"], &found["progress"]), (&json!("IN_PROGRESS"), &json!(0)));
    let found = get(&face, format!("/deployments/{id}/progress?states=extended")).await;
    assert_eq!((&found["state"], &found["tasks"][0]["state"]), (&json!("PENDING"), &json!("PENDING")));
    for (query, count) in [
        ("states=extended&status=PENDING", 1),
        ("states=extended&status=QUEUED", 0),
        ("states=extended&status=IN_PROGRESS", 0),
        ("status=IN_PROGRESS", 1),
        ("status=PENDING", 1),
        ("status=CANCELED", 0),
    ] {
        assert_eq!(get(&face, format!("/deployments?{query}")).await["numElements"], count, "{query}");
    }
    let answer = call(&face, Ask::get("/deployments?status=DONE")).await;
    fails(
        &answer,
        400,
        "status must be one of PENDING, QUEUED, IN_PROGRESS, OK, OK_WITH_WARNINGS, ERROR, CANCELED",
    );
    let answer = call(&face, Ask::new("DELETE", format!("/deployments/{id}"))).await;
    fails(&answer, 409, "the deployment is in progress; cancel it first");
    let approve = || Ask::post(format!("/deployments/{id}/approve"));
    assert_eq!(call(&face, approve()).await.json()["state"], "IN_PROGRESS");
    fails(&call(&face, approve()).await, 409, "the deployment is not waiting for approval");
    face.kit.start_planes().await;
    assert_eq!(finished(&face, id).await["state"], "OK");
    let answer = call(&face, Ask::post(format!("/deployments/{id}/cancel"))).await;
    fails(&answer, 409, "the deployment has already ended: ok");
    let cancelled = ended(&face).await;
    let found = get(&face, format!("/deployments/{cancelled}/progress")).await;
    assert_eq!((&found["state"], &found["tasks"][0]["state"]), (&json!("ERROR"), &json!("ERROR")));
    let found = get(&face, format!("/deployments/{cancelled}/progress?states=extended")).await;
    assert_eq!((&found["state"], &found["tasks"][0]["state"]), (&json!("CANCELED"), &json!("SKIPPED")));
}
