//! Events that the plane handles: each event twice, directly and through the outbox.

use std::sync::Arc;

use landreeve_core::ids::{BoxFuture, EventId, OuId};
use landreeve_core::source::CancellationToken;
use landreeve_core::{ErrorKind, Result};
use landreeve_delivery::deployments::{
    DeploymentFacts, deployment_create, deployment_info, deployment_update, deployment_upsert,
};
use landreeve_delivery::events::Hear;
use landreeve_delivery::incidents::{IncidentFacts, incident_upsert};
use landreeve_estate::events::{Delivered, Event, Promoted, Subscriber, append, dispatch, register};
use tokio::sync::watch;

use crate::support::{World, minute, service};

conformance![
    a_promotion_is_a_deployment,
    a_promotion_is_a_deployment_of_each_service,
    bad_events_and_taken_references_do_not_block_others,
    a_monitor_opens_and_resolves_one_incident,
    the_outbox_delivers_to_the_plane
];

fn finished(deployment: i64, success: bool) -> Event {
    Event::DeploymentFinished {
        deployment,
        service: "sales".to_owned(),
        environment: "production".to_owned(),
        success,
        finished_at: minute(5),
        details: None,
    }
}

fn monitor(monitor: i64, failing: bool, at: i64) -> Event {
    Event::MonitorChanged {
        monitor,
        name: "Orders arrive".to_owned(),
        service: Some("sales".to_owned()),
        failing,
        at: minute(at),
    }
}

/// Delivers at least once, like the outbox.
async fn twice(world: &World, id: i64, event: Event) {
    let delivered = Delivered { id: EventId(id), ou: OuId::ROOT, event, at: minute(0) };
    for _ in 0..2 {
        Hear(world.plane.clone()).handle(&delivered).await.unwrap();
    }
}

async fn a_promotion_is_a_deployment(world: &World) {
    twice(world, 1, finished(41, true)).await;
    twice(world, 2, finished(42, false)).await;
    let rows = world
        .sql("SELECT reference_id, service, environment, success, deployed_at, source_name FROM deployments ORDER BY 1")
        .await;
    let row =
        |reference, success| [reference, "sales", "production", success, "2026-01-01T00:05:00Z", "Landreeve"];
    assert_eq!(rows, [row("landreeve:promotion:41", "true"), row("landreeve:promotion:42", "false")]);
    // The server recorded it itself.
    let facts = DeploymentFacts { success: Some(true), ..DeploymentFacts::default() };
    let error =
        deployment_update(&world.plane, &world.ctx, "landreeve:promotion:42".to_owned(), facts.into())
            .await
            .unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "deployment_not_editable"));
    assert!(!deployment_info(&world.plane, &world.ctx, "landreeve:promotion:42").await.unwrap().success);
}

/// With the details that a promotion has since version 2 of the event.
async fn a_promotion_is_a_deployment_of_each_service(world: &World) {
    for (id, name) in [(1, "sales"), (2, "stock")] {
        let event = Event::DeploymentFinished {
            deployment: 43,
            service: name.to_owned(),
            environment: "staging".to_owned(),
            success: true,
            finished_at: minute(5),
            details: Some(Promoted {
                user: "ann".to_owned(),
                environment: "Test".to_owned(),
                revisions: vec!["r1".to_owned(), "r2".to_owned()],
            }),
        };
        twice(world, id, event).await;
    }
    let sql = "SELECT reference_id, service, environment, success FROM deployments ORDER BY 1";
    assert_eq!(
        world.sql(sql).await,
        [
            ["landreeve:promotion:43:sales", "sales", "staging", "true"],
            ["landreeve:promotion:43:stock", "stock", "staging", "true"],
        ]
    );
    let kept = world.sql("SELECT key, value FROM deployment_metadata ORDER BY 1, 2").await;
    let each = [["environment", "Test"], ["revisions", "[\"r1\",\"r2\"]"], ["user", "ann"]];
    let expected: Vec<[&str; 2]> = each.into_iter().flat_map(|row| [row, row]).collect();
    assert_eq!(kept, expected);
}

async fn incidents(world: &World) -> Vec<Vec<String>> {
    world.sql("SELECT reference_id, name, started_at, resolved_at FROM incidents ORDER BY 1").await
}

