//! From a session cookie, a Basic credential or a Kerberos token to an `OpCtx`, in this order.

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use landreeve_core::{ErrorKind, OpCtx, OpKind, Result};
use landreeve_estate::ops::{Origin, sign_in};
use landreeve_http::credentials::cookie;
use landreeve_http::{Credential, Failure};

use crate::tickets::{self, Reply};
use crate::{App, NAME};

pub const COOKIE: &str = "JSESSIONID";

/// The authenticated caller. A handler that takes it rejects all other requests.
pub struct Caller(pub OpCtx);

impl FromRequestParts<App> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Caller, Failure> {
        let header = Header::of(parts).await?;
        let Some(session) = session(&parts.headers) else { return Ok(Caller(header.sign_in(app).await?)) };
        match sign_in::by_session(&app.estate, &session, NAME, header.origin).await {
            Err(error)
                if error.kind == ErrorKind::Unauthenticated && header.credential != Credential::None =>
            {
                Ok(Caller(header.sign_in(app).await?))
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
        Ok(Newcomer(Header::of(parts).await?.sign_in(app).await?))
    }
}

/// A caller who is signing in where only servers with Kerberos have something.
pub struct SingleSignOn(pub OpCtx);

impl FromRequestParts<App> for SingleSignOn {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<SingleSignOn, Failure> {
        tickets::require(app)?;
        Ok(SingleSignOn(Header::of(parts).await?.sign_in(app).await?))
    }
}

pub fn session(headers: &HeaderMap) -> Option<String> {
    cookie(headers, COOKIE).filter(|value| !value.is_empty())
}

/// What a request says about its caller in `Authorization`.
struct Header {
    credential: Credential,
    reply: Option<Reply>,
    origin: Origin,
}

impl Header {
    async fn of(parts: &mut Parts) -> Result<Header, Failure> {
        let origin = landreeve_http::Origin::from_request_parts(parts, &()).await?;
        Ok(Header {
            credential: Credential::from_headers(&parts.headers),
            reply: parts.extensions.get::<Reply>().cloned(),
            origin: Origin { request_id: origin.request_id, address: origin.address, kind: OpKind::Denodo },
        })
    }

    async fn sign_in(self, app: &App) -> Result<OpCtx> {
        let Header { credential, reply, origin } = self;
        let credential = match credential {
            Credential::Scheme { scheme, token } if scheme == "negotiate" => {
                return tickets::by_token(app, &token, reply, origin).await;
            }
            Credential::Bare(token) if app.options.tickets.is_some() => {
                return tickets::by_token(app, &token, reply, origin).await;
            }
            other => other,
        };
        match credential.basic() {
            Ok((name, password)) => sign_in::by_password(&app.estate, &name, password, None, origin).await,
            Err(unwanted) => Err(sign_in::refused(&app.estate, origin, unwanted.reason())),
        }
    }
}
