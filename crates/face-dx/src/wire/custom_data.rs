//! Custom data on the wire: a record is at the top level and again under `data`, because clients read either.

use landreeve_delivery::custom_data::CustomData;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::TimeArgument;
use super::time::millis;

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct CustomDataArguments {
    #[schema(min_length = 1, max_length = 255)]
    reference: String,
    #[schema(min_length = 1, max_length = 255)]
    key: String,
    #[schema(value_type = Object)]
    value: Value,
    /// Time of the record [default: now].
    timestamp: Option<TimeArgument>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct RecordArguments {
    /// With `key`.
    reference: Option<String>,
    /// With `reference`.
    key: Option<String>,
    /// Instead of both.
    id: Option<i64>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct ReferenceArguments {
    #[schema(min_length = 1)]
    reference: String,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct SetAllArguments {
    #[schema(max_items = 10000)]
    data: Vec<CustomDataArguments>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Record {
    id: i64,
    reference: String,
    key: String,
    value: Value,
    timestamp: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct CustomDataBody {
    ok: bool,
    #[serde(flatten)]
    record: Record,
    data: Record,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body, which is streamed")]
pub struct CustomDataListBody {
    ok: bool,
    data: Vec<Record>,
}

impl From<CustomData> for Record {
    fn from(data: CustomData) -> Record {
        Record {
            id: data.id.0,
            reference: data.reference,
            key: data.key,
            value: data.value,
            timestamp: millis(data.at),
        }
    }
}

impl From<CustomData> for CustomDataBody {
    fn from(data: CustomData) -> CustomDataBody {
        let record = Record::from(data);
        CustomDataBody { ok: true, data: record.clone(), record }
    }
}
