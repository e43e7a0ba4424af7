//! From a credential to an `OpCtx`: `Authorization: Api …` on the API server, `Authorization: Data …` on the data
//! server.

use axum::extract::FromRequestParts;
use http::request::Parts;
use landreeve_core::{OpCtx, OpKind, Result, Secret};
use landreeve_estate::ops::{self, Api, sign_in};
use landreeve_http::{Credential, Failure, Origin};

use crate::App;

/// The bearer of a key for the API server.
pub struct Caller(pub OpCtx);

impl FromRequestParts<App> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Caller, Failure> {
        let origin = origin(parts, app).await?;
        let secret =
            secret(parts, app, origin, "api", "`Authorization: Api SECRET` with the secret of a key")?;
        let ctx = sign_in::by_key(app.estate(), Api::Analytics, secret.reveal(), None, origin).await?;
        Ok(Caller(ctx))
    }
}

/// The data key that the token gives access to.
pub struct Opened(pub String);

impl FromRequestParts<App> for Opened {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Opened, Failure> {
        let origin = origin(parts, app).await?;
        let token =
            secret(parts, app, origin, "data", "`Authorization: Data TOKEN` with a data access token")?;
        match sign_in::open_data_token(app.estate(), token.reveal()).await {
            Ok(key) => Ok(Opened(key)),
            Err(error) if error.kind == landreeve_core::ErrorKind::Unauthenticated => {
                Err(sign_in::bad_credential(app.estate(), origin, &error.message).into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

async fn origin(parts: &mut Parts, app: &App) -> Result<ops::Origin, Failure> {
    let Origin { address, request_id, .. } = Origin::from_request_parts(parts, app).await?;
    Ok(ops::Origin { request_id, address, kind: OpKind::Cluvio })
}

/// The text after the accepted scheme.
fn secret(parts: &Parts, app: &App, origin: ops::Origin, wanted: &str, form: &str) -> Result<Secret> {
    match Credential::from_headers(&parts.headers) {
        Credential::None => Err(sign_in::no_credential(app.estate(), origin)),
        Credential::Scheme { scheme, token } if scheme == wanted => Ok(token),
        Credential::Scheme { .. }
        | Credential::Basic { .. }
        | Credential::Bare(_)
        | Credential::Malformed => {
            Err(sign_in::bad_credential(app.estate(), origin, &format!("this server requires {form}")))
        }
    }
}
