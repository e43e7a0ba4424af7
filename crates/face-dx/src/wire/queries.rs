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
    /// Every value is a string or null.
    rows: Vec<Vec<Option<String>>>,
    /// Whether rows were left out.
    truncated: bool,
}

impl From<FeedRows> for FeedBody {
    fn from(rows: FeedRows) -> FeedBody {
        let FeedRows { columns, rows, truncated } = rows;
        FeedBody { ok: true, data: FeedData { columns, rows, truncated } }
    }
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes the body; `Reader` reads it")]
pub struct ExecuteArguments {
    /// One SELECT, at most 64 KiB.
    #[schema(min_length = 1, max_length = 65536)]
    sql: String,
    /// `{name: value}` for `$name` in the statement; use a list for `IN ($name)`. At most 1,000 names
    /// and 10,000 values.
    #[schema(value_type = Option<Object>)]
    variables: Option<Value>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ResultsBody {
    pub ok: bool,
    pub results: Results,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Results {
    /// Column names.
    pub columns: Vec<String>,
    /// At most 1,000; `format=csv` returns all of them.
    #[schema(value_type = Vec<Vec<Value>>)]
    pub rows: Box<serde_json::value::RawValue>,
    /// Number of rows in the whole result.
    pub row_count: u64,
    /// Whether rows were left out.
    pub truncated: bool,
}
