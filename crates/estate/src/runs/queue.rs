//! The statements that change a run's state. Each names the states it applies to, so that a run is never set back to an
//! earlier state.

use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::ids::RunId;
use landreeve_core::{Actor, Error, ErrorKind, Noun, PoolName, Result, RunState, clock};
use uuid::Uuid;

use super::job::Done;
use super::record::{self, NewRun, Run, RunError};
use crate::events::{self, Event};
use crate::store::{Arg, Conn, Dialect, Notice, Tx, store_now};
use crate::{args, run_columns};

/// Which node holds a run, and for how long from now by the store's clock.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    pub node: i64,
    pub term: Duration,
}

/// Maximum number of runs that wait in one lane.
const MAX_WAITING_IN_LANE: i64 = 10_000;

/// Who submits a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitter {
    pub kind: &'static str,
    pub id: Option<i64>,
    pub name: String,
}

impl Submitter {
    /// `user:3`, `key:7`, `operator`, `system`: identifies the submitter in the table of runs.
    pub fn key(&self) -> String {
        match self.id {
            Some(id) => format!("{}:{id}", self.kind),
            None => self.kind.to_owned(),
        }
    }
}

impl From<&Actor> for Submitter {
    fn from(actor: &Actor) -> Submitter {
        Submitter { kind: actor.kind(), id: actor.id(), name: actor.name().to_owned() }
    }
}

pub(super) fn micros(duration: Duration) -> i64 {
    // Far longer than needed, but small enough that adding it to a time does not overflow.
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX).min(i64::MAX / 4)
}

/// One submission to the queue.
#[derive(Debug, Clone)]
pub struct Submission {
    pub id: RunId,
    pub uuid: Uuid,
    pub new: NewRun,
    pub submitter: Submitter,
    /// Maximum number of waiting runs for the submitter. `None` if this submission does not count.
    pub most_waiting: Option<u32>,
    /// Set if there is a free worker for it.
    pub lease: Option<Lease>,
    /// The path of its organizational unit, if the submitter knows it.
    pub ou_path: Option<String>,
    /// Its lane has probably room.
    pub expects_room: bool,
}

impl Submission {
    /// One that does not count towards a limit, and waits for a worker.
    pub fn waiting(id: RunId, uuid: Uuid, new: NewRun, submitter: Submitter) -> Submission {
        Submission {
            id,
            uuid,
            new,
            submitter,
            most_waiting: None,
            lease: None,
            ou_path: None,
            expects_room: false,
        }
    }

    /// The run as it is when its row has been inserted.
    fn run(&self, state: RunState, ou_path: String, now: Timestamp) -> Run {
        let (new, now) = (&self.new, clock::from_micros(now.as_microsecond()));
        let stored = |duration: Duration| Duration::from_micros(micros(duration).unsigned_abs());
        let starts = state == RunState::Starting;
        Run {
            id: self.id,
            uuid: self.uuid,
            kind: new.kind,
            state,
            ou: new.ou,
            ou_path,
            noun: new.noun.map(|(noun, id)| (noun.as_str().to_owned(), id)),
            input: new.input.clone(),
            output: None,
            result_blob: None,
            has_small_result: false,
            error: None,
            progress: 0,
            progress_note: String::new(),
            pool: new.pool,
            actor_kind: self.submitter.kind.to_owned(),
            actor_id: self.submitter.id,
            actor_name: self.submitter.name.clone(),
            parent: new.parent,
            attempt: i64::from(starts),
            max_attempts: i64::from(new.max_attempts),
            time_limit: new.time_limit.map(stored),
            submitted_at: now,
            updated_at: now,
            started_at: starts.then_some(now),
            finished_at: None,
            keep_record: stored(new.keep_record),
            keep_data: stored(new.keep_data),
            cancel_requested: false,
        }
    }

    /// Includes the kind and the submitter, so that the keys of different ones never collide.
    fn key(&self) -> Option<String> {
        let key = self.new.idempotency_key.as_ref()?;
        Some(format!("{}|{}|{key}", self.new.kind, self.submitter.key()))
    }
}

