//! Runs one statement: read-only transaction, columns the server must return as text, batches, cleanup.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::{Schema, SchemaRef};
use futures_util::TryStreamExt;
use landreeve_core::source::{ConnectSpec, Query, SourceError};
use tokio_postgres::Statement;

use super::connect::{Connector, Session, query_error};
use super::decode::{self, Columns, Plan};
use crate::aside::{Turn, aside};
use crate::feed::{Feed, Watch};
use crate::pool::{LONGEST_KEPT, Lease, Pool};
use crate::{Bounds, errors, gate};

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
    let (lease, session) = match begun {
        Ok(begun) => begun,
        Err(error) => return feed.fail(error),
    };
    let outcome = tokio::select! {
        biased;
        stop = watch.stopped() => Err(stop),
        done = pump(&session, &query, connector.bounds, &mut feed) => Ok(done),
    };
    match outcome {
        Ok(Ok(reusable)) => {
            feed.end();
            if reusable {
                give_back(lease, session).await;
            } else {
                session.discard().await;
            }
        }
        Ok(Err(error)) => {
            // After a value that we could not represent, the server may still be producing rows.
            if session.traffic.refused.get().is_some() {
                feed.fail(error);
                session.cancel().await;
            } else if (error.code.is_none() || errors::is_too_large(&error)) && !session.client.is_closed() {
                feed.fail(error);
                session.cancel().await;
                session.discard().await;
            } else {
                feed.fail(error);
                give_back(lease, session).await;
            }
        }
        Err(stop) => {
            // Report the error first: reaching a server that hangs may take as long as the connect timeout.
            feed.fail(stop.error());
            session.cancel().await;
            session.discard().await;
        }
    }
}

/// Returns the session to the pool if it can be reset, otherwise drops it.
pub(crate) async fn give_back(lease: Lease<Session>, session: Session) {
    if !session.client.is_closed() && session.reset().await {
        lease.put(session);
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
    let (lease, session, pooled) = super::acquire(pool, connector, spec).await?;
    match session.begin(limit).await {
        Ok(()) => Ok((lease, session)),
        Err(_) if pooled => {
            let session = connector.connect(spec).await?;
            session.begin(limit).await?;
            Ok((lease, session))
        }
        Err(error) => Err(error),
    }
}

/// Returns whether the session can be reused.
async fn pump(
    session: &Session,
    query: &Query,
    bounds: Bounds,
    feed: &mut Feed,
) -> Result<bool, SourceError> {
    let statement = gate::check(&query.sql, session.dialect)?;
    let client = &session.client;
    let prepared = client.prepare(statement.text).await.map_err(|error| query_error(&error, 0))?;
    if !prepared.params().is_empty() {
        return Err(SourceError {
            code: Some("08P01".to_owned()),
            ..errors::unsupported(
                "the statement has placeholders such as $1, but no values were given for them",
            )
        });
    }
    let plan = decode::plan(prepared.columns(), &query.decimals);
    let (to_run, shift): (Statement, u32) = if plan.as_text.contains(&true) && statement.is_query {
        let (sql, shift) = with_text_columns(statement.text, &plan.as_text);
        (client.prepare(&sql).await.map_err(|error| query_error(&error, shift))?, shift)
    } else {
        (prepared.clone(), 0)
    };
    let schema: SchemaRef = Arc::new(Schema::new(plan.fields.clone()));
    // The schema is sent when the server has started to answer or the first batch is full, whichever is first.
    let streamed = async {
        let rows = client.query_raw(&to_run, std::iter::empty::<i32>()).await;
        let rows = rows.map_err(|error| query_error(&error, shift))?;
        stream_rows(rows, &plan, schema, query, bounds, feed, shift).await
    };
    let longest = streamed.await.map_err(|error| refused(session, &plan, bounds, false).unwrap_or(error))?;
    // The client keeps prepared statements for types it had to look up; DISCARD ALL would drop them. It also keeps a
    // buffer as large as the longest row.
    Ok(!plan.has_custom_types && longest <= LONGEST_KEPT)
}

/// What the connection was given up for, in terms of the statement. A backup has limits of its own.
pub(super) fn refused(
    session: &Session,
    plan: &Plan,
    bounds: Bounds,
    for_backup: bool,
) -> Option<SourceError> {
    let refused = session.traffic.refused.get()?;
    if !refused.is_row {
        return Some(errors::message_too_large(refused.bytes));
    }
    let field = refused.column.and_then(|column| plan.fields.get(column));
    Some(match (field, for_backup) {
        (Some(field), true) => errors::value_too_large_for_backup(field.name(), refused.bytes, bounds),
        (Some(field), false) => errors::value_too_large(field.name(), refused.bytes, bounds),
        (None, true) => errors::row_too_large_for_backup(bounds),
        (None, false) => errors::row_too_large(Some(refused.bytes), bounds),
    })
}

/// Returns the size of the longest row.
pub(super) async fn stream_rows(
    rows: tokio_postgres::RowStream,
    plan: &Plan,
    schema: SchemaRef,
    query: &Query,
    bounds: Bounds,
    feed: &mut Feed,
    shift: u32,
) -> Result<usize, SourceError> {
    let batch_rows = query.batch_rows.max(1);
    let mut columns = Columns::new(plan, batch_rows, bounds);
    let mut rows = pin!(rows);
    let (mut sent, mut turn) = (false, Turn::default());
    let (mut bytes, mut longest) = (0_usize, 0_usize);
    while let Some(row) = rows.try_next().await.map_err(|error| query_error(&error, shift))? {
        let size = row.raw_size_bytes();
        aside(size, || {
            let appended = columns.append(&row);
            drop(row);
            appended
        })?;
        turn.took(size).await;
        bytes += size;
        longest = longest.max(size);
        if columns.rows() >= batch_rows || bytes >= query.batch_bytes {
            if !std::mem::replace(&mut sent, true) {
                feed.schema(schema.clone());
            }
            feed.batch(columns.finish(&schema)?).await;
            bytes = 0;
        }
    }
    // An error in the first rows is the result of the query itself; that is why the schema was held back.
    if !sent {
        feed.schema(schema.clone());
    }
    if columns.rows() > 0 {
        feed.batch(columns.finish(&schema)?).await;
    }
    Ok(longest)
}

/// Makes the server return text for the columns whose binary form we do not decode. Also returns the number of
/// characters before the user's SQL.
fn with_text_columns(sql: &str, as_text: &[bool]) -> (String, u32) {
    let mut head = "SELECT ".to_owned();
    let mut names = String::new();
    for (index, text) in as_text.iter().enumerate() {
        if index > 0 {
            head.push_str(", ");
            names.push_str(", ");
        }
        let name = format!("_lr_{index}");
        head.push_str(&name);
        if *text {
            head.push_str("::text");
        }
        names.push_str(&name);
    }
    head.push_str(" FROM (\n");
    let shift = u32::try_from(head.chars().count()).unwrap_or(0);
    // The line breaks keep a comment at the end of the user's SQL from swallowing the parenthesis.
    (format!("{head}{sql}\n) AS _lr ({names})"), shift)
}
