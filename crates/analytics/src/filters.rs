//! Filters: the meaning of variables in the parameter language, and the options of drop-downs.

use jiff::Timestamp;
use landreeve_core::error::Faults;
use landreeve_core::ids::{DatasourceId, OuId};
use landreeve_core::{Action, Error, Input, OpCtx, Part, Permission, Result};
use landreeve_estate::args;
use landreeve_estate::identity::{Place, Visibility};
use landreeve_estate::store::{Conn, Listing, Row, Tx, Where, taken};

use crate::ids::FilterId;
use crate::lang::{self, Aggregation, Control, FilterDef, Scalar, ValueType};
use crate::rows::{act, check_datasource};
use crate::stored::StoredFilter;
use crate::{Analytics, nouns};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub id: FilterId,
    pub ou: OuId,
    pub ou_path: String,
    pub details: FilterDetails,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub row_version: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterDetails {
    /// For display.
    pub name: String,
    pub description: Option<String>,
    /// The name in SQL; unique within its unit.
    pub variable: String,
    pub control: ControlKind,
    pub value_type: ValueType,
    pub multiple: bool,
    /// Where a drop-down gets its options.
    pub source: OptionSource,
    pub default: Vec<Scalar>,
    /// The aggregations that an aggregation filter offers; `None` means all except `all_time`.
    pub aggregations: Option<Vec<Aggregation>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlKind {
    Dropdown,
    Input,
    DateTimeRange,
    DateRange,
    TimeRange,
    Aggregation,
}

impl ControlKind {
    pub const ALL: [ControlKind; 6] = [
        ControlKind::Dropdown,
        ControlKind::Input,
        ControlKind::DateTimeRange,
        ControlKind::DateRange,
        ControlKind::TimeRange,
        ControlKind::Aggregation,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            ControlKind::Dropdown => "dropdown",
            ControlKind::Input => "text_input",
            ControlKind::DateTimeRange => "datetime_range",
            ControlKind::DateRange => "date_range",
            ControlKind::TimeRange => "time_range",
            ControlKind::Aggregation => "aggregation",
        }
    }

    pub fn parse(text: &str) -> Option<ControlKind> {
        ControlKind::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

/// The words for value types, in display order.
pub const VALUE_TYPES: [(&str, ValueType); 7] = [
    ("text", ValueType::Text),
    ("integer", ValueType::Integer),
    ("number", ValueType::Number),
    ("boolean", ValueType::Boolean),
    ("date", ValueType::Date),
    ("datetime", ValueType::DateTime),
    ("time", ValueType::Time),
];

pub fn value_type_word(value_type: ValueType) -> &'static str {
    VALUE_TYPES.into_iter().find(|(_, known)| *known == value_type).map_or("text", |(word, _)| word)
}

pub fn parse_value_type(text: &str) -> Option<ValueType> {
    VALUE_TYPES.into_iter().find(|(word, _)| *word == text).map(|(_, known)| known)
}

/// A value and its label.
pub type Choice = (Scalar, Option<String>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionSource {
    /// Not a drop-down.
    None,
    Manual(Vec<Choice>),
    /// Plain SQL; its options are stored, and read again when the filter changes.
    StaticSql(DatasourceId, String),
    /// SQL of the parameter language, run for each use: drop-downs can depend on one another.
    DynamicSql(DatasourceId, String),
}

impl OptionSource {
    pub fn word(&self) -> Option<&'static str> {
        match self {
            OptionSource::None => None,
            OptionSource::Manual(_) => Some("manual"),
            OptionSource::StaticSql(..) => Some("static_sql"),
            OptionSource::DynamicSql(..) => Some("dynamic_sql"),
        }
    }

    pub fn datasource(&self) -> Option<DatasourceId> {
        match self {
            OptionSource::StaticSql(id, _) | OptionSource::DynamicSql(id, _) => Some(*id),
            OptionSource::None | OptionSource::Manual(_) => None,
        }
    }

    fn sql(&self) -> Option<&str> {
        match self {
            OptionSource::StaticSql(_, sql) | OptionSource::DynamicSql(_, sql) => Some(sql),
            OptionSource::None | OptionSource::Manual(_) => None,
        }
    }
}

impl Default for FilterDetails {
    fn default() -> FilterDetails {
        FilterDetails {
            name: String::new(),
            description: None,
            variable: String::new(),
            control: ControlKind::Dropdown,
            value_type: ValueType::Text,
            multiple: true,
            source: OptionSource::Manual(Vec::new()),
            default: Vec::new(),
            aggregations: None,
        }
    }
}

const MAX_OPTIONS: usize = 10_000;

impl FilterDetails {
    /// Every fault that can be found without a lookup.
    pub fn check(&self, faults: &mut Faults) {
        if self.name.trim().is_empty() {
            faults.push("name", "required", "is required");
        }
        if self.variable.is_empty() {
            faults.push("variable_name", "required", "is required");
        } else if !lang::is_name(&self.variable) || self.variable.len() > 128 {
            faults.push(
                "variable_name",
                "format",
                "must consist of letters, digits and _, and not start with a digit",
            );
        } else if lang::is_reserved(&self.variable) {
            faults.push("variable_name", "reserved", "is reserved by the parameter language");
        }
        if let OptionSource::Manual(options) = &self.source
            && options.len() > MAX_OPTIONS
        {
            faults.push("values", "length", format!("must have at most {MAX_OPTIONS} values"));
        }
        if let Some(sql) = self.source.sql() {
            if sql.trim().is_empty() {
                faults.push("query", "required", "is required for this source of options");
            }
            if sql.contains('\0') {
                faults.push("query", "format", "must not contain U+0000");
            }
        }
    }

    fn to_stored(&self) -> StoredFilter {
        let options = match &self.source {
            OptionSource::Manual(options) => {
                options.iter().map(|(value, label)| (value.into(), label.clone())).collect()
            }
            _ => Vec::new(),
        };
        StoredFilter {
            version: 1,
            name: self.name.clone(),
            description: self.description.clone(),
            control: self.control.as_str().to_owned(),
            value_type: value_type_word(self.value_type).to_owned(),
            multiple: self.multiple,
            source: self.source.word().map(str::to_owned),
            sql: self.source.sql().map(str::to_owned),
            options,
            default: self.default.iter().map(Into::into).collect(),
            aggregations: self
                .aggregations
                .as_ref()
                .map(|allowed| allowed.iter().map(|known| known.as_str().to_owned()).collect()),
        }
    }

    fn from_stored(
        variable: String,
        datasource: Option<DatasourceId>,
        stored: StoredFilter,
    ) -> FilterDetails {
        let sql = stored.sql.unwrap_or_default();
        let source = match (stored.source.as_deref(), datasource) {
            (Some("manual"), _) => OptionSource::Manual(
                stored.options.into_iter().map(|(value, label)| (value.into(), label)).collect(),
            ),
            (Some("static_sql"), Some(id)) => OptionSource::StaticSql(id, sql),
            (Some("dynamic_sql"), Some(id)) => OptionSource::DynamicSql(id, sql),
            // Its datasource was deleted, so there are no options any more.
            (Some(_), _) => OptionSource::Manual(Vec::new()),
            (None, _) => OptionSource::None,
        };
        FilterDetails {
            name: stored.name,
            description: stored.description,
            variable,
            control: ControlKind::parse(&stored.control).unwrap_or(ControlKind::Input),
            value_type: parse_value_type(&stored.value_type).unwrap_or(ValueType::Text),
            multiple: stored.multiple,
            source,
            default: stored.default.into_iter().map(Into::into).collect(),
            aggregations: stored
                .aggregations
                .map(|words| words.iter().filter_map(|word| Aggregation::parse(word)).collect()),
        }
    }

    /// In the form the language needs. `options` are those of a drop-down with options from SQL.
    pub(crate) fn definition(&self, options: Option<&[Choice]>) -> FilterDef {
        let values = |choices: &[Choice]| choices.iter().map(|(value, _)| value.clone()).collect();
        let control = match self.control {
            ControlKind::Dropdown => Control::Dropdown {
                value_type: self.value_type,
                multiple: self.multiple,
                options: match (&self.source, options) {
                    (OptionSource::Manual(choices), _) => Some(values(choices)),
                    (_, Some(choices)) => Some(values(choices)),
                    (_, None) => None,
                },
            },
            ControlKind::Input => Control::Input { value_type: self.value_type, multiple: self.multiple },
            ControlKind::DateTimeRange => Control::DateTimeRange,
            ControlKind::DateRange => Control::DateRange,
            ControlKind::TimeRange => Control::TimeRange,
            ControlKind::Aggregation => Control::Aggregation { options: self.aggregations.clone() },
        };
        FilterDef { control, default: self.default.clone() }
    }
}

macro_rules! columns {
    () => {
        "f.id, f.ou_id, o.path, f.variable_name, f.datasource_id, f.body, f.created_at, f.updated_at, f.row_version"
    };
}

macro_rules! from {
    () => {
        "filters f JOIN ous o ON o.id = f.ou_id"
    };
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), " FROM ", from!(), " ", $rest)
    };
}

