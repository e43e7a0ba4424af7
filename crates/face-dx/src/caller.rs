//! From a bearer key to an `OpCtx`.

use axum::extract::FromRequestParts;
use http::request::Parts;
use landreeve_core::{OpCtx, OpKind, Result};
use landreeve_estate::ops::{Api, Estate, Origin, sign_in};
use landreeve_http::{Credential, Failure};

use crate::app::App;

/// The authenticated caller. A handler that takes it rejects all other requests.
pub struct Caller(pub OpCtx);

impl FromRequestParts<App> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Caller, Failure> {
        let estate = app.plane.estate();
        let origin = landreeve_http::Origin::from_request_parts(parts, estate).await?;
        let origin = Origin { request_id: origin.request_id, address: origin.address, kind: OpKind::Dx };
        let ctx = sign_in(estate, Credential::from_headers(&parts.headers), origin).await?;
        // The Data Cloud's methods have no rate limit: pipelines post as often as they run.
        if !parts.uri.path().starts_with("/api/") {
            app.limit.take(ctx.authority().ou().0, estate.now())?;
        }
        Ok(Caller(ctx))
    }
}

async fn sign_in(estate: &Estate, credential: Credential, origin: Origin) -> Result<OpCtx> {
    match credential.bearer() {
        Ok(token) => sign_in::by_key(estate, Api::Delivery, token.reveal(), None, origin).await,
        Err(unwanted) => Err(sign_in::refused(estate, origin, unwanted.reason())),
    }
}
