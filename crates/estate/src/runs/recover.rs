//! Nodes, their leases on runs, and the recovery of the runs of a node that is gone.

use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::ids::RunId;
use landreeve_core::{ErrorKind, Result, RunState};

use super::queue::{self, End, Lease, Threads, micros};
use super::record::{Run, RunError};
use crate::args;
use crate::plane::Registry;
use crate::store::{Conn, Notice, Tx, store_now};

/// After this many interrupted attempts, a run is not claimed again to clean up, because it may be the run that crashes
/// the server each time.
const MAX_CLEANUPS: i64 = 10;
/// A node that has not been seen for this many leases is gone for good.
const SILENT_LEASES: u32 = 10;

/// Which runs are taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Runs of nodes that are no longer registered.
    OfGoneNodes,
    /// Also runs whose lease has expired.
    WithExpiredLease,
}

/// Takes back the runs of nodes that are gone: queues them again if their kind is retried or cleans up, or else ends
/// them with a reason.
pub async fn recover(tx: &mut Tx, lost: Lost, registry: &Registry, now: Timestamp) -> Result<u64> {
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
    // Locked from here on, so that two nodes never recover the same run.
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
        take_back(tx, &run, registry, now).await?;
    }
    Ok(rows.len() as u64)
}

/// Takes back runs that are executing on this node according to the store, but are unknown to the process: the response
/// to the commit that claimed them was lost.
pub async fn recover_ghosts(
    tx: &mut Tx,
    node: i64,
    ghosts: &[(RunId, i64)],
    registry: &Registry,
    now: Timestamp,
) -> Result<()> {
    for (id, attempt) in ghosts {
        let held = tx
            .opt(
                "SELECT 1 FROM runs WHERE id = $1 AND attempt = $2 AND node_id = $3 AND occupies = 1 \
                 AND finished_at IS NULL",
                args![*id, *attempt, node],
            )
            .await?;
        if held.is_some() {
            let run = queue::need(tx, *id).await?;
            take_back(tx, &run, registry, now).await?;
        }
    }
    Ok(())
}

/// The threads of ended runs on these nodes died with their process.
async fn forget_threads_of_gone_nodes(tx: &mut Tx) -> Result<()> {
    tx.exec(
        "UPDATE runs SET occupies = 0, node_id = NULL WHERE occupies = 1 AND finished_at IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM nodes n WHERE n.id = runs.node_id)",
        args![],
    )
    .await
    .map(drop)
}

/// Removes nodes that died and never came back, to free the places that their threads occupied in lanes.
pub async fn forget_silent_nodes(tx: &mut Tx, lease: Duration, now: Timestamp) -> Result<()> {
    macro_rules! statement {
        ($store:ident) => {
            concat!("DELETE FROM nodes WHERE seen_at < ", store_now!($store "$1"), " - $2")
        };
    }
    let dialect = tx.dialect();
    tx.exec(
        dialect.pick(statement!(sqlite), statement!(postgres)),
        args![now, micros(lease.saturating_mul(SILENT_LEASES))],
    )
    .await
    .map(drop)
}

async fn take_back(tx: &mut Tx, run: &Run, registry: &Registry, now: Timestamp) -> Result<()> {
    let spec = registry.kind(run.kind).filter(|spec| spec.cleans_up);
    let cleans_up = spec.is_some_and(|spec| {
        // A drain adds one attempt; the other attempts were interrupted.
        let drains = run.max_attempts - i64::from(spec.retry.attempts);
        run.attempt - drains < MAX_CLEANUPS
    });
    let tried_again = run.state != RunState::Cancelling && run.attempt < run.max_attempts;
    if cleans_up || tried_again {
        tx.exec(
            "UPDATE runs SET state = 'queued', node_id = NULL, lease_until = NULL, occupies = 0, progress = 0, \
             progress_note = 'its node stopped; it is tried again', updated_at = $2, cleans_up = $3 WHERE id = $1",
            args![run.id, now, i64::from(cleans_up)],
        )
        .await?;
        tx.run_changed(run.id).await?;
        return tx.notice(Notice::Queue(run.pool)).await;
    }
    let (state, code, message) = if run.state == RunState::Cancelling {
        (RunState::Cancelled, "cancelled", "cancelled; its node stopped before confirming it")
    } else {
        (RunState::Lost, "node_lost", "the server that executed it stopped before it finished")
    };
    let error = RunError::new(ErrorKind::Unavailable, code, message);
    queue::finish(tx, run, &End::Stopped { state, error }, Threads::Gone, now).await.map(drop)
}

/// An attempt that is executing on this node according to the store.
#[derive(Debug, Clone, Copy)]
pub struct Ours {
    pub id: RunId,
    pub attempt: i64,
    /// A cancel was requested.
    pub cancelling: bool,
}

/// Extends the leases of only the runs that this process executes.
pub async fn heartbeat(
    tx: &mut Tx,
    lease: Lease,
    name: &str,
    executing: &[RunId],
    now: Timestamp,
) -> Result<Vec<Ours>> {
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
    seen(tx, lease.node, name, None, now).await?;
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
            "SELECT id, attempt, state FROM runs WHERE node_id = $1 AND occupies = 1 AND finished_at IS NULL",
            args![lease.node],
        )
        .await?;
    let ours = rows.iter().map(|row| {
        let cancelling = row.word(2, RunState::parse)? == RunState::Cancelling;
        Ok(Ours { id: row.id(0)?, attempt: row.int(1)?, cancelling })
    });
    ours.collect()
}

/// Records that the node is alive. Registers it again if its row was removed while the store was unavailable.
async fn seen(tx: &mut Tx, node: i64, name: &str, home: Option<&str>, now: Timestamp) -> Result<()> {
    macro_rules! statement {
        ($store:ident) => {
            concat!(
                "INSERT INTO nodes (id, name, home, started_at, seen_at) VALUES ($1, $2, $3, $4, ",
                store_now!($store "$4"),
                ") ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at"
            )
        };
    }
    let dialect = tx.dialect();
    tx.exec(dialect.pick(statement!(sqlite), statement!(postgres)), args![node, name, home, now])
        .await
        .map(drop)
}

/// Adds this node. An earlier one with the same home has died, because only one process at a time can use it.
pub async fn register_node(
    tx: &mut Tx,
    node: i64,
    name: &str,
    home: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    tx.exec("DELETE FROM nodes WHERE home = $1", args![home]).await?;
    seen(tx, node, name, home, now).await
}

/// Other nodes that were seen recently.
pub async fn other_nodes(conn: &mut Conn, home: &str, since: Timestamp) -> Result<Vec<String>> {
    let sql = "SELECT name FROM nodes WHERE (home IS NULL OR home <> $1) AND seen_at > $2";
    let rows = conn.all(sql, args![home, since]).await?;
    rows.iter().map(|row| row.text(0)).collect()
}

pub async fn remove_node(tx: &mut Tx, node: i64) -> Result<()> {
    tx.exec("DELETE FROM nodes WHERE id = $1", args![node]).await.map(drop)
}
