//! Executions: run a statement, follow it, get the address of its data, cancel it. Each has two paths: under its
//! datasource and standalone.

use std::time::Duration;

use axum::extract::State;
use landreeve_analytics::executions::{self as plane, Execution};
use landreeve_core::{Error, Noun, OpCtx, Result, RunState};
use landreeve_estate::ops::runs::{RunRef, Wait};
use landreeve_http::Outcome;
use landreeve_http::extract::{Path, Query};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::App;
use crate::caller::Caller;
use crate::datasources::datasource_id;
use crate::media::{JsonApi, JsonBody, PlainJson, no_content};
use crate::wire::Document;
use crate::wire::executions::{self as wire, DataAccess, RunExecution};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(run))
        .routes(routes!(get_below))
        .routes(routes!(data_below))
        .routes(routes!(cancel_below))
        .routes(routes!(get))
        .routes(routes!(data))
        .routes(routes!(cancel))
}

fn not_found() -> Error {
    Error::not_found("run")
}

fn run_ref(id: &str) -> Result<RunRef> {
    // Only the canonical form, not the other notations of a UUID.
    let uuid = Uuid::try_parse(id).ok().filter(|uuid| uuid.to_string().eq_ignore_ascii_case(id));
    uuid.map(RunRef::Uuid).ok_or_else(not_found)
}

/// How long the client wants to wait for the end.
pub fn wait(app: &App, query: &Query) -> Result<Option<Wait>> {
    let most = i64::try_from(app.options().longest_wait.as_secs()).unwrap_or(i64::MAX);
    let seconds = query.int("wait", 0..=most).map_err(|mut fault| {
        fault.field.insert(0, '?');
        Error::invalid(vec![fault])
    })?;
    let seconds = seconds.filter(|seconds| *seconds > 0).map(i64::unsigned_abs);
    Ok(seconds.map(|seconds| Wait::begin(app.plane().estate(), Duration::from_secs(seconds))))
}

/// Waits for the end of the submitted execution, if requested.
pub async fn waited(app: &App, ctx: &OpCtx, execution: Execution, wait: Option<Wait>) -> Result<Execution> {
    match wait {
        None => Ok(execution),
        Some(wait) => plane::execution_wait(app.plane(), ctx, execution, wait).await,
    }
}

/// The execution, or not found if it belongs to another datasource.
async fn find(app: &App, ctx: &OpCtx, below: Option<&str>, id: &str) -> Result<Execution> {
    let found = plane::execution_get(app.plane(), ctx, run_ref(id)?).await?;
    // Its data is deleted, and with it the execution.
    if found.run.state == RunState::Expired {
        return Err(not_found());
    }
    if let Some(datasource) = below {
        let datasource = datasource_id(app, datasource)?.0;
        if found.run.noun != Some((Noun::DATASOURCE.as_str().to_owned(), datasource)) {
            return Err(not_found());
        }
    }
    Ok(found)
}

/// Run Execution
///
/// Needs *Manage Datasources*, *Manage Dashboards* or *Manage Alerts*, for this datasource. `wait` delays the response
/// until the execution has ended, but at most for this number of seconds.
#[utoipa::path(post, path = "/datasources/{id}/executions", tag = "Executions", operation_id = "runExecution",
    params(("id" = String, Path), ("wait" = Option<u32>, Query, minimum = 0, maximum = 60)),
    request_body(content = RunExecution, content_type = "application/json", examples(
        ("count" = (summary = "One number", value = json!({"sql_query": "select count(*) from orders"}))),
        ("months" = (summary = "With parameters", value = json!({
            "sql_query": "select {o_orderdate:aggregation} as period, count(*) as orders from orders where {o_orderdate=timerange} group by 1 order by 1",
            "parameters": {"timerange": "694224000~725846399", "aggregation": "month"}})))
    )),
    responses((status = 200, body = Document<wire::Execution>, content_type = "application/vnd.api+json")))]
async fn run(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    Path(id): Path<String>,
    query: Query,
    JsonBody(body): JsonBody,
) -> Outcome {
    let (datasource, wait) = (datasource_id(&app, &id)?, wait(&app, &query)?);
    let asked = wire::read(&body)?;
    let given = asked.value().inputs.clone();
    let run = plane::execution_run(app.plane(), &ctx, datasource, asked).await;
    let run = run.map_err(|error| wire::point(error, &given))?;
    let execution = waited(&app, &ctx, run, wait).await?;
    out.ok(&Document::of(wire::render(&execution)))
}

async fn show(app: &App, ctx: &OpCtx, below: Option<&str>, id: &str, query: &Query) -> Result<Execution> {
    let wait = wait(app, query)?;
    let found = find(app, ctx, below, id).await?;
    waited(app, ctx, found, wait).await
}

