//! Runs of every kind, as tasks.

use axum::extract::State;
use http::HeaderMap;
use landreeve_core::Result;
use landreeve_core::ids::RunId;
use landreeve_estate::ops::runs::{RunRef, category, run_cancel, run_get, run_list};
use landreeve_estate::ops::{Estate, RunFilter};
use landreeve_http::Outcome;
use landreeve_http::extract::{Body, Path, Query, decimal};

use crate::caller::Caller;
use crate::version::TASKS;
use crate::wire::Answer;
use crate::wire::error::ErrorBody;
use crate::wire::link::Base;
use crate::wire::list::{ListBody, ListQuery};
use crate::wire::tasks::{TaskBody, read_abort, states};

/// List tasks, newest first
#[utoipa::path(
    get,
    path = "/tasks",
    operation_id = "list-tasks",
    tag = "tasks",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "At most 1000 [default: 10].", example = 10),
        ("start" = Option<i64>, Query, minimum = 1, description = "Page number.", example = 1),
        ("filter" = Option<String>, Query, description = "`status` with `$eq` or `$in`.",
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
            "errors": [{ "error_code": 101, "error_message": "filter.type is not supported on this server yet" }]
        })),
    )
)]
pub async fn list(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    query: Query,
) -> Outcome<Answer<ListBody<TaskBody>>> {
    let version = TASKS.version(&headers)?;
    let asked = ListQuery::parse(&query, 10)?;
    let filter = RunFilter { states: states(&asked)?, ..RunFilter::default() };
    let runs = run_list(&estate, &ctx, &filter, asked.page).await?;
    let tasks = runs.items.iter().map(|run| TaskBody::new(&base, run, category(&estate, run.kind))).collect();
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
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Outcome<Answer<TaskBody>> {
    let version = TASKS.version(&headers)?;
    let run = run_get(&estate, &ctx, which(&id)?, &[]).await?;
    Ok(Answer { resource: &TASKS, version, body: TaskBody::new(&base, &run, category(&estate, run.kind)) })
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
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Path(id): Path<String>,
    Body(body): Body,
) -> Outcome<Answer<TaskBody>> {
    let version = TASKS.version(&headers)?;
    let which = which(&id)?;
    read_abort(&body)?;
    let run = run_cancel(&estate, &ctx, which, &[]).await?;
    Ok(Answer { resource: &TASKS, version, body: TaskBody::new(&base, &run, category(&estate, run.kind)) })
}

fn which(id: &str) -> Result<RunRef> {
    Ok(RunRef::Id(RunId(decimal(id, "task")?)))
}
