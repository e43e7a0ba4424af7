//! Nodes, the leases by which they hold runs, and what becomes of the runs of one that is gone.

use jiff::Timestamp;
use landreeve_core::ids::RunId;
use landreeve_core::{ErrorKind, Result, RunState};

use super::queue::{self, End, Lease, micros};
use super::record::{Run, RunError};
use crate::args;
use crate::store::{Conn, Notice, Tx, store_now};

/// How often a run may be claimed again to clean up: one that brings its server down each time must end.
const MAX_CLEANUPS: i64 = 10;

/// Whose runs are taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Those of nodes that are not among the nodes any more.
    OfGoneNodes,
    /// Those too whose lease has run out.
    WithExpiredLease,
}

/// Takes back the runs of nodes that are gone: queued again when their kind is retried or cleans up, else ended with a
/// reason. `cleaning` are the kinds that clean up (`,backup,`).
pub async fn recover(tx: &mut Tx, lost: Lost, cleaning: &str, now: Timestamp) -> Result<u64> {
    macro_rules! statement {
        ($store:ident, $tail:literal) => {
            concat!(
                "SELECT id FROM runs WHERE occupies = 1 AND finished_at IS NULL AND (($1 = 1 AND lease_until < ",
                store_now!($store "$2"),
                ") OR NOT EXISTS (SELECT 1 FROM nodes n WHERE n.id = runs.node_id)) ORDER BY id LIMIT 1000",
                $tail
            )
        };
    }
    forget_threads_of_gone_nodes(tx).await?;
    // Locked from here on: two nodes that look at once must not both recover a run, the later one from its next node.
    let dialect = tx.dialect();
    let expired = i64::from(lost == Lost::WithExpiredLease);
    let rows = tx
        .all(
            dialect.pick(statement!(sqlite, ""), statement!(postgres, " FOR UPDATE SKIP LOCKED")),
            args![expired, now],
        )
        .await?;
    for row in &rows {
        let run = queue::need(tx, row.id(0)?).await?;
        take_back(tx, &run, cleaning, now).await?;
    }
    Ok(rows.len() as u64)
}

/// Takes back these runs of this node, which the store has as executing and the process does not know: the answer to
/// the commit that claimed them was lost.
pub async fn recover_ghosts(
    tx: &mut Tx,
    node: i64,
    ghosts: &[RunId],
    cleaning: &str,
    now: Timestamp,
) -> Result<()> {
    for id in ghosts {
        let held = tx
            .opt(
                "SELECT 1 FROM runs WHERE id = $1 AND node_id = $2 AND occupies = 1 AND finished_at IS NULL",
                args![*id, node],
            )
            .await?;
        if held.is_some() {
            let run = queue::need(tx, *id).await?;
            take_back(tx, &run, cleaning, now).await?;
        }
    }
    Ok(())
}

/// The threads of a run that had ended went with their process.
async fn forget_threads_of_gone_nodes(tx: &mut Tx) -> Result<()> {
    tx.exec(
        "UPDATE runs SET occupies = 0, node_id = NULL WHERE occupies = 1 AND finished_at IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM nodes n WHERE n.id = runs.node_id)",
        args![],
    )
    .await
    .map(drop)
}

async fn take_back(tx: &mut Tx, run: &Run, cleaning: &str, now: Timestamp) -> Result<()> {
    let cleans_up = cleaning.contains(&format!(",{},", run.kind)) && run.attempt < MAX_CLEANUPS;
    let tried_again = run.state != RunState::Cancelling && run.attempt < run.max_attempts;
    if cleans_up || tried_again {
        tx.exec(
            "UPDATE runs SET state = 'queued', node_id = NULL, lease_until = NULL, occupies = 0, progress = 0, \
             progress_note = 'its node stopped; it is tried again', updated_at = $2 WHERE id = $1",
            args![run.id, now],
        )
        .await?;
        tx.run_changed(run.id).await?;
        return tx.notice(Notice::Queue(run.pool)).await;
    }
    let (state, code, message) = if run.state == RunState::Cancelling {
        (RunState::Cancelled, "cancelled", "cancelled; its node stopped before it could say so")
    } else {
        (RunState::Lost, "node_lost", "the server that executed it stopped before it ended")
    };
    let error = RunError::new(ErrorKind::Unavailable, code, message);
    queue::finish(tx, run, &End::Stopped { state, error, lingers: false }, now).await.map(drop)
}

/// What a heartbeat found.
#[derive(Debug, Default)]
pub struct Beat {
    /// Runs of ours that were asked to stop.
    pub cancelled: Vec<RunId>,
    /// Runs that the store has as ours, executing.
    pub ours: Vec<RunId>,
}

/// Extends the leases of the runs that this process executes (`,7,9,`), and of no others.
pub async fn heartbeat(tx: &mut Tx, lease: Lease, executing: &[RunId], now: Timestamp) -> Result<Beat> {
    macro_rules! statement {
        ($store:ident, $list:literal) => {
            concat!(
                "UPDATE runs SET lease_until = ",
                store_now!($store "$4"),
                " + $3 WHERE node_id = $1 AND occupies = 1 AND finished_at IS NULL AND id IN (",
                $list,
                ")"
            )
        };
    }
    tx.exec("UPDATE nodes SET seen_at = $2 WHERE id = $1", args![lease.node, now]).await?;
    let ids = executing.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(",");
    let dialect = tx.dialect();
    tx.exec(
        dialect.pick(
            statement!(sqlite, "SELECT value FROM json_each('[' || $2 || ']')"),
            statement!(postgres, "SELECT unnest(string_to_array($2, ','))::bigint"),
        ),
        args![lease.node, ids, micros(lease.term), now],
    )
    .await?;
    let rows = tx
        .all(
            "SELECT id, state FROM runs WHERE node_id = $1 AND occupies = 1 AND finished_at IS NULL",
            args![lease.node],
        )
        .await?;
    let mut beat = Beat::default();
    for row in &rows {
        let id = row.id(0)?;
        if row.word(1, RunState::parse)? == RunState::Cancelling {
            beat.cancelled.push(id);
        }
        beat.ours.push(id);
    }
    Ok(beat)
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
