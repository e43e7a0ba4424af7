//! The routes over the protection plane, with real backups of SQLite files.

use axum::Router;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::{Action, Noun, Permission, Random as _, RunState, Secret};
use landreeve_estate::ops::datasources::{datasource_create, datasource_delete};
use landreeve_estate::ops::runs::{RunRef, run_get};
use landreeve_estate::ops::{Datasource, DatasourceDetails};
use landreeve_estate::random::OsRandom;
use landreeve_face_clumio::{Options, router};
use landreeve_protection::Protection;
use landreeve_protection::backing_up::{NewBackup, backup_start};
use landreeve_protection::backups::{Backup, backup_get};
use landreeve_protection::nouns::{BACKUP, RECORD, RESTORE};
use landreeve_testkit::{Answer, Ask, Kit, postgres_execute, postgres_url, sqlite_execute, sqlite_number};
use serde_json::{Value, json};

use crate::{admin_key, fails, key_of, messages, with_protection};

const RESOURCES: &str = "/datasources/aws/rds-resources";
const BACKUPS: &str = "/backups/aws/rds-resources";
const RESTORES: &str = "/restores/aws/rds-resources";
const RECORDS: &str = "/restores/aws/rds-resources/records";
const UNKNOWN: &str = "12345678-1234-4234-8234-123456789012";

/// An estate whose runs are executed.
pub struct World {
    pub kit: Kit,
    pub plane: Protection,
    pub router: Router,
    key: String,
}

/// A SQLite file with an empty table, and its datasource.
pub async fn declare(kit: &Kit, name: &str) -> Datasource {
    let folder = kit.path("files");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{name}.db"));
    let sql = "CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT NOT NULL, price REAL); \
               CREATE TABLE lines (id INTEGER PRIMARY KEY); \
               INSERT INTO orders WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 250) \
               SELECT i, 'note ' || i, NULL FROM n";
    sqlite_execute(&path, sql).await;
    let details = DatasourceDetails {
        name: name.to_owned(),
        database_type: DatabaseType::Sqlite,
        database: Some(path.to_str().unwrap().to_owned()),
        nightly_schema: false,
        ..DatasourceDetails::default()
    };
    datasource_create(&kit.estate, &kit.operator(), details, Vec::new()).await.unwrap()
}

impl World {
    pub async fn new() -> World {
        World::over(Kit::new().await).await
    }

    pub async fn over(kit: Kit) -> World {
        let (kit, plane) = with_protection(kit, Vec::new()).await;
        kit.start_planes().await;
        let router = router(kit.estate.clone(), plane.clone(), Options::default()).unwrap().into();
        let key = admin_key(&kit).await;
        World { kit, plane, router, key }
    }

    /// A new datasource with a backup.
    pub async fn back_up(&self, name: &str) -> Backup {
        let datasource = declare(&self.kit, name).await;
        self.back_up_again(&datasource).await
    }

