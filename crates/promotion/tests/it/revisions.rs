//! Revisions on both metadata stores: uploaded, made from a server, listed, deleted.

use landreeve_core::{Error, ErrorKind, Input, Page};
use landreeve_estate::args;
use landreeve_estate::ops::secrets::rotate;
use landreeve_estate::secrets::SealKey;
use landreeve_promotion::apply::{Applied, Options, apply};
use landreeve_promotion::ids::RevisionId;
use landreeve_promotion::nodes::node_create;
use landreeve_promotion::revisions::{
    FromServer, MAX_ELEMENTS, MAX_REVISIONS, NewRevision, ReplaceMode, Revision, RevisionType, ServerRef,
    deployed_on, revision_delete, revision_from_server, revision_get, revision_list, revision_text,
    revision_upload,
};
use landreeve_promotion::vql::properties::Properties;
use landreeve_testkit::Kit;

use crate::support::{World, on_both};

on_both! {
    a_script_is_kept_as_it_is_and_encrypted
    every_fault_of_an_upload_is_reported
    the_list_has_pages_and_the_newest_first
    a_database_comes_to_another_node_as_it_is
    elements_come_with_what_they_need
    elements_are_dropped_from_the_top_down
    every_fault_of_a_selection_is_reported
    only_what_a_server_has_can_be_chosen
    a_deployed_revision_is_kept
    a_unit_has_a_limited_number
}

fn upload(name: &str, vql: impl Into<Vec<u8>>) -> NewRevision {
    NewRevision {
        name: name.to_owned(),
        description: None,
        vql: vql.into(),
        replace: ReplaceMode::Replace,
        properties: None,
    }
}

fn selection(kind: RevisionType, replace: ReplaceMode) -> FromServer {
    FromServer {
        name: "r".to_owned(),
        description: None,
        server: ServerRef::Named("dev-1".to_owned()),
        database: "d".to_owned(),
        kind,
        elements: None,
        replace,
    }
}

impl World {
    async fn uploaded(&self, new: NewRevision) -> Revision {
        revision_upload(&self.plane, &self.ctx, Input::of(new)).await.unwrap()
    }

    async fn made(&self, from: FromServer) -> (Revision, String) {
        let made = revision_from_server(&self.plane, &self.ctx, Input::of(from)).await.unwrap();
        revision_text(&self.plane, &self.ctx, made.id).await.unwrap()
    }

    async fn refused(&self, from: FromServer) -> Error {
        revision_from_server(&self.plane, &self.ctx, Input::of(from)).await.unwrap_err()
    }

    /// An environment with the embedded server `dev-1`, whose node is `dev`, and others: `remote-1`, `jobs-1`.
    async fn with_servers(&self) {
        node_create(&self.plane, &self.ctx, "dev").await.unwrap();
        self.kit
            .exec(
                "INSERT INTO promotion_environments (id, ou_id, uuid, name, minimum_update_mandatory, configuration, created_at) \
                 VALUES (1, 1, '00000000-0000-0000-0000-000000000001', 'development', 0, '{}', 0)",
                args![],
            )
            .await;
        self.kit
            .exec(
                "INSERT INTO promotion_clusters (id, environment_id, name, enabled, position, created_at) \
                 VALUES (1, 1, 'cluster', 1, 1, 0)",
                args![],
            )
            .await;
        let node = self.kit.number("SELECT id FROM virtual_nodes WHERE name = 'dev'").await;
        for (id, name, kind, node) in [
            (1_i64, "dev-1", "engine", Some(node)),
            (2, "remote-1", "engine", None),
            (3, "jobs-1", "scheduler", None),
        ] {
            self.kit
                .exec(
                    "INSERT INTO promotion_servers (id, ou_id, cluster_id, name, type, host, port, embedded, node_id, node_made, \
                     use_kerberos, use_pass_through, enabled, use_default_license_alias, position, created_at) \
                     VALUES ($1, 1, 1, $2, $3, 'host', $1, $4, $5, 0, 0, 0, 1, 1, $1, 0)",
                    args![id, name, kind, node.is_some(), node],
                )
                .await;
        }
    }

