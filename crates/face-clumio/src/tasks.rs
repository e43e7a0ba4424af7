//! Runs of every kind, as tasks.

use axum::extract::State;
use http::HeaderMap;
use landreeve_core::ids::RunId;
use landreeve_core::{Error, OpCtx, Result};
use landreeve_estate::ops::Run;
use landreeve_estate::ops::runs::{RunRef, category, run_cancel, run_get, run_list, run_may_cancel};
use landreeve_http::Outcome;
use landreeve_http::extract::{Body, Path, Query, decimal};
use landreeve_protection::subjects::{is_first_backup, subjects};

use crate::app::App;
use crate::caller::Caller;
use crate::version::TASKS;
use crate::wire::Answer;
use crate::wire::error::ErrorBody;
use crate::wire::link::Base;
use crate::wire::list::{Asked, ListBody, Parameters};
use crate::wire::restores::StartedBody;
use crate::wire::tasks::{About, FILTER, TaskBody, filter, read_abort};

const LIST: Parameters = Parameters::numbered(10, &FILTER);

/// List tasks, newest first
#[utoipa::path(
    get,
    path = "/tasks",
    operation_id = "list-tasks",
    tag = "tasks",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most 1000 [default: 10].", example = 10),
        ("start" = Option<i64>, Query, minimum = 1, description = "Page number.", example = 1),
        ("filter" = Option<String>, Query, description = "By `id`, `type`, `category`, `genre`, `status` (`$in`), `created_timestamp` (`$lte`, `$gte`), \
                `primary_entity.id` or `primary_entity.value` (`$contains`).",
            example = r#"{"status":{"$in":["queued","in_progress"]}}"#),
        ("X-Clumio-OrganizationalUnit-Context" = Option<String>, Header,
            description = "Organizational unit to work in."),
    ),
    responses(
        (status = 200, body = ListBody<TaskBody>, content_type = "application/api.clumio.tasks=v1+json",
            example = json!({
                "_embedded": { "items": [] },
                "_links": {
                    "_self": { "href": "/tasks?start=1", "type": "get", "templated": false },
                    "_first": { "href": "/tasks?start=1", "type": "get", "templated": false },
                    "_last": { "href": "/tasks?start=1", "type": "get", "templated": false }
                },
                "current_count": 0, "filter_applied": "{}", "limit": 10, "start": "1",
                "total_count": 0, "total_pages_count": 0
            })),
        (status = 400, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 101, "error_message": "filter.name is not a field of this filter; use primary_entity.value, primary_entity.id, created_timestamp, type, category, genre, status, id" }]
        })),
    )
)]
pub async fn list(
    State(app): State<App>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
) -> Outcome<Answer<ListBody<TaskBody>>> {
    let version = TASKS.version(&headers)?;
    let asked = Asked::parse(&query, &LIST)?;
    let kinds = app.estate.registry().kinds().map(|kind| (kind.kind, kind.category));
    let filter = filter(&asked.conditions, kinds);
    let runs = run_list(&app.estate, &ctx, &filter, asked.page).await?;
    let tasks = shown(&app, &ctx, &base, &runs.items).await?;
    Ok(Answer { resource: &TASKS, version, body: asked.body(&base, "/tasks", tasks, runs.total) })
}