const LISTING: Listing = Listing {
    columns: columns!(),
    from: from!(),
    order: "f.variable_name, f.id",
    size: Some("length(f.body)"),
};

fn from_row(row: &Row) -> Result<Filter> {
    Ok(Filter {
        id: row.id(0)?,
        ou: row.id(1)?,
        ou_path: row.text(2)?,
        details: FilterDetails::from_stored(row.text(3)?, row.id_opt(4)?, row.json(5)?),
        created_at: row.time(6)?,
        updated_at: row.time(7)?,
        row_version: row.int(8)?,
    })
}

/// The filters of one unit: SQL resolves names only within its own unit.
pub(crate) async fn of_unit(conn: &mut Conn, ou: OuId) -> Result<Vec<Filter>> {
    conn.all(select!("WHERE f.ou_id = $1 ORDER BY f.id"), args![ou]).await?.iter().map(from_row).collect()
}

async fn find(conn: &mut Conn, id: FilterId) -> Result<Option<Filter>> {
    conn.opt(select!("WHERE f.id = $1"), args![id]).await?.as_ref().map(from_row).transpose()
}

/// The sort key of the filter list: variable, then id.
pub type FilterKey = (String, FilterId);

/// The page of filters after this key, limited to the ids in `only` if given.
pub async fn filter_list(
    plane: &Analytics,
    ctx: &OpCtx,
    only: Option<&[FilterId]>,
    after: Option<FilterKey>,
) -> Result<Part<Filter, FilterKey>> {
    plane.estate().require_some(ctx, nouns::FILTER, Action::VIEW).await?;
    let mut conn = plane.estate().store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    Visibility::of(ctx, Permission::new(nouns::FILTER, Action::VIEW))
        .narrow(&mut wanted, &Place::named("f.ou_id", "f.id IN ($$)"))?;
    if let Some(only) = only {
        wanted.and_ids("f.id", only.iter().map(|id| id.0));
    }
    if let Some((variable, id)) = after {
        wanted.and_after("f.variable_name, f.id", args![variable, id]);
    }
    let key = |filter: &Filter| (filter.details.variable.clone(), filter.id);
    wanted.page(&mut conn, &LISTING, from_row, key).await
}

