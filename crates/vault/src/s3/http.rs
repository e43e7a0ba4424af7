//! How object_store's requests are sent: by the server's one HTTP client, which checks where connections may go, uses no proxy and
//! stops at a cancel. object_store signs, repeats and understands the answers; its errors keep what happened in a type of ours.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::header::{CONTENT_LENGTH, HOST};
use http_body_util::BodyExt as _;
use landreeve_core::outbound::{HttpAnswer, HttpBody, HttpCall, HttpClient, HttpErrorKind, HttpLimits};
use landreeve_core::vault::CancellationToken;
use object_store::ClientOptions;
use object_store::client::{
    HttpConnector, HttpError, HttpErrorKind as Kind, HttpRequest, HttpResponse, HttpService,
};

/// Of an object or a page of a list. Our packs have at most 64 MiB; restic's may be set to 128 MiB.
const MAX_ANSWER: u64 = 1 << 30;
const LIMITS: HttpLimits = HttpLimits {
    connect: Duration::from_secs(30),
    whole: Duration::from_secs(3_600),
    idle: Duration::from_secs(60),
    max_answer_bytes: MAX_ANSWER,
};

/// Why a request had no answer that object_store understands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("cancelled")]
    Cancelled,
    /// The client's message.
    #[error("{0}")]
    Unsent(String),
    #[error("status {status}")]
    Refused {
        status: u16,
        /// S3's name of the error, such as `AccessDenied`. It may be empty.
        code: String,
        /// Where the bucket is, if that is why.
        region: Option<String>,
    },
}

#[derive(Clone)]
pub struct Sender {
    pub http: Arc<dyn HttpClient>,
    pub allow_plain: bool,
    pub stop: CancellationToken,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl HttpConnector for Sender {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<object_store::client::HttpClient> {
        Ok(object_store::client::HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Sender {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        // The client sets these two, to the same values.
        let headers = head.headers.iter().filter(|(name, _)| !matches!(**name, HOST | CONTENT_LENGTH));
        let is_deletion = head.method == http::Method::POST;
        let call = HttpCall {
            method: head.method.as_str().to_owned(),
            url: head.uri.to_string(),
            headers: headers
                .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
                .collect(),
            body: if body.is_empty() { HttpBody::Empty } else { HttpBody::Bytes(body) },
            limits: LIMITS,
            authorities: Vec::new(),
            allow_plain: self.allow_plain,
            cancel: self.stop.clone(),
        };
        let HttpAnswer { status, headers, body: mut parts } = self.http.send(call).await.map_err(unsent)?;
        let mut body = BytesMut::new();
        while let Some(part) = parts.next().await {
            body.extend_from_slice(&part.map_err(unsent)?);
        }
        answer(status, headers, body.freeze(), is_deletion)
    }
}

/// What object_store sees of an answer: successes, and what it has a meaning for.
fn answer(
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Bytes,
    is_deletion: bool,
) -> Result<HttpResponse, HttpError> {
    let code = error_code(&body);
    let is_understood = match status {
        // Objects are deleted by a list of names; what could not be deleted is in the answer.
        200..=299 => !is_deletion || code.is_none(),
        404 => code != Some("NoSuchBucket"),
        // It exists, or another request is writing it.
        409 | 412 => true,
        _ => false,
    };
    if !is_understood {
        let header = headers.iter().find(|(name, _)| name == "x-amz-bucket-region");
        let region = header.map(|(_, value)| String::from_utf8_lossy(value).into_owned());
        let failure = Failure::Refused {
            status,
            code: code.unwrap_or_default().to_owned(),
            region: region.or_else(|| element(&body, "Region").map(str::to_owned)),
        };
        // Every request of ours is safe to repeat. A server that does not know a request answers 501.
        let may_work_later = matches!(status, 408 | 429 | 500 | 502..);
        return Err(HttpError::new(if may_work_later { Kind::Request } else { Kind::Unknown }, failure));
    }
    let mut response = http::Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response
        .body(body.into())
        .map_err(|error| HttpError::new(Kind::Decode, Failure::Unsent(error.to_string())))
}

fn unsent(error: landreeve_core::outbound::HttpError) -> HttpError {
    let kind = match error.kind {
        HttpErrorKind::Unresolved | HttpErrorKind::Unreachable | HttpErrorKind::TimedOut => Kind::Request,
        _ => Kind::Unknown,
    };
    let failure = match error.kind {
        HttpErrorKind::Cancelled => Failure::Cancelled,
        _ => Failure::Unsent(error.message),
    };
    HttpError::new(kind, failure)
}

/// S3's name of an error, in an answer that is one.
fn error_code(body: &[u8]) -> Option<&str> {
    let start = body.get(..body.len().min(1_024))?;
    let has_error = start.windows(6).any(|window| window == b"<Error");
    if has_error { element(body, "Code") } else { None }
}

/// The text of the first element with a name, if it is a short word.
fn element<'a>(body: &'a [u8], name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(body.get(..body.len().min(4_096))?).ok()?;
    let (_, after) = text.split_once(&format!("<{name}>"))?;
    let (word, _) = after.split_once('<')?;
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (!word.is_empty() && word.len() <= 64 && word.bytes().all(is_word)).then_some(word)
}

/// What happened to the request that an error is about.
pub fn failure_of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Failure> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return Some(failure);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(status: u16, body: &'static str, is_deletion: bool) -> Option<(Kind, Failure)> {
        let error = answer(status, Vec::new(), Bytes::from_static(body.as_bytes()), is_deletion).err()?;
        Some((error.kind(), failure_of(&error).unwrap().clone()))
    }

    #[test]
    fn answers_are_understood_or_have_a_reason() {
        for (status, body) in [
            (200, ""),
            (206, "<Error><Code>X</Code></Error>"),
            (404, "<Error><Code>NoSuchKey</Code></Error>"),
            (412, ""),
        ] {
            assert_eq!(failed(status, body, false), None, "{status} {body}");
        }
        let refused = |status, code: &str, region: Option<&str>| Failure::Refused {
            status,
            code: code.to_owned(),
            region: region.map(str::to_owned),
        };
        let redirect =
            "<?xml?><Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>";
        for (status, body, is_deletion, kind, failure) in [
            (
                404,
                "<Error><Code>NoSuchBucket</Code></Error>",
                false,
                Kind::Unknown,
                refused(404, "NoSuchBucket", None),
            ),
            (
                200,
                "<DeleteResult><Error><Key>a</Key><Code>AccessDenied</Code></Error></DeleteResult>",
                true,
                Kind::Unknown,
                refused(200, "AccessDenied", None),
            ),
            (
                400,
                redirect,
                false,
                Kind::Unknown,
                refused(400, "AuthorizationHeaderMalformed", Some("eu-west-1")),
            ),
            (403, "<Error><Code>a b</Code></Error>", false, Kind::Unknown, refused(403, "", None)),
            (403, "\u{fffd}", false, Kind::Unknown, refused(403, "", None)),
            (501, "", false, Kind::Unknown, refused(501, "", None)),
            (
                503,
                "<Error><Code>SlowDown</Code></Error>",
                false,
                Kind::Request,
                refused(503, "SlowDown", None),
            ),
        ] {
            assert_eq!(failed(status, body, is_deletion), Some((kind, failure)), "{status} {body}");
        }
    }
}
