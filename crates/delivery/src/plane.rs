//! The handle that the plane's use cases use.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use landreeve_core::Result;
use landreeve_core::datasource::{CatalogType, DatabaseType};
use landreeve_core::ids::DatasourceId;
use landreeve_core::source::ResultCodec;
use landreeve_core::table::SqlEngine;
use landreeve_estate::ops::scheduled::{self, RunFollower};
use landreeve_estate::plane::{CatalogSpec, NounSpec, Plane, PlaneParts, SettingsSection, Slot};
use landreeve_estate::schedules::FixedSchedule;
use landreeve_estate::store::MigrationSet;
use landreeve_estate::{Estate, ops};
use serde::Deserialize;

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
        catalogs: vec![CatalogSpec { database_type: DATABASE_TYPE, builtin: true }],
        settings: Some(SETTINGS),
        open: Box::new(move |estate| {
            let plane = Delivery::new(estate.clone(), engine, codec, options);
            filled.fill(plane.clone());
            Ok(PlaneParts {
                executors: vec![
                    (DATA_QUERY.kind, Arc::new(DataQueryExecutor(plane.clone()))),
                    (ATTRIBUTION.kind, Arc::new(RetryAttribution(plane.clone()))),
                    (TEAM_IMPORT.kind, Arc::new(TeamImport(plane.clone()))),
                ],
                catalogs: vec![(DATABASE_TYPE, Arc::new(plane.catalog()))],
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

/// The type of the built-in source.
pub const DATABASE_TYPE: CatalogType = CatalogType::new("landreeve_delivery");
/// The name of the built-in source.
const SOURCE: &str = "Delivery Data";
/// Its word in the inventory.
const BUILTIN: &str = "delivery";

/// The plane's tables as a datasource of every unit; added to an estate that does not have it.
pub async fn source(plane: &Delivery) -> Result<DatasourceId> {
    let ctx = ops::sign_in::system(&plane.estate);
    let database_type = DatabaseType::Catalog(DATABASE_TYPE);
    ops::datasources::ensure_builtin(&plane.estate, &ctx, BUILTIN, SOURCE, database_type, None).await
}

pub const SETTINGS: SettingsSection =
    SettingsSection { name: "delivery", defaults: include_str!("../settings.default.toml") };

/// The plane's section of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeliveryOptions {
    /// Reject unknown repositories instead of adding them.
    pub strict_repositories: bool,
    /// A stored result larger than this fails its query run.
    pub max_result_bytes: u64,
    /// A result with more rows than this fails its query run.
    pub max_rows: NonZeroU64,
    pub query_seconds: NonZeroU64,
}

impl DeliveryOptions {
    pub fn query_time_limit(&self) -> Duration {
        Duration::from_secs(self.query_seconds.get())
    }
}

impl Default for DeliveryOptions {
    fn default() -> DeliveryOptions {
        DeliveryOptions {
            strict_repositories: false,
            max_result_bytes: 1_024 * 1_024 * 1_024,
            max_rows: const { NonZeroU64::new(1_000_000).unwrap() },
            query_seconds: const { NonZeroU64::new(120).unwrap() },
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
