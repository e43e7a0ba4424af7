//! Nodes and versions on both metadata stores: applying, history, going back, two at once.

use landreeve_core::datasource::DatabaseType;
use landreeve_core::{Action, ErrorKind, Input, Noun, OpCtx, OpKind, Permission, Secret};
use landreeve_estate::ops::datasources::{datasource_create, datasource_delete, datasource_update};
use landreeve_estate::ops::users::{NewUser, user_create};
use landreeve_estate::ops::{DatasourceDetails, GrantTarget, NewGrant, Origin, sign_in};
use landreeve_promotion::DATABASE_TYPE;
use landreeve_promotion::apply::{Options, apply, description};
use landreeve_promotion::nodes::{node_create, node_delete, node_list};
use landreeve_promotion::versions::{history, rollback};
use landreeve_promotion::vql::properties::Properties;
use landreeve_testkit::PASSWORD;

use crate::support::{World, on_both};

on_both! {
    applying_is_all_or_nothing
    versions_are_kept_and_can_be_gone_back_to
    two_at_once_both_apply
    what_is_applied_can_be_read
    passwords_are_sealed_and_kept_while_they_stay
    a_node_that_a_datasource_names_is_not_deleted
    sources_are_looked_up
}

/// Needs no source.
const SCRIPT: &str = "CREATE OR REPLACE DATABASE d 'Test'; CONNECT DATABASE d; \
    CREATE OR REPLACE INTERFACE VIEW i (id:long, name:text); CREATE OR REPLACE VIEW v AS SELECT id FROM i WHERE name = 'x';";

async fn applying_is_all_or_nothing(world: World) -> landreeve_testkit::Kit {
    let dry = world.apply_with(SCRIPT, Options { dry_run: true, strict: false }).await;
    assert!(!dry.failed() && dry.version == 0 && dry.changes.len() == 3, "{dry:?}");
    assert_eq!(world.kit.number("SELECT count(*) FROM virtual_versions").await, 0);
    let first = world.apply(SCRIPT).await;
    assert_eq!((first.from_version, first.version, first.executed()), (0, 1, 4));
    let same = world.apply(SCRIPT).await;
    assert_eq!((same.version, same.changes.len()), (1, 0), "nothing changed");
    let broken = world
        .apply("CONNECT DATABASE d; CREATE VIEW w AS SELECT id FROM v; CREATE VIEW x AS SELECT a FROM y")
        .await;
    assert!(broken.failed() && broken.version == 1);
    let text = description(&world.plane, &world.ctx, "local", Some("d")).await.unwrap();
    assert!(text.contains("VIEW v") && !text.contains("VIEW w"), "{text}");
    let strict = Options { dry_run: false, strict: true };
    let invalid =
        world.apply_with("CONNECT DATABASE d; CREATE OR REPLACE INTERFACE VIEW i (name:text)", strict).await;
    assert!(invalid.failed() && invalid.refused.len() == 1, "{invalid:?}");
    let missing =
        apply(&world.plane, &world.ctx, "local", "SET '${a}' '${b}'".to_owned(), Properties::new(), strict)
            .await;
    let missing = missing.unwrap_err();
    assert!(missing.faults[0].message.contains("missing properties: a, b"), "{missing:?}");
    world.kit
}

async fn versions_are_kept_and_can_be_gone_back_to(world: World) -> landreeve_testkit::Kit {
    world.apply(SCRIPT).await;
    for number in 0..25 {
        let text =
            format!("CONNECT DATABASE d; CREATE OR REPLACE VIEW v AS SELECT id + {number} AS id FROM i");
        assert_eq!(world.apply(&text).await.version, number + 2);
    }
    let versions = history(&world.plane, &world.ctx, "local").await.unwrap();
    assert_eq!(versions.len(), 20);
    assert_eq!(
        (versions[0].number, versions[0].current, versions[0].applied_by.as_str()),
        (26, true, "operator")
    );
    let now = description(&world.plane, &world.ctx, "local", None).await.unwrap();
    let back = rollback(&world.plane, &world.ctx, "local", 10).await.unwrap();
    assert_eq!(back.version, 10);
    let text = description(&world.plane, &world.ctx, "local", None).await.unwrap();
    assert!(text.contains("SELECT id + 8 AS id") && now.contains("SELECT id + 24 AS id"), "{text}");
    assert_eq!(rollback(&world.plane, &world.ctx, "local", 1).await.unwrap_err().kind, ErrorKind::NotFound);
    let next = world.apply("CONNECT DATABASE d; DROP VIEW v").await;
    assert_eq!((next.from_version, next.version), (10, 27), "a new version comes after all others");
    // However often a deployment is undone, what it began with can be gone back to.
    for _ in 0..25 {
        rollback(&world.plane, &world.ctx, "local", 27).await.unwrap();
        world.apply("CONNECT DATABASE d; CREATE OR REPLACE VIEW w AS SELECT id FROM i").await;
    }
    rollback(&world.plane, &world.ctx, "local", 27).await.unwrap();
    let texts = world.kit.number("SELECT count(*) FROM virtual_texts").await;
    let used = world.kit.number("SELECT count(DISTINCT hash) FROM virtual_objects").await;
    assert_eq!(texts, used, "a text is kept once, and no longer than a version has it");
    world.kit
}

