//! One run from its claim to its end: authority, supervised execution, and an end that is always written.

use std::sync::Arc;
use std::time::Duration;

use landreeve_core::{Error, ErrorKind, OpCtx, Result, RunState};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::engine::Engine;
use super::job::{Failure, Job, Outcome, Signal, StopReason};
use super::kind::{KindSpec, OnDrain};
use super::pools::Place;
use super::queue::{self, End, Threads};
use super::record::Run;

/// How soon and how often a run's reports are written.
const FIRST_REPORT: Duration = Duration::from_millis(100);
const REPORT: Duration = Duration::from_millis(500);
/// How long an aborted task has to end. One that does not is blocking its thread.
const ABORT: Duration = Duration::from_secs(1);

/// The pause before an unavailable store is tried again. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// The outcome of an execution, and what may still be running.
struct Watched {
    outcome: Outcome,
    /// It did not stop in time: the task was aborted.
    aborted: bool,
    /// An aborted task that has not ended.
    work: Option<JoinHandle<Outcome>>,
}

/// The same run, as if the server itself had submitted it.
fn by_system(run: &Run) -> Run {
    Run { actor_kind: "system".to_owned(), actor_id: None, ..run.clone() }
}

impl Engine {
    pub(super) async fn execute(&self, run: Run, place: Place, signal: Arc<Signal>) {
        let Some(spec) = self.kind(run.kind).copied() else { return };
        metrics::counter!("landreeve_runs_started_total", "kind" => run.kind.as_str()).increment(1);
        let Some(working) = self.working() else { return };
        let executor = working.executors.by_kind.get(&run.kind).cloned();
        let prepared = match executor {
            // It was cancelled before a crash and has nothing to clean up.
            _ if run.state == RunState::Cancelling && !spec.cleans_up => Err(Failure::cancelled()),
            None => Err(Failure::internal()),
            Some(executor) => match self.authority(&run, &signal).await {
                Ok(ctx) => Ok((executor, ctx)),
                // What was begun is cleaned up, whatever became of its submitter.
                Err(_) if spec.cleans_up && run.attempt > 1 => {
                    match self.authority(&by_system(&run), &signal).await {
                        Ok(ctx) => Ok((executor, ctx)),
                        Err(error) => Err(without_authority(error)),
                    }
                }
                Err(error) => Err(without_authority(error)),
            },
        };
        let (executor, ctx) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => {
                drop(place);
                let end = self.not_begun(failure, &run, &spec, &signal);
                return self.finish(&run, &signal, end, Threads::Gone).await;
            }
        };
        let inner = &self.0;
        let job = Arc::new(Job::new(
            run,
            ctx,
            Arc::clone(&signal),
            inner.store.clone(),
            Arc::clone(&inner.clock),
            place,
        ));
        // In a separate task, so that a panic in an executor ends the run and not the node.
        let work = {
            let job = Arc::clone(&job);
            tokio::spawn(async move { executor.execute(&job).await })
        };
        let watched = self.watch(&job, work, &spec, &signal).await;
        job.threads.close();
        self.conclude(&job, watched, &spec, &signal).await;
    }

    /// The submitter's current authority. Waits for an unavailable store instead of failing the run.
    async fn authority(&self, run: &Run, signal: &Signal) -> Result<OpCtx> {
        let working = self.working().ok_or_else(|| Error::internal("a run without a start"))?;
        let mut pause = FIRST_PAUSE;
        loop {
            match (working.executors.authority)(run).await {
                Err(error) if error.kind == ErrorKind::Unavailable && !self.0.tasks.stop.is_cancelled() => {
                    tracing::warn!(run = run.id.0, %error, "could not look up the permissions of a run; trying again");
                    tokio::select! {
                        () = signal.token().cancelled() => return Err(error),
                        () = self.0.tasks.stop.cancelled() => return Err(error),
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(MAX_PAUSE);
                }
                found => return found,
            }
        }
    }

    /// Writes the end, frees the worker, and waits for threads that could not be stopped.
    async fn conclude(&self, job: &Arc<Job>, watched: Watched, spec: &KindSpec, signal: &Arc<Signal>) {
        let Watched { outcome, aborted, work } = watched;
        if work.is_none() && !job.threads.is_empty() {
            let _ = tokio::time::timeout(spec.grace, job.threads.wait()).await;
        }
        let lingers = work.is_some() || !job.threads.is_empty();
        job.log.flush().await;
        drop(job.take_place());
        let cut_off = aborted || matches!(&outcome, Err(failure) if failure.state == RunState::Cancelled);
        let reason = job.stop_reason();
        let drained = cut_off && reason == Some(StopReason::Draining);
        let end = match spec.on_drain {
            // Another attempt ends the run.
            _ if reason == Some(StopReason::TakenAway) => None,
            // Its thread may still write, so the run must not start on another node.
            _ if drained && lingers => {
                let failure = Failure::lost("its thread did not stop when the server stopped");
                Some(End::Stopped { state: failure.state, error: failure.error })
            }
            OnDrain::Requeue if drained => Some(End::Requeued { cleans_up: spec.cleans_up }),
            // It exceeded its time to end and was interrupted: the next start finds the lease and recovers it by its
            // kind.
            OnDrain::Finish if drained => None,
            _ => Some(ended(outcome, &job.run, spec, lingers)),
        };
        let threads = if lingers { Threads::Linger } else { Threads::Gone };
        if let Some(end) = end {
            self.finish(&job.run, signal, end, threads).await;
        }
        if lingers {
            self.await_threads(Arc::clone(job), work);
        }
    }

    /// The end of an attempt that was not started.
    fn not_begun(&self, failure: Failure, run: &Run, spec: &KindSpec, signal: &Signal) -> End {
        let away = failure.error.kind == ErrorKind::Unavailable;
        match signal.reason() {
            Some(StopReason::Cancelled) => ended(Err(Failure::cancelled()), run, spec, false),
            // A stopping server cannot look up the permissions any more; the next one can.
            _ if away && self.0.tasks.stop.is_cancelled() => End::Requeued { cleans_up: spec.cleans_up },
            _ => ended(Err(failure), run, spec, false),
        }
    }

    /// A thread that cannot be stopped keeps its run's place in the lane until it ends.
    fn await_threads(&self, job: Arc<Job>, work: Option<JoinHandle<Outcome>>) {
        let engine = self.clone();
        metrics::gauge!("landreeve_runs_lingering").increment(1.0);
        tracing::error!(run = job.run.id.0, kind = %job.run.kind, "a run does not stop: its thread is still running and its lane stays occupied");
        // This task ends with the thread or with the process. Nothing waits for it.
        self.0.tasks.lingering.spawn(async move {
            if let Some(work) = work {
                let _ = work.await;
            }
            job.threads.wait().await;
            metrics::gauge!("landreeve_runs_lingering").decrement(1.0);
            engine.free_lane(&job.run).await;
        });
    }

    /// Records that the last thread of a run has ended. Retries while the store is unavailable, like `finish`.
    async fn free_lane(&self, run: &Run) {
        let mut pause = FIRST_PAUSE;
        loop {
            let copy = run.clone();
            let written = self
                .0
                .store
                .write(move |tx| Box::pin(async move { queue::stop_lingering(tx, &copy).await }))
                .await;
            let Err(error) = written else { return };
            tracing::warn!(run = run.id.0, %error, "could not free the lane of a run whose thread has ended");
            if is_refusal(error.kind) || self.0.tasks.abandon.is_cancelled() {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    async fn watch(&self, job: &Job, work: JoinHandle<Outcome>, spec: &KindSpec, signal: &Signal) -> Watched {
        let mut work = work;
        let limit = job.run.time_limit;
        let token = job.token();
        let mut reports = tokio::time::interval(REPORT);
        reports.reset_after(FIRST_REPORT);
        let deadline = tokio::time::sleep(limit.unwrap_or(Duration::MAX / 4));
        let grace = tokio::time::sleep(Duration::MAX / 4);
        tokio::pin!(deadline, grace);
        let (mut stopping, mut first) = (false, true);
        loop {
            tokio::select! {
                ended = &mut work => {
                    let outcome = ended.unwrap_or_else(|error| {
                        tracing::error!(run = job.run.id.0, %error, "an executor panicked");
                        Err(Failure::internal())
                    });
                    let outcome = told_by_time(outcome, job);
                    return Watched { outcome, aborted: false, work: None };
                }
                () = &mut deadline, if limit.is_some() && !stopping => {
                    signal.stop(StopReason::TimedOut);
                }
                () = token.cancelled(), if !stopping => {
                    stopping = true;
                    grace.as_mut().reset(Instant::now() + spec.grace);
                }
                () = &mut grace, if stopping => break,
                _ = reports.tick() => {
                    let report = job.take_report();
                    if report.is_some() || first {
                        first = false;
                        self.report(&job.run, signal, report.unwrap_or_default()).await;
                    }
                    job.log.flush().await;
                }
            }
        }
        work.abort();
        let gone = tokio::time::timeout(ABORT, &mut work).await.is_ok();
        let message = format!(
            "it did not stop within {} seconds of being stopped: {}",
            spec.grace.as_secs(),
            match job.stop_reason() {
                Some(StopReason::TimedOut) => "its time limit was exceeded",
                Some(StopReason::Draining) => "the server was stopping",
                _ => "it was cancelled",
            }
        );
        Watched { outcome: Err(Failure::lost(&message)), aborted: true, work: (!gone).then_some(work) }
    }

    /// Uses this attempt's signal: the one looked up by the run's id could belong to a later attempt on this node.
    async fn report(&self, run: &Run, signal: &Signal, (percent, note): (u8, String)) {
        let (run, now) = (run.clone(), self.0.clock.now());
        let id = run.id;
        let written = self
            .0
            .store
            .write(move |tx| Box::pin(async move { queue::report(tx, &run, percent, &note, now).await }))
            .await;
        match written {
            // It may have been cancelled before this process knew of it.
            Ok(Some(RunState::Cancelling)) => signal.stop(StopReason::Cancelled),
            Ok(Some(_)) => {}
            Ok(None) => signal.stop(StopReason::TakenAway),
            Err(error) => tracing::warn!(run = id.0, %error, "could not write the progress of a run"),
        }
    }

    /// Writes the end. Retries while the store is unavailable (a full disk): the lease keeps the run ours.
    ///
    /// An end that the store rejects (text that it cannot store) becomes a failure, so that no run is left without an
    /// end.
    async fn finish(&self, run: &Run, signal: &Signal, end: End, threads: Threads) {
        let mut end = end;
        let state = match &end {
            End::Succeeded(_) => "succeeded",
            End::Stopped { state, .. } => state.as_str(),
            End::Again { .. } => "again",
            End::Requeued { .. } => "requeued",
        };
        metrics::counter!("landreeve_runs_finished_total", "kind" => run.kind.as_str(), "state" => state)
            .increment(1);
        let mut pause = FIRST_PAUSE;
        loop {
            let (copy, ends, now) = (run.clone(), end.clone(), self.0.clock.now());
            let written = self
                .0
                .store
                .write_end(move |tx| {
                    Box::pin(async move { queue::finish(tx, &copy, &ends, threads, now).await })
                })
                .await;
            match written {
                Ok(true) => break,
                // This also happens if the response to an earlier try was lost after its commit.
                Ok(false) => {
                    tracing::debug!(run = run.id.0, "a run had already ended");
                    break;
                }
                Err(error) if is_refusal(error.kind) => {
                    tracing::error!(run = run.id.0, %error, "the store rejected the end of a run");
                    let failure = Failure::internal();
                    let failed = End::Stopped { state: failure.state, error: failure.error };
                    if end == failed {
                        break;
                    }
                    end = failed;
                }
                Err(_) if self.0.tasks.abandon.is_cancelled() => break,
                Err(error) => {
                    tracing::warn!(run = run.id.0, %error, "could not write the end of a run; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
        signal.end();
    }
}

/// Whether writing the same values again would fail again.
const fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Invalid | ErrorKind::Internal | ErrorKind::TooLarge | ErrorKind::Conflict)
}

/// The failure for a submitter who was deleted, was disabled, or lost a permission.
fn without_authority(error: Error) -> Failure {
    match error.kind {
        ErrorKind::Internal => error.into(),
        ErrorKind::Unavailable => Failure::from(error).again(),
        _ => {
            let message = format!("its submitter is no longer allowed to do this: {}", error.message);
            Failure::new(ErrorKind::Forbidden, "submitter_refused", message)
        }
    }
}

/// Reports a cancel caused by the time limit as a timeout.
fn told_by_time(outcome: Outcome, job: &Job) -> Outcome {
    match outcome {
        Err(failure)
            if failure.state == RunState::Cancelled && job.stop_reason() == Some(StopReason::TimedOut) =>
        {
            Err(Failure::timed_out(job.run.time_limit.unwrap_or_default()))
        }
        other => other,
    }
}

fn ended(outcome: Outcome, run: &Run, spec: &KindSpec, lingers: bool) -> End {
    match outcome {
        Ok(done) => End::Succeeded(done),
        Err(failure) if worth_another_attempt(&failure, run) && !lingers => {
            let note =
                format!("attempt {} failed: {}; it will be retried", run.attempt, failure.error.message);
            End::Again { pause: spec.retry.pause_after(run.attempt), note, cleans_up: spec.cleans_up }
        }
        Err(failure) => End::Stopped { state: failure.state, error: failure.error },
    }
}

/// Runs that were cancelled or took too long are not retried.
fn worth_another_attempt(failure: &Failure, run: &Run) -> bool {
    failure.again && failure.state == RunState::Failed && run.attempt < run.max_attempts
}
