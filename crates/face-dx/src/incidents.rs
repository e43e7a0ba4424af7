//! `incidents.*`: what broke.

use axum::Json;
use axum::extract::State;
use landreeve_core::Result;
use landreeve_delivery::Delivery;
use landreeve_delivery::incidents::{IncidentFacts, Patch, incident_upsert};
use landreeve_http::Outcome;

use crate::arguments::{Arguments, Given, Reader};
use crate::caller::Caller;
use crate::wire::done::Done;
use crate::wire::incidents::IncidentArguments;

/// Record an incident, or change it
///
/// By `reference_id`. A member that is left out stays, null clears it; `services` and `metadata` are replaced whole.
#[utoipa::path(
    post,
    path = "/api/incidents.upsert",
    tag = "incidents",
    request_body(content = inline(IncidentArguments), example = json!({
        "reference_id": "inc-7",
        "name": "Checkout answers slowly",
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
    record(&plane, &ctx, &arguments).await
}

/// Record an incident, or change it (the older name)
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
    record(&plane, &ctx, &arguments).await
}

async fn record(plane: &Delivery, ctx: &landreeve_core::OpCtx, arguments: &Arguments) -> Outcome<Json<Done>> {
    let mut reader = arguments.reader();
    let reference = reader.required_text("reference_id");
    let facts = facts(&mut reader)?;
    reader.finish()?;
    incident_upsert(plane, ctx, reference, facts).await?;
    Ok(Json(Done::ok()))
}

fn patch<T>(given: Given<T>) -> Patch<T> {
    match given {
        Given::Absent => Patch::Leave,
        Given::Null => Patch::Clear,
        Given::Value(value) => Patch::Set(value),
    }
}

/// A form has no null: an empty text clears.
fn text(reader: &mut Reader<'_>, name: &str) -> Patch<String> {
    match patch(reader.given_text(name)) {
        Patch::Set(text) if text.is_empty() => Patch::Clear,
        other => other,
    }
}

fn facts(reader: &mut Reader<'_>) -> Result<IncidentFacts> {
    Ok(IncidentFacts {
        started_at: reader.instant("started_at"),
        name: text(reader, "name"),
        priority: text(reader, "priority"),
        source_url: text(reader, "source_url"),
        resolved_at: patch(reader.given_instant("resolved_at")),
        services: patch(reader.services("services")),
        metadata: patch(reader.metadata("metadata")?),
    })
}
