//! `queries.datafeed`: the rows of a saved query, identified by its token.

use axum::Json;
use axum::extract::State;
use landreeve_core::error::Faults;
use landreeve_core::table::{Scalar, Variable};
use landreeve_delivery::Delivery;
use landreeve_delivery::feeds::feed_read;
use landreeve_http::Outcome;
use serde_json::Value;

use crate::arguments::Arguments;
use crate::caller::Caller;
use crate::wire::queries::FeedBody;

const VARIABLE: &str = "var-";

/// Get the rows of a saved query
///
/// Scope `snapshots:read`. `var-NAME` sets the query's variable `$NAME`. At most 1,000 rows, and `truncated` says
/// whether there are more; every value is text. A query that takes longer than 30 seconds fails with
/// `query_timed_out`. Create feeds with `landreeve feed create`.
#[utoipa::path(
    get,
    path = "/queries.datafeed",
    tag = "queries",
    params(
        ("feed_token" = String, Query, description = "The feed's token."),
        ("columns" = Option<String>, Query, description = "Columns to return, separated by commas [default: all]."),
    ),
    responses((status = 200, body = FeedBody, example = json!({
        "ok": true,
        "data": { "columns": ["service", "deployments"], "rows": [["checkout", "41"]], "truncated": false }
    })))
)]
pub async fn datafeed(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<FeedBody>> {
    read(&plane, &ctx, &arguments).await
}

/// Get the rows of a saved query (older name)
#[utoipa::path(
    get,
    path = "/datacloud.queries.datafeed",
    tag = "queries",
    params(
        ("feed_token" = String, Query, description = "The feed's token."),
        ("columns" = Option<String>, Query, description = "Columns to return, separated by commas [default: all]."),
    ),
    responses((status = 200, body = FeedBody))
)]
pub async fn older_datafeed(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<FeedBody>> {
    read(&plane, &ctx, &arguments).await
}

async fn read(
    plane: &Delivery,
    ctx: &landreeve_core::OpCtx,
    arguments: &Arguments,
) -> Outcome<Json<FeedBody>> {
    let mut reader = arguments.reader();
    let token = reader.required_text("feed_token");
    let columns = reader.comma_list("columns");
    let mut variables = Vec::new();
    for (name, value) in arguments.all() {
        if let Some(bare) = name.strip_prefix(VARIABLE)
            && let Some(value) = variable(name, value, reader.faults())
        {
            variables.push((bare.to_owned(), value));
        }
    }
    reader.finish()?;
    let rows = feed_read(plane, ctx, &token, variables, &columns).await?;
    Ok(Json(FeedBody::from(rows)))
}

/// The variable for a JSON value.
pub fn variable(name: &str, value: &Value, faults: &mut Faults) -> Option<Variable> {
    let Value::Array(all) = value else {
        if value.is_null() {
            return Some(Variable::Null);
        }
        return scalar(name, value, faults).map(Variable::One);
    };
    let mut values = Vec::with_capacity(all.len());
    for (at, value) in all.iter().enumerate() {
        values.push(scalar(&format!("{name}.{at}"), value, faults)?);
    }
    Some(Variable::Many(values))
}

fn scalar(name: &str, value: &Value, faults: &mut Faults) -> Option<Scalar> {
    let found = match value {
        Value::Bool(value) => Some(Scalar::Boolean(*value)),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Some(Scalar::Integer(whole)),
            None => number.as_f64().filter(|value| value.is_finite()).map(Scalar::Float),
        },
        Value::String(text) if !text.contains('\0') => Some(Scalar::Text(text.clone())),
        _ => None,
    };
    if found.is_none() {
        faults.push(name, "type", "must be a string, a number, true, false, or a list of them");
    }
    found
}
