//! The analytics plane in the words of the Cluvio API v2024-06-01: the API server's routes and the data server's.
//!
//! Inside: `caller` makes an `OpCtx` of a credential, `error` a response of an error kind, `permissions` grants of the
//! dialect's permission names; one module per noun has the handlers, the module of the same name in `wire` converts.
//! What must not enter: a rule of the business. Handlers parse, call one use case, and render.

mod agents;
mod caller;
mod catalog;
mod dashboards;
mod data;
mod datasources;
mod error;
mod executions;
mod filters;
mod include;
mod input;
mod media;
mod organization;
pub mod permissions;
mod reports;
mod snippets;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use landreeve_analytics::{Analytics, BuiltinSnippets};
use landreeve_core::Result;
use landreeve_core::hashid::HashIds;
use landreeve_core::ids::DatasourceId;
use landreeve_estate::ops::Estate;
use landreeve_http::Face;
use utoipa_axum::router::OpenApiRouter;

/// What the dialect calls the built-in snippets, for `Analytics::new`.
pub const BUILTIN_SNIPPETS: BuiltinSnippets = BuiltinSnippets {
    user_email: "CLUVIO_USER_EMAIL",
    user_first_name: "CLUVIO_USER_FIRSTNAME",
    user_last_name: "CLUVIO_USER_LASTNAME",
    user_role: "CLUVIO_USER_ROLE",
    dashboard_name: "CLUVIO_DASHBOARD_NAME",
    dashboard_id: "CLUVIO_DASHBOARD_ID",
};

#[derive(Debug, Clone)]
pub struct Options {
    /// The most that `wait=` may ask for.
    pub longest_wait: Duration,
    /// The built-in source that the examples of the reference use.
    pub sample: Option<DatasourceId>,
}

impl Default for Options {
    fn default() -> Options {
        Options { longest_wait: Duration::from_secs(60), sample: None }
    }
}

/// What every handler has at hand.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

struct Shared {
    plane: Analytics,
    options: Options,
}

impl App {
    fn new(plane: Analytics, options: Options) -> App {
        App(Arc::new(Shared { plane, options }))
    }

    pub(crate) fn plane(&self) -> &Analytics {
        &self.0.plane
    }

    pub(crate) fn estate(&self) -> &Estate {
        self.0.plane.estate()
    }

    pub(crate) fn ids(&self) -> &HashIds {
        self.estate().hash_ids()
    }

    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }
}

/// The API server, to be mounted at `/cluvio` or on a listener of its own.
pub fn api_router(plane: Analytics, options: Options) -> Result<Router> {
    let face = Face::new("cluvio", Arc::clone(plane.estate().random()), error::render_api)
        .calling(&[("run", "execution")]);
    let sample = options.sample.map(|id| plane.estate().hash_ids().encode_grouped(id));
    let (routes, document) = api_routes().with_state(App::new(plane, options)).split_for_parts();
    Ok(face.wrap(
        routes.merge(catalog::api(document, sample.as_deref()).routes_with(catalog::requests::separate)?),
    ))
}

/// The data server, to be mounted at `/cluvio-data` or on a listener of its own.
pub fn data_router(plane: Analytics, options: Options) -> Result<Router> {
    let face = Face::new("cluvio-data", Arc::clone(plane.estate().random()), error::render_data);
    let (routes, document) = data::routes().with_state(App::new(plane, options)).split_for_parts();
    Ok(face.wrap(routes.merge(catalog::data(document).routes()?)))
}

fn api_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(datasources::routes())
        .merge(agents::routes())
        .merge(executions::routes())
        .merge(dashboards::routes())
        .merge(reports::routes())
        .merge(filters::routes())
        .merge(snippets::routes())
        .merge(organization::routes())
}
