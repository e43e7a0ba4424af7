//! Datasource agents: list, create, get, update. None can connect yet.

use axum::extract::State;
use landreeve_core::OpCtx;
use landreeve_estate::ops::datasources as ops;
use landreeve_estate::ops::{AgentFilter, DatasourceFilter};
use landreeve_http::extract::{Path, Query};
use landreeve_http::{Items, Outcome};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::caller::Caller;
use crate::datasources;
use crate::include::Include;
use crate::media::{JsonApi, JsonBody};
use crate::wire::Document;
use crate::wire::agents::{self as wire, DatasourceAgent};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, update))
}

/// The agents that the caller can see, limited by the filter.
pub fn items(app: &App, ctx: &OpCtx, asked: &AgentFilter) -> Items {
    let (app, ctx, asked) = (app.clone(), ctx.clone(), asked.clone());
    Items::pages(move |after| {
        let (app, ctx, asked) = (app.clone(), ctx.clone(), asked.clone());
        async move {
            let part = ops::agent_list(app.estate(), &ctx, &asked, after).await?;
            Ok(part.with(|all| all.iter().map(|agent| wire::render(agent, app.ids(), None)).collect()))
        }
    })
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
    let made = ops::agent_create(app.estate(), &ctx, wire::read(&body, None)?).await;
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
    let included = include.any().then(|| {
        vec![datasources::items(
            &app,
            &ctx,
            &DatasourceFilter { with_agents: true, ..DatasourceFilter::default() },
        )]
    });
    out.list(items(&app, &ctx, &AgentFilter::default()), included).await
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
    let used_by = DatasourceFilter { ids: Some(agent.datasources.clone()), ..DatasourceFilter::default() };
    let included = include.any().then(|| vec![datasources::items(&app, &ctx, &used_by)]);
    out.with(&wire::render(&agent, app.ids(), None), included).await
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
    let after = ops::agent_update(app.estate(), &ctx, &id, wire::read(&body, Some(&id))?).await;
    let agent = after.map_err(|error| wire::NAMES.point(error))?;
    out.ok(&Document::of(wire::render(&agent, app.ids(), None)))
}
