//! Reports: one SQL query against one datasource, with a chart, on a dashboard or alone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use landreeve_core::datasource::{DatabaseType, SqlDialect};
use landreeve_core::error::Faults;
use landreeve_core::ids::{DashboardId, DatasourceId, OuId, ReportId};
use landreeve_core::{Action, Error, ErrorKind, Noun, OpCtx, Result};
use landreeve_estate::args;
use landreeve_estate::identity::ous::below;
use landreeve_estate::ops;
use landreeve_estate::store::{Conn, Row};

use crate::Analytics;
use crate::dashboards::{self, Uses};
use crate::filters::Filter;
use crate::lang::{self, Snippets};
use crate::options::act;
use crate::snippets::Snippet;
use crate::stored::StoredReport;
use crate::{filters, snippets};

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
    /// JSON of an object, kept as it came.
    pub chart: String,
    pub dashboard: Option<DashboardId>,
    /// `None` only after its datasource was removed.
    pub datasource: Option<DatasourceId>,
}

const MOST: usize = 1_024 * 1_024;

impl ReportDetails {
    /// Every fault that shows without looking elsewhere.
    pub fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        if self.name.trim().is_empty() {
            faults.push("name", "required", "is required");
        } else if self.name.chars().count() > 255 {
            faults.push("name", "length", "must have at most 255 characters");
        }
        if self.sql.len() > MOST {
            faults.push("query", "too_large", format!("must have at most {MOST} bytes"));
        }
        if self.datasource.is_none() {
            faults.push("datasource", "required", "is required");
        }
        faults.finish()
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

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT r.id, r.ou_id, o.path, r.name, r.body, r.dashboard_id, r.datasource_id, r.created_at, \
             r.updated_at, r.row_version FROM reports r JOIN ous o ON o.id = r.ou_id ",
            $rest
        )
    };
}

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

/// Every report in the subtree, without a permission check: for the plane itself.
pub(crate) async fn rows(conn: &mut Conn, path: &str) -> Result<Vec<Report>> {
    let rows = conn
        .all(select!("WHERE o.path >= $1 AND o.path < $2 ORDER BY r.id"), args![path, below(path)])
        .await?;
    rows.iter().map(from_row).collect()
}

/// The reports on one dashboard, as `rows`.
pub(crate) async fn rows_on(conn: &mut Conn, dashboard: DashboardId, path: &str) -> Result<Vec<Report>> {
    let rows = conn
        .all(
            select!("WHERE r.dashboard_id = $1 AND o.path >= $2 AND o.path < $3 ORDER BY r.id"),
            args![dashboard, path, below(path)],
        )
        .await?;
    rows.iter().map(from_row).collect()
}

/// What the names in the SQL of reports stand for. SQL resolves names in its own unit only.
#[derive(Default)]
pub(crate) struct Names {
    units: BTreeMap<OuId, Unit>,
    dialects: BTreeMap<DatasourceId, SqlDialect>,
}

#[derive(Default)]
struct Unit {
    filters: Vec<Filter>,
    snippets: Vec<Snippet>,
    texts: Snippets,
}

impl Names {
    /// Those of every unit in the subtree.
    pub(crate) async fn read(conn: &mut Conn, path: &str) -> Result<Names> {
        let mut names = Names::new(filters::rows(conn, path).await?, snippets::rows(conn, path).await?);
        let rows = conn
            .all(
                "SELECT DISTINCT d.id, d.database_type FROM reports r JOIN ous o ON o.id = r.ou_id \
                 JOIN datasources d ON d.id = r.datasource_id WHERE o.path >= $1 AND o.path < $2",
                args![path, below(path)],
            )
            .await?;
        for row in &rows {
            if let Some(dialect) = row.word(1, DatabaseType::parse)?.dialect() {
                names.dialects.insert(row.id(0)?, dialect);
            }
        }
        Ok(names)
    }

    fn new(filters: Vec<Filter>, snippets: Vec<Snippet>) -> Names {
        let mut names = Names::default();
        for filter in filters {
            names.units.entry(filter.ou).or_default().filters.push(filter);
        }
        for snippet in snippets {
            names.units.entry(snippet.ou).or_default().snippets.push(snippet);
        }
        for unit in names.units.values_mut() {
            unit.texts = snippets::texts(&unit.snippets);
        }
        names
    }

    /// The filters and snippets that the SQL of a report names. One that cannot be analysed names nothing.
    pub(crate) fn uses(&self, report: &Report) -> Uses {
        let Some(unit) = self.units.get(&report.ou) else { return Uses::default() };
        // The dialect only matters for what is a literal; PostgreSQL's rules serve where the datasource was removed.
        let dialect = report.details.datasource.and_then(|id| self.dialects.get(&id).copied());
        let dialect = dialect.unwrap_or(SqlDialect::Postgres);
        let usage = lang::analyse(&report.details.sql, dialect, &unit.texts).unwrap_or_default();
        let filters = unit.filters.iter().filter(|filter| usage.variables.contains(&filter.details.variable));
        let snippets = unit.snippets.iter().filter(|snippet| usage.snippets.contains(&snippet.details.name));
        Uses {
            reports: Vec::new(),
            filters: filters.map(|filter| filter.id).collect(),
            snippets: snippets.map(|snippet| snippet.id).collect(),
        }
    }
}

/// For each of these, in their order: the filters and snippets that its SQL names.
pub async fn reports_use(plane: &Analytics, ctx: &OpCtx, reports: &[Report]) -> Result<Vec<Uses>> {
    let mut conn = plane.estate().store().read().await?;
    let names = Names::read(&mut conn, ctx.authority().ou_path()).await?;
    Ok(reports.iter().map(|report| names.uses(report)).collect())
}

