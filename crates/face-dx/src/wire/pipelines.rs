//! Pipeline runs on the wire.

use utoipa::ToSchema;

use super::{ShaArgument, TimeArgument};

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct PipelineArguments {
    #[schema(min_length = 1, max_length = 255)]
    pipeline_name: String,
    /// `Jenkins`, `Tekton` and so on.
    #[schema(min_length = 1, max_length = 255)]
    pipeline_source: String,
    /// Unique within its source.
    #[schema(min_length = 1, max_length = 255)]
    reference_id: String,
    /// Seconds or milliseconds since 1970, or ISO 8601.
    started_at: TimeArgument,
    /// `failure`, `running`, `success`, `cancelled`; other values are stored as received.
    #[schema(max_length = 255)]
    status: Option<String>,
    finished_at: Option<TimeArgument>,
    #[schema(max_length = 255)]
    repository: Option<String>,
    /// Needs `repository`.
    commit_sha: Option<ShaArgument>,
    /// Needs `repository`.
    #[schema(minimum = 1)]
    pr_number: Option<i64>,
    #[schema(max_length = 4096)]
    source_url: Option<String>,
    #[schema(max_length = 255)]
    head_branch: Option<String>,
    #[schema(max_length = 255)]
    email: Option<String>,
    #[schema(max_length = 255)]
    github_username: Option<String>,
    #[schema(max_length = 255)]
    gitlab_username: Option<String>,
}
