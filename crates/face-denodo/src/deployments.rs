//! Deployments: list, start, progress, approve, cancel, delete; what one would do, and what others changed.

use axum::extract::State;
use axum::response::IntoResponse as _;
use http::StatusCode;
use landreeve_core::ids::RunId;
use landreeve_core::{Error, OpCtx, Result, RunKind};
use landreeve_estate::ops::runs::{PROBE, RunRef, run_cancel, run_get};
use landreeve_http::Outcome;
use landreeve_http::extract::{Body, Path, Query, decimal};
use landreeve_promotion::deployments::drift::environment_drift;
use landreeve_promotion::deployments::{
    Started, deployment_approve, deployment_cancel, deployment_delete, deployment_get, deployment_list,
    deployment_progress, deployment_start, revision_validate,
};
use landreeve_promotion::ids::{EnvironmentId, RevisionId};

use crate::App;
use crate::caller::Caller;
use crate::wire::Answer;
use crate::wire::deployments::{
    DeploymentArguments, DeploymentList, DriftList, Progress, RefusedBody, StartedBody, ValidationArguments,
    ValidationBody, read, read_target,
};
use crate::wire::error::ErrorBody;
use crate::wire::query::{self, ListQuery};

/// The kinds of run that this dialect shows as deployments besides its own.
pub const KINDS: [RunKind; 1] = [PROBE];

/// List deployments, newest first
///
/// Shows your own deployments; with permission to manage deployments to an environment, those of all users there; with
/// permission to deploy to it, those that wait there for an approval.
#[utoipa::path(
    get,
    path = "/deployments",
    tag = "Deployments",
    params(
        ("start" = Option<i64>, Query, minimum = 0, description = "Number of deployments to skip.", example = 0),
        ("count" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most 1000 [default: 10].", example = 10),
        ("environmentId" = Option<i64>, Query, minimum = 0, description = "Only deployments to this environment.", example = 3),
        ("status" = Option<String>, Query,
            pattern = "^(PENDING|QUEUED|IN_PROGRESS|OK|OK_WITH_WARNINGS|ERROR|CANCELED)$",
            description = "Only deployments in this state. One that waits for its approval is PENDING; IN_PROGRESS, OK and \
                           ERROR include the other states unless states is extended.", example = "OK"),
        ("description" = Option<String>, Query, description = "Only deployments whose description contains this, in any case."),
        ("user" = Option<String>, Query, description = "Only deployments by the user with exactly this name.", example = "admin"),
        ("startDeploymentTime" = Option<String>, Query, description = "Only with endDeploymentTime: started at this time or later.",
            example = "2026-01-15T12:00:00+0000"),
        ("endDeploymentTime" = Option<String>, Query, description = "Only with startDeploymentTime: started at this time or earlier.",
            example = "2026-01-15T13:00:00+0000"),
        ("states" = Option<String>, Query, pattern = "^extended$", description = "With the states of later versions.",
            example = "extended"),
    ),
    responses(
        (status = 200, body = DeploymentList, example = json!({
            "start": 0, "count": 10, "numElements": 1,
            "deployments": [{
                "id": 28, "user": "admin", "deploymentTime": "2026-01-15T12:00:00.500+0000",
                "description": "Deployment of Revision 1", "state": "OK",
                "targetEnvironment": { "id": 3, "name": "Environment 3" },
                "revisions": [{ "id": 1, "description": "First revision", "name": "Revision 1" }]
            }]
        })),
        (status = 400, body = ErrorBody, example = json!({
            "status": 400, "message": "status must be one of PENDING, QUEUED, IN_PROGRESS, OK, OK_WITH_WARNINGS, ERROR, CANCELED",
            "problems": [{ "field": "status", "message": "must be one of PENDING, QUEUED, IN_PROGRESS, OK, OK_WITH_WARNINGS, ERROR, CANCELED" }]
        })),
    )
)]
pub async fn list(
    State(app): State<App>,
    Caller(ctx): Caller,
    query: Query,
) -> Outcome<Answer<DeploymentList>> {
    let asked = ListQuery::parse(&query, &app.options)?;
    let found = deployment_list(&app.promotion, &ctx, &asked.filter, asked.page).await?;
    Ok(Answer(StatusCode::OK, DeploymentList::new(found, asked.later)))
}