async fn find(conn: &mut Conn, id: ReportId) -> Result<Option<Report>> {
    conn.opt(select!("WHERE r.id = $1"), args![id]).await?.as_ref().map(from_row).transpose()
}

pub async fn report_list(
    plane: &Analytics,
    ctx: &OpCtx,
    dashboard: Option<DashboardId>,
) -> Result<Vec<Report>> {
    plane.estate().require_some(ctx, Noun::Report, Action::View).await?;
    let path = ctx.authority().ou_path();
    let mut conn = plane.estate().store().read().await?;
    let mut all = match dashboard {
        Some(id) => rows_on(&mut conn, id, path).await?,
        None => rows(&mut conn, path).await?,
    };
    all.retain(|found| ctx.require(Noun::Report, Action::View, &found.ou_path, found.id.0).is_ok());
    Ok(all)
}

pub async fn report_get(plane: &Analytics, ctx: &OpCtx, id: ReportId) -> Result<Report> {
    let found = find(&mut plane.estate().store().read().await?, id).await?;
    let found = found.ok_or_else(|| Error::not_found("report"))?;
    plane.estate().require(ctx, Noun::Report, Action::View, &found.ou_path, id.0).await?;
    Ok(found)
}

/// What a report names must be there and open to whoever names it.
async fn check_references(plane: &Analytics, ctx: &OpCtx, details: &ReportDetails) -> Result<()> {
    let mut faults = Faults::default();
    if let Some(id) = details.dashboard {
        let found = dashboards::dashboard_get(plane, ctx, id).await;
        note(&mut faults, found, "dashboard", "is not a dashboard that this caller can see")?;
    }
    if let Some(id) = details.datasource {
        let found = ops::datasources::datasource_for_use(plane.estate(), ctx, id).await;
        note(&mut faults, found, "datasource", "is not a datasource that this caller can query")?;
    }
    faults.finish()
}

/// Keeps what a lookup says about the request, and passes on what it does not: a store that is away.
fn note<T>(faults: &mut Faults, found: Result<T>, field: &str, unknown: &str) -> Result<()> {
    let Err(error) = found else { return Ok(()) };
    match error.kind {
        ErrorKind::NotFound | ErrorKind::Forbidden => faults.push(field, "unknown", unknown),
        ErrorKind::Invalid => error.faults.into_iter().for_each(|fault| faults.add(fault)),
        _ => return Err(error),
    }
    Ok(())
}

pub async fn report_create(plane: &Analytics, ctx: &OpCtx, details: ReportDetails) -> Result<Report> {
    let estate = plane.estate();
    estate.require_here(ctx, Noun::Report, Action::Manage).await?;
    details.check()?;
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
        .change(ctx, act("created", Noun::Report, id.0, &report.details.name), move |tx| {
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
    change: impl FnOnce(&mut ReportDetails),
) -> Result<Report> {
    let estate = plane.estate();
    let before = report_get(plane, ctx, id).await?;
    estate.require(ctx, Noun::Report, Action::Manage, &before.ou_path, id.0).await?;
    let mut after = before.clone();
    change(&mut after.details);
    after.details.check()?;
    check_references(plane, ctx, &after.details).await?;
    after.updated_at = estate.now();
    let copy = after.clone();
    plane
        .change(ctx, act("updated", Noun::Report, id.0, &after.details.name), move |tx| {
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
    plane.estate().require(ctx, Noun::Report, Action::Manage, &found.ou_path, id.0).await?;
    plane
        .change(ctx, act("deleted", Noun::Report, id.0, &found.details.name), move |tx| {
            Box::pin(async move { tx.exec("DELETE FROM reports WHERE id = $1", args![id]).await.map(drop) })
        })
        .await
}

#[cfg(test)]
mod tests {
    use landreeve_core::ids::{FilterId, SnippetId};

    use super::*;
    use crate::filters::FilterDetails;
    use crate::snippets::SnippetDetails;

    fn report(ou: i64, sql: &str) -> Report {
        Report {
            id: ReportId(1),
            ou: OuId(ou),
            ou_path: String::new(),
            details: ReportDetails { sql: sql.to_owned(), ..ReportDetails::default() },
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            row_version: 1,
        }
    }

    fn filter(id: i64, ou: i64, variable: &str) -> Filter {
        Filter {
            id: FilterId(id),
            ou: OuId(ou),
            ou_path: String::new(),
            details: FilterDetails { variable: variable.to_owned(), ..FilterDetails::default() },
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            row_version: 1,
        }
    }

    fn snippet(id: i64, ou: i64, name: &str, sql: &str) -> Snippet {
        let (name, sql) = (name.to_owned(), sql.to_owned());
        Snippet {
            id: SnippetId(id),
            ou: OuId(ou),
            ou_path: String::new(),
            details: SnippetDetails { name, sql, ..SnippetDetails::default() },
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            row_version: 1,
        }
    }

    #[test]
    fn a_report_uses_the_names_of_its_own_unit() {
        let names = Names::new(
            vec![filter(1, 1, "a"), filter(2, 1, "b"), filter(3, 2, "a"), filter(4, 2, "b")],
            vec![snippet(5, 1, "s", "x = {a}"), snippet(6, 2, "s", "x = {b}")],
        );
        let used = |ou| names.uses(&report(ou, "SELECT 1 WHERE [s]"));
        assert_eq!((used(1).filters, used(1).snippets), (vec![FilterId(1)], vec![SnippetId(5)]));
        assert_eq!((used(2).filters, used(2).snippets), (vec![FilterId(4)], vec![SnippetId(6)]));
        assert_eq!(used(3), Uses::default());
    }
}
