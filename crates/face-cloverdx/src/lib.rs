//! The CloverDX dialect: version 1 of the REST API, with its anti-CSRF header and its catalog.
//!
//! Does not belong here: rules about what is allowed. Those are in `estate::ops` and the planes.

mod caller;
mod error;
mod executions;
mod wire;

use axum::Router;
use http::HeaderName;
use landreeve_core::Result;
use landreeve_estate::ops::Estate;
use landreeve_http::csrf::Csrf;
use landreeve_http::openapi::{Reference, Refusal, When, refuse};
use landreeve_http::{Face, FaceRouter};
use utoipa::ToSchema as _;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, Info, OpenApi, OpenApiBuilder, SecurityRequirement};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::wire::error::ErrorBody;

pub const NAME: &str = "cloverdx";
pub const TITLE: &str = "CloverDX Server REST API";
/// The path of the API below the prefix.
pub const BASE: &str = "/api/rest/v1";
/// Its value is ignored.
pub const REQUESTED_BY: HeaderName = HeaderName::from_static("x-requested-by");

#[derive(Debug, Clone)]
pub struct Options {
    /// Requires the header `X-Requested-By` (`security.csrf.protection.enabled` of the dialect).
    pub csrf: bool,
    /// Also requires it on GET and HEAD, as the dialect's manual says.
    pub csrf_on_get: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { csrf: true, csrf_on_get: true }
    }
}

/// Method, path below [`BASE`], and the required access: `open`, `credential`, or a permission.
pub type Route = (&'static str, &'static str, &'static str);

/// Every operation of this face; a test compares it with the OpenAPI document.
pub const ROUTES: &[Route] = &[
    ("GET", "/executions", "run:view"),
    ("GET", "/executions/{runId}", "run:view"),
    ("POST", "/executions/{runId}/abort", "run:manage"),
];

pub fn routes() -> &'static [Route] {
    ROUTES
}

/// The router of the dialect, to be mounted at its prefix or at the root of a listener.
pub fn router(estate: Estate, options: Options) -> Result<FaceRouter> {
    let face = Face::new(NAME, estate.random().clone(), error::render).calling(&[("run", "execution")]);
    let (router, mut openapi) = OpenApiRouter::with_openapi(document())
        .routes(routes!(executions::list))
        .routes(routes!(executions::get))
        .routes(routes!(executions::abort))
        .split_for_parts();
    refuse(&mut openapi, "application/json", &ErrorBody::name(), &REFUSALS);
    let reference = Reference {
        title: TITLE.to_owned(),
        page: "docs.html",
        document: "openapi.json",
        assets: "docs-assets",
        openapi,
    };
    let guarded = guard(router.with_state(estate), &options);
    Ok(face.wrap(Router::new().nest(BASE, guarded.merge(reference.routes()?))))
}

/// Adds the CSRF check. The catalog is exempt.
fn guard(router: Router, options: &Options) -> Router {
    let rule = Csrf::new(REQUESTED_BY);
    match options {
        Options { csrf: false, .. } => router,
        Options { csrf_on_get: true, .. } => rule.on_safe_methods_too().guard(router),
        Options { csrf_on_get: false, .. } => rule.guard(router),
    }
}

/// The error responses of this dialect.
const REFUSALS: [Refusal; 6] = [
    Refusal(400, When::Always, "The request is invalid, or `X-Requested-By` is missing."),
    Refusal(401, When::Caller, "The credential is missing or invalid."),
    Refusal(403, When::Caller, "You do not have permission."),
    Refusal(404, When::Named, "Not found."),
    Refusal(429, When::Caller, "Too many password checks are in progress; try again."),
    Refusal(503, When::Caller, "The store is unavailable."),
];

fn document() -> OpenApi {
    let basic = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Basic).build());
    let components = ComponentsBuilder::new().security_scheme("basic", basic);
    OpenApiBuilder::new()
        .info(Info::builder().title(TITLE).version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT)))
        .components(Some(components.build()))
        .security(Some([SecurityRequirement::new("basic", [] as [&str; 0])]))
        .build()
}

const ABOUT: &str = "Send a user name and password (HTTP Basic) and the header `X-Requested-By` with any \
     value with every request. Collections are objects with `members` and the members `@self`, `@type`, `@totalItems`, \
     `@startIndex` and `@pageItems`. \
     The number of the run in the examples is a placeholder; use one from the list.";
