//! Whether there is a store at a location. Checking creates nothing.

use landreeve_core::{Error, Result};
use sqlx::{Connection as _, Row as _};

use super::{ACQUIRE_TIMEOUT, Location, address, connect, store_error};

/// A SQLite store is its file; a PostgreSQL store has our schema.
pub async fn exists(location: &Location) -> Result<bool> {
    let url = match location {
        Location::Sqlite(path) => return Ok(path.exists()),
        Location::Postgres(url) => url,
    };
    let options = address::parse(url)?;
    let look = async {
        let mut conn = connect(&options).await?;
        let row = sqlx::query("SELECT to_regclass('migrations') IS NOT NULL").fetch_one(&mut conn).await;
        let found = row.and_then(|row| row.try_get(0)).map_err(store_error)?;
        conn.close().await.map_err(store_error)?;
        Ok(found)
    };
    match tokio::time::timeout(ACQUIRE_TIMEOUT, look).await {
        Ok(found) => found,
        Err(_) => Err(Error::unavailable("store", "the PostgreSQL database does not respond")),
    }
}
