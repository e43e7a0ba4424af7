//! Carries changes of policies out, one transaction each.

use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::ids::{BoxFuture, DatasourceId};
use landreeve_core::{Action, Category, Result, RunState};
use landreeve_estate::args;
use landreeve_estate::events::{Delivered, Event, Subscriber};
use landreeve_estate::ops::datasources;
use landreeve_estate::runs::{Done, Executor, Job, KindSpec, Outcome, Retry};
use landreeve_estate::store::Tx;

use super::following;
use super::stored::StoredChange;
use crate::ids::PolicyId;
use crate::nouns::POLICY;
use crate::plane::{CHANGES, Protection};

pub const CHANGE: KindSpec = KindSpec {
    pool: CHANGES,
    time_limit: Some(Duration::from_secs(300)),
    retry: Retry { attempts: 5, backoff: Duration::from_secs(2) },
    keep_record: Duration::from_secs(90 * 86_400),
    ..KindSpec::new("policy_update", Category::Job)
};

/// Changes policies.
pub struct Changing(pub Protection);

impl Executor for Changing {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let (estate, change) = (self.0.estate(), StoredChange::parse(&job.run.input)?);
            if let StoredChange::Assign { items, .. } = &change {
                // Those who lost the permission since then change nothing.
                for (datasource, _) in items {
                    let id = DatasourceId(*datasource);
                    let datasource = datasources::load(estate, id).await?;
                    estate.require(job.ctx(), POLICY, Action::MANAGE, &datasource.ou_path, id.0).await?;
                }
            }
            let now = estate.now();
            estate
                .store()
                .write(move |tx| {
                    let change = change.clone();
                    Box::pin(async move { carry_out(tx, change, now).await })
                })
                .await?;
            Ok(Done::default())
        })
    }
}

/// Opens policies again whose change ended without having been carried out.
pub struct Unlocker(pub Protection);

impl Subscriber for Unlocker {
    fn name(&self) -> &'static str {
        "policies"
    }

    fn handle<'a>(&'a self, event: &'a Delivered) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            match &event.event {
                Event::RunFinished { kind, state, noun_id: Some(policy), .. }
                    if *kind == CHANGE.kind && *state != RunState::Succeeded =>
                {
                    let policy = PolicyId(*policy);
                    let unlock = "UPDATE policies SET lock_status = 'unlocked' WHERE id = $1";
                    let store = self.0.estate().store();
                    store
                        .write(move |tx| {
                            Box::pin(async move { tx.exec(unlock, args![policy]).await.map(drop) })
                        })
                        .await
                }
                _ => Ok(()),
            }
        })
    }
}

async fn carry_out(tx: &mut Tx, change: StoredChange, now: Timestamp) -> Result<()> {
    match change {
        StoredChange::Replace { policy, name, enabled, operations, .. } => {
            let policy = PolicyId(policy);
            let sql = "UPDATE policies SET name = $2, enabled = $3, body = $4, lock_status = 'unlocked', \
                       updated_at = $5, row_version = row_version + 1 WHERE id = $1";
            tx.exec(sql, args![policy, name, enabled, operations.as_json()?, now]).await?;
            for datasource in assigned(tx, policy).await? {
                following::plan(tx, datasource, now).await?;
            }
        }
        StoredChange::Delete { policy, .. } => {
            let policy = PolicyId(policy);
            for datasource in assigned(tx, policy).await? {
                following::forget(tx, datasource).await?;
            }
            tx.exec("DELETE FROM policy_assignments WHERE policy_id = $1", args![policy]).await?;
            tx.exec("DELETE FROM policies WHERE id = $1", args![policy]).await?;
        }
        StoredChange::Assign { items, .. } => {
            for (datasource, policy) in items {
                assign(tx, DatasourceId(datasource), policy.map(PolicyId), now).await?;
            }
        }
    }
    Ok(())
}

async fn assigned(tx: &mut Tx, policy: PolicyId) -> Result<Vec<DatasourceId>> {
    let sql = "SELECT datasource_id FROM policy_assignments WHERE policy_id = $1 ORDER BY 1";
    tx.all(sql, args![policy]).await?.iter().map(|row| row.id(0)).collect()
}

/// A datasource or a policy that was deleted meanwhile is left out.
async fn assign(
    tx: &mut Tx,
    datasource: DatasourceId,
    policy: Option<PolicyId>,
    now: Timestamp,
) -> Result<()> {
    let Some(policy) = policy else {
        tx.exec("DELETE FROM policy_assignments WHERE datasource_id = $1", args![datasource]).await?;
        return following::forget(tx, datasource).await;
    };
    let sql = "INSERT INTO policy_assignments (datasource_id, policy_id, assigned_at) \
               SELECT d.id, p.id, $3 FROM datasources d, policies p WHERE d.id = $1 AND p.id = $2 \
               ON CONFLICT (datasource_id) DO UPDATE SET policy_id = EXCLUDED.policy_id, \
               assigned_at = EXCLUDED.assigned_at";
    if tx.exec(sql, args![datasource, policy, now]).await? > 0 {
        following::plan(tx, datasource, now).await?;
    }
    Ok(())
}
