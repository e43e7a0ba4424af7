//! Reports on the wire.

use landreeve_analytics::dashboards::Uses;
use landreeve_analytics::ids::DashboardId;
use landreeve_analytics::reports::{Report as PlaneReport, ReportDetails};
use landreeve_core::hashid::HashIds;
use landreeve_core::ids::DatasourceId;
use landreeve_core::{Input, Result};
use landreeve_http::body::Fields;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Time, ToMany, ToOne, Verbatim, dashboards, datasources, filters, snippets};
use crate::input::{Names, Patch, document, to_one};

pub const KIND: &str = "reports";
pub const NAMES: Names = Names(&["dashboard", "datasource"]);

#[derive(Debug, Serialize, ToSchema)]
pub struct Report {
    #[schema(read_only, example = "qw1x-7w2l-7rd5")]
    pub id: String,
    #[serde(rename = "type")]
    #[schema(example = "reports")]
    pub kind: &'static str,
    pub attributes: ReportAttributes,
    pub relationships: ReportRelationships,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ReportAttributes {
    #[schema(min_length = 1, max_length = 255, example = "Orders per month")]
    pub name: String,
    #[schema(max_length = 65536)]
    pub description: Option<String>,
    /// SQL with the parameter language: at most 1 MiB.
    #[schema(
        max_length = 1048576,
        example = "select {o_orderdate:month} as month, count(*) from orders where {o_orderdate=timerange} group by 1"
    )]
    pub query: String,
    /// Always null: this server has no R.
    #[schema(max_length = 0)]
    pub r_query: Option<String>,
    #[schema(max_length = 65536, example = "table")]
    pub chart_type: Option<String>,
    /// An object, stored as received.
    #[schema(value_type = Object)]
    pub chart_configuration: Verbatim,
    #[schema(read_only)]
    pub created_at: Time,
    #[schema(read_only)]
    pub updated_at: Time,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ReportRelationships {
    pub dashboard: ToOne,
    pub datasource: ToOne,
    /// The ones that its SQL uses.
    #[schema(read_only)]
    pub filters: ToMany,
    #[schema(read_only)]
    pub sql_snippets: ToMany,
}

pub fn render(report: &PlaneReport, uses: &Uses, ids: &HashIds) -> Report {
    let details = &report.details;
    let chart = if details.chart.is_empty() { "{}" } else { &details.chart };
    Report {
        id: ids.encode_grouped(report.id),
        kind: KIND,
        attributes: ReportAttributes {
            name: details.name.clone(),
            description: details.description.clone(),
            query: details.sql.clone(),
            r_query: None,
            chart_type: details.chart_type.clone(),
            chart_configuration: Verbatim::of(chart),
            created_at: Time(report.created_at),
            updated_at: Time(report.updated_at),
        },
        relationships: ReportRelationships {
            dashboard: ToOne::to(ids, dashboards::KIND, details.dashboard),
            datasource: ToOne::to(ids, datasources::KIND, details.datasource),
            filters: ToMany::to(ids, filters::KIND, uses.filters.iter().copied()),
            sql_snippets: ToMany::to(ids, snippets::KIND, uses.snippets.iter().copied()),
        },
    }
}

/// `id` is the one in the path; `None` if the report is being created.
pub fn read(body: &[u8], ids: &HashIds, id: Option<&str>) -> Result<Input<Patch<ReportDetails>>> {
    let read = document(body, KIND, id, attributes, |fields| {
        fields.ignore(&["filters", "sql_snippets"]);
        let mut patch: Patch<ReportDetails> = Patch::new();
        let dashboard =
            to_one(fields, "dashboard", dashboards::KIND, |text| ids.decode_grouped::<DashboardId>(text));
        patch.take(dashboard, |details, id| details.dashboard = id);
        let datasource =
            to_one(fields, "datasource", datasources::KIND, |text| ids.decode_grouped::<DatasourceId>(text));
        patch.take(datasource, |details, id| details.datasource = id);
        patch
    })?;
    let read = read.map(|(attributes, relationships), _| attributes.and(relationships));
    Ok(read.named(|field| NAMES.pointer(field)))
}

fn attributes(fields: &Fields<'_>) -> Patch<ReportDetails> {
    let mut patch: Patch<ReportDetails> = Patch::new();
    fields.ignore(&["created_at", "updated_at"]);
    let text = |name: &str| fields.optional(name, |field| field.text(0..=65_536));
    patch.take(text("name"), |details, name| details.name = name.unwrap_or_default());
    patch.take(text("description"), |details, text| details.description = text);
    let query = fields.optional("query", |field| field.text(0..=usize::MAX));
    patch.take(query, |details, query| details.sql = query.unwrap_or_default());
    let r_query = fields.optional("r_query", |field| field.text(0..=usize::MAX)).value();
    if r_query.is_some_and(|script| !script.trim().is_empty()) {
        let message = "is not supported: this server has no R; leave it out, or use SQL";
        fields.fault("r_query", "not_available", message);
    }
    patch.take(text("chart_type"), |details, text| details.chart_type = text);
    let chart = fields.optional("chart_configuration", |field| {
        let value = field.value();
        if value.is_object() { Some(value.to_string()) } else { field.object(|_| String::new()) }
    });
    patch.take(chart, |details, chart| details.chart = chart.unwrap_or_default());
    patch
}
