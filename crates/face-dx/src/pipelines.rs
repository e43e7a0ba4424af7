//! `pipelineRuns.*`: runs of the build systems.

use axum::Json;
use axum::extract::State;
use landreeve_delivery::Delivery;
use landreeve_delivery::pipelines::{PipelineFacts, pipeline_upsert};
use landreeve_http::Outcome;

use crate::arguments::Arguments;
use crate::caller::Caller;
use crate::wire::done::Done;
use crate::wire::pipelines::PipelineArguments;

/// Record a notification about a pipeline run
///
/// All notifications are merged into one record, in whatever order they arrive: it has the earliest start, and the
/// status with the highest rank of failure, cancelled, success, running, unknown.
#[utoipa::path(
    post,
    path = "/api/pipelineRuns.upsert",
    tag = "pipelineRuns",
    request_body(content = inline(PipelineArguments), example = json!({
        "pipeline_name": "build",
        "pipeline_source": "Jenkins",
        "reference_id": "build-1093",
        "started_at": "2026-01-02T08:50:00Z",
        "finished_at": "2026-01-02T08:58:00Z",
        "status": "success",
        "repository": "acme/shop",
        "commit_sha": "4f2c9be"
    })),
    responses((status = 200, body = Done, example = json!({ "ok": true })))
)]
pub async fn upsert(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<Done>> {
    record(&plane, &ctx, &arguments).await
}

/// Record a notification about a pipeline run (older name)
#[utoipa::path(
    post,
    path = "/api/pipelineRuns.sync",
    tag = "pipelineRuns",
    request_body(content = inline(PipelineArguments), example = json!({
        "pipeline_name": "build",
        "pipeline_source": "Jenkins",
        "reference_id": "build-1094",
        "started_at": "1767345600"
    })),
    responses((status = 200, body = Done, example = json!({ "ok": true })))
)]
pub async fn sync(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<Done>> {
    record(&plane, &ctx, &arguments).await
}

async fn record(plane: &Delivery, ctx: &landreeve_core::OpCtx, arguments: &Arguments) -> Outcome<Json<Done>> {
    let mut reader = arguments.reader();
    let facts = PipelineFacts {
        name: reader.required_text("pipeline_name"),
        source: reader.required_text("pipeline_source"),
        reference: reader.required_text("reference_id"),
        started_at: reader.required_instant("started_at"),
        status: reader.text("status"),
        finished_at: reader.instant("finished_at"),
        repository: reader.text("repository"),
        commit_sha: reader.text("commit_sha"),
        pr_number: reader.int("pr_number"),
        source_url: reader.text("source_url"),
        head_branch: reader.text("head_branch"),
        email: reader.text("email"),
        github_username: reader.text("github_username"),
        gitlab_username: reader.text("gitlab_username"),
    };
    pipeline_upsert(plane, ctx, reader.asked(facts)).await?;
    Ok(Json(Done::ok()))
}
