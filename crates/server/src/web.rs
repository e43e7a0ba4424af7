//! Mounts the faces under their base paths, together with the console, the catalog, health and metrics.

use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use landreeve_core::ids::DatasourceId;
use landreeve_core::tickets::TicketVerifier;
use landreeve_estate::Estate;
use landreeve_face_denodo::license_manager;
use landreeve_http::compress::Compressed;
use landreeve_http::health::{self, Check};
use landreeve_http::openapi::{CatalogEntry, catalog};
use landreeve_http::{FaceRouter, Mounts};
use landreeve_kerberos::Verifier;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::open::{self, Opened};

/// A dialect and where it is mounted.
struct Mounted {
    /// The base path without its slash, which is also the name of its separate listener.
    name: &'static str,
    title: &'static str,
    description: &'static str,
    /// Below the base path.
    page: &'static str,
    document: &'static str,
    router: FaceRouter,
}

/// The main router, and the routers of dialects that have a separate listener.
pub struct Routers {
    pub main: Compressed,
    own: Vec<(&'static str, FaceRouter)>,
}

impl Routers {
    pub fn own(&self, name: &str) -> Option<Compressed> {
        let (_, router) = self.own.iter().find(|(known, _)| *known == name)?;
        Some(router.clone().into())
    }
}

fn faces(opened: &Opened, sample: DatasourceId) -> anyhow::Result<Vec<Mounted>> {
    let (estate, plane) = (&opened.estate, &opened.analytics);
    let (clover, denodo) = (&opened.config.faces.clover, &opened.config.faces.solution_manager);
    Ok(vec![
        Mounted {
            name: "cluvio",
            title: "Analytics: Cluvio API",
            description: "Query datasources, store results, dashboards, reports, filters. Version 2024-06-01.",
            page: "docs",
            document: "openapi.json",
            router: landreeve_face_cluvio::api_router(
                plane.clone(),
                landreeve_face_cluvio::Options { sample: Some(sample), ..Default::default() },
            )?,
        },
        Mounted {
            name: "cluvio-data",
            title: "Analytics: Cluvio data server",
            description: "Fetch rows and schemas with a data access token.",
            page: "docs",
            document: "openapi.json",
            router: landreeve_face_cluvio::data_router(
                plane.clone(),
                landreeve_face_cluvio::Options::default(),
            )?,
        },
        Mounted {
            name: "dx",
            title: "Delivery: DX Data Cloud API and Web API",
            description: "Record deployments, changes, incidents and pipeline runs; teams, people, SQL over all of it.",
            page: "docs",
            document: "openapi.json",
            router: landreeve_face_dx::router(
                opened.delivery.clone(),
                &landreeve_face_dx::Options {
                    requests_per_minute: opened.config.faces.dx.requests_per_minute,
                    polls_per_run: opened.config.faces.dx.polls_per_run,
                },
            )?,
        },
        Mounted {
            name: "solution-manager",
            title: "Promotion: Denodo Solution Manager REST API",
            description: "Sessions, environments with clusters and servers, deployments.",
            page: "docs",
            document: "openapi.json",
            router: landreeve_face_denodo::router(
                estate.clone(),
                opened.promotion.clone(),
                landreeve_face_denodo::Options {
                    later_states: denodo.later_states,
                    bare_deployment_id: denodo.bare_deployment_id,
                    tickets: tickets(opened)?,
                },
            )?,
        },
        Mounted {
            name: "license-manager",
            title: "Promotion: Denodo License Manager REST API",
            description: "Release the lease of a server that has stopped, from trusted networks.",
            page: "docs",
            document: "openapi.json",
            router: license_manager::router(
                opened.promotion.clone(),
                license_manager::Options { trusted_networks: opened.config.trusted_networks()? },
            )?,
        },
        Mounted {
            name: "clover",
            title: "Jobs: CloverDX Server REST API",
            description: "Basic authentication with X-Requested-By, executions. Version 1.",
            page: "api/rest/v1/docs.html",
            document: "api/rest/v1/openapi.json",
            router: landreeve_face_cloverdx::router(
                estate.clone(),
                landreeve_face_cloverdx::Options { csrf: clover.csrf, csrf_on_get: clover.csrf_on_get },
            )?,
        },
        Mounted {
            name: "clumio",
            title: "Protection: Clumio REST API",
            description: "Backups, restores and policies of databases, users, units and tasks, with HAL links and Accept versions.",
            page: "docs",
            document: "openapi.json",
            router: landreeve_face_clumio::router(
                estate.clone(),
                opened.protection.clone(),
                landreeve_face_clumio::Options {
                    requests_per_second: opened.config.faces.clumio.requests_per_second,
                },
            )?,
        },
    ])
}

/// What checks Kerberos tickets, if it is configured. Which tickets have been used is recorded in the data directory.
fn tickets(opened: &Opened) -> anyhow::Result<Option<Arc<dyn TicketVerifier>>> {
    let kerberos = &opened.config.kerberos;
    let Some(realms) = kerberos.realms()? else { return Ok(None) };
    let folder = opened.data_dir.join("kerberos");
    open::make_data_dir(&folder)?;
    let folder = std::path::absolute(&folder).context("the data directory")?;
    let verifier = Verifier::open(&kerberos.keytab, &folder.join("replays"), realms)?;
    Ok(Some(Arc::new(verifier)))
}

/// `sample` is the built-in source that examples use.
pub fn routers(opened: &Opened, sample: DatasourceId, metrics: PrometheusHandle) -> anyhow::Result<Routers> {
    let faces = faces(opened, sample)?;
    let entries: Vec<CatalogEntry> = faces
        .iter()
        .map(|face| CatalogEntry {
            title: face.title.to_owned(),
            description: face.description.to_owned(),
            page: format!("/{}/{}", face.name, face.page),
            document: format!("/{}/{}", face.name, face.document),
        })
        .collect();
    let main = Router::new()
        .merge(catalog("Server REST API Catalog", &entries))
        .merge(health::routes(readiness(opened.estate.clone()), Arc::new(move || metrics.render())))
        .fallback_service(landreeve_console::router(opened.estate.clone())?);
    let own: Vec<(&'static str, FaceRouter)> =
        faces.into_iter().map(|face| (face.name, face.router)).collect();
    let main = Mounts::new(main, own.clone()).into();
    Ok(Routers { main, own })
}

/// Ready means that the store responds.
fn readiness(estate: Estate) -> health::Probe {
    Arc::new(move || {
        let estate = estate.clone();
        let probe = async move {
            let result =
                estate.check_store().await.map_err(|_| "the metadata store does not respond".to_owned());
            vec![Check { name: "store", result }]
        };
        Box::pin(probe) as Pin<Box<dyn Future<Output = Vec<Check>> + Send>>
    })
}
