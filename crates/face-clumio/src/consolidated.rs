//! Consolidated alerts.

use axum::extract::State;
use http::HeaderMap;
use landreeve_core::{Error, PageOf, Result};
use landreeve_http::Outcome;
use landreeve_http::extract::{Body, Path, Query};
use landreeve_protection::Protection;
use landreeve_protection::consolidated::{group_get, group_page, group_update};
use uuid::Uuid;

use crate::caller::Caller;
use crate::version::CONSOLIDATED_ALERTS;
use crate::wire::Answer;
use crate::wire::alerts::{SORT, read_update};
use crate::wire::consolidated::{ConsolidatedBody, FILTER, filter};
use crate::wire::error::ErrorBody;
use crate::wire::link::Base;
use crate::wire::list::{Asked, ListBody, Parameters};

const LIST: Parameters = Parameters { sort: &SORT, ..Parameters::numbered(20, &FILTER) };
const PATH: &str = "/alerts/consolidated";

/// List alerts by database and cause, newest first
#[utoipa::path(
    get,
    path = "/alerts/consolidated",
    operation_id = "list-consolidated-alerts",
    tag = "consolidated-alerts",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most 1000 [default: 20].", example = 20),
        ("start" = Option<i64>, Query, minimum = 1, description = "Page number.", example = 1),
        ("sort" = Option<String>, Query, pattern = "^-?(raised_timestamp|updated_timestamp|cleared_timestamp)$",
            description = "`raised_timestamp`, `updated_timestamp` or `cleared_timestamp`, with a minus for the newest first.",
            example = "-raised_timestamp"),
        ("filter" = Option<String>, Query,
            description = "By `status` (`$in`), `raised_timestamp` (`$lte`, `$gte`), or `parent_entity.id` and \
                           `parent_entity.type` together (`$eq`).",
            example = r#"{"status":{"$in":["active"]}}"#),
        ("X-Clumio-OrganizationalUnit-Context" = Option<String>, Header,
            description = "Organizational unit to work in."),
    ),
    responses(
        (status = 200, body = ListBody<ConsolidatedBody>,
            content_type = "application/api.clumio.consolidated-alerts=v1+json"),
        (status = 403, body = ErrorBody),
    )
)]
pub async fn list(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
) -> Outcome<Answer<ListBody<ConsolidatedBody>>> {
    let version = CONSOLIDATED_ALERTS.version(&headers)?;
    let asked = Asked::parse(&query, &LIST)?;
    let PageOf { items, total, .. } = group_page(&plane, &ctx, &filter(&asked)?, asked.page).await?;
    let bodies = items.iter().map(|group| ConsolidatedBody::new(&base, &ctx, group)).collect();
    let body = asked.sorted(&base, PATH, bodies, (total, "-raised_timestamp"));
    Ok(Answer { resource: &CONSOLIDATED_ALERTS, version, body })
}

/// Get a consolidated alert
#[utoipa::path(
    get,
    path = "/alerts/consolidated/{consolidated_alert_id}",
    operation_id = "read-consolidated-alert",
    tag = "consolidated-alerts",
    params(("consolidated_alert_id" = String, Path, format = "uuid", description = "Id of the consolidated alert.",
        example = "11111111-2222-4333-8444-555555555555")),
    responses(
        (status = 200, body = ConsolidatedBody, content_type = "application/api.clumio.consolidated-alerts=v1+json"),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn read(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Outcome<Answer<ConsolidatedBody>> {
    let version = CONSOLIDATED_ALERTS.version(&headers)?;
    let group = group_get(&plane, &ctx, group_id(&id)?).await?;
    Ok(Answer { resource: &CONSOLIDATED_ALERTS, version, body: ConsolidatedBody::new(&base, &ctx, &group) })
}

/// Note something on a consolidated alert, or clear it
///
/// Clearing it clears those of its alerts that the caller manages.
#[utoipa::path(
    patch,
    path = "/alerts/consolidated/{consolidated_alert_id}",
    operation_id = "update-consolidated-alert",
    tag = "consolidated-alerts",
    params(("consolidated_alert_id" = String, Path, format = "uuid", description = "Id of the consolidated alert.",
        example = "11111111-2222-4333-8444-555555555555")),
    request_body(content = inline(crate::wire::alerts::AlertUpdate),
        example = json!({ "notes": "The disk was replaced.", "status": "cleared" })),
    responses(
        (status = 200, body = ConsolidatedBody, content_type = "application/api.clumio.consolidated-alerts=v1+json"),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn update(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path(id): Path<String>,
    Body(body): Body,
) -> Outcome<Answer<ConsolidatedBody>> {
    let version = CONSOLIDATED_ALERTS.version(&headers)?;
    let (notes, clear) = read_update(&body)?;
    let group = group_update(&plane, &ctx, group_id(&id)?, notes, clear).await?;
    Ok(Answer { resource: &CONSOLIDATED_ALERTS, version, body: ConsolidatedBody::new(&base, &ctx, &group) })
}

fn group_id(id: &str) -> Result<Uuid> {
    Uuid::parse_str(id).map_err(|_| Error::not_found("alert"))
}