async fn two_at_once_both_apply(world: World) -> landreeve_testkit::Kit {
    world.apply(SCRIPT).await;
    let one = world.apply("CONNECT DATABASE d; CREATE OR REPLACE VIEW first AS SELECT id FROM i");
    let two = world.apply("CONNECT DATABASE d; CREATE OR REPLACE VIEW second AS SELECT id FROM i");
    let (one, two) = tokio::join!(one, two);
    let mut numbers = [one.version, two.version];
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3]);
    let text = description(&world.plane, &world.ctx, "local", None).await.unwrap();
    assert!(text.contains("VIEW first") && text.contains("VIEW second"), "{text}");
    world.kit
}

/// Whatever names and values contain, what was applied can be read again, by this process and by the next.
async fn what_is_applied_can_be_read(world: World) -> landreeve_testkit::Kit {
    let long = "d".repeat(1_048_000);
    let script = format!(
        "CREATE DATABASE \"d'b${{x}}\" 'x'; CONNECT DATABASE \"d'b${{x}}\"; \
         CREATE DATASOURCE JDBC \"j}}${{x\" DATABASEURI = 'jdbc:postgresql://127.0.0.1:1/x' USERNAME = 'u'; \
         CREATE VIEW hint AS SELECT 'set ${{DB_PASSWORD}} first' AS hint FROM dual(); \
         CREATE VIEW long DESCRIPTION'{long}'AS SELECT 1 AS a FROM dual();"
    );
    let names = ["x", "DB_PASSWORD"].map(|name| (name.to_owned(), format!("${{{name}}}")));
    let done = world.apply_filled(&script, names.into_iter().collect()).await;
    assert!(!done.failed(), "{:?}", done.statements.iter().map(|done| &done.message).collect::<Vec<_>>());
    let again = world.again();
    let text = description(&again, &world.ctx, "local", None).await.unwrap();
    assert!(text.contains("'set ${DB_PASSWORD} first'") && text.contains(&long), "{} bytes", text.len());
    world.kit
}

/// Declares a source with a password.
fn declared(port: u16, password: &str) -> String {
    format!(
        "CREATE OR REPLACE DATABASE d; CONNECT DATABASE d; CREATE OR REPLACE DATASOURCE JDBC s \
         DATABASEURI = 'jdbc:postgresql://127.0.0.1:{port}/x' USERNAME = 'u' USERPASSWORD = '{password}'"
    )
}

async fn passwords_are_sealed_and_kept_while_they_stay(world: World) -> landreeve_testkit::Kit {
    let done = world.apply(&declared(5_432, "generated-secret")).await;
    assert!(!done.failed(), "{done:?}");
    let text = format!("{done:?}{}", description(&world.plane, &world.ctx, "local", None).await.unwrap());
    assert!(!text.contains("generated-secret"), "{text}");
    let rows = world.kit.rows("SELECT config FROM virtual_datasources").await;
    assert!(rows.len() == 1 && !rows[0][0].contains("generated-secret"), "{rows:?}");
    assert_eq!(world.apply(&declared(5_432, "generated-secret")).await.version, 1, "nothing changed");
    assert_eq!(world.apply(&declared(5_432, "another-secret")).await.version, 2);
    assert_eq!(world.apply(&declared(5_433, "another-secret")).await.version, 3);
    assert_eq!(
        world.kit.number("SELECT count(*) FROM virtual_datasources WHERE password_sealed IS NOT NULL").await,
        3
    );
    world.kit
}

fn virtual_source(name: &str, host: Option<&str>) -> DatasourceDetails {
    DatasourceDetails {
        name: name.to_owned(),
        database_type: DatabaseType::Catalog(DATABASE_TYPE),
        host: host.map(str::to_owned),
        database: Some("d".to_owned()),
        ..DatasourceDetails::default()
    }
}

async fn a_node_that_a_datasource_names_is_not_deleted(world: World) -> landreeve_testkit::Kit {
    let (plane, ctx, estate) = (&world.plane, &world.ctx, &world.kit.estate);
    node_create(plane, ctx, "staging").await.unwrap();
    let twice = node_create(plane, ctx, "staging").await.unwrap_err();
    assert_eq!(twice.kind, ErrorKind::Conflict, "{twice:?}");
    for wrong in ["", "Local", "a b", "local"] {
        node_create(plane, ctx, wrong).await.unwrap_err();
    }
    let listed: Vec<String> =
        node_list(plane, ctx, None).await.unwrap().items.into_iter().map(|node| node.name).collect();
    assert_eq!(listed, ["staging"]);
    let named =
        datasource_create(estate, ctx, virtual_source("v", Some("staging")), Vec::new()).await.unwrap();
    assert_eq!(node_delete(plane, ctx, "staging").await.unwrap_err().kind, ErrorKind::Conflict);
    datasource_delete(estate, ctx, named.id).await.unwrap();
    node_delete(plane, ctx, "staging").await.unwrap();
    assert_eq!(node_delete(plane, ctx, "staging").await.unwrap_err().kind, ErrorKind::NotFound);
    let without = DatasourceDetails { database: None, ..virtual_source("v", None) };
    datasource_create(estate, ctx, without, Vec::new()).await.unwrap_err();
    world.kit
}

