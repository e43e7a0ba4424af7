//! How a handler fails: with a core error, which the face's own renderer turns into a response in one place.
//!
//! What must not enter: status codes per error kind. Those are each face's table.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use landreeve_core::{Error, ErrorKind};

/// The error type of handlers. `?` on a `core::Result` makes it.
#[derive(Debug, Clone)]
pub struct Failure(pub Error);

/// What a handler returns.
pub type Outcome<T = Response> = Result<T, Failure>;

/// Codes of the errors that arise in this crate, for a renderer that treats them apart.
pub mod code {
    /// Kind *not found*: no route has this path.
    pub const ROUTE_NOT_FOUND: &str = "route_not_found";
    /// Kind *not found*: a route has the path but not the method. The answer's status becomes 405, whatever the
    /// renderer chose, and it carries `Allow`.
    pub const METHOD_NOT_ALLOWED: &str = "method_not_allowed";
    /// Kind *invalid*: the body is not JSON, or not an object.
    pub const INVALID_JSON: &str = "invalid_json";
    /// Kind *invalid*: the body did not come in time.
    pub const BODY_TIMEOUT: &str = "body_timeout";
    /// Kind *invalid*: the body ended before its end.
    pub const BODY_BROKEN: &str = "body_broken";
    /// Kind *forbidden*: the header that a foreign page cannot send is missing.
    pub const CSRF: &str = "csrf";
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure(error)
    }
}

/// Travels as an extension of a placeholder response up to the face's layer.
#[derive(Clone)]
pub(crate) struct Failed(pub(crate) Arc<Error>);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        // Seen only where no face wraps the router: a bare 500 is then the honest answer, as nobody has a table.
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(Failed(Arc::new(self.0)));
        response
    }
}

/// Answers for paths without a route.
pub(crate) async fn no_route() -> Failure {
    let message = "there is nothing at this path";
    Failure(Error::new(ErrorKind::NotFound, code::ROUTE_NOT_FOUND, message))
}

/// Answers for routes without the method.
pub(crate) async fn no_method(method: http::Method) -> Failure {
    let message = format!("{method} is not a method of this path");
    Failure(Error::new(ErrorKind::NotFound, code::METHOD_NOT_ALLOWED, message))
}
