//! Organizational units, and what moves between them, as clients send it.

use landreeve_core::ids::{OuId, RunId, UserId};
use landreeve_core::{Action, Noun, OpKind, Permission, RunState};
use landreeve_estate::args;
use landreeve_estate::ops::keys::{NewKey, key_create};
use landreeve_estate::ops::runs::{RunRef, run_wait};
use landreeve_estate::ops::units::{UnitChange, unit_delete_now, unit_get, unit_update};
use landreeve_estate::ops::{Api, Estate, Origin, Ou, sign_in};
use landreeve_protection::ids::AssetId;
use landreeve_protection::policies::{Assignment, policy_assign};
use landreeve_testkit::{Ask, Kit, everything};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::administration::{filtered, ids};
use crate::policies::{database, made};
use crate::{Face, admin_key, face, fails, key_of, messages};

const GLOBAL: &str = "00000000-0000-0000-0000-000000000000";
const VIEWER: &str = "50000000-0000-0000-0000-000000000000";
const UNIT_ADMIN: &str = "10000000-0000-0000-0000-000000000000";
const ANALYST: &str = "40000000-0000-0000-0000-000000000000";
const FIRST: &str = "application/api.clumio.organizational-units=v1+json";
const CONTEXT: &str = "x-clumio-organizationalunit-context";

/// A request for a route about units that is complete, or `None`.
pub async fn ask(face: &Face, method: &str, path: &str) -> Option<Ask> {
    let name = format!("unit {}", face.kit.estate.uuid());
    Some(match (method, path) {
        ("POST", "/organizational-units") => Ask::post(path).json(&json!({ "name": name })),
        (_, "/organizational-units/{id}") => {
            let unit = face.kit.ou(&name).await.uuid.to_string();
            let ask = Ask::new(method, path.replace("{id}", &unit));
            if method == "PATCH" { ask.json(&json!({ "description": "changed" })) } else { ask }
        }
        _ => return None,
    })
}

async fn ended(estate: &Estate, ctx: &landreeve_core::OpCtx, task: &Value) -> RunState {
    let run = RunRef::Id(RunId(task.as_str().unwrap().parse().unwrap()));
    run_wait(estate, ctx, run, &[], std::time::Duration::from_secs(30)).await.unwrap().state
}

fn entity(id: &str) -> Value {
    json!({ "parent_entity": null, "primary_entity": { "id": id, "type": "aws_environment" } })
}

#[tokio::test]
async fn a_unit_is_created_changed_and_deleted() {
    let (kit, router) = face().await;
    kit.start_planes().await;
    let key = admin_key(&kit).await;
    let send = async |ask: Ask| ask.bearer(&key).send(&router).await;
    let ada = kit.user("ada", &[]).await.id.to_string();
    let user = json!({ "assigned_role": VIEWER, "user_id": ada });
    let body = json!({
        "description": null, "entities": null, "name": "Sales", "parent_id": null, "users": [user]
    });
    let answer = send(Ask::post("/organizational-units").json(&body)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("content-type"), "application/api.clumio.organizational-units=v2+json");
    let unit = answer.json();
    let id = unit["id"].as_str().unwrap().to_owned();
    let href = format!("/organizational-units/{id}");
    let link = |method: &str| json!({ "href": href, "type": method, "templated": false });
    let expected = json!({
        "id": id, "name": "Sales", "description": "", "parent_id": GLOBAL, "children_count": 0,
        "descendant_ids": [], "user_count": 1, "users": [{ "user_id": ada, "assigned_role": VIEWER }],
        "configured_datasource_types": [],
        "_links": {
            "_self": link("get"), "delete-organizational-unit": link("delete"), "patch-organizational-unit": link("patch")
        }
    });
    assert_eq!(unit, expected);
    let first = send(Ask::get(&href).header("accept", FIRST)).await.json();
    assert_eq!(first["users"], json!([ada]));
    let global = send(Ask::get(format!("/organizational-units/{GLOBAL}"))).await.json();
    assert_eq!((&global["children_count"], &global["descendant_ids"]), (&json!(1), &json!([id])));
    assert_eq!((&global["parent_id"], &global["user_count"]), (&Value::Null, &json!(2)));
    assert!(global["_links"].get("delete-organizational-unit").is_none());

    let again = send(Ask::post("/organizational-units").json(&json!({ "name": "Sales" }))).await;
    fails(&again, 409, 109, "name is already taken");
    let below = json!({ "name": "North", "description": "n", "parent_id": id, "users": [], "entities": [] });
    let below = send(Ask::post("/organizational-units").json(&below)).await.json();
    assert_eq!(below["parent_id"], id);
    let patched =
        send(Ask::patch(&href).json(&json!({ "name": "Sales team", "description": "All of it" }))).await;
    assert_eq!(
        (&patched.json()["name"], &patched.json()["description"]),
        (&json!("Sales team"), &json!("All of it"))
    );
    assert!(patched.json()["_links"].get("delete-organizational-unit").is_none(), "it has a unit below it");
    assert_eq!(patched.status, 200);

    let refused = send(Ask::new("DELETE", &href)).await;
    let message = "the organizational unit Sales team is not empty: it has organizational units";
    fails(&refused, 409, 109, message);
    let root = send(Ask::new("DELETE", format!("/organizational-units/{GLOBAL}"))).await;
    fails(&root, 409, 109, "the global organizational unit cannot be deleted");
    for id in [below["id"].as_str().unwrap(), &id] {
        let path = format!("/organizational-units/{id}");
        let answer = send(Ask::new("DELETE", format!("{path}?embed=read-task"))).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        let body = answer.json();
        let task = &body["_embedded"]["read-task"];
        assert_eq!(
            (&task["type"], &task["category"]),
            (&json!("organizational_unit_update"), &json!("management"))
        );
        assert_eq!(task["primary_entity"]["id"], id);
        assert_eq!(ended(&kit.estate, &kit.operator(), &body["task_id"]).await, RunState::Succeeded);
        fails(&send(Ask::get(&path)).await, 404, 104, "there is no such organizational unit");
    }
    assert_eq!(
        kit.number("SELECT count(*) FROM grants WHERE subject_kind = 'user'").await,
        1,
        "its roles are gone"
    );
}

