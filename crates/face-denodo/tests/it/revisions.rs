//! Revisions over HTTP: the document's examples, uploads as clients send them, paging, visibility.

use axum::Router;
use landreeve_core::{Action, Permission};
use landreeve_estate::args;
use landreeve_promotion::nouns::{ENVIRONMENT, REVISION, VIRTUAL_NODE};
use landreeve_testkit::{Answer, Ask, Kit, PASSWORD};
use serde_json::{Value, json};

use crate::{face, fails};

/// `CREATE DATABASE d;` and a line break.
pub const SCRIPT: &str = "Q1JFQVRFIERBVEFCQVNFIGQ7Cg==";
const HASH: &str = "d215d03572d37276b0f01615d277085005c375b2e1ee21a56174cf4969db001f";

/// A request with a body that is accepted.
pub fn upload(name: &str) -> Ask {
    Ask::post("/revisions/loadFromVQL").json(&json!({ "name": name, "content": SCRIPT }))
}

/// Uploads a script and returns the id of the revision.
pub async fn uploaded(router: &Router, name: &str) -> i64 {
    let answer = upload(name).basic("admin", PASSWORD).send(router).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["id"].as_i64().unwrap()
}

/// An embedded server whose node has the database `d`.
pub async fn server(kit: &Kit) -> i64 {
    let database = r#"{"version":1,"key":{"database":"d","kind":"database","name":""},"vql":"CREATE DATABASE d","relations":0,"depth":0}"#;
    for sql in [
        "INSERT INTO promotion_environments (id, ou_id, uuid, name, minimum_update_mandatory, configuration, created_at) \
         VALUES (9001, 1, '00000000-0000-0000-0000-000000009001', 'source', 0, '{}', 0) ON CONFLICT DO NOTHING",
        "INSERT INTO promotion_clusters (id, environment_id, name, enabled, position, created_at) \
         VALUES (9001, 9001, 'source', 1, 1, 0) ON CONFLICT DO NOTHING",
        "INSERT INTO virtual_nodes (id, ou_id, name, version, last_version, created_at) \
         VALUES (9001, 1, 'source', 1, 1, 0) ON CONFLICT DO NOTHING",
        "INSERT INTO virtual_versions (node_id, number, content_hash, objects, applied_by, applied_at) \
         VALUES (9001, 1, 'hash', 1, 'admin', 0) ON CONFLICT DO NOTHING",
        "INSERT INTO promotion_servers (id, ou_id, cluster_id, name, type, host, embedded, node_id, node_made, use_kerberos, \
         use_pass_through, enabled, use_default_license_alias, position, created_at) \
         VALUES (9001, 1, 9001, 'source', 'engine', 'embedded', 1, 9001, 1, 0, 0, 1, 1, 1, 0) ON CONFLICT DO NOTHING",
    ] {
        kit.exec(sql, args![]).await;
    }
    let sql = "INSERT INTO virtual_texts (hash, body) VALUES ('hash', $1) ON CONFLICT DO NOTHING";
    kit.exec(sql, args![database]).await;
    let sql = "INSERT INTO virtual_objects (node_id, number, position, hash) VALUES (9001, 1, 0, 'hash') ON CONFLICT DO NOTHING";
    kit.exec(sql, args![]).await;
    9_001
}

/// A valid request, if the route is one of revisions.
pub async fn ask(kit: &Kit, router: &Router, method: &str, path: &str) -> Option<Ask> {
    match (method, path) {
        ("POST", "/revisions/loadFromVQL") => Some(upload("r")),
        ("POST", "/revisions") => {
            let body =
                json!({ "name": "r", "serverId": server(kit).await, "database": "d", "type": "INSERT" });
            Some(Ask::post(path).json(&body))
        }
        ("GET" | "DELETE", _) if path.starts_with("/revisions/{id}") => {
            let id = uploaded(router, "r").await;
            Some(Ask::new(method, path.replace("{id}", &id.to_string())))
        }
        _ => None,
    }
}

