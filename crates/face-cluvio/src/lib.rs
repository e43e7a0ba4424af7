//! The Cluvio API v2024-06-01 for the analytics plane: the routes of the API server and of the data server.
//!
//! Inside: `caller` turns a credential into an `OpCtx`, `error` an error kind into a response, `permissions` the
//! dialect's permission names into grants; each noun has a module with its handlers, and a module of the same name in
//! `wire` with its conversions. Does not belong here: business rules. Handlers parse, call one use case, and render.

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

use landreeve_analytics::{Analytics, BuiltinSnippets};
use landreeve_core::Result;
use landreeve_core::hashid::HashIds;
use landreeve_core::ids::DatasourceId;
use landreeve_estate::ops::{Datasource, Estate};
use landreeve_http::{Face, FaceRouter, Rendered};
use utoipa_axum::router::OpenApiRouter;

use crate::catalog::requests;
pub use crate::data::document as rows_document;

/// The dialect's names for the built-in snippets, for `Analytics::new`.
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
    /// Maximum value of `wait=`.
    pub longest_wait: Duration,
    /// The built-in source that the reference's examples use.
    pub sample: Option<DatasourceId>,
}

impl Default for Options {
    fn default() -> Options {
        Options { longest_wait: Duration::from_secs(60), sample: None }
    }
}

/// The state of the handlers.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

struct Shared {
    plane: Analytics,
    options: Options,
    /// Each as visible with credentials, or without.
    datasources: Rendered<(DatasourceId, bool), Datasource>,
}

impl App {
    fn new(plane: Analytics, options: Options) -> App {
        App(Arc::new(Shared { plane, options, datasources: Rendered::default() }))
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

    pub(crate) fn datasources(&self) -> &Rendered<(DatasourceId, bool), Datasource> {
        &self.0.datasources
    }

    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }
}

/// The router of the API server, to be mounted at `/cluvio` or at the root of a listener.
pub fn api_router(plane: Analytics, options: Options) -> Result<FaceRouter> {
    let face = Face::new("cluvio", Arc::clone(plane.estate().random()), error::render_api)
        .calling(&[("run", "execution")]);
    let sample = options.sample.map(|id| plane.estate().hash_ids().encode_grouped(id));
    let types = plane.estate().registry().database_types();
    let (routes, document) = api_routes().with_state(App::new(plane, options)).split_for_parts();
    let reference = catalog::api(document, sample.as_deref());
    Ok(face.wrap(routes.merge(reference.routes_with(|document| requests::separate(document, &types))?)))
}

/// The router of the data server, to be mounted at `/cluvio-data` or at the root of a listener.
pub fn data_router(plane: Analytics, options: Options) -> Result<FaceRouter> {
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