/// Start a deployment
///
/// All revisions are executed on one server after the other, on each of them as one. Missing properties are not an HTTP
/// error: nothing is deployed, and the response says what is missing. With `dryRun` nothing is deployed either, and `plan`
/// has what would change on each server.
#[utoipa::path(
    post,
    path = "/deployments",
    operation_id = "startDeployment",
    tag = "Deployments",
    request_body(content = inline(DeploymentArguments), example = json!({
        "revisionIds": [1], "environmentId": 3, "description": "Deployment of Revision 1"
    })),
    responses(
        (status = 200, body = StartedBody, example = json!({ "deploymentId": 28 })),
        (status = 400, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody, example = json!({ "status": 404, "message": "there is no such environment" })),
        (status = 409, body = ErrorBody, example = json!({
            "status": 409, "message": "deployments to this environment are disabled in its configuration",
            "problems": [{ "field": "", "message": "deployments to this environment are disabled in its configuration" }]
        })),
    )
)]
pub async fn start(State(app): State<App>, Caller(ctx): Caller, Body(body): Body) -> Outcome {
    Ok(match deployment_start(&app.promotion, &ctx, read(&body)?).await? {
        Started::Run(run) if app.options.bare_deployment_id => {
            Answer(StatusCode::OK, run.id.0).into_response()
        }
        Started::Run(run) => Answer(StatusCode::OK, StartedBody::new(&run)).into_response(),
        Started::Invalid(validation) => {
            let body = ValidationBody::new(*validation, None);
            Answer(StatusCode::OK, StartedBody::validated(body)).into_response()
        }
        Started::Planned(validation, plan) => {
            let body = ValidationBody::new(*validation, Some(plan));
            Answer(StatusCode::OK, StartedBody::validated(body)).into_response()
        }
        Started::Refused(error, validation) => {
            Answer(StatusCode::CONFLICT, RefusedBody::new(&error, *validation)).into_response()
        }
    })
}

