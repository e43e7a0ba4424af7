//! The body of an error.

use landreeve_core::{Error, Fault};
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    errors: Vec<OneError>,
}

#[derive(Debug, Serialize, ToSchema)]
struct OneError {
    error_code: u32,
    error_message: String,
}

impl ErrorBody {
    /// One entry per fault, or one for the whole error.
    pub fn new(number: u32, error: &Error) -> ErrorBody {
        if error.faults.is_empty() {
            return ErrorBody::one(number, &error.message);
        }
        let errors = error.faults.iter().map(sentence);
        let errors = errors.map(|error_message| OneError { error_code: number, error_message });
        ErrorBody { errors: errors.collect() }
    }

    pub fn one(number: u32, message: &str) -> ErrorBody {
        ErrorBody { errors: vec![OneError { error_code: number, error_message: message.to_owned() }] }
    }
}

fn sentence(fault: &Fault) -> String {
    if fault.field.is_empty() { fault.message.clone() } else { format!("{} {}", fault.field, fault.message) }
}