macro_rules! insert_row {
    ($store:ident) => {
        concat!(
            "INSERT INTO runs (id, uuid, kind, state, ou_id, noun, noun_id, lane, lane_limit, input, progress, \
             progress_note, actor_kind, actor_id, actor_name, parent_id, idempotency_key, attempt, max_attempts, \
             time_limit, node_id, lease_until, submitted_at, updated_at, started_at, keep_record, keep_data, pool, \
             submitter, counted, occupies, release_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, '', $11, $12, $13, $14, $15, $16, $17, $18, $19, \
             CASE WHEN $16 = 0 THEN NULL ELSE ",
            store_now!($store "$21"),
            " + $20 END, $21, $21, CASE WHEN $16 = 0 THEN NULL ELSE $21 END, $22, $23, $24, $25, $26, $16, $27, $28) \
             ON CONFLICT (idempotency_key) DO NOTHING"
        )
    };
}

/// The parameters of `insert_row`.
fn values(
    submission: &Submission,
    key: Option<String>,
    state: RunState,
    lease: Option<Lease>,
    now: Timestamp,
) -> Vec<Arg> {
    let (new, submitter) = (&submission.new, &submission.submitter);
    args![
        submission.id,
        submission.uuid,
        new.kind.as_str(),
        state.as_str(),
        new.ou,
        new.noun.map(|(noun, _)| noun.as_str()),
        new.noun.map(|(_, id)| id),
        new.lane.as_ref().map(|lane| lane.name.clone()),
        new.lane.as_ref().map(|lane| i64::from(lane.limit)),
        &new.input,
        submitter.kind,
        submitter.id,
        &submitter.name,
        new.parent,
        key,
        i64::from(lease.is_some()),
        new.max_attempts,
        new.time_limit.map(micros),
        lease.map(|lease| lease.node),
        lease.map_or(0, |lease| micros(lease.term)),
        now,
        micros(new.keep_record),
        micros(new.keep_data),
        new.pool.as_str(),
        submitter.key(),
        i64::from(submission.most_waiting.is_some()),
        // A run held for approval is released by a use case, one held until a time by the clock.
        new.not_before.filter(|at| new.hold_until.is_none() && *at > now),
        new.hold_until,
    ]
}

/// Inserts a run: claimed immediately if a worker is free and its lane has room, otherwise queued or held. For a known
/// idempotency key, returns the run that has it, and `false`.
pub async fn insert(tx: &mut Tx, submission: &Submission, now: Timestamp) -> Result<(Run, bool)> {
    let (new, key) = (&submission.new, submission.key());
    if let Some(key) = &key
        && let Some(run) = by_key(tx, key).await?
    {
        return same_run(run, new);
    }
    check_parent(tx, new).await?;
    let held = new.not_before.is_some_and(|at| at > now) || new.hold_until.is_some();
    let lease = submission.lease.filter(|_| !held);
    let found = check_queue(tx, submission, lease.is_some()).await?;
    let lease = lease.filter(|_| found.may_start);
    let state = match (held, lease.is_some()) {
        (true, _) => RunState::Held,
        (false, true) => RunState::Starting,
        (false, false) => RunState::Queued,
    };
    let run = submission.run(state, found.ou_path, now);
    let row = values(submission, key.clone(), state, lease, now);
    let sql = tx.dialect().pick(insert_row!(sqlite), insert_row!(postgres));
    match key {
        // Nothing can be in its way, so that nothing has to wait for it.
        None => tx.exec_later(sql, row).await?,
        Some(key) => {
            if tx.exec(sql, row).await? == 0 {
                // Another node inserted it in the meantime.
                let run = by_key(tx, &key).await?.ok_or_else(|| Error::not_found("run"))?;
                return same_run(run, new);
            }
        }
    }
    match run.state {
        RunState::Queued => tx.notice(Notice::Queue(new.pool)).await?,
        RunState::Held => tx.notice(Notice::Held).await?,
        _ => {}
    }
    // Nothing can wait for a run that has no id yet, so its submission is no change to tell.
    Ok((run, true))
}

/// The second submission of a key must have the same input.
fn same_run(run: Run, new: &NewRun) -> Result<(Run, bool)> {
    if run.input == new.input {
        return Ok((run, false));
    }
    let message = format!("run {} was submitted with the same key and a different input", run.id);
    Err(Error::conflict("idempotency_key", message))
}

/// What a submission must know of the store.
struct Found {
    ou_path: String,
    /// There is a worker for it, and its lane has a free place that no other run waits for.
    may_start: bool,
}

