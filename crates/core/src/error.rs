//! The short list of error kinds. Only the faces know status codes: each face maps every kind once.

use std::fmt;
use std::time::Duration;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in as much detail as a caller needs to tell the cases apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No credential, or an invalid one.
    Unauthenticated,
    /// A known caller who is not allowed to do this.
    Forbidden,
    /// It does not exist, or this caller is not allowed to know that it does.
    NotFound,
    /// The request itself is wrong; `Error::faults` says where.
    Invalid,
    /// The request conflicts with the current state (a name is taken, a run has ended).
    Conflict,
    /// A condition that the caller set is not met.
    PreconditionFailed,
    /// More than a limit allows.
    TooLarge,
    /// Too many requests, or too many expensive ones at the same time.
    RateLimited,
    /// A database, node, disk or repository does not respond; retrying may help.
    Unavailable,
    /// A bug or failure of ours. The cause is logged under the request id and never shown.
    Internal,
}

impl ErrorKind {
    pub const ALL: [ErrorKind; 10] = [
        ErrorKind::Unauthenticated,
        ErrorKind::Forbidden,
        ErrorKind::NotFound,
        ErrorKind::Invalid,
        ErrorKind::Conflict,
        ErrorKind::PreconditionFailed,
        ErrorKind::TooLarge,
        ErrorKind::RateLimited,
        ErrorKind::Unavailable,
        ErrorKind::Internal,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Unauthenticated => "unauthenticated",
            ErrorKind::Forbidden => "forbidden",
            ErrorKind::NotFound => "not_found",
            ErrorKind::Invalid => "invalid",
            ErrorKind::Conflict => "conflict",
            ErrorKind::PreconditionFailed => "precondition_failed",
            ErrorKind::TooLarge => "too_large",
            ErrorKind::RateLimited => "rate_limited",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::Internal => "internal",
        }
    }

    pub fn parse(text: &str) -> Option<ErrorKind> {
        ErrorKind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One thing that is wrong with a request: where, what, and what would be valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The domain's name of the field, dotted for nested ones (`layout.0.width`). Empty: the request as a whole.
    pub field: String,
    /// A stable code for the fault: `required`, `type`, `range`, `enum`, `unknown`, `taken`, …
    pub code: &'static str,
    /// A sentence without the field's name in front.
    pub message: String,
}

impl Fault {
    pub fn new(field: impl Into<String>, code: &'static str, message: impl Into<String>) -> Fault {
        Fault { field: field.into(), code, message: message.into() }
    }

    pub fn required(field: impl Into<String>) -> Fault {
        Fault::new(field, codes::REQUIRED, "is required")
    }
}

/// An error as every layer below the faces returns it.
#[derive(Debug, Clone)]
pub struct Error {
    pub kind: ErrorKind,
    /// A stable code within the kind, for dialects that name cases (`account_inactive`, `execution_not_complete`).
    pub code: &'static str,
    /// Short, specific, and free of secrets. For `Internal`, only for the log.
    pub message: String,
    /// For `NotFound`: what was not found. A face can replace it with its dialect's word (`called`).
    pub noun: Option<&'static str>,
    pub faults: Vec<Fault>,
    /// When it makes sense to retry.
    pub retry_after: Option<Duration>,
}

impl Error {
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Error {
        Error { kind, code, message: message.into(), noun: None, faults: Vec::new(), retry_after: None }
    }

    pub fn unauthenticated(code: &'static str, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unauthenticated, code, message)
    }

    pub fn forbidden(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Forbidden, "forbidden", message)
    }

    /// `noun` is the word that users know: "datasource", "run".
    pub fn not_found(noun: &'static str) -> Error {
        Error { noun: Some(noun), ..Error::new(ErrorKind::NotFound, codes::NOT_FOUND, no_such(noun)) }
    }

    /// Replaces the message, for cases where the default says too little.
    #[must_use]
    pub fn saying(self, message: impl Into<String>) -> Error {
        Error { message: message.into(), ..self }
    }

    /// Replaces the noun with the dialect's word for it. `nouns` are pairs of our noun and the dialect's.
    #[must_use]
    pub fn called(mut self, nouns: &[(&str, &'static str)]) -> Error {
        let Some(noun) = self.noun else { return self };
        if let Some((_, other)) = nouns.iter().find(|(ours, _)| *ours == noun) {
            if self.message == no_such(noun) {
                self.message = no_such(other);
            }
            self.noun = Some(other);
        }
        self
    }

    pub fn invalid(faults: Vec<Fault>) -> Error {
        let message = match faults.as_slice() {
            [] => "the request is invalid".to_owned(),
            [one] if one.field.is_empty() => one.message.clone(),
            [one] => format!("{} {}", one.field, one.message),
            many => format!("the request has {} errors", many.len()),
        };
        Error { faults, ..Error::new(ErrorKind::Invalid, "invalid", message) }
    }

    pub fn fault(field: impl Into<String>, code: &'static str, message: impl Into<String>) -> Error {
        Error::invalid(vec![Fault::new(field, code, message)])
    }

    pub fn conflict(code: &'static str, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Conflict, code, message)
    }

    pub fn too_large(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::TooLarge, codes::TOO_LARGE, message)
    }

    pub fn rate_limited(message: impl Into<String>, retry_after: Duration) -> Error {
        Error {
            retry_after: Some(retry_after),
            ..Error::new(ErrorKind::RateLimited, "rate_limited", message)
        }
    }

    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unavailable, code, message)
    }

    pub fn internal(cause: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Internal, "internal", cause.to_string())
    }

    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Error {
        self.code = code;
        self
    }
}

