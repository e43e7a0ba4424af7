//! Reports: one SQL query on one datasource, with a chart, on a dashboard or standalone.

use jiff::Timestamp;
use landreeve_core::error::Faults;
use landreeve_core::ids::{DatasourceId, OuId};
use landreeve_core::{Action, Error, ErrorKind, Input, OpCtx, Part, Permission, Result};
use landreeve_estate::identity::{Place, Visibility};
use landreeve_estate::store::{Conn, Listing, Row, Where};
use landreeve_estate::{args, ops};

use crate::ids::{DashboardId, ReportId};
use crate::rows::act;
use crate::stored::StoredReport;
use crate::usage::{Names, Uses};
use crate::{Analytics, dashboards, nouns};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub id: ReportId,
    pub ou: OuId,
    pub ou_path: String,
    pub details: ReportDetails,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub row_version: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReportDetails {
    pub name: String,
    pub description: Option<String>,
    pub sql: String,
    pub chart_type: Option<String>,
    /// A JSON object, stored as received.
    pub chart: String,
    pub dashboard: Option<DashboardId>,
    /// `None` only after its datasource was deleted.
    pub datasource: Option<DatasourceId>,
}

const MAX_BYTES: usize = 1_024 * 1_024;

impl ReportDetails {
    /// Every fault that can be found without a lookup.
    pub fn check(&self, faults: &mut Faults) {
        if self.name.trim().is_empty() {
            faults.push("name", "required", "is required");
        } else if self.name.chars().count() > 255 {
            faults.push("name", "length", "must have at most 255 characters");
        }
        if self.sql.len() > MAX_BYTES {
            faults.push("query", "too_large", format!("must have at most {MAX_BYTES} bytes"));
        }
        if self.datasource.is_none() {
            faults.push("datasource", "required", "is required");
        }
    }

    fn body(&self) -> Result<String> {
        let chart = if self.chart.is_empty() { "{}" } else { &self.chart };
        let stored = StoredReport {
            version: 1,
            description: self.description.clone(),
            sql: self.sql.clone(),
            chart_type: self.chart_type.clone(),
            chart: serde_json::from_str(chart).map_err(Error::internal)?,
        };
        serde_json::to_string(&stored).map_err(Error::internal)
    }
}

macro_rules! columns {
    () => {
        "r.id, r.ou_id, o.path, r.name, r.body, r.dashboard_id, r.datasource_id, r.created_at, r.updated_at, \
         r.row_version"
    };
}

macro_rules! from {
    () => {
        "reports r JOIN ous o ON o.id = r.ou_id"
    };
}

const LISTING: Listing =
    Listing { columns: columns!(), from: from!(), order: "r.id", size: Some("length(r.body)") };

fn from_row(row: &Row) -> Result<Report> {
    let stored: StoredReport = row.json(4)?;
    Ok(Report {
        id: row.id(0)?,
        ou: row.id(1)?,
        ou_path: row.text(2)?,
        details: ReportDetails {
            name: row.text(3)?,
            description: stored.description,
            sql: stored.sql,
            chart_type: stored.chart_type,
            chart: stored.chart.to_string(),
            dashboard: row.id_opt(5)?,
            datasource: row.id_opt(6)?,
        },
        created_at: row.time(7)?,
        updated_at: row.time(8)?,
        row_version: row.int(9)?,
    })
}

/// For each of these, in order: the filters and snippets that its SQL uses.
pub async fn reports_use(plane: &Analytics, reports: &[Report]) -> Result<Vec<Uses>> {
    let mut conn = plane.estate().store().read().await?;
    let units = reports.iter().map(|report| report.ou).collect();
    let datasources = reports.iter().filter_map(|report| report.details.datasource).collect();
    let names = Names::read(&mut conn, &units, &datasources).await?;
    let uses = |report: &Report| names.uses(report.ou, report.details.datasource, &report.details.sql);
    Ok(reports.iter().map(uses).collect())
}

async fn find(conn: &mut Conn, id: ReportId) -> Result<Option<Report>> {
    let sql = concat!("SELECT ", columns!(), " FROM ", from!(), " WHERE r.id = $1");
    conn.opt(sql, args![id]).await?.as_ref().map(from_row).transpose()
}

/// The page of reports after this id, limited to those on `dashboard` if given.
pub async fn report_list(
    plane: &Analytics,
    ctx: &OpCtx,
    dashboard: Option<DashboardId>,
    after: Option<ReportId>,
) -> Result<Part<Report, ReportId>> {
    plane.estate().require_some(ctx, nouns::REPORT, Action::VIEW).await?;
    let mut conn = plane.estate().store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    Visibility::of(ctx, Permission::new(nouns::REPORT, Action::VIEW))
        .narrow(&mut wanted, &Place::named("r.ou_id", "r.id IN ($$)"))?;
    if let Some(dashboard) = dashboard {
        wanted.and_value("r.dashboard_id = $$", dashboard);
    }
    if let Some(after) = after {
        wanted.and_after("r.id", args![after]);
    }
    wanted.page(&mut conn, &LISTING, from_row, |report| report.id).await
}

