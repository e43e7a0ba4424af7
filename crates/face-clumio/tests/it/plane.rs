//! A small plane built by following `docs/adding-a-plane.md`: only this file knows about it.

use std::sync::Arc;
use std::time::Duration;

use landreeve_core::ids::{BoxFuture, OuId};
use landreeve_core::{Action, Category, Noun, Permission, PoolName, RunState};
use landreeve_estate::ops::runs::{RunRef, run_wait};
use landreeve_estate::ops::scheduled::{RunFollower, body};
use landreeve_estate::ops::users::role_list;
use landreeve_estate::ops::{Api, backup, secrets};
use landreeve_estate::plane::{NounSpec, Plane, PlaneParts, RolePermissions, RoleSpec};
use landreeve_estate::random::SeededRandom;
use landreeve_estate::runs::{Done, Executor, Failure, Job, KindSpec, Outcome};
use landreeve_estate::schedules::{self, FixedSchedule};
use landreeve_estate::secrets::SealKey;
use landreeve_estate::upkeep::PURGE;
use landreeve_estate::{MigrationSet, args, sealed_column};
use landreeve_face_clumio::{Options, router};
use landreeve_testkit::{Ask, Kit, number_in_copy};
use serde_json::json;
use uuid::Uuid;

const ORCHID: Noun = Noun::new("orchid");
const VIEW: Permission = Permission::new(ORCHID, Action::VIEW);

const WATERING: KindSpec = KindSpec {
    pool: PoolName::new("greenhouse"),
    keep_record: Duration::from_secs(60),
    ..KindSpec::new("watering", Category::Job)
};

const MIGRATIONS: MigrationSet = MigrationSet {
    component: "greenhouse",
    sqlite: &["CREATE TABLE orchids (id BIGINT PRIMARY KEY, watered_by BIGINT, pin_sealed BLOB)"],
    postgres: &["CREATE TABLE orchids (id BIGINT PRIMARY KEY, watered_by BIGINT, pin_sealed BYTEA)"],
};

landreeve_estate::ids! {
    OrchidId = "orchid";
}

struct Waterer;

impl Executor for Waterer {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            job.cancelled().await;
            if job.is_cleanup() { Ok(Done::default()) } else { Err(Failure::cancelled()) }
        })
    }
}

