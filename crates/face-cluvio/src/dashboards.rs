//! Dashboards: list, create, get, update, delete.

use axum::extract::State;
use landreeve_analytics::dashboards::{self as plane, Dashboard as PlaneDashboard};
use landreeve_analytics::ids::DashboardId;
use landreeve_core::ids::UserId;
use landreeve_core::{Error, OpCtx, Result};
use landreeve_estate::ops::{EVERYONE, Subject, groups, users};
use landreeve_http::extract::{Path, Query};
use landreeve_http::{Items, Outcome};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::caller::Caller;
use crate::include::Include;
use crate::input::Patch;
use crate::media::{JsonApi, JsonBody, no_content};
use crate::wire::dashboards::{self as wire, Dashboard};
use crate::wire::{Document, users as wire_users};
use crate::{App, filters, reports, snippets};

const INCLUDES: [&str; 7] = [
    "reports",
    "filters",
    "sql_snippets",
    "dashboard_groups",
    "dashboard_sharing_links",
    "user",
    "user_groups",
];

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, update, delete))
}

fn dashboard_id(app: &App, id: &str) -> Result<DashboardId> {
    app.ids().decode_grouped(id).ok_or_else(|| Error::not_found("dashboard"))
}

/// Relationships to include with a dashboard; each needs the permission to see it.
async fn included(
    app: &App,
    ctx: &OpCtx,
    dashboard: &PlaneDashboard,
    include: &Include,
) -> Result<Option<Vec<Items>>> {
    if !include.any() {
        return Ok(None);
    }
    let mut all = Vec::new();
    if include.has("reports") {
        all.push(reports::items(app, ctx, Some(dashboard.id)));
    }
    if include.has("filters") {
        all.push(filters::items(app, ctx, Some(dashboard.uses.filters.clone())));
    }
    if include.has("sql_snippets") {
        all.push(snippets::items(app, ctx, Some(dashboard.uses.snippets.clone())));
    }
    if let Some(creator) = dashboard.creator.filter(|_| include.has("user")) {
        all.push(Items::one(&user(app, ctx, creator).await?));
    }
    if include.has("user_groups") {
        let group = groups::group_get(app.estate(), ctx, EVERYONE).await?;
        all.push(Items::one(&wire_users::render_group(&group, app.ids())));
    }
    Ok(Some(all))
}

async fn user(app: &App, ctx: &OpCtx, id: UserId) -> Result<wire_users::User> {
    let user = users::user_get(app.estate(), ctx, id).await?;
    let held = users::assignments(app.estate(), ctx, Subject::User(id)).await?;
    let groups = groups::groups_of(app.estate(), ctx, id).await?;
    Ok(wire_users::render(&user, &held, &groups, app.ids()))
}

/// Create Dashboard
///
/// Needs *Manage Dashboards*.
#[utoipa::path(post, path = "/dashboards", tag = "Dashboards", operation_id = "createDashboard",
    request_body(content = Document<Dashboard>, content_type = "application/vnd.api+json",
        example = json!({"data": {"attributes": {"name": "Orders",
            "default_parameters": {"timerange": "694224000~725846399", "aggregation": "month"}}}})),
    responses((status = 201, body = Document<Dashboard>, content_type = "application/vnd.api+json")))]
async fn create(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    JsonBody(body): JsonBody,
) -> Outcome {
    let new = Patch::create(wire::read(&body, None)?);
    let made = plane::dashboard_create(app.plane(), &ctx, new).await;
    let made = made.map_err(|error| wire::NAMES.point(error))?;
    out.created(&Document::of(wire::render(&made, app.ids())))
}

/// List Dashboards
///
/// Needs *View Dashboards* or *Manage Dashboards*.
#[utoipa::path(get, path = "/dashboards", tag = "Dashboards", operation_id = "listDashboards",
    responses((status = 200, body = Document<Vec<Dashboard>>, content_type = "application/vnd.api+json")))]
async fn list(State(app): State<App>, Caller(ctx): Caller, out: JsonApi, query: Query) -> Outcome {
    Include::none(&query)?;
    let pages = Items::pages(move |after| {
        let (app, ctx) = (app.clone(), ctx.clone());
        async move {
            let part = plane::dashboard_list(app.plane(), &ctx, after).await?;
            Ok(part.with(|all| all.iter().map(|dashboard| wire::render(dashboard, app.ids())).collect()))
        }
    });
    out.list(pages, None).await
}

/// Get Dashboard
///
/// Needs *View Dashboards* or *Manage Dashboards*, and for included resources the permission to view them.
#[utoipa::path(get, path = "/dashboards/{id}", tag = "Dashboards", operation_id = "getDashboard",
    params(("id" = String, Path), ("include" = Option<String>, Query, description =
        "Some of `reports`, `filters`, `sql_snippets`, `dashboard_groups`, `dashboard_sharing_links`, `user`, `user_groups`")),
    responses((status = 200, body = Document<Dashboard>, content_type = "application/vnd.api+json")))]
async fn get(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    Path(id): Path<String>,
    query: Query,
) -> Outcome {
    let include = Include::read(&query, &INCLUDES)?;
    let found = plane::dashboard_get(app.plane(), &ctx, dashboard_id(&app, &id)?).await?;
    let included = included(&app, &ctx, &found, &include).await?;
    out.with(&wire::render(&found, app.ids()), included).await
}

/// Update Dashboard
///
/// Needs *Manage Dashboards*. Omitted attributes are kept; null clears.
#[utoipa::path(method(put, patch), path = "/dashboards/{id}", tag = "Dashboards",
    operation_id = "updateDashboard",
    params(("id" = String, Path)),
    request_body(content = Document<Dashboard>, content_type = "application/vnd.api+json",
        example = json!({"data": {"attributes": {"description": "All orders by month"}}})),
    responses((status = 200, body = Document<Dashboard>, content_type = "application/vnd.api+json")))]
async fn update(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Outcome {
    let which = dashboard_id(&app, &id)?;
    let change = Patch::change(wire::read(&body, Some(&id))?);
    let after = plane::dashboard_update(app.plane(), &ctx, which, change).await;
    let after = after.map_err(|error| wire::NAMES.point(error))?;
    out.ok(&Document::of(wire::render(&after, app.ids())))
}

/// Delete Dashboard
///
/// Needs *Manage Dashboards*. Also deletes the reports on it.
#[utoipa::path(delete, path = "/dashboards/{id}", tag = "Dashboards", operation_id = "deleteDashboard",
    params(("id" = String, Path)), responses((status = 204)))]
async fn delete(State(app): State<App>, Caller(ctx): Caller, Path(id): Path<String>) -> Outcome {
    plane::dashboard_delete(app.plane(), &ctx, dashboard_id(&app, &id)?).await?;
    Ok(no_content())
}
