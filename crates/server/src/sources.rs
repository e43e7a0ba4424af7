//! All drivers behind one port: drivers for the users' databases, and the engine over the server's own tables.

use std::sync::{Arc, OnceLock};

use landreeve_core::datasource::DatabaseType;
use landreeve_core::load::Loader;
use landreeve_core::snapshot::Snapshots;
use landreeve_core::source::{Driver, Drivers};
use landreeve_drivers::DriverSet;

pub struct Sources {
    pub set: DriverSet,
    /// For the tables of planes. Set once the planes are open: they need the estate, and the estate needs drivers.
    pub catalogs: OnceLock<Arc<dyn Driver>>,
}

impl Sources {
    pub fn new(set: DriverSet) -> Sources {
        Sources { set, catalogs: OnceLock::new() }
    }
}

impl Drivers for Sources {
    fn driver(&self, database_type: DatabaseType) -> Option<Arc<dyn Driver>> {
        match database_type {
            DatabaseType::Catalog(_) => self.catalogs.get().cloned(),
            other => self.set.driver(other),
        }
    }

    fn snapshots(&self, database_type: DatabaseType) -> Option<Arc<dyn Snapshots>> {
        self.set.snapshots(database_type)
    }

    fn loader(&self, database_type: DatabaseType) -> Option<Arc<dyn Loader>> {
        self.set.loader(database_type)
    }
}
