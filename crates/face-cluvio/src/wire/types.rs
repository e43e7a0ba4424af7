//! Items of lists and other values for the reference, whose limits an attribute of a member cannot express.

use landreeve_analytics::lang::Aggregation;
use serde_json::json;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

/// A period by which times are grouped.
#[derive(Debug)]
pub struct AggregationName;

impl PartialSchema for AggregationName {
    fn schema() -> RefOr<Schema> {
        let words = Aggregation::ALL.map(Aggregation::as_str);
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(words))
            .examples([json!("month")])
            .build()
            .into()
    }
}

impl ToSchema for AggregationName {}

/// A string, a number or a boolean.
#[derive(Debug)]
pub struct ScalarValue;

impl PartialSchema for ScalarValue {
    fn schema() -> RefOr<Schema> {
        let types = SchemaType::from_iter([Type::String, Type::Number, Type::Boolean]);
        ObjectBuilder::new().schema_type(types).examples([json!("F")]).build().into()
    }
}

impl ToSchema for ScalarValue {}

/// The name of a variable.
#[derive(Debug)]
pub struct ParameterName;

impl PartialSchema for ParameterName {
    fn schema() -> RefOr<Schema> {
        text(1_024, "country")
    }
}

impl ToSchema for ParameterName {}

/// The label of an option.
#[derive(Debug)]
pub struct Label;

impl PartialSchema for Label {
    fn schema() -> RefOr<Schema> {
        text(4_096, "Finished")
    }
}

impl ToSchema for Label {}

/// The IANA name of a time zone; these names have no limits that could be stated.
#[derive(Debug)]
pub struct ZoneName;

impl PartialSchema for ZoneName {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).examples([json!("Europe/Berlin")]).build().into()
    }
}

impl ToSchema for ZoneName {}

fn text(max: usize, example: &str) -> RefOr<Schema> {
    let text = ObjectBuilder::new().schema_type(Type::String).max_length(Some(max));
    text.examples([json!(example)]).build().into()
}
