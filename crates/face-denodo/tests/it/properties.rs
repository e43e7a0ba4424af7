//! Properties: the examples of the document, filters, who may, and what is never shown.

use axum::Router;
use landreeve_core::{Action, Permission};
use landreeve_promotion::nouns::{DEPLOY_DEVELOPMENT, DEPLOY_PRODUCTION, DEPLOY_STAGING, ENVIRONMENT};
use landreeve_testkit::{Answer, Ask, PASSWORD, everything};
use serde_json::{Value, json};

use crate::face;

async fn by(router: &Router, name: &str, ask: Ask) -> Answer {
    ask.basic(name, PASSWORD).send(router).await
}

async fn admin(router: &Router, ask: Ask) -> Answer {
    by(router, "admin", ask).await
}

/// A new environment with this license alias.
async fn environment(router: &Router, name: &str, alias: &str) -> i64 {
    let body = json!({ "name": name, "licenseAlias": alias });
    let answer = admin(router, Ask::post("/environments").json(&body)).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.json()["id"].as_i64().unwrap()
}

async fn cluster(router: &Router, environment: i64) -> i64 {
    let body = json!({ "name": "c", "environmentId": environment, "enabled": true });
    let answer = admin(router, Ask::post("/clusters").json(&body)).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.json()["id"].as_i64().unwrap()
}

async fn post(router: &Router, path: &str, body: &Value) -> Value {
    let answer = admin(router, Ask::post(path).json(body)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("content-type"), "application/json;charset=UTF-8");
    answer.json()
}

async fn get(router: &Router, path: &str) -> Value {
    let answer = admin(router, Ask::get(path)).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    assert_eq!(answer.header("content-type"), "application/json;charset=UTF-8");
    answer.json()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|property| property["name"].as_str().unwrap()).collect()
}

#[track_caller]
fn refused(answer: &Answer, status: u16, message: &str) {
    let body = answer.json();
    assert_eq!((answer.status, &body["status"], &body["message"]), (status, &json!(status), &json!(message)));
}

/// A valid request for a route of properties; `None` for other routes.
pub async fn ask(router: &Router, method: &str, path: &str) -> Option<Ask> {
    if !path.to_ascii_lowercase().contains("properties") {
        return None;
    }
    let name = format!("of {}", environments(router).await);
    let environment = environment(router, &name, "PRODUCTION").await;
    let cluster = cluster(router, environment).await;
    let body = json!([{ "name": "p.a.b.c.d", "value": "v" }]);
    let (engine, scheduler) = (format!("/environments/{environment}"), format!("/clusters/{cluster}"));
    let id = match path {
        "/vdpProperties/{id}" => {
            post(router, &format!("{engine}/vdpProperties"), &body).await[0]["id"].clone()
        }
        "/schProperties/{id}" => {
            post(router, &format!("{scheduler}/schProperties"), &body).await[0]["id"].clone()
        }
        path if path.starts_with("/environments") => json!(environment),
        _ => json!(cluster),
    };
    let ask = Ask::new(method, path.replace("{id}", &id.to_string()));
    Some(if method == "POST" { ask.json(&body) } else { ask })
}

/// How many there are.
async fn environments(router: &Router) -> usize {
    get(router, "/environments").await.as_array().unwrap().len()
}

const HASHED: &str = "mYgfbAayggeImPPOGfklFLfgt2Azb/5TVjDtYQChCE29k6tjDru7 ... ";

