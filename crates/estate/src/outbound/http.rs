//! Outgoing HTTP: each call makes its own connection, to an address that `Outbound` has just allowed, within the limits
//! of the call. It does not use proxies, follow redirects, or keep cookies or connections.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use landreeve_core::ErrorKind;
use landreeve_core::error::codes;
use landreeve_core::ids::BoxFuture;
use landreeve_core::outbound::{
    AnswerStream, HttpAnswer, HttpCall, HttpClient, HttpError, HttpErrorKind, HttpLimits,
};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::Outbound;
use super::upload::{Failed, Upload};
use super::wire::{self, Idle};

/// Limits for the response headers: bytes and fields.
const MAX_HEAD_BYTES: usize = 64 * 1_024;
const MAX_HEADERS: usize = 100;
/// Maximum number of addresses tried per name.
const MAX_ADDRESSES: usize = 8;

/// Headers that a call must not set: they control framing or the connection.
const RESERVED: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The server's only HTTP client.
#[derive(Debug, Clone)]
pub struct OutboundHttp {
    outbound: Outbound,
}

impl OutboundHttp {
    pub fn new(outbound: Outbound) -> OutboundHttp {
        OutboundHttp { outbound }
    }
}

impl HttpClient for OutboundHttp {
    fn send(&self, call: HttpCall) -> BoxFuture<'_, Result<HttpAnswer, HttpError>> {
        Box::pin(async move {
            let (limits, cancel) = (call.limits, call.cancel.clone());
            let deadline = Instant::now() + limits.whole;
            let target = Target::of(&call)?;
            tokio::select! {
                biased;
                () = cancel.cancelled() => Err(cancelled()),
                answer = self.exchange(call, target, deadline) => answer,
                () = tokio::time::sleep_until(deadline) => Err(timed_out("the call", limits.whole)),
            }
        })
    }
}

impl OutboundHttp {
    async fn exchange(
        &self,
        call: HttpCall,
        target: Target,
        deadline: Instant,
    ) -> Result<HttpAnswer, HttpError> {
        let failed = Failed::default();
        let HttpCall { method, headers, body, limits, authorities, cancel, .. } = call;
        let request = request(&method, &target, headers, Upload::new(body, failed.clone()))?;
        let tls = target.tls.then(|| wire::tls(&authorities)).transpose()?;
        let connected = tokio::time::timeout(limits.connect, self.connect(&target, tls)).await;
        let stream = connected.unwrap_or_else(|_| {
            Err(timed_out(&format!("connecting to {}", target.place()), limits.connect))
        })?;
        let stream = TokioIo::new(Idle::new(stream, limits.idle));
        let place = target.place();
        let explain = |error: &hyper::Error| failed.explain(error, &place);
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD_BYTES).max_headers(MAX_HEADERS);
        let (mut sender, connection) =
            builder.handshake::<_, Upload>(stream).await.map_err(|error| explain(&error))?;
        // The task ends with the response body, at the deadline, or with the connection.
        let task = tokio::spawn(async move {
            let _ = tokio::time::timeout_at(deadline, connection).await;
        });
        let guard = AbortOnDrop(task);
        let answer = sender.send_request(request).await.map_err(|error| explain(&error))?;
        let (head, body) = answer.into_parts();
        let named = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.as_str().to_owned(), value.as_bytes().to_vec())
        };
        let headers = head.headers.iter().map(named).collect();
        let body = Answer {
            body,
            failed,
            place,
            limits,
            left: limits.max_answer_bytes,
            over: Box::pin(tokio::time::sleep_until(deadline)),
            cancelled: Box::pin(cancel.cancelled_owned()),
            ended: false,
            _guard: guard,
        };
        Ok(HttpAnswer { status: head.status.as_u16(), headers, body: body.checked()? })
    }

    /// Connects to the first allowed address that responds.
    async fn connect(
        &self,
        target: &Target,
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Result<wire::Stream, HttpError> {
        let place = target.place();
        let addresses = self.outbound.resolve(&target.host, target.port).await.map_err(|error| {
            let denied = error.faults.iter().any(|fault| fault.code == codes::DENIED);
            let kind = match error.kind {
                ErrorKind::Invalid if denied => HttpErrorKind::Denied,
                _ => HttpErrorKind::Unresolved,
            };
            HttpError::new(kind, error.faults.first().map_or(error.message, |fault| fault.message.clone()))
        })?;
        let mut last = None;
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    return match tls {
                        Some(config) => wire::encrypt(stream, config, &target.host, &place).await,
                        None => Ok(wire::Stream::Plain(stream)),
                    };
                }
                Err(error) => last = Some(error),
            }
        }
        let why = last.map_or_else(|| "no address".to_owned(), |error| error.to_string());
        Err(HttpError::new(HttpErrorKind::Unreachable, format!("cannot connect to {place}: {why}")))
    }
}

