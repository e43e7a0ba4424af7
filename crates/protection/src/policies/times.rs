//! When the operations of policies have made backups last, and make them next, over all databases that have them.

use std::collections::HashMap;

use jiff::Timestamp;
use landreeve_core::Result;
use landreeve_core::ids::DatasourceId;
use landreeve_estate::store::{Conn, Where};

use super::following::goal;
use super::model::Operation;
use super::{Policy, stored, timing};
use crate::ids::PolicyId;

/// Of one operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// When its last backup started.
    pub previous: Option<Timestamp>,
    /// When the next one is due; a time that has come if it is due now.
    pub next: Option<Timestamp>,
}

/// A database, since when it has its policy, and when the last backup for each goal started.
struct Assigned {
    since: Timestamp,
    started: HashMap<String, Timestamp>,
}

/// Fills in the times of each policy's operations, in their order.
pub(super) async fn fill(conn: &mut Conn, policies: &mut [Policy], now: Timestamp) -> Result<()> {
    let assigned = assigned(conn, policies).await?;
    for policy in policies {
        policy.times = vec![Times::default(); policy.operations.len()];
        let Ok(rules) = stored::rules(&policy.name, policy.operations.clone()) else { continue };
        let databases = assigned.get(&policy.id).into_iter().flat_map(HashMap::values);
        for database in databases {
            for (times, operation) in policy.times.iter_mut().zip(&rules.operations) {
                let (previous, next) = of_database(operation, database, now);
                times.previous = times.previous.max(previous);
                if policy.enabled {
                    times.next = [times.next, next].into_iter().flatten().min();
                }
            }
        }
    }
    Ok(())
}

fn of_database(
    operation: &Operation,
    database: &Assigned,
    now: Timestamp,
) -> (Option<Timestamp>, Option<Timestamp>) {
    let (mut previous, mut next) = (None, None);
    for sla in operation.slas.iter().filter(|_| operation.works()) {
        let started = database.started.get(&goal(operation, &sla.frequency)).copied();
        previous = previous.max(started);
        let due = timing::start(operation, &sla.frequency, started, database.since, now);
        next = [next, due].into_iter().flatten().min();
    }
    (previous, next)
}

async fn assigned(
    conn: &mut Conn,
    policies: &[Policy],
) -> Result<HashMap<PolicyId, HashMap<DatasourceId, Assigned>>> {
    let mut wanted = Where::new(conn.dialect());
    wanted.and_ids("a.policy_id", policies.iter().map(|policy| policy.id.0));
    let (condition, args) = wanted.into_parts();
    let sql = format!(
        "SELECT a.policy_id, a.datasource_id, a.assigned_at, m.goal, m.started_at FROM policy_assignments a \
         LEFT JOIN policy_marks m ON m.datasource_id = a.datasource_id WHERE {condition}"
    );
    let mut found: HashMap<PolicyId, HashMap<DatasourceId, Assigned>> = HashMap::new();
    for row in conn.select(sql, args).await? {
        let since = row.time(2)?;
        let database = found.entry(row.id(0)?).or_default().entry(row.id(1)?);
        let database = database.or_insert_with(|| Assigned { since, started: HashMap::new() });
        if let (Some(goal), Some(started)) = (row.text_opt(3)?, row.time_opt(4)?) {
            database.started.insert(goal, started);
        }
    }
    Ok(found)
}
