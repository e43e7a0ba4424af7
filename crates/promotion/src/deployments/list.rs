//! Shows deployments, and lets them be approved, cancelled and deleted.
//!
//! The list also has the runs that only prove that runs work, as every list of runs of the dialect had them.

use jiff::Timestamp;
use landreeve_core::ids::RunId;
use landreeve_core::{Action, Error, Noun, OpCtx, Page, PageOf, Permission, Result, RunState};
use landreeve_estate::args;
use landreeve_estate::identity::{Place, Visibility};
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::ops::runs::PROBE;
use landreeve_estate::runs::queue::{self, Submitter};
use landreeve_estate::store::{Arg, Conn, Dialect, Row, Where};

use super::tasks::{self, Named, Task};
use super::{DEPLOYMENT, State, finish};
use crate::environments;
use crate::ids::EnvironmentId;
use crate::nouns::ENVIRONMENT;
use crate::plane::Promotion;
use crate::scenario::Scenario;

/// What a deployment does, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// It waits for its approval.
    Held,
    /// It waits for another deployment or for a free worker.
    Queued,
    InProgress,
    Ended(State),
}

impl Shown {
    pub const ALL: [Shown; 7] = [
        Shown::Held,
        Shown::Queued,
        Shown::InProgress,
        Shown::Ended(State::Ok),
        Shown::Ended(State::Warning),
        Shown::Ended(State::Error),
        Shown::Ended(State::Cancelled),
    ];

    /// The condition of a row, with the state of the deployment bound to `$$`.
    fn condition(self) -> (&'static str, State) {
        match self {
            Shown::Held => ("(d.state = $$ AND r.state = 'held')", State::InProgress),
            Shown::Queued => ("(d.state = $$ AND r.state = 'queued')", State::InProgress),
            Shown::InProgress => ("(d.state = $$ AND r.state NOT IN ('held', 'queued'))", State::InProgress),
            Shown::Ended(state) => ("d.state = $$", state),
        }
    }
}

fn shown(state: State, run: RunState) -> Shown {
    match (state, run) {
        (State::InProgress, RunState::Held) => Shown::Held,
        (State::InProgress, RunState::Queued) => Shown::Queued,
        (State::InProgress, _) => Shown::InProgress,
        (ended, _) => Shown::Ended(ended),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    pub id: RunId,
    pub ou_path: String,
    pub environment: Named,
    pub scenario: Scenario,
    pub description: String,
    /// As in `runs.submitter`.
    pub owner: String,
    pub user: String,
    pub state: Shown,
    /// Why it ended so, and what is where.
    pub message: String,
    pub created_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub revisions: Vec<DeployedRevision>,
}

/// As it was when the deployment was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployedRevision {
    pub id: i64,
    pub name: String,
    pub description: Option<String>,
}

/// An element of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    Deployment(Box<Deployment>),
    /// A run without rows of this plane.
    Run {
        id: RunId,
        kind: String,
        user: String,
        state: RunState,
        submitted_at: Timestamp,
    },
}

/// A deployment with its tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub deployment: Deployment,
    /// Per cent; 100 only at the end.
    pub percent: u8,
    pub tasks: Vec<Task>,
}

/// Limits the list. A field that is `None` or empty does not.
#[derive(Debug, Clone, Default)]
pub struct DeploymentFilter {
    pub environment: Option<EnvironmentId>,
    /// Of deployments; `run_states` is the same for other runs.
    pub states: Vec<Shown>,
    pub run_states: Vec<RunState>,
    /// Part of it, in any case.
    pub description: Option<String>,
    /// The exact name.
    pub user: Option<String>,
    /// From and to, both inclusive.
    pub submitted: Option<(Timestamp, Timestamp)>,
}

const COLUMNS: &str = "r.id, r.kind, r.state, r.actor_name, r.submitted_at, o.path, d.environment_id, \
    d.environment_name, d.scenario, d.description, d.owner, d.user_name, d.state, d.message, d.created_at, d.ended_at";
const FROM: &str = "runs r JOIN ous o ON o.id = r.ou_id LEFT JOIN promotion_deployments d ON d.id = r.id";

