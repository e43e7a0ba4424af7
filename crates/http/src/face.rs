//! The layer around every face's routes: request id, access log, metrics, panic guard, and the only place where an
//! error becomes a response.

use std::any::Any;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::response::Response;
use futures_util::FutureExt as _;
use http::header::{ACCEPT, ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use landreeve_core::{Error, ErrorKind, Random, random};
use metrics::{Counter, Histogram};
use tokio::time::Instant;
use tower::Service;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::current::CurrentRequest;
use crate::failure::{Failed, Failure, code, no_method, no_route};
use crate::listener::Inbound;

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where a request comes from. An extension of every request, and an extractor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// `None` only without a listener, as in unit tests.
    pub address: Option<IpAddr>,
    pub request_id: Uuid,
    /// Whether the request came over TLS, so that cookies can be marked `Secure`.
    pub secure: bool,
}

/// What a renderer gets to see of the failed request.
#[derive(Debug, Clone)]
pub struct FaceRequest {
    pub method: Method,
    /// The URI as received, including the prefix.
    pub uri: Uri,
    pub accept: Option<HeaderValue>,
    pub origin: Origin,
}

/// Turns an error into the dialect's response. The cause of an internal error has already been removed.
pub type Render = fn(&Error, &FaceRequest) -> Response;

/// What one dialect has around its routes. Call `wrap` on its finished router and mount the result.
#[derive(Clone)]
pub struct Face {
    /// Name in logs and metrics.
    name: &'static str,
    render: Render,
    random: Arc<dyn Random>,
    nouns: &'static [(&'static str, &'static str)],
    meters: Arc<Meters>,
}

impl Face {
    pub fn new(name: &'static str, random: Arc<dyn Random>, render: Render) -> Face {
        let meters = Arc::new(Meters {
            face: name,
            requests: RwLock::default(),
            reads: OnceLock::new(),
            seconds: OnceLock::new(),
        });
        Face { name, render, random, nouns: &[], meters }
    }

    /// Sets the dialect's words in *not found* errors, where they differ from ours: pairs of our noun and the
    /// dialect's.
    #[must_use]
    pub fn calling(self, nouns: &'static [(&'static str, &'static str)]) -> Face {
        Face { nouns, ..self }
    }

    /// Adds the fallbacks for unknown paths and methods. Layers that the router already has, such as
    /// [`crate::csrf::Csrf`], run inside and can fail with a [`Failure`].
    pub fn wrap(self, router: Router) -> FaceRouter {
        let routes = router.fallback(no_route).method_not_allowed_fallback(no_method);
        FaceRouter { face: Arc::new(self), routes }
    }

    fn render(&self, failed: &Error, facts: &FaceRequest) -> Response {
        match failed.kind {
            ErrorKind::Internal => error!(code = failed.code, cause = %failed.message, "internal error"),
            ErrorKind::Unavailable => warn!(code = failed.code, cause = %failed.message, "unavailable"),
            _ => {}
        }
        let mut response = if failed.kind == ErrorKind::Internal {
            let message =
                format!("internal error; see request {} in the server's log", facts.origin.request_id);
            (self.render)(&Error::new(ErrorKind::Internal, failed.code, message), facts)
        } else {
            (self.render)(&failed.clone().called(self.nouns), facts)
        };
        if failed.code == code::METHOD_NOT_ALLOWED {
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        }
        if let Some(wait) = failed.retry_after {
            // Whole seconds, and never zero, which would mean an immediate retry.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().entry(RETRY_AFTER).or_insert_with(|| HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Origin {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Origin, Failure> {
        let found = parts.extensions.get::<Origin>().copied();
        found.ok_or_else(|| Failure(Error::internal("the router is not wrapped by a face")))
    }
}

/// The routes of a dialect, wrapped. It is outside of its router: as a layer of it, it would be copied and allocated once
/// more for every request.
#[derive(Clone)]
pub struct FaceRouter {
    face: Arc<Face>,
    routes: Router,
}

/// The response to come.
pub type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

impl FaceRouter {
    pub(crate) fn answer(&self, mut request: Request<Body>) -> Answer {
        let face = Arc::clone(&self.face);
        let facts = face.facts(&request);
        let client_id = client_id(&request);
        request.extensions_mut().insert(facts.origin);
        let address = request.extensions().get::<Inbound>().map(|inbound| Arc::clone(&inbound.address));
        let access = Access { face, facts, address, client_id, started: Instant::now(), done: false };
        let current = CurrentRequest { id: access.facts.origin.request_id, face: access.face.name };
        let mut routes = self.routes.clone();
        // `call` itself can panic too, so it is guarded.
        let answer = current.enter(|| std::panic::catch_unwind(AssertUnwindSafe(|| routes.call(request))));
        Box::pin(current.serve(async move { Ok(finish(access, answer).await) }))
    }
}

impl Service<Request<Body>> for FaceRouter {
    type Response = Response;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        self.answer(request)
    }
}

impl From<FaceRouter> for Router {
    fn from(face: FaceRouter) -> Router {
        Router::new().fallback_service(face)
    }
}

type Caught<T> = Result<T, Box<dyn Any + Send>>;

