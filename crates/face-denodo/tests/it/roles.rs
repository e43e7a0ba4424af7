//! The dialect's roles: what each may do, and the flags of each in the response to a sign-in.

use landreeve_core::ids::OuId;
use landreeve_core::{Action, Noun, Permission, Secret};
use landreeve_estate::ops::users::{NewUser, role_list, user_create};
use landreeve_estate::ops::{GrantTarget, NewGrant};
use landreeve_face_denodo::permissions;
use landreeve_testkit::skeleton::Dialect as _;
use landreeve_testkit::{Ask, PASSWORD};
use serde_json::{Value, json};

use crate::Face;

impl Face {
    /// A user with one role.
    async fn user_with(&self, role: &str) -> String {
        let roles = role_list(&self.kit.estate, &self.kit.operator()).await.unwrap();
        let role = roles.into_iter().find(|known| known.name == role).unwrap_or_else(|| panic!("no {role}"));
        self.granted(vec![NewGrant::Role(role.id, OuId::ROOT)]).await
    }

    async fn granted(&self, grants: Vec<NewGrant>) -> String {
        let name = self.name();
        let new = NewUser {
            name: name.clone(),
            email: String::new(),
            full_name: String::new(),
            password: Some(Secret::new(PASSWORD)),
            grants,
        };
        user_create(&self.kit.estate, &self.kit.operator(), new).await.unwrap();
        name
    }

    /// The flags of a user, without the name.
    async fn flags(&self, name: &str) -> Value {
        let answer = Ask::get("/login").basic(name, PASSWORD).send(&self.router).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let mut body = answer.json();
        assert_eq!(body.as_object_mut().unwrap().remove("userName"), Some(json!(name)));
        body
    }
}

/// In the order of the response: both lists, `promotion`, `promotionAdmin`, `solutionManagerAdmin`, `vdpAdmin`, `jmxAdmin`.
fn flags(admin_of: Value, of: Value, [promotion, promotion_admin, manager, admin, jmx]: [bool; 5]) -> Value {
    json!({
        "promotionAdminEnvironments": admin_of, "promotionEnvironments": of, "promotion": promotion,
        "promotionAdmin": promotion_admin, "solutionManagerAdmin": manager, "vdpAdmin": admin, "jmxAdmin": jmx,
        "admin": admin, "jmxadmin": jmx,
    })
}

#[tokio::test]
async fn the_flags_of_both_generations_follow_the_roles() {
    let face = Face::new().await;
    let none = || json!(null);
    for (role, expected) in [
        ("Administrator", flags(none(), none(), [true; 5])),
        ("Unit administrator", flags(none(), none(), [true, true, true, false, false])),
        ("Viewer", flags(none(), none(), [false; 5])),
        ("solution_manager_admin", flags(none(), none(), [false, false, true, false, false])),
        ("solution_manager_promotion_admin", flags(none(), none(), [true, true, false, false, false])),
        ("solution_manager_promotion", flags(none(), none(), [true, false, false, false, false])),
        ("developer", flags(none(), none(), [false; 5])),
        ("jmxadmin", flags(none(), none(), [false, false, false, false, true])),
    ] {
        let user = face.user_with(role).await;
        assert_eq!(face.flags(&user).await, expected, "{role}");
    }
    for (scenario, word) in
        [("development", "DEVELOPMENT"), ("staging", "STAGING"), ("production", "PRODUCTION")]
    {
        let admin = face.user_with(&format!("solution_manager_promotion_admin_{scenario}")).await;
        let expected = flags(json!([word]), json!([word]), [true, true, false, false, false]);
        assert_eq!(face.flags(&admin).await, expected, "{scenario}");
        let promoter = face.user_with(&format!("solution_manager_promotion_{scenario}")).await;
        let expected = flags(none(), json!([word]), [true, false, false, false, false]);
        assert_eq!(face.flags(&promoter).await, expected, "{scenario}");
    }
    // Grants that no role has.
    let grant = |noun: &'static str, action| {
        NewGrant::Permission(Permission::new(Noun::new(noun), action), GrantTarget::Subtree(OuId::ROOT))
    };
    let two = face
        .granted(vec![grant("deploy_development", Action::MANAGE), grant("deploy_staging", Action::USE)])
        .await;
    let expected = flags(none(), json!(["DEVELOPMENT", "STAGING"]), [true, false, false, false, false]);
    assert_eq!(face.flags(&two).await, expected, "without revision:manage");
    let both = face.granted(vec![grant("user", Action::MANAGE), grant("setting", Action::MANAGE)]).await;
    assert_eq!(face.flags(&both).await, flags(none(), none(), [true; 5]));
}

