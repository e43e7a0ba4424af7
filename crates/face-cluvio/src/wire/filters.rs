//! Filters on the wire.

use landreeve_analytics::filters::{
    Choice, ControlKind, Filter as PlaneFilter, FilterDetails, OptionSource, VALUE_TYPES, value_type_word,
};
use landreeve_analytics::lang::{Aggregation, Scalar, ValueType};
use landreeve_core::error::Faults;
use landreeve_core::hashid::HashIds;
use landreeve_core::ids::DatasourceId;
use landreeve_core::{Given, Input, Result};
use landreeve_http::body::Fields;
use serde::Serialize;
use utoipa::ToSchema;

use super::parameters::{read_scalars, scalar};
use super::types::{AggregationName, Label, ScalarValue};
use super::{Time, ToOne, Verbatim, datasources};
use crate::input::{Digits, Names, Patch, document, to_one};

pub const KIND: &str = "filters";
pub const NAMES: Names = Names(&["datasource"]);

#[derive(Debug, Serialize, ToSchema)]
pub struct Filter {
    #[schema(read_only, example = "qw1x-7w2l-7rd5")]
    pub id: String,
    #[serde(rename = "type")]
    #[schema(example = "filters")]
    pub kind: &'static str,
    pub attributes: FilterAttributes,
    pub relationships: FilterRelationships,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct FilterAttributes {
    #[schema(min_length = 1, max_length = 65536, example = "Order status")]
    pub name: String,
    #[schema(max_length = 65536)]
    pub description: Option<String>,
    /// The variable in SQL: `{o_orderstatus=order_status}`.
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = "^[A-Za-z_][A-Za-z0-9_]*$",
        example = "order_status"
    )]
    pub variable_name: String,
    #[schema(
        pattern = "^(dropdown|text_input|datetime_range|date_range|time_range|aggregation)$",
        example = "dropdown"
    )]
    pub control_type: &'static str,
    #[schema(pattern = "^(text|integer|number|boolean|date|datetime|time)$", example = "text")]
    pub value_type: &'static str,
    pub multi_select: bool,
    /// Source of a drop-down's options.
    #[schema(pattern = "^(manual|static_sql|dynamic_sql)$", example = "manual")]
    pub options_type: Option<&'static str>,
    /// The SQL for `static_sql` and `dynamic_sql`: values, and labels in a second column.
    #[schema(max_length = 1048576)]
    pub query: Option<String>,
    /// The options for `manual`.
    #[schema(max_items = 10000, value_type = Vec<ScalarValue>)]
    pub values: Vec<Verbatim>,
    /// Their labels, in the same number.
    #[schema(max_items = 10000, value_type = Vec<Option<Label>>)]
    pub value_names: Vec<Option<String>>,
    #[schema(max_items = 10000, value_type = Vec<ScalarValue>)]
    pub default_values: Vec<Verbatim>,
    /// The aggregations that an aggregation filter offers; null means all except `all_time`.
    #[schema(max_items = 100, value_type = Option<Vec<AggregationName>>)]
    pub aggregation_options: Option<Vec<&'static str>>,
    #[schema(read_only)]
    pub created_at: Time,
    #[schema(read_only)]
    pub updated_at: Time,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct FilterRelationships {
    pub datasource: ToOne,
}

pub fn render(filter: &PlaneFilter, ids: &HashIds) -> Filter {
    let details = &filter.details;
    let options: &[Choice] = match &details.source {
        OptionSource::Manual(options) => options,
        _ => &[],
    };
    let query = match &details.source {
        OptionSource::StaticSql(_, sql) | OptionSource::DynamicSql(_, sql) => Some(sql.clone()),
        OptionSource::None | OptionSource::Manual(_) => None,
    };
    Filter {
        id: ids.encode_grouped(filter.id),
        kind: KIND,
        attributes: FilterAttributes {
            name: details.name.clone(),
            description: details.description.clone(),
            variable_name: details.variable.clone(),
            control_type: details.control.as_str(),
            value_type: value_type_word(details.value_type),
            multi_select: details.multiple,
            options_type: details.source.word(),
            query,
            values: options.iter().map(|(value, _)| scalar(value)).collect(),
            value_names: options.iter().map(|(_, name)| name.clone()).collect(),
            default_values: details.default.iter().map(scalar).collect(),
            aggregation_options: details
                .aggregations
                .as_ref()
                .map(|offered| offered.iter().map(|known| known.as_str()).collect()),
            created_at: Time(filter.created_at),
            updated_at: Time(filter.updated_at),
        },
        relationships: FilterRelationships {
            datasource: ToOne::to(ids, datasources::KIND, details.source.datasource()),
        },
    }
}

