//! Outgoing HTTP, against real servers on this machine.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test helpers fail like tests")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use landreeve_core::outbound::{
    HttpAnswer, HttpBody, HttpCall, HttpClient as _, HttpError, HttpErrorKind, HttpLimits,
};
use landreeve_core::source::CancellationToken;
use landreeve_estate::outbound::http::OutboundHttp;
use landreeve_estate::outbound::{Network, Outbound};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

fn client(deny: &[&str]) -> OutboundHttp {
    let deny = deny.iter().map(|network| Network::parse(network).unwrap()).collect();
    OutboundHttp::new(Outbound::new(deny, Vec::new(), PathBuf::from("."), Vec::new()))
}

fn call(url: impl Into<String>) -> HttpCall {
    let long = Duration::from_secs(60);
    HttpCall {
        method: "GET".to_owned(),
        url: url.into(),
        headers: Vec::new(),
        body: HttpBody::Empty,
        limits: HttpLimits { connect: long, whole: long, idle: long, max_answer_bytes: 1 << 20 },
        authorities: Vec::new(),
        allow_plain: true,
        cancel: CancellationToken::new(),
    }
}

async fn read(answer: HttpAnswer) -> Result<Vec<u8>, HttpError> {
    answer.body.map_ok(|piece| piece.to_vec()).try_concat().await
}

async fn kind(client: &OutboundHttp, call: HttpCall) -> HttpErrorKind {
    match client.send(call).await {
        Err(error) => error.kind,
        Ok(answer) => read(answer).await.expect_err("a limit").kind,
    }
}

/// Passes each connection to `serve`, and counts them.
async fn server<F, S>(serve: S) -> (SocketAddr, Arc<AtomicUsize>)
where
    S: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    serve_at("127.0.0.1:0", serve).await
}

async fn serve_at<F, S>(address: &str, serve: S) -> (SocketAddr, Arc<AtomicUsize>)
where
    S: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(serve(stream));
        }
    });
    (address, count)
}

/// Returns the request: method, path, a header, and the body.
async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let header =
        |name: &str| head.headers.get(name).map_or(String::new(), |value| value.to_str().unwrap().to_owned());
    let text = format!(
        "{} {} host={} x={} length={} body={}",
        head.method,
        head.uri,
        header("host"),
        header("x-mark"),
        header("content-length"),
        String::from_utf8_lossy(&body)
    );
    Ok(Response::builder().status(207).header("X-Answer", "yes").body(Full::from(text)).unwrap())
}

async fn serve_echo<I>(stream: I)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(echo));
    // The client closes the connection when it likes.
    let _ = service.await;
}

#[tokio::test]
async fn methods_headers_and_bodies_arrive() {
    let (address, connections) = server(serve_echo).await;
    let client = client(&[]);
    for (method, body, length, text) in [
        ("GET", HttpBody::Empty, "", ""),
        ("PROPFIND", HttpBody::Bytes(Bytes::from_static(b"abc")), "3", "abc"),
        ("PUT", HttpBody::Stream { length: Some(4), bytes: pieces(&["ab", "", "cd"]) }, "4", "abcd"),
        ("POST", HttpBody::Stream { length: None, bytes: pieces(&["ab", "cd"]) }, "", "abcd"),
    ] {
        let mut call = call(format!("http://{address}/a/b?c=d%20e"));
        call.method = method.to_owned();
        call.headers = vec![("X-Mark".to_owned(), b"m".to_vec())];
        call.body = body;
        let answer = client.send(call).await.unwrap();
        assert_eq!(answer.status, 207);
        assert!(answer.headers.contains(&("x-answer".to_owned(), b"yes".to_vec())));
        let text = format!("{method} /a/b?c=d%20e host={address} x=m length={length} body={text}");
        assert_eq!(String::from_utf8(read(answer).await.unwrap()).unwrap(), text);
    }
    assert_eq!(connections.load(Ordering::Relaxed), 4, "each call connects and is checked");
}

