//! The License Manager, which the dialect has on a listener or under a base path of its own: releasing the lease of a
//! server that has stopped, and a health check. Neither takes a credential; releasing is only for trusted networks.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::response::IntoResponse as _;
use http::StatusCode;
use http::request::Parts;
use landreeve_core::{OpCtx, OpKind, Result};
use landreeve_estate::ops::{Network, Origin, sign_in};
use landreeve_http::csrf::own_site;
use landreeve_http::extract::Query;
use landreeve_http::openapi::Reference;
use landreeve_http::{Face, FaceRouter, Failure, Outcome};
use landreeve_promotion::Promotion;
use landreeve_promotion::leases::lease_release;
use utoipa::openapi::{Info, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::wire::Answer;
use crate::wire::error::ErrorBody;
use crate::wire::shutdown::{ShutdownBody, ShutdownQuery};
use crate::{Route, error};

pub const NAME: &str = "license-manager";
pub const TITLE: &str = "Denodo License Manager REST API";

#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where requests that release leases can come from.
    pub trusted_networks: Vec<Network>,
}

/// The state of the handlers.
#[derive(Clone)]
struct Manager {
    promotion: Promotion,
    trusted: Arc<[Network]>,
}

/// Every operation of this router; a test compares it with the OpenAPI document.
pub const ROUTES: &[Route] = &[("GET", "/externalShutdown", "open"), ("GET", "/pingLicenseManager", "open")];

/// The router, to be mounted at its prefix or at the root of a listener.
pub fn router(promotion: Promotion, options: Options) -> Result<FaceRouter> {
    let face = Face::new(NAME, promotion.estate().random().clone(), error::render);
    let (router, openapi) = OpenApiRouter::with_openapi(document())
        .routes(routes!(external_shutdown))
        .routes(routes!(ping))
        .split_for_parts();
    let reference = Reference {
        title: TITLE.to_owned(),
        page: "docs",
        document: "openapi.json",
        assets: "docs-assets",
        openapi,
    };
    let router = router.with_state(Manager { promotion, trusted: options.trusted_networks.into() });
    Ok(face.wrap(router.merge(reference.routes()?)))
}

fn document() -> OpenApi {
    OpenApiBuilder::new()
        .info(Info::builder().title(TITLE).version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT)))
        .build()
}

const ABOUT: &str = "No request takes a credential. Leases are released only for requests from the networks in \
     `[license_manager] trusted_networks` of the server's configuration. An error is \
     `{\"status\": …, \"message\": …}` with the same status.";

/// A request from a trusted network, not sent by a page of another site.
struct Trusted(OpCtx);

impl FromRequestParts<Manager> for Trusted {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, manager: &Manager) -> Result<Trusted, Failure> {
        let origin = landreeve_http::Origin::from_request_parts(parts, &()).await?;
        let origin = Origin { request_id: origin.request_id, address: origin.address, kind: OpKind::Denodo };
        let ctx = sign_in::by_network(manager.promotion.estate(), &manager.trusted, origin)?;
        // Unlike other reads, this one changes something.
        own_site(parts)?;
        Ok(Trusted(ctx))
    }
}

/// Release the lease of a server that has stopped
///
/// The host is spelled exactly as in the server's `urlIP`: give `nodeIp` or `hostDomainName`, not both. Servers with this
/// address are found in every organizational unit. A server that is still running gets another lease within a minute.
#[utoipa::path(
    get,
    path = "/externalShutdown",
    operation_id = "externalShutdown",
    tag = "Licenses",
    security(()),
    params(
        ("nodeIp" = Option<String>, Query, description = "The server's host, if it is an IP address.",
            example = "10.0.0.5"),
        ("hostDomainName" = Option<String>, Query, description = "The server's host, if it is a name.",
            example = "vdp-prod.example.com"),
        ("port" = u32, Query, minimum = 1, maximum = 65535, description = "The server's port.", example = 9999),
        ("product" = String, Query, description = "`VDP`; servers of other products hold no lease.", example = "VDP"),
    ),
    responses(
        (status = 200, body = ShutdownBody, example = json!({
            "result": "OK", "message": "released the license of the VDP server vdp-prod.example.com:9999"
        })),
        (status = 400, body = ErrorBody, example = json!({
            "status": 400, "message": "port is required",
            "problems": [{ "field": "port", "message": "is required" }]
        })),
        (status = 403, body = ErrorBody, example = json!({
            "status": 403, "message": "requests from this address are not allowed"
        })),
        (status = 503, body = ErrorBody, example = json!({
            "status": 503, "message": "the metadata store does not respond"
        })),
    )
)]
async fn external_shutdown(
    State(manager): State<Manager>,
    Trusted(ctx): Trusted,
    query: Query,
) -> Outcome<Answer<ShutdownBody>> {
    let server = ShutdownQuery::parse(&query)?;
    if !server.is_known_product() {
        return Ok(Answer(StatusCode::OK, ShutdownBody::unknown_product(&server)));
    }
    let released = lease_release(&manager.promotion, &ctx, &server.host, server.port).await?;
    Ok(Answer(StatusCode::OK, ShutdownBody::new(&server, released)))
}

/// Check that the License Manager and its metadata store are running
#[utoipa::path(
    get,
    path = "/pingLicenseManager",
    operation_id = "pingLicenseManager",
    tag = "Health",
    security(()),
    responses(
        (status = 200, body = String, content_type = "text/plain", example = "OK"),
        (status = 503, body = ErrorBody, example = json!({
            "status": 503, "message": "the metadata store does not respond"
        })),
    )
)]
async fn ping(State(manager): State<Manager>) -> Outcome {
    manager.promotion.estate().check_store().await?;
    Ok("OK".into_response())
}
