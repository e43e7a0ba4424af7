//! `landreeve promotion …` and `landreeve drift`: deploy revisions to environments, and see what others changed there.
//!
//! A server on this data directory executes what a command starts; without one, this process does. Ctrl-C, SIGTERM and
//! closing the terminal cancel the deployment, and so does killing the command if the server executes it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use futures_util::FutureExt as _;
use landreeve_core::ids::RunId;
use landreeve_core::{Input, OpCtx, Page, RunState};
use landreeve_estate::ops::runs::{self, RunRef};
use landreeve_estate::ops::sign_in;
use landreeve_estate::runs::Role;
use landreeve_promotion::Promotion;
use landreeve_promotion::deployments::drift::{Drift, DriftState, environment_drift};
use landreeve_promotion::deployments::{
    DeploymentFilter, Listed, NewDeployment, Progress, ServerPlan, Shown, Started, State, Task, TaskState,
    Validation, deployment_approve, deployment_cancel, deployment_list, deployment_progress,
    deployment_start,
};
use landreeve_promotion::environments::environment_named;
use serde_json::{Value, json};
use uuid::Uuid;

use super::revisions::revision_named;
use super::{Unit, finish, open};
use crate::cli::Session;
use crate::control::{self, Answer, Ask, Control, Refusal};
use crate::open::DataLock;
use crate::output::{self, Format};
use crate::signals::Interrupts;

