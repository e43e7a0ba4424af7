//! Starts deployments, and says what one would do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::error::Faults;
use landreeve_core::ids::RunId;
use landreeve_core::{Action, Error, Fault, Input, OpCtx, Permission, Result, RunState, clock};
use landreeve_estate::args;
use landreeve_estate::ops::{Run, runs};
use landreeve_estate::runs::queue::Submitter;
use landreeve_estate::runs::{Lane, NewRun};
use landreeve_estate::store::Tx;

use super::check::{Checked, UNREADY, Validation, check, masked};
use super::plan::{How, Place, Plan, plan};
use super::{DEPLOYMENT, tasks};
use crate::access::{self, NodeChange, NodeWork};
use crate::environments::{self, Environment};
use crate::ids::{EnvironmentId, RevisionId, ServerId};
use crate::nouns::{ENVIRONMENT, REVISION};
use crate::plane::Promotion;
use crate::revisions::{self, Revision};
use crate::scenario::Scenario;
use crate::stored::StoredDeployment;

/// Maximum number of revisions of a deployment.
pub const MAX_REVISIONS: usize = 100;
/// In characters.
pub const MAX_DESCRIPTION: usize = 4_000;
/// How long a deployment waits for its approval.
const APPROVAL: Duration = Duration::from_secs(7 * 86_400);

#[derive(Debug, Clone)]
pub struct NewDeployment {
    pub environment: EnvironmentId,
    /// Executed in this order.
    pub revisions: Vec<RevisionId>,
    pub description: String,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// What became of a request to deploy.
#[derive(Debug)]
pub enum Started {
    Run(Box<Run>),
    /// Only properties are in the way: nothing was started.
    Invalid(Box<Validation>),
    /// More than properties is in the way.
    Refused(Error, Box<Validation>),
    /// What would happen.
    Planned(Box<Validation>, Vec<ServerPlan>),
}

/// What a deployment would do to a server.
#[derive(Debug, Clone)]
pub struct ServerPlan {
    pub server: String,
    pub from_hash: String,
    pub to_hash: String,
    pub changes: Vec<NodeChange>,
    pub failing: Vec<Failing>,
    /// Views that would become invalid, with the reason.
    pub invalid: Vec<(String, String)>,
}

/// A statement that would fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    pub revision: String,
    pub line: u32,
    pub column: u32,
    /// As written.
    pub text: String,
    pub message: String,
}

impl Failing {
    /// Says that a node lists no more.
    fn omitted(revision: &str, more: usize) -> Failing {
        let message = format!("and {more} more statements");
        Failing { revision: revision.to_owned(), line: 0, column: 0, text: String::new(), message }
    }
}

/// Starts a deployment, or says why it cannot be started.
pub async fn deployment_start(plane: &Promotion, ctx: &OpCtx, new: Input<NewDeployment>) -> Result<Started> {
    may_deploy_somewhere(plane, ctx).await?;
    let new = new.checked(check_request)?;
    let environment = environments::for_promotion(plane, ctx, new.environment, Action::USE).await?;
    let revisions = revisions_for(plane, ctx, &environment, &new.revisions).await?;
    let checked = check(plane, ctx, environment, &revisions).await?;
    if let Some(stop) = in_the_way(&checked)? {
        return Ok(stop);
    }
    if new.dry_run {
        let servers = server_plans(plane, ctx, &checked).await?;
        return Ok(Started::Planned(Box::new(checked.validation), servers));
    }
    submit(plane, ctx, new, checked, revisions).await.map(|run| Started::Run(Box::new(run)))
}

/// A caller who may deploy nowhere is refused before anything else is said.
async fn may_deploy_somewhere(plane: &Promotion, ctx: &OpCtx) -> Result<()> {
    let may =
        |scenario: &Scenario| ctx.authority().allows_some(Permission::new(scenario.noun(), Action::USE));
    if Scenario::ALL.iter().any(may) {
        return Ok(());
    }
    plane.estate().require_some(ctx, Scenario::Production.noun(), Action::USE).await
}

fn check_request(new: &NewDeployment, faults: &mut Faults) {
    if new.revisions.is_empty() {
        faults.push("revisions", "required", "must have at least one revision");
    }
    if new.revisions.len() > MAX_REVISIONS {
        faults.push("revisions", "length", format!("must have at most {MAX_REVISIONS} revisions"));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = new.revisions.iter().find(|id| !seen.insert(**id)) {
        faults.push("revisions", "repeated", format!("has the revision {twice} twice"));
    }
    if new.description.chars().count() > MAX_DESCRIPTION {
        faults.push("description", "length", format!("must have at most {MAX_DESCRIPTION} characters"));
    }
}

/// The revisions, if the caller may deploy each of them there.
async fn revisions_for(
    plane: &Promotion,
    ctx: &OpCtx,
    environment: &Environment,
    ids: &[RevisionId],
) -> Result<Vec<Revision>> {
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        found.push(visible(plane, ctx, *id).await?);
    }
    let own = Submitter::from(ctx.actor()).key();
    if found.iter().any(|revision| revision.owner != own) {
        environments::require_deploy(plane, ctx, environment, Action::MANAGE).await?;
    }
    Ok(found)
}