fn greenhouse() -> Plane {
    Plane {
        migrations: MIGRATIONS,
        kinds: vec![WATERING],
        pools: vec![(WATERING.pool, 2)],
        nouns: vec![NounSpec::content(ORCHID)],
        roles: vec![RoleSpec {
            uuid: Uuid::from_u128(0x77),
            id: None,
            name: "Gardener",
            description: "Sees orchids.",
            permissions: RolePermissions::These(vec![VIEW]),
        }],
        sealed: vec![sealed_column!("orchids", "id", "pin_sealed", "orchid")],
        purge: Some(|tx, runs| {
            Box::pin(async move {
                for run in runs {
                    tx.exec("DELETE FROM orchids WHERE watered_by = $1", args![*run]).await?;
                }
                Ok(())
            })
        }),
        open: Box::new(|estate| {
            Ok(PlaneParts {
                executors: vec![(WATERING.kind, Arc::new(Waterer))],
                follower: Some(Arc::new(RunFollower { estate: estate.clone(), lane: |_| None })),
                schedules: vec![FixedSchedule {
                    name: "morning",
                    cron: "0 13 * * *",
                    body: body(&WATERING, r#"{"version":1}"#)?,
                }],
                ..PlaneParts::default()
            })
        }),
        ..Plane::new("greenhouse")
    }
}

async fn roles(kit: &Kit, name: &str) -> Option<Vec<Permission>> {
    let roles = role_list(&kit.estate, &kit.operator()).await.unwrap();
    roles.into_iter().find(|role| role.name == name).map(|role| role.permissions)
}

async fn a_plane_is_one_value(kit: Kit) {
    // The estate is older than the plane.
    assert!(roles(&kit, "Gardener").await.is_none());
    let (kit, protection) = crate::with_protection(kit, vec![greenhouse()]).await;
    assert_eq!(roles(&kit, "Gardener").await.unwrap(), [VIEW]);
    assert!(roles(&kit, "Viewer").await.unwrap().contains(&VIEW));
    let estate = &kit.estate;

    // A row with an encrypted column, and a key rotation.
    let id: OrchidId = estate.next(OrchidId::KIND).await.unwrap();
    let sealed = estate.seal(&format!("orchid:{id}"), b"1234").unwrap();
    kit.exec("INSERT INTO orchids (id, pin_sealed) VALUES ($1, $2)", args![id, sealed]).await;
    secrets::rotate(estate, &kit.operator(), SealKey::generate(&SeededRandom::new(8))).await.unwrap();
    let row =
        estate.store().read().await.unwrap().one("SELECT pin_sealed FROM orchids", args![]).await.unwrap();
    let plain = estate.unseal(&format!("orchid:{id}"), &row.bytes(0).unwrap()).unwrap();
    assert_eq!(&plain[..], b"1234");

    // Its schedule submits a run, which appears as a task because this dialect shows every kind.
    kit.start_planes().await;
    schedules::ensure(estate).await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let following = tokio::spawn(schedules::run(estate.clone(), stop.clone()));
    kit.clock.advance(Duration::from_secs(3_600));
    kit.wake_schedules();
    let run = kit.until_run("SELECT id FROM runs WHERE kind = 'watering' AND state = 'running'").await;
    let router: axum::Router = router(estate.clone(), protection, Options::default()).unwrap().into();
    let admin = landreeve_estate::ops::users::user_by_name(estate, &kit.operator(), "admin").await.unwrap();
    let (_, key) = kit.user_key(Api::Protection, &admin).await;
    let task = Ask::get(format!("/tasks/{run}")).bearer(&key).send(&router).await.json();
    assert_eq!((&task["type"], &task["category"]), (&json!("watering"), &json!("management")));
    let listed = Ask::get("/tasks").bearer(&key).send(&router).await.json();
    assert_eq!(listed["_embedded"]["items"][0]["id"], json!(run.to_string()));

    // Cancelled through the dialect, then purged together with the plane's rows.
    kit.exec("UPDATE orchids SET watered_by = $1", args![run]).await;
    let patch = Ask::patch(format!("/tasks/{run}")).bearer(&key).json(&json!({ "status": "aborting" }));
    assert_eq!(patch.send(&router).await.status, 200);
    kit.until_run("SELECT id FROM runs WHERE kind = 'watering' AND state = 'cancelled'").await;

    // It is in a backup, on every store.
    let copy = kit.path("copy.db");
    backup::store_copy(estate, &kit.operator(), &copy).await.unwrap();
    assert_eq!(
        number_in_copy(
            copy,
            vec![greenhouse(), crate::protection_plane(&kit).0],
            "SELECT watered_by FROM orchids"
        )
        .await,
        run
    );

    kit.clock.advance(Duration::from_secs(60));
    let purge = kit.run_of(PURGE.kind, OuId::ROOT).await;
    let which = RunRef::Id(purge.id);
    let purge = run_wait(estate, &kit.operator(), which, &[], Duration::from_secs(30)).await.unwrap();
    assert_eq!(purge.state, RunState::Succeeded);
    for table in ["SELECT count(*) FROM orchids", "SELECT count(*) FROM runs WHERE kind = 'watering'"] {
        assert_eq!(kit.number(table).await, 0, "{table}");
    }
    stop.cancel();
    following.await.unwrap();
    kit.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plane_is_one_value_on_sqlite() {
    a_plane_is_one_value(Kit::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plane_is_one_value_on_postgresql() {
    a_plane_is_one_value(Kit::postgres().await).await;
}
