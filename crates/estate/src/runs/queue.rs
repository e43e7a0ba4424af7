//! The statements that move runs along their states. Each of them names the states it leaves, so that a run that has
//! moved on is never pulled back.

use jiff::Timestamp;
use landreeve_core::ids::{RunId, UserId};
use landreeve_core::{Actor, Error, Page, PageOf, Result, RunKind, RunState};
use uuid::Uuid;

use super::engine::Done;
use super::record::{self, NewRun, Run, RunError};
use crate::events::{self, Event};
use crate::identity::Sight;
use crate::store::{Arg, Conn, Dialect, Notice, Tx};
use crate::{args, run_columns};

/// Who holds a run, and until when.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    pub node: i64,
    pub until: Timestamp,
}

/// How many runs may wait in one lane.
const MOST_WAITING: i64 = 10_000;

/// Who submits.
#[derive(Debug, Clone)]
pub struct Submitter {
    pub kind: &'static str,
    pub id: Option<i64>,
    pub name: String,
}

impl From<&Actor> for Submitter {
    fn from(actor: &Actor) -> Submitter {
        Submitter { kind: actor.kind(), id: actor.id(), name: actor.name().to_owned() }
    }
}

fn micros(duration: std::time::Duration) -> i64 {
    // Far beyond any clock, and still room to add a time to it.
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX).min(i64::MAX / 4)
}

/// Inserts a run: claimed at once when a worker is free and its lane has room, else queued. A known idempotency key
/// gives the run that has it, and `false`.
pub async fn insert(
    tx: &mut Tx,
    id: RunId,
    uuid: Uuid,
    new: &NewRun,
    submitter: &Submitter,
    lease: Option<Lease>,
    now: Timestamp,
) -> Result<(Run, bool)> {
    if let Some(key) = &new.idempotency_key
        && let Some(run) = by_key(tx, key).await?
    {
        return Ok((run, false));
    }
    check_parent(tx, new).await?;
    let lease = match &new.lane {
        Some(lane) => {
            lock_lane(tx, &lane.name).await?;
            let busy = tx
                .one(
                    "SELECT count(*) FROM runs WHERE lane = $1 AND state IN ('queued', 'starting', 'running', 'cancelling')",
                    args![&lane.name],
                )
                .await?
                .int(0)?;
            if busy >= i64::from(lane.limit) + MOST_WAITING {
                let message =
                    format!("{busy} runs wait for the same thing already; try again when some have ended");
                return Err(Error::rate_limited(message, std::time::Duration::from_secs(10)));
            }
            lease.filter(|_| busy < i64::from(lane.limit))
        }
        None => lease,
    };
    let state = if lease.is_some() { RunState::Starting } else { RunState::Queued };
    let inserted = tx.exec(
        "INSERT INTO runs (id, uuid, kind, state, ou_id, noun, noun_id, lane, lane_limit, input, progress, \
         progress_note, actor_kind, actor_id, actor_name, parent_id, idempotency_key, attempt, max_attempts, \
         time_limit, node_id, lease_until, submitted_at, updated_at, started_at, keep_record, keep_data) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, '', $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, \
         $21, $21, $22, $23, $24) ON CONFLICT (idempotency_key) DO NOTHING",
        args![
            id,
            uuid,
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
            new.idempotency_key.clone(),
            i64::from(lease.is_some()),
            new.max_attempts,
            new.time_limit.map(micros),
            lease.map(|lease| lease.node),
            lease.map(|lease| lease.until),
            now,
            lease.map(|_| now),
            micros(new.keep_record),
            micros(new.keep_data),
        ],
    )
    .await?;
    if inserted == 0
        && let Some(key) = &new.idempotency_key
    {
        // Another node inserted it since we looked.
        let run = by_key(tx, key).await?.ok_or_else(|| Error::not_found("run"))?;
        return Ok((run, false));
    }
    if lease.is_none() {
        tx.notice(Notice::Queue).await?;
    }
    tx.run_changed(id).await?;
    Ok((need(tx, id).await?, true))
}

