//! Maps error kinds to statuses and renders the error body: one JSON:API error object per fault.

use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use landreeve_core::{Error, ErrorKind};
use landreeve_http::FaceRequest;
use serde::Serialize;

use crate::media::JSON_API;

pub mod code {
    pub const UNSUPPORTED_MEDIA_TYPE: &str = "unsupported_media_type";
    pub const NOT_ACCEPTABLE: &str = "not_acceptable";
    pub const UNKNOWN_INCLUDE: &str = "unknown_include";
}

/// Codes whose status differs from that of their kind, with the specification that requires it.
const EXCEPTIONS: [(&str, StatusCode); 6] = [
    // HTTP: the path exists, the method does not
    (landreeve_http::code::METHOD_NOT_ALLOWED, StatusCode::METHOD_NOT_ALLOWED),
    // JSON:API: a document that cannot be read
    (landreeve_http::code::INVALID_JSON, StatusCode::BAD_REQUEST),
    (landreeve_http::code::BODY_BROKEN, StatusCode::BAD_REQUEST),
    // JSON:API, "Server Responsibilities" and "Inclusion of Related Resources"
    (code::UNSUPPORTED_MEDIA_TYPE, StatusCode::UNSUPPORTED_MEDIA_TYPE),
    (code::NOT_ACCEPTABLE, StatusCode::NOT_ACCEPTABLE),
    (code::UNKNOWN_INCLUDE, StatusCode::BAD_REQUEST),
];

fn status(error: &Error) -> StatusCode {
    if let Some((_, status)) = EXCEPTIONS.iter().find(|(code, _)| *code == error.code) {
        return *status;
    }
    match error.kind {
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::Conflict | ErrorKind::PreconditionFailed => StatusCode::CONFLICT,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

pub fn render_api(error: &Error, _: &FaceRequest) -> Response {
    respond(error, "Api")
}

pub fn render_data(error: &Error, _: &FaceRequest) -> Response {
    respond(error, "Data")
}

/// The body of every error; also in the reference.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Errors {
    errors: Vec<ErrorObject>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ErrorObject {
    #[schema(example = "422")]
    status: String,
    #[schema(example = "required")]
    code: &'static str,
    #[schema(example = "Unprocessable Entity")]
    title: &'static str,
    #[schema(example = "name is required")]
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Source {
    /// JSON pointer into the request body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/data/attributes/name")]
    pointer: Option<String>,
    /// Name of a query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
}

fn respond(error: &Error, scheme: &'static str) -> Response {
    let status = status(error);
    let title = status.canonical_reason().unwrap_or_default();
    let object = |code, detail, source| ErrorObject {
        status: status.as_u16().to_string(),
        code,
        title,
        detail,
        source,
    };
    let mut errors: Vec<ErrorObject> = error
        .faults
        .iter()
        .map(|fault| object(fault.code, detail(&fault.field, &fault.message), source(&fault.field)))
        .collect();
    if errors.is_empty() {
        errors.push(object(error.code, error.message.clone(), None));
    }
    let mut response = (status, axum::Json(Errors { errors })).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON_API));
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
    }
    response
}

/// `input` has already turned the fields into pointers (`/data/attributes/name`) and parameters (`?include`).
fn source(field: &str) -> Option<Source> {
    if let Some(name) = field.strip_prefix('?') {
        return Some(Source { pointer: None, parameter: Some(name.to_owned()) });
    }
    let pointer = match field {
        "" => return None,
        pointer if pointer.starts_with('/') => pointer.to_owned(),
        dotted => format!("/{}", dotted.replace('.', "/")),
    };
    Some(Source { pointer: Some(pointer), parameter: None })
}

/// A fault's message continues after the field's name.
fn detail(field: &str, message: &str) -> String {
    let path = field.trim_start_matches('?');
    let path = path.strip_prefix("/data/attributes/").unwrap_or(path);
    let path = path.strip_prefix("/data/relationships/").unwrap_or(path);
    let name = path.trim_start_matches('/').replace('/', ".").replace("~1", "/").replace("~0", "~");
    if name.is_empty() { message.to_owned() } else { format!("{name} {message}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_status() {
        let expected = [401, 403, 404, 422, 409, 409, 413, 429, 503, 500];
        let found = ErrorKind::ALL.map(|kind| status(&Error::new(kind, "x", "y")).as_u16());
        assert_eq!(found, expected);
    }

    #[test]
    fn a_detail_starts_with_the_name() {
        assert_eq!(
            detail("/data/attributes/layout/0/width", "must be a number"),
            "layout.0.width must be a number"
        );
        assert_eq!(detail("?include", "is odd"), "include is odd");
        assert_eq!(detail("", "alone"), "alone");
    }
}
