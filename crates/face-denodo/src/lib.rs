//! The Denodo Solution Manager dialect: a session by cookie, or a password or a ticket on every request, environments with
//! their clusters and servers, deployments as runs. `nodes` and `remote` are both sides of deployments to other machines.
//!
//! Does not belong here: rules about what is allowed. Those are in `estate::ops` and the planes.

mod caller;
mod clusters;
mod configuration;
mod deployments;
mod environments;
mod error;
pub mod license_manager;
mod licenses;
mod nodes;
pub mod permissions;
mod properties;
pub mod remote;
mod revisions;
mod servers;
mod session;
mod tickets;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use landreeve_core::Result;
use landreeve_core::tickets::TicketVerifier;
use landreeve_estate::ops::Estate;
use landreeve_http::csrf::guard_writes;
use landreeve_http::openapi::{Reference, Refusal, When, refuse};
use landreeve_http::{Face, FaceRouter, Render};
use landreeve_promotion::Promotion;
use landreeve_promotion::deployments as deployed;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema as _;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, Info, OpenApi, OpenApiBuilder, SecurityRequirement};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::wire::error::ErrorBody;

pub const NAME: &str = "denodo";
pub const TITLE: &str = "Denodo Solution Manager REST API";

#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Shows the states that only later versions of the dialect have (`PENDING`, `QUEUED`, `CANCELED`).
    pub later_states: bool,
    /// The response to starting a deployment is its id alone, as the first version of the dialect documents it.
    pub bare_deployment_id: bool,
    /// Checks Kerberos tickets. Without it they are neither offered nor accepted.
    pub tickets: Option<Arc<dyn TicketVerifier>>,
}

/// The state of the handlers.
#[derive(Clone)]
struct App {
    estate: Estate,
    promotion: Promotion,
    options: Options,
}

/// Method, path and the required access: `open`, `credential`, or a permission.
pub type Route = (&'static str, &'static str, &'static str);

/// Every operation of this face; a test compares it with the OpenAPI document. Who may deploy depends on the scenario of the
/// environment; the table says what an environment for production requires.
pub const ROUTES: &[Route] = &[
    ("GET", "/login", "credential"),
    ("GET", "/loginSingleSignOn", "credential"),
    ("GET", "/logout", "credential"),
    ("GET", "/pingSolutionManager", "open"),
    ("GET", "/environments", "environment:view"),
    ("POST", "/environments", "environment:manage"),
    ("PUT", "/environments/{id}", "environment:manage"),
    ("DELETE", "/environments/{id}", "environment:manage"),
    ("GET", "/environments/{id}/clusters", "environment:view"),
    ("GET", "/environments/{id}/servers", "environment:view"),
    ("GET", "/environments/{id}/deploymentConfiguration", "deploy_production:manage"),
    ("PUT", "/environments/{id}/deploymentConfiguration", "deploy_production:manage"),
    ("POST", "/clusters", "environment:manage"),
    ("GET", "/clusters/{id}", "environment:view"),
    ("PUT", "/clusters/{id}", "environment:manage"),
    ("DELETE", "/clusters/{id}", "environment:manage"),
    ("GET", "/clusters/{id}/loadBalancingVariables", "deploy_production:manage"),
    ("PUT", "/clusters/{id}/loadBalancingVariables", "deploy_production:manage"),
    ("POST", "/servers", "environment:manage"),
    ("GET", "/servers/{id}", "environment:view"),
    ("PUT", "/servers/{id}", "environment:manage"),
    ("DELETE", "/servers/{id}", "environment:manage"),
    ("GET", "/servers/{id}/loadBalancingVariables", "deploy_production:manage"),
    ("PUT", "/servers/{id}/loadBalancingVariables", "deploy_production:manage"),
    ("GET", "/licenseAlias", "environment:manage"),
    // Your own need revision:use, all others revision:view.
    ("GET", "/revisions", "credential"),
    ("POST", "/revisions", "revision:use"),
    ("POST", "/revisions/loadFromVQL", "revision:manage"),
    ("GET", "/revisions/{id}", "credential"),
    ("GET", "/revisions/{id}/vql", "credential"),
    ("DELETE", "/revisions/{id}", "revision:use"),
    ("GET", "/environments/{id}/vdpProperties", "deploy_production:manage"),
    ("POST", "/environments/{id}/vdpProperties", "deploy_production:manage"),
    ("DELETE", "/vdpProperties/{id}", "deploy_production:manage"),
    ("GET", "/clusters/{id}/schProperties", "deploy_production:manage"),
    ("POST", "/clusters/{id}/schProperties", "deploy_production:manage"),
    ("GET", "/cluster/{id}/schProperties", "deploy_production:manage"),
    ("POST", "/cluster/{id}/schProperties", "deploy_production:manage"),
    ("DELETE", "/schProperties/{id}", "deploy_production:manage"),
    ("POST", "/revisions/{id}/validate", "revision:use"),
    ("GET", "/environments/{id}/drift", "deploy_production:use"),
    ("GET", "/deployments", "credential"),
    ("POST", "/deployments", "deploy_production:use"),
    ("GET", "/deployments/{id}/progress", "credential"),
    ("POST", "/deployments/{id}/cancel", "credential"),
    ("POST", "/deployments/{id}/approve", "deploy_production:use"),
    ("DELETE", "/deployments/{id}", "credential"),
    // Also to manage deployments: to some environment, or to those that the node is a server of.
    ("GET", "/node/{name}", "revision:manage"),
    ("POST", "/node/{name}/plan", "revision:manage"),
    ("POST", "/node/{name}/apply", "revision:manage"),
    ("POST", "/node/{name}/rollback", "revision:manage"),
    ("GET", "/node/{name}/description", "revision:manage"),
    ("POST", "/node/{name}/description", "revision:manage"),
    ("GET", "/node/{name}/applications/{key}", "revision:manage"),
    ("DELETE", "/node/{name}/applications/{key}", "revision:manage"),
];

pub fn routes() -> &'static [Route] {
    ROUTES
}

