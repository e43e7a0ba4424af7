//! `incidents.*`: incidents.

use axum::Json;
use axum::extract::State;
use landreeve_core::Given;
use landreeve_delivery::incidents::{IncidentFacts, incident_upsert};
use landreeve_delivery::{Delivery, Metadata};
use landreeve_http::Outcome;

use crate::arguments::{Arguments, Reader};
use crate::caller::Caller;
use crate::wire::done::Done;
use crate::wire::incidents::IncidentArguments;

/// Create or update an incident
///
/// Identified by `reference_id`. Omitted members are kept, null clears; `services` and `metadata` are replaced whole.
#[utoipa::path(
    post,
    path = "/api/incidents.upsert",
    tag = "incidents",
    request_body(content = inline(IncidentArguments), example = json!({
        "reference_id": "inc-7",
        "name": "Checkout is slow",
        "priority": "p1",
        "started_at": "2026-01-02T09:20:00Z",
        "services": [{ "identifier": "checkout" }]
    })),
    responses((status = 200, body = Done, example = json!({ "ok": true })))
)]
pub async fn upsert(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<Done>> {
    let mut reader = arguments.reader();
    let (reference, facts) = incident(&mut reader);
    incident_upsert(&plane, &ctx, reference, reader.asked(facts)).await?;
    Ok(Json(Done::ok()))
}

/// Create or update an incident (older name)
///
/// `services` is required.
#[utoipa::path(
    post,
    path = "/api/incidents.sync",
    tag = "incidents",
    request_body(content = inline(IncidentArguments), example = json!({
        "reference_id": "inc-8", "started_at": "1767345600", "services": ["checkout"]
    })),
    responses((status = 200, body = Done, example = json!({ "ok": true })))
)]
pub async fn sync(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<Done>> {
    let mut reader = arguments.reader();
    let (reference, facts) = incident(&mut reader);
    if !matches!(facts.services, Given::Value(_)) {
        reader.require("services");
    }
    incident_upsert(&plane, &ctx, reference, reader.asked(facts)).await?;
    Ok(Json(Done::ok()))
}

/// A form has no null: an empty string clears.
fn text(reader: &mut Reader<'_>, name: &str) -> Given<String> {
    match reader.given_text(name) {
        Given::Value(text) if text.is_empty() => Given::Null,
        other => other,
    }
}

/// An object without keys clears the metadata, like null.
fn metadata(reader: &mut Reader<'_>) -> Given<Metadata> {
    match reader.metadata() {
        Given::Value(metadata) if metadata.is_empty() => Given::Null,
        other => other,
    }
}

fn incident(reader: &mut Reader<'_>) -> (String, IncidentFacts) {
    let reference = reader.required_text("reference_id");
    let facts = IncidentFacts {
        started_at: reader.instant("started_at"),
        name: text(reader, "name"),
        priority: text(reader, "priority"),
        source_url: text(reader, "source_url"),
        resolved_at: reader.given_instant("resolved_at"),
        services: reader.services("services"),
        metadata: metadata(reader),
    };
    (reference, facts)
}
