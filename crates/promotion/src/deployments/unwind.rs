//! What follows a failed, cancelled or interrupted deployment: changed servers go back to their version before, as
//! configured, and servers that are as they were go into service again. The rest stays out, and is named.
//!
//! Works from rows alone, so that another process can continue: nothing here depends on what an attempt remembers.

use std::time::Duration;

use landreeve_core::error::codes;
use landreeve_core::ids::RunId;
use landreeve_core::{Error, Result};
use landreeve_estate::args;
use landreeve_estate::store::Tx;

use super::execute::{Work, key, told};
use super::plan::{BACKUP, Direction, RECOVERY, ROLLBACK, SCRIPT_CLUSTER, SCRIPT_SERVER, Unit};
use super::tasks::{self, Named, Phase, Task, TaskState, Touched};
use crate::access::{self, NodeAccess, NodeState};
use crate::configuration::{self, Configuration, RollbackScope};
use crate::ids::{ClusterId, EnvironmentId, ServerId, TaskId};

/// Why a deployment is undone, and at which server it stopped.
pub(super) struct Cause {
    pub reason: String,
    pub at: Option<ServerId>,
}

/// A unit with the tasks of its two scripts.
struct Pair {
    unit: Unit,
    cluster: ClusterId,
    /// `the server x`
    name: String,
    out: TaskState,
    back: (TaskId, TaskState),
}

impl Pair {
    fn has(&self, touched: &Touched) -> bool {
        match self.unit {
            Unit::Cluster(id) => touched.cluster == Some(id.0),
            Unit::Server(id) => touched.server == id,
        }
    }

    /// It was taken out of service, and nothing was tried to take it back.
    fn is_out(&self) -> bool {
        self.out == TaskState::Ok && self.back.1 == TaskState::Pending
    }

    /// A script of it was begun that did not succeed: whether it is in service is not known.
    fn is_doubtful(&self) -> bool {
        let tried = |state| matches!(state, TaskState::InProgress | TaskState::Error);
        tried(self.out) || (self.out == TaskState::Ok && tried(self.back.1))
    }
}

/// What became of the servers.
#[derive(Default)]
struct Report {
    rolled_back: Vec<String>,
    left: Vec<String>,
    unknown: Vec<String>,
    out: Vec<String>,
    doubtful: Vec<String>,
}

impl Report {
    /// What is where.
    fn text(&self, reason: &str) -> String {
        let mut text = reason.to_owned();
        for (what, names) in [
            ("rolled back", &self.rolled_back),
            ("left with the new version", &self.left),
            ("possibly with the new version, because the node does not answer", &self.unknown),
            ("out of service", &self.out),
            ("possibly out of service", &self.doubtful),
        ] {
            if !names.is_empty() {
                text.push_str(&format!("; {what}: {}", names.join(", ")));
            }
        }
        text
    }
}