/// A child needs a parent that goes on, in a unit at or above its own: whoever stops the parent stops the child.
async fn check_parent(tx: &mut Tx, new: &NewRun) -> Result<()> {
    let Some(parent) = new.parent else { return Ok(()) };
    // Held until the child is there: a cancel comes before it, and refuses it, or after it, and finds it.
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
        return Err(Error::fault("parent", "unknown", "is no run of this organizational unit"));
    };
    let state = found.word(0, RunState::parse)?;
    if state.is_final() || state == RunState::Cancelling {
        let message = format!("the run's parent takes no more children: it is {}", state.as_str());
        return Err(Error::conflict("parent_ended", message));
    }
    Ok(())
}

/// Two nodes must not both find the last place in a lane. SQLite has one writer.
async fn lock_lane(tx: &mut Tx, lane: &str) -> Result<()> {
    if tx.dialect() == Dialect::Postgres {
        tx.exec("SELECT pg_advisory_xact_lock(hashtext($1))", args![lane]).await?;
    }
    Ok(())
}

/// Claims the oldest run that may start, or nothing.
pub async fn claim(tx: &mut Tx, kinds: &str, lease: Lease, now: Timestamp) -> Result<Option<Run>> {
    let dialect = tx.dialect();
    let candidate = tx
        .opt(
            dialect.pick(
                "SELECT r.id, r.lane, r.lane_limit FROM runs r WHERE r.state = 'queued' \
                 AND instr($1, ',' || r.kind || ',') > 0 AND (r.lane IS NULL OR (SELECT count(*) FROM runs b \
                 WHERE b.lane = r.lane AND b.state IN ('starting', 'running', 'cancelling')) < r.lane_limit) \
                 ORDER BY r.id LIMIT 1",
                "SELECT r.id, r.lane, r.lane_limit FROM runs r WHERE r.state = 'queued' \
                 AND strpos($1, ',' || r.kind || ',') > 0 AND (r.lane IS NULL OR (SELECT count(*) FROM runs b \
                 WHERE b.lane = r.lane AND b.state IN ('starting', 'running', 'cancelling')) < r.lane_limit) \
                 ORDER BY r.id LIMIT 1 FOR UPDATE OF r SKIP LOCKED",
            ),
            args![kinds],
        )
        .await?;
    let Some(candidate) = candidate else { return Ok(None) };
    let id: RunId = candidate.id(0)?;
    if let (Dialect::Postgres, Some(lane)) = (tx.dialect(), candidate.text_opt(1)?) {
        lock_lane(tx, &lane).await?;
        let busy = tx
            .one(
                "SELECT count(*) FROM runs WHERE lane = $1 AND state IN ('starting', 'running', 'cancelling')",
                args![&lane],
            )
            .await?
            .int(0)?;
        if busy >= candidate.int(2)? {
            // Another node took the lane's last place since we looked. What stands behind may start: look again.
            tx.notice(Notice::Queue).await?;
            return Ok(None);
        }
    }
    tx.exec(
        "UPDATE runs SET state = 'starting', node_id = $2, lease_until = $3, attempt = attempt + 1, \
         started_at = COALESCE(started_at, $4), updated_at = $4 WHERE id = $1 AND state = 'queued'",
        args![id, lease.node, lease.until, now],
    )
    .await?;
    tx.run_changed(id).await?;
    need(tx, id).await.map(Some)
}

/// Says how far a run is; the first report makes it *running*. Gives the state in which the run then is; `None`: it
/// is not this attempt's any more.
pub async fn report(
    tx: &mut Tx,
    run: &Run,
    progress: u8,
    note: &str,
    now: Timestamp,
) -> Result<Option<RunState>> {
    let row = tx.opt(
        "UPDATE runs SET state = CASE WHEN state = 'starting' THEN 'running' ELSE state END, progress = $3, \
         progress_note = $4, updated_at = $5 \
         WHERE id = $1 AND attempt = $2 AND state IN ('starting', 'running', 'cancelling') RETURNING state",
        args![run.id, run.attempt, i64::from(progress), note, now],
    )
    .await?;
    tx.run_changed(run.id).await?;
    row.map(|row| row.word(0, RunState::parse)).transpose()
}