#[tokio::test]
async fn environments_move_between_units_with_their_backups() {
    let face = Face::new().await;
    face.kit.start_planes().await;
    let key = admin_key(&face.kit).await;
    let send = async |ask: Ask| ask.bearer(&key).send(&face.router).await;
    let operator = face.kit.operator();
    let shop = face.backup.asset.uuid.to_string();
    let body = json!({
        "name": "Sales", "description": null, "parent_id": null, "users": null, "entities": [entity(&shop)]
    });
    let answer = send(Ask::post("/organizational-units?embed=read-task").json(&body)).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let unit = answer.json();
    assert_eq!(unit["_embedded"]["read-task"]["id"], unit["task_id"]);
    assert_eq!(unit["_links"]["read-task"]["href"], format!("/tasks/{}", unit["task_id"].as_str().unwrap()));
    assert_eq!(ended(&face.kit.estate, &operator, &unit["task_id"]).await, RunState::Succeeded);
    let id = unit["id"].as_str().unwrap().to_owned();
    let href = format!("/organizational-units/{id}");

    let environment = format!("/datasources/aws/environments/{shop}");
    let inside = async |path: &str| send(Ask::get(path).header(CONTEXT, &*id)).await;
    assert_eq!(inside(&environment).await.json()["organizational_unit_id"], id);
    let backup = format!("/backups/aws/rds-resources/{}", face.backup.uuid);
    assert_eq!(inside(&backup).await.status, 200);
    let seen = inside(&href).await.json();
    assert_eq!(seen["configured_datasource_types"], json!(["aws"]));
    assert!(seen["_links"].get("delete-organizational-unit").is_none());
    let refused = send(Ask::new("DELETE", &href)).await;
    fails(&refused, 409, 109, "the organizational unit Sales is not empty: it has assets, datasources");

    // It is there already, so that there is nothing to do.
    let same = json!({ "entities": { "add": [entity(&shop)], "remove": [] } });
    assert_eq!(send(Ask::patch(&href).json(&same)).await.status, 200);
    let back = json!({ "name": "Sold", "entities": { "add": null, "remove": [entity(&shop)] }, "protection_groups": { "assign": null } });
    let answer = send(Ask::patch(&href).json(&back)).await;
    assert_eq!((answer.status, &answer.json()["name"]), (202, &json!("Sold")), "{}", answer.body);
    assert_eq!(ended(&face.kit.estate, &operator, &answer.json()["task_id"]).await, RunState::Succeeded);
    assert_eq!(send(Ask::get(&environment)).await.json()["organizational_unit_id"], GLOBAL);
    assert_eq!(inside(&backup).await.status, 404);
    let answer = send(Ask::new("DELETE", &href)).await;
    assert_eq!(ended(&face.kit.estate, &operator, &answer.json()["task_id"]).await, RunState::Succeeded);
}

