//! Tools for the benchmarks of the delivery and protection planes:
//! - `history fill PLACE DEPLOYMENTS` creates that many deployments with three changes each, over the two years before
//!   2026-06-01, directly in the metadata store of an estate, bypassing the use cases;
//! - `history bare PLACE COUNT` writes the rows of COUNT deployments as the server does, sixteen per commit and nothing
//!   else, and prints the microseconds of each commit;
//! - `history attribute CHANGES COUNT` prints the microseconds that it takes to record a deployment in a repository with
//!   CHANGES waiting changes, for COUNT deployments that each ship ten of them, and for a last one that ships the rest;
//! - `history backups PLACE COUNT` enters COUNT backups of fifty databases, made over the two years before 2026-06-01,
//!   into the catalogue of an estate that has a repository, without making them.
#![expect(clippy::print_stdout, reason = "a tool that reports to its terminal")]
#![expect(clippy::expect_used, reason = "a tool that may end at the first surprise")]

use jiff::Timestamp;
use landreeve_core::clock;
use landreeve_delivery::ServiceName;
use landreeve_delivery::deployments::{DeploymentFacts, deployment_create};
use landreeve_estate::args;
use landreeve_estate::store::{Location, Migrations, Store, Tx};
use landreeve_testkit::Kit;
use tokio::time::Instant;

const SERVICES: i64 = 40;
/// 2024-06-01 and 2026-06-01, in microseconds.
const BEGIN: i64 = 1_717_200_000_000_000;
const END: i64 = 1_780_272_000_000_000;
/// Deployments per transaction.
const PART: i64 = 50_000;
const WARM_UP: i64 = 20;
/// Databases that were backed up.
const DATABASES: i64 = 50;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| -> i64 { arguments.get(at).expect("a number").parse().expect("a number") };
    match arguments.first().map(String::as_str) {
        Some("fill") => fill(&arguments[1], number(2)).await,
        Some("bare") => bare(&arguments[1], number(2)).await,
        Some("attribute") => attribute(number(1), number(2)).await,
        Some("backups") => backups(&arguments[1], number(2)).await,
        _ => panic!(
            "fill PLACE DEPLOYMENTS, bare PLACE COUNT, attribute CHANGES COUNT, or backups PLACE COUNT"
        ),
    }
}

async fn open(place: &str) -> Store {
    let migrations = Migrations::with(&[
        landreeve_analytics::MIGRATIONS,
        landreeve_delivery::MIGRATIONS,
        landreeve_promotion::MIGRATIONS,
        landreeve_protection::MIGRATIONS,
    ]);
    Store::open(&Location::parse(place), &migrations).await.expect("opens")
}

async fn fill(place: &str, count: i64) {
    let store = open(place).await;
    store.write(|tx| Box::pin(names(tx))).await.expect("names");
    let step = (END - BEGIN) / count;
    let mut from = 0;
    while from < count {
        let (first, last) = (from, (from + PART).min(count));
        store.write(move |tx| Box::pin(part(tx, first, last, step))).await.expect("a part");
        from = last;
    }
    store.write(move |tx| Box::pin(incidents(tx, step, count))).await.expect("incidents");
    store.close().await;
}

/// Creates a repository, a service and a target for each number from 1.
async fn names(tx: &mut Tx) -> landreeve_core::Result<()> {
    for id in 1..=SERVICES {
        let name = format!("acme/service-{id}");
        tx.exec(
            "INSERT INTO delivery_repos (id, ou_id, name, match_name, created_at) VALUES ($1, 1, $2, $2, 0)",
            args![id, &name],
        )
        .await?;
        tx.exec(
            "INSERT INTO delivery_services (id, ou_id, identifier, name, created_at) VALUES ($1, 1, $2, $2, 0)",
            args![id, format!("service-{id}")],
        )
        .await?;
        tx.exec(
            "INSERT INTO delivery_targets (id, repo_id, service_id, environment) VALUES ($1, $1, $1, 'production')",
            args![id],
        )
        .await?;
    }
    Ok(())
}

