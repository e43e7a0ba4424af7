//! The delivery plane on a kit's estate, with the real engine under it.

use std::sync::Arc;

use landreeve_core::RunKind;
use landreeve_delivery::queries::DataQueryExecutor;
use landreeve_delivery::teams::TeamImport;
use landreeve_delivery::{Delivery, DeliveryOptions, RetryAttribution};
use landreeve_drivers::Codec;
use landreeve_engine::{Engine, EngineOptions};
use landreeve_estate::runs::Executor;

use crate::Kit;

impl Kit {
    /// A handle of its own each time: what it remembers, no other one does.
    pub fn delivery(&self) -> Delivery {
        self.delivery_with(DeliveryOptions::default())
    }

    pub fn delivery_with(&self, options: DeliveryOptions) -> Delivery {
        Delivery::new(self.estate.clone(), self.engine(), Arc::new(Codec), options)
    }

    pub fn engine(&self) -> Arc<Engine> {
        Arc::new(Engine::new(EngineOptions {
            memory_bytes: 256 * 1_024 * 1_024,
            spill_dir: self.dir.path().join("spill"),
            spill_bytes: 256 * 1_024 * 1_024,
            statements: 4,
            threads: 2,
        }))
    }

    /// Begins to execute probes and every kind of run that the plane has.
    pub async fn start_delivery(&self, plane: &Delivery) {
        let executors: [(RunKind, Arc<dyn Executor>); 3] = [
            (RunKind::DataQuery, Arc::new(DataQueryExecutor(plane.clone()))),
            (RunKind::Attribution, Arc::new(RetryAttribution(plane.clone()))),
            (RunKind::TeamImport, Arc::new(TeamImport(plane.clone()))),
        ];
        self.start_with(executors).await;
    }
}
