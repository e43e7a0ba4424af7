//! Pull requests, commits and repositories on the wire.

use serde_json::Value;
use utoipa::ToSchema;

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct PullArguments {
    repository: String,
    number: i64,
    /// When it was opened.
    created_at: Value,
    title: Option<String>,
    author: Option<AuthorArguments>,
    /// Base branch [default: the default branch].
    base_ref: Option<String>,
    head_ref: Option<String>,
    /// Defaults to the time of the first of its commits that is known.
    first_commit_at: Option<Value>,
    merged_at: Option<Value>,
    closed_at: Option<Value>,
    merge_commit_sha: Option<String>,
    commit_shas: Option<Vec<String>>,
    bot_authored: Option<bool>,
    /// Set it to GitHub's id to use `github_pull_id` in `deployments.setPullServices`.
    reference_id: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct AuthorArguments {
    email: Option<String>,
    github_username: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct CommitsArguments {
    repository: String,
    /// At most 5,000.
    commits: Vec<CommitArguments>,
    /// Branch [default: the default branch].
    branch: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct CommitArguments {
    sha: String,
    committed_at: Value,
    author_email: Option<String>,
    message: Option<String>,
    parents: Option<Vec<String>>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct RepoArguments {
    repository: String,
    /// Defaults to `main` or `master`, whichever is used.
    default_branch: Option<String>,
    source: Option<String>,
    external_id: Option<String>,
}