/// The options of a drop-down.
#[derive(Debug, Serialize, ToSchema)]
pub struct FilterOptions {
    pub values: Vec<Verbatim>,
    /// Labels, in the same number; the value itself if it has no label.
    pub value_names: Vec<String>,
}

pub fn render_options(options: &[Choice]) -> FilterOptions {
    let label = |(value, name): &Choice| match (name, value) {
        (Some(name), _) => name.clone(),
        (None, Scalar::Text(text) | Scalar::Number(text)) => text.clone(),
        (None, Scalar::Boolean(value)) => value.to_string(),
    };
    FilterOptions {
        values: options.iter().map(|(value, _)| scalar(value)).collect(),
        value_names: options.iter().map(label).collect(),
    }
}

/// A request about a filter.
#[derive(Debug)]
pub struct Change {
    details: Patch<FilterDetails>,
    control: Option<ControlKind>,
    source: SourceChange,
}

/// The members that together define the source of the options.
#[derive(Debug, Clone)]
struct SourceChange {
    kind: Option<SourceKind>,
    options: Option<Vec<Choice>>,
    query: Option<Option<String>>,
    datasource: Option<Option<DatasourceId>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SourceKind {
    Manual,
    StaticSql,
    DynamicSql,
}

const SOURCES: [(&str, SourceKind); 3] = [
    ("manual", SourceKind::Manual),
    ("static_sql", SourceKind::StaticSql),
    ("dynamic_sql", SourceKind::DynamicSql),
];

impl Change {
    /// Applies the change, and adds the faults that only show when compared with the filter as it was.
    pub fn apply(self, details: &mut FilterDetails, faults: &mut Faults) {
        self.check_against(details, faults);
        self.details.apply(details);
        details.source = self.source.source(details).unwrap_or(OptionSource::Manual(Vec::new()));
    }

