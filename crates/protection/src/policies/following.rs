//! Makes the backups that policies want, when they are due. Everything follows from rows, so that a restart changes nothing.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use landreeve_core::ids::{BoxFuture, DatasourceId, OuId, RunId, ScheduleId};
use landreeve_core::{Error, Noun, Result};
use landreeve_estate::ops::runs;
use landreeve_estate::runs::queue::{self, Submitter};
use landreeve_estate::runs::{NewRun, Run};
use landreeve_estate::schedules::{self, Due, Follower, Next, Schedule, Timing};
use landreeve_estate::store::{Conn, Row, Tx, next_in};
use landreeve_estate::{args, identity};
use uuid::Uuid;

use super::model::{Frequency, Operation, Sla};
use super::stored::{self, StoredCause, StoredDue, StoredOperations};
use super::timing;
use crate::backing_up::{self, BACK_UP};
use crate::ids::RepositoryId;
use crate::keep::Keep;
use crate::plane::{NAME, Protection};
use crate::stored::StoredBackUp;
use crate::upkeep;

/// How often a database is looked at while a backup of it is under way.
const LOOK: SignedDuration = SignedDuration::from_secs(30);
/// How long a database that cannot be backed up now is left alone.
const LATER: SignedDuration = SignedDuration::from_hours(1);

/// Follows the schedules of this plane.
pub(crate) struct Following(pub Protection);

impl Follower for Following {
    fn due<'t>(&'t self, tx: &'t mut Tx, due: &'t Due) -> BoxFuture<'t, Result<Next>> {
        Box::pin(async move {
            match StoredDue::parse(&due.schedule.body)? {
                StoredDue::Assignment { datasource, .. } => {
                    self.look(tx, DatasourceId(datasource), due.now).await
                }
                StoredDue::Window { run, .. } => {
                    close(tx, RunId(run), due.now).await?;
                    schedules::remove(tx, NAME, &due.schedule.name).await?;
                    Ok(Next::Never)
                }
                StoredDue::Prune { .. } => {
                    upkeep::prune_all(&self.0, tx, due).await?;
                    Ok(Next::ByTiming)
                }
            }
        })
    }
}

/// A database with its policy.
struct Assigned {
    datasource: DatasourceId,
    ou: OuId,
    policy: Uuid,
    operations: Vec<Operation>,
    since: Timestamp,
}

/// What was done for a goal.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    /// When its last backup started.
    started: Option<Timestamp>,
    /// When one was submitted that has not been made yet.
    attempted: Option<Timestamp>,
}

impl Following {
    /// Starts a backup if one is due, and says when to look again.
    async fn look(&self, tx: &mut Tx, datasource: DatasourceId, now: Timestamp) -> Result<Next> {
        let Some(assigned) = assigned(tx, datasource).await? else { return Ok(Next::Never) };
        if backing_up::is_under_way(tx, datasource).await? {
            return later(now, LOOK);
        }
        let marks = marks(tx, datasource).await?;
        let mut next: Option<Timestamp> = None;
        for operation in assigned.operations.iter().filter(|operation| operation.works()) {
            let (due, soonest) = due(operation, &assigned, &marks, now);
            if !due.is_empty() {
                return match self.start(tx, &assigned, operation, &due, now).await? {
                    true => later(now, LOOK),
                    false => later(now, LATER),
                };
            }
            next = [next, soonest].into_iter().flatten().min();
        }
        Ok(next.map_or(Next::Never, Next::At))
    }

    /// `false`: it cannot be backed up now.
    async fn start(
        &self,
        tx: &mut Tx,
        assigned: &Assigned,
        operation: &Operation,
        due: &[&Sla],
        now: Timestamp,
    ) -> Result<bool> {
        let Some(repository) = repository(tx, operation).await? else { return Ok(false) };
        let until = |sla: &&&Sla| sla.retention.until(now, &operation.zone).unwrap_or(now);
        let Some(longest) = due.iter().max_by_key(until) else { return Ok(false) };
        let goals: Vec<String> = due.iter().map(|sla| goal(operation, &sla.frequency)).collect();
        attempted(tx, assigned.datasource, &goals, now).await?;
        let cause = StoredCause { policy: assigned.policy, goals };
        let first = backing_up::is_first(tx, assigned.datasource, repository).await?;
        let input = StoredBackUp::new(assigned.datasource, repository, longest.retention).because(cause);
        let input = input.first(first).in_zone(&operation.zone);
        let new = NewRun {
            noun: Some((Noun::DATASOURCE, assigned.datasource.0)),
            lane: Some(backing_up::lane(assigned.datasource)),
            ..NewRun::new(&BACK_UP, assigned.ou, input.as_json()?)
        };
        let run = enqueue(&self.0, tx, assigned.ou, "policy", new, now).await?;
        if let Some(end) = timing::closes(operation, now) {
            let body = StoredDue::Window { version: 1, run: run.id.0 }.as_json()?;
            let id = ScheduleId(next_in(tx, ScheduleId::KIND).await?);
            let schedule = Schedule {
                body,
                next_at: Some(end),
                ..Schedule::of_system(id, NAME, format!("window:{}", run.uuid), Timing::Once(end))
            };
            schedules::put(tx, &schedule, now).await?;
        }
        Ok(true)
    }
}

