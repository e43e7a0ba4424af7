//! Tests of the dialect with an estate in the same process.

#![expect(clippy::unwrap_used, reason = "test helpers fail like tests")]

mod administration;
mod consolidated;
mod plane;
mod policies;
mod protection;
mod servers;
mod units;

use std::collections::BTreeSet;
use std::sync::OnceLock;

use axum::Router;
use landreeve_core::ids::OuId;
use landreeve_core::{Action, Noun, Permission, RunState};
use landreeve_estate::ops::keys::{key_delete, key_set_enabled};
use landreeve_estate::ops::runs::PROBE;
use landreeve_estate::ops::users::user_update;
use landreeve_estate::ops::{Api, User, UserChange};
use landreeve_estate::plane::{Plane, Slot};
use landreeve_face_clumio::{Options, ROUTES, router};
use landreeve_protection::backups::Backup;
use landreeve_protection::{Protection, ProtectionOptions};
use landreeve_testkit::skeleton::{self, Credential, Dialect, Refusal, Routes};
use landreeve_testkit::{Answer, Ask, HOSTILE, Kit, PASSWORD, everything, limits};
use serde_json::{Value, json};

use crate::protection::{World, declare};

async fn face() -> (Kit, Router) {
    let (kit, protection) = with_protection(Kit::new().await, Vec::new()).await;
    let router = router(kit.estate.clone(), protection, Options::default()).unwrap().into();
    (kit, router)
}

fn protection_plane(kit: &Kit) -> (Plane, Slot<Protection>) {
    let options = ProtectionOptions {
        scratch_dir: kit.path("scratch"),
        default_folder: kit.path("repository"),
        ..ProtectionOptions::default()
    };
    landreeve_protection::plane(kit.engine(), landreeve_testkit::codec(), landreeve_testkit::vault(), options)
}

/// The estate with the protection plane and others.
async fn with_protection(kit: Kit, others: Vec<Plane>) -> (Kit, Protection) {
    let (plane, slot) = protection_plane(&kit);
    let planes = others.into_iter().chain([plane]).collect();
    let kit = kit.reopen_with(planes, landreeve_testkit::drivers()).await;
    (kit, slot.get().unwrap())
}

async fn admin_key(kit: &Kit) -> String {
    let admin =
        landreeve_estate::ops::users::user_by_name(&kit.estate, &kit.operator(), "admin").await.unwrap();
    kit.user_key(Api::Protection, &admin).await.1
}

async fn key_of(kit: &Kit, name: &str, permissions: &[Permission]) -> (User, String) {
    let user = kit.user(name, permissions).await;
    let (_, key) = kit.user_key(Api::Protection, &user).await;
    (user, key)
}

#[track_caller]
fn fails(answer: &Answer, status: u16, code: u32, message: &str) {
    let expected = json!({ "errors": [{ "error_code": code, "error_message": message }] });
    assert_eq!((answer.status, answer.json()), (status, expected));
    assert_eq!(answer.header("content-type"), "application/json");
}

fn messages(answer: &Answer) -> Vec<String> {
    let errors = answer.json()["errors"].clone();
    errors.as_array().unwrap().iter().map(|one| one["error_message"].as_str().unwrap().to_owned()).collect()
}

struct Face {
    kit: Kit,
    router: Router,
    protection: Protection,
    /// Of a SQLite file.
    backup: Backup,
    /// Whose rows can be read.
    rows: Backup,
    /// The path of restored records, and of the link to them.
    records: (String, String),
    /// The first caller with every permission.
    admin: OnceLock<String>,
}

impl Face {
    /// With a backup. Nothing is executed any more.
    async fn new() -> Face {
        let world = World::new().await;
        let backup = world.back_up("shop").await;
        let rows = world.back_up_rows().await;
        let records = world.restore_records(&rows).await;
        let (kit, protection) = with_protection(world.kit, Vec::new()).await;
        // The same seed would make the ids that are taken already.
        for _ in 0..10_000 {
            let _ = kit.estate.uuid();
        }
        let router = router(kit.estate.clone(), protection.clone(), Options::default()).unwrap().into();
        Face { kit, router, protection, backup, rows, records, admin: OnceLock::new() }
    }

