//! The DX dialect: HTTP calls of the form `FAMILY.method`, the Data Cloud's under `/api/`, the Web API's beside them.
//!
//! Every response is a JSON object with `ok`; errors are 422 with a word in `error`. Does not belong here: rules about
//! what is allowed. Those are in `estate::ops` and the planes.

mod app;
mod arguments;
mod auth;
mod caller;
mod changes;
mod custom_data;
mod deployments;
mod error;
mod incidents;
mod lists;
pub mod permissions;
mod pipelines;
mod queries;
mod query_runs;
mod teams;
mod users;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use landreeve_core::Result;
use landreeve_delivery::Delivery;
use landreeve_http::openapi::{Reference, Refusal, When, refuse, require};
use landreeve_http::rate::RateLimit;
use landreeve_http::{Face, FaceRouter};
use utoipa::ToSchema as _;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, Info, OpenApi, OpenApiBuilder, SecurityRequirement};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::wire::error::ErrorBody;

pub const NAME: &str = "dx";
pub const TITLE: &str = "DX Data Cloud API and Web API";

/// Method, path and the required access: `open`, `credential`, or a permission.
pub type Route = (&'static str, &'static str, &'static str);

/// Every operation of this face; a test compares it with the OpenAPI document.
pub const ROUTES: &[Route] = &[
    ("GET", "/auth.info", "credential"),
    ("POST", "/auth.info", "credential"),
    ("POST", "/api/deployments.create", "delivery:use"),
    ("POST", "/api/deployments.update", "delivery:use"),
    ("POST", "/api/deployments.upsert", "delivery:use"),
    ("POST", "/api/deployments.setPullServices", "delivery:use"),
    ("POST", "/api/incidents.upsert", "delivery:use"),
    ("POST", "/api/incidents.sync", "delivery:use"),
    ("POST", "/api/pipelineRuns.upsert", "delivery:use"),
    ("POST", "/api/pipelineRuns.sync", "delivery:use"),
    ("POST", "/api/pullRequests.upsert", "delivery:use"),
    ("POST", "/api/commits.push", "delivery:use"),
    ("POST", "/api/repos.upsert", "delivery:use"),
    ("POST", "/api/customData.set", "delivery:use"),
    ("POST", "/api/customData.setAll", "delivery:use"),
    ("POST", "/api/customData.delete", "delivery:use"),
    ("POST", "/api/customData.deleteAllByReference", "delivery:use"),
    ("GET", "/api/deployments.info", "delivery:use"),
    ("POST", "/api/deployments.info", "delivery:use"),
    ("GET", "/api/customData.get", "delivery:use"),
    ("GET", "/api/customData.getAllByReference", "delivery:use"),
    ("GET", "/teams.list", "team:view"),
    ("GET", "/teams.info", "team:view"),
    ("GET", "/teams.get", "team:view"),
    ("GET", "/teams.findByMembers", "team:view"),
    ("GET", "/teams.auditTrail", "team:view"),
    ("POST", "/orgfiles.teamHierarchy.process", "team:manage"),
    ("POST", "/orgfiles.teamHierarchy.preview", "team:manage"),
    ("GET", "/orgfiles.teamHierarchy.get", "team:manage"),
    ("GET", "/users.list", "person:view"),
    ("GET", "/users.findByGithubUsername", "team:view"),
    ("POST", "/users.update", "person:manage"),
    ("POST", "/users.upsert", "person:manage"),
    ("GET", "/queries.datafeed", "feed:view"),
    ("GET", "/datacloud.queries.datafeed", "feed:view"),
    ("POST", "/studio.queryRuns.execute", "run:use"),
    ("GET", "/studio.queryRuns.info", "run:view"),
    ("GET", "/studio.queryRuns.results", "run:view"),
    ("GET", "/studio.queryRuns.download", "open"),
    ("POST", "/studio.queryRuns.cancel", "run:manage"),
];

pub fn routes() -> &'static [Route] {
    ROUTES
}

/// This dialect's part of the server's configuration.
#[derive(Debug, Clone)]
pub struct Options {
    /// Web API requests per account and minute; 0 for no limit.
    pub requests_per_minute: u32,
    /// Status requests for one query run within five seconds; 0 for no limit.
    pub polls_per_run: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options { requests_per_minute: 1_000, polls_per_run: 10 }
    }
}

