//! Events: how planes notify each other. An event is written in the transaction of the change that it reports,
//! delivered at least once and in order, and consumed by subscribers that each have a cursor.
//!
//! The list is short and typed. Does not belong here: subscribers, or what they do.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::ids::{BoxFuture, DatasourceId, EventId, OuId, RunId};
use landreeve_core::{Error, Result, RunKind, RunState, clock};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Estate;
use crate::args;
use crate::store::{Append, Dialect, Notice, Row, Tx, store_now};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    RunFinished {
        run: RunId,
        kind: RunKind,
        state: RunState,
        noun_id: Option<i64>,
    },
    DatasourceChanged {
        datasource: DatasourceId,
        change: DatasourceChange,
    },
    /// One of our promotions finished.
    DeploymentFinished {
        deployment: i64,
        service: String,
        environment: String,
        success: bool,
        finished_at: Timestamp,
        /// `None`: recorded before there were any.
        details: Option<Promoted>,
    },
    /// One of our monitors started to fail, or recovered.
    MonitorChanged {
        monitor: i64,
        name: String,
        service: Option<String>,
        failing: bool,
        at: Timestamp,
    },
}

/// Who deployed what, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promoted {
    pub user: String,
    /// The name of the environment, which says more than what the environment is for.
    pub environment: String,
    /// Their names, in the order in which they were executed.
    pub revisions: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatasourceChange {
    Created,
    /// The connection settings changed.
    Reconnected,
    /// Something else changed.
    Updated,
    Deleted,
}

/// The stored form. One fixture per version stays in the tests forever.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Stored {
    RunFinished {
        version: u32,
        run: i64,
        kind: String,
        state: String,
        noun_id: Option<i64>,
    },
    DatasourceChanged {
        version: u32,
        datasource: i64,
        change: String,
    },
    DeploymentFinished {
        version: u32,
        deployment: i64,
        service: String,
        environment: String,
        success: bool,
        finished_at: i64,
        /// Since version 2.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<Promoted>,
    },
    MonitorChanged {
        version: u32,
        monitor: i64,
        name: String,
        service: Option<String>,
        failing: bool,
        at: i64,
    },
}

impl DatasourceChange {
    const ALL: [DatasourceChange; 4] = [
        DatasourceChange::Created,
        DatasourceChange::Reconnected,
        DatasourceChange::Updated,
        DatasourceChange::Deleted,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            DatasourceChange::Created => "created",
            DatasourceChange::Reconnected => "reconnected",
            DatasourceChange::Updated => "updated",
            DatasourceChange::Deleted => "deleted",
        }
    }
}

impl Event {
    fn store(&self) -> (&'static str, &'static str, i64, Stored) {
        match self {
            Event::RunFinished { run, kind, state, noun_id } => (
                "run_finished",
                "run",
                run.0,
                Stored::RunFinished {
                    version: 1,
                    run: run.0,
                    kind: kind.as_str().to_owned(),
                    state: state.as_str().to_owned(),
                    noun_id: *noun_id,
                },
            ),
            Event::DatasourceChanged { datasource, change } => (
                "datasource_changed",
                "datasource",
                datasource.0,
                Stored::DatasourceChanged {
                    version: 1,
                    datasource: datasource.0,
                    change: change.as_str().to_owned(),
                },
            ),
            Event::DeploymentFinished { deployment, service, environment, success, finished_at, details } => {
                (
                    "deployment_finished",
                    "deployment",
                    *deployment,
                    Stored::DeploymentFinished {
                        version: if details.is_some() { 2 } else { 1 },
                        deployment: *deployment,
                        service: service.clone(),
                        environment: environment.clone(),
                        success: *success,
                        finished_at: finished_at.as_microsecond(),
                        details: details.clone(),
                    },
                )
            }
            Event::MonitorChanged { monitor, name, service, failing, at } => (
                "monitor_changed",
                "monitor",
                *monitor,
                Stored::MonitorChanged {
                    version: 1,
                    monitor: *monitor,
                    name: name.clone(),
                    service: service.clone(),
                    failing: *failing,
                    at: at.as_microsecond(),
                },
            ),
        }
    }

    fn load(stored: Stored) -> Option<Event> {
        Some(match stored {
            Stored::RunFinished { run, kind, state, noun_id, .. } => Event::RunFinished {
                run: RunId(run),
                kind: RunKind::stored(&kind),
                state: RunState::parse(&state)?,
                noun_id,
            },
            Stored::DatasourceChanged { datasource, change, .. } => Event::DatasourceChanged {
                datasource: DatasourceId(datasource),
                change: DatasourceChange::ALL.into_iter().find(|known| known.as_str() == change)?,
            },
            Stored::DeploymentFinished {
                deployment,
                service,
                environment,
                success,
                finished_at,
                details,
                ..
            } => {
                let finished_at = clock::from_micros(finished_at);
                Event::DeploymentFinished { deployment, service, environment, success, finished_at, details }
            }
            Stored::MonitorChanged { monitor, name, service, failing, at, .. } => {
                Event::MonitorChanged { monitor, name, service, failing, at: clock::from_micros(at) }
            }
        })
    }
}