pub async fn filter_get(plane: &Analytics, ctx: &OpCtx, id: FilterId) -> Result<Filter> {
    let found = find(&mut plane.estate().store().read().await?, id).await?;
    let found = found.ok_or_else(|| Error::not_found("filter"))?;
    plane.estate().require(ctx, nouns::FILTER, Action::VIEW, &found.ou_path, id.0).await?;
    Ok(found)
}

pub async fn filter_create(
    plane: &Analytics,
    ctx: &OpCtx,
    details: impl Into<Input<FilterDetails>>,
) -> Result<Filter> {
    let estate = plane.estate();
    estate.require_here(ctx, nouns::FILTER, Action::MANAGE).await?;
    let details = details.into().checked(FilterDetails::check)?;
    let (id, now) = (estate.next::<FilterId>(FilterId::KIND).await?, estate.now());
    let filter = Filter {
        id,
        ou: ctx.authority().ou(),
        ou_path: ctx.authority().ou_path().to_owned(),
        details,
        created_at: now,
        updated_at: now,
        row_version: 1,
    };
    let (copy, caller) = (filter.clone(), ctx.clone());
    plane
        .change(ctx, act("created", nouns::FILTER, id.0, &filter.details.variable), move |tx| {
            Box::pin(async move {
                check_datasource(tx, &caller, copy.details.source.datasource()).await?;
                tx.exec(
                    "INSERT INTO filters (id, ou_id, variable_name, datasource_id, body, created_at, updated_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $6)",
                    args![
                        copy.id,
                        copy.ou,
                        &copy.details.variable,
                        copy.details.source.datasource(),
                        body(&copy.details)?,
                        copy.created_at,
                    ],
                )
                .await
                .map(drop)
            })
        })
        .await
        .map_err(|error| taken(error, "variable_name"))?;
    Ok(filter)
}

