//! The body of an error.

use http::StatusCode;
use landreeve_core::Error;
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    status: u16,
    message: String,
}

impl ErrorBody {
    /// The body has only one message, so it lists every fault.
    pub fn new(status: StatusCode, error: &Error) -> ErrorBody {
        let message = match error.faults.as_slice() {
            [] | [_] => error.message.clone(),
            faults => {
                let each = faults.iter().map(|fault| format!("{} {}", fault.field, fault.message));
                let each = each.map(|sentence| sentence.trim_start().to_owned());
                each.collect::<Vec<_>>().join("; ")
            }
        };
        ErrorBody { status: status.as_u16(), message }
    }
}
