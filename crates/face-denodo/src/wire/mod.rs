//! The wire format, with conversions from the estate's types.

pub mod clusters;
pub mod configuration;
pub mod deployments;
pub mod environments;
pub mod error;
pub mod input;
pub mod node;
pub mod properties;
pub mod query;
pub mod revisions;
pub mod servers;
pub mod session;
pub mod shutdown;
pub mod time;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use landreeve_core::Error;
use landreeve_http::Failure;
use serde::Serialize;

/// The content type of every JSON body.
pub const JSON: &str = "application/json;charset=UTF-8";

/// A JSON body with the content type that clients of this dialect expect.
pub struct Answer<T>(pub StatusCode, pub T);

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.1) {
            Ok(body) => (self.0, [(CONTENT_TYPE, JSON)], body).into_response(),
            Err(error) => Failure(Error::internal(error)).into_response(),
        }
    }
}
