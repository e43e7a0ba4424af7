//! Policies and their assignments, as clients send them.

use landreeve_core::Input;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::ids::RunId;
use landreeve_estate::args;
use landreeve_estate::ops::datasources::datasource_create;
use landreeve_estate::ops::runs::{RunRef, run_wait};
use landreeve_estate::ops::{Datasource, DatasourceDetails};
use landreeve_protection::ids::AlertId;
use landreeve_protection::policies::model::{NewOperation, NewPolicy, NewSla};
use landreeve_protection::policies::policy_create;
use landreeve_testkit::Ask;
use serde_json::{Value, json};

use crate::{Face, admin_key, messages};

/// What the Python client sends: every member that it knows.
fn wanted(name: &str) -> Value {
    json!({
        "activation_status": "activated", "name": name,
        "operations": [{
            "action_setting": "immediate", "advanced_settings": null, "backup_aws_region": null,
            "backup_window": null, "backup_window_tz": null,
            "slas": [{
                "retention_duration": { "unit": "days", "value": 30 },
                "rpo_frequency": { "offsets": null, "unit": "days", "value": 1 }
            }],
            "timezone": null, "type": "aws_rds_resource_granular_backup"
        }],
        "organizational_unit_id": null, "timezone": null
    })
}

/// A policy that was made by the plane. Returns its id.
pub async fn made(face: &Face, name: &str) -> String {
    let sla =
        NewSla { retention: ("days".to_owned(), 7), frequency: ("days".to_owned(), 1), ..NewSla::default() };
    let operation = NewOperation {
        kind: "aws_rds_resource_granular_backup".to_owned(),
        action: "immediate".to_owned(),
        slas: vec![sla],
        ..NewOperation::default()
    };
    let new = NewPolicy { name: name.to_owned(), enabled: true, operations: vec![operation] };
    policy_create(&face.protection, &face.kit.operator(), Input::of(new)).await.unwrap().uuid.to_string()
}

/// A request that is complete.
pub async fn ask(face: &Face, method: &str, path: String) -> Ask {
    match (method, path.ends_with("/assignments")) {
        ("POST", true) => {
            let victim = database(face, &format!("victim-{}", face.kit.estate.uuid())).await;
            let entity = json!({ "id": victim.uuid.to_string(), "type": "aws_rds_instance" });
            Ask::post(path).json(&json!({ "items": [{ "action": "unassign", "entity": entity }] }))
        }
        ("POST", false) | ("PUT", _) => {
            let mut all = wanted("Gold");
            let operation = &mut all["operations"][0];
            operation["action_setting"] = json!("window");
            for name in ["backup_window", "backup_window_tz"] {
                operation[name] = json!({ "start_time": "01:00", "end_time": "05:00" });
            }
            operation["advanced_settings"] = json!({});
            Ask::new(method, path).json(&all)
        }
        _ => Ask::new(method, path),
    }
}

/// An alert as a run that failed leaves it. Returns its id.
pub async fn alert(face: &Face) -> String {
    let (id, uuid) = (face.kit.estate.next::<AlertId>(AlertId::KIND).await.unwrap(), face.kit.estate.uuid());
    let now = face.kit.estate.now();
    let sql = "INSERT INTO alerts (id, uuid, ou_id, kind, cause, severity, status, notes, description, entity_kind, \
               entity_uuid, entity_name, repository, raised_count, run_id, raised_at, updated_at) VALUES ($1, $2, 1, \
               'policy_violated', 'connect', 'error', 'active', '', 'no answer', 'datasource', $2, 'shop', 'default', 1, 0, $3, $3)";
    face.kit.exec(sql, args![id, uuid.to_string(), now]).await;
    uuid.to_string()
}

/// A SQLite file with its datasource.
pub async fn database(face: &Face, name: &str) -> Datasource {
    let file = face.kit.path(&format!("{name}.db"));
    std::fs::write(&file, b"").unwrap();
    let details = DatasourceDetails {
        name: name.to_owned(),
        database_type: DatabaseType::Sqlite,
        database: Some(file.to_str().unwrap().to_owned()),
        nightly_schema: false,
        ..DatasourceDetails::default()
    };
    datasource_create(&face.kit.estate, &face.kit.operator(), details, Vec::new()).await.unwrap()
}

async fn ended(face: &Face, task: &Value) {
    let run = RunRef::Id(RunId(task.as_str().unwrap().parse().unwrap()));
    let wait = std::time::Duration::from_secs(30);
    let run = run_wait(&face.kit.estate, &face.kit.operator(), run, &[], wait).await.unwrap();
    assert_eq!(run.state, landreeve_core::RunState::Succeeded, "{:?}", run.error);
}