fn pieces(texts: &[&'static str]) -> landreeve_core::source::ByteStream {
    let pieces: Vec<_> = texts.iter().map(|text| Ok(Bytes::from_static(text.as_bytes()))).collect();
    Box::pin(futures_util::stream::iter(pieces))
}

#[tokio::test]
async fn denied_addresses_are_rejected_in_every_notation() {
    let (address, connections) = server(serve_echo).await;
    let port = address.port();
    let client = client(&["127.0.0.0/8", "::1"]);
    for host in [
        "127.0.0.1",
        "127.9.9.9",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "2130706433",
        "0x7f.1",
    ] {
        let refused = kind(&client, call(format!("http://{host}:{port}/"))).await;
        // Only some resolvers accept the last two as addresses.
        let expected = [HttpErrorKind::Denied, HttpErrorKind::Unresolved];
        let expected = if host.starts_with(['2', '0']) { &expected[..] } else { &expected[..1] };
        assert!(expected.contains(&refused), "{host}: {refused:?}");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 0);
    let unknown = kind(&client, call("http://does-not-exist.invalid/")).await;
    assert_eq!(unknown, HttpErrorKind::Unresolved);
}

#[tokio::test]
async fn invalid_calls_are_rejected() {
    let client = client(&[]);
    for url in [
        "",
        "/path",
        "ftp://127.0.0.1/",
        "http://user:secret@127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:/",
        "http:///x",
    ] {
        assert_eq!(kind(&client, call(url)).await, HttpErrorKind::Invalid, "{url}");
    }
    let plain = HttpCall { allow_plain: false, ..call("http://127.0.0.1:1/") };
    let error = client.send(plain).await.err().unwrap();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (HttpErrorKind::Invalid, "plain http is not allowed here; use an https:// URL")
    );
    for name in ["Host", "content-length", "Transfer-Encoding", "connection", "a b"] {
        let headers = vec![(name.to_owned(), b"1".to_vec())];
        assert_eq!(
            kind(&client, HttpCall { headers, ..call("http://127.0.0.1:1/") }).await,
            HttpErrorKind::Invalid
        );
    }
    let headers = vec![("x".to_owned(), b"a\r\nb: c".to_vec())];
    assert_eq!(
        kind(&client, HttpCall { headers, ..call("http://127.0.0.1:1/") }).await,
        HttpErrorKind::Invalid
    );
    for method in ["CONNECT", "G T", ""] {
        let method = method.to_owned();
        assert_eq!(
            kind(&client, HttpCall { method, ..call("http://127.0.0.1:1/") }).await,
            HttpErrorKind::Invalid
        );
    }
    // Nothing is listening there.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(kind(&client, call(format!("http://{closed}/"))).await, HttpErrorKind::Unreachable);
}

/// Reads the request headers and answers with these bytes, then keeps the connection open.
async fn raw(mut stream: TcpStream, answer: Vec<u8>) -> TcpStream {
    let mut head = Vec::new();
    let mut byte = [0_u8; 1];
    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).await.is_ok() {
        head.push(byte[0]);
    }
    let _ = stream.write_all(&answer).await;
    stream
}

#[tokio::test]
async fn a_redirect_is_returned_as_is() {
    let (target, followed) = server(serve_echo).await;
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: http://{target}/\r\ncontent-length: 0\r\n\r\n");
    let (address, _) = server(move |stream| {
        let answer = answer.clone().into_bytes();
        async move { drop(raw(stream, answer).await) }
    })
    .await;
    let answer = client(&[]).send(call(format!("http://{address}/"))).await.unwrap();
    assert_eq!(answer.status, 302);
    assert!(answer.headers.contains(&("location".to_owned(), format!("http://{target}/").into_bytes())));
    assert_eq!(followed.load(Ordering::Relaxed), 0);
}