/// Neither one submitter's requests nor those for one lane must fill the queue.
///
/// This is a statement of its own, and not part of the INSERT: only a statement that changes nothing removes the index
/// entries of runs that no longer wait, which every later one would read again.
async fn check_queue(tx: &mut Tx, submission: &Submission, has_worker: bool) -> Result<Found> {
    let lane = submission.new.lane.as_ref();
    if let (Some(lane), true) = (lane, has_worker) {
        lock_lane(tx, &lane.name).await?;
    }
    let expected = !has_worker || submission.expects_room;
    if let Some(ou_path) = submission.ou_path.as_ref().filter(|_| expected)
        && tx.holds(AS_EXPECTED, expectations(submission, ou_path, has_worker)).await?
    {
        return Ok(Found { ou_path: ou_path.clone(), may_start: has_worker });
    }
    let most = submission.most_waiting.unwrap_or(0);
    let counts = tx
        .one(
            "SELECT (SELECT count(*) FROM (SELECT 1 FROM runs WHERE submitter || '' = $1 AND counted = 1 \
             AND state = 'queued' LIMIT $2) w), \
             (SELECT count(*) FROM (SELECT 1 FROM runs WHERE lane = $3 AND state = 'queued' LIMIT $4) w), \
             (SELECT count(*) FROM runs WHERE lane = $3 AND occupies = 1), (SELECT path FROM ous WHERE id = $5)",
            args![
                submission.submitter.key(),
                most,
                lane.map(|lane| lane.name.clone()),
                MAX_WAITING_IN_LANE,
                submission.new.ou
            ],
        )
        .await?;
    let (own, in_lane, busy) = (counts.int(0)?, counts.int(1)?, counts.int(2)?);
    let too_many = |message: String| Err(Error::rate_limited(message, Duration::from_secs(10)));
    if submission.most_waiting.is_some_and(|most| own >= i64::from(most)) {
        return too_many(format!(
            "{own} of your runs are already waiting ([runs] max_waiting); try again when some have ended"
        ));
    }
    if in_lane >= MAX_WAITING_IN_LANE {
        return too_many(format!(
            "{in_lane} runs are already waiting for the same resource; try again when some have ended"
        ));
    }
    let ou_path = counts.text_opt(3)?.ok_or_else(|| Error::not_found("organizational unit"))?;
    let may_start = has_worker && lane.is_none_or(|lane| in_lane == 0 && busy < i64::from(lane.limit));
    Ok(Found { ou_path, may_start })
}

/// The unit is where it was, there is room in the queue, and, if a worker is free, in the lane.
const AS_EXPECTED: &str = "SELECT 1 FROM ous WHERE id = $1 AND path = $2 AND ($3 IS NULL OR $3 > \
    (SELECT count(*) FROM (SELECT 1 FROM runs WHERE submitter || '' = $4 AND counted = 1 AND state = 'queued' \
    LIMIT coalesce($3, 0)) w)) \
    AND $5 > (SELECT count(*) FROM (SELECT 1 FROM runs WHERE lane = $6 AND state = 'queued' LIMIT $5) w) \
    AND ($7 IS NULL OR (NOT EXISTS (SELECT 1 FROM runs WHERE lane = $6 AND state = 'queued') \
    AND $7 > (SELECT count(*) FROM runs WHERE lane = $6 AND occupies = 1)))";

/// The parameters of `AS_EXPECTED`.
fn expectations(submission: &Submission, ou_path: &str, has_worker: bool) -> Vec<Arg> {
    let lane = submission.new.lane.as_ref();
    args![
        submission.new.ou,
        ou_path,
        submission.most_waiting.map(i64::from),
        submission.submitter.key(),
        MAX_WAITING_IN_LANE,
        lane.map(|lane| lane.name.clone()),
        lane.filter(|_| has_worker).map(|lane| i64::from(lane.limit)),
    ]
}