    /// The request for a route of the protection plane.
    async fn protection_ask(&self, method: &str, path: &str) -> Ask {
        let (backup, resource) = (self.backup.uuid.to_string(), self.backup.asset.uuid.to_string());
        let name = format!("new-{}", self.kit.estate.uuid());
        match (method, path) {
            ("POST", "/backups/aws/rds-resources") => {
                let new = declare(&self.kit, &name).await;
                Ask::post(path).json(&json!({ "resource_id": new.uuid.to_string() }))
            }
            ("POST", "/restores/aws/rds-resources") => Ask::post(path).json(&json!({
                "source": { "backup": { "backup_id": backup } }, "target": { "name": format!("{name}.db") }
            })),
            ("POST", "/restores/aws/rds-resources/records") => Ask::post(path).json(&json!({
                "source": { "backup_id": self.rows.uuid.to_string(), "database_name": self.rows.asset.database() },
                "target": { "query_statement": "SELECT count(*) FROM orders", "preview": false }
            })),
            (_, path) if path.ends_with("{record_id}") => Ask::get(&self.records.0),
            (_, path) if path.ends_with("_download") => Ask::get(&self.records.1),
            _ => {
                let path = path.replace("{environment_id}", &resource).replace("{resource_id}", &resource);
                let path = path.replace("{backup_id}", &backup).replace("{database_name}", "main");
                Ask::new(method, path.replace("{table_id}", "bWFpbgBvcmRlcnM"))
            }
        }
    }
}

impl Dialect for Face {
    const ROUTES: Routes = ROUTES;
    const BASE: &'static str = "";
    const DEPENDENT: &'static [&'static str] = &["target.query_statement"];

    fn kit(&self) -> &Kit {
        &self.kit
    }

    fn router(&self) -> &Router {
        &self.router
    }

    async fn ask(&self, method: &str, path: &str) -> Ask {
        if ["/datasources", "/backups", "/restores"].iter().any(|known| path.starts_with(known)) {
            return self.protection_ask(method, path).await;
        }
        if let Some(ask) = administration::ask(self, method, path).await {
            return ask;
        }
        if let Some(ask) = consolidated::ask(self, method, path).await {
            return ask;
        }
        if let Some(ask) = units::ask(self, method, path).await {
            return ask;
        }
        let victim = self.kit.user(&format!("victim-{}", self.kit.estate.uuid()), &[]).await.id.to_string();
        let task = self.kit.probe().await.id.to_string();
        let path = path.replace("{user_id}", &victim).replace("{task_id}", &task);
        let path = path.replace("{role_id}", &uuid::Uuid::nil().to_string());
        if path.starts_with("/alerts") {
            let alert = policies::alert(self).await;
            let path = path.replace("{individual_alert_id}", &alert);
            return match method {
                "PATCH" => Ask::patch(path).json(&json!({ "notes": "seen", "status": "cleared" })),
                _ => Ask::new(method, path),
            };
        }
        let path = match path.contains("{policy_id}") {
            true => path.replace("{policy_id}", &policies::made(self, "victim").await),
            false => path,
        };
        if path.starts_with("/policies") {
            return policies::ask(self, method, path).await;
        }
        match (method, path.starts_with("/tasks")) {
            ("PATCH", true) => Ask::patch(path).json(&json!({ "status": "aborting" })),
            ("PATCH", false) => Ask::patch(path).json(&json!({ "is_enabled": false })),
            _ => Ask::new(method, path),
        }
    }

    async fn caller(&self, permissions: &[Permission]) -> Credential {
        let name = format!("caller-{}", self.kit.estate.uuid());
        let (user, key) = key_of(&self.kit, &name, permissions).await;
        if permissions == everything() {
            let _ = self.admin.set(user.id.to_string());
        }
        Credential::bearer(key)
    }

    fn strangers(&self) -> Vec<Credential> {
        vec![Credential::bearer("a.b.c")]
    }

    fn refused(&self, answer: &Answer, why: Refusal) {
        match why {
            Refusal::Missing => fails(answer, 401, 359, "The authentication token is missing"),
            Refusal::Invalid => fails(answer, 401, 360, "unknown key"),
            Refusal::Permission => {
                assert_eq!((answer.status, &answer.json()["errors"][0]["error_code"]), (403, &json!(103)));
            }
        }
    }

    fn open(&self, answer: &Answer) {
        assert_eq!((answer.status, answer.header("content-type")), (200, "text/csv; charset=utf-8"));
    }

    fn allowed(&self, path: &str, answer: &Answer) {
        assert!([200, 202].contains(&answer.status), "{path}: {} {}", answer.status, answer.body);
        let media_type = answer.header("content-type");
        assert!(answer.json().is_object() && media_type.starts_with("application/api.clumio."));
    }

    fn named(&self, answer: &Answer) -> Vec<String> {
        let first = |message: String| message.split(' ').next().unwrap_or_default().to_owned();
        if answer.status < 400 { Vec::new() } else { messages(answer).into_iter().map(first).collect() }
    }
}