/// Waits until the other side has closed.
async fn until_closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn every_time_limit_is_enforced() {
    let short = Duration::from_millis(200);
    let client = client(&[]);
    // Headers that never arrive, headers that stop half-way, and a body that stops.
    for answer in ["", "HTTP/1.1 200 OK\r\nx", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"] {
        let (address, _) =
            server(move |stream| async move { until_closed(raw(stream, answer.into()).await).await }).await;
        let idle = HttpLimits { idle: short, ..call("").limits };
        let found = kind(&client, HttpCall { limits: idle, ..call(format!("http://{address}/")) }).await;
        assert_eq!(found, HttpErrorKind::TimedOut, "idle after {answer:?}");
        let whole = HttpLimits { whole: short, ..call("").limits };
        let found = kind(&client, HttpCall { limits: whole, ..call(format!("http://{address}/")) }).await;
        assert_eq!(found, HttpErrorKind::TimedOut, "the whole after {answer:?}");
    }
    // Bytes that keep arriving do not extend the limit: endless headers.
    let (address, _) = server(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while stream.write_all(b"y").await.is_ok() {
            tick.tick().await;
        }
    })
    .await;
    let limits = HttpLimits { whole: short * 2, idle: short, ..call("").limits };
    let found = kind(&client, HttpCall { limits, ..call(format!("http://{address}/")) }).await;
    assert_eq!(found, HttpErrorKind::TimedOut);
    // A TLS handshake without a response.
    let (address, _) = server(until_closed).await;
    let limits = HttpLimits { connect: short, ..call("").limits };
    let found = kind(&client, HttpCall { limits, ..call(format!("https://{address}/")) }).await;
    assert_eq!(found, HttpErrorKind::TimedOut);
}

#[tokio::test]
async fn a_cancelled_call_ends_before_and_after_the_headers() {
    let client = client(&[]);
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"] {
        let (address, _) =
            server(move |stream| async move { until_closed(raw(stream, answer.into()).await).await }).await;
        let asked = call(format!("http://{address}/"));
        let cancel = asked.cancel.clone();
        let (found, ()) = tokio::join!(kind(&client, asked), async {
            tokio::task::yield_now().await;
            cancel.cancel();
        });
        assert_eq!(found, HttpErrorKind::Cancelled, "{answer:?}");
    }
}

#[tokio::test]
async fn the_size_of_a_response_is_limited() {
    let client = client(&[]);
    let endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let (closed, told) = tokio::sync::oneshot::channel();
    let closed = Arc::new(std::sync::Mutex::new(Some(closed)));
    let (address, _) = server(move |stream| {
        let (endless, closed) = (endless.clone(), Arc::clone(&closed));
        async move {
            let mut stream = raw(stream, endless).await;
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(4_096));
            while stream.write_all(chunk.as_bytes()).await.is_ok() {}
            let closed = closed.lock().unwrap().take();
            closed.unwrap().send(()).unwrap();
        }
    })
    .await;
    let mut answer = client.send(call(format!("http://{address}/"))).await.unwrap();
    let mut taken = 0;
    let error = loop {
        match answer.body.next().await.unwrap() {
            Ok(piece) => taken += piece.len(),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, HttpErrorKind::TooLarge);
    assert!(taken <= 1 << 20, "{taken}");
    drop(answer);
    told.await.expect("the connection ends with the response");
    for (announced, found) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 1048577\r\n\r\n".to_owned(), HttpErrorKind::TooLarge),
        (format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)), HttpErrorKind::TooLarge),
        (format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(1_000)), HttpErrorKind::TooLarge),
        ("SSH-2.0-OpenSSH\r\n".to_owned(), HttpErrorKind::Protocol),
    ] {
        let (address, _) = server(move |stream| {
            let announced = announced.clone().into_bytes();
            async move { until_closed(raw(stream, announced).await).await }
        })
        .await;
        assert_eq!(kind(&client, call(format!("http://{address}/"))).await, found);
    }
}

const PIECE: usize = 64 * 1_024;
const PIECES: usize = 3_200;

/// Reads a body without storing it and returns its length.
async fn swallow(
    request: Request<Incoming>,
    ahead: Arc<AtomicI64>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let mut body = request.into_body();
    let mut taken = 0;
    while let Some(frame) = body.frame().await {
        let piece = frame?.into_data().unwrap_or_default();
        taken += piece.len();
        ahead.fetch_sub(i64::try_from(piece.len()).unwrap(), Ordering::Relaxed);
    }
    Ok(Response::new(Full::from(taken.to_string())))
}

