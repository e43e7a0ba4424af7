//! Databases on servers, as clients back them up and restore them: MariaDB, another server, what a policy says of backups on
//! demand, and when it makes the next one.

use landreeve_core::datasource::DatabaseType;
use landreeve_core::{Action, Noun, Permission, Secret};
use landreeve_estate::ops::audit::audit_list;
use landreeve_estate::ops::datasources::datasource_create;
use landreeve_estate::ops::{Datasource, DatasourceDetails};
use landreeve_protection::nouns::{BACKUP, POLICY, RESTORE};
use landreeve_testkit::{Ask, mariadb_execute, mariadb_url};
use serde_json::{Value, json};

use crate::key_of;
use crate::protection::{World, escaped, items, rand_bits};

const RESOURCES: &str = "/datasources/aws/rds-resources";
const BACKUPS: &str = "/backups/aws/rds-resources";
const RESTORES: &str = "/restores/aws/rds-resources";

fn unused() -> String {
    format!("lr_{}", uuid::Uuid::from_u128(rand_bits()).simple())
}

async fn declared(world: &World, name: &str) -> Datasource {
    let url = url::Url::parse(&mariadb_url()).unwrap();
    let details = DatasourceDetails {
        name: name.to_owned(),
        database_type: DatabaseType::MariaDb,
        host: url.host_str().map(str::to_owned),
        port: url.port(),
        username: Some(url.username().to_owned()),
        password: url.password().map(Secret::new),
        database: Some(name.to_owned()),
        nightly_schema: false,
        ..DatasourceDetails::default()
    };
    datasource_create(&world.kit.estate, &world.kit.operator(), details, Vec::new()).await.unwrap()
}

/// A database with three rows, and its datasource.
async fn shop(world: &World) -> (String, Datasource) {
    let name = unused();
    mariadb_execute(&format!(
        "CREATE DATABASE {name}; CREATE TABLE {name}.orders (id int PRIMARY KEY, note varchar(20)); \
         INSERT INTO {name}.orders VALUES (1, 'one'), (2, NULL), (3, 'three')"
    ))
    .await;
    let datasource = declared(world, &name).await;
    (name, datasource)
}

fn sla(keep: (&str, i64), every: (&str, i64)) -> Value {
    json!({
        "retention_duration": { "unit": keep.0, "value": keep.1 },
        "rpo_frequency": { "unit": every.0, "value": every.1 }
    })
}

async fn assigned(world: &World, resource: &str, slas: &[Value]) -> String {
    let operation = json!({
        "type": "aws_rds_resource_rolling_backup", "action_setting": "immediate", "slas": slas
    });
    let made =
        world.post("/policies/definitions", &json!({ "name": "Gold", "operations": [operation] })).await;
    assert_eq!(made.status, 200, "{}", made.body);
    let policy = made.json()["id"].as_str().unwrap().to_owned();
    let entity = json!({ "id": resource, "type": "aws_rds_instance" });
    let item = json!({ "action": "assign", "policy_id": policy, "entity": entity });
    let task = world.task(&world.post("/policies/assignments", &json!({ "items": [item] })).await).await;
    assert_eq!(task["status"], "completed");
    policy
}

/// The only backup of a resource, once it is there.
async fn backup_of(world: &World, resource: &str) -> Value {
    let path = format!("{BACKUPS}?filter={}", escaped(&json!({ "resource_id": { "$eq": resource } })));
    for _ in 0..20_000 {
        if let [backup] = items(&world.read(&path).await).as_slice() {
            return backup.clone();
        }
        tokio::task::yield_now().await;
    }
    panic!("no backup of {resource}");
}

fn seconds(backup: &Value, member: &str) -> i64 {
    backup[member].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second()
}

