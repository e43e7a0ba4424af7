//! Runs as deployments.

use axum::extract::State;
use http::StatusCode;
use landreeve_core::ids::RunId;
use landreeve_core::{Result, RunKind};
use landreeve_estate::ops::runs::PROBE;
use landreeve_estate::ops::runs::{RunRef, run_cancel, run_get, run_list};
use landreeve_http::Outcome;
use landreeve_http::extract::{Path, Query, decimal};

use crate::App;
use crate::caller::Caller;
use crate::wire::Answer;
use crate::wire::deployments::{DeploymentList, Progress};
use crate::wire::error::ErrorBody;
use crate::wire::query::{ListQuery, last_update};

/// The kinds of run that this dialect shows as deployments.
pub const KINDS: [RunKind; 1] = [PROBE];

/// List deployments, newest first
#[utoipa::path(
    get,
    path = "/deployments",
    tag = "Deployments",
    params(
        ("start" = Option<i64>, Query, minimum = 0, description = "Number of deployments to skip.", example = 0),
        ("count" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most 1000 [default: 10].", example = 10),
        ("status" = Option<String>, Query, pattern = "^(OK|ERROR|IN_PROGRESS)$",
            description = "Only deployments in this state.", example = "OK"),
        ("user" = Option<String>, Query, description = "Only deployments by this user.", example = "admin"),
    ),
    responses(
        (status = 200, body = DeploymentList, example = json!({
            "start": 0, "count": 10, "numElements": 1,
            "deployments": [{
                "id": 28, "user": "admin", "deploymentTime": "2026-01-15T12:00:00.500+0000",
                "description": "probe", "state": "OK", "revisions": []
            }]
        })),
        (status = 400, body = ErrorBody, example = json!({
            "status": 400, "message": "status must be one of OK, ERROR, IN_PROGRESS"
        })),
        (status = 403, body = ErrorBody),
    )
)]
pub async fn list(
    State(app): State<App>,
    Caller(ctx): Caller,
    query: Query,
) -> Outcome<Answer<DeploymentList>> {
    let asked = ListQuery::parse(&query)?;
    let filter = asked.filter(&app.estate, &ctx).await?;
    let runs = run_list(&app.estate, &ctx, &filter, asked.page).await?;
    Ok(Answer(StatusCode::OK, DeploymentList::new(runs, &app.options)))
}

/// Get the progress of a deployment and its tasks
#[utoipa::path(
    get,
    path = "/deployments/{id}/progress",
    tag = "Deployments",
    params(
        ("id" = i64, Path, description = "Id of the deployment.", example = 28),
        ("lastUpdate" = Option<String>, Query, description = "Only tasks that changed since this time.",
            example = "2026-01-15T12:00:00+0000"),
    ),
    responses(
        (status = 200, body = Progress, example = json!({
            "deploymentId": 28, "state": "IN_PROGRESS", "progress": 40,
            "tasks": [{
                "id": 28, "name": "Probe", "state": "IN_PROGRESS", "startDate": "2026-01-15T12:00:00.500+0000",
                "deploymentExecutionType": "PROBE", "output": "waiting as requested"
            }]
        })),
        (status = 404, body = ErrorBody, example = json!({
            "status": 404, "message": "there is no such deployment"
        })),
    )
)]
pub async fn progress(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    query: Query,
) -> Outcome<Answer<Progress>> {
    let since = last_update(&query)?;
    let run = run_get(&app.estate, &ctx, which(&id)?, &KINDS).await?;
    Ok(Answer(StatusCode::OK, Progress::new(&run, since, &app.options)))
}

/// Cancel a deployment
///
/// An extension of this server. The response shows the deployment at that moment; it has ended once its state is
/// `ERROR`.
#[utoipa::path(
    post,
    path = "/deployments/{id}/cancel",
    tag = "Deployments",
    params(("id" = i64, Path, description = "Id of the deployment.", example = 28)),
    responses(
        (status = 200, body = Progress, example = json!({
            "deploymentId": 28, "state": "IN_PROGRESS", "progress": 40, "tasks": []
        })),
        (status = 409, body = ErrorBody, example = json!({
            "status": 409, "message": "the run has already ended: succeeded"
        })),
    )
)]
pub async fn cancel(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> Outcome<Answer<Progress>> {
    let run = run_cancel(&app.estate, &ctx, which(&id)?, &KINDS).await?;
    Ok(Answer(StatusCode::OK, Progress::new(&run, None, &app.options)))
}

fn which(id: &str) -> Result<RunRef> {
    Ok(RunRef::Id(RunId(decimal(id, "deployment")?)))
}
