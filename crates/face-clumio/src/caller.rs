//! From a bearer token and an organizational unit to an `OpCtx`.

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use landreeve_core::{Error, OpCtx, OpKind, Result};
use landreeve_estate::ops::general::require_allowed;
use landreeve_estate::ops::{Api, Estate, Origin, sign_in};
use landreeve_http::{Credential, Failure};
use uuid::Uuid;

use crate::app::App;

const UNIT: &str = "x-clumio-organizationalunit-context";

/// The authenticated caller. A handler that takes it rejects all other requests.
pub struct Caller(pub OpCtx);

impl FromRequestParts<App> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Caller, Failure> {
        let estate = &app.estate;
        let origin = landreeve_http::Origin::from_request_parts(parts, estate).await?;
        let origin = Origin { request_id: origin.request_id, address: origin.address, kind: OpKind::Clumio };
        let ctx = sign_in(estate, &parts.headers, origin).await?;
        require_allowed(estate, &ctx).await?;
        app.limit.take(estate.now())?;
        Ok(Caller(ctx))
    }
}

async fn sign_in(estate: &Estate, headers: &HeaderMap, origin: Origin) -> Result<OpCtx> {
    match Credential::from_headers(headers).bearer() {
        Ok(token) => sign_in::by_key(estate, Api::Protection, token.reveal(), unit(headers)?, origin).await,
        Err(unwanted) => Err(sign_in::refused(estate, origin, unwanted.reason())),
    }
}

/// The unit to work in. Clients without one send an empty header.
fn unit(headers: &HeaderMap) -> Result<Option<Uuid>> {
    let Some(value) = headers.get(UNIT) else { return Ok(None) };
    let wrong = || {
        let field = "X-Clumio-OrganizationalUnit-Context";
        Error::fault(field, "format", "must be the UUID of an organizational unit")
    };
    let text = value.to_str().map_err(|_| wrong())?.trim();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| wrong())
}