#[tokio::test]
async fn the_examples_of_the_document_work() {
    let (_kit, router) = face().await;
    let (environment, other) = (
        environment(&router, "Environment 3", "PRODUCTION").await,
        environment(&router, "Environment 4", "STAGING").await,
    );
    let path = format!("/environments/{environment}/vdpProperties");
    let sent = json!([
        { "name": "users.smadmin.PASSWORD", "value": HASHED },
        { "name": "users.smadmin.PASSWORD.ALGORITHM", "value": "SHA512" },
        { "name": "users.smadmin.PASSWORD.ENCRYPTED", "value": "ENCRYPTED" }
    ]);
    let made = post(&router, &path, &sent).await;
    let one = |at: usize| {
        json!({
            "id": made[at]["id"], "name": sent[at]["name"], "value": sent[at]["value"], "propertyType": "VDP",
            "parentId": environment, "undefined": false
        })
    };
    assert_eq!(made, json!([one(0), one(1), one(2)]), "a bare array in the order sent");
    assert_eq!(get(&router, &path).await, json!({ "environmentProperties": [one(0), one(1), one(2)] }));
    let named = format!("{path}?propertyName=users.smadmin.PASSWORD.ALGORITHM&databaseName=nosuch");
    assert_eq!(get(&router, &named).await, json!({ "environmentProperties": [one(1)] }));
    let empty = json!({ "environmentProperties": [] });
    assert_eq!(get(&router, &format!("/environments/{other}/vdpProperties")).await, empty);

    // A list can be sent back as it was read.
    let listed = get(&router, &path).await["environmentProperties"].clone();
    assert_eq!(post(&router, &path, &listed).await, listed);
    let changed =
        post(&router, &path, &json!([{ "name": "users.smadmin.PASSWORD.ALGORITHM", "value": null }])).await;
    assert_eq!((&changed[0]["id"], &changed[0]["value"]), (&made[1]["id"], &json!("")));
    let undefined = json!([{ "name": "users.smadmin.PASSWORD.ALGORITHM", "undefined": true }]);
    assert_eq!(post(&router, &path, &undefined).await[0]["undefined"], json!(true));

    let delete = || Ask::new("DELETE", format!("/vdpProperties/{}", made[1]["id"]));
    let answer = admin(&router, delete()).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    refused(&admin(&router, delete()).await, 404, "there is no such property");
    let other_kind = Ask::new("DELETE", format!("/schProperties/{}", made[0]["id"]));
    refused(&admin(&router, other_kind).await, 404, "there is no such property");
    assert_eq!(get(&router, &path).await, json!({ "environmentProperties": [one(0), one(2)] }));
}

#[tokio::test]
async fn filters_are_those_of_the_document() {
    let (_kit, router) = face().await;
    let environment = environment(&router, "Environment 2", "PRODUCTION").await;
    let path = format!("/environments/{environment}/vdpProperties");
    let known = [
        "databases.admin.datasources.jdbc.oracle12c.DATABASEURI",
        "databases.admin.datasources.jdbc.oracle12c.USERNAME",
        "databases.admin.datasources.ldap.ad.URI",
        "databases.admin.folder.ds.views.custom.ds_dummy.File location.ROUTE.LOCAL.PATH",
        "databases.admin.views.jdbc.environment.SCHEMANAME",
        "users.smadmin.PASSWORD.ALGORITHM",
    ];
    let sent: Vec<Value> = known.iter().map(|name| json!({ "name": name, "value": "v" })).collect();
    post(&router, &path, &json!(sent)).await;
    for (query, expected) in [
        ("", vec![0, 1, 2, 3, 4, 5]),
        ("?propertyName=users.smadmin.PASSWORD.ALGORITHM", vec![5]),
        ("?databaseName=admin", vec![0, 1, 2, 3, 4]),
        ("?databaseName=", vec![0, 1, 2, 3, 4, 5]),
        ("?elementType=datasources", vec![0, 1, 2]),
        ("?elementType=view", vec![3, 4]),
        ("?elementTypeName=jdbc", vec![0, 1, 4]),
        ("?elementName=oracle12c", vec![0, 1]),
        ("?databaseName=admin&elementType=datasources&elementTypeName=ldap", vec![2]),
        ("?databaseName=nosuch", vec![]),
        (
            "?propertyName=databases.admin.folder.ds.views.custom.ds_dummy.File%20location.ROUTE.LOCAL.PATH",
            vec![3],
        ),
        ("?elementName=%ff", vec![]),
        ("?elementName=%00", vec![]),
    ] {
        let found = get(&router, &format!("{path}{query}")).await;
        let expected: Vec<&str> = expected.into_iter().map(|at: usize| known[at]).collect();
        assert_eq!(names(&found["environmentProperties"]), expected, "{query}");
    }
    let wrong = admin(&router, Ask::get(format!("{path}?databasename=admin&projectName=x"))).await;
    let message =
        "databasename is not a parameter of this request; projectName is not a parameter of this request";
    refused(&wrong, 400, message);
}

