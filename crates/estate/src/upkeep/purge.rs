//! The run kind `purge`: deletes what is past its retention. It deletes data before records, and a blob before the
//! row's reference to it, so that a crash leaves at worst a row whose blob the next purge deletes again.

use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::ids::{BoxFuture, RunId};
use landreeve_core::{Category, ErrorKind, Result, clock};

use crate::identity::sessions;
use crate::plane::PurgeHook;
use crate::runs::{Done, Executor, Failure, Job, KindSpec, Outcome, Retry};
use crate::store::{Conn, Tx};
use crate::{Estate, args, audit, events};

pub const PURGE: KindSpec = KindSpec {
    retry: Retry { attempts: 3, backoff: Duration::from_secs(60) },
    time_limit: Some(Duration::from_secs(3_600)),
    ..KindSpec::new("purge", Category::System)
};

pub struct Purge(pub Estate);

/// Maximum number of rows in one transaction, so that other writes do not wait long.
const BATCH: i64 = 500;
/// Maximum number of old blobs that one purge checks.
const ORPHANS: usize = 10_000;
const DAY: i64 = 86_400_000_000;

/// The list of ids in `$1` (`7,9`) as rows.
macro_rules! listed {
    (sqlite) => {
        "SELECT value FROM json_each('[' || $1 || ']')"
    };
    (postgres) => {
        "SELECT unnest(string_to_array($1, ','))::bigint"
    };
}

/// Runs with the blobs of their results. A small result is in the row.
type Expired = Vec<(RunId, Option<String>)>;

/// Where a scan for expired runs continues.
#[derive(Debug, Clone, Copy)]
struct Position {
    until: i64,
    id: RunId,
}

impl Position {
    const START: Position = Position { until: i64::MIN, id: RunId(i64::MIN) };
}

impl Executor for Purge {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let now = self.0.now();
            let blobs = self.expire_data(now).await? + self.delete_orphans(now).await?;
            job.report(40, "data past its retention");
            let records = self.delete_records(now).await?;
            job.report(70, "records past their retention");
            let days = self.0.settings().await?.audit_days;
            let before = clock::from_micros(now.as_microsecond() - i64::from(days) * DAY);
            let names = self.0.known_subscribers();
            let rest = self
                .0
                .store()
                .write_alone(move |tx| {
                    Box::pin(async move {
                        let sessions = sessions::purge(tx, now).await?;
                        let events = events::purge(tx, &names).await?;
                        let audit = audit::purge(tx, before).await?;
                        tx.exec("DELETE FROM signing_keys WHERE verifies_until < $1", args![now]).await?;
                        Ok(sessions + events + audit)
                    })
                })
                .await?;
            job.report(80, "rows past their retention");
            self.check_store(job, now).await?;
            let output = format!(r#"{{"version":1,"blobs":{blobs},"runs":{records},"rows":{rest}}}"#);
            Ok(Done { output: Some(output), ..Done::default() })
        })
    }
}

impl Purge {
    /// Checks the integrity of the store once a day. Damage is logged, and the run ends *failed*.
    async fn check_store(&self, job: &Job, now: Timestamp) -> Result<(), Failure> {
        let store = self.0.store();
        let sql = "SELECT value FROM facts WHERE name = 'store_checked_at'";
        let last = store.read().await?.opt(sql, args![]).await?;
        let last: Option<i64> = last.map(|row| row.text(0)).transpose()?.and_then(|text| text.parse().ok());
        // A time in the future means that the clock was set back.
        if last.is_some_and(|last| (last..last + DAY).contains(&now.as_microsecond())) {
            return Ok(());
        }
        let problems = store.check(job.token().clone()).await?;
        if !problems.is_empty() {
            let problems = problems.join("; ");
            tracing::error!(problems, "the metadata store is damaged; restore a backup");
            let message = format!("the metadata store is damaged: {problems}; restore a backup");
            return Err(Failure::new(ErrorKind::Unavailable, "store_damaged", message));
        }
        let told = now.as_microsecond().to_string();
        store
            .write(move |tx| {
                Box::pin(async move {
                    let sql = "INSERT INTO facts (name, value) VALUES ('store_checked_at', $1) \
                               ON CONFLICT (name) DO UPDATE SET value = excluded.value";
                    tx.exec(sql, args![told]).await.map(drop)
                })
            })
            .await?;
        Ok(())
    }

