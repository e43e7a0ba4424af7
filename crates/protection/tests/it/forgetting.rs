//! Backups are forgotten after they expire, and never before: over random policies, changes of them and times.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use landreeve_core::{Input, page};
use landreeve_protection::backing_up::NewBackup;
use landreeve_protection::backups::{Backup, BackupFilter, backup_list};
use landreeve_protection::policies::model::{NewOperation, NewPolicy, NewSla};
use landreeve_protection::policies::{Assignment, policy_assign, policy_create, policy_update};
use landreeve_protection::upkeep::repository_prune;
use uuid::Uuid;

use crate::support::World;

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn count(&mut self, most: u64) -> i64 {
        i64::try_from(self.roll(most)).unwrap() + 1
    }

    fn policy(&mut self) -> NewPolicy {
        let zone = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"][self.roll(4) as usize];
        let slas = (0..self.count(3)).map(|_| self.sla()).collect();
        let operation = NewOperation {
            kind: "aws_rds_resource_granular_backup".to_owned(),
            action: "immediate".to_owned(),
            zone: Some(zone.to_owned()),
            slas,
            ..NewOperation::default()
        };
        NewPolicy { name: "random".to_owned(), enabled: true, operations: vec![operation] }
    }

    fn sla(&mut self) -> NewSla {
        let frequency = match self.roll(5) {
            0 => ("hours", self.count(36)),
            1 => ("days", self.count(9)),
            2 => ("weeks", self.count(3)),
            3 => ("months", self.count(2)),
            _ => ("on_demand", 0),
        };
        let retention = match self.roll(4) {
            0 => ("days", self.count(40)),
            1 => ("weeks", self.count(6)),
            2 => ("months", self.count(5)),
            _ => ("years", 1),
        };
        let owned = |(unit, value): (&str, i64)| (unit.to_owned(), value);
        NewSla { frequency: owned(frequency), retention: owned(retention), offsets: Vec::new() }
    }
}

/// So much later by the calendar.
fn later(from: Timestamp, (unit, value): &(String, i64), zone: &TimeZone) -> Timestamp {
    let span = match unit.as_str() {
        "hours" => Span::new().hours(*value),
        "days" => Span::new().days(*value),
        "weeks" => Span::new().weeks(*value),
        "months" => Span::new().months(*value),
        _ => Span::new().years(*value),
    };
    from.to_zoned(zone.clone()).checked_add(span).unwrap().timestamp()
}

/// What there should be.
struct Expected {
    policy: NewPolicy,
    /// When the last backup for a frequency started.
    last: HashMap<(String, i64), Timestamp>,
    /// When each backup expires.
    backups: HashMap<Uuid, Timestamp>,
}

impl Expected {
    fn zone(&self) -> TimeZone {
        TimeZone::get(self.policy.operations[0].zone.as_deref().unwrap()).unwrap()
    }

    fn longest<'a>(&self, slas: impl Iterator<Item = &'a NewSla>, now: Timestamp) -> Option<Timestamp> {
        slas.map(|sla| later(now, &sla.retention, &self.zone())).max()
    }

    /// When the backup expires that is due now, if one is.
    fn due(&mut self, now: Timestamp) -> Option<Timestamp> {
        let zone = self.zone();
        let slas = self.policy.operations[0].slas.clone();
        let is_due = |sla: &&NewSla| {
            let last = self.last.get(&sla.frequency);
            sla.frequency.0 != "on_demand"
                && last.is_none_or(|last| later(*last, &sla.frequency, &zone) <= now)
        };
        let due: Vec<NewSla> = slas.iter().filter(is_due).cloned().collect();
        let expires = self.longest(due.iter(), now);
        self.last.extend(due.into_iter().map(|sla| (sla.frequency, now)));
        expires
    }

    fn on_demand(&self, now: Timestamp) -> Timestamp {
        let slas = self.policy.operations[0].slas.iter().filter(|sla| sla.frequency.0 == "on_demand");
        self.longest(slas, now).unwrap_or_else(|| later(now, &("days".to_owned(), 7), &TimeZone::UTC))
    }
}

async fn listed(world: &World) -> Vec<Backup> {
    let filter = BackupFilter::default();
    page::collect(|after| backup_list(&world.plane, &world.ctx, &filter, after)).await.unwrap()
}

