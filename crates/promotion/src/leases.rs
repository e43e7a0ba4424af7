//! Leases of servers: which of them have shown that they are running. Once a minute one node of the estate renews the
//! lease of every enabled engine that is a node of this store, and of every one on another machine whose node answers.
//!
//! A lease that is not renewed is *in grace*, and ends after five days. Ending it stops nothing: a server that is still
//! running gets another lease at the next poll. Does not belong here: what may be deployed where.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use jiff::Timestamp;
use landreeve_core::ids::{BoxFuture, OuId};
use landreeve_core::{Error, OpCtx, Result, clock};
use landreeve_estate::args;
use landreeve_estate::ops::{OwnedAct, sign_in};
use landreeve_estate::schedules::{Due, FixedSchedule, Follower, Next};
use landreeve_estate::store::{Row, Tx, Where};

use crate::access;
use crate::ids::{EnvironmentId, ServerId};
use crate::nouns::ENVIRONMENT;
use crate::plane::Promotion;
use crate::servers::{self, Server, ServerType};

/// The schedule of the polls.
pub const POLL: &str = "leases";
const EVERY_MINUTE: &str = "* * * * *";
const DAY: i64 = 86_400_000_000;
/// A lease is overdue when two renewals are missing, in microseconds.
const OVERDUE: i64 = 120_000_000;
/// How long after its last renewal a lease ends.
const GRACE: i64 = 5 * DAY;
/// How long ended leases are stored.
const KEPT: i64 = 90 * DAY;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeaseState {
    /// The server has never had one, or its last one ended long ago.
    Free,
    Active,
    /// The renewal is overdue.
    Grace,
    /// The last one has ended.
    Inactive,
}

impl LeaseState {
    pub const ALL: [LeaseState; 4] =
        [LeaseState::Free, LeaseState::Active, LeaseState::Grace, LeaseState::Inactive];

    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            LeaseState::Free => "free",
            LeaseState::Active => "active",
            LeaseState::Grace => "grace",
            LeaseState::Inactive => "inactive",
        }
    }

    pub fn parse(text: &str) -> Option<LeaseState> {
        LeaseState::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

/// The states of some servers; a server that is not in it is free.
pub type Leases = BTreeMap<ServerId, LeaseState>;

/// The states of servers that the caller has been shown.
pub async fn lease_states(plane: &Promotion, servers: &[Server]) -> Result<Leases> {
    let mut conn = plane.estate().store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    wanted.and_ids("l.server_id", servers.iter().map(|server| server.id.0));
    let (condition, values) = wanted.into_parts();
    let sql = format!(
        "SELECT l.server_id, l.state FROM promotion_leases l WHERE {condition} \
         AND l.number = (SELECT max(n.number) FROM promotion_leases n WHERE n.server_id = l.server_id)"
    );
    conn.select(sql, values).await?.iter().map(from_row).collect()
}

fn from_row(row: &Row) -> Result<(ServerId, LeaseState)> {
    Ok((row.id(0)?, row.word(1, LeaseState::parse)?))
}

/// How many servers are in each state, in all units. For the server's metrics.
pub async fn lease_counts(plane: &Promotion) -> Result<BTreeMap<LeaseState, i64>> {
    let sql = "SELECT COALESCE(l.state, 'free'), count(*) FROM promotion_servers s \
               LEFT JOIN promotion_leases l ON l.server_id = s.id \
               AND l.number = (SELECT max(n.number) FROM promotion_leases n WHERE n.server_id = s.id) GROUP BY 1";
    let rows = plane.estate().store().read().await?.all(sql, args![]).await?;
    let mut counts: BTreeMap<LeaseState, i64> = LeaseState::ALL.into_iter().map(|state| (state, 0)).collect();
    for row in &rows {
        counts.insert(row.word(0, LeaseState::parse)?, row.int(1)?);
    }
    Ok(counts)
}

/// What became of the leases at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// No engine has this address.
    Unknown,
    /// Those that have it hold no lease.
    Idle,
    /// So many leases were held, and have ended.
    Ended(usize),
}