#[tokio::test]
async fn scheduler_properties_belong_to_clusters() {
    let (_kit, router) = face().await;
    let environment = environment(&router, "e", "PRODUCTION").await;
    let cluster = cluster(&router, environment).await;
    let path = format!("/clusters/{cluster}/schProperties");
    let sent = json!([
        { "name": "default.dataSource.VDP.vdp.connectionURI", "value": "//localhost:19999/admin" },
        { "name": "default.dataSource.VDP.vdp.login", "value": "admin" },
        { "name": "SolutionManager.dataSource.ITP.itpds.dbName", "value": "itp" }
    ]);
    let made = post(&router, &path, &sent).await;
    assert_eq!(
        made[1],
        json!({
            "id": made[1]["id"], "name": "default.dataSource.VDP.vdp.login", "value": "admin",
            "propertyType": "SCHEDULER", "parentId": cluster, "undefined": false
        })
    );
    for (query, expected) in [
        ("?propertyName=SolutionManager.dataSource.ITP.itpds.dbName", vec![2]),
        // As the document's example, whose name is not that of its text.
        ("?propertyName=SolutionManager.dataSource.ITP.itp.dbName", vec![]),
        ("?projectName=SolutionManager", vec![2]),
        ("?elementType=datasource", vec![2, 0, 1]),
        ("?elementTypeName=ITP", vec![2]),
        ("?elementName=itpds", vec![2]),
        ("?projectName=SolutionManager&elementType=datasource", vec![2]),
    ] {
        for path in [&path, &format!("/cluster/{cluster}/schProperties")] {
            let found = get(&router, &format!("{path}{query}")).await;
            let mut list: Vec<&str> = names(&found["clusterProperties"]);
            let mut expected: Vec<&str> =
                expected.iter().map(|at: &usize| sent[*at]["name"].as_str().unwrap()).collect();
            list.sort_unstable();
            expected.sort_unstable();
            assert_eq!(list, expected, "{path}{query}");
            assert_eq!(found["clusterProperties"], found["environmentProperties"]);
        }
    }
    let other = format!("/cluster/{cluster}/schProperties");
    let again =
        post(&router, &other, &json!([{ "name": "default.dataSource.VDP.vdp.password", "value": "tiger" }]))
            .await;
    assert!(again[0]["value"].as_str().unwrap().starts_with("lr1:"), "{again}");
    let deleted = admin(&router, Ask::new("DELETE", format!("/schProperties/{}", made[0]["id"]))).await;
    assert_eq!((deleted.status, deleted.body.as_str()), (204, ""));
    // They are not properties of the environment.
    let of_environment = get(&router, &format!("/environments/{environment}/vdpProperties")).await;
    assert_eq!(of_environment, json!({ "environmentProperties": [] }));
}