/// Creates the deployments `first` up to `last`, each with three changes from the ten hours before it.
async fn part(tx: &mut Tx, first: i64, last: i64, step: i64) -> landreeve_core::Result<()> {
    tx.exec(
        "INSERT INTO delivery_deployments (id, ou_id, reference_id, origin, service_id, repo_id, target_id, environment, \
         deployed_at, success, line, position, attributed_at, attribute_until, created_at, updated_at) \
         WITH RECURSIVE n (i) AS (SELECT CAST($1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $2) \
         SELECT i + 1000, 1, 'made-' || i, 'api', i % 40 + 1, i % 40 + 1, i % 40 + 1, 'production', $3 + i * $4, 1, '', \
         $3 + i * $4, $3 + i * $4, 0, $3 + i * $4, $3 + i * $4 FROM n",
        args![first, last, BEGIN, step],
    )
    .await?;
    tx.exec(
        "INSERT INTO delivery_changes (id, ou_id, repo_id, kind, sha, branch, line, bot_authored, opened_at, \
         first_commit_at, first_commit_told, landed_at, created_at, updated_at) \
         WITH RECURSIVE n (i) AS (SELECT CAST($1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $2) \
         SELECT i * 3 + c.k + 1000, 1, i % 40 + 1, 'commit', 'sha-' || (i * 3 + c.k), '', '', 0, \
         $3 + i * $4 - (c.k + 1) * 3600000000 - (i * 7919 % 36000) * 1000000, \
         $3 + i * $4 - (c.k + 1) * 3600000000 - (i * 7919 % 36000) * 1000000, 1, \
         $3 + i * $4 - (c.k + 1) * 60000000, $3 + i * $4, $3 + i * $4 \
         FROM n, (SELECT 0 AS k UNION SELECT 1 UNION SELECT 2) c",
        args![first, last, BEGIN, step],
    )
    .await?;
    tx.exec(
        "INSERT INTO delivery_change_deployments (change_id, target_id, deployment_id, ou_id, service_id, deployed_at, \
         opened_at, first_commit_at, landed_at) \
         SELECT c.id, c.repo_id, (c.id - 1000) / 3 + 1000, 1, c.repo_id, $3 + (c.id - 1000) / 3 * $4, c.opened_at, \
         c.first_commit_at, c.landed_at FROM delivery_changes c WHERE c.id >= $1 AND c.id < $2",
        args![first * 3 + 1_000, last * 3 + 1_000, BEGIN, step],
    )
    .await
    .map(drop)
}

/// Creates one incident per fifty deployments, an hour after a deployment and resolved two hours later.
async fn incidents(tx: &mut Tx, step: i64, count: i64) -> landreeve_core::Result<()> {
    tx.exec(
        "INSERT INTO delivery_incidents (id, ou_id, reference_id, started_at, resolved_at, created_at, updated_at) \
         WITH RECURSIVE n (i) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $1) \
         SELECT i + 1000, 1, 'made-' || i, $2 + i * 50 * $3 + 3600000000, $2 + i * 50 * $3 + 10800000000, 0, 0 FROM n",
        args![count / 50, BEGIN, step],
    )
    .await?;
    tx.exec(
        "INSERT INTO delivery_incident_services (incident_id, service_id, ou_id) \
         SELECT id, (id - 1000) * 50 % 40 + 1, 1 FROM delivery_incidents WHERE id >= 1000",
        args![],
    )
    .await?;
    tx.exec("ANALYZE", args![]).await.map(drop)
}

async fn backups(place: &str, count: i64) {
    let store = open(place).await;
    store.write(move |tx| Box::pin(catalogue(tx, count))).await.expect("backups");
    store.close().await;
}

macro_rules! enter_backups {
    ($uuid:literal) => {
        concat!(
            "INSERT INTO backups (id, uuid, asset_id, repository_id, snapshot_id, server_version, started_at, \
             finished_at, expires_at, tables, row_count, bytes_read, bytes_added) \
             WITH RECURSIVE n (i) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $1) \
             SELECT i + 1000000, ",
            $uuid,
            ", i % $2 + 1000000, (SELECT min(id) FROM repositories), (SELECT min(snapshot_id) FROM backups), '15.0', \
             $3 + i * $4, $3 + i * $4 + 60000000, $5, 10, 1000, 100000, 1000 FROM n"
        )
    };
}

/// Databases `made-0` to `made-49`, the backups of all of them by turns.
async fn catalogue(tx: &mut Tx, count: i64) -> landreeve_core::Result<()> {
    for id in 0..DATABASES {
        let uuid = format!("00000000-0000-4000-8000-{id:012x}");
        tx.exec(
            "INSERT INTO assets (id, uuid, ou_id, name, database_type, address, created_at) \
             VALUES ($1, $2, 1, $3, 'postgres', $4, 0)",
            args![id + 1_000_000, uuid, format!("made-{id}"), format!("127.0.0.1:5432/made_{id}")],
        )
        .await?;
    }
    let sql = tx.dialect().pick(
        enter_backups!("printf('00000000-0000-4000-9000-%012x', i)"),
        enter_backups!("'00000000-0000-4000-9000-' || lpad(to_hex(i), 12, '0')"),
    );
    let step = (END - BEGIN) / count;
    tx.exec(sql, args![count, DATABASES, BEGIN, step, END + 10 * (END - BEGIN)]).await?;
    tx.exec("ANALYZE", args![]).await.map(drop)
}

