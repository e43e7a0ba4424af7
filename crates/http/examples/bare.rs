//! The baseline for reads: axum alone, answering every request with the bytes of a file.
//! `bare FILE CONTENT-TYPE` prints `listening on http://…`.
#![expect(clippy::print_stdout, reason = "a tool that reports to its terminal")]
#![expect(clippy::expect_used, reason = "a tool that can simply fail")]

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().expect("a file");
    let media_type = arguments.next().expect("a content type");
    let media_type = HeaderValue::from_str(&media_type).expect("a content type");
    let body = Bytes::from(std::fs::read(file).expect("a file"));
    let answer = move || {
        let (body, media_type) = (body.clone(), media_type.clone());
        async move { ([(CONTENT_TYPE, media_type)], body) }
    };
    let router = Router::new().route("/{*path}", get(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("listening on http://{}", listener.local_addr().expect("an address"));
    axum::serve(listener, router).await.expect("serves");
}