pub(super) fn timed_out(what: &str, limit: Duration) -> HttpError {
    let message = format!("{what} took longer than {:.1} seconds", limit.as_secs_f64());
    HttpError::new(HttpErrorKind::TimedOut, message)
}

fn cancelled() -> HttpError {
    HttpError::new(HttpErrorKind::Cancelled, "the call was cancelled")
}

fn invalid(message: impl Into<String>) -> HttpError {
    HttpError::new(HttpErrorKind::Invalid, message)
}

/// A checked URL.
struct Target {
    tls: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    authority: String,
    path: String,
}

impl Target {
    fn of(call: &HttpCall) -> Result<Target, HttpError> {
        let uri: Uri = call.url.parse().map_err(|_| invalid(format!("{:?} is not a URL", call.url)))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if call.allow_plain => false,
            Some("http") => return Err(invalid("plain http is not allowed here; use an https:// URL")),
            _ => return Err(invalid(format!("{:?} is not an https:// URL", call.url))),
        };
        let authority = uri.authority().ok_or_else(|| invalid("the URL has no host"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("the URL must not contain a user name or password"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(invalid("the URL has no host"));
        }
        let port = match authority.as_str().rsplit_once(':') {
            // A port that is not a number from 1 to 65535 does not parse, and must not be replaced by the default.
            Some((_, port)) if !port.ends_with(']') => port
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| invalid("the URL has no valid port"))?,
            _ if tls => 443,
            _ => 80,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Target { tls, host, port, authority: authority.as_str().to_owned(), path })
    }

    fn place(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

fn request(
    method: &str,
    target: &Target,
    headers: Vec<(String, Vec<u8>)>,
    body: Upload,
) -> Result<Request<Upload>, HttpError> {
    let verb = Method::from_bytes(method.as_bytes())
        .ok()
        .filter(|verb| *verb != Method::CONNECT)
        .ok_or_else(|| invalid(format!("{method:?} is not a supported method")))?;
    let mut request = Request::builder()
        .method(verb)
        .uri(&target.path)
        .header("host", &target.authority)
        .header("connection", "close")
        .body(body)
        .map_err(|error| invalid(error.to_string()))?;
    for (name, value) in headers {
        let known = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| invalid(format!("the header name {name:?} is invalid")))?;
        if RESERVED.contains(&known.as_str()) {
            return Err(invalid(format!("the header {known} is set by the server")));
        }
        let value = HeaderValue::from_bytes(&value)
            .map_err(|_| invalid(format!("the value of the header {known} is invalid")))?;
        request.headers_mut().append(known, value);
    }
    // Set explicitly, because hyper would not send a body of unknown length with a GET.
    match request.body().size_hint().exact() {
        Some(0) => {}
        Some(length) => drop(request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length))),
        None => {
            let chunked = HeaderValue::from_static("chunked");
            request.headers_mut().insert(TRANSFER_ENCODING, chunked);
        }
    }
    Ok(request)
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The response body, within its limits.
struct Answer {
    body: Incoming,
    failed: Failed,
    place: String,
    limits: HttpLimits,
    left: u64,
    over: Pin<Box<Sleep>>,
    cancelled: Pin<Box<tokio_util::sync::WaitForCancellationFutureOwned>>,
    ended: bool,
    _guard: AbortOnDrop,
}

impl Answer {
    /// Checks an announced length before anything is read.
    fn checked(self) -> Result<AnswerStream, HttpError> {
        match self.body.size_hint().lower() {
            lower if lower > self.left => Err(self.too_large()),
            _ => Ok(Box::pin(self)),
        }
    }

    fn too_large(&self) -> HttpError {
        let message =
            format!("the response from {} is larger than {} bytes", self.place, self.limits.max_answer_bytes);
        HttpError::new(HttpErrorKind::TooLarge, message)
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, HttpError>>> {
        loop {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(self.failed.explain(&error, &self.place))));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            };
            // Trailers are skipped.
            let Ok(bytes) = frame.into_data() else { continue };
            return Poll::Ready(Some(match self.left.checked_sub(bytes.len() as u64) {
                Some(left) => {
                    self.left = left;
                    Ok(bytes)
                }
                None => Err(self.too_large()),
            }));
        }
    }
}

impl Stream for Answer {
    type Item = Result<Bytes, HttpError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = if self.cancelled.as_mut().poll(cx).is_ready() {
            Poll::Ready(Some(Err(cancelled())))
        } else if self.over.as_mut().poll(cx).is_ready() {
            Poll::Ready(Some(Err(timed_out("the call", self.limits.whole))))
        } else {
            self.poll_bytes(cx)
        };
        self.ended = matches!(next, Poll::Ready(None | Some(Err(_))));
        next
    }
}
