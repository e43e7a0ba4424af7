//! `studio.queryRuns.*`: runs as query runs.

use axum::extract::State;
use landreeve_core::ids::RunId;
use landreeve_core::{Error, ErrorKind, Result, RunKind};
use landreeve_estate::ops::Estate;
use landreeve_estate::ops::runs::{RunRef, run_cancel, run_get};
use landreeve_http::Outcome;

use crate::arguments::Arguments;
use crate::caller::Caller;
use crate::wire::error::ErrorBody;
use crate::wire::link::Link;
use crate::wire::query_runs::{QueryRunBody, Shown};

/// The kinds of run that are query runs here.
const KINDS: [RunKind; 1] = [RunKind::Probe];

/// A query run and how it stands
///
/// Scope `datacloud:query`. As long as it has not ended the answer carries `Retry-After`.
#[utoipa::path(
    get,
    path = "/studio.queryRuns.info",
    tag = "studio.queryRuns",
    params(("id" = String, Query, description = "The query run.", example = "k3f09a7bq2xm")),
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
                "results_url": null
            }
        })),
        (status = 422, body = ErrorBody, example = json!({
            "ok": false,
            "error": "required_params_missing",
            "message": "id is required",
            "error_details": {
                "message": "id is required",
                "arguments": [{ "name": "id", "code": "required", "message": "is required" }]
            }
        })),
    )
)]
pub async fn info(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    link: Link,
    arguments: Arguments,
) -> Outcome {
    let which = which(&estate, &arguments)?;
    let run = run_get(&estate, &ctx, which, &KINDS).await.map_err(named)?;
    Ok(Shown { estate: &estate, link: &link, run: &run }.response())
}

/// Ask a query run to stop
///
/// An addition of this server. The key that submitted the run may always cancel it; others need the scope
/// `datacloud:manage`.
#[utoipa::path(
    post,
    path = "/studio.queryRuns.cancel",
    tag = "studio.queryRuns",
    params(("id" = Option<String>, Query, description = "The query run; may stand in the body too.",
        example = "k3f09a7bq2xm")),
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
            "message": "the run has ended already: succeeded",
            "error_details": { "message": "the run has ended already: succeeded", "arguments": [] }
        })),
    )
)]
pub async fn cancel(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    link: Link,
    arguments: Arguments,
) -> Outcome {
    let which = which(&estate, &arguments)?;
    let run = run_cancel(&estate, &ctx, which, &KINDS).await.map_err(named)?;
    Ok(Shown { estate: &estate, link: &link, run: &run }.response())
}

/// The run that the argument `id` names. What cannot be an id names none.
fn which(estate: &Estate, arguments: &Arguments) -> Result<RunRef> {
    let id = arguments.only("id")?;
    let id = estate.hash_ids().decode_plain(&id).ok_or_else(|| named(Error::not_found("query run")))?;
    Ok(RunRef::Id(RunId(id)))
}

fn named(error: Error) -> Error {
    if error.kind == ErrorKind::NotFound { error.with_code("query_run_not_found") } else { error }
}
