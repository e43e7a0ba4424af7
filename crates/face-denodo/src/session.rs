//! Sign-in, sign-out, and the health check.

use axum::extract::State;
use axum::response::IntoResponse as _;
use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode};
use landreeve_estate::ops::sign_in;
use landreeve_http::{Origin, Outcome};

use crate::caller::{COOKIE, Caller, Kerberos, Newcomer, session};
use crate::wire::Answer;
use crate::wire::error::ErrorBody;
use crate::wire::session::LoginBody;
use crate::{App, NAME};

/// Sign in with a user name and password
///
/// Send the cookie `JSESSIONID` from the response with later requests. The session ends after 30 minutes without one.
#[utoipa::path(
    get,
    path = "/login",
    tag = "Session",
    security(("basic" = [])),
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
    let secret = sign_in::session_open(&app.estate, &ctx, NAME).await?;
    // In the dialect's form. `SameSite` keeps other sites' forms from sending it; over TLS, `Secure` keeps it on TLS.
    let secure = if origin.secure { ";Secure" } else { "" };
    let cookie = format!("{COOKIE}={secret};path=/;HttpOnly;SameSite=Lax{secure}");
    Ok(([(SET_COOKIE, cookie)], Answer(StatusCode::OK, LoginBody::from(&ctx))).into_response())
}

/// Sign in with a Kerberos ticket
///
/// Not available yet: the request is rejected.
#[utoipa::path(
    get,
    path = "/loginSingleSignOn",
    tag = "Session",
    responses((status = 401, body = ErrorBody, example = json!({
        "status": 401,
        "message": "Kerberos sign-on is not available on this server yet; use GET /login with a user name and password"
    })))
)]
pub async fn login_single_sign_on(_: Kerberos) -> StatusCode {
    StatusCode::UNAUTHORIZED
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
    app.estate.settings().await?;
    Ok("OK".into_response())
}
