//! What others changed on the servers of an environment since they were last deployed to.

use futures_util::future::join_all;
use jiff::Timestamp;
use landreeve_core::{Action, OpCtx, Result};
use landreeve_estate::args;

use super::plan::{self, Spot};
use crate::access::{self, NodeChange, NodeState};
use crate::environments;
use crate::ids::{EnvironmentId, ServerId};
use crate::plane::Promotion;
use crate::servers;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriftState {
    InSync,
    Drifted,
    NeverDeployed,
    Unreachable,
}

impl DriftState {
    /// As users read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            DriftState::InSync => "IN_SYNC",
            DriftState::Drifted => "DRIFTED",
            DriftState::NeverDeployed => "NEVER_DEPLOYED",
            DriftState::Unreachable => "UNREACHABLE",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Drift {
    pub id: ServerId,
    pub server: String,
    pub state: DriftState,
    /// Of the objects as they were deployed.
    pub deployed_hash: Option<String>,
    pub deployed_at: Option<Timestamp>,
    pub live_hash: Option<String>,
    /// From what was deployed to what is there. `None` if the version that was deployed is not kept any more.
    pub changes: Option<Vec<NodeChange>>,
}

/// How many servers are asked at the same time.
const TOGETHER: usize = 16;

/// Compares every server with what was deployed to it.
pub async fn environment_drift(plane: &Promotion, ctx: &OpCtx, id: EnvironmentId) -> Result<Vec<Drift>> {
    let environment = environments::for_promotion(plane, ctx, id, Action::USE).await?;
    let topology = servers::topology(&mut plane.estate().store().read().await?, environment.id).await?;
    let places = plan::places(&topology);
    let spots: Vec<&Spot> = places.iter().flat_map(|place| &place.servers).collect();
    let mut found = Vec::with_capacity(spots.len());
    for some in spots.chunks(TOGETHER) {
        let asked: Vec<_> =
            some.iter().map(|server| of_server(plane, ctx, server.id, &server.name)).collect();
        for drift in join_all(asked).await {
            found.push(drift?);
        }
    }
    Ok(found)
}

/// What a server had after the last deployment, and when.
async fn deployed(plane: &Promotion, id: ServerId) -> Result<Option<(NodeState, Timestamp)>> {
    let sql = "SELECT version, content_hash, deployed_at FROM promotion_server_states WHERE server_id = $1";
    let row = plane.estate().store().read().await?.opt(sql, args![id]).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some((NodeState { version: row.int(0)?, content_hash: row.text(1)? }, row.time(2)?)))
}

pub(crate) async fn of_server(plane: &Promotion, ctx: &OpCtx, id: ServerId, name: &str) -> Result<Drift> {
    let deployed = deployed(plane, id).await?;
    let (state, at) = deployed.unzip();
    let mut drift = Drift {
        id,
        server: name.to_owned(),
        state: DriftState::Unreachable,
        deployed_hash: state.as_ref().map(|state| state.content_hash.clone()),
        deployed_at: at,
        live_hash: None,
        changes: None,
    };
    match compare(plane, ctx, &mut drift, state).await {
        // A node that stops answering in between has not been compared.
        Err(error) if !access::is_own(&error) => drift.state = DriftState::Unreachable,
        other => other?,
    }
    Ok(drift)
}

async fn compare(
    plane: &Promotion,
    ctx: &OpCtx,
    drift: &mut Drift,
    deployed: Option<NodeState>,
) -> Result<()> {
    let node = access::open(plane, ctx, drift.id, None).await?;
    let live = node.state().await?;
    drift.live_hash = Some(live.content_hash.clone());
    let Some(deployed) = deployed else {
        drift.state = DriftState::NeverDeployed;
        return Ok(());
    };
    if live.content_hash == deployed.content_hash {
        drift.state = DriftState::InSync;
        drift.changes = Some(Vec::new());
        return Ok(());
    }
    drift.changes = node.changes(deployed).await?;
    drift.state = DriftState::Drifted;
    Ok(())
}
