//! Sign-in, sign-out, and the health check.

use axum::extract::State;
use axum::response::IntoResponse as _;
use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode};
use landreeve_core::OpCtx;
use landreeve_estate::ops::sign_in;
use landreeve_http::{Origin, Outcome};

use crate::caller::{COOKIE, Caller, Newcomer, SingleSignOn, session};
use crate::wire::Answer;
use crate::wire::error::ErrorBody;
use crate::wire::session::LoginBody;
use crate::{App, NAME};

/// Sign in with a user name and password, or with a Kerberos ticket
///
/// Send the cookie `JSESSIONID` from the response with later requests. The session ends after 30 minutes without one. After a
/// ticket, the response has `WWW-Authenticate: Negotiate` with the server's own token.
#[utoipa::path(
    get,
    path = "/login",
    tag = "Session",
    security(("basic" = []), ("negotiate" = [])),
    responses(
        (status = 200, body = LoginBody, headers(("Set-Cookie" = String)), example = json!({
            "userName": "jsmith", "promotionAdminEnvironments": null, "promotionEnvironments": ["STAGING"],
            "promotion": true, "promotionAdmin": false, "solutionManagerAdmin": false, "vdpAdmin": false,
            "jmxAdmin": false, "admin": false, "jmxadmin": false
        })),
        (status = 401, body = ErrorBody, example = json!({
            "status": 401, "message": "The user name or password is incorrect"
        })),
    )
)]
pub async fn login(State(app): State<App>, origin: Origin, Newcomer(ctx): Newcomer) -> Outcome {
    open(&app, origin, &ctx).await
}

/// Sign in with a Kerberos ticket
///
/// The same as `GET /login`. The token can also be sent without the word `Negotiate`. Without `[kerberos] keytab` in the
/// server's configuration the response is 503.
#[utoipa::path(
    get,
    path = "/loginSingleSignOn",
    tag = "Session",
    security(("negotiate" = []), ("basic" = [])),
    responses(
        (status = 200, body = LoginBody, headers(("Set-Cookie" = String)), example = json!({
            "userName": "jsmith", "promotionAdminEnvironments": null, "promotionEnvironments": ["STAGING"],
            "promotion": true, "promotionAdmin": false, "solutionManagerAdmin": false, "vdpAdmin": false,
            "jmxAdmin": false, "admin": false, "jmxadmin": false
        })),
        (status = 401, body = ErrorBody, example = json!({
            "status": 401,
            "message": "the Kerberos ticket is not accepted; it may have expired or been used before"
        })),
        (status = 503, body = ErrorBody, example = json!({
            "status": 503,
            "message": "Kerberos sign-on is not configured on this server: set [kerberos] keytab and realms in its configuration"
        })),
    )
)]
pub async fn login_single_sign_on(
    State(app): State<App>,
    origin: Origin,
    SingleSignOn(ctx): SingleSignOn,
) -> Outcome {
    open(&app, origin, &ctx).await
}

async fn open(app: &App, origin: Origin, ctx: &OpCtx) -> Outcome {
    let secret = sign_in::session_open(&app.estate, ctx, NAME).await?;
    // In the dialect's form. `SameSite` keeps other sites' forms from sending it; over TLS, `Secure` keeps it on TLS.
    let secure = if origin.secure { ";Secure" } else { "" };
    let cookie = format!("{COOKIE}={secret};path=/;HttpOnly;SameSite=Lax{secure}");
    Ok(([(SET_COOKIE, cookie)], Answer(StatusCode::OK, LoginBody::from(ctx))).into_response())
}

/// Sign out
#[utoipa::path(
    get,
    path = "/logout",
    tag = "Session",
    responses((status = 200, description = "The session has ended."), (status = 401, body = ErrorBody))
)]
pub async fn logout(State(app): State<App>, Caller(ctx): Caller, headers: HeaderMap) -> Outcome {
    if let Some(secret) = session(&headers) {
        sign_in::session_close(&app.estate, &ctx, &secret, NAME).await?;
    }
    Ok(StatusCode::OK.into_response())
}

/// Check that the server and its metadata store are running
#[utoipa::path(
    get,
    path = "/pingSolutionManager",
    tag = "Health",
    security(()),
    responses(
        (status = 200, body = String, content_type = "text/plain", example = "OK"),
        (status = 503, body = ErrorBody, example = json!({
            "status": 503, "message": "the metadata store does not respond"
        })),
    )
)]
pub async fn ping(State(app): State<App>) -> Outcome {
    app.estate.check_store().await?;
    Ok("OK".into_response())
}