#[tokio::test]
async fn the_document_states_what_is_accepted() {
    let tried = limits::the_document_states_what_is_accepted(&Face::new().await).await;
    assert!(tried > 10, "only {tried} limits");
}

#[tokio::test]
async fn every_route_rejects_callers_without_permission() {
    skeleton::every_route_rejects_callers_without_permission(&Face::new().await).await;
}

#[tokio::test]
async fn the_reference_does_not_need_a_token() {
    skeleton::the_reference_does_not_need_a_credential(&Face::new().await).await;
}

#[tokio::test]
async fn discovery_lists_all_operations() {
    let (kit, router) = face().await;
    let answer = Ask::get("/").bearer(&admin_key(&kit).await).send(&router).await;
    assert_eq!(answer.header("content-type"), "application/api.clumio.*=v1+json");
    let body = answer.json();
    assert_eq!(body["users"]["supported_versions"], json!(["v2", "v1"]));
    let tasks = json!({
        "supported_versions": ["v1"],
        "v1": {
            "list-tasks": { "href": "/tasks", "type": "get", "templated": false },
            "read-task": { "href": "/tasks/{task_id}", "type": "get", "templated": true },
            "update-task": { "href": "/tasks/{task_id}", "type": "patch", "templated": true },
        },
    });
    assert_eq!(body["tasks"], tasks);
    let mut operations = BTreeSet::new();
    for described in body.as_object().unwrap().values() {
        for version in described["supported_versions"].as_array().unwrap() {
            let own = described[version.as_str().unwrap()].as_object().unwrap();
            operations.extend(own.values().map(|link| (text(&link["type"]), text(&link["href"]))));
        }
    }
    // Each version names its own.
    for (version, path) in [("v1", "/users/{user_id}/password"), ("v2", "/users/_change_password")] {
        assert_eq!(body["users"][version]["change-password"]["href"], path);
    }
    for (resource, operation, method, path) in [
        ("aws-rds-resources", "list-aws-rds-resources", "get", "/datasources/aws/rds-resources"),
        (
            "backup-aws-rds-resource-database-tables",
            "read-backup-aws-rds-resource-database-table-columns",
            "get",
            "/backups/aws/rds-resources/{backup_id}/databases/{database_name}/tables/{table_id}/columns",
        ),
        ("restored-aws-rds-resources", "restore-aws-rds-resource", "post", "/restores/aws/rds-resources"),
    ] {
        let link = json!({ "href": path, "type": method, "templated": path.contains('{') });
        assert_eq!(body[resource]["v1"][operation], link);
    }
    let document = Ask::get("/openapi.json").send(&router).await.json();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation["operationId"] != "discover" {
                documented.insert((method.clone(), path.clone()));
            }
        }
    }
    assert_eq!(operations, documented);
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_documented_user_update_works_verbatim() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    let test = kit.user("test", &[]).await;
    // As curl sends it with `-d` and its default content type.
    let ask = || {
        Ask::patch(format!("/users/{}", test.id))
            .bearer(&key)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(r#"{ "is_enabled": false }"#)
    };
    let answer = ask().header("accept", "application/api.clumio.*=v1+json").send(&router).await;
    let href = format!("/users/{}", test.id);
    let expected = json!({
        "full_name": "test person",
        "email": "test@example.com",
        "is_confirmed": false,
        "id": test.id.to_string(),
        "is_enabled": false,
        "last_activity_timestamp": null,
        "inviter": null,
        "_links": {
            "_self": { "href": href, "type": "get", "templated": false },
            "update-user": { "href": href, "type": "patch", "templated": false },
            "delete-user": { "href": href, "type": "delete", "templated": false },
        },
    });
    assert_eq!((answer.status, answer.body.as_str()), (200, expected.to_string().as_str()));
    assert_eq!(answer.header("content-type"), "application/api.clumio.users=v1+json");
    let answer = ask().send(&router).await;
    assert_eq!(answer.header("content-type"), "application/api.clumio.users=v2+json");
    assert_eq!(answer.json()["access_control_configuration"], json!([]));
}

