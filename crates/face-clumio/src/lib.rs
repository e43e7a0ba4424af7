//! The Clumio dialect: versions by `Accept`, organizational units by a header, HAL links, runs as tasks.
//!
//! Does not belong here: rules about what is allowed. Those are in `estate::ops` and the planes.

mod alerts;
mod app;
mod audit;
mod backups;
mod caller;
mod consolidated;
mod datasources;
mod discovery;
mod error;
mod policies;
mod rate;
mod records;
mod restores;
mod roles;
mod settings;
mod tasks;
mod units;
mod users;
mod version;
mod wire;

use landreeve_core::Result;
use landreeve_estate::ops::Estate;
use landreeve_http::openapi::{Reference, Refusal, When, refuse};
use landreeve_http::{Face, FaceRouter};
use landreeve_protection::Protection;
use utoipa::ToSchema as _;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, Info, OpenApi, OpenApiBuilder, SecurityRequirement};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::discovery::Operations;
use crate::rate::Limit;
use crate::wire::error::ErrorBody;

pub const NAME: &str = "clumio";
pub const TITLE: &str = "Clumio REST API";

/// Method, path and the required access: `open`, `credential`, or a permission.
pub type Route = (&'static str, &'static str, &'static str);

/// Every operation of this face; a test compares it with the OpenAPI document.
pub const ROUTES: &[Route] = &[
    ("GET", "/", "credential"),
    ("GET", "/users", "user:view"),
    ("POST", "/users", "user:manage"),
    ("PATCH", "/users/my-profile", "credential"),
    ("PUT", "/users/_change_password", "credential"),
    ("PUT", "/users/{user_id}/password", "credential"),
    ("GET", "/users/{user_id}", "user:view"),
    ("PATCH", "/users/{user_id}", "user:manage"),
    ("DELETE", "/users/{user_id}", "user:manage"),
    ("GET", "/roles", "user:view"),
    ("GET", "/roles/permissions", "user:view"),
    ("GET", "/roles/{role_id}", "user:view"),
    ("GET", "/audit-trails", "audit:view"),
    ("GET", "/settings/general", "setting:view"),
    ("PATCH", "/settings/general", "setting:manage"),
    ("GET", "/organizational-units", "ou:view"),
    ("POST", "/organizational-units", "ou:manage"),
    ("GET", "/organizational-units/{id}", "ou:view"),
    ("PATCH", "/organizational-units/{id}", "ou:manage"),
    ("DELETE", "/organizational-units/{id}", "ou:manage"),
    ("GET", "/tasks", "run:view"),
    ("GET", "/tasks/{task_id}", "run:view"),
    ("PATCH", "/tasks/{task_id}", "run:manage"),
    ("GET", "/policies/definitions", "policy:view"),
    ("POST", "/policies/definitions", "policy:manage"),
    ("GET", "/policies/definitions/{policy_id}", "policy:view"),
    ("PUT", "/policies/definitions/{policy_id}", "policy:manage"),
    ("DELETE", "/policies/definitions/{policy_id}", "policy:manage"),
    ("POST", "/policies/assignments", "policy:manage"),
    ("GET", "/alerts/individual", "alert:view"),
    ("GET", "/alerts/individual/{individual_alert_id}", "alert:view"),
    ("PATCH", "/alerts/individual/{individual_alert_id}", "alert:manage"),
    ("GET", "/alerts/consolidated", "alert:view"),
    ("GET", "/alerts/consolidated/{consolidated_alert_id}", "alert:view"),
    ("PATCH", "/alerts/consolidated/{consolidated_alert_id}", "alert:manage"),
    ("GET", "/datasources/aws/environments", "datasource:view"),
    ("GET", "/datasources/aws/environments/{environment_id}", "datasource:view"),
    ("GET", "/datasources/aws/rds-resources", "datasource:view"),
    ("GET", "/datasources/aws/rds-resources/{resource_id}", "datasource:view"),
    ("GET", "/backups/aws/rds-resources", "backup:view"),
    ("POST", "/backups/aws/rds-resources", "backup:manage"),
    ("GET", "/backups/aws/rds-resources/{backup_id}", "backup:view"),
    ("GET", "/backups/aws/rds-resources/{backup_id}/databases", "backup:view"),
    ("GET", "/backups/aws/rds-resources/{backup_id}/databases/{database_name}/tables", "backup:view"),
    (
        "GET",
        "/backups/aws/rds-resources/{backup_id}/databases/{database_name}/tables/{table_id}",
        "backup:view",
    ),
    (
        "GET",
        "/backups/aws/rds-resources/{backup_id}/databases/{database_name}/tables/{table_id}/columns",
        "backup:view",
    ),
    ("POST", "/restores/aws/rds-resources", "restore:use"),
    ("POST", "/restores/aws/rds-resources/records", "record:use"),
    ("GET", "/restores/aws/rds-resources/records", "record:use"),
    ("GET", "/restores/aws/rds-resources/records/{record_id}", "record:use"),
    ("GET", "/restores/aws/rds-resources/records/{record_id}/_download", "open"),
];

pub fn routes() -> &'static [Route] {
    ROUTES
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Requests to all operations together; 0: no limit.
    pub requests_per_second: u32,
}