/// An event that cannot be recorded, and a client's attempt to take a reference before the server assigns it.
async fn bad_events_and_taken_references_do_not_block_others(world: &World) {
    let unheard = Event::DeploymentFinished {
        deployment: 1,
        service: "s".repeat(300),
        environment: "production".to_owned(),
        success: true,
        finished_at: minute(5),
        details: None,
    };
    twice(world, 1, unheard).await;
    let facts = || DeploymentFacts {
        deployed_at: Some(minute(1)),
        service: Some(service("sales")),
        ..DeploymentFacts::default()
    };
    let reference = || "landreeve:promotion:2".to_owned();
    let plane = &world.plane;
    for refused in [
        deployment_create(plane, &world.ctx, Some(reference()), facts().into()).await.map(drop),
        deployment_upsert(plane, &world.ctx, reference(), facts().into()).await.map(drop),
        incident_upsert(
            plane,
            &world.ctx,
            "landreeve:monitor:1:1".to_owned(),
            IncidentFacts::default().into(),
        )
        .await
        .map(drop),
    ] {
        let fault = &refused.unwrap_err().faults[0];
        assert_eq!((fault.field.as_str(), fault.code), ("reference_id", "reserved"));
    }
    twice(world, 2, finished(2, true)).await;
    assert_eq!(world.sql("SELECT reference_id FROM deployments").await, [["landreeve:promotion:2"]]);
}

async fn a_monitor_opens_and_resolves_one_incident(world: &World) {
    twice(world, 1, monitor(7, false, 1)).await;
    assert_eq!(incidents(world).await.len(), 0, "a recovery without a failure opens nothing");
    twice(world, 2, monitor(7, true, 2)).await;
    twice(world, 3, monitor(7, true, 3)).await;
    // A monitor whose number starts with the same digit.
    twice(world, 4, monitor(70, true, 4)).await;
    let open = |reference, at| [reference, "Orders arrive is failing", at, "NULL"];
    let other = open("landreeve:monitor:70:4", "2026-01-01T00:04:00Z");
    assert_eq!(incidents(world).await, [other, open("landreeve:monitor:7:2", "2026-01-01T00:02:00Z")]);
    twice(world, 5, monitor(7, false, 9)).await;
    let resolved =
        ["landreeve:monitor:7:2", "Orders arrive is failing", "2026-01-01T00:02:00Z", "2026-01-01T00:09:00Z"];
    assert_eq!(incidents(world).await, [other, resolved]);
    // The first event again, after all the others: that incident has ended.
    twice(world, 2, monitor(7, true, 2)).await;
    assert_eq!(incidents(world).await, [other, resolved]);
    twice(world, 6, monitor(7, true, 10)).await;
    assert_eq!(incidents(world).await.len(), 3);
    let rows = world.sql("SELECT count(*) FROM incident_services WHERE identifier = 'sales'").await;
    assert_eq!(rows, [["3"]]);
}

/// Counts the events that the plane received.
struct Counting(Hear, watch::Sender<usize>);

impl Subscriber for Counting {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn handle<'a>(&'a self, event: &'a Delivered) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.0.handle(event).await?;
            self.1.send_modify(|count| *count += 1);
            Ok(())
        })
    }
}

async fn the_outbox_delivers_to_the_plane(world: &World) {
    let estate = &world.kit.estate;
    let (counted, mut count) = watch::channel(0);
    let subscribers: Vec<Arc<dyn Subscriber>> = vec![Arc::new(Counting(Hear(world.plane.clone()), counted))];
    register(estate, &subscribers).await.unwrap();
    world.kit.start_delivery(&world.plane).await;
    let stop = CancellationToken::new();
    let dispatching = tokio::spawn(dispatch(estate.clone(), subscribers, stop.clone()));
    let ou = world.kit.ou("warehouse").await.id;
    let now = estate.now();
    let appended = estate.store().write(move |tx| {
        Box::pin(async move {
            for event in [finished(1, true), monitor(1, true, 6), finished(1, true), monitor(1, false, 8)] {
                append(tx, ou, &event, now).await?;
            }
            Ok(())
        })
    });
    appended.await.unwrap();
    let all = tokio::time::timeout(std::time::Duration::from_secs(30), count.wait_for(|count| *count >= 4));
    all.await.expect("the events did not arrive").unwrap();
    stop.cancel();
    dispatching.await.unwrap();
    // In the event's unit, as seen in SQL there.
    let path = format!("/1/{ou}/");
    let rows = world.sql_as(std::slice::from_ref(&path), "SELECT service, success FROM deployments").await;
    assert_eq!(rows, [["sales", "true"]]);
    let rows = world.sql_as(&[path], "SELECT started_at, resolved_at FROM incidents").await;
    assert_eq!(rows, [["2026-01-01T00:06:00Z", "2026-01-01T00:08:00Z"]]);
}
