//! Checking and pruning repositories: runs, one at a time for a repository.

use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::ids::{BoxFuture, OuId};
use landreeve_core::vault::CheckDepth;
use landreeve_core::{Action, Category, Error, ErrorKind, OpCtx, Result};
use landreeve_estate::args;
use landreeve_estate::ops::runs;
use landreeve_estate::runs::log::Level;
use landreeve_estate::runs::{Done, Executor, Failure, Job, KindSpec, Lane, NewRun, Outcome, Run};
use landreeve_estate::schedules::{Due, FixedSchedule};
use landreeve_estate::store::Tx;

use crate::at_work::{AtWork, Use};
use crate::backups;
use crate::ids::RepositoryId;
use crate::nouns::REPOSITORY;
use crate::plane::{POOL, Protection};
use crate::policies::following;
use crate::policies::stored::StoredDue;
use crate::repositories::{self, Repository};
use crate::stored::StoredUpkeep;
use crate::taking_in;

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
        return Err(repositories::append_only(name));
    }
    let input = StoredUpkeep::new(repository.id, depth).as_json()?;
    let new = NewRun {
        noun: Some((REPOSITORY, repository.id.0)),
        lane: Some(lane(repository.id)),
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

/// Starts the daily prune of every repository in which data may be deleted.
pub(crate) async fn prune_all(plane: &Protection, tx: &mut Tx, due: &Due) -> Result<()> {
    let sql =
        "SELECT id, name FROM repositories WHERE repository_id IS NOT NULL AND append_only = 0 ORDER BY id";
    for row in tx.all(sql, args![]).await? {
        let id: RepositoryId = row.id(0)?;
        let new = NewRun {
            noun: Some((REPOSITORY, id.0)),
            lane: Some(lane(id)),
            idempotency_key: Some(format!("prune:{}:{}", id.0, due.at.as_microsecond())),
            ..NewRun::new(&PRUNE, OuId::ROOT, StoredUpkeep::new(id, CheckDepth::Structure).as_json()?)
        };
        following::enqueue(plane, tx, OuId::ROOT, &row.text(1)?, new, due.now).await?;
    }
    Ok(())
}

/// In the night, when little else is done.
pub(crate) fn daily_prune() -> Result<FixedSchedule> {
    let body = StoredDue::Prune { version: 1 }.as_json()?;
    Ok(FixedSchedule { name: "prune", cron: "23 3 * * *", body })
}

fn lane(repository: RepositoryId) -> Lane {
    Lane { name: format!("repository:{}", repository.0), limit: 1 }
}

/// The repository of a run.
async fn begun(plane: &Protection, job: &Job) -> Result<(AtWork, StoredUpkeep)> {
    let input = StoredUpkeep::parse(&job.run.input)?;
    plane.estate().require_everywhere(job.ctx(), REPOSITORY, Action::MANAGE).await?;
    Ok((AtWork::on(plane, input.repository()).await?, input))
}

/// Enters backups whose run was killed after it had saved them.
async fn take_in(work: &AtWork, job: &Job) -> std::result::Result<(), Failure> {
    let taken = taking_in::take_in(&work.plane, &work.repository, job.token()).await;
    let taken = taken.map_err(|stopped| match stopped {
        _ if job.token().is_cancelled() => Failure::cancelled(),
        stopped => stopped.into_error().into(),
    })?;
    for why in taken.unreadable {
        job.log(Level::Error, why).await;
    }
    Ok(())
}

/// Checks repositories.
pub struct Verifier(pub Protection);

impl Executor for Verifier {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let (work, input) = begun(&self.0, job).await?;
            let depth = input.depth();
            let check = async || {
                take_in(&work, job).await?;
                work.open(job, move |opened| opened.check(depth)).await
            };
            let findings = work.during(job, Use::Read, check).await?;
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
            work.write(sql, args![id, now, repositories::depth_name(depth)]).await?;
            Ok(Done::default())
        })
    }
}

/// Prunes repositories.
pub struct Pruner(pub Protection);

impl Executor for Pruner {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let (work, _) = begun(&self.0, job).await?;
            let now = work.plane.estate().now();
            let prune = async || {
                take_in(&work, job).await?;
                forget(&work, job, now).await?;
                work.open(job, move |opened| opened.prune(now)).await
            };
            let pruned = work.during(job, Use::Delete, prune).await?;
            let text = format!(
                "{} bytes deleted, {} bytes marked to be deleted in 23 hours or later, {} bytes written again",
                pruned.bytes_deleted, pruned.bytes_marked, pruned.bytes_repacked
            );
            job.log(Level::Info, text).await;
            let sql = "UPDATE repositories SET pruned_at = $2, row_version = row_version + 1 WHERE id = $1";
            work.write(sql, args![work.repository.id, now]).await?;
            Ok(Done::default())
        })
    }
}

/// Forgets the backups that have expired or were deleted. A row goes after its snapshot, so that none is left behind.
async fn forget(work: &AtWork, job: &Job, now: Timestamp) -> std::result::Result<(), Failure> {
    let store = work.plane.estate().store();
    let due = backups::forgettable(&mut store.read().await?, work.repository.id, now).await?;
    if due.is_empty() {
        return Ok(());
    }
    let (ids, snapshots): (Vec<_>, Vec<_>) = due.into_iter().unzip();
    let count = ids.len();
    work.open(job, move |opened| opened.forget(&snapshots)).await?;
    store
        .write(move |tx| {
            let ids = ids.clone();
            Box::pin(async move { backups::remove(tx, &ids).await })
        })
        .await?;
    job.log(Level::Info, format!("{count} backups forgotten")).await;
    Ok(())
}