/// Undoes what was done, and returns what is where now.
pub(super) async fn unwind(work: &Work<'_>, configuration: &Configuration, cause: &Cause) -> Result<String> {
    settle(work).await?;
    let estate = work.plane.estate();
    let tasks = tasks::load(&mut estate.store().read().await?, work.id, None).await?;
    let servers = tasks::servers(&mut estate.store().read().await?, work.id).await?;
    let pairs = pairs(&tasks);
    // An attempt before this one may have got further than to the beginning.
    let named = |test: fn(&Pair) -> bool| -> Vec<String> {
        pairs.iter().filter(|pair| test(pair)).map(|pair| pair.name.clone()).collect()
    };
    let rolled_back = servers.iter().rev().filter(|touched| touched.phase == Phase::RolledBack);
    let mut report = Report {
        rolled_back: rolled_back.map(|touched| touched.name.clone()).collect(),
        out: named(|pair| pair.out == TaskState::Ok && pair.back.1 == TaskState::Skipped),
        doubtful: named(Pair::is_doubtful),
        ..Report::default()
    };
    let kept: Vec<TaskId> = pairs.iter().filter(|pair| pair.is_out()).map(|pair| pair.back.0).collect();
    skip_rest(work, &tasks, &kept).await?;
    let unknown = servers.iter().filter(|touched| touched.is_unknown());
    report.unknown.extend(unknown.map(|touched| touched.name.clone()));
    let mut changed: Vec<ServerId> = Vec::new();
    for touched in servers.iter().rev().filter(|touched| touched.is_changed()) {
        if in_scope(configuration, &servers, cause.at) && roll_back(work, touched).await? {
            report.rolled_back.push(touched.name.clone());
        } else {
            report.left.push(touched.name.clone());
            changed.push(touched.server);
        }
    }
    for pair in pairs.iter().filter(|pair| pair.is_out()) {
        let members: Vec<ServerId> =
            servers.iter().filter(|touched| pair.has(touched)).map(|touched| touched.server).collect();
        if let Some(why) = stays_out(&servers, &members, &changed) {
            let output = format!(" - it stays out of service, because it {why}");
            work.end(vec![(pair.back.0, TaskState::Skipped, output)]).await?;
            report.out.push(pair.name.clone());
        } else if work
            .run_script(configuration, pair.cluster, pair.unit, Direction::Back, pair.back.0)
            .await?
        {
            back(work, &servers, members).await?;
        } else {
            report.out.push(pair.name.clone());
        }
    }
    report.rolled_back.reverse();
    report.left.reverse();
    Ok(report.text(&cause.reason))
}

/// Why these servers are not taken into service again.
fn stays_out(servers: &[Touched], members: &[ServerId], changed: &[ServerId]) -> Option<&'static str> {
    if members.iter().any(|server| changed.contains(server)) {
        return Some("has the new version");
    }
    let mut unknown = servers.iter().filter(|touched| touched.is_unknown());
    unknown.any(|touched| members.contains(&touched.server)).then_some("may have the new version")
}

/// After a crash: finds out what became of each server, undoes it, and says so in a last task.
pub(super) async fn recover(work: &Work<'_>) -> Result<String> {
    let (id, now) = (work.id, work.plane.estate().now());
    let environment = EnvironmentId(work.input.environment);
    let configuration =
        configuration::load(&mut work.plane.estate().store().read().await?, environment).await?;
    let reason = if work.job.run.cancel_requested {
        "the server stopped while the cancelled deployment was being undone"
    } else {
        "the server stopped while it was deploying"
    };
    let cause = Cause { reason: reason.to_owned(), at: None };
    let message = unwind(work, &configuration, &cause).await?;
    let output = format!(" - {message}");
    work.write(move |tx| {
        Box::pin(async move {
            let task = tasks::add(tx, id, RECOVERY, "Recovery after an interruption", None, now).await?;
            tasks::end(tx, task, TaskState::Error, &output, now).await
        })
    })
    .await?;
    Ok(message)
}

/// How long a node that does not answer is given before it is asked again.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// What became of scripts that were sent to a node, when no answer came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Became {
    Applied(NodeState),
    /// Nothing was applied, and nothing will be.
    Nothing,
    /// The node does not say.
    Unknown,
}

impl Became {
    /// Records it for a server.
    pub async fn store(&self, tx: &mut Tx, id: RunId, server: ServerId) -> Result<()> {
        match self {
            Became::Applied(state) => tasks::set_applied(tx, id, server, state).await,
            Became::Nothing => tasks::set_phase(tx, id, server, Phase::Failed).await,
            Became::Unknown => tasks::set_phase(tx, id, server, Phase::Unknown).await,
        }
    }
}

