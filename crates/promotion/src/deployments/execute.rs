//! The run of a deployment. Its first attempt deploys; a later one finds out what was left behind, and undoes it.

use std::collections::BTreeMap;
use std::time::Duration;

use landreeve_core::error::codes;
use landreeve_core::ids::{BoxFuture, RunId};
use landreeve_core::{Action, Error, ErrorKind, OpCtx, Result};
use landreeve_estate::args;
use landreeve_estate::runs::queue::Submitter;
use landreeve_estate::runs::{Done, Executor, Failure, Job, Outcome, StopReason};
use landreeve_estate::store::Tx;

use super::check::{Checked, check, masked};
use super::plan::{Direction, Group, How, Plan, Step, Target, Unit, plan};
use super::start::refusal;
use super::tasks::{self, Phase, TaskState};
use super::unwind::{self, Became, Cause};
use super::{State, backup, finish, scripts};
use crate::access::{self, Listed, NodeAccess, NodeDone, NodeState, NodeWork, ScriptDone};
use crate::apply::Fence;
use crate::configuration::Configuration;
use crate::environments;
use crate::ids::{ClusterId, EnvironmentId, RevisionId, ServerId, TaskId};
use crate::plane::Promotion;
use crate::revisions;
use crate::stored::StoredDeployment;

/// Deploys.
pub struct Deployer(pub Promotion);

impl Executor for Deployer {
    fn execute<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let work = Work::new(&self.0, job)?;
            match work.run().await {
                Ok(outcome) => outcome,
                // Another attempt continues, and this one must write nothing more.
                Err(_) if work.is_interrupted() => Err(Failure::cancelled()),
                Err(error) => Err(error.into()),
            }
        })
    }
}

/// Why deploying stopped.
pub(super) enum Halt {
    /// What to tell, and the server that it was about.
    Failed(String, Option<ServerId>),
    Cancelled(Option<ServerId>),
}

/// One attempt of a deployment.
pub(super) struct Work<'a> {
    pub plane: &'a Promotion,
    pub job: &'a Job,
    pub id: RunId,
    pub fence: Fence,
    pub input: StoredDeployment,
}

/// What an attempt needs in order to deploy.
struct Prepared {
    checked: Checked,
    plan: Plan,
    /// Each step of the plan has a task.
    tasks: Vec<(Step, TaskId)>,
}

impl Prepared {
    fn task(&self, step: &Step) -> Result<TaskId> {
        let found = self.tasks.iter().find(|(known, _)| known == step).map(|(_, id)| *id);
        found.ok_or_else(|| Error::internal("a step of a deployment has no task"))
    }
}

/// How often and how long a write is tried again while the store is unavailable.
const TRIES: usize = 60;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

