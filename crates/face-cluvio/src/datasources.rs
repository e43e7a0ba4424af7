//! Datasources: list, create, get, update, delete, test, refresh, schema.

use std::sync::Arc;

use axum::extract::State;
use landreeve_core::ids::{AgentId, DatasourceId};
use landreeve_core::{Error, Fault, Noun, OpCtx, Result};
use landreeve_estate::ops::datasources::{self as ops, Seen};
use landreeve_estate::ops::{Agent, DatasourceDetails};
use landreeve_http::Outcome;
use landreeve_http::extract::{Path, Query};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::caller::Caller;
use crate::include::Include;
use crate::input::{Checked, Patch, refuse};
use crate::media::{JsonApi, JsonBody, PlainJson, no_content};
use crate::wire::datasources::{self as wire, Datasource, Refresh, SchemaAccess, TestResult};
use crate::wire::{Document, Included, agents};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(test))
        .routes(routes!(refresh))
        .routes(routes!(schema))
}

/// The id in a path.
pub fn datasource_id(app: &App, id: &str) -> Result<DatasourceId> {
    app.ids().decode_grouped(id).ok_or_else(|| Error::not_found("datasource"))
}

/// The agents of these datasources.
async fn agents_of(app: &App, ctx: &OpCtx, seen: &[Seen]) -> Result<Vec<Agent>> {
    if seen.iter().all(|seen| seen.datasource.agents.is_empty()) {
        return Ok(Vec::new());
    }
    let mut all = ops::agent_list(app.estate(), ctx).await?;
    all.retain(|agent| seen.iter().any(|seen| seen.datasource.agents.contains(&agent.id)));
    Ok(all)
}

/// Renders datasources, with their agents if included.
async fn rendered(
    app: &App,
    ctx: &OpCtx,
    seen: &[Seen],
    include: &Include,
) -> Result<(Vec<Datasource>, Option<Vec<Included>>)> {
    let linked = agents_of(app, ctx, seen).await?;
    let keys: Vec<(i64, String)> =
        linked.iter().map(|agent| (agent.id.0, agent.public_key.clone())).collect();
    let datasources = seen.iter().map(|seen| wire::render(seen, app.ids(), &keys)).collect();
    let agent = |agent| Included::DatasourceAgent(Box::new(agents::render(agent, app.ids(), None)));
    Ok((datasources, include.any().then(|| linked.iter().map(agent).collect())))
}

/// Datasources as included objects.
pub async fn included(app: &App, ctx: &OpCtx, ids: &[DatasourceId]) -> Result<Vec<Included>> {
    let mut seen = ops::datasource_list(app.estate(), ctx).await?;
    seen.retain(|seen| ids.contains(&seen.datasource.id));
    let (datasources, _) = rendered(app, ctx, &seen, &Include::default()).await?;
    Ok(datasources.into_iter().map(|datasource| Included::Datasource(Box::new(datasource))).collect())
}

async fn one(app: &App, ctx: &OpCtx, seen: Seen, include: &Include) -> Result<Document<Datasource>> {
    let (datasources, included) = rendered(app, ctx, &[seen], include).await?;
    let data = datasources.into_iter().next().ok_or_else(|| Error::internal("a datasource that vanished"))?;
    Ok(Document { data, included })
}

type Change = (Patch<DatasourceDetails>, Option<Vec<AgentId>>);

/// Reads a request and looks up its agents.
async fn read(app: &App, ctx: &OpCtx, body: &[u8], id: Option<&str>) -> Result<Checked<Change>> {
    let Checked { value: (patch, keys), mut faults } =
        wire::read(body, id, &app.estate().registry().database_types())?;
    let Some(keys) = keys else { return Ok(Checked { value: (patch, None), faults }) };
    let known = if keys.is_empty() { Vec::new() } else { ops::agent_list(app.estate(), ctx).await? };
    let mut linked = Vec::new();
    for (at, key) in keys.iter().enumerate() {
        match known.iter().find(|agent| agent.public_key == *key) {
            Some(agent) => linked.push(agent.id),
            None => {
                let field = format!("/data/relationships/agents/data/{at}/id");
                faults.push(Fault::new(field, "unknown", "is not an agent of this unit"));
            }
        }
    }
    Ok(Checked { value: (patch, Some(linked)), faults })
}

/// Create Datasource
///
/// Needs *Manage Datasources*. Secrets are stored encrypted.
#[utoipa::path(post, path = "/datasources", tag = "Datasources", operation_id = "createDatasource",
    request_body(content = Document<Datasource>, content_type = "application/vnd.api+json",
        example = json!({"data": {"attributes": {"name": "Shop", "database_type": "postgres", "host": "localhost",
            "port": 5432, "username": "reader", "password": "secret", "database": "shop",
            "data_time_zone": "Europe/Berlin"}}})),
    responses((status = 201, body = Document<Datasource>, content_type = "application/vnd.api+json")))]
async fn create(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    JsonBody(body): JsonBody,
) -> Outcome {
    let Checked { value: (patch, linked), faults } = read(&app, &ctx, &body, None).await?;
    let mut details = DatasourceDetails::default();
    patch.apply(&mut details);
    if !faults.is_empty() {
        return Err(refuse(&app, &ctx, Noun::DATASOURCE, faults, details.check(), &wire::NAMES).await);
    }
    let made = ops::datasource_create(app.estate(), &ctx, details, linked.unwrap_or_default()).await;
    let made = made.map_err(|error| wire::NAMES.point(error))?;
    let seen = Seen { datasource: Arc::new(made), credentials: true };
    out.created(&one(&app, &ctx, seen, &Include::default()).await?)
}

