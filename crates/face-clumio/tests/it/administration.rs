//! Users with their roles, as clients send them.

use std::net::{IpAddr, SocketAddr};

use axum::Router;
use landreeve_core::{Action, Noun, OpKind, Permission, Secret};
use landreeve_estate::ops::users::{grant, password_set, user_by_name};
use landreeve_estate::ops::{Api, NewGrant, Origin, Subject, sign_in};
use landreeve_face_clumio::Options;
use landreeve_http::listener::Inbound;
use landreeve_testkit::{Ask, Kit, PASSWORD, everything};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Face, admin_key, face, fails, key_of, messages};

const SUPER: &str = "00000000-0000-0000-0000-000000000000";
const UNIT_ADMIN: &str = "10000000-0000-0000-0000-000000000000";
const ANALYST: &str = "40000000-0000-0000-0000-000000000000";
const VIEWER: &str = "50000000-0000-0000-0000-000000000000";
const GLOBAL: &str = "00000000-0000-0000-0000-000000000000";
const FIRST: &str = "application/api.clumio.users=v1+json";
const CHANGED: &str = "Correct-Horse-Battery-9";

/// A request for a route about users that is complete, or `None`.
pub async fn ask(face: &Face, method: &str, path: &str) -> Option<Ask> {
    let password = |current: &str| json!({ "current_password": current, "new_password": CHANGED });
    Some(match (method, path) {
        ("POST", "/users") => {
            let email = format!("{}@example.com", face.kit.estate.uuid());
            Ask::post(path).json(&json!({ "email": email, "full_name": "Ada Lovelace" }))
        }
        ("PATCH", "/users/my-profile") => Ask::patch(path).json(&json!({ "full_name": "Ada" })),
        ("PUT", "/users/_change_password") => Ask::new("PUT", path).json(&password(PASSWORD)),
        ("PUT", "/users/{user_id}/password") => {
            let own = face.admin.get().cloned().unwrap_or_default();
            Ask::new("PUT", path.replace("{user_id}", &own)).json(&password(CHANGED))
        }
        ("PATCH", "/settings/general") => {
            Ask::patch(path).json(&json!({ "ip_allowlist": ["0.0.0.0/0", "::/0"] }))
        }
        _ => return None,
    })
}

/// The router as a client with this address reaches it.
pub fn from_address(router: &Router, address: IpAddr) -> Router {
    let inbound = Inbound {
        peer: SocketAddr::new(address, 4_000),
        address: address.to_string().into(),
        uri: http::Uri::from_static("/"),
        secure: false,
        public_url: None,
        limits: Default::default(),
    };
    // What the listener knows of a request, without the path, which differs from request to request.
    let known = move |mut request: axum::extract::Request, next: axum::middleware::Next| {
        let inbound = Inbound { uri: request.uri().clone(), ..inbound.clone() };
        request.extensions_mut().insert(inbound);
        next.run(request)
    };
    router.clone().layer(axum::middleware::from_fn(known))
}

/// Encodes a filter.
pub fn filtered(path: &str, filter: &Value) -> String {
    let escaped: String = filter.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("{path}?filter={escaped}")
}

pub fn ids(list: &Value) -> Vec<String> {
    let items = list["_embedded"]["items"].as_array().unwrap();
    items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

fn access(role: &str, units: &[&str]) -> Value {
    json!({ "role_id": role, "organizational_unit_ids": units })
}

async fn signs_in(kit: &Kit, name: &str, password: &str) -> bool {
    let origin = Origin { request_id: kit.estate.uuid(), address: None, kind: OpKind::CommandLine };
    sign_in::by_password(&kit.estate, name, Secret::new(password), None, origin).await.is_ok()
}

#[tokio::test]
async fn a_created_user_signs_in_by_email() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    let unit = kit.ou("Research").await.uuid.to_string();
    let post = async |body: &Value, accept: &str| {
        Ask::post("/users").bearer(&key).header("accept", accept).json(body).send(&router).await
    };
    let body = json!({
        "access_control_configuration": [access(UNIT_ADMIN, &[&unit])],
        "email": "ada@example.com", "full_name": "Ada Lovelace"
    });
    let made = post(&body, "application/api.clumio.users=v2+json").await;
    assert_eq!(made.status, 200, "{}", made.body);
    let made = made.json();
    assert_eq!((&made["is_confirmed"], &made["is_enabled"]), (&json!(false), &json!(true)));
    assert_eq!((&made["inviter"], &made["email"]), (&json!("1"), &json!("ada@example.com")));
    assert_eq!(made["access_control_configuration"], json!([access(UNIT_ADMIN, &[&unit])]));
    assert_eq!(made["_links"]["delete-user"]["type"], "delete");
    let ada = user_by_name(&kit.estate, &kit.operator(), "ada@example.com").await.unwrap();
    assert!(!signs_in(&kit, "ada@example.com", PASSWORD).await, "without a password");
    password_set(&kit.estate, &kit.operator(), ada.id, Secret::new(PASSWORD)).await.unwrap();
    assert!(signs_in(&kit, "ada@example.com", PASSWORD).await);
    let seen = Ask::get(format!("/users/{}", ada.id)).bearer(&key).send(&router).await.json();
    assert_eq!(seen["is_confirmed"], true);
    for taken in ["ada@example.com", "ADA@example.com"] {
        let again = post(&json!({ "email": taken, "full_name": "Eve" }), "*/*").await;
        fails(&again, 409, 109, "email is already taken");
    }
    // In version 2 without roles; in version 1 with the role that administers the units.
    let plain = post(&json!({ "email": "bob@example.com", "full_name": "Bob" }), "*/*").await.json();
    assert_eq!(plain["access_control_configuration"], json!([]));
    for (number, (units, role)) in
        [(json!(null), SUPER), (json!([GLOBAL]), SUPER), (json!([unit]), UNIT_ADMIN)].into_iter().enumerate()
    {
        let body = json!({
            "assigned_role": null, "email": format!("first{number}@example.com"), "full_name": "First",
            "organizational_unit_ids": units
        });
        let made = post(&body, FIRST).await.json();
        assert_eq!(made["assigned_role"], role, "{made}");
        assert_eq!(made["assigned_organizational_unit_ids"].as_array().unwrap().len(), 1);
    }
    let body = json!({ "assigned_role": VIEWER, "email": "v@example.com", "full_name": "V", "organizational_unit_ids": [unit] });
    assert_eq!(post(&body, FIRST).await.json()["assigned_role"], VIEWER);
}

