//! Tests that every face shares: each route in its table rejects callers without permission, and its API reference is
//! public.

use axum::Router;
use landreeve_core::Permission;

use crate::routes::{compare, everything, everything_but, parse};
use crate::{Answer, Ask, Kit};

/// Method, path and what the route requires: `open`, `credential`, or a permission.
pub type Routes = &'static [(&'static str, &'static str, &'static str)];

#[derive(Debug, Clone)]
pub enum Credential {
    None,
    Basic(String, String),
    Bearer(String),
    Cookie(String),
}

impl Credential {
    pub fn basic(name: &str, password: &str) -> Credential {
        Credential::Basic(name.to_owned(), password.to_owned())
    }

    pub fn bearer(key: impl Into<String>) -> Credential {
        Credential::Bearer(key.into())
    }

    pub(crate) fn on(&self, ask: Ask) -> Ask {
        match self {
            Credential::None => ask,
            Credential::Basic(name, password) => ask.basic(name, password),
            Credential::Bearer(key) => ask.bearer(key),
            Credential::Cookie(value) => ask.header("cookie", value),
        }
    }
}

/// Why a request is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no credential.
    Missing,
    /// The credential is invalid.
    Invalid,
    /// The caller lacks the permission.
    Permission,
}

/// The differences between dialects.
pub trait Dialect {
    const ROUTES: Routes;
    /// Where the dialect is mounted in its router.
    const BASE: &'static str;
    /// The page with the API reference.
    const DOCS: &'static str = "/docs";
    /// Fields whose values also depend on others, so that a value within its limits can still be refused.
    const DEPENDENT: &'static [&'static str] = &[];

    fn kit(&self) -> &Kit;
    fn router(&self) -> &Router;

    /// A request that is valid except for the caller.
    fn ask(&self, method: &str, path: &str) -> impl Future<Output = Ask>;

    /// The credential of a new caller with these permissions.
    fn caller(&self, permissions: &[Permission]) -> impl Future<Output = Credential>;

    /// Invalid credentials.
    fn strangers(&self) -> Vec<Credential>;

    /// Checks the response to a caller who is rejected.
    fn refused(&self, answer: &Answer, why: Refusal);

    /// Checks the response of a route that does not need a credential.
    fn open(&self, answer: &Answer);

    /// Checks the response to a caller with all permissions.
    fn allowed(&self, path: &str, answer: &Answer);

    /// The fields that a refusal names, with dots between their parts.
    fn named(&self, answer: &Answer) -> Vec<String>;
}

pub async fn every_route_rejects_callers_without_permission<D: Dialect>(dialect: &D) {
    let document = Ask::get(format!("{}/openapi.json", D::BASE)).send(dialect.router()).await;
    compare(&document.json(), D::ROUTES);
    let all = dialect.caller(&everything()).await;
    for (method, path, needs) in D::ROUTES {
        let with = async |credential: &Credential| {
            credential.on(dialect.ask(method, path).await).send(dialect.router()).await
        };
        if *needs == "open" {
            dialect.open(&with(&Credential::None).await);
            continue;
        }
        dialect.refused(&with(&Credential::None).await, Refusal::Missing);
        for stranger in dialect.strangers() {
            dialect.refused(&with(&stranger).await, Refusal::Invalid);
        }
        if let Some(permission) = parse(needs) {
            let lacking = dialect.caller(&everything_but(permission)).await;
            dialect.refused(&with(&lacking).await, Refusal::Permission);
        }
        dialect.allowed(path, &with(&all).await);
    }
}

pub async fn the_reference_does_not_need_a_credential<D: Dialect>(dialect: &D) {
    for path in [D::DOCS, "/openapi.json", "/docs-assets/swagger-ui.css"] {
        let answer = Ask::get(format!("{}{path}", D::BASE)).send(dialect.router()).await;
        assert_eq!(answer.status, 200, "{path}");
    }
}
