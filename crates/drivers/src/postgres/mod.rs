//! PostgreSQL, and databases that speak its protocol (Redshift and CrateDB, untested).
//!
//! A statement is prepared and runs inside `BEGIN READ ONLY` at READ COMMITTED, which is rolled back; the catalog is read
//! in such a transaction too. Then the session is reset with `DISCARD ALL` and set up again before it is reused. On
//! CrateDB, which has no transactions, only the gate and the user's rights prevent writes.

mod binary;
mod chosen;
mod connect;
mod copy;
mod decode;
mod guard;
mod introspect;
mod load;
mod numeric;
mod query;
mod relay;
mod snapshot;
mod tools;

use std::sync::Arc;
use std::time::Duration;

use landreeve_core::ids::{BoxFuture, DatasourceId};
use landreeve_core::schema::Catalog;
use landreeve_core::snapshot::{Snapshot, SnapshotOptions, Snapshots};
use landreeve_core::source::{
    CancellationToken, ConnectSpec, Driver, Query, QueryStream, ServerInfo, SourceError,
};

use crate::net::Tls;
use crate::pool::{Lease, Pool};
use crate::{DriverOptions, Owner, feed, gate};
use connect::{Connector, Session};

/// The run of a backup or a restore has a limit of its own.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(7 * 86_400);
/// Reading a catalog may take long on a big database, but not forever.
const INTROSPECT_LIMIT: Duration = Duration::from_secs(300);

pub(crate) struct Postgres {
    connector: Connector,
    pool: Arc<Pool<Session>>,
    owner: Owner,
}

impl Postgres {
    pub fn new(options: &DriverOptions, tls: Tls, owner: Owner) -> Postgres {
        let connector = Connector {
            tls,
            application_name: options.application_name.clone(),
            bounds: options.bounds,
            owner: owner.clone(),
        };
        Postgres { connector, pool: Arc::new(Pool::new(options.idle_timeout, owner.clone())), owner }
    }
}

/// A pooled session if there is one, otherwise a new one. `fresh` always opens a new one, after a pooled one was dead.
async fn acquire(
    pool: &Pool<Session>,
    connector: &Connector,
    spec: &ConnectSpec,
) -> Result<(Lease<Session>, Session, bool), SourceError> {
    let (lease, idle) = pool.checkout(spec);
    if let Some(session) = idle.filter(|session| !session.client.is_closed()) {
        return Ok((lease, session, true));
    }
    let session = connector.connect(spec).await?;
    Ok((lease, session, false))
}

impl Driver for Postgres {
    fn test<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<ServerInfo, SourceError>> {
        let (connector, spec) = (self.connector.clone(), spec.clone());
        // Connecting has its own limit and a better error message; this one bounds what follows.
        let limit = spec.connect_timeout * 2;
        Box::pin(feed::run(&self.owner, cancel, limit, move |watch| async move {
            // Always a new connection: a pooled one would hide that the password was changed.
            let work = async {
                let session = connector.connect(&spec).await?;
                session.begin(limit).await?;
                session
                    .client
                    .simple_query("SELECT 1")
                    .await
                    .map_err(|error| connect::query_error(&error, 0))?;
                Ok(ServerInfo { version: session.version.clone(), zone: session.zone })
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
            let (lease, session) = watch.or_stop(query::begin(&connector, &pool, &spec, &watch)).await?;
            let done = tokio::select! {
                biased;
                stop = watch.stopped() => {
                    session.cancel().await;
                    session.discard().await;
                    return Err(stop.error());
                }
                done = introspect::catalog(&session, row_counts) => done,
            };
            if done.is_ok() {
                query::give_back(lease, session).await;
            }
            done
        }))
    }

    fn query<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        query: Query,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<QueryStream, SourceError>> {
        Box::pin(async move {
            if let Some(dialect) = spec.database_type.dialect() {
                gate::check(&query.sql, dialect)?;
            }
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

impl Snapshots for Postgres {
    /// One keeps the snapshot; `pg_dump` and a reader follow each other.
    /// One keeps the snapshot.
    fn connections(&self, readers: usize) -> usize {
        1 + readers
    }

    fn take<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        options: SnapshotOptions,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Box<dyn Snapshot>, SourceError>> {
        let (connector, spec, token) = (self.connector.clone(), spec.clone(), cancel.clone());
        Box::pin(feed::run(&self.owner, cancel, SNAPSHOT_LIMIT, move |watch| async move {
            let taken = snapshot::take(connector, spec, options, token, &watch).await?;
            Ok(Box::new(taken) as Box<dyn Snapshot>)
        }))
    }
}
