//! Runs: submit, list, show, cancel, wait. Every plane submits through `submit`; every face shows what it has a noun
//! for.

use std::time::Duration;

use landreeve_core::ids::RunId;
use landreeve_core::{Action, Error, Noun, OpCtx, Page, PageOf, Permission, Result, RunKind};
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

use crate::Estate;
use crate::estate::OwnedAct;
use crate::identity::Sight;
use crate::runs::queue::{self, RunFilter, Submitter};
use crate::runs::{NewRun, ProbeInput, Run};

/// How a face names a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunRef {
    Id(RunId),
    Uuid(Uuid),
}

/// Submits a run for a caller whom the plane has already authorised. What the run does is recorded in its own words.
pub async fn submit(estate: &Estate, ctx: &OpCtx, new: NewRun) -> Result<Run> {
    let (now, engine) = (estate.now(), estate.runs().clone());
    let ticket = engine.ticket(estate.uuid(), new.kind).await?;
    let submitter = Submitter::from(ctx.actor());
    let act = OwnedAct::new("submitted", Noun::Run, ticket.id.0, new.kind.as_str());
    let (estate, ctx) = (estate.clone(), ctx.clone());
    // A task of its own: a caller that goes away must not leave a run that is claimed and never begun.
    let submitted = tokio::spawn(async move {
        let (ticket, run) = estate
            .change(&ctx, act, move |tx| {
                Box::pin(async move {
                    let (run, _) = engine.insert(tx, &ticket, &new, &submitter, now).await?;
                    Ok((ticket, run))
                })
            })
            .await?;
        estate.runs().launch(ticket, &run);
        Ok(run)
    });
    submitted.await.map_err(Error::internal)?
}

/// A run that does nothing but prove that runs work.
pub async fn probe_submit(estate: &Estate, ctx: &OpCtx, wait: Duration, fail: bool) -> Result<Run> {
    estate.require_here(ctx, Noun::Run, Action::Use).await?;
    let input = ProbeInput::new(wait, fail)?.as_json()?;
    submit(estate, ctx, NewRun::new(RunKind::Probe, ctx.authority().ou(), input)).await
}

/// A run of one of these kinds (empty: of any), which the caller may see. Others are not found.
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
    // Who submitted a run may always see it.
    if !is_own(ctx, &run) {
        estate.require(ctx, Noun::Run, Action::View, &run.ou_path, run.id.0).await?;
    }
    Ok(run)
}

fn is_own(ctx: &OpCtx, run: &Run) -> bool {
    ctx.actor().kind() == run.actor_kind && ctx.actor().id() == run.actor_id
}

pub async fn run_list(estate: &Estate, ctx: &OpCtx, filter: &RunFilter, page: Page) -> Result<PageOf<Run>> {
    estate.require_some(ctx, Noun::Run, Action::View).await?;
    let mut conn = estate.store().read().await?;
    let sight = Sight::of(ctx, Permission::new(Noun::Run, Action::View));
    queue::list(&mut conn, estate.store().dialect(), &sight, filter, page).await
}

/// Asks a run to stop. A run that has ended cannot be cancelled any more.
pub async fn run_cancel(estate: &Estate, ctx: &OpCtx, which: RunRef, kinds: &[RunKind]) -> Result<Run> {
    let run = run_get(estate, ctx, which, kinds).await?;
    if !is_own(ctx, &run) {
        estate.require(ctx, Noun::Run, Action::Manage, &run.ou_path, run.id.0).await?;
    }
    if run.state.is_final() {
        return Err(queue::ended_already(&run));
    }
    let (id, now) = (run.id, estate.now());
    estate
        .change(ctx, OwnedAct::new("cancelled", Noun::Run, id.0, run.kind.as_str()), move |tx| {
            Box::pin(async move { queue::cancel(tx, id, now).await })
        })
        .await
}

/// Waits until the run has ended, or for as long as `most`; gives the run as it then is.
pub async fn run_wait(
    estate: &Estate,
    ctx: &OpCtx,
    which: RunRef,
    kinds: &[RunKind],
    most: Duration,
) -> Result<Run> {
    // Listening begins before the first look, so that an end between the two is not missed.
    let mut changes = estate.store().notices().runs();
    let mut run = run_get(estate, ctx, which, kinds).await?;
    if run.state.is_final() {
        return Ok(run);
    }
    let ended = async {
        loop {
            match changes.recv().await {
                Ok(id) if id != run.id => continue,
                Ok(_) | Err(RecvError::Lagged(_)) => run = run_get(estate, ctx, which, kinds).await?,
                Err(RecvError::Closed) => return Ok(()),
            }
            if run.state.is_final() {
                return Ok(());
            }
        }
    };
    // Out of time is no error: the run is shown as it is.
    match tokio::time::timeout(most, ended).await {
        Ok(ended) => ended.map(|()| run),
        // A notice may have been lost with the connection that brings them.
        Err(_) => run_get(estate, ctx, which, kinds).await,
    }
}
