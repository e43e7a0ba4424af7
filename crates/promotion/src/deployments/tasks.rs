//! The tasks of deployments as rows, and what deployments have done to servers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use landreeve_core::Result;
use landreeve_core::ids::RunId;
use landreeve_estate::args;
use landreeve_estate::store::{Conn, Row, Tx, next_in};

use super::plan::{PlannedTask, Step};
use crate::access::NodeState;
use crate::ids::{ServerId, TaskId};

/// The output of a task that was not reached.
pub const SKIPPED: &str = " - skipped: the deployment ended before";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaskState {
    Pending,
    InProgress,
    Ok,
    Warning,
    Error,
    /// Not executed, because the deployment ended before.
    Skipped,
    /// Its cluster or server is disabled.
    Disabled,
}

impl TaskState {
    const ALL: [TaskState; 7] = [
        TaskState::Pending,
        TaskState::InProgress,
        TaskState::Ok,
        TaskState::Warning,
        TaskState::Error,
        TaskState::Skipped,
        TaskState::Disabled,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            TaskState::Pending => "pending",
            TaskState::InProgress => "in_progress",
            TaskState::Ok => "ok",
            TaskState::Warning => "warning",
            TaskState::Error => "error",
            TaskState::Skipped => "skipped",
            TaskState::Disabled => "disabled",
        }
    }

    fn parse(text: &str) -> Option<TaskState> {
        TaskState::ALL.into_iter().find(|known| known.as_str() == text)
    }

    pub const fn is_final(self) -> bool {
        !matches!(self, TaskState::Pending | TaskState::InProgress)
    }
}

/// An id and a name.
pub type Named = (i64, String);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub id: TaskId,
    pub position: i64,
    pub name: String,
    /// `VQL`, `SCRIPT_SERVER`, `ROLLBACK`, …
    pub kind: String,
    pub cluster: Option<Named>,
    pub server: Option<Named>,
    pub state: TaskState,
    pub output: String,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub updated_at: Timestamp,
}

fn named(row: &Row, at: usize) -> Result<Option<Named>> {
    Ok(match (row.int_opt(at)?, row.text_opt(at + 1)?) {
        (Some(id), Some(name)) => Some((id, name)),
        _ => None,
    })
}

fn from_row(row: &Row) -> Result<Task> {
    Ok(Task {
        id: row.id(0)?,
        position: row.int(1)?,
        name: row.text(2)?,
        kind: row.text(3)?,
        cluster: named(row, 4)?,
        server: named(row, 6)?,
        state: row.word(8, TaskState::parse)?,
        output: row.text(9)?,
        started_at: row.time_opt(10)?,
        ended_at: row.time_opt(11)?,
        updated_at: row.time(12)?,
    })
}

/// The tasks of a deployment in their order, or only those that changed at or after a time.
pub async fn load(conn: &mut Conn, deployment: RunId, since: Option<Timestamp>) -> Result<Vec<Task>> {
    let sql = "SELECT id, position, name, type, cluster_id, cluster_name, server_id, server_name, state, output, \
               started_at, ended_at, updated_at FROM promotion_tasks WHERE deployment_id = $1 AND updated_at >= $2 \
               ORDER BY position";
    let since = since.map_or(i64::MIN, Timestamp::as_microsecond);
    let rows = conn.all(sql, args![deployment, since]).await?;
    rows.iter().map(from_row).collect()
}

/// How many tasks there are and how many have ended. What undoes a failed deployment does not count, because it was not
/// planned.
pub async fn counts(conn: &mut Conn, deployment: RunId) -> Result<(i64, i64)> {
    let sql = "SELECT count(*), COALESCE(sum(CASE WHEN state IN ('pending', 'in_progress') THEN 0 ELSE 1 END), 0) \
               FROM promotion_tasks WHERE deployment_id = $1 AND type NOT IN ('ROLLBACK', 'RECOVERY') \
               AND state <> 'disabled'";
    let row = conn.one(sql, args![deployment]).await?;
    Ok((row.int(0)?, row.int(1)?))
}