/// An engine whose address was named.
struct Holder {
    server: ServerId,
    ou: OuId,
    name: String,
    environment: EnvironmentId,
}

impl Holder {
    fn from_row(row: &Row) -> Result<Holder> {
        Ok(Holder { server: row.id(0)?, ou: row.id(1)?, name: row.text(2)?, environment: row.id(3)? })
    }
}

/// Ends the leases of the engines with exactly this host and port, in every unit. It takes no permission: the request was
/// let in by its network (`sign_in::by_network`).
pub async fn lease_release(plane: &Promotion, ctx: &OpCtx, host: &str, port: u16) -> Result<Released> {
    let sql = "SELECT s.id, s.ou_id, s.name, c.environment_id FROM promotion_servers s \
               JOIN promotion_clusters c ON c.id = s.cluster_id \
               WHERE s.type = $1 AND s.host = $2 AND s.port = $3 ORDER BY s.id";
    let address = args![ServerType::Vdp.as_str(), host, i64::from(port)];
    let rows = plane.estate().store().read().await?.all(sql, address).await?;
    let holders = rows.iter().map(Holder::from_row).collect::<Result<Vec<_>>>()?;
    if holders.is_empty() {
        return Ok(Released::Unknown);
    }
    let mut ended = 0;
    for holder in holders {
        ended += usize::from(release(plane, ctx, holder).await?);
    }
    Ok(if ended == 0 { Released::Idle } else { Released::Ended(ended) })
}

/// Ends the lease of one server, with an audit event in its unit. `false`: it held none.
async fn release(plane: &Promotion, ctx: &OpCtx, holder: Holder) -> Result<bool> {
    let (estate, server) = (plane.estate(), holder.server);
    let ctx = sign_in::for_network_in(estate, ctx, holder.ou).await?;
    let now = estate.now();
    let detail = format!("lease of server {}", holder.name);
    let act = OwnedAct::new("released", ENVIRONMENT, holder.environment.0, detail);
    estate
        .change_told(&ctx, move |tx| {
            Box::pin(async move {
                let ended = tx
                    .exec(
                        "UPDATE promotion_leases SET state = 'inactive', ended_at = $2, end_reason = 'secure_shutdown' \
                         WHERE server_id = $1 AND ended_at IS NULL",
                        args![server, now],
                    )
                    .await?;
                Ok((ended > 0, (ended > 0).then_some(act)))
            })
        })
        .await
}

/// Polls the servers when that is due. Schedules are handled by one node at a time.
pub(crate) struct Poller {
    plane: Promotion,
    /// Servers on other machines are being asked: a poll that takes longer than a minute is not begun twice.
    asking: Arc<AtomicBool>,
}

impl Poller {
    pub(crate) fn new(plane: Promotion) -> Poller {
        Poller { plane, asking: Arc::default() }
    }

    pub(crate) fn schedule() -> FixedSchedule {
        FixedSchedule { name: POLL, cron: EVERY_MINUTE, body: String::new() }
    }

    /// Asks servers on other machines beside the transaction, which must not wait for them.
    fn ask(&self) {
        if self.plane.remote().is_none() || self.asking.swap(true, Ordering::AcqRel) {
            return;
        }
        let (plane, asking) = (self.plane.clone(), Arc::clone(&self.asking));
        tokio::spawn(async move {
            if let Err(error) = lease_ask_remote(&plane).await {
                tracing::warn!(%error, "could not renew the leases of servers on other machines");
            }
            asking.store(false, Ordering::Release);
        });
    }
}

impl Follower for Poller {
    fn due<'t>(&'t self, tx: &'t mut Tx, due: &'t Due) -> BoxFuture<'t, Result<Next>> {
        Box::pin(async move {
            if due.schedule.name != POLL {
                return Err(Error::internal(format!("an unknown schedule: {}", due.schedule.name)));
            }
            poll(tx, due.now).await?;
            self.ask();
            Ok(Next::ByTiming)
        })
    }
}

/// The servers that are there: nodes of this store.
macro_rules! running {
    () => {
        "s.enabled = 1 AND s.type = 'engine' AND s.embedded = 1 \
         AND EXISTS (SELECT 1 FROM virtual_nodes v WHERE v.id = s.node_id)"
    };
}

