//! Environments: where revisions are deployed to, each with its clusters and servers.
//!
//! Also here: who may see, manage and deploy to one. Does not belong here: properties, revisions, deployments.

use jiff::Timestamp;
use landreeve_core::error::Faults;
use landreeve_core::ids::OuId;
use landreeve_core::{Action, Error, Input, OpCtx, Part, Permission, Result};
use landreeve_estate::args;
use landreeve_estate::identity::{Place, Visibility};
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::store::{Conn, Listing, Row, Tx, Where, taken};
use uuid::Uuid;

use crate::ids::EnvironmentId;
use crate::nouns::ENVIRONMENT;
use crate::plane::Promotion;
use crate::scenario::Scenario;
use crate::stored::StoredConfiguration;
use crate::{nodes, servers, text};

/// Of one organizational unit.
const MAX_ENVIRONMENTS: i64 = 1_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    pub id: EnvironmentId,
    pub ou: OuId,
    pub ou_path: String,
    pub uuid: Uuid,
    pub name: String,
    pub description: Option<String>,
    /// The version that clients should have, as yyyymmdd. Kept without effect, like the next two.
    pub minimum_update: Option<String>,
    pub minimum_update_mandatory: bool,
    pub minimum_update_url: Option<String>,
    /// Decides the scenario.
    pub license_alias: Option<String>,
    pub environment_type: Option<String>,
    pub created_at: Timestamp,
    pub row_version: i64,
}

impl Environment {
    /// An alias that is not known counts as production, where the fewest may deploy.
    pub fn scenario(&self) -> Scenario {
        Scenario::of_alias(self.license_alias.as_deref()).unwrap_or(Scenario::Production)
    }
}

/// What a caller states about an environment: all of it, when it is created and when it is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentFacts {
    pub name: String,
    pub description: Option<String>,
    pub minimum_update: Option<String>,
    pub minimum_update_mandatory: bool,
    pub minimum_update_url: Option<String>,
    pub license_alias: Option<String>,
    pub environment_type: Option<String>,
}

fn check(facts: &EnvironmentFacts, faults: &mut Faults) {
    text::name(faults, "name", &facts.name);
    text::at_most(faults, "description", facts.description.as_deref(), text::LONG);
    if let Some(update) = &facts.minimum_update
        && !(update.len() == 8 && update.bytes().all(|byte| byte.is_ascii_digit()))
    {
        faults.push("minimum_update", "format", "must have 8 digits: a date as yyyymmdd");
    }
    text::at_most(faults, "minimum_update_url", facts.minimum_update_url.as_deref(), text::LONG);
    check_alias(faults, facts.license_alias.as_deref());
    text::at_most(faults, "environment_type", facts.environment_type.as_deref(), text::NAME);
}

/// An alias must say which scenario it is of.
pub(crate) fn check_alias(faults: &mut Faults, alias: Option<&str>) {
    if alias.is_some_and(|alias| alias.len() > text::NAME) || Scenario::of_alias(alias).is_none() {
        let words = Scenario::ALL.map(Scenario::alias).join(", ");
        let message = format!("must be one of {words}; a number can follow, as in PRODUCTION_1");
        faults.push("license_alias", "enum", message);
    }
}

const COLUMNS: &str = "e.id, e.ou_id, o.path, e.uuid, e.name, e.description, e.minimum_update, \
    e.minimum_update_mandatory, e.minimum_update_url, e.license_alias, e.environment_type, e.created_at, e.row_version";
const FROM: &str = "promotion_environments e JOIN ous o ON o.id = e.ou_id";
const LISTING: Listing = Listing {
    columns: COLUMNS,
    from: FROM,
    order: "e.id",
    size: Some("1000 + COALESCE(length(e.description), 0) + COALESCE(length(e.minimum_update_url), 0)"),
};

fn from_row(row: &Row) -> Result<Environment> {
    Ok(Environment {
        id: row.id(0)?,
        ou: row.id(1)?,
        ou_path: row.text(2)?,
        uuid: row.uuid(3)?,
        name: row.text(4)?,
        description: row.text_opt(5)?,
        minimum_update: row.text_opt(6)?,
        minimum_update_mandatory: row.flag(7)?,
        minimum_update_url: row.text_opt(8)?,
        license_alias: row.text_opt(9)?,
        environment_type: row.text_opt(10)?,
        created_at: row.time(11)?,
        row_version: row.int(12)?,
    })
}

/// The page of environments after this one, in the caller's subtree.
pub async fn environment_list(
    plane: &Promotion,
    ctx: &OpCtx,
    after: Option<EnvironmentId>,
) -> Result<Part<Environment, EnvironmentId>> {
    plane.estate().require_some(ctx, ENVIRONMENT, Action::VIEW).await?;
    let mut conn = plane.estate().store().read().await?;
    let mut filter = Where::new(conn.dialect());
    Visibility::of(ctx, Permission::new(ENVIRONMENT, Action::VIEW))
        .narrow(&mut filter, &Place::named("e.ou_id", "e.id IN ($$)"))?;
    if let Some(id) = after {
        filter.and_after("e.id", args![id]);
    }
    filter.page(&mut conn, &LISTING, from_row, |environment| environment.id).await
}

