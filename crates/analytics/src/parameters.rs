//! Prepares a statement for expansion: collects what the language needs (filters, snippets, zones) from the statement's
//! unit.

use std::collections::BTreeMap;

use landreeve_core::datasource::SqlDialect;
use landreeve_core::ids::OuId;
use landreeve_core::{Error, OpCtx, Result};
use landreeve_estate::ops::{self, Datasource, WeekStart};

use crate::dashboards::Dashboard;
use crate::filters::{self, Filter};
use crate::lang::{self, Environment, Expanded, FilterDef, InputParameters, Snippets, Zone, ZoneChoice};
use crate::{Analytics, nouns, snippets};

/// A statement and its context.
pub(crate) struct Statement<'a> {
    pub sql: &'a str,
    pub datasource: &'a Datasource,
    /// The unit in which its names are resolved.
    pub ou: OuId,
    pub dashboard: Option<&'a Dashboard>,
    pub inputs: &'a InputParameters,
}

/// A statement with everything needed to expand it, except the options of its filters.
pub(crate) struct Prepared<'a> {
    statement: Statement<'a>,
    dialect: SqlDialect,
    env: Environment,
    /// The filters that it uses.
    pub filters: Vec<Filter>,
}

/// Reads what a statement needs from its unit.
pub(crate) async fn prepare<'a>(
    plane: &Analytics,
    ctx: &OpCtx,
    statement: Statement<'a>,
) -> Result<Prepared<'a>> {
    let dialect = statement.datasource.details.database_type.dialect();
    let dialect =
        dialect.ok_or_else(|| Error::conflict("no_driver", "there is no driver for this datasource"))?;
    let env = environment(plane, ctx, &statement).await?;
    let usage = lang::analyse(statement.sql, dialect, &env.snippets)?;
    let mut filters = Vec::new();
    if !usage.variables.is_empty() {
        filters = filters::of_unit(&mut plane.estate().store().read().await?, statement.ou).await?;
        filters.retain(|filter| usage.variables.contains(&filter.details.variable));
    }
    Ok(Prepared { statement, dialect, env, filters })
}

impl Prepared<'_> {
    pub fn inputs(&self) -> &InputParameters {
        self.statement.inputs
    }

    /// The SQL for the database, given the definitions of the filters.
    pub fn expand(mut self, definitions: BTreeMap<String, FilterDef>) -> Result<Expanded> {
        self.env.filters = definitions;
        lang::expand(self.statement.sql, self.dialect, &self.env)
    }
}

async fn environment(plane: &Analytics, ctx: &OpCtx, statement: &Statement<'_>) -> Result<Environment> {
    let estate = plane.estate();
    let settings = estate.settings().await?;
    // A statement without a bracket names no snippet, so the store need not be queried.
    let custom = if !statement.sql.contains('[') {
        BTreeMap::new()
    } else {
        snippets::texts(&snippets::of_unit(&mut estate.store().read().await?, statement.ou).await?).custom
    };
    let dashboard_zone = statement.dashboard.map(|dashboard| &dashboard.details.zone);
    let (dashboard_zone, zone_choice) =
        dashboard_zone.map_or((None, ZoneChoice::Any), |config| config.resolve(&settings.time_zone));
    let aggregation_options = statement
        .dashboard
        .map(|dashboard| dashboard.details.filters.aggregations.clone())
        .filter(|offered| !offered.is_empty());
    Ok(Environment {
        inputs: merged(statement.dashboard, statement.inputs),
        snippets: Snippets { custom, builtin: builtin(plane, ctx, statement.dashboard).await? },
        data_zone: statement.datasource.details.data_time_zone.as_deref().and_then(Zone::find),
        dashboard_zone,
        zone_choice,
        aggregation_options,
        week_start: match settings.week_start {
            WeekStart::Monday => lang::WeekStart::Monday,
            WeekStart::Sunday => lang::WeekStart::Sunday,
        },
        session_zone: statement.datasource.session_zone,
        ..Environment::new(estate.now())
    })
}

/// A client's inputs; the dashboard's defaults apply where there are none.
fn merged(dashboard: Option<&Dashboard>, inputs: &InputParameters) -> InputParameters {
    let Some(defaults) = dashboard.map(|dashboard| &dashboard.details.parameters) else {
        return inputs.clone();
    };
    let mut filters = inputs.filters.clone();
    for (name, values) in &defaults.filters {
        if !filters.iter().any(|(known, _)| known == name) {
            filters.push((name.clone(), values.clone()));
        }
    }
    InputParameters {
        timerange: inputs.timerange.clone().or_else(|| defaults.timerange.clone()),
        aggregation: inputs.aggregation.clone().or_else(|| defaults.aggregation.clone()),
        tz: inputs.tz.clone().or_else(|| defaults.tz.clone()),
        filters,
    }
}

/// The built-in snippets: the caller (NULL for a key without a user) and the dashboard.
async fn builtin(
    plane: &Analytics,
    ctx: &OpCtx,
    dashboard: Option<&Dashboard>,
) -> Result<BTreeMap<String, Option<String>>> {
    let names = plane.builtin();
    let user = ops::users::me(plane.estate(), ctx).await?;
    let role = match &user {
        None => None,
        Some(_)
            if ctx.require_here(landreeve_core::Noun::SETTING, landreeve_core::Action::MANAGE).is_ok() =>
        {
            Some("admin")
        }
        Some(_) if ctx.require_some(nouns::DASHBOARD, landreeve_core::Action::MANAGE).is_ok() => {
            Some("analyst")
        }
        Some(_) => Some("viewer"),
    };
    let id = dashboard.map(|dashboard| plane.estate().hash_ids().encode_grouped(dashboard.id));
    let values = [
        (names.user_email, user.as_ref().map(|user| user.email.clone())),
        (names.user_first_name, user.as_ref().map(|user| user.first_name.clone())),
        (names.user_last_name, user.as_ref().map(|user| user.last_name.clone())),
        (names.user_role, role.map(str::to_owned)),
        (names.dashboard_name, dashboard.map(|dashboard| dashboard.details.name.clone())),
        (names.dashboard_id, id),
    ];
    Ok(values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
