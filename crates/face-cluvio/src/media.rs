//! Media types: those of a request's body, those that `Accept` must allow, and responses in the two types.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use landreeve_core::{Error, ErrorKind, Result};
use landreeve_http::extract::Body;
use landreeve_http::{Document, Failure, Items, Outcome, negotiate};
use serde::Serialize;

use crate::error::code;

pub const JSON_API: &str = "application/vnd.api+json";
pub const JSON: &str = "application/json";

/// The client accepts JSON:API. Plain JSON also counts, because clients send that.
pub struct JsonApi;

/// The client accepts plain JSON.
pub struct PlainJson;

impl<S: Send + Sync> FromRequestParts<S> for JsonApi {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<JsonApi, Failure> {
        acceptable(&parts.headers, JSON_API)?;
        Ok(JsonApi)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PlainJson {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<PlainJson, Failure> {
        acceptable(&parts.headers, JSON)?;
        Ok(PlainJson)
    }
}

fn acceptable(headers: &HeaderMap, answer: &str) -> Result<()> {
    match negotiate::choose(headers, &[JSON_API, JSON]) {
        Some(_) => Ok(()),
        None => Err(not_acceptable(&[answer])),
    }
}

pub fn not_acceptable(offered: &[&str]) -> Error {
    let message = format!("this operation responds with {}, which Accept does not allow", offered.join(", "));
    Error::new(ErrorKind::Invalid, code::NOT_ACCEPTABLE, message)
}

impl JsonApi {
    pub fn ok(&self, body: &impl Serialize) -> Outcome {
        answer(StatusCode::OK, JSON_API, body)
    }

    pub fn created(&self, body: &impl Serialize) -> Outcome {
        answer(StatusCode::CREATED, JSON_API, body)
    }
}

impl JsonApi {
    /// A list of any length, with its included resources.
    pub async fn list(&self, data: Items, included: Option<Vec<Items>>) -> Outcome {
        self.respond(Document::default().text("{\"data\":").array([data]), included).await
    }

    /// One resource, with lists of included resources of any length.
    pub async fn with(&self, data: &impl Serialize, included: Option<Vec<Items>>) -> Outcome {
        self.respond(Document::default().text("{\"data\":").value(data)?, included).await
    }

    async fn respond(&self, document: Document, included: Option<Vec<Items>>) -> Outcome {
        let document = match included {
            Some(included) => document.text(",\"included\":").array(included),
            None => document,
        };
        document.text("}").respond(StatusCode::OK, JSON_API).await
    }
}

impl PlainJson {
    pub fn ok(&self, body: &impl Serialize) -> Outcome {
        answer(StatusCode::OK, JSON, body)
    }
}

pub fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn answer(status: StatusCode, media_type: &'static str, body: &impl Serialize) -> Outcome {
    let bytes = serde_json::to_vec(body).map_err(Error::internal)?;
    Ok((status, [(CONTENT_TYPE, media_type)], bytes).into_response())
}

/// A body that is declared as either kind of JSON, or not declared.
pub struct JsonBody(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<JsonBody, Failure> {
        let given = negotiate::content_type(request.headers());
        let Body(bytes) = Body::from_request(request, state).await?;
        match given {
            Some(other) if !bytes.is_empty() && other != JSON && other != JSON_API => {
                let message = format!("the body is {other}; this operation accepts {JSON_API} and {JSON}");
                Err(Error::new(ErrorKind::Invalid, code::UNSUPPORTED_MEDIA_TYPE, message).into())
            }
            _ => Ok(JsonBody(bytes)),
        }
    }
}
