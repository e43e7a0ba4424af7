//! `studio.queryRuns.*`: runs, shown as query runs.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use landreeve_core::error::Faults;
use landreeve_core::ids::RunId;
use landreeve_core::source::{ByteStream, Envelope, JsonColumn, ResultFormat};
use landreeve_core::table::Variable;
use landreeve_core::{Error, Given, Result};
use landreeve_delivery::queries::{
    KINDS, query_run, query_run_get, result_by_token, result_grant, result_open,
};
use landreeve_delivery::{Delivery, Wanted};
use landreeve_estate::ops::Estate;
use landreeve_estate::ops::runs::{RunRef, run_cancel};
use landreeve_http::{Outcome, streamed};
use serde::Deserialize;
use serde_json::Value;

use crate::app::App;
use crate::arguments::Arguments;
use crate::caller::Caller;
use crate::queries::variable;
use crate::wire::error::ErrorBody;
use crate::wire::link::Link;
use crate::wire::queries::{ExecuteArguments, Results, ResultsBody};
use crate::wire::query_runs::{QueryRunBody, Shown};

/// Maximum number of rows in a JSON response, and its maximum size.
const SHOWN_ROWS: u64 = 1_000;
const SHOWN_BYTES: usize = 8 * 1_024 * 1_024;

/// Run a statement on the delivery data
///
/// Scope `datacloud:query`. One SELECT in PostgreSQL's flavour; `$name` is a variable. The response is immediate and
/// says where to check the status.
#[utoipa::path(
    post,
    path = "/studio.queryRuns.execute",
    tag = "studio.queryRuns",
    request_body(content = inline(ExecuteArguments), example = json!({
        "sql": "select service, count(*) as deployments from deployments where success = $success group by service",
        "variables": { "success": true }
    })),
    responses((status = 202, body = QueryRunBody, description = "Submitted; `Location` is the address of its status.",
        headers(("Location" = String), ("Retry-After" = u32))))
)]
pub async fn execute(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    link: Link,
    arguments: Arguments,
) -> Outcome {
    let mut reader = arguments.reader();
    let sql = reader.required_text("sql");
    let variables = match reader.value("variables") {
        Given::Value(value) => variables(&value, reader.faults()),
        Given::Absent | Given::Null => Vec::new(),
    };
    let run = query_run(&plane, &ctx, sql, reader.asked(variables)).await?;
    let shown = Shown { estate: plane.estate(), link: &link, run: &run };
    let body = Json(shown.body());
    let headers = [(LOCATION, shown.info_url()), (RETRY_AFTER, "1".to_owned())];
    Ok((StatusCode::ACCEPTED, headers, body).into_response())
}

fn variables(value: &Value, faults: &mut Faults) -> Vec<(String, Variable)> {
    let Value::Object(object) = value else {
        faults.push("variables", "type", "must be an object");
        return Vec::new();
    };
    let read = object.iter().filter_map(|(name, value)| {
        let value = variable(&format!("variables.{name}"), value, faults)?;
        Some((name.trim_start_matches('$').to_owned(), value))
    });
    read.collect()
}

/// Get the rows of a query run
///
/// Scope `datacloud:query`. JSON has at most 1,000 rows; `format=csv` answers 303 with the address of the whole result,
/// which needs no key and is valid for five minutes. Until the run has ended, the response is 409 with
/// `execution_not_complete`.
#[utoipa::path(
    get,
    path = "/studio.queryRuns.results",
    tag = "studio.queryRuns",
    params(
        ("id" = String, Query, description = "Id of the query run.", example = "k3f09a7bq2xm"),
        ("format" = Option<String>, Query, pattern = "^(json|csv)$", description = "`json` or `csv` [default: json]."),
    ),
    responses(
        (status = 200, body = ResultsBody, example = json!({
            "ok": true,
            "results": {
                "columns": ["service", "deployments"],
                "rows": [["checkout", 41]],
                "row_count": 1,
                "truncated": false
            }
        })),
        (status = 303, description = "`Location` is the address of the rows as CSV."),
        (status = 409, body = ErrorBody, description = "The run has not ended yet; try again after `Retry-After` seconds."),
    )
)]
pub async fn results(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    link: Link,
    arguments: Arguments,
) -> Outcome {
    let mut reader = arguments.reader();
    let id = reader.required_text("id");
    let format = reader.text("format").unwrap_or_else(|| "json".to_owned());
    if !matches!(format.as_str(), "json" | "csv") {
        reader.faults().push("format", "enum", "must be json or csv");
    }
    reader.finish()?;
    let which = which(plane.estate(), &id)?;
    if format == "csv" {
        let grant = result_grant(&plane, &ctx, which).await?;
        let location = link.to(&format!("studio.queryRuns.download?token={}", grant.token));
        return Ok((StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response());
    }
    let wanted = Wanted {
        format: ResultFormat::Json,
        envelope: Some(Arc::new(Named)),
        integers_as_strings: false,
        most_rows: Some(SHOWN_ROWS),
    };
    let (bytes, row_count) = result_open(&plane, &ctx, which, wanted).await?;
    let (columns, rows) = read_rows(bytes).await?;
    let truncated = row_count > SHOWN_ROWS;
    Ok(Json(ResultsBody { ok: true, results: Results { columns, rows, row_count, truncated } })
        .into_response())
}

/// Rows with the names of their columns.
#[derive(Deserialize)]
struct Document {
    columns: Vec<String>,
    rows: Box<serde_json::value::RawValue>,
}

#[derive(Debug)]
struct Named;

impl Envelope for Named {
    fn head(&self, columns: &[JsonColumn<'_>], out: &mut Vec<u8>) -> std::io::Result<()> {
        let names: Vec<&String> = columns.iter().map(|column| column.field.name()).collect();
        out.extend_from_slice(b"{\"columns\":");
        serde_json::to_writer(&mut *out, &names)?;
        out.extend_from_slice(b",\"rows\":");
        Ok(())
    }

    fn tail(&self) -> &[u8] {
        b"}"
    }
}

async fn read_rows(mut bytes: ByteStream) -> Result<(Vec<String>, Box<serde_json::value::RawValue>)> {
    let mut whole = Vec::new();
    while let Some(chunk) = bytes.next().await {
        whole.extend_from_slice(&chunk.map_err(Error::internal)?);
        if whole.len() > SHOWN_BYTES {
            return Err(Error::too_large("the rows are larger than 8 MiB as JSON; use format=csv"));
        }
    }
    let document: Document = serde_json::from_slice(&whole).map_err(Error::internal)?;
    Ok((document.columns, document.rows))
}

/// Download the whole result as CSV
///
/// The address comes from `studio.queryRuns.results`. Its token replaces the key and is valid for five minutes.
#[utoipa::path(
    get,
    path = "/studio.queryRuns.download",
    tag = "studio.queryRuns",
    params(("token" = String, Query, description = "Token from `studio.queryRuns.results`.")),
    responses((status = 200, content_type = "text/csv", body = String, example = "service,deployments\ncheckout,41\n")),
    security(())
)]
pub async fn download(State(plane): State<Delivery>, arguments: Arguments) -> Outcome {
    let token = arguments.only("token")?;
    let wanted =
        Wanted { format: ResultFormat::Csv, envelope: None, integers_as_strings: false, most_rows: None };
    let bytes = result_by_token(&plane, &token, wanted).await?;
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8"),
        (CONTENT_DISPOSITION, "attachment; filename=\"results.csv\""),
    ];
    let response: Response = (headers, streamed(bytes)).into_response();
    Ok(response)
}

