//! Incidents: each member is left, cleared or set.

use landreeve_core::Given;
use landreeve_core::Result;
use landreeve_delivery::Metadata;
use landreeve_delivery::ids::IncidentId;
use landreeve_delivery::incidents::{IncidentFacts, incident_upsert};
use serde_json::json;

use crate::support::{World, minute, service};

conformance![
    omitted_members_are_kept,
    rejects_invalid_incidents,
    a_repeated_service_counts_once,
    concurrent_updates_of_an_incident_all_count
];

async fn upsert(world: &World, facts: IncidentFacts) -> Result<IncidentId> {
    incident_upsert(&world.plane, &world.ctx, "inc-1".to_owned(), facts.into()).await
}

async fn services(world: &World) -> Vec<String> {
    let rows = world.sql("SELECT identifier FROM incident_services ORDER BY identifier").await;
    rows.into_iter().map(|mut row| row.remove(0)).collect()
}

async fn omitted_members_are_kept(world: &World) {
    let full = IncidentFacts {
        started_at: Some(minute(1)),
        name: Given::Value("Down".to_owned()),
        priority: Given::Value("p1".to_owned()),
        source_url: Given::Value("https://pager.example.com/1".to_owned()),
        resolved_at: Given::Absent,
        services: Given::Value(vec![service("web"), service("api")]),
        metadata: Given::Value(Metadata::new(json!({"a": {"b": 1}, "c": 2})).unwrap()),
    };
    let id = upsert(world, full).await.unwrap();
    let shown =
        async || world.sql("SELECT name, priority, source_url, started_at, resolved_at FROM incidents").await;
    let open = ["Down", "p1", "https://pager.example.com/1", "2026-01-01T00:01:00Z", "NULL"];
    let metadata = async || world.sql("SELECT key, value FROM incident_metadata ORDER BY key").await;
    assert_eq!(shown().await, [open]);
    // Everything left out.
    assert_eq!(upsert(world, IncidentFacts::default()).await.unwrap(), id);
    assert_eq!(shown().await, [open]);
    assert_eq!(services(world).await, ["api", "web"]);
    assert_eq!(metadata().await, [["a.b", "1"], ["c", "2"]]);
    // Replaced as a whole.
    let other = IncidentFacts {
        services: Given::Value(vec![service("job")]),
        metadata: Given::Value(Metadata::new(json!({"d": null})).unwrap()),
        resolved_at: Given::Value(minute(5)),
        ..IncidentFacts::default()
    };
    upsert(world, other).await.unwrap();
    assert_eq!(services(world).await, ["job"]);
    assert_eq!(metadata().await, [["d", "NULL"]]);
    assert_eq!(shown().await[0][4], "2026-01-01T00:05:00Z");
    // An empty list, and an absent value: cleared.
    let cleared = IncidentFacts {
        services: Given::Value(Vec::new()),
        metadata: Given::Null,
        resolved_at: Given::Null,
        name: Given::Null,
        ..IncidentFacts::default()
    };
    upsert(world, cleared).await.unwrap();
    assert_eq!((services(world).await.len(), metadata().await.len()), (0, 0));
    assert_eq!(shown().await, [["NULL", "p1", open[2], open[3], "NULL"]]);
    upsert(world, IncidentFacts { services: Given::Value(vec![service("web")]), ..IncidentFacts::default() })
        .await
        .unwrap();
    upsert(world, IncidentFacts { services: Given::Null, ..IncidentFacts::default() }).await.unwrap();
    assert_eq!(services(world).await.len(), 0);
    upsert(world, IncidentFacts { resolved_at: Given::Value(minute(6)), ..IncidentFacts::default() })
        .await
        .unwrap();
    assert_eq!(shown().await[0][4], "2026-01-01T00:06:00Z");
}

async fn rejects_invalid_incidents(world: &World) {
    let error = upsert(world, IncidentFacts::default()).await.unwrap_err();
    assert_eq!((error.faults[0].field.as_str(), error.faults[0].code), ("started_at", "required"));
    let started = |minutes| IncidentFacts { started_at: Some(minute(minutes)), ..IncidentFacts::default() };
    for (facts, field) in [
        (started(1_000_000), "started_at"),
        (IncidentFacts { resolved_at: Given::Value(minute(0)), ..started(1) }, "resolved_at"),
        (
            IncidentFacts { services: Given::Value(vec![service("a"), service("")]), ..started(1) },
            "services.1",
        ),
        (IncidentFacts { name: Given::Value(String::new()), ..started(1) }, "name"),
    ] {
        let error = upsert(world, facts).await.unwrap_err();
        let fields: Vec<_> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, [field]);
    }
    let both = IncidentFacts {
        resolved_at: Given::Value(minute(0)),
        name: Given::Value(String::new()),
        ..started(1)
    };
    let error = upsert(world, both).await.unwrap_err();
    let fields: Vec<_> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["name", "resolved_at"]);
    assert_eq!(world.number("SELECT count(*) FROM delivery_incidents").await, 0);
    assert_eq!(world.number("SELECT count(*) FROM delivery_services").await, 0);
}

async fn a_repeated_service_counts_once(world: &World) {
    world.incident("inc-1", &["web", "web"], minute(1), None).await;
    assert_eq!(services(world).await, ["web"]);
}

/// Each sets a different member: none may be rejected, and none may undo what another has set.
async fn concurrent_updates_of_an_incident_all_count(world: &World) {
    for round in 0..10 {
        let said = |facts: IncidentFacts| {
            let facts = IncidentFacts { started_at: Some(minute(1)), ..facts };
            incident_upsert(&world.plane, &world.ctx, format!("at-once-{round}"), facts.into())
        };
        let text = |text: &str| Given::Value(text.to_owned());
        let ids = futures_util::future::try_join_all([
            said(IncidentFacts { name: text("Down"), ..IncidentFacts::default() }),
            said(IncidentFacts { priority: text("p1"), ..IncidentFacts::default() }),
            said(IncidentFacts {
                source_url: text("https://pager.example.com/1"),
                ..IncidentFacts::default()
            }),
            said(IncidentFacts { services: Given::Value(vec![service("web")]), ..IncidentFacts::default() }),
        ]);
        let ids = ids.await.unwrap();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
    let rows = world.sql("SELECT DISTINCT name, priority, source_url FROM incidents").await;
    assert_eq!(rows, [["Down", "p1", "https://pager.example.com/1"]]);
    assert_eq!(services(world).await.len(), 10);
}
