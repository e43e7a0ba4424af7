//! The few places where the two databases need different SQL.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// Ends a SELECT whose row this transaction is about to change. SQLite has only one writer and needs nothing.
    pub const fn pick(self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        match self {
            Dialect::Sqlite => sqlite,
            Dialect::Postgres => postgres,
        }
    }
}

/// The store's clock: on PostgreSQL that of the database, which all nodes share.
macro_rules! store_now {
    (sqlite $now:literal) => {
        $now
    };
    (postgres $now:literal) => {
        // The parameter stays, so that both databases have the same parameters.
        concat!("(CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) + 0 * ", $now, ")")
    };
}
pub(crate) use store_now;
