//! The port for HTTP that leaves the server: webhooks, repositories, other servers of the estate. What a call may do and
//! take is in the call; where it may go is the implementation's to check, at every connection.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;

use crate::ids::BoxFuture;
use crate::source::{ByteStream, CancellationToken};

/// One request with its bounds.
pub struct HttpCall {
    pub method: String,
    /// `https://host[:port]/path?query`, or `http://…` where the call allows it. Without user and password.
    pub url: String,
    /// Those of the message. Its framing, `Host` and `Connection` are the implementation's.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: HttpBody,
    pub limits: HttpLimits,
    /// Certificates of authorities in PEM, trusted in addition to the built-in ones.
    pub authorities: Vec<String>,
    /// Without it an `http://` URL is refused.
    pub allow_plain: bool,
    pub cancel: CancellationToken,
}

/// What is sent. A stream is read as fast as the other side takes it.
pub enum HttpBody {
    Empty,
    Bytes(Bytes),
    Stream {
        /// Where it is known; a body that turns out longer or shorter is an error.
        length: Option<u64>,
        bytes: ByteStream,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// To resolve the name, connect and agree on TLS.
    pub connect: Duration,
    /// From the beginning to the last byte of the answer.
    pub whole: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
    /// The body of the answer, in bytes.
    pub max_answer_bytes: u64,
}

/// An answer whose body is still arriving. Dropping the body ends the connection.
pub struct HttpAnswer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: AnswerStream,
}

pub type AnswerStream = Pin<Box<dyn Stream<Item = Result<Bytes, HttpError>> + Send>>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HttpError {
    pub kind: HttpErrorKind,
    /// For a person: what failed, where, and what to do.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpErrorKind {
    /// The call itself: its URL, a header, a certificate. Nothing was sent.
    Invalid,
    /// The host is an address that the server is not allowed to connect to.
    Denied,
    /// The name has no address.
    Unresolved,
    /// Nothing answers there, or the connection broke.
    Unreachable,
    /// TLS could not be agreed on, or the certificate is not trusted.
    Tls,
    /// One of the limits of time.
    TimedOut,
    /// The answer is larger than the call takes.
    TooLarge,
    /// What came is not HTTP.
    Protocol,
    /// The stream that was to be sent failed, or has another length than was said.
    Body,
    Cancelled,
}

impl HttpError {
    pub fn new(kind: HttpErrorKind, message: impl Into<String>) -> HttpError {
        HttpError { kind, message: message.into() }
    }
}

/// Sends requests. A redirect is an answer like any other, and no proxy is used, whatever the environment says.
pub trait HttpClient: Send + Sync + 'static {
    /// Ends with the head of the answer. The upload goes on while the answer is read.
    fn send(&self, call: HttpCall) -> BoxFuture<'_, Result<HttpAnswer, HttpError>>;
}
