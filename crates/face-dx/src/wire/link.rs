//! Links to this API, using the address that the client used.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;
use landreeve_http::site;

/// `http://host:port/prefix/`, or only the path if the client sent no host.
pub struct Link(String);

impl<S: Send + Sync> FromRequestParts<S> for Link {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Link, Infallible> {
        // Every method is one segment below the prefix.
        let folder = site::inbound_uri(parts).path().rsplit_once('/').map_or("", |(folder, _)| folder);
        Ok(Link(format!("{}{folder}/", site::origin(parts))))
    }
}

impl Link {
    pub fn to(&self, method: &str) -> String {
        format!("{}{method}", self.0)
    }
}
