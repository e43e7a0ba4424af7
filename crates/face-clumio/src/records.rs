//! Rows of a backup, by SQL.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use landreeve_core::{OpKind, PageOf};
use landreeve_estate::ops::Origin;
use landreeve_estate::ops::general::require_allowed_address;
use landreeve_http::extract::{Body, Path, Query};
use landreeve_http::{Outcome, streamed};
use landreeve_protection::Protection;
use landreeve_protection::records::restoring::{
    record_download, record_preview, record_restore_start, record_token, records_get, records_page,
};

use crate::app::App;
use crate::caller::Caller;
use crate::rate::Limit;
use crate::tasks::started;
use crate::version::RECORDS;
use crate::wire::Answer;
use crate::wire::datasources::uuid;
use crate::wire::error::ErrorBody;
use crate::wire::link::{Base, Site};
use crate::wire::list::{Asked, ListBody, Parameters};
use crate::wire::records::{FILTER, PreviewBody, RecordsBody, filter, named, read_records};
use crate::wire::restores::StartedBody;

const LIST: Parameters = Parameters::numbered(20, &FILTER);
const PATH: &str = "/restores/aws/rds-resources/records";

/// Restore records
///
/// Runs one SELECT over the tables of a backup, named `schema.table`. With `preview`, the answer has the first 100 rows and is
/// ready within 30 seconds. Otherwise a task reads all of them, and they can be downloaded for a day.
#[utoipa::path(
    post,
    path = "/restores/aws/rds-resources/records",
    operation_id = "restore-rds-record",
    tag = "aws-rds-resource-restored-records",
    params(("embed" = Option<String>, Query, pattern = "^(read-task)$", description = "`read-task`.", example = "read-task")),
    request_body(content = inline(crate::wire::records::RecordsRequest), example = json!({
        "source": { "backup_id": "11111111-2222-4333-8444-555555555555", "database_name": "main" },
        "target": { "query_statement": "SELECT * FROM orders", "preview": true }
    })),
    responses(
        (status = 200, body = PreviewBody,
            content_type = "application/api.clumio.aws-rds-resource-restored-records=v1+json", example = json!({
                "preview_result": { "columns": [{ "name": "id", "type": "INTEGER" }], "rows": [["1"], ["2"]] }
            })),
        (status = 202, body = StartedBody,
            content_type = "application/api.clumio.aws-rds-resource-restored-records=v1+json"),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn restore(
    State(app): State<App>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
    Body(body): Body,
) -> Outcome<Response> {
    let version = RECORDS.version(&headers)?;
    let asked = Asked::parse(&query, &Parameters::TASK)?;
    let (new, preview) = read_records(&body)?;
    if preview {
        let preview = record_preview(&app.protection, &ctx, new).await.map_err(named)?;
        let body = PreviewBody::from(preview);
        return Ok(Answer { resource: &RECORDS, version, body }.into_response());
    }
    let run = record_restore_start(&app.protection, &ctx, new).await.map_err(named)?;
    let body = started(&app, &ctx, &base, (("post", PATH), &asked), &run).await?;
    Ok((StatusCode::ACCEPTED, Answer { resource: &RECORDS, version, body }).into_response())
}

/// List restored records that can be downloaded, newest first
#[utoipa::path(
    get,
    path = "/restores/aws/rds-resources/records",
    operation_id = "list-rds-restored-records",
    tag = "aws-rds-resource-restored-records",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most 1000 [default: 20].", example = 20),
        ("start" = Option<i64>, Query, minimum = 1, description = "Page number.", example = 1),
        ("filter" = Option<String>, Query, description = "By `task_id` (`$in`).", example = r#"{"task_id":{"$in":["28"]}}"#),
    ),
    responses(
        (status = 200, body = ListBody<RecordsBody>,
            content_type = "application/api.clumio.aws-rds-resource-restored-records=v1+json"),
        (status = 403, body = ErrorBody),
    )
)]
pub async fn list(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    (base, site): (Base, Site),
    headers: HeaderMap,
    query: Query,
) -> Outcome<Answer<ListBody<RecordsBody>>> {
    let version = RECORDS.version(&headers)?;
    let asked = Asked::parse(&query, &LIST)?;
    let PageOf { items, total, .. } =
        records_page(&plane, &ctx, &filter(&asked.conditions), asked.page).await?;
    let mut bodies = Vec::with_capacity(items.len());
    for records in &items {
        let token = record_token(&plane, records).await?;
        bodies.push(RecordsBody::new(&base, &site.0, records, &token));
    }
    Ok(Answer { resource: &RECORDS, version, body: asked.body(&base, PATH, bodies, total) })
}

/// Get restored records
///
/// Not in the documented API.
#[utoipa::path(
    get,
    path = "/restores/aws/rds-resources/records/{record_id}",
    operation_id = "read-rds-restored-record",
    tag = "aws-rds-resource-restored-records",
    params(("record_id" = String, Path, format = "uuid", description = "Id of the restored records.",
        example = "11111111-2222-4333-8444-555555555555")),
    responses(
        (status = 200, body = RecordsBody,
            content_type = "application/api.clumio.aws-rds-resource-restored-records=v1+json"),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn read(
    State(plane): State<Protection>,
    Caller(ctx): Caller,
    (base, site): (Base, Site),
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Outcome<Answer<RecordsBody>> {
    let version = RECORDS.version(&headers)?;
    let records = records_get(&plane, &ctx, uuid(&id, "result")?).await?;
    let token = record_token(&plane, &records).await?;
    Ok(Answer { resource: &RECORDS, version, body: RecordsBody::new(&base, &site.0, &records, &token) })
}

/// Download restored records
///
/// As CSV, with the link that lists have.
#[utoipa::path(
    get,
    path = "/restores/aws/rds-resources/records/{record_id}/_download",
    operation_id = "download-rds-restored-record",
    tag = "aws-rds-resource-restored-records",
    security(()),
    params(
        ("record_id" = String, Path, format = "uuid", description = "Id of the restored records.",
            example = "11111111-2222-4333-8444-555555555555"),
        ("token" = Option<String>, Query, description = "From the link."),
    ),
    responses(
        (status = 200, body = String, content_type = "text/csv"),
        (status = 403, body = ErrorBody, description = "The address is not in `ip_allowlist`."),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn download(
    State(plane): State<Protection>,
    State(limit): State<Limit>,
    origin: landreeve_http::Origin,
    Path(id): Path<String>,
    query: Query,
) -> Outcome<Response> {
    let origin = Origin { request_id: origin.request_id, address: origin.address, kind: OpKind::Clumio };
    require_allowed_address(plane.estate(), origin.address).await?;
    let token = query.text("token").unwrap_or_default();
    let download = record_download(&plane, origin, (uuid(&id, "result")?, token)).await?;
    limit.take(plane.estate().now())?;
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"records-{}.csv\"", download.uuid)),
        (CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, streamed(download.csv)).into_response())
}
