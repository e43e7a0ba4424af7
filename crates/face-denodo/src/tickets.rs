//! Kerberos: from a token in the `Authorization` header to an `OpCtx`, and the token for the client in the response.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use http::HeaderValue;
use http::header::WWW_AUTHENTICATE;
use landreeve_core::{Error, ErrorKind, OpCtx, Result, Secret};
use landreeve_estate::ops::{Origin, sign_in};
use landreeve_http::credentials::{from_base64, to_base64};

use crate::App;

const NOT_OFFERED: &str =
    "Kerberos sign-on is not configured on this server; use GET /login with a user name and password";
const NOT_CONFIGURED: &str = "Kerberos sign-on is not configured on this server: set [kerberos] keytab and realms in its configuration";

/// By a token in base64.
pub async fn by_token(app: &App, token: &Secret, reply: Option<Reply>, origin: Origin) -> Result<OpCtx> {
    let refused = |message: &str| sign_in::bad_credential(&app.estate, origin, message);
    let Some(verifier) = &app.options.tickets else { return Err(refused(NOT_OFFERED)) };
    let Some(token) = from_base64(token.reveal()) else {
        return Err(refused("the token in the Authorization header is not base64"));
    };
    let proven = verifier.verify(token).await.map_err(|error| match error.kind {
        ErrorKind::Unauthenticated => refused(&error.message),
        _ => error,
    })?;
    let ctx = sign_in::by_principal(&app.estate, &proven.user, origin).await?;
    if let (Some(reply), Some(token)) = (reply, proven.reply) {
        reply.fill(&token);
    }
    Ok(ctx)
}

/// The error of the path that is only for tickets, if there are none.
pub fn require(app: &App) -> Result<()> {
    match app.options.tickets {
        Some(_) => Ok(()),
        None => Err(Error::unavailable("kerberos", NOT_CONFIGURED)),
    }
}

/// An extension of every request: where the check of the caller leaves the token for the client.
#[derive(Debug, Clone, Default)]
pub struct Reply(Arc<OnceLock<HeaderValue>>);

impl Reply {
    fn fill(&self, token: &[u8]) {
        if let Ok(value) = HeaderValue::from_str(&format!("Negotiate {}", to_base64(token))) {
            // A request has one caller, so that it is filled once.
            let _ = self.0.set(value);
        }
    }
}

/// Adds the token to the responses of all routes: clients that want to know who the server is reject those without it.
pub fn replying(router: Router) -> Router {
    router.layer(from_fn(reply))
}

async fn reply(mut request: Request, next: Next) -> Response {
    let reply = Reply::default();
    request.extensions_mut().insert(reply.clone());
    let mut response = next.run(request).await;
    if let Some(token) = reply.0.get() {
        response.headers_mut().insert(WWW_AUTHENTICATE, token.clone());
    }
    response
}
