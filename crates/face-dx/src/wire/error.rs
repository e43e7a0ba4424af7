//! The body of an error.

use landreeve_core::Error;
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// Always `false`.
    ok: bool,
    /// A word for the case.
    error: &'static str,
    message: String,
    error_details: ErrorDetails,
}

#[derive(Debug, Serialize, ToSchema)]
struct ErrorDetails {
    message: String,
    /// Every argument that is wrong.
    arguments: Vec<ArgumentFault>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ArgumentFault {
    /// Empty for the request as a whole.
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