/// Writes all tasks of a plan, with the rows of its servers. Those written before are replaced.
pub async fn write_plan(
    tx: &mut Tx,
    deployment: RunId,
    tasks: &[PlannedTask],
    servers: &[(ServerId, String)],
    now: Timestamp,
) -> Result<()> {
    tx.exec("DELETE FROM promotion_tasks WHERE deployment_id = $1", args![deployment]).await?;
    tx.exec("DELETE FROM promotion_deployment_servers WHERE deployment_id = $1", args![deployment]).await?;
    for (position, task) in (1_i64..).zip(tasks) {
        let disabled = task.step == Step::Disabled;
        let state = if disabled { TaskState::Disabled } else { TaskState::Pending };
        let id = next_in(tx, TaskId::KIND).await?;
        tx.exec_later(
            "INSERT INTO promotion_tasks (id, deployment_id, position, name, type, cluster_id, cluster_name, server_id, \
             server_name, state, output, started_at, ended_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, '', $11, $11, $12)",
            args![
                id,
                deployment,
                position,
                &task.name,
                task.kind(),
                task.cluster.0,
                &task.cluster.1,
                task.server.as_ref().map(|(id, _)| *id),
                task.server.as_ref().map(|(_, name)| name.clone()),
                state.as_str(),
                disabled.then_some(now),
                now,
            ],
        )
        .await?;
    }
    for (server, name) in servers {
        tx.exec_later(
            "INSERT INTO promotion_deployment_servers (deployment_id, server_id, server_name, phase) \
             VALUES ($1, $2, $3, 'planned')",
            args![deployment, *server, name],
        )
        .await?;
    }
    Ok(())
}

/// Adds a task that was not planned, as the last one.
pub async fn add(
    tx: &mut Tx,
    deployment: RunId,
    kind: &'static str,
    name: &str,
    server: Option<&Named>,
    now: Timestamp,
) -> Result<TaskId> {
    let id = TaskId(next_in(tx, TaskId::KIND).await?);
    tx.exec(
        "INSERT INTO promotion_tasks (id, deployment_id, position, name, type, server_id, server_name, state, output, \
         started_at, updated_at) SELECT $1, $2, COALESCE(max(position), 0) + 1, $3, $4, $5, $6, 'in_progress', '', $7, $7 \
         FROM promotion_tasks WHERE deployment_id = $2",
        args![
            id,
            deployment,
            name,
            kind,
            server.map(|(id, _)| *id),
            server.map(|(_, name)| name.clone()),
            now,
        ],
    )
    .await?;
    Ok(id)
}

pub async fn begin(tx: &mut Tx, task: TaskId, now: Timestamp) -> Result<()> {
    tx.exec(
        "UPDATE promotion_tasks SET state = 'in_progress', started_at = $2, updated_at = $2 \
         WHERE id = $1 AND state = 'pending'",
        args![task, now],
    )
    .await
    .map(drop)
}

/// A task that has ended stays as it is.
pub async fn end(tx: &mut Tx, task: TaskId, state: TaskState, output: &str, now: Timestamp) -> Result<()> {
    tx.exec(
        "UPDATE promotion_tasks SET state = $2, output = $3, started_at = CASE WHEN $2 = 'skipped' THEN started_at ELSE \
         COALESCE(started_at, $4) END, ended_at = $4, updated_at = $4 \
         WHERE id = $1 AND state IN ('pending', 'in_progress')",
        args![task, state.as_str(), output, now],
    )
    .await
    .map(drop)
}

/// How far a deployment got with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Planned,
    /// Taken out of service.
    Out,
    Applying,
    Applied,
    /// Nothing was applied.
    Failed,
    /// The node does not say whether something was applied.
    Unknown,
    RolledBack,
    /// In service again.
    Back,
}

