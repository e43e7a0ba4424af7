//! The default follower: each time a schedule is due, it submits one run of the kind in the schedule's body.

use landreeve_core::ids::BoxFuture;
use landreeve_core::{Error, Result, RunKind};
use serde::{Deserialize, Serialize};

use super::runs::enqueue;
use crate::Estate;
use crate::identity::{authentication, ous};
use crate::runs::queue::Submitter;
use crate::runs::{KindSpec, Lane, NewRun};
use crate::schedules::{Due, Follower, Next, Schedule};
use crate::store::Tx;

/// The body of a schedule that submits runs.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StoredScheduledRun {
    version: u32,
    kind: String,
    /// The input of the run: JSON of the plane that executes it.
    input: serde_json::Value,
}

/// The body of a schedule that submits runs of this kind.
pub fn body(kind: &KindSpec, input: &str) -> Result<String> {
    let input = serde_json::from_str(input).map_err(Error::internal)?;
    let stored = StoredScheduledRun { version: 1, kind: kind.kind.as_str().to_owned(), input };
    serde_json::to_string(&stored).map_err(Error::internal)
}

pub struct RunFollower {
    pub estate: Estate,
    /// Runs in one lane wait for one another; without a lane, runs of the same schedule do.
    pub lane: fn(&Schedule) -> Option<Lane>,
}

impl Follower for RunFollower {
    fn due<'t>(&'t self, tx: &'t mut Tx, due: &'t Due) -> BoxFuture<'t, Result<Next>> {
        Box::pin(async move {
            let schedule = &due.schedule;
            let stored: StoredScheduledRun = serde_json::from_str(&schedule.body).map_err(Error::internal)?;
            let kind = RunKind::stored(&stored.kind);
            let spec = self.estate.registry().kind(kind);
            let spec =
                spec.ok_or_else(|| Error::conflict("no_kind", format!("no plane has runs of kind {kind}")))?;
            let lane = (self.lane)(schedule)
                .unwrap_or_else(|| Lane { name: format!("schedule:{}", schedule.id), limit: 1 });
            let new = NewRun {
                noun: schedule.noun,
                lane: Some(lane),
                idempotency_key: Some(format!("schedule:{}:{}", schedule.id, due.at.as_microsecond())),
                ..NewRun::new(spec, schedule.ou, stored.input.to_string())
            };
            let uuid = self.estate.uuid();
            let ou =
                ous::get(tx, schedule.ou).await?.ok_or_else(|| Error::not_found("organizational unit"))?;
            let ctx = authentication::scheduled(uuid, &schedule.owner, &ou);
            // Runs of the server itself name their schedule.
            let name = if schedule.owner.id.is_none() { &schedule.name } else { &schedule.owner.name };
            let submitter = Submitter { name: name.clone(), ..schedule.owner.clone() };
            enqueue(tx, &ctx, submitter, new, due.now).await?;
            Ok(Next::ByTiming)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_bodies_can_still_be_read() {
        let text = r#"{"version":1,"kind":"purge","input":{"version":1}}"#;
        let stored: StoredScheduledRun = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&stored).unwrap(), text);
    }
}
