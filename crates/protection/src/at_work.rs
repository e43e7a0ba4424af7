//! A run that works on a repository: many at a time that read or add, or one that deletes. And other programs, which have
//! locks there.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::vault::{CancellationToken, Repository as Opened, VaultErrorKind, VaultResult};
use landreeve_core::{Error, ErrorKind, Result};
use landreeve_estate::args;
use landreeve_estate::runs::{Failure, Job};
use landreeve_estate::store::Arg;

use crate::ids::RepositoryId;
use crate::plane::Protection;
use crate::repositories::{self, Repository};

/// A lock that restic has not refreshed for so long is not needed any more.
const LOCK_AGE: Duration = Duration::from_secs(1_800);
/// How long a run waits for another program's lock, and how often it looks.
const LOCK_WAIT: Duration = Duration::from_secs(600);
const LOCK_LOOK: Duration = Duration::from_secs(10);
/// How often a run that waits for another of ours looks whether that has ended.
const USE_LOOK: Duration = Duration::from_secs(1);

/// What a run does to a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    Add,
    /// Alone: nothing else is read or added meanwhile.
    Delete,
}

/// A run's repository.
pub(crate) struct AtWork {
    pub plane: Protection,
    pub repository: Repository,
}

impl AtWork {
    pub async fn on(plane: &Protection, repository: RepositoryId) -> Result<AtWork> {
        let found = repositories::find(&mut plane.estate().store().read().await?, repository).await?;
        let repository = found.ok_or_else(|| Error::not_found("repository"))?;
        Ok(AtWork { plane: plane.clone(), repository })
    }

    /// Works on the repository as soon as it may, and lets others do so afterwards.
    pub async fn during<T>(
        &self,
        job: &Job,
        what: Use,
        work: impl AsyncFnOnce() -> std::result::Result<T, Failure>,
    ) -> std::result::Result<T, Failure> {
        let ticket = self.come(job, what).await?;
        let done = match self.wait_for_turn(job, what, ticket).await {
            Ok(()) => work().await,
            Err(failure) => Err(failure),
        };
        // If this fails, the end of the run does the same.
        let run = job.run.id;
        let left = self.write("DELETE FROM repository_uses WHERE run_id = $1", args![run]).await;
        if let Err(error) = left {
            tracing::warn!(run = run.0, %error, "could not note that a run has left its repository");
        }
        done
    }

    /// Opens the repository and works on it, on a thread of its own.
    pub async fn open<T: Send + 'static>(
        &self,
        job: &Job,
        work: impl FnOnce(&dyn Opened) -> VaultResult<T> + Send + 'static,
    ) -> std::result::Result<T, Failure> {
        let (vault, spec) = (self.plane.vault(), repositories::spec(&self.plane, &self.repository).await?);
        let done = job
            .blocking(move |stop: CancellationToken| {
                let opened = vault.open(&spec, stop)?;
                work(&*opened)
            })
            .await?;
        done.map_err(|error| match error.kind {
            VaultErrorKind::Cancelled => Failure::cancelled(),
            _ => error.into_error().into(),
        })
    }

    pub async fn write(&self, sql: &'static str, args: Vec<Arg>) -> Result<()> {
        self.plane
            .estate()
            .store()
            .write(move |tx| Box::pin(async move { tx.exec(sql, args).await.map(drop) }))
            .await
    }

    /// The run's number among those that use the repository.
    async fn come(&self, job: &Job, what: Use) -> Result<i64> {
        let (repository, run, exclusive) = (self.repository.id, job.run.id, what == Use::Delete);
        self.plane
            .estate()
            .store()
            .write(move |tx| {
                Box::pin(async move {
                    let sql = "UPDATE repositories SET tickets = tickets + 1 WHERE id = $1 RETURNING tickets";
                    let ticket = tx.one(sql, args![repository]).await?.int(0)?;
                    let sql = "INSERT INTO repository_uses (run_id, repository_id, ticket, exclusive) \
                               VALUES ($1, $2, $3, $4) ON CONFLICT (run_id) DO UPDATE SET \
                               repository_id = excluded.repository_id, ticket = excluded.ticket, \
                               exclusive = excluded.exclusive";
                    tx.exec(sql, args![run, repository, ticket, exclusive]).await?;
                    // What killed servers left.
                    let sql = "DELETE FROM repository_uses WHERE repository_id = $1 AND NOT EXISTS \
                               (SELECT 1 FROM runs r WHERE r.id = repository_uses.run_id \
                                AND r.state IN ('held', 'queued', 'starting', 'running', 'cancelling'))";
                    tx.exec(sql, args![repository]).await?;
                    Ok(ticket)
                })
            })
            .await
    }

    async fn wait_for_turn(&self, job: &Job, what: Use, ticket: i64) -> std::result::Result<(), Failure> {
        if self.before(what, ticket).await? > 0 {
            job.report(0, "waiting for another run on the repository");
            job.park(async {
                while self.before(what, ticket).await? > 0 {
                    tokio::select! {
                        () = job.cancelled() => return Err(Failure::cancelled()),
                        () = tokio::time::sleep(USE_LOOK) => {}
                    }
                }
                Ok(())
            })
            .await?;
        }
        if what == Use::Read { Ok(()) } else { self.wait_for_others(job).await }
    }

    /// How many it has to wait for: they came before, and one of the two wants to be alone.
    async fn before(&self, what: Use, ticket: i64) -> Result<i64> {
        let sql = "SELECT count(*) FROM repository_uses u JOIN runs r ON r.id = u.run_id \
                   WHERE u.repository_id = $1 AND u.ticket < $2 AND (u.exclusive = 1 OR $3 = 1) \
                   AND r.state IN ('starting', 'running', 'cancelling')";
        let args = args![self.repository.id, ticket, i64::from(what == Use::Delete)];
        self.plane.estate().store().read().await?.one(sql, args).await?.int(0)
    }

    /// Waits until no other program works in the repository.
    async fn wait_for_others(&self, job: &Job) -> std::result::Result<(), Failure> {
        let estate = self.plane.estate();
        let begun = estate.now();
        // Not every storage tells how old a lock is.
        let mut seen: HashMap<String, Timestamp> = HashMap::new();
        loop {
            let lock = self.open(job, |opened| opened.lock()).await?;
            let Some(lock) = lock else { return Ok(()) };
            let now = estate.now();
            let since = lock.since.unwrap_or_else(|| *seen.entry(lock.name.clone()).or_insert(now));
            if elapsed(since, now) >= LOCK_AGE {
                return Ok(());
            }
            if elapsed(begun, now) >= LOCK_WAIT {
                let message = format!(
                    "another program has locked the repository (its lock {}); if none is working, run `restic unlock`",
                    lock.name
                );
                return Err(Failure::new(ErrorKind::Unavailable, "locked", message));
            }
            job.report(0, "waiting for another program's lock");
            tokio::select! {
                () = job.cancelled() => return Err(Failure::cancelled()),
                () = tokio::time::sleep(LOCK_LOOK) => {}
            }
        }
    }
}

fn elapsed(from: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(from).try_into().unwrap_or_default()
}
