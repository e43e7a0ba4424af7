//! The delivery plane on a kit's estate, with the real engine.

use std::path::PathBuf;
use std::sync::Arc;

use landreeve_core::RunKind;
use landreeve_delivery::queries::{DATA_QUERY, DataQueryExecutor};
use landreeve_delivery::teams::{TEAM_IMPORT, TeamImport};
use landreeve_delivery::{ATTRIBUTION, Delivery, DeliveryOptions, RetryAttribution};
use landreeve_drivers::{Bounds, Codec, DriverOptions, DriverSet, TextReader};
use landreeve_engine::{Engine, EngineOptions};
use landreeve_estate::outbound::Outbound;
use landreeve_estate::outbound::http::OutboundHttp;
use landreeve_estate::runs::Executor;
use landreeve_estate::store::{Location, Migrations, Store};
use landreeve_estate::{Plane, args};
use landreeve_vault::{Remote, Repositories};
use tokio::runtime::Handle;

use crate::Kit;

/// An engine that plans and reads no tables of an estate.
pub fn engine() -> Arc<Engine> {
    engine_in(std::env::temp_dir())
}

/// The encoders of results.
pub fn codec() -> Arc<dyn landreeve_core::source::ResultCodec> {
    Arc::new(Codec)
}

/// What keeps backups. Other machines are reached with the runtime that this is called in.
pub fn vault() -> Arc<Repositories> {
    let outbound = Outbound::new(Vec::new(), Vec::new(), PathBuf::from("."), Vec::new());
    let remote = Remote { http: Arc::new(OutboundHttp::new(outbound)), runtime: Handle::current() };
    // Small databases have several files of rows too.
    Arc::new(Repositories { remote: Some(remote), part_bytes: 256 * 1024 })
}

/// All drivers for users' databases.
pub fn drivers() -> Arc<DriverSet> {
    Arc::new(DriverSet::new(DriverOptions::default()).unwrap())
}

/// What reads files of rows.
pub fn files() -> Arc<TextReader> {
    Arc::new(TextReader { bounds: Bounds::default() })
}

pub(crate) fn engine_of(dir: &tempfile::TempDir) -> Arc<Engine> {
    engine_in(dir.path().join("spill"))
}

fn engine_in(spill_dir: PathBuf) -> Arc<Engine> {
    Arc::new(Engine::new(EngineOptions {
        memory_bytes: 256 * 1_024 * 1_024,
        max_value_bytes: 8 * 1_024 * 1_024,
        spill_dir,
        spill_bytes: 256 * 1_024 * 1_024,
        statements: 4,
        threads: 2,
    }))
}

pub(crate) fn delivery_plane_in(dir: &tempfile::TempDir) -> Plane {
    landreeve_delivery::plane(engine_of(dir), Arc::new(Codec), DeliveryOptions::default()).0
}

/// The number that a query returns from a copy of a kit's store, opened by a program that also has these planes.
pub async fn number_in_copy(copy: PathBuf, more: Vec<Plane>, sql: &'static str) -> i64 {
    let mut planes = vec![delivery_plane_in(&tempfile::tempdir().unwrap())];
    planes.extend(more);
    let store = Store::open(&Location::Sqlite(copy), &Migrations::of(&planes)).await.unwrap();
    let number = store.read().await.unwrap().one(sql, args![]).await.unwrap().int(0).unwrap();
    store.close().await;
    number
}

impl Kit {
    /// A new handle each time, which shares no cached state with the others.
    pub fn delivery(&self) -> Delivery {
        self.delivery_with(DeliveryOptions::default())
    }

    pub fn delivery_with(&self, options: DeliveryOptions) -> Delivery {
        Delivery::new(self.estate.clone(), self.engine(), Arc::new(Codec), options)
    }

    pub fn engine(&self) -> Arc<Engine> {
        engine_of(self.dir())
    }

    /// Starts executing probes and every kind of run of the plane.
    pub async fn start_delivery(&self, plane: &Delivery) {
        let executors: [(RunKind, Arc<dyn Executor>); 3] = [
            (DATA_QUERY.kind, Arc::new(DataQueryExecutor(plane.clone()))),
            (ATTRIBUTION.kind, Arc::new(RetryAttribution(plane.clone()))),
            (TEAM_IMPORT.kind, Arc::new(TeamImport(plane.clone()))),
        ];
        self.start_with(executors).await;
    }
}