#[tokio::test]
async fn a_move_needs_permission_in_both_units() {
    let face = Face::new().await;
    let shop = database(&face, "mine").await.uuid.to_string();
    let (sales, north) = (face.kit.ou("Sales").await, face.kit.ou("North").await);
    let manage = |noun| Permission::new(noun, Action::MANAGE);
    // In one unit, but not in the global one, where the environment is.
    let user = face.kit.user_in(sales.id, "sally", &everything()).await;
    let view = landreeve_estate::ops::NewGrant::Permission(
        Permission::new(Noun::DATASOURCE, Action::VIEW),
        landreeve_estate::ops::GrantTarget::Subtree(OuId::ROOT),
    );
    let subject = landreeve_estate::ops::Subject::User(user.id);
    landreeve_estate::ops::users::grant(&face.kit.estate, &face.kit.operator(), subject, vec![view])
        .await
        .unwrap();
    let (_, sally) = face.kit.user_key(Api::Protection, &user).await;
    let (_, units) =
        key_of(&face.kit, "una", &[manage(Noun::OU), Permission::new(Noun::DATASOURCE, Action::VIEW)]).await;
    let patch = async |unit: &Ou, key: &str| {
        let body = json!({ "name": "Mine", "entities": { "add": [entity(&shop)] } });
        let ask = Ask::patch(format!("/organizational-units/{}", unit.uuid)).bearer(key);
        ask.header(CONTEXT, GLOBAL).json(&body).send(&face.router).await
    };
    for (unit, key) in [(&sales, &sally), (&north, &units)] {
        let answer = patch(unit, key).await;
        assert_eq!((answer.status, &answer.json()["errors"][0]["error_code"]), (403, &json!(103)));
    }
    assert_eq!(patch(&north, &sally).await.status, 403);
    let seen = unit_get(&face.kit.estate, &face.kit.operator(), sales.uuid).await.unwrap();
    assert_eq!((seen.ou.name.as_str(), seen.has_datasources), ("Sales", false));
    // An administrator of one unit deletes it from above only.
    let own = Ask::new("DELETE", format!("/organizational-units/{}", sales.uuid)).bearer(&sally);
    assert_eq!(own.send(&face.router).await.status, 404);
}

#[tokio::test]
async fn a_policy_of_the_unit_that_is_left_keeps_an_environment() {
    let face = Face::new().await;
    face.kit.start_planes().await;
    let key = admin_key(&face.kit).await;
    let (sales, north) = (face.kit.ou("Sales").await, face.kit.ou("North").await);
    let (estate, operator) = (&face.kit.estate, face.kit.operator());
    let shop = database(&face, "policed").await;
    let add = |uuid| UnitChange { add: vec![uuid], ..UnitChange::default() };
    let (_, run) = unit_update(estate, &operator, sales.uuid, add(shop.uuid)).await.unwrap();
    face.kit.ended(&run.unwrap()).await;
    let policy = made(&face, "Gold").await;
    let assigned = Assignment { datasource: shop.uuid, policy: Some(Uuid::parse_str(&policy).unwrap()) };
    let run =
        policy_assign(&face.protection, &operator, landreeve_core::Input::of(vec![assigned])).await.unwrap();
    assert_eq!(face.kit.ended(&run).await.state, RunState::Succeeded);
    // The policy of the global unit is for all units.
    let (_, run) = unit_update(estate, &operator, north.uuid, add(shop.uuid)).await.unwrap();
    assert_eq!(face.kit.ended(&run.unwrap()).await.state, RunState::Succeeded);
    face.kit.exec("UPDATE policies SET ou_id = $1", args![north.id]).await;
    let body = json!({ "name": "New", "entities": { "add": [entity(&shop.uuid.to_string())] } });
    let ask = Ask::patch(format!("/organizational-units/{}", sales.uuid)).bearer(&key).json(&body);
    let message =
        "policed has the policy Gold of an organizational unit that it would leave; unassign it first";
    fails(&ask.send(&face.router).await, 409, 109, message);
    assert_eq!(
        unit_get(estate, &operator, sales.uuid).await.unwrap().ou.name,
        "Sales",
        "nothing was changed"
    );
}

