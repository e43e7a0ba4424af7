//! The end of a deployment: its state, its tasks and everything that follows, in one transaction.

use jiff::Timestamp;
use landreeve_core::ids::{BoxFuture, OuId, RunId};
use landreeve_core::{Result, RunState};
use landreeve_estate::args;
use landreeve_estate::events::{self, Delivered, Event, Promoted, Subscriber};
use landreeve_estate::store::Tx;

use super::tasks::Touched;
use super::{DEPLOYMENT, State, tasks};
use crate::plane::Promotion;
use crate::stored::StoredDeployment;

/// Ends a deployment. `false` if it had ended before.
pub async fn close(tx: &mut Tx, id: RunId, state: State, message: &str, now: Timestamp) -> Result<bool> {
    let row = tx
        .opt(
            "UPDATE promotion_deployments SET state = $2, message = $3, ended_at = $4 \
             WHERE id = $1 AND state = 'in_progress' \
             RETURNING ou_id, environment_id, environment_name, scenario, user_name",
            args![id, state.as_str(), message, now],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    close_tasks(tx, id, now).await?;
    // What the servers have now is what later changes are compared with.
    tx.exec(
        "INSERT INTO promotion_server_states (server_id, deployment_id, version, content_hash, deployed_at) \
         SELECT p.id, s.deployment_id, s.to_version, COALESCE(s.to_hash, v.content_hash), $2 \
         FROM promotion_deployment_servers s JOIN promotion_servers p ON p.id = s.server_id \
         LEFT JOIN virtual_versions v ON v.node_id = p.node_id AND v.number = s.to_version \
         WHERE s.deployment_id = $1 AND s.phase IN ('applied', 'back') AND s.to_version IS NOT NULL \
         AND COALESCE(s.to_hash, v.content_hash) IS NOT NULL \
         ON CONFLICT (server_id) DO UPDATE SET deployment_id = excluded.deployment_id, version = excluded.version, \
         content_hash = excluded.content_hash, deployed_at = excluded.deployed_at",
        args![id, now],
    )
    .await?;
    tx.exec(
        "INSERT INTO promotion_revision_environments (revision_id, environment_id, deployed_at) \
         SELECT r.id, e.id, $2 FROM promotion_deployment_revisions d JOIN promotion_revisions r ON r.id = d.revision_id \
         JOIN promotion_environments e ON e.id = $3 WHERE d.deployment_id = $1 AND EXISTS (SELECT 1 FROM \
         promotion_deployment_servers s WHERE s.deployment_id = $1 AND s.to_version IS NOT NULL \
         AND s.phase IN ('applied', 'back')) \
         ON CONFLICT (revision_id, environment_id) DO UPDATE SET deployed_at = excluded.deployed_at",
        args![id, now, row.int(1)?],
    )
    .await?;
    let finished = Finished {
        id,
        ou: row.id(0)?,
        environment: row.text(2)?,
        scenario: row.text(3)?,
        user: row.text(4)?,
        success: state.is_success(),
    };
    tell(tx, finished, now).await?;
    tx.run_changed(id).await?;
    Ok(true)
}

async fn close_tasks(tx: &mut Tx, id: RunId, now: Timestamp) -> Result<()> {
    tx.exec(
        "UPDATE promotion_tasks SET state = 'skipped', output = $3, ended_at = $2, updated_at = $2 \
         WHERE deployment_id = $1 AND state = 'pending'",
        args![id, now, tasks::SKIPPED],
    )
    .await?;
    tx.exec(
        "UPDATE promotion_tasks SET state = 'error', output = output || ' - it was interrupted', ended_at = $2, \
         updated_at = $2 WHERE deployment_id = $1 AND state = 'in_progress'",
        args![id, now],
    )
    .await
    .map(drop)
}

struct Finished {
    id: RunId,
    ou: OuId,
    environment: String,
    scenario: String,
    user: String,
    success: bool,
}

/// Each virtual database is a service that was deployed, if anything was begun.
async fn tell(tx: &mut Tx, finished: Finished, now: Timestamp) -> Result<()> {
    let id = finished.id;
    let touched = "SELECT 1 FROM promotion_deployment_servers WHERE deployment_id = $1 AND from_version IS NOT NULL LIMIT 1";
    if tx.opt(touched, args![id]).await?.is_none() {
        return Ok(());
    }
    let Some(run) = tx.opt("SELECT input FROM runs WHERE id = $1", args![id]).await? else { return Ok(()) };
    let input: StoredDeployment = run.json(0)?;
    let sql = "SELECT name FROM promotion_deployment_revisions WHERE deployment_id = $1 ORDER BY position";
    let names = tx.all(sql, args![id]).await?;
    let revisions: Vec<String> = names.iter().map(|row| row.text(0)).collect::<Result<_>>()?;
    for service in input.services {
        let event = Event::DeploymentFinished {
            deployment: id.0,
            service,
            environment: finished.scenario.clone(),
            success: finished.success,
            finished_at: now,
            details: Some(Promoted {
                user: finished.user.clone(),
                environment: finished.environment.clone(),
                revisions: revisions.clone(),
            }),
        };
        events::append(tx, finished.ou, &event, now).await?;
    }
    Ok(())
}

/// Ends deployments whose runs ended without ending them: cancelled before they started, not approved in time, or given
/// up.
pub struct Closer(pub Promotion);

impl Subscriber for Closer {
    fn name(&self) -> &'static str {
        "promotion"
    }

    fn handle<'a>(&'a self, event: &'a Delivered) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            match &event.event {
                Event::RunFinished { run, kind, state, .. } if *kind == DEPLOYMENT.kind => {
                    self.close(*run, *state).await
                }
                _ => Ok(()),
            }
        })
    }
}

impl Closer {
    async fn close(&self, run: RunId, ended: RunState) -> Result<()> {
        let estate = self.0.estate();
        let state = if ended == RunState::Cancelled { State::Cancelled } else { State::Error };
        let now = estate.now();
        estate
            .store()
            .write(move |tx| {
                Box::pin(async move {
                    let row = tx.opt("SELECT error_message FROM runs WHERE id = $1", args![run]).await?;
                    let message = row.map(|row| row.text_opt(0)).transpose()?.flatten();
                    let mut message = message.unwrap_or_else(|| "it ended without a result".to_owned());
                    let servers = tasks::servers(tx, run).await?;
                    let begun: Vec<String> =
                        servers.into_iter().filter(Touched::is_touched).map(|touched| touched.name).collect();
                    if !begun.is_empty() {
                        message.push_str(&format!("; it had begun to change: {}", begun.join(", ")));
                    }
                    close(tx, run, state, &message, now).await.map(drop)
                })
            })
            .await
    }
}

/// Deletes the deployments of deleted runs.
pub fn purge<'t>(tx: &'t mut Tx, runs: &'t [RunId]) -> BoxFuture<'t, Result<()>> {
    Box::pin(async move {
        for run in runs {
            tx.exec("DELETE FROM promotion_deployments WHERE id = $1", args![*run]).await?;
        }
        Ok(())
    })
}
