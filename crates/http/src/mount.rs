//! Routers under the first segment of the path. The library's nesting looks the path up twice and keeps what it cut off,
//! for every request; a prefix needs neither.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use http::uri::PathAndQuery;
use http::{Request, Uri};
use tower::Service;

use crate::face::{Answer, FaceRouter};

/// Passes a request for `/NAME` or anything below it to the face of that name, which sees the rest of the path, and
/// every other request to the main router.
#[derive(Clone)]
pub struct Mounts {
    named: Arc<[(&'static str, FaceRouter)]>,
    main: Router,
}

impl From<Router> for Mounts {
    fn from(main: Router) -> Mounts {
        Mounts::new(main, [])
    }
}

impl Mounts {
    pub fn new(main: Router, named: impl IntoIterator<Item = (&'static str, FaceRouter)>) -> Mounts {
        Mounts { named: named.into_iter().collect(), main }
    }

    fn route(&self, mut request: Request<Body>) -> Routed {
        let (first, _) = split(request.uri().path());
        let named = self.named.iter().find(|(name, _)| *name == first);
        match named.and_then(|(_, face)| Some((face, below(request.uri())?))) {
            Some((face, uri)) => {
                *request.uri_mut() = uri;
                Routed::Face(face.answer(request))
            }
            None => Routed::Main(self.main.clone().call(request)),
        }
    }
}

impl Service<Request<Body>> for Mounts {
    type Response = Response;
    type Error = Infallible;
    type Future = Routed;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.route(request)
    }
}

/// The response to come.
#[expect(clippy::large_enum_variant, reason = "an allocation per request costs more than the space")]
pub enum Routed {
    Face(Answer),
    Main(RouteFuture<Infallible>),
}

impl Future for Routed {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Routed::Face(answer) => answer.as_mut().poll(context),
            Routed::Main(answer) => Pin::new(answer).poll(context),
        }
    }
}

/// The first segment of a path, and the rest with its slash.
fn split(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split_at(path.find('/').unwrap_or(path.len()))
}

/// The URI without the first segment of its path, nor a second slash after it: base URLs often end with one.
fn below(uri: &Uri) -> Option<Uri> {
    let (first, rest) = split(uri.path());
    let doubled = usize::from(rest.starts_with("//"));
    let kept = &uri.path_and_query()?.as_str()[1 + first.len() + doubled..];
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(if rest.is_empty() {
        PathAndQuery::try_from(format!("/{kept}")).ok()?
    } else {
        PathAndQuery::try_from(kept).ok()?
    });
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;
    use axum::routing::any;
    use http::StatusCode;
    use http_body_util::BodyExt as _;
    use landreeve_core::Random;

    use super::*;
    use crate::face::Face;

    struct Zeros;

    impl Random for Zeros {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    fn echo(name: &'static str) -> FaceRouter {
        let echo = any(move |uri: Uri| async move { format!("{name} {uri}") });
        let routes = Router::new().route("/", echo.clone()).route("/{*rest}", echo);
        Face::new("echo", Arc::new(Zeros), |_, _| StatusCode::NOT_FOUND.into_response()).wrap(routes)
    }

    async fn text(response: impl Future<Output = Result<Response, Infallible>>) -> String {
        let Ok(response) = response.await;
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    /// As the library's nesting does it.
    #[tokio::test]
    async fn a_router_sees_what_is_below_its_prefix() {
        let ours = Mounts::new(echo("main").into(), [("a", echo("a")), ("ab", echo("ab"))]);
        let mut theirs = Router::new()
            .nest_service("/a", echo("a"))
            .nest_service("/ab", echo("ab"))
            .fallback_service(echo("main"));
        for uri in [
            "/",
            "/a",
            "/a/",
            "/a?x=/b",
            "/a/?x",
            "/a/b",
            "/a/b?c=d/e",
            "/a//b",
            "/a/a/a",
            "/ab",
            "/ab/c",
            "/abc",
            "/A/b",
            "/b/a",
            "/%61/b",
            "//a",
            "http://h:1/a/b?c",
            "http://h:1/a",
            "/a/%2F%20?q=%2F",
        ] {
            let request = || Request::get(uri).body(Body::empty()).unwrap();
            let (ours, theirs) = (ours.route(request()), theirs.call(request()));
            assert_eq!(text(ours).await, text(theirs).await, "{uri}");
        }
    }
}
