//! Limits and shutdown.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use landreeve_http::extract::Body;
use landreeve_http::listener::Drained;
use landreeve_http::{BodyLimits, FaceRouter, Limits, ListenOptions, Listener, LiveLimits};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::support::{Server, face};

const SHORT: Duration = Duration::from_millis(100);
const GET: &str = "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";

fn hello() -> FaceRouter {
    let router = Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/echo", post(|Body(body): Body| async move { body }));
    face().wrap(router)
}

#[tokio::test]
async fn clients_that_send_no_head_are_disconnected() {
    let limits = Limits { header_time: SHORT, ..Limits::default() };
    let server = Server::start(limits, hello()).await;
    for beginning in ["", "G", "GET /hello HTTP/1.1\r\nHos", "PRI * HTTP/2", "GET / HTTP/1.0\r\n"] {
        let answer = server.ask(beginning).await;
        assert!(!answer.contains("200 OK"), "{beginning}: {answer}");
    }
    let idle = server.ask(GET).await;
    assert!(idle.contains("200 OK") && idle.ends_with("hello"), "{idle}");
}

#[tokio::test]
async fn request_heads_have_a_limit() {
    let server = Server::start(Limits::default(), hello()).await;
    let request = |size| {
        let header = "x".repeat(size);
        format!("GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\nA: {header}\r\n\r\n")
    };
    assert!(server.ask(&request(20_000)).await.starts_with("HTTP/1.1 200"));
    assert!(server.ask(&request(40_000)).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn connections_over_the_limit_wait() {
    let server = Server::start(Limits { connections: 1, ..Limits::default() }, hello()).await;
    let mut first = server.connect().await;
    first.send(GET).await;
    first.until("hello").await;
    let mut second = server.connect().await;
    second.send(GET).await;
    assert!(second.is_silent_for(SHORT).await);
    drop(first);
    second.until("hello").await;

    let mut third = server.connect().await;
    third.send(GET).await;
    assert!(third.is_silent_for(SHORT).await);
    server.limits.set(Limits { connections: 2, ..Limits::default() });
    third.until("hello").await;
}

#[tokio::test]
async fn oversized_bodies_are_refused_by_the_face() {
    let body = BodyLimits { bytes: 10, ..BodyLimits::default() };
    let server = Server::start(Limits { body, ..Limits::default() }, hello()).await;
    let head = "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let declared = |text: &str| format!("{head}Content-Length: {}\r\n\r\n{text}", text.len());
    assert!(server.ask(&declared("0123456789")).await.ends_with("\r\n\r\n0123456789"));
    for request in [
        declared("0123456789x"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n6\r\n678901\r\n0\r\n\r\n"),
        format!("{head}Content-Length: 99999999999999999999\r\nExpect: 100-continue\r\n\r\n"),
        format!("{head}Content-Length: 5000000000\r\nExpect: 100-continue\r\n\r\n"),
    ] {
        let answer = server.ask(&request).await;
        let expected = "too_large|too_large|the request body is larger than 10 bytes|/echo";
        let unreadable_length = request.contains("99999999999") && answer.starts_with("HTTP/1.1 400");
        assert!(answer.ends_with(expected) || unreadable_length, "{request}: {answer}");
        assert!(!answer.contains("100 Continue"));
    }
    let raised = BodyLimits { bytes: 11, ..BodyLimits::default() };
    server.limits.set(Limits { body: raised, ..Limits::default() });
    assert!(server.ask(&declared("0123456789x")).await.ends_with("0123456789x"));
}

#[tokio::test]
async fn stalled_bodies_are_client_errors() {
    let body = BodyLimits { stall: SHORT, ..BodyLimits::default() };
    let server = Server::start(Limits { body, ..Limits::default() }, hello()).await;
    let answer = server.ask("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab").await;
    assert!(answer.contains("invalid|body_timeout|"), "{answer}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(Limits::default(), hello()).await;
    let post = |body: &str, more: &str| {
        format!("POST /echo HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let requests = format!("{}{GET}{}", post("one", ""), post("three", "Connection: close\r\n"));
    let answer = server.ask(&requests).await;
    let bodies: Vec<_> = answer.split("HTTP/1.1 200 OK").skip(1).map(|one| one.rsplit('\n').next()).collect();
    assert_eq!(bodies, [Some("one"), Some("hello"), Some("three")]);
}

/// A router whose `/slow` signals when it starts, and ends on a signal.
fn slow() -> (FaceRouter, Arc<Notify>, Arc<Notify>) {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (started, waits) = (begun.clone(), go.clone());
    let handler = move || async move {
        started.notify_one();
        waits.notified().await;
        "done"
    };
    (face().wrap(Router::new().route("/slow", get(handler))), begun, go)
}

const SLOW: &str = "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn draining_finishes_running_requests() {
    let (router, begun, go) = slow();
    let server = Server::start(Limits::default(), router).await;
    let mut idle = server.connect().await;
    idle.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    idle.until("404").await;
    let mut client = server.connect().await;
    client.send(SLOW).await;
    begun.notified().await;
    server.stop.drain.cancel();
    idle.rest().await;
    assert!(TcpStream::connect(server.address).await.is_err());
    go.notify_one();
    assert!(client.rest().await.ends_with("done"));
    assert_eq!(server.ended().await, Drained { cut_off: 0 });
}

#[tokio::test]
async fn draining_ends_at_its_limit_or_at_the_second_signal() {
    for second_signal in [false, true] {
        let (router, begun, _go) = slow();
        let drain_time = if second_signal { Duration::from_secs(600) } else { SHORT };
        let server = Server::start(Limits { drain_time, ..Limits::default() }, router).await;
        let mut client = server.connect().await;
        client.send(SLOW).await;
        begun.notified().await;
        server.stop.drain.cancel();
        if second_signal {
            server.stop.abort.cancel();
        }
        assert_eq!(client.rest().await, "");
        assert_eq!(server.ended().await, Drained { cut_off: 1 });
    }
}

/// Ends the channel when the response is dropped.
struct Endless(Option<oneshot::Sender<()>>);

impl futures_util::Stream for Endless {
    type Item = std::io::Result<Bytes>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.as_ref().map(|_| Ok(Bytes::from_static(&[b'x'; 4_096]))))
    }
}

#[tokio::test]
async fn clients_that_read_nothing_are_disconnected() {
    let (dropped, gone) = oneshot::channel();
    let body = Arc::new(Mutex::new(Some(Endless(Some(dropped)))));
    let handler = move || async move {
        let body = body.lock().unwrap().take().unwrap();
        axum::body::Body::from_stream(body)
    };
    let router = Router::new().route("/endless", get(handler));
    let server = Server::start(Limits { write_stall: SHORT, ..Limits::default() }, router).await;
    let mut client = server.connect().await;
    client.send("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let _ = timeout(Duration::from_secs(20), gone).await.expect("the response must be dropped");
}

#[tokio::test]
async fn idle_http2_connections_are_closed() {
    let server = Server::start(Limits { idle_time: SHORT, ..Limits::default() }, hello()).await;
    let mut client = server.connect().await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    // An empty SETTINGS frame.
    client.0.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    assert!(!client.rest().await.is_empty());
}

#[tokio::test]
async fn errors_name_an_address_in_use() {
    let server = Server::start(Limits::default(), hello()).await;
    let address = server.address;
    let options = ListenOptions {
        address,
        tls: None,
        limits: LiveLimits::default(),
        public_url: None,
        proxies: Default::default(),
    };
    let error = Listener::bind(options).await.err().unwrap();
    assert!(error.message.contains(&format!("cannot listen on {address}")), "{error}");
}

#[tokio::test]
async fn a_failing_list_breaks_the_connection() {
    use landreeve_core::{Error, Part};
    use landreeve_http::{Document, Items, Outcome};

    async fn list(fails_after: i64) -> Outcome {
        let items = Items::pages(move |after: Option<i64>| {
            let at = after.map_or(0, |last| last + 1);
            std::future::ready(match at >= fails_after {
                true => Err(Error::unavailable("store", "is away")),
                false => Ok(Part { items: vec![at], next: Some(at).filter(|at| *at < 3) }),
            })
        });
        Document::default().array([items]).respond(http::StatusCode::OK, "application/json").await
    }
    let router = Router::new()
        .route("/whole", get(|| list(9)))
        .route("/late", get(|| list(2)))
        .route("/at_the_start", get(|| list(0)));
    let server = Server::start(Limits::default(), face().wrap(router)).await;
    let whole = server.get("/whole").await;
    assert!(whole.ends_with("0\r\n\r\n"), "{whole}");
    let late = server.get("/late").await;
    assert!(!late.ends_with("0\r\n\r\n"), "{late}");
    let refused = server.get("/at_the_start").await;
    assert!(
        refused.starts_with("HTTP/1.1 400") && refused.contains("unavailable|store|is away"),
        "{refused}"
    );
}

#[tokio::test]
async fn only_a_trusted_proxy_names_the_client() {
    use landreeve_http::{Origin, Proxies};

    let router = || {
        let address = |origin: Origin| async move { origin.address.unwrap().to_string() };
        face().wrap(Router::new().route("/", get(address)))
    };
    let ask =
        "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9, 192.0.2.1\r\nConnection: close\r\n\r\n";
    for (proxies, expected) in [
        (Proxies::default(), "127.0.0.1"),
        (Proxies::new(|address| address.to_string() == "10.0.0.1"), "127.0.0.1"),
        (Proxies::new(|address| address.is_loopback()), "192.0.2.1"),
    ] {
        let server = Server::behind(Limits::default(), router(), None, proxies).await;
        let answer = server.ask(ask).await;
        assert!(answer.ends_with(expected), "{answer}");
    }
}