    /// Applies a script, which must succeed, to a node.
    async fn applied(&self, node: &str, text: &str, properties: &Properties) -> Applied {
        let (text, properties) = (text.to_owned(), properties.clone());
        let done = apply(&self.plane, &self.ctx, node, text, properties, Options::default()).await.unwrap();
        let failed = done.statements.iter().filter(|done| !done.message.is_empty());
        assert!(!done.failed(), "{:?}", failed.map(|done| &done.message).collect::<Vec<_>>());
        done
    }

    /// What is stored of a text, as bytes.
    async fn stored(&self, column: &str, id: RevisionId) -> Option<Vec<u8>> {
        let sql = match column {
            "vql" => "SELECT vql_sealed FROM promotion_revision_texts WHERE revision_id = $1",
            _ => "SELECT properties_sealed FROM promotion_revision_texts WHERE revision_id = $1",
        };
        let mut conn = self.kit.estate.store().read().await.unwrap();
        conn.one(sql, args![id]).await.unwrap().bytes_opt(0).unwrap()
    }
}

fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

async fn a_script_is_kept_as_it_is_and_encrypted(world: World) -> Kit {
    // Line breaks, blanks and a character in the middle of a line stay.
    let text = "# Größe\r\nCREATE USER x 'findable-secret';\n\t\u{feff} broken 'literal \0\n\n";
    let marked = format!("\u{feff}{text}");
    let properties = b"users.x.PASSWORD = findable-value\nb =\n".to_vec();
    let new = NewRevision { properties: Some(properties), ..upload("Revision 1", marked) };
    let made = world.uploaded(new).await;
    let (read, script) = revision_text(&world.plane, &world.ctx, made.id).await.unwrap();
    assert_eq!((&read, script.as_str()), (&made, text));
    assert_eq!(
        (made.bytes, made.kind, made.owner.as_str()),
        (text.len() as i64, RevisionType::Vql, "operator")
    );
    assert_eq!((made.created_by.as_str(), made.row_version), ("operator", 1));
    let plain = world.uploaded(upload("Revision 1", text)).await;
    assert_eq!(plain.content_hash, made.content_hash, "a byte order mark is not part of the script");
    assert_eq!(world.stored("properties", plain.id).await, None);

    let script = world.stored("vql", made.id).await.unwrap();
    let values = world.stored("properties", made.id).await.unwrap();
    assert!(!contains(&script, "findable") && !contains(&values, "findable"));
    let open = |bytes: Vec<u8>| {
        let context = format!("promotion_revision_properties:{}", made.id);
        let plain = world.plane.estate().unseal(&context, &bytes).unwrap();
        String::from_utf8(plain.to_vec()).unwrap()
    };
    let expected = r#"{"version":1,"values":{"b":"","users.x.PASSWORD":"findable-value"}}"#;
    assert_eq!(open(values), expected);
    // Empty on PostgreSQL.
    let files = ["estate.db", "estate.db-wal"].map(|name| world.kit.path("data").join(name));
    let bytes: Vec<u8> = files.iter().flat_map(|file| std::fs::read(file).unwrap_or_default()).collect();
    assert!(bytes.is_empty() || contains(&bytes, "Revision 1"), "{files:?} are not what was written");
    assert!(!contains(&bytes, "findable"));

    let key = SealKey::generate(&**world.kit.estate.random());
    rotate(&world.kit.estate, &world.ctx, key).await.unwrap();
    let (_, script) = revision_text(&world.plane, &world.ctx, made.id).await.unwrap();
    assert_eq!(script, text);
    assert_eq!(open(world.stored("properties", made.id).await.unwrap()), expected);
    world.kit
}