#[tokio::test]
async fn only_who_manages_deployments_there_sees_and_changes_properties() {
    let (kit, router) = face().await;
    let view = Permission::new(ENVIRONMENT, Action::VIEW);
    let manage = |noun| Permission::new(noun, Action::MANAGE);
    kit.user("none", &[]).await;
    kit.user("viewer", &[view]).await;
    kit.user("deployer", &[view, Permission::new(DEPLOY_STAGING, Action::USE)]).await;
    kit.user("staging", &[view, manage(DEPLOY_STAGING)]).await;
    kit.user("production", &[view, manage(DEPLOY_PRODUCTION)]).await;
    kit.user("development", &[view, manage(DEPLOY_DEVELOPMENT)]).await;
    kit.user("catalog", &[manage(ENVIRONMENT)]).await;
    let unit = kit.ou("Research").await;
    kit.user_in(unit.id, "elsewhere", &everything()).await;

    let body = json!([{ "name": "p.a.b.c.d", "value": "v" }]);
    for alias in ["DEVELOPMENT", "STAGING", "PRODUCTION"] {
        let environment = environment(&router, alias, alias).await;
        let cluster = cluster(&router, environment).await;
        let lists = [
            format!("/environments/{environment}/vdpProperties"),
            format!("/clusters/{cluster}/schProperties"),
            format!("/cluster/{cluster}/schProperties"),
        ];
        for name in
            ["none", "viewer", "deployer", "staging", "production", "development", "catalog", "elsewhere"]
        {
            let may = name.to_ascii_uppercase() == alias;
            let expected = if may {
                200
            } else if name == "elsewhere" {
                404
            } else {
                403
            };
            for path in &lists {
                let answer = by(&router, name, Ask::get(path)).await;
                assert_eq!(answer.status, expected, "{name} {path}: {}", answer.body);
                let answer = by(&router, name, Ask::post(path).json(&body)).await;
                assert_eq!(answer.status, expected, "{name} {path}: {}", answer.body);
            }
            for (path, kind) in [(&lists[0], "vdpProperties"), (&lists[1], "schProperties")] {
                let made = post(&router, path, &body).await;
                let ask = Ask::new("DELETE", format!("/{kind}/{}", made[0]["id"]));
                let answer = by(&router, name, ask).await;
                let expected = if may { 204 } else { expected };
                assert_eq!(answer.status, expected, "{name} {kind}: {}", answer.body);
            }
        }
    }
}

