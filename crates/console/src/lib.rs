//! The web console: a sign-in page and a link to the API catalog. Plain pages that work without JavaScript. The console
//! calls the same use cases as the faces and contains no business rules.

mod page;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, StatusCode};
use landreeve_core::{Error, ErrorKind, OpCtx, OpKind, Result, Secret};
use landreeve_estate::ops::{Estate, Origin, sign_in};
use landreeve_http::credentials::{cookie, session_cookie};
use landreeve_http::extract::{Body, Query};
use landreeve_http::{Face, FaceRequest, FaceRouter, Outcome};

const NAME: &str = "console";
/// The prefix `__Host-` would require TLS, which a loopback server does not have.
const COOKIE: &str = "landreeve_session";

pub fn router(estate: Estate) -> Result<FaceRouter> {
    let random = std::sync::Arc::clone(estate.random());
    let routes = Router::new()
        .route("/", get(home))
        .route("/sign-in", post(enter))
        .route("/sign-out", post(leave))
        .with_state(estate);
    Ok(Face::new(NAME, random, render).wrap(routes))
}

/// Renders an error as a page.
fn render(error: &Error, _: &FaceRequest) -> Response {
    let status = match error.kind {
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    };
    html(status, &page::problem(&error.message))
}

fn html(status: StatusCode, page: &str) -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-store"),
    ];
    (status, headers, page.to_owned()).into_response()
}

fn origin(request: landreeve_http::Origin) -> Origin {
    Origin { request_id: request.request_id, address: request.address, kind: OpKind::Console }
}

/// The signed-in user, if any.
async fn caller(estate: &Estate, headers: &HeaderMap, request: landreeve_http::Origin) -> Option<OpCtx> {
    let secret = cookie(headers, COOKIE)?;
    sign_in::by_session(estate, &secret, NAME, origin(request)).await.ok()
}

async fn home(State(estate): State<Estate>, headers: HeaderMap, request: landreeve_http::Origin) -> Outcome {
    let page = match caller(&estate, &headers, request).await {
        Some(ctx) => page::signed_in(ctx.actor().name()),
        None => page::sign_in(None),
    };
    Ok(html(StatusCode::OK, &page))
}

async fn enter(
    State(estate): State<Estate>,
    headers: HeaderMap,
    request: landreeve_http::Origin,
    Body(body): Body,
) -> Outcome {
    same_origin(&headers)?;
    let form = Query::parse(&String::from_utf8_lossy(&body));
    let (name, password) = (form.text("name").unwrap_or_default(), form.text("password").unwrap_or_default());
    match sign_in::by_password(&estate, name, Secret::new(password), None, origin(request)).await {
        Ok(ctx) => {
            let secret = sign_in::session_open(&estate, &ctx, NAME).await?;
            let cookie = session_cookie(COOKIE, Some(secret), request.secure);
            Ok(([(SET_COOKIE, cookie)], Redirect::to("/")).into_response())
        }
        Err(error) if error.kind == ErrorKind::Unauthenticated => {
            Ok(html(StatusCode::UNAUTHORIZED, &page::sign_in(Some(&error.message))))
        }
        Err(error) => Err(error.into()),
    }
}

async fn leave(State(estate): State<Estate>, headers: HeaderMap, request: landreeve_http::Origin) -> Outcome {
    same_origin(&headers)?;
    if let (Some(secret), Some(ctx)) = (cookie(&headers, COOKIE), caller(&estate, &headers, request).await) {
        sign_in::session_close(&estate, &ctx, &secret, NAME).await?;
    }
    let cookie = session_cookie(COOKIE, None, request.secure);
    Ok(([(SET_COOKIE, cookie)], Redirect::to("/")).into_response())
}

/// Refuses forms submitted from other sites. Browsers send `Sec-Fetch-Site`; a client without it is not a browser.
fn same_origin(headers: &HeaderMap) -> Result<()> {
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    match site {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) => Err(Error::forbidden("the request comes from another site")),
    }
}
