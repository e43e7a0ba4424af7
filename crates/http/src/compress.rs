//! Compresses responses with zstd or gzip, whichever the client accepts, streamed.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, VARY};
use http::{Extensions, HeaderMap, HeaderValue, Request, StatusCode, Version};
use tower::Service;
use tower_http::CompressionLevel;
use tower_http::compression::predicate::{And, Predicate, SizeAbove};
use tower_http::compression::{Compression, CompressionLayer};

use crate::face::FaceRouter;
use crate::mount::{Mounts, Routed};

/// Smaller responses are not worth the overhead.
const MIN_BYTES: u64 = 1_024;

/// Types that are already compressed, and event streams, whose events must not wait in a buffer.
const NOT_WORTH_IT: [&str; 11] = [
    "application/gzip",
    "application/octet-stream",
    "application/vnd.apache.arrow",
    "application/vnd.apache.parquet",
    "application/x-parquet",
    "application/zip",
    "application/zstd",
    "audio/",
    "font/woff",
    "text/event-stream",
    "video/",
];

type Worth = fn(StatusCode, Version, &HeaderMap, &Extensions) -> bool;

/// What a listener serves: routers whose responses are compressed. It uses the fastest levels: a result is sent once, to
/// one client, and CPU time costs more than the last 10 % of the size.
#[derive(Clone)]
pub struct Compressed {
    /// For clients that accept no encoding, as most programs do: they do not pay for the other.
    plain: Mounts,
    compressed: Compression<Mounts, Condition>,
}

type Condition = And<SizeAbove, Worth>;

fn condition() -> Condition {
    let worth: Worth = |_, _, headers, _| worth_it(headers);
    SizeAbove::new(MIN_BYTES).and(worth)
}

impl From<Mounts> for Compressed {
    fn from(plain: Mounts) -> Compressed {
        let layer = CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(condition());
        Compressed { compressed: tower::Layer::layer(&layer, plain.clone()), plain }
    }
}

impl From<Router> for Compressed {
    fn from(router: Router) -> Compressed {
        Mounts::from(router).into()
    }
}

impl From<FaceRouter> for Compressed {
    fn from(face: FaceRouter) -> Compressed {
        Router::from(face).into()
    }
}

impl Service<Request<Body>> for Compressed {
    type Response = Response;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.plain.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        if request.headers().contains_key(ACCEPT_ENCODING) {
            let answer = self.compressed.call(request);
            return Answer::Compressed(Box::pin(async move { Ok(answer.await?.map(Body::new)) }));
        }
        Answer::Plain(self.plain.call(request))
    }
}

/// The response to come.
#[expect(clippy::large_enum_variant, reason = "a response that is not compressed costs no allocation")]
pub enum Answer {
    Plain(Routed),
    Compressed(Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>),
}

impl Future for Answer {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Answer::Plain(answer) => Pin::new(answer).poll(context).map_ok(varying),
            Answer::Compressed(answer) => answer.as_mut().poll(context),
        }
    }
}

/// Tells caches that other clients would get it compressed, as the compression does.
fn varying(mut response: Response) -> Response {
    let headers = response.headers();
    let whole = !headers.contains_key(CONTENT_ENCODING) && !headers.contains_key(CONTENT_RANGE);
    let names = headers.get_all(VARY).iter().filter_map(|value| value.to_str().ok());
    let varies = names
        .flat_map(|names| names.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case("accept-encoding"));
    if whole && !varies && condition().should_compress(&response) {
        response.headers_mut().append(VARY, HeaderValue::from_static("accept-encoding"));
    }
    response
}

fn worth_it(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = crate::negotiate::essence(media_type);
    let image = media_type.starts_with("image/") && media_type != "image/svg+xml";
    !image && !NOT_WORTH_IT.iter().any(|prefix| media_type.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tower::ServiceExt as _;

    fn router() -> Compressed {
        let long = "abc ".repeat(1_000);
        let router = Router::new()
            .route(
                "/json",
                get({
                    let long = long.clone();
                    move || async move { ([(CONTENT_TYPE, "application/json; charset=utf-8")], long) }
                }),
            )
            .route(
                "/parquet",
                get(move || async move { ([(CONTENT_TYPE, "application/vnd.apache.parquet")], long) }),
            )
            .route("/short", get(|| async { ([(CONTENT_TYPE, "application/json")], "{}") }));
        router.into()
    }

    async fn encoding(path: &str, accept: &str) -> Option<String> {
        let router = router();
        let request = Request::get(path).header(ACCEPT_ENCODING, accept).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        response.headers().get(CONTENT_ENCODING).map(|value| value.to_str().unwrap().to_owned())
    }

    /// A client that names no encoding gets the same headers as one that accepts only the plain response.
    #[tokio::test]
    async fn plain_responses_vary_as_compressed_ones_do() {
        for path in ["/json", "/parquet", "/short", "/unknown"] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let plain = router().oneshot(request).await.unwrap();
            let request = Request::get(path).header(ACCEPT_ENCODING, "identity").body(Body::empty()).unwrap();
            let identity = router().oneshot(request).await.unwrap();
            assert_eq!(plain.headers(), identity.headers(), "{path}");
            assert_eq!(plain.status(), identity.status(), "{path}");
        }
    }

    #[tokio::test]
    async fn compresses_only_large_uncompressed_types() {
        assert_eq!(encoding("/json", "gzip, deflate").await.as_deref(), Some("gzip"));
        assert_eq!(encoding("/json", "gzip, deflate, br, zstd").await.as_deref(), Some("zstd"));
        assert_eq!(encoding("/json", "zstd;q=0, gzip;q=0.1").await.as_deref(), Some("gzip"));
        assert_eq!(encoding("/json", "identity").await, None);
        assert_eq!(encoding("/parquet", "gzip").await, None);
        assert_eq!(encoding("/short", "gzip").await, None);
    }
}