#[tokio::test]
async fn a_secret_is_carried_only_by_who_manages_both_environments() {
    let (kit, router) = face().await;
    let view = Permission::new(ENVIRONMENT, Action::VIEW);
    let manage = |noun| Permission::new(noun, Action::MANAGE);
    kit.user("staging", &[view, manage(DEPLOY_STAGING)]).await;
    kit.user("both", &[view, manage(DEPLOY_STAGING), manage(DEPLOY_PRODUCTION)]).await;
    let production = environment(&router, "production", "PRODUCTION").await;
    let staging = environment(&router, "staging", "STAGING").await;
    let name = "databases.sales.datasources.jdbc.erp.USERPASSWORD";
    let path = format!("/environments/{production}/vdpProperties");
    let secret = post(&router, &path, &json!([{ "name": name, "value": "tiger" }])).await;

    let path = format!("/environments/{staging}/vdpProperties");
    let body = json!([{ "name": "a", "value": "1" }, { "name": name, "value": secret[0]["value"] }]);
    let carry = || Ask::post(&path).json(&body);
    let message = "[1].value was encrypted for another environment, in which you do not manage properties";
    refused(&by(&router, "staging", carry()).await, 400, message);
    assert_eq!(get(&router, &path).await, json!({ "environmentProperties": [] }));
    let answer = by(&router, "both", carry()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let carried = answer.json()[1]["value"].clone();
    assert!(carried.as_str().unwrap().starts_with("lr1:") && carried != secret[0]["value"], "{carried}");
    // A caller who manages only this one can send its own text back.
    let back = json!([{ "name": name, "value": carried }]);
    let answer = by(&router, "staging", Ask::post(&path).json(&back)).await;
    assert_eq!((answer.status, &answer.json()[0]["value"]), (200, &carried));
}

#[tokio::test]
async fn secrets_are_in_no_answer_and_no_audit_event() {
    let (kit, router) = face().await;
    let environment = environment(&router, "e", "PRODUCTION").await;
    let path = format!("/environments/{environment}/vdpProperties");
    let name = "users.u.PASSWORD";
    let mut seen = String::new();
    for body in [
        json!([{ "name": name, "value": "trombone" }]),
        json!([{ "name": name, "value": "trombone" }, { "name": name, "value": "trombone" }]),
        json!([{ "name": name, "value": "trombone", "undefined": true }]),
        json!([{ "name": name, "value": ["trombone"] }]),
        json!([{ "name": "users.v.PASSWORD", "value": "trombone", "other": "trombone" }]),
        json!([{ "name": name, "value": "trombone".repeat(10_000) }]),
    ] {
        seen += &admin(&router, Ask::post(&path).json(&body)).await.body;
    }
    seen += &admin(&router, Ask::get(&path)).await.body;
    seen += &admin(&router, Ask::get(format!("{path}?propertyName={name}"))).await.body;
    for events in kit.rows("SELECT detail, action FROM audit_events").await {
        seen += &events.join(" ");
    }
    assert!(seen.contains("lr1:") && seen.contains("1 property of e"), "{seen}");
    assert!(!seen.contains("trombone"), "{seen}");
}

#[tokio::test]
async fn bad_input_is_named_by_position() {
    let (_kit, router) = face().await;
    let environment = environment(&router, "e", "PRODUCTION").await;
    let path = format!("/environments/{environment}/vdpProperties");
    for (body, message) in [
        ("", "the request body is empty; a JSON array is expected"),
        ("{\"name\": \"a\"}", "the request body must be a JSON array, not an object"),
        ("null", "the request body must be a JSON array, not null"),
        ("[5]", "[0] must be an object with name and value"),
        ("[{}]", "[0].name is required; [0].value is required"),
        (r#"[{"name": "a"}]"#, "[0].value is required"),
        (r#"[{"name": 1, "value": "x"}]"#, "[0].name must be a string, not a number"),
        (r#"[{"name": "a", "value": 5}]"#, "[0].value must be a string, not a number"),
        (r#"[{"name": "", "value": ""}]"#, "[0].name must not be empty"),
        (r#"[{"name": "a", "value": ""}, {"name": "a", "value": "x"}]"#, "[1].name is given twice"),
        (r#"[{"name": "a\tb", "value": ""}]"#, "[0].name must not contain control characters"),
        (r#"[{"name": "a", "value": "\u0000"}]"#, "[0].value must not contain the character U+0000"),
        (
            r#"[{"name": "a", "value": "x", "undefined": true}]"#,
            "[0].value must be empty if undefined is true",
        ),
        (
            r#"[{"name": "a", "value": "", "undefined": 1}]"#,
            "[0].undefined must be true or false, not a number",
        ),
        (r#"[{"name": "a", "value": "", "undefned": true}]"#, "[0].undefned is not a member of this object"),
        (
            r#"[{"name": "a", "value": ""}, {"name": "users.u.PASSWORD", "value": "lr1:AQAA"}]"#,
            "[1].value is an encrypted value that was not made for this property, or is damaged",
        ),
        (
            r#"[{"name": 5, "value": "x"}, {"name": "b"}, 7, {"name": "c", "value": "1"}, {"name": "c", "value": "2"}]"#,
            "[0].name must be a string, not a number; [1].value is required; [2] must be an object with name and value; \
             [4].name is given twice",
        ),
    ] {
        refused(&admin(&router, Ask::post(&path).body(body)).await, 400, message);
    }
    assert_eq!(get(&router, &path).await, json!({ "environmentProperties": [] }));
    // Values are kept as they are.
    let value = "quotes ' \" \\' ; ${x} {} é 🦀\r\n\t";
    let made = post(&router, &path, &json!([{ "name": "a 'quoted' näme", "value": value }])).await;
    assert_eq!(made[0]["value"], json!(value));
    assert_eq!(post(&router, &path, &json!([])).await, json!([]));
    for id in ["0", "99999", "-1", "a", "%00", "99999999999999999999"] {
        refused(
            &admin(&router, Ask::get(format!("/environments/{id}/vdpProperties"))).await,
            404,
            "there is no such environment",
        );
        refused(
            &admin(&router, Ask::get(format!("/clusters/{id}/schProperties"))).await,
            404,
            "there is no such cluster",
        );
        refused(
            &admin(&router, Ask::new("DELETE", format!("/vdpProperties/{id}"))).await,
            404,
            "there is no such property",
        );
    }
}
