//! Notifications of changes, inside the process and, on PostgreSQL, between nodes. They only wake up waiters, who then
//! read the store: they never carry data.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use landreeve_core::ids::RunId;
use landreeve_core::{PoolName, Result};
use tokio::sync::{Notify, broadcast, watch};
use tokio_postgres::AsyncMessage;
use tokio_util::sync::CancellationToken;

use super::link::{Connector, wire_error};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Identity, grants or datasources changed.
    Authority,
    /// A run changed state or progressed.
    Run(RunId),
    /// A run ended.
    Ended(RunId),
    /// An executing run is to stop.
    Stop(RunId),
    /// A run is waiting for a worker of a pool.
    Queue(PoolName),
    /// A run is held until a time.
    Held,
    /// An event is waiting for the dispatcher.
    Outbox,
    /// A schedule was added or changed.
    Schedule,
}

impl Notice {
    pub fn as_text(self) -> String {
        match self {
            Notice::Authority => "authority".to_owned(),
            Notice::Run(id) => format!("run:{id}"),
            Notice::Ended(id) => format!("ended:{id}"),
            Notice::Stop(id) => format!("stop:{id}"),
            Notice::Queue(pool) => format!("queue:{pool}"),
            Notice::Held => "held".to_owned(),
            Notice::Outbox => "outbox".to_owned(),
            Notice::Schedule => "schedule".to_owned(),
        }
    }

    pub fn parse(text: &str) -> Option<Notice> {
        match text {
            "authority" => Some(Notice::Authority),
            "held" => Some(Notice::Held),
            "outbox" => Some(Notice::Outbox),
            "schedule" => Some(Notice::Schedule),
            _ => match text.split_once(':')? {
                ("run", id) => id.parse().ok().map(|id| Notice::Run(RunId(id))),
                ("ended", id) => id.parse().ok().map(|id| Notice::Ended(RunId(id))),
                ("stop", id) => id.parse().ok().map(|id| Notice::Stop(RunId(id))),
                ("queue", pool) => Some(Notice::Queue(PoolName::stored(pool))),
                _ => None,
            },
        }
    }
}

#[derive(Clone)]
pub struct Notices(Arc<Inner>);

struct Inner {
    /// Distinguishes this process's own notifications from those of other nodes.
    instance: String,
    /// Incremented by every `Authority` notice: a cache compares it before it answers.
    epoch: AtomicI64,
    runs: broadcast::Sender<RunId>,
    ends: broadcast::Sender<RunId>,
    stops: broadcast::Sender<RunId>,
    /// One for each pool that runs are claimed from.
    queues: Mutex<HashMap<PoolName, watch::Sender<u64>>>,
    held: watch::Sender<u64>,
    outbox: Notify,
    schedule: Notify,
}

impl Notices {
    pub(super) fn new(instance: String) -> Notices {
        Notices(Arc::new(Inner {
            instance,
            epoch: AtomicI64::new(0),
            runs: broadcast::channel(1_024).0,
            ends: broadcast::channel(1_024).0,
            stops: broadcast::channel(1_024).0,
            queues: Mutex::new(HashMap::new()),
            held: watch::Sender::new(0),
            outbox: Notify::new(),
            schedule: Notify::new(),
        }))
    }

    pub(super) fn instance(&self) -> &str {
        &self.0.instance
    }

    pub fn tell(&self, notice: Notice) {
        match notice {
            Notice::Authority => drop(self.0.epoch.fetch_add(1, Ordering::SeqCst)),
            // It is not an error if nothing is waiting.
            Notice::Run(id) => drop(self.0.runs.send(id)),
            Notice::Ended(id) => {
                let _ = self.0.runs.send(id);
                let _ = self.0.ends.send(id);
            }
            Notice::Stop(id) => drop(self.0.stops.send(id)),
            Notice::Queue(pool) => {
                if let Some(queue) = self.queues().get(&pool) {
                    queue.send_modify(|count| *count += 1);
                }
            }
            Notice::Held => self.0.held.send_modify(|count| *count += 1),
            Notice::Outbox => self.0.outbox.notify_one(),
            Notice::Schedule => self.0.schedule.notify_one(),
        }
    }

    pub fn epoch(&self) -> i64 {
        self.0.epoch.load(Ordering::SeqCst)
    }

    /// Runs that changed or ended.
    pub fn runs(&self) -> broadcast::Receiver<RunId> {
        self.0.runs.subscribe()
    }

    pub fn ends(&self) -> broadcast::Receiver<RunId> {
        self.0.ends.subscribe()
    }

    /// Runs that are to stop, wherever they execute.
    pub fn stops(&self) -> broadcast::Receiver<RunId> {
        self.0.stops.subscribe()
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<PoolName, watch::Sender<u64>>> {
        self.0.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever a run may be waiting for a worker of the pool.
    pub fn queue(&self, pool: PoolName) -> watch::Receiver<u64> {
        self.queues().entry(pool).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// Changes whenever a run is held until a time.
    pub fn held(&self) -> watch::Receiver<u64> {
        self.0.held.subscribe()
    }

    pub async fn outbox(&self) {
        self.0.outbox.notified().await;
    }

    pub async fn schedule(&self) {
        self.0.schedule.notified().await;
    }

    /// After a gap in listening, anything may have changed.
    fn tell_all(&self) {
        self.tell(Notice::Authority);
        self.queues().values().for_each(|queue| queue.send_modify(|count| *count += 1));
        self.tell(Notice::Held);
        self.tell(Notice::Outbox);
        self.tell(Notice::Schedule);
    }
}

/// How often an idle connection is checked.
const ASK: Duration = Duration::from_secs(30);

pub(super) async fn listen(
    connector: &Connector,
    notices: &Notices,
    limit: Duration,
    stop: CancellationToken,
) {
    const PAUSE: Duration = Duration::from_secs(1);
    while !stop.is_cancelled() {
        let heard = tokio::select! {
            () = stop.cancelled() => return,
            heard = hear(connector, notices, limit) => heard,
        };
        if let Err(error) = heard {
            tracing::warn!(%error, "lost the connection for notifications from the metadata store; trying again");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn hear(connector: &Connector, notices: &Notices, limit: Duration) -> Result<()> {
    let (client, mut connection) = connector.raw().await?;
    let ask = async |sql: &str| match tokio::time::timeout(limit, client.batch_execute(sql)).await {
        Ok(done) => done.map_err(|error| wire_error(&error)),
        Err(_) => Err(super::conn::unavailable("the database did not respond in time")),
    };
    let keep = async {
        ask("LISTEN landreeve").await?;
        notices.tell_all();
        loop {
            tokio::time::sleep(ASK).await;
            ask("SELECT 1").await?;
        }
    };
    let listen = async {
        while let Some(message) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message.map_err(|error| wire_error(&error))? {
                tell_others(notices, notification.payload());
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = keep => ended,
        ended = listen => ended,
    }
}

/// Our own notices were delivered at the commit.
fn tell_others(notices: &Notices, payload: &str) {
    let Some((instance, list)) = payload.split_once('|') else { return };
    if instance != notices.instance() {
        list.split(',').filter_map(Notice::parse).for_each(|notice| notices.tell(notice));
    }
}

/// How many notices fit into one notification; PostgreSQL limits it to 8,000 bytes.
pub(super) const MAX_PER_NOTICE: usize = 200;

/// `INSTANCE|run:7,queue`
pub(super) fn payload(instance: &str, notices: &[Notice]) -> String {
    let list: Vec<String> = notices.iter().map(|notice| notice.as_text()).collect();
    format!("{instance}|{}", list.join(","))
}
