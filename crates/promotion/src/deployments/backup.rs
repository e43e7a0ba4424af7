//! The last task of a deployment, if it is configured: commits what the first server has then. Its failure is a warning.
//!
//! Does not belong here: how git is used (`git`).

use landreeve_core::{Error, Result};
use landreeve_estate::args;

use super::State;
use super::execute::{Work, told};
use super::plan::BACKUP;
use super::tasks::{self, Task, TaskState};
use crate::access;
use crate::git::{Change, Committed, file_name};
use crate::ids::ServerId;

/// Executes the task, if there is one that has not ended. `false` if it failed.
pub(super) async fn back_up(work: &Work<'_>, state: State) -> Result<bool> {
    let all = tasks::load(&mut work.plane.estate().store().read().await?, work.id, None).await?;
    let task = all.into_iter().find(|task| task.kind == BACKUP && !task.state.is_final());
    let Some(task) = task else { return Ok(true) };
    work.begin(vec![task.id]).await?;
    let done = tokio::select! {
        done = committed(work, &task, state) => done,
        // What was deployed must not be undone because of a slow backup.
        () = interrupted(work) => Err("this server stops".to_owned()),
    };
    let good = done.is_ok();
    let (end, output) = match done {
        Ok(output) => (TaskState::Ok, output),
        Err(reason) => (TaskState::Warning, reason),
    };
    work.end(vec![(task.id, end, format!(" - {output}"))]).await?;
    Ok(good)
}

async fn interrupted(work: &Work<'_>) {
    work.job.cancelled().await;
    if !work.is_interrupted() {
        // Only the deployment was cancelled: what it left behind is backed up all the same.
        std::future::pending::<()>().await;
    }
}

/// What was committed, or why nothing was.
async fn committed(work: &Work<'_>, task: &Task, state: State) -> std::result::Result<String, String> {
    let Some(repository) = work.plane.repository() else {
        return Err("no backup repository is configured ([promotion] git_repository)".to_owned());
    };
    let change = change(work, task, state).await.map_err(|error| told(&error))?;
    let path = change.path.join("/");
    match repository.commit(change).await? {
        Committed::As(id) => Ok(format!("committed {path} as {id}")),
        Committed::Unchanged => Ok(format!("{path} is unchanged since its last commit")),
    }
}

async fn change(work: &Work<'_>, task: &Task, state: State) -> Result<Change> {
    let (plane, id) = (work.plane, work.id);
    let (server, name) = task.server.clone().ok_or_else(|| Error::internal("a backup has no server"))?;
    let node = access::open(plane, work.ctx(), ServerId(server), Some(work.fence)).await?;
    let text = node.text().await?;
    let mut conn = plane.estate().store().read().await?;
    let sql = "SELECT ou_id, environment_name, user_name FROM promotion_deployments WHERE id = $1";
    let row = conn.one(sql, args![id]).await?;
    let (ou, environment, user) = (row.int(0)?, row.text(1)?, row.text(2)?);
    let sql = "SELECT name FROM promotion_deployment_revisions WHERE deployment_id = $1 ORDER BY position";
    let revisions = conn.all(sql, args![id]).await?;
    let revisions: Vec<String> = revisions.iter().map(|row| row.text(0)).collect::<Result<_>>()?;
    let message = format!(
        "Deployment {id} to {environment}: {}\n\nServer: {name}\nUser: {user}\nRevisions: {}\n",
        state.as_str(),
        revisions.join(", ")
    );
    Ok(Change { path: path(ou, &environment, &name), text, message, author: user, at: plane.estate().now() })
}

/// `ENVIRONMENT/SERVER.vql`; names are unique in a unit only, so other units than the root have a folder each.
fn path(ou: i64, environment: &str, server: &str) -> Vec<String> {
    let unit = (ou != landreeve_core::ids::OuId::ROOT.0).then(|| format!("unit-{ou}"));
    let rest = [file_name(environment), format!("{}.vql", file_name(server))];
    unit.into_iter().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_do_not_share_files() {
        assert_eq!(path(1, "prod", "s/1"), ["prod", "s%2F1.vql"]);
        assert_eq!(path(7, "prod", "s1"), ["unit-7", "prod", "s1.vql"]);
    }
}