    async fn expire_data(&self, now: Timestamp) -> Result<u64> {
        let (mut total, mut after) = (0, Position::START);
        loop {
            let (expired, last) = data_past(&mut self.0.store().read().await?, after, now).await?;
            let Some(last) = last else { return Ok(total) };
            after = last;
            total += self.delete_data(expired, now).await?;
        }
    }

    /// Deletes the data of these runs, then records that in their rows. Returns the number of blobs.
    async fn delete_data(&self, runs: Expired, now: Timestamp) -> Result<u64> {
        let (mut blobs, mut gone) = (0, Vec::with_capacity(runs.len()));
        for (id, blob) in runs {
            match &blob {
                None => gone.push(id),
                Some(blob) => match self.0.blobs().delete(blob).await {
                    Ok(()) => {
                        blobs += 1;
                        gone.push(id);
                    }
                    // Continue with the others; the next purge tries this one again.
                    Err(error) => tracing::warn!(run = id.0, %error, "could not delete a blob"),
                },
            }
        }
        self.0.store().write_alone(move |tx| Box::pin(async move { forget(tx, &gone, now).await })).await?;
        Ok(blobs)
    }

    /// Deletes blobs that no run refers to: their run was interrupted between writing the blob and the row.
    async fn delete_orphans(&self, now: Timestamp) -> Result<u64> {
        // Newer blobs may belong to a run that is still executing.
        let before = clock::from_micros(now.as_microsecond() - 2 * DAY);
        let mut total = 0;
        for name in self.0.blobs().older_than("results", before, ORPHANS).await? {
            let mut conn = self.0.store().read().await?;
            let named = conn.opt("SELECT 1 FROM runs WHERE result_blob = $1", args![&name]).await?.is_some();
            drop(conn);
            if !named {
                self.0.blobs().delete(&name).await?;
                total += 1;
            }
        }
        Ok(total)
    }

    /// Deletes families whose root is past its retention, from the leaves up. Finds them outside the write transaction.
    async fn delete_records(&self, now: Timestamp) -> Result<u64> {
        let (mut total, mut after) = (0, Position::START);
        loop {
            let (roots, last) = records_past(&mut self.0.store().read().await?, after, now).await?;
            let Some(last) = last else { return Ok(total) };
            after = last;
            let mut gone = 1;
            while gone > 0 {
                let family = family_of(&mut self.0.store().read().await?, &roots).await?;
                let data = with_data(&mut self.0.store().read().await?, &family).await?;
                self.delete_data(data, now).await?;
                let hooks = self.0.registry().purges().to_vec();
                gone =
                    self.0.store().write_alone(move |tx| Box::pin(delete_leaves(tx, hooks, family))).await?;
                total += gone;
            }
        }
    }
}

fn list(ids: &[RunId]) -> String {
    ids.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(",")
}

/// Deletes the records in this list that have no children left, with the planes' rows for them.
async fn delete_leaves(tx: &mut Tx, hooks: Vec<PurgeHook>, family: Vec<RunId>) -> Result<u64> {
    macro_rules! statement {
        ($store:ident) => {
            concat!(
                "SELECT r.id FROM runs r WHERE r.id IN (",
                listed!($store),
                ") AND r.finished_at IS NOT NULL AND r.result_blob IS NULL AND r.occupies = 0 \
                 AND NOT EXISTS (SELECT 1 FROM runs c WHERE c.parent_id = r.id)"
            )
        };
    }
    let dialect = tx.dialect();
    let rows = tx.all(dialect.pick(statement!(sqlite), statement!(postgres)), args![list(&family)]).await?;
    let ids: Vec<RunId> = rows.iter().map(|row| row.id(0)).collect::<Result<_>>()?;
    for hook in hooks {
        hook(tx, &ids).await?;
    }
    for id in &ids {
        tx.exec("DELETE FROM run_logs WHERE run_id = $1", args![*id]).await?;
        tx.exec("DELETE FROM runs WHERE id = $1", args![*id]).await?;
    }
    Ok(ids.len() as u64)
}

