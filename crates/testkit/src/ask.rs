//! A request to a router, and its response.

use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::documented::{self, Received};

#[derive(Debug, Clone)]
pub struct Ask {
    method: Method,
    pub(crate) path: String,
    headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Ask {
    pub fn new(method: &str, path: impl Into<String>) -> Ask {
        let method = method.parse().expect("a method");
        Ask { method, path: path.into(), headers: Vec::new(), body: Vec::new() }
            .header(HOST.as_str(), "estate.example")
    }

    pub fn get(path: impl Into<String>) -> Ask {
        Ask::new("GET", path)
    }

    pub fn post(path: impl Into<String>) -> Ask {
        Ask::new("POST", path)
    }

    pub fn patch(path: impl Into<String>) -> Ask {
        Ask::new("PATCH", path)
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Ask {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    #[must_use]
    pub fn bearer(self, key: &str) -> Ask {
        self.header(AUTHORIZATION.as_str(), format!("Bearer {key}"))
    }

    #[must_use]
    pub fn basic(self, name: &str, password: &str) -> Ask {
        let token = STANDARD.encode(format!("{name}:{password}"));
        self.header(AUTHORIZATION.as_str(), format!("Basic {token}"))
    }

    /// Sends these bytes without a content type.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Ask {
        self.body = body.as_ref().to_vec();
        self
    }

    #[must_use]
    pub fn json(self, body: &Value) -> Ask {
        self.header(CONTENT_TYPE.as_str(), "application/json").body(body.to_string())
    }

    pub async fn send(self, router: &Router) -> Answer {
        let mut request = Request::builder().method(self.method.clone()).uri(&self.path);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::from(self.body)).expect("a request");
        let (parts, body) = router.clone().oneshot(request).await.expect("a router cannot fail").into_parts();
        let body = body.collect().await.expect("the body is complete").to_bytes();
        let body = String::from_utf8(body.to_vec()).expect("text");
        let answer = Answer { status: parts.status.as_u16(), headers: parts.headers, body };
        let received = Received {
            method: self.method.as_str(),
            path: &self.path,
            status: answer.status,
            content_type: answer.header(CONTENT_TYPE.as_str()),
            body: &answer.body,
        };
        documented::check(router, received).await;
        answer
    }
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {} {:?}", self.status, self.body))
    }

    /// Empty if the header is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a text"))
    }
}

/// Hostile path segments, escaped as far as a request line requires.
pub const HOSTILE: [&str; 16] = [
    "%00",
    "%ff%fe",
    "..%2f..%2fetc%2fpasswd",
    "%27%20OR%201=1--",
    "-9223372036854775808",
    "9223372036854775807",
    "9223372036854775808",
    "1e9",
    "NaN",
    "%7B%22a%22:%7B%22a%22:%7B%22a%22:null%7D%7D%7D",
    "%F0%9F%A6%80",
    "%E2%80%AE",
    "%0d%0aSet-Cookie:%20a=b",
    "%25s%25n",
    "2017-99-99T99:99:99%2B9999",
    "00000000-0000-0000-0000-00000000000g",
];
