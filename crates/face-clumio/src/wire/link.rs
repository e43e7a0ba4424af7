//! Links as the dialect documents them: a path without a host, under the prefix where the face is mounted.

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
    pub fn to_value(&self) -> Value {
        json!({ "href": self.href, "type": self.method, "templated": self.templated })
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