pub async fn environment_get(plane: &Promotion, ctx: &OpCtx, id: EnvironmentId) -> Result<Environment> {
    seen(plane, ctx, id, Action::VIEW).await
}

/// An environment of the caller's unit, by its name or else by its id.
pub async fn environment_named(plane: &Promotion, ctx: &OpCtx, name: &str) -> Result<Environment> {
    plane.estate().require_some(ctx, ENVIRONMENT, Action::VIEW).await?;
    let ou = ctx.authority().ou();
    // No row has the id 0.
    let id = name.parse::<i64>().unwrap_or(0);
    let sql =
        format!("SELECT {COLUMNS} FROM {FROM} WHERE e.ou_id = $1 AND (e.name = $2 OR e.id = $3) LIMIT 2");
    let rows = plane.estate().store().read().await?.select(sql, args![ou, name, id]).await?;
    if rows.len() > 1 {
        return Err(text::ambiguous("environment", name));
    }
    let found = rows.first().map(from_row).transpose()?;
    let found = found.ok_or_else(|| Error::not_found("environment"))?;
    require(plane, ctx, &found, Action::VIEW, "environment").await?;
    Ok(found)
}

/// Without a check of permissions.
pub(crate) async fn find(conn: &mut Conn, id: EnvironmentId) -> Result<Option<Environment>> {
    let rows = conn.select(format!("SELECT {COLUMNS} FROM {FROM} WHERE e.id = $1"), args![id]).await?;
    rows.first().map(from_row).transpose()
}

/// The environment, if the caller may do this to it.
pub(crate) async fn seen(
    plane: &Promotion,
    ctx: &OpCtx,
    id: EnvironmentId,
    action: Action,
) -> Result<Environment> {
    plane.estate().require_some(ctx, ENVIRONMENT, action).await?;
    let found = {
        let mut conn = plane.estate().store().read().await?;
        find(&mut conn, id).await?
    };
    let found = found.ok_or_else(|| Error::not_found("environment"))?;
    require(plane, ctx, &found, action, "environment").await?;
    Ok(found)
}

/// Checks that the caller may do this to an environment or to what is in it. `what` is what the caller asked for: it is
/// *not found* outside the caller's unit.
pub(crate) async fn require(
    plane: &Promotion,
    ctx: &OpCtx,
    environment: &Environment,
    action: Action,
    what: &'static str,
) -> Result<()> {
    if !environment.ou_path.starts_with(ctx.authority().ou_path()) {
        return Err(Error::not_found(what));
    }
    let (path, id) = (&environment.ou_path, environment.id.0);
    plane.estate().require(ctx, ENVIRONMENT, action, path, id).await
}

/// The environment, if the caller may see it and do this to deployments there.
pub(crate) async fn for_promotion(
    plane: &Promotion,
    ctx: &OpCtx,
    id: EnvironmentId,
    action: Action,
) -> Result<Environment> {
    let environment = seen(plane, ctx, id, Action::VIEW).await?;
    require_deploy(plane, ctx, &environment, action).await?;
    Ok(environment)
}

/// Checks that the caller may do this to deployments in an environment that the caller sees.
pub(crate) async fn require_deploy(
    plane: &Promotion,
    ctx: &OpCtx,
    environment: &Environment,
    action: Action,
) -> Result<()> {
    let (noun, path) = (environment.scenario().noun(), &environment.ou_path);
    plane.estate().require(ctx, noun, action, path, environment.id.0).await
}

/// The scenarios that an environment can have, for callers who manage environments.
pub async fn scenario_list(plane: &Promotion, ctx: &OpCtx) -> Result<Vec<Scenario>> {
    plane.estate().require_some(ctx, ENVIRONMENT, Action::MANAGE).await?;
    Ok(Scenario::ALL.to_vec())
}

pub async fn environment_create(
    plane: &Promotion,
    ctx: &OpCtx,
    facts: Input<EnvironmentFacts>,
) -> Result<Environment> {
    let estate = plane.estate();
    estate.require_here(ctx, ENVIRONMENT, Action::MANAGE).await?;
    let facts = facts.checked(check)?;
    let made = Environment {
        id: estate.next::<EnvironmentId>(EnvironmentId::KIND).await?,
        ou: ctx.authority().ou(),
        ou_path: ctx.authority().ou_path().to_owned(),
        uuid: estate.uuid(),
        name: facts.name,
        description: facts.description,
        minimum_update: facts.minimum_update,
        minimum_update_mandatory: facts.minimum_update_mandatory,
        minimum_update_url: facts.minimum_update_url,
        license_alias: facts.license_alias,
        environment_type: facts.environment_type,
        created_at: estate.now(),
        row_version: 1,
    };
    let configuration = StoredConfiguration::initial()?;
    let (act, row) = (OwnedAct::new("created", ENVIRONMENT, made.id.0, &made.name), made.clone());
    estate
        .change(ctx, act, move |tx| Box::pin(async move { insert(tx, &row, &configuration).await }))
        .await
        .map_err(|error| taken(error, "name"))?;
    Ok(made)
}

