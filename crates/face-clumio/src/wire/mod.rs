//! The wire format, with conversions from the estate's types.

pub mod accepted;
pub mod error;
pub mod link;
pub mod list;
pub mod policies;
pub mod roles;
pub mod tasks;
pub mod tokens;
pub mod users;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use landreeve_core::Error;
use landreeve_http::Failure;
use serde::Serialize;

use crate::version::Resource;

/// A JSON body with the media type of its resource and version.
pub struct Answer<T> {
    pub resource: &'static Resource,
    pub version: u32,
    pub body: T,
}

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        let media_type = self.resource.media_type(self.version);
        match serde_json::to_vec(&self.body) {
            Ok(body) => ([(CONTENT_TYPE, media_type)], body).into_response(),
            Err(error) => Failure(Error::internal(error)).into_response(),
        }
    }
}

/// `1985-04-12T23:20:50Z`
fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
