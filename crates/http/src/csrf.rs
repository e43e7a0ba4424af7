//! Protection against cross-site request forgery: a request must have a header that a plain form or link on another
//! site cannot send.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, Method};
use landreeve_core::{Error, Result};

use crate::failure::{Failure, code};

#[derive(Debug, Clone)]
pub struct Csrf {
    header: HeaderName,
    safe_methods_too: bool,
    exempt: Vec<String>,
}

impl Csrf {
    /// Any value of the header will do, even an empty one; what matters is that the client could send it.
    pub fn new(header: HeaderName) -> Csrf {
        Csrf { header, safe_methods_too: false, exempt: Vec::new() }
    }

    /// Requires the header on GET and HEAD too. OPTIONS never needs it: it is the browser's preflight request.
    #[must_use]
    pub fn on_safe_methods_too(mut self) -> Csrf {
        self.safe_methods_too = true;
        self
    }

    /// Exempts a path, and everything below it if it ends in a slash. The path is relative to the router.
    #[must_use]
    pub fn exempt(mut self, path: impl Into<String>) -> Csrf {
        self.exempt.push(path.into());
        self
    }

    pub fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<()> {
        let exempt = self
            .exempt
            .iter()
            .any(|exempt| path == exempt || (exempt.ends_with('/') && path.starts_with(exempt.as_str())));
        let asked = *method != Method::OPTIONS && (self.safe_methods_too || !method.is_safe());
        if exempt || !asked || headers.contains_key(&self.header) {
            return Ok(());
        }
        let message = format!("the header {} is required; any value will do", self.header);
        Err(Error::forbidden(message).with_code(code::CSRF))
    }

    /// Adds the rule to a router. Call it before [`crate::Face::wrap`].
    pub fn guard(self, router: Router) -> Router {
        router.layer(from_fn_with_state(Arc::new(self), guard))
    }
}

async fn guard(State(rule): State<Arc<Csrf>>, request: Request, next: Next) -> Response {
    match rule.check(request.method(), request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => Failure(error).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use landreeve_core::ErrorKind;

    #[test]
    fn requires_the_header_except_on_exempt_paths() {
        let name = HeaderName::from_static("x-requested-by");
        let rule = Csrf::new(name.clone()).exempt("/docs/").exempt("/login");
        let none = HeaderMap::new();
        let with = HeaderMap::from_iter([(name, HeaderValue::from_static(""))]);
        assert!(rule.check(&Method::GET, "/a", &none).is_ok());
        let error = rule.check(&Method::POST, "/a", &none).unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::Forbidden, "csrf"));
        assert!(rule.check(&Method::POST, "/a", &with).is_ok());
        assert!(rule.check(&Method::POST, "/docs/x", &none).is_ok());
        assert!(rule.check(&Method::POST, "/login", &none).is_ok());
        assert!(rule.check(&Method::POST, "/login/x", &none).is_err());
        assert!(rule.on_safe_methods_too().check(&Method::GET, "/a", &none).is_err());
    }
}