fn body(details: &FilterDetails) -> Result<String> {
    serde_json::to_string(&details.to_stored()).map_err(Error::internal)
}

pub async fn filter_update(
    plane: &Analytics,
    ctx: &OpCtx,
    id: FilterId,
    change: Input<impl FnOnce(&mut FilterDetails, &mut Faults)>,
) -> Result<Filter> {
    let estate = plane.estate();
    let before = filter_get(plane, ctx, id).await?;
    estate.require(ctx, nouns::FILTER, Action::MANAGE, &before.ou_path, id.0).await?;
    let mut after = before.clone();
    change.parsed(|change, faults| {
        change(&mut after.details, faults);
        after.details.check(faults);
    })?;
    after.updated_at = estate.now();
    let (caller, copy, known) = (ctx.clone(), after.clone(), before.details.source.datasource());
    plane
        .change(ctx, act("updated", nouns::FILTER, id.0, &before.details.variable), move |tx| {
            Box::pin(async move {
                if copy.details.source.datasource() != known {
                    check_datasource(tx, &caller, copy.details.source.datasource()).await?;
                }
                update(tx, &copy).await
            })
        })
        .await
        .map_err(|error| taken(error, "variable_name"))?;
    after.row_version += 1;
    Ok(after)
}

async fn update(tx: &mut Tx, filter: &Filter) -> Result<()> {
    tx.update_row(
        "filter",
        "UPDATE filters SET variable_name = $2, datasource_id = $3, body = $4, updated_at = $5, \
         row_version = row_version + 1 WHERE id = $1 AND row_version = $6",
        args![
            filter.id,
            &filter.details.variable,
            filter.details.source.datasource(),
            body(&filter.details)?,
            filter.updated_at,
            filter.row_version,
        ],
    )
    .await?;
    // Options from an earlier query are no longer valid.
    tx.exec("DELETE FROM filter_options WHERE filter_id = $1", args![filter.id]).await.map(drop)
}

pub async fn filter_delete(plane: &Analytics, ctx: &OpCtx, id: FilterId) -> Result<()> {
    let found = filter_get(plane, ctx, id).await?;
    plane.estate().require(ctx, nouns::FILTER, Action::MANAGE, &found.ou_path, id.0).await?;
    plane
        .change(ctx, act("deleted", nouns::FILTER, id.0, &found.details.variable), move |tx| {
            Box::pin(async move { tx.exec("DELETE FROM filters WHERE id = $1", args![id]).await.map(drop) })
        })
        .await
}
