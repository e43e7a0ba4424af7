//! Compresses responses with zstd or gzip, whichever the client accepts, streamed.

use http::header::CONTENT_TYPE;
use http::{Extensions, HeaderMap, StatusCode, Version};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{And, Predicate as _, SizeAbove};

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

/// Add it outside of [`crate::Face::wrap`]. It uses the fastest levels: a result is sent once, to one client, and CPU
/// time costs more than the last 10 % of the size.
pub fn layer() -> CompressionLayer<And<SizeAbove, Worth>> {
    let worth: Worth = |_, _, headers, _| worth_it(headers);
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(MIN_BYTES).and(worth))
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
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use http::Request;
    use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
    use tower::ServiceExt as _;

    async fn encoding(path: &str, accept: &str) -> Option<String> {
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
            .route("/short", get(|| async { ([(CONTENT_TYPE, "application/json")], "{}") }))
            .layer(layer());
        let request = Request::get(path).header(ACCEPT_ENCODING, accept).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        response.headers().get(CONTENT_ENCODING).map(|value| value.to_str().unwrap().to_owned())
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
