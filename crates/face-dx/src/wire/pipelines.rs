//! Pipeline runs on the wire.

use serde_json::Value;
use utoipa::ToSchema;

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct PipelineArguments {
    pipeline_name: String,
    /// `Jenkins`, `Tekton` and so on.
    pipeline_source: String,
    /// Unique within its source.
    reference_id: String,
    /// Seconds or milliseconds since 1970, or ISO 8601.
    started_at: Value,
    /// `failure`, `running`, `success`, `cancelled`; other values are stored as received.
    status: Option<String>,
    finished_at: Option<Value>,
    repository: Option<String>,
    /// Needs `repository`.
    commit_sha: Option<String>,
    /// Needs `repository`.
    pr_number: Option<i64>,
    source_url: Option<String>,
    head_branch: Option<String>,
    email: Option<String>,
    github_username: Option<String>,
    gitlab_username: Option<String>,
}
