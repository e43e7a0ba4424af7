//! The CloverDX dialect: version 1 of the REST API, with its header against foreign pages and its catalog.
//!
//! What must not enter: a rule of what may be done; those are in `estate::ops` and the planes.

mod caller;
mod error;
mod executions;
mod wire;

use axum::Router;
use http::HeaderName;
use landreeve_core::Result;
use landreeve_estate::ops::Estate;
use landreeve_http::Face;
use landreeve_http::csrf::Csrf;
use landreeve_http::openapi::{Reference, Refusal, When, refuse};
use utoipa::ToSchema as _;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, Info, OpenApi, OpenApiBuilder, SecurityRequirement};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::wire::error::ErrorBody;

pub const NAME: &str = "cloverdx";
pub const TITLE: &str = "CloverDX Server REST API";
/// Where the API lies below the prefix.
pub const BASE: &str = "/api/rest/v1";
/// Its value is not looked at.
pub const REQUESTED_BY: HeaderName = HeaderName::from_static("x-requested-by");

#[derive(Debug, Clone)]
pub struct Options {
    /// Requires the header `X-Requested-By` at all (`security.csrf.protection.enabled` of the dialect).
    pub csrf: bool,
    /// On GET and HEAD too, as the dialect's manual has it.
    pub csrf_on_get: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { csrf: true, csrf_on_get: true }
    }
}

/// Method, path below [`BASE`], and what it needs: `open`, `credential`, or a permission.
pub type Route = (&'static str, &'static str, &'static str);

/// Every operation of this face; a test holds it against the OpenAPI document.
pub const ROUTES: &[Route] = &[
    ("GET", "/executions", "run:view"),
    ("GET", "/executions/{runId}", "run:view"),
    ("POST", "/executions/{runId}/abort", "run:manage"),
];

pub fn routes() -> &'static [Route] {
    ROUTES
}

/// The whole dialect, to be mounted at its prefix or at the root of a listener.
pub fn router(estate: Estate, options: Options) -> Result<Router> {
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

/// The catalog stays outside of the rule.
fn guard(router: Router, options: &Options) -> Router {
    let rule = Csrf::new(REQUESTED_BY);
    match options {
        Options { csrf: false, .. } => router,
        Options { csrf_on_get: true, .. } => rule.on_safe_methods_too().guard(router),
        Options { csrf_on_get: false, .. } => rule.guard(router),
    }
}

/// What this dialect refuses with.
const REFUSALS: [Refusal; 6] = [
    Refusal(400, When::Always, "What is wrong with the request, or that `X-Requested-By` is missing."),
    Refusal(401, When::Caller, "No credential, or one that does not hold."),
    Refusal(403, When::Caller, "Not permitted."),
    Refusal(404, When::Named, "There is no such thing."),
    Refusal(429, When::Caller, "Too many passwords are being checked; try again."),
    Refusal(503, When::Caller, "The store does not answer now."),
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

const ABOUT: &str = "Every request carries name and password (HTTP Basic) and the header `X-Requested-By` with \
     any value. Collections are objects with `members` and the members `@self`, `@type`, `@totalItems`, \
     `@startIndex` and `@pageItems`.";
