//! The wire format: members in the order of the reference, with conversions from and to the plane's values.
//!
//! Does not belong here: use cases.

pub mod agents;
pub mod dashboards;
pub mod datasources;
mod document;
pub mod executions;
pub mod filters;
pub mod organization;
pub mod parameters;
pub mod reports;
pub mod rows;
pub mod schema;
pub mod snippets;
mod types;
pub mod users;

pub use document::Document;
use jiff::Timestamp;
use jiff::tz::Offset;
use landreeve_core::KindedId;
use landreeve_core::hashid::HashIds;
use serde::{Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

/// A related resource, as requested by `include`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only describes the body, which is streamed")]
pub enum Included {
    Datasource(Box<datasources::Datasource>),
    DatasourceAgent(Box<agents::DatasourceAgent>),
    Report(Box<reports::Report>),
    Filter(Box<filters::Filter>),
    SqlSnippet(Box<snippets::SqlSnippet>),
    User(Box<users::User>),
    UserGroup(Box<users::UserGroup>),
}

/// A resource's type and id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Link {
    #[schema(example = "8qxn-y9ex-65vd")]
    pub id: String,
    #[serde(rename = "type")]
    #[schema(example = "datasources")]
    pub kind: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ToMany {
    pub data: Vec<Link>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ToOne {
    pub data: Option<Link>,
}

impl ToOne {
    pub fn to(ids: &HashIds, kind: &'static str, id: Option<impl KindedId>) -> ToOne {
        ToOne { data: id.map(|id| Link { id: ids.encode_grouped(id), kind }) }
    }
}

impl ToMany {
    pub fn to(ids: &HashIds, kind: &'static str, list: impl IntoIterator<Item = impl KindedId>) -> ToMany {
        ToMany { data: list.into_iter().map(|id| Link { id: ids.encode_grouped(id), kind }).collect() }
    }
}

/// RFC 3339 in UTC, in whole seconds: `2019-08-24T14:15:22Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let at = Offset::UTC.to_datetime(self.0);
        let Some(year) = u16::try_from(at.year()).ok() else {
            return serializer.collect_str(&format_args!("{:.0}", self.0));
        };
        // Formatted by hand, because every answer has several.
        let mut text = *b"0000-00-00T00:00:00Z";
        let parts = [at.month(), at.day(), at.hour(), at.minute(), at.second()].map(i8::unsigned_abs);
        let two = |number: u8| [b'0' + number / 10, b'0' + number % 10];
        text[..2].copy_from_slice(&two((year / 100) as u8));
        text[2..4].copy_from_slice(&two((year % 100) as u8));
        for (at, part) in parts.into_iter().enumerate() {
            text[5 + 3 * at..7 + 3 * at].copy_from_slice(&two(part));
        }
        serializer.serialize_str(std::str::from_utf8(&text).map_err(serde::ser::Error::custom)?)
    }
}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .examples([serde_json::json!("2019-08-24T14:15:22Z")])
            .build()
            .into()
    }
}

impl ToSchema for Time {}

/// Any JSON, written unchanged.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Verbatim(pub Box<serde_json::value::RawValue>);

impl PartialSchema for Verbatim {
    fn schema() -> RefOr<Schema> {
        Object::builder().schema_type(utoipa::openapi::schema::SchemaType::AnyValue).build().into()
    }
}

impl ToSchema for Verbatim {}

impl Verbatim {
    pub fn text(text: &str) -> Verbatim {
        Verbatim(serde_json::value::to_raw_value(text).unwrap_or_else(|_| null()))
    }

    /// Text that is JSON unchanged, any other text as a JSON string.
    pub fn of(text: &str) -> Verbatim {
        let raw = serde_json::value::RawValue::from_string(text.to_owned());
        raw.map_or_else(|_| Verbatim::text(text), Verbatim)
    }
}

fn null() -> Box<serde_json::value::RawValue> {
    serde_json::value::RawValue::NULL.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_whole_seconds_and_a_z() {
        let time = Time("2019-08-24T14:15:22.987654Z".parse().unwrap());
        assert_eq!(serde_json::to_string(&time).unwrap(), "\"2019-08-24T14:15:22Z\"");
    }

    /// Against the library, over the whole range and around every kind of boundary.
    #[test]
    fn times_are_what_the_library_writes() {
        let (first, last) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        let spread = (0..2_000).map(|part| first + (last - first) / 2_000 * part);
        let edges =
            [first, -62_135_596_801, -62_135_596_800, -1, 0, 951_782_399, 951_827_696, 4_102_444_799, last];
        for second in spread.chain(edges) {
            for nanosecond in [0, 1, 499_999_999, 500_000_000, 999_999_999] {
                let Ok(at) = Timestamp::new(second, nanosecond) else { continue };
                let expected = serde_json::json!(format!("{at:.0}"));
                assert_eq!(serde_json::to_value(Time(at)).unwrap(), expected, "{at}");
            }
        }
    }
}
