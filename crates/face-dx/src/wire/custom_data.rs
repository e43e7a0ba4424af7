//! Custom data on the wire: a record is at the top level and again under `data`, because clients read either.

use landreeve_delivery::custom_data::CustomData;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::time::millis;

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct CustomDataArguments {
    reference: Option<String>,
    key: Option<String>,
    /// An object.
    value: Option<Value>,
    /// Time of the record [default: now].
    timestamp: Option<Value>,
    /// Instead of `reference` and `key`, when deleting a record.
    id: Option<i64>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct SetAllArguments {
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