fn no_such(noun: &str) -> String {
    format!("there is no such {noun}")
}

/// Codes that the program compares. A code that is only sent to the client needs no constant.
pub mod codes {
    pub const NOT_FOUND: &str = "not_found";
    /// For faults: the member is missing.
    pub const REQUIRED: &str = "required";
    /// A name or key already exists.
    pub const TAKEN: &str = "taken";
    /// A user already exists.
    pub const NOT_FIRST: &str = "not_first";
    /// The store was created with another key.
    pub const WRONG_KEY: &str = "wrong_key";
    /// The metadata store does not answer.
    pub const STORE: &str = "store";
    /// For faults: the server is not allowed to connect to this address.
    pub const DENIED: &str = "denied";
    pub const NOT_CANCELLABLE: &str = "not_cancellable";
    pub const NOT_AUTHED: &str = "not_authed";
    pub const INVALID_AUTH: &str = "invalid_auth";
    pub const ACCOUNT_INACTIVE: &str = "account_inactive";
    pub const QUERY_TIMED_OUT: &str = "query_timed_out";
    pub const EXECUTION_NOT_COMPLETE: &str = "execution_not_complete";
    pub const NO_USERS_FOUND: &str = "no_users_found";
    /// A statement's variable has no value.
    pub const MISSING_VARIABLE: &str = "missing_variable";
    /// For faults in the parameter language.
    pub const SELECTOR: &str = "selector";
    pub const UNKNOWN: &str = "unknown";
    pub const ZONE_TABLES: &str = "zone_tables";
    pub const TOO_LARGE: &str = "too_large";
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Collects faults, so that a rejected request reports all of them (only the first 100, if there are more).
#[derive(Debug, Clone, Default)]
pub struct Faults(Vec<Fault>);

/// A response must not be many times larger than its request.
const MAX_FAULTS: usize = 100;

impl Faults {
    pub fn push(&mut self, field: impl Into<String>, code: &'static str, message: impl Into<String>) {
        self.add(Fault::new(field, code, message));
    }

    pub fn add(&mut self, fault: Fault) {
        if self.0.len() < MAX_FAULTS {
            self.0.push(fault);
        }
    }

    /// Returns the value, or records the fault and returns `None`.
    pub fn take<T>(&mut self, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.add(fault)).ok()
    }

    /// Whether the field or one that contains it already has a fault.
    pub fn covers(&self, field: &str) -> bool {
        self.0.iter().any(|fault| lies_in(field, &fault.field))
    }

    /// Whether something inside the field already has a fault, which means that the field was present.
    fn reaches_into(&self, field: &str) -> bool {
        self.0.iter().any(|fault| lies_in(&fault.field, field))
    }

    /// Adds faults found later in the same request, except for fields that already have one: the placeholder for an
    /// unreadable value is not a second fault.
    pub fn absorb(&mut self, later: Faults) {
        if self.0.len() >= MAX_FAULTS {
            return;
        }
        let known = |fault: &Fault| {
            self.covers(&fault.field) || (fault.code == codes::REQUIRED && self.reaches_into(&fault.field))
        };
        let new: Vec<Fault> = later.0.into_iter().filter(|fault| !known(fault)).collect();
        new.into_iter().for_each(|fault| self.add(fault));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn into_vec(self) -> Vec<Fault> {
        self.0
    }

    /// `Err` if there are any faults.
    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::invalid(self.0)) }
    }
}

/// Whether the field is `outer` or inside it. Names are dotted (`layout.0`) or pointers (`/data/layout/0`).
fn lies_in(field: &str, outer: &str) -> bool {
    field.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '/']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_found_errors_use_the_dialects_noun() {
        let error = Error::not_found("run").called(&[("run", "task"), ("team", "group")]);
        assert_eq!((error.noun, error.message.as_str()), (Some("task"), "there is no such task"));
        let error = Error::not_found("team").saying("it is gone").called(&[("team", "group")]);
        assert_eq!((error.noun, error.message.as_str()), (Some("group"), "it is gone"));
        assert_eq!(Error::internal("x").called(&[("run", "task")]).noun, None);
    }

    #[test]
    fn reports_each_faulty_field_once() {
        let mut faults = Faults::default();
        faults.push("started_at", "time", "must be a time");
        faults.push("commits.1", "type", "must be an object");
        let mut later = Faults::default();
        for field in ["started_at", "commits.1", "commits.1.sha", "commits.10.sha", "commits", "name", "name"]
        {
            later.add(Fault::required(field));
        }
        later.add(Fault::new("commits", "length", "must have at most 1"));
        faults.absorb(later);
        let fields: Vec<_> =
            faults.finish().unwrap_err().faults.into_iter().map(|fault| fault.field).collect();
        // Two faults of one field are both kept if they were found together. A field with a fault inside it is not
        // missing.
        assert_eq!(fields, ["started_at", "commits.1", "commits.10.sha", "name", "name", "commits"]);
    }
}