#[tokio::test]
async fn reports_everything_that_is_wrong_with_a_unit() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    let unknown = "12345678-1234-4234-8234-123456789012";
    let send = async |ask: Ask, accept: &str| {
        messages(&ask.bearer(&key).header("accept", accept).send(&router).await)
    };
    let body = json!({
        "name": "", "description": "x".repeat(130), "parent_id": "x", "entities": [
            { "primary_entity": { "id": "x", "type": "microsoft365_domain" } }, { "primary_entity": null }
        ],
        "users": [{ "user_id": 1, "assigned_role": "x" }, {}], "colour": "red"
    });
    let expected = [
        "parent_id must be a UUID",
        "name must not be empty",
        "description must have at most 129 characters, has 130",
        "entities.0.primary_entity.type must be one of aws_environment",
        "entities.0.primary_entity.id must be a UUID",
        "entities.1.primary_entity is required",
        "users.0.user_id must be a string, not a number",
        "users.0.assigned_role must be a UUID",
        "users.1.user_id is required",
        "colour is not a member of this object",
    ];
    let found = send(Ask::post("/organizational-units").json(&body), "*/*").await;
    assert_eq!(found[..expected.len()], expected);
    let body = json!({
        "name": "a\u{7}", "entities": [entity(unknown)], "users": [
            { "user_id": "99", "assigned_role": VIEWER }, { "user_id": "1", "assigned_role": unknown }
        ]
    });
    let expected = [
        "name must have 1 to 129 characters",
        "entities.0.primary_entity.id is not the id of an environment",
        "users.0.user_id is not the id of a user",
        "users.1.assigned_role is not the id of a role",
    ];
    assert_eq!(send(Ask::post("/organizational-units").json(&body), "*/*").await, expected);
    let body = json!({ "name": "a", "parent_id": unknown });
    let expected = ["parent_id is not the id of an organizational unit"];
    assert_eq!(send(Ask::post("/organizational-units").json(&body), "*/*").await, expected);
    let path = format!("/organizational-units/{GLOBAL}");
    let many: Vec<Value> = vec![entity(unknown); 101];
    let body = json!({
        "protection_groups": { "assign": ["x"] }, "entities": { "add": many, "remove": [entity(unknown)] },
        "users": { "add": ["99"], "remove": [7] }
    });
    let expected = [
        "protection_groups are not available",
        "entities.add must have at most 100 items, has 101",
        "users.remove.0 must be a string, not a number",
        "entities.remove.0.primary_entity.id is not the id of an environment",
        "users.add.0 is not the id of a user",
    ];
    assert_eq!(send(Ask::patch(&path).json(&body), FIRST).await, expected);
    for id in ["x", "1", unknown, "%00"] {
        let answer = Ask::get(format!("/organizational-units/{id}")).bearer(&key).send(&router).await;
        fails(&answer, 404, 104, "there is no such organizational unit");
    }
}

#[tokio::test]
async fn users_get_roles_in_a_unit() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    let unit = kit.ou("Sales").await;
    let path = format!("/organizational-units/{}", unit.uuid);
    let ada = kit.user("ada", &[]).await.id.to_string();
    let patch = async |key: &str, users: Value, accept: &str| {
        let ask = Ask::patch(&path).bearer(key).header("accept", accept);
        ask.header(CONTEXT, GLOBAL).json(&json!({ "users": users })).send(&router).await
    };
    let with = |role: &str| json!({ "user_id": ada, "assigned_role": role });
    let answer = patch(&key, json!({ "add": [ada], "remove": null }), FIRST).await;
    fails(&answer, 400, 101, "users.add.0.assigned_role is required, because the user has no role");
    let answer = patch(&key, json!({ "add": [with(VIEWER), with(ANALYST), with(VIEWER)] }), "*/*").await;
    assert_eq!(answer.json()["users"], json!([with(VIEWER), with(ANALYST)]));
    assert_eq!(answer.json()["user_count"], 1);
    let answer = patch(&key, json!({ "add": [], "remove": [with(VIEWER)] }), "*/*").await;
    assert_eq!(answer.json()["users"], json!([with(ANALYST)]));
    // In version 1 with the role that the user has.
    let other = kit.ou("North").await;
    let ask =
        Ask::patch(format!("/organizational-units/{}", other.uuid)).bearer(&key).header("accept", FIRST);
    let first = ask.json(&json!({ "users": { "add": [ada] } })).send(&router).await.json();
    assert_eq!((&first["users"], &first["user_count"]), (&json!([ada]), &json!(1)));
    assert_eq!(patch(&key, json!({ "add": [], "remove": [ada] }), FIRST).await.json()["users"], json!([]));

    let own = patch(&key, json!({ "add": [{ "user_id": "1", "assigned_role": VIEWER }] }), "*/*").await;
    fails(&own, 409, 109, "you cannot change your own roles; ask another administrator");
    let manage = |noun| Permission::new(noun, Action::MANAGE);
    let (_, weak) = key_of(&kit, "weak", &[manage(Noun::OU), manage(Noun::ROLE)]).await;
    let answer = patch(&weak, json!({ "add": [with(ANALYST)] }), "*/*").await;
    fails(&answer, 403, 103, "you cannot grant permissions you do not hold");
}

