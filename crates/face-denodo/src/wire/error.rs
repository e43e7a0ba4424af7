//! The body of an error.

use http::StatusCode;
use landreeve_core::{Error, Fault};
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    status: u16,
    message: String,
    /// What is wrong with the request, member by member; an addition of this server.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Problem {
    /// Empty: the request as a whole.
    field: String,
    message: String,
}

impl ErrorBody {
    /// Clients of the dialect read only the message, so it lists every fault.
    pub fn new(status: StatusCode, error: &Error) -> ErrorBody {
        let message = match error.faults.as_slice() {
            [] | [_] => error.message.clone(),
            faults => {
                let each = faults.iter().map(|fault| format!("{} {}", fault.field, fault.message));
                let each = each.map(|sentence| sentence.trim_start().to_owned());
                each.collect::<Vec<_>>().join("; ")
            }
        };
        let problem = |fault: &Fault| Problem { field: fault.field.clone(), message: fault.message.clone() };
        let problems = error.faults.iter().map(problem).collect();
        ErrorBody { status: status.as_u16(), message, problems }
    }
}