/// A child needs a parent that has not ended, in a unit at or above its own, because stopping the parent stops the
/// child.
async fn check_parent(tx: &mut Tx, new: &NewRun) -> Result<()> {
    let Some(parent) = new.parent else { return Ok(()) };
    // Locked until the child is inserted. An earlier cancel is seen here, and a later one finds the child.
    let dialect = tx.dialect();
    let found = tx
        .opt(
            dialect.pick(
                "SELECT p.state FROM runs p JOIN ous o ON o.id = p.ou_id JOIN ous c ON c.id = $2 \
                 WHERE p.id = $1 AND substr(c.path, 1, length(o.path)) = o.path",
                "SELECT p.state FROM runs p JOIN ous o ON o.id = p.ou_id JOIN ous c ON c.id = $2 \
                 WHERE p.id = $1 AND substr(c.path, 1, length(o.path)) = o.path FOR SHARE OF p",
            ),
            args![parent, new.ou],
        )
        .await?;
    let Some(found) = found else {
        return Err(Error::fault("parent", "unknown", "is not a run in this organizational unit"));
    };
    let state = found.word(0, RunState::parse)?;
    if state.is_final() || state == RunState::Cancelling {
        let message = format!("the run's parent cannot have more children: it is {}", state.as_str());
        return Err(Error::conflict("parent_ended", message));
    }
    Ok(())
}

/// Prevents two nodes from both taking the last place in a lane. SQLite has only one writer.
pub(super) async fn lock_lane(tx: &mut Tx, lane: &str) -> Result<()> {
    if tx.dialect() == Dialect::Postgres {
        tx.exec_later("SELECT pg_advisory_xact_lock(hashtext($1))", args![lane]).await?;
    }
    Ok(())
}

/// Stores a run's progress; the first report makes it *running*. Returns the new state, or `None` if the run no longer
/// belongs to this attempt.
pub async fn report(
    tx: &mut Tx,
    run: &Run,
    progress: u8,
    note: &str,
    now: Timestamp,
) -> Result<Option<RunState>> {
    let row = tx
        .opt(
            "UPDATE runs SET state = CASE WHEN state = 'starting' THEN 'running' ELSE state END, progress = $3, \
             progress_note = $4, updated_at = $5 \
             WHERE id = $1 AND attempt = $2 AND state IN ('starting', 'running', 'cancelling') RETURNING state",
            args![run.id, run.attempt, i64::from(progress), note, now],
        )
        .await?;
    tx.run_changed(run.id).await?;
    row.map(|row| row.word(0, RunState::parse)).transpose()
}

/// How an attempt ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Succeeded(Done),
    /// *failed*, *cancelled*, *timed out* or *lost*.
    Stopped {
        state: RunState,
        error: RunError,
    },
    /// It is retried after a pause. If it was cancelled in the meantime, it ends, or cleans up without the pause.
    Again {
        pause: Duration,
        note: String,
        cleans_up: bool,
    },
    /// It goes back to the queue for another node; the attempt does not count.
    Requeued {
        cleans_up: bool,
    },
}

/// Whether an ended attempt left threads running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    Gone,
    /// A thread is still running and occupies its place in the lane.
    Linger,
}

/// Ends an attempt. Returns `false` if the run no longer belongs to this attempt (its lease was lost).
pub async fn finish(tx: &mut Tx, run: &Run, end: &End, threads: Threads, now: Timestamp) -> Result<bool> {
    let lingers = threads == Threads::Linger;
    let back = match end {
        End::Succeeded(done) => {
            let ended = Ended { state: RunState::Succeeded, done: Some(done), error: None, lingers };
            return set_end(tx, run, &ended, now).await;
        }
        End::Stopped { state, error } => {
            let ended = Ended { state: *state, done: None, error: Some(error), lingers };
            return set_end(tx, run, &ended, now).await;
        }
        End::Again { pause, note, cleans_up } => {
            let release = clock::from_micros(now.as_microsecond().saturating_add(micros(*pause)));
            Back { release: Some(release), note, more_attempts: 0, cleans_up: *cleans_up }
        }
        End::Requeued { cleans_up } => {
            let note = "its server stopped; waiting for another one";
            Back { release: None, note, more_attempts: 1, cleans_up: *cleans_up }
        }
    };
    if put_back(tx, run, &back, now).await? {
        return Ok(true);
    }
    // It was cancelled in the meantime, or no longer belongs to this attempt.
    let error = RunError::new(ErrorKind::Conflict, "cancelled", "cancelled");
    let ended = Ended { state: RunState::Cancelled, done: None, error: Some(&error), lingers };
    set_end(tx, run, &ended, now).await
}

struct Ended<'a> {
    state: RunState,
    done: Option<&'a Done>,
    error: Option<&'a RunError>,
    lingers: bool,
}