/// Get the progress of a deployment and its tasks
#[utoipa::path(
    get,
    path = "/deployments/{id}/progress",
    tag = "Deployments",
    params(
        ("id" = i64, Path, description = "Id of the deployment.", example = 28),
        ("lastUpdate" = Option<String>, Query, description = "Only tasks that changed at this time or later.",
            example = "2026-01-15T12:00:00+0000"),
        ("states" = Option<String>, Query, pattern = "^extended$", description = "With the states of later versions.",
            example = "extended"),
    ),
    responses(
        (status = 200, body = Progress, example = json!({
            "deploymentId": 28, "state": "OK", "progress": 100,
            "tasks": [{
                "id": 29, "name": "Revision Revision 1 VQL deployment", "state": "OK",
                "startDate": "2026-01-15T12:00:00.500+0000", "endDate": "2026-01-15T12:00:01.500+0000",
                "deploymentExecutionType": "VQL", "output": " - Executed 1 of 1 VQL commands",
                "cluster": { "id": 1, "name": "Cluster 1" }, "server": { "id": 1, "name": "server-1" }
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
    let (since, later) = query::progress(&query, &app.options)?;
    let id = which(&id)?;
    if let Some(found) = deployment_progress(&app.promotion, &ctx, id, since).await? {
        return Ok(Answer(StatusCode::OK, Progress::new(found, later)));
    }
    let run = run_get(&app.estate, &ctx, RunRef::Id(id), &KINDS).await?;
    Ok(Answer(StatusCode::OK, Progress::of_run(&run, since, later)))
}

/// The progress of a deployment that the caller has just changed.
async fn shown(app: &App, ctx: &OpCtx, id: RunId) -> Outcome {
    let found = deployment_progress(&app.promotion, ctx, id, None).await?;
    let found = found.ok_or_else(|| Error::not_found("deployment"))?;
    Ok(Answer(StatusCode::OK, Progress::new(found, app.options.later_states)).into_response())
}

/// Cancel a deployment
///
/// An extension of this server. A deployment that is executed ends at its next step and is undone as configured; the
/// response shows it at that moment. It has ended once its state is `ERROR`.
#[utoipa::path(
    post,
    path = "/deployments/{id}/cancel",
    operation_id = "cancelDeployment",
    tag = "Deployments",
    params(("id" = i64, Path, description = "Id of the deployment.", example = 28)),
    responses(
        (status = 200, body = Progress, example = json!({
            "deploymentId": 28, "state": "IN_PROGRESS", "progress": 40, "tasks": []
        })),
        (status = 409, body = ErrorBody, example = json!({
            "status": 409, "message": "the deployment has already ended: ok"
        })),
    )
)]
pub async fn cancel(State(app): State<App>, Caller(ctx): Caller, Path(id): Path<String>) -> Outcome {
    let id = which(&id)?;
    if deployment_get(&app.promotion, &ctx, id).await?.is_some() {
        deployment_cancel(&app.promotion, &ctx, id).await?;
        return shown(&app, &ctx, id).await;
    }
    let run = run_cancel(&app.estate, &ctx, RunRef::Id(id), &KINDS).await?;
    let progress = Progress::of_run(&run, None, app.options.later_states);
    Ok(Answer(StatusCode::OK, progress).into_response())
}

/// Approve a deployment
///
/// An extension of this server. If the environment requires it, a deployment waits at most seven days until another person
/// who may deploy there approves it.
#[utoipa::path(
    post,
    path = "/deployments/{id}/approve",
    operation_id = "approveDeployment",
    tag = "Deployments",
    params(("id" = i64, Path, description = "Id of the deployment.", example = 28)),
    responses(
        (status = 200, body = Progress, example = json!({
            "deploymentId": 28, "state": "IN_PROGRESS", "progress": 0, "tasks": []
        })),
        (status = 403, body = ErrorBody, example = json!({
            "status": 403, "message": "you started this deployment; another person has to approve it"
        })),
        (status = 409, body = ErrorBody, example = json!({
            "status": 409, "message": "the deployment is not waiting for approval"
        })),
    )
)]
pub async fn approve(State(app): State<App>, Caller(ctx): Caller, Path(id): Path<String>) -> Outcome {
    let approved = deployment_approve(&app.promotion, &ctx, which(&id)?).await?;
    // From now on, who approved it does not see the tasks of others.
    let progress = Progress::without_tasks(approved, app.options.later_states);
    Ok(Answer(StatusCode::OK, progress).into_response())
}

/// Delete the record of a deployment that has ended
///
/// An extension of this server. What was deployed stays.
#[utoipa::path(
    delete,
    path = "/deployments/{id}",
    operation_id = "deleteDeployment",
    tag = "Deployments",
    params(("id" = i64, Path, description = "Id of the deployment.", example = 28)),
    responses(
        (status = 204, description = "The record is deleted."),
        (status = 409, body = ErrorBody, example = json!({
            "status": 409, "message": "the deployment is in progress; cancel it first"
        })),
    )
)]
pub async fn delete(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> Outcome<StatusCode> {
    deployment_delete(&app.promotion, &ctx, which(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Validate a revision for an environment
///
/// Says which properties are missing there. If you may deploy there, `plan` has what the revision would change on each
/// server. Nothing is changed.
#[utoipa::path(
    post,
    path = "/revisions/{id}/validate",
    operation_id = "validateRevision",
    tag = "Revisions",
    params(
        ("id" = i64, Path, description = "Id of the revision.", example = 1),
        ("environmentId" = Option<i64>, Query, minimum = 0, description = "The environment, if the body does not name it.", example = 3),
    ),
    request_body(content = inline(ValidationArguments), example = json!({ "environmentId": 3 })),
    responses(
        (status = 200, body = ValidationBody, example = json!({
            "validationResponse": {
                "validation": {
                    "resultVqlValidation": "ERROR",
                    "outputVqlValidation": "Error validating revision 'Revision 1'.\n Missing VQL properties: \nlimits.BIG\n\n",
                    "errorVqlValidation": "", "missingVqlPropertiesWithServerValues": { "limits.BIG": "" },
                    "resultSchValidation": "OK", "outputSchValidation": "", "errorSchValidation": "",
                    "targetEnvironment": {
                        "id": 3, "name": "Environment 3", "description": "", "minimumUpdateValue": "",
                        "minimumUpdateMandatory": false, "minimumUpdateDownloadUrl": ""
                    },
                    "state": "ERROR",
                    "messageResult": "Properties of the revisions are missing in the environment or cannot be used; nothing was \
                                      deployed."
                },
                "scriptValidationsResult": []
            }
        })),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody, example = json!({ "status": 404, "message": "there is no such revision" })),
    )
)]
pub async fn validate(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    query: Query,
    Body(body): Body,
) -> Outcome<Answer<ValidationBody>> {
    let id = RevisionId(decimal(&id, "revision")?);
    let target = match read_target(&body)? {
        Some(target) => target,
        None => query::target(&query)?,
    };
    let (validation, plan) = revision_validate(&app.promotion, &ctx, id, target).await?;
    Ok(Answer(StatusCode::OK, ValidationBody::new(validation, plan)))
}

/// Compare the servers of an environment with what was deployed to them
///
/// An extension of this server.
#[utoipa::path(
    get,
    path = "/environments/{id}/drift",
    operation_id = "getDrift",
    tag = "Environments",
    params(("id" = i64, Path, description = "Id of the environment.", example = 3)),
    responses(
        (status = 200, body = DriftList, example = json!({
            "servers": [{
                "server": "server-1", "state": "IN_SYNC", "deployedHash": "8d969eef", "liveHash": "8d969eef", "changes": []
            }]
        })),
        (status = 404, body = ErrorBody, example = json!({
            "status": 404, "message": "there is no such environment"
        })),
    )
)]
pub async fn drift(
    State(app): State<App>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> Outcome<Answer<DriftList>> {
    let id = EnvironmentId(decimal(&id, "environment")?);
    let found = environment_drift(&app.promotion, &ctx, id).await?;
    Ok(Answer(StatusCode::OK, DriftList::new(found)))
}

fn which(id: &str) -> Result<RunId> {
    decimal(id, "deployment").map(RunId)
}
