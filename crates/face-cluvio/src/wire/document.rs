//! A document with any resource.

use serde::Serialize;
use utoipa::ToSchema;

use super::Included;

/// A JSON:API document. `included` is present if `include` was given.
#[derive(Debug, Serialize, ToSchema)]
pub struct Document<T> {
    pub data: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub included: Option<Vec<Included>>,
}

impl<T> Document<T> {
    pub fn of(data: T) -> Document<T> {
        Document { data, included: None }
    }
}
