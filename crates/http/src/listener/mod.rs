//! Accepts connections and serves routers on them, within limits, until it is stopped.
//!
//! Routes, and anything that looks at a request's path or body, do not belong here.

mod connection;
mod stream;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use landreeve_core::{Error, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

pub use self::connection::Inbound;
pub use self::tls::{Tls, TlsFiles};
use crate::compress::Compressed;
use crate::limits::{Limits, LiveLimits};
use crate::proxies::Proxies;
use crate::site::PublicUrl;

#[derive(Debug, Clone)]
pub struct ListenOptions {
    pub address: SocketAddr,
    /// `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
    pub limits: LiveLimits,
    /// The URL at which clients reach it through a proxy.
    pub public_url: Option<PublicUrl>,
    /// The proxies in front of it.
    pub proxies: Proxies,
}

/// Tells a listener to stop. `drain` stops accepting connections and lets requests finish; `abort` cancels those too.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    pub drain: CancellationToken,
    pub abort: CancellationToken,
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were aborted because their requests did not finish in time.
    pub cut_off: usize,
}

/// A bound socket. From now on the system queues connections; they are served once `serve` runs.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    limits: LiveLimits,
    public_url: Option<PublicUrl>,
    proxies: Proxies,
}

impl Listener {
    pub async fn bind(options: ListenOptions) -> Result<Listener> {
        let tls = options.tls.map(Tls::load).transpose()?.map(Arc::new);
        let failed = |error: io::Error| {
            Error::unavailable("listen", format!("cannot listen on {}: {error}", options.address))
        };
        let socket = TcpListener::bind(options.address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let ListenOptions { limits, public_url, proxies, .. } = options;
        Ok(Listener { socket, address, tls, limits, public_url, proxies })
    }

    /// The actual address, with the port that the system chose if it was 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// For reloading the certificate while `serve` runs.
    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    /// Runs until `stop` is signalled and the last connection has ended.
    pub async fn serve(self, site: Compressed, stop: Stop) -> Drained {
        let connections = TaskTracker::new();
        let slots = Arc::new(Slots::default());
        // Cancelled by the second signal or at the end of the drain, whichever comes first, once the connections that are
        // still open have been counted; or if this future is dropped.
        let cut = CancellationToken::new();
        let _guard = cut.clone().drop_guard();
        let served = async {
            loop {
                let limits = slots.free(&self.limits).await;
                let Some((socket, peer)) = accept(&self.socket).await else { continue };
                let connection = connection::Connection {
                    peer,
                    limits,
                    live: self.limits.clone(),
                    public_url: self.public_url.clone(),
                    proxies: self.proxies.clone(),
                    tls: self.tls.as_ref().map(|tls| tls.current()),
                    drain: stop.drain.clone(),
                };
                let slot = slots.take();
                let site = site.clone();
                // Polled only when it was woken, unlike the token itself, which all connections share.
                let mut cut = FuturesUnordered::from_iter([cut.clone().cancelled_owned()]);
                connections.spawn(async move {
                    let _slot = slot;
                    tokio::select! {
                        biased;
                        () = connection.run(socket, site) => {}
                        Some(()) = cut.next() => {}
                    }
                });
            }
        };
        tokio::select! {
            () = stop.drain.cancelled() => {}
            () = stop.abort.cancelled() => {}
            () = served => {}
        }
        // Closing the socket now refuses new connections immediately, so that a load balancer moves on.
        drop(self.socket);
        connections.close();
        let cut_off = finish(&connections, &slots, &stop, &cut, &self.limits.get()).await;
        info!(address = %self.address, cut_off, "listener stopped");
        Drained { cut_off }
    }
}

async fn finish(
    connections: &TaskTracker,
    slots: &Slots,
    stop: &Stop,
    cut: &CancellationToken,
    limits: &Limits,
) -> usize {
    tokio::select! {
        () = connections.wait() => return 0,
        () = tokio::time::sleep(limits.drain_time) => {}
        () = stop.abort.cancelled() => {}
    }
    let cut_off = slots.open.load(Ordering::Acquire);
    if cut_off > 0 {
        warn!(connections = cut_off, "aborted connections whose requests did not finish in time");
    }
    cut.cancel();
    connections.wait().await;
    cut_off
}

/// Counts open connections against the current limit.
#[derive(Debug, Default)]
struct Slots {
    open: AtomicUsize,
    freed: Notify,
}

struct Slot(Arc<Slots>);

impl Slots {
    /// Waits until a slot is free. Only the accept loop calls this, and it takes the slot before it calls again.
    async fn free(&self, live: &LiveLimits) -> Arc<Limits> {
        let mut changes = live.watch();
        loop {
            let limits = changes.borrow_and_update().clone();
            if self.open.load(Ordering::Acquire) < limits.connections.max(1) {
                return limits;
            }
            metrics::counter!("landreeve_http_connections_full_total").increment(1);
            tokio::select! {
                () = self.freed.notified() => {}
                _ = changes.changed() => {}
            }
        }
    }

    fn take(self: &Arc<Slots>) -> Slot {
        self.open.fetch_add(1, Ordering::AcqRel);
        metrics::gauge!("landreeve_http_connections").increment(1.0);
        Slot(self.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        metrics::gauge!("landreeve_http_connections").decrement(1.0);
        self.0.freed.notify_one();
    }
}

/// Accepts one connection; `None` if that failed for now.
async fn accept(socket: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    match socket.accept().await {
        Ok((socket, peer)) => {
            // A failure costs latency only.
            let _ = socket.set_nodelay(true);
            Some((socket, peer))
        }
        Err(error) if is_of_connection(&error) => None,
        Err(error) => {
            // Out of file descriptors or memory: this will last a while, and a busy loop would make it worse.
            warn!(%error, "could not accept a connection");
            tokio::time::sleep(Duration::from_millis(250)).await;
            None
        }
    }
}

fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