#[tokio::test]
async fn a_policy_is_created_changed_and_deleted() {
    let face = Face::new().await;
    face.kit.start_planes().await;
    let key = admin_key(&face.kit).await;
    let send = async |ask: Ask| ask.bearer(&key).send(&face.router).await;
    // Both clients: with JSON's content type and as text.
    let made = send(Ask::post("/policies/definitions").json(&wanted("Gold"))).await;
    assert_eq!(made.status, 200, "{}", made.json());
    assert_eq!(made.header("content-type"), "application/api.clumio.policy-definitions=v1+json");
    let policy = made.json();
    let href = policy["_links"]["_self"]["href"].as_str().unwrap().to_owned();
    assert_eq!(
        (&policy["lock_status"], &policy["activation_status"]),
        (&json!("unlocked"), &json!("activated"))
    );
    assert_eq!(
        policy["operations"][0]["slas"][0]["retention_duration"],
        json!({ "unit": "days", "value": 30 })
    );
    assert!(policy["created_time"].is_i64());
    assert_eq!(send(Ask::get(&*href)).await.json(), policy);
    let changed = send(Ask::new("PUT", &*href).json(&wanted("Silver"))).await;
    assert_eq!((changed.status, &changed.json()["lock_status"]), (202, &json!("updating")));
    assert!(changed.json()["_links"]["read-task"]["href"].as_str().unwrap().starts_with("/tasks/"));
    ended(&face, &changed.json()["task_id"]).await;
    let silver = send(Ask::get(&*href)).await.json();
    assert_eq!((&silver["name"], &silver["lock_status"]), (&json!("Silver"), &json!("unlocked")));
    let filter = |text: &str| {
        format!(
            "/policies/definitions?filter={}",
            text.replace('"', "%22").replace('{', "%7B").replace('}', "%7D")
        )
    };
    for (text, found) in [
        (r#"{"name":{"$eq":"Silver"}}"#, 1),
        (r#"{"name":{"$begins_with":"Sil"}}"#, 1),
        (r#"{"name":{"$eq":"Sil"}}"#, 0),
        (r#"{"activation_status":{"$eq":"deactivated"}}"#, 0),
        (r#"{"operations.type":{"$in":["aws_rds_resource_granular_backup","aws_ebs_volume_backup"]}}"#, 1),
        (r#"{"operations.type":{"$in":["aws_ebs_volume_backup"]}}"#, 0),
    ] {
        let listed = send(Ask::get(filter(text))).await.json();
        assert_eq!(listed["current_count"], json!(found), "{text}");
        assert_eq!(listed["filter_applied"].as_str().unwrap(), text);
    }
    for text in [
        r#"{"id":{"$eq":"x"}}"#,
        r#"{"name":{"$in":["x"]}}"#,
        r#"{"name":"x"}"#,
        r#"{"activation_status":{"$eq":"on"}}"#,
    ] {
        let refused = send(Ask::get(filter(text))).await;
        assert_eq!(refused.status, 400, "{text}");
        assert!(messages(&refused)[0].starts_with("filter."), "{:?}", messages(&refused));
    }
    let deleted = send(Ask::new("DELETE", &*href)).await;
    assert_eq!(deleted.status, 202);
    ended(&face, &deleted.json()["task_id"]).await;
    assert_eq!(send(Ask::get(&*href)).await.status, 404);
}

#[tokio::test]
async fn databases_are_given_a_policy() {
    let face = Face::new().await;
    face.kit.start_planes().await;
    let key = admin_key(&face.kit).await;
    let send = async |ask: Ask| ask.bearer(&key).send(&face.router).await;
    let shop = database(&face, "shop").await;
    let policy = made(&face, "gold").await;
    let entity = json!({ "id": shop.uuid.to_string(), "type": "aws_rds_instance" });
    let items = |items: Value| Ask::post("/policies/assignments").json(&json!({ "items": items }));
    let assigned = send(items(json!([{ "action": "assign", "entity": entity, "policy_id": policy }]))).await;
    assert_eq!(assigned.status, 202, "{}", assigned.json());
    ended(&face, &assigned.json()["task_id"]).await;
    assert_eq!(face.kit.number("SELECT count(*) FROM policy_assignments").await, 1);
    let taken = send(items(json!([{ "action": "unassign", "entity": entity, "policy_id": null }]))).await;
    ended(&face, &taken.json()["task_id"]).await;
    assert_eq!(face.kit.number("SELECT count(*) FROM policy_assignments").await, 0);
    let stranger = json!({ "id": uuid::Uuid::nil().to_string(), "type": "aws_rds_instance" });
    for (wrong, message) in [
        (json!([]), "items must have 1 to 100 items"),
        (
            json!(vec![json!({ "action": "unassign", "entity": entity }); 101]),
            "items must have at most 100 items, has 101",
        ),
        (json!([{ "action": "assign", "entity": entity }]), "items.0.policy_id is required to assign"),
        (
            json!([{ "action": "unassign", "entity": entity, "policy_id": policy }]),
            "items.0.policy_id must be left out to unassign",
        ),
        (
            json!([{ "action": "assign", "entity": stranger, "policy_id": policy }]),
            "items.0.entity.id is not the id of a resource",
        ),
        (
            json!([{ "action": "assign", "entity": entity, "policy_id": uuid::Uuid::nil().to_string() }]),
            "items.0.policy_id there is no policy",
        ),
        (json!([{ "action": "swap", "entity": entity }]), "items.0.action"),
        (
            json!([{ "action": "unassign", "entity": { "id": shop.uuid.to_string(), "type": "tag" } }]),
            "items.0.entity.type",
        ),
    ] {
        let refused = send(items(wrong)).await;
        assert_eq!(refused.status, 400, "{message}");
        assert!(
            messages(&refused).iter().any(|one| one.starts_with(message)),
            "{message}: {:?}",
            messages(&refused)
        );
    }
}

#[tokio::test]
async fn alerts_are_listed_noted_and_cleared() {
    let face = Face::new().await;
    let key = admin_key(&face.kit).await;
    let send = async |ask: Ask| ask.bearer(&key).send(&face.router).await;
    let first = alert(&face).await;
    face.kit.clock.seconds(60);
    let second = alert(&face).await;
    let ids = |listed: &Value| -> Vec<String> {
        let items = listed["_embedded"]["items"].as_array().unwrap();
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    let href = format!("/alerts/individual/{first}");
    let noted = send(Ask::patch(&*href).json(&json!({ "notes": "the disk is away", "status": null }))).await;
    assert_eq!(
        (noted.status, &noted.json()["notes"], &noted.json()["status"]),
        (200, &json!("the disk is away"), &json!("active"))
    );
    let cleared = send(Ask::patch(&*href).json(&json!({ "notes": "the disk is back", "status": "cleared" })))
        .await
        .json();
    assert_eq!(
        (&cleared["status"], &cleared["details"]["description"]),
        (&json!("cleared"), &json!("no answer"))
    );
    assert_eq!(
        cleared["primary_entity"],
        json!({ "id": first, "type": "aws_rds_instance", "value": "shop" })
    );
    assert_eq!(send(Ask::get(&*href)).await.json(), cleared);
    // Clearing it once more changes nothing, and it cannot be raised by hand.
    let again = send(Ask::patch(&*href).json(&json!({ "notes": "the disk is back", "status": "cleared" })))
        .await
        .json();
    assert_eq!(again["cleared_timestamp"], cleared["cleared_timestamp"]);
    assert_eq!(send(Ask::patch(&*href).json(&json!({ "notes": "", "status": "active" }))).await.status, 400);
    assert_eq!(send(Ask::patch(&*href).json(&json!({ "notes": "x".repeat(1_024) }))).await.status, 400);
    // The documented sorts: oldest first, and a minus turns them.
    for (query, wanted) in [
        ("", vec![&second, &first]),
        ("?sort=raised_timestamp", vec![&first, &second]),
        ("?sort=-raised_timestamp", vec![&second, &first]),
        ("?sort=updated_timestamp", vec![&first, &second]),
        ("?filter=%7B%22status%22%3A%7B%22%24in%22%3A%5B%22active%22%5D%7D%7D", vec![&second]),
        ("?filter=%7B%22primary_entity.value%22%3A%7B%22%24contains%22%3A%22nope%22%7D%7D", vec![]),
        ("?limit=1&start=2", vec![&first]),
    ] {
        let listed = send(Ask::get(format!("/alerts/individual{query}"))).await.json();
        assert_eq!(ids(&listed).iter().collect::<Vec<_>>(), wanted, "{query}");
    }
    for query in ["?sort=notes", "?filter=%7B%22notes%22%3A%7B%22%24eq%22%3A1%7D%7D"] {
        assert_eq!(send(Ask::get(format!("/alerts/individual{query}"))).await.status, 400, "{query}");
    }
    for id in ["x", "1", &uuid::Uuid::nil().to_string()] {
        assert_eq!(send(Ask::get(format!("/alerts/individual/{id}"))).await.status, 404, "{id}");
    }
}

/// One error for each fault.
#[tokio::test]
async fn every_fault_of_a_policy_is_told() {
    let face = Face::new().await;
    let key = admin_key(&face.kit).await;
    let mut wrong = wanted("");
    wrong["operations"][0]["type"] = json!("tape");
    wrong["operations"][0]["slas"][0]["rpo_frequency"]["value"] = json!(0);
    wrong["operations"][0]["backup_aws_region"] = json!("nowhere");
    wrong["colour"] = json!("gold");
    let refused = Ask::post("/policies/definitions").bearer(&key).json(&wrong).send(&face.router).await;
    assert_eq!(refused.status, 400);
    let told = messages(&refused);
    for field in [
        "name",
        "operations.0.type",
        "operations.0.slas.0.rpo_frequency.value",
        "operations.0.backup_aws_region",
        "colour",
    ] {
        assert_eq!(
            told.iter().filter(|one| one.starts_with(&format!("{field} "))).count(),
            1,
            "{field}: {told:?}"
        );
    }
    for id in ["x", "1", &uuid::Uuid::nil().to_string()] {
        let path = format!("/policies/definitions/{id}");
        assert_eq!(Ask::get(path).bearer(&key).send(&face.router).await.status, 404, "{id}");
    }
}
