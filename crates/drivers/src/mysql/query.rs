//! Runs one statement: read-only transaction, batches, cleanup.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use landreeve_core::datasource::SqlDialect;
use landreeve_core::source::{ConnectSpec, Query, SourceError, SourceErrorKind};
use mysql_async::prelude::Queryable;
use mysql_async::{BinaryProtocol, Error, IoError, Params, QueryResult};

use super::connect::{Connector, Session, query_error};
use super::decode::Columns;
use crate::aside::{Aside, Turn, aside};
use crate::feed::{Feed, Watch};
use crate::pool::{LONGEST_KEPT, Lease, Pool};
use crate::{Bounds, errors, gate};

/// The client's error about a row larger than `max_allowed_packet`.
const TOO_LARGE: &str = "Packet is larger than max_allowed_packet";

pub(crate) async fn run(
    connector: Connector,
    pool: Arc<Pool<Session>>,
    spec: ConnectSpec,
    query: Query,
    mut feed: Feed,
    watch: Watch,
) {
    let begun = tokio::select! {
        biased;
        stop = watch.stopped() => Err(stop.error()),
        begun = begin(&connector, &pool, &spec, &watch) => begun,
    };
    let (lease, mut session) = match begun {
        Ok(begun) => begun,
        Err(error) => return feed.fail(error),
    };
    let outcome = tokio::select! {
        biased;
        stop = watch.stopped() => Err(stop),
        done = pump(&mut session, &query, connector.bounds, &mut feed) => Ok(done),
    };
    match outcome {
        Ok(Ok(longest)) => {
            feed.end();
            if longest <= LONGEST_KEPT {
                give_back(lease, session).await;
            } else {
                session.close().await;
            }
        }
        Ok(Err(error)) => {
            let refused = error.kind == SourceErrorKind::Query && !errors::is_too_large(&error);
            feed.fail(error);
            if refused {
                give_back(lease, session).await;
            } else {
                connector.kill(&spec, session).await;
            }
        }
        Err(stop) => {
            feed.fail(stop.error());
            connector.kill(&spec, session).await;
        }
    }
}

/// Returns the session to the pool if it can be reset, otherwise drops it.
pub(crate) async fn give_back(lease: Lease<Session>, mut session: Session) {
    if session.reset().await {
        lease.put(session);
    } else {
        session.close().await;
    }
}

/// A session inside its read-only transaction. A pooled session may have died meanwhile; since nothing has run on it
/// yet, a new one replaces it.
pub(crate) async fn begin(
    connector: &Connector,
    pool: &Pool<Session>,
    spec: &ConnectSpec,
    watch: &Watch,
) -> Result<(Lease<Session>, Session), SourceError> {
    // Slightly later than our own timer, which knows the reason; this one stops the server if we cannot.
    let limit = watch.remaining().saturating_add(Duration::from_secs(1));
    let (lease, mut session, pooled) = super::acquire(pool, connector, spec).await?;
    match session.begin(limit).await {
        Ok(()) => Ok((lease, session)),
        Err(_) if pooled => {
            session.close().await;
            let mut session = connector.connect(spec).await?;
            session.begin(limit).await?;
            Ok((lease, session))
        }
        Err(error) => Err(error),
    }
}

/// Returns the size of the longest row.
async fn pump(
    session: &mut Session,
    query: &Query,
    bounds: Bounds,
    feed: &mut Feed,
) -> Result<usize, SourceError> {
    let statement = gate::check(&query.sql, SqlDialect::MySql)?;
    let clock = session.clock.clone();
    let prepared = session.conn.prep(statement.text).await.map_err(|error| query_error(&error))?;
    if prepared.num_params() > 0 {
        return Err(SourceError::new(
            SourceErrorKind::Query,
            "the statement has placeholders such as ?, but no values were given for them",
        ));
    }
    let rows = session.conn.exec_iter(&prepared, Params::Empty).await.map_err(|error| query_error(&error))?;
    let columns = Columns::new(rows.columns_ref(), clock, bounds)?;
    stream(rows, columns, query, bounds, feed).await
}

/// Delivers all rows of a result. Returns the size of the longest row.
pub(super) async fn stream(
    mut rows: QueryResult<'_, '_, BinaryProtocol>,
    mut columns: Columns,
    query: &Query,
    bounds: Bounds,
    feed: &mut Feed,
) -> Result<usize, SourceError> {
    let schema = columns.schema();
    let (mut sent, mut turn) = (false, Turn::default());
    let (mut bytes, mut longest) = (0_usize, 0_usize);
    let mut last = 0;
    loop {
        // The next row is probably as long as the last.
        let next = Aside { future: pin!(rows.next()), bytes: || last };
        let Some(row) = next.await.map_err(|error| row_error(&error, bounds))? else { break };
        let size = aside(last, || {
            let size = columns.append(&row);
            drop(row);
            size
        })?;
        last = size;
        turn.took(size).await;
        bytes += size;
        longest = longest.max(size);
        if columns.rows() >= query.batch_rows.max(1) || bytes >= query.batch_bytes {
            if !std::mem::replace(&mut sent, true) {
                feed.schema(schema.clone());
            }
            feed.batch(columns.finish(&schema)?).await;
            bytes = 0;
        }
    }
    if !sent {
        feed.schema(schema.clone());
    }
    if columns.rows() > 0 {
        feed.batch(columns.finish(&schema)?).await;
    }
    Ok(longest)
}

/// The client checks the length of a row before it reads it. Its error has no type that we can name.
fn row_error(error: &Error, bounds: Bounds) -> SourceError {
    match error {
        Error::Io(IoError::Io(io)) if io.get_ref().is_some_and(|inner| inner.to_string() == TOO_LARGE) => {
            errors::row_too_large(None, bounds)
        }
        other => query_error(other),
    }
}