/// One server that has answered.
macro_rules! answered {
    () => {
        "s.id = $2 AND s.enabled = 1 AND s.type = 'engine' AND s.embedded = 0"
    };
}

macro_rules! renew {
    ($which:ident) => {
        concat!(
            "UPDATE promotion_leases SET state = 'active', renewed_at = $1 WHERE ended_at IS NULL \
             AND server_id IN (SELECT s.id FROM promotion_servers s WHERE ",
            $which!(),
            ")"
        )
    };
}

// Another node can be polling too, if it is too slow to notice that it no longer should.
macro_rules! begin {
    ($which:ident) => {
        concat!(
            "INSERT INTO promotion_leases (server_id, number, state, requested_at, renewed_at) \
             SELECT s.id, COALESCE((SELECT max(n.number) FROM promotion_leases n WHERE n.server_id = s.id), 0) + 1, \
             'active', CAST($1 AS BIGINT), CAST($1 AS BIGINT) FROM promotion_servers s WHERE ",
            $which!(),
            " AND NOT EXISTS (SELECT 1 FROM promotion_leases o WHERE o.server_id = s.id AND o.ended_at IS NULL) \
             ON CONFLICT DO NOTHING"
        )
    };
}

fn before(now: Timestamp, age: i64) -> Timestamp {
    clock::from_micros(now.as_microsecond() - age)
}

/// Ends leases that were not renewed for too long.
async fn expire(tx: &mut Tx, now: Timestamp) -> Result<()> {
    tx.exec(
        "UPDATE promotion_leases SET state = 'inactive', ended_at = renewed_at + $2, \
         end_reason = 'grace_period_exceeded' WHERE ended_at IS NULL AND renewed_at <= $1",
        args![before(now, GRACE), GRACE],
    )
    .await
    .map(drop)
}

async fn poll(tx: &mut Tx, now: Timestamp) -> Result<()> {
    // First, so that a server that comes back later gets another lease.
    expire(tx, now).await?;
    tx.exec(renew!(running), args![now]).await?;
    tx.exec(begin!(running), args![now]).await?;
    tx.exec(
        "UPDATE promotion_leases SET state = 'grace' \
         WHERE ended_at IS NULL AND state = 'active' AND renewed_at < $1",
        args![before(now, OVERDUE)],
    )
    .await?;
    tx.exec("DELETE FROM promotion_leases WHERE ended_at < $1", args![before(now, KEPT)]).await.map(drop)
}

/// How many servers are asked at the same time.
const TOGETHER: usize = 64;

/// Asks the enabled engines on other machines, and renews the leases of those that answer. Returns how many did.
pub async fn lease_ask_remote(plane: &Promotion) -> Result<usize> {
    let servers = servers::remote_engines(&mut plane.estate().store().read().await?).await?;
    let mut answered = Vec::new();
    for some in servers.chunks(TOGETHER) {
        let asked: Vec<_> = some.iter().map(|server| answers(plane, server)).collect();
        answered.extend(join_all(asked).await.into_iter().flatten());
    }
    let (count, now) = (answered.len(), plane.estate().now());
    if count > 0 {
        plane
            .estate()
            .store()
            .write(move |tx| Box::pin(async move { renew(tx, &answered, now).await }))
            .await?;
    }
    Ok(count)
}

/// The id of a server whose node answers.
async fn answers(plane: &Promotion, server: &Server) -> Option<ServerId> {
    let node = access::remote(plane, server).await.ok()?;
    match node.state().await {
        Ok(_) => Some(server.id),
        Err(error) => {
            tracing::debug!(server = server.name, %error, "a server does not answer");
            None
        }
    }
}

async fn renew(tx: &mut Tx, answered: &[ServerId], now: Timestamp) -> Result<()> {
    expire(tx, now).await?;
    for server in answered {
        tx.exec(renew!(answered), args![now, *server]).await?;
        tx.exec(begin!(answered), args![now, *server]).await?;
    }
    Ok(())
}
