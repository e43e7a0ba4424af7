//! Dashboards on the wire.

use landreeve_analytics::dashboards::{Dashboard as PlaneDashboard, DashboardDetails, LayoutBox, ZoneRule};
use landreeve_analytics::lang::Aggregation;
use landreeve_core::hashid::HashIds;
use landreeve_core::{Given, Input, Result};
use landreeve_estate::ops::EVERYONE;
use landreeve_http::body::{Field, Fields};
use serde::Serialize;
use utoipa::ToSchema;

use super::parameters::{self, InputParametersBody};
use super::types::{AggregationName, ParameterName, ZoneName};
use super::{Time, ToMany, ToOne, filters, reports, snippets, users};
use crate::input::{Digits, Names, Patch, document};

pub const KIND: &str = "dashboards";
pub const NAMES: Names = Names(&[]);

#[derive(Debug, Serialize, ToSchema)]
pub struct Dashboard {
    #[schema(read_only, example = "8qxn-y9ex-65vd")]
    pub id: String,
    #[serde(rename = "type")]
    #[schema(example = "dashboards")]
    pub kind: &'static str,
    pub attributes: DashboardAttributes,
    #[schema(read_only)]
    pub relationships: DashboardRelationships,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DashboardAttributes {
    #[schema(min_length = 1, max_length = 255, example = "Orders")]
    pub name: String,
    #[schema(max_length = 65536)]
    pub description: Option<String>,
    pub time_zone_config: TimeZoneConfig,
    pub automatic_update_enabled: bool,
    pub thumbnail_enabled: bool,
    #[schema(read_only)]
    pub thumbnail_created_at: Option<Time>,
    pub prewarm: bool,
    #[schema(read_only)]
    pub published: bool,
    /// In minutes.
    #[schema(minimum = 1, maximum = 525600, example = 1440)]
    pub data_refresh_rate: u32,
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$", example = "15:42")]
    pub data_refresh_anchor_time: String,
    pub is_locked: bool,
    pub default_parameters: InputParametersBody,
    #[schema(minimum = 200, maximum = 10000, example = 1600)]
    pub default_page_width: u32,
    #[schema(max_items = 1000)]
    pub layout: Vec<LayoutItem>,
    #[schema(read_only)]
    pub floating_enabled: bool,
    #[schema(pattern = "^scheme_[0-9]{1,3}$", example = "scheme_1")]
    pub color_scheme: String,
    pub filters_configuration: FiltersConfiguration,
    #[schema(read_only)]
    pub created_at: Time,
    #[schema(read_only)]
    pub updated_at: Time,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct TimeZoneConfig {
    #[serde(rename = "type")]
    #[schema(pattern = "^(disabled|organization|fixed|user_selectable)$", example = "disabled")]
    pub rule: &'static str,
    #[schema(example = "Europe/Berlin")]
    pub fixed_time_zone: Option<String>,
    #[schema(max_items = 10000, value_type = Vec<ZoneName>)]
    pub allowed_time_zones: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct LayoutItem {
    #[serde(rename = "type")]
    #[schema(min_length = 1, max_length = 64, example = "report")]
    pub kind: String,
    #[schema(max_length = 255)]
    pub id: String,
    #[schema(minimum = 0, maximum = 100000)]
    pub row: i64,
    #[schema(minimum = 0, maximum = 100000)]
    pub column: i64,
    #[schema(minimum = 0, maximum = 100000)]
    pub width: i64,
    #[schema(minimum = 0, maximum = 100000)]
    pub height: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct FiltersConfiguration {
    pub apply_immediately: bool,
    #[schema(max_items = 10000, value_type = Vec<AggregationName>)]
    pub aggregation_options: Vec<&'static str>,
    #[schema(max_items = 10000, value_type = Vec<ParameterName>)]
    pub filter_sorting: Vec<String>,
    #[schema(max_items = 10000, value_type = Vec<ParameterName>)]
    pub hidden_parameters: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DashboardRelationships {
    pub reports: ToMany,
    pub filters: ToMany,
    pub sql_snippets: ToMany,
    pub dashboard_groups: ToMany,
    pub dashboard_sharing_links: ToMany,
    /// Who created it; null if created with a key.
    pub user: ToOne,
    pub user_groups: ToMany,
}

pub fn render(dashboard: &PlaneDashboard, ids: &HashIds) -> Dashboard {
    let uses = &dashboard.uses;
    Dashboard {
        id: ids.encode_grouped(dashboard.id),
        kind: KIND,
        attributes: attributes(dashboard),
        relationships: DashboardRelationships {
            reports: ToMany::to(ids, reports::KIND, uses.reports.iter().copied()),
            filters: ToMany::to(ids, filters::KIND, uses.filters.iter().copied()),
            sql_snippets: ToMany::to(ids, snippets::KIND, uses.snippets.iter().copied()),
            dashboard_groups: ToMany::default(),
            dashboard_sharing_links: ToMany::default(),
            user: ToOne::to(ids, users::KIND, dashboard.creator),
            // Visible to everyone who can see dashboards: there are no drafts.
            user_groups: ToMany::to(ids, users::GROUPS, [EVERYONE]),
        },
    }
}

fn attributes(dashboard: &PlaneDashboard) -> DashboardAttributes {
    let details = &dashboard.details;
    let item = |area: &LayoutBox| LayoutItem {
        kind: area.kind.clone(),
        id: area.id.clone(),
        row: area.row,
        column: area.column,
        width: area.width,
        height: area.height,
    };
    DashboardAttributes {
        name: details.name.clone(),
        description: details.description.clone(),
        time_zone_config: TimeZoneConfig {
            rule: details.zone.rule.as_str(),
            fixed_time_zone: details.zone.fixed.clone(),
            allowed_time_zones: details.zone.allowed.clone(),
        },
        automatic_update_enabled: details.kept.automatic_update,
        thumbnail_enabled: details.kept.thumbnail,
        thumbnail_created_at: None,
        prewarm: details.kept.prewarm,
        published: true,
        data_refresh_rate: details.kept.refresh_minutes,
        data_refresh_anchor_time: details.kept.refresh_anchor.clone(),
        is_locked: details.locked,
        default_parameters: parameters::render(&details.parameters),
        default_page_width: details.page_width,
        layout: details.layout.iter().map(item).collect(),
        floating_enabled: details.floating,
        color_scheme: details.color_scheme.clone(),
        filters_configuration: FiltersConfiguration {
            apply_immediately: details.filters.apply_immediately,
            aggregation_options: details.filters.aggregations.iter().map(|known| known.as_str()).collect(),
            filter_sorting: details.filters.order.clone(),
            hidden_parameters: details.filters.hidden.clone(),
        },
        created_at: Time(dashboard.created_at),
        updated_at: Time(dashboard.updated_at),
    }
}

const READ_ONLY: [&str; 5] =
    ["thumbnail_created_at", "published", "floating_enabled", "created_at", "updated_at"];
const DERIVED: [&str; 7] = [
    "reports",
    "filters",
    "sql_snippets",
    "dashboard_groups",
    "dashboard_sharing_links",
    "user",
    "user_groups",
];
const MAX_ITEMS: usize = 10_000;

/// `id` is the one in the path; `None` if the dashboard is being created.
pub fn read(body: &[u8], id: Option<&str>) -> Result<Input<Patch<DashboardDetails>>> {
    let digits = Digits::of(body);
    let read = document(body, KIND, id, |fields| patch(fields, &digits), |fields| fields.ignore(&DERIVED))?;
    Ok(read.map(|(patch, ()), _| patch).named(|field| NAMES.pointer(field)))
}

fn patch(fields: &Fields<'_>, digits: &Digits<'_>) -> Patch<DashboardDetails> {
    let mut patch: Patch<DashboardDetails> = Patch::new();
    fields.ignore(&READ_ONLY);
    let text = |name: &str| fields.optional(name, |field| field.text(0..=65_536));
    let flag = |name: &str| fields.optional(name, |field| field.bool());
    let count = |name: &str| {
        fields.optional(name, |field| {
            field.int(0..=i64::from(u32::MAX)).and_then(|count| u32::try_from(count).ok())
        })
    };
    patch.take(text("name"), |details, name| details.name = name.unwrap_or_default());
    patch.take(text("description"), |details, text| details.description = text);
    zone(fields, &mut patch);
    patch.take(flag("automatic_update_enabled"), |details, flag| {
        details.kept.automatic_update = flag.unwrap_or(true);
    });
    patch.take(flag("thumbnail_enabled"), |details, flag| details.kept.thumbnail = flag.unwrap_or(true));
    patch.take(flag("prewarm"), |details, flag| details.kept.prewarm = flag.unwrap_or(false));
    patch.take(count("data_refresh_rate"), |details, rate| {
        details.kept.refresh_minutes = rate.unwrap_or(DashboardDetails::default().kept.refresh_minutes);
    });
    patch.take(text("data_refresh_anchor_time"), |details, time| {
        details.kept.refresh_anchor = time.unwrap_or_else(|| DashboardDetails::default().kept.refresh_anchor);
    });
    patch.take(flag("is_locked"), |details, flag| details.locked = flag.unwrap_or(false));
    let defaults = fields.optional("default_parameters", |field| {
        let path = "data.attributes.default_parameters";
        field.object(|inputs| parameters::read(inputs, digits, path))
    });
    patch.take(defaults, |details, inputs| details.parameters = inputs.unwrap_or_default());
    patch.take(count("default_page_width"), |details, width| {
        details.page_width = width.unwrap_or(DashboardDetails::default().page_width);
    });
    let layout = fields.optional("layout", |field| field.list(MAX_ITEMS, layout_item));
    patch.take(layout, |details, layout| details.layout = layout.unwrap_or_default());
    let scheme = fields.optional("color_scheme", |field| field.parse(scheme));
    patch.take(scheme, |details, scheme| {
        details.color_scheme = scheme.unwrap_or_else(|| DashboardDetails::default().color_scheme);
    });
    filters_configuration(fields, &mut patch);
    patch
}

/// Absent members are kept.
fn zone(fields: &Fields<'_>, patch: &mut Patch<DashboardDetails>) {
    let given = fields.optional("time_zone_config", |field| {
        field.object(|config| {
            let rules = ZoneRule::ALL.map(|rule| (rule.as_str(), rule));
            (
                config.optional("type", |field| field.choice(&rules)),
                config.optional("fixed_time_zone", |field| field.text(0..=255)),
                config.optional("allowed_time_zones", texts),
            )
        })
    });
    match given {
        Given::Absent => {}
        Given::Null => patch.take(Given::<()>::Null, |details, _| details.zone = Default::default()),
        Given::Value((rule, fixed, allowed)) => {
            patch.take(rule, |details, rule| details.zone.rule = rule.unwrap_or_default());
            patch.take(fixed, |details, fixed| details.zone.fixed = fixed);
            patch.take(allowed, |details, allowed| details.zone.allowed = allowed.unwrap_or_default());
        }
    }
}

fn filters_configuration(fields: &Fields<'_>, patch: &mut Patch<DashboardDetails>) {
    let words = Aggregation::ALL.map(|known| (known.as_str(), known));
    let given = fields.optional("filters_configuration", |field| {
        field.object(|config| {
            (
                config.optional("apply_immediately", |field| field.bool()),
                config.optional("aggregation_options", |field| {
                    field.list(MAX_ITEMS, |item| item.choice(&words))
                }),
                config.optional("filter_sorting", texts),
                config.optional("hidden_parameters", texts),
            )
        })
    });
    match given {
        Given::Absent => {}
        Given::Null => patch.take(Given::<()>::Null, |details, _| {
            details.filters = DashboardDetails::default().filters;
        }),
        Given::Value((apply, aggregations, order, hidden)) => {
            patch.take(apply, |details, flag| details.filters.apply_immediately = flag.unwrap_or(true));
            patch.take(aggregations, |details, list| {
                details.filters.aggregations = list.unwrap_or_default();
            });
            patch.take(order, |details, list| details.filters.order = list.unwrap_or_default());
            patch.take(hidden, |details, list| details.filters.hidden = list.unwrap_or_default());
        }
    }
}

fn texts(field: Field<'_>) -> Option<Vec<String>> {
    field.list(MAX_ITEMS, |item| item.text(0..=1_024))
}

fn layout_item(field: Field<'_>) -> Option<LayoutBox> {
    field.object(|item| {
        let side = |name: &str| item.required(name, |field| field.int(i64::MIN..=i64::MAX));
        LayoutBox {
            kind: item.required("type", |field| field.text(1..=64)),
            id: item.optional("id", |field| field.text(0..=255)).value().unwrap_or_default(),
            row: side("row"),
            column: side("column"),
            width: side("width"),
            height: side("height"),
        }
    })
}

fn scheme(text: &str) -> Result<String, String> {
    let number = text.strip_prefix("scheme_").filter(|number| (1..=3).contains(&number.len()));
    match number {
        Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => Ok(text.to_owned()),
        _ => Err("must be a scheme such as scheme_1".to_owned()),
    }
}
