//! Pipeline runs: many notifications are merged into one record, in whatever order they arrive.

use jiff::Timestamp;
use landreeve_core::error::Faults;
use landreeve_core::ids::OuId;
use landreeve_core::{Action, Input, OpCtx, Result};
use landreeve_estate::args;
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::store::{Tx, next_in};

use crate::ids::{PipelineRunId, RepoId};
use crate::names::Names;
use crate::nouns;
use crate::sha::Sha;
use crate::{Delivery, text};

/// One notification.
#[derive(Debug, Clone)]
pub struct PipelineFacts {
    pub name: String,
    pub source: String,
    pub reference: String,
    pub started_at: Timestamp,
    pub status: Option<String>,
    pub finished_at: Option<Timestamp>,
    pub repository: Option<String>,
    pub commit_sha: Option<String>,
    pub pr_number: Option<i64>,
    pub source_url: Option<String>,
    pub head_branch: Option<String>,
    pub email: Option<String>,
    pub github_username: Option<String>,
    pub gitlab_username: Option<String>,
}

const UNKNOWN: &str = "unknown";

/// Rank of a status: the higher one wins. Words other than the five statuses are stored as received; those that mean
/// an end count as the end they resemble.
pub(crate) fn rank(status: &str) -> i64 {
    match status {
        "failure" | "failed" | "error" | "unstable" | "timed_out" => 5,
        "cancelled" | "canceled" | "aborted" | "not_built" | "skipped" => 4,
        "success" | "succeeded" => 3,
        UNKNOWN => 0,
        "running" => 1,
        _ => 2,
    }
}

fn check(facts: PipelineFacts, faults: &mut Faults) -> (PipelineFacts, Option<Sha>) {
    text::check(faults, "pipeline_name", &facts.name, text::NAME);
    text::check(faults, "pipeline_source", &facts.source, text::NAME);
    text::check(faults, "reference_id", &facts.reference, text::NAME);
    text::check_opt(faults, "status", facts.status.as_deref(), text::NAME);
    text::check_opt(faults, "repository", facts.repository.as_deref(), text::NAME);
    text::check_opt(faults, "source_url", facts.source_url.as_deref(), text::LONG);
    text::check_opt(faults, "head_branch", facts.head_branch.as_deref(), text::NAME);
    text::check_opt(faults, "email", facts.email.as_deref(), text::NAME);
    text::check_opt(faults, "github_username", facts.github_username.as_deref(), text::NAME);
    text::check_opt(faults, "gitlab_username", facts.gitlab_username.as_deref(), text::NAME);
    for (field, given) in
        [("commit_sha", facts.commit_sha.is_some()), ("pr_number", facts.pr_number.is_some())]
    {
        if given && facts.repository.is_none() {
            faults.push("repository", "required", format!("is required with {field}"));
        }
    }
    if facts.pr_number.is_some_and(|number| number < 1) {
        faults.push("pr_number", "range", "must be 1 or more");
    }
    if facts.finished_at.is_some_and(|finished| finished < facts.started_at) {
        faults.push("finished_at", "range", "must not be before started_at");
    }
    let sha = facts.commit_sha.as_deref().and_then(|sha| faults.take(Sha::parse("commit_sha", sha)));
    (facts, sha)
}

pub async fn pipeline_upsert(
    plane: &Delivery,
    ctx: &OpCtx,
    facts: Input<PipelineFacts>,
) -> Result<PipelineRunId> {
    plane.estate().require_here(ctx, nouns::DELIVERY, Action::USE).await?;
    let (facts, sha) = facts.parsed(check)?;
    let (ou, inner) = (ctx.authority().ou(), plane.clone());
    let (id, found) = plane
        .estate()
        .change_told(ctx, move |tx| {
            Box::pin(async move {
                let mut names = Names::new(&inner, ou);
                let repo = match &facts.repository {
                    Some(name) => Some(names.repo(tx, name).await?),
                    None => None,
                };
                let id = fold(tx, ou, repo, sha, &facts, inner.estate().now()).await?;
                let act = OwnedAct::new(
                    "recorded",
                    nouns::DELIVERY,
                    id.0,
                    format!("pipeline run {}", facts.reference),
                );
                Ok(((id, names.found), Some(act)))
            })
        })
        .await?;
    plane.known().remember(found);
    Ok(id)
}