#[derive(Debug, Subcommand)]
pub enum PromotionCommand {
    /// Deploy revisions to an environment, one server after the other
    #[command(
        after_help = "Examples:\n  landreeve promotion start production 'Sales 1' --dry-run\n  landreeve promotion start production 'Sales 1' --description 'weekly release'"
    )]
    Start(Box<StartArgs>),
    /// List the newest deployments
    #[command(after_help = "Example:\n  landreeve promotion list")]
    List {
        #[command(flatten)]
        unit: Unit,
        /// Number of deployments to list, newest first
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Show the tasks of a deployment
    #[command(after_help = "Example:\n  landreeve promotion show 28")]
    Show {
        #[command(flatten)]
        unit: Unit,
        /// Id of the deployment; see `landreeve promotion list`
        id: i64,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Approve a deployment that waits for it
    #[command(after_help = "Example:\n  landreeve promotion approve 28")]
    Approve {
        #[command(flatten)]
        unit: Unit,
        /// Id of the deployment; see `landreeve promotion list`
        id: i64,
    },
    /// Cancel a deployment; what it has done is undone as its environment is configured
    #[command(after_help = "Example:\n  landreeve promotion cancel 28")]
    Cancel {
        #[command(flatten)]
        unit: Unit,
        /// Id of the deployment; see `landreeve promotion list`
        id: i64,
    },
}

#[derive(Debug, Args)]
pub struct StartArgs {
    #[command(flatten)]
    unit: Unit,
    /// Environment, by name or id
    environment: String,
    /// Revisions, by name or id, in the order in which they are executed
    #[arg(required = true)]
    revisions: Vec<String>,
    /// Only show what would change on each server
    #[arg(long)]
    dry_run: bool,
    /// Description of the deployment [default: none]
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
pub struct DriftArgs {
    #[command(flatten)]
    unit: Unit,
    /// Environment, by name or id
    environment: String,
    /// End with 1 if a server differs or cannot be reached
    #[arg(long)]
    exit_code: bool,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub async fn run(command: PromotionCommand) -> anyhow::Result<()> {
    match command {
        PromotionCommand::Start(args) => start(*args).await,
        PromotionCommand::List { unit, limit, format } => list(&unit, limit, format).await,
        PromotionCommand::Show { unit, id, format } => show(&unit, RunId(id), format).await,
        PromotionCommand::Approve { unit, id } => {
            let (session, ctx) = open(&unit).await?;
            let plane = session.opened.promotion.clone();
            let done = deployment_approve(&plane, &ctx, RunId(id)).await;
            finish(session, done).await?;
            output::say(&format!("approved the deployment {id}"));
            Ok(())
        }
        PromotionCommand::Cancel { unit, id } => cancel(&unit, RunId(id)).await,
    }
}

async fn list(unit: &Unit, limit: u32, format: Format) -> anyhow::Result<()> {
    let (session, ctx) = open(unit).await?;
    let plane = session.opened.promotion.clone();
    let found = deployment_list(&plane, &ctx, &DeploymentFilter::default(), Page::first(limit)).await;
    session.close().await;
    let row = |listed: Listed| -> Option<Vec<Value>> {
        let Listed::Deployment(found) = listed else { return None };
        let names: Vec<&str> = found.revisions.iter().map(|revision| revision.name.as_str()).collect();
        Some(vec![
            json!(found.id.0),
            json!(found.environment.1),
            json!(state(found.state)),
            json!(found.user),
            json!(found.created_at.to_string()),
            json!(names.join(", ")),
            json!(found.description),
        ])
    };
    let columns = ["id", "environment", "state", "by", "started", "revisions", "description"];
    output::listing(format, &columns, found?.items.into_iter().filter_map(row).collect());
    Ok(())
}

async fn show(unit: &Unit, id: RunId, format: Format) -> anyhow::Result<()> {
    let (session, ctx) = open(unit).await?;
    let plane = session.opened.promotion.clone();
    let found = deployment_progress(&plane, &ctx, id, None).await;
    session.close().await;
    let found = found?.context("there is no such deployment")?;
    if format == Format::Json {
        output::say(&serde_json::to_string_pretty(&landreeve_face_denodo::progress_document(found))?);
        return Ok(());
    }
    let row = |task: &Task| -> Vec<Value> {
        vec![
            json!(task.server.as_ref().or(task.cluster.as_ref()).map(|(_, name)| name)),
            json!(task.name),
            json!(task_state(task.state)),
            json!(task.output.trim()),
        ]
    };
    output::listing(format, &["on", "task", "state", "output"], found.tasks.iter().map(row).collect());
    if format == Format::Table && !found.deployment.message.is_empty() {
        output::tell(&found.deployment.message);
    }
    Ok(())
}

async fn cancel(unit: &Unit, id: RunId) -> anyhow::Result<()> {
    let (session, ctx) = open(unit).await?;
    let plane = session.opened.promotion.clone();
    let done = match deployment_progress(&plane, &ctx, id, None).await {
        Ok(Some(Progress { deployment, .. })) if matches!(deployment.state, Shown::Ended(_)) => {
            Err(anyhow::anyhow!("the deployment {id} has already ended: {}", state(deployment.state)))
        }
        Ok(Some(_)) => stop(&plane, &ctx, id, control::connect(&unit.place.data_dir).await.as_mut()).await,
        Ok(None) => Err(anyhow::anyhow!("there is no such deployment")),
        Err(error) => Err(error.into()),
    };
    session.close().await;
    done?;
    output::say(&format!("cancelled the deployment {}", id.0));
    Ok(())
}

/// The server that executes it is told at the same time.
async fn stop(
    plane: &Promotion,
    ctx: &OpCtx,
    id: RunId,
    control: Option<&mut Control>,
) -> anyhow::Result<()> {
    match control {
        Some(control) => control.ask(&Ask::Cancel { run: id.0 }).await.map(drop),
        None => deployment_cancel(plane, ctx, id).await.map(drop).map_err(Into::into),
    }
}

/// An opened store, and the server that executes what is started, if there is one.
struct Opened {
    session: Session,
    ctx: OpCtx,
    control: Option<Control>,
    _lock: Option<DataLock>,
}

/// Opens the store; without a running server, this process executes runs.
async fn open_to_start(unit: &Unit) -> anyhow::Result<Opened> {
    if let Some(control) = control::connect(&unit.place.data_dir).await {
        let (session, ctx) = open(unit).await?;
        return Ok(Opened { session, ctx, control: Some(control), _lock: None });
    }
    let opened = crate::open::open(&unit.place, Some(2)).await?;
    let lock = crate::open::lock(&unit.place.data_dir, false)?;
    let operator = sign_in::operator(&opened.estate);
    let ctx = match unit.ou {
        Some(ou) => sign_in::operator_in(&opened.estate, ou).await?,
        None => operator.clone(),
    };
    opened.estate.start_runs(Role::Command).await?;
    Ok(Opened { session: Session { opened, ctx: operator }, ctx, control: None, _lock: Some(lock) })
}

impl Opened {
    /// Waits a moment, or until the run has ended.
    async fn wait(&mut self, id: RunId) -> anyhow::Result<()> {
        let plane = &self.session.opened.promotion;
        match &mut self.control {
            // The server learns that the run has ended, and this process whether the server is still there.
            Some(control) => drop(control.ask(&Ask::Wait { run: id.0, millis: LOOK_MILLIS }).await?),
            None => {
                let look = Duration::from_millis(LOOK_MILLIS);
                runs::run_wait(plane.estate(), &self.ctx, RunRef::Id(id), &[], look).await?;
            }
        }
        // The run may have ended while its deployment is still being closed.
        tokio::time::sleep(Duration::from_millis(LOOK_MILLIS / 3)).await;
        Ok(())
    }

    /// The deployment continues when this process has ended.
    async fn release(&mut self, id: RunId) -> anyhow::Result<()> {
        match &mut self.control {
            Some(control) => control.ask(&Ask::Release { run: id.0 }).await.map(drop),
            None => Ok(()),
        }
    }
}

/// How often a running deployment is looked at.
const LOOK_MILLIS: u64 = 300;

async fn start(args: StartArgs) -> anyhow::Result<()> {
    let mut interrupts = Interrupts::new()?;
    let mut opened = open_to_start(&args.unit).await?;
    let done = started(&mut opened, &args, &mut interrupts).await;
    opened.session.opened.close(Duration::from_secs(1)).await;
    done
}

/// What became of the request.
enum Begun {
    Run(RunId),
    Refused(Refusal),
    Planned(Validation, Vec<ServerPlan>),
}

async fn started(opened: &mut Opened, args: &StartArgs, interrupts: &mut Interrupts) -> anyhow::Result<()> {
    let (plane, ctx) = (opened.session.opened.promotion.clone(), opened.ctx.clone());
    let environment = environment_named(&plane, &ctx, &args.environment).await?;
    let mut revisions = Vec::with_capacity(args.revisions.len());
    for name in &args.revisions {
        revisions.push(revision_named(&plane, &ctx, name).await?);
    }
    let new = NewDeployment {
        environment: environment.id,
        revisions,
        description: args.description.clone(),
        dry_run: args.dry_run,
    };
    let begun = match &mut opened.control {
        Some(control) if !args.dry_run => submit(control, args.unit.ou, new).await?,
        _ => begin(&plane, &ctx, new).await?,
    };
    match begun {
        Begun::Run(id) => {
            let ended = follow(opened, id, interrupts).await?;
            report(ended, args.format)
        }
        Begun::Planned(validation, plan) => planned(validation, plan, args.format),
        Begun::Refused(refusal) => refused(&refusal, args.format),
    }
}

/// Lets the server start the deployment, which cancels it if this process dies.
async fn submit(control: &mut Control, ou: Option<Uuid>, new: NewDeployment) -> anyhow::Result<Begun> {
    let ask = Ask::Deploy {
        ou: ou.map(|ou| ou.to_string()),
        environment: new.environment.0,
        revisions: new.revisions.iter().map(|id| id.0).collect(),
        description: new.description,
    };
    match control.ask(&ask).await? {
        Answer::Run { id, .. } => Ok(Begun::Run(RunId(id))),
        Answer::Refused(refusal) => Ok(Begun::Refused(refusal)),
        _ => anyhow::bail!("the server did not return a deployment"),
    }
}

/// Starts the deployment in this process.
async fn begin(plane: &Promotion, ctx: &OpCtx, new: NewDeployment) -> anyhow::Result<Begun> {
    match deployment_start(plane, ctx, Input::of(new)).await? {
        Started::Run(run) if run.state == RunState::Queued => {
            // This process would never claim it.
            deployment_cancel(plane, ctx, run.id).await?;
            anyhow::bail!(
                "other deployments to this environment come first; start the server, which executes them in order"
            )
        }
        Started::Run(run) => Ok(Begun::Run(run.id)),
        Started::Planned(validation, plan) => Ok(Begun::Planned(*validation, plan)),
        Started::Invalid(validation) => Ok(Begun::Refused(Refusal::new(*validation, None))),
        Started::Refused(error, validation) => Ok(Begun::Refused(Refusal::new(*validation, Some(error)))),
    }
}

/// Tells of each task when it has ended, until the deployment has. An interrupt cancels it; a second one stops waiting.
async fn follow(opened: &mut Opened, id: RunId, interrupts: &mut Interrupts) -> anyhow::Result<Progress> {
    let (plane, ctx) = (opened.session.opened.promotion.clone(), opened.ctx.clone());
    let (mut told, mut asked) = (BTreeSet::new(), false);
    loop {
        let found = deployment_progress(&plane, &ctx, id, None).await?;
        let found = found.context("the deployment was deleted")?;
        for task in found.tasks.iter().filter(|task| task.state.is_final()) {
            if told.insert(task.position) {
                tell(task);
            }
        }
        match found.deployment.state {
            Shown::Ended(_) => return Ok(found),
            // Another person approves it, possibly days from now.
            Shown::Held => {
                opened.release(id).await?;
                output::tell(&format!(
                    "the deployment {id} waits until another person approves it, with POST \
                     /solution-manager/deployments/{id}/approve: all who use this command are one person"
                ));
                return Ok(found);
            }
            Shown::Queued | Shown::InProgress => {}
        }
        if interrupts.next().now_or_never().is_some() {
            anyhow::ensure!(!asked, "interrupted");
            asked = true;
            output::tell(&format!("cancelling the deployment {id}"));
            stop(&plane, &ctx, id, opened.control.as_mut()).await?;
        }
        opened.wait(id).await?;
    }
}

/// `server-1: Revision r VQL deployment: OK`, and what the task said.
fn tell(task: &Task) {
    let place = task.server.as_ref().or(task.cluster.as_ref()).map(|(_, name)| format!("{name}: "));
    output::tell(&format!("{}{}: {}", place.unwrap_or_default(), task.name, task_state(task.state)));
    for line in task.output.lines() {
        output::tell(line);
    }
}

fn report(ended: Progress, format: Format) -> anyhow::Result<()> {
    let (id, state_now, message) =
        (ended.deployment.id.0, ended.deployment.state, ended.deployment.message.clone());
    if format == Format::Json {
        output::say(&serde_json::to_string_pretty(&landreeve_face_denodo::progress_document(ended))?);
    }
    match state_now {
        Shown::Ended(state) if !state.is_success() => {
            anyhow::bail!("the deployment {id} ended with {}: {message}", word(state))
        }
        Shown::Ended(State::Warning) if format == Format::Table => {
            output::say(&format!("the deployment {id} succeeded with warnings: {message}"));
        }
        Shown::Ended(_) if format == Format::Table => {
            output::say(&format!("the deployment {id} succeeded"));
        }
        _ => {}
    }
    Ok(())
}

fn planned(validation: Validation, plan: Vec<ServerPlan>, format: Format) -> anyhow::Result<()> {
    let fails = plan.iter().any(|server| !server.failing.is_empty());
    if format == Format::Json {
        let document = landreeve_face_denodo::validation_document(validation, Some(plan));
        output::say(&serde_json::to_string_pretty(&document)?);
    } else {
        for server in &plan {
            let objects = output::counted(server.changes.len(), "object", "objects");
            output::say(&format!("{}: {objects} would change", server.server));
            for change in &server.changes {
                output::say(&format!("  {} {} {}", change.change.as_str(), change.kind, change.name));
            }
            for (name, why) in &server.invalid {
                output::say(&format!("  invalid: {name}: {why}"));
            }
            for failing in &server.failing {
                output::say(&format!(
                    "  {}: line {}, column {}: {}",
                    failing.revision, failing.line, failing.column, failing.message
                ));
            }
        }
        output::say("nothing was deployed (dry run)");
    }
    anyhow::ensure!(!fails, "the revisions cannot be applied to every server");
    Ok(())
}

fn refused(refusal: &Refusal, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        output::say(&serde_json::to_string_pretty(&refusal.document)?);
    } else {
        refusal.lines.iter().for_each(|line| output::say(line));
    }
    anyhow::bail!("{}", refusal.message)
}

pub async fn drift(args: DriftArgs) -> anyhow::Result<()> {
    let (session, ctx) = open(&args.unit).await?;
    let plane = session.opened.promotion.clone();
    let found = async {
        let environment = environment_named(&plane, &ctx, &args.environment).await?;
        environment_drift(&plane, &ctx, environment.id).await
    };
    let found = found.await;
    session.close().await;
    let found = found?;
    let differs =
        found.iter().any(|server| matches!(server.state, DriftState::Drifted | DriftState::Unreachable));
    if args.format == Format::Json {
        output::say(&serde_json::to_string_pretty(&landreeve_face_denodo::drift_document(found))?);
    } else {
        show_drift(&found, args.format);
    }
    anyhow::ensure!(!(differs && args.exit_code), "not every server is in sync");
    Ok(())
}

/// A line for each server; in a table, followed by what was changed there.
fn show_drift(found: &[Drift], format: Format) {
    let row = |server: &Drift| {
        vec![
            json!(server.server),
            json!(server.state.as_str()),
            json!(server.changes.as_ref().map(Vec::len)),
            json!(server.deployed_hash),
            json!(server.live_hash),
        ]
    };
    let columns = ["server", "state", "changes", "deployed", "live"];
    output::listing(format, &columns, found.iter().map(row).collect());
    if format != Format::Table {
        return;
    }
    for server in found {
        let changes = server.changes.as_deref().unwrap_or_default();
        if !changes.is_empty() {
            output::say(&format!("\n{}, from what was deployed to what is there:", server.server));
        }
        for change in changes {
            output::say(&format!("  {} {} {}", change.change.as_str(), change.kind, change.name));
            output::differences(change.before.as_deref(), change.after.as_deref(), "    ");
        }
    }
}

/// As the dialect's later versions call them.
fn state(state: Shown) -> &'static str {
    match state {
        Shown::Held => "PENDING",
        Shown::Queued => "QUEUED",
        Shown::InProgress => "IN_PROGRESS",
        Shown::Ended(state) => word(state),
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::InProgress => "IN_PROGRESS",
        State::Ok => "OK",
        State::Warning => "OK_WITH_WARNINGS",
        State::Error => "ERROR",
        State::Cancelled => "CANCELED",
    }
}

fn task_state(state: TaskState) -> &'static str {
    match state {
        TaskState::Pending => "PENDING",
        TaskState::InProgress => "IN_PROGRESS",
        TaskState::Ok => "OK",
        TaskState::Warning => "WARNING",
        TaskState::Error => "ERROR",
        TaskState::Skipped | TaskState::Disabled => "SKIPPED",
    }
}
