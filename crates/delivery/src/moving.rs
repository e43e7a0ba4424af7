//! When the default branch changes, the repository's lines have new names and all its changes are attributed again.
//! That takes longer the larger the repository is, so it is done in small transactions. The repository stays marked
//! until the last one; the attribution run resumes after a crash. Each step can be repeated.

use std::collections::BTreeSet;

use jiff::Timestamp;
use landreeve_core::Result;
use landreeve_core::ids::OuId;
use landreeve_estate::args;
use landreeve_estate::store::Tx;

use crate::Delivery;
use crate::attribution::{attribute_some, line, lock_repository};
use crate::ids::{DeploymentId, RepoId};

/// Maximum number of rows per transaction, so that other writes do not wait long.
const BATCH: i64 = 500;

/// Marks a repository whose default branch has changed, in the transaction that changes it.
pub async fn mark(tx: &mut Tx, repo: RepoId) -> Result<()> {
    tx.exec("UPDATE delivery_repos SET moving = moving + 1 WHERE id = $1", args![repo]).await.map(drop)
}

/// Moves every marked repository, including those interrupted by a crash.
pub async fn move_all(plane: &Delivery) -> Result<()> {
    loop {
        let sql = "SELECT id, ou_id FROM delivery_repos WHERE moving > 0 ORDER BY id LIMIT 1";
        let row = plane.estate().store().read().await?.opt(sql, args![]).await?;
        let Some(row) = row else { return Ok(()) };
        move_lines(plane, row.id(1)?, row.id(0)?).await?;
    }
}

/// Moves one repository, if it is marked.
pub async fn move_lines(plane: &Delivery, ou: OuId, repo: RepoId) -> Result<()> {
    loop {
        let sql = "SELECT moving FROM delivery_repos WHERE id = $1";
        let mark = plane.estate().store().read().await?.one(sql, args![repo]).await?.int(0)?;
        if mark == 0 {
            return Ok(());
        }
        let place = Place { ou, repo };
        rename(plane, place).await?;
        reset(plane, place).await?;
        attribute(plane, place).await?;
        // If the default branch changed again in the meantime, start over.
        let store = plane.estate().store();
        let sql = "UPDATE delivery_repos SET moving = 0 WHERE id = $1 AND moving = $2";
        store.write(move |tx| Box::pin(async move { tx.exec(sql, args![repo, mark]).await })).await?;
    }
}

#[derive(Clone, Copy)]
struct Place {
    ou: OuId,
    repo: RepoId,
}

/// Sets the line of each change and detaches the changes from their deployments.
async fn rename(plane: &Delivery, place: Place) -> Result<()> {
    let mut after = 0;
    loop {
        let store = plane.estate().store();
        let next = store.write_alone(move |tx| Box::pin(rename_some(tx, place, after))).await?;
        let Some(last) = next else { return Ok(()) };
        after = last;
    }
}

/// Returns the number of the last change in this batch.
async fn rename_some(tx: &mut Tx, Place { ou, repo }: Place, after: i64) -> Result<Option<i64>> {
    lock_repository(tx, ou, repo).await?;
    let default = tx.one("SELECT default_branch FROM delivery_repos WHERE id = $1", args![repo]).await?;
    let default = default.text_opt(0)?;
    let rows = tx
        .all(
            "SELECT id, branch FROM delivery_changes WHERE repo_id = $1 AND id > $2 ORDER BY id LIMIT $3",
            args![repo, after, BATCH],
        )
        .await?;
    let Some(last) = rows.last() else { return Ok(None) };
    let last = last.int(0)?;
    let branches: BTreeSet<String> = rows.iter().map(|row| row.text(1)).collect::<Result<_>>()?;
    for branch in branches {
        // Commits pushed without a branch are on the default branch, whatever its name.
        let moved = if branch.is_empty() { branch.clone() } else { line(&branch, default.as_deref()) };
        let sql = "UPDATE delivery_changes SET line = $5 WHERE repo_id = $1 AND id > $2 AND id <= $3 \
                   AND branch = $4 AND line <> $5";
        tx.exec(sql, args![repo, after, last, branch, moved]).await?;
    }
    tx.exec(
        "DELETE FROM delivery_change_deployments WHERE change_id IN \
         (SELECT id FROM delivery_changes WHERE repo_id = $1 AND id > $2 AND id <= $3) \
         AND target_id IN (SELECT id FROM delivery_targets WHERE repo_id = $1)",
        args![repo, after, last],
    )
    .await?;
    // A commit that was pushed both with and without the branch's name is now twice on one line.
    tx.exec(
        "DELETE FROM delivery_changes WHERE repo_id = $1 AND id > $2 AND id <= $3 AND kind = 'commit' \
         AND line = '' AND EXISTS (SELECT 1 FROM delivery_changes o WHERE o.repo_id = $1 AND o.kind = 'commit' \
         AND o.line = '' AND o.sha = delivery_changes.sha AND o.id < delivery_changes.id)",
        args![repo, after, last],
    )
    .await?;
    Ok(Some(last))
}

/// Clears the deployments' places on a line.
async fn reset(plane: &Delivery, place: Place) -> Result<()> {
    let mut after = 0;
    loop {
        let store = plane.estate().store();
        let next = store.write_alone(move |tx| Box::pin(reset_some(tx, place, after))).await?;
        let Some(last) = next else { return Ok(()) };
        after = last;
    }
}

async fn reset_some(tx: &mut Tx, Place { ou, repo }: Place, after: i64) -> Result<Option<i64>> {
    lock_repository(tx, ou, repo).await?;
    let sql = "SELECT max(id) FROM (SELECT id FROM delivery_deployments WHERE repo_id = $1 AND id > $2 \
               ORDER BY id LIMIT $3) AS batch";
    let Some(last) = tx.one(sql, args![repo, after, BATCH]).await?.int_opt(0)? else { return Ok(None) };
    let sql = "UPDATE delivery_deployments SET line = NULL, position = NULL, team_id = NULL \
               WHERE repo_id = $1 AND id > $2 AND id <= $3";
    tx.exec(sql, args![repo, after, last]).await?;
    Ok(Some(last))
}

/// Attributes the deployments in order of their time.
async fn attribute(plane: &Delivery, place: Place) -> Result<()> {
    let now = plane.estate().now();
    let mut after = (Timestamp::MIN, DeploymentId(0));
    loop {
        let store = plane.estate().store();
        let next = store
            .write_alone(move |tx| {
                Box::pin(async move {
                    lock_repository(tx, place.ou, place.repo).await?;
                    attribute_some(tx, place.repo, after, BATCH / 5, now).await
                })
            })
            .await?;
        let Some(last) = next else { return Ok(()) };
        after = last;
    }
}