#[tokio::test]
async fn reports_everything_that_is_wrong_with_a_user() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    let unknown = "12345678-1234-4234-8234-123456789012";
    let post =
        |body: Value, accept: &str| Ask::post("/users").bearer(&key).header("accept", accept).json(&body);
    let body = json!({
        "email": "x", "name": "x",
        "access_control_configuration": [access(unknown, &[unknown]), access("x", &[]), { "role_id": VIEWER }]
    });
    let expected = [
        "email must be an email address",
        "full_name is required",
        "access_control_configuration.1.role_id must be a UUID",
        "access_control_configuration.1.organizational_unit_ids must have at least 1 item",
        "access_control_configuration.2.organizational_unit_ids is required",
        "name is not a member of this object",
        "access_control_configuration.0.role_id is not the id of a role",
        "access_control_configuration.0.organizational_unit_ids.0 is not the id of an organizational unit",
    ];
    assert_eq!(messages(&post(body, "*/*").send(&router).await), expected);
    let body = json!({
        "email": "a@example.com", "full_name": "", "access_control_configuration": [access(unknown, &[GLOBAL, unknown])]
    });
    let expected = [
        "full_name must not be empty",
        "access_control_configuration.0.role_id is not the id of a role",
        "access_control_configuration.0.organizational_unit_ids.1 is not the id of an organizational unit",
    ];
    assert_eq!(messages(&post(body, "*/*").send(&router).await), expected);
    let body = json!({
        "email": "a@example.com", "full_name": "A", "assigned_role": unknown, "organizational_unit_ids": [unknown],
        "access_control_configuration": []
    });
    let expected = [
        "access_control_configuration is not a member of this object",
        "organizational_unit_ids.0 is not the id of an organizational unit",
        "assigned_role is not the id of a role",
    ];
    assert_eq!(messages(&post(body, FIRST).send(&router).await), expected);
    for email in ["", "a", "@b", "a@", "a@b@c", "a b@c", "a:b@c", &format!("{}@c", "a".repeat(128))] {
        let answer = post(json!({ "email": email, "full_name": "A" }), "*/*").send(&router).await;
        assert!(
            answer.status == 400 && messages(&answer)[0].starts_with("email "),
            "{email}: {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn all_changes_of_roles_are_made_or_none() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    let (unit, other) = (kit.ou("Research").await, kit.ou("Sales").await);
    let (unit, other) = (unit.uuid.to_string(), other.uuid.to_string());
    let ada = kit.user("ada", &[]).await;
    let href = format!("/users/{}", ada.id);
    let patch = async |key: &str, body: Value| Ask::patch(&href).bearer(key).json(&body).send(&router).await;
    let roles = async || {
        Ask::get(&href).bearer(&key).send(&router).await.json()["access_control_configuration"].clone()
    };
    let updates = |add: Value, remove: Value| {
        json!({
            "access_control_configuration_updates": { "add": add, "remove": remove },
            "full_name": null, "is_enabled": true
        })
    };
    let answer = patch(&key, updates(json!([access(ANALYST, &[&unit, &other])]), json!(null))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["access_control_configuration"], json!([access(ANALYST, &[&unit, &other])]));
    // One is exchanged for another. What is there already, or not there, stays so.
    let body = updates(json!([access(VIEWER, &[&unit])]), json!([access(ANALYST, &[&unit, GLOBAL])]));
    assert_eq!(patch(&key, body).await.status, 200);
    let expected = json!([access(ANALYST, &[&other]), access(VIEWER, &[&unit])]);
    assert_eq!(roles().await, expected);

    let body = updates(
        json!([access(VIEWER, &[GLOBAL, "12345678-1234-4234-8234-123456789012"])]),
        json!([access(ANALYST, &[&other])]),
    );
    let answer = patch(&key, body).await;
    let message = "access_control_configuration_updates.add.0.organizational_unit_ids.1 is not the id of an organizational unit";
    fails(&answer, 400, 101, message);
    // A caller who may manage users and roles, but holds less than what is granted.
    let manage = |noun| Permission::new(noun, Action::MANAGE);
    let held = [manage(Noun::USER), manage(Noun::ROLE), manage(Noun::DATASOURCE), manage(Noun::RUN)];
    let (_, weak) = key_of(&kit, "weak", &held).await;
    let answer =
        patch(&weak, updates(json!([access(SUPER, &[GLOBAL])]), json!([access(VIEWER, &[&unit])]))).await;
    fails(&answer, 403, 103, "you cannot grant permissions you do not hold");
    let (_, no_roles) = key_of(&kit, "users", &[manage(Noun::USER)]).await;
    assert_eq!(patch(&no_roles, updates(json!([access(VIEWER, &[&unit])]), json!([]))).await.status, 403);
    assert_eq!(roles().await, expected);
}

#[tokio::test]
async fn the_last_super_admin_keeps_the_role() {
    let (kit, router) = face().await;
    let admin = admin_key(&kit).await;
    let (boss, strong) = key_of(&kit, "strong", &everything()).await;
    let remove = |id: &str| {
        let remove = json!({ "add": [], "remove": [access(SUPER, &[GLOBAL])] });
        Ask::patch(format!("/users/{id}")).json(&json!({ "access_control_configuration_updates": remove }))
    };
    let own = remove("1").bearer(&admin).send(&router).await;
    fails(&own, 409, 109, "you cannot change your own roles; ask another administrator");
    let last = remove("1").bearer(&strong).send(&router).await;
    fails(&last, 409, 109, "at least one administrator must remain enabled");
    let roles = kit
        .estate
        .store()
        .read()
        .await
        .unwrap()
        .all("SELECT id FROM grants WHERE role_id = 1", Vec::new())
        .await;
    assert_eq!(roles.unwrap().len(), 1, "nothing was changed");
    let root = landreeve_core::ids::OuId::ROOT;
    let role = NewGrant::Role(landreeve_core::ids::RoleId(1), root);
    grant(&kit.estate, &kit.operator(), Subject::User(boss.id), vec![role]).await.unwrap();
    assert_eq!(remove("1").bearer(&strong).send(&router).await.status, 200);
}

#[tokio::test]
async fn version_1_has_one_role_in_all_units() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    let (unit, other) = (kit.ou("Research").await, kit.ou("Sales").await);
    let (unit, other) = (unit.uuid.to_string(), other.uuid.to_string());
    let ada = kit.user("ada", &[]).await;
    let patch = async |body: Value| {
        let ask = Ask::patch(format!("/users/{}", ada.id)).bearer(&key).header("accept", FIRST);
        ask.json(&body).send(&router).await
    };
    let seen = async || {
        let ask = Ask::get(format!("/users/{}", ada.id)).bearer(&key).header("accept", FIRST);
        let body = ask.send(&router).await.json();
        (body["assigned_role"].clone(), body["assigned_organizational_unit_ids"].clone())
    };
    let updates = |role: Value, add: Value, remove: Value| {
        json!({
            "assigned_role": role, "full_name": null, "is_enabled": null,
            "organizational_unit_assignment_updates": { "add": add, "remove": remove }
        })
    };
    let answer = patch(updates(json!(null), json!([unit]), json!(null))).await;
    fails(&answer, 400, 101, "assigned_role is required, because the user has no role");
    let answer = patch(updates(json!(VIEWER), json!(null), json!(null))).await;
    fails(
        &answer,
        400,
        101,
        "assigned_role needs a unit to add, because the user would have the role nowhere",
    );
    assert_eq!(patch(updates(json!(VIEWER), json!([unit, other]), json!(null))).await.status, 200);
    let mut both = [unit.clone(), other.clone()];
    both.sort();
    assert_eq!(seen().await, (json!(VIEWER), json!(both)));
    assert_eq!(patch(updates(json!(ANALYST), json!(null), json!([unit]))).await.status, 200);
    assert_eq!(seen().await, (json!(ANALYST), json!([other])));
    // The role stays.
    assert_eq!(patch(updates(json!(null), json!([GLOBAL]), json!([other]))).await.status, 200);
    assert_eq!(seen().await, (json!(ANALYST), json!([GLOBAL])));
    let answer = patch(updates(json!("x"), json!(["y"]), json!("z"))).await;
    let expected = [
        "organizational_unit_assignment_updates.add.0 must be a UUID",
        "organizational_unit_assignment_updates.remove must be an array, not a string",
        "assigned_role must be a UUID",
    ];
    assert_eq!(messages(&answer), expected);
}