/// A revision that the caller sees: an own one, one that waits for the caller's approval, or any with the permission to
/// manage revisions.
async fn visible(plane: &Promotion, ctx: &OpCtx, id: RevisionId) -> Result<Revision> {
    let found = revisions::find(&mut plane.estate().store().read().await?, id).await?;
    let found = found.ok_or_else(|| Error::not_found("revision"))?;
    let manage = Permission::new(REVISION, Action::MANAGE);
    let own = found.owner == Submitter::from(ctx.actor()).key();
    let sees = found.ou_path.starts_with(ctx.authority().ou_path())
        && (own || ctx.authority().allows(manage, &found.ou_path, id.0));
    if sees || revisions::is_to_approve(plane, ctx, id).await? {
        Ok(found)
    } else {
        Err(Error::not_found("revision"))
    }
}

/// What prevents a deployment.
fn in_the_way(checked: &Checked) -> Result<Option<Started>> {
    let validation = &checked.validation;
    match (checked.faults.is_empty(), validation.is_ok()) {
        (true, true) => Ok(None),
        (true, false) => Ok(Some(Started::Invalid(Box::new(validation.clone())))),
        (false, true) => Err(refusal(&checked.faults)),
        (false, false) => Ok(Some(Started::Refused(refusal(&checked.faults), Box::new(validation.clone())))),
    }
}

pub(super) fn refusal(faults: &[Fault]) -> Error {
    let messages: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
    Error { faults: faults.to_vec(), ..Error::conflict("not_ready", messages.join("; ")) }
}

/// Checks a revision for an environment: its properties and, for a caller who may deploy there, what it would do.
pub async fn revision_validate(
    plane: &Promotion,
    ctx: &OpCtx,
    id: RevisionId,
    environment: EnvironmentId,
) -> Result<(Validation, Option<Vec<ServerPlan>>)> {
    let estate = plane.estate();
    // A manager of revisions may use them too.
    estate.require_some(ctx, REVISION, Action::USE).await?;
    let environment = environments::environment_get(plane, ctx, environment).await?;
    let revision = visible(plane, ctx, id).await?;
    let deploy = Permission::new(environment.scenario().noun(), Action::USE);
    // The plan shows values of the environment.
    let may_plan = ctx.authority().allows(deploy, &environment.ou_path, environment.id.0);
    let checked = check(plane, ctx, environment, &[revision]).await?;
    let mut plans = None;
    // Servers that cannot be signed in to have no plan; they prevent a deployment, not a validation.
    let ready = !checked.faults.iter().any(|fault| fault.code == UNREADY);
    if may_plan && ready && checked.validation.is_ok() {
        plans = Some(server_plans(plane, ctx, &checked).await?);
    }
    Ok((checked.validation, plans))
}

/// What the scripts would do to each server as it is now.
async fn server_plans(plane: &Promotion, ctx: &OpCtx, checked: &Checked) -> Result<Vec<ServerPlan>> {
    let mut plans = Vec::new();
    for server in checked.places.iter().flat_map(Place::enabled_servers) {
        let node = access::open(plane, ctx, server.id, None).await?;
        let (scripts, properties) = (checked.scripts.clone(), checked.properties.clone());
        let done = node.plan(NodeWork { scripts, properties }).await?;
        let mask = |text: &str| masked(text, &checked.secrets);
        let mut failing = Vec::new();
        for (script, done) in checked.scripts.iter().zip(&done.scripts) {
            let listed = done.listed.iter().filter(|statement| statement.failed);
            let before = failing.len();
            failing.extend(listed.map(|statement| Failing {
                revision: script.name.clone(),
                line: statement.place.line,
                column: statement.place.column,
                text: statement.text.clone(),
                message: mask(&statement.message),
            }));
            let more = done.failed.saturating_sub(failing.len() - before);
            if more > 0 {
                failing.push(Failing::omitted(&script.name, more));
            }
        }
        let refused = done.refused.iter().chain(&done.invalid);
        let text = |text: Option<String>| text.map(|text| mask(&text));
        let shown = |change: NodeChange| NodeChange {
            before: text(change.before),
            after: text(change.after),
            ..change
        };
        plans.push(ServerPlan {
            server: server.name.clone(),
            from_hash: done.before.content_hash.clone(),
            to_hash: done.after.content_hash.clone(),
            invalid: refused.map(|(name, why)| (name.clone(), mask(why))).collect(),
            changes: done.changes.into_iter().map(shown).collect(),
            failing,
        });
    }
    Ok(plans)
}

