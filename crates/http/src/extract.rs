//! Extractors whose rejections are core errors, so that the face renders them: the body within its limits, path
//! parameters, and the query.

use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use http::request::Parts;
use http::{Extensions, HeaderMap};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use landreeve_core::{Error, Fault, Result};
use percent_encoding::percent_decode;
use tokio::time::Instant;
use tokio::time::{Duration, timeout_at};

use crate::failure::{Failure, code};
use crate::limits::BodyLimits;
use crate::listener::Inbound;

/// How long an oversized body is read and discarded, so that a client that writes before it reads gets the response
/// instead of a connection reset.
const DISCARD_TIME: Duration = Duration::from_secs(5);
/// At most this many times the body limit is discarded.
const DISCARD_FACTOR: usize = 8;

/// The whole request body, within the listener's limits.
#[derive(Debug, Clone)]
pub struct Body(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Body, Failure> {
        let limits = body_limits(request.extensions());
        Ok(Body(read_body(request, &limits).await?))
    }
}

/// The whole request body of a route that accepts more than others: up to `MIB` MiB, or the listener's limit if that is
/// larger. Say how large in the operation's description.
#[derive(Debug, Clone)]
pub struct MaxBody<const MIB: usize>(pub Bytes);

impl<const MIB: usize, S: Send + Sync> FromRequest<S> for MaxBody<MIB> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<MaxBody<MIB>, Failure> {
        let limits = body_limits(request.extensions());
        let limits = BodyLimits { bytes: limits.bytes.max(MIB << 20), ..limits };
        Ok(MaxBody(read_body(request, &limits).await?))
    }
}

/// The limits for this request's body.
pub fn body_limits(extensions: &Extensions) -> BodyLimits {
    extensions.get::<Inbound>().map(|inbound| inbound.limits.body).unwrap_or_default()
}

/// Reads a whole body; fails if it is too large, too slow or incomplete.
pub async fn read_body(request: Request, limits: &BodyLimits) -> Result<Bytes> {
    let (parts, mut body) = request.into_parts();
    let declared = content_length(&parts.headers);
    if declared.is_some_and(|length| length > limits.bytes) {
        // A client that sent `Expect: 100-continue` has not sent its body yet.
        if !parts.headers.contains_key(EXPECT) {
            discard(&mut body, declared, limits).await;
        }
        return Err(too_large(limits));
    }
    let started = Instant::now();
    let mut whole = BytesMut::new();
    loop {
        let deadline = (started + limits.total).min(Instant::now() + limits.stall);
        let frame = match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(broken(code::BODY_TIMEOUT, "the request body did not arrive in time")),
            Ok(None) => return Ok(whole.freeze()),
            Ok(Some(Err(_))) => return Err(broken(code::BODY_BROKEN, "the request body is incomplete")),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > limits.bytes.saturating_sub(whole.len()) {
            discard(&mut body, None, limits).await;
            return Err(too_large(limits));
        }
        if whole.is_empty() && body.is_end_stream() {
            // A typical small body arrives in one piece and is not copied.
            return Ok(data);
        }
        if whole.capacity() == 0 {
            whole.reserve(declared.unwrap_or(0).min(limits.bytes).max(data.len()));
        }
        whole.extend_from_slice(&data);
    }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    // A length that overflows exceeds every limit.
    let text = headers.get(CONTENT_LENGTH)?.to_str().ok()?;
    Some(text.parse().unwrap_or(usize::MAX))
}

async fn discard(body: &mut axum::body::Body, declared: Option<usize>, limits: &BodyLimits) {
    let mut left = limits.bytes.saturating_mul(DISCARD_FACTOR);
    if declared.is_some_and(|length| length > left) {
        return;
    }
    let deadline = Instant::now() + DISCARD_TIME;
    while let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(length) else { return };
        left = rest;
    }
}

fn too_large(limits: &BodyLimits) -> Error {
    Error::too_large(format!("the request body is larger than {} bytes", limits.bytes))
}

fn broken(code: &'static str, message: &str) -> Error {
    Error::fault("", code, message).with_code(code)
}

/// Path parameters. An invalid parameter is *not found*, because it cannot refer to anything.
#[derive(Debug, Clone)]
pub struct Path<T>(pub T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    axum::extract::Path<T>: FromRequestParts<S>,
    S: Send + Sync,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Path<T>, Failure> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Path(value)),
            Err(_) => Err(Failure(Error::not_found("thing"))),
        }
    }
}

/// Parses a numeric id from a path. Anything but digits is *not found*; `noun` is the dialect's word for the thing.
pub fn decimal(text: &str, noun: &'static str) -> Result<i64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| Error::not_found(noun))
}

/// The decoded parameters of the query in order; a name can occur several times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
    garbled: Vec<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query, Self::Rejection> {
        Ok(Query::parse(parts.uri.query().unwrap_or_default()))
    }
}

impl Query {
    pub fn parse(query: &str) -> Query {
        Query::form(query.as_bytes())
    }