#[tokio::test]
async fn callers_change_their_own_profile_and_password() {
    let (kit, router) = face().await;
    let (ada, key) = key_of(&kit, "ada", &[]).await;
    let profile = Ask::patch("/users/my-profile").bearer(&key).json(&json!({ "full_name": "Ada Lovelace" }));
    assert_eq!(profile.send(&router).await.json()["full_name"], "Ada Lovelace");
    let (_, service) = kit.key(Api::Protection, &everything()).await;
    let profile = Ask::patch("/users/my-profile").bearer(&service).json(&json!({ "full_name": "x" }));
    fails(&profile.send(&router).await, 403, 103, "this token does not belong to a user");

    let put = async |path: &str, current: &str, new: &str, accept: &str| {
        let body = json!({ "current_password": current, "new_password": new });
        Ask::new("PUT", path).bearer(&key).header("accept", accept).json(&body).send(&router).await
    };
    let (second, first) = ("/users/_change_password", format!("/users/{}/password", ada.id));
    for (new, message) in [
        ("Short-1", "must have 14 to 64 characters"),
        ("correct-horse-battery-9", "must contain an uppercase letter"),
        ("CORRECTHORSEBATTERY", "must contain a lowercase letter, a digit, a special character"),
        ("Correct Horse-Battery-9", "must not contain spaces"),
    ] {
        fails(&put(second, PASSWORD, new, "*/*").await, 400, 101, &format!("new_password {message}"));
    }
    fails(
        &put(second, "wrong", CHANGED, "*/*").await,
        400,
        101,
        "current_password is not the current password",
    );
    assert!(signs_in(&kit, "ada", PASSWORD).await);
    let done = put(second, PASSWORD, CHANGED, "*/*").await;
    assert_eq!((done.status, done.body.as_str()), (200, "{}"));
    assert!(signs_in(&kit, "ada", CHANGED).await && !signs_in(&kit, "ada", PASSWORD).await);
    let other = put("/users/1/password", CHANGED, "Better-Horse-Battery-9", FIRST).await;
    fails(&other, 403, 103, "you can only change your own password");
    let done = put(&first, CHANGED, "Better-Horse-Battery-9", "*/*").await;
    assert_eq!((done.status, done.header("content-type")), (200, FIRST));
    // Each version has its own operation.
    assert_eq!(put(second, CHANGED, CHANGED, FIRST).await.status, 400);
    // Wrong passwords lock the user, as at a sign-in.
    for _ in 0..5 {
        put(second, "wrong", CHANGED, "*/*").await;
    }
    let locked = put(second, "Better-Horse-Battery-8", CHANGED, "*/*").await;
    fails(&locked, 400, 101, "current_password is not the current password");
    assert!(!signs_in(&kit, "ada", "Better-Horse-Battery-9").await);
}