/// Submits a run of the server itself.
pub(crate) async fn enqueue(
    plane: &Protection,
    tx: &mut Tx,
    ou: OuId,
    name: &str,
    new: NewRun,
    now: Timestamp,
) -> Result<Run> {
    let owner = Submitter { kind: "system", id: None, name: name.to_owned() };
    let unit = identity::ous::get(tx, ou).await?;
    let unit = unit.ok_or_else(|| Error::not_found("organizational unit"))?;
    let ctx = identity::authentication::scheduled(plane.estate().uuid(), &owner, &unit);
    runs::enqueue(tx, &ctx, owner, new, now).await
}

fn later(now: Timestamp, wait: SignedDuration) -> Result<Next> {
    now.checked_add(wait).map(Next::At).map_err(Error::internal)
}

/// `None`: it has no policy that is active.
async fn assigned(conn: &mut Conn, datasource: DatasourceId) -> Result<Option<Assigned>> {
    let sql = "SELECT d.ou_id, p.uuid, p.name, p.body, a.assigned_at \
               FROM policy_assignments a JOIN policies p ON p.id = a.policy_id \
               JOIN datasources d ON d.id = a.datasource_id WHERE a.datasource_id = $1 AND p.enabled = 1";
    let read = |row: &Row| {
        let rules = stored::rules(&row.text(2)?, StoredOperations::parse(&row.text(3)?)?)?;
        Ok(Assigned {
            datasource,
            ou: row.id(0)?,
            policy: row.uuid(1)?,
            operations: rules.operations,
            since: row.time(4)?,
        })
    };
    conn.opt(sql, args![datasource]).await?.as_ref().map(read).transpose()
}

/// How long the datasource's policy keeps backups on demand, by the calendar of which zone. `None`: it does not say.
pub(crate) async fn kept_on_demand(
    plane: &Protection,
    datasource: DatasourceId,
) -> Result<Option<(Keep, TimeZone)>> {
    let estate = plane.estate();
    let Some(assigned) = assigned(&mut estate.store().read().await?, datasource).await? else {
        return Ok(None);
    };
    let now = estate.now();
    let working = assigned.operations.iter().filter(|operation| operation.works());
    let until = |operation: &Operation, sla: &Sla| {
        let until = sla.retention.until(now, &operation.zone).ok();
        (until, (sla.retention, operation.zone.clone()))
    };
    let kept = working.flat_map(|operation| operation.slas.iter().map(move |sla| (operation, sla)));
    let kept = kept.filter(|(_, sla)| sla.frequency == Frequency::OnDemand);
    let longest = kept.map(|(operation, sla)| until(operation, sla)).max_by_key(|(until, _)| *until);
    Ok(longest.map(|(_, kept)| kept))
}

async fn marks(tx: &mut Tx, datasource: DatasourceId) -> Result<HashMap<String, Mark>> {
    let sql = "SELECT goal, started_at, attempted_at FROM policy_marks WHERE datasource_id = $1";
    let rows = tx.all(sql, args![datasource]).await?;
    let mark = |row: &Row| Ok(Mark { started: row.time_opt(1)?, attempted: row.time_opt(2)? });
    rows.iter().map(|row| Ok((row.text(0)?, mark(row)?))).collect()
}

/// Notes that a backup for these goals was submitted.
async fn attempted(tx: &mut Tx, datasource: DatasourceId, goals: &[String], now: Timestamp) -> Result<()> {
    for goal in goals {
        let sql = "INSERT INTO policy_marks (datasource_id, goal, attempted_at) VALUES ($1, $2, $3) \
                   ON CONFLICT (datasource_id, goal) DO UPDATE SET attempted_at = EXCLUDED.attempted_at";
        tx.exec(sql, args![datasource, goal, now]).await?;
    }
    Ok(())
}

