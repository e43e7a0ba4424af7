//! Rows of datafeeds and query runs on the wire.

use landreeve_delivery::feeds::FeedRows;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub struct FeedBody {
    ok: bool,
    data: FeedData,
}

#[derive(Debug, Serialize, ToSchema)]
struct FeedData {
    columns: Vec<String>,
    /// Every value is a text or null.
    rows: Vec<Vec<Option<String>>>,
    /// Were some left out here?
    truncated: bool,
}

impl From<FeedRows> for FeedBody {
    fn from(rows: FeedRows) -> FeedBody {
        let FeedRows { columns, rows, truncated } = rows;
        FeedBody { ok: true, data: FeedData { columns, rows, truncated } }
    }
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of a body that is read with all its faults")]
pub struct ExecuteArguments {
    /// One SELECT.
    sql: String,
    /// `{name: value}` for `$name` in the statement; a list for `IN ($name)`.
    variables: Option<Value>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ResultsBody {
    pub ok: bool,
    pub results: Results,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Results {
    /// Names.
    pub columns: Vec<String>,
    /// At most 1,000; `format=csv` has them all.
    #[schema(value_type = Vec<Vec<Value>>)]
    pub rows: Box<serde_json::value::RawValue>,
    /// How many rows there are in all.
    pub row_count: u64,
    /// Were some left out here?
    pub truncated: bool,
}