#[tokio::test]
async fn mariadb_is_backed_up_on_demand_read_and_restored() {
    let world = World::new().await;
    let (name, datasource) = shop(&world).await;
    let resource = datasource.uuid.to_string();
    let shown = world.read(&format!("{RESOURCES}/{resource}")).await;
    assert_eq!((&shown["engine"], &shown["is_supported"]), (&json!("mariadb"), &json!(true)));
    // What the policy says of backups on demand, where the request says nothing.
    assigned(&world, &resource, &[sla(("weeks", 3), ("on_demand", 0)), sla(("days", 2), ("on_demand", 0))])
        .await;
    let asked = json!({ "resource_id": resource, "settings": null });
    let task = world.task(&world.post(BACKUPS, &asked).await).await;
    assert_eq!(
        (&task["status"], &task["type"]),
        (&json!("completed"), &json!("aws_rds_resource_backup_seeding"))
    );
    let backup = backup_of(&world, &resource).await;
    let kept = seconds(&backup, "expiration_timestamp") - seconds(&backup, "start_timestamp");
    assert_eq!(kept, 21 * 86_400);
    let databases = world.read(&format!("{BACKUPS}/{}/databases", backup["id"].as_str().unwrap())).await;
    assert_eq!(items(&databases)[0]["name"], json!(name));
    let wanted = json!({
        "source": { "backup_id": backup["id"], "database_name": name },
        "target": { "preview": true, "query_statement": "SELECT id, note FROM orders WHERE id >= 2 ORDER BY id" }
    });
    let preview = world.post(&format!("{RESTORES}/records"), &wanted).await;
    assert_eq!(preview.status, 200, "{}", preview.body);
    assert!(preview.body.contains("three") && !preview.body.contains("\"one\""), "{}", preview.body);
    let new = unused();
    let wanted = json!({ "source": { "backup": { "backup_id": backup["id"] } }, "target": { "name": new } });
    let task = world.task(&world.post(RESTORES, &wanted).await).await;
    assert_eq!((&task["status"], &task["type"]), (&json!("completed"), &json!("aws_rds_resource_restore")));
    let rows = async |name: &str| mariadb_execute(&format!("SELECT * FROM {name}.orders ORDER BY id")).await;
    assert_eq!(rows(&new).await, rows(&name).await);
    mariadb_execute(&format!("DROP DATABASE {name}; DROP DATABASE {new}")).await;
}

#[tokio::test]
async fn a_restore_to_another_server_takes_more_rights_and_is_audited() {
    let world = World::new().await;
    let (name, datasource) = shop(&world).await;
    let other = declared(&world, "mysql").await;
    let asked = json!({ "resource_id": datasource.uuid.to_string() });
    assert_eq!(world.task(&world.post(BACKUPS, &asked).await).await["status"], "completed");
    let backup = backup_of(&world, &datasource.uuid.to_string()).await;
    let wanted = |new: &str, to: Option<&Datasource>| {
        let environment = to.map(|to| to.uuid.to_string());
        json!({
            "source": { "backup": { "backup_id": backup["id"] } },
            "target": { "name": new, "environment_id": environment }
        })
    };
    let view = Permission::new(BACKUP, Action::VIEW);
    let (_, helper) = key_of(&world.kit, "helper", &[view, Permission::new(RESTORE, Action::USE)]).await;
    let manages =
        [Permission::new(RESTORE, Action::MANAGE), Permission::new(Noun::DATASOURCE, Action::MANAGE)];
    let (_, manager) = key_of(&world.kit, "manager", &[&[view][..], &manages].concat()).await;
    let send =
        async |key: &str, body: Value| Ask::post(RESTORES).bearer(key).json(&body).send(&world.router).await;
    let (own, elsewhere) = (unused(), unused());
    assert_eq!(send(&helper, wanted(&elsewhere, Some(&other))).await.status, 403);
    let redirections = async || {
        let all =
            audit_list(&world.kit.estate, &world.kit.operator(), landreeve_core::Page::first(100)).await;
        all.unwrap().items.into_iter().filter(|event| event.action == "redirected").collect::<Vec<_>>()
    };
    // To its own server: named, or not.
    assert_eq!(
        world.task(&send(&helper, wanted(&own, Some(&datasource))).await).await["status"],
        "completed"
    );
    assert_eq!(redirections().await, []);
    let task = world.task(&send(&manager, wanted(&elsewhere, Some(&other))).await).await;
    assert_eq!(task["status"], "completed");
    let audited = redirections().await;
    assert_eq!(audited.len(), 1);
    assert!(audited[0].detail.contains(&elsewhere), "{:?}", audited[0]);
    let filter = escaped(&json!({ "action": { "$in": ["redirected"] } }));
    let trail = items(&world.read(&format!("/audit-trails?filter={filter}")).await);
    assert_eq!(trail.len(), 1);
    assert_eq!((&trail[0]["category"], &trail[0]["status"]), (&json!("restore"), &json!("success")));
    assert_eq!(trail[0]["primary_entity"]["id"], json!(datasource.uuid.to_string()));
    mariadb_execute(&format!("DROP DATABASE {name}; DROP DATABASE {own}; DROP DATABASE {elsewhere}")).await;
}

