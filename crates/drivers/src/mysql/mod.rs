//! MySQL and MariaDB.
//!
//! A statement is prepared (that protocol accepts only one statement) and runs inside `START TRANSACTION READ ONLY` at
//! REPEATABLE READ, which is rolled back; the catalog is read in such a transaction too. Then the connection is reset
//! and set up again before it is reused. LOCAL INFILE has no handler, so a server that asks for a file gets none.
//!
//! Backups (`snapshot`, `contents`, `definitions`) and restores (`load`, `values`) have sessions of their own, which are not
//! pooled; those of restores are the only ones that write.
//!
//! A TIMESTAMP arrives in the session's time zone. In the hour that a zone repeats in autumn it is ambiguous, and we
//! take the first. Use `UNIX_TIMESTAMP(col)` to distinguish the two.

mod connect;
mod contents;
mod decode;
mod definitions;
mod introspect;
mod load;
mod query;
mod snapshot;
mod text;
mod values;

use std::sync::Arc;
use std::time::Duration;

use landreeve_core::datasource::SqlDialect;
use landreeve_core::ids::{BoxFuture, DatasourceId};
use landreeve_core::schema::Catalog;
use landreeve_core::source::{
    CancellationToken, ConnectSpec, Driver, Query, QueryStream, ServerInfo, SourceError,
};

use crate::net::Tls;
use crate::pool::{Lease, Pool};
use crate::{DriverOptions, Owner, feed, gate};
use connect::{Connector, Session};

const INTROSPECT_LIMIT: Duration = Duration::from_secs(300);
/// The caller has a stricter one.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(7 * 86_400);

pub(crate) struct MySql {
    connector: Connector,
    pool: Arc<Pool<Session>>,
    owner: Owner,
}

impl MySql {
    pub fn new(options: &DriverOptions, tls: Tls, owner: Owner) -> MySql {
        let connector =
            Connector { tls, application_name: options.application_name.clone(), bounds: options.bounds };
        MySql { connector, pool: Arc::new(Pool::new(options.idle_timeout, owner.clone())), owner }
    }
}

/// A pooled session that still responds, or a new one.
async fn acquire(
    pool: &Pool<Session>,
    connector: &Connector,
    spec: &ConnectSpec,
) -> Result<(Lease<Session>, Session, bool), SourceError> {
    let (lease, idle) = pool.checkout(spec);
    if let Some(session) = idle {
        return Ok((lease, session, true));
    }
    let session = connector.connect(spec).await?;
    Ok((lease, session, false))
}

impl Driver for MySql {
    fn test<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<ServerInfo, SourceError>> {
        let (connector, spec) = (self.connector.clone(), spec.clone());
        // Connecting has its own limit and a better error message; this one bounds what follows.
        let limit = spec.connect_timeout * 2;
        Box::pin(feed::run(&self.owner, cancel, limit, move |watch| async move {
            let work = async {
                let mut session = connector.connect(&spec).await?;
                session.begin(limit).await?;
                let info = ServerInfo { version: session.version.clone(), zone: session.zone };
                session.close().await;
                Ok(info)
            };
            watch.or_stop(work).await
        }))
    }

    fn introspect<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        row_counts: bool,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Catalog, SourceError>> {
        let (connector, pool, spec) = (self.connector.clone(), self.pool.clone(), spec.clone());
        Box::pin(feed::run(&self.owner, cancel, INTROSPECT_LIMIT, move |watch| async move {
            let (lease, mut session) = watch.or_stop(query::begin(&connector, &pool, &spec, &watch)).await?;
            let stopped = tokio::select! {
                biased;
                stop = watch.stopped() => Err(stop),
                done = introspect::catalog(&mut session, row_counts) => Ok(done),
            };
            match stopped {
                Err(stop) => {
                    connector.kill(&spec, session).await;
                    Err(stop.error())
                }
                Ok(Ok(catalog)) => {
                    query::give_back(lease, session).await;
                    Ok(catalog)
                }
                Ok(Err(error)) => {
                    session.close().await;
                    Err(error)
                }
            }
        }))
    }

    fn query<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        query: Query,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<QueryStream, SourceError>> {
        Box::pin(async move {
            gate::check(&query.sql, SqlDialect::MySql)?;
            let (feed, watch, outlet) = feed::open(&self.owner, cancel, query.time_limit)?;
            let (connector, pool, spec) = (self.connector.clone(), self.pool.clone(), spec.clone());
            self.owner.tasks.spawn(query::run(connector, pool, spec, query, feed, watch));
            outlet.stream().await
        })
    }

    fn forget(&self, datasource: DatasourceId) {
        self.pool.forget(datasource);
    }
}
