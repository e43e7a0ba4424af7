//! Whether there is a store at a place. Looking creates nothing.

use std::str::FromStr as _;

use landreeve_core::{Error, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::{ACQUIRE_TIMEOUT, Location, not_an_address, store_error};

/// A SQLite store is its file; one in PostgreSQL has a schema of ours.
pub async fn exists(location: &Location) -> Result<bool> {
    let url = match location {
        Location::Sqlite(path) => return Ok(path.exists()),
        Location::Postgres(url) => url,
    };
    let options = PgConnectOptions::from_str(url).map_err(not_an_address)?.application_name("landreeve");
    let look = async {
        let mut conn = options.connect().await?;
        let row = sqlx::query("SELECT to_regclass('migrations') IS NOT NULL").fetch_one(&mut conn).await?;
        conn.close().await?;
        row.try_get(0)
    };
    match tokio::time::timeout(ACQUIRE_TIMEOUT, look).await {
        Ok(found) => found.map_err(store_error),
        Err(_) => Err(Error::unavailable("store", "the PostgreSQL database does not answer")),
    }
}