    /// A backup of a PostgreSQL database that is gone.
    pub async fn back_up_rows(&self) -> Backup {
        let mut url = url::Url::parse(&postgres_url()).unwrap();
        let name = format!("lr_{}", uuid::Uuid::from_u128(rand_bits()).simple());
        postgres_execute(url.as_str(), &format!("CREATE DATABASE {name}")).await;
        let admin = url.to_string();
        url.set_path(&name);
        let sql = "CREATE TABLE orders (id bigint PRIMARY KEY, note text NOT NULL, price numeric(12, 2)); \
                   INSERT INTO orders SELECT i, 'note ' || i, NULL FROM generate_series(1, 250) AS i";
        postgres_execute(url.as_str(), sql).await;
        let details = DatasourceDetails {
            name: "shop".to_owned(),
            host: url.host_str().map(str::to_owned),
            port: url.port(),
            username: Some(url.username().to_owned()),
            password: url.password().map(Secret::new),
            database: Some(name.clone()),
            nightly_schema: false,
            ..DatasourceDetails::default()
        };
        let kit = &self.kit;
        let datasource = datasource_create(&kit.estate, &kit.operator(), details, Vec::new()).await.unwrap();
        let backup = self.back_up_again(&datasource).await;
        postgres_execute(&admin, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
        backup
    }

    async fn back_up_again(&self, datasource: &Datasource) -> Backup {
        let (plane, ctx) = (&self.plane, self.kit.operator());
        let new = NewBackup { repository: None, keep: None };
        let run = backup_start(plane, &ctx, datasource.id, new).await.unwrap();
        assert_eq!(self.kit.ended(&run).await.state, RunState::Succeeded);
        backup_get(plane, &ctx, run.uuid).await.unwrap()
    }

    /// The path of restored records, and the path of the link to them.
    pub async fn restore_records(&self, backup: &Backup) -> (String, String) {
        let body = statement(backup, "SELECT * FROM orders ORDER BY id", false);
        let task = self.task(&self.post(RECORDS, &body).await).await;
        assert_eq!(task["status"], "completed");
        let path = format!("{RECORDS}?filter={}", escaped(&json!({ "task_id": { "$in": [task["id"]] } })));
        let found = items(&self.read(&path).await);
        let link = found[0]["download_link"].as_str().unwrap();
        let link = link.strip_prefix("http://estate.example").unwrap_or_else(|| panic!("{link}"));
        (found[0]["_links"]["_self"]["href"].as_str().unwrap().to_owned(), link.to_owned())
    }

    pub async fn get(&self, path: &str) -> Answer {
        Ask::get(path).bearer(&self.key).send(&self.router).await
    }

    pub async fn read(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// As the Go SDK sends it: with another content type, and an empty unit.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let ask = Ask::post(path).bearer(&self.key).body(body.to_string());
        let ask = ask.header("content-type", "text/plain; charset=utf-8");
        ask.header("x-clumio-organizationalunit-context", "").send(&self.router).await
    }

    /// The names or ids of a list with this filter.
    async fn listed(&self, path: &str, filter: &Value, member: &str) -> Vec<String> {
        self.listed_with(path, filter, "", member).await
    }

    async fn listed_with(&self, path: &str, filter: &Value, more: &str, member: &str) -> Vec<String> {
        let body = self.read(&format!("{path}?filter={}{more}", escaped(filter))).await;
        items(&body).iter().map(|item| item[member].as_str().unwrap().to_owned()).collect()
    }

    pub async fn task(&self, answer: &Answer) -> Value {
        assert_eq!(answer.status, 202, "{}", answer.body);
        let body = answer.json();
        let id = body["task_id"].as_str().unwrap();
        assert_eq!(body["_links"]["read-task"]["href"], format!("/tasks/{id}"));
        let which = RunRef::Id(landreeve_core::ids::RunId(id.parse().unwrap()));
        let run = run_get(&self.kit.estate, &self.kit.operator(), which, &[]).await.unwrap();
        self.kit.ended(&run).await;
        self.read(&format!("/tasks/{id}")).await
    }
}

pub fn rand_bits() -> u128 {
    let mut bytes = [0; 16];
    OsRandom.fill(&mut bytes);
    u128::from_be_bytes(bytes)
}

pub fn statement(backup: &Backup, sql: &str, preview: bool) -> Value {
    json!({ "source": { "backup_id": backup.uuid.to_string(), "database_name": backup.asset.database() },
        "target": { "query_statement": sql, "preview": preview } })
}

pub fn escaped(filter: &Value) -> String {
    filter.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect()
}

pub fn items(body: &Value) -> Vec<Value> {
    body["_embedded"]["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn every_datasource_is_an_environment_and_a_resource() {
    let world = World::new().await;
    let shop = declare(&world.kit, "shop").await;
    let id = shop.uuid.to_string();
    let environment = world.read(&format!("/datasources/aws/environments/{id}")).await;
    assert_eq!((&environment["id"], &environment["account_name"]), (&json!(id), &json!("shop")));
    assert_eq!(environment["connection_status"], "connected");
    let listed = world.read("/datasources/aws/environments").await;
    assert_eq!(items(&listed), [environment]);
    assert!(listed.get("total_count").is_none() && listed["_links"].get("_last").is_none());

    let resource = world.read(&format!("{RESOURCES}/{id}")).await;
    let path = world.kit.path("files").join("shop.db");
    for (member, value) in [
        ("id", json!(id)),
        ("environment_id", json!(id)),
        ("type", json!("aws_rds_instance")),
        ("engine", json!("sqlite")),
        ("resource_native_id", json!(path)),
        ("account_native_id", json!("000000000000")),
        ("aws_region", json!("local")),
        ("organizational_unit_id", json!(uuid::Uuid::nil().to_string())),
        ("is_supported", json!(true)),
        ("unsupported_reason", Value::Null),
        ("is_deleted", json!(false)),
        ("size", Value::Null),
        ("protection_status", json!("unprotected")),
        ("protection_info", Value::Null),
        ("last_granular_backup_timestamp", Value::Null),
    ] {
        assert_eq!(resource[member], value, "{member}");
    }
    assert_eq!(resource["backup_status_info"]["backup_status"], "unknown");
    let operations: Vec<_> = resource["_links"].as_object().unwrap().keys().collect();
    let expected = [
        "_self",
        "create-backup-aws-rds-resource",
        "list-backup-aws-rds-resources",
        "list-rds-restored-records",
    ];
    assert_eq!(operations, expected);

    let backup = world.back_up_again(&shop).await;
    let resource = world.read(&format!("{RESOURCES}/{id}?lookback_days=7")).await;
    assert_eq!(resource["size"], json!(backup.bytes_read));
    assert_eq!(resource["backup_status_info"]["backup_status"], "success");
    assert!(resource["last_granular_backup_timestamp"].is_string());
    assert!(resource["_links"].get("restore-aws-rds-resource").is_some());
    for id in [UNKNOWN, "1", "x", &id.replace('-', ""), &format!("{{{id}}}")] {
        for path in ["/datasources/aws/environments", RESOURCES, BACKUPS] {
            assert_eq!(world.get(&format!("{path}/{id}")).await.status, 404, "{path}/{id}");
        }
    }
}

#[tokio::test]
async fn resources_are_filtered_in_the_store_on_sqlite() {
    resources_are_filtered(World::new().await).await;
}

#[tokio::test]
async fn resources_are_filtered_in_the_store_on_postgresql() {
    let world = World::over(Kit::postgres().await).await;
    resources_are_filtered(world).await.kit.remove().await;
}

async fn resources_are_filtered(world: World) -> World {
    let shop = world.back_up("shop").await;
    declare(&world.kit, "shop two").await;
    let gone = world.back_up("gone").await;
    datasource_delete(&world.kit.estate, &world.kit.operator(), gone.asset.datasource.unwrap())
        .await
        .unwrap();
    let details = DatasourceDetails {
        name: "warehouse".to_owned(),
        database_type: DatabaseType::Oracle,
        host: Some("ora".to_owned()),
        database: Some("X".to_owned()),
        ..DatasourceDetails::default()
    };
    datasource_create(&world.kit.estate, &world.kit.operator(), details, Vec::new()).await.unwrap();
    let details = DatasourceDetails {
        name: "people".to_owned(),
        host: Some("db".to_owned()),
        database: Some("people".to_owned()),
        ..DatasourceDetails::default()
    };
    let people =
        datasource_create(&world.kit.estate, &world.kit.operator(), details, Vec::new()).await.unwrap();
    let all = ["shop", "shop two", "warehouse", "people"];
    let path = world.kit.path("files").join("shop.db");
    for (filter, expected) in [
        (json!({}), all.as_slice()),
        (json!({ "name": { "$contains": "shop" } }), &["shop", "shop two"]),
        (json!({ "name": { "$contains": "Shop" } }), &[]),
        (json!({ "name": null, "engine": { "$eq": null } }), &all),
        (json!({ "engine": { "$eq": "sqlite" } }), &["shop", "shop two"]),
        (json!({ "resource_native_id": { "$eq": path } }), &["shop"]),
        (json!({ "resource_native_id": { "$eq": "db:5432/people" } }), &["people"]),
        (json!({ "environment_id": { "$eq": people.uuid.to_string() } }), &["people"]),
        (json!({ "environment_id": { "$eq": "x" } }), &[]),
        (
            json!({ "account_native_id": { "$eq": "000000000000" }, "type": { "$in": ["x", "aws_rds_instance"] } }),
            &all,
        ),
        (json!({ "account_native_id": { "$eq": "1" } }), &[]),
        (json!({ "type": { "$in": ["aws_rds_cluster"] } }), &[]),
        (json!({ "tags.id": { "$all": ["x"] } }), &[]),
        (json!({ "protection_status": { "$in": ["unsupported"] } }), &["warehouse"]),
        (json!({ "protection_status": { "$in": ["unprotected"] } }), &["shop", "shop two", "people"]),
        (json!({ "protection_status": { "$in": ["protected"] } }), &[]),
        (json!({ "protection_info.policy_id": { "$eq": UNKNOWN } }), &[]),
        (json!({ "deactivated": { "$eq": true } }), &[]),
        (json!({ "deactivated": { "$eq": "false" } }), &all),
        (json!({ "backup_status": { "$in": ["unknown"] } }), &all),
        (json!({ "is_deleted": { "$eq": true } }), &["gone"]),
        (json!({ "is_deleted": { "$in": ["false"] } }), &all),
    ] {
        assert_eq!(world.listed(RESOURCES, &filter, "name").await, expected, "{filter}");
    }
    let every = json!({ "is_deleted": { "$in": ["true", "false"] } });
    let mut names = world.listed(RESOURCES, &every, "name").await;
    names.sort();
    assert_eq!(names, ["gone", "people", "shop", "shop two", "warehouse"]);
    for (status, expected) in [("success", ["shop"].as_slice()), ("no_backup", &all[1..]), ("failure", &[])] {
        let filter = json!({ "backup_status": { "$in": [status] } });
        let found = world.listed_with(RESOURCES, &filter, "&lookback_days=7", "name").await;
        assert_eq!(found, expected, "{status}");
    }
    let gone = world.read(&format!("{RESOURCES}/{}", gone.asset.uuid)).await;
    assert_eq!((&gone["is_deleted"], &gone["protection_status"]), (&json!(true), &Value::Null));
    assert_eq!(world.get(&format!("/datasources/aws/environments/{}", shop.uuid)).await.status, 404);
    let unsupported =
        world.listed(RESOURCES, &json!({ "engine": { "$eq": "oracle" } }), "unsupported_reason").await;
    assert_eq!(unsupported, ["databases of type oracle cannot be backed up yet"]);
    world
}

#[tokio::test]
async fn a_filter_reports_every_fault() {
    let world = World::new().await;
    let ask = async |path: &str, filter: Value| {
        let answer = world.get(&format!("{path}?filter={}", escaped(&filter))).await;
        assert_eq!(answer.status, 400, "{filter}");
        messages(&answer)
    };
    let faults = ask(RESOURCES, json!({ "colour": { "$eq": 1 }, "name": { "$eq": "x" } })).await;
    assert!(
        faults[0].starts_with("filter.colour is not a field of this filter; use resource_native_id, name,")
    );
    assert_eq!(faults[1], "filter.name.$eq is not supported; use $contains");
    let faults = ask(RESOURCES, json!({ "backup_status": { "$in": ["success"] } })).await;
    assert_eq!(faults, ["lookback_days is required to filter by backup_status"]);
    let faults =
        ask(BACKUPS, json!({ "start_timestamp": { "$gte": "2026-01-01T00:00:00Z", "$gt": 1 } })).await;
    assert_eq!(
        faults,
        [
            "filter.start_timestamp.$gte is not supported; use $lte, $gt",
            "filter.start_timestamp.$gt must be a string"
        ]
    );
    for query in
        ["sort=size", "sort=start_timestamp,id", "embed=read-task", "start=0", "limit=x", "lookback_days=7"]
    {
        assert_eq!(world.get(&format!("{BACKUPS}?{query}")).await.status, 400, "{query}");
    }
    for query in ["lookback_days=0", "lookback_days=x", "start=0", "sort=name"] {
        assert_eq!(world.get(&format!("{RESOURCES}?{query}")).await.status, 400, "{query}");
    }
    for query in ["start=x", "start=1", "limit=0", "filter=%7B"] {
        assert_eq!(world.get(&format!("/datasources/aws/environments?{query}")).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn environments_have_pages_with_tokens() {
    let world = World::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        declare(&world.kit, name).await;
    }
    let mut path = "/datasources/aws/environments?limit=2".to_owned();
    let mut seen = Vec::new();
    loop {
        let body = world.read(&path).await;
        assert_eq!(body["current_count"], json!(items(&body).len()));
        seen.extend(items(&body).iter().map(|item| item["account_name"].as_str().unwrap().to_owned()));
        let Some(next) = body["_links"].get("_next") else { break };
        path = next["href"].as_str().unwrap().to_owned();
        let token = path.split_once("start=").unwrap().1.split('&').next().unwrap();
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{token}");
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    for (filter, count) in [
        (json!({ "account_native_id": { "$begins_with": "000" } }), 5),
        (json!({ "aws_region": { "$eq": "us-west-2" } }), 0),
        (json!({ "connection_status": { "$eq": "connected" } }), 5),
        (json!({ "connection_status": { "$eq": "unlinked" } }), 0),
        (json!({ "connection_status": { "$eq": "other" } }), 0),
        (json!({ "services_enabled": { "$contains": "rds" } }), 5),
        (json!({ "services_enabled": { "$contains": "ebs" } }), 0),
    ] {
        let found = world.listed("/datasources/aws/environments", &filter, "id").await;
        assert_eq!(found.len(), count, "{filter}");
    }
}

#[tokio::test]
async fn backups_are_listed_and_made_as_clients_ask() {
    let world = World::new().await;
    let shop = declare(&world.kit, "shop").await;
    let id = shop.uuid.to_string();
    // As the SDKs send it, with everything that is not set as null.
    let settings = json!({ "advanced_settings": null, "backup_aws_region": null,
        "retention_duration": { "unit": null, "value": null } });
    let body = json!({ "resource_id": id, "settings": settings });
    let answer = world.post(&format!("{BACKUPS}?embed=read-task"), &body).await;
    assert_eq!(answer.header("content-type"), "application/api.clumio.backup-aws-rds-resources=v1+json");
    let embedded = answer.json()["_embedded"]["read-task"].clone();
    assert_eq!(embedded["id"], answer.json()["task_id"]);
    let task = world.task(&answer).await;
    assert_eq!(
        (&task["type"], &task["status"]),
        (&json!("aws_rds_resource_backup_seeding"), &json!("completed"))
    );
    assert_eq!(task["primary_entity"], json!({ "id": id, "type": "aws_rds_instance", "value": "shop" }));
    assert_eq!(task["parent_entity"], json!({ "id": id, "type": "aws_environment", "value": "shop" }));
    world.kit.clock.advance(std::time::Duration::from_secs(60));
    let body =
        json!({ "resource_id": id, "settings": { "retention_duration": { "unit": "months", "value": 2 } } });
    let task = world.task(&world.post(BACKUPS, &body).await).await;
    assert_eq!(task["type"], "aws_rds_resource_incremental_backup");

    let list = world.read(BACKUPS).await;
    assert_eq!((&list["total_count"], &list["sort_applied"]), (&json!(2), &json!("-start_timestamp")));
    let [second, first] = items(&list).try_into().unwrap();
    let (member, until) = ("expiration_timestamp", |backup: &Value| backup["expiration_timestamp"].clone());
    assert_eq!(
        (first[member].clone(), second[member].clone()),
        (json!("2026-01-22T12:00:00Z"), until(&second))
    );
    assert_eq!(second[member], "2026-03-15T12:01:00Z");
    assert_eq!((&first["resource_id"], &first["type"]), (&json!(id), &json!("granular_backup")));
    let read = world.read(first["_links"]["_self"]["href"].as_str().unwrap()).await;
    assert_eq!(read, first);
    let ids = async |query: &str| {
        let body = world.read(&format!("{BACKUPS}?{query}")).await;
        items(&body).iter().map(|item| item["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids("sort=start_timestamp").await, [&first["id"], &second["id"]].map(Clone::clone));
    assert_eq!(ids("limit=1&start=2").await, [first["id"].clone()]);
    let started = first["start_timestamp"].clone();
    for (filter, expected) in [
        (json!({ "start_timestamp": { "$gt": started } }), vec![second["id"].clone()]),
        (json!({ "start_timestamp": { "$lte": started } }), vec![first["id"].clone()]),
        (
            json!({ "resource_id": { "$eq": id }, "start_timestamp": { "$lte": started } }),
            vec![first["id"].clone()],
        ),
        (json!({ "resource_id": { "$eq": UNKNOWN } }), vec![]),
        (json!({ "resource_id": { "$eq": "x" } }), vec![]),
    ] {
        assert_eq!(ids(&format!("filter={}", escaped(&filter))).await, expected, "{filter}");
    }
    world.kit.clock.advance(std::time::Duration::from_secs(8 * 86_400));
    assert_eq!(ids("").await, [second["id"].clone()]);
    let expired = first["_links"]["_self"]["href"].as_str().unwrap();
    assert_eq!(world.get(expired).await.status, 404);
    assert_eq!(world.get(&format!("{expired}/databases")).await.status, 404);
}

#[tokio::test]
async fn a_backup_that_cannot_be_made_says_why() {
    let world = World::new().await;
    let shop = declare(&world.kit, "shop").await;
    let id = shop.uuid.to_string();
    let wrong = json!({ "resource_id": id, "colour": 1, "settings": {
        "backup_aws_region": "nowhere", "retention_duration": { "unit": "fortnights", "value": 1 } } });
    let answer = world.post(BACKUPS, &wrong).await;
    let expected = [
        "settings.retention_duration must have the unit hours, days, weeks, months or years",
        "colour is not a member of this object",
        "settings.backup_aws_region there is no repository called nowhere",
    ];
    assert_eq!((answer.status, messages(&answer)), (400, expected.map(str::to_owned).to_vec()));
    for retention in [json!({ "unit": "days", "value": 0 }), json!({ "unit": "days" }), json!(7), json!("7d")]
    {
        let body = json!({ "resource_id": id, "settings": { "retention_duration": retention } });
        assert_eq!(world.post(BACKUPS, &body).await.status, 400, "{body}");
    }
    fails(&world.post(BACKUPS, &json!({})).await, 400, 101, "resource_id is required");
    for unknown in [UNKNOWN, "1", ""] {
        let answer = world.post(BACKUPS, &json!({ "resource_id": unknown })).await;
        fails(&answer, 404, 104, "there is no such resource");
    }
    // Another one is under way.
    let (kit, plane) = with_protection(world.kit, Vec::new()).await;
    let router: Router = router(kit.estate.clone(), plane, Options::default()).unwrap().into();
    let ask = || Ask::post(BACKUPS).bearer(&world.key).json(&json!({ "resource_id": id }));
    assert_eq!(ask().send(&router).await.status, 202);
    fails(&ask().send(&router).await, 409, 109, "another backup of this datasource is under way");
}

#[tokio::test]
async fn tables_of_a_backup_can_be_browsed() {
    let world = World::new().await;
    let backup = world.back_up("shop").await;
    let base = format!("{BACKUPS}/{}/databases", backup.uuid);
    let databases = world.read(&base).await;
    assert_eq!(items(&databases)[0]["name"], "main");
    let path = items(&databases)[0]["_links"]["list-backup-aws-rds-resource-database-tables"]["href"].clone();
    assert_eq!(path, format!("{base}/main/tables"));
    let path = path.as_str().unwrap();
    let page = world.read(&format!("{path}?limit=1&current_count=5")).await;
    assert_eq!(items(&page)[0]["name"], "main.lines");
    let next = world.read(page["_links"]["_next"]["href"].as_str().unwrap()).await;
    assert_eq!((&items(&next)[0]["name"], next["_links"].get("_next")), (&json!("main.orders"), None));
    let begins = |text: &str| json!({ "name": { "$begins_with": text } });
    assert_eq!(world.listed(path, &begins("main.o"), "name").await, ["main.orders"]);
    assert!(world.listed(&base, &begins("x"), "name").await.is_empty());
    let table = world.read(items(&next)[0]["_links"]["_self"]["href"].as_str().unwrap()).await;
    assert_eq!((&table["name"], table.get("_embedded")), (&json!("main.orders"), None));
    let operation = "read-backup-aws-rds-resource-database-table-columns";
    let columns = world.read(table["_links"][operation]["href"].as_str().unwrap()).await;
    let id = json!({ "name": "id", "type": "INTEGER", "is_nullable": true, "is_primary_key": true });
    assert_eq!(columns["columns"][0]["name"], id["name"]);
    let own = table["_links"]["_self"]["href"].as_str().unwrap();
    let embedded = world.read(&format!("{own}?embed={operation}")).await;
    assert_eq!(embedded["_embedded"][operation], columns);
    for path in [
        format!("{base}/other/tables"),
        format!("{base}/main/tables/x"),
        format!("{base}/main/tables/bWFpbgB4/columns"),
        format!("{BACKUPS}/{UNKNOWN}/databases"),
        format!("{BACKUPS}/x/databases/main/tables"),
    ] {
        assert_eq!(world.get(&path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_backup_is_restored_to_a_new_file() {
    let world = World::new().await;
    let backup = world.back_up("shop").await;
    // As the SDKs send it.
    let body = json!({
        "source": { "backup": { "backup_id": backup.uuid.to_string() }, "snapshot": { "resource_id": null, "timestamp": null } },
        "target": { "environment_id": null, "instance_class": null, "is_publicly_accessible": null,
            "kms_key_native_id": null, "name": "copy.db", "option_group_name": null, "parameter_group_name": null,
            "security_group_native_ids": null, "subnet_group_name": null, "tags": null }
    });
    let task = world.task(&world.post(&format!("{RESTORES}?embed=read-task"), &body).await).await;
    assert_eq!((&task["type"], &task["status"]), (&json!("aws_rds_resource_restore"), &json!("completed")));
    assert_eq!(task["primary_entity"]["value"], "shop");
    let copy = world.kit.path("files").join("copy.db");
    assert_eq!(sqlite_number(&copy, "SELECT count(*) FROM orders").await, 250);
    // Its own environment is the same server.
    let again = |environment: &str, name: &str| {
        json!({ "source": { "backup": { "backup_id": backup.uuid.to_string() } },
            "target": { "environment_id": environment, "name": name } })
    };
    let own = backup.asset.uuid.to_string();
    assert_eq!(world.post(RESTORES, &again(&own, "other.db")).await.status, 202);
    for unknown in [UNKNOWN, "1"] {
        let answer = world.post(RESTORES, &again(unknown, "c.db")).await;
        fails(&answer, 400, 101, "target.environment_id is not an environment");
    }
    let answer = world.post(RESTORES, &again("", "copy.db")).await;
    assert!([400, 409].contains(&answer.status), "{}", answer.body);
    let answer = world.post(RESTORES, &again("", "/etc/x.db")).await;
    assert_eq!(answer.status, 400);
    assert!(messages(&answer)[0].starts_with("target.name "), "{}", answer.body);
    let snapshot =
        json!({ "source": { "snapshot": { "resource_id": "x", "timestamp": "y" } }, "target": {} });
    let expected = [
        "source.snapshot is not available; use source.backup",
        "source.backup is required",
        "target.name is required",
    ];
    let answer = world.post(RESTORES, &snapshot).await;
    assert_eq!((answer.status, messages(&answer)), (400, expected.map(str::to_owned).to_vec()));
    for unknown in [UNKNOWN, "1"] {
        let body = json!({ "source": { "backup": { "backup_id": unknown } }, "target": { "name": "d.db" } });
        assert_eq!(world.post(RESTORES, &body).await.status, 404);
    }
}

#[tokio::test]
async fn links_are_what_the_caller_may_do() {
    let world = World::new().await;
    let backup = world.back_up("shop").await;
    let seen = async |name: &str, permissions: &[Permission]| {
        let (_, key) = key_of(&world.kit, name, permissions).await;
        let path = format!("{BACKUPS}/{}", backup.uuid);
        let answer = Ask::get(path).bearer(&key).send(&world.router).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let links = answer.json()["_links"].clone();
        links.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    let (view, own) =
        (Permission::new(BACKUP, Action::VIEW), ["_self", "list-backup-aws-rds-resource-databases"]);
    assert_eq!(seen("one", &[view]).await, own);
    let more = [view, Permission::new(RESTORE, Action::USE), Permission::new(RECORD, Action::USE)];
    let all = [own[0], own[1], "restore-aws-rds-resource", "restore-rds-record"];
    assert_eq!(seen("two", &more).await, all);
    // What a list shows is what the caller may see.
    let unit = world.kit.ou("Research").await;
    let ann =
        world.kit.user_in(unit.id, "ann", &[view, Permission::new(Noun::DATASOURCE, Action::VIEW)]).await;
    let (_, key) = world.kit.user_key(landreeve_estate::ops::Api::Protection, &ann).await;
    for path in [BACKUPS, RESOURCES, "/datasources/aws/environments"] {
        let body = Ask::get(path).bearer(&key).send(&world.router).await.json();
        assert_eq!(body["current_count"], json!(0), "{path}");
    }
    for path in [format!("{BACKUPS}/{}", backup.uuid), format!("{RESOURCES}/{}", backup.asset.uuid)] {
        let status = Ask::get(&path).bearer(&key).send(&world.router).await.status;
        assert!([403, 404].contains(&status), "{path}: {status}");
    }
}

#[tokio::test]
async fn tasks_are_filtered_by_what_they_are_about() {
    let world = World::new().await;
    let shop = world.back_up("shop").await;
    world.back_up("other").await;
    let again = json!({ "resource_id": shop.asset.uuid.to_string() });
    let incremental = world.task(&world.post(BACKUPS, &again).await).await;
    let restore = json!({ "source": { "backup": { "backup_id": shop.uuid.to_string() } }, "target": { "name": "r.db" } });
    world.task(&world.post(RESTORES, &restore).await).await;
    let count = async |filter: Value| world.listed("/tasks", &filter, "id").await.len();
    let (id, seeding) = (shop.asset.uuid.to_string(), "aws_rds_resource_backup_seeding");
    for (filter, expected) in [
        (json!({ "primary_entity.value": { "$contains": "sho" } }), 3),
        (json!({ "primary_entity.id": { "$contains": id } }), 3),
        (json!({ "primary_entity.value": { "$contains": "nothing" } }), 0),
        (json!({ "type": { "$in": [seeding] } }), 2),
        (json!({ "type": { "$in": ["aws_rds_resource_incremental_backup"] } }), 1),
        (json!({ "type": { "$in": [seeding, "aws_rds_resource_restore"] } }), 3),
        (json!({ "type": { "$in": ["backup"] } }), 0),
        (json!({ "category": { "$in": ["backup"] }, "primary_entity.value": { "$contains": "shop" } }), 2),
        (json!({ "category": { "$in": ["backup"] }, "type": { "$in": ["aws_rds_resource_restore"] } }), 0),
        (json!({ "genre": { "$in": ["operational"] } }), 4),
        (json!({ "status": { "$in": ["completed"] }, "genre": { "$in": ["administrative"] } }), 0),
        (json!({ "id": { "$in": [incremental["id"], "x", "0"] } }), 1),
        (json!({ "id": { "$in": ["x"] } }), 0),
        (json!({ "created_timestamp": { "$gte": incremental["created_timestamp"] } }), 4),
        (json!({ "created_timestamp": { "$lte": "2026-01-01T00:00:00Z" } }), 0),
    ] {
        assert_eq!(count(filter.clone()).await, expected, "{filter}");
    }
}

#[tokio::test]
async fn records_are_previewed_as_strings() {
    let world = World::new().await;
    let backup = world.back_up_rows().await;
    let sql = "SELECT id, note, price FROM public.orders WHERE id <= 2 ORDER BY id";
    let answer = world.post(RECORDS, &statement(&backup, sql, true)).await;
    let media_type = "application/api.clumio.aws-rds-resource-restored-records=v1+json";
    assert_eq!((answer.status, answer.header("content-type")), (200, media_type), "{}", answer.body);
    let result = answer.json()["preview_result"].clone();
    assert_eq!(result["rows"], json!([["1", "note 1", null], ["2", "note 2", null]]));
    let columns = result["columns"].as_array().unwrap();
    let names: Vec<_> = columns.iter().map(|column| column["name"].clone()).collect();
    assert_eq!(names, ["id", "note", "price"]);
    assert!(columns[0]["type"].as_str().is_some_and(|name| !name.is_empty()));
    let all = world.post(RECORDS, &statement(&backup, "SELECT * FROM orders", true)).await.json();
    assert_eq!(all["preview_result"]["rows"].as_array().unwrap().len(), 100);
    for preview in [true, false] {
        for sql in ["DELETE FROM orders", "SELECT 1; SELECT 2", "SELECT * FROM nothing", "x", ""] {
            let answer = world.post(RECORDS, &statement(&backup, sql, preview)).await;
            assert_eq!(answer.status, 400, "{sql}: {}", answer.body);
            assert!(messages(&answer)[0].starts_with("target.query_statement "), "{sql}: {}", answer.body);
        }
        let mut other = statement(&backup, sql, preview);
        other["source"]["database_name"] = json!("other");
        fails(&world.post(RECORDS, &other).await, 404, 104, "the backup has no database other");
        for unknown in [UNKNOWN, "x"] {
            other["source"]["backup_id"] = json!(unknown);
            assert_eq!(world.post(RECORDS, &other).await.status, 404);
        }
    }
    let expected = ["source is required", "target is required", "limit is not a member of this object"];
    let answer = world.post(RECORDS, &json!({ "source": null, "limit": 5 })).await;
    assert_eq!((answer.status, messages(&answer)), (400, expected.map(str::to_owned).to_vec()));
    // Seeing a backup is not enough.
    let (_, key) = key_of(&world.kit, "ann", &[Permission::new(BACKUP, Action::MANAGE)]).await;
    let ask = Ask::post(RECORDS).bearer(&key).json(&statement(&backup, sql, true));
    assert_eq!(ask.send(&world.router).await.status, 403);
}

#[tokio::test]
async fn restored_records_are_downloaded_for_a_day() {
    let world = World::new().await;
    let backup = world.back_up_rows().await;
    let (path, link) = world.restore_records(&backup).await;
    let records = world.read(&path).await;
    for (member, value) in [
        ("backup_id", json!(backup.uuid.to_string())),
        ("resource_id", json!(backup.asset.uuid.to_string())),
        ("database_name", json!(backup.asset.database())),
        ("query_statement", json!("SELECT * FROM orders ORDER BY id")),
        ("row_count", json!(250)),
    ] {
        assert_eq!(records[member], value, "{member}");
    }
    let download = async |link: &str| Ask::get(link).send(&world.router).await;
    let answer = download(&link).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/csv; charset=utf-8"));
    let lines: Vec<&str> = answer.body.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[250]), (251, "id,note,price", "250,note 250,"));
    let count = "SELECT count(*) FROM audit_events WHERE action = 'downloaded' AND noun = 'record'";
    assert_eq!(world.kit.number(count).await, 1);
    // A link is for one result, and cannot be changed.
    let token = link.split_once("token=").unwrap().1;
    let (own, _) = link.split_once('?').unwrap();
    let other = own.replace(records["id"].as_str().unwrap(), UNKNOWN);
    for wrong in [
        own.to_owned(),
        format!("{own}?token=x"),
        format!("{own}?token={token}x"),
        format!("{other}?token={token}"),
    ] {
        assert_eq!(download(&wrong).await.status, 404, "{wrong}");
    }
    assert_eq!(world.kit.number(count).await, 1);
    let nothing = json!({ "task_id": { "$in": ["0", "x"] } });
    assert!(world.listed(RECORDS, &nothing, "id").await.is_empty());
    // Only those who may read records see them.
    let others = [Permission::new(BACKUP, Action::MANAGE), Permission::new(Noun::RUN, Action::MANAGE)];
    let (_, key) = key_of(&world.kit, "ann", &others).await;
    for path in [RECORDS, &path] {
        assert_eq!(Ask::get(path).bearer(&key).send(&world.router).await.status, 403);
    }
    world.kit.clock.advance(std::time::Duration::from_secs(86_401));
    assert_eq!(download(&link).await.status, 404);
    assert_eq!(world.get(&path).await.status, 404);
    assert!(world.listed(RECORDS, &json!({}), "id").await.is_empty());
}