    fn check_against(&self, before: &FilterDetails, faults: &mut Faults) {
        let control = self.control.unwrap_or(before.control);
        let after = FilterDetails { control, ..before.clone() };
        if control != ControlKind::Dropdown {
            let message = "is only for drop-downs";
            if self.source.options.as_ref().is_some_and(|options| !options.is_empty()) {
                faults.push("/data/attributes/values", "not_allowed", message);
            }
            if self.source.query.as_ref().is_some_and(Option::is_some) {
                faults.push("/data/attributes/query", "not_allowed", message);
            }
        } else if self.source.source(&after).is_none() {
            let message = "is required for options that come from SQL";
            faults.push("/data/relationships/datasource", "required", message);
        }
    }
}

impl SourceChange {
    /// `None`: options from SQL without a datasource.
    fn source(&self, details: &FilterDetails) -> Option<OptionSource> {
        if details.control != ControlKind::Dropdown {
            return Some(OptionSource::None);
        }
        let before = &details.source;
        let known = match before {
            OptionSource::StaticSql(..) => SourceKind::StaticSql,
            OptionSource::DynamicSql(..) => SourceKind::DynamicSql,
            OptionSource::Manual(_) | OptionSource::None => SourceKind::Manual,
        };
        let inferred = match (&self.options, &self.query) {
            (Some(_), _) => SourceKind::Manual,
            (None, Some(Some(_))) if known == SourceKind::Manual => SourceKind::DynamicSql,
            _ => known,
        };
        let kind = self.kind.unwrap_or(inferred);
        if kind == SourceKind::Manual {
            let kept = match before {
                OptionSource::Manual(options) => options.clone(),
                _ => Vec::new(),
            };
            return Some(OptionSource::Manual(self.options.clone().unwrap_or(kept)));
        }
        let kept = match before {
            OptionSource::StaticSql(_, sql) | OptionSource::DynamicSql(_, sql) => Some(sql.clone()),
            _ => None,
        };
        let sql = self.query.clone().unwrap_or(kept).unwrap_or_default();
        let datasource = self.datasource.unwrap_or(before.datasource())?;
        Some(match kind {
            SourceKind::StaticSql => OptionSource::StaticSql(datasource, sql),
            SourceKind::DynamicSql | SourceKind::Manual => OptionSource::DynamicSql(datasource, sql),
        })
    }
}

/// `id` is the one in the path; `None` if the filter is being created.
pub fn read(body: &[u8], ids: &HashIds, id: Option<&str>) -> Result<Input<Change>> {
    let digits = Digits::of(body);
    let decode = |text: &str| ids.decode_grouped::<DatasourceId>(text);
    let read = document(
        body,
        KIND,
        id,
        |fields| attributes(fields, &digits),
        |fields| to_one(fields, "datasource", datasources::KIND, decode).change(),
    )?;
    let read = read.map(|((details, control, mut source), datasource), _| {
        source.datasource = datasource;
        Change { details, control, source }
    });
    Ok(read.named(|field| NAMES.pointer(field)))
}

fn attributes(
    fields: &Fields<'_>,
    digits: &Digits<'_>,
) -> (Patch<FilterDetails>, Option<ControlKind>, SourceChange) {
    let mut patch: Patch<FilterDetails> = Patch::new();
    fields.ignore(&["created_at", "updated_at"]);
    let text = |name: &str| fields.optional(name, |field| field.text(0..=65_536));
    patch.take(text("name"), |details, name| details.name = name.unwrap_or_default());
    patch.take(text("description"), |details, text| details.description = text);
    patch.take(text("variable_name"), |details, name| details.variable = name.unwrap_or_default());
    let controls = ControlKind::ALL.map(|control| (control.as_str(), control));
    let control = fields.optional("control_type", |field| field.choice(&controls)).change();
    let control = control.map(|control| control.unwrap_or(ControlKind::Dropdown));
    if let Some(control) = control {
        patch.take(Given::Value(control), |details, control| {
            details.control = control.unwrap_or(ControlKind::Dropdown);
        });
    }
    patch.take(fields.optional("value_type", |field| field.choice(&VALUE_TYPES)), |details, value_type| {
        details.value_type = value_type.unwrap_or(ValueType::Text);
    });
    patch.take(fields.optional("multi_select", |field| field.bool()), |details, flag| {
        details.multiple = flag.unwrap_or(true);
    });
    let scalars = |name: &str| {
        fields.optional(name, |field| read_scalars(field, digits, &format!("data.attributes.{name}")))
    };
    patch.take(scalars("default_values"), |details, values| details.default = values.unwrap_or_default());
    let words = Aggregation::ALL.map(|known| (known.as_str(), known));
    let offered = fields.optional("aggregation_options", |field| field.list(100, |item| item.choice(&words)));
    patch.take(offered, |details, offered| details.aggregations = offered);
    let source = SourceChange {
        kind: fields.optional("options_type", |field| field.choice(&SOURCES)).value(),
        options: options(fields, scalars("values").change()),
        query: fields.optional("query", |field| field.text(0..=1_048_576)).change(),
        datasource: None,
    };
    (patch, control, source)
}

/// Values and their names, two lists of the same length.
fn options(fields: &Fields<'_>, values: Option<Option<Vec<Scalar>>>) -> Option<Vec<Choice>> {
    let given = fields.optional("value_names", |field| {
        field.list(10_000, |item| match item.value() {
            serde_json::Value::Null => Some(None),
            _ => item.text(0..=4_096).map(Some),
        })
    });
    let names = given.value().filter(|names| !names.is_empty());
    let Some(values) = values.map(Option::unwrap_or_default) else {
        if names.is_some() && fields.raw("values").is_none() {
            fields.fault("value_names", "alone", "requires values");
        }
        return None;
    };
    let Some(names) = names else {
        return Some(values.into_iter().map(|value| (value, None)).collect());
    };
    if names.len() != values.len() {
        let message = format!("must have as many entries as values ({}), not {}", values.len(), names.len());
        fields.fault("value_names", "length", message);
    }
    Some(values.into_iter().zip(names).collect())
}