async fn every_fault_of_an_upload_is_reported(world: World) -> Kit {
    for (new, expected) in [
        (upload("", ""), vec![("name", "must not be empty"), ("vql", "must not be empty")]),
        (upload("x", "\u{feff} \r\n"), vec![("vql", "must not be empty")]),
        (upload("x", b"AB\xff".to_vec()), vec![("vql", "must be UTF-8, and its byte 3 is not")]),
        (upload(&"ä".repeat(256), "A"), vec![("name", "must have at most 255 characters, has 256")]),
        (upload("a\0", "A"), vec![("name", "must not contain the character U+0000")]),
        (upload("a\nprod-1: OK\u{1b}[1m", "A"), vec![("name", "must not contain control characters")]),
        (
            NewRevision {
                description: Some("x".repeat(4_001)),
                properties: Some(b"a = \\u12".to_vec()),
                ..upload("x", "A")
            },
            vec![
                ("description", "must have at most 4000 characters, has 4001"),
                ("properties", "cannot be read: line 1: \\u needs four hexadecimal digits"),
            ],
        ),
    ] {
        let error = revision_upload(&world.plane, &world.ctx, Input::of(new)).await.unwrap_err();
        let found: Vec<_> =
            error.faults.iter().map(|fault| (fault.field.as_str(), fault.message.as_str())).collect();
        assert_eq!(found, expected);
    }
    assert_eq!(world.kit.number("SELECT count(*) FROM promotion_revisions").await, 0);
    let longest = NewRevision { description: Some("ä".repeat(4_000)), ..upload(&"ä".repeat(255), "A") };
    world.uploaded(longest).await;
    world.kit
}

async fn the_list_has_pages_and_the_newest_first(world: World) -> Kit {
    for number in 0..12 {
        // Two at a time are made at the same moment.
        if number % 2 == 0 {
            world.kit.clock.seconds(1);
        }
        world.uploaded(upload(&format!("r{number}"), "A")).await;
    }
    let list = async |offset, limit| {
        let page = revision_list(&world.plane, &world.ctx, Page { offset, limit }).await.unwrap();
        assert_eq!((page.offset, page.limit, page.total), (offset, limit, 12));
        page.items.into_iter().map(|revision| revision.name).collect::<Vec<_>>()
    };
    assert_eq!(list(0, 5).await, ["r11", "r10", "r9", "r8", "r7"]);
    assert_eq!(list(5, 5).await, ["r6", "r5", "r4", "r3", "r2"]);
    assert_eq!(list(10, 5).await, ["r1", "r0"]);
    assert_eq!(list(12, 1_000).await, [""; 0]);
    assert_eq!(list(u64::MAX, 1).await, [""; 0]);
    world.kit
}

/// A database with everything that is executed, and something that is not.
const SCRIPT: &str = "CREATE OR REPLACE DATABASE d 'Test'; CONNECT DATABASE d; \
    CREATE OR REPLACE FOLDER '/f'; CREATE OR REPLACE FOLDER '/f/g'; \
    CREATE OR REPLACE DATASOURCE JDBC s FOLDER = '/f' DATABASEURI = 'jdbc:postgresql://no-such-host.invalid/dev' \
      USERNAME = 'reader' USERPASSWORD = 'findable-secret'; \
    CREATE OR REPLACE WRAPPER JDBC w FOLDER = '/f' DATASOURCENAME = s CATALOGNAME = 'c' SCHEMANAME = 'public' \
      RELATIONNAME = 'orders' OUTPUTSCHEMA (id = 'ID' : 'java.lang.Long', total = 'TOTAL' : 'java.lang.Double'); \
    CREATE OR REPLACE TABLE orders I18N us_pst (id:long, total:double) FOLDER = '/f/g' \
      ADD SEARCHMETHOD w (I18N us_pst OUTPUTLIST (id, total) WRAPPER (jdbc w)); \
    CREATE OR REPLACE VIEW big FOLDER = '/f/g' AS SELECT id FROM orders WHERE total > 1000; \
    CREATE OR REPLACE VIEW ids AS SELECT id FROM big; \
    CREATE OR REPLACE INTERFACE VIEW other (id:long);";

/// The values of its properties, but for the password.
const VALUES: [(&str, &str); 4] = [
    ("databases.d.datasources.jdbc.s.DATABASEURI", "jdbc:postgresql://no-such-host.invalid/dev"),
    ("databases.d.datasources.jdbc.s.USERNAME", "reader"),
    ("databases.d.views.jdbc.w.CATALOGNAME", "c"),
    ("databases.d.views.jdbc.w.SCHEMANAME", "public"),
];