/// List Datasources
///
/// Needs *View Datasources* or *Manage Datasources*. Credentials are shown only to keys that can manage the datasource.
#[utoipa::path(get, path = "/datasources", tag = "Datasources", operation_id = "listDatasources",
    params(("include" = Option<String>, Query, description = "`agents`")),
    responses((status = 200, body = Document<Vec<Datasource>>, content_type = "application/vnd.api+json")))]
async fn list(State(app): State<App>, Caller(ctx): Caller, out: JsonApi, query: Query) -> Outcome {
    let include = Include::read(&query, &["agents"])?;
    let seen = ops::datasource_list(app.estate(), &ctx).await?;
    let (data, included) = rendered(&app, &ctx, &seen, &include).await?;
    out.ok(&Document { data, included })
}

/// Get Datasource
///
/// Needs *View Datasources* or *Manage Datasources*. Credentials are shown only to keys that can manage the datasource.
#[utoipa::path(get, path = "/datasources/{id}", tag = "Datasources", operation_id = "getDatasource",
    params(("id" = String, Path), ("include" = Option<String>, Query, description = "`agents`")),
    responses((status = 200, body = Document<Datasource>, content_type = "application/vnd.api+json")))]
async fn get(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    Path(id): Path<String>,
    query: Query,
) -> Outcome {
    let include = Include::read(&query, &["agents"])?;
    let seen = ops::datasource_get(app.estate(), &ctx, datasource_id(&app, &id)?).await?;
    out.ok(&one(&app, &ctx, seen, &include).await?)
}

/// Update Datasource
///
/// Needs *Manage Datasources*. Omitted attributes are kept; null clears.
#[utoipa::path(method(put, patch), path = "/datasources/{id}", tag = "Datasources",
    operation_id = "updateDatasource",
    params(("id" = String, Path)),
    request_body(content = Document<Datasource>, content_type = "application/vnd.api+json",
        example = json!({"data": {"attributes": {"max_concurrent_executions": 5}}})),
    responses((status = 200, body = Document<Datasource>, content_type = "application/vnd.api+json")))]
async fn update(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Outcome {
    let which = datasource_id(&app, &id)?;
    let Checked { value: (patch, linked), faults } = read(&app, &ctx, &body, Some(&id)).await?;
    if !faults.is_empty() {
        let seen = ops::datasource_get(app.estate(), &ctx, which).await?;
        let mut details = seen.datasource.details.clone();
        patch.apply(&mut details);
        return Err(refuse(&app, &ctx, Noun::DATASOURCE, faults, details.check(), &wire::NAMES).await);
    }
    let after =
        ops::datasource_update(app.estate(), &ctx, which, |details| patch.apply(details), linked).await;
    let after = after.map_err(|error| wire::NAMES.point(error))?;
    let seen = Seen { datasource: Arc::new(after), credentials: true };
    out.ok(&one(&app, &ctx, seen, &Include::default()).await?)
}

/// Delete Datasource
///
/// Needs *Manage Datasources*. Reports, filters and snippets that use it are kept, without a datasource.
#[utoipa::path(delete, path = "/datasources/{id}", tag = "Datasources", operation_id = "deleteDatasource",
    params(("id" = String, Path)), responses((status = 204)))]
async fn delete(State(app): State<App>, Caller(ctx): Caller, Path(id): Path<String>) -> Outcome {
    ops::datasource_delete(app.estate(), &ctx, datasource_id(&app, &id)?).await?;
    Ok(no_content())
}

/// Test Datasource Connection
///
/// Needs *Manage Datasources*. Connects and runs a minimal query; an error from the database is in the result.
#[utoipa::path(post, path = "/datasources/{id}/test", tag = "Datasources",
    operation_id = "testDatasourceConnection",
    params(("id" = String, Path)), responses((status = 200, body = TestResult)))]
async fn test(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: PlainJson,
    Path(id): Path<String>,
) -> Outcome {
    let tested = ops::datasource_test(app.estate(), &ctx, datasource_id(&app, &id)?).await?;
    out.ok(&match tested {
        Ok(_) => TestResult { status: "ok", error_message: None },
        Err(message) => TestResult { status: "error", error_message: Some(message) },
    })
}

/// Refresh Datasource
///
/// Needs *Manage Datasources*. Reads the schema again; poll the execution for progress.
#[utoipa::path(post, path = "/datasources/{id}/refresh", tag = "Datasources",
    operation_id = "refreshDatasource",
    params(("id" = String, Path)), responses((status = 200, body = Refresh)))]
async fn refresh(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: PlainJson,
    Path(id): Path<String>,
) -> Outcome {
    let run = ops::datasource_refresh(app.estate(), &ctx, datasource_id(&app, &id)?).await?;
    out.ok(&Refresh { execution_id: run.uuid.to_string() })
}

/// Get Datasource Schema
///
/// Needs *View Datasources* or *Manage Datasources*. Fetch the schema itself from the data server with key and token.
#[utoipa::path(get, path = "/datasources/{id}/schema", tag = "Datasources",
    operation_id = "getDatasourceSchema",
    params(("id" = String, Path), ("name" = Option<String>, Query, description = "Only the schema with this name.")),
    responses((status = 200, body = SchemaAccess)))]
async fn schema(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: PlainJson,
    Path(id): Path<String>,
    query: Query,
) -> Outcome {
    let name = query.text("name").filter(|name| !name.is_empty());
    let id = datasource_id(&app, &id)?;
    let grant = landreeve_analytics::executions::schema_grant(app.plane(), &ctx, id, name).await?;
    out.ok(&SchemaAccess { data_key: grant.key, data_access_token: grant.token })
}