/// An event with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    pub id: EventId,
    pub ou: OuId,
    pub at: Timestamp,
    pub event: Event,
}

/// Consumes events. An event may be delivered twice, so handling must be idempotent.
pub trait Subscriber: Send + Sync + 'static {
    fn name(&self) -> &'static str;
    fn handle<'a>(&'a self, event: &'a Delivered) -> BoxFuture<'a, Result<()>>;
}

/// On PostgreSQL. The numbers are taken at the end of the transaction, because they are locked until its commit.
static EVENT: Append = Append {
    one: "WITH numbered AS (INSERT INTO sequences (kind, next) VALUES ('event', 2) \
          ON CONFLICT (kind) DO UPDATE SET next = sequences.next + 1 RETURNING next) \
          INSERT INTO outbox (id, kind, noun, noun_id, ou_id, body, created_at) \
          SELECT next - 1, $1, $2, $3, $4, $5, $6 FROM numbered",
    many: "WITH events AS (SELECT * FROM unnest($1, $2, $3, $4, $5, $6) WITH ORDINALITY \
           AS e (kind, noun, noun_id, ou_id, body, created_at, place)), \
           numbered AS (INSERT INTO sequences (kind, next) VALUES ('event', 1 + (SELECT count(*) FROM events)) \
           ON CONFLICT (kind) DO UPDATE SET next = sequences.next + (SELECT count(*) FROM events) RETURNING next) \
           INSERT INTO outbox (id, kind, noun, noun_id, ou_id, body, created_at) \
           SELECT next - 1 - (SELECT count(*) FROM events) + place, kind, noun, noun_id, ou_id, body, created_at \
           FROM numbered, events",
};

/// Appends an event in the transaction of its change.
///
/// The number is assigned in the transaction itself, so that numbers become visible in order on PostgreSQL too: a
/// cursor never skips one that commits late.
pub async fn append(tx: &mut Tx, ou: OuId, event: &Event, now: Timestamp) -> Result<()> {
    let (kind, noun, noun_id, stored) = event.store();
    let body = serde_json::to_string(&stored).map_err(Error::internal)?;
    match tx.dialect() {
        Dialect::Postgres => tx.append(&EVENT, args![kind, noun, noun_id, ou, body, now]).await?,
        Dialect::Sqlite => {
            let next = "INSERT INTO sequences (kind, next) VALUES ('event', 2) \
                        ON CONFLICT (kind) DO UPDATE SET next = sequences.next + 1 RETURNING next";
            let id = tx.one(next, args![]).await?.int(0)? - 1;
            tx.exec(
                "INSERT INTO outbox (id, kind, noun, noun_id, ou_id, body, created_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                args![id, kind, noun, noun_id, ou, body, now],
            )
            .await?;
        }
    }
    tx.notice(Notice::Outbox).await
}

/// Deletes what every subscriber of this program (`,inventory,`) has consumed; former subscribers hold nothing back.
pub async fn purge(tx: &mut Tx, subscribers: &str) -> Result<u64> {
    let sql = tx.dialect().pick(
        "DELETE FROM outbox WHERE id <= (SELECT COALESCE(min(cursor_id), 0) FROM subscribers \
         WHERE instr($1, ',' || name || ',') > 0)",
        "DELETE FROM outbox WHERE id <= (SELECT COALESCE(min(cursor_id), 0) FROM subscribers \
         WHERE strpos($1, ',' || name || ',') > 0)",
    );
    tx.exec(sql, args![subscribers]).await
}

const LEASE: Duration = Duration::from_secs(30);
/// Time limit for handling one event. Together with `RENEW` it is not longer than the lease, so that two nodes never
/// deliver the same event at the same time.
const HANDLING: Duration = Duration::from_secs(20);
/// A lease of this age is renewed before the next event is delivered.
const RENEW: Duration = Duration::from_secs(10);
const BATCH: i64 = 100;
/// How long events are collected before they are delivered together: each delivery costs reads and a commit.
const GATHERING: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_secs(10);

/// Delivers events to the subscribers until stopped. Only the node with the lease does so.
pub async fn dispatch(estate: Estate, subscribers: Vec<Arc<dyn Subscriber>>, stop: CancellationToken) {
    let mut dispatcher = Dispatcher { estate, renewed: None };
    while !stop.is_cancelled() {
        let busy = match dispatcher.holds_lease().await {
            Ok(true) => dispatcher.round(&subscribers, &stop).await,
            Ok(false) => false,
            Err(error) => {
                tracing::warn!(%error, "could not acquire the dispatcher's lease");
                false
            }
        };
        if !busy {
            tokio::select! {
                () = stop.cancelled() => return,
                () = dispatcher.estate.store().notices().outbox() => {}
                () = tokio::time::sleep(IDLE) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(GATHERING) => {}
            }
        }
    }
}

