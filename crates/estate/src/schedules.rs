//! Recurring runs: a cron expression in a time zone submits a run. One node at a time holds the lease; a submission
//! and the step to the next time are one transaction, so none is lost and none is doubled.

use std::time::Duration;

use croner::Cron;
use croner::parser::CronParser;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use landreeve_core::ids::{OuId, ScheduleId};
use landreeve_core::{Error, Noun, Result, RunKind};
use tokio_util::sync::CancellationToken;

use crate::events::lease;
use crate::runs::queue::Submitter;
use crate::runs::{Lane, NewRun};
use crate::store::{Notice, Row, Tx};
use crate::{Estate, args};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    pub id: ScheduleId,
    /// Unique; what made the schedule finds it again by this.
    pub name: String,
    pub run_kind: RunKind,
    pub cron: String,
    pub time_zone: String,
    pub input: String,
    pub noun: Option<(Noun, i64)>,
    pub ou: OuId,
    pub next_at: Timestamp,
}

const LEASE: Duration = Duration::from_secs(30);
/// How long a scheduled run may take.
const LIMIT: Duration = Duration::from_secs(3_600);

/// The next time after `after` at which the expression holds on the wall clocks of the zone.
pub fn next_time(cron: &str, time_zone: &str, after: Timestamp) -> Result<Timestamp> {
    let parsed: Cron = CronParser::new().parse(cron).map_err(|error| {
        Error::fault("cron", "format", format!("{cron:?} is not a cron expression: {error}"))
    })?;
    let zone = TimeZone::get(time_zone)
        .map_err(|_| Error::fault("time_zone", "time_zone", format!("{time_zone:?} is not a time zone")))?;
    parsed
        .find_next_occurrence(&after.to_zoned(zone), false)
        .map(|next| next.timestamp())
        .map_err(|error| Error::fault("cron", "format", format!("{cron:?} never comes: {error}")))
}

/// Adds a schedule or changes the one of that name. A time that was missed stays due, unless the times changed.
pub async fn put(tx: &mut Tx, schedule: &Schedule) -> Result<()> {
    tx.exec(
        "INSERT INTO schedules (id, name, run_kind, cron, time_zone, input, noun, noun_id, ou_id, next_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (name) DO UPDATE SET run_kind = excluded.run_kind, cron = excluded.cron, \
         time_zone = excluded.time_zone, input = excluded.input, \
         next_at = CASE WHEN schedules.cron = excluded.cron \
         AND schedules.time_zone = excluded.time_zone THEN schedules.next_at ELSE excluded.next_at END",
        args![
            schedule.id,
            &schedule.name,
            schedule.run_kind.as_str(),
            &schedule.cron,
            &schedule.time_zone,
            &schedule.input,
            schedule.noun.map(|(noun, _)| noun.as_str()),
            schedule.noun.map(|(_, id)| id),
            schedule.ou,
            schedule.next_at,
        ],
    )
    .await?;
    tx.notice(Notice::Schedule).await
}

/// Schedules of this kind follow the wall clocks of another zone from now on.
pub async fn move_zone(tx: &mut Tx, kind: RunKind, zone: &str, now: Timestamp) -> Result<()> {
    for row in tx.all("SELECT id, cron FROM schedules WHERE run_kind = $1", args![kind.as_str()]).await? {
        let (id, next): (ScheduleId, _) = (row.id(0)?, next_time(&row.text(1)?, zone, now)?);
        let sql = "UPDATE schedules SET time_zone = $2, next_at = $3 WHERE id = $1";
        tx.exec(sql, args![id, zone, next]).await?;
    }
    tx.notice(Notice::Schedule).await
}

pub async fn remove(tx: &mut Tx, name: &str) -> Result<()> {
    tx.exec("DELETE FROM schedules WHERE name = $1", args![name]).await.map(drop)
}

