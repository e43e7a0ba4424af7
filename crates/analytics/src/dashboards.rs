//! Dashboards: settings, layout, and what the SQL of their reports uses.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use landreeve_core::error::Faults;
use landreeve_core::ids::{OuId, UserId};
use landreeve_core::{Action, Error, Input, OpCtx, Part, Permission, Result};
use landreeve_estate::args;
use landreeve_estate::identity::{Place, Visibility};
use landreeve_estate::store::{Conn, Listing, Row, Tx, Where};

use crate::ids::DashboardId;
use crate::lang::{Aggregation, InputParameters, Range};
use crate::rows::act;
use crate::stored::{StoredBox, StoredDashboard};
use crate::usage;
use crate::{Analytics, nouns};

pub use crate::usage::Uses;
pub use crate::zones::{ZoneConfig, ZoneRule};

#[derive(Debug, Clone, PartialEq)]
pub struct Dashboard {
    pub id: DashboardId,
    pub ou: OuId,
    pub ou_path: String,
    pub details: DashboardDetails,
    pub creator: Option<UserId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub row_version: i64,
    pub uses: Uses,
}

#[derive(Debug, Clone, PartialEq)]
pub struct DashboardDetails {
    pub name: String,
    pub description: Option<String>,
    pub zone: ZoneConfig,
    pub parameters: InputParameters,
    pub page_width: u32,
    pub layout: Vec<LayoutBox>,
    pub color_scheme: String,
    pub filters: FiltersConfig,
    pub locked: bool,
    pub floating: bool,
    pub kept: Kept,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutBox {
    pub kind: String,
    /// As the client wrote it.
    pub id: String,
    pub row: i64,
    pub column: i64,
    pub width: i64,
    pub height: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiltersConfig {
    pub apply_immediately: bool,
    pub aggregations: Vec<Aggregation>,
    pub order: Vec<String>,
    pub hidden: Vec<String>,
}

/// Stored without effect: refreshing and images are not implemented yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub automatic_update: bool,
    pub thumbnail: bool,
    pub prewarm: bool,
    pub refresh_minutes: u32,
    pub refresh_anchor: String,
}

impl Default for DashboardDetails {
    fn default() -> DashboardDetails {
        DashboardDetails {
            name: String::new(),
            description: None,
            zone: ZoneConfig::default(),
            parameters: InputParameters::default(),
            page_width: 1600,
            layout: Vec::new(),
            color_scheme: "scheme_1".to_owned(),
            filters: FiltersConfig {
                apply_immediately: true,
                aggregations: Vec::new(),
                order: Vec::new(),
                hidden: Vec::new(),
            },
            locked: false,
            floating: false,
            kept: Kept {
                automatic_update: true,
                thumbnail: true,
                prewarm: false,
                refresh_minutes: 1440,
                refresh_anchor: "00:00".to_owned(),
            },
        }
    }
}

const MAX_BOXES: usize = 1_000;

impl DashboardDetails {
    /// Every fault that can be found without a lookup.
    pub fn check(&self, faults: &mut Faults) {
        if self.name.trim().is_empty() {
            faults.push("name", "required", "is required");
        } else if self.name.chars().count() > 255 {
            faults.push("name", "length", "must have at most 255 characters");
        }
        let named = self.zone.fixed.iter().map(|zone| ("time_zone_config.fixed_time_zone".to_owned(), zone));
        let allowed = self.zone.allowed.iter().enumerate();
        let allowed = allowed.map(|(at, zone)| (format!("time_zone_config.allowed_time_zones.{at}"), zone));
        let default = self.parameters.tz.iter().map(|zone| ("default_parameters.tz".to_owned(), zone));
        for (field, zone) in named.chain(allowed).chain(default) {
            if TimeZone::get(zone).is_err() {
                faults.push(field, "time_zone", format!("{zone:?} is not a time zone; use an IANA name"));
            }
        }
        if let Some(Err(why)) = self.parameters.timerange.as_deref().map(str::parse::<Range>) {
            faults.push("default_parameters.timerange", "range", why);
        }
        if self.zone.rule == ZoneRule::Fixed && self.zone.fixed.is_none() {
            faults.push("time_zone_config.fixed_time_zone", "required", "is required when the type is fixed");
        }
        if !(200..=10_000).contains(&self.page_width) {
            faults.push("default_page_width", "range", "must be from 200 to 10000");
        }
        if self.layout.len() > MAX_BOXES {
            faults.push("layout", "length", format!("must have at most {MAX_BOXES} boxes"));
        }
        for (at, area) in self.layout.iter().enumerate() {
            let sides =
                [("row", area.row), ("column", area.column), ("width", area.width), ("height", area.height)];
            for (side, value) in sides {
                if !(0..=100_000).contains(&value) {
                    faults.push(format!("layout.{at}.{side}"), "range", "must be from 0 to 100000");
                }
            }
        }
        let anchor = &self.kept.refresh_anchor;
        let time = anchor.len() == 5 && format!("{anchor}:00").parse::<jiff::civil::Time>().is_ok();
        if !time {
            faults.push("data_refresh_anchor_time", "format", "must be a time of day such as 15:42");
        }
        if !(1..=525_600).contains(&self.kept.refresh_minutes) {
            faults.push("data_refresh_rate", "range", "must be from 1 to 525600 minutes");
        }
    }