#[tokio::test]
async fn a_large_upload_uses_little_memory() {
    let ahead = Arc::new(AtomicI64::new(0));
    let counted = Arc::clone(&ahead);
    let (address, _) = server(move |stream| {
        let ahead = Arc::clone(&counted);
        let service = service_fn(move |request| swallow(request, Arc::clone(&ahead)));
        async move {
            let served = hyper::server::conn::http1::Builder::new();
            let _ = served.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
    let furthest = Arc::new(AtomicI64::new(0));
    let seen = Arc::clone(&furthest);
    let bytes = futures_util::stream::iter(0..PIECES).map(move |_| {
        let piece = i64::try_from(PIECE).unwrap();
        let now = ahead.fetch_add(piece, Ordering::Relaxed) + piece;
        seen.fetch_max(now, Ordering::Relaxed);
        Ok(Bytes::from(vec![0_u8; PIECE]))
    });
    let whole = PIECE * PIECES;
    let mut call = call(format!("http://{address}/"));
    call.method = "PUT".to_owned();
    call.body = HttpBody::Stream { length: Some(whole as u64), bytes: Box::pin(bytes) };
    let answer = client(&[]).send(call).await.unwrap();
    assert_eq!(read(answer).await.unwrap(), whole.to_string().into_bytes());
    // Data in transit is in the sockets' buffers.
    let furthest = furthest.load(Ordering::Relaxed);
    assert!(furthest < 32 * 1_024 * 1_024, "{furthest} bytes ahead of the other side");
}

#[tokio::test]
async fn a_failed_upload_reports_the_reason() {
    let (address, _) = server(serve_echo).await;
    let client = client(&[]);
    let broken =
        || futures_util::stream::iter([Ok(Bytes::from_static(b"ab")), Err(std::io::Error::other("no disk"))]);
    let cases: [(Option<u64>, landreeve_core::source::ByteStream, &str); 4] = [
        (None, Box::pin(broken()), "no disk"),
        (Some(9), Box::pin(broken()), "no disk"),
        (Some(9), pieces(&["abc"]), "6 bytes early"),
        (Some(2), pieces(&["ab", "c"]), "longer than"),
    ];
    for (length, bytes, why) in cases {
        let body = HttpBody::Stream { length, bytes };
        let sent = client.send(HttpCall { body, ..call(format!("http://{address}/")) }).await;
        let error = match sent {
            Err(error) => error,
            Ok(answer) => read(answer).await.expect_err(why),
        };
        assert_eq!(error.kind, HttpErrorKind::Body, "{why}: {error}");
        assert!(error.message.contains(why), "{error}");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test runner says by environment where its certificates are"
)]
fn authority_file() -> PathBuf {
    let path = std::env::var("LANDREEVE_TEST_TLS_CA");
    path.expect("LANDREEVE_TEST_TLS_CA is not set: run `cargo xtask test`").into()
}

fn acceptor(folder: &Path) -> TlsAcceptor {
    let certificates = CertificateDer::pem_file_iter(folder.join("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("server-key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates.collect::<Result<_, _>>().unwrap(), key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn tls_trusts_the_cas_of_the_call() {
    let file = authority_file();
    let acceptor = acceptor(file.parent().unwrap());
    let elsewhere = acceptor.clone();
    let (address, _) = server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve_echo(stream).await;
            }
        }
    })
    .await;
    let client = client(&[]);
    let authority = std::fs::read_to_string(&file).unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("https://{host}:{}/", address.port());
        let trusting = HttpCall { authorities: vec![authority.clone()], allow_plain: false, ..call(&url) };
        let answer = client.send(trusting).await.unwrap();
        assert!(String::from_utf8(read(answer).await.unwrap()).unwrap().starts_with("GET / host="));
        assert_eq!(kind(&client, call(&url)).await, HttpErrorKind::Tls, "an untrusted CA");
    }
    // The certificate is not for this address.
    let (other, _) = serve_at("127.0.0.2:0", move |stream| {
        let accepting = elsewhere.accept(stream);
        async move { drop(accepting.await) }
    })
    .await;
    let url = format!("https://{other}/");
    let found = kind(&client, HttpCall { authorities: vec![authority], ..call(&url) }).await;
    assert_eq!(found, HttpErrorKind::Tls);
    for pem in ["", "nothing", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
        let authorities = vec![pem.to_owned()];
        assert_eq!(
            kind(&client, HttpCall { authorities, ..call(&url) }).await,
            HttpErrorKind::Invalid,
            "{pem:?}"
        );
    }
}
