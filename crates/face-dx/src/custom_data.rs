//! `customData.*`: JSON objects with a reference and a key.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use landreeve_core::{Given, Result};
use landreeve_delivery::Delivery;
use landreeve_delivery::custom_data::{
    CustomDataRef, NewCustomData, custom_data_delete, custom_data_delete_all, custom_data_get,
    custom_data_list, custom_data_set, custom_data_set_all,
};
use landreeve_delivery::ids::CustomDataId;
use landreeve_http::{Items, Outcome};
use serde_json::Value;

use crate::arguments::{Arguments, Reader};
use crate::caller::Caller;
use crate::lists::listed;
use crate::wire::custom_data::{
    CustomDataArguments, CustomDataBody, CustomDataListBody, Record, RecordArguments, ReferenceArguments,
    SetAllArguments,
};
use crate::wire::done::Done;

/// Set a record
#[utoipa::path(
    post,
    path = "/api/customData.set",
    tag = "customData",
    request_body(content = inline(CustomDataArguments), example = json!({
        "reference": "acme/shop", "key": "coverage", "value": { "lines": 81.5 }
    })),
    responses((status = 200, body = CustomDataBody, example = json!({
        "ok": true,
        "id": 2,
        "reference": "acme/shop",
        "key": "coverage",
        "value": { "lines": 81.5 },
        "timestamp": "2026-01-15T12:00:00.000Z",
        "data": {
            "id": 2,
            "reference": "acme/shop",
            "key": "coverage",
            "value": { "lines": 81.5 },
            "timestamp": "2026-01-15T12:00:00.000Z"
        }
    })))
)]
pub async fn set(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<CustomDataBody>> {
    let mut reader = arguments.reader();
    let new = record(&mut reader);
    let set = custom_data_set(&plane, &ctx, reader.asked(new)).await?;
    Ok(Json(CustomDataBody::from(set)))
}

/// Set many records
///
/// If one record is invalid, none are set.
#[utoipa::path(
    post,
    path = "/api/customData.setAll",
    tag = "customData",
    request_body(content = inline(SetAllArguments), example = json!({
        "data": [
            { "reference": "acme/shop", "key": "coverage", "value": { "lines": 82 } },
            { "reference": "acme/shop", "key": "owner", "value": { "team": "Payments" } }
        ]
    })),
    responses((status = 200, body = Done, example = json!({ "ok": true })))
)]
pub async fn set_all(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<Done>> {
    let mut reader = arguments.reader();
    let all = reader.objects("data", record);
    if all.is_none() {
        reader.require("data");
    }
    custom_data_set_all(&plane, &ctx, reader.asked(all.unwrap_or_default())).await?;
    Ok(Json(Done::ok()))
}

/// Get a record
#[utoipa::path(
    get,
    path = "/api/customData.get",
    tag = "customData",
    params(
        ("reference" = Option<String>, Query, description = "With `key`.", example = "acme/shop"),
        ("key" = Option<String>, Query, description = "With `reference`.", example = "coverage"),
        ("id" = Option<i64>, Query, description = "Instead of both."),
    ),
    responses((status = 200, body = CustomDataBody))
)]
pub async fn get(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<CustomDataBody>> {
    let which = which(&arguments)?;
    let found = custom_data_get(&plane, &ctx, &which).await?;
    Ok(Json(CustomDataBody::from(found)))
}

/// List the records of a reference
#[utoipa::path(
    get,
    path = "/api/customData.getAllByReference",
    tag = "customData",
    params(("reference" = String, Query, example = "acme/shop")),
    responses((status = 200, body = CustomDataListBody))
)]
pub async fn get_all(State(plane): State<Delivery>, Caller(ctx): Caller, arguments: Arguments) -> Outcome {
    let reference: Arc<str> = arguments.only("reference")?.into();
    let records = Items::pages(move |after| {
        let (plane, ctx, reference) = (plane.clone(), ctx.clone(), Arc::clone(&reference));
        async move {
            let part = custom_data_list(&plane, &ctx, &reference, after).await?;
            Ok(part.with(|all| all.into_iter().map(Record::from).collect()))
        }
    });
    listed("data", records).await
}

/// Delete a record
#[utoipa::path(
    post,
    path = "/api/customData.delete",
    tag = "customData",
    request_body(content = inline(RecordArguments), example = json!({
        "reference": "acme/shop", "key": "owner"
    })),
    responses((status = 200, body = Done, example = json!({ "ok": true })))
)]
pub async fn delete(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<Done>> {
    let which = which(&arguments)?;
    custom_data_delete(&plane, &ctx, &which).await?;
    Ok(Json(Done::ok()))
}

/// Delete all records of a reference
#[utoipa::path(
    post,
    path = "/api/customData.deleteAllByReference",
    tag = "customData",
    request_body(content = inline(ReferenceArguments), example = json!({ "reference": "acme/shop" })),
    responses((status = 200, body = Done, example = json!({ "ok": true })))
)]
pub async fn delete_all(
    State(plane): State<Delivery>,
    Caller(ctx): Caller,
    arguments: Arguments,
) -> Outcome<Json<Done>> {
    let reference = arguments.only("reference")?;
    custom_data_delete_all(&plane, &ctx, reference).await?;
    Ok(Json(Done::ok()))
}

fn record(reader: &mut Reader<'_>) -> NewCustomData {
    NewCustomData {
        reference: reader.required_text("reference"),
        key: reader.required_text("key"),
        value: match reader.value("value") {
            Given::Value(value) => value,
            Given::Absent | Given::Null => {
                reader.require("value");
                Value::Null
            }
        },
        at: reader.instant("timestamp"),
    }
}

fn which(arguments: &Arguments) -> Result<CustomDataRef> {
    let mut reader = arguments.reader();
    let which = match reader.int("id") {
        Some(id) => CustomDataRef::Id(CustomDataId(id)),
        None => CustomDataRef::Key {
            reference: reader.required_text("reference"),
            key: reader.required_text("key"),
        },
    };
    reader.finish()?;
    Ok(which)
}
