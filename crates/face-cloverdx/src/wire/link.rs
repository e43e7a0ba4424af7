//! Absolute URLs of resources, as the client would write them.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;
use landreeve_http::site;

use crate::BASE;

/// `http://host:port/prefix/api/rest/v1`, or only the path if the client did not send a host.
pub struct Link(String);

impl<S: Send + Sync> FromRequestParts<S> for Link {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Link, Infallible> {
        let prefix = site::inbound_uri(parts).path().split_once(BASE).map_or("", |(prefix, _)| prefix);
        Ok(Link(format!("{}{prefix}{BASE}", site::origin(parts))))
    }
}

impl Link {
    pub fn executions(&self) -> String {
        format!("{}/executions", self.0)
    }

    pub fn execution(&self, id: i64) -> String {
        format!("{}/executions/{id}", self.0)
    }
}