#[tokio::test]
async fn an_update_accepts_what_clients_send_and_reports_every_fault() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    let test = kit.user("test", &[]).await;
    let patch = |body: &str| Ask::patch(format!("/users/{}", test.id)).bearer(&key).body(body);
    let sdk = r#"{"access_control_configuration_updates": {"add": [], "remove": null}, "full_name": "Ann Lee", "is_enabled": null}"#;
    let body = patch(sdk).header("content-type", "text/plain; charset=utf-8").send(&router).await.json();
    assert_eq!((&body["full_name"], &body["is_enabled"]), (&json!("Ann Lee"), &json!(true)));
    assert_eq!(patch("{}").send(&router).await.json()["full_name"], "Ann Lee");

    let wrong = r#"{"is_enabled": 1, "full_name": "", "access_control_configuration_updates": [], "is_enable": true}"#;
    let answer = patch(wrong).send(&router).await;
    assert_eq!(answer.status, 400);
    let expected = [
        "full_name must not be empty",
        "is_enabled must be true or false, not a number",
        "access_control_configuration_updates must be an object, not an array",
        "is_enable is not a member of this object",
    ];
    assert_eq!(messages(&answer), expected);
    for body in ["", "[]", "{", "null", "\"a\"", "{\"a\": \"\u{0}\"}"] {
        let answer = patch(body).send(&router).await;
        assert_eq!(
            (answer.status, &answer.json()["errors"][0]["error_code"]),
            (400, &json!(101)),
            "{body:?}"
        );
    }
    assert_eq!(kit.user("other", &[]).await.full_name(), "other person");

    let own = Ask::patch("/users/1").bearer(&key).body(r#"{"is_enabled": false}"#).send(&router).await;
    fails(&own, 409, 109, "you cannot change your own status; ask another administrator");
    let gone = Ask::new("DELETE", format!("/users/{}", test.id)).bearer(&key).send(&router).await;
    assert_eq!((gone.status, gone.body.as_str()), (200, "{}"));
    fails(&patch("{}").send(&router).await, 404, 104, "there is no such user");
}

#[tokio::test]
async fn users_have_the_shape_of_the_requested_version() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    let get = |path: &str, accept: &str| Ask::get(path).bearer(&key).header("accept", accept);
    let global = "00000000-0000-0000-0000-000000000000";
    let first = get("/users/1", "application/api.clumio.users=v1+json").send(&router).await.json();
    assert_eq!((&first["assigned_role"], &first["organizational_unit_count"]), (&json!(global), &json!(1)));
    assert_eq!(first["assigned_organizational_unit_ids"], json!([global]));
    assert!(first.get("access_control_configuration").is_none());
    let second = get("/users/1", "application/api.clumio.users=v2+json").send(&router).await.json();
    let access = json!([{ "role_id": global, "organizational_unit_ids": [global] }]);
    assert_eq!(second["access_control_configuration"], access);
    assert!(second.get("assigned_role").is_none());
    let list = get("/users", "application/api.clumio.*=v1+json").send(&router).await.json();
    let item = &list["_embedded"]["items"][0];
    assert_eq!(item["assigned_role"], global);
    assert!(item.get("assigned_organizational_unit_ids").is_none());
    let answer = get("/users", "application/api.clumio.users=v7+json").send(&router).await;
    let message = "Accept does not match any version of users: application/api.clumio.users=v7+json; \
                   use application/api.clumio.users=v2+json or application/api.clumio.users=v1+json";
    fails(&answer, 400, 101, message);
    // A user without the permission sees only their own record, without roles.
    let (bob, key) = key_of(&kit, "bob", &[]).await;
    let own = Ask::get(format!("/users/{}", bob.id)).bearer(&key).send(&router).await.json();
    assert!(own["email"] == "bob@example.com" && own.get("access_control_configuration").is_none());
}