/// The next runs whose records are past their retention, and where the scan continues.
async fn records_past(
    conn: &mut Conn,
    after: Position,
    now: Timestamp,
) -> Result<(Vec<RunId>, Option<Position>)> {
    let rows = conn
        .all(
            "SELECT id, finished_at + keep_record FROM runs WHERE finished_at IS NOT NULL \
             AND finished_at + keep_record <= $1 AND finished_at + keep_record >= $2 \
             AND NOT (finished_at + keep_record = $2 AND id <= $3) ORDER BY finished_at + keep_record, id LIMIT $4",
            args![now, after.until, after.id, BATCH],
        )
        .await?;
    let ids = rows.iter().map(|row| row.id(0)).collect::<Result<_>>()?;
    let last = rows.last().map(|row| Ok(Position { until: row.int(1)?, id: row.id(0)? }));
    Ok((ids, last.transpose()?))
}

/// These runs and the ended runs below them: children are deleted with their parent.
async fn family_of(conn: &mut Conn, roots: &[RunId]) -> Result<Vec<RunId>> {
    macro_rules! statement {
        ($store:ident) => {
            concat!(
                "WITH RECURSIVE past (id) AS (SELECT id FROM runs WHERE id IN (",
                listed!($store),
                ") UNION SELECT c.id FROM past JOIN runs c ON c.parent_id = past.id WHERE c.finished_at IS NOT NULL) \
                 SELECT p.id FROM past p WHERE NOT EXISTS (SELECT 1 FROM runs c WHERE c.parent_id = p.id) LIMIT $2"
            )
        };
    }
    let dialect = conn.dialect();
    let rows =
        conn.all(dialect.pick(statement!(sqlite), statement!(postgres)), args![list(roots), BATCH]).await?;
    rows.iter().map(|row| row.id(0)).collect()
}

/// The runs among these that have data.
async fn with_data(conn: &mut Conn, runs: &[RunId]) -> Result<Expired> {
    macro_rules! statement {
        ($store:ident) => {
            concat!(
                "SELECT id, result_blob FROM runs WHERE id IN (",
                listed!($store),
                ") AND (result_blob IS NOT NULL OR result IS NOT NULL)"
            )
        };
    }
    let dialect = conn.dialect();
    let rows = conn.all(dialect.pick(statement!(sqlite), statement!(postgres)), args![list(runs)]).await?;
    rows.iter().map(|row| Ok((row.id(0)?, row.text_opt(1)?))).collect()
}

/// The next runs whose data is past its retention, and where the scan continues.
async fn data_past(conn: &mut Conn, after: Position, now: Timestamp) -> Result<(Expired, Option<Position>)> {
    let rows = conn
        .all(
            "SELECT id, result_blob, finished_at + keep_data FROM runs \
             WHERE (result_blob IS NOT NULL OR result IS NOT NULL) \
             AND finished_at + keep_data <= $1 AND finished_at + keep_data >= $2 \
             AND NOT (finished_at + keep_data = $2 AND id <= $3) ORDER BY finished_at + keep_data, id LIMIT $4",
            args![now, after.until, after.id, BATCH],
        )
        .await?;
    let expired = rows.iter().map(|row| Ok((row.id(0)?, row.text_opt(1)?))).collect::<Result<_>>()?;
    let last = rows.last().map(|row| Ok(Position { until: row.int(2)?, id: row.id(0)? }));
    Ok((expired, last.transpose()?))
}

async fn forget(tx: &mut Tx, gone: &[RunId], now: Timestamp) -> Result<()> {
    for id in gone.iter().copied() {
        tx.exec(
            "UPDATE runs SET state = CASE WHEN state = 'succeeded' THEN 'expired' ELSE state END, result = NULL, \
             result_blob = NULL, updated_at = $2 WHERE id = $1",
            args![id, now],
        )
        .await?;
        tx.run_changed(id).await?;
    }
    Ok(())
}
