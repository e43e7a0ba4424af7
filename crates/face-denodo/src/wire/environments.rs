//! Environments and license aliases on the wire.

use landreeve_core::{Error, Input, Result};
use landreeve_http::body::{Field, Fields};
use landreeve_promotion::environments::{Environment, EnvironmentFacts};
use landreeve_promotion::scenario::Scenario;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi;

use super::input;

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentBody {
    id: i64,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// yyyymmdd
    #[serde(skip_serializing_if = "Option::is_none")]
    minimum_update_value: Option<String>,
    minimum_update_mandatory: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    minimum_update_download_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    license_alias: Option<String>,
    uuid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment_type: Option<String>,
}

impl EnvironmentBody {
    pub fn new(environment: Environment) -> EnvironmentBody {
        EnvironmentBody {
            id: environment.id.0,
            name: environment.name,
            description: environment.description,
            minimum_update_value: environment.minimum_update,
            minimum_update_mandatory: environment.minimum_update_mandatory,
            minimum_update_download_url: environment.minimum_update_url,
            license_alias: environment.license_alias,
            uuid: environment.uuid.to_string(),
            environment_type: environment.environment_type,
        }
    }
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "only describes the body; `read` reads it")]
pub struct EnvironmentArguments {
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    #[schema(max_length = 4000)]
    description: Option<String>,
    /// 8 digits, yyyymmdd, as a string or as a number; an empty string for none. Kept without effect.
    #[schema(schema_with = minimum_update_schema)]
    minimum_update_value: Option<String>,
    /// Default: false. Kept without effect.
    minimum_update_mandatory: Option<bool>,
    /// Kept without effect.
    #[schema(max_length = 4000)]
    minimum_update_download_url: Option<String>,
    /// `DEVELOPMENT`, `STAGING` or `PRODUCTION`, also with a number (`PRODUCTION_1`). It decides who may deploy; without
    /// one, the environment is for production.
    #[schema(max_length = 255, example = "DEVELOPMENT")]
    license_alias: Option<String>,
    /// Kept without effect.
    #[schema(max_length = 255)]
    environment_type: Option<String>,
}

/// A date in either form.
fn minimum_update_schema() -> openapi::Schema {
    let text = openapi::ObjectBuilder::new()
        .schema_type(openapi::Type::String)
        .pattern(Some("^([0-9]{8})?$"))
        .examples([json!("20190312")]);
    let number = openapi::ObjectBuilder::new()
        .schema_type(openapi::Type::Integer)
        .minimum(Some(MIN_UPDATE))
        .maximum(Some(MAX_UPDATE))
        .examples([json!(20_190_312)]);
    openapi::Schema::OneOf(openapi::OneOfBuilder::new().item(text).item(number).build())
}

/// Numbers of 8 digits.
const MIN_UPDATE: i64 = 10_000_000;
const MAX_UPDATE: i64 = 99_999_999;

/// The plane's field as a member.
fn member(field: &str) -> String {
    match field {
        "minimum_update" => "minimumUpdateValue".to_owned(),
        "minimum_update_url" => "minimumUpdateDownloadUrl".to_owned(),
        other => input::camel(other),
    }
}

pub fn named(error: Error) -> Error {
    input::named(error, member)
}

/// An environment. What a response has besides is accepted and ignored, so that clients can send one back.
pub fn read(body: &[u8]) -> Result<Input<EnvironmentFacts>> {
    input::read(body, member, |body| {
        body.ignore(&["id", "uuid"]);
        EnvironmentFacts {
            name: body.required("name", |f| f.text(1..=255)),
            description: optional(body, "description", 4_000),
            minimum_update: body.optional("minimumUpdateValue", minimum_update).value().flatten(),
            minimum_update_mandatory: body
                .optional("minimumUpdateMandatory", Field::bool)
                .value()
                .unwrap_or(false),
            minimum_update_url: optional(body, "minimumUpdateDownloadUrl", 4_000),
            license_alias: optional(body, "licenseAlias", 255),
            environment_type: optional(body, "environmentType", 255),
        }
    })
}

/// A text of at most so many characters.
pub fn optional(body: &Fields<'_>, name: &str, limit: usize) -> Option<String> {
    body.optional(name, |f| f.text(0..=limit)).value()
}

/// Some clients send a number, some a string, and an empty one for none.
fn minimum_update(field: Field<'_>) -> Option<Option<String>> {
    match field.value() {
        Value::String(text) if text.is_empty() => Some(None),
        Value::Number(_) => field.int(MIN_UPDATE..=MAX_UPDATE).map(|number| Some(number.to_string())),
        _ => field.text(8..=8).map(Some),
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LicenseBody {
    alias: String,
    license_type: String,
    /// The version of this server; it needs no license.
    version: &'static str,
    unique_license_type: bool,
}

impl From<Scenario> for LicenseBody {
    fn from(scenario: Scenario) -> LicenseBody {
        LicenseBody {
            alias: scenario.alias(),
            license_type: scenario.alias(),
            version: env!("CARGO_PKG_VERSION"),
            unique_license_type: true,
        }
    }
}