async fn get(router: &Router, path: &str, name: &str) -> Answer {
    Ask::get(path).basic(name, PASSWORD).send(router).await
}

/// What the first generation of the dialect does not have.
fn later() -> Value {
    json!({
        "includeI18N": false, "includeServerProperties": false, "includeWebContainerProperties": false,
        "includeJdbcWrapperProperties": true, "includeVdpDependencies": false,
    })
}

fn with(mut body: Value, more: &Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn an_upload_answers_with_the_revision() {
    let (_kit, router) = face().await;
    let body = json!({
        "name": "r42", "description": "optional", "content": SCRIPT, "replace": "DROP_ELEMENTS_BEFORE",
        "properties": "YS5QQVNTV09SRD1zM2NyM3QK",
    });
    let answer = Ask::post("/revisions/loadFromVQL").basic("admin", PASSWORD).json(&body).send(&router).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let id = answer.json()["id"].clone();
    let expected = json!({
        "id": id, "description": "optional", "name": "r42", "type": "VQL", "replace": "DROP_ELEMENTS_BEFORE",
        "creationUser": "admin", "creationTime": "2026-01-15T12:00:00.500+0000",
        "lastModifiedUser": "admin", "lastModifiedTime": "2026-01-15T12:00:00.500+0000",
        "hasVql": true, "hasScheduler": false, "includeJars": false, "includeStatistics": false,
        "useDefaultDatabase": true, "contentHash": HASH,
    });
    let expected = with(expected, &later());
    assert_eq!(answer.json(), expected);
    assert_eq!(answer.header("content-type"), "application/json;charset=UTF-8");
    assert_eq!(get(&router, &format!("/revisions/{id}"), "admin").await.json(), expected);
    let text = get(&router, &format!("/revisions/{id}/vql"), "admin").await;
    assert_eq!((text.status, text.body.as_str()), (200, "CREATE DATABASE d;\n"));
    assert_eq!(text.header("content-type"), "text/plain; charset=utf-8");

    let least = json!({ "name": "r43", "description": null, "content": SCRIPT });
    let answer =
        Ask::post("/revisions/loadFromVQL").basic("admin", PASSWORD).json(&least).send(&router).await;
    assert_eq!(answer.json()["replace"], "REPLACE_EXISTING");
    assert!(answer.json().get("description").is_none(), "{}", answer.body);
}

/// The example of the document, with the members of later generations and our own.
#[tokio::test]
async fn the_list_is_as_in_the_document() {
    let (kit, router) = face().await;
    for (id, name, description) in
        [(2_i64, "Environment 2", "Second environment"), (3, "Environment 3", "Third environment")]
    {
        kit.exec(
            "INSERT INTO promotion_environments (id, ou_id, uuid, name, description, minimum_update_mandatory, \
             configuration, created_at) VALUES ($1, 1, '', $2, $3, 0, '{}', 0)",
            args![id, name, description],
        )
        .await;
    }
    let flags = r#"{"version":1,"jars":false,"statistics":false,"i18n":false,"server_properties":false,"web_container_properties":false,"jdbc_wrapper_properties":true,"dependencies":false,"default_database":true}"#;
    for (id, name, description, kind, mode, at) in [
        (2_i64, "Revision 2", "Second revision", "DELETE", "drop_before", 1_510_359_334_429_000_i64),
        (3, "Revision 3", "Third revision", "INSERT", "do_not_replace", 1_510_359_334_507_000),
    ] {
        kit.exec(
            "INSERT INTO promotion_revisions (id, ou_id, name, description, type, replace_mode, content_hash, bytes, flags, \
             owner, created_by, created_at, modified_by, modified_at) \
             VALUES ($1, 1, $2, $3, $4, $5, 'hash', 1, $6, 'user:1', 'smadmin', $7, 'smadmin', $7)",
            args![id, name, description, kind, mode, flags, at],
        )
        .await;
    }
    for environment in [3_i64, 2] {
        let sql = "INSERT INTO promotion_revision_environments (revision_id, environment_id, deployed_at) VALUES (3, $1, 0)";
        kit.exec(sql, args![environment]).await;
    }
    let third = json!({
        "id": 3, "description": "Third revision", "name": "Revision 3", "type": "INSERT",
        "replace": "DO_NOT_REPLACE_EXISTING", "creationUser": "smadmin",
        "creationTime": "2017-11-11T00:15:34.507+0000", "lastModifiedUser": "smadmin",
        "lastModifiedTime": "2017-11-11T00:15:34.507+0000", "hasVql": true, "hasScheduler": false,
        "includeJars": false, "includeStatistics": false, "useDefaultDatabase": true,
        "deployedOn": [
            { "id": 2, "name": "Environment 2", "description": "Second environment", "minimumUpdateMandatory": false },
            { "id": 3, "name": "Environment 3", "description": "Third environment", "minimumUpdateMandatory": false }
        ]
    });
    let second = json!({
        "id": 2, "description": "Second revision", "name": "Revision 2", "type": "DELETE",
        "replace": "DROP_ELEMENTS_BEFORE", "creationUser": "smadmin",
        "creationTime": "2017-11-11T00:15:34.429+0000", "lastModifiedUser": "smadmin",
        "lastModifiedTime": "2017-11-11T00:15:34.429+0000", "hasVql": true, "hasScheduler": false,
        "includeJars": false, "includeStatistics": false, "useDefaultDatabase": true
    });
    let more = with(later(), &json!({ "contentHash": "hash" }));
    let expected = json!({
        "start": 0, "count": 10, "numElements": 2, "revisions": [with(third, &more), with(second, &more)]
    });
    assert_eq!(get(&router, "/revisions", "admin").await.json(), expected);
    let order = ["\"id\"", "\"description\"", "\"name\"", "\"type\"", "\"replace\"", "\"creationUser\""];
    let body = get(&router, "/revisions/2", "admin").await.body;
    let at = order.map(|member| body.find(member).unwrap());
    assert!(at.is_sorted(), "{body}");
    fails(
        &Ask::new("DELETE", "/revisions/3").basic("admin", PASSWORD).send(&router).await,
        409,
        "the revision was deployed, so it is kept",
    );
    assert_eq!(Ask::new("DELETE", "/revisions/2").basic("admin", PASSWORD).send(&router).await.status, 204);
    fails(&get(&router, "/revisions/2", "admin").await, 404, "there is no such revision");
}

#[tokio::test]
async fn lists_have_pages() {
    let (kit, router) = face().await;
    for number in 0..12 {
        kit.clock.seconds(1);
        uploaded(&router, &format!("r{number}")).await;
    }
    for (query, start, count, first, length) in [
        ("", 0, 10, Some("r11"), 10),
        ("?start=10", 10, 10, Some("r1"), 2),
        ("?start=2&count=3", 2, 3, Some("r9"), 3),
        ("?count=1000", 0, 1_000, Some("r11"), 12),
        ("?start=12", 12, 10, None, 0),
        ("?start=9223372036854775807", i64::MAX, 10, None, 0),
    ] {
        let body = get(&router, &format!("/revisions{query}"), "admin").await.json();
        let revisions = body["revisions"].as_array().unwrap();
        let shown = revisions.first().map(|revision| revision["name"].as_str().unwrap());
        assert_eq!((shown, revisions.len()), (first, length), "{query}");
        let frame = (&body["start"], &body["count"], &body["numElements"]);
        assert_eq!(frame, (&json!(start), &json!(count), &json!(12)), "{query}");
    }
    let message = "page is not a parameter of this request; start must be between 0 and 9223372036854775807; \
                   count must be between 1 and 1000";
    fails(&get(&router, "/revisions?start=-1&count=1001&page=2", "admin").await, 400, message);
}

#[tokio::test]
async fn base64_is_read_as_clients_send_it() {
    let (_kit, router) = face().await;
    let send = async |body: String| {
        Ask::post("/revisions/loadFromVQL").basic("admin", PASSWORD).body(body).send(&router).await
    };
    let of = |content: &str| json!({ "name": "r", "content": content }).to_string();
    for (content, text) in [
        (SCRIPT, "CREATE DATABASE d;\n"),
        // Without padding, with a byte order mark, with the line breaks of a shell and of MIME.
        ("Q1JFQVRFIERBVEFCQVNFIGQ7Cg", "CREATE DATABASE d;\n"),
        ("77u/Q1JFQVRFIERBVEFCQVNFIGQ7Cg==", "CREATE DATABASE d;\n"),
        ("Q1JFQVRFIERBVE\nFCQVNFIGQ7Cg==\n", "CREATE DATABASE d;\n"),
        ("Q1JFQVRFIERBVE\r\nFCQVNFIGQ7\r\nCg==\r\n", "CREATE DATABASE d;\n"),
        ("Q1JFQVRFIERBVEFCQVNFIGQgJ0dyw7bDn2UnOwo=", "CREATE DATABASE d 'Größe';\n"),
    ] {
        let answer = send(of(content)).await;
        assert_eq!(answer.status, 200, "{content:?}: {}", answer.body);
        let path = format!("/revisions/{}/vql", answer.json()["id"]);
        assert_eq!(get(&router, &path, "admin").await.body, text, "{content:?}");
    }
    for (content, message) in [
        ("CREATE DATABASE d;", "content must be base64"),
        ("Q1JFQVRFIERBVEFCQVNFIGQ7Cg===", "content must be base64"),
        ("Q1JFQVRFIERBVEFCQVNFIGQ7Ch", "content must be base64"),
        ("Q1JF_-", "content must be base64"),
        ("Q1JFQVRFIERBVEFCQVNFIGQgJ0dy9t9lJzsK", "content must be UTF-8, and its byte 22 is not"),
        ("", "content must not be empty"),
        ("77u/", "content must not be empty"),
        ("IAo=", "content must not be empty"),
    ] {
        fails(&send(of(content)).await, 400, message);
    }
    let all = json!({ "content": 7, "replace": "REPLACE", "properties": "YSA9IFx1MTI=", "hasVql": true });
    let message = "name is required; content must be a string, not a number; replace must be one of \
                   DO_NOT_REPLACE_EXISTING, REPLACE_EXISTING, DROP_ELEMENTS_BEFORE; hasVql is not a member of this object; \
                   properties cannot be read: line 1: \\u needs four hexadecimal digits";
    fails(&send(all.to_string()).await, 400, message);
    for body in ["", "[]", "{", "name=r"] {
        assert_eq!(send(body.to_owned()).await.status, 400, "{body}");
    }
}

#[tokio::test]
async fn a_script_can_have_32_mib() {
    const MOST: usize = 32 << 20;
    let (_kit, router) = face().await;
    let body = |name: &str, content: &str| format!("{{\"name\":\"{name}\",\"content\":\"{content}\"}}");
    let send = async |body: String| {
        Ask::post("/revisions/loadFromVQL").basic("admin", PASSWORD).body(body).send(&router).await
    };
    // Three letters each, and two; 76 characters on a line.
    let line = format!("{}\\n", "QUFB".repeat(19));
    let whole = "QUFB".repeat((MOST / 3) % 19);
    let content = format!("{}{whole}QUE=", line.repeat(MOST / 3 / 19));
    let answer = send(body("most", &content)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let text = get(&router, &format!("/revisions/{}/vql", answer.json()["id"]), "admin").await.body;
    assert!(text.len() == MOST && text.bytes().all(|byte| byte == b'A'), "{} bytes", text.len());
    let more = body("more", &content.replace("QUE=", "QUFB"));
    let message = format!("content must have at most 32 MiB, has {} bytes", MOST + 1);
    fails(&send(more).await, 400, &message);
    let answer = send(" ".repeat((44 << 20) + 1)).await;
    assert_eq!((answer.status, &answer.json()["status"]), (413, &json!(413)), "{}", answer.body);
    // Other routes keep their limit.
    let answer = Ask::post("/revisions").basic("admin", PASSWORD).body(" ".repeat((8 << 20) + 1));
    assert_eq!(answer.send(&router).await.status, 413);
}

/// Gives a revision to a user, as if the user had made it.
async fn give(kit: &Kit, revision: i64, user: i64) {
    let sql = "UPDATE promotion_revisions SET owner = $2 WHERE id = $1";
    kit.exec(sql, args![revision, format!("user:{user}")]).await;
}

#[tokio::test]
async fn your_own_revisions_or_all() {
    let (kit, router) = face().await;
    let unit = kit.ou("Research").await;
    let may = |action| [Permission::new(REVISION, action)];
    let ann = kit.user("ann", &may(Action::USE)).await;
    let bob = kit.user("bob", &may(Action::USE)).await;
    kit.user("vic", &may(Action::VIEW)).await;
    kit.user("mia", &may(Action::MANAGE)).await;
    kit.user("nil", &[]).await;
    let former = kit.user("former", &[]).await;
    kit.user_in(unit.id, "uma", &may(Action::MANAGE)).await;
    let [of_ann, of_bob, of_former] = [
        uploaded(&router, "of ann").await,
        uploaded(&router, "of bob").await,
        uploaded(&router, "of former").await,
    ];
    give(&kit, of_ann, ann.id.0).await;
    give(&kit, of_bob, bob.id.0).await;
    give(&kit, of_former, former.id.0).await;
    let answer = upload("of uma").basic("uma", PASSWORD).send(&router).await;
    let of_uma = answer.json()["id"].as_i64().unwrap();

    for (name, seen) in [
        ("ann", vec![of_ann]),
        ("bob", vec![of_bob]),
        ("vic", vec![of_uma, of_former, of_bob, of_ann]),
        ("mia", vec![of_uma, of_former, of_bob, of_ann]),
        ("uma", vec![of_uma]),
    ] {
        let body = get(&router, "/revisions", name).await.json();
        let mut ids: Vec<i64> =
            body["revisions"].as_array().unwrap().iter().map(|one| one["id"].as_i64().unwrap()).collect();
        ids.sort_unstable_by(|one, other| other.cmp(one));
        assert_eq!((ids, &body["numElements"]), (seen.clone(), &json!(seen.len())), "{name}");
        for id in [of_ann, of_bob, of_former, of_uma] {
            let expected = match seen.contains(&id) {
                true => 200,
                false if name == "uma" => 404,
                false => 403,
            };
            for path in [format!("/revisions/{id}"), format!("/revisions/{id}/vql")] {
                assert_eq!(get(&router, &path, name).await.status, expected, "{name} {path}");
            }
        }
    }
    for name in ["nil", "former"] {
        assert_eq!(get(&router, "/revisions", name).await.status, 403, "{name}");
        assert_eq!(get(&router, &format!("/revisions/{of_former}"), name).await.status, 403, "{name}");
    }
    for (name, status) in [("ann", 403), ("vic", 403), ("nil", 403), ("mia", 200)] {
        assert_eq!(upload("x").basic(name, PASSWORD).send(&router).await.status, status, "{name}");
        // A caller without permission does not learn what is wrong with the request.
        let empty = Ask::post("/revisions/loadFromVQL").basic(name, PASSWORD).json(&json!({}));
        assert_eq!(empty.send(&router).await.status, if status == 200 { 400 } else { 403 }, "{name}");
    }
    for (name, id, status) in [
        ("vic", of_ann, 403),
        ("bob", of_ann, 403),
        ("former", of_former, 403),
        ("uma", of_ann, 404),
        ("ann", of_ann, 204),
        ("ann", of_ann, 404),
        ("mia", of_bob, 204),
        ("uma", of_uma, 204),
    ] {
        let delete = Ask::new("DELETE", format!("/revisions/{id}")).basic(name, PASSWORD);
        assert_eq!(delete.send(&router).await.status, status, "{name} {id}");
    }
}

#[tokio::test]
async fn a_revision_is_made_from_what_a_server_has() {
    let (kit, router) = face().await;
    let server = server(&kit).await;
    let send =
        async |body: Value| Ask::post("/revisions").basic("admin", PASSWORD).json(&body).send(&router).await;
    for (kind, mode, script) in [
        (
            "INSERT",
            "REPLACE_EXISTING",
            "ENTER SINGLE USER MODE;\nCREATE OR REPLACE DATABASE d;\nEXIT SINGLE USER MODE;\n",
        ),
        (
            "INSERT",
            "DROP_ELEMENTS_BEFORE",
            "ENTER SINGLE USER MODE;\nDROP DATABASE IF EXISTS d CASCADE;\nCREATE DATABASE d;\nEXIT SINGLE USER MODE;\n",
        ),
        ("DELETE", "DO_NOT_REPLACE_EXISTING", "CONNECT DATABASE d;\nCLOSE;\n"),
    ] {
        let body = json!({ "name": "r", "serverId": server, "database": "d", "type": kind, "replace": mode });
        let answer = send(body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        let made = answer.json();
        let shown = (&made["type"], &made["replace"], &made["useDefaultDatabase"], &made["hasVql"]);
        assert_eq!(shown, (&json!(kind), &json!(mode), &json!(false), &json!(true)));
        let path = format!("/revisions/{}/vql", made["id"]);
        assert_eq!(get(&router, &path, "admin").await.body, script);
    }
    let wrong = json!({
        "name": "r", "serverId": server, "database": "d", "type": "DELETE", "elements": ["a", "b"],
    });
    let message = "elements.0 is not an element of the database d: \"a\"; elements.1 is not an element of the database d: \"b\"";
    fails(&send(wrong).await, 400, message);
    let all = [
        Permission::new(REVISION, Action::USE),
        Permission::new(ENVIRONMENT, Action::VIEW),
        Permission::new(VIRTUAL_NODE, Action::VIEW),
    ];
    let body = json!({ "name": "r", "serverId": server, "database": "d", "type": "INSERT" });
    for lacking in 0..=all.len() {
        let held: Vec<Permission> =
            all.iter().enumerate().filter(|(at, _)| *at != lacking).map(|(_, held)| *held).collect();
        let name = format!("lacking-{lacking}");
        kit.user(&name, &held).await;
        let answer = Ask::post("/revisions").basic(&name, PASSWORD).json(&body).send(&router).await;
        assert_eq!(answer.status, if lacking == all.len() { 201 } else { 403 }, "{name}: {}", answer.body);
    }
    // A revision of a user without permission to manage revisions is the user's own.
    let own = get(&router, "/revisions", "lacking-3").await.json();
    assert_eq!((&own["numElements"], &own["revisions"][0]["creationUser"]), (&json!(1), &json!("lacking-3")));
}

#[tokio::test]
async fn faults_of_a_selection_name_their_members() {
    let (_kit, router) = face().await;
    let send =
        async |body: Value| Ask::post("/revisions").basic("admin", PASSWORD).json(&body).send(&router).await;
    let message = "name is required; serverId is required; database is required; type is required";
    fails(&send(json!({})).await, 400, message);
    let wrong = json!({
        "name": "r", "serverId": 0, "database": "", "type": "VQL", "elements": [], "replace": "NO",
    });
    let message = "serverId must be between 1 and 9223372036854775807; type must be one of INSERT, DELETE; replace must be \
                   one of DO_NOT_REPLACE_EXISTING, REPLACE_EXISTING, DROP_ELEMENTS_BEFORE; database must not be empty; \
                   elements must not be empty; leave it out for everything in the database";
    fails(&send(wrong).await, 400, message);
    let unknown = json!({ "name": "r", "serverId": 99_999, "database": "d", "type": "INSERT" });
    fails(&send(unknown).await, 404, "there is no such server");
}
