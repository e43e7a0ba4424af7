//! A driver without connections of its own, as that of virtual databases, keeps no permit; the statement does.

use std::sync::Arc;
use std::time::Duration;

use arrow_schema::Schema;
use futures_util::stream;
use jiff::tz::TimeZone;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::ids::{BoxFuture, DatasourceId};
use landreeve_core::schema::Catalog;
use landreeve_core::source::{
    CancellationToken, ConnectSpec, Driver, Permit, Query, QueryStream, ServerInfo, SourceError,
    SourceErrorKind, Target, TlsMode,
};
use landreeve_estate::inventory::permits::ConnectionLimits;

/// Its statements never end.
struct Endless;

fn unsupported<'a, T>() -> BoxFuture<'a, Result<T, SourceError>> {
    Box::pin(async { Err(SourceError::new(SourceErrorKind::Unsupported, "only statements")) })
}

impl Driver for Endless {
    fn test<'a>(
        &'a self,
        _: &'a ConnectSpec,
        _: CancellationToken,
    ) -> BoxFuture<'a, Result<ServerInfo, SourceError>> {
        unsupported()
    }

    fn introspect<'a>(
        &'a self,
        _: &'a ConnectSpec,
        _: bool,
        _: CancellationToken,
    ) -> BoxFuture<'a, Result<Catalog, SourceError>> {
        unsupported()
    }

    fn query<'a>(
        &'a self,
        _: &'a ConnectSpec,
        _: Query,
        _: CancellationToken,
    ) -> BoxFuture<'a, Result<QueryStream, SourceError>> {
        let batches = Box::pin(stream::pending());
        Box::pin(async { Ok(QueryStream { schema: Arc::new(Schema::empty()), batches }) })
    }

    fn forget(&self, _: DatasourceId) {}
}

fn spec() -> ConnectSpec {
    ConnectSpec {
        datasource: DatasourceId(1),
        version: 1,
        database_type: DatabaseType::Sqlite,
        target: Target::File("none".into()),
        tls: TlsMode::Prefer,
        time_zone: TimeZone::UTC,
        max_connections: 1,
        permit: Permit::default(),
        connect_timeout: Duration::from_secs(1),
    }
}

fn query(time_limit: Duration) -> Query {
    Query { sql: "SELECT 1".to_owned(), time_limit, batch_rows: 1, batch_bytes: 1, decimals: Vec::new() }
}

#[tokio::test]
async fn a_statement_counts_until_its_rows_have_been_read() {
    let limits = ConnectionLimits::default();
    let run = |limit| limits.query(&Endless, spec(), query(limit), CancellationToken::new());
    let first = run(Duration::from_secs(10)).await.unwrap();
    let second = run(Duration::from_millis(20)).await.map(|_| ()).unwrap_err();
    assert_eq!(second.kind, SourceErrorKind::TimedOut, "{second}");
    assert!(second.message.contains("none of the datasource's 1 connections"), "{second}");
    drop(first);
    run(Duration::from_secs(10)).await.unwrap();
}
