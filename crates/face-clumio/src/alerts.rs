//! Alerts.

use std::collections::{BTreeSet, HashMap};

use axum::extract::State;
use http::HeaderMap;
use landreeve_core::{Error, OpCtx, Page, PageOf, Result};
use landreeve_http::Outcome;
use landreeve_http::extract::{Body, Path, Query};
use landreeve_protection::Protection;
use landreeve_protection::alerts::{Alert, alert_get, alert_page, alert_update};
use landreeve_protection::consolidated::{GroupFilter, group_page};
use uuid::Uuid;

use crate::caller::Caller;
use crate::version::INDIVIDUAL_ALERTS;
use crate::wire::Answer;
use crate::wire::alerts::{AlertBody, FILTER, SORT, filter, read_update};
use crate::wire::consolidated::ConsolidatedBody;
use crate::wire::error::ErrorBody;
use crate::wire::link::Base;
use crate::wire::list::{Asked, ListBody, Parameters};

const EMBED: &[&str] = &["read-consolidated-alert"];
const LIST: Parameters = Parameters { sort: &SORT, embed: EMBED, ..Parameters::numbered(20, &FILTER) };
const ONE: Parameters = Parameters { embed: EMBED, ..Parameters::NONE };
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
                           `primary_entity.type`, `consolidated_alert_id`, `parent_entity.id` and `parent_entity.type` \
                           together (`$eq`) or `primary_entity.value` (`$contains`).",
            example = r#"{"status":{"$in":["active"]}}"#),
        ("embed" = Option<String>, Query, pattern = "^(read-consolidated-alert)$",
            description = "`read-consolidated-alert`.", example = "read-consolidated-alert"),
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
    let PageOf { items, total, .. } = alert_page(&plane, &ctx, &filter(&asked)?, asked.page).await?;
    let bodies = shown(&plane, &ctx, &base, &asked, &items).await?;
    let body = asked.sorted(&base, PATH, bodies, (total, "-raised_timestamp"));
    Ok(Answer { resource: &INDIVIDUAL_ALERTS, version, body })
}

/// Get an alert
#[utoipa::path(
    get,
    path = "/alerts/individual/{individual_alert_id}",
    operation_id = "read-individual-alert",
    tag = "individual-alerts",
    params(
        ("individual_alert_id" = String, Path, format = "uuid", description = "Id of the alert.",
            example = "11111111-2222-4333-8444-555555555555"),
        ("embed" = Option<String>, Query, pattern = "^(read-consolidated-alert)$",
            description = "`read-consolidated-alert`.", example = "read-consolidated-alert"),
    ),
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
    query: Query,
    Path(id): Path<String>,
) -> Outcome<Answer<AlertBody>> {
    let version = INDIVIDUAL_ALERTS.version(&headers)?;
    let asked = Asked::parse(&query, &ONE)?;
    let alert = alert_get(&plane, &ctx, alert_id(&id)?).await?;
    Ok(Answer { resource: &INDIVIDUAL_ALERTS, version, body: one(&plane, &ctx, &base, &asked, alert).await? })
}

/// Note something on an alert, or clear it
///
/// An alert that was cleared stays so; if its cause occurs again, there is a new one.
#[utoipa::path(
    patch,
    path = "/alerts/individual/{individual_alert_id}",
    operation_id = "update-individual-alert",
    tag = "individual-alerts",
    params(
        ("individual_alert_id" = String, Path, format = "uuid", description = "Id of the alert.",
            example = "11111111-2222-4333-8444-555555555555"),
        ("embed" = Option<String>, Query, pattern = "^(read-consolidated-alert)$",
            description = "`read-consolidated-alert`.", example = "read-consolidated-alert"),
    ),
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
    query: Query,
    Path(id): Path<String>,
    Body(body): Body,
) -> Outcome<Answer<AlertBody>> {
    let version = INDIVIDUAL_ALERTS.version(&headers)?;
    let asked = Asked::parse(&query, &ONE)?;
    let (notes, clear) = read_update(&body)?;
    let alert = alert_update(&plane, &ctx, alert_id(&id)?, notes, clear).await?;
    Ok(Answer { resource: &INDIVIDUAL_ALERTS, version, body: one(&plane, &ctx, &base, &asked, alert).await? })
}

/// The alerts, with what the request wants to be embedded.
async fn shown(
    plane: &Protection,
    ctx: &OpCtx,
    base: &Base,
    asked: &Asked,
    alerts: &[Alert],
) -> Result<Vec<AlertBody>> {
    let mut groups = HashMap::new();
    if asked.embeds("read-consolidated-alert") {
        let uuids: BTreeSet<Uuid> = alerts.iter().filter_map(|alert| alert.group).collect();
        let wanted = GroupFilter { uuids: Some(uuids.into_iter().collect()), ..GroupFilter::default() };
        let found = group_page(plane, ctx, &wanted, Page::first(Page::MAX_LIMIT)).await?;
        groups.extend(found.items.into_iter().map(|group| (group.uuid, group)));
    }
    let body = |alert: &Alert| {
        let group = alert.group.and_then(|group| groups.get(&group));
        AlertBody::new(base, ctx, alert, group.map(|group| ConsolidatedBody::new(base, ctx, group)))
    };
    Ok(alerts.iter().map(body).collect())
}

async fn one(plane: &Protection, ctx: &OpCtx, base: &Base, asked: &Asked, alert: Alert) -> Result<AlertBody> {
    let bodies = shown(plane, ctx, base, asked, std::slice::from_ref(&alert)).await?;
    bodies.into_iter().next().ok_or_else(|| Error::internal("an alert that vanished"))
}

fn alert_id(id: &str) -> Result<Uuid> {
    Uuid::parse_str(id).map_err(|_| Error::not_found("alert"))
}