/// The router of the dialect, to be mounted at its prefix or at the root of a listener.
pub fn router(estate: Estate, protection: Protection, options: Options) -> Result<FaceRouter> {
    let face = Face::new(NAME, estate.random().clone(), error::render).calling(&[("run", "task")]);
    let (router, mut openapi) = OpenApiRouter::with_openapi(document())
        .routes(routes!(discovery::discover))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::update_profile))
        .routes(routes!(users::change_password))
        .routes(routes!(users::change_password_v1))
        .routes(routes!(users::read, users::update, users::delete))
        .routes(routes!(roles::list))
        .routes(routes!(roles::list_permissions))
        .routes(routes!(roles::read))
        .routes(routes!(settings::read, settings::update))
        .routes(routes!(audit::list))
        .routes(routes!(units::list, units::create))
        .routes(routes!(units::read, units::update, units::delete))
        .routes(routes!(tasks::list))
        .routes(routes!(tasks::read, tasks::update))
        .routes(routes!(policies::list, policies::create))
        .routes(routes!(policies::read, policies::update, policies::delete))
        .routes(routes!(policies::assign))
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::read, alerts::update))
        .routes(routes!(consolidated::list))
        .routes(routes!(consolidated::read, consolidated::update))
        .routes(routes!(datasources::list_environments))
        .routes(routes!(datasources::read_environment))
        .routes(routes!(datasources::list_resources))
        .routes(routes!(datasources::read_resource))
        .routes(routes!(backups::list, backups::create))
        .routes(routes!(backups::read))
        .routes(routes!(backups::list_databases))
        .routes(routes!(backups::list_tables))
        .routes(routes!(backups::read_table))
        .routes(routes!(backups::read_columns))
        .routes(routes!(restores::restore))
        .routes(routes!(records::list, records::restore))
        .routes(routes!(records::read))
        .routes(routes!(records::download))
        .split_for_parts();
    refuse(&mut openapi, "application/json", &ErrorBody::name(), &REFUSALS);
    let operations = Operations::of(&openapi);
    let reference = Reference {
        title: TITLE.to_owned(),
        page: "docs",
        document: "openapi.json",
        assets: "docs-assets",
        openapi,
    };
    let limit = Limit::new(options.requests_per_second);
    let router = router.with_state(App { estate, protection, operations, limit });
    Ok(face.wrap(router.merge(reference.routes()?)))
}

/// The error responses of this dialect. A body that is too large is 400 here.
const REFUSALS: [Refusal; 7] = [
    Refusal(400, When::Always, "The request is invalid, or `Accept` names an unknown version."),
    Refusal(401, When::Caller, "The token is missing or invalid."),
    Refusal(403, When::Caller, "You do not have permission."),
    Refusal(404, When::Named, "Not found."),
    Refusal(409, When::Change, "The current state does not allow it."),
    Refusal(429, When::Always, "There are too many requests."),
    Refusal(503, When::Caller, "The store is unavailable."),
];

fn document() -> OpenApi {
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("A token created with `landreeve key create --api clumio --user NAME`."))
        .build();
    let components = ComponentsBuilder::new().security_scheme("token", SecurityScheme::Http(token));
    OpenApiBuilder::new()
        .info(Info::builder().title(TITLE).version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT)))
        .components(Some(components.build()))
        .security(Some([SecurityRequirement::new("token", [] as [&str; 0])]))
        .build()
}

const ABOUT: &str = "The header `Accept` names the version of a resource (`application/api.clumio.users=v2+json`, \
     `application/api.clumio.*=v1+json`, or both joined with `&`) [default: the newest version]. The header \
     `X-Clumio-OrganizationalUnit-Context` names the organizational unit to work in. An error is \
     `{\"errors\": [{\"error_code\": …, \"error_message\": …}]}` with one entry per fault. \
     The ids of tasks and users in the examples are placeholders; use those in the lists.";
