//! Datasource agents: list, create, get, update. None can connect yet.

use axum::extract::State;
use landreeve_core::{Action, Noun, OpCtx, Result};
use landreeve_estate::ops::Agent;
use landreeve_estate::ops::datasources as ops;
use landreeve_http::Outcome;
use landreeve_http::extract::{Path, Query};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::caller::Caller;
use crate::datasources;
use crate::include::Include;
use crate::media::{JsonApi, JsonBody};
use crate::wire::agents::{self as wire, DatasourceAgent};
use crate::wire::{Document, Included};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, update))
}

async fn included(
    app: &App,
    ctx: &OpCtx,
    agents: &[Agent],
    include: &Include,
) -> Result<Option<Vec<Included>>> {
    if !include.any() {
        return Ok(None);
    }
    let ids: Vec<_> = agents.iter().flat_map(|agent| agent.datasources.iter().copied()).collect();
    datasources::included(app, ctx, &ids).await.map(Some)
}

/// Create Datasource Agent
///
/// Needs *Manage Datasources*. Only this response contains the secret key.
#[utoipa::path(post, path = "/datasource_agents", tag = "Datasource agents",
    operation_id = "createDatasourceAgent",
    request_body(content = Document<DatasourceAgent>, content_type = "application/vnd.api+json",
        example = json!({"data": {"attributes": {"name": "Office", "enabled": true}}})),
    responses((status = 201, body = Document<DatasourceAgent>, content_type = "application/vnd.api+json")))]
async fn create(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    JsonBody(body): JsonBody,
) -> Outcome {
    let change = wire::read(&body, None)?.settle(&app, &ctx, Noun::DATASOURCE, Action::MANAGE).await?;
    let enabled = change.enabled.unwrap_or(true);
    let made = ops::agent_create(app.estate(), &ctx, change.name.unwrap_or_default(), enabled).await;
    let (agent, secret) = made.map_err(|error| wire::NAMES.point(error))?;
    out.created(&Document::of(wire::render(&agent, app.ids(), Some(&secret))))
}

/// List Datasource Agents
///
/// Needs *View Datasources* or *Manage Datasources*.
#[utoipa::path(get, path = "/datasource_agents", tag = "Datasource agents",
    operation_id = "listDatasourceAgents",
    params(("include" = Option<String>, Query, description = "`datasources`")),
    responses((status = 200, body = Document<Vec<DatasourceAgent>>, content_type = "application/vnd.api+json")))]
async fn list(State(app): State<App>, Caller(ctx): Caller, out: JsonApi, query: Query) -> Outcome {
    let include = Include::read(&query, &["datasources"])?;
    let agents = ops::agent_list(app.estate(), &ctx).await?;
    let data: Vec<_> = agents.iter().map(|agent| wire::render(agent, app.ids(), None)).collect();
    out.ok(&Document { data, included: included(&app, &ctx, &agents, &include).await? })
}

/// Get Datasource Agent
///
/// Needs *View Datasources* or *Manage Datasources*.
#[utoipa::path(get, path = "/datasource_agents/{id}", tag = "Datasource agents",
    operation_id = "getDatasourceAgent",
    params(("id" = String, Path), ("include" = Option<String>, Query, description = "`datasources`")),
    responses((status = 200, body = Document<DatasourceAgent>, content_type = "application/vnd.api+json")))]
async fn get(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    Path(id): Path<String>,
    query: Query,
) -> Outcome {
    let include = Include::read(&query, &["datasources"])?;
    let agent = ops::agent_get(app.estate(), &ctx, &id).await?;
    let data = wire::render(&agent, app.ids(), None);
    out.ok(&Document { data, included: included(&app, &ctx, &[agent], &include).await? })
}

/// Update Datasource Agent
///
/// Needs *Manage Datasources* for every datasource that uses the agent.
#[utoipa::path(method(put, patch), path = "/datasource_agents/{id}", tag = "Datasource agents",
    operation_id = "updateDatasourceAgent",
    params(("id" = String, Path)),
    request_body(content = Document<DatasourceAgent>, content_type = "application/vnd.api+json",
        example = json!({"data": {"attributes": {"enabled": false}}})),
    responses((status = 200, body = Document<DatasourceAgent>, content_type = "application/vnd.api+json")))]
async fn update(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Outcome {
    let read = wire::read(&body, Some(&id))?;
    let change = read.settle(&app, &ctx, Noun::DATASOURCE, Action::MANAGE).await?;
    let after = ops::agent_update(app.estate(), &ctx, &id, change.name, change.enabled).await;
    let agent = after.map_err(|error| wire::NAMES.point(error))?;
    out.ok(&Document::of(wire::render(&agent, app.ids(), None)))
}
