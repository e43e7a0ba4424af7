//! Types of arguments for the reference, which `Reader` reads in several forms.

use serde_json::json;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{Object, RefOr};
use utoipa::{PartialSchema, ToSchema};

/// A time. Its text has no `format`: it can be digits or ISO 8601, also without an offset or a time of day.
#[derive(Debug)]
pub struct TimeArgument;

impl PartialSchema for TimeArgument {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("ISO 8601, or digits."))
            .examples([json!("2026-01-02T08:50:00Z")]);
        let number = ObjectBuilder::new()
            .schema_type(Type::Number)
            .description(Some("Seconds or milliseconds since 1970."))
            .examples([json!(1_767_343_800)]);
        Schema::OneOf(OneOfBuilder::new().item(text).item(number).build()).into()
    }
}

impl ToSchema for TimeArgument {}

/// A service: its identifier, or an object with an identifier, a name or both.
#[derive(Debug)]
pub struct ServiceArgument;

impl PartialSchema for ServiceArgument {
    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new().property("identifier", name()).property("name", name());
        Schema::OneOf(OneOfBuilder::new().item(name()).item(object).build()).into()
    }
}

impl ToSchema for ServiceArgument {}

fn name() -> Object {
    ObjectBuilder::new().schema_type(Type::String).max_length(Some(255)).examples([json!("checkout")]).build()
}

/// A commit's hash.
#[derive(Debug)]
pub struct ShaArgument;

impl PartialSchema for ShaArgument {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some("^[0-9a-fA-F]+$"))
            .min_length(Some(7))
            .max_length(Some(40))
            .examples([json!("4f2c9be")])
            .build()
            .into()
    }
}

impl ToSchema for ShaArgument {}
