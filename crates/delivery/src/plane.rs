//! The handle that the plane's use cases use.

use std::sync::Arc;
use std::time::Duration;

use landreeve_core::Result;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::ids::DatasourceId;
use landreeve_core::source::ResultCodec;
use landreeve_core::table::SqlEngine;
use landreeve_estate::ops::scheduled::{self, RunFollower};
use landreeve_estate::plane::{NounSpec, Plane, PlaneParts, Slot};
use landreeve_estate::schedules::FixedSchedule;
use landreeve_estate::store::MigrationSet;
use landreeve_estate::{Estate, ops};

use crate::attribution::{ATTRIBUTION, EVERY_QUARTER, RetryAttribution};
use crate::events::Hear;
use crate::names::Known;
use crate::nouns;
use crate::queries::{DATA_QUERY, DataQueryExecutor};
use crate::tables::DeliveryCatalog;
use crate::teams::{TEAM_IMPORT, TeamImport};

/// The plane's tables.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    component: "delivery",
    sqlite: &[
        include_str!("../migrations/sqlite/0001_delivery.sql"),
        include_str!("../migrations/sqlite/0002_last_deployment.sql"),
        include_str!("../migrations/sqlite/0003_moving.sql"),
    ],
    postgres: &[
        include_str!("../migrations/postgres/0001_delivery.sql"),
        include_str!("../migrations/postgres/0002_last_deployment.sql"),
        include_str!("../migrations/postgres/0003_moving.sql"),
    ],
};

/// The plane, and where to find its handle once the estate is open.
pub fn plane(
    engine: Arc<dyn SqlEngine>,
    codec: Arc<dyn ResultCodec>,
    options: DeliveryOptions,
) -> (Plane, Slot<Delivery>) {
    let slot = Slot::default();
    let filled = slot.clone();
    let plane = Plane {
        migrations: MIGRATIONS,
        ids: crate::ids::KINDS,
        kinds: vec![DATA_QUERY, ATTRIBUTION, TEAM_IMPORT],
        nouns: [nouns::DELIVERY, nouns::PERSON, nouns::TEAM, nouns::FEED].map(NounSpec::content).to_vec(),
        open: Box::new(move |estate| {
            let plane = Delivery::new(estate.clone(), engine, codec, options);
            filled.fill(plane.clone());
            Ok(PlaneParts {
                executors: vec![
                    (DATA_QUERY.kind, Arc::new(DataQueryExecutor(plane.clone()))),
                    (ATTRIBUTION.kind, Arc::new(RetryAttribution(plane.clone()))),
                    (TEAM_IMPORT.kind, Arc::new(TeamImport(plane.clone()))),
                ],
                subscribers: vec![Arc::new(Hear(plane))],
                follower: Some(Arc::new(RunFollower { estate: estate.clone(), lane: |_| None })),
                schedules: vec![FixedSchedule {
                    name: "attribution",
                    cron: EVERY_QUARTER,
                    body: scheduled::body(&ATTRIBUTION, r#"{"version":1}"#)?,
                }],
                ..PlaneParts::default()
            })
        }),
        ..Plane::new("delivery")
    };
    (plane, slot)
}

/// The name of the built-in source.
const SOURCE: &str = "Delivery Data";
/// Its address in the inventory, which is also the catalog's name.
pub const CATALOG: &str = "delivery";

/// The plane's tables as a datasource of every unit; added to an estate that does not have it.
pub async fn source(plane: &Delivery) -> Result<DatasourceId> {
    let ctx = ops::sign_in::system(&plane.estate);
    ops::datasources::ensure_builtin(&plane.estate, &ctx, CATALOG, SOURCE, DatabaseType::Delivery, None).await
}

#[derive(Debug, Clone)]
pub struct DeliveryOptions {
    /// Reject unknown repositories instead of adding them.
    pub strict_repositories: bool,
    /// A stored result larger than this fails its query run.
    pub max_result_bytes: u64,
    /// A result with more rows than this fails its query run.
    pub max_rows: u64,
    pub query_time_limit: Duration,
}

impl Default for DeliveryOptions {
    fn default() -> DeliveryOptions {
        DeliveryOptions {
            strict_repositories: false,
            max_result_bytes: 1_024 * 1_024 * 1_024,
            max_rows: 1_000_000,
            query_time_limit: Duration::from_secs(120),
        }
    }
}

#[derive(Clone)]
pub struct Delivery {
    estate: Estate,
    engine: Arc<dyn SqlEngine>,
    codec: Arc<dyn ResultCodec>,
    options: DeliveryOptions,
    known: Arc<Known>,
}

impl Delivery {
    pub fn new(
        estate: Estate,
        engine: Arc<dyn SqlEngine>,
        codec: Arc<dyn ResultCodec>,
        options: DeliveryOptions,
    ) -> Delivery {
        Delivery { estate, engine, codec, options, known: Arc::default() }
    }

    pub fn estate(&self) -> &Estate {
        &self.estate
    }

    pub fn codec(&self) -> &dyn ResultCodec {
        &*self.codec
    }

    pub fn options(&self) -> &DeliveryOptions {
        &self.options
    }

    /// The plane's tables, for other planes that query them.
    pub fn catalog(&self) -> DeliveryCatalog {
        DeliveryCatalog::new(self.estate.store().clone())
    }

    pub(crate) fn engine(&self) -> &dyn SqlEngine {
        &*self.engine
    }

    pub(crate) fn known(&self) -> &Known {
        &self.known
    }
}
