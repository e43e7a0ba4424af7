//! What a plane registers: names, roles, sealed columns, purge hooks.

use landreeve_core::{Action, Category, Noun, Permission, RunKind, RunState};
use landreeve_estate::ops::runs::submit;
use landreeve_estate::ops::secrets::rotate;
use landreeve_estate::ops::sign_in::operator;
use landreeve_estate::ops::users::role_list;
use landreeve_estate::plane::{NounSpec, Plane, RolePermissions, RoleSpec};
use landreeve_estate::random::SeededRandom;
use landreeve_estate::runs::{KindSpec, NewRun};
use landreeve_estate::secrets::SealKey;
use landreeve_estate::store::MigrationSet;
use landreeve_estate::{Estate, EstateOptions, args, sealed_column};
use uuid::Uuid;

use crate::support::{QUERY, Site, exec, number, query, rows};

conformance![
    an_upgraded_store_gets_the_roles_of_a_fresh_one,
    a_role_that_was_changed_by_hand_is_restored,
    a_rotation_reaches_every_registered_column,
    every_sealed_column_is_registered,
    a_plane_deletes_its_rows_with_the_run,
    names_that_no_plane_registers_are_shown_as_text,
    a_sealed_value_is_accepted_only_by_sealed_columns,
];

const ORCHID: Noun = Noun::new("orchid");
const WATER: Action = Action::new("water");
const SQLITE: &str = "CREATE TABLE orchids (name TEXT PRIMARY KEY, run_id BIGINT, pin_sealed BLOB)";
const POSTGRES: &str = "CREATE TABLE orchids (name TEXT PRIMARY KEY, run_id BIGINT, pin_sealed BYTEA)";

fn greenhouse() -> Plane {
    Plane {
        migrations: MigrationSet { component: "greenhouse", sqlite: &[SQLITE], postgres: &[POSTGRES] },
        kinds: vec![QUERY],
        nouns: vec![NounSpec { actions: &[WATER], ..NounSpec::content(ORCHID) }],
        roles: vec![RoleSpec {
            uuid: Uuid::from_u128(0x77),
            id: None,
            name: "Gardener",
            description: "Waters orchids.",
            permissions: RolePermissions::These(vec![Permission::new(ORCHID, WATER)]),
        }],
        sealed: vec![sealed_column!("orchids", "name", "pin_sealed", "orchid")],
        purge: Some(|tx, runs| {
            Box::pin(async move {
                for run in runs {
                    tx.exec("DELETE FROM orchids WHERE run_id = $1", args![*run]).await?;
                }
                Ok(())
            })
        }),
        ..Plane::new("greenhouse")
    }
}

fn with(site: &Site, plane: Plane) -> EstateOptions {
    EstateOptions { planes: vec![plane], ..site.options() }
}

async fn an_upgraded_store_gets_the_roles_of_a_fresh_one(site: &Site) {
    let plain = Estate::open(with(site, Plane::new("greenhouse"))).await.unwrap();
    let before = role_list(&plain, &operator(&plain)).await.unwrap();
    plain.store().close().await;
    let upgraded = Estate::open(with(site, greenhouse())).await.unwrap();
    let after = role_list(&upgraded, &operator(&upgraded)).await.unwrap();
    let held = |roles: &[landreeve_estate::ops::Role], name: &str| {
        roles.iter().find(|role| role.name == name).map(|role| role.permissions.clone())
    };
    for (name, action) in
        [("Viewer", Action::VIEW), ("Analyst", Action::MANAGE), ("Administrator", Action::MANAGE)]
    {
        let permission = Permission::new(ORCHID, action);
        assert!(!held(&before, name).unwrap().contains(&permission), "{name}");
        assert!(held(&after, name).unwrap().contains(&permission), "{name}");
    }
    assert_eq!(held(&after, "Gardener").unwrap(), [Permission::new(ORCHID, WATER)]);
    assert_eq!(
        before.iter().map(|role| role.id).collect::<Vec<_>>(),
        after[..4].iter().map(|role| role.id).collect::<Vec<_>>()
    );
}

async fn a_role_that_was_changed_by_hand_is_restored(site: &Site) {
    let estate = site.open().await;
    let before = role_list(&estate, &operator(&estate)).await.unwrap();
    exec(&estate, "DELETE FROM role_permissions WHERE role_id = 4", args![]).await;
    exec(&estate, "UPDATE roles SET description = 'x' WHERE id = 4", args![]).await;
    estate.store().close().await;
    let again = site.open().await;
    assert_eq!(role_list(&again, &operator(&again)).await.unwrap(), before);
    let epoch = number(&again, "SELECT value FROM epochs").await;
    again.store().close().await;
    let third = site.open().await;
    assert_eq!(
        number(&third, "SELECT value FROM epochs").await,
        epoch,
        "nothing changed, so nothing is invalidated"
    );
}

