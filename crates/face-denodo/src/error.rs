//! Maps error kinds to this dialect's statuses and body.

use axum::response::{IntoResponse as _, Response};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};
use landreeve_core::{Error, ErrorKind};
use landreeve_http::FaceRequest;

use crate::wire::Answer;
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

/// Exceptions by code, checked before the table by kind.
fn exception(error: &Error) -> Option<StatusCode> {
    (error.code == landreeve_http::code::METHOD_NOT_ALLOWED).then_some(StatusCode::METHOD_NOT_ALLOWED)
}

const BASIC: &str = "Basic realm=\"Solution Manager\"";
const NEGOTIATE: &str = "Negotiate";

pub fn render(error: &Error, _request: &FaceRequest) -> Response {
    rendered(error, &[BASIC])
}

/// The same on a server that accepts Kerberos tickets.
pub fn render_with_tickets(error: &Error, _request: &FaceRequest) -> Response {
    rendered(error, &[NEGOTIATE, BASIC])
}

/// `challenges` are the schemes that a caller without a valid credential is offered, the preferred one first.
fn rendered(error: &Error, challenges: &[&'static str]) -> Response {
    let status = exception(error).unwrap_or_else(|| table(error.kind));
    let mut response = Answer(status, ErrorBody::new(status, error)).into_response();
    if status == StatusCode::UNAUTHORIZED {
        for &challenge in challenges {
            response.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
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

    async fn body(kind: ErrorKind) -> String {
        let origin = landreeve_http::Origin { address: None, request_id: Default::default(), secure: false };
        let (method, uri) = (http::Method::GET, http::Uri::from_static("/x"));
        let request = FaceRequest { method, uri, accept: None, origin };
        let faults =
            vec![landreeve_core::Fault::required("name"), landreeve_core::Fault::new("", "type", "is odd")];
        let faults = if kind == ErrorKind::Invalid { faults } else { Vec::new() };
        let error = Error { faults, ..Error::new(kind, "some_code", "words") };
        let body = axum::body::to_bytes(render(&error, &request).into_body(), 10_000).await.unwrap();
        let with_tickets = render_with_tickets(&error, &request).into_body();
        assert_eq!(axum::body::to_bytes(with_tickets, 10_000).await.unwrap(), body);
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn errors_have_the_body_of_the_dialect() {
        for kind in ErrorKind::ALL.into_iter().filter(|kind| *kind != ErrorKind::Invalid) {
            let expected = format!(r#"{{"status":{},"message":"words"}}"#, table(kind).as_u16());
            assert_eq!(body(kind).await, expected);
        }
        let expected = concat!(
            r#"{"status":400,"message":"name is required; is odd","problems":["#,
            r#"{"field":"name","message":"is required"},{"field":"","message":"is odd"}]}"#
        );
        assert_eq!(body(ErrorKind::Invalid).await, expected);
    }
}
