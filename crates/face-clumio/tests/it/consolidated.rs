//! Consolidated alerts, as clients see them.

use landreeve_core::{Action, Permission};
use landreeve_estate::MigrationSet;
use landreeve_estate::args;
use landreeve_estate::plane::Plane;
use landreeve_protection::MIGRATIONS;
use landreeve_protection::alerts::alert_list;
use landreeve_protection::ids::AlertId;
use landreeve_protection::nouns::ALERT;
use landreeve_testkit::{Ask, Kit};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::administration::{filtered, ids};
use crate::policies::alert;
use crate::{Face, admin_key, fails, messages};

const SHOP: &str = "aaaaaaaa-0000-4000-8000-000000000001";

/// An alert about a backup of the shop. Returns its id.
async fn raise(face: &Face, backup: &str, cause: &'static str) -> String {
    let (id, uuid) = (face.kit.estate.next::<AlertId>(AlertId::KIND).await.unwrap(), face.kit.estate.uuid());
    let group = face.kit.estate.uuid().to_string();
    let sql = "INSERT INTO alert_groups (uuid, parent_uuid, parent_name, kind, cause, notes) \
               VALUES ($1, $2, 'shop', 'restore_failed', $3, '') ON CONFLICT DO NOTHING";
    face.kit.exec(sql, args![group, SHOP, cause]).await;
    let sql = "INSERT INTO alerts (id, uuid, ou_id, kind, cause, severity, status, notes, description, entity_kind, \
               entity_uuid, entity_name, repository, raised_count, run_id, raised_at, updated_at, group_uuid) \
               VALUES ($1, $2, 1, 'restore_failed', $3, 'error', 'active', '', 'no answer', 'backup', $4, 'shop', '', 1, 0, \
               $5, $5, (SELECT uuid FROM alert_groups WHERE cause = $3 AND kind = 'restore_failed'))";
    face.kit.exec(sql, args![id, uuid.to_string(), cause, backup, face.kit.estate.now()]).await;
    uuid.to_string()
}

#[tokio::test]
async fn alerts_with_one_cause_are_one() {
    let face = Face::new().await;
    let key = admin_key(&face.kit).await;
    let send = async |ask: Ask| ask.bearer(&key).send(&face.router).await;
    let [one, two] = [1, 2].map(|number| Uuid::from_u128(number).to_string());
    let first = raise(&face, &one, "connect").await;
    face.kit.clock.seconds(60);
    let second = raise(&face, &two, "connect").await;
    face.kit.clock.seconds(60);
    raise(&face, &one, "disk_full").await;

    let list = send(Ask::get("/alerts/consolidated?sort=raised_timestamp")).await;
    assert_eq!(list.header("content-type"), "application/api.clumio.consolidated-alerts=v1+json");
    let list = list.json();
    assert_eq!((&list["total_count"], &list["sort_applied"]), (&json!(2), &json!("raised_timestamp")));
    let group = list["_embedded"]["items"][0].clone();
    let id = group["id"].as_str().unwrap().to_owned();
    let href = format!("/alerts/consolidated/{id}");
    let link = |method: &str| json!({ "href": href, "type": method, "templated": false });
    let parent = json!({ "id": SHOP, "type": "aws_environment", "value": "shop" });
    let expected = json!({
        "id": id, "type": "restore_failed", "cause": "connect", "severity": "error", "status": "active", "notes": "",
        "details": { "type": "restore_failed", "cause": "connect" }, "parent_entity": parent,
        "active_entity_count": 2, "cleared_entity_count": 0, "raised_timestamp": "2026-01-15T12:00:00Z",
        "updated_timestamp": "2026-01-15T12:01:00Z", "cleared_timestamp": null,
        "_links": { "_self": link("get"), "update-consolidated-alert": link("patch") }
    });
    assert_eq!(group, expected);
    assert_eq!(send(Ask::get(&href)).await.json(), expected);

    // Each alert names it, and can embed it.
    let alone = send(Ask::get(format!("/alerts/individual/{first}"))).await.json();
    assert_eq!((&alone["consolidated_alert_id"], &alone["parent_entity"]), (&json!(id), &parent));
    assert_eq!(alone["_links"]["read-consolidated-alert"], link("get"));
    assert!(alone.get("_embedded").is_none());
    let embed = "embed=read-consolidated-alert";
    let alone = send(Ask::get(format!("/alerts/individual/{first}?{embed}"))).await.json();
    assert_eq!(alone["_embedded"]["read-consolidated-alert"], expected);
    let members = filtered("/alerts/individual", &json!({ "consolidated_alert_id": { "$eq": id } }));
    let members = send(Ask::get(format!("{members}&{embed}"))).await.json();
    assert_eq!(ids(&members), [second.clone(), first.clone()]);
    assert_eq!(members["_embedded"]["items"][0]["_embedded"]["read-consolidated-alert"], expected);

    // One entity is cleared, then the rest, then it occurs again.
    let patch = |path: &str, body: Value| Ask::patch(path).json(&body);
    let cleared = json!({ "notes": "", "status": "cleared" });
    send(patch(&format!("/alerts/individual/{first}?{embed}"), cleared)).await;
    let half = send(Ask::get(&href)).await.json();
    assert_eq!((&half["active_entity_count"], &half["cleared_entity_count"]), (&json!(1), &json!(1)));
    assert_eq!(
        (&half["status"], &half["raised_timestamp"]),
        (&json!("active"), &json!("2026-01-15T12:01:00Z"))
    );
    face.kit.clock.seconds(60);
    let noted = send(patch(&href, json!({ "notes": "the disk is away", "status": null }))).await.json();
    assert_eq!((&noted["notes"], &noted["status"]), (&json!("the disk is away"), &json!("active")));
    assert_eq!(noted["updated_timestamp"], "2026-01-15T12:03:00Z");
    let done = send(patch(&href, json!({ "notes": null, "status": "cleared" }))).await.json();
    assert_eq!((&done["status"], &done["notes"]), (&json!("cleared"), &json!("the disk is away")));
    assert_eq!(done["cleared_timestamp"], "2026-01-15T12:03:00Z");
    assert_eq!((&done["active_entity_count"], &done["cleared_entity_count"]), (&json!(0), &json!(2)));
    let other = send(Ask::get(format!("/alerts/individual/{second}"))).await.json();
    assert_eq!(other["status"], "cleared");
    raise(&face, &two, "connect").await;
    let again = send(Ask::get(&href)).await.json();
    assert_eq!(
        (&again["status"], &again["active_entity_count"]),
        (&json!("active"), &json!(1)),
        "the same id"
    );
}