async fn a_rotation_reaches_every_registered_column(site: &Site) {
    let estate = Estate::open(with(site, greenhouse())).await.unwrap();
    for name in ["it's red", "blue"] {
        let sealed = estate.seal(&format!("orchid:{name}"), name.as_bytes()).unwrap();
        let values = args![name, sealed];
        exec(&estate, "INSERT INTO orchids (name, pin_sealed) VALUES ($1, $2)", values).await;
    }
    exec(&estate, "INSERT INTO orchids (name) VALUES ('bare')", args![]).await;
    let new = SealKey::generate(&SeededRandom::new(8));
    assert_eq!(rotate(&estate, &operator(&estate), new).await.unwrap(), 2);
    for name in ["it's red", "blue"] {
        let found = rows(&estate, "SELECT pin_sealed FROM orchids WHERE name = $1", args![name]).await;
        let plain = estate.unseal(&format!("orchid:{name}"), &found[0].bytes(0).unwrap()).unwrap();
        assert_eq!(&plain[..], name.as_bytes());
    }
}

async fn every_sealed_column_is_registered(site: &Site) {
    let estate = Estate::open(with(site, greenhouse())).await.unwrap();
    let columns = estate.store().dialect().pick(
        "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' \
         AND c.name LIKE '%\\_sealed' ESCAPE '\\' ORDER BY 1, 2",
        "SELECT table_name::text, column_name::text FROM information_schema.columns \
         WHERE table_schema = 'public' AND column_name LIKE '%\\_sealed' ORDER BY 1, 2",
    );
    let found: Vec<(String, String)> = rows(&estate, columns, args![])
        .await
        .iter()
        .map(|row| (row.text(0).unwrap(), row.text(1).unwrap()))
        .collect();
    let mut registered: Vec<(String, String)> = estate
        .registry()
        .sealed()
        .iter()
        .map(|column| (column.table.to_owned(), column.column.to_owned()))
        .collect();
    registered.sort();
    assert_eq!(found, registered, "left: the schema; right: what planes register");
    assert_eq!(found.len(), 3);
}

async fn a_plane_deletes_its_rows_with_the_run(site: &Site) {
    let node = site.node_with(with(site, greenhouse())).await;
    let run = node.submit(NewRun { keep_record: std::time::Duration::from_secs(60), ..query("") }).await;
    node.end(run.id).await;
    exec(&node.estate, "INSERT INTO orchids (name, run_id) VALUES ('of the run', $1)", args![run.id]).await;
    exec(&node.estate, "INSERT INTO orchids (name, run_id) VALUES ('of another', 999)", args![]).await;
    assert_eq!(node.purge().await.state, RunState::Succeeded);
    assert_eq!(number(&node.estate, "SELECT count(*) FROM orchids").await, 2);
    site.clock.seconds(60);
    assert_eq!(node.purge().await.state, RunState::Succeeded);
    assert_eq!(number(&node.estate, "SELECT run_id FROM orchids").await, 999);
}

async fn names_that_no_plane_registers_are_shown_as_text(site: &Site) {
    let estate = site.open().await;
    let run = submit(&estate, &operator(&estate), query("")).await.unwrap();
    exec(
        &estate,
        "UPDATE runs SET kind = 'of_a_later_program', noun = 'comet', noun_id = 3, pool = 'far' WHERE id = $1",
        args![run.id],
    )
    .await;
    exec(&estate, "INSERT INTO role_permissions (role_id, permission) VALUES (4, 'comet:chase')", args![])
        .await;
    let found = crate::support::get_run(&estate, run.id).await;
    assert_eq!(found.kind, RunKind::stored("of_a_later_program"));
    assert_eq!(found.noun, Some(("comet".to_owned(), 3)));
    assert_eq!(estate.registry().category(found.kind), Category::System);
    let roles = role_list(&estate, &operator(&estate)).await.unwrap();
    assert!(roles[3].permissions.iter().any(|held| held.as_text() == "comet:chase"));
}

async fn a_sealed_value_is_accepted_only_by_sealed_columns(site: &Site) {
    let estate = Estate::open(with(site, greenhouse())).await.unwrap();
    let sealed = estate.seal("orchid:x", b"x").unwrap();
    let refused = estate.store().write(move |tx| {
        Box::pin(async move { tx.exec("UPDATE signing_keys SET purpose = $1", args![sealed]).await })
    });
    assert!(refused.await.unwrap_err().message.contains("sealed"));
}

#[test]
fn two_planes_cannot_register_the_same_name() {
    use landreeve_estate::plane::Registry;
    let kind = || Plane { kinds: vec![KindSpec::new("same", Category::Job)], ..Plane::new("one") };
    let error = Registry::new(&[kind(), kind()]).err().unwrap();
    assert!(error.message.contains("run kind same"), "{error}");
    let noun = || Plane { nouns: vec![NounSpec::content(ORCHID)], ..Plane::new("one") };
    assert!(Registry::new(&[noun(), noun()]).err().unwrap().message.contains("noun orchid"));
    let error = Registry::new(&[kind()]).err().unwrap();
    assert!(error.message.contains("pool"), "its pool does not exist: {error}");
}