async fn insert(tx: &mut Tx, row: &Environment, configuration: &str) -> Result<()> {
    let count = tx.one("SELECT count(*) FROM promotion_environments WHERE ou_id = $1", args![row.ou]).await?;
    if count.int(0)? >= MAX_ENVIRONMENTS {
        let message = format!("an organizational unit can have at most {MAX_ENVIRONMENTS} environments");
        return Err(Error::fault("", "limit", message));
    }
    tx.exec(
        "INSERT INTO promotion_environments (id, ou_id, uuid, name, description, minimum_update, \
         minimum_update_mandatory, minimum_update_url, license_alias, environment_type, configuration, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        args![
            row.id,
            row.ou,
            row.uuid,
            &row.name,
            row.description.clone(),
            row.minimum_update.clone(),
            row.minimum_update_mandatory,
            row.minimum_update_url.clone(),
            row.license_alias.clone(),
            row.environment_type.clone(),
            configuration,
            row.created_at,
        ],
    )
    .await
    .map(drop)
}

/// Replaces what is known of an environment: what is left out is cleared.
pub async fn environment_update(
    plane: &Promotion,
    ctx: &OpCtx,
    id: EnvironmentId,
    facts: Input<EnvironmentFacts>,
) -> Result<Environment> {
    let before = seen(plane, ctx, id, Action::MANAGE).await?;
    let facts = facts.checked(check)?;
    let after = Environment {
        name: facts.name,
        description: facts.description,
        minimum_update: facts.minimum_update,
        minimum_update_mandatory: facts.minimum_update_mandatory,
        minimum_update_url: facts.minimum_update_url,
        license_alias: facts.license_alias,
        environment_type: facts.environment_type,
        row_version: before.row_version + 1,
        ..before.clone()
    };
    let (act, row) = (OwnedAct::new("updated", ENVIRONMENT, id.0, &after.name), after.clone());
    plane
        .estate()
        .change(ctx, act, move |tx| Box::pin(async move { write(tx, &row, before.row_version).await }))
        .await
        .map_err(|error| taken(error, "name"))?;
    Ok(after)
}

async fn write(tx: &mut Tx, row: &Environment, read: i64) -> Result<()> {
    tx.update_row(
        "environment",
        "UPDATE promotion_environments SET name = $3, description = $4, minimum_update = $5, \
         minimum_update_mandatory = $6, minimum_update_url = $7, license_alias = $8, environment_type = $9, \
         row_version = row_version + 1 WHERE id = $1 AND row_version = $2",
        args![
            row.id,
            read,
            &row.name,
            row.description.clone(),
            row.minimum_update.clone(),
            row.minimum_update_mandatory,
            row.minimum_update_url.clone(),
            row.license_alias.clone(),
            row.environment_type.clone(),
        ],
    )
    .await
}

/// Deletes an environment with everything in it, also the nodes that were made with its servers.
pub async fn environment_delete(plane: &Promotion, ctx: &OpCtx, id: EnvironmentId) -> Result<()> {
    let environment = seen(plane, ctx, id, Action::MANAGE).await?;
    let (ou, ids) = (environment.ou, plane.estate().hash_ids().clone());
    plane
        .estate()
        .change(ctx, OwnedAct::new("deleted", ENVIRONMENT, id.0, environment.name), move |tx| {
            Box::pin(async move {
                not_deploying(tx, id).await?;
                let made = servers::nodes_made_in_environment(tx, id).await?;
                tx.exec("DELETE FROM promotion_environments WHERE id = $1", args![id]).await?;
                nodes::delete_made(tx, &ids, ou, &made).await
            })
        })
        .await
}

/// Makes changes to what is in an environment wait for one another, and fails if it is gone.
pub(crate) async fn lock(tx: &mut Tx, id: EnvironmentId) -> Result<()> {
    let sql = tx.dialect().pick(
        "SELECT id FROM promotion_environments WHERE id = $1",
        "SELECT id FROM promotion_environments WHERE id = $1 FOR UPDATE",
    );
    tx.opt(sql, args![id]).await?.map(drop).ok_or_else(|| Error::not_found("environment"))
}

/// Locks the environment, and fails if a deployment to it is in progress.
pub(crate) async fn not_deploying(tx: &mut Tx, id: EnvironmentId) -> Result<()> {
    lock(tx, id).await?;
    let sql = "SELECT id, environment_name FROM promotion_deployments WHERE environment_id = $1 \
               AND state = 'in_progress' ORDER BY id LIMIT 1";
    let Some(row) = tx.opt(sql, args![id]).await? else { return Ok(()) };
    let message = format!("the deployment {} to {} is in progress", row.int(0)?, row.text(1)?);
    Err(Error::conflict("deploying", message))
}