#[tokio::test]
async fn a_policy_says_when_it_backs_up() {
    let world = World::new().await;
    world.kit.follow_schedules().await;
    let (name, datasource) = shop(&world).await;
    let resource = datasource.uuid.to_string();
    let policy =
        assigned(&world, &resource, &[sla(("days", 30), ("days", 1)), sla(("years", 1), ("months", 1))])
            .await;
    let backup = backup_of(&world, &resource).await;
    let started = seconds(&backup, "start_timestamp");
    // What was made for both goals is kept for the longest.
    assert!(seconds(&backup, "expiration_timestamp") - started >= 365 * 86_400);
    let mut read = Value::Null;
    // It is noted when the backup is complete.
    for _ in 0..20_000 {
        read = world.read(&format!("/policies/definitions/{policy}")).await;
        if read["operations"][0]["previous_start_time"].is_number() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let operation = &read["operations"][0];
    assert_eq!(
        (&operation["previous_start_time"], &operation["next_start_time"]),
        (&json!(started), &json!(started + 86_400))
    );
    // It can be sent back as it was read.
    let body = json!({ "name": "Gold", "operations": read["operations"] });
    let path = format!("/policies/definitions/{policy}");
    let (_, blind) = key_of(&world.kit, "blind", &[Permission::new(Noun::DATASOURCE, Action::VIEW)]).await;
    let (_, seeing) = key_of(
        &world.kit,
        "seeing",
        &[Permission::new(Noun::DATASOURCE, Action::VIEW), Permission::new(POLICY, Action::MANAGE)],
    )
    .await;
    let changed = Ask::new("PUT", &*path).bearer(&seeing).json(&body).send(&world.router).await;
    assert_eq!(world.task(&changed).await["status"], "completed");
    for path in [
        format!("{RESOURCES}?embed=read-policy-definition"),
        format!("{RESOURCES}/{resource}?embed=read-policy-definition"),
    ] {
        for (key, wanted) in [(&seeing, json!(policy)), (&blind, Value::Null)] {
            let answer = Ask::get(&*path).bearer(key).send(&world.router).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let body = answer.json();
            let shown = if body["_embedded"]["items"].is_array() { items(&body)[0].clone() } else { body };
            let embedded = shown["_embedded"].as_object().unwrap();
            assert!(embedded.contains_key("read-policy-definition"));
            assert_eq!(embedded["read-policy-definition"]["id"], wanted);
        }
    }
    let plain = world.read(&format!("{RESOURCES}/{resource}")).await;
    assert!(plain.get("_embedded").is_none());
    assert_eq!(world.get(&format!("{RESOURCES}?embed=read-task")).await.status, 400);
    mariadb_execute(&format!("DROP DATABASE {name}")).await;
}
