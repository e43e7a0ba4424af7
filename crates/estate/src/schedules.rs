//! Schedules of all planes. When one is due, its plane's follower works in the transaction that moves the schedule to
//! its next time, so that no time is lost or handled twice.
//!
//! Does not belong here: what followers do, or cron syntax other than our five fields.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use croner::Cron;
use croner::parser::CronParser;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use landreeve_core::ids::{BoxFuture, OuId, ScheduleId};
use landreeve_core::{Error, Noun, Result, clock};
use tokio_util::sync::CancellationToken;

use crate::plane::PlaneParts;
use crate::runs::queue::Submitter;
use crate::store::{Conn, Notice, Row, Tx};
use crate::{Estate, args};

/// When a schedule is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Timing {
    /// In the local time of a zone. The follower defines the syntax.
    Cron {
        expression: String,
        zone: String,
    },
    /// Repeatedly, counted from the last time.
    Every(Duration),
    Once(Timestamp),
}

/// What to do about times missed while no server was running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// Make up for them with one run, however many there were.
    RunOnce,
    Skip,
}

impl Missed {
    const fn as_str(self) -> &'static str {
        match self {
            Missed::RunOnce => "run_once",
            Missed::Skip => "skip",
        }
    }

    fn parse(text: &str) -> Option<Missed> {
        [Missed::RunOnce, Missed::Skip].into_iter().find(|known| known.as_str() == text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    pub id: ScheduleId,
    /// The plane whose follower acts.
    pub plane: &'static str,
    /// Unique in the plane, which identifies the schedule by it.
    pub name: String,
    pub ou: OuId,
    /// Whose permissions the submitted runs have.
    pub owner: Submitter,
    pub enabled: bool,
    pub timing: Timing,
    /// It is due only from this time on, and before the next.
    pub active_from: Option<Timestamp>,
    pub active_to: Option<Timestamp>,
    pub missed: Missed,
    pub noun: Option<(Noun, i64)>,
    /// JSON of the plane, defined in its `stored.rs`.
    pub body: String,
    /// `None`: never again.
    pub next_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
}

impl Schedule {
    /// An enabled schedule of the server.
    pub fn of_system(
        id: ScheduleId,
        plane: &'static str,
        name: impl Into<String>,
        timing: Timing,
    ) -> Schedule {
        Schedule {
            id,
            plane,
            name: name.into(),
            ou: OuId::ROOT,
            owner: Submitter { kind: "system", id: None, name: "system".to_owned() },
            enabled: true,
            timing,
            active_from: None,
            active_to: None,
            missed: Missed::RunOnce,
            noun: None,
            body: String::new(),
            next_at: None,
            last_at: None,
        }
    }
}

/// A schedule that every estate has, in UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedSchedule {
    pub name: &'static str,
    /// Five fields.
    pub cron: &'static str,
    pub body: String,
}

/// A schedule that is due.
#[derive(Debug, Clone)]
pub struct Due {
    pub schedule: Schedule,
    /// The time at which it is due.
    pub at: Timestamp,
    pub now: Timestamp,
}

/// When a schedule is due again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// According to its timing.
    ByTiming,
    At(Timestamp),
    Never,
}

/// Handles the schedules of one plane.
pub trait Follower: Send + Sync + 'static {
    /// Handles a due schedule in the transaction that moves it on. Must await only statements of that transaction.
    fn due<'t>(&'t self, tx: &'t mut Tx, due: &'t Due) -> BoxFuture<'t, Result<Next>>;

    /// The next time of a cron expression after a given time; a plane with its own syntax overrides this.
    fn next_cron(&self, expression: &str, zone: &str, after: Timestamp) -> Result<Option<Timestamp>> {
        next_time(expression, zone, after).map(Some)
    }
}

const LEASE: Duration = Duration::from_secs(30);
/// Maximum number of schedules per transaction.
const BATCH: i64 = 100;
/// A time that passed longer ago than this counts as missed.
const MISSED_AFTER: i64 = 60_000_000;
/// A failing schedule waits, twice as long each time, at most five minutes.
const MAX_PAUSE: i64 = 300_000_000;

/// The next time after `after` of a five-field expression in the local time of the zone.
pub fn next_time(cron: &str, time_zone: &str, after: Timestamp) -> Result<Timestamp> {
    let parsed: Cron = CronParser::new().parse(cron).map_err(|error| {
        Error::fault("cron", "format", format!("{cron:?} is not a cron expression: {error}"))
    })?;
    let zone = TimeZone::get(time_zone)
        .map_err(|_| Error::fault("time_zone", "time_zone", format!("{time_zone:?} is not a time zone")))?;
    parsed
        .find_next_occurrence(&after.to_zoned(zone), false)
        .map(|next| next.timestamp())
        .map_err(|error| Error::fault("cron", "format", format!("{cron:?} is never due: {error}")))
}