#[tokio::test]
async fn consolidated_alerts_are_found_and_limited() {
    let face = Face::new().await;
    let key = admin_key(&face.kit).await;
    let send = async |ask: Ask| ask.bearer(&key).send(&face.router).await;
    raise(&face, &Uuid::from_u128(1).to_string(), "connect").await;
    face.kit.clock.seconds(60);
    raise(&face, &Uuid::from_u128(1).to_string(), "disk_full").await;
    let all = ids(&send(Ask::get("/alerts/consolidated")).await.json());
    let (newest, oldest) = (all[0].clone(), all[1].clone());
    send(Ask::patch(format!("/alerts/consolidated/{oldest}")).json(&json!({ "status": "cleared" }))).await;
    let environment = |kind: &str, id: &str| json!({ "parent_entity.id": { "$eq": id }, "parent_entity.type": { "$eq": kind } });
    for (filter, expected) in [
        (json!({ "status": { "$in": ["active"] } }), vec![newest.clone()]),
        (json!({ "status": { "$in": ["cleared"] } }), vec![oldest.clone()]),
        (json!({ "status": { "$in": ["cleared", "active"] } }), all.clone()),
        (json!({ "raised_timestamp": { "$gte": "2026-01-15T12:01:00Z" } }), vec![newest.clone()]),
        (json!({ "raised_timestamp": { "$lte": "2026-01-15T12:00:59Z" } }), vec![oldest.clone()]),
        (environment("aws_environment", SHOP), all.clone()),
        (environment("aws_environment", "x"), vec![]),
        (environment("vmware_vcenter", SHOP), vec![]),
    ] {
        let path = filtered("/alerts/consolidated", &filter);
        assert_eq!(ids(&send(Ask::get(path)).await.json()), expected, "{filter}");
        let path = filtered("/alerts/individual", &filter);
        assert_eq!(ids(&send(Ask::get(path)).await.json()).len(), expected.len(), "{filter}");
    }
    for list in ["/alerts/consolidated", "/alerts/individual"] {
        let alone = send(Ask::get(filtered(list, &json!({ "parent_entity.id": { "$eq": SHOP } })))).await;
        fails(&alone, 400, 101, "filter.parent_entity.id needs parent_entity.type beside it");
    }
    let wrong =
        filtered("/alerts/consolidated", &json!({ "type": { "$in": ["x"] }, "status": { "$eq": "x" } }));
    let expected = [
        "filter.type is not a field of this filter; use status, raised_timestamp, parent_entity.id, parent_entity.type",
        "filter.status.$eq is not supported; use $in",
    ];
    assert_eq!(messages(&send(Ask::get(wrong)).await), expected);
    for id in ["x", "1", &Uuid::nil().to_string()] {
        assert_eq!(send(Ask::get(format!("/alerts/consolidated/{id}"))).await.status, 404, "{id}");
    }
    // Who sees alerts only in another unit sees none of these; who may only view them clears none.
    let unit = face.kit.ou("Sales").await;
    let view = Permission::new(ALERT, Action::VIEW);
    let path = format!("/alerts/consolidated/{newest}");
    for (ou, count, status) in [(unit.id, 0, 404), (landreeve_core::ids::OuId::ROOT, 2, 403)] {
        let user = face.kit.user_in(ou, &format!("user {ou}").replace(' ', "-"), &[view]).await;
        let (_, key) = face.kit.user_key(landreeve_estate::ops::Api::Protection, &user).await;
        let list = Ask::get("/alerts/consolidated").bearer(&key).send(&face.router).await.json();
        assert_eq!(list["total_count"], count);
        let clear = Ask::patch(&path).bearer(&key).json(&json!({ "status": "cleared" }));
        assert_eq!(clear.send(&face.router).await.status, status);
    }
    let seen = send(Ask::get(&path)).await.json();
    assert_eq!(seen["status"], "active");
}