fn from_row(row: &Row) -> Result<Listed> {
    let id: RunId = row.id(0)?;
    let run = row.word(2, RunState::parse)?;
    if row.text_opt(12)?.is_none() {
        return Ok(Listed::Run {
            id,
            kind: row.text(1)?,
            user: row.text(3)?,
            state: run,
            submitted_at: row.time(4)?,
        });
    }
    Ok(Listed::Deployment(Box::new(Deployment {
        id,
        ou_path: row.text(5)?,
        environment: (row.int(6)?, row.text(7)?),
        scenario: row.word(8, Scenario::parse)?,
        description: row.text(9)?,
        owner: row.text(10)?,
        user: row.text(11)?,
        state: shown(row.word(12, State::parse)?, run),
        message: row.text(13)?,
        created_at: row.time(14)?,
        ended_at: row.time_opt(15)?,
        revisions: Vec::new(),
    })))
}

/// What the caller sees: own deployments, and those of others in environments whose deployments the caller manages, or
/// may approve while they wait for it.
fn visible(ctx: &OpCtx, list: &mut Where) -> Result<String> {
    let below = Visibility::below(ctx).condition(list, &Place::of_unit("d.ou_id"))?;
    let own = list.bind(Submitter::from(ctx.actor()).key());
    let mut any = vec![format!("d.owner = {own}")];
    let waits = "d.state = 'in_progress' AND r.state = 'held'";
    for scenario in Scenario::ALL {
        for (action, which) in [(Action::MANAGE, "1 = 1"), (Action::USE, waits)] {
            let permission = Permission::new(scenario.noun(), action);
            if !ctx.authority().allows_some(permission) {
                continue;
            }
            let place = Place::named("d.ou_id", "d.environment_id IN ($$)");
            let allowed = Visibility::of(ctx, permission).condition(list, &place)?;
            any.push(format!("(d.scenario = '{}' AND {which} AND {allowed})", scenario.as_str()));
        }
    }
    let deployments =
        format!("(r.kind = 'deployment' AND d.id IS NOT NULL AND {below} AND ({}))", any.join(" OR "));
    let view = Permission::new(Noun::RUN, Action::VIEW);
    if !ctx.authority().allows_some(view) {
        return Ok(deployments);
    }
    let runs = Visibility::of(ctx, view).condition(list, &Place::named("r.ou_id", "r.id IN ($$)"))?;
    Ok(format!("({deployments} OR (r.kind = 'probe' AND {runs}))"))
}

fn any_of(list: &mut Where, column: &str, words: impl Iterator<Item = &'static str>) -> String {
    let places: Vec<String> = words.map(|word| list.bind(word)).collect();
    if places.is_empty() { "1 = 0".to_owned() } else { format!("{column} IN ({})", places.join(", ")) }
}

fn conditions(conn: &Conn, ctx: &OpCtx, filter: &DeploymentFilter) -> Result<Where> {
    let mut list = Where::new(conn.dialect());
    list.and_any("r.kind", [PROBE, DEPLOYMENT.kind].map(|kind| Arg::from(kind.as_str())));
    let visible = visible(ctx, &mut list)?;
    list.and(&visible);
    if let Some(environment) = filter.environment {
        list.and_value("d.environment_id = $$", environment);
    }
    if !filter.states.is_empty() || !filter.run_states.is_empty() {
        let own = filter.states.iter().map(|state| {
            let (condition, state) = state.condition();
            condition.replace("$$", &list.bind(state.as_str()))
        });
        let own = own.reduce(|all, one| format!("{all} OR {one}")).unwrap_or_else(|| "1 = 0".to_owned());
        let other = any_of(&mut list, "r.state", filter.run_states.iter().map(|state| state.as_str()));
        list.and(&format!("((d.id IS NOT NULL AND ({own})) OR (d.id IS NULL AND {other}))"));
    }
    if let Some(text) = &filter.description {
        // SQLite knows no letters but ASCII's.
        let text = match conn.dialect() {
            Dialect::Sqlite => text.to_ascii_lowercase(),
            Dialect::Postgres => text.to_lowercase(),
        };
        let text = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        list.and_value("lower(COALESCE(d.description, r.kind)) LIKE $$ ESCAPE '\\'", format!("%{text}%"));
    }
    if let Some(user) = &filter.user {
        list.and_value("r.actor_name = $$", user);
    }
    if let Some((from, to)) = filter.submitted {
        list.and_value("r.submitted_at >= $$", from);
        list.and_value("r.submitted_at <= $$", to);
    }
    Ok(list)
}