/// Get Execution
///
/// For the key or user that ran it, and for keys with *Manage Datasources*. An execution is kept for 24 hours.
#[utoipa::path(get, path = "/datasources/{id}/executions/{execution_id}", tag = "Executions",
    operation_id = "getDatasourceExecution",
    params(("id" = String, Path), ("execution_id" = String, Path, format = "uuid"),
        ("wait" = Option<u32>, Query, minimum = 0, maximum = 60)),
    responses((status = 200, body = Document<wire::Execution>, content_type = "application/vnd.api+json")))]
async fn get_below(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    Path((datasource, id)): Path<(String, String)>,
    query: Query,
) -> Outcome {
    out.ok(&Document::of(wire::render(&show(&app, &ctx, Some(&datasource), &id, &query).await?)))
}

/// Get Execution
///
/// For the key or user that ran it, and for keys with *Manage Datasources*. An execution is kept for 24 hours.
#[utoipa::path(get, path = "/executions/{execution_id}", tag = "Executions", operation_id = "getExecution",
    params(("execution_id" = String, Path, format = "uuid"), ("wait" = Option<u32>, Query, minimum = 0, maximum = 60)),
    responses((status = 200, body = Document<wire::Execution>, content_type = "application/vnd.api+json")))]
async fn get(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    Path(id): Path<String>,
    query: Query,
) -> Outcome {
    out.ok(&Document::of(wire::render(&show(&app, &ctx, None, &id, &query).await?)))
}

async fn access(app: &App, ctx: &OpCtx, out: &PlainJson, below: Option<&str>, id: &str) -> Outcome {
    let found = find(app, ctx, below, id).await?;
    let grant = plane::execution_data(app.plane(), ctx, RunRef::Uuid(found.run.uuid)).await?;
    let Some(grant) = grant else { return Ok(no_content()) };
    out.ok(&DataAccess {
        data_key: grant.key,
        data_access_token: grant.token,
        data_timestamp: grant.timestamp,
    })
}

/// Get Execution Data
///
/// Key and token for the data server. 204 while the execution is running, and if it did not complete.
#[utoipa::path(get, path = "/datasources/{id}/executions/{execution_id}/data", tag = "Executions",
    operation_id = "getDatasourceExecutionData",
    params(("id" = String, Path), ("execution_id" = String, Path, format = "uuid")),
    responses((status = 200, body = DataAccess), (status = 204, description = "There is no data.")))]
async fn data_below(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: PlainJson,
    Path((datasource, id)): Path<(String, String)>,
) -> Outcome {
    access(&app, &ctx, &out, Some(&datasource), &id).await
}

/// Get Execution Data
///
/// Key and token for the data server. 204 while the execution is running, and if it did not complete.
#[utoipa::path(get, path = "/executions/{execution_id}/data", tag = "Executions",
    operation_id = "getExecutionData",
    params(("execution_id" = String, Path, format = "uuid")),
    responses((status = 200, body = DataAccess), (status = 204, description = "There is no data.")))]
async fn data(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: PlainJson,
    Path(id): Path<String>,
) -> Outcome {
    access(&app, &ctx, &out, None, &id).await
}

async fn stop(app: &App, ctx: &OpCtx, out: &JsonApi, below: Option<&str>, id: &str) -> Outcome {
    let found = find(app, ctx, below, id).await?;
    let execution = plane::execution_cancel(app.plane(), ctx, RunRef::Uuid(found.run.uuid)).await?;
    out.ok(&Document::of(wire::render(&execution)))
}

/// Cancel Execution
///
/// Stops the statement in the database. 409 if the execution has already ended.
#[utoipa::path(post, path = "/datasources/{id}/executions/{execution_id}/cancel", tag = "Executions",
    operation_id = "cancelDatasourceExecution",
    params(("id" = String, Path), ("execution_id" = String, Path, format = "uuid")),
    responses((status = 200, body = Document<wire::Execution>, content_type = "application/vnd.api+json")))]
async fn cancel_below(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    Path((datasource, id)): Path<(String, String)>,
) -> Outcome {
    stop(&app, &ctx, &out, Some(&datasource), &id).await
}

/// Cancel Execution
///
/// Stops the statement in the database. 409 if the execution has already ended.
#[utoipa::path(post, path = "/executions/{execution_id}/cancel", tag = "Executions",
    operation_id = "cancelExecution",
    params(("execution_id" = String, Path, format = "uuid")),
    responses((status = 200, body = Document<wire::Execution>, content_type = "application/vnd.api+json")))]
async fn cancel(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    Path(id): Path<String>,
) -> Outcome {
    stop(&app, &ctx, &out, None, &id).await
}