async fn sources_are_looked_up(world: World) -> landreeve_testkit::Kit {
    let (estate, ctx): (_, &OpCtx) = (&world.kit.estate, &world.ctx);
    let source = |uri: &str, more: &str| {
        format!(
            "CREATE OR REPLACE DATABASE d; CONNECT DATABASE d; CREATE OR REPLACE DATASOURCE JDBC s DATABASEURI = '{uri}' {more}"
        )
    };
    let postgres = |name: &str| DatasourceDetails {
        name: name.to_owned(),
        host: Some("127.0.0.1".to_owned()),
        ..DatasourceDetails::default()
    };
    let one = datasource_create(estate, ctx, postgres("Shop"), Vec::new()).await.unwrap();
    datasource_create(estate, ctx, postgres("Twice"), Vec::new()).await.unwrap();
    datasource_create(estate, ctx, postgres("Twice"), Vec::new()).await.unwrap();
    datasource_create(estate, ctx, virtual_source("Virtual", None), Vec::new()).await.unwrap();
    for (uri, more, message) in [
        ("jdbc:landreeve:None", "", "there is no datasource"),
        ("jdbc:landreeve:Twice", "", "2 datasources are named"),
        ("jdbc:landreeve:Virtual", "", "answered by this server's engine"),
        ("jdbc:landreeve:Shop", "USERNAME = 'u'", "has its own credentials"),
        ("jdbc:sqlite:/etc/passwd2", "", "is not a file below a folder"),
        ("jdbc:mysql://h/d?allowLoadLocalInfile=true", "", "allowLoadLocalInfile"),
    ] {
        let done = world.apply(&source(uri, more)).await;
        assert!(done.failed() && done.statements[2].message.contains(message), "{uri}: {done:?}");
    }
    let id = estate.hash_ids().encode_grouped(one.id);
    for uri in
        ["jdbc:landreeve:Shop", &format!("jdbc:landreeve:{id}"), "jdbc:postgresql://no-such-host.invalid/d"]
    {
        let done = world.apply(&source(uri, "")).await;
        assert!(!done.failed(), "{uri}: {done:?}");
    }
    world.kit
}

/// A virtual database needs no credentials, so a caller who manages one datasource could read what others have.
#[tokio::test]
async fn who_manages_one_datasource_cannot_point_it_to_another_database() {
    let world = World::sqlite().await;
    let estate = world.kit.estate.clone();
    world.apply("CREATE DATABASE a; CREATE DATABASE b;").await;
    let details = |database: &str| DatasourceDetails {
        name: database.to_owned(),
        database_type: DatabaseType::Catalog(DATABASE_TYPE),
        database: Some(database.to_owned()),
        ..DatasourceDetails::default()
    };
    let source = datasource_create(&estate, &world.ctx, details("a"), Vec::new()).await.unwrap();
    let manage = Permission::new(Noun::DATASOURCE, Action::MANAGE);
    let new = NewUser {
        name: "ann".to_owned(),
        email: "ann@example.com".to_owned(),
        full_name: "Ann".to_owned(),
        password: Some(Secret::new(PASSWORD)),
        grants: vec![NewGrant::Permission(manage, GrantTarget::Resource(source.id.0))],
    };
    user_create(&estate, &world.ctx, new).await.unwrap();
    let origin = Origin { request_id: estate.uuid(), address: None, kind: OpKind::CommandLine };
    let limited = sign_in::by_password(&estate, "ann", Secret::new(PASSWORD), None, origin).await.unwrap();
    let changed = async |ctx: &OpCtx, to: DatasourceDetails| {
        let change = Input::of(move |details: &mut DatasourceDetails| *details = to);
        datasource_update(&estate, ctx, source.id, change, None).await
    };
    let renamed = DatasourceDetails { name: "renamed".to_owned(), ..details("a") };
    assert_eq!(changed(&limited, renamed).await.unwrap().details.name, "renamed");
    let elsewhere = DatasourceDetails { host: Some("other".to_owned()), ..details("a") };
    for to in [details("b"), elsewhere] {
        assert_eq!(changed(&limited, to.clone()).await.unwrap_err().kind, ErrorKind::Forbidden);
        assert!(changed(&world.ctx, to).await.is_ok());
        assert!(changed(&world.ctx, details("a")).await.is_ok());
    }
}
