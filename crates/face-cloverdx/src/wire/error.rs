//! The body of an error.

use http::StatusCode;
use landreeve_core::Error;
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    #[serde(rename = "@type")]
    kind: &'static str,
    status: u16,
    message: String,
    /// Everything that is wrong with the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<Detail>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Detail {
    /// Empty if it is about the whole request.
    field: String,
    message: String,
}

impl ErrorBody {
    pub fn new(status: StatusCode, error: &Error) -> ErrorBody {
        let details = error
            .faults
            .iter()
            .map(|fault| Detail { field: fault.field.clone(), message: fault.message.clone() });
        ErrorBody {
            kind: "Error",
            status: status.as_u16(),
            message: error.message.clone(),
            details: details.collect(),
        }
    }
}