/// Asks a node until it says what became of a key. Unless it was applied, nothing is applied under it afterwards.
pub(super) async fn became(work: &Work<'_>, node: &dyn NodeAccess, key: &str) -> Result<Became> {
    let mut pauses = PAUSES.iter();
    loop {
        match asked(node, key).await {
            Ok(Some(state)) => return Ok(Became::Applied(state)),
            Ok(None) => return Ok(Became::Nothing),
            Err(error) if access::is_own(&error) || work.is_interrupted() => return Err(error),
            // It will not say more if it is asked again.
            Err(error) if error.code != access::UNREACHABLE => return Ok(Became::Unknown),
            Err(_) => {}
        }
        let Some(pause) = pauses.next() else { return Ok(Became::Unknown) };
        tokio::time::sleep(*pause).await;
    }
}

async fn asked(node: &dyn NodeAccess, key: &str) -> Result<Option<NodeState>> {
    let applied = match node.application(key.to_owned()).await? {
        Some(applied) => Some(applied),
        None => node.withdraw(key.to_owned()).await?,
    };
    Ok(applied.map(|applied| applied.to))
}

/// Asks the node of each server that was about to change whether it did.
async fn settle(work: &Work<'_>) -> Result<()> {
    let estate = work.plane.estate();
    let servers = tasks::servers(&mut estate.store().read().await?, work.id).await?;
    for touched in servers.into_iter().filter(|touched| touched.phase == Phase::Applying) {
        let server = touched.server;
        let node = access::open(work.plane, work.ctx(), server, Some(work.fence)).await;
        let became = match node {
            Ok(node) => became(work, &*node, &key(work.job, server)).await?,
            Err(error) if access::is_own(&error) => return Err(error),
            // The server is gone, or its address or password.
            Err(_) => Became::Unknown,
        };
        let id = work.id;
        work.write(move |tx| Box::pin(async move { became.store(tx, id, server).await })).await?;
    }
    Ok(())
}

/// The scripts of a unit are in the order of their tasks: out, then back.
fn pairs(tasks: &[Task]) -> Vec<Pair> {
    let mut found: Vec<Pair> = Vec::new();
    let scripts = tasks.iter().filter(|task| [SCRIPT_SERVER, SCRIPT_CLUSTER].contains(&task.kind.as_str()));
    for task in scripts {
        let Some(cluster) = &task.cluster else { continue };
        let (unit, name) = match &task.server {
            Some((id, name)) => (Unit::Server(ServerId(*id)), format!("the server {name}")),
            None => (Unit::Cluster(ClusterId(cluster.0)), format!("the cluster {}", cluster.1)),
        };
        match found.iter_mut().find(|pair| pair.unit == unit) {
            Some(pair) => pair.back = (task.id, task.state),
            None => found.push(Pair {
                unit,
                cluster: ClusterId(cluster.0),
                name,
                out: task.state,
                back: (task.id, TaskState::Skipped),
            }),
        }
    }
    found
}

/// Ends all tasks except those that take units back into service, and the backup, which comes after them.
async fn skip_rest(work: &Work<'_>, tasks: &[Task], kept: &[TaskId]) -> Result<()> {
    let rest =
        tasks.iter().filter(|task| !task.state.is_final() && !kept.contains(&task.id) && task.kind != BACKUP);
    let end = |task: &Task| match task.state {
        TaskState::InProgress => (task.id, TaskState::Error, " - it was interrupted".to_owned()),
        _ => (task.id, TaskState::Skipped, tasks::SKIPPED.to_owned()),
    };
    let ends: Vec<(TaskId, TaskState, String)> = rest.map(end).collect();
    if ends.is_empty() { Ok(()) } else { work.end(ends).await }
}

/// Whether changed servers are rolled back.
fn in_scope(configuration: &Configuration, servers: &[Touched], at: Option<ServerId>) -> bool {
    let touched: Vec<ServerId> =
        servers.iter().filter(|touched| touched.is_touched()).map(|touched| touched.server).collect();
    configuration.rollback_enabled
        && match configuration.rollback_scope {
            RollbackScope::AllTouched => true,
            RollbackScope::FirstServer => match (touched.as_slice(), at) {
                ([_], None) => true,
                ([first], Some(at)) => *first == at,
                _ => false,
            },
        }
}

