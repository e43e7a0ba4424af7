//! A server under test and a client that sends raw bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use landreeve_core::{Error, ErrorKind, Random};
use landreeve_http::compress::Compressed;
use landreeve_http::listener::Drained;
use landreeve_http::{
    Face, FaceRequest, Limits, ListenOptions, Listener, LiveLimits, Proxies, Stop, TlsFiles,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Much longer than any test waits.
const TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Counting(AtomicU8);

impl Random for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0.fetch_add(1, Ordering::Relaxed));
    }
}

/// Renders `kind|code|message|uri`, with just the statuses that the tests check.
fn render(error: &Error, request: &FaceRequest) -> Response {
    let status = match error.kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::BAD_REQUEST,
    };
    let body = format!("{}|{}|{}|{}", error.kind.as_str(), error.code, error.message, request.uri);
    (status, body).into_response()
}

pub fn face() -> Face {
    Face::new("test", Arc::new(Counting::default()), render)
}

pub struct Server {
    pub address: SocketAddr,
    pub limits: LiveLimits,
    pub stop: Stop,
    pub tls: Option<Arc<landreeve_http::listener::Tls>>,
    task: JoinHandle<Drained>,
}

impl Server {
    pub async fn start(limits: Limits, router: impl Into<Compressed>) -> Server {
        Server::start_with(limits, router, None).await
    }

    pub async fn start_with(limits: Limits, router: impl Into<Compressed>, tls: Option<TlsFiles>) -> Server {
        Server::behind(limits, router, tls, Proxies::default()).await
    }

    pub async fn behind(
        limits: Limits,
        router: impl Into<Compressed>,
        tls: Option<TlsFiles>,
        proxies: Proxies,
    ) -> Server {
        let limits = LiveLimits::new(limits);
        let address = "127.0.0.1:0".parse().unwrap();
        let options = ListenOptions { address, tls, limits: limits.clone(), public_url: None, proxies };
        let listener = Listener::bind(options).await.unwrap();
        let (address, tls, stop) = (listener.local_addr(), listener.tls(), Stop::default());
        let task = tokio::spawn(listener.serve(router.into(), stop.clone()));
        Server { address, limits, stop, tls, task }
    }

    pub async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// Sends one request on a new connection; returns the whole response.
    pub async fn ask(&self, request: &str) -> String {
        let mut client = self.connect().await;
        client.send(request).await;
        client.rest().await
    }

    pub async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    }

    pub async fn ended(self) -> Drained {
        timeout(TIMEOUT, self.task).await.expect("must end").unwrap()
    }
}

pub struct Client(pub TcpStream);

impl Client {
    pub async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until the server closes the connection.
    pub async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        // A reset after the response counts as an end too.
        let _ = timeout(TIMEOUT, self.0.read_to_end(&mut bytes)).await.expect("must be closed");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads until the text arrives.
    pub async fn until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        while !String::from_utf8_lossy(&bytes).contains(end) {
            let read = timeout(TIMEOUT, self.0.read_buf(&mut bytes)).await.expect("must come").unwrap();
            assert!(read > 0, "closed before {end}: {}", String::from_utf8_lossy(&bytes));
        }
        String::from_utf8(bytes).unwrap()
    }

    pub async fn is_silent_for(&mut self, time: Duration) -> bool {
        timeout(time, self.0.peek(&mut [0])).await.is_err()
    }
}