#[tokio::test]
async fn users_are_found_by_name_role_and_unit() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    let unit = kit.ou("Research").await;
    let [ada, bob] = [kit.user("ada", &[]).await, kit.user("bob", &[]).await];
    let roles = landreeve_estate::ops::users::role_list(&kit.estate, &kit.operator()).await.unwrap();
    let viewer = roles.iter().find(|role| role.uuid == Uuid::parse_str(VIEWER).unwrap()).unwrap().id;
    let root = landreeve_core::ids::OuId::ROOT;
    for (user, unit) in [(&ada, unit.id), (&bob, root)] {
        let role = vec![NewGrant::Role(viewer, unit)];
        grant(&kit.estate, &kit.operator(), Subject::User(user.id), role).await.unwrap();
    }
    let list = async |filter: Value, unit: &str| {
        let ask = Ask::get(filtered("/users", &filter)).bearer(&key);
        let answer = ask.header("x-clumio-organizationalunit-context", unit).send(&router).await;
        (answer.status == 200).then(|| ids(&answer.json()))
    };
    let (ada, bob, inside) = (ada.id.to_string(), bob.id.to_string(), unit.uuid.to_string());
    let everyone = || vec!["1".to_owned(), ada.clone(), bob.clone()];
    for (filter, expected) in [
        (json!({}), everyone()),
        (json!({ "name": { "$contains": "da per" } }), vec![ada.clone()]),
        (json!({ "name": { "$contains": "" } }), everyone()),
        (json!({ "role_id": { "$eq": VIEWER } }), vec![ada.clone(), bob.clone()]),
        (json!({ "organizational_unit_id": { "$eq": inside } }), vec![ada.clone()]),
        (
            json!({ "role_id": { "$eq": VIEWER }, "organizational_unit_id": { "$eq": GLOBAL } }),
            vec![bob.clone()],
        ),
        (json!({ "role_id": { "$eq": SUPER }, "name": { "$contains": "Adm" } }), vec!["1".to_owned()]),
        (json!({ "role_id": { "$eq": "viewer" } }), vec![]),
    ] {
        assert_eq!(list(filter.clone(), "").await, Some(expected), "{filter}");
    }
    // What others have elsewhere is not shown in a unit.
    assert_eq!(list(json!({ "role_id": { "$eq": VIEWER } }), &inside).await, Some(vec![ada]));
    assert_eq!(list(json!({ "role_id": { "$in": [VIEWER] } }), "").await, None);
    let first = Ask::get(filtered("/users", &json!({ "role_id": { "$eq": VIEWER } }))).bearer(&key);
    let message = "filter.role_id is not a field of this filter; use name";
    fails(&first.header("accept", FIRST).send(&router).await, 400, 101, message);
}

