//! Signing in and out, and the answer that says the server is there.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode};
use landreeve_estate::ops::sign_in;
use landreeve_http::{Origin, Outcome};

use crate::caller::{COOKIE, Caller, Kerberos, Newcomer, session};
use crate::wire::Answer;
use crate::wire::error::ErrorBody;
use crate::wire::session::LoginBody;
use crate::{App, NAME};

/// Open a session with a user name and password
///
/// The answer's cookie `JSESSIONID` opens what follows, until 30 minutes pass without a request.
#[utoipa::path(
    get,
    path = "/login",
    tag = "Session",
    security(("basic" = [])),
    responses(
        (status = 200, body = LoginBody, headers(("Set-Cookie" = String)), example = json!({
            "userName": "admin", "promotionAdmin": true, "admin": true, "jmxadmin": true
        })),
        (status = 401, body = ErrorBody, example = json!({
            "status": 401, "message": "The user name or password is incorrect"
        })),
    )
)]
pub async fn login(State(app): State<App>, origin: Origin, Newcomer(ctx): Newcomer) -> Outcome {
    let secret = sign_in::session_open(&app.estate, &ctx, NAME).await?;
    // As the dialect writes it, and never sent along by a form of another site; over TLS the browser is told to keep
    // it there.
    let secure = if origin.secure { ";Secure" } else { "" };
    let cookie = format!("{COOKIE}={secret};path=/;HttpOnly;SameSite=Lax{secure}");
    Ok(([(SET_COOKIE, cookie)], Answer(StatusCode::OK, LoginBody::from(&ctx))).into_response())
}

/// Open a session with a Kerberos ticket
///
/// Not available yet: the answer says so.
#[utoipa::path(
    get,
    path = "/loginSingleSignOn",
    tag = "Session",
    responses((status = 401, body = ErrorBody, example = json!({
        "status": 401,
        "message": "sign-on with Kerberos is not available on this server yet; use GET /login with a user name and password"
    })))
)]
pub async fn login_single_sign_on(_: Kerberos) -> StatusCode {
    StatusCode::UNAUTHORIZED
}

/// End the session
#[utoipa::path(
    get,
    path = "/logout",
    tag = "Session",
    responses((status = 200, description = "The session is over."), (status = 401, body = ErrorBody))
)]
pub async fn logout(State(app): State<App>, Caller(ctx): Caller, headers: HeaderMap) -> Outcome {
    if let Some(secret) = session(&headers) {
        sign_in::session_close(&app.estate, &ctx, secret, NAME).await?;
    }
    Ok(StatusCode::OK.into_response())
}

/// Say that the server is there
#[utoipa::path(
    get,
    path = "/pingSolutionManager",
    tag = "Health",
    security(()),
    responses((status = 200, body = String, content_type = "text/plain", example = "OK"))
)]
pub async fn ping() -> Response {
    "OK".into_response()
}
