//! Organizational units: their limits, their end, and what is refused before a run starts.

use landreeve_core::ids::OuId;
use landreeve_core::{Error, ErrorKind, OpCtx};
use landreeve_estate::Estate;
use landreeve_estate::ops::ous::ou_create;
use landreeve_estate::ops::units::{
    NewUnit, UnitChange, UnitUser, unit_create, unit_delete, unit_delete_now, unit_get, unit_update,
};
use landreeve_estate::ops::{Ou, sign_in};
use landreeve_estate::runs::{NewRun, PROBE};
use uuid::Uuid;

use crate::support::{Site, number};

conformance![
    a_deleted_unit_leaves_its_runs_to_its_parent,
    a_unit_with_anything_in_it_is_kept,
    a_refused_change_changes_nothing,
    units_are_limited_in_depth,
];

fn operator(estate: &Estate) -> OpCtx {
    sign_in::operator(estate)
}

async fn unit(estate: &Estate, parent: Option<&Ou>, name: &str) -> Ou {
    let parent = parent.map(|parent| parent.uuid);
    ou_create(estate, &operator(estate), parent, name.to_owned(), String::new()).await.unwrap()
}

async fn a_deleted_unit_leaves_its_runs_to_its_parent(site: &Site) {
    let node = site.node(1).await;
    let parent = unit(&node.estate, None, "Sales").await;
    let below = unit(&node.estate, Some(&parent), "North").await;
    let run = node.submit(NewRun::new(&PROBE, below.id, r#"{"version":1,"wait_ms":0,"fail":false}"#)).await;
    node.end(run.id).await;
    let deletion = unit_delete(&node.estate, &node.ctx, below.uuid).await.unwrap();
    let ended = node.end(deletion.id).await;
    assert_eq!((ended.state.as_str(), ended.error), ("succeeded", None));
    assert_eq!(node.get(run.id).await.ou_path, parent.path);
    let gone = unit_get(&node.estate, &node.ctx, below.uuid).await.unwrap_err();
    assert_eq!(gone.kind, ErrorKind::NotFound);
    let events = "SELECT count(*) FROM audit_events WHERE noun = 'ou' AND action = 'deleted'";
    assert_eq!(number(&node.estate, events).await, 1);
    // Deleting it again.
    assert_eq!(unit_delete(&node.estate, &node.ctx, below.uuid).await.unwrap_err().kind, ErrorKind::NotFound);
}

async fn a_unit_with_anything_in_it_is_kept(site: &Site) {
    let estate = site.open().await;
    let parent = unit(&estate, None, "Sales").await;
    let below = unit(&estate, Some(&parent), "North").await;
    let full = async |what: &Ou, has: &str| {
        for error in [
            unit_delete(&estate, &operator(&estate), what.uuid).await.map(drop).unwrap_err(),
            unit_delete_now(&estate, &operator(&estate), what.uuid).await.unwrap_err(),
        ] {
            assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "not_empty"));
            let message = format!("the organizational unit {} is not empty: it has {has}", what.name);
            assert_eq!(error.message, message);
        }
    };
    full(&parent, "organizational units").await;
    // Nothing executes it.
    let new = NewRun::new(&PROBE, below.id, r#"{"version":1,"wait_ms":0,"fail":false}"#);
    landreeve_estate::ops::runs::submit(&estate, &operator(&estate), new).await.unwrap();
    full(&below, "tasks that have not ended").await;
    let root = unit_get(&estate, &operator(&estate), Uuid::nil()).await.unwrap();
    let error = unit_delete_now(&estate, &operator(&estate), root.ou.uuid).await.unwrap_err();
    assert_eq!(error.code, "root");
}

async fn a_refused_change_changes_nothing(site: &Site) {
    let estate = site.open().await;
    let ctx = operator(&estate);
    let (sales, north) = (unit(&estate, None, "Sales").await, unit(&estate, None, "North").await);
    let taken = |error: Error| {
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Conflict, "name is already taken"))
    };
    let change = UnitChange {
        name: Some("North".to_owned()),
        description: Some("changed".to_owned()),
        ..UnitChange::default()
    };
    taken(unit_update(&estate, &ctx, sales.uuid, change).await.unwrap_err());
    assert_eq!(unit_get(&estate, &ctx, sales.uuid).await.unwrap().ou.description, "");
    let new = NewUnit { name: "North".to_owned(), ..NewUnit::default() };
    taken(unit_create(&estate, &ctx, new).await.unwrap_err());
    let new = NewUnit {
        name: String::new(),
        datasources: vec![Uuid::nil()],
        users: vec![UnitUser { user: 99, role: None }],
        ..NewUnit::default()
    };
    let error = unit_create(&estate, &ctx, new).await.unwrap_err();
    let fields: Vec<_> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["name", "datasources.0", "users.0.user"]);
    assert_eq!(number(&estate, "SELECT count(*) FROM ous").await, 3);
    assert_ne!(north.id, OuId::ROOT);
}

async fn units_are_limited_in_depth(site: &Site) {
    let estate = site.open().await;
    let mut deepest: Option<Ou> = None;
    for level in 1..20 {
        deepest = Some(unit(&estate, deepest.as_ref(), &format!("level {level}")).await);
    }
    let parent = deepest.map(|ou| ou.uuid);
    let error = ou_create(&estate, &operator(&estate), parent, "too deep".to_owned(), String::new())
        .await
        .unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "too_deep"));
    let top = unit_get(&estate, &operator(&estate), Uuid::nil()).await.unwrap();
    assert_eq!((top.children, top.descendants.len()), (1, 19));
}
