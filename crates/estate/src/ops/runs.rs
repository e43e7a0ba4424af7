//! Runs: submit, list, show, cancel, wait. Every plane submits through `submit`; every face shows the kinds that it has
//! a noun for.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::ids::{AuditId, BoxFuture, RunId};
use landreeve_core::{Action, Category, Error, Noun, OpCtx, Page, PageOf, Permission, Result, RunKind};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

use crate::Estate;
use crate::audit::{self, Act};
use crate::estate::OwnedAct;
use crate::identity::Visibility;
use crate::runs::list::{self, After, RunFilter};
use crate::runs::log::{self, Line};
use crate::runs::queue::{self, Submission, Submitter};
use crate::runs::{self, NewRun, ProbeInput, Run};
use crate::store::{Tx, next_in};

/// The kind that every face shows.
pub const PROBE: RunKind = runs::PROBE.kind;

/// How a face identifies a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunRef {
    Id(RunId),
    Uuid(Uuid),
}

/// Rows that a plane writes in the run's transaction.
pub type WithRun = Arc<dyn for<'t> Fn(&'t mut Tx, &'t Run) -> BoxFuture<'t, Result<()>> + Send + Sync>;

/// Submits a run for a caller whom the plane has already authorised. The audit event names the kind.
pub async fn submit(estate: &Estate, ctx: &OpCtx, new: NewRun) -> Result<Run> {
    submit_with(estate, ctx, new, Arc::new(|_, _| Box::pin(async { Ok(()) }))).await
}

/// The same, with the plane's rows in the same transaction. A run that already exists with the idempotency key has its
/// rows.
pub async fn submit_with(estate: &Estate, ctx: &OpCtx, new: NewRun, rows: WithRun) -> Result<Run> {
    let engine = estate.runs().clone();
    let act_detail = new.kind.as_str();
    let ou_path = (new.ou == ctx.authority().ou()).then(|| ctx.authority().ou_path().to_owned());
    let mut ticket = engine.ticket(estate.uuid(), new, Submitter::from(ctx.actor())).await?;
    ticket.submission.ou_path = ou_path;
    let act = OwnedAct::new("submitted", Noun::RUN, ticket.submission.id.0, act_detail);
    let (estate, ctx) = (estate.clone(), ctx.clone());
    // A separate task: if the caller goes away, the claimed run must still be started.
    let submitted = tokio::spawn(async move {
        let ticket = Arc::new(ticket);
        let reserved = Arc::clone(&ticket);
        let run = estate
            .change_told(&ctx, move |tx| {
                Box::pin(async move {
                    let (run, new) = engine.insert(tx, &reserved).await?;
                    if new {
                        rows(tx, &run).await?;
                    }
                    Ok((run, new.then_some(act)))
                })
            })
            .await?;
        estate.runs().launch(&ticket, &run);
        Ok(run)
    });
    submitted.await.map_err(Error::internal)?
}

/// Submits a run in an existing transaction, for schedules: it waits in the queue and does not count towards its
/// submitter's limit of waiting runs.
pub async fn enqueue(
    tx: &mut Tx,
    ctx: &OpCtx,
    submitter: Submitter,
    new: NewRun,
    now: Timestamp,
) -> Result<Run> {
    let id = RunId(next_in(tx, RunId::KIND).await?);
    let (kind, uuid) = (new.kind.as_str(), ctx.request_id());
    let submission = Submission::waiting(id, uuid, new, submitter);
    let (run, new) = queue::insert(tx, &submission, now).await?;
    if new {
        let act = Act { action: "submitted", noun: Noun::RUN, noun_id: Some(run.id.0), detail: kind };
        let event = AuditId(next_in(tx, AuditId::KIND).await?);
        audit::record(tx, event, now, ctx, act).await?;
    }
    Ok(run)
}

/// A run that does nothing but prove that runs work.
pub async fn probe_submit(estate: &Estate, ctx: &OpCtx, wait: Duration, fail: bool) -> Result<Run> {
    estate.require_here(ctx, Noun::RUN, Action::USE).await?;
    let input = ProbeInput::new(wait, fail)?.as_json()?;
    submit(estate, ctx, NewRun::new(&runs::PROBE, ctx.authority().ou(), input)).await
}

/// A run of one of these kinds (empty: any kind) that the caller may see; otherwise not found.
pub async fn run_get(estate: &Estate, ctx: &OpCtx, which: RunRef, kinds: &[RunKind]) -> Result<Run> {
    let mut conn = estate.store().read().await?;
    let found = match which {
        RunRef::Id(id) => queue::get(&mut conn, id).await?,
        RunRef::Uuid(uuid) => queue::by_uuid(&mut conn, uuid).await?,
    };
    drop(conn);
    let now = estate.now();
    let run = found
        .filter(|run| kinds.is_empty() || kinds.contains(&run.kind))
        .filter(|run| run.ou_path.starts_with(ctx.authority().ou_path()) && !run.record_expired(now))
        .ok_or_else(|| Error::not_found("run"))?;
    // The submitter of a run can always see it.
    if !is_own(ctx, &run) {
        estate.require(ctx, Noun::RUN, Action::VIEW, &run.ou_path, run.id.0).await?;
    }
    Ok(run)
}