async fn bare(place: &str, count: i64) {
    let store = open(place).await;
    let removed = store.write(|tx| {
        Box::pin(async move {
            tx.exec("DELETE FROM delivery_deployments WHERE reference_id LIKE 'bare-%'", args![]).await?;
            tx.exec("DELETE FROM audit_events WHERE actor_name = 'bench'", args![]).await?;
            tx.one("SELECT min(id) FROM delivery_services", args![]).await?.id(0)
        })
    });
    let service: i64 = removed.await.expect("a service");
    for group in -WARM_UP..count / 16 {
        let begun = Instant::now();
        store.write(move |tx| Box::pin(sixteen(tx, service, group))).await.expect("a commit");
        if group >= 0 {
            println!("{}", begun.elapsed().as_micros());
        }
    }
    store.close().await;
}

/// The rows of sixteen deployments and their audit events.
async fn sixteen(tx: &mut Tx, service: i64, group: i64) -> landreeve_core::Result<()> {
    for one in 0..16 {
        let id = 2_000_000_000 + group * 16 + one;
        tx.exec(
            "INSERT INTO delivery_deployments (id, ou_id, reference_id, origin, service_id, environment, deployed_at, \
             success, commit_sha, attribute_until, created_at, updated_at) \
             VALUES ($1, 1, $2, 'api', $5, 'production', $3, 1, $4, $3, $3, $3)",
            args![id, format!("bare-{id}"), END, "4f2c9be01d7a6f3b8e5c2d9a0b1c2d3e4f5a6b7c", service],
        )
        .await?;
        tx.exec(
            "INSERT INTO audit_events (id, at, actor_kind, actor_id, actor_name, face, address, request_id, ou_id, \
             action, noun, noun_id, outcome, detail) VALUES ($1, $2, 'key', 2, 'bench', 'dx', '127.0.0.1', \
             '00000000-0000-4000-8000-000000000000', 1, 'recorded', 'delivery', $1, 'done', $3)",
            args![id, END, format!("deployment bare-{id}")],
        )
        .await?;
    }
    Ok(())
}

async fn attribute(waiting: i64, count: i64) {
    let kit = Kit::new().await;
    let plane = kit.delivery();
    let begin = kit.estate.now().as_microsecond() - 90 * 86_400_000_000;
    let made = kit.estate.store().write(move |tx| {
        Box::pin(async move {
            tx.exec(
                "INSERT INTO delivery_repos (id, ou_id, name, match_name, created_at) VALUES (1, 1, 'a/b', 'a/b', 0)",
                args![],
            )
            .await?;
            tx.exec(
                "INSERT INTO delivery_changes (id, ou_id, repo_id, kind, sha, branch, line, bot_authored, opened_at, \
                 first_commit_at, first_commit_told, landed_at, created_at, updated_at) \
                 WITH RECURSIVE n (i) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $1) \
                 SELECT i + 1000, 1, 1, 'commit', printf('%07x%033x', i, 0), '', '', 0, $2 + i * 1000000, \
                 $2 + i * 1000000, 1, $2 + i * 1000000, 0, 0 FROM n",
                args![waiting, begin],
            )
            .await
            .map(drop)
        })
    });
    made.await.expect("changes");
    for deployment in 1..=count + WARM_UP {
        let micros = deploy(&kit, &plane, begin, deployment * 10).await;
        if deployment > WARM_UP {
            println!("{micros}");
        }
    }
    println!("{}", deploy(&kit, &plane, begin, waiting - 1).await);
}

/// Records the deployment of one commit; returns how long that took.
async fn deploy(kit: &Kit, plane: &landreeve_delivery::Delivery, begin: i64, commit: i64) -> u128 {
    let at: Timestamp = clock::from_micros(begin + commit * 1_000_000 + 1);
    let facts = DeploymentFacts {
        deployed_at: Some(at),
        service: Some(ServiceName { identifier: "s".to_owned(), name: None }),
        repository: Some("a/b".to_owned()),
        commit_sha: Some(format!("{commit:07x}")),
        ..DeploymentFacts::default()
    };
    let (ctx, begun) = (kit.operator(), Instant::now());
    deployment_create(plane, &ctx, Some(format!("d-{commit}")), facts.into()).await.expect("a deployment");
    begun.elapsed().as_micros()
}
