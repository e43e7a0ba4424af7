//! From a session cookie or a Basic credential to an `OpCtx`. Kerberos is rejected with an explanation.

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use landreeve_core::{ErrorKind, OpCtx, OpKind, Result};
use landreeve_estate::ops::{Estate, Origin, sign_in};
use landreeve_http::credentials::cookie;
use landreeve_http::{Credential, Failure};

use crate::{App, NAME};

pub const COOKIE: &str = "JSESSIONID";

const NO_KERBEROS: &str =
    "Kerberos sign-on is not available on this server yet; use GET /login with a user name and password";

/// The authenticated caller. A handler that takes it rejects all other requests.
pub struct Caller(pub OpCtx);

impl FromRequestParts<App> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Caller, Failure> {
        let origin = origin(parts).await?;
        let credential = Credential::from_headers(&parts.headers);
        let Some(session) = session(&parts.headers) else {
            return Ok(Caller(by_header(&app.estate, credential, origin).await?));
        };
        match sign_in::by_session(&app.estate, &session, NAME, origin).await {
            Err(error) if error.kind == ErrorKind::Unauthenticated && credential != Credential::None => {
                Ok(Caller(by_header(&app.estate, credential, origin).await?))
            }
            other => Ok(Caller(other?)),
        }
    }
}

/// A caller who is signing in: an existing session is ignored.
pub struct Newcomer(pub OpCtx);

impl FromRequestParts<App> for Newcomer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Newcomer, Failure> {
        let origin = origin(parts).await?;
        let credential = Credential::from_headers(&parts.headers);
        Ok(Newcomer(by_header(&app.estate, credential, origin).await?))
    }
}

/// Kerberos sign-on, not supported yet: returns the reason to the caller and audits the attempt.
pub struct Kerberos;

impl FromRequestParts<App> for Kerberos {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Kerberos, Failure> {
        let origin = origin(parts).await?;
        Err(Failure(sign_in::bad_credential(&app.estate, origin, NO_KERBEROS)))
    }
}

pub fn session(headers: &HeaderMap) -> Option<String> {
    cookie(headers, COOKIE).filter(|value| !value.is_empty())
}

async fn origin(parts: &mut Parts) -> Result<Origin, Failure> {
    let origin = landreeve_http::Origin::from_request_parts(parts, &()).await?;
    Ok(Origin { request_id: origin.request_id, address: origin.address, kind: OpKind::Denodo })
}

async fn by_header(estate: &Estate, credential: Credential, origin: Origin) -> Result<OpCtx> {
    if matches!(&credential, Credential::Scheme { scheme, .. } if scheme == "negotiate") {
        return Err(sign_in::bad_credential(estate, origin, NO_KERBEROS));
    }
    match credential.basic() {
        Ok((name, password)) => sign_in::by_password(estate, &name, password, None, origin).await,
        Err(unwanted) => Err(sign_in::refused(estate, origin, unwanted.reason())),
    }
}