impl Phase {
    const ALL: [Phase; 8] = [
        Phase::Planned,
        Phase::Out,
        Phase::Applying,
        Phase::Applied,
        Phase::Failed,
        Phase::Unknown,
        Phase::RolledBack,
        Phase::Back,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Planned => "planned",
            Phase::Out => "out",
            Phase::Applying => "applying",
            Phase::Applied => "applied",
            Phase::Failed => "failed",
            Phase::Unknown => "unknown",
            Phase::RolledBack => "rolled_back",
            Phase::Back => "back",
        }
    }

    fn parse(text: &str) -> Option<Phase> {
        Phase::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

/// What a deployment has done to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    pub server: ServerId,
    pub name: String,
    pub from: Option<i64>,
    pub to: Option<i64>,
    pub phase: Phase,
    /// `None` if the server is gone.
    pub cluster: Option<i64>,
}

impl Touched {
    /// Whether the deployment began to change it.
    pub fn is_touched(&self) -> bool {
        self.from.is_some()
    }

    /// Whether it is not known if queries read what the deployment was to apply.
    pub fn is_unknown(&self) -> bool {
        self.phase == Phase::Unknown
    }

    /// Whether queries read what the deployment applied.
    pub fn is_changed(&self) -> bool {
        self.to.is_some() && self.to != self.from && self.phase != Phase::RolledBack
    }
}

/// The servers of a deployment, in the order in which they are changed.
pub async fn servers(conn: &mut Conn, deployment: RunId) -> Result<Vec<Touched>> {
    let sql = "SELECT s.server_id, s.server_name, s.from_version, s.to_version, s.phase, p.cluster_id \
               FROM promotion_deployment_servers s LEFT JOIN promotion_servers p ON p.id = s.server_id \
               WHERE s.deployment_id = $1 ORDER BY (SELECT min(t.position) FROM promotion_tasks t \
               WHERE t.deployment_id = s.deployment_id AND t.server_id = s.server_id AND t.type = 'VQL'), s.server_id";
    let rows = conn.all(sql, args![deployment]).await?;
    let touched = |row: &Row| {
        Ok(Touched {
            server: row.id(0)?,
            name: row.text(1)?,
            from: row.int_opt(2)?,
            to: row.int_opt(3)?,
            phase: row.word(4, Phase::parse)?,
            cluster: row.int_opt(5)?,
        })
    };
    rows.iter().map(touched).collect()
}

pub async fn set_phase(tx: &mut Tx, deployment: RunId, server: ServerId, phase: Phase) -> Result<()> {
    tx.exec(
        "UPDATE promotion_deployment_servers SET phase = $3 WHERE deployment_id = $1 AND server_id = $2",
        args![deployment, server, phase.as_str()],
    )
    .await
    .map(drop)
}

/// Records that a server is about to change, and from which version.
pub async fn set_applying(tx: &mut Tx, deployment: RunId, server: ServerId, from: i64) -> Result<()> {
    tx.exec(
        "UPDATE promotion_deployment_servers SET phase = 'applying', from_version = $3 \
         WHERE deployment_id = $1 AND server_id = $2",
        args![deployment, server, from],
    )
    .await
    .map(drop)
}

pub async fn set_applied(tx: &mut Tx, deployment: RunId, server: ServerId, to: &NodeState) -> Result<()> {
    tx.exec(
        "UPDATE promotion_deployment_servers SET phase = 'applied', to_version = $3, to_hash = $4 \
         WHERE deployment_id = $1 AND server_id = $2",
        args![deployment, server, to.version, &to.content_hash],
    )
    .await
    .map(drop)
}

/// The ids of a deployment's tasks by their positions.
pub async fn ids(conn: &mut Conn, deployment: RunId) -> Result<BTreeMap<i64, TaskId>> {
    let sql = "SELECT position, id FROM promotion_tasks WHERE deployment_id = $1";
    let rows = conn.all(sql, args![deployment]).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.id(1)?))).collect()
}