/// Ends a run. `false`: it was not this attempt's to end any more (its lease was lost).
pub async fn finish(
    tx: &mut Tx,
    run: &Run,
    state: RunState,
    outcome: &Result<Done, RunError>,
    now: Timestamp,
) -> Result<bool> {
    let (done, error) = match outcome {
        Ok(done) => (Some(done), None),
        Err(error) => (None, Some(error)),
    };
    let changed = tx
        .exec(
            "UPDATE runs SET state = $3, output = $4, result = $5, result_blob = $6, error_kind = $7, \
             error_code = $8, error_message = $9, error_detail = $10, \
             progress = CASE WHEN $3 = 'succeeded' THEN 100 ELSE progress END, updated_at = $11, finished_at = $11, \
             node_id = NULL, lease_until = NULL \
             WHERE id = $1 AND attempt = $2 AND state IN ('starting', 'running', 'cancelling')",
            args![
                run.id,
                run.attempt,
                state.as_str(),
                done.and_then(|done| done.output.clone()),
                done.and_then(|done| done.result.clone()),
                done.and_then(|done| done.result_blob.clone()),
                error.map(|error| error.kind.as_str()),
                error.map(|error| error.code.clone()),
                error.map(|error| error.message.clone()),
                error.and_then(|error| error.detail.clone()),
                now,
            ],
        )
        .await?;
    if changed == 0 {
        return Ok(false);
    }
    ended(tx, run.id, run.kind, run.noun.as_ref().map(|(_, id)| *id), state, now).await?;
    Ok(true)
}

/// What every end of a run brings with it: whoever waits is told, the lane has room, the other planes hear of it.
async fn ended(
    tx: &mut Tx,
    id: RunId,
    kind: RunKind,
    noun_id: Option<i64>,
    state: RunState,
    now: Timestamp,
) -> Result<()> {
    tx.run_changed(id).await?;
    tx.notice(Notice::Queue).await?;
    let ou = tx.one("SELECT ou_id FROM runs WHERE id = $1", args![id]).await?.id(0)?;
    events::append(tx, ou, &Event::RunFinished { run: id, kind, state, noun_id }, now).await
}

pub fn ended_already(run: &Run) -> Error {
    Error::conflict("not_cancellable", format!("the run has ended already: {}", run.state.as_str()))
}

