//! From a Basic credential to an `OpCtx`.

use axum::extract::FromRequestParts;
use http::request::Parts;
use landreeve_core::{OpCtx, OpKind, Result};
use landreeve_estate::ops::{Estate, Origin, sign_in};
use landreeve_http::{Credential, Failure};

/// The authenticated caller. A handler that takes it rejects all other requests.
pub struct Caller(pub OpCtx);

impl FromRequestParts<Estate> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, estate: &Estate) -> Result<Caller, Failure> {
        let origin = landreeve_http::Origin::from_request_parts(parts, estate).await?;
        let origin =
            Origin { request_id: origin.request_id, address: origin.address, kind: OpKind::CloverDx };
        Ok(Caller(sign_in(estate, Credential::from_headers(&parts.headers), origin).await?))
    }
}

async fn sign_in(estate: &Estate, credential: Credential, origin: Origin) -> Result<OpCtx> {
    match credential.basic() {
        Ok((name, password)) => sign_in::by_password(estate, &name, password, None, origin).await,
        Err(unwanted) => Err(sign_in::refused(estate, origin, unwanted.reason())),
    }
}
