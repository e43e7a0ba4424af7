//! Alerts.

use axum::extract::State;
use http::HeaderMap;
use landreeve_core::{Error, PageOf, Result};
use landreeve_http::Outcome;
use landreeve_http::extract::{Body, Path, Query};
use landreeve_protection::Protection;
use landreeve_protection::alerts::{alert_get, alert_page, alert_update};
use uuid::Uuid;

use crate::caller::Caller;
use crate::version::INDIVIDUAL_ALERTS;
use crate::wire::Answer;
use crate::wire::alerts::{AlertBody, FILTER, SORT, filter, read_update};
use crate::wire::error::ErrorBody;
use crate::wire::link::Base;
use crate::wire::list::{Asked, ListBody, Parameters};

const LIST: Parameters = Parameters { sort: &SORT, ..Parameters::numbered(20, &FILTER) };
const PATH: &str = "/alerts/individual";

/// List alerts, newest first
#[utoipa::path(
    get,
    path = "/alerts/individual",
    operation_id = "list-individual-alerts",
    tag = "individual-alerts",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most 1000 [default: 20].", example = 20),
        ("start" = Option<i64>, Query, minimum = 1, description = "Page number.", example = 1),
        ("sort" = Option<String>, Query, pattern = "^-?(raised_timestamp|updated_timestamp|cleared_timestamp)$",
            description = "`raised_timestamp`, `updated_timestamp` or `cleared_timestamp`, with a minus for the newest first.",
            example = "-raised_timestamp"),
        ("filter" = Option<String>, Query,
            description = "By `type`, `status`, `severity` (`$in`), the three times (`$lte`, `$gte`), `primary_entity.id`, \
                           `primary_entity.type` (`$eq`) or `primary_entity.value` (`$contains`).",
            example = r#"{"status":{"$in":["active"]}}"#),
        ("X-Clumio-OrganizationalUnit-Context" = Option<String>, Header,
            description = "Organizational unit to work in."),
    ),
    responses(
        (status = 200, body = ListBody<AlertBody>, content_type = "application/api.clumio.individual-alerts=v1+json",
            example = json!({
                "_embedded": { "items": [] },
                "_links": {
                    "_self": { "href": "/alerts/individual?start=1", "type": "get", "templated": false },
                    "_first": { "href": "/alerts/individual?start=1", "type": "get", "templated": false },
                    "_last": { "href": "/alerts/individual?start=1", "type": "get", "templated": false }
                },
                "current_count": 0, "filter_applied": "{}", "sort_applied": "-raised_timestamp", "limit": 20,
                "start": "1", "total_count": 0, "total_pages_count": 0
            })),
        (status = 403, body = ErrorBody),
    )
)]
pub async fn list(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
) -> Outcome<Answer<ListBody<AlertBody>>> {
    let version = INDIVIDUAL_ALERTS.version(&headers)?;
    let asked = Asked::parse(&query, &LIST)?;
    let PageOf { items, total, .. } = alert_page(&plane, &ctx, &filter(&asked), asked.page).await?;
    let bodies = items.iter().map(|alert| AlertBody::new(&base, &ctx, alert)).collect();
    let body = asked.sorted(&base, PATH, bodies, (total, "-raised_timestamp"));
    Ok(Answer { resource: &INDIVIDUAL_ALERTS, version, body })
}

/// Get an alert
#[utoipa::path(
    get,
    path = "/alerts/individual/{individual_alert_id}",
    operation_id = "read-individual-alert",
    tag = "individual-alerts",
    params(("individual_alert_id" = String, Path, format = "uuid", description = "Id of the alert.",
        example = "11111111-2222-4333-8444-555555555555")),
    responses(
        (status = 200, body = AlertBody, content_type = "application/api.clumio.individual-alerts=v1+json"),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn read(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Outcome<Answer<AlertBody>> {
    let version = INDIVIDUAL_ALERTS.version(&headers)?;
    let alert = alert_get(&plane, &ctx, alert_id(&id)?).await?;
    Ok(Answer { resource: &INDIVIDUAL_ALERTS, version, body: AlertBody::new(&base, &ctx, &alert) })
}

/// Note something on an alert, or clear it
///
/// An alert that was cleared stays so; if its cause occurs again, there is a new one.
#[utoipa::path(
    patch,
    path = "/alerts/individual/{individual_alert_id}",
    operation_id = "update-individual-alert",
    tag = "individual-alerts",
    params(("individual_alert_id" = String, Path, format = "uuid", description = "Id of the alert.",
        example = "11111111-2222-4333-8444-555555555555")),
    request_body(content = inline(crate::wire::alerts::AlertUpdate),
        example = json!({ "notes": "The disk was replaced.", "status": "cleared" })),
    responses(
        (status = 200, body = AlertBody, content_type = "application/api.clumio.individual-alerts=v1+json"),
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
) -> Outcome<Answer<AlertBody>> {
    let version = INDIVIDUAL_ALERTS.version(&headers)?;
    let (notes, clear) = read_update(&body)?;
    let alert = alert_update(&plane, &ctx, alert_id(&id)?, notes, clear).await?;
    Ok(Answer { resource: &INDIVIDUAL_ALERTS, version, body: AlertBody::new(&base, &ctx, &alert) })
}

fn alert_id(id: &str) -> Result<Uuid> {
    Uuid::parse_str(id).map_err(|_| Error::not_found("alert"))
}
