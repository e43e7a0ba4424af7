//! What the SQL of reports uses: the filters and snippets that it names.

use std::collections::BTreeMap;

use landreeve_core::Result;
use landreeve_core::datasource::SqlDialect;
use landreeve_core::ids::{DatasourceId, OuId};
use landreeve_estate::identity::ous::below;
use landreeve_estate::store::{Conn, Row};
use landreeve_estate::{args, ops};

use crate::filters::{self, Filter};
use crate::ids::{DashboardId, FilterId, ReportId, SnippetId};
use crate::lang::{self, Snippets};
use crate::snippets::{self, Snippet};
use crate::stored::StoredReport;

/// What a report or a dashboard uses: the dashboard's reports, and the filters and snippets that their SQL names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uses {
    pub reports: Vec<ReportId>,
    pub filters: Vec<FilterId>,
    pub snippets: Vec<SnippetId>,
}

/// The parts of a report needed to find what its SQL uses.
pub(crate) struct ReportSql {
    pub report: ReportId,
    pub ou: OuId,
    pub dashboard: Option<DashboardId>,
    pub datasource: Option<DatasourceId>,
    pub sql: String,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT r.id, r.ou_id, r.dashboard_id, r.datasource_id, r.body FROM reports r \
             JOIN ous o ON o.id = r.ou_id ",
            $rest
        )
    };
}

fn from_row(row: &Row) -> Result<ReportSql> {
    let stored: StoredReport = row.json(4)?;
    Ok(ReportSql {
        report: row.id(0)?,
        ou: row.id(1)?,
        dashboard: row.id_opt(2)?,
        datasource: row.id_opt(3)?,
        sql: stored.sql,
    })
}

/// The reports on all dashboards in the subtree.
pub(crate) async fn on_dashboards(conn: &mut Conn, path: &str) -> Result<Vec<ReportSql>> {
    let sql = select!("WHERE r.dashboard_id IS NOT NULL AND o.path >= $1 AND o.path < $2 ORDER BY r.id");
    conn.all(sql, args![path, below(path)]).await?.iter().map(from_row).collect()
}

/// The reports on one dashboard that are in the subtree.
pub(crate) async fn on_dashboard(conn: &mut Conn, id: DashboardId, path: &str) -> Result<Vec<ReportSql>> {
    let sql = select!("WHERE r.dashboard_id = $1 AND o.path >= $2 AND o.path < $3 ORDER BY r.id");
    conn.all(sql, args![id, path, below(path)]).await?.iter().map(from_row).collect()
}

/// The names that the SQL of reports can use. SQL resolves names only within its own unit.
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
    /// The names in every unit of the subtree, and the dialects of these datasources.
    pub(crate) async fn read(
        conn: &mut Conn,
        path: &str,
        datasources: impl Iterator<Item = DatasourceId>,
    ) -> Result<Names> {
        let mut names = Names::new(filters::rows(conn, path).await?, snippets::rows(conn, path).await?);
        let types = ops::datasources::database_types(conn, &datasources.collect()).await?;
        let dialects = types.into_iter().filter_map(|(id, known)| Some((id, known.dialect()?)));
        names.dialects = dialects.collect();
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

    /// The filters and snippets that SQL in this unit names; none if it cannot be analysed.
    pub(crate) fn uses(&self, ou: OuId, datasource: Option<DatasourceId>, sql: &str) -> Uses {
        let Some(unit) = self.units.get(&ou) else { return Uses::default() };
        // The dialect only matters for recognizing literals; without a datasource, use PostgreSQL's rules.
        let dialect = datasource.and_then(|id| self.dialects.get(&id).copied());
        let dialect = dialect.unwrap_or(SqlDialect::Postgres);
        let usage = lang::analyse(sql, dialect, &unit.texts).unwrap_or_default();
        let filters = unit.filters.iter().filter(|filter| usage.variables.contains(&filter.details.variable));
        let snippets = unit.snippets.iter().filter(|snippet| usage.snippets.contains(&snippet.details.name));
        Uses {
            reports: Vec::new(),
            filters: filters.map(|filter| filter.id).collect(),
            snippets: snippets.map(|snippet| snippet.id).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::filters::FilterDetails;
    use crate::snippets::SnippetDetails;

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
        let used = |ou| names.uses(OuId(ou), None, "SELECT 1 WHERE [s]");
        assert_eq!((used(1).filters, used(1).snippets), (vec![FilterId(1)], vec![SnippetId(5)]));
        assert_eq!((used(2).filters, used(2).snippets), (vec![FilterId(4)], vec![SnippetId(6)]));
        assert_eq!(used(3), Uses::default());
    }
}
