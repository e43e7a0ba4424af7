//! The organization's settings: get and update.

use axum::extract::State;
use landreeve_estate::ops::settings as ops;
use landreeve_http::Outcome;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::caller::Caller;
use crate::media::{JsonBody, PlainJson};
use crate::wire::organization::{self as wire, Organization, OrganizationUpdate};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get, update))
}

/// Get Organization
///
/// Needs *View Organization* or *Manage Organization*. An extension of the documented API.
#[utoipa::path(get, path = "/organization", tag = "Organization", operation_id = "getOrganization",
    responses((status = 200, body = Organization)))]
async fn get(State(app): State<App>, Caller(ctx): Caller, out: PlainJson) -> Outcome {
    out.ok(&wire::render(&ops::settings_get(app.estate(), &ctx).await?))
}

/// Update Organization
///
/// Needs *Manage Organization*. Omitted members are kept; null restores the default.
#[utoipa::path(patch, path = "/organization", tag = "Organization", operation_id = "updateOrganization",
    request_body(content = OrganizationUpdate, content_type = "application/json",
        example = json!({"time_zone": "Europe/Berlin"})),
    responses((status = 200, body = Organization)))]
async fn update(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: PlainJson,
    JsonBody(body): JsonBody,
) -> Outcome {
    let changes = wire::read(&body)?;
    out.ok(&wire::render(&ops::settings_update(app.estate(), &ctx, changes).await?))
}