/// Until nothing is due and every run has ended.
async fn settle(world: &World) {
    let now = world.kit.estate.now().as_microsecond();
    let waiting = format!(
        "SELECT (SELECT count(*) FROM schedules WHERE plane = 'protection' AND next_at <= {now}) \
         + (SELECT count(*) FROM runs WHERE finished_at IS NULL)"
    );
    let waiting: &'static str = Box::leak(waiting.into_boxed_str());
    let done = async {
        loop {
            world.kit.wake_schedules();
            if world.kit.number(waiting).await == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), done).await.unwrap();
}

/// Compares what there is with what there should be, and takes note of a new backup.
async fn compare(world: &World, expected: &mut Expected, new: Option<Timestamp>, what: &str) {
    let (now, all) = (world.kit.estate.now(), listed(world).await);
    let fresh: Vec<&Backup> =
        all.iter().filter(|backup| !expected.backups.contains_key(&backup.uuid)).collect();
    let times: Vec<(Timestamp, Timestamp)> =
        fresh.iter().map(|backup| (backup.started_at, backup.expires_at)).collect();
    assert_eq!(times, new.map(|expires| (now, expires)).into_iter().collect::<Vec<_>>(), "{what}");
    expected.backups.extend(fresh.iter().map(|backup| (backup.uuid, backup.expires_at)));
    let there: BTreeSet<Uuid> = all.iter().map(|backup| backup.uuid).collect();
    for (uuid, expires) in &expected.backups {
        assert!(*expires <= now || there.contains(uuid), "{what}: {uuid} was forgotten before {expires}");
    }
    for backup in &all {
        assert_eq!(backup.expires_at, expected.backups[&backup.uuid], "{what}: it was changed");
    }
}

async fn history(seed: u64) {
    let world = World::sqlite().await;
    world.kit.follow_schedules().await;
    let mut dice = Dice(seed);
    let shop = world.database(&world.ctx, "shop.db", "CREATE TABLE t (id INTEGER PRIMARY KEY)").await;
    let policy = dice.policy();
    let made = policy_create(&world.plane, &world.ctx, Input::of(policy.clone())).await.unwrap();
    let items = vec![Assignment { datasource: shop.uuid, policy: Some(made.uuid) }];
    policy_assign(&world.plane, &world.ctx, Input::of(items)).await.unwrap();
    let mut expected = Expected { policy, last: HashMap::new(), backups: HashMap::new() };
    for step in 0..14 {
        settle(&world).await;
        let due = expected.due(world.kit.estate.now());
        compare(&world, &mut expected, due, &format!("seed {seed}, step {step}")).await;
        match dice.roll(8) {
            0 | 1 => {
                expected.policy = dice.policy();
                let new = Input::of(expected.policy.clone());
                policy_update(&world.plane, &world.ctx, made.uuid, new).await.unwrap();
                settle(&world).await;
                // What is new is due at once.
                let due = expected.due(world.kit.estate.now());
                compare(&world, &mut expected, due, &format!("seed {seed}, changed in step {step}")).await;
            }
            2 => {
                // Not at the moment of the last one, whose start may be looked at still.
                world.kit.clock.advance(Duration::from_secs(60));
                settle(&world).await;
                let due = expected.due(world.kit.estate.now());
                compare(&world, &mut expected, due, &format!("seed {seed}, before step {step}")).await;
                let expires = expected.on_demand(world.kit.estate.now());
                world.back_up(&shop, NewBackup { repository: None, keep: None }).await;
                compare(&world, &mut expected, Some(expires), &format!("seed {seed}, on demand {step}"))
                    .await;
            }
            3 | 4 if !expected.backups.is_empty() => {
                let run = repository_prune(&world.plane, &world.ctx, "default").await.unwrap();
                assert_eq!(world.ended(run).await.1, "");
                let now = world.kit.estate.now();
                let left: BTreeSet<Uuid> = listed(&world).await.iter().map(|backup| backup.uuid).collect();
                let wanted = expected.backups.iter().filter(|(_, expires)| **expires > now);
                assert_eq!(left, wanted.map(|(uuid, _)| *uuid).collect(), "seed {seed}, step {step}");
            }
            _ => {}
        }
        settle(&world).await;
        let days = dice.count(45);
        let by = SignedDuration::from_mins(days * 1_440 + dice.count(1_440));
        world.kit.clock.advance(Duration::try_from(by).unwrap());
    }
}

#[tokio::test]
async fn nothing_is_forgotten_before_it_expires() {
    for seed in [1, 2] {
        history(seed).await;
    }
}

#[tokio::test]
async fn nothing_is_forgotten_before_it_expires_in_other_histories() {
    for seed in [3, 4] {
        history(seed).await;
    }
}