#[tokio::test]
async fn lists_have_numbered_pages() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    for number in 0..4 {
        kit.user(&format!("u{number}"), &[]).await;
    }
    let get = |path: &str| Ask::get(path).bearer(&key);
    let list = get("/users?limit=2&start=2").send(&router).await.json();
    let keys: Vec<_> = list.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "_embedded",
        "_links",
        "current_count",
        "filter_applied",
        "limit",
        "start",
        "total_count",
        "total_pages_count",
    ];
    assert_eq!(keys, expected);
    let link = |start: u64| json!({ "href": format!("/users?start={start}&limit=2"), "type": "get", "templated": false });
    let mut links =
        json!({ "_self": link(2), "_first": link(1), "_last": link(3), "_next": link(3), "_prev": link(1) });
    links["create-user"] = json!({ "href": "/users", "type": "post", "templated": false });
    assert_eq!(list["_links"], links);
    // What a caller may not do has no link.
    let (_, viewer) = key_of(&kit, "viewer", &[Permission::new(Noun::USER, Action::VIEW)]).await;
    let seen = Ask::get("/users").bearer(&viewer).send(&router).await.json();
    assert_eq!(seen["_links"].get("create-user"), None);
    assert_eq!((&list["start"], &list["limit"], &list["total_count"]), (&json!("2"), &json!(2), &json!(5)));
    assert_eq!((&list["current_count"], &list["total_pages_count"]), (&json!(2), &json!(3)));
    let first = get("/users?start=&limit=&filter=").send(&router).await.json();
    assert_eq!((&first["limit"], &first["_links"]["_next"]), (&json!(20), &Value::Null));
    let past = get("/users?start=9223372036854775").send(&router).await.json();
    assert_eq!((&past["current_count"], past["_links"].get("_next")), (&json!(0), None));
    for query in [
        "start=0",
        "start=x",
        "limit=0",
        "limit=1001",
        "sort=id",
        "filter=%7B",
        "filter=[]",
        "filter=%7B%22name%22%3A%7B%22%24eq%22%3A%22a%22%7D%7D",
        "filter=%7B%22email%22%3A%7B%22%24contains%22%3A%22a%22%7D%7D",
        "embed=read-role",
    ] {
        assert_eq!(get(&format!("/users?{query}")).send(&router).await.status, 400, "{query}");
    }
    let roles = get("/roles").send(&router).await.json();
    assert_eq!(roles["_embedded"]["items"][0]["name"], "Super Admin");
    assert_eq!((&roles["total_count"], &roles["current_count"]), (&json!(8), &json!(8)));
    let role = get("/roles/10000000-0000-0000-0000-000000000000").send(&router).await.json();
    assert_eq!(role["name"], "OU Admin");
    fails(&get("/roles/1").send(&router).await, 404, 104, "there is no such role");
}

const STATES: [(RunState, &str); 10] = [
    (RunState::Queued, "queued"),
    (RunState::Starting, "queued"),
    (RunState::Running, "in_progress"),
    (RunState::Cancelling, "aborting"),
    (RunState::Succeeded, "completed"),
    (RunState::Failed, "failed"),
    (RunState::Cancelled, "aborted"),
    (RunState::TimedOut, "failed"),
    (RunState::Lost, "failed"),
    (RunState::Expired, "completed"),
];

