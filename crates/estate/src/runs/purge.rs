//! The run kind `purge`: removes what is past its retention. Data goes first, its blob after the row forgets it, so
//! that a crash leaves at worst a blob that the next purge finds again.

use jiff::Timestamp;
use landreeve_core::ids::{BoxFuture, RunId};
use landreeve_core::{Result, clock};

use super::engine::{Done, Executor, Job, Outcome};
use crate::identity::sessions;
use crate::store::Tx;
use crate::{Estate, args, audit, events};

pub struct Purge(pub Estate);

/// How many rows one transaction takes, so that other writes do not wait long.
const BATCH: i64 = 500;
const DAY: i64 = 86_400_000_000;

impl Executor for Purge {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let now = self.0.now();
            let blobs = self.expire_data(now).await?;
            job.report(40, "data past its retention");
            let records = self.delete_records(now).await?;
            job.report(70, "records past their retention");
            let days = self.0.settings().await?.audit_days;
            let before = clock::from_micros(now.as_microsecond() - i64::from(days) * DAY);
            let rest = self
                .0
                .store()
                .write(move |tx| {
                    Box::pin(async move {
                        let sessions = sessions::purge(tx, now).await?;
                        let events = events::purge(tx).await?;
                        let audit = audit::purge(tx, before).await?;
                        tx.exec("DELETE FROM signing_keys WHERE verifies_until < $1", args![now]).await?;
                        Ok(sessions + events + audit)
                    })
                })
                .await?;
            let output = format!(r#"{{"version":1,"blobs":{blobs},"runs":{records},"rows":{rest}}}"#);
            Ok(Done { output: Some(output), ..Done::default() })
        })
    }
}

impl Purge {
    async fn expire_data(&self, now: Timestamp) -> Result<u64> {
        let mut total = 0;
        loop {
            let expired = self.0.store().write(move |tx| Box::pin(expire(tx, now))).await?;
            for blob in expired.iter().flatten() {
                self.0.blobs().delete(blob).await?;
                total += 1;
            }
            if expired.len() < usize::try_from(BATCH).unwrap_or(usize::MAX) {
                return Ok(total);
            }
        }
    }

    async fn delete_records(&self, now: Timestamp) -> Result<u64> {
        let mut total = 0;
        loop {
            let gone = self
                .0
                .store()
                .write(move |tx| {
                    Box::pin(async move {
                        tx.exec(
                            "DELETE FROM runs WHERE id IN (SELECT id FROM runs WHERE finished_at IS NOT NULL \
                             AND finished_at + keep_record <= $1 AND result_blob IS NULL LIMIT $2)",
                            args![now, BATCH],
                        )
                        .await
                    })
                })
                .await?;
            total += gone;
            if gone == 0 {
                return Ok(total);
            }
        }
    }
}

async fn expire(tx: &mut Tx, now: Timestamp) -> Result<Vec<Option<String>>> {
    let rows = tx
        .all(
            "SELECT id, result_blob FROM runs WHERE finished_at IS NOT NULL AND finished_at + keep_data <= $1 \
             AND (result_blob IS NOT NULL OR result IS NOT NULL) ORDER BY id LIMIT $2",
            args![now, BATCH],
        )
        .await?;
    let mut blobs = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: RunId = row.id(0)?;
        tx.exec(
            "UPDATE runs SET state = CASE WHEN state = 'succeeded' THEN 'expired' ELSE state END, result = NULL, \
             result_blob = NULL, updated_at = $2 WHERE id = $1",
            args![id, now],
        )
        .await?;
        tx.run_changed(id).await?;
        blobs.push(row.text_opt(1)?);
    }
    Ok(blobs)
}
