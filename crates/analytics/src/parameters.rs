//! From a caller, a statement and its inputs to the SQL of the database: gathers what the language needs (filters,
//! snippets, zones) from the unit that the statement belongs to.

use std::collections::BTreeMap;

use landreeve_core::ids::OuId;
use landreeve_core::{Error, OpCtx, Result};
use landreeve_estate::ops::{self, Datasource, WeekStart};

use crate::Analytics;
use crate::dashboards::{Dashboard, ZoneRule};
use crate::filters::{self, ControlKind, OptionSource};
use crate::lang::{self, Environment, Expanded, FilterDef, InputParameters, Snippets, Zone, ZoneChoice};
use crate::nouns;
use crate::options::Asking;
use crate::snippets;

/// A statement with where it comes from.
pub(crate) struct Statement<'a> {
    pub sql: &'a str,
    pub datasource: &'a Datasource,
    /// The unit in which its names are looked up.
    pub ou: OuId,
    pub dashboard: Option<&'a Dashboard>,
    pub inputs: &'a InputParameters,
}

/// Expands a statement. `asking` are the variables whose options are being found just now.
pub(crate) async fn expand(
    plane: &Analytics,
    ctx: &OpCtx,
    statement: Statement<'_>,
    asking: &mut Asking,
) -> Result<Expanded> {
    let dialect = statement.datasource.details.database_type.dialect();
    let dialect =
        dialect.ok_or_else(|| Error::conflict("no_driver", "there is no driver for this datasource"))?;
    let mut env = environment(plane, ctx, &statement).await?;
    let usage = lang::analyse(statement.sql, dialect, &env.snippets)?;
    env.filters = definitions(plane, ctx, &statement, &usage.variables, asking).await?;
    lang::expand(statement.sql, dialect, &env)
}

async fn environment(plane: &Analytics, ctx: &OpCtx, statement: &Statement<'_>) -> Result<Environment> {
    let estate = plane.estate();
    let settings = estate.settings().await?;
    // A statement without a bracket names no snippet, and the store need not be asked.
    let custom = if !statement.sql.contains('[') {
        BTreeMap::new()
    } else {
        snippets::texts(&snippets::of_unit(&mut estate.store().read().await?, statement.ou).await?).custom
    };
    let zone = |name: &str| Zone::find(name);
    let (dashboard_zone, zone_choice) = match statement.dashboard.map(|dashboard| &dashboard.details.zone) {
        None => (None, ZoneChoice::Any),
        Some(config) => match config.rule {
            ZoneRule::Disabled => (None, ZoneChoice::Fixed),
            ZoneRule::Organization => (zone(&settings.time_zone), ZoneChoice::Fixed),
            ZoneRule::Fixed => (config.fixed.as_deref().and_then(zone), ZoneChoice::Fixed),
            ZoneRule::UserSelectable if config.allowed.is_empty() => {
                (config.fixed.as_deref().and_then(zone), ZoneChoice::Any)
            }
            ZoneRule::UserSelectable => {
                let allowed = config.allowed.iter().filter_map(|name| zone(name)).collect();
                (config.fixed.as_deref().and_then(zone), ZoneChoice::OneOf(allowed))
            }
        },
    };
    let aggregation_options = statement
        .dashboard
        .map(|dashboard| dashboard.details.filters.aggregations.clone())
        .filter(|offered| !offered.is_empty());
    Ok(Environment {
        inputs: merged(statement.dashboard, statement.inputs),
        snippets: Snippets { custom, builtin: builtin(plane, ctx, statement.dashboard).await? },
        data_zone: statement.datasource.details.data_time_zone.as_deref().and_then(zone),
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

/// A client's inputs over the dashboard's defaults.
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

/// The built-in snippets: who asks (NULL for a key without a user), and from which dashboard.
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
    let id = dashboard.map(|dashboard| plane.estate().hash_ids().encode_grouped(dashboard.id.0));
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

/// The definitions of the variables that a statement uses, with the options of drop-downs.
async fn definitions(
    plane: &Analytics,
    ctx: &OpCtx,
    statement: &Statement<'_>,
    variables: &[String],
    asking: &mut Asking,
) -> Result<BTreeMap<String, FilterDef>> {
    if variables.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut unit = filters::of_unit(&mut plane.estate().store().read().await?, statement.ou).await?;
    unit.retain(|filter| variables.contains(&filter.details.variable));
    let mut definitions = BTreeMap::new();
    for filter in unit {
        let name = filter.details.variable.clone();
        let from_sql =
            matches!(filter.details.source, OptionSource::StaticSql(..) | OptionSource::DynamicSql(..));
        let chosen =
            statement.inputs.filters.iter().any(|(known, values)| *known == name && !values.is_empty());
        // Options are asked of a database only where there is a value to check.
        let options = if filter.details.control == ControlKind::Dropdown && from_sql && chosen {
            asking.begin(&name)?;
            let found = Box::pin(filters::options(plane, ctx, &filter, statement.inputs, asking)).await?;
            asking.end();
            Some(found)
        } else {
            None
        };
        definitions.insert(name, filter.details.definition(options.as_deref()));
    }
    Ok(definitions)
}
