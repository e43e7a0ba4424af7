//! Filters: list, create, get, update, delete; the options of drop-downs.

use std::sync::Arc;

use axum::extract::State;
use landreeve_analytics::filters::{self as plane, FilterDetails};
use landreeve_analytics::ids::FilterId;
use landreeve_core::error::Faults;
use landreeve_core::{Error, OpCtx, Result};
use landreeve_http::extract::{Path, Query};
use landreeve_http::{Items, Outcome};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::caller::Caller;
use crate::error::Errors;
use crate::include::Include;
use crate::media::{JsonApi, JsonBody, PlainJson, no_content};
use crate::wire::filters::{self as wire, Filter, FilterOptions};
use crate::wire::{Document, executions, parameters};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(options, options_for))
}

fn filter_id(app: &App, id: &str) -> Result<FilterId> {
    app.ids().decode_grouped(id).ok_or_else(|| Error::not_found("filter"))
}

/// The filters that the caller can see, limited to the ids in `only` if given.
pub fn items(app: &App, ctx: &OpCtx, only: Option<Vec<FilterId>>) -> Items {
    let (app, ctx, only) = (app.clone(), ctx.clone(), Arc::new(only));
    Items::pages(move |after| {
        let (app, ctx, only) = (app.clone(), ctx.clone(), Arc::clone(&only));
        async move {
            let part = plane::filter_list(app.plane(), &ctx, (*only).as_deref(), after).await?;
            Ok(part.with(|all| all.iter().map(|filter| wire::render(filter, app.ids())).collect()))
        }
    })
}

/// Create Filter
///
/// Needs *Manage Filters*.
#[utoipa::path(post, path = "/filters", tag = "Filters", operation_id = "createFilter",
    request_body(content = Document<Filter>, content_type = "application/vnd.api+json",
        example = json!({"data": {"attributes": {"name": "Order status", "variable_name": "status",
            "control_type": "dropdown", "value_type": "text", "values": ["F", "O", "P"],
            "value_names": ["Finished", "Open", "Pending"]}}})),
    responses((status = 201, body = Document<Filter>, content_type = "application/vnd.api+json")))]
async fn create(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    JsonBody(body): JsonBody,
) -> Outcome {
    let new = wire::read(&body, app.ids(), None)?.map(|change, faults| {
        let mut details = FilterDetails::default();
        change.apply(&mut details, faults);
        details
    });
    let made = plane::filter_create(app.plane(), &ctx, new).await;
    let made = made.map_err(|error| wire::NAMES.point(error))?;
    out.created(&Document::of(wire::render(&made, app.ids())))
}

/// List Filters
///
/// Needs *View Filters* or *Manage Filters*.
#[utoipa::path(get, path = "/filters", tag = "Filters", operation_id = "listFilters",
    responses((status = 200, body = Document<Vec<Filter>>, content_type = "application/vnd.api+json")))]
async fn list(State(app): State<App>, Caller(ctx): Caller, out: JsonApi, query: Query) -> Outcome {
    Include::none(&query)?;
    out.list(items(&app, &ctx, None), None).await
}

/// Get Filter
///
/// Needs *View Filters* or *Manage Filters*.
#[utoipa::path(get, path = "/filters/{id}", tag = "Filters", operation_id = "getFilter",
    params(("id" = String, Path)),
    responses((status = 200, body = Document<Filter>, content_type = "application/vnd.api+json")))]
async fn get(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    Path(id): Path<String>,
    query: Query,
) -> Outcome {
    Include::none(&query)?;
    let found = plane::filter_get(app.plane(), &ctx, filter_id(&app, &id)?).await?;
    out.ok(&Document::of(wire::render(&found, app.ids())))
}

/// Update Filter
///
/// Needs *Manage Filters*. Omitted attributes are kept; null clears.
#[utoipa::path(method(put, patch), path = "/filters/{id}", tag = "Filters", operation_id = "updateFilter",
    params(("id" = String, Path)),
    request_body(content = Document<Filter>, content_type = "application/vnd.api+json",
        example = json!({"data": {"attributes": {"values": ["F", "O"], "value_names": ["Finished", "Open"]}}})),
    responses((status = 200, body = Document<Filter>, content_type = "application/vnd.api+json")))]
async fn update(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Outcome {
    let which = filter_id(&app, &id)?;
    let change = wire::read(&body, app.ids(), Some(&id))?
        .map(|change, _| |details: &mut FilterDetails, faults: &mut Faults| change.apply(details, faults));
    let after = plane::filter_update(app.plane(), &ctx, which, change).await;
    let after = after.map_err(|error| wire::NAMES.point(error))?;
    out.ok(&Document::of(wire::render(&after, app.ids())))
}

/// Delete Filter
///
/// Needs *Manage Filters*. SQL that uses its variable gets a text input instead.
#[utoipa::path(delete, path = "/filters/{id}", tag = "Filters", operation_id = "deleteFilter",
    params(("id" = String, Path)), responses((status = 204)))]
async fn delete(State(app): State<App>, Caller(ctx): Caller, Path(id): Path<String>) -> Outcome {
    plane::filter_delete(app.plane(), &ctx, filter_id(&app, &id)?).await?;
    Ok(no_content())
}

async fn choose(app: &App, ctx: &OpCtx, out: &PlainJson, id: &str, body: &[u8]) -> Outcome {
    let which = filter_id(app, id)?;
    let inputs = parameters::read_body(body)?;
    let given = inputs.value().clone();
    let found = landreeve_analytics::options::filter_options(app.plane(), ctx, which, inputs).await;
    let found = found.map_err(|error| executions::point_options(error, &given))?;
    out.ok(&wire::render_options(&found))
}

/// Get Drop-Down Filter Options
///
/// Needs *View Filters* or *Manage Filters*, and for options from SQL the permission to query their datasource.
#[utoipa::path(get, path = "/filters/{id}/options", tag = "Filters", operation_id = "getFilterOptions",
    params(("id" = String, Path)), responses((status = 200, body = FilterOptions),
    (status = 409, body = Errors, content_type = "application/vnd.api+json",
        description = "The filter is not a drop-down."),
    (status = 422, body = Errors, content_type = "application/vnd.api+json",
        description = "The statement that returns the options failed.")))]
async fn options(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: PlainJson,
    Path(id): Path<String>,
) -> Outcome {
    choose(&app, &ctx, &out, &id, b"").await
}

/// Get Drop-Down Filter Options
///
/// The same, with the values of other filters, which the options of dynamic SQL can depend on.
#[utoipa::path(post, path = "/filters/{id}/options", tag = "Filters", operation_id = "getFilterOptionsFor",
    params(("id" = String, Path)),
    request_body(content = executions::Parameters, content_type = "application/json",
        example = json!({"parameters": {"filters": [{"variable_name": "status", "selected_values": ["F"]}]}})),
    responses((status = 200, body = FilterOptions)))]
async fn options_for(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: PlainJson,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Outcome {
    choose(&app, &ctx, &out, &id, &body).await
}