/// Descriptions of this kind of run, for a face that shows every kind.
pub fn category(estate: &Estate, kind: RunKind) -> Category {
    estate.registry().category(kind)
}

fn is_own(ctx: &OpCtx, run: &Run) -> bool {
    ctx.actor().kind() == run.actor_kind && ctx.actor().id() == run.actor_id
}

pub async fn run_list(estate: &Estate, ctx: &OpCtx, filter: &RunFilter, page: Page) -> Result<PageOf<Run>> {
    estate.require_some(ctx, Noun::RUN, Action::VIEW).await?;
    let mut conn = estate.store().read().await?;
    let visibility = Visibility::of(ctx, Permission::new(Noun::RUN, Action::VIEW));
    list::list(&mut conn, &visibility, filter, page).await
}

/// The runs after a given one, without a total.
pub async fn run_list_after(
    estate: &Estate,
    ctx: &OpCtx,
    filter: &RunFilter,
    after: Option<After>,
    limit: u32,
) -> Result<Vec<Run>> {
    estate.require_some(ctx, Noun::RUN, Action::VIEW).await?;
    let mut conn = estate.store().read().await?;
    let visibility = Visibility::of(ctx, Permission::new(Noun::RUN, Action::VIEW));
    list::list_after(&mut conn, &visibility, filter, after, limit).await
}

/// Maximum number of log batches per read.
const LOG_BATCHES: u32 = 64;

/// The lines of a run's log from a position on, and the next position.
pub async fn run_log(
    estate: &Estate,
    ctx: &OpCtx,
    which: RunRef,
    kinds: &[RunKind],
    after: i64,
) -> Result<(Vec<Line>, i64)> {
    let run = run_get(estate, ctx, which, kinds).await?;
    log::read(&mut estate.store().read().await?, run.id, after, LOG_BATCHES).await
}

/// Whether the caller may cancel this run, which they see.
pub fn run_may_cancel(ctx: &OpCtx, run: &Run) -> bool {
    let manage = Permission::new(Noun::RUN, Action::MANAGE);
    is_own(ctx, run) || ctx.authority().allows(manage, &run.ou_path, run.id.0)
}

/// Cancels a run. A run that has ended cannot be cancelled.
pub async fn run_cancel(estate: &Estate, ctx: &OpCtx, which: RunRef, kinds: &[RunKind]) -> Result<Run> {
    let run = run_get(estate, ctx, which, kinds).await?;
    if !is_own(ctx, &run) {
        estate.require(ctx, Noun::RUN, Action::MANAGE, &run.ou_path, run.id.0).await?;
    }
    if run.state.is_final() {
        return Err(queue::ended_already(&run));
    }
    let (id, now) = (run.id, estate.now());
    estate
        .change(ctx, OwnedAct::new("cancelled", Noun::RUN, id.0, run.kind.as_str()), move |tx| {
            Box::pin(async move { queue::cancel(tx, id, now).await })
        })
        .await
}

/// A wait for the end of a run. It begins before the run is submitted or read, so that an end in between is not missed.
pub struct Wait {
    ends: Receiver<RunId>,
    most: Duration,
}

impl Wait {
    /// `most`: how long to wait at most.
    pub fn begin(estate: &Estate, most: Duration) -> Wait {
        Wait { ends: estate.store().notices().ends(), most }
    }

    /// Waits until the run has ended; returns it as it is then, or as it is when the time is over.
    pub async fn until_ended(self, estate: &Estate, ctx: &OpCtx, mut run: Run) -> Result<Run> {
        let (Wait { mut ends, most }, which) = (self, RunRef::Id(run.id));
        let ended = async {
            while !run.state.is_final() {
                match ends.recv().await {
                    Ok(id) if id != run.id => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => run = run_get(estate, ctx, which, &[]).await?,
                    Err(RecvError::Closed) => break,
                }
            }
            Ok(())
        };
        // A timeout is not an error: the run is returned as it is.
        match tokio::time::timeout(most, ended).await {
            Ok(ended) => ended.map(|()| run),
            // Notices may have been lost with the connection that delivers them.
            Err(_) => run_get(estate, ctx, which, &[]).await,
        }
    }
}

/// Waits until the run has ended, or at most for `most`; returns the run as it is then.
pub async fn run_wait(
    estate: &Estate,
    ctx: &OpCtx,
    which: RunRef,
    kinds: &[RunKind],
    most: Duration,
) -> Result<Run> {
    let wait = Wait::begin(estate, most);
    let run = run_get(estate, ctx, which, kinds).await?;
    wait.until_ended(estate, ctx, run).await
}