/// Makes queries read the version before again. `false` if that is not possible.
async fn roll_back(work: &Work<'_>, touched: &Touched) -> Result<bool> {
    let (id, server, now) = (work.id, touched.server, work.plane.estate().now());
    let named: Named = (server.0, touched.name.clone());
    let name = format!("Rollback of {}", touched.name);
    work.write(move |tx| {
        Box::pin(async move { tasks::add(tx, id, ROLLBACK, &name, Some(&named), now).await.map(drop) })
    })
    .await?;
    let done = reverted(work, touched).await?;
    let (state, output, good) = match &done {
        Ok(version) => (TaskState::Ok, format!(" - queries read version {version} again"), true),
        Err(reason) => (TaskState::Error, format!(" - {reason}"), false),
    };
    let now = work.plane.estate().now();
    work.write(move |tx| {
        Box::pin(async move {
            if good {
                tasks::set_phase(tx, id, server, Phase::RolledBack).await?;
            }
            let sql = "SELECT id FROM promotion_tasks WHERE deployment_id = $1 AND type = 'ROLLBACK' \
                       AND server_id = $2 AND state = 'in_progress'";
            for row in tx.all(sql, args![id, server]).await? {
                tasks::end(tx, row.id(0)?, state, &output, now).await?;
            }
            Ok(())
        })
    })
    .await?;
    Ok(good)
}

/// The version that queries read, or why they read another. An error if that is not known, because the store does not answer.
async fn reverted(work: &Work<'_>, touched: &Touched) -> Result<std::result::Result<i64, String>> {
    let (Some(from), Some(to)) = (touched.from, touched.to) else {
        return Ok(Err(format!("it is not known what was applied to the server {}", touched.name)));
    };
    let node = match access::open(work.plane, work.ctx(), touched.server, Some(work.fence)).await {
        Ok(node) => node,
        Err(error) if error.code == codes::STORE => return Err(error),
        Err(error) => return Ok(Err(format!("the server {}: {}", touched.name, told(&error)))),
    };
    let mut pauses = PAUSES.iter();
    loop {
        let error = match revert(&*node, &touched.name, from, to).await {
            Ok(version) => return Ok(Ok(version)),
            Err(error) if error.code == codes::STORE => return Err(error),
            Err(error) => error,
        };
        // An answer that was lost is asked for again: the node may have the version by then.
        let again = error.code == access::UNREACHABLE && !work.is_interrupted();
        let Some(pause) = pauses.next().filter(|_| again) else { return Ok(Err(told(&error))) };
        tokio::time::sleep(*pause).await;
    }
}

async fn revert(node: &dyn NodeAccess, server: &str, from: i64, to: i64) -> Result<i64> {
    let state = node.state().await?;
    if state.version == from {
        // An attempt before this one got that far.
        return Ok(from);
    }
    if state.version != to {
        let message = format!(
            "the server {server} was changed by someone else meanwhile: queries read version {}",
            state.version
        );
        return Err(Error::conflict("moved", message));
    }
    node.rollback(from, state).await.map(|state| state.version)
}

/// Records that servers are in service again. What was changed or rolled back keeps its phase.
async fn back(work: &Work<'_>, servers: &[Touched], members: Vec<ServerId>) -> Result<()> {
    let unchanged: Vec<ServerId> = servers
        .iter()
        .filter(|touched| members.contains(&touched.server) && touched.to.is_none())
        .map(|touched| touched.server)
        .collect();
    let id = work.id;
    work.write(move |tx| {
        Box::pin(async move {
            for server in unchanged {
                tasks::set_phase(tx, id, server, Phase::Back).await?;
            }
            Ok(())
        })
    })
    .await
}
