//! All drivers behind one port: drivers for the users' databases, and the engine over the server's own tables.

use std::sync::{Arc, OnceLock};

use landreeve_core::datasource::DatabaseType;
use landreeve_core::source::{Driver, Drivers};
use landreeve_drivers::DriverSet;

pub struct Sources {
    pub set: DriverSet,
    /// Set once the plane whose tables it reads is open: the plane needs the estate, and the estate needs drivers.
    pub delivery: OnceLock<Arc<dyn Driver>>,
}

impl Sources {
    pub fn new(set: DriverSet) -> Sources {
        Sources { set, delivery: OnceLock::new() }
    }
}

impl Drivers for Sources {
    fn driver(&self, database_type: DatabaseType) -> Option<Arc<dyn Driver>> {
        match database_type {
            DatabaseType::Delivery => self.delivery.get().cloned(),
            other => self.set.driver(other),
        }
    }
}