/// Submits what is due until stopped.
pub async fn run(estate: Estate, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let pause = match tick(&estate).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "the schedules could not be looked at");
                LEASE
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = estate.store().notices().schedule() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Submits what is due now and says how long there is nothing to do.
async fn tick(estate: &Estate) -> Result<Duration> {
    if !lease(estate, "scheduler", LEASE).await? {
        return Ok(LEASE);
    }
    let now = estate.now();
    let due = due(estate, now).await?;
    let mut failed = None;
    for schedule in due {
        let name = schedule.name.clone();
        // One that cannot be submitted does not hold up the others.
        if let Err(error) = submit(estate, schedule, now).await {
            tracing::warn!(schedule = name, %error, "a schedule could not be followed");
            failed = Some(error);
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let next =
        estate.store().read().await?.one("SELECT min(next_at) FROM schedules", args![]).await?.time_opt(0)?;
    let wait = next.map_or(LEASE, |next| {
        Duration::from_micros(
            next.as_microsecond().saturating_sub(now.as_microsecond()).max(0).unsigned_abs(),
        )
    });
    // The lease must be renewed before it ends.
    Ok(wait.min(LEASE / 2))
}

async fn due(estate: &Estate, now: Timestamp) -> Result<Vec<Schedule>> {
    let rows = estate
        .store()
        .read()
        .await?
        .all(
            "SELECT id, name, run_kind, cron, time_zone, input, noun, noun_id, ou_id, next_at FROM schedules \
             WHERE next_at <= $1 ORDER BY next_at LIMIT 100",
            args![now],
        )
        .await?;
    rows.iter().map(from_row).collect()
}

fn from_row(row: &Row) -> Result<Schedule> {
    let noun = row.text_opt(6)?.and_then(|noun| Noun::ALL.into_iter().find(|known| known.as_str() == noun));
    Ok(Schedule {
        id: row.id(0)?,
        name: row.text(1)?,
        run_kind: row.word(2, RunKind::parse)?,
        cron: row.text(3)?,
        time_zone: row.text(4)?,
        input: row.text(5)?,
        noun: noun.zip(row.int_opt(7)?),
        ou: row.id(8)?,
        next_at: row.time(9)?,
    })
}

async fn submit(estate: &Estate, schedule: Schedule, now: Timestamp) -> Result<()> {
    // Times that passed while no server ran are made up for once, not one by one.
    let next = next_time(&schedule.cron, &schedule.time_zone, now)?;
    let ticket = estate.runs().ticket(estate.uuid(), schedule.run_kind).await?;
    let mut new = NewRun::new(schedule.run_kind, schedule.ou, schedule.input.clone());
    new.noun = schedule.noun;
    new.max_attempts = 3;
    new.idempotency_key = Some(format!("schedule:{}:{}", schedule.id, schedule.next_at.as_microsecond()));
    new.time_limit = Some(LIMIT);
    // Two of the same schedule never execute at once, nor two that read the same schema.
    let lane = match (schedule.run_kind, schedule.noun) {
        (RunKind::SchemaRefresh, Some((_, id))) => format!("schema:{id}"),
        _ => format!("schedule:{}", schedule.id),
    };
    new.lane = Some(Lane { name: lane, limit: 1 });
    let engine = estate.runs().clone();
    let submitter = Submitter { kind: "system", id: None, name: schedule.name.clone() };
    let (ticket, run) = estate
        .store()
        .write(move |tx| {
            Box::pin(async move {
                let (run, _) = engine.insert(tx, &ticket, &new, &submitter, now).await?;
                tx.exec("UPDATE schedules SET next_at = $2 WHERE id = $1", args![schedule.id, next]).await?;
                Ok((ticket, run))
            })
        })
        .await?;
    estate.runs().launch(ticket, &run);
    Ok(())
}

/// The schedule that every estate has.
pub async fn ensure_purge(estate: &Estate) -> Result<()> {
    let id = estate.next(ScheduleId::KIND).await?;
    let schedule = Schedule {
        id,
        name: "purge".to_owned(),
        run_kind: RunKind::Purge,
        cron: "17 * * * *".to_owned(),
        time_zone: "UTC".to_owned(),
        input: r#"{"version":1}"#.to_owned(),
        noun: None,
        ou: OuId::ROOT,
        next_at: next_time("17 * * * *", "UTC", estate.now())?,
    };
    estate.store().write(move |tx| Box::pin(async move { put(tx, &schedule).await })).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn schedules_follow_the_wall_clock_over_both_changes() {
        let berlin = |after| next_time("30 2 * * *", "Europe/Berlin", at(after)).unwrap();
        assert_eq!(berlin("2024-01-10T12:00:00Z"), at("2024-01-11T01:30:00Z"));
        // 2024-03-31 has no 02:30; it comes at the first moment after the gap.
        let spring = berlin("2024-03-30T12:00:00Z");
        assert!(spring >= at("2024-03-31T01:00:00Z") && spring <= at("2024-03-31T01:30:00Z"), "{spring}");
        // 2024-10-27 has 02:30 twice; it comes once.
        let autumn = berlin("2024-10-26T12:00:00Z");
        let after = next_time("30 2 * * *", "Europe/Berlin", autumn).unwrap();
        assert_eq!(after, at("2024-10-28T01:30:00Z"));
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        assert!(next_time("61 * * * *", "UTC", at("2024-01-01T00:00:00Z")).is_err());
        assert!(next_time("* * * * *", "Europe/Atlantis", at("2024-01-01T00:00:00Z")).is_err());
    }
}