async fn set_end(tx: &mut Tx, run: &Run, ended: &Ended<'_>, now: Timestamp) -> Result<bool> {
    let (done, error) = (ended.done, ended.error);
    let ended_now = tx
        .exec_one(
            "UPDATE runs SET state = $3, output = $4, result = $5, result_blob = $6, error_kind = $7, \
             error_code = $8, error_message = CASE WHEN $3 = 'cancelled' THEN coalesce(error_message, $9) ELSE $9 END, \
             error_source_code = $10, error_position = $11, \
             progress = CASE WHEN $3 = 'succeeded' THEN 100 ELSE progress END, updated_at = $12, finished_at = $12, \
             occupies = $13, node_id = CASE WHEN $13 = 1 THEN node_id ELSE NULL END, lease_until = NULL \
             WHERE id = $1 AND attempt = $2 AND state IN ('starting', 'running', 'cancelling')",
            args![
                run.id,
                run.attempt,
                ended.state.as_str(),
                done.and_then(|done| done.output.clone()),
                done.and_then(|done| done.result.clone()),
                done.and_then(|done| done.result_blob.clone()),
                error.map(|error| error.kind.as_str()),
                error.map(|error| error.code.clone()),
                error.map(|error| error.message.clone()),
                error.and_then(|error| error.source_code.clone()),
                error.and_then(|error| error.position.map(i64::from)),
                now,
                i64::from(ended.lingers),
            ],
        )
        .await?;
    if !ended_now {
        return Ok(false);
    }
    // A worker and a place in the lane become free. If the lane was full, another node may have queued a run since this one
    // checked; SQLite has only one writer.
    let waits = tx.dialect().pick(
        "SELECT 1 FROM runs q WHERE q.state = 'queued' AND q.pool = $1 LIMIT 1",
        "SELECT 1 FROM runs r WHERE r.id = $2 AND (EXISTS (SELECT 1 FROM runs q WHERE q.state = 'queued' AND q.pool = $1) \
         OR r.lane_limit <= (SELECT count(*) FROM runs o WHERE o.lane = r.lane AND o.occupies = 1) + 1 - r.occupies)",
    );
    let mut bound = args![run.pool.as_str()];
    if tx.dialect() == Dialect::Postgres {
        bound.extend(args![run.id]);
    }
    tx.notice_if(Notice::Queue(run.pool), waits, bound).await?;
    tx.run_ended(run.id).await?;
    if let Some(parent) = run.parent {
        // It may be waiting for its children.
        tx.run_changed(parent).await?;
    }
    let event =
        Event::RunFinished { run: run.id, kind: run.kind, state: ended.state, noun_id: run.noun_id() };
    events::append(tx, run.ou, &event, now).await?;
    Ok(true)
}

/// How a run goes back to the queue after an attempt.
struct Back<'a> {
    /// Held until then, or queued if `None`.
    release: Option<Timestamp>,
    note: &'a str,
    more_attempts: i64,
    /// Its kind cleans up, even if it was cancelled.
    cleans_up: bool,
}

/// Queues the run again, or holds it until a time. Returns `false` if it was cancelled or no longer belongs to this
/// attempt.
async fn put_back(tx: &mut Tx, run: &Run, back: &Back<'_>, now: Timestamp) -> Result<bool> {
    let changed = tx
        .exec(
            "UPDATE runs SET state = CASE WHEN $3 IS NULL OR cancel_requested = 1 THEN 'queued' ELSE 'held' END, \
             release_at = CASE WHEN cancel_requested = 1 THEN NULL ELSE $3 END, expires_at = NULL, node_id = NULL, \
             lease_until = NULL, occupies = 0, progress = 0, progress_note = $4, \
             max_attempts = max_attempts + $5, updated_at = $6, cleans_up = $7 \
             WHERE id = $1 AND attempt = $2 AND state IN ('starting', 'running', 'cancelling') \
             AND (cancel_requested = 0 OR $7 = 1)",
            args![
                run.id,
                run.attempt,
                back.release,
                back.note,
                back.more_attempts,
                now,
                i64::from(back.cleans_up)
            ],
        )
        .await?;
    if changed == 0 {
        return Ok(false);
    }
    tx.run_changed(run.id).await?;
    // Its lane has a free place again, which it may take itself.
    tx.notice(Notice::Queue(run.pool)).await?;
    if back.release.is_some() {
        tx.notice(Notice::Held).await?;
    }
    Ok(true)
}