/// The earliest start, an end once there is one, the status of the highest rank (between equals, the one that started
/// first); everything else as last reported.
async fn fold(
    tx: &mut Tx,
    ou: OuId,
    repo: Option<RepoId>,
    sha: Option<Sha>,
    facts: &PipelineFacts,
    now: Timestamp,
) -> Result<PipelineRunId> {
    let id = PipelineRunId(next_in(tx, PipelineRunId::KIND).await?);
    let status = facts.status.as_deref().map_or(UNKNOWN.to_owned(), str::to_lowercase);
    let row = tx
        .one(
            "INSERT INTO delivery_pipeline_runs (id, ou_id, reference_id, source, name, status, status_rank, \
             status_started_at, started_at, finished_at, repo_id, commit_sha, pr_number, head_branch, source_url, \
             email, github_username, gitlab_username, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $18) \
             ON CONFLICT (ou_id, source, reference_id) DO UPDATE SET name = excluded.name, \
             status = CASE WHEN excluded.status_rank > delivery_pipeline_runs.status_rank \
             OR (excluded.status_rank = delivery_pipeline_runs.status_rank \
             AND excluded.status_started_at < delivery_pipeline_runs.status_started_at) \
             THEN excluded.status ELSE delivery_pipeline_runs.status END, \
             status_started_at = CASE WHEN excluded.status_rank > delivery_pipeline_runs.status_rank \
             OR (excluded.status_rank = delivery_pipeline_runs.status_rank \
             AND excluded.status_started_at < delivery_pipeline_runs.status_started_at) \
             THEN excluded.status_started_at ELSE delivery_pipeline_runs.status_started_at END, \
             status_rank = CASE WHEN excluded.status_rank > delivery_pipeline_runs.status_rank \
             THEN excluded.status_rank ELSE delivery_pipeline_runs.status_rank END, \
             started_at = CASE WHEN excluded.started_at < delivery_pipeline_runs.started_at \
             THEN excluded.started_at ELSE delivery_pipeline_runs.started_at END, \
             finished_at = CASE WHEN delivery_pipeline_runs.finished_at IS NULL \
             OR excluded.finished_at > delivery_pipeline_runs.finished_at \
             THEN excluded.finished_at ELSE delivery_pipeline_runs.finished_at END, \
             repo_id = COALESCE(excluded.repo_id, delivery_pipeline_runs.repo_id), \
             commit_sha = COALESCE(excluded.commit_sha, delivery_pipeline_runs.commit_sha), \
             pr_number = COALESCE(excluded.pr_number, delivery_pipeline_runs.pr_number), \
             head_branch = COALESCE(excluded.head_branch, delivery_pipeline_runs.head_branch), \
             source_url = COALESCE(excluded.source_url, delivery_pipeline_runs.source_url), \
             email = COALESCE(excluded.email, delivery_pipeline_runs.email), \
             github_username = COALESCE(excluded.github_username, delivery_pipeline_runs.github_username), \
             gitlab_username = COALESCE(excluded.gitlab_username, delivery_pipeline_runs.gitlab_username), \
             updated_at = excluded.updated_at RETURNING id",
            args![
                id,
                ou,
                &facts.reference,
                &facts.source,
                &facts.name,
                &status,
                rank(&status),
                facts.started_at,
                facts.finished_at,
                repo,
                sha.as_ref().map(Sha::as_str),
                facts.pr_number,
                facts.head_branch.clone(),
                facts.source_url.clone(),
                facts.email.as_ref().map(|email| email.to_lowercase()),
                facts.github_username.as_ref().map(|name| name.to_lowercase()),
                facts.gitlab_username.as_ref().map(|name| name.to_lowercase()),
                now,
            ],
        )
        .await?;
    row.id(0)
}