struct Dispatcher {
    estate: Estate,
    /// When the lease was last renewed.
    renewed: Option<Instant>,
}

/// Creates cursors for new subscribers; call it before the first event that they must receive. A new subscriber starts
/// at the present and does not receive earlier events.
pub async fn register(estate: &Estate, subscribers: &[Arc<dyn Subscriber>]) -> Result<()> {
    let names: Vec<&'static str> = subscribers.iter().map(|subscriber| subscriber.name()).collect();
    estate.note_subscribers(&names);
    estate
        .store()
        .write(move |tx| {
            Box::pin(async move {
                for name in names {
                    tx.exec(
                        "INSERT INTO subscribers (name, cursor_id, failures, retry_at) \
                         SELECT $1, COALESCE((SELECT next - 1 FROM sequences WHERE kind = 'event'), 0), 0, 0 \
                         WHERE NOT EXISTS (SELECT 1 FROM subscribers WHERE name = $2)",
                        args![name, name],
                    )
                    .await?;
                }
                Ok(())
            })
        })
        .await
}

/// Acquires or keeps a lease. `false` if another node has it.
pub async fn lease(estate: &Estate, name: &'static str, term: Duration) -> Result<bool> {
    macro_rules! statement {
        ($store:ident) => {
            concat!(
                "INSERT INTO leases (name, node_id, until) VALUES ($1, $2, ",
                store_now!($store "$4"),
                " + $3) ON CONFLICT (name) DO UPDATE SET node_id = excluded.node_id, until = excluded.until \
                 WHERE leases.node_id = excluded.node_id OR leases.until < ",
                store_now!($store "$4"),
                " OR NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.id = leases.node_id)"
            )
        };
    }
    let Some(node) = estate.runs().node() else { return Ok(false) };
    let (now, term) = (estate.now(), i64::try_from(term.as_micros()).unwrap_or(i64::MAX / 4));
    // The lease of a node that has deregistered is immediately free.
    estate
        .store()
        .write(move |tx| {
            Box::pin(async move {
                let sql = tx.dialect().pick(statement!(sqlite), statement!(postgres));
                Ok(tx.exec(sql, args![name, node, term, now]).await? > 0)
            })
        })
        .await
}

impl Dispatcher {
    /// Renews the lease if it is old. `false` if another node has it, and this one must not deliver events.
    async fn holds_lease(&mut self) -> Result<bool> {
        if self.renewed.is_some_and(|at| at.elapsed() < RENEW) {
            return Ok(true);
        }
        let began = Instant::now();
        let holds = lease(&self.estate, "dispatcher", LEASE).await?;
        self.renewed = holds.then_some(began);
        Ok(holds)
    }

    /// Delivers one batch to each subscriber. `true` if there may be more.
    async fn round(&mut self, subscribers: &[Arc<dyn Subscriber>], stop: &CancellationToken) -> bool {
        let mut busy = false;
        for subscriber in subscribers {
            match self.deliver(&**subscriber, stop).await {
                Ok(more) => busy |= more,
                Err(error) => {
                    tracing::warn!(subscriber = subscriber.name(), %error, "could not deliver events");
                }
            }
        }
        busy
    }

    /// Delivers one batch to a subscriber. Its cursor moves once; after a crash the batch is delivered again.
    async fn deliver(&mut self, subscriber: &dyn Subscriber, stop: &CancellationToken) -> Result<bool> {
        let name = subscriber.name();
        let mut conn = self.estate.store().read().await?;
        let state = conn
            .opt("SELECT cursor_id, retry_at FROM subscribers WHERE name = $1", args![name])
            .await?
            .ok_or_else(|| Error::internal(format!("the subscriber {name} is not registered")))?;
        if state.time(1)? > self.estate.now() {
            return Ok(false);
        }
        let rows = conn
            .all(
                "SELECT id, ou_id, created_at, body FROM outbox WHERE id > $1 ORDER BY id LIMIT $2",
                args![state.int(0)?, BATCH],
            )
            .await?;
        drop(conn);
        let (mut consumed, mut failed) = (None, None);
        for row in &rows {
            if stop.is_cancelled() || !self.holds_lease().await? {
                break;
            }
            // Skip events that only a newer program knows.
            if let Some(event) = delivered(row)?
                && let Err(error) = handle(subscriber, &event).await
            {
                failed = Some(error);
                break;
            }
            consumed = Some(row.int(0)?);
        }
        if let Some(id) = consumed {
            advance(&self.estate, name, id).await?;
        }
        if let Some(error) = failed {
            postpone(&self.estate, name, &error).await?;
            return Err(error);
        }
        Ok(i64::try_from(rows.len()).is_ok_and(|rows| rows == BATCH))
    }
}