/// What a role is allowed: to see the catalog, to manage it, and to manage deployments of each scenario.
struct Allowed {
    view: bool,
    manage: bool,
    deploy: [bool; 3],
}

fn allowed(role: &str) -> Allowed {
    let of = |name: &str| ["development", "staging", "production"].map(|scenario| name.ends_with(scenario));
    match role {
        "solution_manager_admin" => Allowed { view: true, manage: true, deploy: [false; 3] },
        "solution_manager_promotion_admin" => Allowed { view: true, manage: false, deploy: [true; 3] },
        "Viewer" => Allowed { view: false, manage: false, deploy: [false; 3] },
        _ if role.starts_with("solution_manager_promotion_admin_") => {
            Allowed { view: true, manage: false, deploy: of(role) }
        }
        _ => Allowed { view: true, manage: false, deploy: [false; 3] },
    }
}

#[tokio::test]
async fn each_role_may_use_its_routes_and_no_others() {
    let face = Face::new().await;
    let names: Vec<&str> = permissions::roles().into_iter().map(|role| role.name).chain(["Viewer"]).collect();
    assert_eq!(names.len(), 12);
    let mut tried = 0;
    for role in names {
        let (allowed, user) = (allowed(role), face.user_with(role).await);
        for (method, path, needs) in landreeve_face_denodo::ROUTES {
            let expected = match *needs {
                "environment:view" => allowed.view,
                "environment:manage" => allowed.manage,
                // The environments of these requests have no alias.
                "deploy_production:manage" => allowed.deploy[2],
                _ => continue,
            };
            let answer = face.ask(method, path).await.basic(&user, PASSWORD).send(&face.router).await;
            let status = if expected { 200..=204 } else { 403..=403 };
            assert!(
                status.contains(&answer.status),
                "{role}: {method} {path}: {} {}",
                answer.status,
                answer.body
            );
            tried += 1;
        }
    }
    assert!(tried >= 12 * 21, "{tried}");
}

#[tokio::test]
async fn the_alias_of_an_environment_decides_who_may_deploy() {
    let face = Face::new().await;
    for role in permissions::roles().into_iter().map(|role| role.name) {
        let (allowed, user) = (allowed(role), face.user_with(role).await);
        for (alias, expected) in [
            (json!("DEVELOPMENT"), allowed.deploy[0]),
            (json!("STAGING"), allowed.deploy[1]),
            (json!("STAGING_7"), allowed.deploy[1]),
            (json!("PRODUCTION"), allowed.deploy[2]),
            (json!("PRODUCTION_1"), allowed.deploy[2]),
            (json!(null), allowed.deploy[2]),
        ] {
            let made = Ask::post("/environments").basic("admin", PASSWORD);
            let made = made.json(&json!({ "name": face.name(), "licenseAlias": alias }));
            let made = made.send(&face.router).await.json();
            let path = format!("/environments/{}/deploymentConfiguration", made["id"]);
            for method in ["GET", "PUT"] {
                let ask = Ask::new(method, path.as_str()).json(&json!({})).basic(&user, PASSWORD);
                let answer = ask.send(&face.router).await;
                let status = if expected { 200 } else { 403 };
                assert_eq!(answer.status, status, "{role} {method} {alias}: {}", answer.body);
            }
        }
    }
}
