//! The one table from error kinds to this dialect's statuses and body.

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};
use landreeve_core::{Error, ErrorKind};
use landreeve_http::{FaceRequest, code};

use crate::wire::error::ErrorBody;

fn table(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Conflict | ErrorKind::PreconditionFailed => StatusCode::CONFLICT,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Exceptions by code, before the table by kind.
fn exception(error: &Error) -> Option<StatusCode> {
    match error.code {
        code::CSRF => Some(StatusCode::BAD_REQUEST),
        code::METHOD_NOT_ALLOWED => Some(StatusCode::METHOD_NOT_ALLOWED),
        _ => None,
    }
}

pub fn render(error: &Error, _request: &FaceRequest) -> Response {
    let status = exception(error).unwrap_or_else(|| table(error.kind));
    let mut response = (status, Json(ErrorBody::new(status, error))).into_response();
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Basic realm=\"CloverDX Server\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_status() {
        let statuses = ErrorKind::ALL.map(|kind| table(kind).as_u16());
        assert_eq!(statuses, [401, 403, 404, 400, 409, 409, 413, 429, 503, 500]);
    }
}