impl<'a> Work<'a> {
    fn new(plane: &'a Promotion, job: &'a Job) -> Result<Work<'a>> {
        let input: StoredDeployment = serde_json::from_str(&job.run.input).map_err(Error::internal)?;
        let fence = Fence { run: job.run.id, attempt: job.run.attempt };
        Ok(Work { plane, job, id: job.run.id, fence, input })
    }

    pub fn ctx(&self) -> &OpCtx {
        self.job.ctx()
    }

    /// This server stops, or another one has taken over: a later attempt finishes the work.
    pub fn is_interrupted(&self) -> bool {
        matches!(self.job.stop_reason(), Some(StopReason::Draining | StopReason::TakenAway))
    }

    fn is_stopped(&self) -> bool {
        self.job.stop_reason().is_some()
    }

    /// Writes as long as this attempt is the one that counts. A deployment is not given up because its store is briefly
    /// unavailable.
    pub async fn write<F>(&self, work: F) -> Result<()>
    where
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<()>> + Clone + Send + 'static,
    {
        let (fence, mut pause) = (self.fence, FIRST_PAUSE);
        let mut left = TRIES;
        loop {
            let again = work.clone();
            let written = self.plane.estate().store().write(move |tx| {
                Box::pin(async move {
                    fence.check(tx).await?;
                    again(tx).await
                })
            });
            match written.await {
                Err(error) if error.kind == ErrorKind::Unavailable && left > 0 && !self.is_interrupted() => {
                    left -= 1;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
                other => return other,
            }
        }
    }

    /// Begins work again as long as only the store is unavailable. The work must go on from what is stored.
    async fn patiently<T, F: Future<Output = Result<T>>>(&self, work: impl Fn() -> F) -> Result<T> {
        let (mut left, mut pause) = (TRIES, FIRST_PAUSE);
        loop {
            match work().await {
                Err(error) if error.code == codes::STORE && left > 0 && !self.is_interrupted() => {
                    left -= 1;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
                other => return other,
            }
        }
    }

    async fn run(&self) -> Result<Outcome> {
        if self.job.is_cleanup() {
            // The server stopped between the end of the deployment and that of its run.
            if let Some((state, message)) = self.patiently(|| self.known_end()).await? {
                return Ok(outcome(state, message));
            }
            let message = self.patiently(|| unwind::recover(self)).await?;
            return self.finished(State::Error, message).await;
        }
        let prepared = match self.patiently(|| self.prepare()).await {
            Ok(prepared) => prepared,
            // Nothing was begun.
            Err(error) if !matches!(error.kind, ErrorKind::Internal | ErrorKind::Unavailable) => {
                return self.ended(State::Error, error.message).await;
            }
            Err(error) => return Err(error),
        };
        let mut warned = false;
        let halt = match self.deploy(&prepared, &mut warned).await {
            Ok(None) => {
                let (state, message) = if warned {
                    (State::Warning, "views became invalid; see the tasks".to_owned())
                } else {
                    (State::Ok, String::new())
                };
                return self.finished(state, message).await;
            }
            Ok(Some(halt)) => halt,
            Err(error) if self.is_interrupted() || error.code == "taken_over" => return Err(error),
            Err(error) => Halt::Failed(told(&error), None),
        };
        let (state, cause) = match halt {
            Halt::Failed(reason, at) => (State::Error, Cause { reason, at }),
            Halt::Cancelled(at) => (State::Cancelled, Cause { reason: "it was cancelled".to_owned(), at }),
        };
        let configuration = &prepared.checked.configuration;
        let message = self.patiently(|| unwind::unwind(self, configuration, &cause)).await?;
        self.finished(state, message).await
    }

    /// Commits a backup, if one is planned, then ends the deployment.
    async fn finished(&self, state: State, message: String) -> Result<Outcome> {
        const FAILED: &str = "the backup failed";
        if backup::back_up(self, state).await? {
            return self.ended(state, message).await;
        }
        let message = if message.is_empty() { FAILED.to_owned() } else { format!("{message}; {FAILED}") };
        self.ended(if state == State::Ok { State::Warning } else { state }, message).await
    }

    /// Writes the end of the deployment, then ends the run.
    async fn ended(&self, state: State, message: String) -> Result<Outcome> {
        let (id, now, copy) = (self.id, self.plane.estate().now(), message.clone());
        self.write(move |tx| {
            Box::pin(async move { finish::close(tx, id, state, &copy, now).await.map(drop) })
        })
        .await?;
        Ok(outcome(state, message))
    }

    /// The end that an earlier attempt wrote.
    async fn known_end(&self) -> Result<Option<(State, String)>> {
        let sql = "SELECT state, message FROM promotion_deployments WHERE id = $1";
        let row = self.plane.estate().store().read().await?.opt(sql, args![self.id]).await?;
        let Some(row) = row else { return Ok(Some((State::Cancelled, String::new()))) };
        let state = row.word(0, State::parse)?;
        Ok((state != State::InProgress).then_some((state, row.text(1)?)))
    }

    /// Checks everything again: since it was submitted, permissions, properties and the environment may have changed.
    async fn prepare(&self) -> Result<Prepared> {
        let (plane, ctx) = (self.plane, self.ctx());
        let id = EnvironmentId(self.input.environment);
        let environment = environments::for_promotion(plane, ctx, id, Action::USE).await?;
        let own = Submitter::from(ctx.actor()).key();
        let mut found = Vec::new();
        for id in &self.input.revisions {
            let revision =
                revisions::find(&mut plane.estate().store().read().await?, RevisionId(*id)).await?;
            found.push(revision.ok_or_else(|| Error::not_found("revision"))?);
        }
        if found.iter().any(|revision| revision.owner != own) {
            environments::require_deploy(plane, ctx, &environment, Action::MANAGE).await?;
        }
        let checked = check(plane, ctx, environment, &found).await?;
        if !checked.faults.is_empty() {
            return Err(refusal(&checked.faults));
        }
        if let Some(problems) = checked.validation.problems.first() {
            let what =
                problems.missing.iter().chain(&problems.faults).cloned().collect::<Vec<_>>().join("; ");
            let message =
                format!("the properties of the revision {} are not in order: {what}", problems.revision);
            return Err(Error::conflict("invalid", message));
        }
        let names: Vec<String> = found.iter().map(|revision| revision.name.clone()).collect();
        let plan = plan(&checked.places, How::of(&checked.configuration), &names);
        let tasks = self.planned(&plan).await?;
        Ok(Prepared { checked, plan, tasks })
    }

    /// The ids of the plan's tasks. If the environment has changed since they were planned, they are planned again.
    async fn planned(&self, plan: &Plan) -> Result<Vec<(Step, TaskId)>> {
        let estate = self.plane.estate();
        let known = tasks::load(&mut estate.store().read().await?, self.id, None).await?;
        let same = known.len() == plan.tasks.len()
            && known.iter().zip(&plan.tasks).all(|(known, planned)| {
                let server = planned.server.as_ref().map(|(id, _)| id.0);
                known.name == planned.name
                    && known.kind == planned.kind()
                    && known.cluster.as_ref().map(|(id, _)| *id) == Some(planned.cluster.0.0)
                    && known.server.as_ref().map(|(id, _)| *id) == server
            });
        if !same {
            let (id, now, planned) = (self.id, estate.now(), plan.tasks.clone());
            let servers: Vec<(ServerId, String)> =
                plan.targets().map(|target| (target.id, target.name.clone())).collect();
            self.write(move |tx| {
                Box::pin(async move { tasks::write_plan(tx, id, &planned, &servers, now).await })
            })
            .await?;
        }
        let ids: BTreeMap<i64, TaskId> = tasks::ids(&mut estate.store().read().await?, self.id).await?;
        let steps = plan.tasks.iter().map(|task| task.step.clone());
        Ok(steps.zip(ids.into_values()).collect())
    }

    /// `None` if everything was deployed.
    async fn deploy(&self, prepared: &Prepared, warned: &mut bool) -> Result<Option<Halt>> {
        for group in &prepared.plan.groups {
            if let Some(halt) = self.group(prepared, group, warned).await? {
                return Ok(Some(halt));
            }
        }
        Ok(None)
    }

    async fn group(&self, prepared: &Prepared, group: &Group, warned: &mut bool) -> Result<Option<Halt>> {
        for unit in &group.units {
            if let Some(halt) = self.at_boundary(last_of(group, *unit))? {
                return Ok(Some(halt));
            }
            if let Some(halt) = self.script(prepared, group, *unit, Direction::Out).await? {
                return Ok(Some(halt));
            }
        }
        for target in &group.targets {
            if let Some(halt) = self.at_boundary(Some(target.id))? {
                return Ok(Some(halt));
            }
            if let Some(halt) = self.server(prepared, target, warned).await? {
                return Ok(Some(halt));
            }
            self.report(prepared, target);
            if let Some(halt) = self.at_boundary(Some(target.id))? {
                return Ok(Some(halt));
            }
        }
        for unit in &group.units {
            if let Some(halt) = self.script(prepared, group, *unit, Direction::Back).await? {
                return Ok(Some(halt));
            }
        }
        Ok(None)
    }

    /// For those who see the run and not its tasks.
    fn report(&self, prepared: &Prepared, target: &Target) {
        let all = prepared.plan.targets().count();
        let done = prepared.plan.targets().position(|known| known.id == target.id).map_or(0, |at| at + 1);
        let percent = u8::try_from(done * 100 / all.max(1)).unwrap_or(99).min(99);
        self.job.report(percent, format!("deployed to {done} of {all} servers"));
    }

    /// Between two steps a deployment can be cancelled.
    fn at_boundary(&self, server: Option<ServerId>) -> Result<Option<Halt>> {
        if self.is_interrupted() {
            return Err(Error::conflict("taken_over", "this server stops"));
        }
        Ok(self.is_stopped().then_some(Halt::Cancelled(server)))
    }

    /// Takes a unit out of service, or back.
    async fn script(
        &self,
        prepared: &Prepared,
        group: &Group,
        unit: Unit,
        direction: Direction,
    ) -> Result<Option<Halt>> {
        let task = prepared.task(&Step::Script(unit, direction))?;
        let members: Vec<ServerId> = members(group, unit).map(|target| target.id).collect();
        let Some(first) = members_first(group, unit) else { return Ok(None) };
        let configuration = &prepared.checked.configuration;
        let ran = self.run_script(configuration, first.cluster, unit, direction, task).await?;
        if !ran {
            let word = if direction == Direction::Out { "out of service" } else { "into service" };
            let reason = format!("the script that takes {} {word} failed", name_of(prepared, unit));
            return Ok(Some(Halt::Failed(reason, last_of(group, unit))));
        }
        let phase = if direction == Direction::Out { Phase::Out } else { Phase::Back };
        let id = self.id;
        self.write(move |tx| {
            Box::pin(async move {
                for server in members {
                    tasks::set_phase(tx, id, server, phase).await?;
                }
                Ok(())
            })
        })
        .await?;
        Ok(None)
    }

    /// Runs the script of a task. `false` if it failed.
    pub async fn run_script(
        &self,
        configuration: &Configuration,
        cluster: ClusterId,
        unit: Unit,
        direction: Direction,
        task: TaskId,
    ) -> Result<bool> {
        self.begin(vec![task]).await?;
        let ran = match scripts::of_step(configuration, unit, direction) {
            Some(script) => {
                let variables = scripts::variables(self.plane, cluster, unit).await?;
                scripts::run(self.plane, script, &variables).await?
            }
            None => scripts::Ran {
                succeeded: false,
                output: " - the deployment configuration has no script for this".to_owned(),
            },
        };
        let state = if ran.succeeded { TaskState::Ok } else { TaskState::Error };
        self.end(vec![(task, state, ran.output)]).await?;
        Ok(ran.succeeded)
    }

    pub async fn begin(&self, tasks: Vec<TaskId>) -> Result<()> {
        let now = self.plane.estate().now();
        self.write(move |tx| {
            Box::pin(async move {
                for task in tasks {
                    tasks::begin(tx, task, now).await?;
                }
                Ok(())
            })
        })
        .await
    }

    pub async fn end(&self, ends: Vec<(TaskId, TaskState, String)>) -> Result<()> {
        let now = self.plane.estate().now();
        self.write(move |tx| {
            Box::pin(async move {
                for (task, state, output) in ends {
                    tasks::end(tx, task, state, &output, now).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Applies all revisions to one server, as one.
    async fn server(&self, prepared: &Prepared, target: &Target, warned: &mut bool) -> Result<Option<Halt>> {
        let estate = self.plane.estate();
        let checked = &prepared.checked;
        let mut ids = Vec::with_capacity(checked.scripts.len());
        for at in 0..checked.scripts.len() {
            ids.push(prepared.task(&Step::Vql(target.id, at))?);
        }
        let (id, server) = (self.id, target.id);
        let (node, state) = match self.patiently(|| self.found(target)).await {
            Ok(found) => found,
            Err(error) if access::is_own(&error) => return Err(error),
            Err(error) => {
                let reason = masked(&told(&error), &checked.secrets);
                self.end(all_failed(&ids, &reason)).await?;
                return Ok(Some(Halt::Failed(reason, Some(target.id))));
            }
        };
        let (from, now, begun) = (state.version, estate.now(), ids.clone());
        self.write(move |tx| {
            Box::pin(async move {
                tasks::set_applying(tx, id, server, from).await?;
                for task in begun {
                    tasks::begin(tx, task, now).await?;
                }
                Ok(())
            })
        })
        .await?;
        let (scripts, properties) = (checked.scripts.clone(), checked.properties.clone());
        let key = key(self.job, target.id);
        let done = node.apply(NodeWork { scripts, properties }, state, key.clone()).await;
        let (ends, became) = match done {
            Ok(done) if done.failed() => (ends(&ids, &done, &checked.secrets), Became::Nothing),
            Ok(done) => (ends(&ids, &done, &checked.secrets), Became::Applied(done.after)),
            // The store may have it although its answer was lost.
            Err(error) if access::is_own(&error) => return Err(error),
            Err(error) if error.code == access::UNREACHABLE => {
                let became = unwind::became(self, &*node, &key).await?;
                (lost(&ids, &masked(&told(&error), &checked.secrets), &became), became)
            }
            Err(error) => (all_failed(&ids, &masked(&told(&error), &checked.secrets)), Became::Nothing),
        };
        *warned |= ends.iter().any(|(_, state, _)| *state == TaskState::Warning);
        let (applied, now) = (matches!(became, Became::Applied(_)), estate.now());
        self.write(move |tx| {
            Box::pin(async move {
                became.store(tx, id, server).await?;
                for (task, state, output) in ends {
                    tasks::end(tx, task, state, &output, now).await?;
                }
                Ok(())
            })
        })
        .await?;
        let reason = format!("the revisions could not be applied to the server {}", target.name);
        Ok((!applied).then_some(Halt::Failed(reason, Some(target.id))))
    }

    /// The node of a server, and what it has now.
    async fn found(&self, target: &Target) -> Result<(Box<dyn NodeAccess + '_>, NodeState)> {
        let node = access::open(self.plane, self.ctx(), target.id, Some(self.fence)).await?;
        let state = node.state().await?;
        Ok((node, state))
    }
}

/// The end of the run of a deployment that ended so.
fn outcome(state: State, message: String) -> Outcome {
    match state {
        State::Ok | State::Warning | State::InProgress => Ok(Done::default()),
        State::Cancelled => Err(Failure::cancelled()),
        State::Error => Err(Failure::new(ErrorKind::Conflict, "deployment_failed", message)),
    }
}

/// What scripts are applied under, so that it can be found out later whether they were.
/// Unique even if the metadata is restored from a backup or several estates deploy to the same node.
pub(super) fn key(job: &Job, server: ServerId) -> String {
    format!("deployment:{}:{server}", job.run.uuid)
}

fn members(group: &Group, unit: Unit) -> impl Iterator<Item = &Target> {
    group.targets.iter().filter(move |target| match unit {
        Unit::Cluster(id) => target.cluster == id,
        Unit::Server(id) => target.id == id,
    })
}

fn members_first(group: &Group, unit: Unit) -> Option<&Target> {
    members(group, unit).next()
}

fn last_of(group: &Group, unit: Unit) -> Option<ServerId> {
    members(group, unit).last().map(|target| target.id)
}

fn name_of(prepared: &Prepared, unit: Unit) -> String {
    let places = &prepared.checked.places;
    let name = match unit {
        Unit::Cluster(id) => {
            places.iter().find(|place| place.id == id).map(|place| format!("the cluster {}", place.name))
        }
        Unit::Server(id) => places
            .iter()
            .flat_map(|place| &place.servers)
            .find(|server| server.id == id)
            .map(|server| format!("the server {}", server.name)),
    };
    name.unwrap_or_default()
}

/// The message of an error, with its faults.
pub(super) fn told(error: &Error) -> String {
    if error.kind == ErrorKind::Internal {
        return "internal error".to_owned();
    }
    match error.faults.as_slice() {
        [] => error.message.clone(),
        faults => {
            let each = faults.iter().map(|fault| format!("{} {}", fault.field, fault.message));
            each.map(|text| text.trim_start().to_owned()).collect::<Vec<_>>().join("; ")
        }
    }
}

/// Nothing was applied, for a reason that is not in one of the revisions.
fn all_failed(ids: &[TaskId], reason: &str) -> Vec<(TaskId, TaskState, String)> {
    let first = |at: usize| if at == 0 { TaskState::Error } else { TaskState::Skipped };
    let output = |at: usize| if at == 0 { format!(" - {reason}") } else { tasks::SKIPPED.to_owned() };
    ids.iter().enumerate().map(|(at, id)| (*id, first(at), output(at))).collect()
}

/// The end of each revision's task if the answer of the node was lost, for this reason.
fn lost(ids: &[TaskId], reason: &str, became: &Became) -> Vec<(TaskId, TaskState, String)> {
    match became {
        Became::Applied(_) => {
            let output = format!(" - it was applied, but the answer of the node was lost: {reason}");
            ids.iter().map(|id| (*id, TaskState::Ok, output.clone())).collect()
        }
        Became::Nothing => all_failed(ids, &format!("{reason}; nothing was applied")),
        Became::Unknown => all_failed(ids, &format!("{reason}; whether something was applied is not known")),
    }
}

/// The end of each revision's task.
fn ends(ids: &[TaskId], done: &NodeDone, secrets: &[String]) -> Vec<(TaskId, TaskState, String)> {
    if done.is_repeated() {
        return ids
            .iter()
            .map(|id| (*id, TaskState::Ok, " - it had been applied before".to_owned()))
            .collect();
    }
    let failed = done.failed();
    let mut found: Vec<(TaskId, TaskState, String)> = Vec::with_capacity(ids.len());
    for (id, script) in ids.iter().zip(&done.scripts) {
        let state = match (failed, script.failed > 0) {
            (false, _) => TaskState::Ok,
            (true, true) => TaskState::Error,
            (true, false) => TaskState::Skipped,
        };
        let mut output = lines(script);
        if state == TaskState::Skipped {
            output.push_str("\n - nothing was applied, because another revision failed");
        }
        found.push((*id, state, masked(&output, secrets)));
    }
    // What all revisions did together is told with the last one.
    if let Some((_, state, output)) = found.last_mut() {
        for (name, why) in done.refused.iter().chain(&done.invalid) {
            let line = format!("\n - invalid: {name}: {why}");
            output.push_str(&masked(&line, secrets));
        }
        if !done.refused.is_empty() {
            *state = TaskState::Error;
        } else if *state == TaskState::Ok && !done.invalid.is_empty() {
            *state = TaskState::Warning;
        }
    }
    found
}

fn lines(script: &ScriptDone) -> String {
    let executed = script.statements.saturating_sub(script.failed);
    let mut output = format!(" - Executed {executed} of {} VQL commands", script.statements);
    for statement in &script.listed {
        let place = format!("line {}, column {}", statement.place.line, statement.place.column);
        let what = match statement.failed {
            true => format!("failed: {}", statement.message),
            false => "stored, not executed".to_owned(),
        };
        output.push_str(&format!("\n - {place}: {what}: {}", first_line(statement)));
    }
    if script.omitted > 0 {
        output
            .push_str(&format!("\n - and {} more that failed or were stored without effect", script.omitted));
    }
    output
}

/// In characters.
const MAX_STATEMENT: usize = 200;

/// The beginning of a statement, to find it by.
fn first_line(statement: &Listed) -> String {
    let line = statement.text.lines().next().unwrap_or_default();
    let mut text: String = line.chars().take(MAX_STATEMENT).collect();
    if text.len() < statement.text.len() {
        text.push('…');
    }
    text
}
