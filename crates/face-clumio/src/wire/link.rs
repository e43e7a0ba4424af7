//! Links as the dialect documents them: a path without host and prefix.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Link {
    href: String,
    /// The HTTP method in lower case.
    #[serde(rename = "type")]
    method: String,
    /// Whether `href` holds names in braces.
    templated: bool,
}

impl Link {
    pub fn new(method: &str, href: impl Into<String>) -> Link {
        let href = href.into();
        Link { method: method.to_ascii_lowercase(), templated: href.contains('{'), href }
    }

    pub fn get(href: impl Into<String>) -> Link {
        Link::new("get", href)
    }

    pub fn to_value(&self) -> Value {
        json!({ "href": self.href, "type": self.method, "templated": self.templated })
    }
}

/// For things that can only be read.
#[derive(Debug, Serialize, ToSchema)]
pub struct SelfLink {
    #[serde(rename = "_self")]
    own: Link,
}

impl SelfLink {
    pub fn new(href: impl Into<String>) -> SelfLink {
        SelfLink { own: Link::get(href) }
    }
}