/// The names of a role's permissions in the dialect.
const GRANTED: [(&str, &str, &[&str]); 6] = [
    (SUPER, "Super Admin", &ALL),
    (UNIT_ADMIN, "OU Admin", &ALL),
    ("20000000-0000-0000-0000-000000000000", "Application Admin", ALL.split_at(7).0),
    ("30000000-0000-0000-0000-000000000000", "Backup Admin", &[ALL[0], ALL[1], ALL[2], ALL[3], ALL[5]]),
    ("60000000-0000-0000-0000-000000000000", "Helpdesk Admin", &[ALL[2], ALL[3], ALL[5], ALL[6]]),
    ("70000000-0000-0000-0000-000000000000", "Reporting/Audit Admin", &[ALL[5]]),
];

const ALL: [&str; 8] = [
    "Policy Management",
    "Data Source Management",
    "Perform Backup",
    "Regular Restore",
    "Redirected Granular Restore",
    "Dashboards & Reports",
    "Some Admin Functions",
    "Other Admin Functions",
];

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn roles_have_the_documented_permissions() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    let get = async |path: &str| Ask::get(path).bearer(&key).send(&router).await;
    let all = get("/roles/permissions").await.json();
    assert_eq!(names(&all["_embedded"]["items"]), ALL);
    for (id, name, permissions) in GRANTED {
        let role = get(&format!("/roles/{id}")).await.json();
        assert_eq!((&role["name"], names(&role["permissions"])), (&json!(name), permissions.to_vec()));
        assert_eq!(role["user_count"], json!(u8::from(id == SUPER)), "{name}");
    }
    assert_eq!(get("/roles?filter=%7B%22name%22%3A%7B%22%24eq%22%3A%22x%22%7D%7D").await.status, 400);
    // Users count once, and only in units that the caller sees.
    let unit = kit.ou("Research").await;
    let body = json!({
        "email": "ada@example.com", "full_name": "Ada",
        "access_control_configuration": [access(GRANTED[3].0, &[GLOBAL, &unit.uuid.to_string()])]
    });
    assert_eq!(Ask::post("/users").bearer(&key).json(&body).send(&router).await.status, 200);
    let path = format!("/roles/{}", GRANTED[3].0);
    assert_eq!(get(&path).await.json()["user_count"], 1);
    let inside = Ask::get(format!("/roles/{SUPER}")).bearer(&key);
    let inside = inside.header("x-clumio-organizationalunit-context", &*unit.uuid.to_string());
    assert_eq!(inside.send(&router).await.json()["user_count"], 0);
}

#[tokio::test]
async fn only_administrators_read_the_rows_of_backups() {
    let (kit, _) = face().await;
    let roles = landreeve_estate::ops::users::role_list(&kit.estate, &kit.operator()).await.unwrap();
    let record = Noun::new("record");
    let reads = |role: &&landreeve_estate::ops::Role| role.permissions.iter().any(|held| held.noun == record);
    let reading: Vec<_> = roles.iter().filter(reads).map(|role| role.name.as_str()).collect();
    assert_eq!(reading, ["Administrator", "Unit administrator", "Application Admin"]);
    // To where the backup was made, but not elsewhere.
    let helpdesk = roles.iter().find(|role| role.name == "Helpdesk Admin").unwrap();
    let restore: Vec<_> =
        helpdesk.permissions.iter().filter(|held| held.noun.as_str() == "restore").collect();
    assert_eq!(restore, [&Permission::new(Noun::new("restore"), Action::USE)]);
}