/// The progress of a deployment as this dialect has it, with the states of later versions, for the command line.
pub fn progress_document(found: deployed::Progress) -> Value {
    document_of(&wire::deployments::Progress::new(found, true))
}

/// What prevents a deployment, or what it would do.
pub fn validation_document(
    validation: deployed::Validation,
    plan: Option<Vec<deployed::ServerPlan>>,
) -> Value {
    document_of(&wire::deployments::ValidationBody::new(validation, plan))
}

/// What others changed on the servers of an environment.
pub fn drift_document(found: Vec<deployed::drift::Drift>) -> Value {
    document_of(&wire::deployments::DriftList::new(found))
}

/// Its types have only what JSON has.
fn document_of(body: &impl Serialize) -> Value {
    serde_json::to_value(body).unwrap_or_default()
}

/// The router of the dialect, to be mounted at its prefix or at the root of a listener.
pub fn router(estate: Estate, promotion: Promotion, options: Options) -> Result<FaceRouter> {
    let offers_tickets = options.tickets.is_some();
    let render: Render = if offers_tickets { error::render_with_tickets } else { error::render };
    let face = Face::new(NAME, estate.random().clone(), render).calling(&[("run", "deployment")]);
    let (router, mut openapi) = OpenApiRouter::with_openapi(document())
        .routes(routes!(session::login))
        .routes(routes!(session::login_single_sign_on))
        .routes(routes!(session::logout))
        .routes(routes!(session::ping))
        .merge(catalog())
        .routes(routes!(revisions::list, revisions::create))
        .routes(routes!(revisions::load_from_vql))
        .routes(routes!(revisions::get, revisions::delete))
        .routes(routes!(revisions::vql))
        .routes(routes!(properties::vdp_list, properties::vdp_put))
        .routes(routes!(properties::vdp_delete))
        .routes(routes!(properties::sch_list, properties::sch_put))
        .routes(routes!(properties::sch_list_other, properties::sch_put_other))
        .routes(routes!(properties::sch_delete))
        .routes(routes!(deployments::validate))
        .routes(routes!(deployments::drift))
        .routes(routes!(deployments::list, deployments::start))
        .routes(routes!(deployments::progress))
        .routes(routes!(deployments::cancel))
        .routes(routes!(deployments::approve))
        .routes(routes!(deployments::delete))
        .merge(served())
        .split_for_parts();
    refuse(&mut openapi, "application/json", &ErrorBody::name(), &REFUSALS);
    let reference = Reference {
        title: TITLE.to_owned(),
        page: "docs",
        document: "openapi.json",
        assets: "docs-assets",
        openapi,
    };
    let router = router.merge(aliases()).with_state(App { estate, promotion, options });
    // A browser sends the cookie, and a password it knows, whatever page has it send a request.
    let router = guard_writes(router.merge(reference.routes()?));
    Ok(face.wrap(if offers_tickets { tickets::replying(router) } else { router }))
}