/// Asks a run to stop, and with it every run below it. A queued one is cancelled here and now; of an executing one the
/// node is told.
pub async fn cancel(tx: &mut Tx, id: RunId, now: Timestamp) -> Result<Run> {
    if !cancel_one(tx, id, now).await? {
        let run = need(tx, id).await?;
        if run.state.is_final() {
            return Err(ended_already(&run));
        }
    }
    // Level by level, each parent stopped before its children are looked for: none can be added behind our back. A
    // child that has ended may have children that go on.
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

/// `false`: it has ended, or was asked already.
async fn cancel_one(tx: &mut Tx, id: RunId, now: Timestamp) -> Result<bool> {
    let queued = tx
        .exec(
            "UPDATE runs SET state = 'cancelled', finished_at = $2, updated_at = $2, \
             error_kind = 'conflict', error_code = 'cancelled', error_message = 'cancelled before it started' \
             WHERE id = $1 AND state = 'queued'",
            args![id, now],
        )
        .await?;
    if queued > 0 {
        let run = need(tx, id).await?;
        ended(tx, id, run.kind, run.noun.as_ref().map(|(_, id)| *id), RunState::Cancelled, now).await?;
        return Ok(true);
    }
    let executing = tx
        .exec(
            "UPDATE runs SET state = 'cancelling', updated_at = $2 \
             WHERE id = $1 AND state IN ('starting', 'running')",
            args![id, now],
        )
        .await?;
    if executing > 0 {
        tx.run_changed(id).await?;
    }
    Ok(executing > 0)
}

/// Runs whose node is gone, because its lease ran out or it is not among the nodes any more: queued again when their
/// kind is retried, else ended with a reason.
pub async fn recover(tx: &mut Tx, now: Timestamp) -> Result<u64> {
    // Locked from here on: two nodes that look at once must not both recover a run, the later one from its next node.
    let dialect = tx.dialect();
    let rows = tx
        .all(
            dialect.pick(
                "SELECT id FROM runs WHERE state IN ('starting', 'running', 'cancelling') \
                 AND (lease_until < $1 OR NOT EXISTS (SELECT 1 FROM nodes n WHERE n.id = runs.node_id)) \
                 ORDER BY id LIMIT 1000",
                "SELECT id FROM runs WHERE state IN ('starting', 'running', 'cancelling') \
                 AND (lease_until < $1 OR NOT EXISTS (SELECT 1 FROM nodes n WHERE n.id = runs.node_id)) \
                 ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED",
            ),
            args![now],
        )
        .await?;
    for row in &rows {
        let run = need(tx, row.id(0)?).await?;
        if run.state != RunState::Cancelling && run.attempt < run.max_attempts {
            tx.exec(
                "UPDATE runs SET state = 'queued', node_id = NULL, lease_until = NULL, progress = 0, \
                 progress_note = 'its node stopped; it is tried again', updated_at = $2 WHERE id = $1",
                args![run.id, now],
            )
            .await?;
            tx.run_changed(run.id).await?;
            tx.notice(Notice::Queue).await?;
            continue;
        }
        let (state, code, message) = if run.state == RunState::Cancelling {
            (RunState::Cancelled, "cancelled", "cancelled; its node stopped before it could say so")
        } else {
            (RunState::Lost, "node_lost", "the server that executed it stopped before it ended")
        };
        let error = RunError {
            kind: landreeve_core::ErrorKind::Unavailable,
            code: code.to_owned(),
            message: message.to_owned(),
            detail: None,
        };
        finish(tx, &run, state, &Err(error), now).await?;
    }
    Ok(rows.len() as u64)
}

/// Extends this node's leases and gives the runs among them that were asked to stop.
pub async fn heartbeat(tx: &mut Tx, lease: Lease, now: Timestamp) -> Result<Vec<RunId>> {
    tx.exec("UPDATE nodes SET seen_at = $2 WHERE id = $1", args![lease.node, now]).await?;
    tx.exec(
        "UPDATE runs SET lease_until = $2 WHERE node_id = $1 AND state IN ('starting', 'running', 'cancelling')",
        args![lease.node, lease.until],
    )
    .await?;
    let rows =
        tx.all("SELECT id FROM runs WHERE node_id = $1 AND state = 'cancelling'", args![lease.node]).await?;
    rows.iter().map(|row| row.id(0)).collect()
}

/// Adds this node. An earlier one of the same home has died: only one process at a time works there.
pub async fn register_node(
    tx: &mut Tx,
    node: i64,
    name: &str,
    home: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    tx.exec("DELETE FROM nodes WHERE home = $1", args![home]).await?;
    tx.exec(
        "INSERT INTO nodes (id, name, home, started_at, seen_at) VALUES ($1, $2, $3, $4, $4)",
        args![node, name, home, now],
    )
    .await
    .map(drop)
}

/// Other nodes that were seen a short while ago.
pub async fn other_nodes(conn: &mut Conn, home: &str, since: Timestamp) -> Result<Vec<String>> {
    let sql = "SELECT name FROM nodes WHERE (home IS NULL OR home <> $1) AND seen_at > $2";
    let rows = conn.all(sql, args![home, since]).await?;
    rows.iter().map(|row| row.text(0)).collect()
}

pub async fn remove_node(tx: &mut Tx, node: i64) -> Result<()> {
    tx.exec("DELETE FROM nodes WHERE id = $1", args![node]).await.map(drop)
}

pub async fn get(conn: &mut Conn, id: RunId) -> Result<Option<Run>> {
    let sql = concat!("SELECT ", run_columns!(), " FROM runs r JOIN ous o ON o.id = r.ou_id WHERE r.id = $1");
    conn.opt(sql, args![id]).await?.as_ref().map(record::from_row).transpose()
}

pub async fn by_uuid(conn: &mut Conn, uuid: Uuid) -> Result<Option<Run>> {
    let sql =
        concat!("SELECT ", run_columns!(), " FROM runs r JOIN ous o ON o.id = r.ou_id WHERE r.uuid = $1");
    conn.opt(sql, args![uuid]).await?.as_ref().map(record::from_row).transpose()
}

async fn by_key(conn: &mut Conn, key: &str) -> Result<Option<Run>> {
    let sql = concat!(
        "SELECT ",
        run_columns!(),
        " FROM runs r JOIN ous o ON o.id = r.ou_id WHERE r.idempotency_key = $1"
    );
    conn.opt(sql, args![key]).await?.as_ref().map(record::from_row).transpose()
}

async fn need(conn: &mut Conn, id: RunId) -> Result<Run> {
    get(conn, id).await?.ok_or_else(|| Error::not_found("run"))
}

/// The small result of a run, where it lives in the row.
pub async fn small_result(conn: &mut Conn, id: RunId) -> Result<Option<Vec<u8>>> {
    let row = conn.opt("SELECT result FROM runs WHERE id = $1", args![id]).await?;
    row.map(|row| row.bytes_opt(0)).transpose().map(Option::flatten)
}

/// What a list of runs is narrowed to. Every field that is `None` leaves things open.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Only these kinds; empty means every kind.
    pub kinds: Vec<RunKind>,
    /// Only these states; empty means every state.
    pub states: Vec<RunState>,
    pub actor_user: Option<UserId>,
    pub noun: Option<(String, i64)>,
}

