//! The port for outgoing HTTP: webhooks, repositories, other servers of the estate. Each call carries its own limits;
//! the implementation checks at every connection where it is allowed to go.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;

use crate::ids::BoxFuture;
use crate::source::{ByteStream, CancellationToken};

/// One request with its limits.
pub struct HttpCall {
    pub method: String,
    /// `https://host[:port]/path?query`, or `http://…` where the call allows it. Without user and password.
    pub url: String,
    /// Headers of the message. The implementation sets framing, `Host` and `Connection`.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: HttpBody,
    pub limits: HttpLimits,
    /// CA certificates in PEM, trusted in addition to the built-in ones.
    pub authorities: Vec<String>,
    /// If not set, an `http://` URL is rejected.
    pub allow_plain: bool,
    pub cancel: CancellationToken,
}

/// The request body. A stream is read as fast as the other side accepts it.
pub enum HttpBody {
    Empty,
    Bytes(Bytes),
    Stream {
        /// If known; a body that turns out longer or shorter is an error.
        length: Option<u64>,
        bytes: ByteStream,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// For resolving the name, connecting and the TLS handshake.
    pub connect: Duration,
    /// From the start to the last byte of the response.
    pub whole: Duration,
    /// How long no byte may pass in either direction.
    pub idle: Duration,
    /// The size of the response body, in bytes.
    pub max_answer_bytes: u64,
}

/// A response whose body is still arriving. Dropping the body closes the connection.
pub struct HttpAnswer {
    pub status: u16,
    /// With lowercase names.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: AnswerStream,
}

pub type AnswerStream = Pin<Box<dyn Stream<Item = Result<Bytes, HttpError>> + Send>>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HttpError {
    pub kind: HttpErrorKind,
    /// For the user: what failed, where, and what to do.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpErrorKind {
    /// The call itself is invalid: its URL, a header, a certificate. Nothing was sent.
    Invalid,
    /// The server is not allowed to connect to the host's address.
    Denied,
    /// The name has no address.
    Unresolved,
    /// Nothing responded, or the connection broke.
    Unreachable,
    /// The TLS handshake failed, or the certificate is not trusted.
    Tls,
    /// A time limit was exceeded.
    TimedOut,
    /// The response is larger than the call allows.
    TooLarge,
    /// The response is not HTTP.
    Protocol,
    /// The request body's stream failed, or its length is not the declared one.
    Body,
    Cancelled,
}

impl HttpError {
    pub fn new(kind: HttpErrorKind, message: impl Into<String>) -> HttpError {
        HttpError { kind, message: message.into() }
    }
}

/// Sends requests. It does not follow redirects or use a proxy, whatever the environment says.
pub trait HttpClient: Send + Sync + 'static {
    /// Returns when the response headers have arrived. The upload continues while the response is read.
    fn send(&self, call: HttpCall) -> BoxFuture<'_, Result<HttpAnswer, HttpError>>;
}
