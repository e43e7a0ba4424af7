//! Maps error kinds to this dialect's statuses, error words and body.

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use landreeve_core::error::codes;
use landreeve_core::{Error, ErrorKind, Fault};
use landreeve_http::{FaceRequest, Failure, code};

use crate::wire::error::ErrorBody;

/// Codes passed on unchanged: the dialect's words for cases that share an error kind.
const WORDS: [&str; 7] = [
    codes::NOT_AUTHED,
    codes::INVALID_AUTH,
    codes::ACCOUNT_INACTIVE,
    codes::QUERY_TIMED_OUT,
    codes::NO_USERS_FOUND,
    codes::EXECUTION_NOT_COMPLETE,
    code::INVALID_JSON,
];

/// The dialect's code for a *not found* error, by its noun.
fn missing(noun: &str) -> &'static str {
    match noun {
        "run" => "query_run_not_found",
        "repository" => "repo_not_found",
        "deployment" => "deployment_not_found",
        "team" => "team_not_found",
        "person" => "user_not_found",
        "feed" => "feed_not_found",
        _ => "not_found",
    }
}

pub const UNKNOWN_METHOD: &str = "unknown_method";

/// Exceptions by code, checked before the table by kind.
fn exception(error: &Error) -> Option<&'static str> {
    match error.code {
        code::ROUTE_NOT_FOUND | code::METHOD_NOT_ALLOWED => Some(UNKNOWN_METHOD),
        known => WORDS.into_iter().find(|word| *word == known),
    }
}

fn table(error: &Error, method: &str) -> (StatusCode, &'static str) {
    const FAILED: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
    match error.kind {
        ErrorKind::Unauthenticated => (FAILED, codes::INVALID_AUTH),
        ErrorKind::Forbidden => (FAILED, "missing_scope"),
        ErrorKind::NotFound => (FAILED, missing(error.noun.unwrap_or_default())),
        ErrorKind::Invalid => (FAILED, invalid(&error.faults, method)),
        ErrorKind::Conflict | ErrorKind::PreconditionFailed => (FAILED, error.code),
        ErrorKind::TooLarge => (FAILED, "invalid_arguments"),
        ErrorKind::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
        ErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
    }
}

/// Two sorts of faults have their own word if there are no others: missing arguments, which only `deployments.*`
/// distinguishes, and invalid metadata.
fn invalid(faults: &[Fault], method: &str) -> &'static str {
    let all = |sort: fn(&Fault) -> bool| !faults.is_empty() && faults.iter().all(sort);
    if method.starts_with("deployments.") && all(|fault| fault.code == codes::REQUIRED) {
        "required_params_missing"
    } else if all(|fault| fault.field == "metadata" || fault.field.starts_with("metadata.")) {
        "metadata_invalid"
    } else {
        "invalid_arguments"
    }
}

pub fn render(error: &Error, request: &FaceRequest) -> Response {
    // The last segment of the path is `FAMILY.method`, wherever the dialect is mounted.
    let method = request.uri.path().rsplit('/').next().unwrap_or_default();
    let (status, word) = table(error, method);
    let word = exception(error).unwrap_or(word);
    // The two other statuses that existing clients expect.
    let status = match word {
        codes::NO_USERS_FOUND => StatusCode::BAD_REQUEST,
        codes::EXECUTION_NOT_COMPLETE => StatusCode::CONFLICT,
        _ => status,
    };
    (status, Json(ErrorBody::new(word, error))).into_response()
}

/// For a known path with an unsupported HTTP method. The status stays 422, so this is not the error that
/// `landreeve_http` would answer with 405.
pub async fn unknown_method(method: http::Method) -> Failure {
    let message = format!("this method does not support {method} requests");
    Failure(Error::new(ErrorKind::NotFound, code::ROUTE_NOT_FOUND, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_word() {
        let error = |kind| Error::new(kind, "some_code", "words");
        let shown = ErrorKind::ALL.map(|kind| {
            let (status, word) = table(&error(kind), "deployments.create");
            (status.as_u16(), word)
        });
        let expected = [
            (422, "invalid_auth"),
            (422, "missing_scope"),
            (422, "not_found"),
            (422, "invalid_arguments"),
            (422, "some_code"),
            (422, "some_code"),
            (422, "invalid_arguments"),
            (429, "rate_limited"),
            (503, "unavailable"),
            (500, "internal_error"),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn faults_of_one_sort_have_a_specific_word() {
        let missing = Fault::required("service");
        let metadata = Fault::new("metadata.a.b", "key", "is not a valid key");
        for (faults, of_deployments, of_others) in [
            (vec![missing.clone()], "required_params_missing", "invalid_arguments"),
            (vec![metadata.clone()], "metadata_invalid", "metadata_invalid"),
            (vec![missing, metadata], "invalid_arguments", "invalid_arguments"),
            (Vec::new(), "invalid_arguments", "invalid_arguments"),
        ] {
            let error = Error::invalid(faults);
            assert_eq!(table(&error, "deployments.create").1, of_deployments);
            assert_eq!(table(&error, "incidents.upsert").1, of_others);
        }
    }

    async fn body(kind: ErrorKind) -> String {
        let origin = landreeve_http::Origin { address: None, request_id: Default::default(), secure: false };
        let (method, uri) = (http::Method::GET, http::Uri::from_static("/x"));
        let request = FaceRequest { method, uri, accept: None, origin };
        let faults = vec![Fault::required("name"), Fault::new("", "type", "is odd")];
        let faults = if kind == ErrorKind::Invalid { faults } else { Vec::new() };
        let error = Error { faults, ..Error::new(kind, "some_code", "words") };
        let body = axum::body::to_bytes(render(&error, &request).into_body(), 10_000).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn errors_have_the_body_of_the_dialect() {
        let bare = |word: &str| {
            format!(
                r#"{{"ok":false,"error":"{word}","message":"words","error_details":{{"message":"words","arguments":[]}}}}"#
            )
        };
        for kind in ErrorKind::ALL.into_iter().filter(|kind| *kind != ErrorKind::Invalid) {
            let word = table(&Error::new(kind, "some_code", "words"), "x").1;
            assert_eq!(body(kind).await, bare(word));
        }
        let faults = r#"[{"name":"name","code":"required","message":"is required"},{"name":"","code":"type","message":"is odd"}]"#;
        assert_eq!(body(ErrorKind::Invalid).await, bare("invalid_arguments").replace("[]", faults));
    }
}
