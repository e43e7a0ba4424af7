//! `auth.info`: describes the caller's key.

use axum::Json;
use axum::extract::State;
use landreeve_core::Error;
use landreeve_estate::ops::{Estate, keys, ous};
use landreeve_http::Outcome;

use crate::caller::Caller;
use crate::wire::auth::AuthInfo;
use crate::wire::error::ErrorBody;

/// Describe the key
///
/// Needs no scope. The name of the account is that of the key's organizational unit.
#[utoipa::path(
    method(get, post),
    path = "/auth.info",
    tag = "auth",
    responses(
        (status = 200, body = AuthInfo, example = json!({
            "ok": true,
            "auth": {
                "token_type": "account_web_api_token",
                "token_name": "ci",
                "scopes": ["datacloud:query"],
                "expires_at": null,
                "created_at": "2026-01-15T12:00:00Z"
            },
            "account": { "name": "Global" }
        })),
        (status = 422, body = ErrorBody, example = json!({
            "ok": false,
            "error": "invalid_auth",
            "message": "unknown key",
            "error_details": { "message": "unknown key", "arguments": [] }
        })),
    )
)]
pub async fn info(State(estate): State<Estate>, Caller(ctx): Caller) -> Outcome<Json<AuthInfo>> {
    let key = keys::key_own(&estate, &ctx).await?.ok_or_else(|| Error::internal("a caller without a key"))?;
    let unit = ous::ou_current(&estate, &ctx).await?;
    Ok(Json(AuthInfo::new(key, unit.name)))
}