/// The values of its properties elsewhere.
fn properties() -> Properties {
    let password = ("databases.d.datasources.jdbc.s.USERPASSWORD", "another-secret");
    let encrypted = ("databases.d.datasources.jdbc.s.USERPASSWORD.ENCRYPTED", "");
    let all = VALUES.into_iter().chain([password, encrypted]);
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

async fn a_database_comes_to_another_node_as_it_is(world: World) -> Kit {
    world.with_servers().await;
    let first = world.applied("dev", SCRIPT, &Properties::new()).await;
    for (node, replace) in [
        ("keep", ReplaceMode::DoNotReplace),
        ("replace", ReplaceMode::Replace),
        ("drop", ReplaceMode::DropBefore),
    ] {
        node_create(&world.plane, &world.ctx, node).await.unwrap();
        let (made, text) = world.made(selection(RevisionType::Insert, replace)).await;
        assert_eq!((made.kind, made.replace), (RevisionType::Insert, replace));
        assert!(!made.flags.default_database && made.flags.jdbc_wrapper_properties);
        assert!(!text.contains("no-such-host") && !text.contains("findable"), "{text}");
        assert_eq!(text.contains("CREATE OR REPLACE"), replace == ReplaceMode::Replace, "{text}");
        assert_eq!(text.contains("DROP DATABASE IF EXISTS d"), replace == ReplaceMode::DropBefore, "{text}");
        let done = world.applied(node, &text, &properties()).await;
        assert_eq!(done.content_hash, first.content_hash, "{node}\n{text}");
        if replace != ReplaceMode::DoNotReplace {
            let again = world.applied(node, &text, &properties()).await;
            assert_eq!(again.content_hash, first.content_hash, "{node}");
        }
        let sealed = world.stored("properties", made.id).await.unwrap();
        let context = format!("promotion_revision_properties:{}", made.id);
        let values = world.plane.estate().unseal(&context, &sealed).unwrap();
        let values: serde_json::Value = serde_json::from_slice(&values).unwrap();
        let values = values["values"].as_object().unwrap();
        let found: Vec<_> =
            values.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
        assert_eq!(found, VALUES, "every property but the password has its value");
    }
    world.kit
}

async fn elements_come_with_what_they_need(world: World) -> Kit {
    world.with_servers().await;
    world.applied("dev", SCRIPT, &Properties::new()).await;
    let chosen = |replace| FromServer {
        elements: Some(vec!["orders".to_owned(), "s".to_owned(), "orders".to_owned()]),
        ..selection(RevisionType::Insert, replace)
    };
    for (replace, expected) in [
        (
            ReplaceMode::Replace,
            vec![
                "CONNECT DATABASE d",
                "CREATE OR REPLACE FOLDER '/f'",
                "CREATE OR REPLACE FOLDER '/f/g'",
                "CREATE OR REPLACE DATASOURCE JDBC s",
                "CREATE OR REPLACE WRAPPER JDBC w",
                "CREATE OR REPLACE TABLE orders I18N us_pst (",
                "CLOSE",
            ],
        ),
        (
            ReplaceMode::DoNotReplace,
            vec![
                "CONNECT DATABASE d",
                "CREATE DATASOURCE JDBC s",
                "CREATE WRAPPER JDBC w",
                "CREATE TABLE orders I18N us_pst (",
                "CLOSE",
            ],
        ),
        (
            ReplaceMode::DropBefore,
            vec![
                "CONNECT DATABASE d",
                "CREATE OR REPLACE FOLDER '/f'",
                "CREATE OR REPLACE FOLDER '/f/g'",
                "DROP DATASOURCE JDBC IF EXISTS s CASCADE",
                "CREATE OR REPLACE DATASOURCE JDBC s",
                "DROP WRAPPER JDBC IF EXISTS w CASCADE",
                "CREATE OR REPLACE WRAPPER JDBC w",
                "DROP VIEW IF EXISTS orders CASCADE",
                "CREATE OR REPLACE TABLE orders I18N us_pst (",
                "CLOSE",
            ],
        ),
    ] {
        let (_, text) = world.made(chosen(replace)).await;
        let words = ["CONNECT", "CREATE", "DROP", "CLOSE"];
        let starts = text.lines().filter(|line| words.iter().any(|word| line.starts_with(word)));
        let starts: Vec<&str> = starts.map(|line| line.trim_end_matches(';')).collect();
        assert_eq!(starts, expected, "{text}");
    }
    // On a node with the database, that is all that is needed.
    node_create(&world.plane, &world.ctx, "test").await.unwrap();
    world.applied("test", "CREATE DATABASE d", &Properties::new()).await;
    let (_, text) = world.made(chosen(ReplaceMode::Replace)).await;
    world.applied("test", &text, &properties()).await;
    world.kit
}

async fn elements_are_dropped_from_the_top_down(world: World) -> Kit {
    world.with_servers().await;
    let empty = world.applied("dev", "CREATE DATABASE d 'Test'", &Properties::new()).await;
    world.applied("dev", SCRIPT, &Properties::new()).await;
    let (made, text) = world.made(selection(RevisionType::Delete, ReplaceMode::DropBefore)).await;
    let expected = "CONNECT DATABASE d;\n\
         DROP VIEW IF EXISTS ids CASCADE;\n\
         DROP VIEW IF EXISTS big CASCADE;\n\
         DROP VIEW IF EXISTS other CASCADE;\n\
         DROP VIEW IF EXISTS orders CASCADE;\n\
         DROP WRAPPER JDBC IF EXISTS w CASCADE;\n\
         DROP DATASOURCE JDBC IF EXISTS s CASCADE;\n\
         DROP FOLDER IF EXISTS '/f/g' CASCADE;\n\
         DROP FOLDER IF EXISTS '/f' CASCADE;\n\
         CLOSE;\n";
    assert_eq!((text.as_str(), made.kind), (expected, RevisionType::Delete));
    assert_eq!(world.stored("properties", made.id).await, None);
    let elements = Some(vec!["/f/g".to_owned(), "ids".to_owned()]);
    let some = FromServer { elements, ..selection(RevisionType::Delete, ReplaceMode::Replace) };
    let (_, some) = world.made(some).await;
    let expected = "CONNECT DATABASE d;\nDROP VIEW IF EXISTS ids CASCADE;\nDROP FOLDER IF EXISTS '/f/g' CASCADE;\nCLOSE;\n";
    assert_eq!(some, expected);
    let done = world.applied("dev", &text, &Properties::new()).await;
    assert_eq!(done.content_hash, empty.content_hash);
    // What is gone may be gone.
    world.applied("dev", &text, &Properties::new()).await;
    world.kit
}

async fn every_fault_of_a_selection_is_reported(world: World) -> Kit {
    world.with_servers().await;
    world.applied("dev", SCRIPT, &Properties::new()).await;
    let insert = || selection(RevisionType::Insert, ReplaceMode::Replace);
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    for (from, expected) in [
        (
            FromServer {
                name: String::new(),
                database: String::new(),
                kind: RevisionType::Vql,
                elements: Some(Vec::new()),
                ..insert()
            },
            vec!["name", "database", "kind", "elements"],
        ),
        (
            FromServer { elements: Some(vec!["orders".to_owned(); MAX_ELEMENTS + 1]), ..insert() },
            vec!["elements"],
        ),
        (FromServer { database: "none".to_owned(), ..insert() }, vec!["database"]),
        (
            FromServer { elements: names(&["orders", "ORDERS", "none", "/f"]), ..insert() },
            vec!["elements.1", "elements.2"],
        ),
    ] {
        let error = world.refused(from).await;
        let fields: Vec<_> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, expected, "{error:?}");
    }
    let most = FromServer { elements: Some(vec!["orders".to_owned(); MAX_ELEMENTS]), ..insert() };
    world.made(most).await;
    world.kit
}

