//! The general settings.

use axum::extract::State;
use http::HeaderMap;
use landreeve_estate::ops::Estate;
use landreeve_estate::ops::general::{general_get, general_update};
use landreeve_http::Outcome;
use landreeve_http::extract::Body;

use crate::caller::Caller;
use crate::version::GENERAL_SETTINGS;
use crate::wire::Answer;
use crate::wire::error::ErrorBody;
use crate::wire::link::Base;
use crate::wire::settings::{SettingsBody, read_change};

/// Get the general settings
#[utoipa::path(
    get,
    path = "/settings/general",
    operation_id = "read-general-settings",
    tag = "general-settings",
    responses((
        status = 200, body = SettingsBody, content_type = "application/api.clumio.general-settings=v2+json",
        example = json!({
            "auto_logout_duration": 900, "ip_allowlist": ["0.0.0.0/0", "::/0"], "organizational_unit_data_groups": null,
            "password_expiration_duration": 7776000,
            "_links": {
                "_self": { "href": "/settings/general", "type": "get", "templated": false },
                "update-general-settings": { "href": "/settings/general", "type": "patch", "templated": false }
            }
        })
    ))
)]
pub async fn read(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
) -> Outcome<Answer<SettingsBody>> {
    let version = GENERAL_SETTINGS.version(&headers)?;
    let general = general_get(&estate, &ctx).await?;
    Ok(Answer { resource: &GENERAL_SETTINGS, version, body: SettingsBody::new(&base, &ctx, general) })
}

/// Update the general settings
///
/// Only `ip_allowlist` has an effect: from other addresses, this API and its links answer 403. A request whose list does not
/// contain its own address is 400.
#[utoipa::path(
    patch,
    path = "/settings/general",
    operation_id = "update-general-settings",
    tag = "general-settings",
    request_body(content = inline(crate::wire::settings::SettingsUpdate), example = json!({
        "auto_logout_duration": 900, "ip_allowlist": ["0.0.0.0/0", "::/0"]
    })),
    responses(
        (status = 200, body = SettingsBody, content_type = "application/api.clumio.general-settings=v2+json"),
        (status = 400, body = ErrorBody, example = json!({
            "errors": [{ "error_code": 101, "error_message": "ip_allowlist must contain your own address, 192.0.2.7" }]
        })),
    )
)]
pub async fn update(
    State(estate): State<Estate>,
    Caller(ctx): Caller,
    base: Base,
    headers: HeaderMap,
    Body(body): Body,
) -> Outcome<Answer<SettingsBody>> {
    let version = GENERAL_SETTINGS.version(&headers)?;
    let general = general_update(&estate, &ctx, read_change(&body)?).await?;
    Ok(Answer { resource: &GENERAL_SETTINGS, version, body: SettingsBody::new(&base, &ctx, general) })
}