/// A store that is older than the plane gets its roles and the nouns of the administrators' roles.
async fn older_stores_get_the_roles(kit: Kit) {
    let roles = async |kit: &Kit| {
        landreeve_estate::ops::users::role_list(&kit.estate, &kit.operator()).await.unwrap()
    };
    let before = roles(&kit).await;
    assert_eq!(before.len(), 4);
    // As a program before these nouns has left them.
    kit.exec(
        "DELETE FROM role_permissions WHERE permission LIKE 'policy:%' OR permission LIKE 'record:%'",
        Vec::new(),
    )
    .await;
    let (kit, _) = crate::with_protection(kit, Vec::new()).await;
    let after = roles(&kit).await;
    let added: Vec<_> = after.iter().skip(4).map(|role| (role.id.0 >= 100, role.name.as_str())).collect();
    let expected = ["Application Admin", "Backup Admin", "Helpdesk Admin", "Reporting/Audit Admin"];
    assert_eq!(added, expected.map(|name| (true, name)));
    for role in &after[..2] {
        for noun in ["policy", "backup", "restore", "record", "alert"] {
            let permission = Permission::new(Noun::new(noun), Action::MANAGE);
            assert!(role.permissions.contains(&permission), "{}: {noun}", role.name);
        }
    }
    assert_eq!(after[2].permissions, before[2].permissions);
    kit.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_stores_get_the_roles_on_sqlite() {
    older_stores_get_the_roles(Kit::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_stores_get_the_roles_on_postgresql() {
    older_stores_get_the_roles(Kit::postgres().await).await;
}

#[tokio::test]
async fn the_trail_is_in_the_documented_words() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    let (ada, ada_key) = key_of(&kit, "ada", &[]).await;
    let unit = kit.ou("Research").await;
    let send = async |ask: Ask, key: &str| ask.bearer(key).send(&router).await;
    let address = "192.0.2.9".parse().unwrap();
    let post = Ask::post("/organizational-units").bearer(&key).json(&json!({ "name": "Sales" }));
    let sales = post.send(&from_address(&router, address)).await.json()["id"].clone();
    send(Ask::patch(format!("/users/{}", ada.id)).json(&json!({ "is_enabled": false })), &key).await;
    send(Ask::patch(format!("/users/{}", ada.id)).json(&json!({ "is_enabled": true })), &key).await;
    let refused = send(Ask::get("/organizational-units"), &ada_key).await;
    assert_eq!(refused.status, 403);
    kit.probe().await;

    let list = async |filter: Value| {
        let answer = send(Ask::get(filtered("/audit-trails", &filter)), &key).await;
        assert_eq!(answer.status, 200, "{filter}: {}", answer.body);
        let body = answer.json();
        let items = body["_embedded"]["items"].as_array().unwrap().clone();
        assert_eq!(body["total_count"], json!(items.len()), "{filter}");
        items
    };
    let words = |items: &[Value]| -> Vec<String> {
        let word = |item: &Value, name: &str| item[name].as_str().unwrap().to_owned();
        items.iter().map(|item| format!("{} {}", word(item, "category"), word(item, "action"))).collect()
    };
    let all = list(json!({})).await;
    assert_eq!(
        words(&all)[..5],
        [
            "tasks create",
            "organizational_unit update",
            "users enable",
            "users suspend",
            "organizational_unit create"
        ]
    );
    let made = all[4].clone();
    let expected = json!({
        "id": made["id"], "timestamp": made["timestamp"], "user_email": "admin", "ip_address": "192.0.2.9",
        "interface": "API", "category": "organizational_unit", "action": "create", "status": "success",
        "primary_entity": { "id": sales, "type": "organizational_unit", "value": "Sales" }, "parent_entity": null,
        "details": "{\"detail\":\"Sales\"}",
        "details_json": { "request_body": null, "request_url": "", "tags": [] }
    });
    assert_eq!(made, expected);
    assert_eq!((&all[1]["status"], &all[1]["user_email"]), (&json!("failure"), &json!("ada@example.com")));

    let (ada, everything) = (ada.id.to_string(), all.len());
    for (filter, count) in [
        (json!({ "category": { "$in": ["organizational_unit"] } }), 3),
        (json!({ "category": { "$in": ["organizational_unit"] }, "action": { "$in": ["create"] } }), 2),
        (json!({ "action": { "$in": ["suspend", "enable"] } }), 2),
        (json!({ "category": { "$in": ["sso"] } }), 0),
        (json!({ "status": { "$in": ["failure"] } }), 1),
        (json!({ "status": { "$in": ["partial_success"] } }), 0),
        (json!({ "status": { "$in": ["failure", "success"] } }), everything),
        (json!({ "user_email": { "$in": ["ada@example.com", "x"] } }), 1),
        (json!({ "ip_address": { "$eq": "192.0.2.9" } }), 1),
        (json!({ "primary_entity.id": { "$in": [sales] } }), 1),
        (json!({ "primary_entity.id": { "$in": [ada] }, "primary_entity.type": { "$eq": "user" } }), 3),
        (json!({ "primary_entity.type": { "$eq": "datasource" } }), 0),
        (json!({ "primary_entity.value": { "$in": ["Sales", "Research"] } }), 2),
        (json!({ "parent_entity.id": { "$in": [sales] } }), 0),
        (json!({ "organizational_unit_id": { "$eq": GLOBAL } }), everything),
        (json!({ "organizational_unit_id": { "$eq": unit.uuid.to_string() } }), 0),
        (json!({ "organizational_unit_id": { "$eq": "x" } }), 0),
        (json!({ "start_timestamp": { "$eq": 3600 } }), everything),
        (json!({ "start_timestamp": { "$eq": "0" } }), everything),
        (
            json!({ "start_timestamp": { "$gte": "2026-01-15T12:00:00Z", "$lt": "2026-01-15T13:00:00Z" } }),
            everything,
        ),
        (json!({ "start_timestamp": { "$lt": "2026-01-15T12:00:00Z" } }), 0),
    ] {
        assert_eq!(list(filter.clone()).await.len(), count, "{filter}");
    }
    kit.clock.advance(std::time::Duration::from_secs(60));
    assert!(list(json!({ "start_timestamp": { "$eq": 59 } })).await.is_empty());
    // What is gone keeps its name.
    send(Ask::new("DELETE", format!("/users/{ada}")), &key).await;
    let gone = list(json!({ "primary_entity.value": { "$in": ["ada"] } })).await;
    assert_eq!(
        (words(&gone), &gone[0]["primary_entity"]["id"]),
        (vec!["users invite".to_owned()], &json!(ada))
    );
    assert_eq!(
        list(json!({ "primary_entity.id": { "$in": [ada] }, "action": { "$in": ["delete"] } })).await.len(),
        1
    );

    let wrong = json!({
        "category": { "$in": ["users", "x"] }, "action": { "$eq": "create" }, "start_timestamp": { "$eq": -1, "$gte": "x" },
        "name": { "$eq": "x" }
    });
    let answer = send(Ask::get(filtered("/audit-trails", &wrong)), &key).await;
    assert_eq!(messages(&answer).len(), 5, "{}", answer.body);
    // In a unit only its own events.
    let inside =
        Ask::get("/audit-trails").header("x-clumio-organizationalunit-context", &*unit.uuid.to_string());
    assert_eq!(send(inside, &key).await.json()["total_count"], 0);
}

/// The conditions mean the same on both stores.
async fn the_trail_is_filtered_in_the_store(kit: Kit) {
    let (kit, protection) = crate::with_protection(kit, Vec::new()).await;
    let router: Router =
        landreeve_face_clumio::router(kit.estate.clone(), protection, Options::default()).unwrap().into();
    let key = admin_key(&kit).await;
    kit.ou("Research").await;
    for (filter, count) in [
        (
            json!({ "category": { "$in": ["organizational_unit", "users"] }, "action": { "$in": ["create", "invite"] } }),
            2,
        ),
        (
            json!({ "primary_entity.value": { "$in": ["Research"] }, "primary_entity.type": { "$eq": "organizational_unit" } }),
            1,
        ),
        (json!({ "primary_entity.id": { "$in": ["1"] }, "category": { "$in": ["users"] } }), 1),
        (json!({ "user_email": { "$in": ["operator"] }, "status": { "$in": ["success"] } }), 3),
    ] {
        let answer = Ask::get(filtered("/audit-trails", &filter)).bearer(&key).send(&router).await;
        assert_eq!(answer.json()["total_count"], count, "{filter}: {}", answer.body);
    }
    kit.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trail_is_filtered_in_the_store_on_sqlite() {
    the_trail_is_filtered_in_the_store(Kit::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trail_is_filtered_in_the_store_on_postgresql() {
    the_trail_is_filtered_in_the_store(Kit::postgres().await).await;
}

#[tokio::test]
async fn the_allowlist_is_for_the_api_and_its_links() {
    let face = Face::new().await;
    let key = admin_key(&face.kit).await;
    let from = |address: &str| from_address(&face.router, address.parse().unwrap());
    let get = async |address: &str, path: &str| Ask::get(path).bearer(&key).send(&from(address)).await;
    let patch = async |address: &str, body: Value| {
        Ask::patch("/settings/general").bearer(&key).json(&body).send(&from(address)).await
    };
    let before = get("203.0.113.9", "/settings/general").await;
    let link = |method: &str| json!({ "href": "/settings/general", "type": method, "templated": false });
    let expected = json!({
        "auto_logout_duration": 900, "ip_allowlist": ["0.0.0.0/0", "::/0"], "organizational_unit_data_groups": null,
        "password_expiration_duration": 7_776_000,
        "_links": { "_self": link("get"), "update-general-settings": link("patch") }
    });
    assert_eq!((before.status, before.json()), (200, expected));
    assert_eq!(before.header("content-type"), "application/api.clumio.general-settings=v2+json");

    let list = json!(["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"]);
    let refused = patch("203.0.113.9", json!({ "ip_allowlist": list, "auto_logout_duration": 600 })).await;
    fails(&refused, 400, 101, "ip_allowlist must contain your own address, 203.0.113.9");
    let body = json!({
        "auto_logout_duration": 600, "ip_allowlist": list, "organizational_unit_data_groups": null,
        "password_expiration_duration": null
    });
    let changed = patch("::ffff:192.0.2.7", body).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    assert_eq!(
        (&changed.json()["ip_allowlist"], &changed.json()["auto_logout_duration"]),
        (&list, &json!(600))
    );
    for (address, status) in [
        ("192.0.2.200", 200),
        ("::ffff:192.0.2.1", 200),
        ("198.51.100.7", 200),
        ("2001:db8:7::1", 200),
        ("198.51.100.8", 403),
        ("2001:db9::1", 403),
        ("127.0.0.1", 403),
    ] {
        assert_eq!(get(address, "/tasks").await.status, status, "{address}");
        // The link needs no token, but the same address.
        let answer = Ask::get(&face.records.1).send(&from(address)).await;
        assert_eq!(answer.status, status, "{address}: {}", answer.body);
    }
    let refused = get("203.0.113.9", "/users").await;
    fails(&refused, 403, 103, "requests from this address are not allowed");
    assert_eq!(Ask::get("/users").bearer(&key).send(&face.router).await.status, 403, "an unknown address");
    let groups =
        json!({ "organizational_unit_data_groups": { "aws": { "is_editable": true, "type": "x" } } });
    let kept = patch("192.0.2.1", groups.clone()).await.json();
    assert_eq!(kept["organizational_unit_data_groups"], groups["organizational_unit_data_groups"]);
    assert_eq!((&kept["ip_allowlist"], &kept["auto_logout_duration"]), (&list, &json!(600)));
    let open = patch("192.0.2.1", json!({ "ip_allowlist": ["0.0.0.0/0", "::/0"] })).await;
    assert_eq!(open.status, 200);
    assert_eq!(get("203.0.113.9", "/tasks").await.status, 200);
}

#[tokio::test]
async fn reports_everything_that_is_wrong_with_settings() {
    let (kit, router) = face().await;
    let key = admin_key(&kit).await;
    let router = from_address(&router, "192.0.2.7".parse().unwrap());
    let send = async |body: Value| {
        messages(&Ask::patch("/settings/general").bearer(&key).json(&body).send(&router).await)
    };
    let body = json!({
        "auto_logout_duration": 599, "password_expiration_duration": 15_552_001, "ip_allowlist": ["x", "10.0.0.0/33", 7],
        "organizational_unit_data_groups": { "aws": { "is_editable": 1, "colour": "x" }, "gcp": {} }, "mfa": true
    });
    let expected = [
        "auto_logout_duration must be between 600 and 3600",
        "password_expiration_duration must be between 2592000 and 15552000",
        "organizational_unit_data_groups.aws.is_editable must be true or false, not a number",
        "organizational_unit_data_groups.aws.colour is not a member of this object",
        "organizational_unit_data_groups.gcp is not a member of this object",
        "ip_allowlist.2 must be a string, not a number",
        "mfa is not a member of this object",
    ];
    assert_eq!(send(body).await, expected);
    let expected = [
        "ip_allowlist.0 must be an IP address or a network such as 192.0.2.0/24",
        "ip_allowlist.2 must be an IP address or a network such as 192.0.2.0/24",
    ];
    assert_eq!(send(json!({ "ip_allowlist": ["x", "192.0.2.7", "10.0.0.0/33"] })).await, expected);
    let shut = ["ip_allowlist must contain your own address, 192.0.2.7"];
    assert_eq!(send(json!({ "ip_allowlist": [] })).await, shut);
    assert_eq!(send(json!({ "ip_allowlist": ["::/0"] })).await, shut);
    let many = vec!["192.0.2.7"; 101];
    assert_eq!(
        send(json!({ "ip_allowlist": many })).await,
        ["ip_allowlist must have at most 100 items, has 101"]
    );
    // There is no version 1.
    let first =
        Ask::get("/settings/general").bearer(&key).header("accept", "application/api.clumio.*=v1+json");
    assert_eq!(first.send(&router).await.status, 400);
}

#[tokio::test]
async fn requests_beyond_the_rate_are_429() {
    let (kit, protection) = crate::with_protection(Kit::new().await, Vec::new()).await;
    let options = Options { requests_per_second: 3 };
    let router: Router =
        landreeve_face_clumio::router(kit.estate.clone(), protection, options).unwrap().into();
    let key = admin_key(&kit).await;
    let (_, other) = kit.key(Api::Protection, &everything()).await;
    let get = async |key: &str| Ask::get("/tasks").bearer(key).send(&router).await;
    // Callers without a valid token do not use it up.
    for _ in 0..10 {
        assert_eq!(get("x").await.status, 401);
    }
    for key in [&key, &other, &key] {
        assert_ne!(get(key).await.status, 429);
    }
    let refused = get(&key).await;
    fails(&refused, 429, 129, "more than 3 requests within 1 s");
    assert_eq!(refused.header("retry-after"), "1");
    // The reference is not part of the API.
    assert_eq!(Ask::get("/openapi.json").send(&router).await.status, 200);
    kit.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(get(&key).await.status, 200);
}