    /// Parses a form body, whose bytes may be invalid UTF-8.
    pub fn form(bytes: &[u8]) -> Query {
        let mut query = Query::default();
        for pair in bytes.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let [name, value] = [halves.next(), halves.next()].map(|half| decode(half.unwrap_or_default()));
            if name.is_err() || value.is_err() {
                query.garbled.push(lossy(name.clone()));
            }
            query.pairs.push((lossy(name), lossy(value)));
        }
        query
    }

    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The names of parameters whose name or value is not valid UTF-8.
    pub fn garbled(&self) -> impl Iterator<Item = &str> {
        self.garbled.iter().map(String::as_str)
    }

    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.pairs().filter(move |(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The value of a parameter; the last one wins, as in most servers.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.pairs().filter(|(key, _)| *key == name).last().map(|(_, value)| value)
    }

    /// A whole number in a range; an empty value counts as absent.
    pub fn int(&self, name: &str, range: std::ops::RangeInclusive<i64>) -> Result<Option<i64>, Fault> {
        let Some(text) = self.text(name).map(str::trim).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        match text.parse::<i64>() {
            Err(_) => Err(Fault::new(name, "type", "must be a whole number")),
            Ok(value) if range.contains(&value) => Ok(Some(value)),
            Ok(_) => {
                let message = format!("must be between {} and {}", range.start(), range.end());
                Err(Fault::new(name, "range", message))
            }
        }
    }

    pub fn bool(&self, name: &str) -> Result<Option<bool>, Fault> {
        match self.text(name).map(|text| text.trim().to_ascii_lowercase()).as_deref() {
            None | Some("") => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(_) => Err(Fault::new(name, "type", "must be true or false")),
        }
    }

    /// One fault per unknown name.
    pub fn unknown(&self, known: &[&str]) -> Vec<Fault> {
        let mut faults: Vec<Fault> = Vec::new();
        for (name, _) in self.pairs() {
            if !known.contains(&name) && !faults.iter().any(|fault| fault.field == name) {
                faults.push(Fault::new(name, "unknown", "is not a parameter of this request"));
            }
        }
        faults
    }
}

/// If the bytes are not valid UTF-8, returns `Err` with replacement characters; such a value matches nothing, which is
/// right for most callers.
fn decode(bytes: &[u8]) -> Result<String, String> {
    let spaced: Vec<u8> = bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let decoded: Vec<u8> = percent_decode(&spaced).collect();
    String::from_utf8(decoded).map_err(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn lossy(decoded: Result<String, String>) -> String {
    decoded.unwrap_or_else(|replaced| replaced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use landreeve_core::ErrorKind;

    #[test]
    fn parses_queries() {
        let query = Query::parse("a=1&b=x+y%20z&&a=+2&c&d=%ff&e=maybe");
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", " 2"]);
        assert_eq!(query.text("b"), Some("x y z"));
        assert_eq!(query.text("c"), Some(""));
        assert_eq!(query.text("d"), Some("\u{fffd}"));
        assert_eq!(query.int("a", 0..=5), Ok(Some(2)));
        assert_eq!(query.int("a", 0..=1).unwrap_err().code, "range");
        assert_eq!(query.int("b", 0..=1).unwrap_err().code, "type");
        assert_eq!(query.int("c", 0..=1), Ok(None));
        assert_eq!(query.bool("e").unwrap_err().code, "type");
        assert_eq!(query.unknown(&["a", "b", "c", "d"]).len(), 1);
    }

    #[test]
    fn lists_parameters_that_are_not_utf8() {
        let query = Query::form(b"a=%ff&%EF%BF%BD=\xef\xbf\xbd&b=x&c\xc3=1&d=%C3%A9=");
        assert_eq!(query.garbled().collect::<Vec<_>>(), ["a", "c\u{fffd}"]);
        assert_eq!((query.text("\u{fffd}"), query.text("d")), (Some("\u{fffd}"), Some("\u{e9}=")));
    }

    fn request(body: axum::body::Body) -> Request {
        Request::new(body)
    }

    #[tokio::test]
    async fn reads_bodies_up_to_the_limit() {
        let limits = BodyLimits { bytes: 5, ..BodyLimits::default() };
        let stream = |pieces: &'static [&'static str]| {
            let items =
                pieces.iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes())));
            axum::body::Body::from_stream(futures_util::stream::iter(items))
        };
        assert_eq!(read_body(request("12345".into()), &limits).await.unwrap(), "12345");
        assert_eq!(read_body(request(stream(&["12", "345"])), &limits).await.unwrap(), "12345");
        assert_eq!(read_body(request(stream(&[])), &limits).await.unwrap(), "");
        let error = read_body(request(stream(&["123", "456", "789"])), &limits).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge);
    }

    #[tokio::test]
    async fn a_route_can_accept_larger_bodies_than_the_listener() {
        const LISTENER: usize = 8 << 20;
        let of = |length: usize| request(vec![b'x'; length].into());
        let read = |length| async move { MaxBody::<9>::from_request(of(length), &()).await };
        for (length, fits) in [(LISTENER + 1, true), (9 << 20, true), ((9 << 20) + 1, false)] {
            match read(length).await {
                Ok(MaxBody(body)) => assert!(fits && body.len() == length, "{length}"),
                Err(Failure(error)) => {
                    assert!(!fits && error.kind == ErrorKind::TooLarge, "{length}: {error}")
                }
            }
        }
        let Failure(error) = Body::from_request(of(LISTENER + 1), &()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge);
        // The listener's limit stays if it is larger.
        let MaxBody(body) = MaxBody::<1>::from_request(of(LISTENER), &()).await.unwrap();
        assert_eq!(body.len(), LISTENER);
    }

    #[tokio::test]
    async fn stalled_bodies_are_errors() {
        let limits = BodyLimits { stall: Duration::from_millis(20), ..BodyLimits::default() };
        let body = axum::body::Body::from_stream(futures_util::stream::pending::<std::io::Result<Bytes>>());
        let error = read_body(request(body), &limits).await.unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::Invalid, code::BODY_TIMEOUT));
    }
}