/// Frees the place in the lane after the last thread of an ended run has ended.
pub async fn stop_lingering(tx: &mut Tx, run: &Run) -> Result<()> {
    tx.exec(
        "UPDATE runs SET occupies = 0, node_id = NULL \
         WHERE id = $1 AND attempt = $2 AND occupies = 1 AND finished_at IS NOT NULL",
        args![run.id, run.attempt],
    )
    .await?;
    tx.notice(Notice::Queue(run.pool)).await
}

pub fn ended_already(run: &Run) -> Error {
    Error::conflict("not_cancellable", format!("the run has already ended: {}", run.state.as_str()))
}

/// Cancels a run and every run below it. A waiting run ends here; for an executing run, its node is notified.
pub async fn cancel(tx: &mut Tx, id: RunId, now: Timestamp) -> Result<Run> {
    if !cancel_one(tx, id, now).await? {
        let run = need(tx, id).await?;
        if run.state.is_final() {
            return Err(ended_already(&run));
        }
    }
    // Stops each parent before it reads its children, so that none can be added concurrently. A child that has ended
    // may have children that continue.
    let mut parents = vec![id];
    while let Some(parent) = parents.pop() {
        let children = tx.all("SELECT id FROM runs WHERE parent_id = $1 ORDER BY id", args![parent]).await?;
        for child in children {
            let child = child.id(0)?;
            cancel_one(tx, child, now).await?;
            parents.push(child);
        }
    }
    need(tx, id).await
}

/// Cancels every run about a resource that can no longer be used: it was deleted or disabled.
pub async fn cancel_about(tx: &mut Tx, (noun, id): (Noun, i64), why: &str, now: Timestamp) -> Result<()> {
    let runs = tx
        .all(
            // In three parts, because the indexes of runs that have not ended are of these parts.
            "SELECT id FROM runs WHERE state = 'queued' AND noun = $1 AND noun_id = $2 \
             UNION ALL SELECT id FROM runs WHERE state = 'held' AND noun = $1 AND noun_id = $2 \
             UNION ALL SELECT id FROM runs WHERE occupies = 1 AND finished_at IS NULL AND noun = $1 AND noun_id = $2",
            args![noun.as_str(), id],
        )
        .await?;
    for run in runs {
        cancel_with(tx, run.id(0)?, Some(why), now).await?;
    }
    Ok(())
}

/// Returns `false` if it has ended or was already cancelled.
async fn cancel_one(tx: &mut Tx, id: RunId, now: Timestamp) -> Result<bool> {
    cancel_with(tx, id, None, now).await
}

/// `why`: if it is more than a user's wish.
async fn cancel_with(tx: &mut Tx, id: RunId, why: Option<&str>, now: Timestamp) -> Result<bool> {
    let message = why.unwrap_or("cancelled before it started");
    let error = RunError::new(ErrorKind::Conflict, "cancelled", message);
    if end_waiting(tx, id, RunState::Cancelled, &error, now).await? {
        return Ok(true);
    }
    // What was begun is cleaned up first, and soon.
    let begun = tx
        .opt(
            "UPDATE runs SET state = 'queued', cancel_requested = 1, release_at = NULL, updated_at = $2, error_message = $3 \
             WHERE id = $1 AND state IN ('queued', 'held') AND cleans_up = 1 AND cancel_requested = 0 RETURNING pool",
            args![id, now, why.map(str::to_owned)],
        )
        .await?;
    if let Some(row) = begun {
        tx.run_changed(id).await?;
        tx.notice(Notice::Queue(PoolName::stored(&row.text(0)?))).await?;
        return Ok(true);
    }
    let executing = tx
        .exec(
            // The reason stays if its end is that it was cancelled.
            "UPDATE runs SET state = 'cancelling', cancel_requested = 1, updated_at = $2, error_message = $3 \
             WHERE id = $1 AND state IN ('starting', 'running')",
            args![id, now, why.map(str::to_owned)],
        )
        .await?;
    if executing > 0 {
        tx.run_changed(id).await?;
        tx.notice(Notice::Stop(id)).await?;
    }
    Ok(executing > 0)
}

