//! Bearer key to `OpCtx`.

use axum::extract::FromRequestParts;
use http::request::Parts;
use landreeve_core::{OpCtx, OpKind, Result};
use landreeve_estate::ops::{Api, Estate, Origin, sign_in};
use landreeve_http::{Credential, Failure};

/// Who calls; a handler that takes it is reached by nobody else.
pub struct Caller(pub OpCtx);

impl FromRequestParts<Estate> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, estate: &Estate) -> Result<Caller, Failure> {
        let origin = landreeve_http::Origin::from_request_parts(parts, estate).await?;
        let origin = Origin { request_id: origin.request_id, address: origin.address, kind: OpKind::Dx };
        Ok(Caller(sign_in(estate, Credential::from_headers(&parts.headers), origin).await?))
    }
}

async fn sign_in(estate: &Estate, credential: Credential, origin: Origin) -> Result<OpCtx> {
    match credential {
        Credential::None => Err(sign_in::no_credential(estate, origin)),
        Credential::Scheme { scheme, token } if scheme == "bearer" => {
            sign_in::by_key(estate, Api::Delivery, token.reveal(), None, origin).await
        }
        Credential::Basic { .. } | Credential::Scheme { .. } => {
            Err(sign_in::bad_credential(estate, origin, "the scheme must be Bearer"))
        }
        Credential::Malformed => {
            Err(sign_in::bad_credential(estate, origin, "the Authorization header cannot be read"))
        }
    }
}
