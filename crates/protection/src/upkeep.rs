//! Checking and pruning repositories: runs, one at a time for a repository.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::ids::BoxFuture;
use landreeve_core::vault::{
    CancellationToken, CheckDepth, Repository as Opened, VaultErrorKind, VaultResult,
};
use landreeve_core::{Action, Category, Error, ErrorKind, OpCtx, Result};
use landreeve_estate::args;
use landreeve_estate::ops::runs;
use landreeve_estate::runs::log::Level;
use landreeve_estate::runs::{Done, Executor, Failure, Job, KindSpec, Lane, NewRun, Outcome, Run};

use crate::ids::RepositoryId;
use crate::nouns::REPOSITORY;
use crate::plane::{POOL, Protection};
use crate::repositories::{self, Repository};
use crate::stored::StoredUpkeep;

const DAY: Duration = Duration::from_secs(86_400);

pub const VERIFY: KindSpec = KindSpec {
    pool: POOL,
    time_limit: Some(Duration::from_secs(20 * 3_600)),
    keep_record: DAY.saturating_mul(90),
    ..KindSpec::new("repository_verify", Category::System)
};

pub const PRUNE: KindSpec = KindSpec {
    pool: POOL,
    time_limit: Some(Duration::from_secs(20 * 3_600)),
    keep_record: DAY.saturating_mul(90),
    ..KindSpec::new("repository_prune", Category::System)
};

/// Maximum number of findings that a run logs.
const MAX_LOGGED: usize = 1_000;
/// A lock that restic has not refreshed for so long is not needed any more.
const LOCK_AGE: Duration = Duration::from_secs(1_800);
/// How long a run waits for another program's lock, and how often it looks.
const LOCK_WAIT: Duration = Duration::from_secs(600);
const LOCK_LOOK: Duration = Duration::from_secs(10);

/// Starts to check a repository.
pub async fn repository_check(plane: &Protection, ctx: &OpCtx, name: &str, depth: CheckDepth) -> Result<Run> {
    start(plane, ctx, name, &VERIFY, depth).await
}

/// Starts to delete data that no backup needs any more.
pub async fn repository_prune(plane: &Protection, ctx: &OpCtx, name: &str) -> Result<Run> {
    start(plane, ctx, name, &PRUNE, CheckDepth::Structure).await
}

async fn start(
    plane: &Protection,
    ctx: &OpCtx,
    name: &str,
    kind: &'static KindSpec,
    depth: CheckDepth,
) -> Result<Run> {
    plane.estate().require_everywhere(ctx, REPOSITORY, Action::MANAGE).await?;
    let repository = repositories::seen(plane, name).await?;
    usable(&repository)?;
    if kind.kind == PRUNE.kind && repository.append_only {
        let message = format!("the repository {name} is append-only: nothing in it is deleted");
        return Err(Error::conflict("append_only", message));
    }
    let lane = Lane { name: format!("repository:{}", repository.id.0), limit: 1 };
    let input = StoredUpkeep::new(repository.id, depth).as_json()?;
    let new = NewRun {
        noun: Some((REPOSITORY, repository.id.0)),
        lane: Some(lane),
        ..NewRun::new(kind, ctx.authority().ou(), input)
    };
    runs::submit(plane.estate(), ctx, new).await
}

fn usable(repository: &Repository) -> Result<()> {
    if repository.repository_id.is_some() {
        return Ok(());
    }
    let message = format!("the repository {} was not made to its end; add it again", repository.name);
    Err(Error::conflict("unfinished", message))
}

/// One run on one repository.
struct Work {
    plane: Protection,
    repository: Repository,
    input: StoredUpkeep,
}

impl Work {
    async fn of(plane: &Protection, job: &Job) -> Result<Work> {
        let input = StoredUpkeep::parse(&job.run.input)?;
        plane.estate().require_everywhere(job.ctx(), REPOSITORY, Action::MANAGE).await?;
        let found = repositories::find(&mut plane.estate().store().read().await?, input.repository()).await?;
        let repository = found.ok_or_else(|| Error::not_found("repository"))?;
        Ok(Work { plane: plane.clone(), repository, input })
    }

    /// Opens the repository and works on it, on a thread of its own.
    async fn on_repository<T: Send + 'static>(
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

    /// Waits until no other program works in the repository.
    async fn wait_for_others(&self, job: &Job) -> std::result::Result<(), Failure> {
        let estate = self.plane.estate();
        let begun = estate.now();
        // Not every storage tells how old a lock is.
        let mut seen: HashMap<String, Timestamp> = HashMap::new();
        loop {
            let lock = self.on_repository(job, |opened| opened.lock()).await?;
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

    async fn record(&self, set: &'static str, args: Vec<landreeve_estate::store::Arg>) -> Result<()> {
        self.plane
            .estate()
            .store()
            .write(move |tx| Box::pin(async move { tx.exec(set, args).await.map(drop) }))
            .await
    }
}

fn elapsed(from: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(from).try_into().unwrap_or_default()
}

/// Checks repositories.
pub struct Verifier(pub Protection);

impl Executor for Verifier {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let work = Work::of(&self.0, job).await?;
            let depth = work.input.depth();
            let findings = work.on_repository(job, move |opened| opened.check(depth)).await?;
            for finding in findings.iter().take(MAX_LOGGED) {
                let level = if finding.is_error { Level::Error } else { Level::Warn };
                job.log(level, finding.message.clone()).await;
            }
            let errors = findings.iter().filter(|finding| finding.is_error).count();
            if errors > 0 {
                let message =
                    format!("the repository is damaged: {errors} errors, which are in the run's log");
                return Err(Failure::new(ErrorKind::Unavailable, "damaged", message));
            }
            let (id, now): (RepositoryId, _) = (work.repository.id, work.plane.estate().now());
            let sql = "UPDATE repositories SET checked_at = $2, checked_depth = $3, row_version = row_version + 1 \
                       WHERE id = $1";
            work.record(sql, args![id, now, repositories::depth_name(depth)]).await?;
            Ok(Done::default())
        })
    }
}

/// Prunes repositories.
pub struct Pruner(pub Protection);

impl Executor for Pruner {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let work = Work::of(&self.0, job).await?;
            work.wait_for_others(job).await?;
            let now = work.plane.estate().now();
            let pruned = work.on_repository(job, move |opened| opened.prune(now)).await?;
            let text = format!(
                "{} bytes deleted, {} bytes marked to be deleted in 23 hours or later, {} bytes written again",
                pruned.bytes_deleted, pruned.bytes_marked, pruned.bytes_repacked
            );
            job.log(Level::Info, text).await;
            let sql = "UPDATE repositories SET pruned_at = $2, row_version = row_version + 1 WHERE id = $1";
            work.record(sql, args![work.repository.id, now]).await?;
            Ok(Done::default())
        })
    }
}
