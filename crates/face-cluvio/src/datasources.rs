//! Datasources: list, create, get, update, delete, test, refresh, schema.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use landreeve_core::ids::{AgentId, DatasourceId};
use landreeve_core::{Error, Input, OpCtx, Result, page};
use landreeve_estate::ops::datasources::{self as ops, Seen};
use landreeve_estate::ops::{Agent, AgentFilter, DatasourceDetails, DatasourceFilter};
use landreeve_http::extract::{Path, Query};
use landreeve_http::{Items, Outcome};
use serde_json::value::RawValue;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::caller::Caller;
use crate::include::Include;
use crate::input::Patch;
use crate::media::{JsonApi, JsonBody, PlainJson, no_content};
use crate::wire::Document;
use crate::wire::datasources::{self as wire, Datasource, Refresh, SchemaAccess, TestResult};
use crate::{App, agents};

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

/// The agents of these datasources that the caller can see.
async fn agents_of(app: &App, ctx: &OpCtx, seen: &[Seen]) -> Result<Vec<Agent>> {
    let ids: BTreeSet<AgentId> =
        seen.iter().flat_map(|seen| seen.datasource.agents.iter().copied()).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let asked = AgentFilter { ids: Some(ids.into_iter().collect()), ..AgentFilter::default() };
    page::collect(|after| ops::agent_list(app.estate(), ctx, &asked, after)).await
}

/// The agents' public keys, which are their ids on the wire.
fn keys_of(linked: &[Agent]) -> Vec<(i64, String)> {
    linked.iter().map(|agent| (agent.id.0, agent.public_key.clone())).collect()
}

fn rendered(app: &App, seen: &[Seen], linked: &[Agent]) -> Vec<Datasource> {
    let keys = keys_of(linked);
    seen.iter().map(|seen| wire::render(seen, app.ids(), &keys)).collect()
}

/// The datasources that the caller can see, limited by the filter.
pub fn items(app: &App, ctx: &OpCtx, asked: &DatasourceFilter) -> Items {
    let (app, ctx, asked) = (app.clone(), ctx.clone(), asked.clone());
    Items::pages(move |after| {
        let (app, ctx, asked) = (app.clone(), ctx.clone(), asked.clone());
        async move {
            let part = ops::datasource_list(app.estate(), &ctx, &asked, true, after).await?;
            let linked = agents_of(&app, &ctx, &part.items).await?;
            Ok(part.with(|seen| rendered(&app, &seen, &linked)))
        }
    })
}

async fn one(app: &App, ctx: &OpCtx, seen: Seen) -> Result<Datasource> {
    let linked = agents_of(app, ctx, std::slice::from_ref(&seen)).await?;
    Ok(wire::render(&seen, app.ids(), &keys_of(&linked)))
}

/// The JSON of a datasource as read. What linked agents look like depends on the caller.
async fn kept(app: &App, ctx: &OpCtx, seen: Seen) -> Result<Arc<RawValue>> {
    if seen.datasource.agents.is_empty() {
        let key = (seen.datasource.id, seen.credentials);
        return app.datasources().get(key, &seen.datasource, |_| wire::render(&seen, app.ids(), &[]));
    }
    let json = serde_json::value::to_raw_value(&one(app, ctx, seen).await?).map_err(Error::internal)?;
    Ok(json.into())
}

/// Reads a request and looks up its agents.
async fn read(
    app: &App,
    ctx: &OpCtx,
    body: &[u8],
    id: Option<&str>,
) -> Result<(Input<Patch<DatasourceDetails>>, Option<Vec<AgentId>>)> {
    let read = wire::read(body, id, &app.estate().registry().database_types())?;
    let Some(keys) = read.value().1.clone() else { return Ok((read.map(|(patch, _), _| patch), None)) };
    let mut known = Vec::new();
    if !keys.is_empty() {
        let asked = AgentFilter { public_keys: Some(keys.clone()), ..AgentFilter::default() };
        known = page::collect(|after| ops::agent_list(app.estate(), ctx, &asked, after)).await?;
    }
    let mut linked = Vec::new();
    let read = read.map(|(patch, _), faults| {
        for (at, key) in keys.iter().enumerate() {
            match known.iter().find(|agent| agent.public_key == *key) {
                Some(agent) => linked.push(agent.id),
                None => {
                    let field = format!("/data/relationships/agents/data/{at}/id");
                    faults.push(field, "unknown", "is not an agent of this unit");
                }
            }
        }
        patch
    });
    Ok((read, Some(linked)))
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
    let (patch, linked) = read(&app, &ctx, &body, None).await?;
    let linked = linked.unwrap_or_default();
    let made = ops::datasource_create(app.estate(), &ctx, Patch::create(patch), linked).await;
    let made = made.map_err(|error| wire::NAMES.point(error))?;
    let seen = Seen { datasource: Arc::new(made), credentials: true };
    out.created(&Document::of(one(&app, &ctx, seen).await?))
}

/// List Datasources
///
/// Needs *View Datasources* or *Manage Datasources*. Credentials are shown only to keys that can manage the datasource.
#[utoipa::path(get, path = "/datasources", tag = "Datasources", operation_id = "listDatasources",
    params(("include" = Option<String>, Query, description = "`agents`")),
    responses((status = 200, body = Document<Vec<Datasource>>, content_type = "application/vnd.api+json")))]
async fn list(State(app): State<App>, Caller(ctx): Caller, out: JsonApi, query: Query) -> Outcome {
    let include = Include::read(&query, &["agents"])?;
    let included = include
        .any()
        .then(|| vec![agents::items(&app, &ctx, &AgentFilter { used: true, ..AgentFilter::default() })]);
    out.list(items(&app, &ctx, &DatasourceFilter::default()), included).await
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
    let linked = AgentFilter { ids: Some(seen.datasource.agents.clone()), ..AgentFilter::default() };
    let included = include.any().then(|| vec![agents::items(&app, &ctx, &linked)]);
    out.with(&&*kept(&app, &ctx, seen).await?, included).await
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
    let (patch, linked) = read(&app, &ctx, &body, Some(&id)).await?;
    let after = ops::datasource_update(app.estate(), &ctx, which, Patch::change(patch), linked).await;
    let after = after.map_err(|error| wire::NAMES.point(error))?;
    let seen = Seen { datasource: Arc::new(after), credentials: true };
    out.ok(&Document::of(one(&app, &ctx, seen).await?))
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