pub async fn report_get(plane: &Analytics, ctx: &OpCtx, id: ReportId) -> Result<Report> {
    let found = find(&mut plane.estate().store().read().await?, id).await?;
    let found = found.ok_or_else(|| Error::not_found("report"))?;
    plane.estate().require(ctx, nouns::REPORT, Action::VIEW, &found.ou_path, id.0).await?;
    Ok(found)
}

/// What a report refers to must exist and be accessible to the caller.
async fn check_references(plane: &Analytics, ctx: &OpCtx, details: &ReportDetails) -> Result<()> {
    let mut faults = Faults::default();
    if let Some(id) = details.dashboard {
        let found = dashboards::dashboard_get(plane, ctx, id).await;
        note(&mut faults, found, "dashboard", "is not a dashboard that you can see")?;
    }
    if let Some(id) = details.datasource {
        let found = ops::datasources::datasource_for_use(plane.estate(), ctx, id).await;
        note(&mut faults, found, "datasource", "is not a datasource that you can query")?;
    }
    faults.finish()
}

/// Records lookup errors that are faults of the request, and returns others, such as an unavailable store.
fn note<T>(faults: &mut Faults, found: Result<T>, field: &str, unknown: &str) -> Result<()> {
    let Err(error) = found else { return Ok(()) };
    match error.kind {
        ErrorKind::NotFound | ErrorKind::Forbidden => faults.push(field, "unknown", unknown),
        ErrorKind::Invalid => error.faults.into_iter().for_each(|fault| faults.add(fault)),
        _ => return Err(error),
    }
    Ok(())
}

pub async fn report_create(
    plane: &Analytics,
    ctx: &OpCtx,
    details: impl Into<Input<ReportDetails>>,
) -> Result<Report> {
    let estate = plane.estate();
    estate.require_here(ctx, nouns::REPORT, Action::MANAGE).await?;
    let details = details.into().checked(ReportDetails::check)?;
    check_references(plane, ctx, &details).await?;
    let (id, now) = (estate.next::<ReportId>(ReportId::KIND).await?, estate.now());
    let report = Report {
        id,
        ou: ctx.authority().ou(),
        ou_path: ctx.authority().ou_path().to_owned(),
        details,
        created_at: now,
        updated_at: now,
        row_version: 1,
    };
    let copy = report.clone();
    plane
        .change(ctx, act("created", nouns::REPORT, id.0, &report.details.name), move |tx| {
            Box::pin(async move {
                tx.exec(
                    "INSERT INTO reports (id, ou_id, dashboard_id, datasource_id, name, body, created_at, updated_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
                    args![
                        copy.id,
                        copy.ou,
                        copy.details.dashboard,
                        copy.details.datasource,
                        &copy.details.name,
                        copy.details.body()?,
                        copy.created_at,
                    ],
                )
                .await
                .map(drop)
            })
        })
        .await?;
    Ok(report)
}

pub async fn report_update(
    plane: &Analytics,
    ctx: &OpCtx,
    id: ReportId,
    change: Input<impl FnOnce(&mut ReportDetails)>,
) -> Result<Report> {
    let estate = plane.estate();
    let before = report_get(plane, ctx, id).await?;
    estate.require(ctx, nouns::REPORT, Action::MANAGE, &before.ou_path, id.0).await?;
    let mut after = before.clone();
    change.parsed(|change, faults| {
        change(&mut after.details);
        after.details.check(faults);
    })?;
    check_references(plane, ctx, &after.details).await?;
    after.updated_at = estate.now();
    let copy = after.clone();
    plane
        .change(ctx, act("updated", nouns::REPORT, id.0, &after.details.name), move |tx| {
            Box::pin(async move {
                tx.update_row(
                    "report",
                    "UPDATE reports SET dashboard_id = $2, datasource_id = $3, name = $4, body = $5, updated_at = $6, \
                     row_version = row_version + 1 WHERE id = $1 AND row_version = $7",
                    args![
                        id,
                        copy.details.dashboard,
                        copy.details.datasource,
                        &copy.details.name,
                        copy.details.body()?,
                        copy.updated_at,
                        copy.row_version,
                    ],
                )
                .await
            })
        })
        .await?;
    after.row_version += 1;
    Ok(after)
}

pub async fn report_delete(plane: &Analytics, ctx: &OpCtx, id: ReportId) -> Result<()> {
    let found = report_get(plane, ctx, id).await?;
    plane.estate().require(ctx, nouns::REPORT, Action::MANAGE, &found.ou_path, id.0).await?;
    plane
        .change(ctx, act("deleted", nouns::REPORT, id.0, &found.details.name), move |tx| {
            Box::pin(async move { tx.exec("DELETE FROM reports WHERE id = $1", args![id]).await.map(drop) })
        })
        .await
}
