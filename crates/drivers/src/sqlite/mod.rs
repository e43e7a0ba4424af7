//! SQLite files, opened read-only, one thread per statement.
//!
//! In SQLite values have types; in a result columns have them. The rule: a column declared with a type we know is read
//! as that type; any other column (an expression) gets the type of its values in the first batch. A value that does not
//! fit is an error that names the column and the CAST that reads it; nothing is converted silently. Declared DATE is a
//! calendar date in ISO text, DATETIME and TIMESTAMP an ISO date and time without a zone; NUMERIC and DECIMAL are what
//! SQLite stores: a 64-bit float, or an integer that fits one exactly.
//!
//! The path must be canonical: it is opened without following symbolic links.

mod functions;
mod introspect;
mod open;
mod replaced;
mod rows;
mod snapshot;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use landreeve_core::ids::{BoxFuture, DatasourceId};
use landreeve_core::schema::Catalog;
use landreeve_core::snapshot::{Snapshot, SnapshotOptions, Snapshots};
use landreeve_core::source::{
    CancellationToken, ConnectSpec, Driver, Permit, Query, QueryStream, ServerInfo, SessionZone, SourceError,
    SourceErrorKind, Target,
};
use rusqlite::{Connection, InterruptHandle};
use tokio::sync::oneshot;

use crate::feed::{Stop, Watch};
use crate::{Bounds, Owner, errors, feed, gate};

/// The run of a backup has a limit of its own.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(7 * 86_400);
const INTROSPECT_LIMIT: Duration = Duration::from_secs(300);
/// The interrupt may arrive between two steps of a statement, so it is repeated.
const INTERRUPT_AGAIN: Duration = Duration::from_millis(20);

pub(crate) struct Sqlite {
    owner: Owner,
    bounds: Bounds,
}

impl Sqlite {
    pub fn new(bounds: Bounds, owner: Owner) -> Sqlite {
        Sqlite { owner, bounds }
    }

    /// Runs work on a separate thread with an open file; interrupts it when the watch says so.
    fn run<T, F>(
        &self,
        spec: &ConnectSpec,
        cancel: CancellationToken,
        limit: Duration,
        work: F,
    ) -> BoxFuture<'_, Result<T, SourceError>>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, SourceError> + Send + 'static,
    {
        let (path, permit) = (path_of(spec), spec.permit.clone());
        let (owner, bounds) = (self.owner.clone(), self.bounds);
        Box::pin(async move {
            let path = path?;
            feed::run(&self.owner, cancel, limit, move |watch| async move {
                on_thread(&owner, &watch, permit, move |handles| {
                    let connection = open::open(&path, bounds)?;
                    let _ = handles.send(connection.get_interrupt_handle());
                    work(&connection)
                })
                .await
            })
            .await
        })
    }
}

fn path_of(spec: &ConnectSpec) -> Result<PathBuf, SourceError> {
    match &spec.target {
        Target::File(path) => Ok(path.clone()),
        Target::Network { .. } | Target::Tables { .. } => Err(errors::wrong_target()),
    }
}

/// Waits for a blocking thread, interrupting SQLite repeatedly once the watch says stop.
async fn on_thread<T, F>(owner: &Owner, watch: &Watch, permit: Permit, work: F) -> Result<T, SourceError>
where
    T: Send + 'static,
    F: FnOnce(oneshot::Sender<InterruptHandle>) -> Result<T, SourceError> + Send + 'static,
{
    let (handle_in, handle_out) = oneshot::channel();
    let mut thread = owner.tasks.spawn_blocking(move || {
        let _permit = permit;
        work(handle_in)
    });
    let stop: Stop = tokio::select! {
        biased;
        done = &mut thread => return done.map_err(|_| errors::no_answer())?,
        stop = watch.stopped() => stop,
    };
    let Ok(handle) = handle_out.await else {
        return thread.await.map_err(|_| errors::no_answer())?;
    };
    loop {
        handle.interrupt();
        if let Ok(done) = tokio::time::timeout(INTERRUPT_AGAIN, &mut thread).await {
            done.map_err(|_| errors::no_answer())?.ok();
            return Err(stop.error());
        }
    }
}

impl Driver for Sqlite {
    fn test<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<ServerInfo, SourceError>> {
        self.run(spec, cancel, spec.connect_timeout, |connection| {
            // Only the first read shows whether the file is a database.
            connection
                .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
                .map_err(|error| open::error(&error, None))?;
            Ok(ServerInfo { version: rusqlite::version().to_owned(), zone: SessionZone::AsAsked })
        })
    }

    fn introspect<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        row_counts: bool,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Catalog, SourceError>> {
        self.run(spec, cancel, INTROSPECT_LIMIT, move |connection| {
            introspect::catalog(connection, row_counts)
        })
    }

    fn query<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        query: Query,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<QueryStream, SourceError>> {
        Box::pin(async move {
            gate::check(&query.sql, landreeve_core::datasource::SqlDialect::Sqlite)?;
            let (path, permit) = (path_of(spec)?, spec.permit.clone());
            let (feed, watch, outlet) = feed::open(&self.owner, cancel, query.time_limit)?;
            let (owner, bounds) = (self.owner.clone(), self.bounds);
            self.owner.tasks.spawn(async move {
                let inner = watch.clone();
                let runtime = tokio::runtime::Handle::current();
                // The thread ends the feed itself: only it knows how far it got.
                let _ = on_thread(&owner, &watch, permit, move |handles| {
                    let mut feed = feed;
                    let done = open::open(&path, bounds).and_then(|connection| {
                        let _ = handles.send(connection.get_interrupt_handle());
                        rows::pump(&connection, &query, bounds, &mut feed, |feed, batch| {
                            runtime.block_on(inner.or_stop(async {
                                feed.batch(batch).await;
                                Ok(())
                            }))
                        })
                    });
                    match done {
                        Ok(()) => feed.end(),
                        Err(error) if error.kind == SourceErrorKind::Cancelled => {
                            feed.fail(inner.reason().map_or(error, Stop::error));
                        }
                        Err(error) => feed.fail(error),
                    }
                    Ok(())
                })
                .await;
            });
            outlet.stream().await
        })
    }

    /// Every statement opens the file.
    fn forget(&self, _: DatasourceId) {}
}

impl Snapshots for Sqlite {
    fn connections(&self, _: usize) -> usize {
        1
    }

    fn take<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        options: SnapshotOptions,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Box<dyn Snapshot>, SourceError>> {
        let (path, permit) = (path_of(spec), spec.permit.clone());
        let (owner, bounds) = (self.owner.clone(), self.bounds);
        Box::pin(async move {
            let path = path?;
            feed::run(&self.owner, cancel, SNAPSHOT_LIMIT, move |watch| async move {
                let (inner, runtime) = (watch.clone(), tokio::runtime::Handle::current());
                on_thread(&owner, &watch, permit, move |handles| {
                    let connection = open::open(&path, bounds)?;
                    let _ = handles.send(connection.get_interrupt_handle());
                    let wait = |time: Duration| match (inner.reason(), time) {
                        (Some(stop), _) => Err(stop.error()),
                        (None, Duration::ZERO) => Ok(()),
                        (None, time) => runtime.block_on(inner.or_stop(async {
                            tokio::time::sleep(time).await;
                            Ok(())
                        })),
                    };
                    let taken = snapshot::take(&connection, &path, &options.scratch, bounds, wait)?;
                    Ok(Box::new(taken) as Box<dyn Snapshot>)
                })
                .await
            })
            .await
        })
    }
}
