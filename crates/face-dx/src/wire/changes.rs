//! Pull requests, commits and repositories on the wire.

use utoipa::ToSchema;

use super::{ShaArgument, TimeArgument};

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct PullArguments {
    #[schema(min_length = 1, max_length = 255)]
    repository: String,
    #[schema(minimum = 1)]
    number: i64,
    /// When it was opened.
    created_at: TimeArgument,
    #[schema(max_length = 4096)]
    title: Option<String>,
    author: Option<AuthorArguments>,
    /// Base branch [default: the default branch].
    #[schema(max_length = 255)]
    base_ref: Option<String>,
    #[schema(max_length = 255)]
    head_ref: Option<String>,
    /// Defaults to the time of the first of its commits that is known.
    first_commit_at: Option<TimeArgument>,
    merged_at: Option<TimeArgument>,
    closed_at: Option<TimeArgument>,
    merge_commit_sha: Option<ShaArgument>,
    #[schema(max_items = 5000)]
    commit_shas: Option<Vec<ShaArgument>>,
    bot_authored: Option<bool>,
    /// Set it to GitHub's id to use `github_pull_id` in `deployments.setPullServices`.
    #[schema(max_length = 255)]
    reference_id: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct AuthorArguments {
    #[schema(max_length = 255)]
    email: Option<String>,
    #[schema(max_length = 255)]
    github_username: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct CommitsArguments {
    #[schema(min_length = 1, max_length = 255)]
    repository: String,
    /// At most 5,000.
    #[schema(min_items = 1, max_items = 5000)]
    commits: Vec<CommitArguments>,
    /// Branch [default: the default branch].
    #[schema(max_length = 255)]
    branch: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct CommitArguments {
    sha: ShaArgument,
    committed_at: TimeArgument,
    #[schema(max_length = 255)]
    author_email: Option<String>,
    message: Option<String>,
    parents: Option<Vec<ShaArgument>>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct RepoArguments {
    #[schema(min_length = 1, max_length = 255)]
    repository: String,
    /// Defaults to `main` or `master`, whichever is used.
    #[schema(max_length = 255)]
    default_branch: Option<String>,
    #[schema(max_length = 255)]
    source: Option<String>,
    #[schema(max_length = 255)]
    external_id: Option<String>,
}
