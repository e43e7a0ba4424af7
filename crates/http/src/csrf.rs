//! Protection against cross-site request forgery. With [`Csrf`], a request must have a header that a plain form or link on
//! another site cannot send. Dialects whose clients send no such header refuse what a browser marks as coming from another
//! site ([`own_site`], [`guard_writes`]).

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use landreeve_core::{Error, Result};
use url::Url;

use crate::failure::{Failure, code};
use crate::listener::Inbound;
use crate::site::inbound_uri;

/// How a browser relates the page that sends a request to the server. Other clients do not send it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[derive(Debug, Clone)]
pub struct Csrf {
    header: HeaderName,
    safe_methods_too: bool,
    exempt: Vec<String>,
}

impl Csrf {
    /// Any value of the header will do, even an empty one; what matters is that the client could send it.
    pub fn new(header: HeaderName) -> Csrf {
        Csrf { header, safe_methods_too: false, exempt: Vec::new() }
    }

    /// Requires the header on GET and HEAD too. OPTIONS never needs it: it is the browser's preflight request.
    #[must_use]
    pub fn on_safe_methods_too(mut self) -> Csrf {
        self.safe_methods_too = true;
        self
    }

    /// Exempts a path, and everything below it if it ends in a slash. The path is relative to the router.
    #[must_use]
    pub fn exempt(mut self, path: impl Into<String>) -> Csrf {
        self.exempt.push(path.into());
        self
    }

    pub fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<()> {
        let exempt = self
            .exempt
            .iter()
            .any(|exempt| path == exempt || (exempt.ends_with('/') && path.starts_with(exempt.as_str())));
        let asked = *method != Method::OPTIONS && (self.safe_methods_too || !method.is_safe());
        if exempt || !asked || headers.contains_key(&self.header) {
            return Ok(());
        }
        let message = format!("the header {} is required; any value will do", self.header);
        Err(Error::forbidden(message).with_code(code::CSRF))
    }

    /// Adds the rule to a router. Call it before [`crate::Face::wrap`].
    pub fn guard(self, router: Router) -> Router {
        router.layer(from_fn_with_state(Arc::new(self), guard))
    }
}

async fn guard(State(rule): State<Arc<Csrf>>, request: Request, next: Next) -> Response {
    match rule.check(request.method(), request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => Failure(error).into_response(),
    }
}

/// Refuses a request that a page of another site sends: its `Origin` has another host or port than the request (or than
/// the listener's public URL), or its `Sec-Fetch-Site` says so. Clients that are not browsers send neither header.
pub fn own_site(parts: &Parts) -> Result<()> {
    let mut fetched = parts.headers.get_all(SEC_FETCH_SITE).iter();
    let mut origins = parts.headers.get_all(ORIGIN).iter();
    let foreign = fetched.any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
        || origins.any(|origin| !is_own(origin, parts));
    if !foreign {
        return Ok(());
    }
    Err(Error::forbidden("the request comes from a page of another site").with_code(code::CSRF))
}

/// Whether an `Origin` is this server, as the client or the configuration names it. `null` is not.
fn is_own(origin: &HeaderValue, parts: &Parts) -> bool {
    let Some(origin) = origin.to_str().ok().and_then(|text| Url::parse(text).ok()) else { return false };
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| inbound_uri(parts).authority().map(Authority::as_str));
    // A host without a port has that of the scheme, which only the origin knows: TLS may end at a proxy.
    let named = host.and_then(|host| Url::parse(&format!("{}://{host}", origin.scheme())).ok());
    let public = parts.extensions.get::<Inbound>().and_then(|inbound| inbound.public_url.as_ref());
    let public = public.and_then(|public| Url::parse(public.as_str()).ok());
    [named, public].into_iter().flatten().any(|own| is_same(&own, &origin))
}

fn is_same(own: &Url, origin: &Url) -> bool {
    own.has_host()
        && own.host_str() == origin.host_str()
        && own.port_or_known_default() == origin.port_or_known_default()
}

/// Adds [`own_site`] to every route of a router, for methods that can change something. Call it before
/// [`crate::Face::wrap`].
pub fn guard_writes(router: Router) -> Router {
    router.layer(from_fn(writes))
}

