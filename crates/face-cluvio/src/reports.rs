//! Reports: list, create, get, update, delete, run.

use axum::extract::State;
use landreeve_analytics::executions as runs;
use landreeve_analytics::ids::{DashboardId, ReportId};
use landreeve_analytics::reports::{self as plane, Report as PlaneReport};
use landreeve_core::{Error, OpCtx, Part, Result};
use landreeve_http::extract::{Path, Query};
use landreeve_http::{Items, Outcome};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::caller::Caller;
use crate::executions::{wait, waited};
use crate::include::Include;
use crate::input::Patch;
use crate::media::{JsonApi, JsonBody, no_content};
use crate::wire::reports::{self as wire, Report};
use crate::wire::{Document, executions, parameters};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(run))
}

fn report_id(app: &App, id: &str) -> Result<ReportId> {
    app.ids().decode_grouped(id).ok_or_else(|| Error::not_found("report"))
}

async fn rendered(app: &App, reports: &[PlaneReport]) -> Result<Vec<Report>> {
    let uses = plane::reports_use(app.plane(), reports).await?;
    Ok(reports.iter().zip(&uses).map(|(report, uses)| wire::render(report, uses, app.ids())).collect())
}

async fn one(app: &App, report: PlaneReport) -> Result<Document<Report>> {
    let report = rendered(app, &[report]).await?.into_iter().next();
    report.map(Document::of).ok_or_else(|| Error::internal("a report that vanished"))
}

/// The reports that the caller can see, limited to those on `dashboard` if given.
pub fn items(app: &App, ctx: &OpCtx, dashboard: Option<DashboardId>) -> Items {
    let (app, ctx) = (app.clone(), ctx.clone());
    Items::pages(move |after| {
        let (app, ctx) = (app.clone(), ctx.clone());
        async move {
            let part = plane::report_list(app.plane(), &ctx, dashboard, after).await?;
            Ok(Part { items: rendered(&app, &part.items).await?, next: part.next })
        }
    })
}

/// Create Report
///
/// Needs *Manage Dashboards*, for a datasource that the key can query.
#[utoipa::path(post, path = "/reports", tag = "Reports", operation_id = "createReport",
    request_body(content = Document<Report>, content_type = "application/vnd.api+json",
        example = json!({"data": {"attributes": {"name": "Orders per month",
            "query": "select {o_orderdate:month} as month, count(*) as orders from orders where {o_orderdate=timerange} group by 1 order by 1",
            "chart_type": "table"},
            "relationships": {"datasource": {"data": {"type": "datasources", "id": "8qxn-y9ex-65vd"}}}}})),
    responses((status = 201, body = Document<Report>, content_type = "application/vnd.api+json")))]
async fn create(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    JsonBody(body): JsonBody,
) -> Outcome {
    let new = Patch::create(wire::read(&body, app.ids(), None)?);
    let made = plane::report_create(app.plane(), &ctx, new).await;
    let made = made.map_err(|error| wire::NAMES.point(error))?;
    out.created(&one(&app, made).await?)
}

/// List Reports
///
/// Needs *View Dashboards* or *Manage Dashboards*.
#[utoipa::path(get, path = "/reports", tag = "Reports", operation_id = "listReports",
    params(("dashboard" = Option<String>, Query, description = "Only the reports of this dashboard.")),
    responses((status = 200, body = Document<Vec<Report>>, content_type = "application/vnd.api+json")))]
async fn list(State(app): State<App>, Caller(ctx): Caller, out: JsonApi, query: Query) -> Outcome {
    Include::none(&query)?;
    let dashboard = match query.text("dashboard").filter(|id| !id.is_empty()) {
        None => None,
        Some(id) => {
            let id = app.ids().decode_grouped::<DashboardId>(id);
            Some(id.ok_or_else(|| Error::fault("?dashboard", "unknown", "is not an id of dashboards"))?)
        }
    };
    out.list(items(&app, &ctx, dashboard), None).await
}

/// Get Report
///
/// Needs *View Dashboards* or *Manage Dashboards*.
#[utoipa::path(get, path = "/reports/{id}", tag = "Reports", operation_id = "getReport",
    params(("id" = String, Path)),
    responses((status = 200, body = Document<Report>, content_type = "application/vnd.api+json")))]
async fn get(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    Path(id): Path<String>,
    query: Query,
) -> Outcome {
    Include::none(&query)?;
    let found = plane::report_get(app.plane(), &ctx, report_id(&app, &id)?).await?;
    out.ok(&one(&app, found).await?)
}

/// Update Report
///
/// Needs *Manage Dashboards*. Omitted attributes are kept; null clears.
#[utoipa::path(method(put, patch), path = "/reports/{id}", tag = "Reports", operation_id = "updateReport",
    params(("id" = String, Path)),
    request_body(content = Document<Report>, content_type = "application/vnd.api+json",
        example = json!({"data": {"attributes": {"query": "select count(*) from orders"}}})),
    responses((status = 200, body = Document<Report>, content_type = "application/vnd.api+json")))]
async fn update(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Outcome {
    let which = report_id(&app, &id)?;
    let change = Patch::change(wire::read(&body, app.ids(), Some(&id))?);
    let after = plane::report_update(app.plane(), &ctx, which, change).await;
    let after = after.map_err(|error| wire::NAMES.point(error))?;
    out.ok(&one(&app, after).await?)
}

/// Delete Report
///
/// Needs *Manage Dashboards*.
#[utoipa::path(delete, path = "/reports/{id}", tag = "Reports", operation_id = "deleteReport",
    params(("id" = String, Path)), responses((status = 204)))]
async fn delete(State(app): State<App>, Caller(ctx): Caller, Path(id): Path<String>) -> Outcome {
    plane::report_delete(app.plane(), &ctx, report_id(&app, &id)?).await?;
    Ok(no_content())
}

/// Run Report
///
/// Needs *View Dashboards* or *Manage Dashboards*, and the permission to query the report's datasource. Omitted
/// parameters get the defaults of its dashboard.
#[utoipa::path(post, path = "/reports/{id}/run", tag = "Reports", operation_id = "runReport",
    params(("id" = String, Path), ("wait" = Option<u32>, Query, minimum = 0, maximum = 60)),
    request_body(content = executions::Parameters, content_type = "application/json",
        example = json!({"parameters": {"timerange": "694224000~725846399"}})),
    responses((status = 200, body = Document<executions::Execution>, content_type = "application/vnd.api+json")))]
async fn run(
    State(app): State<App>,
    Caller(ctx): Caller,
    out: JsonApi,
    Path(id): Path<String>,
    query: Query,
    JsonBody(body): JsonBody,
) -> Outcome {
    let (report, wait) = (report_id(&app, &id)?, wait(&app, &query)?);
    let inputs = parameters::read_body(&body)?;
    let given = inputs.value().clone();
    let run = runs::report_run(app.plane(), &ctx, report, inputs).await;
    let run = run.map_err(|error| executions::point_report(error, &given))?;
    let execution = waited(&app, &ctx, run, wait).await?;
    out.ok(&Document::of(executions::render(&execution)))
}