/// Which goals are due now, and when the first of the others is.
fn due<'a>(
    operation: &'a Operation,
    assigned: &Assigned,
    marks: &HashMap<String, Mark>,
    now: Timestamp,
) -> (Vec<&'a Sla>, Option<Timestamp>) {
    let (mut due, mut soonest) = (Vec::new(), None);
    for sla in &operation.slas {
        let mark = marks.get(&goal(operation, &sla.frequency)).copied().unwrap_or_default();
        let start = timing::start(operation, &sla.frequency, mark.started, assigned.since, now);
        // One that fails holds up no other goal.
        let again = mark.attempted.and_then(|at| at.checked_add(timing::pause(&sla.frequency)).ok());
        match start.map(|start| again.map_or(start, |again| start.max(again))) {
            Some(start) if start <= now => due.push(sla),
            start => soonest = [soonest, start].into_iter().flatten().min(),
        }
    }
    (due, soonest)
}

/// How a goal is known: where its backups are, and how often.
pub(crate) fn goal(operation: &Operation, frequency: &Frequency) -> String {
    let repository = operation.repository.as_deref().unwrap_or("default");
    match frequency {
        Frequency::OnDemand => format!("{repository} on demand"),
        Frequency::Every { count, unit, weekdays } => {
            let days: Vec<String> = weekdays.iter().map(ToString::to_string).collect();
            format!("{repository} {count} {} {}", unit.as_str(), days.join(",")).trim_end().to_owned()
        }
    }
}

/// The repository, which is made when it is needed if it is `default` (`Some(None)`). `None`: it does not exist any more.
async fn repository(tx: &mut Tx, operation: &Operation) -> Result<Option<Option<RepositoryId>>> {
    let Some(name) = &operation.repository else { return Ok(Some(None)) };
    let sql = "SELECT id FROM repositories WHERE name = $1 AND repository_id IS NOT NULL";
    let found = tx.opt(sql, args![name]).await?;
    found.map(|row| row.id(0)).transpose().map(|found| found.map(Some))
}

/// Cuts a backup off whose window has closed.
async fn close(tx: &mut Tx, run: RunId, now: Timestamp) -> Result<()> {
    let row = tx.opt("SELECT finished_at FROM runs WHERE id = $1", args![run]).await?;
    let ended = row.map(|row| row.time_opt(0)).transpose()?;
    if ended == Some(None) {
        queue::cancel(tx, run, now).await?;
    }
    Ok(())
}

/// Looks at this database soon. What failed before counts no more: its policy is another one now.
pub(super) async fn plan(tx: &mut Tx, datasource: DatasourceId, now: Timestamp) -> Result<()> {
    tx.exec("UPDATE policy_marks SET attempted_at = NULL WHERE datasource_id = $1", args![datasource])
        .await?;
    let id = ScheduleId(next_in(tx, ScheduleId::KIND).await?);
    let schedule = Schedule {
        noun: Some((Noun::DATASOURCE, datasource.0)),
        body: StoredDue::Assignment { version: 1, datasource: datasource.0 }.as_json()?,
        next_at: Some(now),
        ..Schedule::of_system(id, NAME, name(datasource), Timing::Once(now))
    };
    schedules::put(tx, &schedule, now).await
}

pub(super) async fn forget(tx: &mut Tx, datasource: DatasourceId) -> Result<()> {
    schedules::remove(tx, NAME, &name(datasource)).await
}

fn name(datasource: DatasourceId) -> String {
    format!("policy:{}", datasource.0)
}

/// Notes that a backup for these goals was made.
pub(crate) async fn note(
    plane: &Protection,
    datasource: DatasourceId,
    cause: &StoredCause,
    started: Timestamp,
) -> Result<()> {
    let goals = cause.goals.clone();
    plane
        .estate()
        .store()
        .write(move |tx| {
            let goals = goals.clone();
            Box::pin(async move {
                for goal in goals {
                    let sql = "INSERT INTO policy_marks (datasource_id, goal, started_at) \
                               SELECT id, $2, $3 FROM datasources WHERE id = $1 ON CONFLICT (datasource_id, goal) \
                               DO UPDATE SET started_at = EXCLUDED.started_at, attempted_at = NULL";
                    tx.exec(sql, args![datasource, goal, started]).await?;
                }
                Ok(())
            })
        })
        .await
}
