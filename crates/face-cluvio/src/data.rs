//! The data server: the data that a token gives access to, in the format that the client wants.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH, LAST_MODIFIED, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use landreeve_analytics::executions::{self as plane, Data, RowFacts, Wanted};
use landreeve_core::source::{Envelope, ResultFormat};
use landreeve_core::{Error, Result};
use landreeve_http::extract::{Path, Query};
use landreeve_http::{Outcome, negotiate, streamed};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::caller::Opened;
use crate::media::{JSON, not_acceptable};
use crate::wire::rows::{DataDocument, Rows};
use crate::wire::schema;

/// Formats offered for rows, the default first.
const FORMATS: [(&str, &str, ResultFormat); 4] = [
    (JSON, "json", ResultFormat::Json),
    ("text/csv", "csv", ResultFormat::Csv),
    ("application/vnd.apache.arrow.stream", "arrow", ResultFormat::ArrowStream),
    ("application/vnd.apache.parquet", "parquet", ResultFormat::Parquet),
];

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(get))
        .routes(routes!(get_execution))
        .routes(routes!(get_schema))
        .routes(routes!(get_bare))
}

/// Get Execution Data
///
/// The rows of an execution, streamed in the format of `Accept`. For a schema's key, the schema.
#[utoipa::path(get, path = "/data/{key}", tag = "Data", operation_id = "getData",
    params(("key" = String, Path), ("integers" = Option<String>, Query, pattern = "^(number|string)$",
        description = "`string` writes 64-bit integers as strings, for clients whose numbers are doubles.")),
    responses((status = 200, content(
        (DataDocument<'_> = "application/json", example = json!({"columns": [{"name": "count(*)", "type": "integer"}],
            "row_count": 1, "truncated": false, "timestamp": 1712237090, "time_zone": "UTC", "rows": [[15000]]})),
        (String = "text/csv"), (Vec<u8> = "application/vnd.apache.arrow.stream"),
        (Vec<u8> = "application/vnd.apache.parquet")))))]
async fn get(
    State(app): State<App>,
    Opened(opened): Opened,
    Path(key): Path<String>,
    query: Query,
    headers: HeaderMap,
) -> Outcome {
    serve(&app, &opened, &key, &query, &headers).await
}

/// Get Execution Data
#[utoipa::path(get, path = "/executions/{key}", tag = "Data", operation_id = "getDataOfExecution",
    params(("key" = String, Path)),
    responses((status = 200, body = serde_json::Value, description = "The same as `/data/{key}`.")))]
async fn get_execution(
    State(app): State<App>,
    Opened(opened): Opened,
    Path(key): Path<String>,
    query: Query,
    headers: HeaderMap,
) -> Outcome {
    serve(&app, &opened, &key, &query, &headers).await
}

/// Get Schema Data
///
/// The schema of a datasource: schemas, tables, columns, row counts. A single schema if the key was issued for one.
#[utoipa::path(get, path = "/schema/{key}", tag = "Data", operation_id = "getSchemaData",
    params(("key" = String, Path)),
    responses((status = 200, body = schema::FullSchema<'_>)))]
async fn get_schema(
    State(app): State<App>,
    Opened(opened): Opened,
    Path(key): Path<String>,
    query: Query,
    headers: HeaderMap,
) -> Outcome {
    serve(&app, &opened, &key, &query, &headers).await
}

/// Get Data
#[utoipa::path(get, path = "/{key}", tag = "Data", operation_id = "getDataByKey",
    params(("key" = String, Path)),
    responses((status = 200, body = serde_json::Value, description = "The same as `/data/{key}`.")))]
async fn get_bare(
    State(app): State<App>,
    Opened(opened): Opened,
    Path(key): Path<String>,
    query: Query,
    headers: HeaderMap,
) -> Outcome {
    serve(&app, &opened, &key, &query, &headers).await
}

