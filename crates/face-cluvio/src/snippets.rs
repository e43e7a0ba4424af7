//! SQL snippets: list, create, get, update, delete.

use std::sync::Arc;

use axum::extract::State;
use landreeve_analytics::ids::SnippetId;
use landreeve_analytics::snippets::{self as plane, Snippet};
use landreeve_core::{Error, OpCtx, Part, Result};
use landreeve_http::extract::{Path, Query};
use landreeve_http::{Items, Outcome};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::caller::Caller;
use crate::include::Include;
use crate::input::Patch;
use crate::media::{JsonApi, JsonBody, no_content};
use crate::wire::Document;
use crate::wire::snippets::{self as wire, SqlSnippet};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, update, delete))
}

fn snippet_id(app: &App, id: &str) -> Result<SnippetId> {
    app.ids().decode_grouped(id).ok_or_else(|| Error::not_found("snippet"))
}

async fn rendered(app: &App, snippets: &[Snippet]) -> Result<Vec<SqlSnippet>> {
    let uses = plane::snippets_use(app.plane(), snippets).await?;
    Ok(snippets.iter().zip(&uses).map(|(snippet, uses)| wire::render(snippet, uses, app.ids())).collect())
}

async fn one(app: &App, snippet: Snippet) -> Result<Document<SqlSnippet>> {
    let snippet = rendered(app, &[snippet]).await?.into_iter().next();
    snippet.map(Document::of).ok_or_else(|| Error::internal("a snippet that vanished"))
}

/// The snippets that the caller can see, limited to the ids in `only` if given.
pub fn items(app: &App, ctx: &OpCtx, only: Option<Vec<SnippetId>>) -> Items {
    let (app, ctx, only) = (app.clone(), ctx.clone(), Arc::new(only));
    Items::pages(move |after| {
        let (app, ctx, only) = (app.clone(), ctx.clone(), Arc::clone(&only));
        async move {
            let part = plane::snippet_list(app.plane(), &ctx, (*only).as_deref(), after).await?;
            Ok(Part { items: rendered(&app, &part.items).await?, next: part.next })
        }
    })
}

/// Create SQL Snippet
///
/// Needs *Manage SQL Snippets*.
#[utoipa::path(post, path = "/sql_snippets", tag = "SQL snippets", operation_id = "createSqlSnippet",
    request_body(content = Document<SqlSnippet>, content_type = "application/vnd.api+json",
        example = json!({"data": {"attributes": {"name": "revenue", "sql": "sum(o_totalprice)"}}})),
    responses((status = 201, body = Document<SqlSnippet>, content_type = "application/vnd.api+json")))]
async fn create(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    JsonBody(body): JsonBody,
) -> Outcome {
    let new = Patch::create(wire::read(&body, app.ids(), None)?);
    let made = plane::snippet_create(app.plane(), &ctx, new).await;
    let made = made.map_err(|error| wire::NAMES.point(error))?;
    out.created(&one(&app, made).await?)
}

/// List SQL Snippets
///
/// Needs *View SQL Snippets* or *Manage SQL Snippets*.
#[utoipa::path(get, path = "/sql_snippets", tag = "SQL snippets", operation_id = "listSqlSnippets",
    responses((status = 200, body = Document<Vec<SqlSnippet>>, content_type = "application/vnd.api+json")))]
async fn list(State(app): State<App>, Caller(ctx): Caller, out: JsonApi, query: Query) -> Outcome {
    Include::none(&query)?;
    out.list(items(&app, &ctx, None), None).await
}

/// Get SQL Snippet
///
/// Needs *View SQL Snippets* or *Manage SQL Snippets*.
#[utoipa::path(get, path = "/sql_snippets/{id}", tag = "SQL snippets", operation_id = "getSqlSnippet",
    params(("id" = String, Path)),
    responses((status = 200, body = Document<SqlSnippet>, content_type = "application/vnd.api+json")))]
async fn get(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    Path(id): Path<String>,
    query: Query,
) -> Outcome {
    Include::none(&query)?;
    let found = plane::snippet_get(app.plane(), &ctx, snippet_id(&app, &id)?).await?;
    out.ok(&one(&app, found).await?)
}

/// Update SQL Snippet
///
/// Needs *Manage SQL Snippets*. A change that would create a cycle is rejected.
#[utoipa::path(method(put, patch), path = "/sql_snippets/{id}", tag = "SQL snippets",
    operation_id = "updateSqlSnippet",
    params(("id" = String, Path)),
    request_body(content = Document<SqlSnippet>, content_type = "application/vnd.api+json",
        example = json!({"data": {"attributes": {"sql": "sum(o_totalprice) / 1000"}}})),
    responses((status = 200, body = Document<SqlSnippet>, content_type = "application/vnd.api+json")))]
async fn update(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Outcome {
    let which = snippet_id(&app, &id)?;
    let change = Patch::change(wire::read(&body, app.ids(), Some(&id))?);
    let after = plane::snippet_update(app.plane(), &ctx, which, change).await;
    let after = after.map_err(|error| wire::NAMES.point(error))?;
    out.ok(&one(&app, after).await?)
}

/// Delete SQL Snippet
///
/// Needs *Manage SQL Snippets*.
#[utoipa::path(delete, path = "/sql_snippets/{id}", tag = "SQL snippets", operation_id = "deleteSqlSnippet",
    params(("id" = String, Path)), responses((status = 204)))]
async fn delete(State(app): State<App>, Caller(ctx): Caller, Path(id): Path<String>) -> Outcome {
    plane::snippet_delete(app.plane(), &ctx, snippet_id(&app, &id)?).await?;
    Ok(no_content())
}