/// The first time after a given time at which a schedule is due, within its active period.
pub fn next_after(
    follower: &dyn Follower,
    schedule: &Schedule,
    after: Timestamp,
) -> Result<Option<Timestamp>> {
    let after = match schedule.active_from {
        // It can also be due at the very start of its active period.
        Some(from) if from > after => clock::from_micros(from.as_microsecond() - 1),
        _ => after,
    };
    let next = match &schedule.timing {
        Timing::Cron { expression, zone } => follower.next_cron(expression, zone, after)?,
        Timing::Every(interval) => Some(every(schedule, *interval, after)),
        Timing::Once(at) => (*at > after || schedule.last_at.is_none()).then_some(*at),
    };
    Ok(next.filter(|next| schedule.active_to.is_none_or(|to| *next < to)))
}

/// Aligned with the last time, or with the start of the active period.
fn every(schedule: &Schedule, interval: Duration, after: Timestamp) -> Timestamp {
    let step = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX).max(1_000_000);
    let after = after.as_microsecond();
    let anchor = schedule.last_at.or(schedule.active_from).map_or(after, Timestamp::as_microsecond);
    let passed = after.saturating_sub(anchor).max(0) / step;
    clock::from_micros(anchor.saturating_add(step.saturating_mul(passed + 1)))
}

/// Adds a schedule or updates the one with that name. A missed time stays due, unless the timing changed.
pub async fn put(tx: &mut Tx, schedule: &Schedule, now: Timestamp) -> Result<()> {
    let (timing, cron, zone, every) = columns(&schedule.timing);
    tx.exec(
        "INSERT INTO schedules (id, plane, name, ou_id, owner_kind, owner_id, owner_name, enabled, timing, cron, \
         time_zone, every, active_from, active_to, missed, noun, noun_id, body, next_at, planned_at, failures, \
         retry_at, row_version, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, \
         $13, $14, $15, $16, $17, $18, $19, $20, 0, 0, 1, $20, $20) \
         ON CONFLICT (plane, name) DO UPDATE SET ou_id = excluded.ou_id, owner_kind = excluded.owner_kind, \
         owner_id = excluded.owner_id, owner_name = excluded.owner_name, enabled = excluded.enabled, \
         timing = excluded.timing, cron = excluded.cron, time_zone = excluded.time_zone, every = excluded.every, \
         active_from = excluded.active_from, active_to = excluded.active_to, missed = excluded.missed, \
         noun = excluded.noun, noun_id = excluded.noun_id, body = excluded.body, failures = 0, retry_at = 0, \
         row_version = schedules.row_version + 1, updated_at = excluded.updated_at, planned_at = excluded.planned_at, \
         next_at = CASE WHEN schedules.timing = excluded.timing AND schedules.enabled = excluded.enabled \
         AND COALESCE(schedules.cron, '') = COALESCE(excluded.cron, '') \
         AND COALESCE(schedules.time_zone, '') = COALESCE(excluded.time_zone, '') \
         AND COALESCE(schedules.every, 0) = COALESCE(excluded.every, 0) \
         AND COALESCE(schedules.active_from, 0) = COALESCE(excluded.active_from, 0) \
         AND COALESCE(schedules.active_to, 0) = COALESCE(excluded.active_to, 0) \
         THEN schedules.next_at ELSE excluded.next_at END",
        args![
            schedule.id,
            schedule.plane,
            &schedule.name,
            schedule.ou,
            schedule.owner.kind,
            schedule.owner.id,
            &schedule.owner.name,
            schedule.enabled,
            timing,
            cron,
            zone,
            every,
            schedule.active_from,
            schedule.active_to,
            schedule.missed.as_str(),
            schedule.noun.map(|(noun, _)| noun.as_str()),
            schedule.noun.map(|(_, id)| id),
            &schedule.body,
            schedule.next_at,
            now,
        ],
    )
    .await?;
    tx.notice(Notice::Schedule).await
}

