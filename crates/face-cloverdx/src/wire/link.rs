//! Absolute addresses of resources, as the client would write them.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::Uri;
use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use landreeve_http::listener::Inbound;

use crate::BASE;

/// `http://host:port/prefix/api/rest/v1`, or just the path when the client named no host.
pub struct Link(String);

impl<S: Send + Sync> FromRequestParts<S> for Link {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Link, Infallible> {
        let uri = parts.extensions.get::<Inbound>().map_or(&parts.uri, |inbound| &inbound.uri);
        let prefix = uri.path().split_once(BASE).map_or("", |(prefix, _)| prefix);
        Ok(Link(format!("{}{prefix}{BASE}", origin(parts, uri))))
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
    pub fn executions(&self) -> String {
        format!("{}/executions", self.0)
    }

    pub fn execution(&self, id: i64) -> String {
        format!("{}/executions/{id}", self.0)
    }
}