/// Get a task
#[utoipa::path(
    get,
    path = "/tasks/{task_id}",
    operation_id = "read-task",
    tag = "tasks",
    params(("task_id" = String, Path, pattern = "^[0-9]+$", description = "Id of the task.", example = "28")),
    responses(
        (status = 200, body = TaskBody, content_type = "application/api.clumio.tasks=v1+json", example = json!({
            "id": "28", "type": "probe", "category": "system", "genre": "administrative",
            "status": "in_progress", "progress_percentage": 40, "is_abortable": true, "primary_entity": null,
            "parent_entity": null, "created_timestamp": "2026-01-15T12:00:00Z",
            "start_timestamp": "2026-01-15T12:00:01Z", "end_timestamp": null,
            "_links": {
                "_self": { "href": "/tasks/28", "type": "get", "templated": false },
                "update-task": { "href": "/tasks/28", "type": "patch", "templated": false }
            }
        })),
        (status = 404, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 104, "error_message": "there is no such task" }]
        })),
    )
)]
pub async fn read(
    State(app): State<App>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Outcome<Answer<TaskBody>> {
    let version = TASKS.version(&headers)?;
    let run = run_get(&app.estate, &ctx, which(&id)?, &[]).await?;
    Ok(Answer { resource: &TASKS, version, body: one(&app, &ctx, &base, &run).await? })
}

/// Abort a task
///
/// This is the only supported change. A task that has ended cannot be aborted.
#[utoipa::path(
    patch,
    path = "/tasks/{task_id}",
    operation_id = "update-task",
    tag = "tasks",
    params(("task_id" = String, Path, pattern = "^[0-9]+$", description = "Id of the task.", example = "28")),
    request_body(content = inline(crate::wire::tasks::TaskUpdate), example = json!({ "status": "aborting" })),
    responses(
        (status = 200, body = TaskBody, content_type = "application/api.clumio.tasks=v1+json", example = json!({
            "id": "28", "type": "probe", "category": "system", "genre": "administrative",
            "status": "aborting", "progress_percentage": 40, "is_abortable": false, "primary_entity": null,
            "parent_entity": null, "created_timestamp": "2026-01-15T12:00:00Z",
            "start_timestamp": "2026-01-15T12:00:01Z", "end_timestamp": null,
            "_links": { "_self": { "href": "/tasks/28", "type": "get", "templated": false } }
        })),
        (status = 409, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 109, "error_message": "the run has already ended: succeeded" }]
        })),
    )
)]
pub async fn update(
    State(app): State<App>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path(id): Path<String>,
    Body(body): Body,
) -> Outcome<Answer<TaskBody>> {
    let version = TASKS.version(&headers)?;
    let which = which(&id)?;
    read_abort(&body)?;
    let run = run_cancel(&app.estate, &ctx, which, &[]).await?;
    Ok(Answer { resource: &TASKS, version, body: one(&app, &ctx, &base, &run).await? })
}

async fn shown(app: &App, ctx: &OpCtx, base: &Base, runs: &[Run]) -> Result<Vec<TaskBody>> {
    let mut known = subjects(&app.protection, runs).await?;
    let body = |run: &Run| {
        let about = About { subject: known.remove(&run.id), is_first: is_first_backup(run) };
        TaskBody::new(base, run, category(&app.estate, run.kind), about, run_may_cancel(ctx, run))
    };
    Ok(runs.iter().map(body).collect())
}

/// A single task.
pub async fn one(app: &App, ctx: &OpCtx, base: &Base, run: &Run) -> Result<TaskBody> {
    let tasks = shown(app, ctx, base, std::slice::from_ref(run)).await?;
    tasks.into_iter().next().ok_or_else(|| Error::internal("a task that vanished"))
}

/// The answer of an operation that has started a run.
pub async fn started(
    app: &App,
    ctx: &OpCtx,
    base: &Base,
    ((method, path), asked): ((&str, &str), &Asked),
    run: &Run,
) -> Result<StartedBody> {
    let task = embedded(app, ctx, base, asked, run).await?;
    Ok(StartedBody::new(base, (method, path), run.id.0, task))
}

/// The task, if the request wants it in the answer.
pub async fn embedded(
    app: &App,
    ctx: &OpCtx,
    base: &Base,
    asked: &Asked,
    run: &Run,
) -> Result<Option<TaskBody>> {
    match asked.embeds("read-task") {
        true => one(app, ctx, base, run).await.map(Some),
        false => Ok(None),
    }
}

fn which(id: &str) -> Result<RunRef> {
    Ok(RunRef::Id(RunId(decimal(id, "task")?)))
}