/// Handles an event with a time limit, so that a hanging subscriber does not block the others.
async fn handle(subscriber: &dyn Subscriber, event: &Delivered) -> Result<()> {
    tokio::time::timeout(HANDLING, subscriber.handle(event)).await.unwrap_or_else(|_| {
        Err(Error::unavailable("subscriber", format!("it took longer than {} seconds", HANDLING.as_secs())))
    })
}

fn delivered(row: &Row) -> Result<Option<Delivered>> {
    let Ok(stored) = serde_json::from_str::<Stored>(&row.text(3)?) else { return Ok(None) };
    let (id, ou, at) = (row.id(0)?, row.id(1)?, row.time(2)?);
    Ok(Event::load(stored).map(|event| Delivered { id, ou, at, event }))
}

async fn advance(estate: &Estate, name: &'static str, id: i64) -> Result<()> {
    estate
        .store()
        .write(move |tx| {
            Box::pin(async move {
                tx.exec(
                    "UPDATE subscribers SET cursor_id = $2, failures = 0, retry_at = 0, last_error = NULL \
                     WHERE name = $1 AND cursor_id < $2",
                    args![name, id],
                )
                .await
                .map(drop)
            })
        })
        .await
}

/// Waits longer after each failure: one second, doubled each time, at most five minutes.
async fn postpone(estate: &Estate, name: &'static str, error: &Error) -> Result<()> {
    let (now, message) = (estate.now(), error.message.clone());
    estate
        .store()
        .write(move |tx| {
            Box::pin(async move {
                let row = tx.one("SELECT failures FROM subscribers WHERE name = $1", args![name]).await?;
                let failures = row.int(0)?;
                let pause = (1_000_000_i64 << failures.clamp(0, 9)).min(300_000_000);
                tx.exec(
                    "UPDATE subscribers SET failures = $2, retry_at = $3, last_error = $4 WHERE name = $1",
                    args![name, failures + 1, clock::from_micros(now.as_microsecond() + pause), message],
                )
                .await
                .map(drop)
            })
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each version as first written. Never change these lines; add new ones.
    fn fixtures() -> [(&'static str, Event); 5] {
        [
            (
                r#"{"event":"run_finished","version":1,"run":7,"kind":"probe","state":"succeeded","noun_id":null}"#,
                Event::RunFinished {
                    run: RunId(7),
                    kind: RunKind::new("probe"),
                    state: RunState::Succeeded,
                    noun_id: None,
                },
            ),
            (
                r#"{"event":"datasource_changed","version":1,"datasource":3,"change":"created"}"#,
                Event::DatasourceChanged { datasource: DatasourceId(3), change: DatasourceChange::Created },
            ),
            (
                r#"{"event":"deployment_finished","version":1,"deployment":4,"service":"sales","environment":"production","success":true,"finished_at":1768478400500000}"#,
                Event::DeploymentFinished {
                    deployment: 4,
                    service: "sales".to_owned(),
                    environment: "production".to_owned(),
                    success: true,
                    finished_at: clock::from_micros(1_768_478_400_500_000),
                    details: None,
                },
            ),
            (
                r#"{"event":"deployment_finished","version":2,"deployment":5,"service":"sales","environment":"staging","success":false,"finished_at":1768478400500000,"details":{"user":"ann","environment":"Test","revisions":["r1","r2"]}}"#,
                Event::DeploymentFinished {
                    deployment: 5,
                    service: "sales".to_owned(),
                    environment: "staging".to_owned(),
                    success: false,
                    finished_at: clock::from_micros(1_768_478_400_500_000),
                    details: Some(Promoted {
                        user: "ann".to_owned(),
                        environment: "Test".to_owned(),
                        revisions: vec!["r1".to_owned(), "r2".to_owned()],
                    }),
                },
            ),
            (
                r#"{"event":"monitor_changed","version":1,"monitor":9,"name":"Nightly load","service":null,"failing":true,"at":1768478400500000}"#,
                Event::MonitorChanged {
                    monitor: 9,
                    name: "Nightly load".to_owned(),
                    service: None,
                    failing: true,
                    at: clock::from_micros(1_768_478_400_500_000),
                },
            ),
        ]
    }

    #[test]
    fn stored_events_can_still_be_read() {
        for (text, event) in fixtures() {
            let stored: Stored = serde_json::from_str(text).unwrap();
            assert_eq!(Event::load(stored), Some(event.clone()));
            assert_eq!(serde_json::to_string(&event.store().3).unwrap(), text);
        }
    }
}