/// Deployments that the caller sees, newest first.
pub async fn deployment_list(
    plane: &Promotion,
    ctx: &OpCtx,
    filter: &DeploymentFilter,
    page: Page,
) -> Result<PageOf<Listed>> {
    let mut conn = plane.estate().store().read().await?;
    let mut list = conditions(&conn, ctx, filter)?;
    let total = list.count(&mut conn, FROM).await?;
    let limit = list.bind(i64::from(page.limit));
    let offset = list.bind(i64::try_from(page.offset).unwrap_or(i64::MAX));
    let (condition, values) = list.into_parts();
    let sql = format!(
        "SELECT {COLUMNS} FROM {FROM} WHERE {condition} ORDER BY r.submitted_at DESC, r.id DESC \
         LIMIT {limit} OFFSET {offset}"
    );
    let rows = conn.select(sql, values).await?;
    let mut items = rows.iter().map(from_row).collect::<Result<Vec<Listed>>>()?;
    let found = items.iter_mut().filter_map(|listed| match listed {
        Listed::Deployment(deployment) => Some(&mut **deployment),
        Listed::Run { .. } => None,
    });
    add_revisions(&mut conn, found.collect()).await?;
    Ok(PageOf { items, offset: page.offset, limit: page.limit, total })
}

async fn add_revisions(conn: &mut Conn, mut deployments: Vec<&mut Deployment>) -> Result<()> {
    let mut list = Where::new(conn.dialect());
    list.and_ids("deployment_id", deployments.iter().map(|deployment| deployment.id.0));
    let (condition, values) = list.into_parts();
    let sql = format!(
        "SELECT deployment_id, revision_id, name, description FROM promotion_deployment_revisions WHERE {condition} \
         ORDER BY deployment_id, position"
    );
    for row in conn.select(sql, values).await? {
        let id: RunId = row.id(0)?;
        if let Some(deployment) = deployments.iter_mut().find(|deployment| deployment.id == id) {
            let revision =
                DeployedRevision { id: row.int(1)?, name: row.text(2)?, description: row.text_opt(3)? };
            deployment.revisions.push(revision);
        }
    }
    Ok(())
}

/// Without a check of permissions. `None` if the run is not a deployment.
async fn load(conn: &mut Conn, id: RunId) -> Result<Option<Deployment>> {
    let sql = format!("SELECT {COLUMNS} FROM {FROM} WHERE d.id = $1");
    let rows = conn.select(sql, args![id]).await?;
    let Some(Listed::Deployment(deployment)) = rows.first().map(from_row).transpose()? else {
        return Ok(None);
    };
    let mut deployment = *deployment;
    add_revisions(conn, vec![&mut deployment]).await?;
    Ok(Some(deployment))
}

fn is_own(ctx: &OpCtx, deployment: &Deployment) -> bool {
    Submitter::from(ctx.actor()).key() == deployment.owner
}

fn may(ctx: &OpCtx, action: Action, deployment: &Deployment) -> bool {
    let permission = Permission::new(deployment.scenario.noun(), action);
    ctx.authority().allows(permission, &deployment.ou_path, deployment.environment.0)
}

/// A deployment that the caller sees. `None` if no deployment has this id: another run may have it.
pub async fn deployment_get(plane: &Promotion, ctx: &OpCtx, id: RunId) -> Result<Option<Deployment>> {
    let found = load(&mut plane.estate().store().read().await?, id).await?;
    let Some(found) = found else { return Ok(None) };
    let inside = found.ou_path.starts_with(ctx.authority().ou_path());
    let approves = found.state == Shown::Held && may(ctx, Action::USE, &found);
    if inside && (approves || is_own(ctx, &found) || may(ctx, Action::MANAGE, &found)) {
        return Ok(Some(found));
    }
    Err(Error::not_found("deployment"))
}

/// A deployment that the caller may cancel or delete: who only approves it may not.
async fn to_change(plane: &Promotion, ctx: &OpCtx, id: RunId) -> Result<Deployment> {
    let found = deployment_get(plane, ctx, id).await?.ok_or_else(|| Error::not_found("deployment"))?;
    if !is_own(ctx, &found) {
        let (noun, environment) = (found.scenario.noun(), found.environment.0);
        plane.estate().require(ctx, noun, Action::MANAGE, &found.ou_path, environment).await?;
    }
    Ok(found)
}