#[tokio::test]
async fn a_run_is_shown_as_a_task() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    let get = |path: String| Ask::get(path).bearer(&key);
    for (state, word) in STATES {
        let run = kit.probe_in(state).await;
        let shown = get(format!("/tasks/{}", run.id)).send(&router).await.json();
        assert_eq!(shown["status"], word, "{state:?}");
        let abortable = ["queued", "in_progress"].contains(&word);
        assert_eq!(shown["is_abortable"], abortable);
        assert_eq!(shown["_links"].get("update-task").is_some(), abortable);
    }
    let run = kit.probe_in(RunState::Running).await;
    let href = format!("/tasks/{}", run.id);
    let expected = json!({
        "id": run.id.to_string(), "type": "probe", "category": "system", "genre": "administrative",
        "status": "in_progress", "progress_percentage": 40, "is_abortable": true,
        "primary_entity": null, "parent_entity": null,
        "created_timestamp": "2026-01-15T12:00:00Z", "start_timestamp": "2026-01-15T12:00:01Z",
        "end_timestamp": null,
        "_links": {
            "_self": { "href": href, "type": "get", "templated": false },
            "update-task": { "href": href, "type": "patch", "templated": false },
        },
    });
    assert_eq!(get(href).send(&router).await.body, expected.to_string());
    let list = |filter: &str| {
        let escaped: String = filter.bytes().map(|byte| format!("%{byte:02X}")).collect();
        get(format!("/tasks?limit=100&filter={escaped}"))
    };
    for (filter, count) in [
        (r#"{"status":{"$eq":"completed"}}"#, 2),
        (r#"{"status":{"$in":["failed","aborted"]}}"#, 4),
        ("{}", 11),
    ] {
        let body = list(filter).send(&router).await.json();
        assert_eq!((&body["total_count"], &body["filter_applied"]), (&json!(count), &json!(filter)));
    }
    for filter in [
        r#"{"status":"failed"}"#,
        r#"{"status":{"$in":[]}}"#,
        r#"{"status":{"$eq":1}}"#,
        r#"{"status":{"$gt":"a"}}"#,
        r#"{"status":{"$eq":"done"}}"#,
        r#"{"type":{"$eq":"probe"}}"#,
        r#"{"progress":{"$in":["probe"]}}"#,
    ] {
        assert_eq!(list(filter).send(&router).await.status, 400, "{filter}");
    }
}

#[tokio::test]
async fn every_kind_is_a_task() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    for kind in kit.estate.registry().kinds().map(|kind| kind.kind) {
        let run = kit.run_of(kind, OuId::ROOT).await;
        let shown = Ask::get(format!("/tasks/{}", run.id)).bearer(&key).send(&router).await.json();
        let expected = match kind.as_str() {
            "backup" => "aws_rds_resource_incremental_backup",
            "restore" => "aws_rds_resource_restore",
            "record_restore" => "aws_rds_record_restore",
            other => other,
        };
        assert_eq!(shown["type"], expected);
    }
}