async fn only_what_a_server_has_can_be_chosen(world: World) -> Kit {
    world.with_servers().await;
    for (server, kind, message) in [
        ("none", ErrorKind::NotFound, "server"),
        (
            "remote-1",
            ErrorKind::Conflict,
            "the server remote-1 is on another machine and has no user name and password",
        ),
        ("jobs-1", ErrorKind::Conflict, "the server jobs-1 has no virtual databases"),
    ] {
        let server = ServerRef::Named(server.to_owned());
        let error = world
            .refused(FromServer { server, ..selection(RevisionType::Insert, ReplaceMode::Replace) })
            .await;
        assert!(error.kind == kind && error.message.contains(message), "{error:?}");
    }
    world.kit
}

async fn a_deployed_revision_is_kept(world: World) -> Kit {
    world.with_servers().await;
    let (plane, ctx) = (&world.plane, &world.ctx);
    let [free, deployed, deploying, ended] = [
        world.uploaded(upload("free", "A")).await.id,
        world.uploaded(upload("deployed", "A")).await.id,
        world.uploaded(upload("deploying", "A")).await.id,
        world.uploaded(upload("ended", "A")).await.id,
    ];
    let sql = "INSERT INTO promotion_revision_environments (revision_id, environment_id, deployed_at) VALUES ($1, 1, 0)";
    world.kit.exec(sql, args![deployed]).await;
    for (id, state, revision) in [(1_i64, "in_progress", deploying), (2, "error", ended)] {
        world
            .kit
            .exec(
                "INSERT INTO promotion_deployments (id, ou_id, environment_id, environment_name, scenario, description, \
                 owner, user_name, state, message, created_at) \
                 VALUES ($1, 1, 1, 'development', 'production', '', 'operator', 'operator', $2, '', 0)",
                args![id, state],
            )
            .await;
        world
            .kit
            .exec(
                "INSERT INTO promotion_deployment_revisions (deployment_id, position, revision_id, name) VALUES ($1, 0, $2, 'r')",
                args![id, revision],
            )
            .await;
    }
    let on = deployed_on(plane, ctx, &[free, deployed]).await.unwrap();
    assert_eq!(on.len(), 1);
    assert_eq!((on[&deployed].len(), on[&deployed][0].name.as_str()), (1, "development"));
    assert!(deployed_on(plane, ctx, &[]).await.unwrap().is_empty());
    for (id, code) in [(deployed, "deployed"), (deploying, "deploying")] {
        let error = revision_delete(plane, ctx, id).await.unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::Conflict, code), "{error:?}");
        revision_get(plane, ctx, id).await.unwrap();
    }
    for id in [free, ended] {
        revision_delete(plane, ctx, id).await.unwrap();
        let again = revision_delete(plane, ctx, id).await.unwrap_err();
        assert_eq!(again.kind, ErrorKind::NotFound, "{again:?}");
        revision_text(plane, ctx, id).await.unwrap_err();
    }
    assert_eq!(world.kit.number("SELECT count(*) FROM promotion_revision_texts").await, 2);
    world.kit
}