/// Get the status of a query run
///
/// Scope `datacloud:query`. Until the run has ended, the response has `Retry-After`. At most ten requests within five
/// seconds per run.
#[utoipa::path(
    get,
    path = "/studio.queryRuns.info",
    tag = "studio.queryRuns",
    params(("id" = String, Query, description = "Id of the query run.", example = "k3f09a7bq2xm")),
    responses(
        (status = 200, body = QueryRunBody, example = json!({
            "ok": true,
            "query_run": {
                "id": "k3f09a7bq2xm",
                "status": "succeeded",
                "submitted_at": "2026-01-15T12:00:00Z",
                "finished_at": "2026-01-15T12:00:03Z",
                "expires_at": "2026-02-14T12:00:03Z",
                "info_url": "http://127.0.0.1:8700/dx/studio.queryRuns.info?id=k3f09a7bq2xm",
                "results_url": "http://127.0.0.1:8700/dx/studio.queryRuns.results?id=k3f09a7bq2xm"
            }
        })),
        (status = 422, body = ErrorBody, example = json!({
            "ok": false,
            "error": "invalid_arguments",
            "message": "id is required",
            "error_details": {
                "message": "id is required",
                "arguments": [{ "name": "id", "code": "required", "message": "is required" }]
            }
        })),
    )
)]
pub async fn info(
    State(App { plane, polls, .. }): State<App>,
    Caller(ctx): Caller,
    link: Link,
    arguments: Arguments,
) -> Outcome {
    let which = which(plane.estate(), &arguments.only("id")?)?;
    let run = query_run_get(&plane, &ctx, which).await?;
    // Count only requests from callers who can see the run, so that others cannot use up its limit.
    polls.take(run.id.0, plane.estate().now())?;
    Ok(Shown { estate: plane.estate(), link: &link, run: &run }.response())
}

/// Cancel a query run
///
/// An extension of this server. The key that submitted the run can always cancel it; other keys need the scope
/// `datacloud:manage`.
#[utoipa::path(
    post,
    path = "/studio.queryRuns.cancel",
    tag = "studio.queryRuns",
    request_body(content = inline(crate::wire::query_runs::Which), example = json!({ "id": "k3f09a7bq2xm" })),
    responses(
        (status = 200, body = QueryRunBody, example = json!({
            "ok": true,
            "query_run": {
                "id": "k3f09a7bq2xm",
                "status": "running",
                "submitted_at": "2026-01-15T12:00:00Z",
                "finished_at": null,
                "expires_at": null,
                "info_url": "http://127.0.0.1:8700/dx/studio.queryRuns.info?id=k3f09a7bq2xm",
                "results_url": null
            }
        })),
        (status = 422, body = ErrorBody, example = json!({
            "ok": false,
            "error": "not_cancellable",
            "message": "the run has already ended: succeeded",
            "error_details": { "message": "the run has already ended: succeeded", "arguments": [] }
        })),
    )
)]
pub async fn cancel(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    link: Link,
    arguments: Arguments,
) -> Outcome {
    let which = which(&estate, &arguments.only("id")?)?;
    let run = run_cancel(&estate, &ctx, which, &KINDS).await?;
    Ok(Shown { estate: &estate, link: &link, run: &run }.response())
}

/// The id of a run. A malformed id is not found.
fn which(estate: &Estate, id: &str) -> Result<RunRef> {
    let id: Option<RunId> = estate.hash_ids().decode_plain(id);
    let id = id.ok_or_else(|| Error::not_found("run"))?;
    Ok(RunRef::Id(id))
}
