//! `pullRequests.upsert`, `commits.push` and `repos.upsert`: clients push code changes, because there is no importer.
//! All three are extensions of this server.

use axum::Json;
use axum::extract::State;
use landreeve_core::Given;
use landreeve_delivery::Delivery;
use landreeve_delivery::changes::{CommitFacts, PullFacts, commits_push, pull_upsert};
use landreeve_delivery::repos::{RepoFacts, repo_upsert};
use landreeve_http::Outcome;
use serde_json::Value;

use crate::arguments::{Arguments, Reader};
use crate::caller::Caller;
use crate::wire::changes::{CommitsArguments, PullArguments, RepoArguments};
use crate::wire::done::Done;

/// Create or update a pull request
///
/// An extension of this server. Identified by repository and number; omitted values are kept.
#[utoipa::path(
    post,
    path = "/api/pullRequests.upsert",
    tag = "pullRequests",
    request_body(content = inline(PullArguments), example = json!({
        "repository": "acme/shop",
        "number": 12,
        "created_at": "2025-12-30T10:00:00Z",
        "title": "Charge in the buyer's currency",
        "author": { "email": "ann@example.com" },
        "base_ref": "main",
        "first_commit_at": "2025-12-30T08:00:00Z",
        "merged_at": "2025-12-31T15:00:00Z",
        "merge_commit_sha": "4f2c9be01d7a6f3b8e5c2d9a0b1c2d3e4f5a6b7c"
    })),
    responses((status = 200, body = Done, example = json!({ "ok": true })))
)]
pub async fn pull(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<Done>> {
    let mut reader = arguments.reader();
    let repository = reader.required_text("repository");
    let number = reader.required_int("number");
    let opened_at = reader.required_instant("created_at");
    let facts = pull_facts(&mut reader);
    pull_upsert(&plane, &ctx, repository, number, opened_at, reader.asked(facts)).await?;
    Ok(Json(Done::ok()))
}

fn pull_facts(reader: &mut Reader<'_>) -> PullFacts {
    let (author_email, author_username) = author(reader);
    PullFacts {
        title: reader.text("title"),
        author_email,
        author_username,
        base_ref: reader.text("base_ref"),
        head_ref: reader.text("head_ref"),
        first_commit_at: reader.instant("first_commit_at"),
        merged_at: reader.instant("merged_at"),
        closed_at: reader.instant("closed_at"),
        merge_commit_sha: reader.text("merge_commit_sha"),
        commit_shas: reader.texts("commit_shas"),
        bot_authored: reader.bool("bot_authored"),
        reference: reader.text("reference_id"),
    }
}

/// `{"email": …}` or `{"github_username": …}`.
fn author(reader: &mut Reader<'_>) -> (Option<String>, Option<String>) {
    let object = match reader.value("author") {
        Given::Absent | Given::Null => return (None, None),
        Given::Value(Value::Object(object)) => object,
        Given::Value(_) => {
            let message = "must be an object with an email or a github_username";
            reader.faults().push("author", "type", message);
            return (None, None);
        }
    };
    let mut text = |name: &str| match object.get(name) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Some(_) => {
            reader.faults().push(format!("author.{name}"), "type", "must be a string");
            None
        }
    };
    (text("email"), text("github_username"))
}

/// Record commits on a branch
///
/// An extension of this server, for trunk-based work without pull requests. `branch` defaults to the default branch.
/// Pushing the same commits again changes nothing.
#[utoipa::path(
    post,
    path = "/api/commits.push",
    tag = "commits",
    request_body(content = inline(CommitsArguments), example = json!({
        "repository": "acme/shop",
        "commits": [{
            "sha": "9a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
            "committed_at": "2026-01-01T18:00:00Z",
            "author_email": "ann@example.com",
            "message": "Round at the end"
        }]
    })),
    responses((status = 200, body = Done, example = json!({ "ok": true })))
)]
pub async fn push(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<Done>> {
    let mut reader = arguments.reader();
    let repository = reader.required_text("repository");
    let branch = reader.text("branch");
    let commits = reader.objects("commits", |commit| CommitFacts {
        sha: commit.required_text("sha"),
        committed_at: commit.required_instant("committed_at"),
        author_email: commit.text("author_email"),
        message: commit.text("message"),
        parents: commit.texts("parents").unwrap_or_default(),
    });
    if commits.is_none() {
        reader.require("commits");
    }
    let commits = reader.asked(commits.unwrap_or_default());
    commits_push(&plane, &ctx, repository, branch, commits).await?;
    Ok(Json(Done::ok()))
}

/// Create or update a repository
///
/// An extension of this server. Changing the default branch attributes all the repository's deployments again.
#[utoipa::path(
    post,
    path = "/api/repos.upsert",
    tag = "repos",
    request_body(content = inline(RepoArguments), example = json!({
        "repository": "acme/shop", "default_branch": "trunk"
    })),
    responses((status = 200, body = Done, example = json!({ "ok": true })))
)]
pub async fn repo(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<Done>> {
    let mut reader = arguments.reader();
    let repository = reader.required_text("repository");
    let facts = RepoFacts {
        default_branch: reader.text("default_branch"),
        source: reader.text("source"),
        external_id: reader.text("external_id"),
    };
    repo_upsert(&plane, &ctx, repository, reader.asked(facts)).await?;
    Ok(Json(Done::ok()))
}
