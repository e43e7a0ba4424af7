//! Addresses of this API as the client wrote them.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::Uri;
use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use landreeve_http::listener::Inbound;

/// `http://host:port/prefix/`, or just the path when the client named no host.
pub struct Link(String);

impl<S: Send + Sync> FromRequestParts<S> for Link {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Link, Infallible> {
        let uri = parts.extensions.get::<Inbound>().map_or(&parts.uri, |inbound| &inbound.uri);
        // Every method is one segment below the prefix.
        let folder = uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        Ok(Link(format!("{}{folder}/", origin(parts, uri))))
    }
}

/// Scheme and host. A proxy in front says what the client used.
fn origin(parts: &Parts, uri: &Uri) -> String {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let host = header(HOST.as_str()).and_then(|host| host.parse::<Authority>().ok());
    let Some(host) = host.or_else(|| uri.authority().cloned()) else { return String::new() };
    let scheme = header("x-forwarded-proto").filter(|scheme| matches!(*scheme, "http" | "https"));
    format!("{}://{host}", scheme.or_else(|| uri.scheme_str()).unwrap_or("http"))
}

impl Link {
    pub fn to(&self, method: &str) -> String {
        format!("{}{method}", self.0)
    }
}