async fn a_unit_has_a_limited_number(world: World) -> Kit {
    world.uploaded(upload("first", "A")).await;
    world
        .kit
        .exec(
            "WITH RECURSIVE n (i) AS (SELECT 1000000 UNION ALL SELECT i + 1 FROM n WHERE i < 1099998) \
             INSERT INTO promotion_revisions (id, ou_id, name, type, replace_mode, content_hash, bytes, flags, owner, \
             created_by, created_at, modified_by, modified_at) \
             SELECT n.i, r.ou_id, r.name, r.type, r.replace_mode, r.content_hash, r.bytes, r.flags, r.owner, r.created_by, \
             r.created_at, r.modified_by, r.modified_at FROM n JOIN promotion_revisions r ON r.name = 'first'",
            args![],
        )
        .await;
    assert_eq!(world.kit.number("SELECT count(*) FROM promotion_revisions").await, MAX_REVISIONS);
    let full = revision_upload(&world.plane, &world.ctx, Input::of(upload("last", "A"))).await.unwrap_err();
    assert_eq!((full.kind, full.code), (ErrorKind::Conflict, "limit"), "{full:?}");
    world.kit.exec("DELETE FROM promotion_revisions WHERE id = 1000000", args![]).await;
    world.uploaded(upload("last", "A")).await;
    world.kit
}