#[tokio::test]
async fn units_are_found_by_parent_name_and_id() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    let (sales, north) = (kit.ou("Sales").await.uuid.to_string(), kit.ou("North").await.uuid.to_string());
    let list = async |filter: Value, unit: &str| {
        let ask = Ask::get(filtered("/organizational-units", &filter)).bearer(&key);
        let answer = ask.header(CONTEXT, unit).send(&router).await;
        (answer.status == 200).then(|| ids(&answer.json()))
    };
    let all = vec![GLOBAL.to_owned(), sales.clone(), north.clone()];
    for (filter, expected) in [
        (json!({}), all.clone()),
        (json!({ "parent_id": { "$eq": GLOBAL } }), all[1..].to_vec()),
        (json!({ "parent_id": { "$eq": "x" } }), vec![]),
        (json!({ "name": { "$contains": "ort" } }), vec![north.clone()]),
        (json!({ "id": { "$in": [sales, "x"] } }), vec![sales.clone()]),
        (json!({ "id": { "$in": ["x"] } }), vec![]),
    ] {
        assert_eq!(list(filter.clone(), "").await, Some(expected), "{filter}");
    }
    assert_eq!(list(json!({}), &sales).await, Some(vec![sales.clone()]));
    assert_eq!(list(json!({ "name": { "$eq": "Sales" } }), "").await, None);
    let page = Ask::get("/organizational-units?limit=2&start=2").bearer(&key).send(&router).await.json();
    assert_eq!((ids(&page), &page["total_count"]), (vec![north], &json!(3)));
}