/// Alerts of a store that is older than their groups.
async fn older_alerts_are_put_together(kit: Kit) {
    let older =
        MigrationSet { sqlite: &MIGRATIONS.sqlite[..3], postgres: &MIGRATIONS.postgres[..3], ..MIGRATIONS };
    let plane = Plane { migrations: older, ..Plane::new("protection") };
    let kit = kit.reopen_with(vec![plane], landreeve_testkit::drivers()).await;
    let sql = "INSERT INTO assets (id, uuid, ou_id, name, database_type, address, created_at) \
               VALUES (1, $1, 1, 'shop', 'sqlite', 'a', 1)";
    kit.exec(sql, args![SHOP]).await;
    let sql = "INSERT INTO repositories (id, name, address, append_only, shared, password_sealed, created_at) \
               VALUES (1, 'default', 'a', 0, 0, $1, 1)";
    kit.exec(sql, args![Vec::<u8>::new()]).await;
    let backup = Uuid::from_u128(7).to_string();
    let sql = "INSERT INTO backups (id, uuid, asset_id, repository_id, snapshot_id, server_version, started_at, expires_at, \
               tables, bytes_read) VALUES (1, $1, 1, 1, 'a', '1', 1, 1, 1, 1)";
    kit.exec(sql, args![&backup]).await;
    let gone = Uuid::from_u128(8).to_string();
    for (id, kind, cause, entity) in [
        (1_i64, "policy_violated", "connect", SHOP),
        (2, "policy_violated", "connect", SHOP),
        (3, "policy_violated", "disk_full", SHOP),
        (4, "restore_failed", "connect", &backup),
        (5, "restore_failed", "connect", &gone),
    ] {
        let sql = "INSERT INTO alerts (id, uuid, ou_id, kind, cause, severity, status, notes, description, entity_kind, \
                   entity_uuid, entity_name, repository, raised_count, run_id, raised_at, updated_at) \
                   VALUES ($1, $2, 1, $3, $4, 'error', 'cleared', '', '', 'x', $5, 'shop', '', 1, 0, $1, $1)";
        let uuid = Uuid::from_u128(u128::from(id.unsigned_abs())).to_string();
        kit.exec(sql, args![id, uuid, kind, cause, entity]).await;
    }
    let (kit, protection) = crate::with_protection(kit, Vec::new()).await;
    let found = alert_list(&protection, &kit.operator(), None, None).await.unwrap().items;
    let of = |number: u128| found.iter().find(|alert| alert.uuid == Uuid::from_u128(number)).unwrap();
    assert_eq!(found.len(), 5);
    assert_eq!(of(1).group, of(2).group);
    let groups: std::collections::BTreeSet<_> = found.iter().map(|alert| alert.group.unwrap()).collect();
    assert_eq!(groups.len(), 4);
    assert!(groups.iter().all(|uuid| uuid.get_version_num() == 4));
    let shop = Some((Uuid::parse_str(SHOP).unwrap(), "shop".to_owned()));
    assert_eq!((&of(4).parent, &of(3).parent), (&shop, &shop), "through its backup too");
    assert_eq!(of(5).parent.as_ref().unwrap().0.to_string(), gone);
    kit.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_alerts_are_put_together_on_sqlite() {
    older_alerts_are_put_together(Kit::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_alerts_are_put_together_on_postgresql() {
    older_alerts_are_put_together(Kit::postgres().await).await;
}

/// A request for a route about consolidated alerts that is complete, or `None`.
pub async fn ask(face: &Face, method: &str, path: &str) -> Option<Ask> {
    if !path.starts_with("/alerts/consolidated") {
        return None;
    }
    let alone = alert(face).await;
    let sql = "INSERT INTO alert_groups (uuid, parent_uuid, parent_name, kind, cause, notes) \
               VALUES ($1, $1, 'shop', 'policy_violated', 'connect', '')";
    face.kit.exec(sql, args![&alone]).await;
    face.kit.exec("UPDATE alerts SET group_uuid = $1 WHERE uuid = $1", args![&alone]).await;
    let path = path.replace("{consolidated_alert_id}", &alone);
    Some(match method {
        "PATCH" => Ask::patch(path).json(&json!({ "notes": "seen", "status": "cleared" })),
        _ => Ask::new(method, path),
    })
}