/// Environments with what is in them.
fn catalog() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(environments::list, environments::create))
        .routes(routes!(environments::update, environments::delete))
        .routes(routes!(configuration::get, configuration::put))
        .routes(routes!(clusters::list))
        .routes(routes!(clusters::create))
        .routes(routes!(clusters::get, clusters::update, clusters::delete))
        .routes(routes!(configuration::cluster_variables, configuration::put_cluster_variables))
        .routes(routes!(servers::list))
        .routes(routes!(servers::create))
        .routes(routes!(servers::get, servers::update, servers::delete))
        .routes(routes!(configuration::server_variables, configuration::put_server_variables))
        .routes(routes!(licenses::list))
}

/// What other servers of this program ask for.
fn served() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(nodes::get))
        .routes(routes!(nodes::plan))
        .routes(routes!(nodes::apply))
        .routes(routes!(nodes::rollback))
        .routes(routes!(nodes::text, nodes::describe))
        .routes(routes!(nodes::application, nodes::withdraw))
}

/// Paths that the dialect's documentation has in the singular in some places; the document has only the plural.
fn aliases() -> Router<App> {
    Router::new()
        .route("/cluster/{id}", get(clusters::get).put(clusters::update).delete(clusters::delete))
        .route(
            "/cluster/{id}/loadBalancingVariables",
            get(configuration::cluster_variables).put(configuration::put_cluster_variables),
        )
        .route("/server/{id}", get(servers::get).put(servers::update).delete(servers::delete))
        .route(
            "/server/{id}/loadBalancingVariables",
            get(configuration::server_variables).put(configuration::put_server_variables),
        )
}

/// The error responses of this dialect.
const REFUSALS: [Refusal; 7] = [
    Refusal(400, When::Input, "The request is invalid."),
    Refusal(401, When::Caller, "The credential is missing or invalid."),
    Refusal(403, When::Caller, "You do not have permission."),
    Refusal(404, When::Named, "Not found."),
    Refusal(409, When::Change, "The current state does not allow it."),
    Refusal(429, When::Caller, "Too many passwords or tickets are being checked; try again."),
    Refusal(503, When::Caller, "The store is unavailable."),
];

fn document() -> OpenApi {
    let basic = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Basic).build());
    let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(caller::COOKIE)));
    let negotiate = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Negotiate).build());
    let components = ComponentsBuilder::new()
        .security_scheme("basic", basic)
        .security_scheme("negotiate", negotiate)
        .security_scheme("session", cookie);
    let security =
        ["session", "basic", "negotiate"].map(|name| SecurityRequirement::new(name, [] as [&str; 0]));
    OpenApiBuilder::new()
        .info(Info::builder().title(TITLE).version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT)))
        .components(Some(components.build()))
        .security(Some(security))
        .build()
}

const ABOUT: &str = "Sign in with `GET /login` and send the cookie `JSESSIONID` with later requests, or send \
     a user name and password with every request, or a Kerberos ticket if the server is configured for it. An error is \
     `{\"status\": …, \"message\": …}` with the same status. The ids in the examples are placeholders; use those from the lists.";
