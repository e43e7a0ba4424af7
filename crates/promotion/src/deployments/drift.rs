//! What others changed on the servers of an environment since they were last deployed to.

use std::collections::BTreeSet;

use jiff::Timestamp;
use landreeve_core::{Action, Error, OpCtx, Result};
use landreeve_estate::args;

use super::plan;
use crate::apply::Change;
use crate::catalog::diff;
use crate::environments;
use crate::ids::{EnvironmentId, ServerId, VirtualNodeId};
use crate::nodes::Node;
use crate::plane::Promotion;
use crate::{servers, versions};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriftState {
    InSync,
    Drifted,
    NeverDeployed,
    Unreachable,
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
    pub changes: Option<Vec<Change>>,
}

/// Compares every server with what was deployed to it.
pub async fn environment_drift(plane: &Promotion, ctx: &OpCtx, id: EnvironmentId) -> Result<Vec<Drift>> {
    let environment = environments::for_promotion(plane, ctx, id, Action::USE).await?;
    let topology = servers::topology(&mut plane.estate().store().read().await?, environment.id).await?;
    let mut found = Vec::new();
    for server in plan::places(&topology).iter().flat_map(|place| &place.servers) {
        found.push(of_server(plane, server.id, &server.name, server.node).await?);
    }
    Ok(found)
}

/// The version that was deployed last.
struct Deployed {
    version: i64,
    hash: String,
    at: Timestamp,
}

pub(crate) async fn of_server(
    plane: &Promotion,
    id: ServerId,
    name: &str,
    node: Option<VirtualNodeId>,
) -> Result<Drift> {
    let mut conn = plane.estate().store().read().await?;
    let sql = "SELECT version, content_hash, deployed_at FROM promotion_server_states WHERE server_id = $1";
    let deployed = match conn.opt(sql, args![id]).await? {
        Some(row) => Some(Deployed { version: row.int(0)?, hash: row.text(1)?, at: row.time(2)? }),
        None => None,
    };
    let mut drift = Drift {
        id,
        server: name.to_owned(),
        state: DriftState::Unreachable,
        deployed_hash: deployed.as_ref().map(|deployed| deployed.hash.clone()),
        deployed_at: deployed.as_ref().map(|deployed| deployed.at),
        live_hash: None,
        changes: None,
    };
    let live = match node {
        Some(node) => versions::node_of(&mut conn, node).await?,
        None => None,
    };
    let (Some(live), Some(node)) = (live, node) else { return Ok(drift) };
    drift.live_hash = versions::hash_of(&mut conn, node, live.version).await?;
    let Some(deployed) = deployed else {
        drift.state = DriftState::NeverDeployed;
        return Ok(drift);
    };
    if drift.live_hash.as_deref() == Some(deployed.hash.as_str()) {
        drift.state = DriftState::InSync;
        drift.changes = Some(Vec::new());
        return Ok(drift);
    }
    drift.state = DriftState::Drifted;
    let kept = versions::hash_of(&mut conn, node, deployed.version).await?;
    drop(conn);
    if kept.as_deref() == Some(deployed.hash.as_str()) {
        drift.changes = Some(changes(plane, &live, deployed.version).await?);
    }
    Ok(drift)
}

async fn changes(plane: &Promotion, live: &Node, deployed: i64) -> Result<Vec<Change>> {
    let before = versions::catalog_of(plane, &Node { version: deployed, ..live.clone() }).await?;
    let after = versions::catalog_of(plane, live).await?;
    let compare = move || diff::changes(&before, &after, &BTreeSet::new());
    tokio::task::spawn_blocking(compare).await.map_err(Error::internal)
}
