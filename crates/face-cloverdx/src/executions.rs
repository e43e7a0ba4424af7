//! Runs as executions.

use axum::Json;
use axum::extract::State;
use landreeve_core::error::codes;
use landreeve_core::ids::RunId;
use landreeve_core::{Result, RunKind};
use landreeve_estate::ops::runs::PROBE;
use landreeve_estate::ops::runs::{RunRef, run_cancel, run_get, run_list};
use landreeve_estate::ops::{Estate, RunFilter};
use landreeve_http::Outcome;
use landreeve_http::extract::{Path, Query, decimal};

use crate::caller::Caller;
use crate::wire::error::ErrorBody;
use crate::wire::executions::{Execution, ExecutionCollection};
use crate::wire::link::Link;
use crate::wire::query::ListQuery;

/// The kinds of run that this dialect shows as executions.
const KINDS: [RunKind; 1] = [PROBE];

/// List executions, newest first
#[utoipa::path(
    get,
    path = "/executions",
    tag = "Executions",
    params(
        ("X-Requested-By" = String, Header, description = "Any value.", example = "catalog"),
        ("pageSize" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most 1000 [default: 50].", example = 50),
        ("startIndex" = Option<i64>, Query, minimum = 0, description = "Number of executions to skip.", example = 0),
        ("status" = Option<String>, Query,
            pattern = "^(ENQUEUED|READY|RUNNING|FINISHED_OK|ERROR|ABORTED|TIMEOUT|UNKNOWN)$",
            description = "Only executions with this status.", example = "FINISHED_OK"),
    ),
    responses(
        (status = 200, body = ExecutionCollection, example = json!({
            "@self": "http://127.0.0.1:8700/clover/api/rest/v1/executions",
            "@type": "ExecutionCollection",
            "@totalItems": 1,
            "@startIndex": 0,
            "@pageItems": 1,
            "members": [{
                "@self": "http://127.0.0.1:8700/clover/api/rest/v1/executions/28",
                "@type": "Execution",
                "runId": 28,
                "jobFile": "probe",
                "jobType": "PROBE",
                "status": "FINISHED_OK",
                "submitTime": "2026-01-15T12:00:00.500+00:00",
                "startTime": "2026-01-15T12:00:00.501+00:00",
                "stopTime": "2026-01-15T12:00:02.501+00:00",
                "duration": 2000,
                "durationString": "2s",
                "username": "admin"
            }]
        })),
        (status = 400, body = ErrorBody, example = json!({
            "@type": "Error", "status": 400, "message": "pageSize must be between 1 and 1000",
            "details": [{ "field": "pageSize", "message": "must be between 1 and 1000" }]
        })),
        (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody),
    )
)]
pub async fn list(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    link: Link,
    query: Query,
) -> Outcome<Json<ExecutionCollection>> {
    let asked = ListQuery::parse(&query)?;
    let filter = RunFilter { kinds: KINDS.to_vec(), states: asked.states, ..RunFilter::default() };
    let runs = run_list(&estate, &ctx, &filter, asked.page).await?;
    Ok(Json(ExecutionCollection::new(runs, &link, estate.now())))
}

/// Get an execution
#[utoipa::path(
    get,
    path = "/executions/{runId}",
    tag = "Executions",
    params(
        ("runId" = i64, Path, description = "Number of the run.", example = 28),
        ("X-Requested-By" = String, Header, description = "Any value.", example = "catalog"),
    ),
    responses(
        (status = 200, body = Execution, example = json!({
            "@self": "http://127.0.0.1:8700/clover/api/rest/v1/executions/28",
            "@type": "Execution",
            "runId": 28,
            "jobFile": "probe",
            "jobType": "PROBE",
            "status": "ERROR",
            "submitTime": "2026-01-15T12:00:00.500+00:00",
            "startTime": "2026-01-15T12:00:00.501+00:00",
            "stopTime": "2026-01-15T12:03:11.863+00:00",
            "duration": 191362,
            "durationString": "3m 11s",
            "username": "admin",
            "jobError": { "componentId": "probe", "message": "the probe failed as requested" }
        })),
        (status = 404, body = ErrorBody, example = json!({
            "@type": "Error", "status": 404, "message": "there is no such execution"
        })),
    )
)]
pub async fn get(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    link: Link,
    Path(id): Path<String>,
) -> Outcome<Json<Execution>> {
    let run = run_get(&estate, &ctx, which(&id)?, &KINDS).await?;
    Ok(Json(Execution::new(run, &link, estate.now())))
}

/// Abort an execution
///
/// An execution that has already ended is returned unchanged.
#[utoipa::path(
    post,
    path = "/executions/{runId}/abort",
    tag = "Executions",
    params(
        ("runId" = i64, Path, description = "Number of the run.", example = 28),
        ("X-Requested-By" = String, Header, description = "Any value.", example = "catalog"),
    ),
    responses(
        (status = 200, body = Execution, example = json!({
            "@self": "http://127.0.0.1:8700/clover/api/rest/v1/executions/28",
            "@type": "Execution",
            "runId": 28,
            "jobFile": "probe",
            "jobType": "PROBE",
            "status": "ABORTED",
            "submitTime": "2026-01-15T12:00:00.500+00:00",
            "stopTime": "2026-01-15T12:00:01.500+00:00",
            "username": "admin"
        })),
        (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody),
    )
)]
pub async fn abort(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    link: Link,
    Path(id): Path<String>,
) -> Outcome<Json<Execution>> {
    let which = which(&id)?;
    let run = match run_cancel(&estate, &ctx, which, &KINDS).await {
        Err(error) if error.code == codes::NOT_CANCELLABLE => run_get(&estate, &ctx, which, &KINDS).await,
        other => other,
    };
    Ok(Json(Execution::new(run?, &link, estate.now())))
}

fn which(id: &str) -> Result<RunRef> {
    Ok(RunRef::Id(RunId(decimal(id, "execution")?)))
}