/// What the JSON document has around all the rows of a result.
pub fn document(facts: &RowFacts) -> Arc<dyn Envelope> {
    Arc::new(Rows {
        row_count: facts.rows,
        truncated: false,
        timestamp: facts.timestamp,
        time_zone: facts.zone.clone(),
    })
}

async fn serve(app: &App, opened: &str, key: &str, query: &Query, headers: &HeaderMap) -> Outcome {
    if opened != key {
        return Err(Error::forbidden("the data access token is for another data key").into());
    }
    let integers_as_strings = integers(query)?;
    match plane::data_open(app.plane(), key).await? {
        Data::Rows { kept, facts } => {
            let (media_type, word, format) = chosen(headers, &FORMATS)?;
            let word = if integers_as_strings { format!("{word}-s") } else { word.to_owned() };
            let known = Known::of(facts.timestamp, &word)?;
            if known.is_with(headers) {
                return Ok(known.not_modified(media_type));
            }
            let wanted =
                Wanted { format, envelope: Some(document(&facts)), integers_as_strings, most_rows: None };
            let rows = plane::rows_encode(app.plane(), kept, &facts, wanted).await?;
            Ok(known.answer(StatusCode::OK, media_type, streamed(rows)))
        }
        Data::Schema { catalog, one, timestamp } => {
            let (media_type, word, _) = chosen(headers, &FORMATS[..1])?;
            let known = Known::of(timestamp, word)?;
            if known.is_with(headers) {
                return Ok(known.not_modified(media_type));
            }
            let text = match one {
                None => serde_json::to_vec(&schema::render(&catalog)),
                Some(name) => serde_json::to_vec(&schema::render_one(&catalog, &name)),
            };
            Ok(known.answer(StatusCode::OK, media_type, Body::from(text.map_err(Error::internal)?)))
        }
    }
}

fn integers(query: &Query) -> Result<bool> {
    match query.text("integers") {
        None | Some("" | "number") => Ok(false),
        Some("string") => Ok(true),
        Some(_) => Err(Error::fault("?integers", "enum", "must be number or string")),
    }
}

type Format = (&'static str, &'static str, ResultFormat);

fn chosen(headers: &HeaderMap, formats: &[Format]) -> Result<Format> {
    let offered: Vec<&str> = formats.iter().map(|(media_type, _, _)| *media_type).collect();
    let found = negotiate::choose(headers, &offered).and_then(|at| formats.get(at).copied());
    found.ok_or_else(|| not_acceptable(&offered))
}

/// Caching headers for the data.
struct Known {
    tag: HeaderValue,
    modified: HeaderValue,
}

impl Known {
    fn of(timestamp: i64, word: &str) -> Result<Known> {
        let time = Timestamp::from_second(timestamp).map_err(Error::internal)?;
        let modified = time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        // Weak, because compression on the way changes the bytes.
        let tag = format!("W/\"{timestamp}-{word}\"");
        Ok(Known {
            tag: HeaderValue::try_from(tag).map_err(Error::internal)?,
            modified: HeaderValue::try_from(modified).map_err(Error::internal)?,
        })
    }

    /// Whether the client already has this version.
    fn is_with(&self, headers: &HeaderMap) -> bool {
        let tag = self.tag.to_str().unwrap_or_default().trim_start_matches("W/");
        let given = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        given
            .flat_map(|list| list.split(','))
            .map(str::trim)
            .any(|one| one == "*" || one.trim_start_matches("W/") == tag)
    }

    fn not_modified(self, media_type: &'static str) -> Response {
        self.answer(StatusCode::NOT_MODIFIED, media_type, Body::empty())
    }

    fn answer(self, status: StatusCode, media_type: &'static str, body: Body) -> Response {
        let media_type = if media_type == "text/csv" { "text/csv; charset=utf-8" } else { media_type };
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static(media_type)),
            (ETAG, self.tag),
            (LAST_MODIFIED, self.modified),
            (VARY, HeaderValue::from_static("Accept")),
        ];
        (status, headers, body).into_response()
    }
}
