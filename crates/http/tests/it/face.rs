//! The layer around a face.

use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use http::HeaderName;
use landreeve_core::{Error, Result};
use landreeve_http::csrf::Csrf;
use landreeve_http::extract::Path;
use landreeve_http::{Failure, Limits, Origin, Outcome};

use crate::support::{Server, face};

fn refuse() -> Result<&'static str> {
    Err(Error::rate_limited("slow down", Duration::from_millis(1_500)))
}

async fn refused() -> Outcome<&'static str> {
    Ok(refuse()?)
}

async fn panics() -> &'static str {
    panic!("the secret cause")
}

async fn hidden() -> Failure {
    Failure(Error::internal("the secret cause"))
}

async fn server() -> Server {
    let router = Router::new()
        .route("/refused", get(refused))
        .route("/panics", get(panics))
        .route("/hidden", get(hidden))
        .route("/origin", get(|origin: Origin| async move { format!("{origin:?}") }))
        .route("/thing/{id}", get(|Path(id): Path<u32>| async move { id.to_string() }))
        .route("/both", get(|| async { "" }).put(|| async { "" }))
        .route("/write", post(|| async { "written" }));
    let router = Csrf::new(HeaderName::from_static("x-requested-by")).exempt("/both").guard(router);
    Server::start(Limits::default(), Router::new().nest_service("/prefix", face().wrap(router))).await
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn errors_are_rendered_with_the_request() {
    let answer = server().await.get("/prefix/refused?x=1").await;
    assert!(answer.starts_with("HTTP/1.1 429"));
    assert_eq!(header(&answer, "retry-after"), Some("2"));
    assert_eq!(body(&answer), "rate_limited|rate_limited|slow down|/prefix/refused?x=1");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_rendered_by_the_face() {
    let server = server().await;
    let answer = server.get("/prefix/none").await;
    assert!(answer.starts_with("HTTP/1.1 404"));
    assert!(body(&answer).starts_with("not_found|route_not_found|"));
    let answer = server.get("/prefix/thing/abc").await;
    assert!(answer.starts_with("HTTP/1.1 404") && body(&answer).starts_with("not_found|not_found|"));
    let delete = "DELETE /prefix/both HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = server.ask(delete).await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    assert_eq!(header(&answer, "allow"), Some("GET,HEAD,PUT"));
    assert!(body(&answer).starts_with("not_found|method_not_allowed|"));
    assert_eq!(header(&answer, "content-length"), Some(body(&answer).len().to_string().as_str()));
}

#[tokio::test]
async fn panics_are_internal_errors_and_the_connection_survives() {
    let server = server().await;
    let mut client = server.connect().await;
    let request = |path| format!("GET /prefix/{path} HTTP/1.1\r\nHost: x\r\n\r\n");
    for path in ["panics", "hidden"] {
        client.send(&request(path)).await;
        let answer = client.until(&format!("|/prefix/{path}")).await;
        assert!(answer.starts_with("HTTP/1.1 500"));
        assert!(!answer.contains("secret cause"), "{answer}");
        let id = header(&answer, "x-request-id").unwrap();
        assert!(body(&answer).contains(id));
    }
    client.send(&request("thing/7")).await;
    client.until("\r\n\r\n7").await;
}

#[tokio::test]
async fn request_id_is_ours_and_address_is_the_peers() {
    let server = server().await;
    let theirs = "01234567-89ab-4def-8123-456789abcdef";
    let answer = server
        .ask(&format!(
            "GET /prefix/origin HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Id: {theirs}\r\n\r\n"
        ))
        .await;
    let id = header(&answer, "x-request-id").unwrap();
    assert!(id != theirs && id.as_bytes()[14] == b'4', "{id}");
    assert!(body(&answer).contains(id) && body(&answer).contains("127.0.0.1"));
    let next = server.get("/prefix/origin").await;
    assert_ne!(header(&next, "x-request-id").unwrap(), id);
}

#[tokio::test]
async fn missing_csrf_header_is_refused_by_the_face() {
    let server = server().await;
    let post = |more: &str| {
        format!(
            "POST /prefix/write HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n{more}\r\n"
        )
    };
    let answer = server.ask(&post("")).await;
    assert!(body(&answer).starts_with("forbidden|csrf|the header x-requested-by"), "{answer}");
    assert_eq!(body(&server.ask(&post("X-Requested-By:\r\n")).await), "written");
}
