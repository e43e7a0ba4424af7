//! One connection: handshake, requests, shutdown.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use http::Uri;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service as _;
use tracing::debug;

use super::stream::{Stream, Transport};
use crate::compress::Compressed;
use crate::limits::{Limits, LiveLimits};
use crate::proxies::Proxies;
use crate::site::PublicUrl;

/// What the listener knows about a request; an extension of every request that it passes on.
#[derive(Debug, Clone)]
pub struct Inbound {
    /// The client: the peer of the connection, or the one that a trusted proxy names.
    pub peer: SocketAddr,
    /// The client's address as text, for the log.
    pub address: Arc<str>,
    /// The URI as received, before any prefix was removed.
    pub uri: Uri,
    /// Whether it came over TLS, ours or that of the proxy in front of us.
    pub secure: bool,
    pub public_url: Option<PublicUrl>,
    pub limits: Arc<Limits>,
}

pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    pub(super) limits: Arc<Limits>,
    pub(super) live: LiveLimits,
    pub(super) public_url: Option<PublicUrl>,
    pub(super) proxies: Proxies,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) drain: CancellationToken,
}

/// Requests of one connection.
#[derive(Debug, Default)]
struct Activity {
    running: AtomicUsize,
    started: AtomicUsize,
}

struct Running(Arc<Activity>);

impl Activity {
    fn begin(self: &Arc<Activity>) -> Running {
        self.started.fetch_add(1, Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::AcqRel);
        Running(self.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a connection is woken for, besides its requests.
enum Signal {
    Tick,
    Drain,
}

impl Connection {
    pub(super) async fn run(self, socket: TcpStream, site: Compressed) {
        let drain = self.drain.clone();
        let transport = tokio::select! {
            transport = self.handshake(socket) => transport,
            // There is no request yet.
            () = drain.cancelled() => None,
        };
        if let Some(transport) = transport {
            self.requests(transport, site).await;
        }
    }

    async fn handshake(&self, socket: TcpStream) -> Option<Transport> {
        let Some(config) = &self.tls else { return Some(Transport::Plain(socket)) };
        let accepted =
            timeout(self.limits.handshake_time, TlsAcceptor::from(config.clone()).accept(socket)).await;
        match accepted {
            Ok(Ok(stream)) => return Some(Transport::Tls(Box::new(stream))),
            Ok(Err(error)) => debug!(peer = %self.peer, %error, "TLS handshake failed"),
            Err(_) => debug!(peer = %self.peer, "TLS handshake timed out"),
        }
        None
    }

    async fn requests(self, transport: Transport, site: Compressed) {
        let activity = Arc::new(Activity::default());
        let stream = Stream::new(transport, self.limits.header_time, self.limits.write_stall);
        let address: Arc<str> = self.peer.ip().to_string().into();
        let service = service_fn(|mut request: http::Request<Incoming>| {
            let running = activity.begin();
            let client = self.proxies.client(self.peer.ip(), request.headers());
            let same = client == self.peer.ip();
            let inbound = Inbound {
                peer: SocketAddr::new(client, self.peer.port()),
                address: if same { Arc::clone(&address) } else { client.to_string().into() },
                uri: request.uri().clone(),
                secure: self.tls.is_some() || self.public_url.as_ref().is_some_and(PublicUrl::is_secure),
                public_url: self.public_url.clone(),
                limits: self.live.get(),
            };
            request.extensions_mut().insert(inbound);
            let response = site.clone().call(request.map(Body::new));
            async move {
                let response = response.await;
                response.map(|response| held(response, running))
            }
        });
        let builder = builder(&self.limits);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut draining = false;
        let tick = self.limits.idle_time.min(self.limits.header_time / TICKS).max(SHORTEST);
        let mut checked = Instant::now();
        let mut quiet_since = None;
        let next_tick = || async move {
            tokio::time::sleep(tick).await;
            Signal::Tick
        };
        // Polled only when one of them was woken, unlike a token or a timer itself.
        let mut signals: FuturesUnordered<BoxFuture<'_, Signal>> = FuturesUnordered::new();
        signals.push(next_tick().boxed());
        signals.push(self.drain.cancelled().map(|()| Signal::Drain).boxed());
        loop {
            tokio::select! {
                // In this order, instead of drawing one each time.
                biased;
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        debug!(peer = %self.peer, %error, "connection failed");
                    }
                    return;
                }
                Some(signal) = signals.next() => {
                    if let Signal::Drain = signal {
                        draining = true;
                        connection.as_mut().graceful_shutdown();
                        continue;
                    }
                    signals.push(next_tick().boxed());
                    // The library looks at its deadlines now, too.
                    if checked.elapsed() < self.limits.idle_time {
                        continue;
                    }
                    checked = Instant::now();
                    if activity.running.load(Ordering::Acquire) > 0 {
                        quiet_since = None;
                        continue;
                    }
                    let started = activity.started.load(Ordering::Relaxed);
                    if draining && quiet_since == Some(started) {
                        // It was asked to close a whole idle time ago and sent no request since: it will not close
                        // itself.
                        return;
                    }
                    if quiet_since == Some(started) {
                        draining = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    quiet_since = Some(started);
                }
            }
        }
    }
}

/// A body that is already in memory, up to this size, is written without waiting for anything but the client.
const SMALL: u64 = 64 * 1_024;

/// Counts a request as running until the last byte of its response has been read.
fn held(response: Response, running: Running) -> Response {
    if response.body().size_hint().exact().is_some_and(|bytes| bytes <= SMALL) {
        return response;
    }
    response.map(|body| Body::new(HeldBody { body, _running: running }))
}

struct HeldBody {
    body: Body,
    _running: Running,
}

impl http_body::Body for HeldBody {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// How often a connection is woken within the time limit of a request's head.
const TICKS: u32 = 4;
/// Even if that limit is tiny.
const SHORTEST: Duration = Duration::from_millis(1);

/// Deadlines that are only looked at when the connection is polled, at the latest at its next tick. Every request has one
/// for its head, and a timer of the runtime for each would cost more than reading the head.
struct Deadlines;

struct Deadline(Instant);

impl Future for Deadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl hyper::rt::Sleep for Deadline {}

impl hyper::rt::Timer for Deadlines {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Deadline(Instant::now() + duration))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Deadline(Instant::from_std(deadline)))
    }
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(Deadlines)
        // A response that fits its buffer is copied into it, which costs less than a vectored write.
        .writev(false)
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.header_bytes.max(Limits::MIN_HEADER_BYTES));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.streams)
        .keep_alive_interval(limits.idle_time)
        .keep_alive_timeout(limits.header_time);
    builder
}