    fn to_stored(&self) -> StoredDashboard {
        let area = |area: &LayoutBox| StoredBox {
            kind: area.kind.clone(),
            id: area.id.clone(),
            row: area.row,
            column: area.column,
            width: area.width,
            height: area.height,
        };
        StoredDashboard {
            version: 1,
            description: self.description.clone(),
            zone_rule: self.zone.rule.as_str().to_owned(),
            fixed_zone: self.zone.fixed.clone(),
            allowed_zones: self.zone.allowed.clone(),
            parameters: (&self.parameters).into(),
            page_width: self.page_width,
            layout: self.layout.iter().map(area).collect(),
            color_scheme: self.color_scheme.clone(),
            apply_immediately: self.filters.apply_immediately,
            aggregations: self.filters.aggregations.iter().map(|known| known.as_str().to_owned()).collect(),
            filter_order: self.filters.order.clone(),
            hidden: self.filters.hidden.clone(),
            locked: self.locked,
            floating: self.floating,
            automatic_update: self.kept.automatic_update,
            thumbnail: self.kept.thumbnail,
            prewarm: self.kept.prewarm,
            refresh_minutes: self.kept.refresh_minutes,
            refresh_anchor: self.kept.refresh_anchor.clone(),
        }
    }

    fn from_stored(name: String, stored: StoredDashboard) -> DashboardDetails {
        let area = |area: StoredBox| LayoutBox {
            kind: area.kind,
            id: area.id,
            row: area.row,
            column: area.column,
            width: area.width,
            height: area.height,
        };
        DashboardDetails {
            name,
            description: stored.description,
            zone: ZoneConfig {
                rule: ZoneRule::parse(&stored.zone_rule).unwrap_or_default(),
                fixed: stored.fixed_zone,
                allowed: stored.allowed_zones,
            },
            parameters: stored.parameters.into(),
            page_width: stored.page_width,
            layout: stored.layout.into_iter().map(area).collect(),
            color_scheme: stored.color_scheme,
            filters: FiltersConfig {
                apply_immediately: stored.apply_immediately,
                aggregations: stored
                    .aggregations
                    .iter()
                    .filter_map(|word| Aggregation::parse(word))
                    .collect(),
                order: stored.filter_order,
                hidden: stored.hidden,
            },
            locked: stored.locked,
            floating: stored.floating,
            kept: Kept {
                automatic_update: stored.automatic_update,
                thumbnail: stored.thumbnail,
                prewarm: stored.prewarm,
                refresh_minutes: stored.refresh_minutes,
                refresh_anchor: stored.refresh_anchor,
            },
        }
    }
}

macro_rules! columns {
    () => {
        "d.id, d.ou_id, o.path, d.name, d.body, d.creator_id, d.created_at, d.updated_at, d.row_version"
    };
}

macro_rules! from {
    () => {
        "dashboards d JOIN ous o ON o.id = d.ou_id"
    };
}

const LISTING: Listing =
    Listing { columns: columns!(), from: from!(), order: "d.id", size: Some("length(d.body)") };

fn from_row(row: &Row) -> Result<Dashboard> {
    Ok(Dashboard {
        id: row.id(0)?,
        ou: row.id(1)?,
        ou_path: row.text(2)?,
        details: DashboardDetails::from_stored(row.text(3)?, row.json(4)?),
        creator: row.id_opt(5)?,
        created_at: row.time(6)?,
        updated_at: row.time(7)?,
        row_version: row.int(8)?,
        uses: Uses::default(),
    })
}

async fn find(conn: &mut Conn, id: DashboardId) -> Result<Option<Dashboard>> {
    let sql = concat!("SELECT ", columns!(), " FROM ", from!(), " WHERE d.id = $1");
    conn.opt(sql, args![id]).await?.as_ref().map(from_row).transpose()
}

/// Without a permission check, for internal use by the plane.
pub(crate) async fn load(conn: &mut Conn, id: DashboardId) -> Result<Option<Dashboard>> {
    find(conn, id).await
}

/// Fills in what the SQL of the dashboards' reports uses.
async fn fill_uses(conn: &mut Conn, ctx: &OpCtx, dashboards: &mut [Dashboard]) -> Result<()> {
    let ids = dashboards.iter().map(|dashboard| dashboard.id).collect();
    let mut uses = usage::of_dashboards(conn, &Visibility::below(ctx), &ids).await?;
    for dashboard in dashboards {
        dashboard.uses = uses.remove(&dashboard.id).unwrap_or_default();
    }
    Ok(())
}

/// The page of dashboards after this id.
pub async fn dashboard_list(
    plane: &Analytics,
    ctx: &OpCtx,
    after: Option<DashboardId>,
) -> Result<Part<Dashboard, DashboardId>> {
    plane.estate().require_some(ctx, nouns::DASHBOARD, Action::VIEW).await?;
    let mut conn = plane.estate().store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    Visibility::of(ctx, Permission::new(nouns::DASHBOARD, Action::VIEW))
        .narrow(&mut wanted, &Place::named("d.ou_id", "d.id IN ($$)"))?;
    if let Some(after) = after {
        wanted.and_after("d.id", args![after]);
    }
    let mut part = wanted.page(&mut conn, &LISTING, from_row, |dashboard| dashboard.id).await?;
    fill_uses(&mut conn, ctx, &mut part.items).await?;
    Ok(part)
}

/// Maximum stored size of a dashboard in the cache.
const REMEMBERED: usize = 64 * 1_024;

pub async fn dashboard_get(plane: &Analytics, ctx: &OpCtx, id: DashboardId) -> Result<Dashboard> {
    let epoch = plane.estate().epoch_for(ctx).await?;
    let seen_from = (id, ctx.authority().ou_path().to_owned());
    if let Some(known) = plane.dashboards().get(epoch, &seen_from) {
        plane.estate().require(ctx, nouns::DASHBOARD, Action::VIEW, &known.ou_path, id.0).await?;
        return Ok(Dashboard::clone(&known));
    }
    let found = read(plane, ctx, id).await?;
    if body(&found.details)?.len() <= REMEMBERED {
        plane.dashboards().put(epoch, seen_from, Arc::new(found.clone()));
    }
    Ok(found)
}

async fn read(plane: &Analytics, ctx: &OpCtx, id: DashboardId) -> Result<Dashboard> {
    let mut conn = plane.estate().store().read().await?;
    let mut found = find(&mut conn, id).await?.ok_or_else(|| Error::not_found("dashboard"))?;
    plane.estate().require(ctx, nouns::DASHBOARD, Action::VIEW, &found.ou_path, id.0).await?;
    fill_uses(&mut conn, ctx, std::slice::from_mut(&mut found)).await?;
    Ok(found)
}

pub async fn dashboard_create(
    plane: &Analytics,
    ctx: &OpCtx,
    details: impl Into<Input<DashboardDetails>>,
) -> Result<Dashboard> {
    let estate = plane.estate();
    estate.require_here(ctx, nouns::DASHBOARD, Action::MANAGE).await?;
    let details = details.into().checked(DashboardDetails::check)?;
    let (id, now) = (estate.next::<DashboardId>(DashboardId::KIND).await?, estate.now());
    let dashboard = Dashboard {
        id,
        ou: ctx.authority().ou(),
        ou_path: ctx.authority().ou_path().to_owned(),
        details,
        creator: ctx.actor().user(),
        created_at: now,
        updated_at: now,
        row_version: 1,
        uses: Uses::default(),
    };
    let copy = dashboard.clone();
    plane
        .change(ctx, act("created", nouns::DASHBOARD, id.0, &dashboard.details.name), move |tx| {
            Box::pin(async move { insert(tx, &copy).await })
        })
        .await?;
    Ok(dashboard)
}

async fn insert(tx: &mut Tx, dashboard: &Dashboard) -> Result<()> {
    tx.exec(
        "INSERT INTO dashboards (id, ou_id, name, body, creator_id, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $6)",
        args![
            dashboard.id,
            dashboard.ou,
            &dashboard.details.name,
            body(&dashboard.details)?,
            dashboard.creator,
            dashboard.created_at,
        ],
    )
    .await
    .map(drop)
}

fn body(details: &DashboardDetails) -> Result<String> {
    serde_json::to_string(&details.to_stored()).map_err(Error::internal)
}

/// Updates a dashboard, unless it has changed since it was read.
pub async fn dashboard_update(
    plane: &Analytics,
    ctx: &OpCtx,
    id: DashboardId,
    change: Input<impl FnOnce(&mut DashboardDetails)>,
) -> Result<Dashboard> {
    let estate = plane.estate();
    let before = dashboard_get(plane, ctx, id).await?;
    estate.require(ctx, nouns::DASHBOARD, Action::MANAGE, &before.ou_path, id.0).await?;
    let mut after = before.clone();
    change.parsed(|change, faults| {
        change(&mut after.details);
        after.details.check(faults);
    })?;
    after.updated_at = estate.now();
    let copy = after.clone();
    plane
        .change(ctx, act("updated", nouns::DASHBOARD, id.0, &before.details.name), move |tx| {
            Box::pin(async move {
                tx.update_row(
                    "dashboard",
                    "UPDATE dashboards SET name = $2, body = $3, updated_at = $4, row_version = row_version + 1 \
                     WHERE id = $1 AND row_version = $5",
                    args![id, &copy.details.name, body(&copy.details)?, copy.updated_at, copy.row_version],
                )
                .await
            })
        })
        .await?;
    after.row_version += 1;
    Ok(after)
}

/// Deletes a dashboard and its reports.
pub async fn dashboard_delete(plane: &Analytics, ctx: &OpCtx, id: DashboardId) -> Result<()> {
    let found = dashboard_get(plane, ctx, id).await?;
    plane.estate().require(ctx, nouns::DASHBOARD, Action::MANAGE, &found.ou_path, id.0).await?;
    plane
        .change(ctx, act("deleted", nouns::DASHBOARD, id.0, &found.details.name), move |tx| {
            Box::pin(
                async move { tx.exec("DELETE FROM dashboards WHERE id = $1", args![id]).await.map(drop) },
            )
        })
        .await
}
