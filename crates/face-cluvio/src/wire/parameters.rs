//! Input parameters: a client's selection for a run, or a dashboard's defaults.

use landreeve_analytics::lang::{Aggregation, InputParameters, Scalar};
use landreeve_core::{Error, Fault, Input, Result};
use landreeve_http::body::{Field, Fields};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::Verbatim;
use super::types::{AggregationName, ScalarValue};
use crate::input::{Digits, plain};

const MAX_PARAMETERS: usize = 10_000;

#[derive(Debug, Serialize, ToSchema)]
pub struct InputParametersBody {
    // The grammars of ranges and zones are not stated as limits; a text that is too long is not in them either.
    /// Unix seconds `start~end`, with the end inclusive; one side can be omitted. Also `last_7_days` and the like.
    #[schema(example = "694224000~725846399")]
    pub timerange: Option<String>,
    #[schema(value_type = Option<AggregationName>)]
    pub aggregation: Option<String>,
    #[schema(example = "Europe/Berlin")]
    pub tz: Option<String>,
    #[schema(required = false, max_items = 10000)]
    pub filters: Vec<FilterInput>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct FilterInput {
    #[schema(min_length = 1, max_length = 128, example = "country")]
    pub variable_name: String,
    #[schema(max_items = 10000, value_type = Vec<ScalarValue>)]
    pub selected_values: Vec<Verbatim>,
}

pub fn render(inputs: &InputParameters) -> InputParametersBody {
    let filters = inputs.filters.iter().map(|(name, values)| FilterInput {
        variable_name: name.clone(),
        selected_values: values.iter().map(scalar).collect(),
    });
    InputParametersBody {
        timerange: inputs.timerange.clone(),
        aggregation: inputs.aggregation.clone(),
        tz: inputs.tz.clone(),
        filters: filters.collect(),
    }
}

pub fn scalar(scalar: &Scalar) -> Verbatim {
    match scalar {
        Scalar::Text(text) => Verbatim::text(text),
        Scalar::Number(digits) => Verbatim::of(digits),
        Scalar::Boolean(value) => Verbatim::of(if *value { "true" } else { "false" }),
    }
}

/// A string, number or boolean; `path` is its place, to look up the digits.
pub fn read_scalar(field: Field<'_>, digits: &Digits<'_>, path: &str) -> Option<Scalar> {
    match field.value() {
        Value::String(text) => Some(Scalar::Text(text.clone())),
        Value::Number(number) => Some(Scalar::Number(digits.at(path, number))),
        Value::Bool(value) => Some(Scalar::Boolean(*value)),
        _ => field.fault("type", "must be a string, a number or a boolean"),
    }
}

/// A list of scalars; `path` is the place of the list.
pub fn read_scalars(field: Field<'_>, digits: &Digits<'_>, path: &str) -> Option<Vec<Scalar>> {
    let mut at = 0;
    field.list(MAX_PARAMETERS, |item| {
        let path = format!("{path}.{at}");
        at += 1;
        read_scalar(item, digits, &path)
    })
}

/// Reads the members of input parameters; `path` is their place in the body.
pub fn read(fields: &Fields<'_>, digits: &Digits<'_>, path: &str) -> InputParameters {
    let text = |name: &str| fields.optional(name, |field| field.text(0..=1_024)).value();
    let timerange = text("timerange").filter(|range| !range.trim().is_empty());
    let aggregation = fields.optional("aggregation", |field| {
        let words = Aggregation::ALL.map(|known| (known.as_str(), known.as_str().to_owned()));
        field.choice(&words)
    });
    let tz = text("tz");
    let mut at = 0;
    let filters = fields.optional("filters", |field| {
        field.list(MAX_PARAMETERS, |item| {
            let path = format!("{path}.filters.{at}.selected_values");
            at += 1;
            item.object(|filter| {
                let name = filter.required("variable_name", |field| field.text(1..=128));
                let values = filter.optional("selected_values", |field| read_scalars(field, digits, &path));
                (name, values.value().unwrap_or_default())
            })
        })
    });
    InputParameters {
        timerange,
        aggregation: aggregation.value(),
        tz,
        filters: filters.value().unwrap_or_default(),
    }
}

/// The body `{"parameters": …}`, which may be omitted.
pub fn read_body(body: &[u8]) -> Result<Input<InputParameters>> {
    let digits = Digits::of(body);
    plain(body, true, |fields| member(fields, &digits))
}

/// The member `parameters` of a plain body.
pub fn member(fields: &Fields<'_>, digits: &Digits<'_>) -> InputParameters {
    let given = fields
        .optional("parameters", |field| field.object(|parameters| read(parameters, digits, "parameters")));
    given.value().unwrap_or_default()
}

/// Turns the plane's field names for inputs (`parameters.filters.country`) into pointers into the body.
pub fn point(error: Error, inputs: &InputParameters) -> Error {
    let faults = error.faults.into_iter().map(|fault| {
        let field = match fault.field.strip_prefix("parameters.filters.") {
            Some(variable) => match inputs.filters.iter().position(|(name, _)| name == variable) {
                Some(at) => format!("/parameters/filters/{at}/selected_values"),
                // Its value is a default.
                None => {
                    return Fault {
                        field: String::new(),
                        message: format!("{variable} {}", fault.message),
                        ..fault
                    };
                }
            },
            None if fault.field.starts_with("parameters.") => format!("/{}", fault.field.replace('.', "/")),
            None => fault.field.clone(),
        };
        Fault { field, ..fault }
    });
    Error { faults: faults.collect(), ..error }
}