/// The router of the dialect, to be mounted at its prefix or at the root of a listener.
pub fn router(plane: Delivery, options: &Options) -> Result<FaceRouter> {
    let face = Face::new(NAME, plane.estate().random().clone(), error::render);
    let (router, mut openapi) = OpenApiRouter::with_openapi(document())
        .routes(routes!(auth::info))
        .merge(data_cloud())
        .merge(web())
        .split_for_parts();
    name_operations(&mut openapi);
    refuse(&mut openapi, "application/json", &ErrorBody::name(), &REFUSALS);
    let reference = Reference {
        title: TITLE.to_owned(),
        page: "docs",
        document: "openapi.json",
        assets: "docs-assets",
        openapi,
    };
    let limit = Arc::new(RateLimit::new(options.requests_per_minute, Duration::from_secs(60)));
    let polls = Arc::new(RateLimit::new(options.polls_per_run, Duration::from_secs(5)));
    let reference = reference.routes_with(|document| {
        REQUIRED.iter().for_each(|(path, names)| require(document, path, names));
    });
    let router = router.with_state(App { plane, limit, polls }).merge(reference?);
    // A known path with another HTTP method is not a method of this API either.
    Ok(face.wrap(router.method_not_allowed_fallback(error::unknown_method)))
}

/// The Data Cloud's methods, under `/api/`.
fn data_cloud() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(deployments::create))
        .routes(routes!(deployments::update))
        .routes(routes!(deployments::upsert))
        .routes(routes!(deployments::info))
        .routes(routes!(deployments::set_pull_services))
        .routes(routes!(incidents::upsert))
        .routes(routes!(incidents::sync))
        .routes(routes!(pipelines::upsert))
        .routes(routes!(pipelines::sync))
        .routes(routes!(changes::pull))
        .routes(routes!(changes::push))
        .routes(routes!(changes::repo))
        .routes(routes!(custom_data::set))
        .routes(routes!(custom_data::set_all))
        .routes(routes!(custom_data::get))
        .routes(routes!(custom_data::get_all))
        .routes(routes!(custom_data::delete))
        .routes(routes!(custom_data::delete_all))
}

/// The Web API's methods.
fn web() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(teams::list))
        .routes(routes!(teams::info))
        .routes(routes!(teams::older_info))
        .routes(routes!(teams::find_by_members))
        .routes(routes!(teams::audit_trail))
        .routes(routes!(teams::process))
        .routes(routes!(teams::preview))
        .routes(routes!(teams::get))
        .routes(routes!(users::list))
        .routes(routes!(users::find_by_github))
        .routes(routes!(users::update))
        .routes(routes!(users::upsert))
        .routes(routes!(queries::datafeed))
        .routes(routes!(queries::older_datafeed))
        .routes(routes!(query_runs::execute))
        .routes(routes!(query_runs::info))
        .routes(routes!(query_runs::results))
        .routes(routes!(query_runs::download))
        .routes(routes!(query_runs::cancel))
}

/// Operation ids are the method names: `deployments.create`.
fn name_operations(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let name = path.trim_start_matches("/api").trim_start_matches('/');
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            operation.operation_id = Some(name.to_owned());
        }
    }
}

/// What a method requires of arguments that it shares with others.
const REQUIRED: [(&str, &[&str]); 4] = [
    ("/api/deployments.create", &["deployed_at", "service"]),
    ("/api/deployments.update", &["reference_id"]),
    ("/api/deployments.upsert", &["reference_id"]),
    ("/api/incidents.sync", &["services"]),
];

/// The error responses of this dialect: nearly all are 422, and the word in `error` tells them apart.
const REFUSALS: [Refusal; 3] = [
    Refusal(422, When::Always, "The request failed: see `error` and `error_details`."),
    Refusal(429, When::Caller, "Too many requests; try again after `Retry-After` seconds."),
    Refusal(503, When::Caller, "The store is unavailable."),
];

fn document() -> OpenApi {
    let key = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A key created with `landreeve key create --api dx`."))
        .build();
    let components = ComponentsBuilder::new().security_scheme("key", SecurityScheme::Http(key));
    OpenApiBuilder::new()
        .info(Info::builder().title(TITLE).version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT)))
        .components(Some(components.build()))
        .security(Some([SecurityRequirement::new("key", [] as [&str; 0])]))
        .build()
}

const ABOUT: &str = "Calls of the form `FAMILY.method`. Send arguments as JSON, as a form or in the query, \
     in any combination. Success is 200 with `ok: true`; an error is 422 with `ok: false`, a word in `error` and \
     every invalid argument in `error_details`. \
     The examples build on one another: the data that they name is recorded by those of `upsert`, `create` \
     and `process`. The id of the query run is a placeholder; use the one that `studio.queryRuns.execute` returns.";
