//! Environments, clusters, servers, deployment configuration: bodies, faults, conflicts, aliases.

use landreeve_estate::args;
use landreeve_testkit::{Answer, Ask, PASSWORD, everything};
use serde_json::{Value, json};

use crate::{Face, fails, problems};

impl Face {
    fn as_admin(&self, method: &str, path: impl Into<String>) -> Ask {
        Ask::new(method, path).basic("admin", PASSWORD)
    }

    async fn get(&self, path: impl Into<String>) -> Answer {
        self.as_admin("GET", path).send(&self.router).await
    }

    async fn send(&self, method: &str, path: impl Into<String>, body: &Value) -> Answer {
        self.as_admin(method, path).json(body).send(&self.router).await
    }

    /// The id of what was created.
    async fn made(&self, path: &str, body: &Value) -> i64 {
        let answer = self.send("POST", path, body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()["id"].as_i64().unwrap()
    }
}

/// The same text with what differs from test to test replaced.
fn without_uuid(answer: &Answer) -> String {
    let uuid = answer.json()["uuid"].as_str().unwrap().to_owned();
    assert_eq!(uuid.len(), 36);
    answer.body.replace(&uuid, "UUID")
}

#[tokio::test]
async fn an_environment_is_shown_as_it_was_stated() {
    let face = Face::new().await;
    let whole = json!({
        "name": "Environment 1", "description": "First environment", "minimumUpdateValue": 20_190_312,
        "minimumUpdateMandatory": true, "minimumUpdateDownloadUrl": "https://example.com/u",
        "licenseAlias": "PRODUCTION_1", "environmentType": "STANDARD",
    });
    let answer = face.send("POST", "/environments", &whole).await;
    let id = answer.json()["id"].clone();
    let expected = format!(
        r#"{{"id":{id},"name":"Environment 1","description":"First environment","minimumUpdateValue":"20190312","minimumUpdateMandatory":true,"minimumUpdateDownloadUrl":"https://example.com/u","licenseAlias":"PRODUCTION_1","uuid":"UUID","environmentType":"STANDARD"}}"#
    );
    assert_eq!((answer.status, without_uuid(&answer)), (201, expected));
    assert_eq!(answer.header("content-type"), "application/json;charset=UTF-8");
    let path = format!("/environments/{id}");
    for (value, shown) in [
        (json!("20190312"), json!("20190312")),
        (json!(20_190_312), json!("20190312")),
        (json!(""), json!(null)),
        (json!(null), json!(null)),
    ] {
        let body = json!({ "name": "Environment 1", "minimumUpdateValue": value });
        assert_eq!(face.send("PUT", &path, &body).await.json()["minimumUpdateValue"], shown);
    }
    // What a response has can be sent back, and what is left out is cleared.
    let shown = answer.json();
    assert_eq!(face.send("PUT", &path, &shown).await.json(), shown);
    let answer = face.send("PUT", &path, &json!({ "name": "Renamed" })).await;
    let expected = format!(r#"{{"id":{id},"name":"Renamed","minimumUpdateMandatory":false,"uuid":"UUID"}}"#);
    assert_eq!((answer.status, without_uuid(&answer)), (200, expected));
    let second = face.made("/environments", &json!({ "name": "A" })).await;
    let list = face.get("/environments").await;
    let ids: Vec<_> = list.json().as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    assert_eq!(
        (ids, list.header("content-type")),
        (vec![id, json!(second)], "application/json;charset=UTF-8")
    );
    let answer = face.as_admin("DELETE", &path).send(&face.router).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    fails(&face.as_admin("DELETE", &path).send(&face.router).await, 404, "there is no such environment");
}

#[tokio::test]
async fn clusters_and_servers_are_shown_as_they_were_stated() {
    let face = Face::new().await;
    let environment = face.made("/environments", &json!({ "name": "E" })).await;
    let cluster =
        json!({ "name": "Cluster 1", "description": "d", "environmentId": environment, "enabled": false });
    let answer = face.send("POST", "/clusters", &cluster).await;
    let first = answer.json()["id"].clone();
    let expected = format!(
        r#"{{"id":{first},"name":"Cluster 1","description":"d","order":1,"environmentId":{environment},"enabled":false}}"#
    );
    assert_eq!((answer.status, answer.body.as_str()), (201, expected.as_str()));
    assert_eq!(face.get(format!("/clusters/{first}")).await.body, expected);
    let second = face.made("/clusters", &json!({ "name": "Cluster 2", "environmentId": environment })).await;
    let listed = face.get(format!("/environments/{environment}/clusters")).await;
    let expected = format!(
        r#"{{"clusters":[{{"id":{first},"name":"Cluster 1","enabled":false}},{{"id":{second},"name":"Cluster 2","enabled":true}}]}}"#
    );
    assert_eq!((listed.status, listed.body), (200, expected));

    let minimal = json!({ "name": "dev", "urlIP": "embedded", "clusterId": second });
    let answer = face.send("POST", "/servers", &minimal).await;
    let embedded = answer.json()["id"].clone();
    let expected = format!(
        r#"{{"id":{embedded},"name":"dev","typeNode":"VDP","urlIP":"embedded","clusterId":{second},"useKerberos":false,"usePassThrough":false,"enabled":true,"useDefaultLicenseAlias":true,"leaseState":"FREE"}}"#
    );
    assert_eq!((answer.status, answer.body), (201, expected.clone()));
    let whole = json!({
        "name": "test", "description": "d", "typeNode": "VDP_DATA_CATALOG", "urlIP": "vdp.example.com", "urlPort": 9_999,
        "clusterId": second, "useKerberos": true, "usePassThrough": true, "username": "u", "password": "generated-secret",
        "defaultDatabase": "admin", "enabled": false, "licenseAlias": "PRODUCTION_1", "useDefaultLicenseAlias": false,
    });
    let answer = face.send("POST", "/servers", &whole).await;
    let remote = answer.json()["id"].clone();
    let rest = format!(
        r#"{{"id":{remote},"name":"test","description":"d","typeNode":"VDP_DATA_CATALOG","urlIP":"vdp.example.com","urlPort":9999,"clusterId":{second},"useKerberos":true,"usePassThrough":true,"username":"u","defaultDatabase":"admin","enabled":false,"licenseAlias":"PRODUCTION_1","useDefaultLicenseAlias":false,"leaseState":"FREE"}}"#
    );
    assert_eq!((answer.status, &answer.body), (201, &rest));
    assert_eq!(face.get(format!("/servers/{remote}")).await.body, rest);
    let listed = face.get(format!("/environments/{environment}/servers")).await;
    assert_eq!((listed.status, listed.body), (200, format!(r#"{{"servers":[{expected},{rest}]}}"#)));

    // What a response has can be sent back; the password is kept, also for asterisks.
    let path = format!("/servers/{remote}");
    for password in [json!(null), json!("********"), json!("************")] {
        let mut shown: Value = serde_json::from_str(&rest).unwrap();
        shown["password"] = password;
        assert_eq!(face.send("PUT", &path, &shown).await.body, rest);
        let mut elsewhere = shown;
        elsewhere["urlPort"] = json!(1);
        let refused = face.send("PUT", &path, &elsewhere).await;
        fails(&refused, 400, "password is required when the address changes");
        assert_eq!(problems(&refused), ["password"]);
    }
    let aliases = face.get("/licenseAlias").await.json();
    let words: Vec<_> = aliases.as_array().unwrap().iter().map(|one| one["alias"].clone()).collect();
    assert_eq!(words, ["DEVELOPMENT", "STAGING", "PRODUCTION"].map(Value::from));
    assert!(aliases.as_array().unwrap().iter().all(|one| one["uniqueLicenseType"] == true));
    for (path, status) in [(format!("/servers/{embedded}"), 204), (format!("/clusters/{second}"), 204)] {
        let answer = face.as_admin("DELETE", &path).send(&face.router).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, ""));
        assert_eq!(face.get(&path).await.status, 404);
    }
    fails(&face.get(format!("/servers/{remote}")).await, 404, "there is no such server");
}

#[tokio::test]
async fn every_fault_is_in_the_message_and_among_the_problems() {
    let face = Face::new().await;
    let wrong = json!({
        "minimumUpdateValue": "soon", "minimumUpdateMandatory": "yes", "licenseAlias": "GOLD", "licenceAlias": 1,
    });
    let answer = face.send("POST", "/environments", &wrong).await;
    let message = "name is required; minimumUpdateValue must have at least 8 characters; minimumUpdateMandatory must be \
                   true or false, not a string; licenceAlias is not a member of this object; licenseAlias must be one of \
                   DEVELOPMENT, STAGING, PRODUCTION; a number can follow, as in PRODUCTION_1";
    fails(&answer, 400, message);
    let fields = ["name", "minimumUpdateValue", "minimumUpdateMandatory", "licenceAlias", "licenseAlias"];
    assert_eq!(problems(&answer), fields);
    assert_eq!(answer.json()["problems"][0], json!({ "field": "name", "message": "is required" }));

    let cluster = face.cluster().await;
    for (method, path, body, expected) in [
        ("POST", "/environments", json!({ "name": "" }), vec!["name"]),
        (
            "POST",
            "/environments",
            json!({ "name": "x", "minimumUpdateValue": 1 }),
            vec!["minimumUpdateValue"],
        ),
        (
            "POST",
            "/environments",
            json!({ "name": "x", "minimumUpdateValue": "2019031x" }),
            vec!["minimumUpdateValue"],
        ),
        ("POST", "/clusters", json!({}), vec!["environmentId", "name"]),
        ("POST", "/clusters", json!({ "name": "x", "environmentId": "1" }), vec!["environmentId"]),
        ("POST", "/clusters", json!({ "name": "x", "environmentId": -1 }), vec!["environmentId"]),
        ("POST", "/servers", json!({}), vec!["clusterId", "name", "urlIP"]),
        (
            "POST",
            "/servers",
            json!({ "name": "x", "urlIP": "h", "clusterId": cluster.id.0, "typeNode": "ODBC" }),
            vec!["typeNode", "urlPort"],
        ),
        (
            "POST",
            "/servers",
            json!({ "name": "x", "urlIP": "http://10.0.0.1", "urlPort": 1, "clusterId": cluster.id.0 }),
            vec!["urlIP"],
        ),
        (
            "POST",
            "/servers",
            json!({
                "name": "x", "urlIP": "embedded", "clusterId": cluster.id.0, "useDefaultLicenseAlias": false,
                "urlPort": 0
            }),
            vec!["urlPort", "licenseAlias"],
        ),
    ] {
        let answer = face.send(method, path, &body).await;
        assert_eq!(
            (answer.status, problems(&answer)),
            (400, expected.iter().map(ToString::to_string).collect()),
            "{body}"
        );
    }
    for body in ["", "[]", "{", "\"x\"", "\u{feff}"] {
        let answer = face.as_admin("POST", "/servers").body(body).send(&face.router).await;
        assert_eq!(answer.status, 400, "{body:?}");
    }
    for (path, body, message) in [
        ("/clusters", json!({ "name": "x", "environmentId": 999 }), "there is no such environment"),
        (
            "/servers",
            json!({ "name": "x", "urlIP": "embedded", "clusterId": 999 }),
            "there is no such cluster",
        ),
    ] {
        fails(&face.send("POST", path, &body).await, 404, message);
    }
}

#[tokio::test]
async fn names_and_addresses_are_taken_once() {
    let face = Face::new().await;
    let environment = face.made("/environments", &json!({ "name": "E" })).await;
    let cluster = face.made("/clusters", &json!({ "name": "C", "environmentId": environment })).await;
    let server = |name: &str, host: &str, port: u16| json!({ "name": name, "urlIP": host, "urlPort": port, "clusterId": cluster });
    face.made("/servers", &server("S", "h", 1)).await;
    for (path, body, field, message) in [
        ("/environments", json!({ "name": "E" }), "name", "name is already taken"),
        ("/clusters", json!({ "name": "C", "environmentId": environment }), "name", "name is already taken"),
        ("/servers", server("S", "h", 2), "name", "name is already taken"),
        ("/servers", server("T", "h", 1), "urlIP", "host and port are already those of the server S"),
    ] {
        let answer = face.send("POST", path, &body).await;
        fails(&answer, 409, message);
        assert_eq!(problems(&answer), [field]);
    }
    // Names of clusters are unique in an environment, and embedded servers have no address.
    let other = face.made("/environments", &json!({ "name": "F" })).await;
    face.made("/clusters", &json!({ "name": "C", "environmentId": other })).await;
    for name in ["one", "two"] {
        face.made("/servers", &server(name, "embedded", 1)).await;
    }
    let sql = "INSERT INTO promotion_deployments (id, ou_id, environment_id, environment_name, scenario, description, owner, \
               user_name, state, message, created_at) VALUES (28, 1, $1, 'E', 'production', '', 'operator', 'operator', \
               'in_progress', '', 0)";
    face.kit.exec(sql, args![environment]).await;
    for path in [format!("/environments/{environment}"), format!("/clusters/{cluster}")] {
        let answer = face.as_admin("DELETE", path).send(&face.router).await;
        fails(&answer, 409, "the deployment 28 to E is in progress");
    }
}

#[tokio::test]
async fn a_deployment_configuration_is_replaced() {
    let face = Face::new().await;
    let cluster = face.cluster().await;
    let path = format!("/environments/{}/deploymentConfiguration", cluster.environment);
    let initial = r#"{"deploymentsEnabled":true,"deploymentType":"SIMPLE","clusterStrategy":"ONE_BY_ONE","serverStrategy":"ONE_BY_ONE","configuredClusters":0,"rollbackEnabled":true,"rollbackScope":"ALL_TOUCHED","backupEnabled":false,"queueDeploymentsEnabled":false,"approvalsRequired":0,"refuseOnDrift":false,"scripts":{}}"#;
    assert_eq!(face.get(&path).await.body, initial);
    let whole = json!({
        "deploymentsEnabled": false, "deploymentType": "NO_DOWNTIME", "clusterStrategy": "HALF",
        "serverStrategy": "HALF", "configuredClusters": 3, "rollbackEnabled": false, "rollbackScope": "FIRST_SERVER",
        "backupEnabled": false, "queueDeploymentsEnabled": true, "approvalsRequired": 1, "refuseOnDrift": true,
        "scripts": {
            "disableServer": { "file": "a.sh", "arguments": [{ "literal": "-x" }, { "variable": "host" }] },
            "enableServer": { "file": "b.sh", "arguments": [] },
            "disableCluster": { "file": "c.sh", "arguments": [] },
            "enableCluster": { "file": "d.sh", "arguments": [] }
        },
    });
    let answer = face.send("PUT", &path, &whole).await;
    assert_eq!((answer.status, answer.json()), (200, whole.clone()));
    assert_eq!(face.get(&path).await.json(), whole);
    let script =
        |argument: Value| json!({ "scripts": { "enableServer": { "file": "x", "arguments": [argument] } } });
    for (body, expected) in [
        (json!({ "backupEnabled": true }), "backupEnabled"),
        (json!({ "sharedCache": true }), "sharedCache"),
        (json!({ "dataCatalogSynchronizeEnabled": true }), "dataCatalogSynchronizeEnabled"),
        (json!({ "queueDeploymentsEnabled": 1 }), "queueDeploymentsEnabled"),
        (json!({ "approvalsRequired": 2 }), "approvalsRequired"),
        (json!({ "scripts": { "enableServer": { "file": "../x" } } }), "scripts.enableServer.file"),
        (json!({ "scripts": { "enableServer": {} } }), "scripts.enableServer.file"),
        (json!({ "scripts": { "other": {} } }), "scripts.other"),
        (script(json!({})), "scripts.enableServer.arguments.0.literal"),
        (script(json!({ "literal": null })), "scripts.enableServer.arguments.0.literal"),
        (script(json!({ "literal": "a", "variable": "b" })), "scripts.enableServer.arguments.0.variable"),
        (script(json!("a")), "scripts.enableServer.arguments.0"),
    ] {
        let answer = face.send("PUT", &path, &body).await;
        assert_eq!((answer.status, problems(&answer)), (400, vec![expected.to_owned()]), "{body}");
    }
    assert_eq!(face.get(&path).await.json(), whole, "nothing was changed");
    let accepted = json!({ "sharedCache": false, "dataCatalogSynchronizeEnabled": false });
    assert_eq!(face.send("PUT", &path, &accepted).await.body, initial);
}

#[tokio::test]
async fn variables_are_replaced() {
    let face = Face::new().await;
    let server = face.server().await;
    for path in [
        format!("/clusters/{}/loadBalancingVariables", server.cluster),
        format!("/servers/{}/loadBalancingVariables", server.id),
    ] {
        assert_eq!(face.get(&path).await.body, "{}");
        let answer = face.send("PUT", &path, &json!({ "pool": "shop", "a b": "" })).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"a b":"","pool":"shop"}"#));
        assert_eq!(face.get(&path).await.body, answer.body);
        let answer = face.send("PUT", &path, &json!({ "a": 1, "b": null, "c": "x" })).await;
        assert_eq!((answer.status, problems(&answer)), (400, vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(face.send("PUT", &path, &json!({})).await.body, "{}");
    }
    let path = format!("/servers/{}/loadBalancingVariables", server.id);
    let answer = face.send("PUT", &path, &json!({ "host": "h" })).await;
    fails(&answer, 400, "host is predefined for every server, and cannot be set");
}

#[tokio::test]
async fn the_singular_paths_are_the_same() {
    let face = Face::new().await;
    let server = face.server().await;
    face.kit.user("none", &[]).await;
    let unit = face.kit.ou("Research").await;
    face.kit.user_in(unit.id, "elsewhere", &everything()).await;
    let (cluster, server) = (server.cluster.0, server.id.0);
    for (singular, plural) in [
        (format!("/cluster/{cluster}"), format!("/clusters/{cluster}")),
        (format!("/server/{server}"), format!("/servers/{server}")),
        (
            format!("/cluster/{cluster}/loadBalancingVariables"),
            format!("/clusters/{cluster}/loadBalancingVariables"),
        ),
        (
            format!("/server/{server}/loadBalancingVariables"),
            format!("/servers/{server}/loadBalancingVariables"),
        ),
    ] {
        let shown = face.get(&plural).await;
        let alias = face.get(&singular).await;
        assert_eq!((alias.status, &alias.body), (200, &shown.body));
        let changed = face.send("PUT", &singular, &shown.json()).await;
        assert_eq!((changed.status, changed.body), (200, shown.body));
        for method in ["GET", "PUT"] {
            let ask = || Ask::new(method, singular.as_str()).json(&json!({}));
            assert_eq!(ask().send(&face.router).await.status, 401, "{method} {singular}");
            for (name, status) in [("none", 403), ("elsewhere", 404)] {
                let answer = ask().basic(name, PASSWORD).send(&face.router).await;
                assert_eq!(answer.status, status, "{method} {singular} {name}: {}", answer.body);
            }
        }
    }
    for path in [format!("/server/{server}"), format!("/cluster/{cluster}")] {
        assert_eq!(face.as_admin("DELETE", path).send(&face.router).await.status, 204);
    }
    assert_eq!(face.get(format!("/servers/{server}")).await.status, 404);
}

#[tokio::test]
async fn other_units_get_404_on_every_path_with_an_id() {
    use landreeve_testkit::skeleton::Dialect as _;
    let face = Face::new().await;
    let unit = face.kit.ou("Research").await;
    face.kit.user_in(unit.id, "elsewhere", &everything()).await;
    let mut tried = 0;
    for (method, path, _) in landreeve_face_denodo::ROUTES.iter().filter(|(_, path, _)| path.contains("{id}"))
    {
        let answer = face.ask(method, path).await.basic("elsewhere", PASSWORD).send(&face.router).await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.body);
        tried += 1;
    }
    assert!(tried >= 18, "{tried}");
    let list = Ask::get("/environments").basic("elsewhere", PASSWORD).send(&face.router).await;
    assert_eq!((list.status, list.body.as_str()), (200, "[]"));
    // What refers to something there does not find it either.
    for path in ["/clusters", "/servers"] {
        let answer = face.ask("POST", path).await.basic("elsewhere", PASSWORD).send(&face.router).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn the_ping_looks_at_the_store() {
    let face = Face::new().await;
    let answer = Ask::get("/pingSolutionManager").send(&face.router).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "OK"));
    face.kit.estate.store().close().await;
    let answer = Ask::get("/pingSolutionManager").send(&face.router).await;
    assert_eq!((answer.status, &answer.json()["status"]), (503, &json!(503)));
}