async fn finish<F>(mut access: Access, answer: Caught<F>) -> Response
where
    F: Future<Output = Result<Response, Infallible>>,
{
    let result = match answer {
        Ok(future) => AssertUnwindSafe(future).catch_unwind().await,
        Err(panic) => Err(panic),
    };
    let mut failed_code = None;
    let mut response = match result {
        Ok(Ok(mut response)) => match response.extensions_mut().remove::<Failed>() {
            None => response,
            Some(Failed(error)) => {
                failed_code = Some(error.code);
                let mut rendered = access.face.render(&error, &access.facts);
                keep_headers(&response, &mut rendered);
                rendered
            }
        },
        Ok(Err(never)) => match never {},
        Err(panic) => {
            let error = Error::internal(format!("a handler panicked: {}", panic_text(panic.as_ref())));
            failed_code = Some(error.code);
            access.face.render(&error, &access.facts)
        }
    };
    let mut id = Uuid::encode_buffer();
    if let Ok(id) = HeaderValue::from_str(access.facts.origin.request_id.hyphenated().encode_lower(&mut id)) {
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
    access.finish(response.status(), failed_code);
    response
}

/// Keeps headers that layers added to the placeholder (`Allow`, a cookie to clear).
fn keep_headers(placeholder: &Response, rendered: &mut Response) {
    for (name, value) in placeholder.headers() {
        let of_the_body = name == CONTENT_LENGTH || name == CONTENT_TYPE;
        if !of_the_body && (name == ALLOW || !rendered.headers().contains_key(name)) {
            rendered.headers_mut().append(name, value.clone());
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// The client's own request id. It is only logged, so that a request can be found by it.
fn client_id(request: &Request<Body>) -> Option<HeaderValue> {
    let id = request.headers().get(X_REQUEST_ID)?;
    let text = id.to_str().ok()?;
    let valid = (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    valid.then(|| id.clone())
}

impl Face {
    fn facts(&self, request: &Request<Body>) -> FaceRequest {
        let inbound = request.extensions().get::<Inbound>();
        FaceRequest {
            method: request.method().clone(),
            uri: inbound.map_or_else(|| request.uri().clone(), |inbound| inbound.uri.clone()),
            accept: request.headers().get(ACCEPT).cloned(),
            origin: Origin {
                address: inbound.map(|inbound| inbound.peer.ip()),
                request_id: random::uuid(self.random.as_ref()),
                secure: inbound.is_some_and(|inbound| inbound.secure),
            },
        }
    }
}

/// Writes the access log line and the metrics, even if the client disconnects before the response.
struct Access {
    face: Arc<Face>,
    facts: FaceRequest,
    address: Option<Arc<str>>,
    client_id: Option<HeaderValue>,
    started: Instant,
    done: bool,
}

impl Access {
    fn finish(&mut self, status: StatusCode, code: Option<&'static str>) {
        self.done = true;
        self.face.meters.count(&self.facts.method, Some(status), self.started.elapsed());
        info!(
            target: "access",
            method = self.facts.method.as_str(),
            // The query is left out, because it may contain confidential values.
            path = self.facts.uri.path(),
            status = status.as_u16(),
            ms = self.milliseconds(),
            address = self.address.as_deref(),
            client_id = self.client_id(),
            error = code,
            "answered"
        );
    }

    /// With three decimals.
    fn milliseconds(&self) -> f64 {
        self.started.elapsed().as_micros() as f64 / 1_000.0
    }

    fn client_id(&self) -> Option<&str> {
        self.client_id.as_ref().and_then(|id| id.to_str().ok())
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.face.meters.count(&self.facts.method, None, self.started.elapsed());
        info!(
            target: "access",
            method = self.facts.method.as_str(),
            path = self.facts.uri.path(),
            ms = self.milliseconds(),
            client_id = self.client_id(),
            "client disconnected before the response"
        );
    }
}

type Counted = (&'static str, Option<StatusCode>);

const READ: Counted = ("GET", Some(StatusCode::OK));

/// The face's metrics. They are kept, because looking one up by its labels takes longer than counting.
struct Meters {
    face: &'static str,
    requests: RwLock<HashMap<Counted, Counter>>,
    /// That of `READ`, which most requests are.
    reads: OnceLock<Counter>,
    seconds: OnceLock<Histogram>,
}

impl Meters {
    /// `status`: `None` if the client disconnected before the response.
    fn count(&self, method: &Method, status: Option<StatusCode>, took: Duration) {
        let key = (method_label(method), status);
        if key == READ {
            self.reads.get_or_init(|| self.add(READ)).increment(1);
        } else {
            self.counter(key).increment(1);
        }
        let seconds = || metrics::histogram!("landreeve_http_request_seconds", "face" => self.face);
        self.seconds.get_or_init(seconds).record(took.as_secs_f64());
    }

    fn counter(&self, key: Counted) -> Counter {
        let known = self.requests.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        known.unwrap_or_else(|| self.add(key))
    }

    fn add(&self, key: Counted) -> Counter {
        let status = key.1.map_or_else(|| "gone".to_owned(), |status| status.as_str().to_owned());
        let counter = metrics::counter!(
            "landreeve_http_requests_total", "face" => self.face, "method" => key.0, "status" => status
        );
        let mut requests = self.requests.write().unwrap_or_else(PoisonError::into_inner);
        requests.insert(key, counter.clone());
        counter
    }
}

/// Clients can invent methods, but a metric must have few labels.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
