//! The audit trail.

use axum::extract::State;
use http::HeaderMap;
use landreeve_core::PageOf;
use landreeve_http::Outcome;
use landreeve_http::extract::Query;
use landreeve_protection::Protection;
use landreeve_protection::trail::trail_page;

use crate::caller::Caller;
use crate::version::AUDIT_TRAILS;
use crate::wire::Answer;
use crate::wire::audit::{AuditBody, FILTER, filter};
use crate::wire::error::ErrorBody;
use crate::wire::link::Base;
use crate::wire::list::{Asked, ListBody, Parameters};

const LIST: Parameters = Parameters::numbered(20, &FILTER);

/// List the events of the audit trail, newest first
#[utoipa::path(
    get,
    path = "/audit-trails",
    operation_id = "list-audit-trails",
    tag = "audit-trails",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most 1000 [default: 20].", example = 20),
        ("start" = Option<i64>, Query, minimum = 1, description = "Page number.", example = 1),
        ("filter" = Option<String>, Query,
            description = "By `start_timestamp` (`$gte`, `$lt`; `$eq`: how many seconds back from now), `category`, `action`, \
                           `status`, `user_email`, `primary_entity.id`, `primary_entity.value` (`$in`), \
                           `primary_entity.type`, `ip_address` or `organizational_unit_id` (`$eq`).",
            example = r#"{"category":{"$in":["users"]},"start_timestamp":{"$eq":3600}}"#),
        ("X-Clumio-OrganizationalUnit-Context" = Option<String>, Header,
            description = "Organizational unit to work in."),
    ),
    responses(
        (status = 200, body = ListBody<AuditBody>, content_type = "application/api.clumio.audit-trails=v1+json"),
        (status = 400, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 101, "error_message": "filter.status.$in cannot be \"done\"; it must be one of success, failure, partial_success" }]
        })),
    )
)]
pub async fn list(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
) -> Outcome<Answer<ListBody<AuditBody>>> {
    let version = AUDIT_TRAILS.version(&headers)?;
    let asked = Asked::parse(&query, &LIST)?;
    let filter = filter(&asked, plane.estate().now());
    let PageOf { items, total, .. } = trail_page(&plane, &ctx, filter, asked.page).await?;
    let bodies = items.iter().map(AuditBody::new).collect();
    Ok(Answer { resource: &AUDIT_TRAILS, version, body: asked.body(&base, "/audit-trails", bodies, total) })
}
