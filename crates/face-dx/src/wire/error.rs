//! The body of an error.

use landreeve_core::Error;
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// Always `false`.
    ok: bool,
    /// A word that identifies the error.
    error: &'static str,
    message: String,
    error_details: ErrorDetails,
}

#[derive(Debug, Serialize, ToSchema)]
struct ErrorDetails {
    message: String,
    /// Every invalid argument.
    arguments: Vec<ArgumentFault>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ArgumentFault {
    /// Empty if the whole request is meant.
    name: String,
    code: &'static str,
    message: String,
}

impl ErrorBody {
    pub fn new(error: &'static str, cause: &Error) -> ErrorBody {
        let arguments = cause.faults.iter().map(|fault| ArgumentFault {
            name: fault.field.clone(),
            code: fault.code,
            message: fault.message.clone(),
        });
        ErrorBody {
            ok: false,
            error,
            message: cause.message.clone(),
            error_details: ErrorDetails { message: cause.message.clone(), arguments: arguments.collect() },
        }
    }
}