/// Everything that the transaction of a new deployment writes.
struct Rows {
    environment: Environment,
    description: String,
    owner: String,
    user: String,
    revisions: Vec<Revision>,
    plan: Plan,
    /// A deployment that would have to wait for another is refused.
    refuses_to_wait: bool,
    now: Timestamp,
}

async fn submit(
    plane: &Promotion,
    ctx: &OpCtx,
    new: NewDeployment,
    checked: Checked,
    revisions: Vec<Revision>,
) -> Result<Run> {
    let now = plane.estate().now();
    let input = StoredDeployment {
        version: 1,
        environment: checked.environment.id.0,
        revisions: revisions.iter().map(|revision| revision.id.0).collect(),
        services: checked.services.iter().cloned().collect(),
    };
    let names: Vec<String> = revisions.iter().map(|revision| revision.name.clone()).collect();
    let environment = checked.environment;
    let hold = (checked.configuration.approvals_required > 0).then(|| after(now, APPROVAL));
    let run = NewRun {
        noun: Some((ENVIRONMENT, environment.id.0)),
        lane: Some(Lane { name: format!("promotion:{}", environment.id), limit: 1 }),
        hold_until: hold,
        ..NewRun::new(&DEPLOYMENT, environment.ou, input.as_json()?)
    };
    let rows = Arc::new(Rows {
        description: new.description,
        owner: Submitter::from(ctx.actor()).key(),
        user: ctx.actor().name().to_owned(),
        plan: plan(&checked.places, How::of(&checked.configuration), &names),
        refuses_to_wait: !checked.configuration.queue_deployments,
        environment,
        revisions,
        now,
    });
    let write: runs::WithRun = Arc::new(move |tx, run| {
        let rows = Arc::clone(&rows);
        Box::pin(async move { insert(tx, run.id, run.state, &rows).await })
    });
    runs::submit_with(plane.estate(), ctx, run, write).await
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX / 4);
    clock::from_micros(now.as_microsecond().saturating_add(wait))
}

async fn insert(tx: &mut Tx, id: RunId, state: RunState, rows: &Rows) -> Result<()> {
    // Two deployments that are submitted at the same time see each other.
    environments::lock(tx, rows.environment.id).await?;
    if state != RunState::Held && rows.refuses_to_wait {
        not_busy(tx, rows.environment.id, id).await?;
    }
    tx.exec(
        "INSERT INTO promotion_deployments (id, ou_id, environment_id, environment_name, scenario, description, owner, \
         user_name, state, message, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'in_progress', '', $9)",
        args![
            id,
            rows.environment.ou,
            rows.environment.id,
            &rows.environment.name,
            rows.environment.scenario().as_str(),
            &rows.description,
            &rows.owner,
            &rows.user,
            rows.now,
        ],
    )
    .await?;
    for (position, revision) in (1_i64..).zip(&rows.revisions) {
        // It may have been deleted since it was read.
        let added = tx
            .exec(
                "INSERT INTO promotion_deployment_revisions (deployment_id, position, revision_id, name, description) \
                 SELECT $1, $2, r.id, r.name, r.description FROM promotion_revisions r WHERE r.id = $3",
                args![id, position, revision.id],
            )
            .await?;
        if added == 0 {
            return Err(Error::not_found("revision"));
        }
    }
    let servers: Vec<(ServerId, String)> =
        rows.plan.targets().map(|target| (target.id, target.name.clone())).collect();
    tasks::write_plan(tx, id, &rows.plan.tasks, &servers, rows.now).await
}

/// A deployment that waits for its approval does not hold the environment.
async fn not_busy(tx: &mut Tx, environment: EnvironmentId, id: RunId) -> Result<()> {
    let sql = "SELECT d.id FROM promotion_deployments d JOIN runs r ON r.id = d.id WHERE d.environment_id = $1 \
               AND d.state = 'in_progress' AND d.id <> $2 AND r.state <> 'held' AND r.finished_at IS NULL \
               ORDER BY d.id LIMIT 1";
    let Some(row) = tx.opt(sql, args![environment, id]).await? else { return Ok(()) };
    let message = format!(
        "the deployment {} to this environment is in progress; try again when it has ended, or let deployments queue in \
         the environment's configuration",
        row.int(0)?
    );
    Err(Error::conflict("deploying", message))
}
