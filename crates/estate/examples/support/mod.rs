//! An estate for a measurement: an empty folder or an empty PostgreSQL database.

use std::sync::Arc;
use std::time::Duration;

use landreeve_core::SystemClock;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::source::{Driver, Drivers};
use landreeve_estate::blobs::Blobs;
use landreeve_estate::outbound::Outbound;
use landreeve_estate::plane::Plane;
use landreeve_estate::random::OsRandom;
use landreeve_estate::runs::RunOptions;
use landreeve_estate::secrets::SealKey;
use landreeve_estate::store::{Location, StoreOptions};
use landreeve_estate::{Estate, EstateOptions};

struct NoDrivers;

impl Drivers for NoDrivers {
    fn driver(&self, _: DatabaseType) -> Option<Arc<dyn Driver>> {
        None
    }
}

/// `statement_limit` is the store's; filling a million rows takes longer than a request is allowed to.
pub async fn open(place: &str, planes: Vec<Plane>, statement_limit: Duration) -> Estate {
    let folder = std::env::temp_dir().join(format!("landreeve-example-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let location = match Location::parse(place) {
        Location::Sqlite(path) => {
            std::fs::create_dir_all(&path).expect("a folder");
            Location::Sqlite(path.join("estate.db"))
        }
        postgres => postgres,
    };
    let options = EstateOptions {
        location,
        planes,
        seal: SealKey::generate(&OsRandom),
        clock: Arc::new(SystemClock),
        random: Arc::new(OsRandom),
        blobs: Blobs::local(&folder.join("blobs")).expect("a folder"),
        outbound: Outbound::new(Vec::new(), Vec::new(), folder, Vec::new()),
        drivers: Arc::new(NoDrivers),
        store: StoreOptions { statement_limit },
        runs: RunOptions::default(),
        cores: 2,
    };
    Estate::open(options).await.expect("opens")
}