/// The rows of the plane follow on both stores, and what is left of former things keeps no unit.
async fn what_belongs_to_a_datasource_moves(kit: Kit) {
    let (kit, _) = crate::with_protection(kit, Vec::new()).await;
    kit.start_planes().await;
    let (estate, operator) = (&kit.estate, kit.operator());
    let unit = kit.ou("Sales").await;
    let declared = crate::protection::declare(&kit, "moving").await;
    let gone = estate.uuid();
    for (uuid, ou) in [(declared.uuid, OuId::ROOT), (gone, unit.id)] {
        let id: AssetId = estate.next(AssetId::KIND).await.unwrap();
        let sql = "INSERT INTO assets (id, uuid, ou_id, name, database_type, address, created_at) \
                   VALUES ($1, $2, $3, 'a', 'sqlite', 'a', 1)";
        kit.exec(sql, args![id, uuid.to_string(), ou]).await;
    }
    let change = UnitChange { add: vec![declared.uuid], ..UnitChange::default() };
    let (_, run) = unit_update(estate, &operator, unit.uuid, change).await.unwrap();
    assert_eq!(kit.ended(&run.unwrap()).await.state, RunState::Succeeded);
    let inside = "SELECT count(*) FROM assets WHERE ou_id <> 1";
    assert_eq!(kit.number(inside).await, 2);
    let error = unit_delete_now(estate, &operator, unit.uuid).await.unwrap_err();
    assert_eq!(error.message, "the organizational unit Sales is not empty: it has assets, datasources");
    assert_eq!(kit.number(inside).await, 2, "nothing was changed");
    let change = UnitChange { remove: vec![declared.uuid], ..UnitChange::default() };
    let (_, run) = unit_update(estate, &operator, unit.uuid, change).await.unwrap();
    assert_eq!(kit.ended(&run.unwrap()).await.state, RunState::Succeeded);
    unit_delete_now(estate, &operator, unit.uuid).await.unwrap();
    assert_eq!(kit.number("SELECT count(*) FROM assets WHERE ou_id = 1").await, 2);
    assert_eq!(kit.number("SELECT count(*) FROM ous").await, 1);
    kit.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_a_datasource_moves_on_sqlite() {
    what_belongs_to_a_datasource_moves(Kit::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_a_datasource_moves_on_postgresql() {
    what_belongs_to_a_datasource_moves(Kit::postgres().await).await;
}

/// A key of an administrator that is limited to a unit does nothing outside of it.
#[tokio::test]
async fn a_key_of_a_unit_is_limited_to_it() {
    let (kit, router) = face().await;
    let (north, south) = (kit.ou("North").await, kit.ou("South").await);
    let admin =
        landreeve_estate::ops::users::user_by_name(&kit.estate, &kit.operator(), "admin").await.unwrap();
    let new = NewKey {
        api: Api::Protection,
        name: "north".to_owned(),
        ou: Some(north.uuid),
        user: Some(admin.id),
        grants: Vec::new(),
        labels: Vec::new(),
    };
    let (_, key) = key_create(&kit.estate, &kit.operator(), new).await.unwrap();
    let send = async |ask: Ask| ask.bearer(key.reveal()).send(&router).await;
    let all = admin_key(&kit).await;
    let root = async |ask: Ask| ask.bearer(&all).send(&router).await;
    let grant = |unit: &Ou| {
        json!({
            "email": format!("{}@example.com", unit.name), "full_name": "x",
            "access_control_configuration": [{ "role_id": VIEWER, "organizational_unit_ids": [unit.uuid.to_string()] }]
        })
    };
    let there = root(Ask::post("/users").json(&grant(&south))).await.json();
    let there = format!("/users/{}", there["id"].as_str().unwrap());
    for (ask, status) in [
        (Ask::patch(&*there).json(&json!({ "is_enabled": false })), 403),
        (Ask::new("DELETE", &*there), 403),
        (Ask::patch("/settings/general").json(&json!({ "ip_allowlist": ["127.0.0.1"] })), 403),
        (Ask::post("/users").json(&grant(&north)), 200),
    ] {
        let answer = send(ask).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
    assert_eq!(root(Ask::get(&*there)).await.json()["is_enabled"], json!(true));
}

/// Where a user works is decided by the first role, and no one learns of roles that they cannot see.
#[tokio::test]
async fn a_later_role_does_not_move_a_user() {
    let (kit, router) = face().await;
    let (north, south) = (kit.ou("North").await, kit.ou("South").await);
    let admin = admin_key(&kit).await;
    let root = async |ask: Ask| ask.bearer(&admin).send(&router).await;
    let user = async |name: &str, unit: &Ou, role: &str| {
        let body = json!({
            "email": format!("{name}@example.com"), "full_name": name,
            "access_control_configuration": [{ "role_id": role, "organizational_unit_ids": [unit.uuid.to_string()] }]
        });
        let made = root(Ask::post("/users").json(&body)).await.json();
        made["id"].as_str().unwrap().to_owned()
    };
    let (ada, boss) = (user("ada", &south, VIEWER).await, user("boss", &north, UNIT_ADMIN).await);
    let id = UserId(boss.parse().unwrap());
    let boss = landreeve_estate::ops::users::user_get(&kit.estate, &kit.operator(), id).await.unwrap();
    let (_, boss) = kit.user_key(Api::Protection, &boss).await;
    let path = format!("/organizational-units/{}", north.uuid);
    let add = |role: Value| json!({ "users": { "add": [{ "user_id": ada, "assigned_role": role }], "remove": [] } });
    let hidden = Ask::patch(&*path).json(&add(Value::Null)).bearer(&boss).send(&router).await;
    assert_eq!(hidden.status, 400, "{}", hidden.body);
    kit.clock.seconds(1);
    let added = Ask::patch(&*path).json(&add(json!(ANALYST))).bearer(&boss).send(&router).await;
    assert_eq!(added.status, 200, "{}", added.body);
    let id = UserId(ada.parse().unwrap());
    let ada = landreeve_estate::ops::users::user_get(&kit.estate, &kit.operator(), id).await.unwrap();
    let (_, ada) = kit.user_key(Api::Protection, &ada).await;
    let origin = Origin { request_id: kit.estate.uuid(), address: None, kind: OpKind::Clumio };
    let ctx = sign_in::by_key(&kit.estate, Api::Protection, &ada, None, origin).await.unwrap();
    assert_eq!(ctx.authority().ou(), south.id);
}
