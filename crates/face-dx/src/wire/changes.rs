//! Pull requests, commits and repositories on the wire.

use serde_json::Value;
use utoipa::ToSchema;

#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of a body that is read with all its faults")]
pub struct PullArguments {
    repository: String,
    number: i64,
    /// When it was opened.
    created_at: Value,
    title: Option<String>,
    author: Option<AuthorArguments>,
    /// The default branch unless told.
    base_ref: Option<String>,
    head_ref: Option<String>,
    /// Unless told, that of the first of its commits that is known.
    first_commit_at: Option<Value>,
    merged_at: Option<Value>,
    closed_at: Option<Value>,
    merge_commit_sha: Option<String>,
    commit_shas: Option<Vec<String>>,
    bot_authored: Option<bool>,
    /// GitHub's id of it makes `github_pull_id` of `deployments.setPullServices` work.
    reference_id: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of a body that is read with all its faults")]
pub struct AuthorArguments {
    email: Option<String>,
    github_username: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of a body that is read with all its faults")]
pub struct CommitsArguments {
    repository: String,
    /// At most 5,000.
    commits: Vec<CommitArguments>,
    /// The default branch unless told.
    branch: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of a body that is read with all its faults")]
pub struct CommitArguments {
    sha: String,
    committed_at: Value,
    author_email: Option<String>,
    message: Option<String>,
    parents: Option<Vec<String>>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of a body that is read with all its faults")]
pub struct RepoArguments {
    repository: String,
    /// `main` or `master`, whichever is used, unless told.
    default_branch: Option<String>,
    source: Option<String>,
    external_id: Option<String>,
}