/// How far a deployment is; only with tasks that changed at or after `since`, if that is given. `None` as for
/// `deployment_get`.
pub async fn deployment_progress(
    plane: &Promotion,
    ctx: &OpCtx,
    id: RunId,
    since: Option<Timestamp>,
) -> Result<Option<Progress>> {
    let Some(deployment) = deployment_get(plane, ctx, id).await? else { return Ok(None) };
    let mut conn = plane.estate().store().read().await?;
    let (planned, ended) = tasks::counts(&mut conn, id).await?;
    let tasks = tasks::load(&mut conn, id, since).await?;
    let percent = match deployment.state {
        Shown::Ended(_) => 100,
        _ => u8::try_from(ended.saturating_mul(100) / planned.max(1)).unwrap_or(99).min(99),
    };
    Ok(Some(Progress { deployment, percent, tasks }))
}

/// Lets a deployment start that waits for it. Its submitter cannot approve it.
pub async fn deployment_approve(plane: &Promotion, ctx: &OpCtx, id: RunId) -> Result<Deployment> {
    let found = load(&mut plane.estate().store().read().await?, id).await?;
    let found = found
        .filter(|found| found.ou_path.starts_with(ctx.authority().ou_path()))
        .ok_or_else(|| Error::not_found("deployment"))?;
    let environment = EnvironmentId(found.environment.0);
    environments::for_promotion(plane, ctx, environment, Action::USE).await?;
    if is_own(ctx, &found) || started_by_user(plane, ctx, id).await? {
        return Err(Error::forbidden("you started this deployment; another person has to approve it"));
    }
    if found.state != Shown::Held {
        return Err(not_held());
    }
    let now = plane.estate().now();
    let act = OwnedAct::new("approved", ENVIRONMENT, environment.0, format!("deployment {id}"));
    plane
        .estate()
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                // It may have been approved or cancelled in the meantime.
                if queue::release(tx, id, now).await? { Ok(()) } else { Err(not_held()) }
            })
        })
        .await?;
    let approved = load(&mut plane.estate().store().read().await?, id).await?;
    approved.ok_or_else(|| Error::not_found("deployment"))
}

fn not_held() -> Error {
    Error::conflict("not_held", "the deployment is not waiting for approval")
}

/// Whether the user behind the caller started it, even with another credential.
async fn started_by_user(plane: &Promotion, ctx: &OpCtx, id: RunId) -> Result<bool> {
    let Some(user) = ctx.actor().user() else { return Ok(false) };
    let sql = "SELECT actor_kind, actor_id FROM runs WHERE id = $1";
    let row = plane.estate().store().read().await?.opt(sql, args![id]).await?;
    let Some(row) = row else { return Ok(false) };
    Ok(row.text(0)? == "user" && row.int_opt(1)? == Some(user.0))
}

/// Cancels a deployment: it is undone at its next step. One that waits ends immediately.
pub async fn deployment_cancel(plane: &Promotion, ctx: &OpCtx, id: RunId) -> Result<Deployment> {
    let found = to_change(plane, ctx, id).await?;
    if let Shown::Ended(state) = found.state {
        let message = format!("the deployment has already ended: {}", state.as_str());
        return Err(Error::conflict("not_cancellable", message));
    }
    let now = plane.estate().now();
    let act = OwnedAct::new("cancelled", Noun::RUN, id.0, DEPLOYMENT.kind.as_str());
    plane
        .estate()
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                let run = queue::cancel(tx, id, now).await?;
                if run.state.is_final() {
                    finish::close(tx, id, State::Cancelled, "it was cancelled before it started", now)
                        .await?;
                }
                Ok(())
            })
        })
        .await?;
    to_change(plane, ctx, id).await
}

/// Deletes the record of a deployment that has ended.
pub async fn deployment_delete(plane: &Promotion, ctx: &OpCtx, id: RunId) -> Result<()> {
    let found = to_change(plane, ctx, id).await?;
    let environment = found.environment.0;
    let act = OwnedAct::new("deleted", ENVIRONMENT, environment, format!("deployment {id}"));
    plane
        .estate()
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                let gone = tx
                    .exec(
                        "DELETE FROM promotion_deployments WHERE id = $1 AND state <> 'in_progress'",
                        args![id],
                    )
                    .await?;
                if gone == 0 {
                    return Err(Error::conflict(
                        "deploying",
                        "the deployment is in progress; cancel it first",
                    ));
                }
                // The next purge deletes the run.
                tx.exec("UPDATE runs SET keep_record = 0 WHERE id = $1", args![id]).await.map(drop)
            })
        })
        .await
}