/// Ends a run that is queued or held, except for one that waits to clean up after a crash.
async fn end_waiting(
    tx: &mut Tx,
    id: RunId,
    state: RunState,
    error: &RunError,
    now: Timestamp,
) -> Result<bool> {
    let row = tx
        .opt(
            "UPDATE runs SET state = $2, finished_at = $3, updated_at = $3, error_kind = $4, error_code = $5, \
             error_message = $6, release_at = NULL, expires_at = NULL \
             WHERE id = $1 AND state IN ('queued', 'held') AND cancel_requested = 0 AND cleans_up = 0 \
             RETURNING ou_id, kind, noun_id, parent_id",
            args![id, state.as_str(), now, error.kind.as_str(), &error.code, &error.message],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    tx.run_ended(id).await?;
    if let Some(parent) = row.id_opt(3)? {
        tx.run_changed(parent).await?;
    }
    let kind = landreeve_core::RunKind::stored(&row.text(1)?);
    let event = Event::RunFinished { run: id, kind, state, noun_id: row.int_opt(2)? };
    events::append(tx, row.id(0)?, &event, now).await?;
    Ok(true)
}

/// Queues a held run. Returns `false` if it is no longer held.
pub async fn release(tx: &mut Tx, id: RunId, now: Timestamp) -> Result<bool> {
    let row = tx
        .opt(
            "UPDATE runs SET state = 'queued', release_at = NULL, expires_at = NULL, updated_at = $2 \
             WHERE id = $1 AND state = 'held' RETURNING pool",
            args![id, now],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    tx.run_changed(id).await?;
    tx.notice(Notice::Queue(PoolName::stored(&row.text(0)?))).await?;
    Ok(true)
}

/// Maximum number of held runs that one transaction releases.
const MAX_DUE: i64 = 500;

/// Releases held runs whose time has come, and ends those that waited too long. Returns when the next is due.
pub async fn release_due(tx: &mut Tx, now: Timestamp) -> Result<Option<Timestamp>> {
    let due = tx
        .all(
            "SELECT id FROM runs WHERE state = 'held' AND release_at <= $1 ORDER BY release_at LIMIT $2",
            args![now, MAX_DUE],
        )
        .await?;
    for row in &due {
        release(tx, row.id(0)?, now).await?;
    }
    let expired = tx
        .all(
            "SELECT id FROM runs WHERE state = 'held' AND expires_at <= $1 ORDER BY expires_at LIMIT $2",
            args![now, MAX_DUE],
        )
        .await?;
    let error = RunError::new(
        ErrorKind::Unavailable,
        "not_released",
        "it was held for approval and was not released in time",
    );
    for row in &expired {
        end_waiting(tx, row.id(0)?, RunState::TimedOut, &error, now).await?;
    }
    let next = tx
        .one(
            "SELECT (SELECT min(release_at) FROM runs WHERE state = 'held'), \
             (SELECT min(expires_at) FROM runs WHERE state = 'held')",
            args![],
        )
        .await?;
    Ok([next.time_opt(0)?, next.time_opt(1)?].into_iter().flatten().min())
}

pub async fn get(conn: &mut Conn, id: RunId) -> Result<Option<Run>> {
    let sql = concat!("SELECT ", run_columns!(), " FROM runs WHERE runs.id = $1");
    conn.opt(sql, args![id]).await?.as_ref().map(record::from_row).transpose()
}

pub async fn by_uuid(conn: &mut Conn, uuid: Uuid) -> Result<Option<Run>> {
    let sql = concat!("SELECT ", run_columns!(), " FROM runs WHERE runs.uuid = $1");
    conn.opt(sql, args![uuid]).await?.as_ref().map(record::from_row).transpose()
}

async fn by_key(conn: &mut Conn, key: &str) -> Result<Option<Run>> {
    let sql = concat!("SELECT ", run_columns!(), " FROM runs WHERE runs.idempotency_key = $1");
    conn.opt(sql, args![key]).await?.as_ref().map(record::from_row).transpose()
}

pub(super) async fn need(conn: &mut Conn, id: RunId) -> Result<Run> {
    get(conn, id).await?.ok_or_else(|| Error::not_found("run"))
}

/// The number of children of a run that have not ended.
pub async fn open_children(conn: &mut Conn, parent: RunId) -> Result<i64> {
    conn.one("SELECT count(*) FROM runs WHERE parent_id = $1 AND finished_at IS NULL", args![parent])
        .await?
        .int(0)
}

/// The small result of a run, which is stored in its row.
pub async fn small_result(conn: &mut Conn, id: RunId) -> Result<Option<Vec<u8>>> {
    let row = conn.opt("SELECT result FROM runs WHERE id = $1", args![id]).await?;
    row.map(|row| row.bytes_opt(0)).transpose().map(Option::flatten)
}