type TimingColumns = (&'static str, Option<String>, Option<String>, Option<i64>);

fn columns(timing: &Timing) -> TimingColumns {
    let micros = |duration: &Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    match timing {
        Timing::Cron { expression, zone } => ("cron", Some(expression.clone()), Some(zone.clone()), None),
        Timing::Every(interval) => ("every", None, None, Some(micros(interval))),
        Timing::Once(at) => ("once", None, None, Some(at.as_microsecond())),
    }
}

/// Moves the schedules of a plane whose names have this prefix to another zone.
pub async fn move_zone(
    tx: &mut Tx,
    plane: &'static str,
    prefix: &'static str,
    zone: &str,
    now: Timestamp,
) -> Result<()> {
    let rows = tx
        .all(
            "SELECT id, cron FROM schedules WHERE plane = $1 AND substr(name, 1, length($2)) = $2 AND cron IS NOT NULL",
            args![plane, prefix],
        )
        .await?;
    for row in rows {
        let (id, next): (ScheduleId, _) = (row.id(0)?, next_time(&row.text(1)?, zone, now)?);
        let sql = "UPDATE schedules SET time_zone = $2, next_at = $3, planned_at = $4, \
                   row_version = row_version + 1 WHERE id = $1";
        tx.exec(sql, args![id, zone, next, now]).await?;
    }
    tx.notice(Notice::Schedule).await
}

pub async fn remove(tx: &mut Tx, plane: &'static str, name: &str) -> Result<()> {
    tx.exec("DELETE FROM schedules WHERE plane = $1 AND name = $2", args![plane, name]).await.map(drop)
}

macro_rules! schedule_columns {
    () => {
        "id, plane, name, ou_id, owner_kind, owner_id, owner_name, enabled, timing, cron, time_zone, every, \
         active_from, active_to, missed, noun, noun_id, body, next_at, last_at"
    };
}

pub async fn get(conn: &mut Conn, plane: &'static str, name: &str) -> Result<Option<Schedule>> {
    let sql = concat!("SELECT ", schedule_columns!(), " FROM schedules WHERE plane = $1 AND name = $2");
    let row = conn.opt(sql, args![plane, name]).await?;
    row.as_ref().map(|row| from_row(row, plane)).transpose()
}

fn from_row(row: &Row, plane: &'static str) -> Result<Schedule> {
    let noun = row.text_opt(15)?.map(|noun| Noun::stored(&noun));
    let timing = match row.text(8)?.as_str() {
        "cron" => Timing::Cron { expression: row.text(9)?, zone: row.text(10)? },
        "every" => Timing::Every(Duration::from_micros(row.int(11)?.unsigned_abs())),
        "once" => Timing::Once(row.time(11)?),
        other => return Err(Error::internal(format!("a schedule with an unknown timing: {other}"))),
    };
    let owner = match row.text(4)?.as_str() {
        "user" => "user",
        "key" => "key",
        "operator" => "operator",
        _ => "system",
    };
    Ok(Schedule {
        id: row.id(0)?,
        plane,
        name: row.text(2)?,
        ou: row.id(3)?,
        owner: Submitter { kind: owner, id: row.int_opt(5)?, name: row.text(6)? },
        enabled: row.flag(7)?,
        timing,
        active_from: row.time_opt(12)?,
        active_to: row.time_opt(13)?,
        missed: row.word(14, Missed::parse)?,
        noun: noun.zip(row.int_opt(16)?),
        body: row.text(17)?,
        next_at: row.time_opt(18)?,
        last_at: row.time_opt(19)?,
    })
}

/// The followers of the planes that have one.
pub type Followers = Arc<HashMap<&'static str, Arc<dyn Follower>>>;

fn followers(planes: &[PlaneParts]) -> Followers {
    let all = planes.iter().filter_map(|plane| Some((plane.name, Arc::clone(plane.follower.as_ref()?))));
    Arc::new(all.collect())
}

/// Adds the schedules that every estate has.
pub async fn ensure(estate: &Estate) -> Result<()> {
    let now = estate.now();
    for plane in estate.planes() {
        for fixed in &plane.schedules {
            let timing = Timing::Cron { expression: fixed.cron.to_owned(), zone: "UTC".to_owned() };
            let id = estate.next(ScheduleId::KIND).await?;
            let schedule = Schedule {
                body: fixed.body.clone(),
                next_at: Some(next_time(fixed.cron, "UTC", now)?),
                ..Schedule::of_system(id, plane.name, fixed.name, timing)
            };
            estate.store().write(move |tx| Box::pin(async move { put(tx, &schedule, now).await })).await?;
        }
    }
    Ok(())
}

/// Handles due schedules until stopped.
pub async fn run(estate: Estate, stop: CancellationToken) {
    let followers = followers(estate.planes());
    while !stop.is_cancelled() {
        let pause = match tick(&estate, &followers).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "could not handle the schedules");
                Duration::from_secs(5)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = estate.store().notices().schedule() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Handles what is due now and returns how long there is nothing to do.
async fn tick(estate: &Estate, followers: &Followers) -> Result<Duration> {
    if !crate::events::lease(estate, "scheduler", LEASE).await? {
        return Ok(LEASE);
    }
    loop {
        let (now, followers) = (estate.now(), Arc::clone(followers));
        let (stepped, next) = estate
            .store()
            .write(move |tx| {
                Box::pin(async move {
                    plan_again(tx, &followers, now).await?;
                    let stepped = follow_due(tx, &followers, now).await?;
                    Ok((stepped, next_due(tx).await?))
                })
            })
            .await?;
        if stepped < BATCH {
            let wait = next.map_or(LEASE, |next| {
                let micros = next.as_microsecond().saturating_sub(now.as_microsecond());
                Duration::from_micros(micros.max(1_000).unsigned_abs())
            });
            // The lease must be renewed before it expires.
            return Ok(wait.min(LEASE / 2));
        }
    }
}

async fn next_due(tx: &mut Tx) -> Result<Option<Timestamp>> {
    let sql = tx.dialect().pick(
        "SELECT min(max(next_at, retry_at)) FROM schedules WHERE enabled = 1 AND next_at IS NOT NULL",
        "SELECT min(greatest(next_at, retry_at)) FROM schedules WHERE enabled = 1 AND next_at IS NOT NULL",
    );
    tx.one(sql, args![]).await?.time_opt(0)
}

/// Limits the wait for times that were computed before the clock was set back.
async fn plan_again(tx: &mut Tx, followers: &Followers, now: Timestamp) -> Result<()> {
    let rows = tx
        .all(
            concat!(
                "SELECT ",
                schedule_columns!(),
                " FROM schedules WHERE enabled = 1 AND planned_at > $1 ORDER BY planned_at LIMIT 1000"
            ),
            args![clock::from_micros(now.as_microsecond() + MISSED_AFTER)],
        )
        .await?;
    for row in &rows {
        let Some((plane, follower)) = followers.get_key_value(row.text(1)?.as_str()) else { continue };
        let schedule = from_row(row, plane)?;
        let next = match &schedule.timing {
            Timing::Once(_) => schedule.next_at,
            _ => {
                let again = Schedule { last_at: None, ..schedule.clone() };
                next_after(&**follower, &again, now).unwrap_or(schedule.next_at)
            }
        };
        tx.exec(
            "UPDATE schedules SET next_at = $2, planned_at = $3, retry_at = 0 WHERE id = $1",
            args![schedule.id, next, now],
        )
        .await?;
    }
    Ok(())
}

/// Moves some due schedules on. Returns their number.
async fn follow_due(tx: &mut Tx, followers: &Followers, now: Timestamp) -> Result<i64> {
    macro_rules! due {
        ($tail:literal) => {
            concat!(
                "SELECT ",
                schedule_columns!(),
                " FROM schedules WHERE enabled = 1 AND next_at <= $1 AND retry_at <= $1 ORDER BY next_at, id LIMIT $2",
                $tail
            )
        };
    }
    // Two nodes never handle the same one, whatever the lease.
    let sql = tx.dialect().pick(due!(""), due!(" FOR UPDATE SKIP LOCKED"));
    let rows = tx.all(sql, args![now, BATCH]).await?;
    for row in &rows {
        let plane = row.text(1)?;
        let id: ScheduleId = row.id(0)?;
        let Some((plane, follower)) = followers.get_key_value(plane.as_str()) else {
            fail(
                tx,
                id,
                now,
                &Error::conflict("no_plane", format!("this program does not have the plane {plane}")),
            )
            .await?;
            continue;
        };
        let schedule = from_row(row, plane)?;
        let (follower, copy) = (Arc::clone(follower), schedule.clone());
        // A failing schedule does not block the others.
        let stepped =
            tx.savepoint(move |tx| Box::pin(async move { step(tx, &*follower, copy, now).await })).await?;
        if let Err(error) = stepped {
            tracing::warn!(schedule = schedule.name, %error, "could not handle a schedule");
            fail(tx, id, now, &error).await?;
        }
    }
    Ok(i64::try_from(rows.len()).unwrap_or(BATCH))
}

async fn step(tx: &mut Tx, follower: &dyn Follower, schedule: Schedule, now: Timestamp) -> Result<()> {
    let Some(at) = schedule.next_at else { return Ok(()) };
    let id = schedule.id;
    let late = now.as_microsecond().saturating_sub(at.as_microsecond());
    let due = Due { schedule, at, now };
    let wanted = if due.schedule.missed == Missed::Skip && late > MISSED_AFTER {
        Next::ByTiming
    } else {
        follower.due(tx, &due).await?
    };
    let next = match wanted {
        // Make up for missed times once, not one by one.
        Next::ByTiming => {
            let stepped = Schedule { last_at: Some(at), ..due.schedule };
            next_after(follower, &stepped, now)?
        }
        Next::At(next) => Some(next),
        Next::Never => None,
    };
    tx.exec(
        "UPDATE schedules SET next_at = $2, last_at = $3, planned_at = $4, failures = 0, retry_at = 0, \
         last_error = NULL WHERE id = $1",
        args![id, next, at, now],
    )
    .await
    .map(drop)
}

async fn fail(tx: &mut Tx, id: ScheduleId, now: Timestamp, error: &Error) -> Result<()> {
    let failures = tx.one("SELECT failures FROM schedules WHERE id = $1", args![id]).await?.int(0)?;
    let pause = (1_000_000_i64 << failures.clamp(0, 9)).min(MAX_PAUSE);
    tx.exec(
        "UPDATE schedules SET failures = $2, retry_at = $3, last_error = $4 WHERE id = $1",
        args![id, failures + 1, clock::from_micros(now.as_microsecond() + pause), &error.message],
    )
    .await
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    struct Idle;

    impl Follower for Idle {
        fn due<'t>(&'t self, _: &'t mut Tx, _: &'t Due) -> BoxFuture<'t, Result<Next>> {
            Box::pin(async { Ok(Next::ByTiming) })
        }
    }

    #[test]
    fn schedules_follow_local_time_across_clock_changes() {
        let berlin = |after| next_time("30 2 * * *", "Europe/Berlin", at(after)).unwrap();
        assert_eq!(berlin("2024-01-10T12:00:00Z"), at("2024-01-11T01:30:00Z"));
        // 2024-03-31 has no 02:30; it is due at the first moment after the gap.
        let spring = berlin("2024-03-30T12:00:00Z");
        assert!(spring >= at("2024-03-31T01:00:00Z") && spring <= at("2024-03-31T01:30:00Z"), "{spring}");
        // 2024-10-27 has 02:30 twice; it is due once.
        let autumn = berlin("2024-10-26T12:00:00Z");
        let after = next_time("30 2 * * *", "Europe/Berlin", autumn).unwrap();
        assert_eq!(after, at("2024-10-28T01:30:00Z"));
    }

    #[test]
    fn rejects_invalid_schedules() {
        assert!(next_time("61 * * * *", "UTC", at("2024-01-01T00:00:00Z")).is_err());
        assert!(next_time("* * * * *", "Europe/Atlantis", at("2024-01-01T00:00:00Z")).is_err());
    }

    #[test]
    fn every_timing_respects_the_active_period() {
        let from = Some(at("2026-01-01T00:00:00Z"));
        let to = Some(at("2026-01-02T00:00:00Z"));
        let hour = Timing::Every(Duration::from_secs(3_600));
        let cron = Timing::Cron { expression: "0 */6 * * *".into(), zone: "UTC".into() };
        let once = Timing::Once(at("2026-01-01T05:00:00Z"));
        for (timing, after, next) in [
            (&hour, "2025-12-31T12:00:00Z", Some("2026-01-01T01:00:00Z")),
            (&hour, "2026-01-01T10:30:00Z", Some("2026-01-01T11:00:00Z")),
            (&hour, "2026-01-01T23:30:00Z", None),
            (&cron, "2025-12-31T12:00:00Z", Some("2026-01-01T00:00:00Z")),
            (&cron, "2026-01-01T18:00:00Z", None),
            (&once, "2025-12-31T12:00:00Z", Some("2026-01-01T05:00:00Z")),
        ] {
            let schedule = Schedule {
                active_from: from,
                active_to: to,
                ..Schedule::of_system(ScheduleId(1), "test", "s", timing.clone())
            };
            let found = next_after(&Idle, &schedule, at(after)).unwrap();
            assert_eq!(found, next.map(at), "{timing:?} after {after}");
        }
        let done = Schedule {
            last_at: Some(at("2026-01-01T05:00:00Z")),
            ..Schedule::of_system(ScheduleId(1), "test", "s", once)
        };
        assert_eq!(next_after(&Idle, &done, at("2026-01-01T05:00:01Z")).unwrap(), None);
    }
}
