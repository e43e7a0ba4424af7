//! How a handler fails: with a core error, which the face's renderer turns into a response in one place.
//!
//! The status code for each error kind does not belong here; each face has its own table.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use landreeve_core::{Error, ErrorKind};

/// The error type of handlers. `?` converts a `core::Result` to it.
#[derive(Debug, Clone)]
pub struct Failure(pub Error);

/// What a handler returns.
pub type Outcome<T = Response> = Result<T, Failure>;

/// Codes of the errors from this crate, for renderers that treat them specially.
pub mod code {
    /// Kind *not found*: no route has this path.
    pub const ROUTE_NOT_FOUND: &str = "route_not_found";
    /// Kind *not found*: a route has the path but not the method. The status becomes 405, whatever the renderer chose,
    /// and the response has the header `Allow`.
    pub const METHOD_NOT_ALLOWED: &str = "method_not_allowed";
    /// Kind *invalid*: the body is not JSON, or not an object.
    pub const INVALID_JSON: &str = "invalid_json";
    /// Kind *invalid*: the body did not arrive in time.
    pub const BODY_TIMEOUT: &str = "body_timeout";
    /// Kind *invalid*: the body ended early.
    pub const BODY_BROKEN: &str = "body_broken";
    /// Kind *forbidden*: the header that other sites' pages cannot send is missing, or the request comes from such a page.
    pub const CSRF: &str = "csrf";
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure(error)
    }
}

/// Carries the error to the face's layer, as an extension of a placeholder response.
#[derive(Clone)]
pub(crate) struct Failed(pub(crate) Arc<Error>);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        // Visible only if no face wraps the router; then nothing can render the error better than a bare 500.
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(Failed(Arc::new(self.0)));
        response
    }
}

/// Handles paths without a route.
pub(crate) async fn no_route() -> Failure {
    let message = "there is nothing at this path";
    Failure(Error::new(ErrorKind::NotFound, code::ROUTE_NOT_FOUND, message))
}

/// Handles routes without the method.
pub(crate) async fn no_method(method: http::Method) -> Failure {
    let message = format!("{method} is not allowed on this path");
    Failure(Error::new(ErrorKind::NotFound, code::METHOD_NOT_ALLOWED, message))
}