#[tokio::test]
async fn a_task_can_be_aborted_only_once() {
    let (kit, router) = face().await;
    kit.start().await;
    let key = admin_key(&kit).await;
    let run = kit.long_probe().await;
    let patch = |body: &str| Ask::patch(format!("/tasks/{}", run.id)).bearer(&key).body(body);
    let answer = patch(r#"{"status": "completed"}"#).send(&router).await;
    fails(&answer, 400, 101, "status must be one of aborting");
    fails(&patch(r#"{"status": null}"#).send(&router).await, 400, 101, "status is required");
    let answer = patch(r#"{"status": "aborting"}"#).send(&router).await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("aborting")));
    assert_eq!(kit.ended(&run).await.state, RunState::Cancelled);
    let answer = patch(r#"{"status": "aborting"}"#).send(&router).await;
    fails(&answer, 409, 109, "the run has already ended: cancelled");
}

#[tokio::test]
async fn rejects_invalid_tokens_and_tokens_of_disabled_users() {
    let (kit, router) = face().await;
    let tasks = || Ask::get("/tasks");
    fails(&tasks().basic("admin", PASSWORD).send(&router).await, 401, 360, "the scheme must be Bearer");
    for value in [&b"Bearer"[..], b"\xff", b"Bearer a\xffb", b"Basic !!"] {
        let answer = tasks().header("authorization", value).send(&router).await;
        fails(&answer, 401, 360, "the Authorization header cannot be read");
    }
    let (_, other) = kit.key(Api::Delivery, &everything()).await;
    fails(&tasks().bearer(&other).send(&router).await, 401, 360, "unknown key");
    let ann = kit.user("ann", &everything()).await;
    let (key, token) = kit.user_key(Api::Protection, &ann).await;
    assert_eq!(token.split('.').count(), 3, "a JWT");
    assert_eq!(tasks().bearer(&token).send(&router).await.status, 200);
    // A token with a modified claim is a different string, so its hash is not stored.
    let (head, signature) = token.rsplit_once('.').unwrap();
    let answer = tasks().bearer(&format!("{head}.{}x", signature)).send(&router).await;
    fails(&answer, 401, 360, "unknown key");
    key_set_enabled(&kit.estate, &kit.operator(), key.id, false).await.unwrap();
    fails(&tasks().bearer(&token).send(&router).await, 401, 360, "the key is disabled");
    key_set_enabled(&kit.estate, &kit.operator(), key.id, true).await.unwrap();
    let change = |enabled| UserChange { enabled: Some(enabled), ..UserChange::default() };
    user_update(&kit.estate, &kit.operator(), ann.id, change(false)).await.unwrap();
    fails(&tasks().bearer(&token).send(&router).await, 401, 360, "the user of this key is disabled");
    user_update(&kit.estate, &kit.operator(), ann.id, change(true)).await.unwrap();
    assert_eq!(tasks().bearer(&token).send(&router).await.status, 200);
    key_delete(&kit.estate, &kit.operator(), key.id).await.unwrap();
    fails(&tasks().bearer(&token).send(&router).await, 401, 360, "unknown key");
}

#[tokio::test]
async fn the_header_selects_the_unit() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    let unit = kit.ou("Research").await;
    let (root, inside) = (kit.probe().await, kit.run_of(PROBE, unit.id).await);
    let read = |run: &landreeve_estate::ops::Run, ou: &str| {
        let name = "X-Clumio-OrganizationalUnit-Context";
        Ask::get(format!("/tasks/{}", run.id)).bearer(&key).header(name, ou)
    };
    let research = unit.uuid.to_string();
    assert_eq!(read(&root, "").send(&router).await.status, 200);
    assert_eq!(read(&inside, &uuid::Uuid::nil().to_string()).send(&router).await.status, 200);
    assert_eq!(read(&inside, &research).send(&router).await.status, 200);
    fails(&read(&root, &research).send(&router).await, 404, 104, "there is no such task");
    let malformed = "X-Clumio-OrganizationalUnit-Context must be the UUID of an organizational unit";
    for ou in ["a12345bc-67d8-912a=345b-c67891234567", "1", "\u{e4}"] {
        fails(&read(&root, ou).send(&router).await, 400, 101, malformed);
    }
    let unknown = read(&root, "12345678-1234-4234-8234-123456789012").send(&router).await;
    fails(&unknown, 403, 103, "the user is not assigned to this organizational unit");
    let ann = kit.user_in(unit.id, "ann", &everything()).await;
    let (_, key) = kit.user_key(Api::Protection, &ann).await;
    let ask = Ask::get(format!("/tasks/{}", root.id)).bearer(&key).send(&router).await;
    fails(&ask, 404, 104, "there is no such task");
}

#[tokio::test]
async fn unknown_ids_and_paths_are_404() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    for id in ["0", "99999", "-1", "+1", "1.0", "99999999999999999999", "%00", "a", "%F0%9F%A6%80", "%ff"] {
        for noun in ["users", "tasks", "roles"] {
            let answer = Ask::get(format!("/{noun}/{id}")).bearer(&key).send(&router).await;
            assert_eq!(
                (answer.status, &answer.json()["errors"][0]["error_code"]),
                (404, &json!(104)),
                "{id}"
            );
        }
    }
    fails(&Ask::get("/policies/rules").send(&router).await, 404, 104, "there is nothing at this path");
    fails(&Ask::post("/tasks").send(&router).await, 405, 105, "This path does not have this method");
}

#[tokio::test]
async fn everything_works_below_a_prefix() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    let mounted = Router::new().nest_service("/clumio", router);
    for (path, status) in [("/clumio", 200), ("/clumio/", 200), ("/clumio/users", 200), ("/clumio/none", 404)]
    {
        let answer = Ask::get(path).bearer(&key).send(&mounted).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.json().is_object());
    }
}

#[tokio::test]
async fn hostile_input_is_never_a_500() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    for (method, path, _) in ROUTES {
        for bad in HOSTILE {
            let mut path = path.to_string();
            if let (Some(open), Some(close)) = (path.find('{'), path.find('}')) {
                path.replace_range(open..=close, bad);
            }
            let query: String = ["start", "limit", "filter"].map(|name| format!("{name}={bad}&")).concat();
            let ask = Ask::new(method, format!("{path}?{query}")).bearer(&key).header("accept", bad);
            let answer = ask.body(bad).send(&router).await;
            assert!(answer.status < 500, "{method} {path}?{query}: {}", answer.body);
            assert!(
                answer.body.is_empty()
                    || answer.header("content-type") == "text/plain; charset=utf-8"
                    || answer.json().is_object()
            );
        }
    }
    let large = Ask::patch("/users/1").bearer(&key).body(vec![b'a'; 8 * 1_048_576 + 1]);
    fails(&large.send(&router).await, 400, 113, "the request body is larger than 8388608 bytes");
}
