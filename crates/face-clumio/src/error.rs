//! Maps error kinds to this dialect's statuses, error codes and body.

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};
use landreeve_core::error::codes;
use landreeve_core::{Error, ErrorKind};
use landreeve_http::{FaceRequest, code};

use crate::wire::error::ErrorBody;

/// Status and `error_code`. The numbers are ours, except 359 below.
fn table(kind: ErrorKind) -> (StatusCode, u32) {
    match kind {
        ErrorKind::Unauthenticated => (StatusCode::UNAUTHORIZED, 360),
        ErrorKind::Forbidden => (StatusCode::FORBIDDEN, 103),
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, 104),
        ErrorKind::Invalid => (StatusCode::BAD_REQUEST, 101),
        ErrorKind::Conflict => (StatusCode::CONFLICT, 109),
        ErrorKind::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, 112),
        ErrorKind::TooLarge => (StatusCode::BAD_REQUEST, 113),
        ErrorKind::RateLimited => (StatusCode::TOO_MANY_REQUESTS, 129),
        ErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, 153),
        ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, 150),
    }
}

/// Exceptions by code, checked before the table by kind: status, error code, and the dialect's own message.
fn exception(error: &Error) -> Option<(StatusCode, u32, &'static str)> {
    match error.code {
        codes::NOT_AUTHED => Some((StatusCode::UNAUTHORIZED, 359, "The authentication token is missing")),
        code::METHOD_NOT_ALLOWED => {
            Some((StatusCode::METHOD_NOT_ALLOWED, 105, "This path does not have this method"))
        }
        _ => None,
    }
}

pub fn render(error: &Error, _request: &FaceRequest) -> Response {
    let (status, body) = match exception(error) {
        Some((status, number, words)) => (status, ErrorBody::one(number, words)),
        None => {
            let (status, number) = table(error.kind);
            (status, ErrorBody::new(number, error))
        }
    };
    let mut response = (status, Json(body)).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_has_its_status_and_number() {
        let shown = ErrorKind::ALL.map(|kind| table(kind).0.as_u16());
        assert_eq!(shown, [401, 403, 404, 400, 409, 412, 400, 429, 503, 500]);
        let numbers: BTreeSet<u32> = ErrorKind::ALL.into_iter().map(|kind| table(kind).1).collect();
        assert_eq!(numbers.len(), ErrorKind::ALL.len());
    }

    async fn body(kind: ErrorKind) -> String {
        let origin = landreeve_http::Origin { address: None, request_id: Default::default(), secure: false };
        let (method, uri) = (http::Method::GET, http::Uri::from_static("/x"));
        let request = FaceRequest { method, uri, accept: None, origin };
        let faults =
            vec![landreeve_core::Fault::required("name"), landreeve_core::Fault::new("", "type", "is odd")];
        let faults = if kind == ErrorKind::Invalid { faults } else { Vec::new() };
        let error = Error { faults, ..Error::new(kind, "some_code", "words") };
        let body = axum::body::to_bytes(render(&error, &request).into_body(), 10_000).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn errors_have_the_body_of_the_dialect() {
        for kind in ErrorKind::ALL.into_iter().filter(|kind| *kind != ErrorKind::Invalid) {
            let number = table(kind).1;
            let expected = format!(r#"{{"errors":[{{"error_code":{number},"error_message":"words"}}]}}"#);
            assert_eq!(body(kind).await, expected);
        }
        let expected = r#"{"errors":[{"error_code":101,"error_message":"name is required"},{"error_code":101,"error_message":"is odd"}]}"#;
        assert_eq!(body(ErrorKind::Invalid).await, expected);
    }
}