async fn writes(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let reads = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let checked = if reads { Ok(()) } else { own_site(&parts) };
    match checked {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(error) => Failure(error).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::PublicUrl;
    use landreeve_core::ErrorKind;

    type Headers = &'static [(&'static str, &'static str)];

    fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let request = headers
            .iter()
            .fold(http::Request::post(uri), |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn pages_of_other_sites_are_recognized() {
        let cases: &[(&str, Headers, bool)] = &[
            ("h", &[], true),
            ("h", &[("origin", "https://h")], true),
            ("h", &[("origin", "http://h")], true),
            ("h", &[("origin", "http://h:80")], true),
            ("h:443", &[("origin", "https://h")], true),
            ("H.example", &[("origin", "https://h.EXAMPLE")], true),
            ("[::1]:8700", &[("origin", "http://[::1]:8700")], true),
            ("h:8700", &[("origin", "http://h:8700"), ("sec-fetch-site", "same-origin")], true),
            ("h", &[("sec-fetch-site", "none")], true),
            ("h:80", &[("origin", "https://h")], false),
            ("h:8700", &[("origin", "http://h")], false),
            ("h", &[("origin", "https://h:8443")], false),
            ("h", &[("origin", "https://h.example")], false),
            ("h", &[("origin", "https://sub.h")], false),
            ("h", &[("origin", "null")], false),
            ("h", &[("origin", "")], false),
            ("h", &[("origin", "h")], false),
            ("h", &[("origin", "file:///h")], false),
            ("h", &[("origin", "https://h"), ("origin", "https://other")], false),
            ("h", &[("origin", "https://h"), ("sec-fetch-site", "same-site")], false),
            ("h", &[("sec-fetch-site", "cross-site")], false),
            ("h", &[("sec-fetch-site", "same-site")], false),
        ];
        for (host, headers, own) in cases {
            let all: Vec<_> = [("host", *host)].into_iter().chain(headers.iter().copied()).collect();
            let checked = own_site(&parts("/a", &all));
            assert_eq!(checked.is_ok(), *own, "{host} {headers:?}");
            if let Err(error) = checked {
                assert_eq!((error.kind, error.code), (ErrorKind::Forbidden, "csrf"));
            }
        }
        // HTTP/2 has the host in the URI; without any host, no page is our own.
        assert!(own_site(&parts("https://h/a", &[("origin", "https://h")])).is_ok());
        assert!(own_site(&parts("/a", &[("origin", "https://h")])).is_err());
    }

    #[test]
    fn the_public_url_is_our_own_site() {
        let mut parts = parts("/a", &[("host", "10.0.0.1:8700"), ("origin", "https://data.example.com")]);
        assert!(own_site(&parts).is_err());
        parts.extensions.insert(Inbound {
            peer: ([127, 0, 0, 1], 1).into(),
            address: "127.0.0.1".into(),
            uri: http::Uri::from_static("/a"),
            secure: true,
            public_url: PublicUrl::parse("https://data.example.com"),
            limits: Arc::default(),
        });
        assert!(own_site(&parts).is_ok());
    }

    #[test]
    fn requires_the_header_except_on_exempt_paths() {
        let name = HeaderName::from_static("x-requested-by");
        let rule = Csrf::new(name.clone()).exempt("/docs/").exempt("/login");
        let none = HeaderMap::new();
        let with = HeaderMap::from_iter([(name, HeaderValue::from_static(""))]);
        assert!(rule.check(&Method::GET, "/a", &none).is_ok());
        let error = rule.check(&Method::POST, "/a", &none).unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::Forbidden, "csrf"));
        assert!(rule.check(&Method::POST, "/a", &with).is_ok());
        assert!(rule.check(&Method::POST, "/docs/x", &none).is_ok());
        assert!(rule.check(&Method::POST, "/login", &none).is_ok());
        assert!(rule.check(&Method::POST, "/login/x", &none).is_err());
        assert!(rule.on_safe_methods_too().check(&Method::GET, "/a", &none).is_err());
    }
}
