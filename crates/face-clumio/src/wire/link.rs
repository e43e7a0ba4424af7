//! Links as the dialect documents them: a path without a host, under the prefix where the face is mounted.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// Where the face is mounted: `/clumio`, or empty at the root of a listener.
pub struct Base(String);

impl<S: Send + Sync> FromRequestParts<S> for Base {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Base, Infallible> {
        Ok(Base(landreeve_http::site::prefix(parts)))
    }
}

/// Scheme and host as the client knows them, for absolute links.
pub struct Site(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Site {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Site, Infallible> {
        Ok(Site(landreeve_http::site::origin(parts)))
    }
}

impl Base {
    /// `path` starts with a slash.
    pub fn link(&self, method: &str, path: &str) -> Link {
        let href = format!("{}{path}", self.0);
        Link { method: method.to_ascii_lowercase(), templated: path.contains('{'), href }
    }

    pub fn get(&self, path: &str) -> Link {
        self.link("get", path)
    }
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Link {
    href: String,
    /// The HTTP method in lowercase.
    #[serde(rename = "type")]
    method: String,
    /// Whether `href` contains names in braces.
    templated: bool,
}

impl Link {
    pub fn href(&self) -> &str {
        &self.href
    }

    pub fn to_value(&self) -> Value {
        json!({ "href": self.href, "type": self.method, "templated": self.templated })
    }
}

/// Links by what they are for. Only what this caller may do now has one.
#[derive(Debug, Serialize, ToSchema)]
#[serde(transparent)]
pub struct Links(BTreeMap<&'static str, Link>);

impl Links {
    pub fn new(own: Link) -> Links {
        Links(BTreeMap::from([("_self", own)]))
    }

    /// Adds a link to an operation of this face if `may`.
    #[must_use]
    pub fn and(mut self, may: bool, operation: &'static str, link: impl FnOnce() -> Link) -> Links {
        if may {
            self.0.insert(operation, link());
        }
        self
    }
}

/// For resources that can only be read.
#[derive(Debug, Serialize, ToSchema)]
pub struct SelfLink {
    #[serde(rename = "_self")]
    own: Link,
}

impl SelfLink {
    pub fn new(own: Link) -> SelfLink {
        SelfLink { own }
    }
}

/// Whether this face has an operation. Others that a link would name are not available.
pub fn has_route(method: &str, path: &str) -> bool {
    crate::ROUTES.iter().any(|route| (route.0, route.1) == (method, path))
}