fn words(items: impl Iterator<Item = &'static str>) -> Option<String> {
    let mut text = String::from(",");
    for item in items {
        text.push_str(item);
        text.push(',');
    }
    (text.len() > 1).then_some(text)
}

/// Newest first, as far as the caller sees.
pub async fn list(
    conn: &mut Conn,
    dialect: Dialect,
    sight: &Sight,
    filter: &RunFilter,
    page: Page,
) -> Result<PageOf<Run>> {
    macro_rules! wanted {
        ($position:literal, $head:expr, $tail:expr) => {
            concat!(
                $head,
                " FROM runs r JOIN ous o ON o.id = r.ou_id WHERE o.path >= $1 AND o.path < $2 \
                 AND ($3 IS NULL OR ",
                $position,
                "($3, ',' || r.kind || ',') > 0) AND ($4 IS NULL OR ",
                $position,
                "($4, ',' || r.state || ',') > 0) AND ($5 IS NULL OR r.noun = $5) \
                 AND ($6 IS NULL OR r.noun_id = $6) AND ($7 IS NULL OR (r.actor_kind = 'user' AND r.actor_id = $7)) \
                 AND ($8 IS NULL OR ",
                $position,
                "($9, ',' || r.id || ',') > 0 OR EXISTS (SELECT 1 FROM ous a WHERE ",
                $position,
                "($8, ',' || a.path || ',') > 0 AND substr(o.path, 1, length(a.path)) = a.path)) ",
                $tail
            )
        };
    }
    let wanted: Vec<Arg> = args![
        &sight.path,
        crate::identity::ous::below(&sight.path),
        words(filter.kinds.iter().map(|kind| kind.as_str())),
        words(filter.states.iter().map(|state| state.as_str())),
        filter.noun.as_ref().map(|(noun, _)| noun.clone()),
        filter.noun.as_ref().map(|(_, id)| *id),
        filter.actor_user,
        sight.roots.clone(),
        &sight.ids,
    ];
    let count =
        dialect.pick(wanted!("instr", "SELECT count(*)", ""), wanted!("strpos", "SELECT count(*)", ""));
    let total = conn.one(count, wanted.clone()).await?.int(0)?.unsigned_abs();
    let rows = dialect.pick(
        wanted!("instr", concat!("SELECT ", run_columns!()), "ORDER BY r.id DESC LIMIT $10 OFFSET $11"),
        wanted!("strpos", concat!("SELECT ", run_columns!()), "ORDER BY r.id DESC LIMIT $10 OFFSET $11"),
    );
    let mut bound = wanted;
    bound.extend(args![page.limit, i64::try_from(page.offset).unwrap_or(i64::MAX)]);
    let items = conn.all(rows, bound).await?.iter().map(record::from_row).collect::<Result<_>>()?;
    Ok(PageOf { items, offset: page.offset, limit: page.limit, total })
}
