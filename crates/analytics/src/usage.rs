//! What the SQL of reports uses: the filters and snippets that it names.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt as _;
use landreeve_core::Result;
use landreeve_core::datasource::SqlDialect;
use landreeve_core::ids::{DatasourceId, OuId};
use landreeve_estate::identity::{Place, Visibility};
use landreeve_estate::ops;
use landreeve_estate::store::{Conn, Where};

use crate::ids::{DashboardId, FilterId, ReportId, SnippetId};
use crate::lang::{self, Snippets};
use crate::stored::StoredReport;

/// What a report or a dashboard uses: the dashboard's reports, and the filters and snippets that their SQL names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uses {
    pub reports: Vec<ReportId>,
    pub filters: Vec<FilterId>,
    pub snippets: Vec<SnippetId>,
}

/// For each of these dashboards: its visible reports, and what their SQL uses. Reads reports one at a time, to keep
/// only one SQL text in memory.
pub(crate) async fn of_dashboards(
    conn: &mut Conn,
    visibility: &Visibility,
    dashboards: &BTreeSet<DashboardId>,
) -> Result<BTreeMap<DashboardId, Uses>> {
    let mut wanted = Where::new(conn.dialect());
    visibility.narrow(&mut wanted, &Place::of_unit("r.ou_id"))?;
    wanted.and_ids("r.dashboard_id", dashboards.iter().map(|id| id.0));
    let (condition, values) = wanted.into_parts();
    let sql = format!("SELECT DISTINCT r.ou_id, r.datasource_id FROM reports r WHERE {condition}");
    let (mut units, mut datasources) = (BTreeSet::new(), BTreeSet::new());
    for row in conn.select(sql, values.clone()).await? {
        units.insert(row.id(0)?);
        datasources.extend(row.id_opt::<DatasourceId>(1)?);
    }
    let names = Names::read(conn, &units, &datasources).await?;
    let sql = format!(
        "SELECT r.id, r.ou_id, r.dashboard_id, r.datasource_id, r.body FROM reports r WHERE {condition} \
         ORDER BY r.id"
    );
    let mut all: BTreeMap<DashboardId, Uses> = BTreeMap::new();
    let mut rows = conn.rows(sql, values)?;
    while let Some(row) = rows.try_next().await? {
        let stored: StoredReport = row.json(4)?;
        let used = names.uses(row.id(1)?, row.id_opt(3)?, &stored.sql);
        let uses = all.entry(row.id(2)?).or_default();
        uses.reports.push(row.id(0)?);
        add(&mut uses.filters, used.filters);
        add(&mut uses.snippets, used.snippets);
    }
    Ok(all)
}

/// Adds those that are missing.
fn add<T: PartialEq>(all: &mut Vec<T>, more: Vec<T>) {
    for one in more {
        if !all.contains(&one) {
            all.push(one);
        }
    }
}

/// The names that the SQL of reports can use. SQL resolves names only within its own unit.
#[derive(Default)]
pub(crate) struct Names {
    units: BTreeMap<OuId, Unit>,
    dialects: BTreeMap<DatasourceId, SqlDialect>,
}

#[derive(Default)]
struct Unit {
    filters: Vec<(FilterId, String)>,
    snippets: Vec<(SnippetId, String)>,
    texts: Snippets,
}

impl Names {
    /// The names in these units, and the dialects of these datasources.
    pub(crate) async fn read(
        conn: &mut Conn,
        units: &BTreeSet<OuId>,
        datasources: &BTreeSet<DatasourceId>,
    ) -> Result<Names> {
        let mut names = Names::default();
        let mut wanted = Where::new(conn.dialect());
        wanted.and_ids("ou_id", units.iter().map(|ou| ou.0));
        let (condition, values) = wanted.into_parts();
        let sql = format!(
            "SELECT ou_id, id, variable_name FROM filters WHERE {condition} ORDER BY variable_name, id"
        );
        for row in conn.select(sql, values.clone()).await? {
            names.add_filter(row.id(0)?, row.id(1)?, row.text(2)?);
        }
        let sql = format!("SELECT ou_id, id, name, body FROM snippets WHERE {condition} ORDER BY name, id");
        for row in conn.select(sql, values).await? {
            names.add_snippet(row.id(0)?, row.id(1)?, row.text(2)?, row.text(3)?);
        }
        let types = ops::datasources::database_types(conn, datasources).await?;
        let dialects = types.into_iter().filter_map(|(id, known)| Some((id, known.dialect()?)));
        names.dialects = dialects.collect();
        Ok(names)
    }

    fn add_filter(&mut self, ou: OuId, id: FilterId, variable: String) {
        self.units.entry(ou).or_default().filters.push((id, variable));
    }

    fn add_snippet(&mut self, ou: OuId, id: SnippetId, name: String, sql: String) {
        let unit = self.units.entry(ou).or_default();
        unit.texts.custom.insert(name.clone(), sql);
        unit.snippets.push((id, name));
    }

    /// The filters and snippets that SQL in this unit names; none if it cannot be analysed.
    pub(crate) fn uses(&self, ou: OuId, datasource: Option<DatasourceId>, sql: &str) -> Uses {
        let Some(unit) = self.units.get(&ou) else { return Uses::default() };
        // The dialect only matters for recognizing literals; without a datasource, use PostgreSQL's rules.
        let dialect = datasource.and_then(|id| self.dialects.get(&id).copied());
        let dialect = dialect.unwrap_or(SqlDialect::Postgres);
        let usage = lang::analyse(sql, dialect, &unit.texts).unwrap_or_default();
        let filters = unit.filters.iter().filter(|(_, variable)| usage.variables.contains(variable));
        let snippets = unit.snippets.iter().filter(|(_, name)| usage.snippets.contains(name));
        Uses {
            reports: Vec::new(),
            filters: filters.map(|(id, _)| *id).collect(),
            snippets: snippets.map(|(id, _)| *id).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_uses_the_names_of_its_own_unit() {
        let mut names = Names::default();
        for (id, ou, variable) in [(1, 1, "a"), (2, 1, "b"), (3, 2, "a"), (4, 2, "b")] {
            names.add_filter(OuId(ou), FilterId(id), variable.to_owned());
        }
        names.add_snippet(OuId(1), SnippetId(5), "s".to_owned(), "x = {a}".to_owned());
        names.add_snippet(OuId(2), SnippetId(6), "s".to_owned(), "x = {b}".to_owned());
        let used = |ou| names.uses(OuId(ou), None, "SELECT 1 WHERE [s]");
        assert_eq!((used(1).filters, used(1).snippets), (vec![FilterId(1)], vec![SnippetId(5)]));
        assert_eq!((used(2).filters, used(2).snippets), (vec![FilterId(4)], vec![SnippetId(6)]));
        assert_eq!(used(3), Uses::default());
    }
}
