//! The DX dialect: HTTP calls of the form `FAMILY.method`, the Data Cloud's below `/api/`, the Web API's beside them.
//!
//! Every answer is a JSON object with `ok`; what goes wrong is 422 with a word in `error`. What must not enter: a rule
//! of what may be done; those are in `estate::ops` and the planes.

mod arguments;
mod auth;
mod caller;
mod error;
pub mod permissions;
mod query_runs;
mod wire;

use axum::Router;
use landreeve_core::Result;
use landreeve_estate::ops::Estate;
use landreeve_http::Face;
use landreeve_http::openapi::Reference;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, Info, OpenApi, OpenApiBuilder, SecurityRequirement};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub const NAME: &str = "dx";
pub const TITLE: &str = "DX Data Cloud API and Web API";

/// Method, path and what it needs: `open`, `credential`, or a permission.
pub type Route = (&'static str, &'static str, &'static str);

/// Every operation of this face; a test holds it against the OpenAPI document.
pub const ROUTES: &[Route] = &[
    ("GET", "/auth.info", "credential"),
    ("POST", "/auth.info", "credential"),
    ("GET", "/studio.queryRuns.info", "run:view"),
    ("POST", "/studio.queryRuns.cancel", "run:manage"),
];

pub fn routes() -> &'static [Route] {
    ROUTES
}

/// The whole dialect, to be mounted at its prefix or at the root of a listener.
pub fn router(estate: Estate) -> Result<Router> {
    let face = Face::new(NAME, estate.random().clone(), error::render);
    let (router, openapi) = OpenApiRouter::with_openapi(document())
        .routes(routes!(auth::info))
        .routes(routes!(query_runs::info))
        .routes(routes!(query_runs::cancel))
        .split_for_parts();
    let reference = Reference {
        title: TITLE.to_owned(),
        page: "docs",
        document: "openapi.json",
        assets: "docs-assets",
        openapi,
    };
    let router = router.with_state(estate).merge(reference.routes()?);
    // A known path with another HTTP method is no method of this API either.
    Ok(face.wrap(router.method_not_allowed_fallback(error::unknown_method)))
}

fn document() -> OpenApi {
    let key = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A key made with `landreeve key create --api dx`."))
        .build();
    let components = ComponentsBuilder::new().security_scheme("key", SecurityScheme::Http(key));
    OpenApiBuilder::new()
        .info(Info::builder().title(TITLE).version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT)))
        .components(Some(components.build()))
        .security(Some([SecurityRequirement::new("key", [] as [&str; 0])]))
        .build()
}

const ABOUT: &str = "Calls of the form `FAMILY.method`. Arguments come as JSON, as a form or in the query, \
     in any mixture. Success is 200 with `ok: true`; an error is 422 with `ok: false`, a word in `error` and \
     every faulty argument in `error_details`.";
